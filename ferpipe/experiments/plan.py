"""The plan of a run: folds, searches and fits of a spec on a data set.

Data that cannot be used is refused here, before the long run.
"""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import StackingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, PredefinedSplit
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
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
from ferpipe.networks.estimator import NetworkMixin
from ferpipe.networks.training_images import known_training_images

__all__ = ["CURVE_FRACTIONS", "DataError", "Plan", "make_plan"]

# folds, as (train, test) arrays of indices; name of a pretrained network -> number of its
# training images, and which samples are among them
Folds: TypeAlias = list[tuple[NDArray, NDArray]]
Known: TypeAlias = Mapping[str, tuple[int, NDArray] | None]

CURVE_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)

# A test image may match a training image of a pretrained network by chance: a run is
# refused only above this number and this share of matches.
_FEW = 2
_FEW_SHARE = 0.001


class DataError(ValueError):
    """The experiment cannot be run on the data set."""


@dataclass(frozen=True)
class Plan:
    """The folds, searches and fits of a run.

    Attributes
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        The data set, or the part of it that the protocol evaluates.
    split : Split
        Outer folds, and the groups that inner folds keep together.
    inner_cv : splitter
        Folds of each search.
    leak : str or None
        A leak that the spec allows, in words.
    declared : str or None
        A leak that the protocol has by definition, in words.
    notes : tuple of str
        Notes for the report: test images that a pretrained network was trained on,
        near-identical images in training and test part.
    candidates : int
        Size of the search space; with one candidate there is no search.
    curve : list of (train, test)
        Folds of the learning curve; empty for pipelines that train a network.
    repeats : tuple of Plan
        The folds of the primary result under the other seeds.
    fits : int
        Total number of fits.
    """

    spec: Spec
    bunch: Bunch
    split: Split
    inner_cv: Any
    leak: str | None
    declared: str | None
    notes: tuple[str, ...]
    candidates: int
    curve: Folds
    repeats: tuple["Plan", ...]
    fits: int

    @property
    def primary(self) -> Folds:
        """The folds of the primary result."""
        return next(iter(self.split.folds.values()))

    @property
    def saves_scored(self) -> bool:
        """Whether the saved model is the evaluated one, because there is one fold."""
        return len(self.primary) == 1


def make_plan(spec: Spec, bunch: Bunch, *, store: Store | None = None) -> Plan:
    """Check the data and plan folds and fits.

    Parameters
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        ``data``, ``target`` and, where subjects are known, ``groups``.
    store : Store, default=None
        Keeps the detected faces for the run; None detects them again.

    Returns
    -------
    plan : Plan

    Raises
    ------
    DataError
        If there is only one class, a class has fewer samples than there are folds, there
        are fewer subjects than folds, the protocol is for another data set, a fold has
        frames of one sequence, samples of one subject or identical samples on both sides, a
        pretrained network in the pipeline was trained on test images, the pipeline takes
        another kind of data, a scorer cannot be used with the classifier or the data, or
        the images cannot be used.

    Warns
    -----
    UserWarning
        If data without subjects has near-identical images on both sides of a fold.
    """
    _check_kind(spec.pipeline, bunch.kind)
    _check_target(bunch.target)
    bunch = _scored(spec, bunch)
    taken = input_kind(spec.pipeline) or bunch.kind
    taken = f"raw {bunch.kind}" if taken == "raw" else taken
    _check_data(bunch, taken)
    if taken.startswith("raw "):
        _check_faces(spec.pipeline, bunch, store)
    pairs, trained = copy_pairs(bunch), _known_to_networks(spec, bunch)
    repeats = tuple(
        _plan_seed(other, bunch, pairs, trained, repeats=None) for other in spec.repeats
    )
    return _plan_seed(spec, bunch, pairs, trained, repeats=repeats)


def _known_to_networks(spec: Spec, bunch: Bunch) -> Known:
    """Map each pretrained network to its number of training images and the known samples.

    None stands for a network whose training images are not known.
    """
    return {
        name: None if known is None else (len(known), known_samples(bunch, known))
        for name, known in known_training_images(spec.pipeline, spec.grid).items()
    }


