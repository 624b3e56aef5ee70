"""Gabor filters: edges and stripes of a face by place, width and direction."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import check_images, check_landmarks, check_pair
from ferpipe._compat import Interval, StrOptions
from ferpipe.features.cells import cell_edges
from ferpipe.features.extractor import ImageExtractor, to_gray

__all__ = ["GaborFeatures", "gabor", "gabor_at_points", "gabor_responses"]

# half an octave apart; coarser banks classified expressions worse on 48x48 crops
_FREQUENCIES = (0.4, 0.283, 0.2, 0.141, 0.1)
# extent of a kernel to either side, in standard deviations of its Gaussian
_EXTENT = 3
# pixels filtered at a time: the responses to all of them fit into the processor's cache
_PIXELS = 8 * 48 * 48
# side of the parts in which images are filtered: wider ones multiply more zeros
_SIDE = 32


def gabor(
    images: NDArray[Any],
    *,
    frequencies: Sequence[float] = _FREQUENCIES,
    orientations: int = 8,
    bandwidth: float = 1.0,
    part: str = "magnitude",
    cells: tuple[int, int] = (6, 6),
    pool: str = "mean",
) -> NDArray[Any]:
    """Responses of a batch of images to a bank of Gabor filters, pooled over cells.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    frequencies : tuple of float, default=(0.4, 0.283, 0.2, 0.141, 0.1)
        Frequencies of the waves, in cycles per pixel.
    orientations : int, default=8
        Number of orientations: the waves run in the directions ``k * pi / orientations``.
    bandwidth : float, default=1.0
        Range of frequencies that a filter passes, in octaves.
    part : {"magnitude", "real", "imaginary"}, default="magnitude"
        Part of the complex response that becomes the feature.
    cells : (int, int), default=(6, 6)
        Rows and columns of cells that an image is divided into.
    pool : {"mean", "max", "std", "center"}, default="mean"
        How the responses in a cell are pooled: mean, maximum or standard deviation over
        its pixels, or the pixel in its middle.

    Returns
    -------
    features : ndarray of shape (n, n_frequencies * orientations * n_cells), float32
        In the order frequency, orientation, cell row, cell column.

    Raises
    ------
    ValueError
        If the images have fewer rows or columns than there are cells.
    """
    height, width = images.shape[1:3]
    edges = _borders((height, width), cells)
    grid = _Grid(*edges, *map(_weights, edges))
    bank = _bank(height, width, tuple(frequencies), orientations, bandwidth)
    features = np.empty((len(images), len(bank), orientations, *cells), np.float32)
    pooled = _POOLS[pool]
    for some, frequency, orientation, response in _responses(images, bank):
        values = _part_of(response, part).reshape(height, -1, width)
        features[some, frequency, orientation] = pooled(values, grid).swapaxes(0, 1)
    return features.reshape(len(images), -1)


def gabor_at_points(
    images: NDArray[Any],
    points: NDArray[Any],
    *,
    frequencies: Sequence[float] = _FREQUENCIES,
    orientations: int = 8,
    bandwidth: float = 1.0,
    part: str = "magnitude",
) -> NDArray[Any]:
    """Responses to a bank of Gabor filters at given points of each image.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    points : ndarray of shape (n, p, 2)
        x and y of points in each image, in pixels, such as landmarks. The response is that
        of the nearest pixel; for a point outside the image, the nearest one at its edge.
    frequencies, orientations, bandwidth, part
        As for :func:`gabor`.

    Returns
    -------
    features : ndarray of shape (n, p * n_frequencies * orientations), float32
        In the order point, frequency, orientation: the "jets" of elastic bunch graphs.

    Raises
    ------
    ValueError
        If the number of images with points differs from the number of images.
    """
    points = check_landmarks(points, name="points")
    if len(points) != len(images):
        raise ValueError(
            f"points must hold a set of points for each image: got {len(points)} sets for "
            f"{len(images)} images."
        )
    height, width = images.shape[1:3]
    at = np.rint(points).astype(int).clip(0, (width - 1, height - 1))
    bank = _bank(height, width, tuple(frequencies), orientations, bandwidth)
    features = np.empty((*at.shape[:2], len(bank), orientations), np.float32)
    for some, frequency, orientation, response in _responses(images, bank):
        values = _part_of(response, part).reshape(height, -1, width)
        x, y = np.moveaxis(at[some], 2, 0)
        features[some, :, frequency, orientation] = values[y, np.arange(len(x))[:, None], x]
    return features.reshape(len(images), -1)


def gabor_responses(
    images: NDArray[Any],
    *,
    frequencies: Sequence[float] = _FREQUENCIES,
    orientations: int = 8,
    bandwidth: float = 1.0,
) -> NDArray[Any]:
    """Complex responses of a batch of images to a bank of Gabor filters.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    frequencies, orientations, bandwidth
        As for :func:`gabor`.

    Returns
    -------
    responses : ndarray of shape (n, n_frequencies, orientations, h, w), complex64
        The pair that :func:`skimage.filters.gabor` returns, as one complex number. Images
        are mirrored at their edges; the pixels at the edge count twice.
    """
    height, width = images.shape[1:3]
    bank = _bank(height, width, tuple(frequencies), orientations, bandwidth)
    shape = (len(images), len(bank), orientations, height, width)
    responses = np.empty(shape, np.complex64)
    for some, frequency, orientation, (real, imaginary) in _responses(images, bank):
        place = responses[some, frequency, orientation]
        place.real = real.reshape(height, -1, width).swapaxes(0, 1)
        place.imag = imaginary.reshape(height, -1, width).swapaxes(0, 1)
    return responses


class GaborFeatures(ImageExtractor, BaseEstimator):
    """Magnitudes of Gabor filters over cells: wrinkles and lips by size and direction.

    A Gabor filter is a wave under a Gaussian. It responds to stripes and edges of one size
    and one direction near a pixel, much as the simple cells of the visual cortex do. The
    magnitude of the response hardly changes when an edge moves a little; its means over
    the cells of a grid are a compact description of an aligned face.

    Parameters
    ----------
    frequencies : tuple of float, default=(0.4, 0.283, 0.2, 0.141, 0.1)
        Frequencies of the waves, in cycles per pixel.
    orientations : int, default=8
        Number of orientations: the waves run in the directions ``k * pi / orientations``.
    bandwidth : float, default=1.0
        Range of frequencies that a filter passes, in octaves; it sets the width of
        the Gaussian.
    part : {"magnitude", "real", "imaginary"}, default="magnitude"
        Part of the complex response that becomes the feature.
    cells : (int, int), default=(6, 6)
        Rows and columns of cells that an image is divided into.
    pool : {"mean", "max", "std", "center"}, default="mean"
        How the responses in a cell are pooled: mean, maximum or standard deviation over
        its pixels, or the pixel in its middle, which samples the face at a grid of
        points.
    n_jobs : int, default=None
        Number of threads; None means 1, -1 all processors.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.
    value_scale_ : float or None
        Scale of the gray values seen in fit, which the features grow with: its largest
        value, 1, 15, 255 or 65535; None for others.

    See Also
    --------
    ferpipe.PerFrame : Apply it to every frame of sequences.
    ferpipe.features.gabor.gabor_at_points : Responses at points of each image, such as
        landmarks.

    Notes
    -----
    Kernels are those of :func:`skimage.filters.gabor_kernel` with its Gaussian (as wide
    along the wave as across it, cut off at three standard deviations), and images are
    mirrored at their edges as in :func:`skimage.filters.gabor`'s mode ``"reflect"``. Lades
    et al. [1]_ subtract the mean of each kernel, so that even light gives no response; this
    class does not: at a bandwidth of one octave, it is 0.2 % of the light. A kernel
    with a round Gaussian is an outer product of two waves, so each filter is two matrix
    products, and the matrices include the mirror at the edges. Orientations on either side
    of the vertical share the products.

    References
    ----------
    .. [1] M. Lades et al., "Distortion invariant object recognition in the dynamic link
       architecture", IEEE Transactions on Computers 42(3), 1993.
    .. [2] M. Lyons et al., "Coding facial expressions with Gabor wavelets", FG 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import GaborFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = GaborFeatures().fit(faces)
    >>> extractor.transform(faces).shape  # 5 frequencies, 8 orientations, 36 cells
    (4, 1440)
    >>> str(extractor.get_feature_names_out()[0])
    'gabor_f0.40_t0_r0c0'
    """

    depends_on_scale = True

    _parameter_constraints: dict = {
        "frequencies": [tuple, list],
        "orientations": [Interval(Integral, 1, None, closed="left")],
        "bandwidth": [Interval(Real, 0, None, closed="neither")],
        "part": [StrOptions({"magnitude", "real", "imaginary"})],
        "cells": [tuple, list],
        "pool": [StrOptions({"mean", "max", "std", "center"})],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        *,
        frequencies: Sequence[float] = _FREQUENCIES,
        orientations: int = 8,
        bandwidth: float = 1.0,
        part: str = "magnitude",
        cells: tuple[int, int] = (6, 6),
        pool: str = "mean",
        n_jobs: int | None = None,
    ) -> None:
        self.frequencies = frequencies
        self.orientations = orientations
        self.bandwidth = bandwidth
        self.part = part
        self.cells = cells
        self.pool = pool
        self.n_jobs = n_jobs

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``gabor_f0.20_t45_r3c2``.

        ``f0.20`` is the frequency in cycles per pixel; ``t45`` the direction in which the
        wave runs, in degrees from the x axis towards the y axis (downwards), so that ``t0``
        responds to upright stripes; ``r3c2`` the row and column of the cell.

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
            f"gabor_f{frequency}_t{180 * k / self.orientations:.4g}_r{row}c{column}"
            for frequency in _frequency_names(self.frequencies)
            for k in range(self.orientations)
            for row in range(self.cells[0])
            for column in range(self.cells[1])
        ]
        return np.asarray(names, dtype=object)

    def plot(self, image: NDArray[Any], axes: Any = None) -> Any:
        """Draw the responses of one image before pooling, and the cells.

        Parameters
        ----------
        image : array-like of shape (h, w) or (h, w, 3)
            Gray or RGB.
        axes : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        axes : matplotlib Axes
            One row per frequency, each on its own scale, and one column per orientation.
        """
        from matplotlib.figure import Figure

        images = check_images([image])
        self._check_parameters(images.shape[1:])
        height, width = images.shape[1:3]
        (responses,) = gabor_responses(
            images,
            frequencies=self.frequencies,
            orientations=self.orientations,
            bandwidth=self.bandwidth,
        )
        takes: dict[str, Any] = {"magnitude": np.abs, "real": np.real, "imaginary": np.imag}
        values: NDArray[Any] = takes[self.part](responses)
        values /= np.maximum(np.abs(values).max(axis=(1, 2, 3), keepdims=True), 1e-12)
        n_rows, n_columns = values.shape[:2]
        if axes is None:
            size = (0.9 * n_columns + 0.8, 0.9 * n_rows * height / width + 0.6)
            axes = Figure(figsize=size, layout="constrained").add_subplot()
        tiles = values.swapaxes(1, 2).reshape(n_rows * height, n_columns * width)
        signed = self.part != "magnitude"
        axes.imshow(
            tiles,
            cmap="RdBu_r" if signed else "magma",
            vmin=-1 if signed else 0,
            vmax=1,
            extent=(0, n_columns * width, n_rows * height, 0),
        )
        rows, columns = _borders((height, width), self.cells)
        for tile in range(n_rows):
            axes.hlines(tile * height + rows, 0, n_columns * width, "0.6", lw=0.25)
        for tile in range(n_columns):
            axes.vlines(tile * width + columns, 0, n_rows * height, "0.6", lw=0.25)
        axes.hlines(np.arange(n_rows + 1) * height, 0, n_columns * width, "white", lw=1)
        axes.vlines(np.arange(n_columns + 1) * width, 0, n_rows * height, "white", lw=1)
        axes.set_xticks(
            (np.arange(n_columns) + 0.5) * width,
            [f"{180 * k / n_columns:.4g}°" for k in range(n_columns)],
        )
        axes.set_yticks(
            (np.arange(n_rows) + 0.5) * height, _frequency_names(self.frequencies)
        )
        axes.set(xlabel="direction of the wave", ylabel="cycles per pixel")
        axes.tick_params(length=0)
        return axes

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        frequencies = self.frequencies
        if not frequencies or not all(
            isinstance(number, Real) and 0 < float(number) <= 0.5 for number in frequencies
        ):
            raise ValueError(
                "frequencies must be numbers above 0 and at most 0.5 cycles per pixel, "
                f"such as (0.25, 0.125), got {frequencies!r}."
            )
        if len(set(frequencies)) < len(frequencies):
            raise ValueError(f"frequencies must differ, got {frequencies!r}.")
        check_pair(self.cells, "cells", (6, 6))
        cell_edges(image_shape[:2], self.cells)

    def _describe(self, images: NDArray[Any]) -> NDArray[Any]:
        return gabor(
            images,
            frequencies=self.frequencies,
            orientations=self.orientations,
            bandwidth=self.bandwidth,
            part=self.part,
            cells=self.cells,
            pool=self.pool,
        )


# real and imaginary part
_Response = tuple[NDArray[Any], NDArray[Any]]
# outputs, the inputs that they need, and the block of the matrix between them
_Blocks = list[tuple[slice, slice, NDArray[Any]]]


class _Filter(NamedTuple):
    """The waves along y and x whose outer product is a kernel.

    With the wave along x reversed, they make the kernel of the mirrored orientation, so a
    filter may have two orientations. A wave is a list of blocks of its matrix,
    or None where it is 0.
    """

    orientations: tuple[int, ...]
    y_real: list
    y_imaginary: list | None
    x_real: list
    x_imaginary: list | None


@lru_cache(maxsize=8)
def _bank(
    height: int,
    width: int,
    frequencies: tuple[float, ...],
    orientations: int,
    bandwidth: float,
) -> list[list[_Filter]]:
    """Return the filters of each frequency."""
    octaves = 2.0**bandwidth
    spread = math.sqrt(math.log(2) / 2) / math.pi * (octaves + 1) / (octaves - 1)
    bank = []
    for frequency in frequencies:
        sigma = spread / frequency
        filters = []
        for k in range(orientations // 2 + 1):
            angle = math.pi * k / orientations
            along_x, along_y = math.cos(angle), math.sin(angle)
            extent = math.ceil(max(_EXTENT * sigma * max(along_x, along_y), 1))
            y = _wave(height, frequency * along_y, sigma, extent)
            x = _wave(width, frequency * along_x, sigma, extent)
            upright, level = k == 0, 2 * k == orientations
            filters.append(
                _Filter(
                    (k,) if upright or level else (k, orientations - k),
                    _blocks(y.real),
                    None if upright else _blocks(y.imag),
                    _blocks(x.real),
                    None if level else _blocks(x.imag),
                )
            )
        bank.append(filters)
    return bank


def _wave(size: int, frequency: float, sigma: float, extent: int) -> NDArray[Any]:
    """Return the matrix that convolves a mirrored signal with a wave under a Gaussian."""
    offset = np.arange(-extent, extent + 1)
    wave = np.exp(-0.5 * (offset / sigma) ** 2 + 2j * np.pi * frequency * offset)
    wave /= math.sqrt(2 * math.pi) * sigma
    pixel = np.arange(size)[:, None]
    source = (pixel - offset) % (2 * size)
    source = np.minimum(source, 2 * size - 1 - source)
    matrix = np.zeros((size, size), complex)
    np.add.at(matrix, (pixel, source), wave)
    return matrix


def _blocks(matrix: NDArray[Any]) -> _Blocks:
    """Cut a matrix along its band: outputs, the inputs that they need, the block."""
    edges = np.linspace(0, len(matrix), math.ceil(len(matrix) / _SIDE) + 1).astype(int)
    blocks = []
    for start, stop in pairwise(edges):
        needed = np.flatnonzero(matrix[start:stop].any(axis=0))
        inputs = slice(needed[0], needed[-1] + 1)
        block = np.ascontiguousarray(matrix[start:stop, inputs], np.float32)
        blocks.append((slice(start, stop), inputs, block))
    return blocks


def _responses(
    images: NDArray[Any], bank: list[list[_Filter]]
) -> Iterator[tuple[slice, int, int, _Response]]:
    """Yield which images, frequency, orientation, and the real and imaginary response.

    Both parts have shape (h * n, w), the rows of all these images together; the next
    response overwrites them.
    """
    height, width = images.shape[1:3]
    step = min(max(1, _PIXELS // (height * width)), len(images))
    memory = _aligned(7, step * height * width)
    for start in range(0, len(images), step):
        some = slice(start, start + step)
        gray = np.ascontiguousarray(to_gray(images[some]).swapaxes(0, 1), np.float32)
        shape = (height * gray.shape[1], width)
        buffers = [buffer[: math.prod(shape)].reshape(shape) for buffer in memory]
        for frequency, filters in enumerate(bank):
            for each in filters:
                for orientation, response in _filter(gray, each, buffers):
                    yield some, frequency, orientation, response


def _aligned(count: int, size: int) -> NDArray[Any]:
    """Return buffers that begin at multiples of 64 bytes.

    OpenCV rounds the last bit of a magnitude depending on its address in memory.
    """
    padded = -(-size // 16) * 16
    memory = np.empty(count * padded + 16, np.float32)
    start = -memory.ctypes.data % 64 // 4
    return memory[start : start + count * padded].reshape(count, padded)


def _filter(
    gray: NDArray[Any], each: _Filter, buffers: Sequence[NDArray[Any]]
) -> Iterator[tuple[int, _Response]]:
    """Yield the orientations of a filter and the responses to it."""
    y_real, y_imaginary, a, b, c, d, e = buffers
    _filter_columns(gray, each.y_real, y_real)
    _filter_rows(y_real, each.x_real, a)
    if each.x_imaginary is not None:
        _filter_rows(y_real, each.x_imaginary, b)
    if each.y_imaginary is None:
        yield each.orientations[0], (a, b)
        return
    _filter_columns(gray, each.y_imaginary, y_imaginary)
    _filter_rows(y_imaginary, each.x_real, c)
    if each.x_imaginary is None:
        yield each.orientations[0], (a, c)
        return
    _filter_rows(y_imaginary, each.x_imaginary, d)
    one, other = each.orientations
    yield one, (np.subtract(a, d, out=e), np.add(b, c, out=y_real))
    yield other, (np.add(a, d, out=e), np.subtract(c, b, out=y_real))


def _filter_columns(gray: NDArray[Any], blocks: _Blocks, out: NDArray[Any]) -> None:
    pixels = gray.reshape(len(gray), -1)
    out = out.reshape(pixels.shape)
    for outputs, inputs, block in blocks:
        np.matmul(block, pixels[inputs], out=out[outputs])


def _filter_rows(rows: NDArray[Any], blocks: _Blocks, out: NDArray[Any]) -> None:
    for outputs, inputs, block in blocks:
        np.matmul(rows[:, inputs], block.T, out=out[:, outputs])


def _part_of(response: _Response, part: str) -> NDArray[Any]:
    """Return a part of the response; it may share the response's memory."""
    import cv2

    real, imaginary = response
    if part == "magnitude":
        return cv2.magnitude(real, imaginary, real)
    return real if part == "real" else imaginary


