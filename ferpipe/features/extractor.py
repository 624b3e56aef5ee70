"""The base of the extractors: from images to rows of features, in chunks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray

from ferpipe._base import ImageTransformer, Tags

__all__ = ["ImageExtractor", "in_chunks", "to_gray"]

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])
# pixels in a chunk: what is computed from them fits into the processor's cache
_PIXELS = 1 << 17


def to_gray(images: NDArray[Any]) -> NDArray[Any]:
    """Turn color images into luminance; gray images stay as they are.

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


def in_chunks(
    describe: Callable[[NDArray[Any]], NDArray[Any]],
    images: NDArray[Any],
    *,
    n_jobs: int | None = None,
    pixels: int = _PIXELS,
) -> NDArray[Any]:
    """Describe images in chunks, so that memory does not grow with their number.

    Parameters
    ----------
    describe : callable
        Takes images of shape (k, h, w[, 3]) and returns features of shape (k, d).
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        All images.
    n_jobs : int, default=None
        Number of threads, as joblib counts them.
    pixels : int, default=131072
        About the number of pixels in a chunk.

    Returns
    -------
    features : ndarray of shape (n, d)
        In the dtype that ``describe`` gives.
    """
    step = max(1, pixels // (images.shape[1] * images.shape[2]))
    first = describe(images[:step])
    features = np.empty((len(images), *first.shape[1:]), first.dtype)
    features[:step] = first

    def work(start: int) -> None:
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


class ImageExtractor(ImageTransformer):
    """Transform images of one size into rows of features, in chunks. Color becomes gray.

    A subclass has ``_describe(images)``, which returns the features (k, d) of images
    (k, h, w[, 3]), and a parameter ``n_jobs``.
    """

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        return in_chunks(self._describe, images, n_jobs=self.n_jobs)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