def _plan_seed(
    spec: Spec,
    bunch: Bunch,
    pairs: NDArray,
    trained: Known,
    repeats: tuple[Plan, ...] | None,
) -> Plan:
    """Plan the fits of one seed; ``repeats`` is None for all seeds but the first."""
    split = _split(spec, bunch)
    folds = next(iter(split.folds.values()))
    inner = _inner_folds(spec, split, bunch)
    leak, declared, notes = _guard_leaks(spec, split, inner, bunch, pairs, trained)
    _check_scorers(spec, split, inner, bunch)
    candidates = len(ParameterGrid(spec.grid))
    fits = sum(_search_fits(spec, split, inner, bunch, candidates, f[0]) for f in folds)
    curve: Folds = []
    if repeats is not None:
        if len(folds) > 1:
            # one more search over all the data gives the saved model
            everything = np.arange(len(bunch.target))
            fits += _search_fits(spec, split, inner, bunch, candidates, everything)
            curve = [] if _trains_network(spec.pipeline) else folds
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


def _scored(spec: Spec, bunch: Bunch) -> Bunch:
    """Return the part of the data that the protocol evaluates; all without a protocol."""
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


def _split(spec: Spec, bunch: Bunch) -> Split:
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


def _search_fits(
    spec: Spec, split: Split, inner: Any, bunch: Bunch, candidates: int, train: NDArray
) -> int:
    """Count the fits of a search in a training part, with the refit."""
    if candidates == 1:
        return 1
    y = np.asarray(bunch.target)[train]
    groups = None if split.groups is None else np.asarray(split.groups)[train]
    try:
        n_inner = inner.get_n_splits(np.zeros(len(y)), y, groups)
    except ValueError as error:
        raise DataError(f"in a training part {error}") from error
    # a splitter from outside scikit-learn may take groups and divide them nevertheless
    if (
        groups is not None
        and needs_groups(inner)
        and not spec.allow_leak
        and not keeps_apart(split_by(inner, y, groups), groups)
    ):
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


