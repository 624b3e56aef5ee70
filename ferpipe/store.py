"""One content-addressed store on disk: fitted steps, parsed data.

An entry is found by the hash of everything that it was computed from, the
package version included, and checked against the hash of its own bytes when it
is read. Entries of other versions are never found again and leave as the
oldest do.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

import joblib
from filelock import FileLock

import ferpipe

__all__ = ["StepMemory", "Store"]


class Store:
    """Values on disk, found by the content that they were computed from.

    Safe under several processes: an entry appears whole or not at all, and two
    processes that want the same one compute it once.

    Parameters
    ----------
    folder : str or path, default=None
        Where the entries lie; ``$FERPIPE_CACHE`` or ``~/.cache/ferpipe`` when None.
        It holds pickles, so it must be writable by nobody else.
    size_limit : int, default=4 * 1024**3
        Bytes kept; beyond it the entries unused for longest are removed.
    """

    def __init__(self, folder=None, *, size_limit=4 * 1024**3):
        if folder is None:
            folder = os.environ.get("FERPIPE_CACHE") or "~/.cache/ferpipe"
        self.folder = Path(folder).expanduser()
        self.size_limit = size_limit

    def get_or_compute(
        self,
        parts: tuple,
        compute: Callable[[], Any],
        *,
        on_access: Callable[[bool], None] | None = None,
    ) -> Any:
        """Return the value computed from ``parts``, computing it if it is not there.

        Parameters
        ----------
        parts : tuple
            Everything that the value depends on; hashed by content.
        compute : callable
            Called without arguments when there is no intact entry.
        on_access : callable, default=None
            Told whether the value was found (True) or computed (False).

        Returns
        -------
        value : object
        """
        key = joblib.hash((ferpipe.__version__, *parts))
        folder = self.folder / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{key}.lock")
        with lock:
            entry = _intact_entry(folder, key)
            if on_access is not None:
                on_access(entry is not None)
            if entry is not None:
                os.utime(entry)
                return joblib.load(entry)
            value = compute()
            _write(value, folder, key)
        Path(lock.lock_file).unlink(missing_ok=True)
        self._remove_oldest()
        return value

    def _remove_oldest(self) -> None:
        entries = []
        for path in self.folder.glob("*/*.joblib"):
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.size_limit
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def _intact_entry(folder, key):
    """Return the path of the entry, or None; a damaged one is removed."""
    for path in folder.glob(f"{key}-*.joblib"):
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        if path.stem == f"{key}-{digest}":
            return path
        path.unlink(missing_ok=True)
    return None


def _write(value, folder, key):
    descriptor, temporary = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(descriptor)
    try:
        joblib.dump(value, temporary)
        with open(temporary, "rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        os.replace(temporary, folder / f"{key}-{digest}.joblib")
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class StepMemory:
    """What ``Pipeline(memory=...)`` is given: fitted steps go to and come from a store.

    A step whose data and parameters are those of an earlier fit is not fitted
    again, whichever candidate, fold or run the earlier fit belonged to.

    Parameters
    ----------
    store : Store
        Where fitted steps are kept.
    journal : ferpipe.journal.Journal
        Gets a line ``step_reused`` or ``step_computed`` for each step.
    """

    def __init__(self, store, journal):
        self.store = store
        self.journal = journal

    def cache(self, function, ignore=()):
        """Return ``function`` with its results kept in the store.

        Parameters
        ----------
        function : callable
            Has everything that its result depends on among its arguments.
        ignore : sequence of str, default=()
            Names of keyword arguments that its result does not depend on.
        """
        return partial(self._call, function, tuple(ignore))

    def _call(self, function, ignore, *args, **kwargs):
        relevant = {name: value for name, value in kwargs.items() if name not in ignore}
        return self.store.get_or_compute(
            ("step", function.__qualname__, args, relevant),
            partial(function, *args, **kwargs),
            on_access=lambda found: self.journal.add(
                "step_reused" if found else "step_computed"
            ),
        )
