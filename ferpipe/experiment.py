"""Split, search, score: a compiled spec and a data set in, Results out.

No printing and no plotting happens here.
"""

import inspect
import os
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.utils.metadata_routing import get_routing_for_object
from threadpoolctl import threadpool_limits

from ferpipe import datasets
from ferpipe.cached import Cached, StepMemory, take_cache
from ferpipe.checks import check_images, check_sequences
from ferpipe.images import check_raw_images, check_raw_sequences
from ferpipe.journal import Journal
from ferpipe.kinds import first_steps, input_kind
from ferpipe.landmarks.predictor import NoFaceError
from ferpipe.leaks import describe_leak
from ferpipe.persistence import package_versions
from ferpipe.protocols import PROTOCOLS, Split
from ferpipe.results import Fold, Results
from ferpipe.spec import Spec, SpecError, suggest
from ferpipe.store import RowStore, Store

__all__ = [
    "DataError",
    "Plan",
    "load_data",
    "make_plan",
    "run_experiment",
]

_CURVE_FRACTIONS = (0.2, 0.4, 0.6, 0.8, 1.0)


class DataError(ValueError):
    """A data set that an experiment cannot be run on."""


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    official : Split or None
        What the named protocol trains on and judges; without one there are folds.
    by_subject, plain : list of (train, test)
        Outer folds as index arrays; ``by_subject`` is empty when the data has no
        groups, ``plain`` when the file names a splitter by groups.
    leak : str or None
        What stands on both sides of the folds, where the spec allows it.
    groups : ndarray of shape (n,) or None
        What must not stand on both sides inside a training part.
    inner : splitter
        Folds of each search.
    candidates : int
        Size of the search space; a single candidate is not searched.
    curve : list of (train, test)
        Folds of the learning curve, for pipelines without a network.
    fits : int
        Fits asked for in all.
    """

    official: Split | None
    by_subject: list[tuple[np.ndarray, np.ndarray]]
    plain: list[tuple[np.ndarray, np.ndarray]]
    leak: str | None
    groups: np.ndarray | None
    inner: Any
    candidates: int
    curve: list[tuple[np.ndarray, np.ndarray]]
    fits: int


def load_data(spec: Spec) -> Any:
    """Load the data set that a spec names.

    Parameters
    ----------
    spec : Spec
        ``loader`` and ``data_parameters`` are used.

    Returns
    -------
    bunch : Bunch
        As the loaders of ``ferpipe.datasets`` return it.

    Raises
    ------
    SpecError
        If there is no such loader or parameter.
    ValueError, FileNotFoundError
        As the loader raises them.
    """
    loaders = {
        name.partition("_")[2]: name
        for name in datasets.__all__
        if name.startswith(("load_", "make_"))
    }
    if spec.loader not in loaders:
        raise SpecError(f"data: {suggest(spec.loader, 'data set', loaders)}")
    loader = getattr(datasets, loaders[spec.loader])
    known = [name for name in inspect.signature(loader).parameters if name != "return_X_y"]
    for name in spec.data_parameters:
        if name not in known:
            raise SpecError(f"data.{spec.loader}: {suggest(name, 'parameter', known)}")
    parameters = dict(spec.data_parameters)
    if "random_state" in known and parameters.get("random_state") is None:
        parameters["random_state"] = spec.seed
    try:
        return loader(**parameters)
    except TypeError as error:
        raise SpecError(f"data.{spec.loader}: {error}") from error


def make_plan(spec: Spec, bunch, *, store: Store | None = None) -> Plan:
    """Check the data and lay out folds and fits.

    When the data has groups, every StratifiedKFold of the spec gets a twin,
    StratifiedGroupKFold with the same number of folds and seed; the inner folds are
    then the twin's everywhere.

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
        are fewer subjects than folds, frames of one sequence or identical samples would
        stand on both sides of a fold, the pipeline takes another kind of data, or the
        images cannot be used.
    """
    _check_kind(spec.pipeline, bunch.kind)
    _check_target(bunch.target)
    taken = input_kind(spec.pipeline) or bunch.kind
    taken = f"raw {bunch.kind}" if taken == "raw" else taken
    _check_data(bunch, taken)
    if taken.startswith("raw "):
        _check_faces(spec.pipeline, bunch, store)
    if spec.protocol is not None:
        return _official_plan(spec, bunch)
    y, groups = bunch.target, bunch.groups
    outer, inner = spec.folds, spec.inner
    by_subject, plain = [], []
    if groups is None:
        for splitter in (outer, inner):
            if _needs_groups(splitter):
                raise DataError(
                    f"{type(splitter).__name__} needs groups (subjects), but this data set "
                    "has none; use StratifiedKFold."
                )
    _check_counts(y, groups, outer, inner)
    zeros = np.zeros(len(y))
    if groups is not None:
        inner = _twin(inner)
        if _needs_groups(_twin(outer)):
            by_subject = list(_twin(outer).split(zeros, y, groups))
    if not _needs_groups(outer):
        plain = list(outer.split(zeros, y))
    leak = _guard_leak([*by_subject, *plain], bunch, spec.allow_leak)
    candidates = len(ParameterGrid(spec.grid))
    headline = by_subject or plain
    n_inner = inner.get_n_splits(zeros, y, groups) if candidates > 1 else 0
    curve = [] if _has_network(spec.pipeline) else headline
    # One search a fold of the headline, and one over all the data.
    fits = (len(headline) + 1) * (candidates * n_inner + 1)
    fits += len(curve) * len(_CURVE_FRACTIONS)
    if by_subject:
        fits += len(plain)
    return Plan(
        official=None,
        by_subject=by_subject,
        plain=plain,
        leak=leak,
        groups=groups,
        inner=inner,
        candidates=candidates,
        curve=curve,
        fits=fits,
    )


def _official_plan(spec, bunch):
    """Lay out the one split of a protocol; the model to save is the one judged."""
    try:
        split = PROTOCOLS[spec.protocol].split(bunch)
    except ValueError as error:
        raise DataError(f"evaluate.protocol: {error}") from error
    y = bunch.target[split.train]
    groups = None if split.groups is None else split.groups[split.train]
    inner = spec.inner if groups is None else _twin(spec.inner)
    candidates = len(ParameterGrid(spec.grid))
    n_inner = inner.get_n_splits(np.zeros(len(y)), y, groups) if candidates > 1 else 0
    if n_inner:
        _check_counts(y, None, inner, inner)
    return Plan(
        official=split,
        by_subject=[],
        plain=[],
        leak=None,
        groups=split.groups,
        inner=inner,
        candidates=candidates,
        curve=[],
        fits=candidates * n_inner + 1,
    )


def run_experiment(
    spec: Spec,
    bunch,
    *,
    store: Store | None = None,
    n_jobs: int = 1,
    progress: bool = False,
    command: str = "",
) -> Results:
    """Run the nested search, the plain split and the final fit.

    One job a fold runs in its own process when ``n_jobs`` is above one: that is the only
    level of parallelism. Each has ``cores // n_jobs`` threads.

    Parameters
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        The data set.
    store : Store, default=None
        Where fitted steps and samples' features are kept between runs; None keeps them
        for this run only.
    n_jobs : int, default=1
        Processes.
    progress : bool, default=False
        Show a progress bar over fits.
    command : str, default=""
        A command that repeats the run; it is kept in the results.

    Returns
    -------
    results : Results

    Raises
    ------
    DataError
        As ``make_plan`` does.
    """
    start = time.perf_counter()
    plan = make_plan(spec, bunch, store=store)
    headline = plan.by_subject or plan.plain
    with tempfile.TemporaryDirectory(prefix="ferpipe-") as folder:
        journal = Journal(Path(folder) / "journal")
        memory = StepMemory(store or Store(Path(folder) / "store"), journal)
        work = _Work(spec, bunch, plan, journal, memory, max(1, _cores() // n_jobs))
        bar = journal.progress("fit", plan.fits, spec.name) if progress else nullcontext()
        with bar, parallel_config("loky", inner_max_num_threads=work.threads):
            parallel = Parallel(n_jobs=n_jobs)
            if plan.official:
                split = "official"
                fold, model, best, cv_results = _search_official(work)
                folds = [fold]
            else:
                split = "by_subject" if plan.by_subject else "plain"
                *folds, (model, best, cv_results) = parallel(
                    [
                        *(
                            delayed(_search_fold)(work, split, number, train, test)
                            for number, (train, test) in enumerate(headline)
                        ),
                        delayed(_search_everything)(work),
                    ]
                )
            if plan.by_subject:
                folds += parallel(
                    delayed(_refit)(work, number, train, test, best)
                    for number, (train, test) in enumerate(plan.plain)
                )
            curve = parallel(
                delayed(_curve_scores)(work, train, test, best)
                for train, test in plan.curve
            )
        fits = {
            "candidates": plan.candidates,
            "total": plan.fits,
            "steps_computed": journal.count("step_computed"),
            "steps_reused": journal.count("step_reused"),
            "rows_computed": journal.count("row_computed"),
            "rows_reused": journal.count("row_reused"),
        }
    return Results(
        name=spec.name,
        data=_describe(spec, bunch),
        target=np.asarray(bunch.target),
        groups=None if bunch.groups is None else np.asarray(bunch.groups),
        classes=tuple(str(name) for name in np.unique(bunch.target)),
        headline=split,
        protocol=PROTOCOLS[spec.protocol].sentence if spec.protocol else None,
        leak=plan.leak,
        beside=plan.official.beside if plan.official else {},
        folds=tuple(folds),
        scoring=spec.scoring,
        choose_by=spec.choose_by,
        best_params=best,
        cv_results=cv_results,
        model=model,
        settings=spec.resolved,
        history={
            name: step.history_ for name, step in model.steps if hasattr(step, "history_")
        },
        learning_curve=_join_curves(curve),
        fits=fits,
        seconds=time.perf_counter() - start,
        command=command,
        versions=package_versions(),
    )


@dataclass(frozen=True)
class _Work:
    """What every job of a run is told."""

    spec: Spec
    bunch: Any
    plan: Plan
    journal: Journal
    memory: StepMemory
    threads: int

    def pipeline(self):
        """Return the unfitted pipeline, with the run's memory."""
        return clone(self.spec.pipeline).set_params(memory=self.memory)

    @contextmanager
    def settings(self):
        """Route groups, and give every library this run's number of threads."""
        with (
            config_context(enable_metadata_routing=True),
            threadpool_limits(self.threads),
            warnings.catch_warnings(),
        ):
            # A fold by subject may lack a class; its recall is then left out of the mean.
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
            yield

    def take(self, indices):
        """Return data, target and groups of some samples."""
        bunch, groups = self.bunch, self.plan.groups
        if groups is not None:
            groups = np.asarray(groups)[indices]
        return _take(self.samples, indices), np.asarray(bunch.target)[indices], groups

    @cached_property
    def samples(self):
        """The data; arrays that cannot be written to, so that each is hashed only once."""
        data = self.bunch.data
        # photos may come as one array, whose parts would be copied and hashed each time
        taken = input_kind(self.spec.pipeline) or ""
        if isinstance(data, list) or taken.startswith("raw"):
            return [_read_only(sample) for sample in data]
        return data

    def score(self, estimator, X, y):
        """Score a fitted pipeline by every scorer; each call is one finished fit."""
        scores = check_scoring(estimator, scoring=list(self.spec.scoring))(estimator, X, y)
        self.journal.add("fit")
        return scores


