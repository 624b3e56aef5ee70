"""RaFD: posed expressions seen from five angles, with three directions of gaze."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import existing_path, read_images, visible_files
from ferpipe.datasets.labels import canonical_label
from ferpipe.io.images import read_image

__all__ = ["load_rafd"]

_LAYOUT = (
    "RaFD/Rafd<angle>_<model>_<group>_<gender>_<expression>_<gaze>.jpg, for example "
    "RaFD/Rafd090_01_Caucasian_female_angry_frontal.jpg"
)
_NAME = re.compile(
    r"Rafd(?P<angle>\d{3})_(?P<model>\d+)_[a-z]+_[a-z]+_(?P<expression>[a-z]+)"
    r"_(?P<gaze>frontal|left|right)\.(jpe?g|png)",
    re.IGNORECASE,
)
_ANGLES = (0, 45, 90, 135, 180)


def load_rafd(
    path: Path | str,
    *,
    angles: Collection[int] = (90,),
    gray: bool = True,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load RaFD, the Radboud Faces Database.

    Parameters
    ----------
    path : str or path
        The folder with the images, or one that holds it as ``RaFD``; ``~`` and ``$NAME``
        are resolved.
    angles : list of {0, 45, 90, 135, 180}, default=(90,)
        Angles of the camera to load, in degrees; 90 is from the front, 0 and 180 are the
        profiles.
    gray : bool, default=True
        Turn colors into gray; otherwise images are RGB.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken and unexpected files, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : ndarray of shape (n, h, w) or (n, h, w, 3), uint8; a list of such
        images when they differ in size.
        ``target`` : ndarray of shape (n,), canonical names, all eight.
        ``groups`` : ndarray of shape (n,), the numbers of the models, such as ``"01"``.
        ``angles`` : ndarray of shape (n,), in degrees.
        ``gazes`` : ndarray of shape (n,), ``"frontal"``, ``"left"`` or ``"right"``.
        ``filenames``, ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing or holds no image of these angles.
    ValueError
        If an angle is not known, or a file is unexpected or broken.

    References
    ----------
    .. [1] O. Langner et al., "Presentation and validation of the Radboud Faces Database",
       Cognition and Emotion 24, 2010.
    """
    if not isinstance(angles, list | tuple) or not set(angles) <= set(_ANGLES):
        raise ValueError(
            f"angles must be a list of some of {', '.join(map(str, _ANGLES))}, got "
            f"{angles!r}."
        )
    folder = existing_path(path, _LAYOUT)
    if (folder / "RaFD").is_dir():
        folder = folder / "RaFD"
    if not folder.is_dir():
        raise ValueError(f"{folder}: this is a file. Expected a folder: {_LAYOUT}.")
    samples, unexpected = _find_images(folder, angles)
    if not samples:
        raise FileNotFoundError(
            f"{folder}: there is no image of RaFD with angles={list(angles)} in it. "
            f"Expected: {_LAYOUT}."
        )
    data, places = read_images(
        [sample[0] for sample in samples],
        [sample[1] for sample in samples],
        lambda file: read_image(file, gray=gray),
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    rows = [samples[place] for place in places]
    filenames, target, groups, seen_from, gazes = map(list, zip(*rows, strict=True))
    return as_bunch(
        data,
        target,
        kind="images",
        groups=groups,
        population="RaFD",
        filenames=[str(file) for file in filenames],
        description=(
            f"RaFD, 8 classes, angles {', '.join(map(str, sorted(set(seen_from))))}\n\n"
            "Trained models, adults and children, who pose expressions by action units "
            "(Langner et al. 2010). Non-commercial research, on request only."
        ),
        return_X_y=return_X_y,
        angles=np.array(seen_from),
        gazes=np.array(gazes),
    )


def _find_images(
    folder: Path, angles: Collection[int]
) -> tuple[list[tuple[Path, str, str, int, str]], list[str]]:
    """Return (file, label, model, angle, gaze) of each image, and unexpected files."""
    samples, unexpected = [], []
    for file in visible_files(folder):
        match = _NAME.fullmatch(file.name)
        if not match:
            unexpected.append(f"{file}: unexpected file")
            continue
        try:
            label = canonical_label(match["expression"])
        except ValueError as error:
            unexpected.append(f"{file}: {str(error).rstrip('.')}")
            continue
        angle = int(match["angle"])
        if angle in angles:
            samples.append((file, label, match["model"], angle, match["gaze"].lower()))
    return samples, unexpected
