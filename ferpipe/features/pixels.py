"""Pixels themselves as features."""

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import check_images, check_pair
from ferpipe.features.extractor import ImageExtractor, in_chunks, to_gray

__all__ = ["PixelFeatures", "pixels"]


def pixels(images: NDArray[Any], *, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Flatten each image of a batch into a row of pixels.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; color is turned into gray first.
    size : (int, int), default=None
        Rows and columns to which images are reduced first; None keeps their size.
        A new pixel is the mean of the area that it covers, including parts of pixels.

    Returns
    -------
    features : ndarray of shape (n, rows * columns), float32
        Row by row, on the images' own scale.

    Raises
    ------
    ValueError
        If the images are smaller than the size.
    """
    _check_size(images.shape[1:3], size)
    return in_chunks(partial(_describe, size=size), images)


def _describe(images: NDArray[Any], size: tuple[int, int] | None) -> NDArray[Any]:
    gray = to_gray(images)
    if size is not None:
        down = _area_means(gray.shape[1], size[0])
        across = _area_means(gray.shape[2], size[1])
        gray = down @ gray @ across.T
    return gray.reshape(len(gray), -1).astype(np.float32)


def _area_means(old: int, new: int) -> NDArray[Any]:
    """Weights of ``old`` pixels in ``new`` larger ones, of shape (new, old)."""
    borders = np.arange(new + 1) * (old / new)
    first, last = borders[:-1, None], borders[1:, None]
    pixel = np.arange(old)
    covered = np.minimum(last, pixel + 1) - np.maximum(first, pixel)
    return np.maximum(covered, 0) * (new / old)


def _check_size(image_size: tuple[int, ...], size: tuple[int, int] | None) -> None:
    if size is not None and (image_size[0] < size[0] or image_size[1] < size[1]):
        raise ValueError(
            f"Images of {image_size[0]}x{image_size[1]} pixels are smaller than size="
            f"{tuple(size)}: images are never enlarged; give a smaller size, or None."
        )


class PixelFeatures(ImageExtractor, BaseEstimator):
    """Pixels as features: the baseline for all other features.

    Parameters
    ----------
    size : (int, int), default=None
        Rows and columns to which images are reduced first, by the mean over areas;
        None keeps their size.
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
    ferpipe.LocalMeanNormalizer : Removes slow changes of the light beforehand.

    Notes
    -----
    Color becomes gray by the luminance 0.2125 R + 0.7154 G + 0.0721 B.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import PixelFeatures
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> extractor = PixelFeatures(size=(24, 24)).fit(faces)
    >>> extractor.transform(faces).shape
    (4, 576)
    >>> str(extractor.get_feature_names_out()[-1])
    'pixel_r23c23'
    """

    depends_on_scale = True

    _parameter_constraints: dict = {
        "size": [None, tuple, list],
        "n_jobs": [None, Integral],
    }

    def __init__(
        self, *, size: tuple[int, int] | None = None, n_jobs: int | None = None
    ) -> None:
        self.size = size
        self.n_jobs = n_jobs

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the columns of the output, such as ``pixel_r3c4``: its row and column.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        n_rows, n_columns = self.image_shape_[:2] if self.size is None else self.size
        names = [f"pixel_r{row}c{col}" for row in range(n_rows) for col in range(n_columns)]
        return np.asarray(names, dtype=object)

    def plot(self, image: NDArray[Any], axes: Any = None) -> Any:
        """Draw an image at the size of the features.

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
            If the image is smaller than the size.
        """
        from matplotlib.figure import Figure

        images = check_images([image])
        self._check_parameters(images.shape[1:])
        n_rows, n_columns = images.shape[1:3] if self.size is None else self.size
        if axes is None:
            axes = Figure(layout="constrained").subplots()
        axes.imshow(self._describe(images).reshape(n_rows, n_columns), cmap="gray")
        axes.set(xticks=[], yticks=[])
        return axes

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        if self.size is not None:
            check_pair(self.size, "size", (24, 24))
        _check_size(image_shape[:2], self.size)

    def _describe(self, images: NDArray[Any]) -> NDArray[Any]:
        return _describe(images, self.size)
