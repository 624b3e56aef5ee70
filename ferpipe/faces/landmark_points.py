"""The 68 landmarks of a face: numbering, mirroring, eye centers and files."""

from pathlib import Path

import numpy as np

__all__ = ["INNER", "MIRRORED", "N_POINTS", "eye_centers", "outer_eye_distance", "read_pts"]

N_POINTS = 68
# thousands of points; a file of 68 has 2 kB
_LARGEST_FILE = 2**20
# all but the jaw
INNER = slice(17, 68)
# the index of each point in the mirrored face
MIRRORED = np.array(
    [
        *range(16, -1, -1),  # jaw
        *range(26, 16, -1),  # brows
        *range(27, 31),  # bridge of the nose
        *range(35, 30, -1),  # nostrils
        *(45, 44, 43, 42, 47, 46),  # the subject's right eye becomes the left one
        *(39, 38, 37, 36, 41, 40),
        *range(54, 47, -1),  # outer lip, above
        *range(59, 54, -1),  # outer lip, below
        *range(64, 59, -1),  # inner lip, above
        *range(67, 64, -1),  # inner lip, below
    ]
)


def eye_centers(landmarks: np.ndarray) -> np.ndarray:
    """Return the centers of both eyes: the means of their six points.

    Parameters
    ----------
    landmarks : ndarray of shape (..., 68, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    centers : ndarray of shape (..., 2, 2)
        In pixels; first the subject's right eye, on the left of the image.
    """
    return np.stack(
        [landmarks[..., 36:42, :].mean(-2), landmarks[..., 42:48, :].mean(-2)], axis=-2
    )


def outer_eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Return the distance of the outer corners of the eyes, points 36 and 45.

    Parameters
    ----------
    landmarks : ndarray of shape (..., 68, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    distance : ndarray of shape (...)
        In pixels. Errors of landmarks are reported as fractions of it.
    """
    return np.linalg.norm(landmarks[..., 36, :] - landmarks[..., 45, :], axis=-1)


def read_pts(path: Path | str) -> np.ndarray:
    """Read a ``.pts`` file, as the 300-W challenge writes them.

    Parameters
    ----------
    path : str or path
        Text: ``version: 1``, ``n_points: 68``, then one ``x y`` per line within braces.

    Returns
    -------
    landmarks : ndarray of shape (p, 2)
        ``(x, y)`` in pixels, with the center of the first pixel at 0; the file counts from
        1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the text is not of this format, is too large, or holds another number of points
        than it states.
    """
    path = Path(path)
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(
            f"{path}: the file is larger than the {_LARGEST_FILE:,} bytes that are read; a "
            ".pts file has some thousand."
        )
    text = path.read_text(encoding="utf-8", errors="replace")
    head, opening, rest = text.partition("{")
    body, closing, _ = rest.partition("}")
    try:
        values = [float(word) for word in body.split()]
        counts = [line.split(":")[1] for line in head.splitlines() if "n_points" in line]
        expected = int(counts[0])
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"{path}: this is not a .pts file of landmarks: {error}."
        ) from error
    if not (opening and closing) or len(values) != 2 * expected:
        raise ValueError(
            f"{path}: expected {expected} points within braces, found {len(values)} "
            "numbers."
        )
    landmarks = np.array(values).reshape(-1, 2) - 1
    if not np.isfinite(landmarks).all():
        raise ValueError(f"{path}: a point is not finite.")
    return landmarks
