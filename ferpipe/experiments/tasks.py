"""Tasks of a run: search, fit and score one part of the data in one process."""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from threadpoolctl import threadpool_limits

from ferpipe._base import input_kind
from ferpipe.caching.events import Journal
from ferpipe.caching.transformer import KeptPipeline, StepMemory, take_cache
from ferpipe.experiments.plan import CURVE_FRACTIONS, Plan
from ferpipe.experiments.results import Fold
from ferpipe.experiments.splitters import needs_groups

__all__ = [
    "EVENTS",
    "Task",
    "RunContext",
    "best_of",
    "candidates",
    "search_parameters",
    "fit_and_score",
    "curve_scores",
    "inner_folds",
    "make_tasks",
    "score_candidate",
    "search",
]

# fold or None, saved model or None, chosen parameters, cv_results_
SearchResult: TypeAlias = tuple[Fold | None, Any, dict[str, Any], dict[str, Any]]

# events that a journal counts
EVENTS = ("fit", "step_computed", "step_reused", "row_computed", "row_reused")


@dataclass(frozen=True)
class Task:
    """A training part of the data and its test part.

    Attributes
    ----------
    repeat : int
        0 for the first seed, i + 1 for the i-th of the plan's repeats.
    split : str
        Split that the task belongs to.
    number : int
        Number of the fold in the split, from 0; -1 for all data.
    train : ndarray of int
        Training samples.
    test : ndarray of int or None
        Test samples; None if all data train.
    saved : bool
        Whether the fitted model is saved.
    """

    repeat: int
    split: str
    number: int
    train: NDArray
    test: NDArray | None
    saved: bool = False


def make_tasks(plan: Plan) -> tuple[list[Task], list[Task], list[Task]]:
    """Make the tasks of a plan.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    searches : list of Task
        Tasks with a search of their own. The first one chooses the parameters of the saved
        model.
    refits : list of Task
        Folds of the other splits, fitted with the parameters of the saved model.
    curve : list of Task
        Folds of the learning curve, fitted with the same parameters.
    """
    primary, *others = plan.split.folds
    searches = [
        Task(repeat, primary, number, *fold, saved=plan.saves_scored and repeat == 0)
        for repeat, one in enumerate((plan, *plan.repeats))
        for number, fold in enumerate(one.primary)
    ]
    if not plan.saves_scored:
        # the longest task first, so that the processes end at about the same time
        everything = np.arange(len(plan.bunch.target))
        searches.insert(0, Task(0, primary, -1, everything, None, saved=True))
    refits = [
        Task(0, split, number, *fold)
        for split in others
        for number, fold in enumerate(plan.split.folds[split])
    ]
    curve = [Task(0, primary, number, *fold) for number, fold in enumerate(plan.curve)]
    return searches, refits, curve


@dataclass(frozen=True)
class RunContext:
    """The shared context of the tasks of a run.

    Attributes
    ----------
    plan : Plan
        The plan of one seed.
    journal : Journal
        Counts fits, and computed and reused steps.
    memory : StepMemory
        Memory of the pipelines.
    threads : int
        Number of threads per process.
    """

    plan: Plan
    journal: Journal
    memory: StepMemory
    threads: int

    def pipeline(self) -> KeptPipeline:
        """Return the unfitted pipeline, with the run's memory."""
        return KeptPipeline(clone(self.plan.spec.pipeline).steps, memory=self.memory)

    @contextmanager
    def settings(self) -> Iterator[None]:
        """Enable metadata routing, and set the number of threads of every library."""
        with (
            config_context(enable_metadata_routing=True),
            threadpool_limits(self.threads),
            warnings.catch_warnings(),
        ):
            # a subject-independent fold may lack a class, which the mean then leaves out
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
            yield

    def index_samples(self, indices: NDArray) -> tuple[Any, NDArray, NDArray | None]:
        """Return data, target and groups of some samples."""
        bunch, groups = self.plan.bunch, self.plan.split.groups
        if groups is not None:
            groups = np.asarray(groups)[indices]
        return _take(self.samples, indices), np.asarray(bunch.target)[indices], groups

    @cached_property
    def samples(self) -> Any:
        """The data, as read-only arrays, so that each is hashed only once."""
        data = self.plan.bunch.data
        # parts of one array would be copied and hashed each time
        taken = input_kind(self.plan.spec.pipeline) or ""
        if isinstance(data, list) or taken.startswith("raw"):
            return [_read_only(sample) for sample in data]
        return data

    def score(self, estimator: Any, X: Any, y: Any) -> dict[str, float]:
        """Score a fitted pipeline by all scorers; each call counts as one fit."""
        scorer = check_scoring(estimator, scoring=list(self.plan.spec.scoring))
        scores = scorer(estimator, X, y)
        self.journal.add("fit")
        return scores

    def refit_score(self, estimator: Any, X: Any, y: Any) -> float:
        """Score by ``refit`` only, for a search that takes one scorer."""
        return self.score(estimator, X, y)[self.plan.spec.refit]


