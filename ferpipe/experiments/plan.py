"""What a run will do: a compiled spec and a data set in, folds and fits out.

Data that cannot be used is refused here, before the long run.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import StackingClassifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, PredefinedSplit
from sklearn.utils.metaestimators import available_if

from ferpipe._base import first_steps, input_kind
from ferpipe._checks import check_images, check_sequences
from ferpipe.caching.store import RowStore, Store
from ferpipe.caching.transformer import Cached
from ferpipe.experiments.leakage import (
    copied,
    copy_pairs,
    find_leaks,
    find_shared,
    known_samples,
)
from ferpipe.experiments.protocols import (
    PROTOCOLS,
    Split,
    check_members,
    fold_by,
    scored_part,
)
from ferpipe.experiments.report.formatting import readable
from ferpipe.experiments.spec import Spec
from ferpipe.experiments.splitters import (
    as_splitter,
    grouped_counterpart,
    keeps_apart,
    needs_groups,
    split_by,
)
from ferpipe.faces.landmarks import NoFaceError
from ferpipe.io.images import check_raw_images, check_raw_sequences
from ferpipe.networks.training_images import known_training_images

__all__ = ["CURVE_FRACTIONS", "DataError", "Plan", "make_plan"]

CURVE_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

# So many tested images, and this share, may be taken for training images of a network by
# chance before a run is refused.
_FEW = 2
_FEW_SHARE = 0.001


class DataError(ValueError):
    """A data set that an experiment cannot be run on."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        The data that is evaluated.
    split : Split
        Outer folds, and what must not stand on both sides inside a training part.
    inner_cv : splitter
        Folds of each search.
    leak : str or None
        What stands on both sides of the folds, where the spec allows it.
    declared : str or None
        What stands on both sides because the protocol has it so.
    notes : tuple of str
        What the report says of trained networks in the pipeline, and near-identical
        images on both sides.
    candidates : int
        Size of the search space; a single candidate is not searched.
    curve : list of (train, test)
        Folds of the learning curve, for pipelines without a network.
    repeats : tuple of Plan
        The primary result's folds under the other seeds.
    fits : int
        Fits asked for in all.
    """

    spec: Spec
    bunch: Any
    split: Split
    inner_cv: Any
    leak: str | None
    declared: str | None
    notes: tuple[str, ...]
    candidates: int
    curve: list[tuple[np.ndarray, np.ndarray]]
    repeats: tuple["Plan", ...]
    fits: int

    @property
    def primary(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The folds whose score stands first."""
        return next(iter(self.split.folds.values()))

    @property
    def saves_scored(self) -> bool:
        """Whether the model that is evaluated is the one to save: there is one fold."""
        return len(self.primary) == 1


def make_plan(spec: Spec, bunch, *, store: Store | None = None) -> Plan:
    """Check the data and lay out folds and fits.

    Parameters
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        ``data``, ``target`` and, where subjects are known, ``groups``.
    store : Store, default=None
        Where faces that were looked for are remembered; None looks for them again.

    Returns
    -------
    plan : Plan

    Raises
    ------
    DataError
        If there is one class only, a class has fewer samples than there are folds, there
        are fewer subjects than folds, the protocol evaluates another data set, frames of
        one sequence, samples of one subject or identical samples would stand on both sides
        of a fold, a network in the pipeline was trained on images that are tested, the
        pipeline takes another kind of data, a scorer cannot be used with the classifier or
        the data, or the images cannot be used.

    Warns
    -----
    UserWarning
        If near-identical images of data without subjects stand on both sides of a fold.
    """
    _check_kind(spec.pipeline, bunch.kind)
    _check_target(bunch.target)
    bunch = _scored(spec, bunch)
    taken = input_kind(spec.pipeline) or bunch.kind
    taken = f"raw {bunch.kind}" if taken == "raw" else taken
    _check_data(bunch, taken)
    if taken.startswith("raw "):
        _check_faces(spec.pipeline, bunch, store)
    pairs, trained = copy_pairs(bunch), _trained_on(spec, bunch)
    repeats = tuple(
        _lay_out(other, bunch, pairs, trained, repeats=None) for other in spec.repeats
    )
    return _lay_out(spec, bunch, pairs, trained, repeats=repeats)


