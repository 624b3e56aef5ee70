"""Tables of predictions with the columns of py-feat or OpenFace, as CSV or JSON."""

import csv
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ferpipe.candide.camera import rotation_matrix
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.io.csv_cells import safe_cell
from ferpipe.io.json_values import json_value
from ferpipe.recognition.stream import FacePrediction

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FORMATS", "RowWriter", "as_table", "fex_row", "kind_of", "openface_row"]

# action units of py-feat and of OpenFace, in their order
_FEX_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
_OPENFACE_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
# 1 in the wireframe is intensity D, which is 4 of 5 in OpenFace
_STRONG, _STRONGEST = 4.0, 5.0
_ALIASES = {45: 43}  # a blink closes the eyes


def fex_row(prediction: FacePrediction, source: str = "") -> dict[str, Any]:
    """Make a row with the column names of py-feat's Fex.

    Parameters
    ----------
    prediction : FacePrediction
        A face in a frame.
    source : str, default=""
        The input file.

    Returns
    -------
    row : dict of str to number, str or None
        Box and landmarks in pixels; action units as the mean of both sides, 0 to 1,
        which is intensity D; Pitch (positive: up), Roll (positive: clockwise in the image)
        and Yaw (positive: to the subject's right) in degrees; one column per class;
        ``input``; and, in addition to py-feat's, time in seconds, Identity, label and
        quality.

    Notes
    -----
    Angles are those of py-feat's releases before 0.7: the head is turned by
    ``Rx(-Pitch) Ry(Yaw) Rz(Roll)`` about axes that point right, down and away from the
    camera.
    """
    units = _intensities(prediction)
    down, turned, tilted = map(math.degrees, _camera_angles(prediction.pose))
    x, y, width, height = prediction.box
    return {
        "frame": prediction.frame,
        "time": prediction.time,
        "Identity": None if prediction.face is None else f"Person_{prediction.face}",
        "FaceRectX": x,
        "FaceRectY": y,
        "FaceRectWidth": width,
        "FaceRectHeight": height,
        "FaceScore": prediction.detector_score,
        **_points(prediction),
        **{f"AU{unit:02d}": _limited(units[unit], 1.0) for unit in _FEX_UNITS},
        "Pitch": -down,
        "Roll": tilted,
        "Yaw": turned,
        **prediction.scores,
        "label": prediction.label,
        "quality": prediction.quality,
        "input": source,
    }


def openface_row(prediction: FacePrediction, source: str = "") -> dict[str, Any]:
    """Make a row with the column names of OpenFace 2.

    Parameters
    ----------
    prediction : FacePrediction
        A face in a frame.
    source : str, default=""
        The input file.

    Returns
    -------
    row : dict of str to number, str or None
        ``confidence`` is the quality and ``success`` whether it is at least 0.5; frames
        count from 1; pose_Rx (positive: down), pose_Ry (positive: to the subject's right)
        and pose_Rz (positive: clockwise in the image) in radians; intensities ``_r`` from 0
        to 5, and ``_c``, whether they are at least 1. After OpenFace's columns: one column
        per class, label and input.

    Notes
    -----
    OpenFace turns the head by ``Rx Ry Rz`` about axes that point right, down and away from
    the camera. Gaze, positions in millimeters and OpenFace's own shape model are not
    estimated: there are no columns for them.
    """
    units = _intensities(prediction)
    down, turned, tilted = _camera_angles(prediction.pose)
    has_face = prediction.face is not None
    strength = {
        unit: _limited(_STRONG * units[_ALIASES.get(unit, unit)], _STRONGEST)
        for unit in (*_OPENFACE_UNITS, 28)
    }
    present = {
        unit: float(strength[unit] >= 1) if has_face else math.nan
        for unit in sorted(strength)
    }
    return {
        "frame": prediction.frame + 1,
        "face_id": math.nan if prediction.face is None else prediction.face,
        "timestamp": prediction.time,
        "confidence": prediction.quality if has_face else 0.0,
        "success": int(has_face and prediction.quality >= LEAST_QUALITY),
        "pose_Rx": down,
        "pose_Ry": turned,
        "pose_Rz": tilted,
        **_points(prediction),
        **{f"AU{unit:02d}_r": strength[unit] for unit in _OPENFACE_UNITS},
        **{f"AU{unit:02d}_c": present[unit] for unit in present},
        **prediction.scores,
        "label": prediction.label,
        "input": source,
    }


