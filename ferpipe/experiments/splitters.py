"""Splitters that keep groups together, and the grouped counterparts of others."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    LeavePGroupsOut,
    LeavePOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils.metadata_routing import get_routing_for_object

__all__ = ["as_splitter", "keeps_apart", "needs_groups", "split_by", "grouped_counterpart"]


def needs_groups(splitter: Any) -> bool:
    """Return whether a splitter divides by groups, that is, ``split`` requests them.

    Parameters
    ----------
    splitter : splitter
        A splitter of scikit-learn, or one that derives from ``GroupsConsumerMixin``.

    Returns
    -------
    needs : bool
    """
    return bool(get_routing_for_object(splitter).consumes("split", ["groups"]))


def as_splitter(cv: Any, y: NDArray) -> Any:
    """Return a splitter for any value that scikit-learn takes as ``cv``.

    Parameters
    ----------
    cv : splitter, int or iterable of (train, test)
        A splitter, the number of stratified folds, or the folds as arrays of indices.
    y : ndarray of shape (n,)
        Labels.

    Returns
    -------
    splitter : splitter

    Raises
    ------
    ValueError
        If ``cv`` is something else.
    """
    return check_cv(cv, y, classifier=True)


def split_by(
    splitter: Any, y: NDArray, groups: NDArray | None
) -> list[tuple[NDArray, NDArray]]:
    """Divide samples; splitters that take groups get them.

    Parameters
    ----------
    splitter : splitter
        Any splitter.
    y : ndarray of shape (n,)
        Labels.
    groups : ndarray of shape (n,) or None
        Group of each sample.

    Returns
    -------
    folds : list of (train, test)
        Index arrays.
    """
    # splitters of scikit-learn that ignore groups warn if they get some
    own = not hasattr(splitter, "get_metadata_routing")
    takes = needs_groups(splitter) or (
        own and "groups" in signature(splitter.split).parameters
    )
    divided = (
        splitter.split(np.zeros(len(y)), y, groups)
        if takes
        else splitter.split(np.zeros(len(y)), y)
    )
    every = np.arange(len(y))
    # folds may be lists of indices or masks
    return [(every[np.asarray(a)], every[np.asarray(b)]) for a, b in divided]


def keeps_apart(folds: Iterable[tuple[NDArray, NDArray]], groups: ArrayLike) -> bool:
    """Return whether no group has samples on both sides of a fold.

    Parameters
    ----------
    folds : iterable of (train, test)
        Index arrays.
    groups : ndarray of shape (n,)
        Group of each sample.

    Returns
    -------
    apart : bool
    """
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return not any(np.isin(numbers[test], numbers[train]).any() for train, test in folds)


def grouped_counterpart(splitter: Any) -> Any:
    """Return the splitter that divides groups as this one divides samples.

    Parameters
    ----------
    splitter : splitter
        Any splitter.

    Returns
    -------
    grouped : splitter
        The splitter itself if it divides by groups already, otherwise one with the same
        number of folds, test size and seed.

    Raises
    ------
    ValueError
        If there is no such splitter.
    """
    if needs_groups(splitter):
        return splitter
    kind = type(splitter)
    if kind is StratifiedKFold or kind is KFold:
        grouped = StratifiedGroupKFold if kind is StratifiedKFold else GroupKFold
        return grouped(
            splitter.n_splits, shuffle=splitter.shuffle, random_state=splitter.random_state
        )
    if kind is LeaveOneOut:
        return LeaveOneGroupOut()
    if kind is LeavePOut:
        return LeavePGroupsOut(splitter.p)
    if kind is ShuffleSplit:
        return _grouped_shuffle(splitter)
    name = "A list of folds" if kind.__name__.startswith("_") else kind.__name__
    raise ValueError(
        f"{name} ignores groups, and no splitter divides groups in the same way. Use "
        "StratifiedKFold or ShuffleSplit, which have grouped counterparts (evaluate.seeds "
        "repeats them), or a grouped splitter."
    )


def _grouped_shuffle(splitter: ShuffleSplit) -> GroupShuffleSplit:
    sizes = {"test_size": splitter.test_size, "train_size": splitter.train_size}
    for name, size in sizes.items():
        if size is not None and not isinstance(size, float):
            raise ValueError(
                f"ShuffleSplit({name}={size}) counts samples, but groups are divided: give "
                f"{name} as a share between 0 and 1."
            )
    if sizes == {"test_size": None, "train_size": None}:
        # the default of ShuffleSplit; that of GroupShuffleSplit is 0.2
        sizes["test_size"] = 0.1
    return GroupShuffleSplit(splitter.n_splits, **sizes, random_state=splitter.random_state)
