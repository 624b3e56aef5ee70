"""Images that need not fit into memory: one file of them, mapped into memory.

What comes back is a read-only ``numpy.memmap``. It is an array: estimators, pipelines and
networks take it as any other, and only the parts that they look at are read from the disk.
"""

import os
from collections.abc import Callable
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, BinaryIO, Self

import joblib
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

import ferpipe
from ferpipe.caching.store import cache_folder, own_folder, warn_of_damage

__all__ = ["ArrayWriter", "map_images"]

# is given ArrayWriter.append, returns the arrays that are kept beside the images
Writer = Callable[[Callable[..., None]], dict[str, NDArray[Any]]]

# beside what the caller keeps, the checksum of the images
_CHECKSUM = "checksum of the images"


class ArrayWriter:
    """Write arrays of one shape and dtype to a ``.npy`` file, one after the other.

    It is a context manager; the file is whole when it is left.

    Parameters
    ----------
    path : str or path
        The file; one that is there is replaced.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from ferpipe.io.memmap import ArrayWriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with ArrayWriter(f"{folder}/faces.npy") as writer:
    ...         for value in range(3):
    ...             writer.append(np.full((48, 48), value, np.uint8))
    ...     faces = np.load(f"{folder}/faces.npy", mmap_mode="r")
    ...     faces.shape
    (3, 48, 48)
    """

    _file: BinaryIO
    _n: int
    # shape and dtype that all arrays have
    _kind: tuple[tuple[int, ...], np.dtype[Any]] | None

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        self._n, self._kind = 0, None
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            if self._kind is not None:
                self._file.seek(0)
                self._write_header(*self._kind)

    def append(self, array: NDArray[Any], name: str = "the array") -> None:
        """Write one more array.

        Parameters
        ----------
        array : ndarray
            Of numbers; the first one says which shape and dtype all have.
        name : str, default="the array"
            What it is called in the message.

        Raises
        ------
        ValueError
            If its shape or dtype is another one.
        """
        if self._kind is None:
            self._kind = array.shape, array.dtype
            self._write_header(*self._kind)
        if (array.shape, array.dtype) != self._kind:
            shape, dtype = self._kind
            raise ValueError(
                f"{name}: it has the shape {array.shape} ({array.dtype}), the first one "
                f"{shape} ({dtype}): one file holds images of one size; the "
                "parameter size scales them"
            )
        self._file.write(np.ascontiguousarray(array).data)
        self._n += 1

    def _write_header(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        # numpy leaves room for the number of arrays to grow
        np.lib.format.write_array_header_1_0(
            self._file,
            {
                "descr": np.lib.format.dtype_to_descr(dtype),
                "fortran_order": False,
                "shape": (self._n, *shape),
            },
        )


def map_images(
    parts: tuple[Any, ...], write: Writer
) -> tuple[np.memmap, dict[str, NDArray[Any]]]:
    """Return images from a file in the cache, writing it if it is not there.

    Parameters
    ----------
    parts : tuple
        Everything that the images depend on; hashed by content, with the version.
    write : callable
        Called with :meth:`ArrayWriter.append` when there is no such file. Returns arrays
        of numbers or text that are kept beside the images.

    Returns
    -------
    images : memmap of shape (n, ...)
        Cannot be written to.
    notes : dict of str to ndarray
        What ``write`` returned.

    Raises
    ------
    ValueError
        If no image was written, or others may write to the folder.

    Warns
    -----
    UserWarning
        If a file is damaged, cut or empty: it is named and written anew.

    Notes
    -----
    The files lie in ``$FERPIPE_CACHE/images`` (``~/.cache/ferpipe/images``) and stay until
    somebody removes them. The images are read once from beginning to end at each call, to
    be compared with the checksum that was kept when they were written.
    """
    folder = own_folder(own_folder(cache_folder()) / "images")
    name = joblib.hash((ferpipe.__version__, *parts))
    path = folder / f"{name}.npy"
    with FileLock(path.with_suffix(".lock")):
        notes = _read_notes(folder, name)
        if notes is None or not _is_whole(path, notes):
            _write_files(folder, name, write)
            notes = _read_notes(folder, name)
            if notes is None:
                raise OSError(f"{path}: what was written cannot be read again.")
    del notes[_CHECKSUM]
    return np.load(path, mmap_mode="r", allow_pickle=False), notes


def _write_files(folder: Path, name: str, write: Writer) -> None:
    # named by the key: what a killed process leaves is written over by the next
    part, part_beside = folder / f"{name}.part", folder / f"{name}.notes"
    try:
        with ArrayWriter(part) as writer:
            found = write(writer.append)
        if not part.stat().st_size:
            raise ValueError("There is no image to keep.")
        with part_beside.open("wb") as file:
            checksum = np.frombuffer(_digest(part), np.uint8)
            notes: dict[str, Any] = {**found, _CHECKSUM: checksum}
            np.savez(file, **notes)
        for old in folder.glob(f"{name}-*.npz"):
            old.unlink()
        os.replace(part, folder / f"{name}.npy")
        # its name is its own checksum
        beside = folder / f"{name}-{_digest(part_beside).hex()}.npz"
        os.replace(part_beside, beside)
    finally:
        part.unlink(missing_ok=True)
        part_beside.unlink(missing_ok=True)


def _read_notes(folder: Path, name: str) -> dict[str, NDArray[Any]] | None:
    """Return what lies beside the images, None if there is nothing intact."""
    for path in folder.glob(f"{name}-*.npz"):
        if path.stem == f"{name}-{_digest(path).hex()}":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        warn_of_damage(path)
        path.unlink()
    return None


def _is_whole(path: Path, notes: dict[str, NDArray[Any]]) -> bool:
    """Whether the images are there as they were written."""
    if not path.is_file():
        return False
    if _digest(path) == notes[_CHECKSUM].tobytes():
        return True
    warn_of_damage(path)
    return False


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return file_digest(file, lambda: blake2b(digest_size=16)).digest()