FORMATS: dict[str, Callable[..., dict[str, Any]]] = {
    "fex": fex_row,
    "openface": openface_row,
}


def as_table(
    predictions: Iterable[FacePrediction], *, format: str = "fex", source: str = ""
) -> "DataFrame":
    """Make a data frame of predictions.

    Parameters
    ----------
    predictions : iterable of FacePrediction
        As ``Recognizer.predict_video`` yields them.
    format : {"fex", "openface"}, default="fex"
        Columns of py-feat or of OpenFace.
    source : str, default=""
        The input file.

    Returns
    -------
    table : pandas DataFrame
        One row per prediction.
    """
    import pandas as pd

    return pd.DataFrame([FORMATS[format](one, source) for one in predictions])


class RowWriter:
    """Write rows to a file, which :meth:`close` completes after any row.

    Parameters
    ----------
    file : text file
        The file; it is not closed.
    kind : {"csv", "json"}
        "csv" is a table with a header, in which NaN and None are empty; "json" is a list of
        objects, in which they are null.
    """

    def __init__(self, file: IO[str], kind: str) -> None:
        self._file = file
        self._kind = kind
        self._n_rows = 0
        self._names: list[str] = []
        if kind == "json":
            file.write("[")

    def write(self, row: dict[str, Any]) -> None:
        """Write one row; all have the same columns."""
        if self._kind == "json":
            values = json_value(row, digits=8)
            before = ",\n" if self._n_rows else "\n"
            self._file.write(before + json.dumps(values, ensure_ascii=False))
        else:
            table = csv.writer(self._file, lineterminator="\n")
            if not self._n_rows:
                self._names = list(row)
                table.writerow(map(safe_cell, self._names))
            table.writerow([safe_cell(_short(row[name])) for name in self._names])
        self._n_rows += 1

    def close(self) -> None:
        """Complete the file."""
        if self._kind == "json":
            self._file.write("\n]\n")
        self._file.flush()


def kind_of(path: str | Path) -> str:
    """Return the kind of a table file, from the suffix of its name.

    Raises
    ------
    ValueError
        If the suffix is neither ``.csv`` nor ``.json``.
    """
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in ("csv", "json"):
        raise ValueError(f"{path}: the name of a table must end in .csv or .json.")
    return ending


def _intensities(prediction: FacePrediction) -> dict[int, float]:
    """Return the animation units by FACS number, as the mean of both sides."""
    sides: dict[int, list[float]] = {}
    for name, value in prediction.action_units.items():
        if name.startswith("AU"):
            sides.setdefault(int(name[2:4]), []).append(value)
    return {unit: sum(values) / len(values) for unit, values in sides.items()}


def _camera_angles(pose: dict[str, float]) -> tuple[float, float, float]:
    """Return the angles a, b, c by which ``Rx(a) Ry(b) Rz(c)`` turns a head.

    The axes point right, down and away from the camera, as OpenFace and py-feat have them.
    """
    # half a turn about x leads from the axes of the wireframe to these
    angles = pose["rx"], -pose["ry"], -pose["rz"]
    turn = rotation_matrix(angles)
    a = math.atan2(-turn[1, 2], turn[2, 2])
    b = math.atan2(turn[0, 2], math.hypot(turn[0, 0], turn[0, 1]))
    c = math.atan2(-turn[0, 1], turn[0, 0])
    return a, b, c


def _limited(value: float, highest: float) -> float:
    return value if math.isnan(value) else min(max(value, 0.0), highest)


def _points(prediction: FacePrediction) -> dict[str, float]:
    points = prediction.landmarks.tolist()
    return {
        **{f"x_{index}": x for index, (x, _) in enumerate(points)},
        **{f"y_{index}": y for index, (_, y) in enumerate(points)},
    }


def _short(value: Any) -> Any:
    """Write floats with 8 significant digits, and NaN as an empty cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.8g}"
    return value
