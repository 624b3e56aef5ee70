"""An experiment on the workers of a dask cluster.

joblib's dask backend (``GridSearchCV`` inside ``parallel_config("dask")``) does the fits of
one search in parallel as well. The code here adds what it lacks:

- Each job's result is stored, so that an interrupted run continues where it stopped.
- The searches of all outer folds share the workers: none waits for the slowest fold of
  another search.
- A worker that dies costs one job, and a candidate that needs too much memory gets NaN.
- Workers with other versions, several threads or other data are refused.
"""

import asyncio
import logging
import os
import re
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import uuid4

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from ferpipe._compat import CandidateSearch
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store, content_hash
from ferpipe.experiments.plan import Plan
from ferpipe.experiments.results import Fold
from ferpipe.experiments.tasks import (
    SearchResult,
    Task,
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

if TYPE_CHECKING:  # dask is an optional dependency
    from distributed import Client

    from ferpipe.experiments.worker import TaskResult

__all__ = ["check_address", "run_on_cluster"]

_T = TypeVar("_T")

# entries of a row of scores that are seconds
_TIMES = ("fit_time", "score_time")
# seconds in which a scheduler, and then one of its workers, must answer
_PATIENCE = 5
# bytes from which processes of this machine map an array from one file
_LARGE = 2**20


def check_address(address: str) -> None:
    """Check the address of a cluster.

    Parameters
    ----------
    address : str
        "local:4" for four processes of this machine, or "tls://host:port" (or "tcp://…",
        unprotected) of a running scheduler.

    Raises
    ------
    ValueError
        If the address is malformed.
    """
    known = r"local:[1-9]\d{0,3}|(tls|tcp)://([^\s/:]+|\[[^\s/]+\]):\d+"
    if not re.fullmatch(known, str(address)):
        raise ValueError(
            "expected local:N with a number of processes, or tls://HOST:PORT of a dask "
            f"scheduler (tcp://HOST:PORT of an unprotected one), got {address!r}"
        )


def run_on_cluster(
    plan: Plan, address: str, *, store: Store | None, journal: Journal, folder: Path
) -> tuple[list[SearchResult], list[Fold], list[Any]]:
    """Do all tasks of a plan on the workers of a cluster.

    Each candidate on each inner fold is a job of its own, and so is each fit with the
    chosen parameters. A halving search is one job, for its rounds wait for each other. If a
    worker dies, another one does its job again.

    Parameters
    ----------
    plan : Plan
        The plan. Each worker gets it once, with the data.
    address : str
        As for :func:`check_address`.
    store : Store or None
        Keeps the result of each job, so that another run continues there. Processes of this
        machine keep fitted steps and features of samples in it, too; the workers of a
        scheduler use the store of their own machine.
    journal : Journal
        Counts the events of all workers.
    folder : path
        Folder for files of this run.

    Returns
    -------
    searched : list of (fold, model, best, cv_results)
        As :func:`ferpipe.experiments.tasks.search` returns it, for each search of the plan.
    folds : list of Fold
        Folds of the other splits.
    curve : list of list
        As :func:`ferpipe.experiments.tasks.curve_scores` returns it.

    Raises
    ------
    ModuleNotFoundError
        If dask or cryptography is not installed, here or on a worker.
    ConnectionError
        If no scheduler answers, the connection is lost, there are no workers, or the
        certificates are not those of the scheduler.
    ValueError, FileNotFoundError
        If the address is malformed, or a worker has several threads, other versions of
        packages or not the file that the data is mapped from.
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
        with _plan_on_workers(client, plan, name, shared, keep=store is not None):
            return client.sync(_Run(client, name, plan, store, journal).run_all)


@contextmanager
def _connect(address: str, folder: Path) -> "Iterator[Client]":
    """Open the client of a cluster; local processes end with the context."""
    import dask
    from distributed import Client, LocalCluster, Security
    from distributed.utils import silence_logging_cmgr

    from ferpipe.experiments.worker import IgnoreInterrupts

    kind, _, rest = address.partition(":")
    if kind == "local":
        # jobs that wait in a process that another job kills would count as failed, too
        alone = {"distributed.scheduler.worker-saturation": 1.0}
        with (
            dask.config.set(alone),
            LocalCluster(
                # all users of a machine can connect to a port, and a message may hold code:
                # only these processes have the certificates
                security=Security.temporary(),
                host="127.0.0.1",
                n_workers=int(rest),
                threads_per_worker=1,
                memory_limit=0,  # no limit, as for other processes
                # no dashboard, and any free port: another run may have the usual one
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                local_directory=str(folder),
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            client.register_plugin(IgnoreInterrupts(os.getpid()))
            yield client
        return
    # the errors below report a lost connection
    with silence_logging_cmgr(logging.CRITICAL), _open_client(address) as client:
        yield client


@contextmanager
def _open_client(address: str) -> "Iterator[Client]":
    """Open the client of a running scheduler that has workers."""
    from distributed import Client, Security

    if address.startswith("tcp:"):
        warnings.warn(
            f"{address} is not protected: whoever reaches this port can run code as you, "
            "here and on every worker. Start the scheduler with certificates and use "
            "tls:// (docs/scaling.md).",
            stacklevel=2,
        )
    security = Security()  # as dask's own settings name the certificates
    certified = security.get_connection_args("client").get("ssl_context") is not None
    if address.startswith("tls:") and not certified:
        raise ConnectionError(
            f"{address} needs certificates, and none is set: set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY "
            "(docs/scaling.md)."
        )
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False, security=security)
    except OSError as error:
        raise ConnectionError(
            f"no dask scheduler answers at {address} within {_PATIENCE} seconds: start one "
            "with `dask scheduler`, or check host, port and certificates."
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
def _plan_on_workers(
    client: "Client", plan: Plan, name: str, store: Store | None, keep: bool
) -> Iterator[None]:
    """Give the plan to all workers, also to later ones, until the context ends."""
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
            with suppress(KeyError):  # a worker that has just come back
                client.unregister_worker_plugin(name)


def _in_a_file(plan: Plan, folder: Path) -> Plan:
    """Write a large array to a file that all processes map, as joblib does."""
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

    def __init__(
        self,
        client: "Client",
        name: str,
        plan: Plan,
        store: Store | None,
        journal: Journal,
    ) -> None:
        self.client, self.name, self.store, self.journal = client, name, store, journal
        self.plans = (plan, *plan.repeats)
        self.searches, self.refits, self.curve = make_tasks(plan)
        self.tasks = [*self.searches, *self.refits, *self.curve]
        self.identity = None if store is None else _identity(self.plans, self.tasks)
        self.warned: dict[Any, Any] = {}

    async def run_all(self) -> tuple[list[SearchResult], list[Fold], list[Any]]:
        """Run all searches at once, and the other fits once the first search is done."""
        n, m = len(self.searches), len(self.searches) + len(self.refits)
        chosen: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        results: list[Any] = await _gather(
            [
                *(self.search(number, chosen) for number in range(n)),
                self.after(chosen, fit_and_score, range(n, m)),
                self.after(chosen, curve_scores, range(m, len(self.tasks))),
            ]
        )
        *searched, refits, curve = results
        return searched, [fold for fold, _ in refits], curve

    async def after(
        self,
        chosen: "asyncio.Future[dict[str, Any]]",
        function: Callable[..., Any],
        numbers: Iterable[int],
    ) -> list[Any]:
        """Do jobs once the parameters are chosen, with these parameters."""
        best = await chosen
        return await _gather([self.do(function, number, best) for number in numbers])

    async def search(
        self, number: int, chosen: "asyncio.Future[dict[str, Any]]"
    ) -> SearchResult:
        """Do what ``tasks.search`` does, with one job per candidate and inner fold."""
        best: dict[str, Any]
        cv_results: dict[str, Any]
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

    async def spread(self, plan: Plan, number: int) -> dict[str, Any]:
        """Score every candidate on every inner fold; return ``cv_results_``."""
        tried = candidates(plan)
        n_inner = len(inner_folds(plan, self.tasks[number]))
        rows = await _gather(
            [
                self.score(number, candidate, inner, plan.spec.scoring)
                for candidate in range(len(tried))
                for inner in range(n_inner)
            ]
        )
        if all(np.isnan(row["fit_time"]) for row in rows):
            raise MemoryError("there was too little memory for every candidate.")
        return _join(tried, rows, n_inner)

    async def score(
        self, number: int, candidate: int, inner: int, scoring: Sequence[str]
    ) -> dict[str, float]:
        """Score one candidate on one inner fold, with NaN if it needs too much memory."""
        try:
            # candidates often share their first steps, which are fitted once per fold: one
            # candidate runs on all folds first, so that few workers wait for each other
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
            return dict.fromkeys([*scoring, *_TIMES], np.nan)

    async def do(
        self,
        function: Callable[..., Any],
        number: int,
        *arguments: Any,
        priority: int = 0,
    ) -> Any:
        """Do a job on some worker, unless its result is in the store."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        key = ("job", self.identity, function.__qualname__, number, arguments)
        done = self.kept(key)
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
                self.store.get_or_compute(key, lambda: done)
            for event, count in done.events.items():
                self.journal.add(event, count)
        else:
            self.journal.add("fit", done.events["fit"])
        for message, category, filename, line in done.warnings:
            warnings.warn_explicit(message, category, filename, line, registry=self.warned)
        return done.value

    def kept(self, key: tuple[Any, ...]) -> "TaskResult | None":
        """Return the result of a job from an earlier run; None without one."""
        if self.store is None:
            return None
        try:
            return self.store.get_or_compute(key, _raise_not_kept)
        except _NotKeptError:
            return None


class _NotKeptError(Exception):
    pass


def _raise_not_kept() -> NoReturn:
    raise _NotKeptError


def _identity(plans: Sequence[Plan], tasks: Sequence[Task]) -> str:
    """Hash everything that the result of a job depends on."""
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


async def _gather(jobs: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Await all jobs; the first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


class _Known(BaseEstimator):
    """Takes the place of a pipeline in a search whose scores are known already."""

    def set_params(self, **parameters: Any) -> "_Known":
        """Accept any parameters."""
        return self

    def fit(self, X: Any, y: Any = None) -> "_Known":
        """Do nothing."""
        return self


def _join(
    tried: list[dict], rows: Sequence[dict[str, float]], n_inner: int
) -> dict[str, Any]:
    """Make ``cv_results_`` from the scores of each candidate on each inner fold."""
    known = iter(rows)
    replayed = CandidateSearch(
        _Known(),
        tried,
        cv=[([0], [0])] * n_inner,
        # scikit-learn calls it in the order of the rows: by candidate, then by fold
        scoring=lambda *_: {
            name: value for name, value in next(known).items() if name not in _TIMES
        },
        refit=False,
    )
    cv_results = replayed.fit(np.zeros((1, 1))).cv_results_
    for name in _TIMES:
        times = np.reshape([row[name] for row in rows], (len(tried), n_inner))
        cv_results[f"mean_{name}"] = times.mean(axis=1)
        cv_results[f"std_{name}"] = times.std(axis=1)
    return cv_results
