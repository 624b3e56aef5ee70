"""Rasterize triangles: find the visible triangle of each pixel and interpolate in it."""

import numpy as np

__all__ = ["find_sides", "interpolate", "rasterize"]


def find_sides(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the lines that bound triangles, above and below their middle corner.

    Parameters
    ----------
    x : ndarray of shape (..., 3, t)
        Coordinates of the corners, in pixels.
    y : ndarray of shape (..., 3, t)
        Coordinates of the corners, in pixels; y points down.

    Returns
    -------
    sides : ndarray of shape (..., 4, t, 2)
        a, b, c and d of the upper and of the lower part: it lies from x = a y + b to
        x = c y + d.
    heights : ndarray of shape (..., 3, t)
        Ascending y of the corners.
    """
    xs, ys = (list(np.moveaxis(one, -2, 0)) for one in (x, y))
    for i, j in ((0, 1), (1, 2), (0, 1)):
        later = ys[i] > ys[j]
        xs[i], xs[j] = np.where(later, xs[j], xs[i]), np.where(later, xs[i], xs[j])
        ys[i], ys[j] = np.minimum(ys[i], ys[j]), np.maximum(ys[i], ys[j])

    def line(begin: int, end: int) -> np.ndarray:
        # from top to bottom, so that neighbors compute their common side alike
        rise = ys[end] - ys[begin]
        slope = (xs[end] - xs[begin]) / np.where(rise > 0, rise, 1)
        return np.stack([slope, xs[begin] - slope * ys[begin]], axis=-2)

    long, upper, lower = line(0, 2), line(0, 1), line(1, 2)
    turns_left = (xs[1] < long[..., 0, :] * ys[1] + long[..., 1, :])[..., None, :]
    sides = np.empty((*xs[0].shape[:-1], 4, xs[0].shape[-1], 2))
    for part, short in enumerate((upper, lower)):
        sides[..., :2, :, part] = np.where(turns_left, short, long)
        sides[..., 2:, :, part] = np.where(turns_left, long, short)
    return sides, np.stack(ys, axis=-2)


def rasterize(
    sides: np.ndarray, heights: np.ndarray, labels: np.ndarray, background: int, size: int
) -> np.ndarray:
    """Label each pixel with the last triangle that covers its center.

    Parameters
    ----------
    sides : ndarray of shape (4, t, 2)
        From :func:`find_sides`.
    heights : ndarray of shape (3, t)
        From :func:`find_sides`.
    labels : ndarray of shape (t,), int16
        Labels of the triangles.
    background : int
        Label of pixels that no triangle covers.
    size : int
        Width and height of the image in pixels.

    Returns
    -------
    labeled : ndarray of shape (size, size), int16
    """
    rows = np.ceil(heights).clip(0, size).astype(np.int32)
    n_rows = (rows[1:] - rows[:2]).T.ravel()
    row = _counted(rows[:2].T.ravel(), n_rows)
    a, b, c, d = np.repeat(sides.reshape(4, -1), n_rows, axis=1)
    begin = np.ceil(a * row + b).clip(0, size).astype(np.int32)
    end = np.ceil(c * row + d).clip(0, size).astype(np.int32)
    length = np.maximum(end - begin, 0)
    of_spans = np.repeat(np.repeat(labels, 2), n_rows)
    labeled = np.full(size * size, background, np.int16)
    labeled[_counted(row * size + begin, length)] = np.repeat(of_spans, length)
    return labeled.reshape(size, size)


def _counted(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the integers from each start on, for the given lengths, concatenated."""
    ends = np.cumsum(lengths, dtype=np.int32)
    total = ends[-1] if len(ends) else 0
    return np.arange(total, dtype=np.int32) + np.repeat(starts - ends + lengths, lengths)


def interpolate(
    gradients: np.ndarray, labels: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Interpolate values within labeled triangles.

    Parameters
    ----------
    gradients : ndarray of shape (k, 3, n_labels), float32
        Coefficients a, b, c of each value of each triangle: a x + b y + c.
    labels : ndarray, int
        Triangles at the points, of a shape that x and y broadcast to.
    x : ndarray, float32
        Coordinates of the points, in pixels.
    y : ndarray, float32
        Coordinates of the points, in pixels.

    Returns
    -------
    values : ndarray of shape (k, *labels.shape), float32
    """
    values = np.empty((len(gradients), *labels.shape), np.float32)
    part = np.empty(labels.shape, np.float32)
    for value, (a, b, c) in zip(values, gradients, strict=True):
        # all indices are in range: mode="clip" saves a copy
        a.take(labels, out=value, mode="clip")
        value *= x
        b.take(labels, out=part, mode="clip")
        part *= y
        value += part
        c.take(labels, out=part, mode="clip")
        value += part
    return values
