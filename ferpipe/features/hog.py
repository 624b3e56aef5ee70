"""Histograms of oriented gradients (HOG)."""

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import check_images, check_pair
from ferpipe._compat import Interval, StrOptions
from ferpipe.features.extractor import ImageExtractor, in_chunks, to_gray

__all__ = ["HOGFeatures", "block_grid", "hog"]

_BLOCK_NORMS = ("L1", "L1-sqrt", "L2", "L2-Hys")
# keeps the norm of a block without gradients from being zero
_EPSILON = 1e-5
_MOST_IN_A_BIN = 0.2


def hog(
    images: NDArray[Any],
    *,
    orientations: int = 9,
    pixels_per_cell: tuple[int, int] = (8, 8),
    cells_per_block: tuple[int, int] = (2, 2),
    block_norm: str = "L2-Hys",
) -> NDArray[Any]:
    """Histograms of oriented gradients of a batch of images.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    orientations : int, default=9
        Number of orientation bins between 0 and 180 degrees.
    pixels_per_cell : (int, int), default=(8, 8)
        Rows and columns of a cell, in pixels. Pixels at the bottom and on the right that
        do not fill a whole cell are left out.
    cells_per_block : (int, int), default=(2, 2)
        Rows and columns of a block, in cells. Blocks overlap: one starts at every cell.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}, default="L2-Hys"
        Norm that a block is divided by; "L2-Hys" cuts the result at 0.2 and divides
        again.

    Returns
    -------
    features : ndarray of shape (n, n_blocks * cells_per_block * orientations), float32
        In the order block row, block column, cell row, cell column (within the
        block), orientation.

    Raises
    ------
    ValueError
        If the images are smaller than one block or the norm is unknown.
    """
    if block_norm not in _BLOCK_NORMS:
        raise ValueError(
            f"block_norm must be one of {', '.join(_BLOCK_NORMS)}, got {block_norm!r}."
        )
    block_grid(images.shape[1:3], pixels_per_cell, cells_per_block)
    describe = partial(
        _describe,
        orientations=orientations,
        pixels_per_cell=pixels_per_cell,
        cells_per_block=cells_per_block,
        block_norm=block_norm,
    )
    return in_chunks(describe, images)


def block_grid(
    image_size: tuple[int, ...],
    pixels_per_cell: tuple[int, int],
    cells_per_block: tuple[int, int],
) -> tuple[int, int]:
    """Count the rows and columns of blocks in an image.

    Parameters
    ----------
    image_size : (int, int)
        Height and width of the image, in pixels.
    pixels_per_cell, cells_per_block : (int, int)
        As for :func:`hog`.

    Returns
    -------
    n_rows, n_columns : int

    Raises
    ------
    ValueError
        If the image is smaller than one block.
    """
    height, width = image_size
    n_rows = height // pixels_per_cell[0] - cells_per_block[0] + 1
    n_columns = width // pixels_per_cell[1] - cells_per_block[1] + 1
    if n_rows < 1 or n_columns < 1:
        block_height = pixels_per_cell[0] * cells_per_block[0]
        block_width = pixels_per_cell[1] * cells_per_block[1]
        raise ValueError(
            f"Images of {height}x{width} pixels are smaller than one HOG block of "
            f"{block_height}x{block_width} pixels (cells_per_block * pixels_per_cell): "
            "make pixels_per_cell or cells_per_block smaller, or the images larger."
        )
    return n_rows, n_columns


def _describe(
    images: NDArray[Any],
    orientations: int,
    pixels_per_cell: tuple[int, int],
    cells_per_block: tuple[int, int],
    block_norm: str,
) -> NDArray[Any]:
    histograms = _cell_histograms(to_gray(images), orientations, pixels_per_cell)
    features = _normalized_blocks(histograms, cells_per_block, block_norm)
    return features.astype(np.float32)


def _cell_histograms(
    gray: NDArray[Any], orientations: int, pixels_per_cell: tuple[int, int]
) -> NDArray[Any]:
    """Mean magnitude of the gradients of each orientation in each cell."""
    n, height, width = gray.shape
    cell_height, cell_width = pixels_per_cell
    n_rows, n_columns = height // cell_height, width // cell_width
    dx, dy = _gradients(gray)
    bins = _orientation_bins(dx, dy, orientations)
    dx *= dx
    dy *= dy
    dx += dy
    magnitudes = np.sqrt(dx, out=dx)

    # the place of a pixel's magnitude: cells in order, one place for each of their bins
    slots = orientations + 1
    in_cells = np.s_[:, : n_rows * cell_height, : n_columns * cell_width]
    offsets = np.repeat(np.arange(n_columns) * slots, cell_width)
    places = np.add(
        bins[in_cells].reshape(n * n_rows, -1),
        np.tile(offsets, cell_height),
        dtype=np.intp,
    )
    places += (np.arange(n * n_rows) * (n_columns * slots))[:, None]
    histograms = np.bincount(
        places.ravel(),
        weights=magnitudes[in_cells].ravel(),
        minlength=n * n_rows * n_columns * slots,
    ).reshape(n, n_rows, n_columns, slots)
    histograms[..., 0] += histograms[..., -1]  # 180 degrees are 0 degrees
    return histograms[..., :-1] / (cell_height * cell_width)