def search(context: RunContext, task: Task) -> SearchResult:
    """Search in the training part, fit with the chosen parameters and score.

    Parameters
    ----------
    context : RunContext
        Context of the run.
    task : Task
        The task.

    Returns
    -------
    fold : Fold or None
        Predictions and scores on the test part; None without one.
    model : Pipeline or None
        The fitted model, if the task saves it.
    best : dict
        The chosen parameters.
    cv_results : dict
        ``cv_results_`` of the search; empty with one candidate.
    """
    start = time.perf_counter()
    best, cv_results = search_parameters(context, task)
    fold, model = fit_and_score(context, task, best)
    if fold is not None:
        fold = replace(fold, seconds=time.perf_counter() - start)
    return fold, model, best, cv_results


def search_parameters(
    context: RunContext, task: Task
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Search in the training part.

    Parameters
    ----------
    context : RunContext
        Context of the run.
    task : Task
        The task.

    Returns
    -------
    best : dict
        The chosen parameters.
    cv_results : dict
        ``cv_results_`` of the search; empty with one candidate.

    Warns
    -----
    UserWarning
        If a candidate needs too much memory; its score is NaN then.
    """
    if context.plan.candidates == 1:
        return {}, {}
    found = _build_search(context)
    with context.settings():
        samples = context.index_samples(task.train)
        try:
            _fit(found, *samples)
        except MemoryError as error:
            warnings.warn(
                f"There was too little memory for a candidate ({error}): the search starts "
                "again and gives NaN to candidates that fail; the next warning has the "
                "reasons.",
                stacklevel=2,
            )
            _fit(found.set_params(error_score=np.nan), *samples)
    if context.plan.spec.search[0] == "halving":
        return found.best_params_, found.cv_results_
    return best_of(found.cv_results_, context.plan.spec.refit), found.cv_results_


def best_of(cv_results: dict[str, Any], refit: str) -> dict[str, Any]:
    """Return the parameters of the best rank by a scorer."""
    return cv_results["params"][cv_results[f"rank_test_{refit}"].argmin()]


def _build_search(context: RunContext) -> Any:
    """Build the search of the spec."""
    spec = context.plan.spec
    kind, parameters = spec.search
    settings: dict[str, Any] = {
        "cv": context.plan.inner_cv,
        "error_score": "raise",
        "refit": False,
    }
    if kind == "halving":
        # scikit-learn requires this import
        from sklearn.experimental import enable_halving_search_cv  # noqa: F401
        from sklearn.model_selection import HalvingGridSearchCV

        return HalvingGridSearchCV(
            context.pipeline(),
            spec.grid,
            scoring=context.refit_score,
            random_state=spec.seed,
            return_train_score=False,
            **settings,
            **parameters,
        )
    settings["scoring"] = context.score
    if kind == "random":
        n_iter = min(parameters["n_iter"], context.plan.candidates)
        return RandomizedSearchCV(
            context.pipeline(), spec.grid, n_iter=n_iter, random_state=spec.seed, **settings
        )
    return GridSearchCV(context.pipeline(), spec.grid, **settings)


def candidates(plan: Plan) -> list[dict]:
    """List the candidates of a grid or random search, in its order."""
    kind, parameters = plan.spec.search
    if kind == "random":
        n_iter = min(parameters["n_iter"], plan.candidates)
        return list(ParameterSampler(plan.spec.grid, n_iter, random_state=plan.spec.seed))
    return list(ParameterGrid(plan.spec.grid))


def inner_folds(plan: Plan, task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the inner folds of a task, as positions in its training samples."""
    y, groups = np.asarray(plan.bunch.target)[task.train], None
    if needs_groups(plan.inner_cv):
        groups = np.asarray(plan.split.groups)[task.train]
    return list(plan.inner_cv.split(np.zeros(len(y)), y, groups))


def score_candidate(
    context: RunContext, task: Task, candidate: int, inner: int
) -> dict[str, float]:
    """Fit and score one candidate on one inner fold: a part of a search.

    Parameters
    ----------
    context : RunContext
        Context of the run.
    task : Task
        The task of the search.
    candidate, inner : int
        Positions in :func:`candidates` and :func:`inner_folds`.

    Returns
    -------
    scores : dict of str to float
        Name of each scorer to its score, and ``fit_time`` and ``score_time`` in seconds.
    """
    parameters = candidates(context.plan)[candidate]
    found = GridSearchCV(
        context.pipeline(),
        {name: [value] for name, value in parameters.items()},
        cv=[inner_folds(context.plan, task)[inner]],
        scoring=context.score,
        error_score="raise",
        refit=False,
    )
    with context.settings():
        _fit(found, *context.index_samples(task.train))
    results = found.cv_results_
    scores = {name: results[f"split0_test_{name}"][0] for name in context.plan.spec.scoring}
    times = {name: results[f"mean_{name}"][0] for name in ("fit_time", "score_time")}
    return {name: float(value) for name, value in (scores | times).items()}


def fit_and_score(
    context: RunContext, task: Task, best: dict[str, Any]
) -> tuple[Fold | None, Any]:
    """Fit on the training part with given parameters, and score on the test part.

    Parameters
    ----------
    context : RunContext
        Context of the run.
    task : Task
        The task.
    best : dict
        The parameters.

    Returns
    -------
    fold : Fold or None
        Predictions and scores on the test part; None without one.
    model : Pipeline or None
        The fitted model, if the task saves it.
    """
    start = time.perf_counter()
    fold = None
    with context.settings():
        model = _fit(
            context.pipeline().set_params(**_cloned(best)),
            *context.index_samples(task.train),
        )
        if task.test is None:
            context.journal.add("fit")
        else:
            fold = _score_fold(context, task, task.test, model, best, start)
    return fold, Pipeline(take_cache(model).steps) if task.saved else None


def _score_fold(
    context: RunContext,
    task: Task,
    test: NDArray,
    model: Any,
    best: dict[str, Any],
    start: float,
) -> Fold:
    X, y, _ = context.index_samples(test)
    scores = context.score(model, X, y)
    return Fold(
        split=task.split,
        number=task.number,
        test=test,
        predicted=model.predict(X),
        probabilities=_probabilities(model, X, np.unique(context.plan.bunch.target)),
        temperature=float(getattr(model[-1], "temperature_", 1.0)),
        scores={name: float(value) for name, value in scores.items()},
        best_params=best,
        step_predictions=_step_predictions(model, X),
        n_train=len(task.train),
        seconds=time.perf_counter() - start,
        seed=context.plan.spec.seed,
    )


def _probabilities(model: Any, X: Any, classes: NDArray) -> NDArray | None:
    """Return probabilities of all classes, 0 for classes that were not in the training."""
    if not hasattr(model, "predict_proba"):
        return None
    found = model.predict_proba(X)
    probabilities = np.zeros((len(found), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = found
    return probabilities


def curve_scores(
    context: RunContext, task: Task, best: dict[str, Any]
) -> list[tuple[int, float, float]]:
    """Score fits on growing shares of a training part.

    Parameters
    ----------
    context : RunContext
        Context of the run.
    task : Task
        The task.
    best : dict
        The parameters.

    Returns
    -------
    rows : list of (int, float, float)
        Number of training samples, score on them, score on the test part.
    """
    target = np.asarray(context.plan.bunch.target)
    order = _stratified_order(
        target, task.train, np.random.default_rng(context.plan.spec.seed)
    )
    n_classes = len(np.unique(target[task.train]))
    # each fold of the curve has a test part
    X_test, y_test, _ = context.index_samples(cast(NDArray, task.test))
    rows = []
    with context.settings():
        for fraction in CURVE_FRACTIONS:
            some = order[: max(n_classes, round(fraction * len(order)))]
            X, y, groups = context.index_samples(some)
            model = _fit(context.pipeline().set_params(**_cloned(best)), X, y, groups)
            scorer = check_scoring(model, scoring=context.plan.spec.refit)
            rows.append((len(some), scorer(model, X, y), scorer(model, X_test, y_test)))
            context.journal.add("fit")
    return rows


def _stratified_order(y: NDArray, indices: NDArray, rng: np.random.Generator) -> NDArray:
    """Shuffle samples so that each beginning has the class shares of the whole."""
    order = rng.permutation(indices)
    share = np.empty(len(order))
    for name in np.unique(y[order]):
        own = y[order] == name
        share[own] = np.arange(own.sum()) / own.sum()
    return order[np.argsort(share, kind="stable")]


def _step_predictions(model: Pipeline, X: Any) -> dict[str, NDArray]:
    """Return the predictions of the earlier steps that are classifiers themselves."""
    predictions = {}
    for name, step in model.steps[:-1]:
        if step in (None, "passthrough"):
            continue
        if is_classifier(step) and not isinstance(step, FrozenEstimator):
            predictions[name] = step.predict(X)
        X = step.transform(X)
    return predictions


def _fit(model: Any, X: Any, y: NDArray, groups: NDArray | None) -> Any:
    """Fit, with groups if a step takes them: routing refuses groups that no step takes."""
    takes = get_routing_for_object(model).consumes("fit", {"groups"})
    return model.fit(X, y, **({"groups": groups} if takes and groups is not None else {}))


def _cloned(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with each estimator among them cloned."""
    return {name: clone(value, safe=False) for name, value in parameters.items()}


def _read_only(sample: Any) -> Any:
    if isinstance(sample, list | tuple):
        return [_read_only(frame) for frame in sample]
    if not isinstance(sample, np.ndarray):
        return sample
    view = sample.view()
    view.flags.writeable = False
    return view


def _take(data: Any, indices: Sequence[int] | NDArray) -> Any:
    if isinstance(data, list):
        return [data[i] for i in indices]
    return data[indices]
