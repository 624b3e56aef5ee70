"""Normalization of light: local mean and contrast, pixels, histograms.

Each function takes a batch of images and returns a batch of the same shape; each
transformer makes one of them a step of a pipeline. Wu and Pan ("Facial emotion recognition
in images and videos", section 4) subtract the local mean from the pixels and then the mean
of the training images at each pixel:
``make_pipeline(LocalMeanNormalizer(), PixelNormalizer(with_std=False))``.
"""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from ferpipe._base import ImageTransformer, Tags
from ferpipe._checks import check_pair
from ferpipe._compat import Interval

__all__ = [
    "CLAHE",
    "HistogramEqualizer",
    "LocalContrastNormalizer",
    "LocalMeanNormalizer",
    "PixelNormalizer",
    "equalize_adaptive_histogram",
    "equalize_histogram",
    "normalize_local_contrast",
    "normalize_local_mean",
]

# in smaller tiles, OpenCV's CLAHE counts too coarsely: whole pixels in 256 levels
_TILE_AREA = 2048


def normalize_local_mean(images: NDArray[Any], *, sigma: float = 4.0) -> NDArray[Any]:
    """Subtract from each pixel the mean of its surroundings.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; each color channel is normalized by itself.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that weights the surroundings, in pixels.

    Returns
    -------
    normalized : ndarray of the same shape, float32
        On the scale of the images; 0 where the surroundings are flat.
    """
    normalized = np.empty(images.shape, np.float32)
    for image, result in zip(images, normalized, strict=True):
        result[...] = _without_local_mean(image, sigma)
    return normalized


def normalize_local_contrast(images: NDArray[Any], *, sigma: float = 4.0) -> NDArray[Any]:
    """Subtract the local mean and divide by the local standard deviation.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float; each color channel is normalized by itself.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that weights the surroundings, in pixels.

    Returns
    -------
    normalized : ndarray of the same shape, float32
        Independent of scale and offset. An image of one gray level becomes 0.
    """
    normalized = np.empty(images.shape, np.float32)
    for image, result in zip(images, normalized, strict=True):
        difference = _without_local_mean(image, sigma)
        deviation = np.sqrt(_blur(difference**2, sigma))
        divisor = np.maximum(deviation, deviation.mean(axis=(0, 1)))
        divisor[divisor == 0] = 1  # a flat image has differences of 0
        result[...] = difference / divisor
    return normalized


def equalize_histogram(images: NDArray[Any], *, amount: float = 1.0) -> NDArray[Any]:
    """Spread the gray levels of each image evenly over 0..255.

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float on any scale. In a color image, the luma is
        equalized and the differences between the channels and the luma are kept.
    amount : float, default=1.0
        How far to go from the image stretched to 0..255 (0) to the equalized one (1).

    Returns
    -------
    equalized : ndarray of the same shape, uint8
        An image of one gray level becomes 0.
    """
    import cv2

    def equalize(levels: NDArray[Any]) -> NDArray[Any]:
        return cv2.addWeighted(cv2.equalizeHist(levels), amount, levels, 1 - amount, 0)

    return _with_equalized_luma(images, equalize)


