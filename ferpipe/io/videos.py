"""Read the frames of a video one at a time."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["VIDEO_SUFFIXES", "read_frames"]

# endings of file names that loaders search folders for
VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv"),
        ".3gp",
    }
)


def read_frames(
    path: str | os.PathLike[str], *, gray: bool = True
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Read the frames of a video file, one at a time.

    Parameters
    ----------
    path : str or path
        A file in any format that OpenCV reads (MP4, AVI, MOV, …).
    gray : bool, default=True
        Turn colors into gray.

    Yields
    ------
    time : float
        When the frame is shown, in seconds from the beginning, as the file states it; the
        frames of a video with a variable rate keep their own times.
    frame : ndarray of shape (h, w) or (h, w, 3), uint8
        Gray values or RGB, in the order of the video, upright.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If no frame can be read.
    """
    import cv2  # here, so that the import of this module stays light

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such video file.")
    code = cv2.COLOR_BGR2GRAY if gray else cv2.COLOR_BGR2RGB
    video = cv2.VideoCapture(str(path))
    try:
        found, frame = video.read()
        if not found:
            raise ValueError(
                f"{path}: no frame can be read; a video (MP4, AVI, …) was expected."
            )
        while found:
            image: NDArray[Any] = cv2.cvtColor(frame, code)
            yield video.get(cv2.CAP_PROP_POS_MSEC) / 1000, image
            found, frame = video.read()
    finally:
        video.release()
