"""Split, search, score: a compiled spec and a data set in, Results out.

No printing and no plotting happens here.
"""

import inspect
import os
import tempfile
import time
import warnings
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.utils.metadata_routing import get_routing_for_object
from threadpoolctl import threadpool_limits

from ferpipe import datasets
from ferpipe.cached import StepMemory, take_cache
from ferpipe.datasets.joined import join_data_sets
from ferpipe.journal import Journal
from ferpipe.kinds import input_kind
from ferpipe.persistence import package_versions
from ferpipe.plan import CURVE_FRACTIONS, DataError, Plan, make_plan
from ferpipe.protocols import PROTOCOLS
from ferpipe.results import Fold, Results
from ferpipe.spec import Spec, SpecError, suggest
from ferpipe.store import Store

__all__ = ["DataError", "load_data", "make_plan", "run_experiment"]


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
    if spec.loader == "joined":
        return _load_joined(spec)
    return _load(spec.loader, spec.data_parameters, spec.seed, "data")


def _load(name, parameters, seed, place):
    loaders = {
        name.partition("_")[2]: name
        for name in datasets.__all__
        if name.startswith(("load_", "make_"))
    }
    if name not in loaders:
        raise SpecError(f"{place}: {suggest(name, 'data set', [*loaders, 'joined'])}")
    loader = getattr(datasets, loaders[name])
    known = [key for key in inspect.signature(loader).parameters if key != "return_X_y"]
    for key in parameters:
        if key not in known:
            raise SpecError(f"{place}.{name}: {suggest(key, 'parameter', known)}")
    if "random_state" in known and parameters.get("random_state") is None:
        parameters = {**parameters, "random_state": seed}
    try:
        return loader(**parameters)
    except TypeError as error:
        raise SpecError(f"{place}.{name}: {error}") from error


