"""Count cores, limit threads, and make forked processes safe to compute in."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import joblib
from threadpoolctl import ThreadpoolController, threadpool_limits

__all__ = ["at_most", "guard_forks", "n_cores", "threads_for"]

# A second thread pays for batches of at least so many values: one face of 96 x 96 pixels
# and eight of 48 x 48 have fewer.
_LARGE = 1 << 15


def n_cores() -> int:
    """Count the cores that this process may use.

    Returns
    -------
    n_cores : int
        The smallest of the cores of the machine, those that the process is bound to
        (``sched_getaffinity``), the quota of its container (cgroup v1 and v2, rounded up)
        and the environment variable ``LOKY_MAX_CPU_COUNT``; at least 1.
    """
    return joblib.cpu_count()


def threads_for(n_processes: int = 1) -> int:
    """Count the threads for each of several parallel processes.

    Parameters
    ----------
    n_processes : int, default=1
        Number of processes.

    Returns
    -------
    n_threads : int
        Their share of :func:`n_cores`, and no more than the environment variable
        ``OMP_NUM_THREADS`` allows; at least 1.
    """
    share = max(1, n_cores() // n_processes)
    # of nested levels, such as "4,2", the first counts
    allowed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(share, int(allowed)) if allowed.isdecimal() and int(allowed) else share


@contextmanager
def at_most(n_threads: int | None = None, *, n_values: int = 0) -> Iterator[None]:
    """Limit the threads of OpenMP, and so of torch, inside a block.

    The limit holds for the calling thread only: other threads that compute at the same
    time keep theirs, so blocks may end in any order.

    Parameters
    ----------
    n_threads : int, default=None
        The limit. None means 1 for small batches, for which threads wait longer for each
        other than they compute, and :func:`n_cores` for others.
    n_values : int, default=0
        Number of values in the batch.
    """
    if n_threads is None:
        n_threads = 1 if n_values < _LARGE else n_cores()
    controller = _openmp("torch" in sys.modules)
    used = [library.num_threads or 1 for library in controller.lib_controllers]
    if max(used, default=1) <= n_threads:
        yield
        return
    with controller.limit(limits=n_threads):
        yield


@cache
def _openmp(with_torch: bool) -> ThreadpoolController:
    """Find the loaded OpenMP libraries, again after torch has loaded its own."""
    return ThreadpoolController().select(user_api="openmp")


@cache
def guard_forks() -> None:
    """Make processes that are forked from this one compute in one thread.

    A forked process has none of its parent's threads, but its OpenMP libraries expect
    them: the first parallel loop would wait for ever. With one thread there is no such
    loop. Every module that uses torch or a model calls this; only the first call acts.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_compute_in_one_thread)


def _compute_in_one_thread() -> None:
    threadpool_limits(1, user_api="openmp")
    if "torch" in sys.modules:
        # MKL has a number of its own where MKL_NUM_THREADS is set
        sys.modules["torch"].set_num_threads(1)
