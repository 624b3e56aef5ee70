"""Random changes of training crops: where a face is cut out and what it looks like."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.geometry import compose, similarity, transform_points

__all__ = ["change_picture", "far", "near", "shear"]


def far(
    rng: np.random.Generator, placement: NDArray[Any], middle: NDArray[Any]
) -> NDArray[np.float64]:
    """Draw where a detector's box might put the mean face.

    Parameters
    ----------
    rng : numpy.random.Generator
        What it is drawn from.
    placement : ndarray of shape (2, 3)
        From the mean face to the image, where it is.
    middle : ndarray of shape (2,)
        Of the mean face.

    Returns
    -------
    placement : ndarray of shape (2, 3)
    """
    angle = rng.normal(0, 10) if rng.random() < 0.8 else rng.uniform(-40, 40)
    size = _size(placement) * np.exp(rng.normal(0, 0.13))
    shift = rng.normal(size=2) * (0.16, 0.11) * _size(placement)
    target = transform_points(placement, middle) + shift
    return similarity(size, np.deg2rad(angle), middle, target)


def near(
    rng: np.random.Generator, placement: NDArray[Any], middle: NDArray[Any]
) -> NDArray[np.float64]:
    """Draw where the coarse network might put the mean face.

    Parameters
    ----------
    rng : numpy.random.Generator
        What it is drawn from.
    placement : ndarray of shape (2, 3)
        From the mean face to the image, where it is.
    middle : ndarray of shape (2,)
        Of the mean face.

    Returns
    -------
    placement : ndarray of shape (2, 3)
    """
    angle = np.arctan2(placement[1, 0], placement[0, 0]) + np.deg2rad(rng.normal(0, 4))
    size = _size(placement) * np.exp(rng.normal(0, 0.05))
    shift = rng.normal(size=2) * 0.035 * _size(placement)
    target = transform_points(placement, middle) + shift
    return similarity(size, angle, middle, target)


def shear(rng: np.random.Generator, matrix: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Let a crop show the face a little wider, narrower or slanted.

    Parameters
    ----------
    rng : numpy.random.Generator
        What it is drawn from.
    matrix : ndarray of shape (2, 3)
        From the image to the crop.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
    """
    middle = np.full(2, (size - 1) / 2)
    linear = np.eye(2) + rng.normal(0, 0.05, (2, 2))
    return compose(np.column_stack([linear, middle - linear @ middle]), matrix)


def change_picture(
    crop: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Change focus, resolution, light and noise, and cover a part.

    Parameters
    ----------
    crop : ndarray of shape (size, size), float32
        Gray values 0..255.
    rng : numpy.random.Generator
        What the changes are drawn from.

    Returns
    -------
    crop : ndarray of shape (size, size), float32
        Values may leave 0..255.
    """
    import cv2

    size = len(crop)
    picture: NDArray[Any] = crop
    if rng.random() < 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.2:
        small = max(8, round(size * rng.uniform(0.3, 0.8)))
        picture = cv2.resize(picture, (small, small), interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        picture = 255 * np.clip(picture / 255, 0, 1) ** np.exp(rng.normal(0, 0.4))
    picture = (picture - 128) * np.exp(rng.normal(0, 0.25)) + 128 + rng.normal(0, 20)
    if rng.random() < 0.3:
        ramp, angle = np.linspace(-1, 1, size), rng.uniform(0, 2 * np.pi)
        light = np.cos(angle) * ramp + np.sin(angle) * ramp[:, None]
        picture = picture * (1 + 0.5 * rng.random() * light)
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(2, 12), picture.shape)
    if rng.random() < 0.4:
        height, width = (rng.uniform(0.1, 0.45, 2) * size).astype(int)
        row, column = rng.integers(0, size - height), rng.integers(0, size - width)
        patch = picture[row : row + height, column : column + width]
        if rng.random() < 0.5:
            patch[:] = rng.uniform(0, 255)
        else:
            row, column = rng.integers(0, size - height), rng.integers(0, size - width)
            patch[:] = picture[row : row + height, column : column + width].copy()
    return picture.astype(np.float32)


def _size(placement: NDArray[Any]) -> float:
    return np.hypot(placement[0, 0], placement[1, 0])
