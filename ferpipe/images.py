"""Read any image file, and the frames of a video one at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

__all__ = ["read_frames", "read_image"]


def read_image(path, grey=True):
    """Read one image file.

    Parameters
    ----------
    path : str or path
        A file in any format that OpenCV reads (PNG, JPEG, BMP, TIFF, WebP, PGM, …).
    grey : bool, default=True
        Turn colours into grey; otherwise grey images get three equal channels.

    Returns
    -------
    image : ndarray of shape (h, w) or (h, w, 3), uint8
        Grey values or RGB, 0..255.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is empty, cut off or no image.
    """
    path = Path(path)
    content = path.read_bytes()
    if not content:
        raise ValueError(f"{path}: the file is empty (0 bytes); an image was expected.")
    image = _decode(content, grey)
    if image is None:
        raise ValueError(
            f"{path}: this is not an image, or a broken one ({len(content)} bytes, "
            f"beginning with {content[:8]!r}); a PNG, JPEG or the like was expected."
        )
    return image


def read_frames(path, grey=True) -> Iterator[np.ndarray]:
    """Read the frames of a video file, one at a time.

    Parameters
    ----------
    path : str or path
        A file in any format that OpenCV reads (MP4, AVI, MOV, …).
    grey : bool, default=True
        Turn colours into grey.

    Yields
    ------
    frame : ndarray of shape (h, w) or (h, w, 3), uint8
        Grey values or RGB, in the order of the video.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If no frame can be read.
    """
    import cv2

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such video file.")
    code = cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB
    video = cv2.VideoCapture(str(path))
    try:
        found, frame = video.read()
        if not found:
            raise ValueError(
                f"{path}: no frame can be read; a video (MP4, AVI, …) was expected."
            )
        while found:
            yield cv2.cvtColor(frame, code)
            found, frame = video.read()
    finally:
        video.release()


def _decode(content, grey):
    """Return the image, or None if OpenCV cannot read it."""
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        return None
    if image is None or grey:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
