"""Named protocols: which samples train and test, and what the score measures."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    LeaveOneGroupOut,
    StratifiedKFold,
    train_test_split,
)
from sklearn.utils import Bunch

from ferpipe.datasets.duplicates import number_identical
from ferpipe.datasets.labels import select_classes
from ferpipe.experiments.leakage import held_together
from ferpipe.experiments.splitters import (
    as_splitter,
    grouped_counterpart,
    keeps_apart,
    needs_groups,
    split_by,
)

__all__ = [
    "PROTOCOLS",
    "Protocol",
    "Split",
    "check_members",
    "fold_by",
    "scored_part",
]


@dataclass(frozen=True)
class Split:
    """Outer folds of an experiment, and the groups that inner folds keep together.

    Attributes
    ----------
    folds : dict of str to list of (train, test)
        Name of a split ("subject_independent", "sequence_independent",
        "data_set_independent", "stratified" or "official") to outer folds, as arrays of
        indices. The first split gives the primary result.
    groups : ndarray of shape (n,) or None
        Groups that inner folds keep together.
    validation : ndarray of int or None
        Samples of the only training part on which candidates are compared; None compares
        them on inner folds.
    beside : dict of str to ndarray of shape (n,), bool
        Parts of the test samples that are scored in addition to all of them.
    """

    folds: dict[str, list[tuple[NDArray, NDArray]]]
    groups: NDArray | None = None
    validation: NDArray | None = None
    beside: dict[str, NDArray] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A published way of evaluating on a data set.

    Attributes
    ----------
    sentence : str
        What the score measures, and which leak the protocol has or excludes.
    split : callable
        Takes a data set as the loaders return it and a seed, and returns a Split. It raises
        ValueError if the data set does not fit the protocol.
    data_set : str or None
        The loader of its data set; None for any.
    classes : tuple of str or None
        The classes that it evaluates; None for all classes of the data set.
    declares : tuple of str
        Leaks that it has by definition, by their names in ``leakage.find_leaks``.
    """

    sentence: str
    split: Callable[[Any, int], Split]
    data_set: str | None = None
    classes: tuple[str, ...] | None = None
    declares: tuple[str, ...] = ()


def fold_by(splitter: Any, bunch: Bunch, *, allow_leak: bool = False) -> Split:
    """Divide a data set by a splitter of scikit-learn, and keep groups together.

    Parameters
    ----------
    splitter : splitter, int or iterable of (train, test)
        Outer folds. If subjects are known and the splitter ignores them, its grouped
        counterpart gives the primary result and the splitter itself a second, stratified
        split. If only sequences are known, they are the groups, and there is no second
        split.
    bunch : Bunch
        ``target`` and ``groups`` are used, and ``sequences`` if there are no groups.
    allow_leak : bool, default=False
        Use a splitter that ignores groups unchanged if it has no grouped counterpart.

    Returns
    -------
    split : Split

    Raises
    ------
    ValueError
        If the splitter needs groups and there are none, has samples of one group on both
        sides and no grouped counterpart, or there are fewer groups or fewer samples of a
        class than folds.
    """
    y = bunch.target
    splitter = as_splitter(splitter, y)
    unit, groups = held_together(bunch)
    if groups is None and needs_groups(splitter):
        raise ValueError(
            f"{type(splitter).__name__} needs groups (subjects), but this data set has "
            "none; use StratifiedKFold."
        )
    n_folds = getattr(splitter, "n_splits", 2)
    check_members(y, n_folds, "outer folds")
    if groups is None:
        return Split({"stratified": split_by(splitter, y, None)})
    if len(set(groups)) < n_folds:
        raise ValueError(
            f"there are {len(set(groups))} {unit}s for {n_folds} outer folds; use fewer "
            "folds."
        )
    try:
        grouped = grouped_counterpart(splitter)
    except ValueError as error:
        return Split(
            _unchanged_folds(splitter, y, groups, unit, allow_leak, str(error)), groups
        )
    divided = split_by(grouped, y, groups)
    folds = {f"{unit}_independent": divided}
    if not keeps_apart(divided, groups):
        folds = _unchanged_folds(splitter, y, groups, unit, allow_leak, "")
    if grouped is not splitter and unit == "subject":
        folds["stratified"] = split_by(splitter, y, groups)
    return Split(folds, groups)


