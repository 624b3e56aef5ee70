"""Features that OpenFace 2 wrote: one csv file a video, one row a frame."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    class_folders,
    columns_read,
    existing_path,
    read_samples,
    visible_files,
)
from ferpipe.datasets.folders import check_pattern, find_group, labelled
from ferpipe.io.csv_cells import plain_cell

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["face_rows", "load_csv_features", "load_openface_csv", "read_csv"]

_LAYOUT = (
    "<folder>/<class>/<clip>.csv or one csv file, as OpenFace 2's FeatureExtraction writes "
    "it: frame, timestamp, confidence, success, …, AU01_r, …"
)


def load_openface_csv(
    path: Path | str,
    *,
    columns: str | Sequence[str] = "AU*_r",
    groups: str | None = None,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    r"""Load what OpenFace 2 measured on videos, as sequences of features.

    Parameters
    ----------
    path : str or path
        Holds a folder for each class with a csv file for each clip; or one csv file, whose
        label is not known. ``~`` and ``$NAME`` are resolved.
    columns : str or list of str, default="AU*_r"
        The columns to take, where ``*`` stands for anything: ``"AU*_r"`` are intensities of
        action units (0 to 5), ``"AU*_c"`` their presence, ``["pose_R*", "gaze_*"]`` head
        and gaze.
    groups : str, default=None
        Regular expression that finds the subject in a clip's path within ``path``, such
        as ``"anger/S010_004.csv"``: what its first group matches.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out clips that are broken or without a face, if they are few, and
        names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, d), float64; frames in which no face was
        found (``success`` is 0) are left out.
        ``target`` : ndarray of shape (n,), canonical names for folders that are named by
        an expression, the folder's name otherwise; None for one csv file.
        ``groups`` : ndarray of shape (n,), or None.
        ``feature_names`` : list of str, the d columns.
        ``frames`` : list of ndarray of shape (T_i,), int, numbers of the frames.
        ``filenames``, ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If a file is unexpected or broken, has several faces in a frame or none at all, or
        lacks a column, or ``groups`` does not match.

    References
    ----------
    .. [1] T. Baltrušaitis et al., "OpenFace 2.0: facial behavior analysis toolkit", FG
       2018.
    """
    return load_csv_features(
        path,
        _read_clip,
        columns=columns,
        title="OpenFace 2",
        layout=_LAYOUT,
        groups=groups,
        on_error=on_error,
        return_X_y=return_X_y,
    )


def load_csv_features(
    path: Path | str,
    read: Callable[[Path], list[tuple[str, "pd.DataFrame"]]],
    *,
    columns: str | Sequence[str],
    title: str,
    layout: str,
    groups: str | None,
    on_error: str,
    return_X_y: bool,
) -> Any:
    """Load csv files of features from one folder a class, or one such file.

    Parameters
    ----------
    path : str or path
        Folder of class folders, or a csv file.
    read : callable
        Takes a file and returns a list of (name, table as :func:`face_rows` takes it), one
        for each clip in it.
    columns : str or list of str
        Patterns of the columns to take.
    title : str
        The program that wrote the files.
    layout : str
        What is expected, for messages.
    groups : str or None
        Regular expression that finds the subject in a path.
    on_error : {"raise", "warn"}
        As the loaders have it.
    return_X_y : bool
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
    """
    place = existing_path(path, layout)
    pattern = check_pattern(groups)
    folder = place if place.is_dir() else place.parent
    found: Sequence[tuple[str | None, Path]] = [(None, place)]
    unexpected: list[str] = []
    if place.is_dir():
        found, unexpected = _find_files(place, layout)
    samples: list[tuple[Any, ...]] = []
    for label, file in found:
        try:
            samples += [(label, file, name, table) for name, table in read(file)]
        except ValueError as error:
            unexpected.append(str(error))
    values = read_samples(
        samples,
        [label or "in this file" for label, _, _, _ in samples],
        lambda sample: _read_features(sample[1], sample[2], sample[3], columns),
        unexpected=unexpected,
        layout=layout,
        on_error=on_error,
    )
    features, target, files, filenames, _ = columns_read(values, samples)
    frames, data, names = map(list, zip(*features, strict=True))
    for file, others in zip(files, names, strict=True):
        if others != names[0]:
            differing = sorted(set(others) ^ set(names[0])) or others
            raise ValueError(
                f"{file}: its columns differ from those of {files[0]}: "
                f"{', '.join(differing[:5])}."
            )
    return as_bunch(
        data,
        target if place.is_dir() else None,
        kind="sequences",
        groups=pattern and [find_group(pattern, folder, file) for file in files],
        filenames=filenames,
        description=(
            f"{place.name}, {len(data)} sequences of {len(names[0])} features of {title}"
            "\n\nMeasured by another program, read from its csv files."
        ),
        return_X_y=return_X_y,
        feature_names=names[0],
        frames=frames,
    )


def read_csv(file: Path, required: Sequence[str]) -> "pd.DataFrame":
    """Read a csv file with a line of names.

    Parameters
    ----------
    file : Path
        A csv file; blanks after commas do not matter.
    required : tuple of str
        Columns that must be there.

    Returns
    -------
    table : pandas.DataFrame

    Raises
    ------
    ValueError
        If it is no csv file, has no row, has rows that are too long, or lacks a column.
    """
    import pandas as pd

    try:
        table = pd.read_csv(file, skipinitialspace=True)
    except ValueError as error:  # pandas' own errors and wrong bytes are ValueErrors
        raise ValueError(f"{file}: this is not a whole csv file ({error})") from error
    table.columns = [plain_cell(name) for name in table.columns]
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise ValueError(f"{file}: there is no column {', '.join(missing)}")
    if table.empty:
        raise ValueError(f"{file}: there are no rows")
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the surplus as an index
        raise ValueError(f"{file}: the rows have more columns than the first line names")
    return table


def face_rows(
    table: "pd.DataFrame", name: str, columns: str | Sequence[str]
) -> tuple[NDArray[np.int_], NDArray[np.float64], list[str]]:
    """Take the features of the frames that show a face.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a frame, of one clip; rows without a face are NaN in every feature.
    name : str
        The clip, for messages.
    columns : str or list of str
        Patterns of the columns to take.

    Returns
    -------
    frames : ndarray of shape (T,), int
        Numbers of the frames.
    features : ndarray of shape (T, d), float64
    names : list of str
        The d columns.

    Raises
    ------
    ValueError
        If a pattern matches nothing, a value is no number, a frame has several faces, or
        there is no face.
    """
    patterns = [columns] if isinstance(columns, str) else list(columns)
    for pattern in patterns:
        if not any(fnmatchcase(column, pattern) for column in table.columns):
            raise ValueError(
                f"{name}: no column is named like {pattern!r}; there are "
                f"{', '.join(table.columns[:8])}, …"
            )
    names = [
        column
        for column in table.columns
        if any(fnmatchcase(column, pattern) for pattern in patterns)
    ]
    for column in ("frame", *names):
        if table[column].dtype.kind not in "fiub":
            raise ValueError(
                f"{name}: the column {column} holds something else than numbers"
            )
    features = table[names].to_numpy(float)
    shows_face = ~np.isnan(features).all(axis=1)
    frames, features = table["frame"].to_numpy()[shows_face], features[shows_face]
    if not len(features):
        raise ValueError(f"{name}: no frame shows a face")
    if not (np.isfinite(features).all() and np.isfinite(frames).all()):
        raise ValueError(f"{name}: a row with a face has NaN or infinite values")
    numbers, counts = np.unique(frames, return_counts=True)
    if counts.max() > 1:
        raise ValueError(
            f"{name}: frame {numbers[counts.argmax()]:g} shows {counts.max()} faces; keep "
            "the rows of one face in a file"
        )
    return frames.astype(int), features, names


def _read_clip(file: Path) -> list[tuple[str, "pd.DataFrame"]]:
    table = read_csv(file, ("frame", "confidence", "success"))
    if table.iloc[:, -1].isna().any():
        raise ValueError(f"{file}: a row is cut off, it does not reach the last column")
    return [(str(file), table[table["success"] == 1])]


def _read_features(
    file: Path, name: str, table: "pd.DataFrame", columns: str | Sequence[str]
) -> tuple[NDArray[np.int_], NDArray[np.float64], list[str]]:
    name = name if name == str(file) else f"{file}: {name}"
    return face_rows(table, name, columns)


def _find_files(folder: Path, layout: str) -> tuple[list[tuple[str, Path]], list[str]]:
    """Return (label, file) of each csv file, and unexpected files."""
    folders, unexpected = class_folders(folder, layout)
    samples = []
    for class_folder in folders:
        files = []
        for file in visible_files(class_folder):
            if file.suffix.lower() == ".csv":
                files.append(file)
            else:
                unexpected.append(f"{file}: unexpected file")
        samples += labelled(class_folder, files, layout)
    return samples, unexpected
