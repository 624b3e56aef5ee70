"""Local binary patterns (LBP): the texture around each pixel, counted in cells."""

from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import check_images, check_pair
from ferpipe._compat import Interval, StrOptions
from ferpipe.features.cells import cell_edges
from ferpipe.features.extractor import ImageExtractor, to_gray

__all__ = ["LBPFeatures", "lbp", "local_binary_pattern"]

METHODS = ("default", "ror", "uniform", "nri_uniform", "var")
NORMS = ("L1", "L1-sqrt", "L2")
# patterns of more points have too many codes for a histogram or a table
_MOST_POINTS_IN_TABLE = 16
_VARIANCE_BINS = 16
# pixels in memory at a time, and pixels processed at a time: by measurement, the values
# computed from them just fit into the second-level cache
_PIXELS = 1 << 17
_BLOCK = 40_000


def local_binary_pattern(
    images: NDArray[Any], n_points: int = 8, radius: float = 1, method: str = "default"
) -> NDArray[Any]:
    """Local binary patterns of a batch of gray images.

    Each pixel is compared with points on a circle around it. The image is interpolated
    bilinearly at these points, and is 0 outside its borders.

    Parameters
    ----------
    images : ndarray of shape (n, h, w)
        Gray images, uint8 or float.
    n_points : int, default=8
        Number of points on the circle, from 1 to 31.
    radius : float, default=1
        Radius of the circle, in pixels.
    method : {"default", "ror", "uniform", "nri_uniform", "var"}, default="default"
        "default": one bit for each point that is not darker than the center, counted
        counterclockwise from the right; "ror": the smallest code among the pattern's
        rotations; "uniform": number of bits set, or ``n_points + 1`` if the bits change
        more than twice around the circle; "nri_uniform": the same with a code for each
        rotation (59 codes for 8 points); "var": variance of the points, NaN where it is 0.

    Returns
    -------
    codes : ndarray of shape (n, h, w)
        uint8, uint16 or uint32, whichever holds the codes; float64 for "var".

    Notes
    -----
    The codes are those of :func:`skimage.feature.local_binary_pattern`, also where
    rounding decides whether a point is as bright as its center: comparisons run in single
    precision first, and those that it cannot decide run again in scikit-image's order of
    operations. Variances are the same up to rounding.

    References
    ----------
    .. [1] T. Ojala, M. Pietikäinen and T. Mäenpää, "Multiresolution gray-scale and
       rotation invariant texture classification with local binary patterns", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 24(7), 2002.
    """
    offsets = circle(n_points, radius)
    n, height, width = images.shape
    margin = int(np.ceil(np.abs(offsets).max()))
    shape = (height + 2 * margin, width + 2 * margin)
    inside = np.s_[:, margin : margin + height, margin : margin + width]
    codes: NDArray[Any] = np.empty(
        images.shape, np.float64 if method == "var" else code_type(n_points)
    )
    step = max(1, _PIXELS // (shape[0] * shape[1]))
    padded = np.zeros((min(step, n), *shape), exact_type(images.dtype))
    for start in range(0, n, step):
        chunk = images[start : start + step]
        padded[: len(chunk)][inside] = chunk
        describe = variances if method == "var" else patterns
        found = describe(padded[: len(chunk)], (0, 1), offsets, origin=margin)
        codes[start : start + step] = found[inside]
    return codes if method in ("default", "var") else relabel(codes, n_points, method)


def lbp(
    images: NDArray[Any],
    *,
    n_points: int | Sequence[int] = 8,
    radius: float | Sequence[float] = 1,
    method: str = "nri_uniform",
    cells: tuple[int, int] = (6, 6),
    overlap: float = 0.0,
    norm: str | None = "L1",
) -> NDArray[Any]:
    """Histograms of local binary patterns in the cells of a grid.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    n_points : int or sequence of int, default=8
        Number of points on the circle; one for each radius, or one for all.
    radius : float or sequence of float, default=1
        Radius of the circle in pixels. Several radii give several scales in a row.
    method : {"default", "ror", "uniform", "nri_uniform", "var"}, default="nri_uniform"
        As for :func:`local_binary_pattern`.
    cells : (int, int), default=(6, 6)
        Rows and columns of the grid of cells, which covers the image.
    overlap : float, default=0.0
        Share of a cell's height and width that overlaps with the next cell, from 0 to
        below 1. Larger shares make larger cells; the grid always covers the image.
    norm : {"L1", "L1-sqrt", "L2"} or None, default="L1"
        Norm by which each histogram is divided; "L1-sqrt" then takes the square root,
        None keeps the counts.

    Returns
    -------
    features : ndarray of shape (n, n_radii * rows * columns * n_bins), float32
        In the order radius, cell row, cell column, bin.

    Raises
    ------
    ValueError
        If the image has fewer rows or columns of pixels than the grid has cells.
    """
    gray = to_gray(images)
    edges = cell_edges(gray.shape[1:], cells, overlap)
    features = []
    for points, distance in scales(n_points, radius):
        if method == "var":
            labels = _variance_ranks(
                local_binary_pattern(gray, points, distance, "var"), gray
            )
        else:
            labels = bins_of(local_binary_pattern(gray, points, distance), points, method)
        counts = count_in_cells(labels[:, None], n_bins(points, method), edges)
        features.append(normalized(counts, norm).reshape(len(gray), -1))
    return np.concatenate(features, axis=1)


# Geometry


def circle(n_points: int, radius: Any) -> NDArray[Any]:
    """Offsets (rows, columns) of the points on a circle or an ellipse, in pixels.

    ``radius`` is one number, or two for rows and columns. The points start at the right
    and run counterclockwise; they are rounded as in scikit-image.
    """
    # scikit-image converts the radius to single precision
    rows, columns = np.broadcast_to(np.float32(radius), 2).astype(np.float64)
    angles = 2 * np.pi * np.arange(n_points, dtype=np.float64) / n_points
    offsets = np.stack([-rows * np.sin(angles), columns * np.cos(angles)], axis=1)
    return np.round(offsets, 5)


def scales(n_points: Any, radius: Any) -> list[tuple[int, float]]:
    """Pair the numbers of points with the radii, as a list."""
    radii: list[Any] = [radius] if isinstance(radius, Real) else list(radius)
    one = isinstance(n_points, Integral)
    points: list[Any] = [n_points] * len(radii) if one else list(n_points)
    return list(zip(points, radii, strict=True))


# Patterns


def exact_type(dtype: Any) -> type:
    """Smallest of uint8, float32 and float64 that holds what scikit-image computes on."""
    if dtype in (np.uint8, np.bool_):
        return np.uint8
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


def code_type(n_points: int) -> type:
    """Smallest whole-number type with a bit for each point."""
    return np.uint8 if n_points <= 8 else np.uint16 if n_points <= 16 else np.uint32


def patterns(
    samples: NDArray[Any], axes: tuple[int, int], offsets: NDArray[Any], *, origin: int = 0
) -> NDArray[Any]:
    """Compare each pixel or voxel with points around it in one plane: one bit per point.

    Parameters
    ----------
    samples : ndarray of shape (n, a, b) or (n, a, b, c)
        Images or volumes, C-contiguous, in one of the types of :func:`exact_type`.
    axes : (int, int)
        Which axes of a sample are the rows and the columns of the plane.
    offsets : ndarray of shape (n_points, 2)
        Rows and columns from the center to the points.
    origin : int, default=0
        Index at which the image begins; the rest is margin.

    Returns
    -------
    codes : ndarray of the shape of samples
        Correct wherever all points lie within the sample; arbitrary near its edges.
    """
    values = samples.reshape(-1)
    strides = _strides(samples, axes)
    reach = _reach(offsets, strides)
    by_column: list[Any] = [
        (column, [(n, offsets[n, 0]) for n in np.flatnonzero(offsets[:, 1] == column)])
        for column in np.unique(offsets[:, 1])
    ]
    octets = np.zeros((-(-len(offsets) // 8), len(values)), np.uint8)
    doubtful: list[list[NDArray[Any]]] = [[] for _ in offsets]
    for start in range(reach, len(values) - reach, _BLOCK):
        stop = min(start + _BLOCK, len(values) - reach)
        around = values[start - reach : stop + reach]
        found = _compare_quickly(around, reach, by_column, strides, octets[:, start:stop])
        for number, places in found:
            doubtful[number].append(places + start)
    for number, parts in enumerate(doubtful):
        if parts:  # a point on a pixel is always decided
            places = np.concatenate(parts)
            places = _compare_exactly(samples, places, axes, offsets[number], origin)
            octets[number // 8, places] |= np.uint8(1 << number % 8)
    if len(octets) == 1:
        return octets[0].reshape(samples.shape)
    codes: NDArray[Any] = np.zeros(len(values), code_type(len(offsets)))
    for number, octet in enumerate(octets):
        codes |= np.left_shift(octet, 8 * number, dtype=codes.dtype)
    return codes.reshape(samples.shape)


def _compare_quickly(
    values: NDArray[Any],
    reach: int,
    by_column: list[Any],
    strides: list[int],
    octets: NDArray[Any],
) -> list[tuple[int, NDArray[Any]]]:
    """Set the bits that single precision can decide; return the places of the others.

    ``values`` are the values of ``octets`` and ``reach`` more at both ends; ``by_column``
    lists the numbers and rows of the points for each column. The result is pairs of a
    point's number and the undecided indices within ``octets``.
    """
    import cv2

    n, (down, right) = len(values) - 2 * reach, strides
    peak = 255.0 if values.dtype == np.uint8 else float(np.abs(values).max())
    # several times the error of an interpolation in single precision
    tolerance = np.float32(max(peak * 2.0**-18, 1e-35) if peak < 1e30 else np.inf)
    center = values[reach : reach + n]
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32, copy=False)
        low = single[reach : reach + n] - tolerance
        high = single[reach : reach + n] + tolerance
    flat = _flat_patches(values, single, strides)
    line, point = np.empty_like(single), np.empty_like(low)
    above, bits = np.empty(n, bool), np.empty(n, np.uint8)
    known, certain = np.ones(n, bool), {}
    for column, points in by_column:
        rows, share = single, column % 1
        if share:
            cv2.addWeighted(
                single[:-right], 1 - share, single[right:], share, 0, dst=line[:-right]
            )
            rows = line
        for number, row in points:
            share_down = row % 1
            first = reach + int(row - share_down) * down + int(column - share) * right
            if share or share_down:
                at = rows[first : first + n]
                if share_down:
                    below = rows[first + down : first + down + n]
                    cv2.addWeighted(at, 1 - share_down, below, share_down, 0, dst=point)
                    at = point
                np.greater(at, high, out=above)
                sure = certain[number] = np.less(at, low)
                # equal pixels interpolate to themselves (see _flat_patches)
                if not (0 < row < 0.5 or 0 < column < 0.5):
                    equal = np.equal(values[first : first + n], center, out=bits.view(bool))
                    equal &= flat[first : first + n]
                    above |= equal
                sure |= above
                known &= sure
            else:
                np.greater_equal(values[first : first + n], center, out=above)
            np.multiply(above.view(np.uint8), np.uint8(1 << number % 8), out=bits)
            octets[number // 8] |= bits
    places = np.flatnonzero(~known)
    return [(number, places[~sure[places]]) for number, sure in certain.items()]


def _flat_patches(values: NDArray[Any], single: Any, strides: list[int]) -> NDArray[Any]:
    """Find the 2x2 patches of one value, by their first pixel.

    Interpolation in double precision gives that value exactly, however the weights are
    rounded: if 1 - w is exact, (1 - w) v and w v are rounded by amounts that leave
    their sum at most half a unit in the last place from v, and a v with an even last bit
    (as single precision numbers have) wins the tie. 1 - w is exact at all places but
    those between 0 and one half.
    """
    down, right = strides
    flat = np.zeros(len(values), bool)
    n = len(values) - down - right
    np.equal(values[:n], values[right : right + n], out=flat[:n])
    for move in (down, down + right):
        flat[:n] &= values[:n] == values[move : move + n]
    if values.dtype == np.float64:
        flat &= values == single
    return flat


def variances(
    samples: NDArray[Any], axes: tuple[int, int], offsets: NDArray[Any], *, origin: int = 0
) -> NDArray[Any]:
    """Variance of the points around each pixel; parameters as for :func:`patterns`.

    Where all points are equal, the variance is 0 and the result NaN.
    """
    values = samples.reshape(-1)
    down, right = strides = _strides(samples, axes)
    reach = _reach(offsets, strides)
    size = min(_BLOCK // 2, len(values) - 2 * reach)
    line, change = np.empty((2, size + 2 * reach))
    total, squares, point, other = np.empty((4, size))
    variance = np.full(len(values), np.nan)
    for start in range(reach, len(values) - reach, size):
        n = min(size, len(values) - reach - start)
        around = values[start - reach : start + n + reach].astype(np.float64)
        total[:] = squares[:] = 0
        for column in np.unique(offsets[:, 1]):
            rows, share = around, column % 1
            if share:
                rows = _between(around[:-right], around[right:], share, line, change)
            for row in offsets[offsets[:, 1] == column, 0]:
                first = reach + int(np.floor(row)) * down + int(np.floor(column)) * right
                at = rows[first : first + n]
                if row % 1:
                    below = rows[first + down : first + down + n]
                    at = _between(at, below, row % 1, point, other)
                total[:n] += at
                squares[:n] += np.multiply(at, at, out=other[:n])
        with np.errstate(over="ignore", invalid="ignore"):
            found = (squares - total * total / len(offsets)) / len(offsets)
        variance[start : start + n] = np.where(found == 0, np.nan, found)[:n]
    return variance.reshape(samples.shape)


def _between(
    first: NDArray[Any],
    second: NDArray[Any],
    share: float,
    out: NDArray[Any],
    spare: NDArray[Any],
) -> NDArray[Any]:
    """Interpolate between two arrays, so that equal values give themselves exactly."""
    out, spare = out[: len(first)], spare[: len(first)]
    np.subtract(second, first, out=spare)
    np.multiply(spare, share, out=spare)
    return np.add(first, spare, out=out)


def _compare_exactly(
    samples: NDArray[Any],
    places: NDArray[Any],
    axes: tuple[int, int],
    offset: NDArray[Any],
    origin: int,
) -> NDArray[Any]:
    """Return the places, flat indices, where a point is not darker than the center.

    The operations and their order are those of scikit-image, in double precision.
    """
    values = samples.reshape(-1)
    strides = _strides(samples, axes)
    (above, below), (left, after) = (
        [share[places // stride % size] for share in _weights(size, origin, along)]
        for size, stride, along in zip(
            [samples.shape[1 + axis] for axis in axes], strides, offset, strict=True
        )
    )
    first = places + np.floor(offset).astype(int) @ strides
    # a point on a row or column of pixels needs no second one
    down, right = (np.ceil(offset) - np.floor(offset)).astype(int) * strides
    top = left * values[first] + after * values[first + right]
    bottom = left * values[first + down] + after * values[first + down + right]
    return places[above * top + below * bottom >= values[places]]


def _weights(size: int, origin: int, offset: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights of the pixels before and after a point, for each coordinate of its center."""
    # the sum first: its rounding depends on the place
    points = np.arange(size) - origin + offset
    after = points - np.floor(points)
    return 1 - after, after


def _strides(samples: NDArray[Any], axes: tuple[int, int]) -> list[int]:
    return [samples.strides[1 + axis] // samples.itemsize for axis in axes]


def _reach(offsets: NDArray[Any], strides: list[int]) -> int:
    """How far from a center its points can be in memory."""
    return int(np.ceil(np.abs(offsets)).max(axis=0) @ strides)


def relabel(codes: NDArray[Any], n_points: int, method: str) -> NDArray[Any]:
    """Turn patterns of bits into the codes of "ror", "uniform" or "nri_uniform"."""
    if codes.dtype == np.uint8:
        import cv2

        # OpenCV's tables have 256 entries, and its images two dimensions
        table = np.resize(_table(n_points, method), 256)
        return cv2.LUT(codes.reshape(len(codes), -1), table).reshape(codes.shape)
    if n_points <= _MOST_POINTS_IN_TABLE:
        return _table(n_points, method).take(codes)
    labels = np.empty_like(codes)
    old, new = codes.reshape(-1), labels.reshape(-1)
    for start in range(0, len(old), _BLOCK // 2):
        part = slice(start, start + _BLOCK // 2)
        new[part] = _relabel(old[part], n_points, method)
    return labels


@lru_cache
def _table(n_points: int, method: str) -> NDArray[Any]:
    every = np.arange(2**n_points, dtype=code_type(n_points))
    table = every if method == "default" else _relabel(every, n_points, method)
    table.flags.writeable = False
    return table


def _relabel(codes: NDArray[Any], n_points: int, method: str) -> NDArray[Any]:
    last = n_points - 1
    if method == "ror":
        smallest = turned = codes
        for _ in range(last):
            turned = (turned >> 1) | ((turned & 1) << last)
            smallest = np.minimum(smallest, turned)
        return smallest
    ones = np.bitwise_count(codes).astype(codes.dtype)
    changes = np.bitwise_count(codes ^ ((codes >> 1) | ((codes & 1) << last)))
    if method == "uniform":
        return np.where(changes <= 2, ones, codes.dtype.type(n_points + 1))
    # uniform: one run of ones, given by its length and its start
    wide, ones = codes.astype(np.int64), ones.astype(np.int64)
    first_one = np.bitwise_count((wide & -wide) - 1).astype(np.int64)
    first_zero = np.bitwise_count((~wide & (wide + 1)) - 1).astype(np.int64)
    turns = np.where(first_one == 0, ones - first_zero, n_points - first_one)
    labels = np.where(ones == 0, 0, 1 + (ones - 1) * n_points + turns)
    labels = np.where(ones == n_points, n_points * last + 1, labels)
    labels = np.where(changes <= 2, labels, n_points * last + 2)
    return labels.astype(codes.dtype)


# Histograms


def n_bins(n_points: int, method: str) -> int:
    """Count the bins of a histogram of patterns."""
    if method == "default":
        return 2**n_points
    if method == "ror":
        return int(bin_of_pattern(n_points, method).max()) + 1
    if method == "uniform":
        return n_points + 2
    return _VARIANCE_BINS if method == "var" else n_points * (n_points - 1) + 3


@lru_cache
def bin_of_pattern(n_points: int, method: str) -> NDArray[Any]:
    """Make a table of the bin of each pattern of bits, for up to 16 points.

    The bin is the code; for "ror", the number of the code among those that occur.
    """
    codes = _table(n_points, method)
    bins = np.unique(codes, return_inverse=True)[1] if method == "ror" else codes
    bins = bins.astype(np.intp)
    bins.flags.writeable = False
    return bins


def bins_of(codes: NDArray[Any], n_points: int, method: str) -> NDArray[Any]:
    """Turn patterns of bits into numbers of bins."""
    if n_points <= _MOST_POINTS_IN_TABLE:
        return bin_of_pattern(n_points, method).take(codes)
    return relabel(codes, n_points, method).astype(np.intp)


def _variance_ranks(variance: NDArray[Any], images: NDArray[Any]) -> NDArray[Any]:
    """Return the sixteenth of the image's variances in which each variance lies."""
    axes = (1, 2)
    peak = np.abs(images.astype(np.float64)).max(axis=axes, keepdims=True)
    # smaller values are rounding errors; NaN stands for 0
    variance = np.where(variance > 1e-12 * peak**2, variance, 0.0)
    rows = np.sort(variance.reshape(len(variance), -1), axis=1)
    ends = np.arange(1, _VARIANCE_BINS) * rows.shape[1] // _VARIANCE_BINS
    ranks = np.zeros(variance.shape, np.intp)
    for limit in rows[:, np.maximum(ends - 1, 0)].T:
        ranks += variance > limit[:, None, None]
    return ranks


def count_in_cells(
    labels: NDArray[Any], n_bins: int, edges: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> NDArray[Any]:
    """Count labels in each cell of a grid.

    Parameters
    ----------
    labels : ndarray of shape (n, t, h, w), intp
        Bin of each pixel of t frames, which are counted together.
    n_bins : int
        Number of bins.
    edges : list of two (starts, ends)
        As :func:`ferpipe.features.cells.cell_edges` gives them for (h, w).

    Returns
    -------
    counts : ndarray of shape (n, rows, columns, n_bins), int
    """
    n = len(labels)
    # cells that overlap are sums of the zones between all edges
    cuts = [np.unique(np.concatenate(pair)) for pair in edges]
    zones = [
        np.searchsorted(cut, np.arange(size), side="right") - 1
        for cut, size in zip(cuts, labels.shape[2:], strict=True)
    ]
    n_zones = [len(cut) - 1 for cut in cuts]
    place = (zones[0][:, None] * n_zones[1] + zones[1]) * n_bins
    first = np.arange(n)[:, None, None, None] * (n_zones[0] * n_zones[1] * n_bins)
    keys = labels + place
    keys += first
    counts = np.bincount(keys.reshape(-1), minlength=n * n_zones[0] * n_zones[1] * n_bins)
    counts = counts.reshape(n, *n_zones, n_bins)
    for axis, (cut, (starts, ends)) in enumerate(zip(cuts, edges, strict=True), start=1):
        if len(cut) - 1 == len(starts):
            continue
        begin = np.zeros_like(counts.take([0], axis))
        sums = np.concatenate([begin, counts.cumsum(axis)], axis)
        counts = sums.take(np.searchsorted(cut, ends), axis)
        counts -= sums.take(np.searchsorted(cut, starts), axis)
    return counts


def normalized(counts: NDArray[Any], norm: str | None) -> NDArray[Any]:
    """Divide histograms, along the last axis, by their norm; in single precision."""
    histograms = counts.astype(np.float32)
    if norm is None:
        return histograms
    if norm == "L2":
        return histograms / np.linalg.norm(histograms, axis=-1, keepdims=True)
    histograms /= histograms.sum(axis=-1, keepdims=True)
    return np.sqrt(histograms) if norm == "L1-sqrt" else histograms


class LBPFeatures(ImageExtractor, BaseEstimator):
    """Histograms of local binary patterns: small structures by their place.

    The pattern of a pixel lists the points on a circle around it that are at least as
    bright: spots, edges, line ends and flat places each have their own patterns. Patterns
    are counted in the cells of a grid, which keeps their place on the face. Monotone
    changes of the light change nothing. A classic for expressions, often with an SVM.

    Parameters
    ----------
    n_points : int or sequence of int, default=8
        Number of points on the circle; one for each radius, or one for all.
    radius : float or sequence of float, default=1
        Radius of the circle in pixels. Several radii give several scales in a row.
    method : {"default", "ror", "uniform", "nri_uniform", "var"}, default="nri_uniform"
        "default": all patterns (256 bins for 8 points); "ror": rotations are one pattern
        (36); "uniform": by the number of brighter points, with one bin for all patterns
        that change more than twice around the circle (10); "nri_uniform": the same with
        a bin for each rotation (59), the u2 of Ahonen et al. [1]_; "var": variance of
        the points, in 16 bins.
    cells : (int, int), default=(6, 6)
        Rows and columns of the grid of cells, which covers the image.
    overlap : float, default=0.0
        Share of a cell's height and width that overlaps with the next cell, from 0 to
        below 1.
    norm : {"L1", "L1-sqrt", "L2"} or None, default="L1"
        Norm by which each cell's histogram is divided. "L1-sqrt" then takes the square
        root: a linear SVM on it compares histograms by the Hellinger distance. None keeps
        the counts.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    LBPTopFeatures : Patterns in space and time, of sequences.

    Notes
    -----
    The codes are those of :func:`skimage.feature.local_binary_pattern`: points are
    interpolated bilinearly, and the image is 0 outside. Ahonen et al. [1]_ weight
    some regions more than others; here the classifier does.

    The bins of "var" are the sixteenths of the image's own variances, so nothing is
    learned and contrast has no effect; Ojala et al. [2]_ learn them from all training
    images.

    References
    ----------
    .. [1] T. Ahonen, A. Hadid and M. Pietikäinen, "Face description with local binary
       patterns: application to face recognition", IEEE Transactions on Pattern Analysis
       and Machine Intelligence 28(12), 2006.
    .. [2] T. Ojala, M. Pietikäinen and T. Mäenpää, "Multiresolution gray-scale and
       rotation invariant texture classification with local binary patterns", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 24(7), 2002.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import LBPFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = LBPFeatures(radius=(1, 2)).fit(faces)
    >>> extractor.transform(faces).shape
    (4, 4248)
    >>> str(extractor.get_feature_names_out()[-1])
    'lbp_R2_r5c5_b58'
    """

    _parameter_constraints: dict = {
        "n_points": [Interval(Integral, 1, 31, closed="both"), tuple, list],
        "radius": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "method": [StrOptions(set(METHODS))],
        "cells": [tuple, list],
        "overlap": [Interval(Real, 0, 1, closed="left")],
        "norm": [StrOptions(set(NORMS)), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        n_points: int | Sequence[int] = 8,
        radius: float | Sequence[float] = 1,
        method: str = "nri_uniform",
        cells: tuple[int, int] = (6, 6),
        overlap: float = 0.0,
        norm: str | None = "L1",
        n_jobs: int | None = None,
    ) -> None:
        self.n_points = n_points
        self.radius = radius
        self.method = method
        self.cells = cells
        self.overlap = overlap
        self.norm = norm
        self.n_jobs = n_jobs

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``lbp_R1_r3c4_b12``.

        ``R1`` is the radius, ``r3c4`` the row and column of the cell, and ``b12`` the
        number of the bin: the code, for "ror" the position of the code among those that
        occur, for "var" the sixteenth.

        Parameters
        ----------
        input_features : ignored
            Ignored: pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        names = [
            f"lbp_R{radius:g}_r{row}c{column}_b{number}"
            for points, radius in scales(self.n_points, self.radius)
            for row in range(self.cells[0])
            for column in range(self.cells[1])
            for number in range(n_bins(points, self.method))
        ]
        return np.asarray(names, dtype=object)

    def plot(self, image: NDArray[Any], axes: Any = None) -> Any:
        """Draw the codes of an image, one radius beside the other, and the cells.

        Parameters
        ----------
        image : ndarray of shape (h, w) or (h, w, 3)
            Gray or RGB.
        axes : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        axes : matplotlib Axes
        """
        images = check_images([image])
        self._check_parameters(images.shape[1:])
        gray = to_gray(images)
        pictures = [
            local_binary_pattern(gray, points, radius, self.method)[0]
            for points, radius in scales(self.n_points, self.radius)
        ]
        edges = cell_edges(gray.shape[1:], self.cells, self.overlap)
        titles = [f"R = {radius:g}" for _, radius in scales(self.n_points, self.radius)]
        return draw_codes(pictures, titles, [edges] * len(pictures), axes)

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        check_scales(self.n_points, self.radius, self.method)
        check_pair(self.cells, "cells", (6, 6))
        cell_edges(image_shape[:2], self.cells, self.overlap)

    def _describe(self, images: NDArray[Any]) -> NDArray[Any]:
        return lbp(
            images,
            n_points=self.n_points,
            radius=self.radius,
            method=self.method,
            cells=self.cells,
            overlap=self.overlap,
            norm=self.norm,
        )


def check_scales(n_points: Any, radius: Any, method: str) -> None:
    """Refuse points and radii that do not form pairs, repeat, or have no histogram."""
    radii = [radius] if isinstance(radius, Real) else list(radius)
    points = [n_points] * len(radii) if isinstance(n_points, Integral) else list(n_points)
    if not radii or not all(isinstance(r, Real) and float(r) > 0 for r in radii):
        raise ValueError(f"radius must be positive, a number or several, got {radius!r}.")
    if len({f"{r:g}" for r in radii}) < len(radii):
        raise ValueError(f"radius must not name a scale twice, got {radius!r}.")
    if len(points) != len(radii):
        raise ValueError(
            f"n_points must be one number, or one for each radius, got {n_points!r} for "
            f"radius={radius!r}."
        )
    check_points(points, method)


def check_points(points: Any, method: str) -> None:
    """Refuse numbers of points that a histogram of the method cannot have."""
    most = _MOST_POINTS_IN_TABLE if method in ("default", "ror") else 31
    if not all(isinstance(p, Integral) and 1 <= int(p) <= most for p in points):
        raise ValueError(
            f"n_points must be whole numbers from 1 to {most} for histograms of "
            f"method={method!r}, got {points!r}: use fewer, or method='uniform'."
        )


def draw_codes(
    pictures: Sequence[NDArray[Any]],
    titles: Sequence[str],
    edges: Sequence[Sequence[tuple[NDArray[Any], NDArray[Any]]]],
    axes: Any = None,
) -> Any:
    """Draw pictures of codes side by side, each with the borders of its cells."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    if axes is None:
        width = sum(picture.shape[1] for picture in pictures) / pictures[0].shape[0]
        axes = Figure(figsize=(4 * width, 4.3), layout="constrained").subplots()
    left = 0
    for picture, title, (rows, columns) in zip(pictures, titles, edges, strict=True):
        height, width = picture.shape
        extent = (left - 0.5, left + width - 0.5, height - 0.5, -0.5)
        axes.imshow(picture, cmap="gray", extent=extent)
        for top, bottom in zip(*rows, strict=True):
            for first, last in zip(*columns, strict=True):
                place, size = (left + first - 0.5, top - 0.5), (last - first, bottom - top)
                axes.add_patch(Rectangle(place, *size, fill=False, color="#37e0c8", lw=0.6))
        axes.text(left + width / 2, -1.5, title, ha="center", va="bottom")
        left += width + max(2, width // 16)
    axes.set(xlim=(-0.5, left), ylim=(max(p.shape[0] for p in pictures) - 0.5, -0.5))
    axes.axis("off")
    return axes
