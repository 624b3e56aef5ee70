"""Displaced faces, from which objectives are trained and measured."""

import numpy as np

from ferpipe.geometry import fit_similarity, scale_of, similarity, transform_points

__all__ = ["displace"]

# Standard deviations of the displacements, as fractions of the reach: of the shift (outer
# eye distances), the rotation (radians) and the logarithm of the scale. From _OTHERS_SHAPE
# on, the displaced shape is another face's shape; below, a mixture of both.
_SHIFT, _TURN, _GROWTH = 0.4, 0.4, 0.33
_OTHERS_SHAPE = 0.3


def displace(
    points: np.ndarray, reach: float, mean_points: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Displace faces by as much as search lines of a given reach can correct.

    Parameters
    ----------
    points : ndarray of shape (n, k, 2)
        Visible points of faces, in pixels.
    reach : float
        Half the length of search lines, in outer eye distances.
    mean_points : ndarray of shape (k, 2)
        Points of the mean face; its outer eye distance is 1.
    rng : numpy.random.RandomState
        The source of random numbers.

    Returns
    -------
    displaced : ndarray of shape (n, k, 2)
        In pixels. Each shape is mixed with another face's shape, more for a larger reach,
        then shifted, rotated and scaled at random.
    """
    others = rng.permutation(len(points))
    blend = min(1.0, reach / _OTHERS_SHAPE)
    displaced = np.empty_like(points)
    for number, (shape, other) in enumerate(zip(points, points[others], strict=True)):
        aligned = transform_points(fit_similarity(other, shape), other)
        mixed = shape + blend * (aligned - shape)
        unit = scale_of(fit_similarity(mean_points, shape))
        middle = mixed.mean(0)
        matrix = similarity(
            np.exp(rng.normal(0, _GROWTH * reach)),
            rng.normal(0, _TURN * reach),
            middle,
            middle + rng.normal(0, _SHIFT * reach * unit, 2),
        )
        displaced[number] = transform_points(matrix, mixed)
    return displaced
