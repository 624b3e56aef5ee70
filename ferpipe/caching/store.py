"""A content-addressed store on disk: fitted steps, and the features of samples.

The key of an entry is the hash of everything that it was computed from, including the
package's files and the versions of the libraries that compute. When an entry is read, it is
checked against the hash of its bytes: a damaged one is computed again, with a warning.
Entries of other versions are never found again and are removed as the oldest. A folder to
which others may write is refused, because entries are pickles.
"""

import json
import os
import sqlite3
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import cache
from hashlib import blake2b, file_digest
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

import ferpipe

__all__ = [
    "RowStore",
    "Store",
    "cache_folder",
    "content_hash",
    "own_folder",
    "warn_of_damage",
    "warn_of_lost",
]

# rows per query; use is recorded once an hour, so that reading rarely writes
_ASKED = 500
_HOUR = 3600
_DAY = 24 * _HOUR
# libraries whose other versions may compute other numbers, or fail to read an entry
_COMPUTING = (
    "dlib-bin",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "torch",
)
# folders for which a warning has been shown that nothing can be kept there
_SAID: set[Path] = set()


def content_hash(*parts: Any) -> str:
    """Hash values by content, with the package's files and the versions of libraries.

    Parameters
    ----------
    *parts : object
        Anything that can be pickled.

    Returns
    -------
    key : str
        32 hexadecimal digits.
    """
    return joblib.hash(
        (ferpipe.__version__, _package_digest(), _library_versions(), *parts)
    )


def cache_folder(folder: PathLike[str] | str | None = None) -> Path:
    """Return a folder; for None, ``$FERPIPE_CACHE`` or ``~/.cache/ferpipe``."""
    if folder is None:
        folder = os.environ.get("FERPIPE_CACHE") or "~/.cache/ferpipe"
    return Path(folder).expanduser()


def own_folder(folder: PathLike[str] | str) -> Path:
    """Make a folder to which nobody else may write; refuse one to which others may.

    Parameters
    ----------
    folder : str or path
        The folder; links are followed.

    Returns
    -------
    folder : Path

    Raises
    ------
    ValueError
        If the folder belongs to somebody else, or its group or others may write to it:
        the code in their files would run.
    OSError
        If it cannot be made.
    """
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = _who_else(folder.stat())
    if others is not None:
        raise ValueError(
            f"{folder}: this folder {others}, who could put files there whose code runs: "
            f"take the right away (chmod go-w {folder}), or name another folder in "
            "FERPIPE_CACHE."
        )
    return folder


def _who_else(status: os.stat_result) -> str | None:
    """Return who else may write to a file or folder; None if nobody."""
    if not hasattr(os, "geteuid"):
        return None
    # root may write everywhere
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to another user (number {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "may be written to by other users"
    return None


@cache
def _package_digest() -> str:
    """Hash the package's code and weights: they change more often than the version."""
    folder = Path(ferpipe.__file__).parent
    digest = blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _library_versions() -> dict[str, str]:
    found = {}
    for name in _COMPUTING:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Store:
    """Values on disk, with the content that they were computed from as their key.

    Several processes may use it: an entry appears whole or not at all, and two
    processes that need the same entry compute it once. A read-only folder is still read.

    Parameters
    ----------
    folder : str or path, default=None
        Folder of the entries; None means ``$FERPIPE_CACHE`` or ``~/.cache/ferpipe``.
        It holds pickles, so a folder to which others may write is refused.
    size_limit : int, default=4 * 1024**3
        Largest size in bytes; beyond it, the entries unused for longest are removed.
    """

    def __init__(
        self, folder: PathLike[str] | str | None = None, *, size_limit: int = 4 * 1024**3
    ) -> None:
        self.folder = cache_folder(folder)
        self.size_limit = size_limit
        _SAID.discard(self.folder)

    def get_or_compute(
        self,
        parts: tuple,
        compute: Callable[[], Any],
        *,
        on_access: Callable[[bool], None] | None = None,
    ) -> Any:
        """Return the value computed from ``parts``; compute it if it is not stored.

        Parameters
        ----------
        parts : tuple
            Everything on which the value depends; hashed by content.
        compute : callable
            Called without arguments if there is no intact entry.
        on_access : callable, default=None
            Called with True if the value was found and False if it is computed.

        Returns
        -------
        value : object

        Raises
        ------
        ValueError
            If others may write to the folder.

        Warns
        -----
        UserWarning
            If an entry is damaged. If there is no room for the value or the folder is
            read-only: it is computed again the next time. A process warns once per folder,
            until it can keep something there or another Store is made.
        """
        key = content_hash(*parts)
        folder = self.folder / key[:2]
        lock = FileLock(folder / f"{key}.lock")
        with ExitStack() as held:
            with suppress(OSError):  # a folder that cannot be locked may still be read
                own_folder(self.folder)
                own_folder(folder)
                held.enter_context(lock)
            found = _read_entry(folder, key)
            if on_access is not None:
                on_access(bool(found))
            if found:
                return found[0]
            value = compute()
            try:
                own_folder(folder)  # it may have been removed
                _write(value, folder, key)
            except OSError as error:
                warn_of_lost(self.folder, error)
            else:
                _SAID.discard(self.folder)
        with suppress(OSError):
            Path(lock.lock_file).unlink(missing_ok=True)
            self._remove_oldest()
        return value

    def _remove_oldest(self) -> None:
        for part in _paths(self.folder, "*/*.part"):  # of processes that were killed
            with suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - _DAY:
                    part.unlink()
        entries = []
        for path in _paths(self.folder, "*/*.joblib"):
            with suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_mtime, status.st_size, path))
        excess = sum(size for _, size, _ in entries) - self.size_limit
        for _, size, path in sorted(entries):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size


