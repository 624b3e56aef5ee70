"""Tables of what was seen: the columns of py-feat and of OpenFace, as CSV or JSON."""

import csv
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from ferpipe.candide.camera import rotation_matrix
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.io.csv_cells import safe_cell
from ferpipe.recognition.stream import FacePrediction

__all__ = ["FORMATS", "RowWriter", "as_table", "fex_row", "kind_of", "openface_row"]

# of py-feat and of OpenFace, in their order
_FEX_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 17, 20, 23, 24, 25, 26, 28, 43)
_OPENFACE_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45)
# a unit of the wireframe of 1 is intensity D, which OpenFace counts as 4 of 5
_STRONG, _STRONGEST = 4.0, 5.0
_ALIASES = {45: 43}  # a blink closes the eyes


def fex_row(prediction: FacePrediction, source: str = "") -> dict[str, Any]:
    """Write a prediction with the column names of py-feat's Fex.

    Parameters
    ----------
    prediction : FacePrediction
        A face in a frame.
    source : str, default=""
        The file that it is from.

    Returns
    -------
    row : dict of str to number, str or None
        Box and landmarks in pixels; action units as the mean of both sides, 0 to 1,
        which is intensity D; Pitch (positive: up), Roll (clockwise, as the picture is
        looked at) and Yaw (to the subject's right) in degrees; a column a class;
        ``input``; and, beyond py-feat's, time in seconds, Identity, label and quality.

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
    """Write a prediction with the column names of OpenFace 2.

    Parameters
    ----------
    prediction : FacePrediction
        A face in a frame.
    source : str, default=""
        The file that it is from.

    Returns
    -------
    row : dict of str to number, str or None
        ``confidence`` is the quality and ``success`` whether it is at least 0.5; frames
        count from 1; pose_Rx (positive: down), pose_Ry (to the subject's right) and
        pose_Rz (clockwise, as the picture is looked at) in radians; intensities ``_r`` 0
        to 5 and whether they reach 1, ``_c``. After OpenFace's columns: a column a class,
        label and input.

    Notes
    -----
    OpenFace turns the head by ``Rx Ry Rz`` about axes that point right, down and away from
    the camera. Gaze, places in millimetres and OpenFace's own shape model are not
    estimated: their columns are left out, as OpenFace leaves out what it is not asked for.
    """
    units = _intensities(prediction)
    down, turned, tilted = _camera_angles(prediction.pose)
    seen = prediction.face is not None
    strength = {
        unit: _limited(_STRONG * units[_ALIASES.get(unit, unit)], _STRONGEST)
        for unit in (*_OPENFACE_UNITS, 28)
    }
    present = {
        unit: float(strength[unit] >= 1) if seen else math.nan for unit in sorted(strength)
    }
    return {
        "frame": prediction.frame + 1,
        "face_id": math.nan if prediction.face is None else prediction.face,
        "timestamp": prediction.time,
        "confidence": prediction.quality if seen else 0.0,
        "success": int(seen and prediction.quality >= LEAST_QUALITY),
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
):
    """Make a data frame of predictions.

    Parameters
    ----------
    predictions : iterable of FacePrediction
        As ``Recognizer.predict_video`` yields them.
    format : {"fex", "openface"}, default="fex"
        Whose columns.
    source : str, default=""
        The file that they are from.

    Returns
    -------
    table : pandas DataFrame
        A row a prediction.
    """
    import pandas as pd

    return pd.DataFrame([FORMATS[format](one, source) for one in predictions])


class RowWriter:
    """Write rows to a file that is whole whenever it is closed, even between two writes.

    Parameters
    ----------
    file : text file
        Where to; it is not closed.
    kind : {"csv", "json"}
        A table with a header, in which NaN and None are empty, or a list of objects, in
        which they are null.
    """

    def __init__(self, file: IO[str], kind: str):
        self._file = file
        self._kind = kind
        self._n_rows = 0
        self._names: list[str] = []
        if kind == "json":
            file.write("[")

    def write(self, row: dict[str, Any]) -> None:
        """Write one row; all have the same columns."""
        if self._kind == "json":
            shown = {name: _plain(value) for name, value in row.items()}
            before = ",\n" if self._n_rows else "\n"
            self._file.write(before + json.dumps(shown, ensure_ascii=False))
        else:
            table = csv.writer(self._file, lineterminator="\n")
            if not self._n_rows:
                self._names = list(row)
                table.writerow(map(safe_cell, self._names))
            table.writerow([safe_cell(_short(row[name])) for name in self._names])
        self._n_rows += 1

    def close(self) -> None:
        """Write what makes the file whole."""
        if self._kind == "json":
            self._file.write("\n]\n")
        self._file.flush()


def kind_of(path) -> str:
    """Tell by the ending of a file's name what it is to hold.

    Raises
    ------
    ValueError
        If the ending is neither ``.csv`` nor ``.json``.
    """
    ending = Path(path).suffix.lower().removeprefix(".")
    if ending not in ("csv", "json"):
        raise ValueError(f"{path}: the name of a table must end in .csv or .json.")
    return ending


def _intensities(prediction):
    """Return the animation units by FACS number, both sides' mean."""
    sides = {}
    for name, value in prediction.action_units.items():
        if name.startswith("AU"):
            sides.setdefault(int(name[2:4]), []).append(value)
    return {unit: sum(values) / len(values) for unit, values in sides.items()}


def _camera_angles(pose):
    """Return the angles a, b, c by which ``Rx(a) Ry(b) Rz(c)`` turns a head.

    The axes point right, down and away from the camera, as OpenFace and py-feat have them.
    """
    # half a turn about x leads from the wireframe's axes to these
    angles = pose["rx"], -pose["ry"], -pose["rz"]
    turn = rotation_matrix(angles)
    a = math.atan2(-turn[1, 2], turn[2, 2])
    b = math.atan2(turn[0, 2], math.hypot(turn[0, 0], turn[0, 1]))
    c = math.atan2(-turn[0, 1], turn[0, 0])
    return a, b, c


def _limited(value, highest):
    return value if math.isnan(value) else min(max(value, 0.0), highest)


def _points(prediction):
    points = prediction.landmarks.tolist()
    return {
        **{f"x_{index}": x for index, (x, _) in enumerate(points)},
        **{f"y_{index}": y for index, (_, y) in enumerate(points)},
    }


def _plain(value):
    if isinstance(value, float):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    return value


def _short(value):
    """Write numbers short, and NaN as an empty cell."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.8g}"
    return value
