"""Leaks: subjects, sequences or copies of an image on both sides of a fold."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch

from ferpipe.datasets.duplicates import number_identical
from ferpipe.io.fingerprints import are_known, copies, fingerprints

__all__ = [
    "copied",
    "copy_pairs",
    "find_leaks",
    "find_shared",
    "held_together",
    "known_samples",
]


Folds: TypeAlias = Sequence[tuple[NDArray, NDArray]]


def held_together(bunch: Bunch) -> tuple[str | None, NDArray | None]:
    """Return which samples must stay on one side of every fold.

    Parameters
    ----------
    bunch : Bunch
        ``groups``; and ``sequences``, the sequence that each frame belongs to, where the
        data set has them.

    Returns
    -------
    unit : {"subject", "sequence"} or None
        "subject" if subjects are known, otherwise "sequence" if a sequence has several
        frames.
    groups : ndarray of shape (n,) or None
        Name of the unit of each sample.
    """
    if bunch.groups is not None:
        return "subject", np.asarray(bunch.groups)
    sequences = bunch.get("sequences")
    if sequences is not None and len(np.unique(sequences)) < len(sequences):
        return "sequence", np.asarray(sequences)
    return None, None


def find_leaks(folds: Folds, bunch: Bunch, pairs: NDArray | None = None) -> dict[str, str]:
    """Describe the leaks of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``data`` and ``groups``; ``sequences``, the sequence that each frame belongs to,
        ``filenames`` and ``data_set``, if the data set has them.
    pairs : ndarray of shape (n_pairs, 2), int, default=None
        Result of :func:`copy_pairs` for these data; None computes it.

    Returns
    -------
    leaks : dict of str to str
        Kind of leak to a sentence that names the first example. "sequences": frames of one
        sequence on both sides. "identical": samples with the same values, or the same
        picture in another data set or size; frames of one sequence do not count here.
        "subjects": samples of one subject. "alike": near-identical images of data without
        groups, that is, frames of one sequence or copies.
    """
    leaks: dict[str, str] = {}
    divided = _divided(folds, bunch.get("sequences"))
    if divided:
        leaks["sequences"] = (
            f"frames of sequence {divided[0]!r} (and of {len(divided) - 1} others) stand "
            "on both sides of a fold"
        )
    else:
        leaks |= _identical(folds, bunch, copy_pairs(bunch) if pairs is None else pairs)
    return leaks | find_shared(folds, bunch)


def find_shared(folds: Folds, bunch: Bunch) -> dict[str, str]:
    """Describe which subjects are on both sides of some folds.

    Parameters
    ----------
    folds : list of (train, test)
        Index arrays.
    bunch : Bunch
        ``groups`` is used.

    Returns
    -------
    leaks : dict of str to str
        "subjects" to a sentence that names the first one; empty without a leak.
    """
    divided = _divided(folds, bunch.groups)
    if not divided:
        return {}
    return {
        "subjects": f"samples of subject {divided[0]!r} (and of {len(divided) - 1} others) "
        "stand on both sides of a fold"
    }


def copy_pairs(bunch: Bunch) -> NDArray:
    """Find near-identical images, for data where :func:`find_leaks` uses them.

    Parameters
    ----------
    bunch : Bunch
        As for :func:`find_leaks`. Sequences are compared by their last frames.

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), int
        Indices of samples. Empty if groups are known and all images come from one data set
        in one size.
    """
    frames = _frames_of(bunch)
    mixed = _origins(bunch).max(initial=0) > 0
    if not frames or not (mixed or held_together(bunch)[0] is None):
        return np.zeros((0, 2), int)
    return copies([sample[-1] for sample in frames])


def known_samples(bunch: Bunch, known: NDArray) -> NDArray[np.bool_]:
    """Return which samples have an image with a known fingerprint.

    Parameters
    ----------
    bunch : Bunch
        ``data`` and ``kind`` are used.
    known : ndarray of shape (m,), uint64
        Fingerprints.

    Returns
    -------
    found : ndarray of shape (n,), bool
        All False for feature vectors.
    """
    return _any_known(_frames_of(bunch), known, len(bunch.data))


def copied(bunch: Bunch, train: NDArray, test: NDArray) -> NDArray[np.bool_]:
    """Return which test samples have an image that the training part has too.

    Parameters
    ----------
    bunch : Bunch
        ``data`` and ``kind`` are used.
    train, test : ndarray of int
        Indices of samples.

    Returns
    -------
    found : ndarray of shape (n_test,), bool
        The same picture in another size or mirrored counts, too.
    """
    frames = _frames_of(bunch)
    if not frames:
        return np.zeros(len(test), bool)
    known = fingerprints([frame for place in train for frame in frames[place]])
    return _any_known([frames[place] for place in test], known, len(test))


def _any_known(
    frames: Sequence[Sequence[NDArray]], known: NDArray, n_samples: int
) -> NDArray[np.bool_]:
    found = np.zeros(n_samples, bool)
    sample = np.repeat(np.arange(len(frames)), [len(own) for own in frames])
    found[sample[are_known([frame for own in frames for frame in own], known)]] = True
    return found


def _frames_of(bunch: Bunch) -> list[Any]:
    """Return the list of images of each sample; [] for feature vectors."""
    frames = [[s] for s in bunch.data] if bunch.kind == "images" else list(bunch.data)
    return frames if frames and np.ndim(frames[0][0]) >= 2 else []


def _identical(folds: Folds, bunch: Bunch, pairs: NDArray) -> dict[str, str]:
    numbers = number_identical(bunch.data)
    shared = _on_both_sides(folds, numbers)
    leaks: dict[str, str] = {}
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


def _origins(bunch: Bunch) -> NDArray[np.int_]:
    """Give samples of one data set and one size the same number, from 0."""
    sets = bunch.get("data_set")
    shapes = [np.shape(sample[-1])[:2] for sample in _frames_of(bunch)]
    n_samples = len(bunch.data)
    keys = zip(
        ["" for _ in range(n_samples)] if sets is None else map(str, sets),
        shapes or [() for _ in range(n_samples)],
        strict=True,
    )
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], int)


def _crosses(folds: Folds, pairs: NDArray, n_samples: int) -> NDArray[np.bool_]:
    """Return which pairs have one sample in a training part and the other in its test."""
    crosses = np.zeros(len(pairs), bool)
    for train, test in folds:
        side = np.zeros(n_samples, int)
        side[train], side[test] = 1, 2
        crosses |= side[pairs].sum(axis=1) == 3
    return crosses


def _names(bunch: Bunch, places: NDArray) -> list[str]:
    names = bunch.get("filenames")
    return [*map(str, places)] if names is None else _below_folder(names, places)


def _below_folder(names: Sequence[Any], places: NDArray) -> list[str]:
    """Name files relative to their common folder: reports name no folder of a machine.

    A sequence has the name of its first frame.
    """
    files = [os.path.abspath(name[0] if isinstance(name, list) else name) for name in names]
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    return [os.path.relpath(files[place], folder) for place in places]


def _divided(folds: Folds, names: ArrayLike | None) -> list[str]:
    """List the names that have samples on both sides."""
    if names is None:
        return []
    known, numbers = np.unique(names, return_inverse=True)
    shared = _on_both_sides(folds, numbers)
    return [str(name) for name in known[np.unique(numbers[shared])]]


def _on_both_sides(folds: Folds, numbers: NDArray) -> NDArray[np.int_]:
    """Return the test samples whose number occurs in the training part, too."""
    shared = [test[np.isin(numbers[test], numbers[train])] for train, test in folds]
    return np.unique(np.concatenate(shared)) if shared else np.array([], int)
