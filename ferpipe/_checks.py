"""Checks of images, landmarks and sequences: shape, dtype, finite values.

Each function returns the data in one form, or raises an error with what was expected,
what came and what to do. Every estimator of the package uses them, because scikit-learn's
``validate_data`` rejects lists and object arrays of images.
"""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "as_list",
    "check_frame_shape",
    "check_images",
    "check_landmarks",
    "check_pair",
    "check_sequences",
    "check_value_scale",
    "value_scale_of",
]


# values checked at a time
_CHECKED = 1 << 22
# squares of larger values overflow single precision, in which networks compute
_LARGEST = 1e15
# Largest values of the scales of images: floats in 0..1, standardized floats, bytes, 16
# bits; and the factor by which a value may exceed its scale.
_SCALES = (1.0, 15.0, 255.0, 65535.0)
_BYTES = 255.0
_BEYOND = 16


def check_images(X: Any, *, name: str = "X") -> NDArray[Any]:
    """Check a batch of equally large images.

    Parameters
    ----------
    X : array-like of shape (n, h, w) or (n, h, w, 3), or list of such images
        Gray or RGB images, uint8 or finite float on any scale. A pandas Series, or a data
        frame of one column, is a list of images. A last axis of one, ``(n, h, w, 1)``, is
        dropped.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    images : ndarray of shape (n, h, w) or (n, h, w, 3)
        In the dtype of the input; the input itself if it already has this form.

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If the shape is wrong, there is no image, the images differ in size or a
        value is not finite.
    """
    X = as_list(X)
    if isinstance(X, list):
        held = [_without_channel(np.asarray(image), 3) for image in X]
        if not held:
            raise ValueError(f"{name} is empty: at least one image is needed.")
        for index, image in enumerate(held):
            _check_numeric(image, f"{name}[{index}]")
            if image.shape != held[0].shape:
                raise ValueError(
                    f"{name}[{index}] has shape {image.shape}, but {name}[0] has shape "
                    f"{held[0].shape}: all images must have one size; crop or resize "
                    "them first."
                )
        X = np.stack(held)
    images = _without_channel(np.asarray(X), 4)
    _check_numeric(images, name)
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(
            f"{name} must hold images of shape (n, h, w) or (n, h, w, 3), got an array of "
            f"shape {images.shape}.{_image_shape_hint(images)}"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} is empty: got an array of shape {images.shape}.")
    _check_finite(images, name)
    return images


def check_sequences(X: Any, *, name: str = "X") -> list[NDArray[Any]]:
    """Check a collection of sequences, which may differ in length.

    Parameters
    ----------
    X : list of array-like of shape (T_i, ...), or ndarray of shape (n, T, ...)
        Sequences with time first, or a pandas Series of them. A frame is a feature vector
        ``(d,)``, a gray image ``(h, w)`` or ``(h, w, 1)``, or an RGB image ``(h, w, 3)``.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    sequences : list of ndarray of shape (T_i, ...)
        One array per sequence; all frames have one shape.

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If there is no sequence, a sequence has no frame, frames differ in shape or a
        value is not finite.
    """
    X = as_list(X)
    if not isinstance(X, list):
        X = np.asarray(X)
        _check_numeric(X, name)
        if X.ndim < 3:
            raise ValueError(
                f"{name} must hold sequences: a list of arrays (T_i, ...) or one array "
                f"(n, T, ...), got an array of shape {X.shape}. A single sequence s goes "
                "in as [s]."
            )
    if len(X) == 0:
        raise ValueError(f"{name} is empty: at least one sequence is needed.")
    sequences = [_as_frames(sequence, f"{name}[{i}]") for i, sequence in enumerate(X)]
    for index, sequence in enumerate(sequences):
        _check_numeric(sequence, f"{name}[{index}]")
        sequences[index] = sequence = _without_channel(sequence, 4)
        if sequence.ndim < 2:
            raise ValueError(
                f"{name}[{index}] must have time first and then a frame's own axes, got "
                f"shape {sequence.shape}."
            )
        if 0 in sequence.shape:
            raise ValueError(
                f"{name}[{index}] is empty: got shape {sequence.shape}; drop sequences "
                "without frames."
            )
        if sequence.shape[1:] != sequences[0].shape[1:]:
            raise ValueError(
                f"{name}[{index}] has frames of shape {sequence.shape[1:]}, but {name}[0] "
                f"has frames of shape {sequences[0].shape[1:]}: all frames must have one "
                "shape; crop or resize them first."
            )
        if sequence.ndim > 4 or (sequence.ndim == 4 and sequence.shape[3] != 3):
            raise ValueError(
                f"{name}[{index}] has frames of shape {sequence.shape[1:]}, but a frame "
                "must be (d,), (h, w) or (h, w, 3), the color channel last."
            )
        _check_finite(sequence, f"{name}[{index}]")
    return sequences


