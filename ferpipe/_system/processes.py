"""Jobs in several processes, and what happens when one of these is killed."""

import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor
from threading import Thread
from typing import Any

from joblib import Parallel, delayed

__all__ = ["end_with_parent", "in_processes"]

# seconds between two looks at whether the parent lives
_BETWEEN = 1.0
# parents that are watched in this process
_WATCHED: set[int] = set()


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent has ended, however that came.

    A killed parent cannot stop its children: they would go on with work that nobody
    waits for.

    Parameters
    ----------
    parent : int
        Number of the process that started this one.
    """
    if parent in _WATCHED:
        return
    _WATCHED.add(parent)

    def watch() -> None:
        # another process becomes the parent of one that lost its own
        while os.getppid() == parent:
            time.sleep(_BETWEEN)
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _call(
    parent: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    settings: dict[str, Any],
) -> Any:
    if os.getpid() != parent:
        end_with_parent(parent)
    return function(*arguments, **settings)


def in_processes(jobs: Iterable, *, n_jobs: int) -> list[Any]:
    """Do jobs, so many at a time, and once more if a process is killed.

    Parameters
    ----------
    jobs : iterable
        Calls, each made by ``joblib.delayed``. What a job has kept in a store it finds
        again if it is done once more.
    n_jobs : int
        Processes; the jobs are done in this one if it is 1.

    Returns
    -------
    results : list
        In the order of the jobs.

    Raises
    ------
    ChildProcessError
        If a process is killed again.

    Warns
    -----
    UserWarning
        If a process is killed, from outside or because memory ran out.

    Notes
    -----
    Processes end by themselves when this one is killed.
    """
    jobs = [delayed(_call)(os.getpid(), *job) for job in jobs]
    try:
        return Parallel(n_jobs=n_jobs)(jobs)
    except BrokenExecutor:
        warnings.warn(
            "A process was killed, perhaps because memory ran out. The fits that were "
            "under way are lost; new processes go on from those that are finished.",
            stacklevel=2,
        )
    try:
        return Parallel(n_jobs=n_jobs)(jobs)
    except BrokenExecutor as error:
        raise ChildProcessError(
            "Processes were killed twice, perhaps because memory ran out. Finished fits "
            "are in the store, unless it is turned off: the same command goes on from "
            f"there. Fewer processes take less memory; there were {n_jobs}."
        ) from error