def _load_joined(spec):
    """Load several data sets: ``{joined: {sets: {loader: {...}, ...}, size: 48}}``."""
    parameters = dict(spec.data_parameters)
    sets = parameters.pop("sets", None)
    for key in parameters:
        if key != "size":
            raise SpecError(f"data.joined: {suggest(key, 'parameter', ['sets', 'size'])}")
    if not isinstance(sets, dict) or len(sets) < 2:
        raise SpecError(
            "data.joined.sets: expected a map of at least two data sets, loader -> "
            f"parameters, got {sets!r}."
        )
    bunches = {
        name: _load(name, own or {}, spec.seed, "data.joined.sets")
        for name, own in sets.items()
    }
    return join_data_sets(bunches, **parameters)


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

    Where the headline is one fold, the model that is judged is the one to save; otherwise
    it is fitted by one more search over all the data. Other seeds repeat the headline's
    folds only.

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
    bunch, (split, *others) = plan.bunch, plan.split.folds
    with tempfile.TemporaryDirectory(prefix="ferpipe-") as folder:
        journal = Journal(Path(folder) / "journal")
        memory = StepMemory(store or Store(Path(folder) / "store"), journal)
        threads = max(1, _cores() // n_jobs)
        work, *repeats = [
            _Work(one, journal, memory, threads) for one in (plan, *plan.repeats)
        ]
        bar = journal.progress("fit", plan.fits, spec.name) if progress else nullcontext()
        with bar, parallel_config("loky", inner_max_num_threads=work.threads):
            parallel = Parallel(n_jobs=n_jobs)
            searches = [
                delayed(_search_fold)(one, split, number, train, test)
                for one in (work, *repeats)
                for number, (train, test) in enumerate(one.plan.headline)
            ]
            if plan.saves_judged:
                fold, model, best, cv_results = _search_judged(work, split)
                folds = [fold, *parallel(searches[1:])]
            else:
                *folds, (model, best, cv_results) = parallel(
                    [*searches, delayed(_search_everything)(work)]
                )
            for other in others:
                folds += parallel(
                    delayed(_refit)(work, other, number, train, test, best)
                    for number, (train, test) in enumerate(plan.split.folds[other])
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
        protocol=_protocol_words(plan),
        leak=plan.leak,
        beside=plan.split.beside,
        folds=tuple(folds),
        scoring=spec.scoring,
        choose_by=spec.choose_by,
        best_params=best,
        cv_results=cv_results,
        search=_search_words(plan) if cv_results else None,
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

    plan: Plan
    journal: Journal
    memory: StepMemory
    threads: int

    def pipeline(self):
        """Return the unfitted pipeline, with the run's memory."""
        return clone(self.plan.spec.pipeline).set_params(memory=self.memory)

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


def _search(work, X, y, groups):
    """Search where there is more than one candidate; return the model and the choice."""
    if work.plan.candidates == 1:
        return _fit(work.pipeline(), X, y, groups), {}, {}
    search = _build_search(work)
    try:
        _fit(search, X, y, groups)
    except MemoryError as error:
        warnings.warn(
            f"There was too little memory for a candidate ({error}): the search begins "
            "again and scores NaN what fails; the warning after it has the reasons.",
            stacklevel=2,
        )
        _fit(search.set_params(error_score=np.nan), X, y, groups)
    return search.best_estimator_, search.best_params_, search.cv_results_


def _build_search(work):
    """Build the search that the spec names; each call of a scorer is one finished fit."""
    spec = work.plan.spec
    kind, parameters = spec.search
    settings = {"cv": work.plan.inner, "error_score": "raise"}
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
    settings |= {"scoring": work.score, "refit": spec.choose_by}
    if kind == "random":
        n_iter = min(parameters["n_iter"], work.plan.candidates)
        return RandomizedSearchCV(
            work.pipeline(), spec.grid, n_iter=n_iter, random_state=spec.seed, **settings
        )
    return GridSearchCV(work.pipeline(), spec.grid, **settings)


def _search_fold(work, split, number, train, test):
    """Search inside the training part, refit there, score on the part held out."""
    start = time.perf_counter()
    with work.settings():
        model, best, _ = _search(work, *work.take(train))
        return _score_fold(work, split, number, model, best, train, test, start)


def _search_judged(work, split):
    """Search in the one training part; the model that is judged is saved."""
    start = time.perf_counter()
    ((train, test),) = work.plan.headline
    with work.settings():
        model, best, cv_results = _search(work, *work.take(train))
        fold = _score_fold(work, split, 0, model, best, train, test, start)
    return fold, take_cache(model).set_params(memory=None), best, cv_results


def _search_everything(work):
    """Search over all the data; the model is the one to save."""
    with work.settings():
        model, best, cv_results = _search(
            work, *work.take(np.arange(len(work.plan.bunch.target)))
        )
    work.journal.add("fit")
    return take_cache(model).set_params(memory=None), best, cv_results


def _refit(work, split, number, train, test, best):
    """Fit with given parameters on the training part, score on the part held out."""
    start = time.perf_counter()
    with work.settings():
        model = _fit(work.pipeline().set_params(**_cloned(best)), *work.take(train))
        return _score_fold(work, split, number, model, best, train, test, start)


def _score_fold(work, split, number, model, best, train, test, start):
    X, y, _ = work.take(test)
    scores = work.score(model, X, y)
    return Fold(
        split=split,
        number=number,
        test=test,
        predicted=model.predict(X),
        probabilities=_probabilities(model, X, np.unique(work.plan.bunch.target)),
        temperature=float(getattr(model[-1], "temperature_", 1.0)),
        scores={name: float(value) for name, value in scores.items()},
        best_params=best,
        step_predictions=_step_predictions(model, X),
        n_train=len(train),
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


def _curve_scores(work, train, test, best):
    """Scores on training and held-out samples over growing parts of the training part."""
    target = np.asarray(work.plan.bunch.target)
    order = _stratified_order(target, train, np.random.default_rng(work.plan.spec.seed))
    n_classes = len(np.unique(target[train]))
    X_test, y_test, _ = work.take(test)
    rows = []
    with work.settings():
        for fraction in CURVE_FRACTIONS:
            part = order[: max(n_classes, round(fraction * len(order)))]
            X, y, groups = work.take(part)
            model = _fit(work.pipeline().set_params(**_cloned(best)), X, y, groups)
            scorer = check_scoring(model, scoring=work.plan.spec.choose_by)
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


def _cores():
    return (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )


def _protocol_words(plan):
    """Say what the named protocol measures, and what stands on both sides by it."""
    if plan.spec.protocol is None:
        return None
    sentence = PROTOCOLS[plan.spec.protocol].sentence
    return f"{sentence} ({plan.declared})" if plan.declared else sentence


def _search_words(plan):
    kind, parameters = plan.spec.search
    if kind == "random":
        n_iter = min(parameters["n_iter"], plan.candidates)
        return f"{n_iter} of {plan.candidates} candidates, drawn at random"
    if kind == "halving":
        return (
            f"{plan.candidates} candidates by successive halving: each round keeps one in "
            f"{parameters['factor']} and gives it {parameters['factor']} times the samples"
        )
    return f"all {plan.candidates} candidates"


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
