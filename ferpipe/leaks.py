"""The leak guard: what stands on both sides of a fold and makes a score measure memory."""

import os

import numpy as np

__all__ = ["find_leaks"]


def find_leaks(folds, bunch) -> dict[str, str]:
    """Say what stands on both sides of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``data`` and ``groups``; ``sequences``, the sequence that each frame belongs to,
        and ``filenames``, where the data set has them.

    Returns
    -------
    leaks : dict of str to str
        "sequences", "identical" and "subjects", those that there are, to a sentence that
        names the first of them. Frames of one sequence are not looked for among
        identical samples.
    """
    leaks = {}
    divided = _divided(folds, bunch.get("sequences"))
    if divided:
        leaks["sequences"] = (
            f"frames of sequence {divided[0]!r} (and of {len(divided) - 1} others) stand "
            "on both sides of a fold"
        )
    else:
        leaks |= _identical(folds, bunch)
    divided = _divided(folds, bunch.groups)
    if divided:
        leaks["subjects"] = (
            f"samples of subject {divided[0]!r} (and of {len(divided) - 1} others) stand "
            "on both sides of a fold"
        )
    return leaks


def _identical(folds, bunch):
    numbers = _equal_samples(bunch.data)
    shared = _on_both_sides(folds, numbers)
    if len(shared) == 0:
        return {}
    names = bunch.get("filenames")
    alike = np.flatnonzero(numbers == numbers[shared[0]])[:2]
    first, second = map(str, alike) if names is None else _below_folder(names, alike)
    n_others = len(np.unique(numbers[shared])) - 1
    return {
        "identical": f"samples {first} and {second} are identical (and {n_others} more "
        "groups are) and stand on both sides of a fold"
    }


def _below_folder(names, places):
    """Name files from the folder on that holds all: reports tell no machine's folders.

    A sequence is named by its first frame.
    """
    files = [os.path.abspath(name[0] if isinstance(name, list) else name) for name in names]
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    return [os.path.relpath(files[place], folder) for place in places]


def _divided(folds, names):
    """List the names whose samples stand on both sides."""
    if names is None:
        return []
    known, numbers = np.unique(names, return_inverse=True)
    shared = _on_both_sides(folds, numbers)
    return [str(name) for name in known[np.unique(numbers[shared])]]


def _on_both_sides(folds, numbers):
    """Return the tested samples whose number occurs among those trained on."""
    shared = [test[np.isin(numbers[test], numbers[train])] for train, test in folds]
    return np.unique(np.concatenate(shared)) if shared else np.array([], int)


def _equal_samples(data):
    """Give samples with the same values the same number."""
    first = {}
    keys = (
        (np.shape(sample), np.asarray(sample).dtype.str, np.asarray(sample).tobytes())
        if isinstance(sample, np.ndarray)
        else tuple(np.asarray(frame).tobytes() for frame in sample)
        for sample in data
    )
    return np.array([first.setdefault(key, index) for index, key in enumerate(keys)])
