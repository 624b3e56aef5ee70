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
    "Part",
    "Work",
    "best_of",
    "candidates",
    "choose",
    "conclude",
    "curve_scores",
    "inner_folds",
    "lay_out",
    "score_candidate",
    "search",
]

# what a journal counts
EVENTS = ("fit", "step_computed", "step_reused", "row_computed", "row_reused")


@dataclass(frozen=True)
class Part:
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


def lay_out(plan: Plan) -> tuple[list[Part], list[Part], list[Part]]:
    """Lay out what a plan searches, and what is fitted with the choice.

    Parameters
    ----------
    plan : Plan
        The plan.

    Returns
    -------
    searches : list of Part
        In each there is a search; first the one whose choice is used below.
    refits : list of Part
        The folds of other splits, fitted with that choice.
    curve : list of Part
        The folds of the learning curve, fitted with that choice.
    """
    headline, *others = plan.split.folds
    searches = [
        Part(repeat, headline, number, *fold, saved=plan.saves_judged and repeat == 0)
        for repeat, one in enumerate((plan, *plan.repeats))
        for number, fold in enumerate(one.headline)
    ]
    if not plan.saves_judged:
        # the longest first: at the end the others fill the processes evenly
        everything = np.arange(len(plan.bunch.target))
        searches.insert(0, Part(0, headline, -1, everything, None, saved=True))
    refits = [
        Part(0, split, number, *fold)
        for split in others
        for number, fold in enumerate(plan.split.folds[split])
    ]
    curve = [Part(0, headline, number, *fold) for number, fold in enumerate(plan.curve)]
    return searches, refits, curve


@dataclass(frozen=True)
class Work:
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

    def take(self, indices):
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

    def choosing_score(self, estimator, X, y):
        """Score by the scorer that chooses, for a search that takes no others."""
        return self.score(estimator, X, y)[self.plan.spec.choose_by]


def search(work: Work, part: Part):
    """Search in a part and fit with the choice; both in this process.

    Parameters
    ----------
    work : Work
        What the run is told.
    part : Part
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
    best, cv_results = choose(work, part)
    fold, model = conclude(work, part, best)
    if fold is not None:
        fold = replace(fold, seconds=time.perf_counter() - start)
    return fold, model, best, cv_results


def choose(work: Work, part: Part):
    """Search in the training part.

    Parameters
    ----------
    work : Work
        What the run is told.
    part : Part
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
    if work.plan.candidates == 1:
        return {}, {}
    found = _build_search(work)
    with work.settings():
        samples = work.take(part.train)
        try:
            _fit(found, *samples)
        except MemoryError as error:
            warnings.warn(
                f"There was too little memory for a candidate ({error}): the search begins "
                "again and scores NaN what fails; the warning after it has the reasons.",
                stacklevel=2,
            )
            _fit(found.set_params(error_score=np.nan), *samples)
    if work.plan.spec.search[0] == "halving":
        return found.best_params_, found.cv_results_
    return best_of(found.cv_results_, work.plan.spec.choose_by), found.cv_results_


def best_of(cv_results, choose_by):
    """Return the parameters that rank first by a scorer."""
    return cv_results["params"][cv_results[f"rank_test_{choose_by}"].argmin()]


def _build_search(work):
    """Build the search that the spec names; each call of a scorer is one finished fit."""
    spec = work.plan.spec
    kind, parameters = spec.search
    settings = {"cv": work.plan.inner, "error_score": "raise", "refit": False}
    if kind == "halving":
        # scikit-learn has it behind this import
        from sklearn.experimental import enable_halving_search_cv  # noqa: F401
        from sklearn.model_selection import HalvingGridSearchCV

        return HalvingGridSearchCV(
            work.pipeline(),
            spec.grid,
            scoring=work.choosing_score,
            random_state=spec.seed,
            return_train_score=False,
            **settings,
            **parameters,
        )
    settings["scoring"] = work.score
    if kind == "random":
        n_iter = min(parameters["n_iter"], work.plan.candidates)
        return RandomizedSearchCV(
            work.pipeline(), spec.grid, n_iter=n_iter, random_state=spec.seed, **settings
        )
    return GridSearchCV(work.pipeline(), spec.grid, **settings)