def _trained_on(spec, bunch):
    """Return name of each network that was trained before -> samples it knows, or None."""
    return {
        name: None if known is None else (len(known), known_samples(bunch, known))
        for name, known in known_training_images(spec.pipeline, spec.grid).items()
    }


def _lay_out(spec, bunch, pairs, trained, repeats):
    """Lay out what is fitted under one seed; ``repeats`` is None for the other seeds."""
    split = _split(spec, bunch)
    folds = next(iter(split.folds.values()))
    inner = _inner_folds(spec, split, bunch)
    leak, declared, notes = _guard_leaks(spec, split, inner, bunch, pairs, trained)
    _check_scorers(spec, split, inner, bunch)
    candidates = len(ParameterGrid(spec.grid))
    fits = sum(_search_fits(spec, split, inner, bunch, candidates, f[0]) for f in folds)
    curve = []
    if repeats is not None:
        if len(folds) > 1:
            # One more search over all the data gives the model to save.
            everything = np.arange(len(bunch.target))
            fits += _search_fits(spec, split, inner, bunch, candidates, everything)
            curve = [] if _has_network(spec.pipeline) else folds
        fits += sum(map(len, list(split.folds.values())[1:]))
        fits += len(curve) * len(CURVE_FRACTIONS) + sum(plan.fits for plan in repeats)
    return Plan(
        spec=spec,
        bunch=bunch,
        split=split,
        inner_cv=inner,
        leak=leak,
        declared=declared,
        notes=notes,
        candidates=candidates,
        curve=curve,
        repeats=repeats or (),
        fits=fits,
    )


def _scored(spec, bunch):
    """Return the part of the data that the protocol evaluates, all without a protocol."""
    if spec.protocol is None:
        return bunch
    protocol = PROTOCOLS[spec.protocol]
    if protocol.data_set not in (None, spec.loader) and spec.loader != "given_in_python":
        raise DataError(
            f"evaluate.protocol: {spec.protocol} is for the data set {protocol.data_set}, "
            f"not {spec.loader}: load that (--data {protocol.data_set}=PATH), or name "
            "another protocol or folds."
        )
    try:
        return scored_part(protocol, bunch)
    except ValueError as error:
        raise DataError(f"evaluate.protocol: {spec.protocol}: {error}") from error


def _split(spec, bunch):
    if len(set(bunch.target)) < 2:
        raise DataError(
            f"all {len(bunch.target)} samples are of one class ({bunch.target[0]}); at "
            "least two classes are needed."
        )
    try:
        if spec.protocol is None:
            return fold_by(spec.outer_cv, bunch, allow_leak=spec.allow_leak)
        return PROTOCOLS[spec.protocol].split(bunch, spec.seed)
    except ValueError as error:
        place = f"evaluate.protocol: {spec.protocol}: " if spec.protocol else ""
        raise DataError(f"{place}{error}") from error


