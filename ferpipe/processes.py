"""Jobs in several processes, and what happens when one of these is killed."""

import warnings
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from typing import Any

from joblib import Parallel

__all__ = ["in_processes"]


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
    """
    jobs = list(jobs)
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
