"""FERG-DB and FERG-3D-DB: drawn characters with seven expressions."""

from pathlib import Path
from typing import Any

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    class_folders,
    existing_path,
    read_images,
    visible_files,
)
from ferpipe.datasets.folders import check_size, resize
from ferpipe.datasets.labels import canonical_label
from ferpipe.io.images import read_image

__all__ = ["load_ferg"]

_LAYOUT = (
    "FERG_DB_256/<character>/<character>_<class>/<image>.png, for example "
    "FERG_DB_256/aia/aia_anger/aia_anger_1.png, the classes being anger, disgust, fear, "
    "joy, neutral, sadness, surprise"
)


def load_ferg(
    path: Path | str,
    *,
    size: int | tuple[int, int] | None = None,
    gray: bool = True,
    lazy: bool = False,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load FERG-DB, or FERG-3D-DB in the same layout.

    A fold by groups leaves characters out, which is what a score on drawings is about:
    images of one character hardly differ.

    Parameters
    ----------
    path : str or path
        The folder that holds one folder a character, or one that holds it as
        ``FERG_DB_256``; ``~`` and ``$NAME`` are resolved.
    size : int or (int, int), default=None
        Scale every image to this height and width, in pixels. All of FERG-DB takes 3.7 GB
        of memory in gray at 256 x 256, and 0.13 GB at 48.
    gray : bool, default=True
        Turn colors into gray; otherwise images are RGB.
    lazy : bool, default=False
        Map the images into memory from a file of the cache, which is written at first;
        for data larger than memory. They must have one size.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken and unexpected files, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : ndarray of shape (n, h, w) or (n, h, w, 3), uint8; a list of such
        images when they differ in size.
        ``target`` : ndarray of shape (n,), canonical names.
        ``groups`` : ndarray of shape (n,), characters such as ``"aia"``.
        ``synthetic`` : True.
        ``filenames``, ``target_names``, ``kind``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If a folder or file is unexpected or broken, or a class is empty.

    References
    ----------
    .. [1] D. Aneja et al., "Modeling stylized character expressions via deep learning",
       ACCV 2016.
    .. [2] D. Aneja et al., "Learning to generate 3D stylized character expressions from
       humans", WACV 2018.
    """
    shape = check_size(size)
    folder = existing_path(path, _LAYOUT)
    if (folder / "FERG_DB_256").is_dir():
        folder = folder / "FERG_DB_256"
    samples, unexpected = _find_images(folder)
    data, places = read_images(
        [file for file, _, _ in samples],
        [label for _, label, _ in samples],
        lambda file: resize(read_image(file, gray=gray), shape),
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
        lazy=lazy,
        settings=(shape, gray),
    )
    rows = [samples[place] for place in places]
    filenames, target, groups = map(list, zip(*rows, strict=True))
    return as_bunch(
        data,
        target,
        kind="images",
        groups=groups,
        population="FERG",
        filenames=[str(file) for file in filenames],
        description=(
            f"{folder.name}, {len(set(target))} classes\n\nRendered faces of "
            f"{len(set(groups))} drawn characters (Aneja et al. 2016, 2018). A score on "
            "drawings says little about real faces. Non-commercial research, on request "
            "only."
        ),
        synthetic=True,
        return_X_y=return_X_y,
    )


def _find_images(folder: Path) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """Return (file, label, character) of each image, and unexpected files."""
    characters, beside = class_folders(folder, _LAYOUT)
    samples = []
    unexpected = [message for message in beside if "/readme" not in message.lower()]
    for character in characters:
        classes, beside = class_folders(character, _LAYOUT)
        unexpected += beside
        for class_folder in classes:
            name, _, word = class_folder.name.rpartition("_")
            try:
                label = canonical_label(word)
            except ValueError as error:
                raise ValueError(f"{class_folder}: {error} Expected: {_LAYOUT}.") from error
            if name != character.name:
                raise ValueError(
                    f"{class_folder}: this folder does not bear the name of its character, "
                    f"{character.name}. Expected: {_LAYOUT}."
                )
            images = []
            for file in visible_files(class_folder):
                if file.suffix.lower() == ".png":
                    images.append((file, label, character.name))
                else:
                    unexpected.append(f"{file}: unexpected file")
            if not images:
                raise ValueError(
                    f"{class_folder}: this class is empty. Expected: {_LAYOUT}."
                )
            samples += images
    return samples, unexpected