def _search_fits(spec, split, inner, bunch, candidates, train):
    """Count the fits of a search in a training part, the refit among them."""
    if candidates == 1:
        return 1
    y = np.asarray(bunch.target)[train]
    groups = None if split.groups is None else np.asarray(split.groups)[train]
    try:
        n_inner = inner.get_n_splits(np.zeros(len(y)), y, groups)
    except ValueError as error:
        raise DataError(f"in a training part {error}") from error
    asked = groups is not None and needs_groups(inner) and not spec.allow_leak
    # an own splitter may ask for groups and divide them nevertheless
    if asked and not keeps_apart(split_by(inner, y, groups), groups):
        raise DataError(
            f"{type(inner).__name__} in evaluate.inner_cv has samples of one group on both "
            f"sides: use StratifiedKFold, whose grouped counterpart keeps them together, "
            f"{_ALLOW}"
        )
    if split.validation is None:
        try:
            check_members(y, n_inner // getattr(inner, "n_repeats", 1), "inner folds")
        except ValueError as error:
            raise DataError(f"in a training part {error}") from error
    kind, parameters = spec.search
    if kind == "random":
        candidates = min(candidates, parameters["n_iter"])
    if kind == "halving":
        rounds = _halving_rounds(
            candidates, len(y), 2 * n_inner * len(set(y)), parameters["factor"]
        )
        candidates = sum(rounds)
    return candidates * n_inner + 1


def _halving_rounds(candidates, n_samples, fewest, factor):
    """Count the candidates of each round as scikit-learn lays the rounds out."""
    if fewest > n_samples:
        raise DataError(
            f"search.halving: a training part of {n_samples} samples is too small; its "
            f"first round takes at least {fewest} (twice the classes times the inner "
            "folds): use search: grid."
        )
    needed = 1 + floor(log(candidates, factor))
    first = max(fewest, n_samples // factor ** (needed - 1))
    possible = 1 + floor(log(n_samples // first, factor))
    rounds = []
    for _ in range(min(needed, possible)):
        rounds.append(candidates)
        candidates = ceil(candidates / factor)
    return rounds


def _inner_folds(spec, split, bunch):
    """Return the splitter of the searches; it keeps together what the outer folds keep."""
    if split.validation is not None:
        train = split.folds[next(iter(split.folds))][0][0]
        return PredefinedSplit(np.where(np.isin(train, split.validation), 0, -1))
    inner = as_splitter(spec.inner_cv, bunch.target)
    if split.groups is None:
        if needs_groups(inner):
            raise DataError(
                f"{type(inner).__name__} needs groups (subjects), but there are none to "
                "look at; use StratifiedKFold in evaluate.inner_cv."
            )
        return inner
    try:
        return grouped_counterpart(inner)
    except ValueError as error:
        if spec.allow_leak:
            return inner
        raise DataError(
            f"groups are known, but the inner folds would have one on both sides: {error} "
            "Or set evaluate.allow_leak: true for a score that is marked."
        ) from error


def _guard_leaks(spec, split, inner, bunch, pairs, trained):
    """Refuse folds that leak; return what the file allows, what the protocol has, notes."""
    primary = next(iter(split.folds.values()))
    leaks = find_leaks(
        [fold for folds in split.folds.values() for fold in folds], bunch, pairs
    )
    # Only what is scored beside the primary result may have subjects on both sides.
    leaks.pop("subjects", None)
    leaks |= find_shared(primary, bunch)
    declares = PROTOCOLS[spec.protocol].declares if spec.protocol else ()
    notes = []
    if "alike" in leaks:
        notes.append(
            f"{leaks.pop('alike')}: frames of one sequence or copies make a score measure "
            "memory; name sequences or subjects (sequences, groups) if there are any"
        )
        if "identical" not in declares:
            warnings.warn(f"{notes[0]}.", stacklevel=4)
    for words, too_many in _tested_but_known(declares, primary, bunch, trained):
        if too_many:
            leaks["trained"] = "; ".join([*filter(None, [leaks.get("trained")]), words])
        else:
            notes.append(words)
    if split.groups is not None and split.validation is None and not needs_groups(inner):
        leaks["inner_cv"] = (
            f"the inner folds ({type(inner).__name__}) keep no groups together"
        )
    declared = [words for name, words in leaks.items() if name in declares]
    undeclared = {name: words for name, words in leaks.items() if name not in declares}
    if undeclared and not spec.allow_leak:
        name, words = next(iter(undeclared.items()))
        by_protocol = f"protocol {spec.protocol}: " if spec.protocol else ""
        raise DataError(f"{by_protocol}{words}: {_CURES[name]}")
    return "; ".join(undeclared.values()) or None, "; ".join(declared) or None, tuple(notes)


def _tested_but_known(declares, folds, bunch, trained):
    """Say for each trained network how many tested samples it knows, and if too many."""
    tested = np.unique(np.concatenate([test for _, test in folds]))
    for name, known in trained.items():
        if known is None:
            yield f"the images that {name} was trained on are not known", False
            continue
        n_images, mask = known
        if n_images == 0:
            continue
        n_found = n_counted = int(mask[tested].sum())
        words = (
            f"{n_found} of {len(tested)} tested {bunch.kind} "
            f"{'is' if n_found == 1 else 'are'} among the {n_images} different images that "
            f"{name} was trained on"
        )
        if n_found and "identical" in declares:
            n_counted = len(
                np.unique(
                    np.concatenate(
                        [
                            seen[~copied(bunch, train, seen)]
                            for train, seen in ((a, b[mask[b]]) for a, b in folds)
                        ]
                    )
                )
            )
            words += (
                f"; {n_found - n_counted} of these have a copy in the training part, which "
                "the protocol declares"
            )
        yield words, n_counted > max(_FEW, _FEW_SHARE * len(tested))


_ALLOW = "or set evaluate.allow_leak: true for a score that is marked."
_CURES = {
    "sequences": "such a score measures memory. Load whole sequences (as_sequences: true), "
    f"name a splitter by groups in evaluate.outer_cv, {_ALLOW}",
    "identical": "such a score measures memory. Take out what is there twice, name what "
    f"belongs together (sequences, groups), {_ALLOW}",
    "subjects": "such a score measures how well people are recognized who were trained on. "
    "Take these people out of one side (by a splitter by subject, or by joining other data "
    f"sets), {_ALLOW}",
    "trained": "such a score measures memory. Take other weights, test on other images, "
    f"{_ALLOW}",
}


class _Oracle(ClassifierMixin, BaseEstimator):
    """Knows the labels, and answers with the methods that a classifier has."""

    def __init__(self, target, train, like):
        self.target, self.like = target, like
        self.classes_ = np.unique(target[train])

    def predict(self, X):
        return self.target[X]

    @available_if(lambda self: _gives(self.like, "predict_proba"))
    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    @available_if(lambda self: _gives(self.like, "decision_function"))
    def decision_function(self, X):
        scores = np.zeros((len(X), len(self.classes_)))
        return scores[:, 0] if len(self.classes_) == 2 else scores


def _gives(classifier, method):
    """Whether a classifier will have a method when it is fitted."""
    if isinstance(classifier, StackingClassifier) and classifier.final_estimator is None:
        return method in ("predict_proba", "decision_function")  # a logistic regression
    return hasattr(classifier, method)


def _check_scorers(spec, split, inner, bunch):
    """Score labels by labels wherever the run will: what cannot be scored is found."""
    target = np.asarray(bunch.target)
    folds = [fold for some in split.folds.values() for fold in some]
    # what asks for labels alone fails everywhere or nowhere
    plain = [name for name in spec.scoring if _methods(name) == ["predict"]]
    others = [name for name in spec.scoring if name not in plain]
    classifiers = list(_classifiers(spec))
    for classifier in classifiers:
        for name in others:
            if not any(_gives(classifier, method) for method in _methods(name)):
                raise DataError(_cure(name, classifier))
    first = classifiers[0]
    _try_scorers(plain, target, folds[:1], first)
    if not others:
        return
    _try_scorers(others, target, folds, first)
    if len(ParameterGrid(spec.grid)) > 1:
        for train, _ in next(iter(split.folds.values())):
            y, groups = target[train], None
            if split.groups is not None:
                groups = np.asarray(split.groups)[train]
            within = list(inner.split(np.zeros(len(y)), y, groups))
            _try_scorers(others, y, within, first)


def _classifiers(spec):
    """Yield the classifiers that are tried, each parameter of theirs by itself."""
    name, default = spec.pipeline.steps[-1]
    for part in spec.grid:
        for classifier in part.get(name, [default]):
            yield classifier
            for parameter, values in part.items():
                if parameter.startswith(f"{name}__"):
                    own = parameter.removeprefix(f"{name}__")
                    yield from (clone(classifier).set_params(**{own: v}) for v in values)


def _methods(name):
    """Return what a scorer asks of a classifier: one of these methods."""
    asked = getattr(get_scorer(name), "_response_method", "predict")
    return [asked] if isinstance(asked, str) else list(asked)


def _cure(scorer, classifier):
    kind = type(classifier).__name__
    return (
        f"evaluate.scoring: {scorer} needs {' or '.join(_methods(scorer))}, which "
        f"{readable(classifier)} does not give: put it into CalibratedClassifierCV "
        f"({{CalibratedClassifierCV: {{estimator: {kind}}}}}), or take another scorer."
    )


def _try_scorers(names, target, folds, classifier):
    for train, test in folds:
        oracle = _Oracle(target, train, classifier)
        for name in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    get_scorer(name)(oracle, test, target[test])
                except (ValueError, TypeError, AttributeError) as error:
                    raise DataError(
                        f"evaluate.scoring: {name} cannot score this data ({error}); a "
                        f"part held out has {len(set(target[test]))} classes, its training "
                        f"part {len(oracle.classes_)}: take another scorer, such as "
                        "balanced_accuracy or f1_macro, or other folds."
                    ) from error


def _check_kind(pipeline, kind):
    """Refuse images for a pipeline of sequences, and the other way round."""
    for step in first_steps(pipeline):
        taken = input_kind(step) or kind
        if taken not in (kind, f"raw {kind}", "raw"):
            raise DataError(
                f"the data set holds {kind}, but the pipeline begins with "
                f"{type(step).__name__}, which takes {taken}: begin with another step "
                "(sequences go through PerFrame, images straight into an extractor or "
                "ImageNetwork) or load other data."
            )


def _check_target(target):
    """Refuse data without labels, or with several a sample."""
    if target is None:
        raise DataError(
            "the data set has no labels: load a folder that holds one folder a class."
        )
    if np.ndim(target) != 1:
        raise DataError(
            f"the data set has {np.shape(target)[1]} labels a sample, such as action "
            "units; an experiment takes one: load it with an expression as its target."
        )


_CHECKS: dict[str, Callable] = {
    "images": check_images,
    "raw images": check_raw_images,
    "sequences": check_sequences,
    "raw sequences": check_raw_sequences,
}


def _check_data(bunch, kind):
    names = bunch.get("filenames")
    check = _CHECKS[kind]
    try:
        check(bunch.data, name="data")
    except (TypeError, ValueError) as error:
        place = re.match(r"data\[(\d+)\]|.*the first at \((\d+),", str(error))
        index = int(place[1] or place[2]) if place else None
        file = f" ({names[index]})" if names is not None and index is not None else ""
        raise DataError(f"{error}{file}") from error


def _check_faces(pipeline, bunch, store):
    """Look for the faces once, so that missing ones are named before the long run."""
    names = bunch.get("filenames")
    for step in first_steps(pipeline):
        within = getattr(step, "transformer", step)
        if getattr(next(first_steps(within)), "missing", None) != "raise":
            continue
        if store is not None:
            step = Cached(step, store=RowStore(store.folder, size_limit=store.size_limit))
        try:
            clone(step).fit_transform(bunch.data)
        except NoFaceError as error:
            message = str(error)
            if names is not None:
                message = re.sub(r"X\[(\d+)\]", lambda at: names[int(at[1])], message)
            raise DataError(message) from error


def _has_network(pipeline):
    return any("training" in name.split("__") for name in pipeline.get_params())
