"""What a dask worker keeps of a run, and how it does one job."""

import mmap
import os
import shutil
import signal
import warnings
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

import numpy as np
from dask.distributed import WorkerPlugin, get_worker
from sklearn.utils import Bunch

from ferpipe._system.memory import keep_freed_memory
from ferpipe._system.processes import end_with_parent
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store
from ferpipe.caching.transformer import StepMemory
from ferpipe.experiments.tasks import EVENTS, RunContext, make_tasks
from ferpipe.io.models import package_versions

__all__ = ["TaskResult", "IgnoreInterrupts", "MappedData", "RunPlugin", "do"]


@dataclass(frozen=True)
class MappedData:
    """An array that is mapped from a file, as it goes to another process.

    Attributes
    ----------
    path : str
        The file.
    state : tuple of int
        By which the same file is known on the same machine: disk, place, size and times.
    digest : str
        Its content, hashed.
    dtype : dtype
        Of the array.
    shape : tuple of int
        Of the array.
    offset : int
        Where the array begins, in bytes.
    order : {"C", "F"}
        Which index changes fastest.
    """

    path: str
    state: tuple[int, ...]
    digest: str
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    order: str

    @classmethod
    def of(cls, data):
        """Describe a whole mapped array; return None of anything else."""
        if not (isinstance(data, np.memmap) and isinstance(data.base, mmap.mmap)):
            return None
        order = "C" if data.flags.c_contiguous else "F"
        path = str(data.filename)
        known = _state(path), _digest(path)
        return cls(path, *known, data.dtype, data.shape, data.offset, order)

    def open(self):
        """Map the file here; raises FileNotFoundError if it is not the same file."""
        # a copy on another machine is read once from beginning to end
        same = Path(self.path).is_file() and (
            _state(self.path) == self.state or _digest(self.path) == self.digest
        )
        if not same:
            raise FileNotFoundError(
                f"the images are mapped from {self.path}, which is missing or another file "
                "there: have it at the same place on all machines (a disk that they share, "
                "or a copy), or load without lazy=True"
            )
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)


def _state(path):
    found = os.stat(path)
    return (
        *(found.st_dev, found.st_ino, found.st_size),
        *(found.st_mtime_ns, found.st_ctime_ns),
    )


def _digest(path):
    with open(path, "rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=16)).hexdigest()


class RunPlugin(WorkerPlugin):
    """What every worker is given once, also one that joins or comes back later.

    Parameters
    ----------
    plan : Plan
        The plan; its data may be a MappedData.
    name : str
        Name of the run.
    store : Store or None
        Where fitted steps and samples' features are kept; None takes a place of the
        worker's own.
    keep : bool
        Whether that place outlives the run.
    """

    def __init__(self, plan, name, store, keep):
        # no more than what the jobs look at
        bunch = Bunch(data=MappedData.of(plan.bunch.data) or plan.bunch.data)
        bunch.target = plan.bunch.target
        repeats = tuple(replace(one, bunch=bunch) for one in plan.repeats)
        self.plan = replace(plan, bunch=bunch, repeats=repeats)
        self.name = name
        self.store = store
        self.keep = keep
        self.versions = package_versions()

    def setup(self, worker):
        """Check that jobs can be done here, and prepare them."""
        place = f"dask worker {worker.address}"
        if worker.state.nthreads != 1:
            raise ValueError(
                f"{place} has {worker.state.nthreads} threads, but fits need a process "
                "each: start it with --nthreads 1 (and --nworkers for more processes)."
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

    def teardown(self, worker):
        """Leave nothing of the run behind."""
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def do(self, function, number, arguments):
        """Do one job; a worker has one thread and does one at a time."""
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
    """Leave Ctrl-C, which goes to all processes of a terminal, to the one that began.

    Parameters
    ----------
    parent : int
        Number of that process; the worker ends when it is killed.
    """

    def __init__(self, parent):
        self.parent = parent

    def setup(self, worker):
        """Ignore the signal in this process, and watch the one that began."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(self.parent)


@dataclass(frozen=True)
class TaskResult:
    """What came of a job.

    Attributes
    ----------
    value : object
        What the function returned.
    events : dict of str to int
        What the journal counted meanwhile.
    warnings : list of (str, type, str, int)
        Message, category, file and line of each warning.
    """

    value: object
    events: dict[str, int]
    warnings: list[tuple[str, type, str, int]]


def do(run: str, function, number: int, *arguments) -> TaskResult:
    """Do a job on the worker that this is called on.

    Parameters
    ----------
    run : str
        Name of the run.
    function : callable
        A function of ``ferpipe.experiments.tasks`` that takes a RunContext and a Task
        first.
    number : int
        Place of the part among all that ``make_tasks`` gives.
    *arguments : object
        What else the function takes.

    Returns
    -------
    done : TaskResult
    """
    plugin: Any = get_worker().plugins[run]
    return plugin.do(function, number, arguments)
