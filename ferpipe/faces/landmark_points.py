"""The 68 landmarks of a face: numbering, mirroring and eye centers."""

import numpy as np

__all__ = ["INNER", "MIRRORED", "N_POINTS", "eye_centers", "outer_eye_distance"]

N_POINTS = 68
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
