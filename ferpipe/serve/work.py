"""The thread that works, and the queue before it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ferpipe.serve.limits import Refused

__all__ = ["Worker"]


@dataclass(eq=False)
class _Job:
    """What is to be done, for whom, and how much it is."""

    work: Callable[[], Any]
    client: str
    size: int
    number: int
    answer: asyncio.Future[Any] = field(default_factory=asyncio.Future)


class Worker:
    """Do one thing at a time, beside the event loop, and let few wait for it.

    Parameters
    ----------
    name : str
        Of the thread.
    places : int
        How many may be worked on or wait.
    room : int
        How large those that wait may be together.

    Notes
    -----
    One thread is enough: the networks use all cores by themselves, and a stream must not
    meet two of its frames at once.

    The client with the fewest that wait is served first, of those the smallest, of those
    the first. If there is no room, the client with the most that wait gives way, with its
    largest: many images of one client, or large ones, do not keep out the others.
    """

    def __init__(self, name: str, *, places: int, room: int) -> None:
        self._places = places
        self._room = room
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[_Job] = []
        self._work: asyncio.Future[Any] | None = None
        self._n_jobs = 0

    async def run(
        self, function: Callable[..., Any], *arguments: Any, client: str = "", size: int = 0
    ) -> Any:
        """Call a function in the thread, when its turn comes.

        Parameters
        ----------
        function : callable
        *arguments
            Of the function.
        client : str, default=""
            Who wants it.
        size : int, default=0
            How much work it is, on the scale of ``room``.

        Raises
        ------
        Refused
            With 429 if too many wait already.

        Notes
        -----
        Who does not wait any longer is left out, unless it has begun already.
        """
        self._n_jobs += 1
        job = _Job(partial(function, *arguments), client, size, self._n_jobs)
        self._waiting.append(job)
        while self._is_full():
            self._give_way()
        self._start_next()
        try:
            return await job.answer
        finally:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """Begin nothing more; who waits is refused, with 503."""
        for job in self._waiting:
            job.answer.set_exception(Refused(503, "The server stops."))
        self._waiting.clear()
        if self._work is not None:
            self._work.cancel()  # who ends later than the event loop must not call it
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _is_full(self) -> bool:
        n_jobs = len(self._waiting) + (self._work is not None)
        return n_jobs > self._places or sum(job.size for job in self._waiting) > self._room

    def _give_way(self) -> None:
        counts = Counter(job.client for job in self._waiting)
        last = max(
            self._waiting, key=lambda job: (counts[job.client], job.size, job.number)
        )
        self._waiting.remove(last)
        last.answer.set_exception(
            Refused(
                429,
                f"{len(self._waiting) + 1} images are waiting already: try again in a "
                "second, or send fewer at a time, or smaller ones.",
            )
        )

    def _start_next(self) -> None:
        if self._work is not None or not self._waiting:
            return
        counts = Counter(job.client for job in self._waiting)
        job = min(self._waiting, key=lambda job: (counts[job.client], job.size, job.number))
        self._waiting.remove(job)
        loop = asyncio.get_running_loop()
        self._work = loop.run_in_executor(self._thread, job.work)
        self._work.add_done_callback(partial(self._finish, job))

    def _finish(self, job: _Job, work: asyncio.Future[Any]) -> None:
        self._work = None
        error = None if work.cancelled() else work.exception()
        if job.answer.done():
            pass  # nobody waits for it any more
        elif work.cancelled():
            job.answer.set_exception(Refused(503, "The server stops."))
        elif error is not None:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(work.result())
        self._start_next()
