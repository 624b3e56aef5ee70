"""What a process does for an experiment: search, fit and score one part of the data."""

import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
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

# what a journal counts
EVENTS = ("fit", "step_computed", "step_reused", "row_computed", "row_reused")


@dataclass(frozen=True)
class Task:
    """Samples that are fitted on, and those that are scored.

    Attributes
    ----------
    repeat : int
        0 for the first seed, then the place among the plan's repeats plus one.
    split : str
        Kind of split that it belongs to.
    number : int
        0-based number within the split.
    train : ndarray of int
        Samples that are fitted on.
    test : ndarray of int or None
        Samples that are scored, if any.
    saved : bool
        Whether the model fitted here is the one to save.
    """

    repeat: int
    split: str
    number: int
    train: np.ndarray
    test: np.ndarray | None
    saved: bool = False


def make_tasks(plan: Plan) -> tuple[list[Task], list[Task], list[Task]]:
    """Lay out what a plan searches, and what is fitted with the choice.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    searches : list of Task
        In each there is a search; first the one whose choice is used below.
    refits : list of Task
        The folds of other splits, fitted with that choice.
    curve : list of Task
        The folds of the learning curve, fitted with that choice.
    """
    primary, *others = plan.split.folds
    searches = [
        Task(repeat, primary, number, *fold, saved=plan.saves_scored and repeat == 0)
        for repeat, one in enumerate((plan, *plan.repeats))
        for number, fold in enumerate(one.primary)
    ]
    if not plan.saves_scored:
        # the longest first: at the end the others fill the processes evenly
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
    """What every job of a run is told.

    Attributes
    ----------
    plan : Plan
        The plan of one seed.
    journal : Journal
        Counts what was done.
    memory : StepMemory
        The memory of the pipelines.
    threads : int
        Threads of a process.
    """

    plan: Plan
    journal: Journal
    memory: StepMemory
    threads: int

    def pipeline(self):
        """Return the unfitted pipeline, with the run's memory."""
        return KeptPipeline(clone(self.plan.spec.pipeline).steps, memory=self.memory)

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

    def index_samples(self, indices):
        """Return data, target and groups of some samples."""
        bunch, groups = self.plan.bunch, self.plan.split.groups
        if groups is not None:
            groups = np.asarray(groups)[indices]
        return _take(self.samples, indices), np.asarray(bunch.target)[indices], groups

    @cached_property
    def samples(self):
        """The data; arrays that cannot be written to, so that each is hashed only once."""
        data = self.plan.bunch.data
        # photos may come as one array, whose parts would be copied and hashed each time
        taken = input_kind(self.plan.spec.pipeline) or ""
        if isinstance(data, list) or taken.startswith("raw"):
            return [_read_only(sample) for sample in data]
        return data

    def score(self, estimator, X, y):
        """Score a fitted pipeline by every scorer; each call is one finished fit."""
        scorer = check_scoring(estimator, scoring=list(self.plan.spec.scoring))
        scores = scorer(estimator, X, y)
        self.journal.add("fit")
        return scores

    def refit_score(self, estimator, X, y):
        """Score by the scorer that chooses, for a search that takes no others."""
        return self.score(estimator, X, y)[self.plan.spec.refit]


def search(context: RunContext, task: Task):
    """Search in a part and fit with the choice; both in this process.

    Parameters
    ----------
    context : RunContext
        What the run is told.
    task : Task
        Where.

    Returns
    -------
    fold : Fold or None
        The scores on the part held out, if there is one.
    model : Pipeline or None
        The fitted model, if it is the one to save.
    best : dict
        The parameters that were chosen.
    cv_results : dict
        As scikit-learn's searches have it; empty if there was nothing to choose.
    """
    start = time.perf_counter()
    best, cv_results = search_parameters(context, task)
    fold, model = fit_and_score(context, task, best)
    if fold is not None:
        fold = replace(fold, seconds=time.perf_counter() - start)
    return fold, model, best, cv_results