def check_landmarks(X: Any, *, name: str = "X") -> NDArray[Any]:
    """Check landmarks ``(n, p, 2)``: ``(x, y)`` in pixels, y down.

    Parameters
    ----------
    X : array-like of shape (n, p, 2)
        Landmarks of n faces.
    name : str, default="X"
        Name of the argument in error messages.

    Returns
    -------
    landmarks : ndarray of shape (n, p, 2), float64

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If the shape is wrong or a value is not finite.
    """
    landmarks = np.asarray(X)
    _check_numeric(landmarks, name)
    if landmarks.ndim != 3 or landmarks.shape[2] != 2 or 0 in landmarks.shape:
        raise ValueError(
            f"{name} must hold landmarks of shape (n, p, 2), got an array of shape "
            f"{landmarks.shape}. The landmarks l of a single face go in as [l]."
        )
    _check_finite(landmarks, name)
    return landmarks.astype(np.float64, copy=False)


def check_frame_shape(
    got: tuple[int, ...], expected: tuple[int, ...], estimator: Any, *, kind: str = "images"
) -> None:
    """Refuse images or frames of another shape than an estimator was fitted on.

    Parameters
    ----------
    got, expected : tuple of int
        Shape of the input and shape seen in fit.
    estimator : object
        The fitted estimator, named in the message.
    kind : {"images", "frames"}, default="images"
        Whether the shapes are of images or of frames.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if tuple(got) != tuple(expected):
        cure = "crop or resize them to that"
        if len(got) != len(expected):
            cure = "make them gray" if len(expected) == 2 else "give them in RGB"
        raise ValueError(
            f"X has {kind} of shape {tuple(got)}, but {type(estimator).__name__} was "
            f"fitted on {kind} of shape {tuple(expected)}: {cure}."
        )


def check_pair(value: Any, name: str, example: tuple[int, int]) -> None:
    """Refuse anything but two whole numbers of at least 1, for rows and columns.

    Parameters
    ----------
    value : object
        The value.
    name : str
        Name of the parameter, for the message.
    example : (int, int)
        A valid value, for the message.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if len(value) != 2 or not all(
        isinstance(number, Integral) and int(number) >= 1 for number in value
    ):
        raise ValueError(
            f"{name} must be two whole numbers of at least 1 (rows, columns), such as "
            f"{example}, got {value!r}."
        )


def as_list(X: Any) -> Any:
    """Turn a container of separate samples into a list of them.

    Parameters
    ----------
    X : object
        Samples.

    Returns
    -------
    samples : list or object
        A list for a tuple, a one-dimensional array of objects, a Series of objects, and a
        data frame with one column of objects, as a ColumnTransformer passes it. Anything
        else is returned as it is.
    """
    if isinstance(X, list | tuple):
        return list(X)
    if isinstance(X, np.ndarray):
        return list(X) if X.dtype == object and X.ndim == 1 else X
    if isinstance(X, str | bytes) or not hasattr(X, "__array__"):
        return X
    if hasattr(X, "columns") and np.ndim(X) == 2 and np.shape(X)[1] == 1:
        held = np.asarray(X)
        return list(held[:, 0]) if held.dtype == object else X
    if hasattr(X, "dtype") and np.ndim(X) == 1:
        held = np.asarray(X)
        return list(held) if held.dtype == object else X
    return X


def _without_channel(samples: NDArray[Any], n_axes: int) -> NDArray[Any]:
    """Drop the last axis of gray images that have one channel."""
    if samples.ndim == n_axes and samples.shape[-1] == 1:
        return samples[..., 0]
    return samples


