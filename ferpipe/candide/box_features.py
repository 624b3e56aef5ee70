"""Box features: differences of the mean brightness of two rectangles near a place.

They are read from the integral image: eight look-ups each, whatever the size.
"""

import numpy as np

__all__ = ["BoxFeatures", "box_pool", "mirrored_boxes"]

# half the side of the features' squares, in pixels of the crop, and how many positions a
# row; positions are one such half side apart
_SIZES = ((2, 5), (4, 5), (8, 5), (14, 3))


def box_pool():
    """List the features from which training chooses.

    Returns
    -------
    boxes : ndarray of shape (n, 2, 4), int
        Two rectangles a feature: left, top, right and bottom in pixels from the place that
        is described, right and bottom excluded.
    """
    pool = []
    for half, n_positions in _SIZES:
        steps = half * (np.arange(n_positions) - n_positions // 2)
        for y in steps:
            for x in steps:
                shift = np.array([x, y, x, y])
                pool += [np.array(pair) + shift for pair in _styles(half)]
    return np.array(pool)


def _styles(half):
    """Return pairs of rectangles within a square: edges, lines, a spot, diagonals."""
    whole, thin = (-half, -half, half, half), half // 2
    return [
        ((0, -half, half, half), (-half, -half, 0, half)),
        ((-half, 0, half, half), (-half, -half, half, 0)),
        ((-thin, -half, thin, half), whole),
        ((-half, -thin, half, thin), whole),
        ((-thin, -thin, thin, thin), whole),
        ((0, 0, half, half), (-half, -half, 0, 0)),
        ((-half, 0, 0, half), (0, -half, half, 0)),
    ]


def mirrored_boxes(boxes):
    """Return the features that show in a mirrored crop what others show in the crop.

    Parameters
    ----------
    boxes : ndarray of shape (..., 4), int
        Rectangles as :func:`box_pool` lists them.

    Returns
    -------
    mirrored : ndarray of shape (..., 4), int
    """
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([1 - right, top, 1 - left, bottom], axis=-1)


class BoxFeatures:
    """Box features at places of crops of one size.

    Parameters
    ----------
    boxes : ndarray of shape (..., 2, 4), int
        Rectangles as :func:`box_pool` lists them.
    side : int
        Height and width of the crops, in pixels.
    """

    def __init__(self, boxes, side):
        left, top, right, bottom = np.moveaxis(boxes, -1, 0)
        stride = side + 1
        corners = [(bottom, right), (top, left), (top, right), (bottom, left)]
        offsets = [row * stride + column for row, column in corners]
        self._offsets = np.stack(offsets).astype(np.intp)
        self._areas = ((right - left) * (bottom - top)).astype(np.float32)
        self._stride = stride
        reach = int(np.abs(boxes).max())
        self._low, self._high = reach, side - reach

    def index(self, places):
        """Return where places are in a flattened integral image.

        Parameters
        ----------
        places : ndarray of shape (..., 2)
            ``(x, y)`` in pixels. Those nearer to the border than the boxes reach are taken
            for the nearest that are not.

        Returns
        -------
        index : ndarray of shape (...), int
        """
        rounded = np.rint(places).astype(np.intp)
        np.clip(rounded, self._low, self._high, out=rounded)
        return rounded[..., 1] * self._stride + rounded[..., 0]

    def describe(self, integrals, index):
        """Compute the features at places.

        Parameters
        ----------
        integrals : ndarray of shape (n_crops * (side + 1) ** 2,), int32
            Integral images of crops, flattened: ``integral[y, x]`` is the sum of
            ``crop[:y, :x]``.
        index : ndarray of shape (..., n_places), int
            Of the places. The leading dimensions are those that the boxes have before
            their features.

        Returns
        -------
        features : ndarray of shape (..., n_places, n_features), float32
        """
        # corners first: each look-up is one array of all places and features
        corners = integrals.take(index[..., :, None, None] + self._offsets[..., None, :, :])
        sums = corners[0] + corners[1] - corners[2] - corners[3]
        means = sums / self._areas[..., None, :, :]
        return means[..., 0] - means[..., 1]
