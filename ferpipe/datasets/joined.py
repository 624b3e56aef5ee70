"""Several data sets as one, with the classes that all of them have."""

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.folders import check_size, resize

__all__ = ["join_data_sets"]


def join_data_sets(
    bunches: Mapping[str, Bunch], *, size: int | tuple[int, int] | None = None
) -> Bunch:
    """Join data sets of one kind.

    Parameters
    ----------
    bunches : dict of str to Bunch
        Name to data set, as the loaders return it; at least two.
    size : int or (int, int), default=None
        Scale every image and frame to this height and width, in pixels: by the mean over
        areas where it shrinks, linearly where it grows.

    Returns
    -------
    bunch : Bunch
        ``data``, ``target``, ``filenames``, ``target_names``, ``kind``, ``synthetic``
        (whether any of them is) and ``DESCR`` as every loader returns them. Samples of
        classes that not all of the data sets have are left out.
        ``groups`` : ndarray of shape (n,), such as ``"Cohn-Kanade/S010"``: population and
        subject, so that people whom several data sets show are one group; a data set
        without a population takes its own name instead. None if one of the data sets does
        not know its subjects.
        ``sequences`` : ndarray of shape (n,), named in the same way, where one of the data
        sets has them; a sample of another is a sequence of its own.
        ``data_set`` : ndarray of shape (n,), the name of the data set of each sample.

    Raises
    ------
    ValueError
        If there are fewer than two data sets or shared classes, a data set has no labels,
        or kinds, sizes or colors differ.

    Warns
    -----
    UserWarning
        If data sets that do not declare their population name the same subjects: they are
        taken for different people.
    """
    if len(bunches) < 2:
        raise ValueError(f"at least two data sets can be joined, got {len(bunches)}.")
    kinds = {name: bunch.kind for name, bunch in bunches.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"data sets of different kinds cannot be joined ({_listing(kinds)}): load all "
            "as images (ck48 has as_sequences: false) or all as sequences."
        )
    for name, bunch in bunches.items():
        if np.ndim(bunch.target) != 1:
            raise ValueError(f"{name} has not one label a sample: it cannot be joined.")
    classes = {name: {str(c) for c in bunch.target} for name, bunch in bunches.items()}
    shared = sorted(set.intersection(*classes.values()))
    if len(shared) < 2:
        raise ValueError(
            "the data sets share fewer than two classes: "
            + _listing({name: " ".join(sorted(own)) for name, own in classes.items()})
        )
    kept = {
        name: np.flatnonzero(np.isin(bunch.target, shared))
        for name, bunch in bunches.items()
    }
    kind = next(iter(kinds.values()))
    data = _samples(bunches, kept, kind, check_size(size))

    def gather(key: str) -> list[str]:
        return [
            f"{name}/sample {i}" if bunch.get(key) is None else _full(name, bunch, key, i)
            for name, bunch in bunches.items()
            for i in kept[name]
        ]

    all_known = all(bunch.groups is not None for bunch in bunches.values())
    if all_known:
        _warn_of_same_names(bunches)
    extra: dict[str, Any] = {
        "data_set": np.repeat(list(kept), [len(rows) for rows in kept.values()])
    }
    if any(bunch.get("sequences") is not None for bunch in bunches.values()):
        extra["sequences"] = np.array(gather("sequences"))
    left_out = sorted(set.union(*classes.values()) - set(shared))
    return as_bunch(
        data,
        [str(bunch.target[i]) for name, bunch in bunches.items() for i in kept[name]],
        kind=kind,
        groups=gather("groups") if all_known else None,
        filenames=[
            f"{name}/sample {i}" if bunch.get("filenames") is None else bunch.filenames[i]
            for name, bunch in bunches.items()
            for i in kept[name]
        ],
        synthetic=any(bunch.synthetic for bunch in bunches.values()),
        description=(
            f"{' and '.join(bunches)}, {len(shared)} shared classes ({kind})\n\n"
            + " ".join(
                f"{name}: {len(kept[name])} of {len(bunch.target)} samples."
                for name, bunch in bunches.items()
            )
            + (f" Left out: {', '.join(left_out)}." if left_out else "")
        ),
        **extra,
    )


def _full(name: str, bunch: Bunch, key: str, place: Any) -> str:
    """Name a subject or a sequence as no other data set names one by chance."""
    if bunch.get("data_set") is not None:
        # a joined data set has such names already
        return str(bunch[key][place])
    return f"{bunch.get('population') or name}/{bunch[key][place]}"


def _warn_of_same_names(bunches: Mapping[str, Bunch]) -> None:
    for (name, one), (other, two) in itertools.combinations(bunches.items(), 2):
        populations = {one.get("population"), two.get("population")}
        if None not in populations or any(
            bunch.get("data_set") is not None for bunch in (one, two)
        ):
            continue
        same = sorted(set(map(str, one.groups)) & set(map(str, two.groups)))
        if same:
            warnings.warn(
                f"{name} and {other} have {len(same)} names of subjects in common, such as "
                f"{same[0]!r}, and are taken for different people. If they are the same, "
                "give both data sets one population (a parameter of the loaders of folders "
                "and of as_bunch; CK, CK+ and CK+48 are 'Cohn-Kanade').",
                stacklevel=3,
            )


def _samples(
    bunches: Mapping[str, Bunch],
    kept: Mapping[str, NDArray[np.intp]],
    kind: str,
    shape: tuple[int, int] | None,
) -> Any:
    """Return the samples of all data sets, every frame of one shape."""
    data = [bunch.data[index] for name, bunch in bunches.items() for index in kept[name]]
    if shape is not None and kind == "sequences":
        data = [np.stack([resize(frame, shape) for frame in frames]) for frames in data]
    elif shape is not None:
        data = [resize(image, shape) for image in data]
    first = 1 if kind == "sequences" else 0
    names = np.repeat(list(kept), [len(rows) for rows in kept.values()])
    shapes: dict[Any, str] = {}
    for name, sample in zip(names, data, strict=True):
        found = np.shape(sample)[first:] if isinstance(sample, np.ndarray) else "several"
        shapes.setdefault(found, str(name))
    if len(shapes) > 1:
        raise ValueError(
            "frames differ in size or color ("
            + _listing({name: str(found) for found, name in shapes.items()})
            + "): size: 48 scales all of them, gray: true loads them without colors."
        )
    return data if kind == "sequences" else np.stack(data)


def _listing(words: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {word}" for name, word in words.items())