def _as_frames(sequence: Any, name: str) -> NDArray[Any]:
    """Stack the frames of a sequence that is itself a list of frames."""
    sequence = as_list(sequence)
    if not isinstance(sequence, list):
        return np.asarray(sequence)
    frames = [np.asarray(frame) for frame in sequence]
    for index, frame in enumerate(frames):
        if frame.shape != frames[0].shape:
            raise ValueError(
                f"{name} has a frame {index} of shape {frame.shape}, but its frame 0 has "
                f"shape {frames[0].shape}: all frames must have one shape; crop or resize "
                "them first."
            )
    return np.stack(frames) if frames else np.empty((0, 0))


def _check_numeric(array: NDArray[Any], name: str) -> None:
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must hold numbers (uint8 or float), got dtype {array.dtype}: read "
            "image files into arrays first; turn an array of objects into a list."
        )


def _check_finite(array: NDArray[Any], name: str) -> None:
    # smaller integers cannot reach the limit
    if array.dtype.kind != "f" and array.dtype.itemsize < 8:
        return
    limit = _LARGEST
    if array.dtype.kind == "f":
        limit = array.dtype.type(min(limit, float(np.finfo(array.dtype).max)))
    for start, part in _slices(array):
        # NaN is false in both comparisons
        fine = (part >= -limit) & (part <= limit)
        if not fine.all():
            first, *others = (int(axis[0]) for axis in np.nonzero(~fine))
            place, value = (start + first, *others), part[(first, *others)]
            if np.isfinite(value):
                raise ValueError(
                    f"{name} has values beyond {_LARGEST:g} (the first at {place}, "
                    f"{value:g}), too large to compute with: bring it to a smaller scale."
                )
            raise ValueError(
                f"{name} has NaN or infinite values (the first at {place}); drop those "
                "samples or fill them in."
            )


def _slices(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield parts of an array and their starts, so that checks need little memory."""
    step = max(1, _CHECKED * len(array) // max(1, array.size))
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def value_scale_of(images: NDArray[Any]) -> float | None:
    """Return the scale of images.

    Parameters
    ----------
    images : ndarray
        Images.

    Returns
    -------
    scale : float or None
        Its largest value: 1, 15, 255 or 65535, the smallest that no value exceeds; at least
        255 for whole numbers. None for larger values, and if all values are 0.
    """
    if images.dtype == np.uint8:
        return _BYTES
    largest = _largest_value(images)
    if largest == 0:
        return None
    if images.dtype.kind in "iu":
        largest = max(largest, _BYTES)
    return next((scale for scale in _SCALES if largest <= scale), None)


def check_value_scale(images: NDArray[Any], scale: float | None, estimator: Any) -> None:
    """Refuse images on quite another scale than those of fit.

    Parameters
    ----------
    images : ndarray
        Images.
    scale : float or None
        Result of :func:`value_scale_of` for the images of fit; None checks nothing.
    estimator : object
        The fitted estimator, named in the message.

    Raises
    ------
    ValueError
        If floats lie within 0..1 and those of fit were gray values of 0..255 or more, if
        the images are bytes and those of fit had 16 bits, or if a value is more than 16
        times as large as the scale of fit.
    """
    if scale is None:
        return
    is_bytes = images.dtype == np.uint8
    largest = _BYTES if is_bytes else _largest_value(images)
    smaller = scale > _BYTES if is_bytes else images.dtype.kind == "f" and largest <= 1
    if largest > _BEYOND * scale or (smaller and scale >= _BYTES and largest > 0):
        raise ValueError(
            f"X has values up to {largest:g}, but {type(estimator).__name__} was fitted on "
            f"values up to {scale:g}, and its output depends on the scale: give X on the "
            "scale of fit."
        )


def _largest_value(array: NDArray[Any]) -> float:
    # from the two extremes: the absolute values would need as much memory as the array
    return max(
        (max(float(part.max()), -float(part.min())) for _, part in _slices(array)),
        default=0.0,
    )


def _image_shape_hint(images: NDArray[Any]) -> str:
    if images.ndim == 2:
        return " A single image i goes in as [i]."
    if images.ndim > 3:
        return " Three color channels go last; sequences of images go through PerFrame."
    return ""
