"""Read any image, and check raw images and sequences of them."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

from ferpipe._checks import as_list

__all__ = [
    "IMAGE_SUFFIXES",
    "LARGEST_IMAGE",
    "as_uint8",
    "check_raw_images",
    "check_raw_sequences",
    "read_image",
]

# endings of file names that loaders search folders for
IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"),
        *(".webp", ".jp2", ".avif"),
    }
)
# 50 million pixels: most photos of phones; 150 MB as RGB, 500 MB while a file is decoded
LARGEST_IMAGE = 50_000_000
# OpenCV warps no image with a longer side
_LONGEST_SIDE = 32_766
# pixels whose values are computed together: bounds the memory of what is between
_STRIP = 2**17

# named, because Pillow would start other programs for some formats (EPS: Ghostscript)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")
_LUMA = np.array([0.299, 0.587, 0.114])
_PILLOW_LIMIT = threading.Lock()


def read_image(
    source: Any, *, gray: bool = True, max_pixels: int = LARGEST_IMAGE
) -> NDArray[np.uint8]:
    """Read one image from a file, a file object or an array.

    The image comes as a viewer shows it: turned upright by its EXIF orientation, palettes
    and CMYK as the colors they stand for, transparent parts on white, 16 bits scaled to 8.
    Of an animation it is the first frame.

    Parameters
    ----------
    source : str, path, binary file object or array-like
        A PNG, JPEG, BMP, GIF, PPM, TIFF, WebP, JPEG 2000 or AVIF file; or an array as
        :func:`as_uint8` takes it.
    gray : bool, default=True
        Turn colors into gray, Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); otherwise
        gray images get three equal channels.
    max_pixels : int, default=50_000_000
        Files that claim to hold more are refused before they are decoded.

    Returns
    -------
    image : ndarray of shape (h, w) or (h, w, 3), uint8
        Gray values or RGB, 0..255.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the source is none of these kinds, or an array of something else than numbers.
    ValueError
        If the file is a folder, empty, cut off, no image or too large, has a side above
        32,766 pixels, or holds values without a known range (32 bits a channel).
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            raise ValueError(
                f"{path}: this is a folder; an image file was expected "
                "(datasets.load_image_folder reads folders)."
            )
        with path.open("rb") as file:
            return _read_file(file, str(path), gray, max_pixels)
    if hasattr(source, "read"):
        return _read_file(source, str(getattr(source, "name", source)), gray, max_pixels)
    if isinstance(source, bytes | bytearray):
        raise TypeError("An image in bytes goes in as io.BytesIO(content).")
    return _in_colors(as_uint8(source), gray)


