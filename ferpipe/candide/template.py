"""The template: the project's wireframe, built from tables, before calibration."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from ferpipe.candide import template_tables as tables
from ferpipe.candide.model import CandideModel

__all__ = ["ANCHORS", "N_VERTICES", "template_model", "partners", "triangles_of_openings"]

N_VERTICES = 116
# the skull and the ears, which landmarks do not show
ANCHORS = (0, 11, 12, 14, 28, 29, 44, 45, 47, 61, 62)


@cache
def template_model() -> CandideModel:
    """Build the wireframe of the tables, before any calibration.

    Returns
    -------
    model : CandideModel
        It has 14 shape units and 65 animation units. Units that move one side have names
        such as ``AU12_left`` and ``AU12_right``; left and right are the subject's.
    """
    partner = partners()
    vertices = np.zeros((N_VERTICES, 3))
    names = {}
    for line in _lines(tables.VERTICES):
        number, x, y, z, name = line.split()
        index = int(number)
        vertices[index] = float(x), float(y), float(z)
        other = int(partner[index])
        if other != index:
            vertices[other] = vertices[index] * (-1, 1, 1)
            names[f"{name}_left"], names[f"{name}_right"] = index, other
        else:
            names[name] = index
    shape = {name: _both(half) for name, _, half in _units(tables.SHAPE_UNITS)}
    animation = dict(_animation_units())
    animation_names = tuple(animation)
    return CandideModel(
        vertices,
        _triangles(),
        np.array(list(shape.values())),
        np.array(list(animation.values())),
        tuple(shape),
        animation_names,
        names,
        {vertex: tuple(points) for vertex, *points in _numbers(tables.LANDMARKS)},
        tuple(range(len(shape))),
        tuple(animation_names.index(_mirrored_name(name)) for name in animation_names),
    )


def triangles_of_openings() -> tuple[np.ndarray, np.ndarray]:
    """Return the triangles that fill the eyes and the mouth, for rendering.

    Returns
    -------
    eyes, mouth : ndarray of shape (m, 3), int
        Indices of vertices.
    """
    eyes = [_strip(*tables.EYE_OPENING)]
    eyes.append(_mirrored_triangles(eyes[0]))
    mouth = [_strip(*tables.MOUTH_OPENING)]
    mouth.append(_mirrored_triangles(mouth[0]))
    return np.concatenate(eyes), np.concatenate(mouth)


def _lines(table: str) -> list[str]:
    return [line for line in table.strip().splitlines() if line.strip()]


def _numbers(table: str) -> list[list[int]]:
    return [[int(n) for n in part.split()] for part in table.split(",")]


def _units(table: str) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yield the name, the kind and the left half's displacements of each unit."""
    joined = table.strip().replace(";\n", "; ")
    for line in _lines(joined):
        head, _, moves = line.partition(":")
        name, *kind, first = head.split()
        # after the name and the kind, the first vertices to move
        while kind and kind[-1].isdigit():
            first = f"{kind.pop()} {first}"
        half = np.zeros((N_VERTICES, 3))
        for part in f"{first}:{moves}".split(";"):
            where, _, vector = part.partition(":")
            move = [float(number) for number in vector.split()]
            half[[int(index) for index in where.split()]] = move
        yield name, kind[0] if kind else "both", half


def _animation_units() -> Iterator[tuple[str, np.ndarray]]:
    for name, kind, half in _units(tables.ANIMATION_UNITS):
        if kind == "sides":
            yield f"{name}_left", half
            yield f"{name}_right", _mirrored(half)
        elif kind == "shift":
            yield f"{name}_left", _both(half, shift=True)
            yield f"{name}_right", _mirrored(_both(half, shift=True))
        elif kind == "gaze":
            yield name, _both(half, shift=True)
        elif kind == "left":
            yield name, half
        elif kind == "right":
            yield name, _mirrored(half)
        else:
            yield name, _both(half)


def _both(half: np.ndarray, *, shift: bool = False) -> np.ndarray:
    """Return both halves of a unit: the other half mirrored, or shifted alike."""
    whole = half.copy()
    for left, right in _numbers(tables.PARTNERS):
        whole[right] = half[left] * (1 if shift else -1, 1, 1)
    return whole


def _mirrored(unit: np.ndarray) -> np.ndarray:
    """Return the unit that moves the other side."""
    return (unit * (-1, 1, 1))[partners()]


def partners() -> np.ndarray:
    """Return each vertex's partner on the other side; itself in the middle."""
    partner = np.arange(N_VERTICES)
    for left, right in _numbers(tables.PARTNERS):
        partner[left], partner[right] = right, left
    return partner


# pairs of units that mirror each other without a side in their names
_OPPOSITE = {"AU61": "AU62", "FAP08": "FAP09", "FAP10": "FAP11"}


def _mirrored_name(name: str) -> str:
    if name.endswith("_left"):
        return name.removesuffix("_left") + "_right"
    if name.endswith("_right"):
        return name.removesuffix("_right") + "_left"
    opposite = _OPPOSITE | {right: left for left, right in _OPPOSITE.items()}
    return opposite.get(name, name)


def _triangles() -> np.ndarray:
    left = np.array(_numbers(tables.TRIANGLES))
    return np.concatenate([left, _mirrored_triangles(left)])


def _mirrored_triangles(triangles: np.ndarray) -> np.ndarray:
    return partners()[triangles][:, ::-1]


def _strip(upper: Sequence[int], lower: Sequence[int]) -> np.ndarray:
    """Return triangles, counter-clockwise, between two edges from one corner."""
    triangles = []
    i = j = 0
    while i < len(upper) - 1 or j < len(lower) - 1:
        if (i <= j and i < len(upper) - 1) or j == len(lower) - 1:
            triangles.append((upper[i], upper[i + 1], lower[j]))
            i += 1
        else:
            triangles.append((upper[i], lower[j + 1], lower[j]))
            j += 1
    return np.array([t for t in triangles if len(set(t)) == 3])
