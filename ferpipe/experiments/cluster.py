"""An experiment spread over the workers of a dask cluster."""

import asyncio
import logging
import os
import re
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from ferpipe._compat import CandidateSearch
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store, content_hash
from ferpipe.experiments.plan import Plan
from ferpipe.experiments.tasks import (
    best_of,
    candidates,
    curve_scores,
    fit_and_score,
    inner_folds,
    make_tasks,
    score_candidate,
    search_parameters,
)
from ferpipe.io.models import package_versions

__all__ = ["check_address", "run_on_cluster"]

# seconds in which a scheduler, and then one of its workers, must answer
_PATIENCE = 5
# bytes from which an array is given to processes of this machine as one file
_LARGE = 2**20


def check_address(address: str) -> None:
    """Refuse what names no cluster.

    Parameters
    ----------
    address : str
        "local:4" for four processes of this machine, or "tls://host:port" (or "tcp://…",
        unprotected) of a scheduler that runs.

    Raises
    ------
    ValueError
        If it is neither.
    """
    known = r"local:[1-9]\d{0,3}|(tls|tcp)://([^\s/:]+|\[[^\s/]+\]):\d+"
    if not re.fullmatch(known, str(address)):
        raise ValueError(
            "expected local:N with a number of processes, or tls://HOST:PORT of a dask "
            f"scheduler (tcp://HOST:PORT of an unprotected one), got {address!r}"
        )


def run_on_cluster(
    plan: Plan, address: str, *, store: Store | None, journal: Journal, folder: Path
):
    """Do everything that a plan asks for on the workers of a cluster.

    Each candidate on each inner fold is a job of its own, and so is each fit with the
    chosen parameters. A search by halving is one job, for its rounds wait for each other.
    What a worker that dies was doing, another one does again.

    Parameters
    ----------
    plan : Plan
        The plan. It goes to each worker once, with the data.
    address : str
        As for :func:`check_address`.
    store : Store or None
        Keeps what came of each job, so that another run goes on from there; processes of
        this machine keep fitted steps and samples' features in it too. The workers of a
        scheduler take the store of their own machine.
    journal : Journal
        Gets what the workers counted.
    folder : path
        A place for files of this run.

    Returns
    -------
    searched : list of (fold, model, best, cv_results)
        As :func:`ferpipe.experiments.tasks.search` gives it for each search of the plan.
    folds : list of Fold
        Of the other splits.
    curve : list of list
        As :func:`ferpipe.experiments.tasks.curve_scores` gives it.

    Raises
    ------
    ModuleNotFoundError
        If dask or cryptography is not installed, here or on a worker.
    ConnectionError
        If there is no scheduler or it is lost, it has no workers, or the certificates are
        not those of the scheduler.
    ValueError, FileNotFoundError
        If the address is malformed, or a worker has several threads, other versions of
        packages or no sight of the file that the data is mapped from.
    """
    check_address(address)
    try:
        import distributed  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"a search spread over processes by dask needs {error.name}: "
            "pip install 'ferpipe[dask]'",
            name=error.name,
        ) from error
    local = address.startswith("local:")
    if local:
        plan = _in_a_file(plan, folder)
    with _connect(address, folder) as client:
        shared = (store or Store(folder / "store")) if local else None
        name = f"ferpipe-{uuid4().hex}"
        with _told(client, plan, name, shared, keep=store is not None):
            return client.sync(_Run(client, name, plan, store, journal).everything)