def warn_of_lost(folder: Path, error: Exception) -> None:
    """Warn that a store cannot keep something, once per folder."""
    if folder in _SAID:
        return
    _SAID.add(folder)
    warnings.warn(
        f"{folder}: nothing can be kept here ({error}); the run goes on, and the next run "
        "computes this again. Make room, or name another folder in FERPIPE_CACHE.",
        stacklevel=3,
    )


def warn_of_damage(what: Path, n: int = 1) -> None:
    """Warn that an entry of a store is damaged and is computed again."""
    some = "" if n == 1 else f"{n} entries of it are damaged: "
    warnings.warn(
        f"{what}: {some or 'this is damaged: '}its content is not what was written. It is "
        "computed anew; if this happens again, the disk may be failing.",
        stacklevel=3,
    )


def _read_entry(folder: Path, key: str) -> list[Any]:
    """Return [value], or [] if there is no intact entry; a damaged one is removed."""
    for path in _paths(folder, f"{key}-*.joblib"):
        with suppress(OSError):  # another process may just have removed it
            with path.open("rb") as file:
                # check the same open file that is read
                owned = _who_else(os.fstat(file.fileno())) is None
                digest = file_digest(file, "sha256").hexdigest()
                if owned and path.stem == f"{key}-{digest}":
                    with suppress(PermissionError):
                        os.utime(path)
                    file.seek(0)
                    return [joblib.load(file)]
            warn_of_damage(path)
            path.unlink()
    return []