def _unchanged_folds(
    splitter: Any,
    y: NDArray,
    groups: NDArray,
    unit: str | None,
    allow_leak: bool,
    reason: str,
) -> dict[str, list[tuple[NDArray, NDArray]]]:
    """Return the folds of a splitter without a grouped counterpart, or raise."""
    folds = split_by(splitter, y, groups)
    if keeps_apart(folds, groups):
        return {f"{unit}_independent": folds}
    if allow_leak:
        return {"stratified": folds}
    raise ValueError(
        f"{unit}s are known, but the outer folds have samples of one {unit} on both sides: "
        f"{reason or f'{type(splitter).__name__} does not keep its groups together.'} Or "
        "set evaluate.allow_leak: true; the report then marks the score."
    )


def check_members(target: NDArray, n_parts: int, parts: str) -> None:
    """Check that each class has at least as many samples as there are parts.

    Parameters
    ----------
    target : ndarray of shape (n,)
        Labels.
    n_parts : int
        Number of parts into which each class is divided.
    parts : str
        Name of the parts, for the message.

    Raises
    ------
    ValueError
        If a class has fewer samples; the message names the rarest one.
    """
    counts = Counter(str(name) for name in target)
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < n_parts:
        raise ValueError(
            f"class {rarest!r} has {counts[rarest]} samples for {n_parts} {parts}; use "
            "fewer folds (evaluate.outer_cv, evaluate.inner_cv), leave the class out or "
            "add samples."
        )


def scored_part(protocol: Protocol, bunch: Bunch) -> Bunch:
    """Return the samples of the classes that a protocol evaluates.

    Parameters
    ----------
    protocol : Protocol
        ``classes`` is used.
    bunch : Bunch
        A data set. Entries of the length of ``target`` belong to the samples, except those
        of names.

    Returns
    -------
    bunch : Bunch
        The given one if it has no other classes.

    Raises
    ------
    ValueError
        If a class is missing.
    """
    if protocol.classes is None:
        return bunch
    there = {str(name) for name in bunch.target}
    missing = [name for name in protocol.classes if name not in there]
    if missing:
        raise ValueError(
            f"it evaluates {', '.join(protocol.classes)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not in this data set: load all of its "
            "classes."
        )
    if there == set(protocol.classes):
        return bunch
    kept = np.flatnonzero(np.isin(bunch.target, protocol.classes))
    title, *text = bunch.DESCR.split("\n")
    changed: dict[str, Any] = {
        name: value[kept] if isinstance(value, np.ndarray) else [value[i] for i in kept]
        for name, value in bunch.items()
        if isinstance(value, np.ndarray | list)
        and len(value) == len(bunch.target)
        and not name.endswith("_names")
    }
    changed["target_names"] = sorted(protocol.classes)
    changed["DESCR"] = "\n".join(
        [f"{title}, {len(protocol.classes)} of them evaluated", *text]
    )
    return Bunch(**{**bunch, **changed})


def _split_fer2013(bunch: Bunch, seed: int) -> Split:
    usage = bunch.get("usage")
    have = [] if usage is None else [str(name) for name in np.unique(usage)]
    missing = [name for name in ("Training", "PublicTest") if name not in have]
    if missing:
        raise ValueError(
            "it needs FER2013 with its official splits Training and PublicTest (data: "
            f"{{fer2013: {{path: ...}}}}); {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing."
        )
    train, test = (np.flatnonzero(usage == name) for name in ("Training", "PublicTest"))
    groups = number_identical(bunch.data)
    known = np.isin(groups, groups[train])
    beside = {"without images that Training has too": ~known}
    return Split({"official": [(train, test)]}, groups, beside=beside)


def _ten_folds(bunch: Bunch, seed: int) -> Split:
    _check_subjects(bunch, 10)
    return fold_by(StratifiedKFold(10, shuffle=True, random_state=seed), bunch)


def _stratified_folds(bunch: Bunch, seed: int, n_folds: int) -> Split:
    check_members(bunch.target, n_folds, "outer folds")
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return Split({"stratified": list(splitter.split(bunch.target, bunch.target))})


def _leave_one_out(bunch: Bunch, seed: int) -> Split:
    _check_subjects(bunch, 2)
    return fold_by(LeaveOneGroupOut(), bunch)