def _halving_rounds(candidates: int, n_samples: int, fewest: int, factor: int) -> list[int]:
    """Count the candidates of each round as scikit-learn does."""
    if fewest > n_samples:
        raise DataError(
            f"search.halving: a training part of {n_samples} samples is too small; the "
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


def _inner_folds(spec: Spec, split: Split, bunch: Bunch) -> Any:
    """Return the splitter of the searches, with the same groups as the outer folds."""
    if split.validation is not None:
        train = split.folds[next(iter(split.folds))][0][0]
        return PredefinedSplit(np.where(np.isin(train, split.validation), 0, -1))
    inner = as_splitter(spec.inner_cv, bunch.target)
    if split.groups is None:
        if needs_groups(inner):
            raise DataError(
                f"{type(inner).__name__} needs groups (subjects), but the data set has "
                "none; use StratifiedKFold in evaluate.inner_cv."
            )
        return inner
    try:
        return grouped_counterpart(inner)
    except ValueError as error:
        if spec.allow_leak:
            return inner
        raise DataError(
            f"groups are known, but the inner folds would have one on both sides: {error} "
            "Or set evaluate.allow_leak: true; the report then marks the score."
        ) from error


def _guard_leaks(
    spec: Spec,
    split: Split,
    inner: Any,
    bunch: Bunch,
    pairs: NDArray,
    trained: Known,
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Refuse folds that leak; return allowed leaks, leaks of the protocol, and notes."""
    primary = next(iter(split.folds.values()))
    leaks = find_leaks(
        [fold for folds in split.folds.values() for fold in folds], bunch, pairs
    )
    # only the primary result must be subject-independent
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
    for words, too_many in _known_test_images(declares, primary, bunch, trained):
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


def _known_test_images(
    declares: tuple[str, ...], folds: Folds, bunch: Bunch, trained: Known
) -> Iterator[tuple[str, bool]]:
    """Yield for each pretrained network how many test images it knows, and if too many."""
    tested = np.unique(np.concatenate([test for _, test in folds]))
    for name, known in trained.items():
        if known is None:
            yield f"the training images of {name} are not known", False
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


_ALLOW = "or set evaluate.allow_leak: true; the report then marks the score."
_CURES = {
    "sequences": "such a score measures memory. Load whole sequences (as_sequences: true), "
    f"use a grouped splitter in evaluate.outer_cv, {_ALLOW}",
    "identical": "such a score measures memory. Remove duplicates, name the samples that "
    f"belong together (sequences, groups), {_ALLOW}",
    "subjects": "such a score is for subjects who are in the training data. Keep each "
    "subject on one side (with a grouped splitter, or by joining other data sets), "
    f"{_ALLOW}",
    "trained": "such a score measures memory. Use other weights, test on other images, "
    f"{_ALLOW}",
}


class _Oracle(ClassifierMixin, BaseEstimator):
    """Predicts the true labels, with the methods that a given classifier has."""

    def __init__(self, target: NDArray, train: NDArray, like: Any) -> None:
        self.target, self.like = target, like
        self.classes_ = np.unique(target[train])

    def predict(self, X: NDArray) -> NDArray:
        return self.target[X]

    @available_if(lambda self: _will_have(self.like, "predict_proba"))
    def predict_proba(self, X: NDArray) -> NDArray:
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    @available_if(lambda self: _will_have(self.like, "decision_function"))
    def decision_function(self, X: NDArray) -> NDArray:
        scores = np.zeros((len(X), len(self.classes_)))
        return scores[:, 0] if len(self.classes_) == 2 else scores


def _will_have(classifier: Any, method: str) -> bool:
    """Return whether a classifier has a method once it is fitted."""
    if isinstance(classifier, StackingClassifier) and classifier.final_estimator is None:
        return method in ("predict_proba", "decision_function")  # a logistic regression
    return hasattr(classifier, method)


def _check_scorers(spec: Spec, split: Split, inner: Any, bunch: Bunch) -> None:
    """Score true labels on all folds of the run, to find scorers that would fail."""
    target = np.asarray(bunch.target)
    folds = [fold for some in split.folds.values() for fold in some]
    # scorers of labels fail on all folds or on none
    of_labels = [name for name in spec.scoring if _methods(name) == ["predict"]]
    others = [name for name in spec.scoring if name not in of_labels]
    classifiers = list(_classifiers(spec))
    for classifier in classifiers:
        for name in others:
            if not any(_will_have(classifier, method) for method in _methods(name)):
                raise DataError(_cure(name, classifier))
    first = classifiers[0]
    _try_scorers(of_labels, target, folds[:1], first)
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


def _classifiers(spec: Spec) -> Iterator[Any]:
    """Yield the classifiers of the search space, with one parameter changed at a time."""
    name, default = spec.pipeline.steps[-1]
    for part in spec.grid:
        for classifier in part.get(name, [default]):
            yield classifier
            for parameter, values in part.items():
                if parameter.startswith(f"{name}__"):
                    own = parameter.removeprefix(f"{name}__")
                    yield from (clone(classifier).set_params(**{own: v}) for v in values)


def _methods(name: str) -> list[str]:
    """Return the methods of a classifier that a scorer can use; it needs one of them."""
    methods = getattr(get_scorer(name), "_response_method", "predict")
    return [methods] if isinstance(methods, str) else list(methods)


def _cure(scorer: str, classifier: Any) -> str:
    kind = type(classifier).__name__
    return (
        f"evaluate.scoring: {scorer} needs {' or '.join(_methods(scorer))}, which "
        f"{readable(classifier)} does not have: put it into CalibratedClassifierCV "
        f"({{CalibratedClassifierCV: {{estimator: {kind}}}}}), or use another scorer."
    )


def _try_scorers(
    names: Sequence[str], target: NDArray, folds: Folds, classifier: Any
) -> None:
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
                        f"test part has {len(set(target[test]))} classes, its training "
                        f"part {len(oracle.classes_)}: use another scorer, such as "
                        "balanced_accuracy or f1_macro, or other folds."
                    ) from error


def _check_kind(pipeline: Pipeline, kind: str) -> None:
    """Refuse images for a pipeline of sequences, and sequences for one of images."""
    for step in first_steps(pipeline):
        taken = input_kind(step) or kind
        if taken not in (kind, f"raw {kind}", "raw"):
            raise DataError(
                f"the data set holds {kind}, but the pipeline begins with "
                f"{type(step).__name__}, which takes {taken}: begin with another step "
                "(sequences go through PerFrame, images straight into an extractor or "
                "ImageNetwork) or load other data."
            )


def _check_target(target: Any) -> None:
    """Refuse data without labels, or with several labels per sample."""
    if target is None:
        raise DataError(
            "the data set has no labels: load a folder with one subfolder per class."
        )
    if np.ndim(target) != 1:
        raise DataError(
            f"the data set has {np.shape(target)[1]} labels per sample, such as action "
            "units; an experiment takes one: load it with an expression as its target."
        )


_CHECKS: dict[str, Callable] = {
    "images": check_images,
    "raw images": check_raw_images,
    "sequences": check_sequences,
    "raw sequences": check_raw_sequences,
}


def _check_data(bunch: Bunch, kind: str) -> None:
    """Check all samples; an error names the file of the first wrong one."""
    check = _CHECKS[kind]
    try:
        check(bunch.data, name="data")
    except (TypeError, ValueError) as error:
        names = bunch.get("filenames")
        found = None if names is None else _first_wrong(check, bunch.data)
        if names is None or found is None:
            raise DataError(str(error)) from error
        index, error_of_sample = found
        raise DataError(f"{error_of_sample} ({names[index]})") from error


def _first_wrong(check: Callable[..., Any], data: Any) -> tuple[int, Exception] | None:
    """Return index and error of the first wrong sample; None if all data are wrong."""

    def error_in(part: Any) -> Exception | None:
        try:
            check(part, name="data")
        except (TypeError, ValueError) as error:
            return error
        return None

    # all longer beginnings hold the first wrong sample too
    index = bisect_left(range(len(data)), True, key=lambda i: bool(error_in(data[: i + 1])))
    error = error_in(data[: index + 1]) if index < len(data) else None
    if error is None or (index == 0 and len(data) > 1 and error_in(data[1:2])):
        return None
    return index, error


def _check_faces(pipeline: Pipeline, bunch: Bunch, store: Store | None) -> None:
    """Detect the faces once, so that missing ones are named before the long run."""
    for step in first_steps(pipeline):
        within = getattr(step, "transformer", step)
        if getattr(next(first_steps(within)), "missing", None) != "raise":
            continue
        if store is not None:
            step = Cached(step, store=RowStore(store.folder, size_limit=store.size_limit))
        try:
            clone(step).fit_transform(bunch.data)
        except NoFaceError as error:
            names = _image_names(bunch)
            if len(names) == len(error.missing):
                error = NoFaceError(error.missing, names)
            raise DataError(str(error)) from error


def _image_names(bunch: Bunch) -> list[str]:
    """Name each image, or each frame of each sequence, by its file; [] without files."""
    files = bunch.get("filenames")
    if files is None:
        return []
    if bunch.kind == "images":
        return [str(file) for file in files]
    return [
        str(file[t]) if isinstance(file, list | tuple) else f"frame {t} of {file}"
        for file, sequence in zip(files, bunch.data, strict=True)
        for t in range(len(sequence))
    ]


def _trains_network(pipeline: Pipeline) -> bool:
    values = list(pipeline.get_params().values())
    frozen = [value.estimator for value in values if isinstance(value, FrozenEstimator)]
    return any(
        isinstance(value, NetworkMixin) and all(value is not one for one in frozen)
        for value in values
    )
