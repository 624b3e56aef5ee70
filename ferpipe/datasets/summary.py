"""What a data set holds, in a few lines of text."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ferpipe.datasets.duplicates import number_identical

__all__ = ["summary"]


def summary(bunch: Bunch) -> str:
    """Describe a data set: counts, sizes and exact duplicates.

    Parameters
    ----------
    bunch : Bunch
        As the loaders return it.

    Returns
    -------
    text : str
        Counts a class, a subject and an official split, sizes of images, lengths of
        sequences, and how many groups of samples are exactly alike, within and across
        splits.

    Examples
    --------
    >>> from ferpipe.datasets import make_expression_sequences
    >>> faces = make_expression_sequences(4, size=24, classes=["anger", "fear"])
    >>> print(summary(faces))
    Synthetic faces, 4 sequences of 3 frames, 24 x 24, 2 classes
    samples: 4 sequences
    classes: anger 2, fear 2
    subjects: 1, with 4 samples each
    sizes: 24 x 24 (4)
    lengths: 3 (4)
    duplicates: none
    """
    usage = bunch.get("usage")
    lines = [
        bunch.DESCR.splitlines()[0],
        f"samples: {len(bunch.data)} {bunch.kind}",
        f"classes: {_listing(_count_labels(bunch))}",
        f"subjects: {_describe_subjects(bunch.groups)}",
    ]
    if usage is not None:
        for split in dict.fromkeys(usage.tolist()):
            counts = _count_labels(bunch, usage == split)
            lines.append(f"{split}: {np.sum(usage == split)} ({_listing(counts)})")
    frames = bunch.data
    if bunch.kind == "sequences":
        frames = [sequence[0] for sequence in bunch.data]
    sizes = Counter(" x ".join(map(str, frame.shape[:2])) for frame in frames)
    lines.append(f"sizes: {_with_counts(sizes)}")
    if bunch.kind == "sequences":
        lines.append(f"lengths: {_with_counts(Counter(map(len, bunch.data)))}")
    lines.append(f"duplicates: {_describe_duplicates(bunch.data, usage)}")
    return "\n".join(lines)


def _count_labels(bunch: Bunch, chosen: Any = slice(None)) -> Counter[str]:
    """Count samples a class; of several that apply to a sample, each counts."""
    if bunch.target is None:
        return Counter({"not known": len(bunch.data)})
    target = bunch.target[chosen]
    if target.ndim == 1:
        return Counter(target.tolist())
    return Counter(dict(zip(bunch.target_names, target.sum(0).tolist(), strict=True)))


def _listing(counts: Counter[Any]) -> str:
    return ", ".join(f"{name} {counts[name]}" for name in sorted(counts))


def _with_counts(counts: Counter[Any]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))


def _describe_subjects(groups: NDArray[np.str_] | None) -> str:
    if groups is None:
        return "not known"
    counts = Counter(groups.tolist()).values()
    fewest, most = min(counts), max(counts)
    each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{len(counts)}, with {each} samples each"


def _describe_duplicates(
    data: Sequence[NDArray[Any]], usage: NDArray[np.str_] | None
) -> str:
    numbers = number_identical(data)
    repeated = np.flatnonzero(np.bincount(numbers) > 1)
    groups = [np.flatnonzero(numbers == number) for number in repeated]
    if not groups:
        return "none"
    text = (
        f"{len(groups)} groups of samples exactly alike ({sum(map(len, groups))} samples)"
    )
    if usage is None:
        return text
    across = sum(len(set(usage[indices].tolist())) > 1 for indices in groups)
    return f"{text}, {across} of them across splits"
