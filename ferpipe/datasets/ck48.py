"""CK+48: the last three frames of the labelled CK+ sequences, 48 x 48 gray."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    class_folders,
    existing_path,
    read_samples,
    visible_files,
)
from ferpipe.datasets.labels import canonical_label, select_classes
from ferpipe.io.images import read_image

__all__ = ["load_ck48"]

_LAYOUT = (
    "CK+48/<class>/S<subject>_<sequence>_<frame>.png with 48 x 48 pixels, for example "
    "CK+48/anger/S010_004_00000017.png, the classes being anger, contempt, disgust, fear, "
    "happy, sadness, surprise"
)
_NAME = re.compile(
    r"(?P<sequence>(?P<subject>S\d+)_\d+)_(?P<frame>\d+)\.png", re.IGNORECASE
)


def load_ck48(
    path: Path | str,
    *,
    classes: int | Sequence[str] = 7,
    as_sequences: bool = True,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load CK+48, the peak frames of posed expressions of the Extended Cohn-Kanade set.

    Parameters
    ----------
    path : str or path
        The folder ``CK+48`` or one that holds it; ``~`` and ``$NAME`` are resolved.
    classes : {7, 6, 5} or list of str, default=7
        6 is without contempt, 5 is also without disgust; a list names the classes.
    as_sequences : bool, default=True
        One sample is a sequence of frames; otherwise it is a single frame. Frames of one
        sequence look alike: keep them on one side of every split (``sequences``).
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out samples with a broken file, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, 48, 48), or ndarray of shape
        (n, 48, 48), uint8, in the order of subject, sequence and frame.
        ``target`` : ndarray of shape (n,), canonical names.
        ``groups`` : ndarray of shape (n,), subjects such as ``"S010"``; they are people
        of CK+ under the same names (``population``).
        ``sequences`` : ndarray of shape (n,), such as ``"S010_004"``.
        ``filenames`` : list of the files of each sample.
        ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder or the folder of a class is missing.
    ValueError
        If a file is unexpected, broken or of another size, or a class is empty.

    References
    ----------
    .. [1] P. Lucey et al., "The Extended Cohn-Kanade Dataset (CK+): a complete dataset
       for action unit and emotion-specified expression", CVPR Workshops 2010.
    """
    folder = existing_path(path, _LAYOUT)
    if (folder / "CK+48").is_dir():
        folder = folder / "CK+48"
    names = select_classes(classes)
    found, unexpected = _find_sequences(folder, names)
    keys = sorted(found)
    frames = read_samples(
        [found[key] for key in keys],
        [label for _, label in keys],
        _read_frames,
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    rows: list[tuple[str, str, NDArray[np.uint8], Any]] = [
        (label, sequence, array, [str(file) for file in found[sequence, label]])
        for (sequence, label), array in zip(keys, frames, strict=True)
        if array is not None
    ]
    kind = "sequences"
    if not as_sequences:
        kind = "images"
        rows = [
            (label, sequence, frame, file)
            for label, sequence, array, files in rows
            for frame, file in zip(array, files, strict=True)
        ]
    target, sequences, data, filenames = map(list, zip(*rows, strict=True))
    return as_bunch(
        data if as_sequences else np.stack(data),
        target,
        kind=kind,
        groups=[sequence.partition("_")[0] for sequence in sequences],
        population="Cohn-Kanade",
        sequences=np.array(sequences),
        filenames=filenames,
        description=(
            f"CK+48, {len(names)} classes ({kind})\n\nThe last three frames of the "
            "labelled sequences of CK+ (Lucey et al. 2010), posed expressions of adults "
            "in a laboratory, cut to 48 x 48 gray. Without neutral frames. Research "
            "evaluation only."
        ),
        return_X_y=return_X_y,
    )


def _find_sequences(
    folder: Path, names: Sequence[str]
) -> tuple[dict[tuple[str, str], list[Path]], list[str]]:
    """Return {(sequence, class): files in the order of frames}, and unexpected files."""
    folders, unexpected = class_folders(folder, _LAYOUT)
    labels = {}
    for class_folder in folders:
        try:
            labels[class_folder] = canonical_label(class_folder.name)
        except ValueError as error:
            raise ValueError(f"{class_folder}: {error} Expected: {_LAYOUT}.") from error
    missing = sorted(set(names) - set(labels.values()))
    if missing:
        raise FileNotFoundError(
            f"{folder}: there is no folder of the class {', '.join(missing)}, only "
            f"{', '.join(entry.name for entry in folders)}. Expected: {_LAYOUT}. "
            "The parameter classes chooses among them."
        )
    found: dict[tuple[str, str], list[Path]] = {}
    for class_folder, label in labels.items():
        if label not in names:
            continue
        numbered = []
        for file in visible_files(class_folder):
            match = _NAME.fullmatch(file.name)
            if match:
                numbered.append((match["sequence"].upper(), int(match["frame"]), file))
            else:
                unexpected.append(f"{file}: unexpected file")
        if not numbered:
            raise ValueError(
                f"{class_folder}: this class is empty. Expected: {_LAYOUT}. The parameter "
                "classes can leave it out."
            )
        for sequence, _, file in sorted(numbered):
            found.setdefault((sequence, label), []).append(file)
    return found, unexpected


def _read_frames(files: list[Path]) -> NDArray[np.uint8]:
    frames = []
    for file in files:
        frame = read_image(file)
        if frame.shape != (48, 48):
            raise ValueError(
                f"{file}: the image has {frame.shape[0]} x {frame.shape[1]} pixels, not "
                "48 x 48"
            )
        frames.append(frame)
    return np.stack(frames)