def candidates(plan: Plan) -> list[dict]:
    """List what a search tries, in its order; halving is no such search."""
    kind, parameters = plan.spec.search
    if kind == "random":
        n_iter = min(parameters["n_iter"], plan.candidates)
        return list(ParameterSampler(plan.spec.grid, n_iter, random_state=plan.spec.seed))
    return list(ParameterGrid(plan.spec.grid))


def inner_folds(plan: Plan, part: Part) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the inner folds of a part, as places in its training samples."""
    y, groups = np.asarray(plan.bunch.target)[part.train], None
    if needs_groups(plan.inner):
        groups = np.asarray(plan.split.groups)[part.train]
    return list(plan.inner.split(np.zeros(len(y)), y, groups))


def score_candidate(work: Work, part: Part, candidate: int, inner: int):
    """Fit one candidate on one inner fold and score it: a piece of a search.

    Parameters
    ----------
    work : Work
        What the run is told.
    part : Part
        Where the search is.
    candidate, inner : int
        Which of :func:`candidates`, on which of :func:`inner_folds`.

    Returns
    -------
    scores : dict of str to float
        The scores by their names, and ``fit_time`` and ``score_time`` in seconds.
    """
    parameters = candidates(work.plan)[candidate]
    found = GridSearchCV(
        work.pipeline(),
        {name: [value] for name, value in parameters.items()},
        cv=[inner_folds(work.plan, part)[inner]],
        scoring=work.score,
        error_score="raise",
        refit=False,
    )
    with work.settings():
        _fit(found, *work.take(part.train))
    results = found.cv_results_
    scores = {name: results[f"split0_test_{name}"][0] for name in work.plan.spec.scoring}
    times = {name: results[f"mean_{name}"][0] for name in ("fit_time", "score_time")}
    return {name: float(value) for name, value in (scores | times).items()}


def conclude(work: Work, part: Part, best: dict):
    """Fit on the training part with given parameters, score on the part held out.

    Parameters
    ----------
    work : Work
        What the run is told.
    part : Part
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
    with work.settings():
        model = _fit(work.pipeline().set_params(**_cloned(best)), *work.take(part.train))
        if part.test is None:
            work.journal.add("fit")
        else:
            fold = _score_fold(work, part, model, best, start)
    return fold, Pipeline(take_cache(model).steps) if part.saved else None


def _score_fold(work, part, model, best, start):
    X, y, _ = work.take(part.test)
    scores = work.score(model, X, y)
    return Fold(
        split=part.split,
        number=part.number,
        test=part.test,
        predicted=model.predict(X),
        probabilities=_probabilities(model, X, np.unique(work.plan.bunch.target)),
        temperature=float(getattr(model[-1], "temperature_", 1.0)),
        scores={name: float(value) for name, value in scores.items()},
        best_params=best,
        step_predictions=_step_predictions(model, X),
        n_train=len(part.train),
        seconds=time.perf_counter() - start,
        seed=work.plan.spec.seed,
    )


def _probabilities(model, X, classes):
    """Probabilities of all classes, where the model gives them; 0 of those it lacks."""
    if not hasattr(model, "predict_proba"):
        return None
    found = model.predict_proba(X)
    probabilities = np.zeros((len(found), len(classes)))
    probabilities[:, np.searchsorted(classes, model.classes_)] = found
    return probabilities


def curve_scores(work: Work, part: Part, best: dict):
    """Score fits on growing shares of a training part.

    Parameters
    ----------
    work : Work
        What the run is told.
    part : Part
        Where.
    best : dict
        The parameters.

    Returns
    -------
    rows : list of (int, float, float)
        Number of training samples, score on them, score on the part held out.
    """
    target = np.asarray(work.plan.bunch.target)
    order = _stratified_order(
        target, part.train, np.random.default_rng(work.plan.spec.seed)
    )
    n_classes = len(np.unique(target[part.train]))
    X_test, y_test, _ = work.take(part.test)
    rows = []
    with work.settings():
        for fraction in CURVE_FRACTIONS:
            some = order[: max(n_classes, round(fraction * len(order)))]
            X, y, groups = work.take(some)
            model = _fit(work.pipeline().set_params(**_cloned(best)), X, y, groups)
            scorer = check_scoring(model, scoring=work.plan.spec.choose_by)
            rows.append((len(some), scorer(model, X, y), scorer(model, X_test, y_test)))
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
