"""Find the files of a data set and read them; say which ones are wrong."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ferpipe.io.memmap import map_images

__all__ = [
    "class_folders",
    "columns_read",
    "existing_path",
    "file_state",
    "read_images",
    "read_samples",
    "stack_alike",
    "visible_files",
]

# What desktop programs leave in folders; anything else unexpected is reported.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
_LARGEST_SHARE = 0.1
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def existing_path(path: Path | str, layout: str) -> Path:
    """Resolve ``~`` and ``$NAME`` in a path that must exist.

    Parameters
    ----------
    path : str or path
        Folder or file.
    layout : str
        What is expected there, for the message.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If the path names an environment variable that is not set.
    FileNotFoundError
        If nothing is there.
    """
    resolved = Path(os.path.expandvars(os.fspath(path))).expanduser()
    left = _VARIABLE.search(str(resolved))
    if left:
        name = left[1].strip("{}")
        raise ValueError(
            f"The path {str(path)!r} names the environment variable {name}, which is not "
            f"set: export {name}=FOLDER, or give the path itself."
        )
    if not resolved.exists():
        # not what a variable holds: a file from a stranger may name any
        raise FileNotFoundError(f"{path}: no such file or folder. Expected: {layout}.")
    return resolved


def class_folders(folder: Path, layout: str) -> tuple[list[Path], list[str]]:
    """List the class folders of a data set.

    Parameters
    ----------
    folder : Path
        Holds one folder a class.
    layout : str
        What is expected, for messages.

    Returns
    -------
    folders : list of Path
        In the order of their names.
    unexpected : list of str
        A message for each file that lies beside them.

    Raises
    ------
    ValueError
        If it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: this is a file. Expected a folder: {layout}.")
    entries = visible_files(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise ValueError(f"{folder}: there is no class folder in it. Expected: {layout}.")
    unexpected = [f"{entry}: unexpected file" for entry in entries if not entry.is_dir()]
    return folders, unexpected


def visible_files(folder: Path) -> list[Path]:
    """List a folder without hidden files and desktop litter, 2 before 10.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    entries : list of Path
    """
    return sorted(
        (
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
        ),
        key=_natural_order,
    )


def read_samples(
    samples: Sequence[Any],
    labels: Sequence[str],
    read: Callable[[Any], Any],
    *,
    unexpected: Sequence[str],
    layout: str,
    on_error: str,
) -> list[Any]:
    """Read the files of every sample, and report all files that are wrong at once.

    Parameters
    ----------
    samples : list
        One entry a sample, as ``read`` takes it.
    labels : list of str
        Class of each sample.
    read : callable
        Reads a sample; raises ValueError or OSError naming the file.
    unexpected : list of str
        Messages on files that do not belong there.
    layout : str
        What is expected, for messages.
    on_error : {"raise", "warn"}
        "warn" leaves out the samples that cannot be read, and says so.

    Returns
    -------
    values : list
        What ``read`` returned, None for a sample that cannot be read.

    Raises
    ------
    ValueError
        If ``on_error`` is "raise" and a file is wrong, more than a tenth are, or a class
        has no sample left.
    """
    if on_error not in ("raise", "warn"):
        raise ValueError(f"on_error must be 'raise' or 'warn', got {on_error!r}.")
    problems = list(unexpected)
    if on_error == "raise":
        _report(problems, len(samples), layout, on_error)
    values = []
    for sample in tqdm(samples, desc="reading", unit="sample", disable=None, leave=False):
        try:
            values.append(read(sample))
        except (ValueError, OSError) as error:
            values.append(None)
            problems.append(str(error).rstrip("."))
    _report(problems, len(samples), layout, on_error)
    read_classes = {
        label for label, value in zip(labels, values, strict=True) if value is not None
    }
    for label in sorted(set(labels) - read_classes):
        raise ValueError(f"No file of the class {label} can be read. Expected: {layout}.")
    return values


def columns_read(
    values: Iterable[Any], samples: Iterable[tuple[Any, ...]]
) -> list[list[Any]]:
    """Put what was read beside what is known of its sample; leave out what was not read.

    Parameters
    ----------
    values : list
        As :func:`read_samples` returns them.
    samples : list of tuple
        What is known of each sample.

    Returns
    -------
    columns : list of list
        First the values that were read, then each place of the tuples.
    """
    rows = [
        (value, *sample)
        for value, sample in zip(values, samples, strict=True)
        if value is not None
    ]
    return list(map(list, zip(*rows, strict=True)))


def read_images(
    files: Sequence[Path],
    labels: Sequence[str],
    read: Callable[[Path], NDArray[np.uint8]],
    *,
    unexpected: Sequence[str],
    layout: str,
    on_error: str,
    lazy: bool = False,
    settings: tuple[Any, ...] = (),
) -> tuple[Any, list[int]]:
    """Read one image a file, into memory or into one file that is mapped.

    Parameters
    ----------
    files : list of Path
    labels : list of str
        Class of each file.
    read : callable
        Reads a file.
    unexpected, layout, on_error
        As for :func:`read_samples`.
    lazy : bool, default=False
        Write the images to a file of the cache, see :func:`ferpipe.io.memmap.map_images`;
        they must have one size then.
    settings : tuple, default=()
        What the images depend on beside the files; only with ``lazy``.

    Returns
    -------
    images : ndarray of shape (n, h, w) or (n, h, w, 3), uint8, or list of such images
        A list when they differ in size; a memory map with ``lazy``.
    places : list of int
        Which files they are; those that cannot be read are left out.

    Raises
    ------
    ValueError
        As :func:`read_samples`, and if images differ in size with ``lazy``.
    """
    options: dict[str, Any] = {
        "unexpected": unexpected,
        "layout": layout,
        "on_error": on_error,
    }
    if not lazy:
        values = read_samples(files, labels, read, **options)
        found, places = columns_read(values, [(place,) for place in range(len(files))])
        return stack_alike(found), places
    known = True

    def write(append: Callable[..., None]) -> dict[str, NDArray[Any]]:
        nonlocal known
        known = False

        def read_into(file: Path) -> bool:
            append(read(file), str(file))
            return True

        values = read_samples(files, labels, read_into, **options)
        return {"places": np.flatnonzero(values)}

    states = [(str(file.resolve()), *file_state(file)) for file in files]
    parts = (states, labels, unexpected, on_error, settings)
    images, notes = map_images(parts, write)
    places = notes["places"].tolist()
    if known:
        left_out = np.setdiff1d(np.arange(len(files)), places)
        problems = [f"{files[place]}: it could not be read" for place in left_out]
        _report([*unexpected, *problems], len(files), layout, on_error)
    return images, places


def stack_alike(images: list[NDArray[np.uint8]]) -> Any:
    """Return one array of images that have one shape; others stay a list."""
    return np.stack(images) if len({image.shape for image in images}) == 1 else images


def _report(problems: Sequence[str], n_samples: int, layout: str, on_error: str) -> None:
    if not problems:
        return
    if on_error == "raise":
        more = f" ({len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise ValueError(
            f"{problems[0]}{more}. Expected: {layout}. on_error='warn' leaves out a few "
            "wrong files among many."
        )
    if len(problems) > _LARGEST_SHARE * n_samples:
        raise ValueError(
            f"{len(problems)} wrong files among {n_samples} samples are too many to leave "
            f"out (more than {_LARGEST_SHARE:.0%}); the first: {problems[0]}. "
            f"Expected: {layout}."
        )
    warnings.warn(f"Left out {len(problems)}: {'; '.join(problems)}.", stacklevel=4)


def file_state(file: Path) -> tuple[int, int, int, int]:
    """Return by which a file is known again: size, times, place on the disk."""
    # a file that was replaced may have the size and time of the one before
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", path.name)
        if part
    ], path.name
