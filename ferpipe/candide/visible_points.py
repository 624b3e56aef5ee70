"""The points of the wireframe that landmarks show: their partners, normals and mean."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.candide.model import CandideModel
from ferpipe.candide.template import template_model
from ferpipe.geometry import fit_similarity, transform_points

__all__ = [
    "as_visible",
    "contour_normals",
    "mean_shape",
    "visible_partners",
    "visible_points",
]

# For each visible vertex of the left half and of the middle: the vertices before and after
# it on its contour (brow, lids, nose, lips; the chin's contour is parallel to the mouth).
_CONTOURS = """
15 15 16, 16 15 17, 17 16 17, 20 21 22, 21 20 23, 22 20 23, 23 21 22, 94 94 5, 5 94 6,
6 26 59, 26 26 6, 31 79 85, 79 31 33, 33 79 7, 7 33 66, 85 31 8, 8 85 86, 88 81 83,
81 88 87, 87 81 82, 83 88 40, 40 83 84, 10 31 64
"""


def visible_points(
    model: CandideModel, landmarks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that vertices of the wireframe are compared with, from all 68.

    Parameters
    ----------
    model : CandideModel
        Its ``landmarks`` list the points that show each vertex.
    landmarks : ndarray of shape (..., 68, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    vertices : ndarray of shape (k,), int
        Indices of the vertices, ascending.
    points : ndarray of shape (..., k, 2)
        Positions of these vertices in the image, in pixels.
    """
    vertices, weights = model.landmark_weights
    return vertices, weights @ landmarks


def as_visible(points: ArrayLike) -> np.ndarray:
    """Return the visible points of faces, from these or from all 68 points.

    Parameters
    ----------
    points : array-like of shape (n, 68, 2) or (n, k, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    points : ndarray of shape (n, k, 2)

    Raises
    ------
    ValueError
        If the number of points is not 68 or k, or a number is not finite.
    """
    points = np.asarray(points, np.float64)
    model = template_model()
    n_visible = len(model.landmarks)
    if points.ndim != 3 or points.shape[1:] not in ((68, 2), (n_visible, 2)):
        raise ValueError(
            f"points must have the shape (n, 68, 2), or (n, {n_visible}, 2) for the "
            f"visible ones, got {points.shape}."
        )
    if not np.isfinite(points).all():
        raise ValueError("points must be finite numbers: leave out faces without points.")
    return visible_points(model, points)[1] if points.shape[1] == 68 else points


@cache
def visible_partners() -> np.ndarray:
    """Return for each visible point the index of the one on the other side of the face.

    Returns
    -------
    partner : ndarray of shape (k,), int
        A point in the middle is its own partner.
    """
    model = template_model()
    visible = sorted(model.landmarks)
    names = {vertex: name for name, vertex in model.vertex_names.items()}
    other = {"left": "right", "right": "left"}
    partner = []
    for vertex in visible:
        stem, _, side = names[vertex].rpartition("_")
        name = f"{stem}_{other[side]}" if side in other else names[vertex]
        partner.append(visible.index(model.vertex_names[name]))
    return np.array(partner)


@cache
def _neighbors() -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of each visible point's neighbors on its contour."""
    model = template_model()
    visible = sorted(model.landmarks)
    partner = visible_partners()
    before, after = np.arange(len(visible)), np.arange(len(visible))
    for line in _CONTOURS.replace("\n", " ").split(","):
        one, start, end = (visible.index(int(number)) for number in line.split())
        before[one], after[one] = start, end
        if partner[one] != one:
            before[partner[one]], after[partner[one]] = partner[start], partner[end]
    return before, after


def contour_normals(points: np.ndarray) -> np.ndarray:
    """Return the normals of the contours on which the visible points lie.

    Parameters
    ----------
    points : ndarray of shape (..., k, 2)
        All visible points, in pixels.

    Returns
    -------
    normals : ndarray of shape (..., k, 2)
        Unit vectors. Where a point's neighbors coincide, along the image's y axis.

    Notes
    -----
    The contours are the brows, the lids, the ridge and the lower edge of the nose, and the
    outer and the inner edge of the lips. In the corners of eyes and mouth both edges
    meet, and the normal points along the eye or the mouth.
    """
    before, after = _neighbors()
    along = points[..., after, :] - points[..., before, :]
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 0, along / np.where(length > 0, length, 1), [1.0, 0.0])
    return np.stack([-along[..., 1], along[..., 0]], axis=-1)


def mean_shape(points: np.ndarray) -> np.ndarray:
    """Return the symmetric mean of faces, upright and with an outer eye distance of 1.

    Parameters
    ----------
    points : ndarray of shape (n, k, 2)
        Visible points of faces, in pixels.

    Returns
    -------
    mean : ndarray of shape (k, 2)
        In outer eye distances, from the middle between the outer corners of the eyes.
    """
    model = template_model()
    visible = sorted(model.landmarks)
    left, right = (
        visible.index(model.vertex_names[f"eye_outer_{side}"]) for side in ("left", "right")
    )
    partner = visible_partners()
    mean = points[0]
    for _ in range(4):
        aligned = [transform_points(fit_similarity(one, mean), one) for one in points]
        mean = np.mean(aligned, axis=0)
        mean = mean - (mean[left] + mean[right]) / 2
        mean = (mean + (mean * (-1, 1))[partner]) / 2
        # the subject's left eye is on the right of the image
        mean = mean / (mean[left, 0] - mean[right, 0])
    return mean
