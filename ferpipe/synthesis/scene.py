"""The triangles of a scene: a wireframe and its surroundings, and their light.

Further triangles represent the back of the head, ears, neck and clothes. Eyes and mouth
are triangles too, in the openings between lids and lips.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from ferpipe.candide.camera import rotation_matrix
from ferpipe.candide.model import CandideModel
from ferpipe.candide.template import (
    N_VERTICES,
    partners,
    template_model,
    triangles_of_openings,
)
from ferpipe.synthesis.appearance import NO_HAIR, Appearance
from ferpipe.synthesis.texture import (
    CLOTHES_COLUMN,
    HAIR_COLUMNS,
    MIDDLE_ROW,
    SKIN_COLUMNS,
    to_map,
)

__all__ = ["BACKGROUND", "EYE", "MOUTH", "Scene", "View", "scene_of"]

_Triangle = tuple[int, int, int]
# the vertices on the middles of edges
_Middles = dict[frozenset[int], int]
# kinds of triangles
SURFACE, EYE, MOUTH, BACKGROUND = range(4)
# contours of the left half or across the middle, rendered as curves
_CURVES = (
    (20, 97, 21, 105, 23),
    (20, 99, 22, 107, 23),
    (31, 79, 33, 7, 66, 80, 64),
    (31, 85, 8, 86, 64),
    (88, 81, 87, 82, 89),
    (88, 83, 40, 84, 89),
    (15, 16, 17),
    (14, 29, 28, 30, 32, 10, 65, 63, 61, 62, 47),
    (14, 12, 11, 0, 44, 45, 47),
)
_STILL = (0.0, 0.0, 0.0)
# twice the least area of a rendered triangle, in square pixels
_LEAST_AREA = 1e-6
_LEAST_FORESHORTENING = 0.35
_RIM = (28, 29, 14, 12, 11, 0, 44, 45, 47, 62, 61)
# vertices of the ear: a vertex of the wireframe and an offset; the middle, then the edge
_EAR = (
    (28, 0.04, 0.16, -0.04),
    (29, -0.02, 0.06, 0.02),
    (28, -0.03, 0.02, 0.03),
    (28, 0.08, 0.10, -0.10),
    (29, 0.13, -0.08, -0.14),
    (29, 0.10, 0.07, -0.10),
)
# where the neck meets the head; neck and clothes do not rotate with the head
_NECK_PIVOT = (0, -0.7, -0.45)
_CLOTHES = (
    (0, -1.15, 0.3),
    (-0.55, -0.9, 0),
    (-2.1, -1.5, 0),
    (-2.4, -5, 0.2),
    (2.4, -5, 0.2),
    (2.1, -1.5, 0),
    (0.55, -0.9, 0),
)


class View(NamedTuple):
    """Projected scenes, ready to be rasterized.

    Attributes
    ----------
    corners : ndarray of shape (2, n, 3, n_triangles)
        x and y of the triangles' corners in the image, in pixels.
    orders : list of ndarray of shape (t_i,)
        Triangles that face the camera, far ones first.
    gradients : ndarray of shape (n, 3, 3, n_triangles + 1), float32
        Coefficients a, b, c of a x + b y + c over pixels, for the column and row of the map
        (or the position in an opening) and for the light. The last triangle, all 0, stands
        for the background.
    flat : ndarray of shape (n, n_vertices, 3)
        Vertices of the faces before rotation.
    """

    corners: np.ndarray
    orders: list[np.ndarray]
    gradients: np.ndarray
    flat: np.ndarray


def scene_of(model: CandideModel) -> "Scene":
    """Return the scene of a wireframe; it is built once and cached.

    Parameters
    ----------
    model : CandideModel
        With the vertices of :func:`~ferpipe.candide.template.template_model`.

    Returns
    -------
    scene : Scene
    """
    return _scene(tuple(map(tuple, np.asarray(model.triangles).tolist())))


@lru_cache(maxsize=8)
def _scene(triangles: tuple[tuple[int, ...], ...]) -> "Scene":
    return Scene(triangles)


class Scene:
    """The triangles of a face and its surroundings.

    Parameters
    ----------
    triangles : array-like of shape (t, 3), int
        Triangles of the wireframe.

    Attributes
    ----------
    background : int
        Number of triangles, which is the label of the background.
    kinds : ndarray of shape (n_triangles + 1,)
        SURFACE, EYE or MOUTH; BACKGROUND for the label of the background.
    open : ndarray of shape (n_triangles + 1,), bool
        True for triangles in an opening: eye or mouth.
    smooth : ndarray of shape (n_triangles + 1, n_triangles + 1), bool
        True for two triangles of skin, hair or cloth with a common side, or the same one:
        there is no visible edge between them.
    """

    def __init__(self, triangles: ArrayLike) -> None:
        eyes, mouth = triangles_of_openings()
        half = len(eyes) // 2
        parts = [np.asarray(triangles), eyes[:half], eyes[half:], mouth]
        owners = np.repeat(np.arange(4), [len(part) for part in parts])
        blend, triangles, owners, middles = _curved(np.concatenate(parts), owners, _CURVES)
        self.blend = csr_array(blend)
        flat = template_model().vertices[:, :2]
        on_map = to_map(blend @ flat)
        occlusion = np.ones(len(on_map))
        self._add_head(blend @ flat, middles)
        n_head = len(on_map) + len(self.anchors)
        neck, of_neck = _neck()
        collar = len(neck)
        self.body = np.concatenate([neck, _CLOTHES])
        of_clothes = [(0, i, i % 6 + 1) for i in range(1, 7)]
        behind = np.concatenate(
            [
                self.of_head + len(on_map),
                of_neck + n_head,
                np.array(of_clothes) + n_head + collar,
            ]
        )
        on_body = np.full((len(self.body), 2), MIDDLE_ROW)
        on_body[:collar, 0] = SKIN_COLUMNS[0]
        on_body[collar:, 0] = CLOTHES_COLUMN
        # the chin's shadow
        shadow = np.where(np.arange(collar) < collar // 2, 0.5, 0.9)
        self.triangles = np.concatenate([triangles, behind])
        self.on_map = np.concatenate([on_map, self.head_on_map, on_body])
        self.occlusion = np.concatenate(
            [occlusion, self.head_occlusion, shadow, np.ones(len(_CLOTHES))]
        )
        kind_of_owner = np.array([SURFACE, EYE, EYE, MOUTH])
        self.kinds = np.append(
            kind_of_owner[owners], [SURFACE] * len(behind) + [BACKGROUND]
        )
        self.background = len(self.triangles)
        self.open = np.isin(self.kinds, (EYE, MOUTH))
        # long hair behind the neck, the neck and the clothes are rendered first
        self.rank = np.full(len(self.triangles), 3)
        first = len(triangles) + len(self.of_head)
        self.rank[first - 2 : first] = 0
        self.rank[first : first + len(of_neck)] = 1
        self.rank[first + len(of_neck) :] = 2

        self.openings = np.flatnonzero(self.open)
        self.opened = self.triangles[self.openings]
        # the pupil, for eyes
        self.origins = np.array([113, 114, -1])[owners[owners > 0] - 1]
        lit = np.ones(len(self.on_map))
        upper = _with_middles([_CURVES[0]], middles)
        lit[upper + _with_middles([partners()[list(_CURVES[0])]], middles)] = 0.5
        corners = [20, 23, 53, 56]
        lit[corners] = 0.7
        self.lit = lit[self.opened].T
        self.lit[:, self.origins < 0] = 1
        incidence = np.zeros((len(self.on_map), len(self.triangles)))
        for corner in self.triangles.T:
            incidence[corner, np.arange(len(self.triangles))] = 1
        touching = np.zeros((self.background + 1, self.background + 1), bool)
        touching[:-1, :-1] = incidence.T @ incidence >= 2
        surface = self.kinds == SURFACE
        self.smooth = touching & surface & surface[:, None]
        # no visible edge where the back of the head begins
        rim = _with_middles([_RIM], middles)
        begun = np.arange(len(on_map), len(on_map) + len(rim))
        incidence[rim] += incidence[begun]
        incidence[begun] = incidence[rim]
        self.incidence = csr_array(incidence)

    def _add_head(self, flat: np.ndarray, middles: _Middles) -> None:
        """Add the back of the head, the ears and long hair around the rim of the face."""
        rim = _with_middles([_RIM], middles)
        n = len(rim)
        outline = flat[rim]
        outward = (outline - (0, 0.3)) * (1, 0.9)
        # hair adds volume over the skull, not the ears, and rounds the top of the head
        height = np.clip((outline[:, 1] + 0.3) / 0.4, 0.1, 1)[:, None]
        step = np.arange(n)
        rounding = np.clip(0.7 - np.abs(outline[:, :1]), 0, None) * (0, 1)
        hair = _in_depth((outward + rounding) * height, 0)
        columns = np.linspace(*HAIR_COLUMNS, n)
        low = outline[:, 1] < 0.05
        columns[low] = np.where(step < n // 2, *SKIN_COLUMNS)[low]
        on_map = np.stack([columns, to_map(outline)[:, 1]], axis=1)
        # vertex, offset, offsets per volume and length of hair, position on the map, light
        corners: list[tuple[Any, ...]] = []
        for offset, stands, light in (
            (np.zeros((n, 3)), 0, 1.0),
            (_in_depth(0 * outward, -0.12), 1, 0.95),
            (_in_depth(-0.18 * outward, -0.6), 1, 0.85),
        ):
            parts = zip(rim, offset, stands * hair, on_map, strict=True)
            corners += [(a, o, h, _STILL, place, light) for a, o, h, place in parts]
        triangles: list[_Triangle] = []
        for first in (0, n):
            for a, b in pairwise(range(first, first + n)):  # open at the nape
                # symmetrical diagonals
                left = a - first < n // 2
                triangles.append((a, n + a, b if left else n + b))
                triangles.append((b, n + a if left else a, n + b))
        apex = len(corners)
        triangles += [(2 * n + a, apex, 2 * n + (a + 1) % n) for a in range(n)]
        place = (np.mean(HAIR_COLUMNS), MIDDLE_ROW)
        corners.append((0, (0, -1, -0.9), _STILL, _STILL, place, 0.7))

        skin = (SKIN_COLUMNS[0], MIDDLE_ROW)
        partner = partners()
        for side in (1, -1):
            center, *ring = range(len(corners), len(corners) + len(_EAR))
            for vertex, x, y, z in _EAR:
                anchor = vertex if side > 0 else partner[vertex]
                light = 0.95 if len(corners) > center else 0.6
                corners.append((anchor, (side * x, y, z), _STILL, _STILL, skin, light))
            pairs = zip(ring, np.roll(ring, -side).tolist(), strict=True)
            triangles += [(center, a, b) for a, b in pairs]

        first = len(corners)
        for vertex, side, column in ((14, 1, -1), (47, -1, 0)):
            at, wide = (0.03 * side, 0, -0.2), (0.8 * side, 0, 0)
            top, end = ((HAIR_COLUMNS[column], row) for row in (60, 200))
            corners.append((vertex, at, wide, _STILL, top, 0.8))
            corners.append((vertex, at, wide, (0.1 * side, -1, 0), end, 0.7))
        triangles += [(first, first + 2, first + 3), (first, first + 3, first + 1)]
        self.of_head = np.array(triangles)
        arrays = (np.array(column) for column in zip(*corners, strict=True))
        self.anchors, self.offsets, self.away, self.falls, *rest = arrays
        self.head_on_map, self.head_occlusion = rest

    def view(
        self, vertices: np.ndarray, poses: np.ndarray, appearances: Sequence[Appearance]
    ) -> View:
        """Rotate, light and project faces.

        Parameters
        ----------
        vertices : ndarray of shape (n, 116, 3)
            Vertices of the faces.
        poses : ndarray of shape (n, 6)
            rx, ry, rz (radians), s, tx, ty (pixels).
        appearances : sequence of Appearance
            They give the hair and the light of each.

        Returns
        -------
        view : View
        """
        flat = _mix(self.blend, vertices)
        rotations = rotation_matrix(poses[:, :3])
        rotated = self._rotate(flat, rotations, appearances)
        points = poses[:, 3, None, None] * rotated[..., :2] * (1, -1) + poses[:, None, 4:]
        corners = np.moveaxis(points, 2, 0)[..., self.triangles.T]
        first, second = np.moveaxis(corners[:, :, 1:] - corners[:, :, :1], 2, 0)
        area = first[0] * second[1] - first[1] * second[0]
        # y points down: triangles that face the camera are clockwise
        visible = area < -_LEAST_AREA
        depth = rotated[..., 2][:, self.triangles.T].sum(1)
        ordered = np.lexsort((depth, np.broadcast_to(self.rank, depth.shape)))
        orders = [
            order[faces[order]] for order, faces in zip(ordered, visible, strict=True)
        ]

        values = np.empty((3, *corners.shape[1:]))
        values[:2] = self.on_map.T[:, None, self.triangles.T]
        values[:2, ..., self.openings] = self._positions(flat, rotated, rotations)
        values[2] = self._light(rotated, appearances)[:, self.triangles.T]
        values[2][..., self.openings] *= self.lit
        gradients = _gradients(corners, values, np.where(visible, area, 1))
        return View(corners, orders, gradients, flat)

    def _rotate(
        self, flat: np.ndarray, rotations: np.ndarray, appearances: Sequence[Appearance]
    ) -> np.ndarray:
        """Return all vertices of the scenes after rotation."""
        hair = [
            (appearance.hair_volume, appearance.hair_length)
            if appearance.hair_line <= NO_HAIR
            else (0, 0)
            for appearance in appearances
        ]
        volume, length = np.array(hair).T[..., None, None]
        around = flat[:, self.anchors] + self.offsets
        around += volume * self.away + length * self.falls
        head = np.concatenate([flat, around], axis=1) @ rotations.swapaxes(1, 2)
        return np.concatenate(
            [head, self.body + (rotations @ _NECK_PIVOT)[:, None]], axis=1
        )

    def _light(self, rotated: np.ndarray, appearances: Sequence[Appearance]) -> np.ndarray:
        """Return the light on the vertices."""
        corners = rotated[:, self.triangles]
        first, second = np.moveaxis(corners[:, :, 1:] - corners[:, :, :1], 2, 0)
        normals = _mix(self.incidence, np.cross(first, second))
        towards = np.array([appearance.light for appearance in appearances], np.float64)
        towards /= np.linalg.norm(towards, axis=1, keepdims=True)
        length = np.sqrt(np.einsum("nvi,nvi->nv", normals, normals)) + 1e-9
        lit = np.maximum((normals @ towards[..., None])[..., 0] / length, 0)
        ambient = np.array([[appearance.ambient] for appearance in appearances])
        return (ambient + (1 - ambient) * lit) * self.occlusion

    def _positions(
        self, flat: np.ndarray, rotated: np.ndarray, rotations: np.ndarray
    ) -> np.ndarray:
        """Return positions (2, n, 3, t) of the openings' corners, which give their tones.

        In the eyes they are offsets from the pupil in a frontal view; in the mouth they are
        positions of the unrotated face.
        """
        positions = flat[:, self.opened, :2]
        in_eye = self.origins >= 0
        pupils = rotated[:, self.origins[in_eye], None, :2]
        offsets = rotated[:, self.opened[in_eye], :2] - pupils
        positions[:, in_eye] = offsets @ _unrotated(rotations)[:, None]
        return np.moveaxis(positions, (3, 2), (0, 2))


def _mix(matrix: csr_array, vertices: np.ndarray) -> np.ndarray:
    """Return weighted sums of vertices (n, k, 3) by a sparse matrix (m, k)."""
    n, k, _ = vertices.shape
    mixed = matrix @ vertices.swapaxes(0, 1).reshape(k, -1)
    return mixed.reshape(-1, n, 3).swapaxes(0, 1)


def _in_depth(plane: np.ndarray, z: float) -> np.ndarray:
    return np.column_stack([plane, np.full(len(plane), z)])


def _unrotated(rotations: np.ndarray) -> np.ndarray:
    """Return the matrices from offsets in the image to the plane of the face."""
    left, share, right = np.linalg.svd(rotations[:, :2, :2])
    # an eye is round: even in profile a part of its iris is visible
    return (left / np.maximum(share, _LEAST_FORESHORTENING)[:, None]) @ right


def _gradients(corners: np.ndarray, values: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Return values (k, n, 3 corners, t) as a x + b y + c: (n, k, 3, t + 1)."""
    k, n, _, t = values.shape
    gradients = np.zeros((n, k, 3, t + 1), np.float32)
    (x1, y1), (x2, y2) = np.moveaxis(corners[:, :, 1:] - corners[:, :, :1], 2, 0) / area
    x, y = corners[:, :, 0]
    for i, (start, second, third) in enumerate(np.moveaxis(values, 2, 1)):
        along, across = second - start, third - start
        a = along * y2 - across * y1
        b = across * x1 - along * x2
        gradients[:, i, 0, :-1] = a
        gradients[:, i, 1, :-1] = b
        gradients[:, i, 2, :-1] = start - a * x - b * y
    return gradients