def _leave_one_data_set_out(bunch: Bunch, seed: int) -> Split:
    if bunch.get("data_set") is None:
        raise ValueError(
            "it needs several data sets (data: {joined: {sets: ...}}, or "
            "datasets.joined.join_data_sets)."
        )
    folds = LeaveOneGroupOut().split(bunch.target, bunch.target, bunch.data_set)
    return Split({"data_set_independent": list(folds)}, held_together(bunch)[1])


def _random_parts(bunch: Bunch, seed: int, test: float, compare_on: float = 0.0) -> Split:
    y = bunch.target
    check_members(y, 3 if compare_on else 2, "parts")
    train, tested = train_test_split(
        np.arange(len(y)), test_size=test, stratify=y, random_state=seed
    )
    validation = None
    if compare_on:
        share = compare_on / (1 - test)
        _, validation = train_test_split(
            train, test_size=share, stratify=y[train], random_state=seed
        )
    return Split({"stratified": [(np.sort(train), np.sort(tested))]}, validation=validation)


def _check_subjects(bunch: Bunch, fewest: int) -> None:
    n_subjects = 0 if bunch.groups is None else len(set(bunch.groups))
    if n_subjects < fewest:
        raise ValueError(
            f"it needs at least {fewest} subjects, this data set has "
            f"{n_subjects or 'none that are known'}."
        )


_INDEPENDENT = "no subject is on both sides of an outer or inner fold"
_DEPENDENT = (
    "the papers' way of splitting; it ignores subjects, who are on both sides, so that a "
    "model may profit from having seen the person"
)
_VALIDATION = (
    "compares the candidates and then joins the training part; with one candidate it is "
    "training data like the rest"
)

PROTOCOLS = {
    "fer2013-official": Protocol(
        "FER2013's official split, trained on Training and evaluated on PublicTest: a "
        "selection score, for designs are chosen by it. Subjects are unknown, and some "
        "images of PublicTest occur in Training too; inner folds keep identical images "
        "together",
        _split_fer2013,
        data_set="fer2013",
        declares=("identical",),
    ),
    **{
        f"ck48-{n}-subject": Protocol(
            f"CK+48 with {n} classes, 10 stratified, subject-independent folds: how well "
            f"expressions of new subjects are recognized; {_INDEPENDENT}",
            _ten_folds,
            data_set="ck48",
            classes=select_classes(n),
        )
        for n in (5, 6, 7)
    },
    **{
        f"ck48-{n}-stratified{ending}": Protocol(
            f"CK+48 with {n} classes, {n_folds} stratified folds of sequences: "
            f"{_DEPENDENT}",
            partial(_stratified_folds, n_folds=n_folds),
            data_set="ck48",
            classes=select_classes(n),
            declares=("subjects",),
        )
        for n in (5, 6, 7)
        for ending, n_folds in (("", 10), ("-5fold", 5))
    },
    "jaffe-leave-one-subject-out": Protocol(
        "JAFFE, leave one subject out: how well expressions of a new subject are "
        f"recognized; {_INDEPENDENT}",
        _leave_one_out,
        data_set="jaffe",
    ),
    "ferg-leave-one-character-out": Protocol(
        "FERG, leave one cartoon character out: how well expressions of a new character "
        "are recognized; no character is on both sides of an outer or inner fold",
        _leave_one_out,
        data_set="ferg",
    ),
    "leave-one-data-set-out": Protocol(
        "Several data sets, leave one out, with the classes that all of them have: how "
        "well a model does on images of another origin; no data set is on both sides, and "
        "no subject of several data sets",
        _leave_one_data_set_out,
        data_set="joined",
    ),
    "random-80-20": Protocol(
        f"A random fifth of each class is the test part (paper 002): {_DEPENDENT}",
        partial(_random_parts, test=0.2),
        declares=("subjects",),
    ),
    "random-70-10-20": Protocol(
        f"A random fifth of each class is the test part (paper 002): {_DEPENDENT}. A tenth "
        f"of all {_VALIDATION}",
        partial(_random_parts, test=0.2, compare_on=0.1),
        declares=("subjects",),
    ),
    "random-80-10-10": Protocol(
        f"A random tenth of each class is the test part (paper 004): {_DEPENDENT}. Another "
        f"tenth {_VALIDATION}",
        partial(_random_parts, test=0.1, compare_on=0.1),
        declares=("subjects",),
    ),
}
