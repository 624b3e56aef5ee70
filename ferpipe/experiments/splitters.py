"""Splitters and groups: which keep groups together, and what replaces the others."""

from inspect import signature

import numpy as np
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


def needs_groups(splitter) -> bool:
    """Return whether a splitter divides by groups: whether its ``split`` requests them.

    Parameters
    ----------
    splitter : splitter
        scikit-learn's, or one that derives from its ``GroupsConsumerMixin``.

    Returns
    -------
    needs : bool
    """
    return bool(get_routing_for_object(splitter).consumes("split", ["groups"]))


def as_splitter(cv, y):
    """Return a splitter for whatever scikit-learn takes as ``cv``.

    Parameters
    ----------
    cv : splitter, int or iterable of (train, test)
        A number of stratified folds, or the folds themselves as indices.
    y : ndarray of shape (n,)
        Labels.

    Returns
    -------
    splitter : splitter

    Raises
    ------
    ValueError
        If it is something else.
    """
    return check_cv(cv, y, classifier=True)


def split_by(splitter, y, groups) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide samples; groups go to the splitters that take them.

    Parameters
    ----------
    splitter : splitter
        Any.
    y : ndarray of shape (n,)
        Labels.
    groups : ndarray of shape (n,) or None
        Group of each sample.

    Returns
    -------
    folds : list of (train, test)
        Index arrays.
    """
    # scikit-learn's splitters that ignore groups warn when they get some
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
    # indices may come as lists or as masks
    return [(every[np.asarray(a)], every[np.asarray(b)]) for a, b in divided]


def keeps_apart(folds, groups) -> bool:
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


def grouped_counterpart(splitter):
    """Return the splitter that divides groups as this one divides samples.

    Parameters
    ----------
    splitter : splitter
        Any.

    Returns
    -------
    grouped_counterpart : splitter
        The same one if it divides by groups already; the others keep their numbers,
        shares and seed.

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
        f"{name} divides samples whatever group they belong to, and no splitter "
        "divides groups in the same way. Use StratifiedKFold or ShuffleSplit, which have "
        "grouped counterparts (evaluate.seeds repeats them), or a splitter by groups."
    )


def _grouped_shuffle(splitter):
    sizes = {"test_size": splitter.test_size, "train_size": splitter.train_size}
    for name, size in sizes.items():
        if size is not None and not isinstance(size, float):
            raise ValueError(
                f"ShuffleSplit({name}={size}) counts samples, but whole groups are "
                f"divided: give {name} as a share between 0 and 1."
            )
    if sizes == {"test_size": None, "train_size": None}:
        # what ShuffleSplit takes; GroupShuffleSplit would take 0.2
        sizes["test_size"] = 0.1
    return GroupShuffleSplit(splitter.n_splits, **sizes, random_state=splitter.random_state)
