"""Features that py-feat wrote: Fex csv files, one row a face."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferpipe.datasets.openface import load_csv_features, read_csv
from ferpipe.io.csv_cells import plain_cell

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load_fex_csv"]

_LAYOUT = (
    "<folder>/<class>/<clip>.csv or one csv file, as py-feat's Fex is saved: frame, "
    "FaceRectX, …, FaceScore, …, AU01, …, input"
)


def load_fex_csv(
    path: Path | str,
    *,
    columns: str | Sequence[str] = "AU*",
    groups: str | None = None,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    r"""Load what py-feat measured on videos or images, as sequences of features.

    Parameters
    ----------
    path : str or path
        Holds a folder for each class with csv files; or one csv file, whose labels are not
        known. ``~`` and ``$NAME`` are resolved. A file that holds several ``input`` (videos
        or images) gives a sequence for each.
    columns : str or list of str, default="AU*"
        The columns to take, where ``*`` stands for anything: ``"AU*"`` are action units (0
        to 1), ``["Pitch", "Roll", "Yaw"]`` the head (degrees; radians from py-feat 0.7 on),
        ``["x_*", "y_*"]`` the 68 points.
    groups : str, default=None
        Regular expression that finds the subject in a file's path within ``path``, such
        as ``"anger/S010_004.csv"``: what its first group matches.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken files and those without a face, if they are few, and names
        them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, d), float64; frames in which no face was
        found (a row of NaN) are left out.
        ``target`` : ndarray of shape (n,), canonical names for folders that are named by
        an expression, the folder's name otherwise; None for one csv file.
        ``groups`` : ndarray of shape (n,), or None.
        ``feature_names`` : list of str, the d columns.
        ``frames`` : list of ndarray of shape (T_i,), int, numbers of the frames.
        ``filenames`` : list of str, the ``input`` of each sequence, or the csv file when it
        has no such column.
        ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder is missing.
    ValueError
        If a file is unexpected or broken, has several faces in a frame or none at all, or
        lacks a column, or ``groups`` does not match.

    References
    ----------
    .. [1] J. H. Cheong et al., "Py-Feat: Python facial expression analysis toolbox",
       Affective Science 4, 2023.
    """
    return load_csv_features(
        path,
        _read_clips,
        columns=columns,
        title="py-feat",
        layout=_LAYOUT,
        groups=groups,
        on_error=on_error,
        return_X_y=return_X_y,
    )


def _read_clips(file: Path) -> list[tuple[str, "pd.DataFrame"]]:
    table = read_csv(file, ("frame", "FaceScore"))
    if "input" not in table.columns:
        return [(str(file), table)]
    if table["input"].isna().any():
        raise ValueError(f"{file}: a row is cut off, its input is missing")
    return [
        (plain_cell(str(name)), rows) for name, rows in table.groupby("input", sort=False)
    ]
