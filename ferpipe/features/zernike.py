"""Zernike moments."""

from functools import lru_cache, partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import check_images, check_pair
from ferpipe._compat import Interval
from ferpipe.features.extractor import ImageExtractor, in_chunks, to_gray

__all__ = ["ZernikeFeatures", "zernike"]


def zernike(
    images: NDArray[Any], *, order: int = 8, grid: tuple[int, int] = (1, 1)
) -> NDArray[Any]:
    """Magnitudes of the Zernike moments of a batch of images.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    order : int, default=8
        Highest order of the polynomials.
    grid : (int, int), default=(1, 1)
        Rows and columns of cells. Each has a disc of its own, the largest that fits.
        Pixels outside the discs are left out, and so are those at the bottom and on
        the right that do not fill a whole cell.

    Returns
    -------
    features : ndarray of shape (n, n_cells * n_moments), float32
        In the order cell row, cell column, n, m; for each n from 0 to ``order``, m runs
        from 0 or 1 to n in steps of 2.

    Raises
    ------
    ValueError
        If the images have fewer rows or columns of pixels than the grid has cells.
    """
    _cell_shape(images.shape[1:3], grid)
    return in_chunks(partial(_describe, order=order, grid=grid), images)


def _describe(images: NDArray[Any], order: int, grid: tuple[int, int]) -> NDArray[Any]:
    moments = _moments(to_gray(images), order, grid)
    return np.abs(moments).reshape(len(images), -1).astype(np.float32)


def _moments(gray: NDArray[Any], order: int, grid: tuple[int, int]) -> NDArray[Any]:
    """Complex moments of each cell, of shape (n, rows, columns, n_moments)."""
    n = len(gray)
    n_rows, n_columns = grid
    height, width = _cell_shape(gray.shape[1:], grid)
    pixels = gray[:, : n_rows * height, : n_columns * width]
    pixels = pixels.reshape(n, n_rows, height, n_columns, width).swapaxes(2, 3)
    pixels = pixels.reshape(-1, height * width).astype(np.float64)
    polynomials = _polynomials(height, width, order)
    orders, _ = _indices(order)
    n_inside = np.count_nonzero(polynomials[:, 0])
    # one real product for real and imaginary parts
    products = (pixels @ polynomials.view(np.float64)).view(np.complex128)
    return (products.conj() * ((orders + 1) / n_inside)).reshape(
        n, n_rows, n_columns, len(orders)
    )


@lru_cache(maxsize=8)
def _polynomials(height: int, width: int, order: int) -> NDArray[Any]:
    """Zernike polynomials at the pixels of a cell, (h * w, n_moments); 0 off the disc."""
    from scipy.special import eval_jacobi

    radius = min(height, width) / 2
    y, x = np.mgrid[:height, :width]
    x = (x.ravel() - (width - 1) / 2) / radius
    y = (y.ravel() - (height - 1) / 2) / radius
    distance = np.hypot(x, y)[:, None]
    angle = np.arctan2(y, x)[:, None]
    n, m = _indices(order)
    steps = (n - m) // 2
    radial = (-1.0) ** steps * distance**m * eval_jacobi(steps, m, 0, 1 - 2 * distance**2)
    polynomials = np.where(distance <= 1, radial * np.exp(1j * m * angle), 0)
    polynomials.setflags(write=False)
    return polynomials


def _indices(order: int) -> NDArray[Any]:
    """List the orders n and the repetitions m >= 0 of the moments."""
    pairs = [(n, m) for n in range(order + 1) for m in range(n % 2, n + 1, 2)]
    return np.array(pairs).T


def _cell_shape(image_size: tuple[int, ...], grid: tuple[int, int]) -> tuple[int, int]:
    height, width = image_size
    if height < grid[0] or width < grid[1]:
        raise ValueError(
            f"Images of {height}x{width} pixels cannot be cut into {grid[0]}x{grid[1]} "
            "cells of whole pixels: make grid smaller, or the images larger."
        )
    return height // grid[0], width // grid[1]


