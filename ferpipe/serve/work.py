"""The thread that recognises, and the queue before it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Any

from ferpipe.serve.limits import Limits, Refused

__all__ = ["Worker"]


class Worker:
    """Do one thing at a time, beside the event loop, and let few wait for it.

    Parameters
    ----------
    limits : Limits
        How many may wait, and how long.

    Notes
    -----
    One thread is enough: the networks use all cores by themselves, and a stream must not
    see two of its frames at once.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self._places = Semaphore(limits.waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recognise")

    async def run(self, function: Callable, *arguments) -> Any:
        """Call a function in the thread, when its turn comes.

        Raises
        ------
        Refused
            With 429 if too many wait already, with 503 if it takes too long: what has not
            begun by then is not begun any more.
        """
        if not self._places.acquire(blocking=False):
            raise Refused(
                429,
                f"{self._limits.waiting} images are waiting already: try again in a "
                "second, or send fewer at a time.",
            )
        future = self._thread.submit(function, *arguments)
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self._limits.seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Refused(
                503,
                f"No answer was found in {self._limits.seconds:g} s: try again later, or "
                "send a smaller image.",
            ) from error

    def close(self) -> None:
        """Begin nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)
