"""JAFFE: Japanese women who pose seven expressions, 256 x 256 gray."""

import re
from pathlib import Path
from typing import Any

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import existing_path, read_images, visible_files
from ferpipe.io.images import read_image

__all__ = ["load_jaffe"]

_LAYOUT = (
    "jaffe/<subject>.<code><number>.<image>.tiff, for example jaffe/KA.AN1.39.tiff, the "
    "codes being AN, DI, FE, HA, NE, SA, SU"
)
_NAME = re.compile(
    r"(?P<subject>[A-Z]{2})\.(?P<code>[A-Z]{2})\d*\.\d+\.tiff?", re.IGNORECASE
)
_CODES = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}


def load_jaffe(
    path: Path | str, *, on_error: str = "raise", return_X_y: bool = False
) -> Any:
    """Load JAFFE, the Japanese Female Facial Expression data set.

    Parameters
    ----------
    path : str or path
        The folder with the images, or one that holds it as ``jaffe``; ``~`` and ``$NAME``
        are resolved.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken and unexpected files, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : ndarray of shape (n, h, w), uint8; a list of images when they differ in
        size.
        ``target`` : ndarray of shape (n,), canonical names.
        ``groups`` : ndarray of shape (n,), the initials of the subjects, such as ``"KA"``.
        ``filenames``, ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing or holds no image of this set.
    ValueError
        If a file is unexpected or broken.

    References
    ----------
    .. [1] M. Lyons et al., "Coding facial expressions with Gabor wavelets", FG 1998.
    """
    folder = existing_path(path, _LAYOUT)
    if (folder / "jaffe").is_dir():
        folder = folder / "jaffe"
    if not folder.is_dir():
        raise ValueError(f"{folder}: this is a file. Expected a folder: {_LAYOUT}.")
    samples, unexpected = _find_images(folder)
    if not samples:
        raise FileNotFoundError(
            f"{folder}: there is no image of JAFFE in it. Expected: {_LAYOUT}."
        )
    data, places = read_images(
        [file for file, _, _ in samples],
        [label for _, label, _ in samples],
        read_image,
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    rows = [samples[place] for place in places]
    filenames, target, groups = map(list, zip(*rows, strict=True))
    return as_bunch(
        data,
        target,
        kind="images",
        groups=groups,
        population="JAFFE",
        filenames=[str(file) for file in filenames],
        description=(
            "JAFFE, 7 classes\n\nTen Japanese women who pose six expressions and a neutral "
            "face, two to four times each (Lyons et al. 1998). Non-commercial research "
            "only; not to be passed on."
        ),
        return_X_y=return_X_y,
    )


def _find_images(folder: Path) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """Return (file, label, subject) of each image, and unexpected files."""
    samples, unexpected = [], []
    for file in visible_files(folder):
        match = _NAME.fullmatch(file.name)
        if match and match["code"].upper() in _CODES:
            label = _CODES[match["code"].upper()]
            samples.append((file, label, match["subject"].upper()))
        elif not file.name.lower().startswith("readme"):
            unexpected.append(f"{file}: unexpected file")
    return samples, unexpected
