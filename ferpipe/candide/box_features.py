"""Box features: differences of the mean brightness of two rectangles near a point.

An integral image gives each with eight array reads, whatever its size.
"""

import numpy as np

__all__ = ["BoxFeatures", "box_pool", "mirrored_boxes"]

# left, top, right, bottom
_Rectangle = tuple[int, int, int, int]
# half the side of the features' squares, in pixels of the crop, and the number of positions
# per row; positions are half a side apart
_SIZES = ((2, 5), (4, 5), (8, 5), (14, 3))


def box_pool() -> np.ndarray:
    """List the features from which training chooses.

    Returns
    -------
    boxes : ndarray of shape (n, 2, 4), int
        Two rectangles per feature: left, top, right and bottom in pixels from the point,
        right and bottom excluded.
    """
    pool = []
    for half, n_positions in _SIZES:
        steps = half * (np.arange(n_positions) - n_positions // 2)
        for y in steps:
            for x in steps:
                shift = np.array([x, y, x, y])
                pool += [np.array(pair) + shift for pair in _styles(half)]
    return np.array(pool)


def _styles(half: int) -> list[tuple[_Rectangle, _Rectangle]]:
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


def mirrored_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return the features whose values in a mirrored crop are those in the crop.

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
    """Box features at points of crops of one size.

    Parameters
    ----------
    boxes : ndarray of shape (..., 2, 4), int
        Rectangles as :func:`box_pool` lists them.
    side : int
        Height and width of the crops, in pixels.
    """

    def __init__(self, boxes: np.ndarray, side: int) -> None:
        left, top, right, bottom = np.moveaxis(boxes, -1, 0)
        stride = side + 1
        corners = [(bottom, right), (top, left), (top, right), (bottom, left)]
        offsets = [row * stride + column for row, column in corners]
        self._offsets = np.stack(offsets).astype(np.intp)
        self._areas = ((right - left) * (bottom - top)).astype(np.float32)
        self._stride = stride
        reach = int(np.abs(boxes).max())
        self._low, self._high = reach, side - reach

    def index(self, points: np.ndarray) -> np.ndarray:
        """Return the indices of points in a flattened integral image.

        Parameters
        ----------
        points : ndarray of shape (..., 2)
            ``(x, y)`` in pixels. Points so near to the border that a box would cross it
            are moved inwards.

        Returns
        -------
        index : ndarray of shape (...), int
        """
        rounded = np.rint(points).astype(np.intp)
        np.clip(rounded, self._low, self._high, out=rounded)
        return rounded[..., 1] * self._stride + rounded[..., 0]

    def describe(self, integrals: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Compute the features at points.

        Parameters
        ----------
        integrals : ndarray of shape (n_crops * (side + 1) ** 2,), int32
            Integral images of crops, flattened: ``integral[y, x]`` is the sum of
            ``crop[:y, :x]``.
        index : ndarray of shape (..., n_places), int
            Indices from :meth:`index`. The leading dimensions are those of the boxes
            before their features.

        Returns
        -------
        features : ndarray of shape (..., n_places, n_features), float32
        """
        # corners first: each read is one array of all points and features
        corners = integrals.take(index[..., :, None, None] + self._offsets[..., None, :, :])
        sums = corners[0] + corners[1] - corners[2] - corners[3]
        means = sums / self._areas[..., None, :, :]
        return means[..., 0] - means[..., 1]