def _search(work, X, y, groups):
    """Search where there is more than one candidate; return the model and the choice."""
    if work.plan.candidates == 1:
        return _fit(work.pipeline(), X, y, groups), {}, {}
    search = GridSearchCV(
        work.pipeline(),
        work.spec.grid,
        scoring=work.score,
        refit=work.spec.choose_by,
        cv=work.plan.inner,
        error_score="raise",
    )
    _fit(search, X, y, groups)
    return search.best_estimator_, search.best_params_, search.cv_results_


def _search_fold(work, split, number, train, test):
    """Search inside the training part, refit there, score on the part held out."""
    start = time.perf_counter()
    with work.settings():
        model, best, _ = _search(work, *work.take(train))
        return _score_fold(work, split, number, model, best, train, test, start)


def _search_official(work):
    """Search in the training part of a protocol; the model that is judged is saved."""
    start = time.perf_counter()
    train, test = work.plan.official.train, work.plan.official.test
    with work.settings():
        model, best, cv_results = _search(work, *work.take(train))
        fold = _score_fold(work, "official", 0, model, best, train, test, start)
    return fold, take_cache(model).set_params(memory=None), best, cv_results


def _search_everything(work):
    """Search over all the data; the model is the one to save."""
    with work.settings():
        model, best, cv_results = _search(
            work, *work.take(np.arange(len(work.bunch.target)))
        )
    work.journal.add("fit")
    return take_cache(model).set_params(memory=None), best, cv_results


