"""Read and write ``.wfm`` files, the text format in which Candide is published."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.candide.model import CandideModel

__all__ = ["WireframeFile", "read_wfm", "write_wfm"]

# bytes: a hundred times the largest published Candide
_LARGEST_FILE = 4 * 2**20
# vertices times units: bounds the memory for a file that claims many of both to 100 MB
_MOST_DISPLACEMENTS = 2**22

# float() and int() would also accept nan, 1_000 and digits of other scripts
_REAL = re.compile(r"[-+.0-9eE]+")
_WHOLE = re.compile(r"[-+]?[0-9]{1,15}")


@dataclass(frozen=True, eq=False)
class WireframeFile:
    """The contents of a ``.wfm`` file: a model and its saved state.

    Attributes
    ----------
    model : CandideModel
        The wireframe. The format has no names of vertices, landmarks or mirrored units.
        Triangles keep their order in the file; published files have them clockwise.
    shape_parameters : ndarray of shape (n_shape,)
        Values of the shape units.
    animation_parameters : ndarray of shape (n_animation,)
        Values of the animation units.
    rotation, scale, translation : ndarray of shape (3,)
        The global motion, in the units of the file.
    texture_points : ndarray of shape (k, 3) or None
        ``(vertex, x, y)``: the position of a vertex in the texture.
    texture_file : str or None
        Name of the texture's image; only with ``texture_points``.
    """

    model: CandideModel
    shape_parameters: np.ndarray
    animation_parameters: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    translation: np.ndarray
    texture_points: np.ndarray | None = None
    texture_file: str | None = None

    def __post_init__(self) -> None:
        expected = {
            "shape_parameters": len(self.model.shape_names),
            "animation_parameters": len(self.model.animation_names),
            "rotation": 3,
            "scale": 3,
            "translation": 3,
        }
        for name, length in expected.items():
            found = np.shape(getattr(self, name))
            if found != (length,):
                raise ValueError(f"{name} must have the shape ({length},), got {found}.")
        if self.texture_points is not None:
            self._check_texture(self.texture_points)
        elif self.texture_file is not None:
            raise ValueError("texture_file needs texture_points, got None.")

    def _check_texture(self, points: np.ndarray) -> None:
        found = np.shape(points)
        if len(found) != 2 or found[0] == 0 or found[1] != 3:
            raise ValueError(
                f"texture_points must have the shape (k, 3) with k > 0, got {found}; "
                "without a texture they are None."
            )
        n = len(self.model.vertices)
        if not np.isin(np.asarray(points)[:, 0], np.arange(n)).all():
            raise ValueError(
                "The first column of texture_points must hold indices of the "
                f"{n} vertices, 0 to {n - 1}."
            )


def read_wfm(path: Path | str) -> WireframeFile:
    """Read a ``.wfm`` file of any version of Candide.

    Parameters
    ----------
    path : str or path
        Text in UTF-8 or Latin-1. Blank lines and lines that begin with ``#`` may occur
        anywhere.

    Returns
    -------
    file : WireframeFile
        The name of a unit is the comment before it: the first line of the last group of
        adjacent comment lines, because a second line states the unit of a FAP. A unit
        without a comment is named by its index, such as ``animation_0`` or ``shape_0``; a
        repeated name gets the suffix ``(2)``.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the path is a folder or the text is not of this format; the message names the
        line.

    Notes
    -----
    The blocks, in this order:

    - the number of vertices, then ``x y z`` for each;
    - the number of triangles, then three indices of vertices for each;
    - the number of animation units, then for each the number of lines and these,
      ``vertex dx dy dz``; repeated displacements of a vertex add up;
    - the shape units in the same way;
    - the number of animation parameters, then ``index value`` for each;
    - the shape parameters in the same way;
    - the number of texture points, then ``vertex x y`` for each and the name of the image;
    - rotation, scale and translation, three numbers each.

    A file may end after any block; missing values are 0, a missing scale is 1. A second
    dialect lists the parameters without number and index, one value for each unit, and the
    texture as ``x y`` for each vertex.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: this is a folder; a .wfm file was expected.")
    with path.open("rb") as file:
        return _parse_content(path, file.read(_LARGEST_FILE + 1))


