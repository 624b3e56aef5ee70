"""Run an experiment: from a compiled spec and a data set to Results.

Nothing is printed or plotted here.
"""

import inspect
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import delayed, parallel_config
from sklearn.utils import Bunch

from ferpipe import datasets
from ferpipe._system.processes import in_processes
from ferpipe._system.threads import threads_for
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store
from ferpipe.caching.transformer import StepMemory
from ferpipe.datasets.joined import join_data_sets
from ferpipe.experiments.cluster import run_on_cluster
from ferpipe.experiments.leakage import held_together
from ferpipe.experiments.plan import DataError, Plan, make_plan
from ferpipe.experiments.protocols import PROTOCOLS
from ferpipe.experiments.results import Fold, Results
from ferpipe.experiments.spec import Spec, SpecError, suggest
from ferpipe.experiments.tasks import (
    RunContext,
    SearchResult,
    curve_scores,
    fit_and_score,
    make_tasks,
    search,
)
from ferpipe.io.models import package_versions

__all__ = ["DataError", "load_data", "make_plan", "run_experiment"]


def load_data(spec: Spec) -> Bunch:
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
        If the loader or one of its parameters does not exist.
    ValueError, FileNotFoundError
        As the loader raises them.
    """
    if spec.loader == "joined":
        return _load_joined(spec)
    return _load(spec.loader, spec.data_parameters, spec.seed, "data")


def _load(name: str, parameters: Mapping[str, Any], seed: int, place: str) -> Bunch:
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


def _load_joined(spec: Spec) -> Bunch:
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
    bunch: Bunch,
    *,
    store: Store | None = None,
    n_jobs: int = 1,
    dask: str | None = None,
    progress: bool = False,
    command: str = "",
) -> Results:
    """Run the nested search, the folds of other splits and the final fit.

    If the primary result has one fold, its model is the saved one; otherwise one more
    search over all the data gives the saved model. Other seeds repeat only the folds of the
    primary result.

    With ``n_jobs`` above 1, each fold runs in a process of its own with ``cores // n_jobs``
    threads; there is no other level of parallelism. With dask, each candidate on each inner
    fold is a job, in a process with one thread.

    Parameters
    ----------
    spec : Spec
        The experiment.
    bunch : Bunch
        The data set.
    store : Store, default=None
        Keeps fitted steps and features of samples between runs; None keeps them for this
        run only.
    n_jobs : int, default=1
        Number of processes.
    dask : str, default=None
        "local:4" for four processes of a dask cluster on this machine, "tls://host:port"
        for the workers of a running scheduler; ``n_jobs`` has no effect then.
    progress : bool, default=False
        Show a progress bar of the fits.
    command : str, default=""
        A command that repeats the run, for the report.

    Returns
    -------
    results : Results

    Raises
    ------
    DataError
        As ``make_plan`` does.
    ModuleNotFoundError, ConnectionError, ValueError
        If the cluster cannot be used, as ``run_on_cluster`` does.
    """
    start = time.perf_counter()
    plan = make_plan(spec, bunch, store=store)
    bunch = plan.bunch
    with tempfile.TemporaryDirectory(prefix="ferpipe-") as name:
        folder = Path(name)
        journal = Journal(folder / "journal")
        bar = journal.progress("fit", plan.fits, spec.name) if progress else nullcontext()
        with bar:
            if dask is None:
                memory = StepMemory(store or Store(folder / "store"), journal)
                found = _run_here(plan, memory, journal, n_jobs)
            else:
                found = run_on_cluster(
                    plan, dask, store=store, journal=journal, folder=folder
                )
        searched, refits, curve = found
        # the first search chooses the parameters of the saved model
        _, model, best, cv_results = searched[0]
        folds = [fold for fold, *_ in searched if fold is not None] + refits
        fits = {
            "candidates": plan.candidates,
            "total": plan.fits,
            "steps_computed": journal.count("step_computed"),
            "steps_reused": journal.count("step_reused"),
            "rows_computed": journal.count("row_computed"),
            "rows_reused": journal.count("row_reused"),
        }
    unit, _ = held_together(bunch)
    return Results(
        name=spec.name,
        data=_describe(spec, bunch),
        target=np.asarray(bunch.target),
        groups=None if bunch.groups is None else np.asarray(bunch.groups),
        classes=tuple(str(name) for name in np.unique(bunch.target)),
        primary=next(iter(plan.split.folds)),
        protocol=_protocol_words(plan),
        leak=plan.leak,
        beside=plan.split.beside,
        folds=tuple(folds),
        scoring=spec.scoring,
        refit=spec.refit,
        best_params=best,
        cv_results=cv_results,
        search=_search_words(plan) if cv_results else None,
        notes=plan.notes,
        sequences=bunch.get("sequences") if unit == "sequence" else None,
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


def _run_here(
    plan: Plan, memory: StepMemory, journal: Journal, n_jobs: int
) -> tuple[list[SearchResult], list[Fold], list[list[tuple[int, float, float]]]]:
    """Do the tasks of a plan in processes of this machine, one fold each."""
    threads = threads_for(n_jobs)
    contexts = [RunContext(one, journal, memory, threads) for one in (plan, *plan.repeats)]
    (first, *others), refits, curve = make_tasks(plan)
    with parallel_config("loky", inner_max_num_threads=threads):
        parallel = partial(in_processes, n_jobs=n_jobs)
        # the saved model of a single fold is fitted in this process: it is not copied
        done = [search(contexts[0], first)] if plan.saves_scored else []
        tasks = others if plan.saves_scored else [first, *others]
        searched = done + parallel(delayed(search)(contexts[p.repeat], p) for p in tasks)
        best = searched[0][2]
        folds = parallel(delayed(fit_and_score)(contexts[0], task, best) for task in refits)
        rows = parallel(delayed(curve_scores)(contexts[0], task, best) for task in curve)
    return searched, [fold for fold, _ in folds], rows


def _join_curves(
    curves: Sequence[Sequence[tuple[int, float, float]]],
) -> dict[str, Any] | None:
    if not curves:
        return None
    by_size = list(zip(*curves, strict=True))
    return {
        "n_train": [round(float(np.mean([row[0] for row in rows]))) for rows in by_size],
        "train": [[float(row[1]) for row in rows] for rows in by_size],
        "test": [[float(row[2]) for row in rows] for rows in by_size],
    }


def _protocol_words(plan: Plan) -> str | None:
    """Describe what the named protocol measures, and its leaks."""
    if plan.spec.protocol is None:
        return None
    sentence = PROTOCOLS[plan.spec.protocol].sentence
    return f"{sentence} ({plan.declared})" if plan.declared else sentence


def _search_words(plan: Plan) -> str:
    kind, parameters = plan.spec.search
    if kind == "random":
        n_iter = min(parameters["n_iter"], plan.candidates)
        return f"{n_iter} of {plan.candidates} candidates, sampled at random"
    if kind == "halving":
        return (
            f"{plan.candidates} candidates by successive halving: each round keeps one in "
            f"{parameters['factor']} and gives it {parameters['factor']} times the samples"
        )
    return f"all {plan.candidates} candidates"


def _describe(spec: Spec, bunch: Bunch) -> dict[str, Any]:
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
