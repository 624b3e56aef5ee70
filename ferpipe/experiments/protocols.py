"""Named protocols: what is trained on, what is evaluated, and what the score tells."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from sklearn.model_selection import (
    LeaveOneGroupOut,
    StratifiedKFold,
    train_test_split,
)
from sklearn.utils import Bunch

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
    "identical_images",
    "scored_part",
]


@dataclass(frozen=True)
class Split:
    """What is evaluated, and on what the models are fitted that are evaluated by it.

    Attributes
    ----------
    folds : dict of str to list of (train, test)
        "subject_independent", "sequence_independent", "data_set_independent",
        "stratified" or "official" to outer folds, as arrays of indices. The first is the
        primary result.
    groups : ndarray of shape (n,) or None
        What must not stand on both sides where a training part is divided again.
    validation : ndarray of int or None
        Those samples of the one training part on which the values to try are compared;
        without them there are inner folds.
    beside : dict of str to ndarray of shape (n,), bool
        Parts of the tested samples whose score stands beside that of all of them.
    """

    folds: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    groups: np.ndarray | None = None
    validation: np.ndarray | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """A way of judging that others use too.

    Attributes
    ----------
    sentence : str
        What the score measures, and which leak the protocol has or shuts out.
    split : callable
        Takes a data set as the loaders return it and a seed, and returns a Split; raises
        ValueError where the data set lacks what the protocol needs.
    data_set : str or None
        The loader whose data it evaluates; None for any.
    classes : tuple of str or None
        The classes that it evaluates; None for all that are there.
    declares : tuple of str
        Leaks that it has, as ``leaks.find_leaks`` names them.
    """

    sentence: str
    split: Callable[[Any, int], Split]
    data_set: str | None = None
    classes: tuple[str, ...] | None = None
    declares: tuple[str, ...] = ()


def fold_by(splitter, bunch, *, allow_leak=False) -> Split:
    """Divide a data set as a splitter of scikit-learn says, and keep groups together.

    Parameters
    ----------
    splitter : splitter, int or iterable of (train, test)
        Outer folds. Where subjects are known, a splitter that ignores them is replaced by
        its grouped counterpart, which is the primary result, and stands beside it. Where
        only sequences are known, these are the groups, and there is nothing beside.
    bunch : Bunch
        ``target`` and ``groups`` are used, and ``sequences`` where there are no groups.
    allow_leak : bool, default=False
        Take a splitter that keeps no groups together and has no grouped counterpart as
        it is.

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
            _folds_as_they_are(splitter, y, groups, unit, allow_leak, error), groups
        )
    folds = {f"{unit}_independent": split_by(grouped, y, groups)}
    if not keeps_apart(folds[f"{unit}_independent"], groups):
        folds = _folds_as_they_are(splitter, y, groups, unit, allow_leak, "")
    if grouped is not splitter and unit == "subject":
        folds["stratified"] = split_by(splitter, y, groups)
    return Split(folds, groups)


def _folds_as_they_are(splitter, y, groups, unit, allow_leak, reason):
    """Return the folds of a splitter without a grouped counterpart, if they may be used."""
    folds = split_by(splitter, y, groups)
    if keeps_apart(folds, groups):
        return {f"{unit}_independent": folds}
    if allow_leak:
        return {"stratified": folds}
    raise ValueError(
        f"{unit}s are known, but the outer folds have samples of one {unit} on both sides: "
        f"{reason or f'{type(splitter).__name__} does not keep its groups together.'} Or "
        "set evaluate.allow_leak: true for a score that is marked."
    )


def check_members(target, n_parts: int, parts: str) -> None:
    """Refuse labels of which a class has fewer samples than there are parts.

    Parameters
    ----------
    target : ndarray of shape (n,)
        Labels.
    n_parts : int
        How many parts each class is divided into.
    parts : str
        What the parts are called.

    Raises
    ------
    ValueError
        With the rarest class and its number of samples.
    """
    counts = Counter(str(name) for name in target)
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < n_parts:
        raise ValueError(
            f"class {rarest!r} has {counts[rarest]} samples for {n_parts} {parts}; use "
            "fewer folds (evaluate.outer_cv, evaluate.inner_cv), leave the class out or "
            "add samples."
        )