def write_wfm(file_or_model: WireframeFile | CandideModel, path: Path | str) -> None:
    """Write a ``.wfm`` file from which :func:`read_wfm` reads the same.

    Parameters
    ----------
    file_or_model : WireframeFile or CandideModel
        What to write; a model is written with all parameters 0, the scale 1 and no
        texture. The format cannot hold names of vertices, landmarks and mirrored units.
    path : str or path
        The file, in UTF-8; an existing file is replaced.

    Raises
    ------
    TypeError
        If ``file_or_model`` has another type.
    ValueError
        If a number is not finite, or :func:`read_wfm` would read a name differently.
    """
    if isinstance(file_or_model, CandideModel):
        file_or_model = _at_rest(file_or_model)
    if not isinstance(file_or_model, WireframeFile):
        raise TypeError(
            "write_wfm takes a WireframeFile or a CandideModel, got "
            f"{type(file_or_model).__name__}."
        )
    text = "".join(f"{line}\n" for line in _text_lines(file_or_model))
    # check with the reader before the file is opened: an error later would truncate it
    content = text.encode("utf-8")
    _parse_content(path, content)
    Path(path).write_bytes(content)


def _parse_content(path: Path | str, content: bytes) -> WireframeFile:
    if len(content) > _LARGEST_FILE:
        raise ValueError(
            f"{path}: the file is larger than the {_LARGEST_FILE:,} bytes that are read; a "
            ".wfm file has some ten thousand."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return _parse(_Lines(path, text))


class _Lines:
    """Reads the data lines of a file in order, and the comments between them."""

    def __init__(self, path: Path | str, text: str) -> None:
        self.path = path
        # splitlines would also split at characters that editors do not count as line ends
        self.lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.data = [
            index
            for index, line in enumerate(self.lines)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        self.position = 0

    @property
    def n_left(self) -> int:
        return len(self.data) - self.position

    def rest(self) -> Iterator[str]:
        """Yield the remaining lines without consuming them."""
        return (self.lines[index].strip() for index in self.data[self.position :])

    def take(self, expected: str) -> str:
        if not self.n_left:
            line = max(1, len(self.lines))
            raise ValueError(
                f"{self.path}, line {line}: expected {expected}, got the end of the file."
            )
        self.position += 1
        return self.lines[self.data[self.position - 1]].strip()

    def error(self, expected: str, got: str) -> ValueError:
        """Return the error for the line read last."""
        line = self.data[self.position - 1] + 1
        short = got if len(got) <= 40 else f"{got[:39]}…"
        return ValueError(f"{self.path}, line {line}: expected {expected}, got {short!r}.")

    def end_within(
        self, block: str, found: int, expected: int, things: str = "lines"
    ) -> ValueError:
        """Return the error for a file that ends too early."""
        return ValueError(
            f"{self.path}, line {len(self.lines)}: the file ends within the {block}: "
            f"expected {expected} {things}, got {found}; {expected - found} missing."
        )

    def count(self, things: str, least: int = 0) -> int:
        expected = f"the number of {things} ({least} or more)"
        text = self.take(expected)
        if not _WHOLE.fullmatch(text) or int(text) < least:
            raise self.error(expected, text)
        return int(text)

    def row(self, expected: str, indices: int, below: int, floats: int) -> list[float]:
        """Read a line of indices (0 to ``below`` - 1) followed by floats."""
        text = self.take(expected)
        words = text.split()
        if len(words) != indices + floats:
            raise self.error(expected, text)
        read: list[float | None] = [_index(word, below) for word in words[:indices]]
        read += [_number(word) for word in words[indices:]]
        numbers = [number for number in read if number is not None]
        if len(numbers) < len(read):
            raise self.error(expected, text)
        return numbers

    def block(
        self,
        name: str,
        n: int,
        expected: str,
        *,
        indices: int = 0,
        below: int = 0,
        floats: int = 0,
    ) -> np.ndarray:
        """Read n lines and return their numbers, of shape (n, indices + floats)."""
        # checked before anything of this size is allocated
        if n > self.n_left:
            raise self.end_within(name, self.n_left, n)
        rows = [self.row(expected, indices, below, floats) for _ in range(n)]
        return np.array(rows, float).reshape(n, indices + floats)

    def heading(self) -> str:
        """Return the first line of the last group of comments before the next data."""
        start = self.data[self.position - 1] + 1
        heading, inside = "", False
        for line in self.lines[start : self.data[self.position]]:
            text = _clean(line)
            if text and not inside:
                heading = text
            inside = bool(text)
        return heading


def _index(word: str, below: int) -> int | None:
    """Return an index from 0 to ``below`` - 1; None if the word is not one."""
    index = int(word) if _WHOLE.fullmatch(word) else -1
    return index if 0 <= index < below else None


def _number(word: str) -> float | None:
    """Return a finite number; None if the word is not one."""
    try:
        number = float(word) if _REAL.fullmatch(word) else math.inf
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clean(comment: str) -> str:
    """Return the text of a comment; "" if it has no letters or digits."""
    text = " ".join(comment.strip("# \t").split())
    return text if any(map(str.isalnum, text)) else ""


def _parse(lines: _Lines) -> WireframeFile:
    n = lines.count("vertices", least=1)
    vertices = lines.block("vertices", n, "3 numbers (a vertex)", floats=3)
    n_triangles = lines.count("triangles") if lines.n_left else 0
    triangles = lines.block(
        "triangles",
        n_triangles,
        f"3 vertices from 0 to {n - 1} (a triangle)",
        indices=3,
        below=n,
    ).astype(int)
    animation_units, animation_names = _units(lines, "animation", n)
    shape_units, shape_names = _units(lines, "shape", n)
    model = CandideModel(
        vertices=vertices,
        triangles=triangles,
        shape_units=shape_units,
        animation_units=animation_units,
        shape_names=shape_names,
        animation_names=animation_names,
    )
    # at most two other counts follow a count of 0: a longer column holds the values
    single = takewhile(lambda text: len(text.split()) == 1, lines.rest())
    dense = sum(1 for _ in single) > 3
    animation_parameters = _parameters(lines, "animation", len(animation_names), dense)
    shape_parameters = _parameters(lines, "shape", len(shape_names), dense)
    texture_points, texture_file = _texture(lines, n)
    motion = np.array([[0.0] * 3, [1.0] * 3, [0.0] * 3])
    if lines.n_left:
        motion = lines.block("global motion", 3, "3 numbers (a global motion)", floats=3)
    rotation, scale, translation = motion
    if lines.n_left:
        raise lines.error("the end of the file", lines.take("the end of the file"))
    return WireframeFile(
        model,
        shape_parameters,
        animation_parameters,
        rotation=rotation,
        scale=scale,
        translation=translation,
        texture_points=texture_points,
        texture_file=texture_file,
    )


def _units(lines: _Lines, kind: str, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the units of a kind and return their displacements and names."""
    n_units = lines.count(f"{kind} units") if lines.n_left else 0
    if n_units > lines.n_left:
        raise lines.end_within(f"{kind} units", lines.n_left, n_units)
    if n_units * n > _MOST_DISPLACEMENTS:
        expected = f"at most {_MOST_DISPLACEMENTS // n} {kind} units for {n} vertices"
        raise lines.error(expected, str(n_units))
    units, names = np.zeros((n_units, n, 3)), []
    for index, unit in enumerate(units):
        if not lines.n_left:
            raise lines.end_within(f"{kind} units", index, n_units, "units")
        names.append(lines.heading() or f"{kind}_{index}")
        rows = lines.block(
            f"{kind} unit {index}",
            lines.count(f"vertices that {kind} unit {index} moves"),
            f"a vertex from 0 to {n - 1} and 3 numbers (its displacement)",
            indices=1,
            below=n,
            floats=3,
        )
        with np.errstate(over="ignore"):
            np.add.at(unit, rows[:, 0].astype(int), rows[:, 1:])
        if not np.isfinite(unit).all():
            got = " ".join(map(str, rows[-1, 1:]))
            raise lines.error("displacements of a vertex with a finite sum", got)
    return units, _unique(names)


def _unique(names: list[str]) -> tuple[str, ...]:
    taken: dict[str, int] = {}
    for name in names:
        # the name itself has number 1; taken[name] is the number of its last repetition
        number = taken.setdefault(name, 0) + 1
        while number > 1 and f"{name} ({number})" in taken:
            number += 1
        taken[name] = number
        if number > 1:
            taken[f"{name} ({number})"] = 1
    return tuple(taken)


def _parameters(lines: _Lines, kind: str, n: int, dense: bool) -> np.ndarray:
    """Read the parameters of a kind, with or without their number and indices."""
    name, values = f"{kind} parameters", np.zeros(n)
    if not lines.n_left:
        return values
    if dense:
        return lines.block(name, n, f"a number ({kind} parameter)", floats=1)[:, 0]
    expected = f"an index from 0 to {n - 1} and a number ({kind} parameter)"
    rows = lines.block(name, lines.count(name), expected, indices=1, below=n, floats=1)
    values[rows[:, 0].astype(int)] = rows[:, 1]
    return values


def _texture(lines: _Lines, n: int) -> tuple[np.ndarray | None, str | None]:
    """Read the texture's points and the name of its image; None if missing."""
    if not lines.n_left:
        return None, None
    name = "texture points"
    if len(next(lines.rest()).split()) == 2:
        places = lines.block(name, n, "2 numbers (a texture point)", floats=2)
        points = np.column_stack([np.arange(n), places])
    else:
        expected = f"a vertex from 0 to {n - 1} and 2 numbers (a texture point)"
        count = lines.count(name)
        points = lines.block(name, count, expected, indices=1, below=n, floats=2)
    if not len(points):
        return None, None
    if lines.n_left and not _three_numbers(next(lines.rest())):
        return points, lines.take("the file of the texture")
    return points, None


def _three_numbers(text: str) -> bool:
    words = text.split()
    return len(words) == 3 and None not in map(_number, words)


def _at_rest(model: CandideModel) -> WireframeFile:
    zeros = np.zeros(3)
    return WireframeFile(
        model,
        np.zeros(len(model.shape_names)),
        np.zeros(len(model.animation_names)),
        rotation=zeros,
        scale=np.ones(3),
        translation=zeros,
    )


def _text_lines(file: WireframeFile) -> Iterator[str]:
    """Yield the lines of the file."""
    model = file.model
    yield "# Wireframe written by ferpipe"
    yield from _block("Vertices", "vertices", model.vertices)
    yield from _block("Triangles", "triangles", model.triangles, indices=3)
    for kind in ("animation", "shape"):
        units = np.asarray(getattr(model, f"{kind}_units"), float)
        names = getattr(model, f"{kind}_names")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{kind}_names must differ, got {twice!r} more than once.")
        yield from ("", f"# {kind.capitalize()} units", str(len(units)))
        for name, unit in zip(names, units, strict=True):
            if _clean(name) != name or not name:
                raise ValueError(
                    f"{kind}_names must be one line of words with single spaces, without # "
                    f"at its ends, got {name!r}: it would be read back as another name."
                )
            moved = np.flatnonzero(unit.any(axis=1))
            rows = np.column_stack([moved, unit[moved]])
            yield from _block(name, f"{kind}_units", rows, indices=1)
    for kind in ("animation", "shape"):
        name = f"{kind}_parameters"
        rows = np.column_stack([np.arange(len(getattr(file, name))), getattr(file, name)])
        yield from _block(f"{kind.capitalize()} parameters", name, rows, indices=1)
    points = np.empty((0, 3)) if file.texture_points is None else file.texture_points
    yield from _block("Texture", "texture_points", points, indices=1)
    if file.texture_file is not None:
        yield _checked_file(file.texture_file)
    yield from ("", "# Global motion: rotation, scale, translation")
    for name in ("rotation", "scale", "translation"):
        yield from _rows(name, [getattr(file, name)], indices=0)


def _block(title: str, name: str, rows: np.ndarray, indices: int = 0) -> Iterator[str]:
    yield from ("", f"# {title}", str(len(rows)))
    yield from _rows(name, rows, indices)


def _rows(name: str, rows: ArrayLike, indices: int) -> Iterator[str]:
    rows = np.asarray(rows, float)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} must hold finite numbers to be written.")
    for row in rows.tolist():
        yield " ".join(
            [*(f"{value:.0f}" for value in row[:indices]), *map(repr, row[indices:])]
        )


def _checked_file(name: str) -> str:
    plain = name.strip() == name and not name.startswith("#")
    if not name or not plain or re.search(r"[\r\n]", name) or _three_numbers(name):
        raise ValueError(
            "texture_file must be one line, without spaces at its ends and # at its "
            f"beginning, and not three numbers, got {name!r}."
        )
    return name
