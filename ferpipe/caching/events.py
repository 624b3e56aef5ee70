"""A journal file to which the processes of a run append the events that they count."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from threading import Event, Thread

from tqdm import tqdm

__all__ = ["Journal"]


class Journal:
    """Counts events over all processes of a run.

    Parameters
    ----------
    path : str or path
        File to which the processes append; it is created if it is missing.
    """

    def __init__(self, path: PathLike[str] | str) -> None:
        self.path = Path(path)
        self.path.touch()

    def add(self, event: str, number: int = 1) -> None:
        """Append an event and how often it occurred.

        On a local disk, a short append is written whole or not at all.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, f"{event} {number}\n".encode())
        finally:
            os.close(descriptor)

    def count(self, event: str) -> int:
        """Return how often the event has occurred."""
        *lines, _ = self.path.read_text().split("\n")
        events = (line.split() for line in lines)
        return sum(int(number) for name, number in events if name == event)

    @contextmanager
    def progress(self, event: str, total: int, description: str) -> Iterator[None]:
        """Show one progress bar over an event until the context ends.

        Parameters
        ----------
        event : str
            The event that moves the bar.
        total : int
            Expected number of events.
        description : str
            Text before the bar.
        """
        done = Event()
        with tqdm(total=total, desc=description, unit="fit", disable=None) as bar:

            def follow() -> None:
                while not done.wait(0.25):
                    bar.update(min(self.count(event), total) - bar.n)
                bar.update(min(self.count(event), total) - bar.n)

            follower = Thread(target=follow, daemon=True)
            follower.start()
            try:
                yield
            finally:
                done.set()
                follower.join()