def scored_part(protocol: Protocol, bunch):
    """Return the samples of the classes that a protocol evaluates.

    Parameters
    ----------
    protocol : Protocol
        ``classes`` is used.
    bunch : Bunch
        Entries as long as ``target`` belong to the samples, but for lists of names.

    Returns
    -------
    bunch : Bunch
        The same one where nothing has to be left out.

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


def _split_fer2013(bunch, seed):
    usage = bunch.get("usage")
    have = [] if usage is None else [str(name) for name in np.unique(usage)]
    missing = [name for name in ("Training", "PublicTest") if name not in have]
    if missing:
        raise ValueError(
            "it needs FER2013 with its official splits Training and PublicTest (data: "
            f"{{fer2013: {{path: ...}}}}); {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not there."
        )
    train, test = (np.flatnonzero(usage == name) for name in ("Training", "PublicTest"))
    groups = identical_images(bunch.data)
    seen = np.isin(groups, groups[train])
    beside = {"without images that Training has too": ~seen}
    return Split({"official": [(train, test)]}, groups, beside=beside)


def _ten_folds(bunch, seed):
    _check_subjects(bunch, 10)
    return fold_by(StratifiedKFold(10, shuffle=True, random_state=seed), bunch)


def _plain_folds(bunch, seed, n_folds):
    check_members(bunch.target, n_folds, "outer folds")
    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    return Split({"stratified": list(splitter.split(bunch.target, bunch.target))})


def _leave_one_out(bunch, seed):
    _check_subjects(bunch, 2)
    return fold_by(LeaveOneGroupOut(), bunch)


def _leave_one_data_set_out(bunch, seed):
    if bunch.get("data_set") is None:
        raise ValueError(
            "it needs several data sets (data: {joined: {sets: ...}}, or "
            "datasets.joined.join_data_sets)."
        )
    folds = LeaveOneGroupOut().split(bunch.target, bunch.target, bunch.data_set)
    return Split({"data_set_independent": list(folds)}, held_together(bunch)[1])


def _random_parts(bunch, seed, test, middle=0.0):
    y = bunch.target
    check_members(y, 3 if middle else 2, "parts")
    train, tested = train_test_split(
        np.arange(len(y)), test_size=test, stratify=y, random_state=seed
    )
    validation = None
    if middle:
        share = middle / (1 - test)
        _, validation = train_test_split(
            train, test_size=share, stratify=y[train], random_state=seed
        )
    return Split({"stratified": [(np.sort(train), np.sort(tested))]}, validation=validation)


def _check_subjects(bunch, fewest):
    n_subjects = 0 if bunch.groups is None else len(set(bunch.groups))
    if n_subjects < fewest:
        raise ValueError(
            f"it needs at least {fewest} subjects, this data set has "
            f"{n_subjects or 'none that are known'}."
        )


_NEVER_SEEN = "no subject stands on both sides, outside or where a training part is divided"
_SEEN = (
    "the papers' way of splitting; it does not look at subjects, who stand on both sides, "
    "so that knowing the person may help"
)
_JOINED_MIDDLE = (
    "compares the values to try and is then joined to the training; without values to try "
    "it is trained on like the rest"
)

PROTOCOLS = {
    "fer2013-official": Protocol(
        "FER2013's own split, trained on Training and evaluated on PublicTest: a selection "
        "score, for designs are chosen by it. Subjects are unknown, and some images of "
        "PublicTest occur in Training too; what is held out inside Training has no copy in "
        "the rest of it",
        _split_fer2013,
        data_set="fer2013",
        declares=("identical",),
    ),
    **{
        f"ck48-{n}-subject": Protocol(
            f"CK+48 with {n} classes, 10 stratified folds by subject: how well expressions "
            f"of people who were never seen are named; {_NEVER_SEEN}",
            _ten_folds,
            data_set="ck48",
            classes=select_classes(n),
        )
        for n in (5, 6, 7)
    },
    **{
        f"ck48-{n}-stratified{ending}": Protocol(
            f"CK+48 with {n} classes, {n_folds} stratified folds of sequences: {_SEEN}",
            partial(_plain_folds, n_folds=n_folds),
            data_set="ck48",
            classes=select_classes(n),
            declares=("subjects",),
        )
        for n in (5, 6, 7)
        for ending, n_folds in (("", 10), ("-5fold", 5))
    },
    "jaffe-leave-one-subject-out": Protocol(
        "JAFFE, one woman left out after the other: how well expressions of somebody who "
        f"was never seen are named; {_NEVER_SEEN}",
        _leave_one_out,
        data_set="jaffe",
    ),
    "ferg-leave-one-character-out": Protocol(
        "FERG, one drawn character left out after the other: how well expressions of a "
        "character that was never seen are named; no character stands on both sides, "
        "outside or where a training part is divided",
        _leave_one_out,
        data_set="ferg",
    ),
    "leave-one-data-set-out": Protocol(
        "Several data sets, one left out after the other, with the classes that all of "
        "them have: how well a model does on pictures of another origin; no data set "
        "stands on both sides, and nobody whom several of them show",
        _leave_one_data_set_out,
        data_set="joined",
    ),
    "random-80-20": Protocol(
        f"A random fifth of each class is tested, the rest trained on (paper 002): {_SEEN}",
        partial(_random_parts, test=0.2),
        declares=("subjects",),
    ),
    "random-70-10-20": Protocol(
        f"A random fifth of each class is evaluated (paper 002): {_SEEN}. A tenth of all "
        f"{_JOINED_MIDDLE}",
        partial(_random_parts, test=0.2, middle=0.1),
        declares=("subjects",),
    ),
    "random-80-10-10": Protocol(
        f"A random tenth of each class is evaluated (paper 004): {_SEEN}. Another tenth "
        f"{_JOINED_MIDDLE}",
        partial(_random_parts, test=0.1, middle=0.1),
        declares=("subjects",),
    ),
}