def _paths(folder: Path, pattern: str) -> list[Path]:
    """Return the files there; none if the folder was removed or cannot be read."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def _write(value: Any, folder: Path, key: str) -> None:
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


class RowStore:
    """Arrays on disk, one per sample, in one SQLite file.

    Several processes on one machine may use it.

    Parameters
    ----------
    folder : str or path, default=None
        Folder of the file ``rows.sqlite``, as for :class:`Store`.
    size_limit : int, default=4 * 1024**3
        Largest size in bytes; beyond it, the rows unused for longest are removed.
    """

    def __init__(
        self, folder: PathLike[str] | str | None = None, *, size_limit: int = 4 * 1024**3
    ) -> None:
        self.folder = cache_folder(folder)
        self.size_limit = size_limit

    def read(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the rows that are stored.

        Parameters
        ----------
        keys : iterable of bytes
            Which rows.

        Returns
        -------
        rows : dict of bytes to ndarray
            The arrays are read-only. Missing and damaged rows are left out.

        Raises
        ------
        ValueError
            If others may write to the folder.

        Warns
        -----
        UserWarning
            If rows are damaged, or the folder cannot be used.
        """
        try:
            rows, n_damaged = self._with_database(_read, list(dict.fromkeys(keys)))
        except (sqlite3.Error, OSError) as error:
            warn_of_lost(self.folder, error)
            return {}
        if n_damaged:
            warn_of_damage(self.folder / "rows.sqlite", n_damaged)
        return rows

    def write(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Store rows.

        Parameters
        ----------
        rows : mapping of bytes to ndarray
            Arrays of numbers.

        Warns
        -----
        UserWarning
            If there is no room for them.
        """
        now = int(time.time())
        entries = []
        for key, row in rows.items():
            content = np.ascontiguousarray(row).tobytes()
            form = json.dumps([row.dtype.str, row.shape]).encode()
            entries.append((key, now, form, _checksum(key, form, content), content))
        try:
            self._with_database(_write_rows, entries, self.size_limit)
        except (sqlite3.Error, OSError) as error:
            warn_of_lost(self.folder, error)

    def _with_database(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function with the database; start a new file if it is damaged."""
        path = own_folder(self.folder) / "rows.sqlite"
        for last in (False, True):
            try:
                with closing(sqlite3.connect(path, timeout=600)) as database:
                    # the checksum finds damaged text
                    database.text_factory = bytes
                    # SQLite does not wait for another process that sets up
                    with FileLock(path.with_suffix(".lock")):
                        _set_up(database)
                    return function(database, *arguments)
            except sqlite3.Error as error:
                if last or not _is_damage(error):
                    raise
                warn_of_damage(path)
                for ending in ("", "-wal", "-shm"):
                    Path(f"{path}{ending}").unlink(missing_ok=True)
        raise AssertionError  # the last one returns or raises


# locked, full, forbidden or interrupted: the file is as it was
_NOT_DAMAGED = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}


def _is_damage(error: sqlite3.Error) -> bool:
    """Return whether an error means that the file is no database of this module."""
    if not isinstance(error, sqlite3.OperationalError):
        return True
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in _NOT_DAMAGED


def _checksum(key: bytes, form: bytes, content: bytes) -> bytes:
    """Hash a row with its key and shape: right bytes under another key are damage too."""
    digest = blake2b(digest_size=16)
    for part in (key, form, content):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def _set_up(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    # damage by a power cut is found by the checksum, and computed again
    database.execute("PRAGMA synchronous = OFF")
    # the content last, so that the other columns can be read without it
    database.execute(
        "CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, used INTEGER, form BLOB, "
        "checksum BLOB, content BLOB)"
    )


def _read(
    database: sqlite3.Connection, keys: list[bytes]
) -> tuple[dict[bytes, NDArray[Any]], int]:
    """Return the intact rows by key, and the number of damaged ones."""
    rows, stale, n_damaged = {}, [], 0
    now = int(time.time())
    for start in range(0, len(keys), _ASKED):
        some = keys[start : start + _ASKED]
        marks = ",".join("?" * len(some))
        for key, used, *parts in database.execute(
            f"SELECT key, used, form, checksum, content FROM rows WHERE key IN ({marks})",
            some,
        ):
            form, checksum, content = parts
            whole = all(isinstance(part, bytes) for part in (key, *parts))
            if not whole or _checksum(key, form, content) != checksum:
                n_damaged += 1
                continue
            dtype, shape = json.loads(form)
            rows[key] = np.frombuffer(content, dtype).reshape(shape)
            if not isinstance(used, int) or used < now - _HOUR:
                stale.append((now, key))
    if stale:
        database.executemany("UPDATE rows SET used = ? WHERE key = ?", stale)
        database.commit()
    return rows, n_damaged


def _write_rows(
    database: sqlite3.Connection,
    entries: list[tuple[bytes, int, bytes, bytes, bytes]],
    size_limit: int,
) -> None:
    database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", entries)
    excess = _size(database) - size_limit
    if excess > 0:
        # remove a tenth more, so that this rarely happens
        excess += size_limit // 10
        leaving = []
        for key, length in database.execute(
            "SELECT key, length(content) FROM rows ORDER BY used, rowid"
        ):
            leaving.append((key,))
            excess -= length
            if excess <= 0:
                break
        database.executemany("DELETE FROM rows WHERE key = ?", leaving)
    database.commit()


def _size(database: sqlite3.Connection) -> int:
    pages, free, page = (
        database.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page