def _refit(work, number, train, test, best):
    """Fit with given parameters on the training part, score on the part held out."""
    start = time.perf_counter()
    with work.settings():
        model = _fit(work.pipeline().set_params(**_cloned(best)), *work.take(train))
        return _score_fold(work, "plain", number, model, best, train, test, start)


def _score_fold(work, split, number, model, best, train, test, start):
    X, y, _ = work.take(test)
    scores = work.score(model, X, y)
    return Fold(
        split=split,
        number=number,
        test=test,
        predicted=model.predict(X),
        probabilities=_probabilities(model, X, np.unique(work.bunch.target)),
        temperature=float(getattr(model[-1], "temperature_", 1.0)),
        scores={name: float(value) for name, value in scores.items()},
        best_params=best,
        step_predictions=_step_predictions(model, X),
        n_train=len(train),
        seconds=time.perf_counter() - start,
    )


def _probabilities(model, X, classes):
    """Probabilities of all classes, where the model gives them; 0 of those it lacks."""
    if not hasattr(model, "predict_proba"):
        return None
    found = model.predict_proba(X)
    probabilities = np.zeros((len(found), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = found
    return probabilities


def _curve_scores(work, train, test, best):
    """Scores on training and held-out samples over growing parts of the training part."""
    target = np.asarray(work.bunch.target)
    order = _stratified_order(target, train, np.random.default_rng(work.spec.seed))
    n_classes = len(np.unique(target[train]))
    X_test, y_test, _ = work.take(test)
    rows = []
    with work.settings():
        for fraction in _CURVE_FRACTIONS:
            part = order[: max(n_classes, round(fraction * len(order)))]
            X, y, groups = work.take(part)
            model = _fit(work.pipeline().set_params(**_cloned(best)), X, y, groups)
            scorer = check_scoring(model, scoring=work.spec.choose_by)
            rows.append((len(part), scorer(model, X, y), scorer(model, X_test, y_test)))
            work.journal.add("fit")
    return rows


def _stratified_order(y, indices, rng):
    """Shuffle samples so that the first of them hold the classes in their shares."""
    order = rng.permutation(indices)
    share = np.empty(len(order))
    for name in np.unique(y[order]):
        own = y[order] == name
        share[own] = np.arange(own.sum()) / own.sum()
    return order[np.argsort(share, kind="stable")]


def _join_curves(curves):
    if not curves:
        return None
    by_size = list(zip(*curves, strict=True))
    return {
        "n_train": [round(float(np.mean([row[0] for row in rows]))) for rows in by_size],
        "train": [[float(row[1]) for row in rows] for rows in by_size],
        "test": [[float(row[2]) for row in rows] for rows in by_size],
    }


def _step_predictions(model, X):
    """Predictions of the steps before the last that are classifiers themselves."""
    predictions = {}
    for name, step in model.steps[:-1]:
        if step in (None, "passthrough"):
            continue
        if is_classifier(step):
            predictions[name] = step.predict(X)
        X = step.transform(X)
    return predictions


def _fit(model, X, y, groups):
    """Fit with groups where a step wants them; routing refuses groups that none wants."""
    wants = get_routing_for_object(model).consumes("fit", {"groups"})
    return model.fit(X, y, **({"groups": groups} if wants and groups is not None else {}))


def _cloned(parameters):
    """Return parameters with every estimator among them cloned, unfitted."""
    return {name: clone(value, safe=False) for name, value in parameters.items()}


def _read_only(sample):
    if isinstance(sample, list | tuple):
        return [_read_only(frame) for frame in sample]
    if not isinstance(sample, np.ndarray):
        return sample
    view = sample.view()
    view.flags.writeable = False
    return view


def _take(data, indices):
    if isinstance(data, list):
        return [data[i] for i in indices]
    return data[indices]


def _twin(splitter):
    """Return the splitter by subject that stands for a StratifiedKFold."""
    if isinstance(splitter, StratifiedKFold):
        return StratifiedGroupKFold(
            splitter.n_splits, shuffle=splitter.shuffle, random_state=splitter.random_state
        )
    return splitter


def _needs_groups(splitter):
    return "Group" in type(splitter).__name__


def _has_network(pipeline):
    return any("training" in name.split("__") for name in pipeline.get_params())


def _cores():
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def _check_kind(pipeline, kind):
    """Refuse images for a pipeline of sequences, and the other way round."""
    for step in first_steps(pipeline):
        taken = getattr(step, "input_kind", kind)
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


def _check_counts(y, groups, outer, inner):
    counts = Counter(str(name) for name in y)
    if len(counts) < 2:
        raise DataError(
            f"all {len(y)} samples are of one class ({', '.join(counts)}); at least two "
            "classes are needed."
        )
    rarest = min(counts, key=lambda name: counts[name])
    for what, splitter, left in (
        ("outer", outer, counts[rarest]),
        ("inner", inner, counts[rarest] - -(-counts[rarest] // _n_splits(outer))),
    ):
        if _n_splits(splitter) > left:
            raise DataError(
                f"class {rarest!r} has {left} samples for {_n_splits(splitter)} {what} "
                "folds; use fewer folds (evaluate.folds, evaluate.inner), leave the class "
                "out or add samples."
            )
    if groups is not None and len(set(groups)) < _n_splits(outer):
        raise DataError(
            f"there are {len(set(groups))} subjects for {_n_splits(outer)} outer folds; "
            "use fewer folds."
        )


def _guard_leak(folds, bunch, allowed):
    """Refuse folds that leak, or return the sentence that says how."""
    leak = describe_leak(folds, bunch)
    if leak is not None and not allowed:
        raise DataError(
            f"{leak}: such a score measures memory. Load whole sequences (as_sequences: "
            "true), take out what is there twice, name a splitter by groups in "
            "evaluate.folds, or set evaluate.allow_leak: true for a score that is marked."
        )
    return leak


def _n_splits(splitter):
    return getattr(splitter, "n_splits", 2)


def _describe(spec, bunch):
    frames = bunch.data
    lengths = None
    if bunch.kind == "sequences":
        lengths = (min(map(len, frames)), max(map(len, frames)))
    return {
        "loader": spec.loader,
        "parameters": spec.data_parameters,
        "description": bunch.DESCR,
        "synthetic": bool(bunch.synthetic),
        "kind": bunch.kind,
        "frame_shape": tuple(np.shape(frames[0])[1:] if lengths else np.shape(frames[0])),
        "lengths": lengths,
    }
