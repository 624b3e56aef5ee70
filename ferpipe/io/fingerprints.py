"""Fingerprints of images: copies are found again at another size, encoding or brightness.

An image is reduced to 16 x 16 gray values of mean 0 and standard deviation 1. Its
fingerprint holds the signs of the 64 lowest frequencies of these in one 64-bit number.
"""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "are_known",
    "copies",
    "fingerprints",
    "read_fingerprints",
    "write_fingerprints",
]

# bits in which a copy may differ, and correlation of two images that are taken for copies
_BITS = 2
_CORRELATION = 0.99
_SIDE = 16
_SMALLEST = 8
# bits in which the fingerprints of two images may differ that are compared further, and
# how many pairs are at a time
_FAR = 10
_PAIRS = 200_000
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)


def _lowest_frequencies() -> NDArray[np.float32]:
    """Return a cosine basis (64, 256), orthonormal, from low to high frequency."""
    places = np.arange(_SIDE)
    waves = np.cos(np.pi * np.outer(places, places + 0.5) / _SIDE)
    waves *= np.sqrt(np.where(places == 0, 1.0, 2.0) / _SIDE)[:, None]
    pairs = [(row, column) for row in places for column in places if row + column]
    pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
    basis = [np.outer(waves[row], waves[column]).ravel() for row, column in pairs[:64]]
    return np.array(basis, np.float32)


_BASIS = _lowest_frequencies()


def fingerprints(images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.uint64]:
    """Compute the fingerprint of each image.

    Parameters
    ----------
    images : ndarray or list of ndarray of shape (h, w) or (h, w, 3)
        Images of any size and scale.

    Returns
    -------
    numbers : ndarray of shape (n,), uint64
        0 for an image that is flat or has a side below 8 pixels: it is never taken for a
        copy.
    """
    return _signs(_thumbnails(images))


def are_known(
    images: NDArray[Any] | Sequence[NDArray[Any]], known: NDArray[np.uint64]
) -> NDArray[np.bool_]:
    """Find the images, or the mirror images of those, that have a known fingerprint.

    Parameters
    ----------
    images : ndarray or list of ndarray of shape (h, w) or (h, w, 3)
        Images of any size and scale.
    known : ndarray of shape (m,), uint64
        Fingerprints.

    Returns
    -------
    found : ndarray of shape (n,), bool
        Whether a known fingerprint differs in at most 2 of the 64 bits.

    Notes
    -----
    Measured by ``benchmarks/fingerprints.py``: of the images of FER2013 enlarged to 96
    pixels 99.4 % are found; of 2,915 faces of other data sets, none.
    """
    small = _thumbnails(images)
    found = np.zeros(len(small), bool)
    known = known[known != 0]
    if len(known) == 0:
        return found
    for seen in (small, small[:, :, ::-1]):
        for first, _ in _near(_signs(seen), known, _BITS):
            found[first] = True
    return found


def copies(images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.intp]:
    """Find pairs of images that show the same at any size, mirrored or not.

    Parameters
    ----------
    images : ndarray or list of ndarray of shape (h, w) or (h, w, 3)
        Images of any size and scale.

    Returns
    -------
    pairs : ndarray of shape (n_pairs, 2), int
        Indices, the lower one first, in order: the correlation of their 16 x 16 gray
        values is at least 0.99.

    Notes
    -----
    In CK+48 no pair of images of two people is found, and three quarters of the pairs of
    frames of one sequence: successive frames of a video are as near as copies.
    """
    small = _thumbnails(images)
    rows, numbers = small.reshape(len(small), _SIDE**2) / _SIDE, _signs(small)
    pairs = []
    for seen in (small, small[:, :, ::-1]):
        others = np.ascontiguousarray(seen).reshape(len(small), _SIDE**2) / _SIDE
        pairs.append(_correlated(rows, others, numbers, _signs(seen)))
    return np.unique(np.concatenate(pairs), axis=0)