def _borders(image_size: Sequence[int], cells: tuple[int, int]) -> list[NDArray[Any]]:
    """Return the first pixel of each row and column of cells, and the image's end."""
    return [np.append(starts, ends[-1:]) for starts, ends in cell_edges(image_size, cells)]


class _Grid(NamedTuple):
    """Edges of cells, and matrices (cells, pixels) that take means over them."""

    rows: np.ndarray
    columns: np.ndarray
    row_weights: np.ndarray
    column_weights: np.ndarray


# from values (h, n, w) to values (n_rows, n, n_columns)


def _mean(values: NDArray[Any], grid: _Grid) -> NDArray[Any]:
    height, n, width = values.shape
    by_row = grid.row_weights @ values.reshape(height, n * width)
    mean = by_row.reshape(-1, width) @ grid.column_weights.T
    return mean.reshape(len(by_row), n, -1)


def _max(values: NDArray[Any], grid: _Grid) -> NDArray[Any]:
    by_row = np.maximum.reduceat(values, grid.rows[:-1], axis=0)
    return np.maximum.reduceat(by_row, grid.columns[:-1], axis=2)


def _std(values: NDArray[Any], grid: _Grid) -> NDArray[Any]:
    mean = _mean(values, grid).repeat(np.diff(grid.rows), axis=0)
    off = values - mean.repeat(np.diff(grid.columns), axis=2)
    return np.sqrt(_mean(off * off, grid))


def _center(values: NDArray[Any], grid: _Grid) -> NDArray[Any]:
    at_rows, at_columns = (
        (edges[:-1] + edges[1:]) // 2 for edges in (grid.rows, grid.columns)
    )
    return values[at_rows][:, :, at_columns]


_POOLS = {"mean": _mean, "max": _max, "std": _std, "center": _center}


def _weights(edges: NDArray[Any]) -> NDArray[Any]:
    weights = np.zeros((len(edges) - 1, edges[-1]), np.float32)
    for row, (start, stop) in zip(weights, pairwise(edges), strict=True):
        row[start:stop] = 1 / (stop - start)
    return weights


def _frequency_names(frequencies: Sequence[float]) -> list[str]:
    """Write frequencies with as many decimals, two or more, as distinguish them."""
    for decimals in range(2, 18):
        names = [f"{frequency:.{decimals}f}" for frequency in frequencies]
        if len(set(names)) == len(names):
            break
    return names
