"""Geometry of points and images in the plane: similarity transforms and warps.

A transform is a matrix of shape (2, 3); it takes a point (x, y), in pixels and y down, to
``matrix[:, :2] @ (x, y) + matrix[:, 2]``. Pixel centres have whole coordinates.
"""

import numpy as np

__all__ = ["compose", "fit_similarity", "invert", "similarity", "transform_points", "warp"]


def similarity(scale, angle, centre, target):
    """Make the similarity transform that takes one point to another.

    Parameters
    ----------
    scale : float
        Lengths after over lengths before.
    angle : float
        Turn in radians, from the x axis towards the y axis: clockwise as images are seen.
    centre : array-like of shape (2,)
        A point before.
    target : array-like of shape (2,)
        Where it comes to lie.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
    """
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, np.asarray(target) - linear @ np.asarray(centre)])


def fit_similarity(source, target):
    """Fit the similarity transform that takes points to points, by least squares.

    Parameters
    ----------
    source, target : array-like of shape (p, 2)
        Points before and after; at least two different ones.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        Minimises the sum of squared distances between the transformed source and the
        target. It never mirrors.

    Raises
    ------
    ValueError
        If all source points are equal.

    Notes
    -----
    In two dimensions the orthogonal Procrustes problem without reflection has a closed
    form: with centred points as complex numbers it is the regression of one on the other.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    source_mean, target_mean = source.mean(0), target.mean(0)
    before, after = source - source_mean, target - target_mean
    size = (before**2).sum()
    if size == 0:
        raise ValueError("A similarity transform needs at least two different points.")
    cosine = (before * after).sum() / size
    sine = (before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]).sum() / size
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([linear, target_mean - linear @ source_mean])


def transform_points(matrix, points):
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


def invert(matrix):
    """Return the transform that undoes another.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        The transform.

    Returns
    -------
    inverse : ndarray of shape (2, 3)
    """
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


def compose(second, first):
    """Return the transform that does one after the other.

    Parameters
    ----------
    second, first : ndarray of shape (2, 3)
        Transforms.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
    """
    return np.column_stack(
        [second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]]
    )


def warp(image, matrix, size):
    """Transform an image, free of aliasing when it shrinks.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), uint8 or float32
        What is beyond its border looks like the border.
    matrix : ndarray of shape (2, 3)
        From pixels of the image to pixels of the result.
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    warped : ndarray of shape (height, width) or (height, width, 3), the dtype that came

    Notes
    -----
    Values between pixels are interpolated bilinearly. Where n pixels of the image fall
    on one of the result, the result is drawn n times larger and averaged down.
    """
    import cv2

    height, width = size
    shrinks = 1 / np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    times = max(1, round(shrinks))
    if times > 1:
        # pixel centres: 0 becomes the middle of the first `times` fine pixels
        finer = similarity(times, 0, (0, 0), ((times - 1) / 2, (times - 1) / 2))
        matrix = compose(finer, matrix)
    warped = cv2.warpAffine(
        image,
        matrix,
        (times * width, times * height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if times > 1:
        warped = cv2.resize(warped, (width, height), interpolation=cv2.INTER_AREA)
    return warped
