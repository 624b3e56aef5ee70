"""Read ``.pts`` files: the points of one face as text."""

import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_pts"]

# thousands of points; a file of 68 has 2 kB
_LARGEST_FILE = 2**20
_COUNT = re.compile(r"n_points\s*[:=]?\s*(?P<count>\d{1,9})\s*$", re.I | re.M)
_EXPECTED = (
    'expected "n_points: 68" and then one "x y" a line within braces, or only lines "x y"'
)


def read_pts(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read a ``.pts`` file, as the 300-W challenge writes them.

    Parameters
    ----------
    path : str or path
        Text: ``version: 1``, ``n_points: 68``, then one ``x y`` a line within braces.
        The header may be missing or hold only the number of points, its words may be in
        upper case, and a comma may stand between x and y.

    Returns
    -------
    landmarks : ndarray of shape (p, 2), float64
        ``(x, y)`` in pixels with the center of the first pixel at 0. The numbers in the
        file are taken to count from 1, as those of 300-W do: 1 is subtracted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no such text, is cut off or too large, a point is not finite, or
        the header names another number of points than there are.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a .pts file was expected.")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(
            f"{path}: the file is larger than the {_LARGEST_FILE:,} bytes that are read; a "
            ".pts file has some thousand."
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise ValueError(
            f"{path}: the file is binary, or text in another encoding than UTF-8; "
            f"{_EXPECTED}."
        )
    lines, count = _split(path, text)
    numbers = [_numbers(path, line) for line in lines]
    values = [number for line in numbers for number in line]
    if count is not None and len(values) != 2 * count:
        raise ValueError(
            f"{path}: expected {count} points, as the header has it, and so {2 * count} "
            f"numbers, found {len(values)}; a number is written with a point (12.5)."
        )
    if count is None and any(len(line) != 2 for line in numbers):
        first = next(line for line in numbers if len(line) != 2)
        raise ValueError(
            f"{path}: expected x and y in each line, found a line of {len(first)} "
            "numbers; a number is written with a point (12.5)."
        )
    if not values:
        raise ValueError(f"{path}: the file holds no point; {_EXPECTED}.")
    landmarks = np.array(values).reshape(-1, 2) - 1
    if not np.isfinite(landmarks).all():
        raise ValueError(f"{path}: a point is not finite.")
    return landmarks


def _split(path: Path, text: str) -> tuple[list[str], int | None]:
    """Return the lines of points and how many points the header names, if it does."""
    head, opening, rest = text.partition("{")
    if opening:
        body, closing, _ = rest.partition("}")
        if not closing:
            raise ValueError(f"{path}: the closing brace is missing: the file is cut off.")
        found = _COUNT.search(head)
        if found is None and "n_points" in head.lower():
            raise ValueError(f"{path}: no number of points follows n_points.")
        lines = _filled(body)
        return lines, None if found is None else int(found["count"])
    found = _COUNT.search(text)
    if found is not None:
        raise ValueError(f"{path}: n_points is there, but no brace; {_EXPECTED}.")
    lines = _filled(text)
    if lines and re.fullmatch(r"\d{1,9}", lines[0]):
        return lines[1:], int(lines[0])
    return lines, None


def _filled(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _numbers(path: Path, line: str) -> list[float]:
    try:
        return [float(word) for word in re.split(r"\s*,\s*|\s+", line)]
    except ValueError:
        raise ValueError(
            f"{path}: this is no .pts file of landmarks: the line {line[:40]!r} holds "
            f"something else than numbers; {_EXPECTED}."
        ) from None
