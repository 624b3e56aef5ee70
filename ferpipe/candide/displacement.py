"""Displaced faces, from which objectives are trained and measured."""

import numpy as np

from ferpipe.geometry import fit_similarity, scale_of, similarity, transform_points

__all__ = [
    "displace",
]

# Of what displaces training shapes, in shares of the lines' reach: standard deviations of
# the shift (outer eye distances), the turn (radians) and the logarithm of the size. Faces
# start from others' shapes where lines reach this far, and from nearer ones where less.
_SHIFT, _TURN, _GROWTH = 0.4, 0.4, 0.33
_OTHERS_SHAPE = 0.3


def displace(points, reach, mean_points, rng):
    """Displace faces as much as fits are off whose search lines reach so far.

    Parameters
    ----------
    points : ndarray of shape (n, k, 2)
        Visible points of faces, in pixels.
    reach : float
        Half the length of search lines, in outer eye distances.
    mean_points : ndarray of shape (k, 2)
        Of a face whose outer eye distance is 1.
    rng : numpy.random.RandomState
        What draws.

    Returns
    -------
    displaced : ndarray of shape (n, k, 2)
        Each face's shape is mixed with another's, the more the further lines reach, and
        shifted, turned and made larger or smaller.
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
