"""What the extractors share: images to rows of features, a chunk of images at a time."""

from numbers import Integral

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ferpipe._checks import (
    check_frame_shape,
    check_images,
    check_value_scale,
    value_scale_of,
)
from ferpipe._compat import fit_context, validate_parameters

__all__ = ["ImageExtractor", "check_pair", "in_chunks", "to_gray"]

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
# pixels worked on at a time: what is computed from them stays in the processor's cache
_PIXELS = 1 << 17


def check_pair(value, name, example):
    """Refuse anything but two whole numbers of at least 1, for rows and columns.

    Parameters
    ----------
    value : object
        What came.
    name : str
        Name of the parameter, for the message.
    example : (int, int)
        A value that would do, for the message.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if len(value) != 2 or not all(
        isinstance(number, Integral) and number >= 1 for number in value
    ):
        raise ValueError(
            f"{name} must be two whole numbers of at least 1 (rows, columns), such as "
            f"{example}, got {value!r}."
        )


def to_gray(images):
    """Turn color images into their luminance; gray ones stay as they are.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images.

    Returns
    -------
    gray : ndarray of shape (n, h, w)
        0.2125 R + 0.7154 G + 0.0721 B on the images' own scale, in float64, for color.
    """
    return images @ _LUMINANCE if images.ndim == 4 else images


def in_chunks(describe, images, *, n_jobs=None, pixels=_PIXELS):
    """Describe many images, some at a time, so that memory does not grow with them.

    Parameters
    ----------
    describe : callable
        Takes images of shape (k, h, w[, 3]) and returns features of shape (k, d).
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        All images.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.
    pixels : int, default=131072
        About as many pixels are worked on at a time.

    Returns
    -------
    features : ndarray of shape (n, d)
        In the dtype that ``describe`` gives.
    """
    step = max(1, pixels // (images.shape[1] * images.shape[2]))
    first = describe(images[:step])
    features = np.empty((len(images), *first.shape[1:]), first.dtype)
    features[:step] = first

    def work(start):
        features[start : start + step] = describe(images[start : start + step])

    starts = range(step, len(images), step)
    if effective_n_jobs(n_jobs) == 1:
        for start in starts:
            work(start)
    else:
        Parallel(n_jobs=n_jobs, require="sharedmem")(
            delayed(work)(start) for start in starts
        )
    return features


class ImageExtractor(TransformerMixin):
    """Images of one size to rows of features; nothing is learned but the size.

    A subclass has ``_describe(images)``, which gives the features (k, d) of images
    (k, h, w[, 3]), ``_check_parameters(image_shape)``, which raises a ValueError for
    parameters that do not suit them, and a parameter ``n_jobs``. ``depends_on_scale``
    says whether the features grow with the gray values.
    """

    input_kind = "images"
    stateless = True
    depends_on_scale = False

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the images and remember their shape; nothing else is learned.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images, uint8 or float. Color is turned into gray (:func:`to_gray`).
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the images are too small for the parameters.
        """
        images = check_images(X)
        self._learn()
        self._check_parameters(images.shape[1:])
        self.image_shape_ = images.shape[1:]
        if self.depends_on_scale:
            self.value_scale_ = value_scale_of(images)
        return self

    def transform(self, X):
        """Describe images.

        Parameters
        ----------
        X : array-like of shape (n, h, w) or (n, h, w, 3)
            Images of the shape seen in fit.

        Returns
        -------
        features : ndarray of shape (n, d)

        Raises
        ------
        ValueError
            If the images are not of the shape, or on quite another scale, than in fit.
        """
        check_is_fitted(self)
        # they may have been set since
        validate_parameters(self)
        images = check_images(X)
        check_frame_shape(images.shape[1:], self.image_shape_, self)
        self._check_parameters(images.shape[1:])
        # models that were saved by earlier versions have no record of the scale
        check_value_scale(images, getattr(self, "value_scale_", None), self)
        return in_chunks(self._describe, images, n_jobs=self.n_jobs)

    def _learn(self):
        """Do what fit does before the parameters are checked."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