def search_parameters(context: RunContext, task: Task):
    """Search in the training part.

    Parameters
    ----------
    context : RunContext
        What the run is told.
    task : Task
        Where.

    Returns
    -------
    best : dict
        The parameters that were chosen.
    cv_results : dict
        As scikit-learn's searches have it; empty if there was nothing to choose.

    Warns
    -----
    UserWarning
        If there was too little memory for a candidate, whose score is NaN then.
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
                f"There was too little memory for a candidate ({error}): the search begins "
                "again and scores NaN what fails; the warning after it has the reasons.",
                stacklevel=2,
            )
            _fit(found.set_params(error_score=np.nan), *samples)
    if context.plan.spec.search[0] == "halving":
        return found.best_params_, found.cv_results_
    return best_of(found.cv_results_, context.plan.spec.refit), found.cv_results_


def best_of(cv_results, refit):
    """Return the parameters that rank first by a scorer."""
    return cv_results["params"][cv_results[f"rank_test_{refit}"].argmin()]


def _build_search(context):
    """Build the search that the spec names; each call of a scorer is one finished fit."""
    spec = context.plan.spec
    kind, parameters = spec.search
    settings = {"cv": context.plan.inner_cv, "error_score": "raise", "refit": False}
    if kind == "halving":
        # scikit-learn has it behind this import
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
    """List what a search tries, in its order; halving is no such search."""
    kind, parameters = plan.spec.search
    if kind == "random":
        n_iter = min(parameters["n_iter"], plan.candidates)
        return list(ParameterSampler(plan.spec.grid, n_iter, random_state=plan.spec.seed))
    return list(ParameterGrid(plan.spec.grid))


def inner_folds(plan: Plan, task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the inner folds of a part, as places in its training samples."""
    y, groups = np.asarray(plan.bunch.target)[task.train], None
    if needs_groups(plan.inner_cv):
        groups = np.asarray(plan.split.groups)[task.train]
    return list(plan.inner_cv.split(np.zeros(len(y)), y, groups))


def score_candidate(context: RunContext, task: Task, candidate: int, inner: int):
    """Fit one candidate on one inner fold and score it: a piece of a search.

    Parameters
    ----------
    context : RunContext
        What the run is told.
    task : Task
        Where the search is.
    candidate, inner : int
        Which of :func:`candidates`, on which of :func:`inner_folds`.

    Returns
    -------
    scores : dict of str to float
        The scores by their names, and ``fit_time`` and ``score_time`` in seconds.
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


def fit_and_score(context: RunContext, task: Task, best: dict):
    """Fit on the training part with given parameters, score on the part held out.

    Parameters
    ----------
    context : RunContext
        What the run is told.
    task : Task
        Where.
    best : dict
        The parameters.

    Returns
    -------
    fold : Fold or None
        The scores, if a part is held out.
    model : Pipeline or None
        The fitted model, if it is the one to save.
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
            fold = _score_fold(context, task, model, best, start)
    return fold, Pipeline(take_cache(model).steps) if task.saved else None


def _score_fold(context, task, model, best, start):
    X, y, _ = context.index_samples(task.test)
    scores = context.score(model, X, y)
    return Fold(
        split=task.split,
        number=task.number,
        test=task.test,
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


def _probabilities(model, X, classes):
    """Probabilities of all classes, where the model gives them; 0 of those it lacks."""
    if not hasattr(model, "predict_proba"):
        return None
    found = model.predict_proba(X)
    probabilities = np.zeros((len(found), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = found
    return probabilities


def curve_scores(context: RunContext, task: Task, best: dict):
    """Score fits on growing shares of a training part.

    Parameters
    ----------
    context : RunContext
        What the run is told.
    task : Task
        Where.
    best : dict
        The parameters.

    Returns
    -------
    rows : list of (int, float, float)
        Number of training samples, score on them, score on the part held out.
    """
    target = np.asarray(context.plan.bunch.target)
    order = _stratified_order(
        target, task.train, np.random.default_rng(context.plan.spec.seed)
    )
    n_classes = len(np.unique(target[task.train]))
    X_test, y_test, _ = context.index_samples(task.test)
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


def _stratified_order(y, indices, rng):
    """Shuffle samples so that the first of them hold the classes in their shares."""
    order = rng.permutation(indices)
    share = np.empty(len(order))
    for name in np.unique(y[order]):
        own = y[order] == name
        share[own] = np.arange(own.sum()) / own.sum()
    return order[np.argsort(share, kind="stable")]


def _step_predictions(model, X):
    """Predictions of the steps before the last that are classifiers themselves."""
    predictions = {}
    for name, step in model.steps[:-1]:
        if step in (None, "passthrough"):
            continue
        if is_classifier(step) and not isinstance(step, FrozenEstimator):
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