@contextmanager
def _connect(address, folder):
    """Open a cluster's client; processes of this machine end with it."""
    import dask
    from distributed import Client, LocalCluster, Security
    from distributed.utils import silence_logging_cmgr

    from ferpipe.experiments.worker import IgnoreInterrupts

    kind, _, rest = address.partition(":")
    if kind == "local":
        # a job that waits where another one kills the process would be blamed for it too
        alone = {"distributed.scheduler.worker-saturation": 1.0}
        with (
            dask.config.set(alone),
            LocalCluster(
                # a port is open to all users of a machine, and a message may hold code:
                # certificates that only these processes have, and no other machine
                security=Security.temporary(),
                host="127.0.0.1",
                n_workers=int(rest),
                threads_per_worker=1,
                memory_limit=0,  # as for any other process: what the machine has
                # no page to look at, and a free port: another run may have the usual one
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                local_directory=str(folder),
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            client.register_plugin(IgnoreInterrupts(os.getpid()))
            yield client
        return
    # what a lost connection means is said by the errors below
    with silence_logging_cmgr(logging.CRITICAL), _ask(address) as client:
        yield client


@contextmanager
def _ask(address):
    """Open the client of a scheduler that runs and has workers."""
    from distributed import Client, Security

    if address.startswith("tcp:"):
        warnings.warn(
            f"{address} is not protected: whoever reaches this port can run code as you, "
            "here and on every worker. Start the scheduler with certificates and take "
            "tls:// (docs/scaling.md).",
            stacklevel=2,
        )
    security = Security()  # as dask's own settings name the certificates
    certified = security.get_connection_args("client").get("ssl_context") is not None
    if address.startswith("tls:") and not certified:
        raise ConnectionError(
            f"{address} asks for certificates, and none is named: set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY "
            "(docs/scaling.md)."
        )
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False, security=security)
    except OSError as error:
        raise ConnectionError(
            f"no dask scheduler answers at {address} within {_PATIENCE} seconds: start one "
            "with `dask scheduler`, or look at host, port and certificates."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise ConnectionError(
                f"the scheduler at {address} has no workers: start some with "
                f"`dask worker {address} --nthreads 1`."
            ) from error
        yield client


@contextmanager
def _told(client, plan, name, store, keep):
    """Give the plan to all workers, those that come later too, until the context ends."""
    from ferpipe.experiments.worker import RunPlugin

    try:
        try:
            client.register_plugin(RunPlugin(plan, name, store, keep), name=name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"a dask worker cannot import {error.name}: install the same versions on "
                "all machines.",
                name=error.name,
            ) from error
        yield
    finally:
        if client.status == "running":
            with suppress(KeyError):  # of a worker that has come back just now
                client.unregister_worker_plugin(name)


def _in_a_file(plan, folder):
    """Put a large array into a file that all processes map, as joblib does."""
    data = plan.bunch.data
    if not isinstance(data, np.ndarray) or isinstance(data, np.memmap):
        return plan
    if data.nbytes < _LARGE or data.dtype.hasobject:
        return plan
    np.save(folder / "data.npy", data)
    mapped = np.load(folder / "data.npy", mmap_mode="r", allow_pickle=False)
    bunch = Bunch(**{**plan.bunch, "data": mapped})
    repeats = tuple(replace(one, bunch=bunch) for one in plan.repeats)
    return replace(plan, bunch=bunch, repeats=repeats)


class _Run:
    """The jobs of a run, which wait for each other in the client's event loop."""

    def __init__(self, client, name, plan, store, journal):
        self.client, self.name, self.store, self.journal = client, name, store, journal
        self.plans = (plan, *plan.repeats)
        self.searches, self.refits, self.curve = make_tasks(plan)
        self.tasks = [*self.searches, *self.refits, *self.curve]
        self.identity = None if store is None else _identity(self.plans, self.tasks)
        self.warned = {}

    async def everything(self):
        """Search everywhere at once; meanwhile fit with the first search's choice."""
        n, m = len(self.searches), len(self.searches) + len(self.refits)
        chosen = asyncio.get_running_loop().create_future()
        *searched, refits, curve = await _together(
            [
                *(self.search(number, chosen) for number in range(n)),
                self.after(chosen, fit_and_score, range(n, m)),
                self.after(chosen, curve_scores, range(m, len(self.tasks))),
            ]
        )
        return searched, [fold for fold, _ in refits], curve

    async def after(self, chosen, function, numbers):
        """Do jobs with the parameters that are chosen by then."""
        best = await chosen
        return await _together([self.do(function, number, best) for number in numbers])

    async def search(self, number, chosen):
        """Do what ``jobs.search`` does, in as many pieces as there are."""
        plan = self.plans[self.tasks[number].repeat]
        if plan.candidates == 1:
            best, cv_results = {}, {}
        elif plan.spec.search[0] == "halving":
            best, cv_results = await self.do(search_parameters, number)
        else:
            cv_results = await self.spread(plan, number)
            best = best_of(cv_results, plan.spec.refit)
        if number == 0:
            chosen.set_result(best)
        fold, model = await self.do(fit_and_score, number, best, priority=1)
        if fold is not None and cv_results:
            times = cv_results["mean_fit_time"] + cv_results["mean_score_time"]
            n_inner = len(inner_folds(plan, self.tasks[number]))
            fold = replace(fold, seconds=fold.seconds + n_inner * float(np.nansum(times)))
        return fold, model, best, cv_results

    async def spread(self, plan, number):
        """Score every candidate on every inner fold; return ``cv_results_``."""
        tried = candidates(plan)
        n_inner = len(inner_folds(plan, self.tasks[number]))
        rows = await _together(
            [
                self.score(number, candidate, inner, plan.spec.scoring)
                for candidate in range(len(tried))
                for inner in range(n_inner)
            ]
        )
        if all(np.isnan(row["fit_time"]) for row in rows):
            raise MemoryError("there was too little memory for each of the candidates.")
        return _join(tried, rows, n_inner)

    async def score(self, number, candidate, inner, scoring):
        """Score one candidate on one inner fold, NaN where memory is too little."""
        try:
            # candidates often share their first steps, which are fitted once a fold: first
            # one candidate on all folds, so that few workers wait for each other
            return await self.do(
                score_candidate, number, candidate, inner, priority=-candidate
            )
        except MemoryError as error:
            warnings.warn(
                f"There was too little memory for candidate {candidate} on inner fold "
                f"{inner}, which is scored NaN: {error}",
                stacklevel=2,
            )
            self.journal.add("fit")
            return dict.fromkeys([*scoring, "fit_time", "score_time"], np.nan)

    async def do(self, function, number, *arguments, priority=0):
        """Do a job on some worker, unless what came of it is kept."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        tasks = ("job", self.identity, function.__qualname__, number, arguments)
        done = self.kept(tasks)
        if done is None:
            from ferpipe.experiments.worker import do

            job = self.client.submit(
                do, self.name, function, number, *arguments, pure=False, priority=priority
            )
            try:
                done = await job
            except KilledWorker as error:
                raise MemoryError(
                    "the workers that tried it were killed, one after the other."
                ) from error
            except FutureCancelledError as error:
                kept = " The same command goes on from here." if self.store else ""
                raise ConnectionError(f"the dask scheduler was lost.{kept}") from error
            if self.store is not None:
                self.store.get_or_compute(tasks, lambda: done)
            for event, count in done.events.items():
                self.journal.add(event, count)
        else:
            self.journal.add("fit", done.events["fit"])
        for message, category, filename, line in done.warnings:
            warnings.warn_explicit(message, category, filename, line, registry=self.warned)
        return done.value

    def kept(self, tasks):
        """Return what came of a job in an earlier run, None if that is not known."""
        if self.store is None:
            return None
        try:
            return self.store.get_or_compute(tasks, _raise_not_kept)
        except _NotKeptError:
            return None


class _NotKeptError(Exception):
    pass


def _raise_not_kept():
    raise _NotKeptError


def _identity(plans, tasks):
    """Hash everything that what comes of a job depends on."""
    settings = [
        (spec.pipeline, spec.grid, spec.scoring, spec.refit, spec.search, spec.seed)
        for spec in (plan.spec for plan in plans)
    ]
    bunch, data = plans[0].bunch, plans[0].bunch.data
    return content_hash(
        package_versions(),
        settings,
        [plan.inner_cv for plan in plans],
        [vars(task) for task in tasks],
        np.asarray(data) if isinstance(data, np.ndarray) else data,
        np.asarray(bunch.target),
        plans[0].split.groups,
    )


async def _together(jobs):
    """Await all; the first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class _Known(BaseEstimator):
    """Stands in a search for a pipeline whose scores are known."""

    def set_params(self, **parameters):
        """Take any parameters."""
        return self

    def fit(self, X, y=None):
        """Do nothing."""
        return self


def _join(tried, rows, n_inner):
    """Make ``cv_results_`` of the rows of each candidate on each inner fold."""
    known = iter(rows)
    replayed = CandidateSearch(
        _Known(),
        tried,
        cv=[([0], [0])] * n_inner,
        # scikit-learn asks in the order of the rows: by candidate, then by fold
        scoring=lambda *_: {
            name: value for name, value in next(known).items() if not name.endswith("_time")
        },
        refit=False,
    )
    cv_results = replayed.fit(np.zeros((1, 1))).cv_results_
    for name in ("fit_time", "score_time"):
        times = np.reshape([row[name] for row in rows], (len(tried), n_inner))
        cv_results[f"mean_{name}"] = times.mean(axis=1)
        cv_results[f"std_{name}"] = times.std(axis=1)
    return cv_results