def equalize_adaptive_histogram(
    images: NDArray[Any], *, tiles: tuple[int, int] = (4, 4), clip_limit: float = 4.0
) -> NDArray[Any]:
    """Equalize the histogram around each pixel, with limited contrast (CLAHE).

    Parameters
    ----------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        Gray or RGB images, uint8 or float on any scale. In a color image, the luma is
        equalized and the differences between the channels and the luma are kept.
    tiles : (int, int), default=(4, 4)
        Rows and columns of tiles with a histogram each.
    clip_limit : float, default=4.0
        How often a gray level may occur in a tile, as a multiple of the mean count of a
        level; counts above it are spread over all levels.

    Returns
    -------
    equalized : ndarray of the same shape, uint8
        An image of one gray level becomes 0.

    Raises
    ------
    ValueError
        If the images have fewer rows or columns than there are tiles.
    """
    import cv2

    _check_tiles_fit(images.shape[1:3], tiles)
    height, width = images.shape[1:3]
    rows, columns = tiles
    clahe = cv2.createCLAHE(clip_limit, (columns, rows))
    # odd, so that a pixel has a middle
    times = (
        math.ceil(math.sqrt(_TILE_AREA * rows * columns / (height * width))) // 2 * 2 + 1
    )
    size = (times * width, times * height)

    def equalize(levels: NDArray[Any]) -> NDArray[Any]:
        larger = cv2.resize(levels, size, interpolation=cv2.INTER_NEAREST)
        return clahe.apply(larger)[times // 2 :: times, times // 2 :: times]

    return _with_equalized_luma(images, equalize)


class _ImagesToImages(ImageTransformer, BaseEstimator):
    """The base of the transformers below: images to images of the same shape."""

    _gives = "images"


class LocalMeanNormalizer(_ImagesToImages):
    """Subtract from each pixel the mean of its surroundings.

    This removes what changes slowly over a face, such as shade from one side, and keeps
    edges, folds and contours, on the scale of the images.

    Parameters
    ----------
    sigma : float, default=4.0
        Standard deviation of the Gaussian that weights the surroundings, in pixels.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.
    value_scale_ : float or None
        Scale of the gray values seen in fit: its largest value, 1, 15, 255 or 65535; None
        for others.

    See Also
    --------
    LocalContrastNormalizer : Divides by the local standard deviation as well.
    PixelNormalizer : The step that follows in Wu and Pan.

    Notes
    -----
    Wu and Pan [1]_ (section 4) subtract "the local mean of pixel values" and name no
    window; here it is a Gaussian, cut off at four sigma, and the image is mirrored at its
    borders. Each color channel is normalized by itself. The output is float32.

    References
    ----------
    .. [1] F. Wu and R. Pan, "Facial emotion recognition in images and videos", undated
       report.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import LocalMeanNormalizer
    >>> ramp = np.tile(np.arange(0.0, 96.0, 2.0), (1, 48, 1))
    >>> normalized = LocalMeanNormalizer(sigma=3).fit_transform(ramp)
    >>> bool(abs(normalized[0, :, 12:-12]).max() < 1e-4)
    True
    """

    depends_on_scale = True

    _parameter_constraints: dict = {
        "sigma": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, *, sigma: float = 4.0) -> None:
        self.sigma = sigma

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        return normalize_local_mean(images, sigma=self.sigma)


class LocalContrastNormalizer(_ImagesToImages):
    """Subtract the local mean and divide by the local standard deviation.

    Dark and bright parts, and parts of low and high contrast, become similar: the result
    does not depend on the brightness and contrast of the image. The divisor is at least
    its mean over the image, so that noise in flat parts is not amplified.

    Parameters
    ----------
    sigma : float, default=4.0
        Standard deviation of the Gaussian that weights the surroundings, in pixels.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    LocalMeanNormalizer : Subtracts the mean alone.

    Notes
    -----
    With v the image minus its local mean and w the Gaussian window, a pixel becomes
    v / max(c, s), where s is the square root of w * v² (* is convolution) and c the mean
    of s over the image: the "local contrast normalization layer" of Jarrett et
    al. [1]_. Wu and Pan (section 4) have such a layer inside their first network, and give
    no formula.

    Differences from Jarrett et al. [1]_: the window is cut off at four sigma, not at 9×9
    pixels; the image is mirrored at its borders; and each color channel is normalized by
    itself, where they sum over feature maps, so the color of the light is removed too. The
    output is float32.

    References
    ----------
    .. [1] K. Jarrett, K. Kavukcuoglu, M. Ranzato and Y. LeCun, "What is the best
       multi-stage architecture for object recognition?", ICCV 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import LocalContrastNormalizer
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> normalizer = LocalContrastNormalizer().fit(faces)
    >>> in_other_light = 0.2 * faces + 0.5
    >>> bool(np.allclose(*map(normalizer.transform, (faces, in_other_light)), atol=1e-5))
    True
    """

    _parameter_constraints: dict = {
        "sigma": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, *, sigma: float = 4.0) -> None:
        self.sigma = sigma

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        return normalize_local_contrast(images, sigma=self.sigma)


class PixelNormalizer(_ImagesToImages):
    """Subtract the mean training image and divide by the deviation at each pixel.

    This is StandardScaler for images; each color channel of a pixel has its own mean and
    scale. It needs aligned faces.

    Parameters
    ----------
    with_std : bool, default=True
        Divide by the standard deviation; False subtracts the mean alone, as Wu and
        Pan do.

    Attributes
    ----------
    mean_ : ndarray of shape (h, w) or (h, w, 3), float64
        Mean of the training images.
    scale_ : ndarray of shape (h, w) or (h, w, 3), float64
        Standard deviation of the training images at each pixel, 1 where they never vary;
        1 everywhere without ``with_std``.
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.
    value_scale_ : float or None
        Scale of the gray values seen in fit: its largest value, 1, 15, 255 or 65535; None
        for others.

    Notes
    -----
    Wu and Pan [1]_ (section 4) subtract "the global mean of pixels at that location" after
    the local mean; they do not divide. The output is float32.

    References
    ----------
    .. [1] F. Wu and R. Pan, "Facial emotion recognition in images and videos", undated
       report.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import PixelNormalizer
    >>> faces = np.array([[[10, 50]], [[30, 50]]], np.uint8)
    >>> PixelNormalizer().fit_transform(faces)
    array([[[-1.,  0.]],
    <BLANKLINE>
           [[ 1.,  0.]]], dtype=float32)
    """

    depends_on_scale = True

    _parameter_constraints: dict = {"with_std": ["boolean"]}

    def __init__(self, *, with_std: bool = True) -> None:
        self.with_std = with_std

    def _learn(self, images: NDArray[Any]) -> None:
        self.mean_ = images.mean(axis=0, dtype=np.float64)
        self.scale_ = np.ones(self.image_shape_)
        if self.with_std:
            squares = np.zeros(self.image_shape_)
            for image in images:  # one by one: float64 copies of all images are large
                squares += (image - self.mean_) ** 2
            # rounding of the mean can give a pixel that never varies a deviation
            varies = images.min(axis=0) != images.max(axis=0)
            self.scale_[varies] = np.sqrt(squares[varies] / len(images))

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        normalized = np.empty(images.shape, np.float32)
        for image, result in zip(images, normalized, strict=True):
            result[...] = (image - self.mean_) / self.scale_
        return normalized

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.stateless = False
        return tags


class HistogramEqualizer(_ImagesToImages):
    """Spread the gray levels of each image evenly over 0..255.

    Two images of a face that differ by a monotone change of the gray levels, such as
    exposure or gamma, become alike. One map serves the whole image, so shade from one side
    stays (see CLAHE).

    Parameters
    ----------
    amount : float, default=1.0
        How far to go from the image stretched to 0..255 (0) to the equalized one (1).
        Less than 1 reduces the noise that equalization amplifies in flat parts.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    CLAHE : Equalizes around each pixel.

    Notes
    -----
    Each image is first stretched to levels of 0..255, whatever its scale, and
    rounded; then the values are those of OpenCV's ``equalizeHist``. For gray
    uint8 images, stretching makes no difference to the equalized image.

    In a color image, the luma 0.299 R + 0.587 G + 0.114 B is stretched and equalized. The
    differences between the channels and the luma are stretched with it and otherwise kept
    (as in YCbCr). Values outside 0..255 are clipped. The output is uint8.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import HistogramEqualizer
    >>> faces = np.array([[[0.1, 0.2], [0.3, 0.9]]])
    >>> HistogramEqualizer().fit_transform(faces)
    array([[[  0,  85],
            [170, 255]]], dtype=uint8)
    """

    _parameter_constraints: dict = {"amount": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, *, amount: float = 1.0) -> None:
        self.amount = amount

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        return equalize_histogram(images, amount=self.amount)


class CLAHE(_ImagesToImages):
    """Equalize the histogram around each pixel, with limited contrast (CLAHE).

    This removes shade from one side of the face too. The limit keeps noise in flat parts
    from being amplified.

    Parameters
    ----------
    tiles : (int, int), default=(4, 4)
        Rows and columns of tiles with a histogram each.
    clip_limit : float, default=4.0
        How often a gray level may occur in a tile, as a multiple of the mean count of a
        level; counts above it are spread over all levels. Large values set no limit.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.

    See Also
    --------
    HistogramEqualizer : One map for the whole image.

    Notes
    -----
    This is contrast-limited adaptive histogram equalization [1]_ in OpenCV's version:
    each tile has a map of the gray levels, and the maps are interpolated between the
    centers of the tiles. OpenCV rounds the limit down to whole pixels and adds fewer than
    256 clipped pixels to the darkest levels, which can make images of 48×48 pixels
    brighter by tens of levels. Therefore each pixel counts several times (3×3, 5×5, …) if
    a tile has fewer than 2048 pixels.

    Each image is first stretched to levels of 0..255, whatever its scale, and
    rounded; an image without contrast becomes amplified noise. In a color image,
    the luma 0.299 R + 0.587 G + 0.114 B is stretched and equalized. The differences
    between the channels and the luma are stretched with it and otherwise kept (as in
    YCbCr). Values outside 0..255 are clipped. The output is uint8.

    References
    ----------
    .. [1] K. Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics
       Gems IV, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import CLAHE
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> equalized = CLAHE(tiles=(3, 3)).fit_transform(faces)
    >>> equalized.shape, str(equalized.dtype)
    ((4, 48, 48), 'uint8')
    """

    _parameter_constraints: dict = {
        "tiles": [tuple, list],
        "clip_limit": [Interval(Real, 1, None, closed="left")],
    }

    def __init__(self, *, tiles: tuple[int, int] = (4, 4), clip_limit: float = 4.0) -> None:
        self.tiles = tiles
        self.clip_limit = clip_limit

    def _check_parameters(self, image_shape: tuple[int, ...]) -> None:
        check_pair(self.tiles, "tiles", (4, 4))
        _check_tiles_fit(image_shape[:2], self.tiles)

    def _transform(self, images: NDArray[Any]) -> NDArray[Any]:
        return equalize_adaptive_histogram(
            images, tiles=self.tiles, clip_limit=self.clip_limit
        )


def _blur(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    import cv2

    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT)


def _without_local_mean(image: NDArray[Any], sigma: float) -> NDArray[Any]:
    image = image.astype(np.float64)
    # the offset has no effect, but without it flat images are exactly 0
    image -= image.min(axis=(0, 1))
    return image - _blur(image, sigma)


def _with_equalized_luma(
    images: NDArray[Any], equalize: Callable[[NDArray[Any]], NDArray[Any]]
) -> NDArray[Any]:
    """Stretch the luma of each image to 0..255, equalize it and keep the colors."""
    equalized = np.zeros(images.shape, np.uint8)
    for image, result in zip(images, equalized, strict=True):
        luma = _luma(image) if image.ndim == 3 else image.astype(np.float64)
        span = np.ptp(luma)
        # colors of equal luma can differ in its last bits
        if span <= 1e-12 * np.abs(luma).max():
            continue
        levels = np.rint((luma - luma.min()) / span * 255).astype(np.uint8)
        if image.ndim == 3:
            differences = (image - luma[:, :, None]) / span * 255
            colors = equalize(levels)[:, :, None] + differences
            result[...] = np.rint(np.clip(colors, 0, 255))
        else:
            result[...] = equalize(levels)
    return equalized


def _luma(image: NDArray[Any]) -> NDArray[Any]:
    # no matrix product: the rounding of its sums depends on the pixel
    return 0.299 * image[:, :, 0] + 0.587 * image[:, :, 1] + 0.114 * image[:, :, 2]


def _check_tiles_fit(image_size: tuple[int, ...], tiles: tuple[int, int]) -> None:
    height, width = image_size
    rows, columns = tiles
    if height < rows or width < columns:
        raise ValueError(
            f"Images of {height}x{width} pixels cannot be cut into {rows}x{columns} tiles: "
            "make tiles smaller, or the images larger."
        )