class ZernikeFeatures(ImageExtractor, BaseEstimator):
    """Magnitudes of Zernike moments: the shape inside a disc, independent of rotation.

    The brightness inside a disc is written as a sum of polynomials that are orthogonal
    on it: low orders are the mean, slopes and curvature, higher ones finer structure.
    The magnitude of a moment stays the same when the image turns around the middle of
    the disc. With a grid of cells, this holds for each cell by itself, and the features
    also keep the place on the face.

    Parameters
    ----------
    order : int, default=8
        Highest order of the polynomials: 25 moments up to 8, 49 up to 12.
    grid : (int, int), default=(1, 1)
        Rows and columns of cells; each has a disc of its own, the largest that fits.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.
    value_scale_ : float or None
        Scale of the gray values seen in fit, which the features grow with: its largest
        value, 1, 15, 255 or 65535; None for others.

    See Also
    --------
    ferpipe.HOGFeatures : Finer structure, which depends on direction.

    Notes
    -----
    The moment of order n and repetition m is (n + 1) / N times the sum of the pixels,
    each multiplied by the complex conjugate of the polynomial V_nm of Teague [1]_ at its
    center, over the N pixels with centers in the disc: the integral over the unit
    disc as a sum of equal areas. Moments of -m have the same magnitude and are
    left out. The disc lies in the middle of the cell. Khotanzad and Hong [2]_ first move
    the center of mass there and scale the shape to one area; that is meant for
    silhouettes, and faces are aligned beforehand. The moment ``n0_m0`` is the mean of the
    disc; the other moments are not divided by it. Color becomes gray by the luminance
    0.2125 R + 0.7154 G + 0.0721 B. If the order is high and the disc has few pixels, the
    moments depend on each other.

    References
    ----------
    .. [1] M. R. Teague, "Image analysis via the general theory of moments", Journal of
       the Optical Society of America 70(8), 1980.
    .. [2] A. Khotanzad and Y. H. Hong, "Invariant image recognition by Zernike moments",
       IEEE Transactions on Pattern Analysis and Machine Intelligence 12(5), 1990.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import ZernikeFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = ZernikeFeatures(order=4).fit(faces)
    >>> [str(name) for name in extractor.get_feature_names_out()[:4]]
    ['zernike_n0_m0', 'zernike_n1_m1', 'zernike_n2_m0', 'zernike_n2_m2']
    >>> turned = extractor.transform(np.rot90(faces, axes=(1, 2)))
    >>> bool(np.allclose(turned, extractor.transform(faces)))
    True
    """

    depends_on_scale = True

    _parameter_constraints: dict = {
        "order": [Interval(Integral, 0, None, closed="left")],
        "grid": [tuple, list],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self, *, order: int = 8, grid: tuple[int, int] = (1, 1), n_jobs: int | None = None
    ) -> None:
        self.order = order
        self.grid = grid
        self.n_jobs = n_jobs

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``zernike_n4_m2``.

        ``n`` is the order, ``m`` the repetition: how often the polynomial repeats in
        one turn around the middle. With several cells, ``zernike_r0c1_n4_m2`` includes
        the row and column of the cell.

        Parameters
        ----------
        input_features : ignored
            Ignored: pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        n_rows, n_columns = self.grid
        one_cell = n_rows == n_columns == 1
        names = [
            f"zernike_{'' if one_cell else f'r{row}c{column}_'}n{n}_m{m}"
            for row in range(n_rows)
            for column in range(n_columns)
            for n, m in zip(*_indices(self.order), strict=True)
        ]
        return np.asarray(names, dtype=object)

    def plot(self, image: NDArray[Any], axes: Any = None) -> Any:
        """Draw the image that the moments describe: the weighted sum of their polynomials.

        The sum uses the complex moments. The features are their magnitudes and do not
        hold the angle of each polynomial.

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
            If the image has fewer rows or columns of pixels than the grid has cells.
        """
        from matplotlib.figure import Figure

        images = check_images([image])
        self._check_parameters(images.shape[1:])
        height, width = _cell_shape(images.shape[1:3], self.grid)
        n_rows, n_columns = self.grid
        polynomials = _polynomials(height, width, self.order)
        _, m = _indices(self.order)
        moments = _moments(to_gray(images), self.order, self.grid)[0]
        # moments of -m are the conjugates of those of m
        cells = (np.where(m == 0, 1, 2) * moments @ polynomials.T).real
        cells[..., polynomials[:, 0] == 0] = np.nan
        drawing = cells.reshape(n_rows, n_columns, height, width).swapaxes(1, 2)

        if axes is None:
            axes = Figure(layout="constrained").subplots()
        axes.imshow(drawing.reshape(n_rows * height, n_columns * width), cmap="gray")
        axes.set(xticks=[], yticks=[])
        return axes

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        check_pair(self.grid, "grid", (1, 1))
        _cell_shape(image_shape[:2], self.grid)

    def _describe(self, images: NDArray[Any]) -> NDArray[Any]:
        return _describe(images, self.order, self.grid)
