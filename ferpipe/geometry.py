"""Geometry of points and images in the plane: similarity transforms and warps.

A transform is a matrix of shape (2, 3); it maps a point (x, y), in pixels and y down, to
``matrix[:, :2] @ (x, y) + matrix[:, 2]``. Pixel centers have whole coordinates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "Pair",
    "average_blocks",
    "compose",
    "fit_similarity",
    "invert",
    "scale_of",
    "similarity",
    "transform_points",
    "warp",
]

# x and y
Pair = Sequence[float] | np.ndarray


def similarity(scale: float, angle: float, center: Pair, target: Pair) -> np.ndarray:
    """Return the similarity transform that maps one point to another.

    Parameters
    ----------
    scale : float
        Factor of all lengths.
    angle : float
        Rotation in radians, from the x axis towards the y axis: clockwise in the image.
    center : array-like of shape (2,)
        A point ``(x, y)``, in pixels.
    target : array-like of shape (2,)
        Its image under the transform, in pixels.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
    """
    cosine, sine = float(scale * np.cos(angle)), float(scale * np.sin(angle))
    (x, y), (to_x, to_y) = center, target
    return np.array(
        [
            [cosine, -sine, to_x - cosine * x + sine * y],
            [sine, cosine, to_y - sine * x - cosine * y],
        ]
    )


def fit_similarity(source: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Fit the similarity transform from points to points, by least squares.

    Parameters
    ----------
    source, target : array-like of shape (p, 2)
        Points before and after, in pixels; at least two of the source differ.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        It minimizes the sum of squared distances between the transformed source and the
        target, and never mirrors.

    Raises
    ------
    ValueError
        If all source points are equal.

    Notes
    -----
    In two dimensions the orthogonal Procrustes problem without reflection has a closed
    form: the regression of the target on the source, centered and as complex numbers.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    before, after = source - source_mean, target - target_mean
    size = (before**2).sum()
    if size == 0:
        raise ValueError(
            "A similarity transform needs at least two different points, got equal ones."
        )
    cosine = (before * after).sum() / size
    sine = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum() / size
    x, y = source_mean
    to_x, to_y = target_mean
    return np.array(
        [
            [cosine, -sine, to_x - cosine * x + sine * y],
            [sine, cosine, to_y - sine * x - cosine * y],
        ]
    )


def scale_of(matrix: np.ndarray) -> float:
    """Return the factor by which a similarity transform multiplies lengths.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        The transform.

    Returns
    -------
    scale : float
    """
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def transform_points(matrix: np.ndarray, points: ArrayLike) -> np.ndarray:
    """Transform points.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        The transform.
    points : ndarray of shape (..., 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    points : ndarray of shape (..., 2)
    """
    return points @ matrix[:, :2].T + matrix[:, 2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a transform.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        The transform.

    Returns
    -------
    inverse : ndarray of shape (2, 3)

    Raises
    ------
    ValueError
        If the transform has no inverse.
    """
    (a, b, x), (c, d, y) = matrix.tolist()
    size = a * d - b * c
    if size == 0:
        raise ValueError("The transform maps the plane to a line: it has no inverse.")
    a, b, c, d = d / size, -b / size, -c / size, a / size
    return np.array([[a, b, -a * x - b * y], [c, d, -c * x - d * y]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the transform that applies one transform after another.

    Parameters
    ----------
    second, first : ndarray of shape (2, 3)
        The transforms; ``first`` is applied first.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
    """
    matrix = second[:, :2] @ first
    matrix[:, 2] += second[:, 2]
    return matrix


def warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Transform an image, without aliasing when it shrinks.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), uint8 or float32
        Its border pixels continue beyond the border.
    matrix : ndarray of shape (2, 3)
        From pixels of the image to pixels of the result.
    size : (int, int)
        Height and width of the result, in pixels.

    Returns
    -------
    warped : ndarray of shape (height, width) or (height, width, 3)
        With the dtype of the image.

    Notes
    -----
    Values between pixels are interpolated bilinearly. If the image shrinks by a factor n,
    blocks of n x n pixels are averaged first.
    """
    import cv2

    height, width = size
    linear = matrix[:, :2]
    times = round(abs(linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0]) ** -0.5)
    if times > 1:
        corners = np.array([(-1, -1), (-1, height), (width, -1), (width, height)])
        covered = transform_points(invert(matrix), corners)
        image, from_blocks = average_blocks(image, covered.min(0), covered.max(0), times)
        matrix = compose(matrix, from_blocks)
    return cv2.warpAffine(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def average_blocks(
    image: np.ndarray, low: Pair, high: Pair, times: int
) -> tuple[np.ndarray, np.ndarray]:
    """Shrink a part of an image by averaging blocks of pixels.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), uint8 or float32
        The image.
    low, high : array-like of shape (2,)
        ``(x, y)`` of opposite corners of the part, in pixels. The part is clipped to the
        image; if it lies outside, a strip at the image's border is kept.
    times : int
        Side of the blocks, in pixels.

    Returns
    -------
    small : ndarray
        One pixel per block, with the dtype of the image.
    matrix : ndarray of shape (2, 3)
        From pixels of the small image to pixels of the image.
    """
    import cv2

    height, width = image.shape[:2]
    border = 2 * times
    left = max(0, int(min(low[0], width) - border))
    top = max(0, int(min(low[1], height) - border))
    right = min(width, int(max(high[0], 0) + border + 1))
    bottom = min(height, int(max(high[1], 0) + border + 1))
    part = image[top:bottom, left:right]
    below, beside = -part.shape[0] % times, -part.shape[1] % times
    if below or beside:
        part = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    blocks = part.shape[1] // times, part.shape[0] // times
    small = cv2.resize(part, blocks, interpolation=cv2.INTER_AREA)
    middle = (times - 1) / 2
    return small, np.array([[times, 0.0, left + middle], [0.0, times, top + middle]])
