"""Named protocols: what is trained on, what is judged, and what the score tells."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["PROTOCOLS", "Protocol", "Split", "identical_images"]


@dataclass(frozen=True)
class Split:
    """How a protocol divides a data set.

    Attributes
    ----------
    train, test : ndarray of int
        Indices of the samples.
    groups : ndarray of shape (n,) or None
        What must not stand on both sides where the training part is divided again.
    beside : dict of str to ndarray of shape (n,), bool
        Parts of the tested samples whose score stands beside that of all of them.
    """

    train: np.ndarray
    test: np.ndarray
    groups: np.ndarray | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A way of judging that others use too.

    Attributes
    ----------
    sentence : str
        What the score measures, and which leak the protocol has or shuts out.
    split : callable
        Takes a data set as the loaders return it and returns a Split; raises ValueError
        where the data set is not the protocol's.
    """

    sentence: str
    split: Callable[[Any], Split]


def identical_images(images) -> np.ndarray:
    """Give images with the same pixels the same number.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Images.

    Returns
    -------
    numbers : ndarray of shape (n,), int
        Index of the first image with these pixels.
    """
    first: dict[bytes, int] = {}
    return np.array(
        [first.setdefault(image.tobytes(), index) for index, image in enumerate(images)]
    )


def _split_fer2013(bunch):
    usage = bunch.get("usage")
    have = [] if usage is None else [str(name) for name in np.unique(usage)]
    missing = [name for name in ("Training", "PublicTest") if name not in have]
    if missing:
        raise ValueError(
            "protocol fer2013-official needs FER2013 with its official splits Training and "
            f"PublicTest (data: {{fer2013: {{path: ...}}}}); {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there."
        )
    train, test = (np.flatnonzero(usage == name) for name in ("Training", "PublicTest"))
    groups = identical_images(bunch.data)
    seen = np.isin(groups, groups[train])
    return Split(train, test, groups, {"without images that Training has too": ~seen})


PROTOCOLS = {
    "fer2013-official": Protocol(
        "FER2013's own split, trained on Training and judged on PublicTest: a selection "
        "score, for designs are chosen by it. Subjects are unknown, and some images of "
        "PublicTest occur in Training too; what is held out inside Training has no copy in "
        "the rest of it",
        _split_fer2013,
    )
}