def _gradients(gray: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Differences of the pixels on both sides, along x and y; 0 at the border."""
    single = gray.dtype.kind == "f" and gray.dtype.itemsize <= 4
    # as scikit-image, which subtracts in the precision of the images
    gray = np.ascontiguousarray(gray, dtype=np.float32 if single else np.float64)
    dx, dy = np.empty(gray.shape), np.zeros(gray.shape)
    # all rows at once; where one row meets the next is the border
    row = gray.ravel()
    np.subtract(row[2:], row[:-2], out=dx.ravel()[1:-1])
    dx[:, :, 0] = dx[:, :, -1] = 0
    np.subtract(gray[:, 2:], gray[:, :-2], out=dy[:, 1:-1])
    return dx, dy


def _orientation_bins(
    dx: NDArray[Any], dy: NDArray[Any], orientations: int
) -> NDArray[Any]:
    """Return the bin of each gradient; number ``orientations`` stands for 180 degrees."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cotangent = dx / dy  # falls from inf to -inf between 0 and 180 degrees
    borders = 1 / np.tan(np.arange(1, orientations) * (np.pi / orientations))
    # whole-number gradients often lie exactly at 45, 90 and 135 degrees
    borders = np.append(np.round(borders, 15), -np.inf)
    bins = np.zeros(dx.shape, np.min_scalar_type(orientations))
    passed = np.empty(dx.shape, bool)
    for border in borders:
        np.less_equal(cotangent, border, out=passed)
        bins += passed.view(np.uint8)
    return bins


def _normalized_blocks(
    histograms: NDArray[Any], cells_per_block: tuple[int, int], block_norm: str
) -> NDArray[Any]:
    """Put the cells of each block side by side and divide them by their norm."""
    n = len(histograms)
    windows = np.lib.stride_tricks.sliding_window_view(
        histograms, cells_per_block, axis=(1, 2)
    )
    size = cells_per_block[0] * cells_per_block[1] * histograms.shape[3]
    blocks = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size)
    if block_norm in ("L1", "L1-sqrt"):
        blocks = blocks / (blocks.sum(axis=1, keepdims=True) + _EPSILON)
        if block_norm == "L1-sqrt":
            np.sqrt(blocks, out=blocks)
    else:
        blocks = blocks / _euclidean_norms(blocks)
        if block_norm == "L2-Hys":
            np.minimum(blocks, _MOST_IN_A_BIN, out=blocks)
            blocks /= _euclidean_norms(blocks)
    return blocks.reshape(n, -1)


def _euclidean_norms(blocks: NDArray[Any]) -> NDArray[Any]:
    squares = np.einsum("ij,ij->i", blocks, blocks)
    return np.sqrt(squares + _EPSILON**2)[:, None]


