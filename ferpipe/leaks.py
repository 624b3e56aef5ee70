"""The leak guard: what stands on both sides of a fold and makes a score measure memory."""

import numpy as np

__all__ = ["describe_leak"]


def describe_leak(folds, bunch) -> str | None:
    """Say what stands on both sides of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``data``; ``sequences``, the sequence that each frame belongs to, and
        ``filenames``, where the data set has them.

    Returns
    -------
    sentence : str or None
        Names the first of them; None if there is nothing.
    """
    sequences = bunch.get("sequences")
    if sequences is not None:
        shared = _on_both_sides(folds, np.unique(sequences, return_inverse=True)[1])
        if len(shared):
            first = str(np.asarray(sequences)[shared[0]])
            n_others = len(np.unique(np.asarray(sequences)[shared])) - 1
            return (
                f"frames of sequence {first!r} (and of {n_others} others) stand on both "
                "sides of a fold"
            )
    numbers = _equal_samples(bunch.data)
    shared = _on_both_sides(folds, numbers)
    if len(shared) == 0:
        return None
    names = bunch.get("filenames")
    alike = np.flatnonzero(numbers == numbers[shared[0]])[:2]
    first, second = (str(i) if names is None else str(names[i]) for i in alike)
    n_others = len(np.unique(numbers[shared])) - 1
    return (
        f"samples {first} and {second} are identical (and {n_others} more groups are) and "
        "stand on both sides of a fold"
    )


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
