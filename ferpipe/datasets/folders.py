"""Any data set that lies in folders: class/image, class/clip/frame or class/clip.mp4."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    class_folders,
    columns_read,
    existing_path,
    read_images,
    read_samples,
    visible_files,
)
from ferpipe.datasets.labels import canonical_label
from ferpipe.io.images import IMAGE_SUFFIXES, read_image
from ferpipe.io.patterns import safe_pattern
from ferpipe.io.videos import VIDEO_SUFFIXES, read_frames

__all__ = ["load_image_folder", "load_sequence_folder"]

_IMAGE_LAYOUT = "<folder>/<class>/<image>.png (or .jpg and the like; folders may be deeper)"
_SEQUENCE_LAYOUT = (
    "<folder>/<class>/<clip>/<frame>.png (or .jpg and the like) or <folder>/<class>/"
    "<clip>.mp4 (or .avi and the like)"
)


def load_image_folder(
    path: Path | str,
    *,
    size: int | tuple[int, int] | None = None,
    gray: bool = True,
    groups: str | None = None,
    sequences: str | None = None,
    population: str | None = None,
    lazy: bool = False,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    r"""Load images from one folder a class.

    Parameters
    ----------
    path : str or path
        Holds a folder for each class, with image files in it at any depth; ``~`` and
        ``$NAME`` are resolved.
    size : int or (int, int), default=None
        Scale every image to this height and width, in pixels.
    gray : bool, default=True
        Turn colors into gray; otherwise images are RGB.
    groups : str, default=None
        Regular expression that finds the subject in a file's path within ``path``, such
        as ``"anger/S010_004.png"``: what its first group matches. ``r"/(S\d+)_"`` suits
        that name, ``"[^/]+/([^/]+)/"`` suits class/subject/image.
    sequences : str, default=None
        Regular expression that finds in the same way the sequence whose frame an image is:
        ``r"/(S\d+_\d+)_"`` suits that name, ``"(.+)/"`` takes the folder that holds the
        image. Frames of one sequence look alike: they are kept on one side of every
        split, also where subjects are not known.
    population : str, default=None
        From which people the subjects come, such as ``"Cohn-Kanade"``: when data sets of
        one population are joined, the same name is the same person.
    lazy : bool, default=False
        Map the images into memory from a file of the cache, which is written at first;
        for data larger than memory. They must have one size: see ``size``.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken and unexpected files, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : ndarray of shape (n, h, w) or (n, h, w, 3), uint8; a list of such
        images when they differ in size.
        ``target`` : ndarray of shape (n,), canonical names for folders that are named by
        an expression, the folder's name otherwise.
        ``groups`` : ndarray of shape (n,), or None.
        ``sequences`` : ndarray of shape (n,), with ``sequences``.
        ``filenames``, ``population``, ``target_names``, ``kind``, ``synthetic``,
        ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If a file is unexpected or broken, a class is empty, or ``groups`` or ``sequences``
        does not match.
    """
    folder = existing_path(path, _IMAGE_LAYOUT)
    pattern, shape = check_pattern(groups), check_size(size)
    of_sequence = check_pattern(sequences, "sequences", "sequence")
    folders, unexpected = class_folders(folder, _IMAGE_LAYOUT)
    samples = []
    for class_folder in folders:
        files = list(_files_below(class_folder))
        images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        unexpected += [f"{file}: unexpected file" for file in files if file not in images]
        samples += labelled(class_folder, images, _IMAGE_LAYOUT)
    labels, files = map(list, zip(*samples, strict=True))
    data, places = read_images(
        files,
        labels,
        lambda file: resize(read_image(file, gray=gray), shape),
        unexpected=unexpected,
        layout=_IMAGE_LAYOUT,
        on_error=on_error,
        lazy=lazy,
        settings=(shape, gray),
    )
    files = [files[place] for place in places]
    extra = {}
    if of_sequence is not None:
        extra["sequences"] = np.array(
            [
                find_group(of_sequence, folder, file, "sequences", "sequence")
                for file in files
            ]
        )
    return _as_bunch(
        data,
        [labels[place] for place in places],
        files,
        kind="images",
        folder=folder,
        pattern=pattern,
        population=population,
        return_X_y=return_X_y,
        **extra,
    )


def load_sequence_folder(
    path: Path | str,
    *,
    size: int | tuple[int, int] | None = None,
    gray: bool = True,
    groups: str | None = None,
    population: str | None = None,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load clips, as folders of frames or as videos, from one folder a class.

    Parameters
    ----------
    path : str or path
        Holds a folder for each class; in it lie a folder or a video file for each clip.
        Frames are taken in the order of their names, 2 before 10.
    size : int or (int, int), default=None
        Scale every frame to this height and width, in pixels.
    gray : bool, default=True
        Turn colors into gray; otherwise frames are RGB.
    groups : str, default=None
        Regular expression that finds the subject in a clip's path within ``path``, such
        as ``"anger/S010_004.mp4"``: what its first group matches.
    population : str, default=None
        As :func:`load_image_folder` has it.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out clips with a broken file, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, h, w) or (T_i, h, w, 3), uint8.
        ``target``, ``groups`` : as :func:`load_image_folder` returns them.
        ``filenames`` : list of the folder or video of each clip.
        ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If a file is unexpected or broken, a class or a clip is empty, the frames of a clip
        differ in size, or ``groups`` does not match.
    """
    folder = existing_path(path, _SEQUENCE_LAYOUT)
    pattern, shape = check_pattern(groups), check_size(size)
    folders, unexpected = class_folders(folder, _SEQUENCE_LAYOUT)
    samples = []
    for class_folder in folders:
        clips = []
        for entry in visible_files(class_folder):
            if entry.is_dir() or entry.suffix.lower() in VIDEO_SUFFIXES:
                clips.append(entry)
            else:
                unexpected.append(f"{entry}: unexpected file")
        samples += labelled(class_folder, clips, _SEQUENCE_LAYOUT)
    labels, files = map(list, zip(*samples, strict=True))
    values = read_samples(
        files,
        labels,
        lambda clip: _read_clip(clip, gray, shape),
        unexpected=unexpected,
        layout=_SEQUENCE_LAYOUT,
        on_error=on_error,
    )
    data, labels, files = columns_read(values, zip(labels, files, strict=True))
    return _as_bunch(
        data,
        labels,
        files,
        kind="sequences",
        folder=folder,
        pattern=pattern,
        population=population,
        return_X_y=return_X_y,
    )