def as_uint8(image: Any, *, name: str = "image") -> NDArray[np.uint8]:
    """Check one raw image and return it in uint8, gray or RGB.

    Parameters
    ----------
    image : array-like of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)
        Gray, RGB or RGBA. Integers are 0..255, uint16 0..65535; booleans are black and
        white. Floats are on the scale 0..1 when none is above 1, on 0..255 otherwise.
    name : str, default="image"
        Name of the argument in error messages.

    Returns
    -------
    image : ndarray of shape (h, w) or (h, w, 3), uint8
        Transparent parts on white; the input itself when it already has this form.

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If the shape is wrong, a side is above 32,766 pixels, or a value is not finite or
        out of range.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold numbers, got dtype {image.dtype}; ferpipe.read_image turns "
            "an image file into an array."
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise ValueError(
            f"{name} must have the shape (h, w), (h, w, 3) or (h, w, 4), got "
            f"{image.shape}; the color channels go last."
        )
    if image.size == 0:
        raise ValueError(f"{name} has no pixels: got the shape {image.shape}.")
    if max(image.shape[:2]) > _LONGEST_SIDE:
        raise _too_long(name, image.shape[1], image.shape[0])
    image = _to_8_bits(image, name)
    return _on_white(image) if image.ndim == 3 and image.shape[2] == 4 else image


def check_raw_images(X: Any, *, name: str = "X") -> list[NDArray[np.uint8]]:
    """Check images of any sizes and return them in uint8.

    Parameters
    ----------
    X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
        Images as :func:`as_uint8` takes them.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    images : list of ndarray of shape (h_i, w_i) or (h_i, w_i, 3), uint8

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If there is no image, or one is none.
    """
    X = as_list(X)
    if not isinstance(X, list):
        X = np.asarray(X)
        if X.ndim == 0:
            raise TypeError(
                f"{name} must hold images: a list of them, or an array of shape (n, h, w) "
                f"or (n, h, w, 3); got {X.item()!r}."
            )
        # an array (h, w, 3) is one image in color rather than h images three pixels wide
        several = X.ndim == 4 or (X.ndim == 3 and X.shape[2] > 4)
        if X.dtype.kind in "fiub" and not several:
            raise ValueError(
                f"{name} must hold images: a list of them, or an array of shape (n, h, w) "
                f"or (n, h, w, 3); got the shape {X.shape}. A single image i goes in as "
                "[i]."
            )
    if len(X) == 0:
        raise ValueError(f"{name} is empty: at least one image is needed.")
    return [as_uint8(image, name=f"{name}[{index}]") for index, image in enumerate(X)]


def check_raw_sequences(X: Any, *, name: str = "X") -> list[list[NDArray[np.uint8]]]:
    """Check sequences of images of any sizes and return them in uint8.

    Parameters
    ----------
    X : list of lists of images, or ndarray of shape (n, T, h, w) or (n, T, h, w, 3)
        Sequences; images as :func:`as_uint8` takes them.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    sequences : list of lists of ndarray of shape (h, w) or (h, w, 3), uint8

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If there is no sequence, one has no frame, or a frame is no image.
    """
    X = as_list(X)
    if not isinstance(X, list):
        X = np.asarray(X)
        if X.dtype != object and X.ndim < 4:
            raise ValueError(
                f"{name} must hold sequences: a list of lists of images, or an array of "
                f"shape (n, T, h, w) or (n, T, h, w, 3); got the shape {X.shape}. A single "
                "sequence s goes in as [s]."
            )
    if len(X) == 0:
        raise ValueError(f"{name} is empty: at least one sequence is needed.")
    return [
        check_raw_images(sequence, name=f"{name}[{index}]")
        for index, sequence in enumerate(X)
    ]


def _read_file(file: BinaryIO, name: str, gray: bool, max_pixels: int) -> NDArray[np.uint8]:
    from PIL import ImageOps

    # a decoder of WebP takes memory for all pixels as soon as it is made
    _check_size(name, _size_of_webp(file), max_pixels)
    try:
        picture = _open(file)
    except Exception as error:  # Pillow's readers raise many kinds on foreign bytes
        raise _broken(file, name, error) from error
    with picture:
        _check_size(name, picture.size, max_pixels)
        if picture.mode in ("I", "F"):
            raise ValueError(
                f"{name}: the image has 32 bits a channel, without a known range; scale it "
                "to 0..255 yourself and pass the array."
            )
        try:
            ImageOps.exif_transpose(picture, in_place=True)
            image = _decode(picture)
        except Exception as error:
            raise _broken(file, name, error) from error
    return _in_colors(image, gray)


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(
            f"{name}: the image has {width} x {height} pixels, more than the "
            f"{max_pixels:,} that are read; make it smaller, or raise max_pixels."
        )
    if max(size) > _LONGEST_SIDE:
        raise _too_long(name, width, height)


def _too_long(name: str, width: int, height: int) -> ValueError:
    return ValueError(
        f"{name}: the image has {width} x {height} pixels, but no side may have more than "
        f"{_LONGEST_SIDE:,}; make it smaller, or cut it into parts."
    )


def _size_of_webp(file: BinaryIO) -> tuple[int, int]:
    """Return width and height as the header of a WebP file has them; else zeros."""
    start = file.read(30)
    file.seek(0)
    if len(start) < 30 or start[:4] != b"RIFF" or start[8:12] != b"WEBP":
        return 0, 0
    kind = start[12:16]
    if kind == b"VP8X":
        width, height = start[24:27], start[27:30]
        return 1 + int.from_bytes(width, "little"), 1 + int.from_bytes(height, "little")
    if kind == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + bits % 2**14, 1 + (bits >> 14) % 2**14
    width, height = start[26:28], start[28:30]
    return (
        int.from_bytes(width, "little") % 2**14,
        int.from_bytes(height, "little") % 2**14,
    )


def _open(file: BinaryIO) -> "Image.Image":
    """Read the header only; the pixel limit is ours, so Pillow's own is switched off."""
    from PIL import Image

    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(picture: "Image.Image") -> NDArray[np.uint8]:
    """Return the pixels of an open file, gray or RGB, uint8."""
    if picture.mode.startswith("I;16"):
        return _to_8_bits(np.asarray(picture).astype(np.uint16, copy=False), "image")
    if picture.has_transparency_data:
        return _on_white(np.asarray(picture.convert("RGBA")))
    if picture.mode in ("L", "1"):
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.convert("RGB"))


def _broken(file: BinaryIO, name: str, error: Exception) -> ValueError:
    if isinstance(error, MemoryError):
        return ValueError(
            f"{name}: there is not enough memory to decode the image; make it smaller."
        )
    file.seek(0)
    start = file.read(8).decode("latin-1")
    if not start:
        return ValueError(f"{name}: the file is empty (0 bytes); an image was expected.")
    return ValueError(
        f"{name}: this is not an image, or a broken one (beginning with {start!r}); a PNG, "
        "JPEG or the like was expected."
    )


def _to_8_bits(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    if image.dtype == bool:
        return image.astype(np.uint8) * np.uint8(255)
    if image.dtype == np.uint16:
        return _in_strips(
            image, lambda strip: (strip.astype(np.uint32) + 128) // 257, image.shape
        )
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} has NaN or infinite values; fill them in first.")
    if low < 0 or high > 255:
        raise ValueError(
            f"{name} has values from {low:g} to {high:g}; expected 0..255, or floats in "
            "0..1: scale it first."
        )
    scale = 255 if image.dtype.kind == "f" and high <= 1 else 1
    return np.rint(image * scale).astype(np.uint8)


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    def mix(strip: NDArray[np.uint8]) -> NDArray[np.uint32]:
        alpha = strip[:, :, 3:].astype(np.uint32)
        return (strip[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255

    return _in_strips(rgba, mix, (*rgba.shape[:2], 3))


def _in_colors(image: NDArray[np.uint8], gray: bool) -> NDArray[np.uint8]:
    if gray and image.ndim == 3:
        return _in_strips(image, _luma, image.shape[:2])
    if not gray and image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    return image


def _luma(strip: NDArray[np.uint8]) -> NDArray[np.float64]:
    # one long product takes a quarter of the time of one a row
    flat = strip.reshape(-1, 3).astype(float)
    return np.rint(flat @ _LUMA).reshape(strip.shape[:2])


def _in_strips(
    image: NDArray[Any],
    function: Callable[[NDArray[Any]], NDArray[Any]],
    shape: tuple[int, ...],
) -> NDArray[np.uint8]:
    """Compute uint8 values of some rows at a time."""
    values = np.empty(shape, np.uint8)
    n_rows = max(1, _STRIP // image.shape[1])
    for top in range(0, len(image), n_rows):
        values[top : top + n_rows] = function(image[top : top + n_rows])
    return values
