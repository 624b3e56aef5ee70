"""A dask worker: the data of a run that it holds, and how it does one job."""

import mmap
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, Literal

import numpy as np
from dask.distributed import WorkerPlugin, get_worker
from sklearn.utils import Bunch

from ferpipe._system.memory import keep_freed_memory
from ferpipe._system.processes import end_with_parent
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store
from ferpipe.caching.transformer import StepMemory
from ferpipe.experiments.plan import Plan
from ferpipe.experiments.tasks import EVENTS, RunContext, make_tasks
from ferpipe.io.models import package_versions

__all__ = ["TaskResult", "IgnoreInterrupts", "MappedData", "RunPlugin", "do"]


@dataclass(frozen=True)
class MappedData:
    """The description of a memory-mapped array, to map it in another process.

    Attributes
    ----------
    path : str
        The file.
    state : tuple of int
        Device, inode, size and times of the file: they identify it on one machine.
    digest : str
        Hash of its content.
    dtype : dtype
        Of the array.
    shape : tuple of int
        Of the array.
    offset : int
        Position of the array in the file, in bytes.
    order : {"C", "F"}
        Memory order of the array.
    """

    path: str
    state: tuple[int, ...]
    digest: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"]

    @classmethod
    def of(cls, data: Any) -> "MappedData | None":
        """Describe a whole memory-mapped array; return None for anything else."""
        if not (isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)):
            return None
        order: Literal["C", "F"] = "C" if data.flags.c_contiguous else "F"
        path = str(data.filename)
        return cls(
            path,
            _state(path),
            _digest(path),
            data.dtype,
            data.shape,
            data.offset,
            order,
        )

    def open(self) -> np.memmap:
        """Map the file here; raise FileNotFoundError if it is not the same file."""
        # a copy on another machine is read once as a whole, to compare it
        same = Path(self.path).is_file() and (
            _state(self.path) == self.state or _digest(self.path) == self.digest
        )
        if not same:
            raise FileNotFoundError(
                f"the images are mapped from {self.path}, which is missing or another file "
                "there: put it at the same place on all machines (on a shared disk, or "
                "as a copy), or load without lazy=True"
            )
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def _state(path: str) -> tuple[int, ...]:
    found = os.stat(path)
    return (
        *(found.st_dev, found.st_ino, found.st_size),
        *(found.st_mtime_ns, found.st_ctime_ns),
    )


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


class RunPlugin(WorkerPlugin):
    """The data of a run that every worker gets once, also one that joins later.

    Parameters
    ----------
    plan : Plan
        The plan; its data may be a MappedData.
    name : str
        Name of the run.
    store : Store or None
        Keeps fitted steps and features of samples; None uses a store of the worker's
        machine.
    keep : bool
        Whether the worker's store outlives the run.
    """

    def __init__(self, plan: Plan, name: str, store: Store | None, keep: bool) -> None:
        # only what the jobs use
        bunch = Bunch(data=MappedData.of(plan.bunch.data) or plan.bunch.data)
        bunch.target = plan.bunch.target
        repeats = tuple(replace(one, bunch=bunch) for one in plan.repeats)
        self.plan = replace(plan, bunch=bunch, repeats=repeats)
        self.name = name
        self.store = store
        self.keep = keep
        self.versions = package_versions()

    def setup(self, worker: Any) -> None:
        """Check that this worker can do the jobs, and prepare them."""
        place = f"dask worker {worker.address}"
        if worker.state.nthreads != 1:
            raise ValueError(
                f"{place} has {worker.state.nthreads} threads, but each fit needs its own "
                "process: start it with --nthreads 1 (and --nworkers for more processes)."
            )
        here = package_versions()
        other = {
            name: f"{name} {here.get(name, 'missing')} instead of {version}"
            for name, version in self.versions.items()
            if here.get(name) != version
        }
        if other:
            raise ValueError(
                f"{place} has {', '.join(other.values())}: install the same versions on "
                "all machines."
            )
        plan = self.plan
        if isinstance(plan.bunch.data, MappedData):
            try:
                plan.bunch.data = plan.bunch.data.open()
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{place}: {error}.") from None
        keep_freed_memory()
        self.folder = Path(worker.local_directory) / self.name
        self.folder.mkdir()
        self.journal = Journal(self.folder / "journal")
        store = self.store or Store(None if self.keep else self.folder / "store")
        memory = StepMemory(store, self.journal)
        self.tasks = [task for tasks in make_tasks(plan) for task in tasks]
        self.contexts = [
            RunContext(one, self.journal, memory, threads=1)
            for one in (plan, *plan.repeats)
        ]

    def teardown(self, worker: Any) -> None:
        """Remove the files of the run."""
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def do(
        self, function: Callable[..., Any], number: int, arguments: tuple[Any, ...]
    ) -> "TaskResult":
        """Do one job; a worker has one thread and does one job at a time."""
        self.journal.path.write_text("")
        task = self.tasks[number]
        with warnings.catch_warnings(record=True) as caught:
            value = function(self.contexts[task.repeat], task, *arguments)
        return TaskResult(
            value,
            {event: self.journal.count(event) for event in EVENTS},
            [(str(w.message), w.category, w.filename, w.lineno) for w in caught],
        )


class IgnoreInterrupts(WorkerPlugin):
    """Leave Ctrl-C, which all processes of a terminal get, to the main process.

    Parameters
    ----------
    parent : int
        Id of the main process; the worker ends with it.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def setup(self, worker: Any) -> None:
        """Ignore the signal in this process, and end with the main process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(self.parent)


@dataclass(frozen=True)
class TaskResult:
    """The result of a job.

    Attributes
    ----------
    value : object
        Return value of the function.
    events : dict of str to int
        What the journal counted during the job.
    warnings : list of (str, type, str, int)
        Message, category, file and line of each warning.
    """

    value: object
    events: dict[str, int]
    warnings: list[tuple[str, type, str, int]]


def do(run: str, function: Callable[..., Any], number: int, *arguments: Any) -> TaskResult:
    """Do a job on the current worker.

    Parameters
    ----------
    run : str
        Name of the run.
    function : callable
        A function of ``ferpipe.experiments.tasks`` that takes a RunContext, a Task and
        ``arguments``.
    number : int
        Position of the task among all tasks of ``make_tasks``.
    *arguments : object
        Further arguments of the function.

    Returns
    -------
    result : TaskResult
    """
    plugin: Any = get_worker().plugins[run]
    return plugin.do(function, number, arguments)
