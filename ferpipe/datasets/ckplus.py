"""CK+: whole sequences of posed expressions, with emotions, action units and points."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    columns_read,
    existing_path,
    read_samples,
    stack_alike,
    visible_files,
)
from ferpipe.datasets.labels import CANONICAL, select_classes
from ferpipe.io.images import read_image

__all__ = ["load_ckplus"]

_LAYOUT = (
    "CK+/cohn-kanade-images/S005/001/S005_001_00000001.png, "
    "CK+/Emotion/S005/001/S005_001_00000011_emotion.txt with one number from 0 to 7, "
    "CK+/FACS/S005/001/S005_001_00000011_facs.txt with an action unit and its intensity a "
    "line, CK+/Landmarks/S005/001/S005_001_00000001_landmarks.txt with 68 lines of x and y"
)
_NAME = re.compile(r"(?P<sequence>S\d+_\d+)_(?P<frame>\d+)\.png", re.IGNORECASE)
# Position = the number in an emotion file.
_CODES = (
    "neutral",
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
)


def load_ckplus(
    path: Path | str,
    *,
    target: str = "emotion",
    classes: int | Sequence[str] = 7,
    first: int = 0,
    last: int | None = 3,
    as_sequences: bool = True,
    landmarks: bool = False,
    gray: bool = True,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load CK+, the Extended Cohn-Kanade set, in the layout in which it is given out.

    A sequence begins with a neutral face and ends at the peak of the expression.

    Parameters
    ----------
    path : str or path
        The folder that holds ``cohn-kanade-images`` and the folders of labels, or one that
        holds it as ``CK+``; ``~`` and ``$NAME`` are resolved.
    target : {"emotion", "action_units"}, default="emotion"
        "emotion" takes the sequences with an emotion label; "action_units" takes those
        with a FACS file, and the target says of each action unit whether it is there.
    classes : {8, 7, 6, 5} or list of str, default=7
        For emotions. 7 is all but neutral, 6 is without contempt, 5 is also without
        disgust, 8 is all; a list names the classes. With neutral, each sequence gives two
        samples: its first frames as neutral, its last ones under its label.
    first : int, default=0
        Number of frames from the beginning, which are neutral.
    last : int or None, default=3
        Number of frames from the end; None takes all frames of a sequence. All frames of
        CK+ take about 3 GB of memory in gray.
    as_sequences : bool, default=True
        One sample is a sequence of frames; otherwise it is a single frame. Frames of one
        sequence look alike: keep them on one side of every split (``sequences``).
    landmarks : bool, default=False
        Read the 68 points of each frame too.
    gray : bool, default=True
        Turn colors into gray (some sequences are in color); otherwise frames are RGB.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out samples with a broken file, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, h_i, w_i) or (T_i, h_i, w_i, 3), uint8,
        in the order of subject and sequence, 640 x 490 or 640 x 480 pixels; as single
        frames a list of images, or one array when they are of one size.
        ``target`` : ndarray of shape (n,), canonical names; or ndarray of shape
        (n, n_units), int, 1 for each of ``target_names`` that was coded.
        ``target_names`` : list of str, classes, or action units such as ``"AU01"``: those
        that occur.
        ``groups`` : ndarray of shape (n,), subjects such as ``"S005"``.
        ``sequences`` : ndarray of shape (n,), such as ``"S005_001"``.
        ``landmarks`` : list of ndarray of shape (T_i, 68, 2), or ndarray of shape
        (n, 68, 2) for single frames, float64, x and y in pixels as the files have them;
        None when not asked for.
        ``filenames`` : list of the files of each sample.
        ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If a folder is missing.
    ValueError
        If a parameter is wrong, a file is unexpected or broken, a sequence is shorter than
        ``first + last``, or a class has no sequence.

    References
    ----------
    .. [1] P. Lucey et al., "The Extended Cohn-Kanade Dataset (CK+): a complete dataset
       for action unit and emotion-specified expression", CVPR Workshops 2010.
    """
    if target not in ("emotion", "action_units"):
        raise ValueError(f"target must be 'emotion' or 'action_units', got {target!r}.")
    names = CANONICAL if classes == 8 else select_classes(classes)
    with_neutral = target == "emotion" and "neutral" in names
    _check_frames(first, last, as_sequences, with_neutral)
    folder = existing_path(path, _LAYOUT)
    if (folder / "CK+").is_dir():
        folder = folder / "CK+"
    found, unexpected = _find_sequences(_part(folder, "cohn-kanade-images"))
    if target == "emotion":
        labels, wrong = _read_labels(_part(folder, "Emotion"), "emotion", _parse_emotion)
        if not wrong:
            _check_classes(folder, names, labels)
        labels = {key: label for key, label in labels.items() if label in names}
    else:
        labels, wrong = _read_labels(_part(folder, "FACS"), "facs", _parse_action_units)
    unexpected += wrong
    samples = []
    for sequence, label in sorted(labels.items()):
        files = found.get(sequence, [])
        if not files:
            unexpected.append(f"{sequence}: there is a label for it, but no image")
        elif len(files) < first + (last or 1):
            unexpected.append(
                f"{sequence}: it has {len(files)} frames, fewer than first + last = "
                f"{first + (last or 1)}"
            )
        else:
            start, end = files[:first], files if last is None else files[-last:]
            if with_neutral and first:
                samples += [("neutral", sequence, start), (label, sequence, end)]
            else:
                samples.append((label, sequence, start + end))
    if not samples and not unexpected:
        raise ValueError(f"{folder}: no sequence has a label. Expected: {_LAYOUT}.")
    points = _part(folder, "Landmarks") if landmarks else None
    values = read_samples(
        [files for _, _, files in samples],
        [label if target == "emotion" else "with action units" for label, _, _ in samples],
        lambda files: (_read_frames(files, gray), _read_landmarks(files, points)),
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    columns = columns_read(values, samples)
    if not as_sequences:
        rows = [
            ((frame, None if shapes is None else shapes[index]), label, sequence, file)
            for (frames, shapes), label, sequence, files in zip(*columns, strict=True)
            for index, (file, frame) in enumerate(zip(files, frames, strict=True))
        ]
        columns = list(map(list, zip(*rows, strict=True)))
    return _as_bunch(columns, target, as_sequences, landmarks, return_X_y)


def _as_bunch(
    columns: list[list[Any]],
    target: str,
    as_sequences: bool,
    landmarks: bool,
    return_X_y: bool,
) -> Any:
    values, labels, sequences, filenames = columns
    data, shapes = map(list, zip(*values, strict=True))
    kind = "sequences" if as_sequences else "images"
    if not as_sequences:
        data = stack_alike(data)
    if target == "emotion":
        coded: Any = labels
        target_names = None
        what = f"{len(set(labels))} classes"
    else:
        numbers = sorted(set().union(*labels))
        applies = [[number in units for number in numbers] for units in labels]
        coded = np.array(applies).astype(int)
        target_names = [f"AU{number:02d}" for number in numbers]
        what = f"{len(numbers)} action units"
    points = None
    if landmarks:
        points = shapes if as_sequences else np.stack(shapes)
    return as_bunch(
        data,
        coded,
        kind=kind,
        groups=[sequence.partition("_")[0] for sequence in sequences],
        population="Cohn-Kanade",
        filenames=[
            [str(file) for file in files] if as_sequences else str(files)
            for files in filenames
        ],
        target_names=target_names,
        description=(
            f"CK+, {what} ({kind})\n\nPosed expressions of adults in a laboratory, from "
            "neutral to the peak (Lucey et al. 2010). Research evaluation only, under a "
            "signed agreement; do not publish faces of subjects who did not agree to it."
        ),
        return_X_y=return_X_y,
        sequences=np.array(sequences),
        landmarks=points,
    )


def _check_frames(first: Any, last: Any, as_sequences: bool, with_neutral: bool) -> None:
    for name, value, lowest in (("first", first, 0), ("last", last, 1)):
        if name == "last" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ValueError(
                f"{name} must be a number of frames, at least {lowest}, got {value!r}."
            )
    if last is None and (first or with_neutral or not as_sequences):
        raise ValueError(
            "last=None takes whole sequences, from neutral to the peak, under one label: "
            "it goes with first=0, as_sequences=True and classes without neutral."
        )
    if with_neutral and not first:
        raise ValueError(
            "The class neutral is taken from the first frames; say how many with first, "
            "such as first=1."
        )
    if first and not as_sequences and not with_neutral:
        raise ValueError(
            "The first frames are neutral; as single frames they need the class neutral "
            "(target='emotion', classes=8), or first=0."
        )


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise FileNotFoundError(f"{folder / name}: no such folder. Expected: {_LAYOUT}.")
    return folder / name


def _sequence_folders(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (S005_001, its folder)."""
    for subject in visible_files(folder):
        if subject.is_dir():
            for sequence in visible_files(subject):
                if sequence.is_dir():
                    yield f"{subject.name}_{sequence.name}", sequence


def _find_sequences(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Return {sequence: files in the order of frames}, and unexpected files."""
    found, unexpected = {}, []
    for sequence, sequence_folder in _sequence_folders(folder):
        numbered = []
        for file in visible_files(sequence_folder):
            match = _NAME.fullmatch(file.name)
            if match and match["sequence"] == sequence:
                numbered.append((int(match["frame"]), file))
            else:
                unexpected.append(f"{file}: unexpected file")
        found[sequence] = [file for _, file in sorted(numbered)]
    return found, unexpected


def _read_labels(
    folder: Path, kind: str, parse: Callable[[list[list[float]]], Any]
) -> tuple[dict[str, Any], list[str]]:
    """Return {sequence: label} of those that have one, and what is wrong."""
    labels, wrong = {}, []
    for sequence, sequence_folder in _sequence_folders(folder):
        files = visible_files(sequence_folder)
        if not files:  # as sequences without a label have it
            continue
        try:
            if len(files) > 1 or not files[0].name.endswith(f"_{kind}.txt"):
                raise ValueError(f"one file ..._{kind}.txt was expected here")
            labels[sequence] = parse(_read_numbers(files[0]))
        except ValueError as error:
            wrong.append(f"{files[-1]}: {error}")
    return labels, wrong


def _read_numbers(file: Path) -> list[list[float]]:
    """Return the numbers of a text file, line by line."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        return [[float(word) for word in line.split()] for line in lines if line.strip()]
    except ValueError as error:
        raise ValueError(f"this is no text file of numbers ({error})") from error


def _parse_emotion(lines: list[list[float]]) -> str:
    values = [value for line in lines for value in line]
    if len(values) != 1 or values[0] not in range(len(_CODES)):
        raise ValueError(f"one whole number from 0 to 7 was expected, got {values}")
    return _CODES[int(values[0])]


def _parse_action_units(lines: list[list[float]]) -> set[int]:
    if not lines:
        raise ValueError("the file is empty; an action unit and its intensity a line")
    units = set()
    for line in lines:
        if len(line) != 2 or line[0] not in range(1, 100):
            raise ValueError(f"an action unit and its intensity were expected, got {line}")
        units.add(int(line[0]))
    return units


def _check_classes(folder: Path, names: Sequence[str], labels: dict[str, Any]) -> None:
    missing = sorted(set(names) - set(labels.values()) - {"neutral"})
    if missing:
        raise ValueError(
            f"{folder / 'Emotion'}: there is no sequence of the class "
            f"{', '.join(missing)}. Expected: {_LAYOUT}. The parameter classes can leave "
            "it out."
        )


def _read_frames(files: list[Path], gray: bool) -> NDArray[np.uint8]:
    frames = [read_image(file, gray=gray) for file in files]
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        listing = " and ".join(f"{height} x {width}" for height, width in sorted(sizes))
        raise ValueError(
            f"{files[0].parent}: the frames of this sequence differ in size ({listing})"
        )
    return np.stack(frames)


def _read_landmarks(files: list[Path], folder: Path | None) -> NDArray[np.float64] | None:
    """Return points (T, 68, 2) of frames, or None without a folder of points."""
    if folder is None:
        return None
    shapes = []
    for image in files:
        sequence = image.parent
        file = folder / sequence.parent.name / sequence.name / f"{image.stem}_landmarks.txt"
        if not file.is_file():
            raise ValueError(f"{file}: there is no such file of points")
        try:
            lines = _read_numbers(file)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        if len(lines) != 68 or any(len(line) != 2 for line in lines):
            raise ValueError(f"{file}: 68 lines of x and y were expected")
        shapes.append(lines)
    return np.array(shapes)