def _as_bunch(
    data: Any,
    target: Sequence[str],
    files: Sequence[Path],
    *,
    kind: str,
    folder: Path,
    pattern: re.Pattern[str] | None,
    population: str | None,
    return_X_y: bool,
    **extra: Any,
) -> Any:
    return as_bunch(
        data,
        target,
        kind=kind,
        groups=pattern and [find_group(pattern, folder, file) for file in files],
        population=population,
        filenames=[str(file) for file in files],
        description=(
            f"{folder.name}, {len(data)} {kind} in folders\n\nOne folder a class."
        ),
        return_X_y=return_X_y,
        **extra,
    )


def labelled(
    class_folder: Path, files: Sequence[Path], layout: str
) -> list[tuple[str, Path]]:
    """Return (label, file) for the files of a class."""
    if not files:
        raise ValueError(f"{class_folder}: this class is empty. Expected: {layout}.")
    try:
        label = canonical_label(class_folder.name)
    except ValueError:
        # Other classes than expressions are welcome under their own name.
        label = class_folder.name
    return [(label, file) for file in files]


def _files_below(folder: Path) -> Iterator[Path]:
    for entry in visible_files(folder):
        if entry.is_dir():
            yield from _files_below(entry)
        else:
            yield entry


def _read_clip(clip: Path, gray: bool, shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    if clip.is_dir():
        files = visible_files(clip)
        if not files:
            raise ValueError(f"{clip}: this clip has no frames")
        frames = [resize(read_image(file, gray=gray), shape) for file in files]
    else:
        frames = [resize(frame, shape) for _, frame in read_frames(clip, gray=gray)]
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        listing = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise ValueError(
            f"{clip}: the frames of this clip differ in size ({listing} pixels); the "
            "parameter size scales them"
        )
    return np.stack(frames)


def resize(image: NDArray[np.uint8], shape: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Scale an image to (height, width), if any is given."""
    import cv2

    if shape is None or image.shape[:2] == shape:
        return image
    height, width = shape
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    scaled: NDArray[Any] = cv2.resize(image, (width, height), interpolation=method)
    return scaled


def check_size(size: Any) -> tuple[int, int] | None:
    """Return (height, width) from a number of pixels or such a pair; None stays."""
    if size is None:
        return None
    shape = (size, size) if isinstance(size, int) else tuple(size)
    if len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(
            f"size must be a number of pixels or (height, width), got {size!r}."
        )
    return shape


def check_pattern(
    text: str | None, parameter: str = "groups", marked: str = "subject"
) -> re.Pattern[str] | None:
    """Return a compiled pattern with a group that marks the subject; None stays."""
    if text is None:
        return None
    pattern = safe_pattern(text, parameter)
    if not pattern.groups:
        raise ValueError(
            f"{parameter}={text!r} has no group in parentheses that marks the {marked}."
        )
    return pattern


def find_group(
    pattern: re.Pattern[str],
    folder: Path,
    file: Path,
    parameter: str = "groups",
    marked: str = "subject",
) -> str:
    """Return the subject that the pattern finds in a file's path below the folder."""
    match = pattern.search(file.relative_to(folder).as_posix())
    if match is None or match[1] is None:
        raise ValueError(
            f"{file}: {parameter}={pattern.pattern!r} finds no {marked} in this path."
        )
    return match[1]