class HOGFeatures(ImageExtractor, BaseEstimator):
    """Histograms of oriented gradients: where edges run, and in which direction.

    The gradients of an image are counted by direction in small cells, weighted by
    their magnitude, and normalized within overlapping blocks of cells. They
    follow the folds and contours of an expression and hardly change with the
    light. A strong first choice for small aligned faces with a linear classifier.

    Parameters
    ----------
    orientations : int, default=9
        Number of orientation bins between 0 and 180 degrees.
    pixels_per_cell : (int, int), default=(8, 8)
        Rows and columns of a cell, in pixels.
    cells_per_block : (int, int), default=(2, 2)
        Rows and columns of a block, in cells.
    block_norm : {"L1", "L1-sqrt", "L2", "L2-Hys"}, default="L2-Hys"
        Norm that a block is divided by.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    ferpipe.PerFrame : Apply it to every frame of sequences.

    Notes
    -----
    The values are those of :func:`skimage.feature.hog` on a gray image, within 1e-6.
    scikit-image sums a cell in single precision, which matters for cells of thousands of
    pixels, and it drops gradients whose orientation is so close to 180 degrees that it
    is rounded to 180; here they count in the last bin.

    Differences from Dalal and Triggs [1]_ are those of scikit-image: no Gaussian window
    weights a block, and a gradient votes for one bin of one cell, without interpolation.
    Color becomes gray by the luminance 0.2125 R + 0.7154 G + 0.0721 B on the image's own
    scale, where they use the channel with the largest gradient at each pixel.

    References
    ----------
    .. [1] N. Dalal and B. Triggs, "Histograms of oriented gradients for human
       detection", CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import HOGFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = HOGFeatures().fit(faces)
    >>> extractor.transform(faces).shape
    (4, 900)
    >>> str(extractor.get_feature_names_out()[0])
    'hog_r0c0_b0_o10'
    """

    _parameter_constraints: dict = {
        "orientations": [Interval(Integral, 1, None, closed="left")],
        "pixels_per_cell": [tuple, list],
        "cells_per_block": [tuple, list],
        "block_norm": [StrOptions(set(_BLOCK_NORMS))],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self,
        *,
        orientations: int = 9,
        pixels_per_cell: tuple[int, int] = (8, 8),
        cells_per_block: tuple[int, int] = (2, 2),
        block_norm: str = "L2-Hys",
        n_jobs: int | None = None,
    ) -> None:
        self.orientations = orientations
        self.pixels_per_cell = pixels_per_cell
        self.cells_per_block = cells_per_block
        self.block_norm = block_norm
        self.n_jobs = n_jobs

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``hog_r3c4_b0_o30``.

        ``r3c4`` is the row and column of the cell in the image; ``b0`` is the number
        of the cell within its block, counted row by row (a cell belongs to several
        blocks); ``o30`` is the middle of the orientation bin in degrees: the
        direction of the gradient, measured from the x axis towards the y axis
        (downwards).

        Parameters
        ----------
        input_features : ignored
            Ignored: pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        n_rows, n_columns = block_grid(
            self.image_shape_[:2], self.pixels_per_cell, self.cells_per_block
        )
        cell_rows, cell_columns = self.cells_per_block
        width = 180 / self.orientations
        names = [
            f"hog_r{row + i}c{column + j}_b{i * cell_columns + j}_o{width * (bin_ + 0.5):g}"
            for row in range(n_rows)
            for column in range(n_columns)
            for i in range(cell_rows)
            for j in range(cell_columns)
            for bin_ in range(self.orientations)
        ]
        return np.asarray(names, dtype=object)

    def plot(self, image: NDArray[Any], axes: Any = None) -> Any:
        """Draw the histograms of an image's cells as stars.

        Each ray stands for an orientation bin and runs along the edges that are
        counted there, at right angles to their gradients. Fuller bins are brighter.

        Parameters
        ----------
        image : array-like of shape (h, w) or (h, w, 3)
            An image.
        axes : matplotlib Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        axes : matplotlib Axes

        Raises
        ------
        ValueError
            If the image is smaller than one block.
        """
        from matplotlib.collections import LineCollection
        from matplotlib.figure import Figure

        images = check_images([image])
        self._check_parameters(images.shape[1:])
        gray = to_gray(images)
        histograms = _cell_histograms(gray, self.orientations, self.pixels_per_cell)[0]
        n_rows, n_columns, _ = histograms.shape
        height, width = self.pixels_per_cell
        centers = np.stack(
            np.meshgrid(
                (np.arange(n_columns) + 0.5) * width - 0.5,
                (np.arange(n_rows) + 0.5) * height - 0.5,
            ),
            axis=-1,
        )[:, :, None]
        angles = np.pi * (np.arange(self.orientations) + 0.5) / self.orientations
        rays = 0.45 * min(height, width) * np.stack([-np.sin(angles), np.cos(angles)], 1)
        ends = np.stack([centers - rays, centers + rays], axis=3)
        strengths = np.sqrt(histograms / max(histograms.max(), _EPSILON))

        if axes is None:
            axes = Figure(layout="constrained").subplots()
        axes.imshow(gray[0], cmap="gray", alpha=0.35)
        axes.set_facecolor("black")
        lines = LineCollection(
            list(ends.reshape(-1, 2, 2)),
            colors=[(1, 0.85, 0.2, strength) for strength in strengths.ravel()],
            linewidths=1.4,
        )
        axes.add_collection(lines)
        axes.set(xticks=[], yticks=[])
        return axes

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        check_pair(self.pixels_per_cell, "pixels_per_cell", (8, 8))
        check_pair(self.cells_per_block, "cells_per_block", (2, 2))
        block_grid(image_shape[:2], self.pixels_per_cell, self.cells_per_block)

    def _describe(self, images: NDArray[Any]) -> NDArray[Any]:
        return _describe(
            images,
            self.orientations,
            self.pixels_per_cell,
            self.cells_per_block,
            self.block_norm,
        )