def _correlated(
    rows: NDArray[Any],
    others: NDArray[Any],
    numbers: NDArray[np.uint64],
    other_numbers: NDArray[np.uint64],
) -> NDArray[np.intp]:
    """Return the pairs i < j of which rows[i] and others[j] have a high dot product."""
    pairs = [np.zeros((0, 2), int)]
    for first, second in _near(numbers, other_numbers, _FAR):
        ordered = first < second
        first, second = first[ordered], second[ordered]
        alike = np.einsum("ij,ij->i", rows[first], others[second]) >= _CORRELATION
        pairs.append(np.stack([first[alike], second[alike]], axis=1))
    return np.concatenate(pairs)


def _near(
    numbers: NDArray[np.uint64], others: NDArray[np.uint64], most: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield places of fingerprints that differ in at most some bits, pairs at a time.

    Those that share one of four parts are compared: all that differ in at most three bits
    do. A pair may come several times.
    """
    for shift in range(0, 64, 16):
        word, other_word = (
            ((own >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.uint16)
            for own in (numbers, others)
        )
        order = np.argsort(other_word, kind="stable")
        ordered = other_word[order]
        begin = np.searchsorted(ordered, word, "left")
        counts = np.searchsorted(ordered, word, "right") - begin
        counts[numbers == 0] = 0
        parts = np.flatnonzero(np.diff(np.cumsum(counts) // _PAIRS)) + 1
        for part in np.split(np.arange(len(word)), parts):
            some = counts[part]
            first = np.repeat(part, some)
            within = np.arange(len(first)) - np.repeat(np.cumsum(some) - some, some)
            second = order[np.repeat(begin[part], some) + within]
            near = np.bitwise_count(numbers[first] ^ others[second]) <= most
            near &= others[second] != 0
            yield first[near], second[near]


def write_fingerprints(path: Path | str, numbers: NDArray[np.uint64]) -> Path:
    """Write fingerprints, each once, in about 7 bytes each.

    Parameters
    ----------
    path : str or path
        A ``.npz`` file.
    numbers : ndarray of shape (n,), uint64
        Fingerprints.

    Returns
    -------
    path : Path
    """
    numbers = np.unique(numbers[numbers != 0])
    # differences of sorted numbers begin with zeros, which take no room when compressed
    steps = np.diff(numbers, prepend=np.uint64(0)).astype("<u8")
    np.savez_compressed(path, steps=steps.view(np.uint8).reshape(-1, 8).T)
    return Path(path)


def read_fingerprints(path: Path | str) -> NDArray[np.uint64]:
    """Read what :func:`write_fingerprints` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    numbers : ndarray of shape (n,), uint64
        Sorted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of something else.
    """
    try:
        # numpy leaves a file open that it opened itself and cannot read
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            steps = file["steps"]
        if steps.dtype != np.uint8 or steps.ndim != 2 or len(steps) != 8:
            raise ValueError("steps has another shape")
    except (BadZipFile, KeyError, EOFError, TypeError, ValueError, zlib.error) as error:
        raise ValueError(
            f"{path}: expected the fingerprints that were written beside a network's "
            f"weights, but the file is damaged or of something else ({error}): write it "
            "again, or remove it."
        ) from error
    steps = np.ascontiguousarray(steps.T).view("<u8").ravel()
    return np.cumsum(steps, dtype=np.uint64)


def _signs(small: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return the fingerprints of standardized images (n, 16, 16)."""
    flat = np.ascontiguousarray(small).reshape(len(small), _SIDE**2)
    bits = np.packbits(flat @ _BASIS.T > 0, axis=1)
    return np.ascontiguousarray(bits).view("<u8").ravel().astype(np.uint64)


def _thumbnails(images: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return (n, 16, 16) gray values of mean 0 and standard deviation 1, or all 0."""
    import cv2

    small = np.zeros((len(images), _SIDE, _SIDE), np.float32)
    for thumbnail, image in zip(small, images, strict=True):
        image = np.asarray(image)
        if min(image.shape[:2]) < _SMALLEST:
            continue
        if image.dtype != np.uint8:
            image = np.asarray(image, np.float32)
        reduced = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        reduced = reduced.astype(np.float32)
        if reduced.ndim == 3:
            reduced = reduced[..., :3] @ _GRAY
        spread = reduced.std()
        if spread > 1e-3 * np.abs(reduced).max():
            thumbnail[:] = (reduced - reduced.mean()) / spread
    return small
