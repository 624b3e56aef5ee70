"""The leak guard: what stands on both sides of a fold and makes a score measure memory."""

import os

import numpy as np

from ferpipe.io.fingerprints import are_known, copies, fingerprints

__all__ = [
    "copied",
    "copy_pairs",
    "find_leaks",
    "find_shared",
    "held_together",
    "known_samples",
]


def held_together(bunch):
    """Return which samples must stay on one side of every fold.

    Parameters
    ----------
    bunch : Bunch
        ``groups``; and ``sequences``, the sequence that each frame belongs to, where the
        data set has them.

    Returns
    -------
    unit : {"subject", "sequence"} or None
        Subjects where they are known, otherwise sequences of which there is more than one
        frame.
    groups : ndarray of shape (n,) or None
        Name of the unit of each sample.
    """
    if bunch.groups is not None:
        return "subject", np.asarray(bunch.groups)
    sequences = bunch.get("sequences")
    if sequences is not None and len(np.unique(sequences)) < len(sequences):
        return "sequence", np.asarray(sequences)
    return None, None


def find_leaks(folds, bunch, pairs=None) -> dict[str, str]:
    """Say what stands on both sides of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``data`` and ``groups``; ``sequences``, the sequence that each frame belongs to,
        ``filenames`` and ``data_set``, where the data set has them.
    pairs : ndarray of shape (n_pairs, 2), int, default=None
        What :func:`copy_pairs` returns for these data; None computes it.

    Returns
    -------
    leaks : dict of str to str
        "sequences", "identical", "subjects" and "alike", those that there are, to a
        sentence that names the first of them. "identical" are samples with the same
        values, and the same picture in another data set or at another size; frames of one
        sequence are not looked for among these. "alike" are near-identical images of data
        without groups: frames of one sequence, or copies.
    """
    leaks = {}
    divided = _divided(folds, bunch.get("sequences"))
    if divided:
        leaks["sequences"] = (
            f"frames of sequence {divided[0]!r} (and of {len(divided) - 1} others) stand "
            "on both sides of a fold"
        )
    else:
        leaks |= _identical(folds, bunch, copy_pairs(bunch) if pairs is None else pairs)
    return leaks | find_shared(folds, bunch)


def find_shared(folds, bunch) -> dict[str, str]:
    """Say which subjects stand on both sides of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``groups`` is used.

    Returns
    -------
    leaks : dict of str to str
        "subjects" to a sentence that names the first, or nothing.
    """
    divided = _divided(folds, bunch.groups)
    if not divided:
        return {}
    return {
        "subjects": f"samples of subject {divided[0]!r} (and of {len(divided) - 1} others) "
        "stand on both sides of a fold"
    }


def copy_pairs(bunch) -> np.ndarray:
    """Find near-identical images where the guard makes use of them.

    Parameters
    ----------
    bunch : Bunch
        As for :func:`find_leaks`. A sequence is compared by its last frame.

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), int
        Indices of samples. There are none where groups are known and all images come from
        one data set in one size.
    """
    frames = _frames_of(bunch)
    mixed = _origins(bunch).max(initial=0) > 0
    if not frames or not (mixed or held_together(bunch)[0] is None):
        return np.zeros((0, 2), int)
    return copies([sample[-1] for sample in frames])


def known_samples(bunch, known) -> np.ndarray:
    """Return which samples have an image whose fingerprint is known.

    Parameters
    ----------
    bunch : Bunch
        ``data`` and ``kind`` are used.
    known : ndarray of shape (m,), uint64
        Fingerprints.

    Returns
    -------
    found : ndarray of shape (n,), bool
        None are found among features.
    """
    return _any_known(_frames_of(bunch), known, len(bunch.data))


def copied(bunch, train, test) -> np.ndarray:
    """Return which tested samples have an image that the training part has too.

    Parameters
    ----------
    bunch : Bunch
        ``data`` and ``kind`` are used.
    train, test : ndarray of int
        Indices of samples.

    Returns
    -------
    found : ndarray of shape (n_test,), bool
        The same picture at another size or mirrored counts.
    """
    frames = _frames_of(bunch)
    if not frames:
        return np.zeros(len(test), bool)
    known = fingerprints([frame for place in train for frame in frames[place]])
    return _any_known([frames[place] for place in test], known, len(test))


def _any_known(frames, known, n_samples):
    found = np.zeros(n_samples, bool)
    sample = np.repeat(np.arange(len(frames)), [len(own) for own in frames])
    found[sample[are_known([frame for own in frames for frame in own], known)]] = True
    return found


def _frames_of(bunch):
    """Return the images of each sample, one or those of its frames; [] for features."""
    frames = [[s] for s in bunch.data] if bunch.kind == "images" else list(bunch.data)
    return frames if frames and np.ndim(frames[0][0]) >= 2 else []


def _identical(folds, bunch, pairs):
    numbers = _equal_samples(bunch.data)
    shared = _on_both_sides(folds, numbers)
    leaks = {}
    if len(shared):
        alike = np.flatnonzero(numbers == numbers[shared[0]])[:2]
        first, second = _names(bunch, alike)
        n_others = len(np.unique(numbers[shared])) - 1
        leaks["identical"] = (
            f"samples {first} and {second} are identical (and {n_others} more groups are) "
            "and stand on both sides of a fold"
        )
    origins, (_, groups) = _origins(bunch), held_together(bunch)
    if groups is not None:
        pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
    pairs = pairs[numbers[pairs[:, 0]] != numbers[pairs[:, 1]]]
    pairs = pairs[_crosses(folds, pairs, len(numbers))]
    elsewhere = origins[pairs[:, 0]] != origins[pairs[:, 1]]
    if elsewhere.any():
        first, second = _names(bunch, pairs[elsewhere][0])
        words = (
            f"samples {first} and {second} show the same picture in another size or data "
            f"set (and {elsewhere.sum() - 1} more pairs do) and stand on both sides of a "
            "fold"
        )
        leaks["identical"] = "; ".join([*leaks.values(), words])
    near = pairs[~elsewhere]
    if len(near) and groups is None:
        first, second = _names(bunch, near[0])
        leaks["alike"] = (
            f"{len(np.unique(near))} {bunch.kind} have a near-identical one on the other "
            f"side of a fold, such as {first} and {second}"
        )
    return leaks


def _origins(bunch):
    """Give samples of one data set and one size the same number, from 0."""
    sets = bunch.get("data_set")
    shapes = [np.shape(sample[-1])[:2] for sample in _frames_of(bunch)]
    n_samples = len(bunch.data)
    keys = zip(
        ["" for _ in range(n_samples)] if sets is None else map(str, sets),
        shapes or [() for _ in range(n_samples)],
        strict=True,
    )
    numbers = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)


def _crosses(folds, pairs, n_samples):
    """Return which pairs have one sample trained on and the other tested."""
    crosses = np.zeros(len(pairs), bool)
    for train, test in folds:
        side = np.zeros(n_samples, int)
        side[train], side[test] = 1, 2
        crosses |= side[pairs].sum(axis=1) == 3
    return crosses


def _names(bunch, places):
    names = bunch.get("filenames")
    return map(str, places) if names is None else _below_folder(names, places)


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