def _curved(
    triangles: np.ndarray, owners: np.ndarray, curves: Sequence[tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Middles]:
    """Add a vertex at the middle of each edge along the curves, and split triangles.

    Returns the matrix from old to new vertices, the triangles, their owners and the new
    vertex of each edge.
    """
    divided: list[_Triangle] = [(a, b, c) for a, b, c in triangles.tolist()]
    owned: list[int] = owners.tolist()
    known, every = set(), set()
    for a, b, c in divided:
        every |= {frozenset(edge) for edge in ((a, b), (b, c), (c, a))}
    partner = partners()
    rows, middles = list(np.eye(N_VERTICES)), {}
    for curve in [*curves, *(tuple(partner[list(curve)]) for curve in curves)]:
        for position, edge in enumerate(pairwise(int(i) for i in curve)):
            key = frozenset(edge)
            if key in known or key not in every:
                continue
            known.add(key)
            middles[key] = len(rows)
            rows.append(_middle_of_curve(curve, position))
            divided, owned = _split(divided, owned, edge, middles[key])
    return np.array(rows), np.array(divided), np.array(owned), middles


def _middle_of_curve(curve: Sequence[int], position: int) -> np.ndarray:
    """Return the weights of the vertices in a smooth curve's middle between two."""
    weights = np.zeros(N_VERTICES)
    start, end = curve[position : position + 2]
    before = curve[position - 1] if position > 0 else None
    after = curve[position + 2] if position + 2 < len(curve) else None
    weights[start] += 9 / 16
    weights[end] += 9 / 16
    for outer, near, far in ((before, start, end), (after, end, start)):
        if outer is None:  # the curve continues straight
            weights[near] -= 2 / 16
            weights[far] += 1 / 16
        else:
            weights[outer] -= 1 / 16
    return weights


def _split(
    triangles: list[_Triangle], owners: list[int], edge: tuple[int, int], middle: int
) -> tuple[list[_Triangle], list[int]]:
    divided, owned = [], []
    for triangle, owner in zip(triangles, owners, strict=True):
        if not set(edge) <= set(triangle):
            divided.append(triangle)
            owned.append(owner)
            continue
        first = next(i for i in range(3) if triangle[i - 1] not in edge)
        a, b, c = (triangle[(first + i) % 3] for i in range(3))
        divided += [(a, middle, c), (middle, b, c)]
        owned += [owner, owner]
    return divided, owned


def _with_middles(
    curves: Iterable[Sequence[int] | np.ndarray], middles: _Middles
) -> list[int]:
    """Return the vertices of curves with those on the middles of their edges."""
    found = []
    for curve in curves:
        for start, end in pairwise(int(i) for i in curve):
            found.append(start)
            middle = middles.get(frozenset((start, end)))
            found += [] if middle is None else [middle]
        found.append(int(curve[-1]))
    return found


def _neck() -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the neck's front, relative to its pivot, and its triangles."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 7)
    x, z = 0.5 * np.sin(angle), 0.42 * np.cos(angle) - 0.2
    top = np.stack([x, np.full(7, 0.1), z], axis=1)
    low = np.stack([1.15 * x, np.full(7, -1.3), z], axis=1)
    triangles = []
    for i in range(6):
        triangles += [(i, i + 7, i + 1), (i + 1, i + 7, i + 8)]
    return np.concatenate([top, low]), np.array(triangles)
