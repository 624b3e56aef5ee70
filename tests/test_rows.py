import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.rows import RowWriter, as_table, fex_row, kind_of, openface_row
from ferpipe.stream import Sighting

FORMATS = Path(os.environ.get("FERPIPE_DATA", "nowhere"), "formats")
needs_formats = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs FERPIPE_DATA")
NAN = float("nan")


def sighting(**units):
    names = load_calibrated()[0].parameter_names
    return Sighting(
        frame=4,
        time=0.25,
        face=1,
        box=(10.0, 20.0, 30.0, 40.0),
        detector_score=1.5,
        scores={"anger": 0.25, "happiness": 0.75},
        label="happiness",
        landmarks=np.arange(136, dtype=float).reshape(68, 2),
        parameters=np.array([units.get(name, 0.0) for name in names]),
        quality=0.9,
    )


def nobody():
    one = sighting()
    return replace(
        one,
        face=None,
        box=(NAN,) * 4,
        detector_score=NAN,
        scores=dict.fromkeys(one.scores, NAN),
        label=None,
        landmarks=one.landmarks * NAN,
        parameters=one.parameters * NAN,
        quality=NAN,
    )


def test_fex_columns_and_their_scales():
    row = fex_row(
        sighting(rx=0.1, ry=0.2, rz=0.3, AU12_left=0.4, AU12_right=0.8, AU26=2, AU43=-1),
        "a.mp4",
    )
    assert row["AU12"] == pytest.approx(0.6)
    assert (row["AU26"], row["AU43"], row["AU01"]) == (1, 0, 0)
    # the wireframe nods down, turns to its left and tilts to its right
    assert (row["Pitch"], row["Yaw"], row["Roll"]) == (-0.1, -0.2, 0.3)
    assert (row["x_3"], row["y_3"]) == (6, 7)
    assert [row[f"FaceRect{name}"] for name in ("X", "Y", "Width", "Height")] == [
        *(10, 20, 30, 40)
    ]
    assert (row["frame"], row["time"], row["Identity"]) == (4, 0.25, "Person_1")
    assert (row["anger"], row["happiness"], row["label"]) == (0.25, 0.75, "happiness")
    assert (row["FaceScore"], row["quality"], row["input"]) == (1.5, 0.9, "a.mp4")


def test_openface_columns_and_their_scales():
    row = openface_row(
        sighting(rx=0.1, ry=0.2, rz=0.3, AU12_left=0.4, AU12_right=0.6, AU43=3, AU26=0.2)
    )
    assert row["AU12_r"] == pytest.approx(2)
    assert (row["AU45_r"], row["AU45_c"]) == (5, 1)
    assert row["AU26_r"] == pytest.approx(0.8)
    assert (row["AU12_c"], row["AU26_c"], row["AU28_c"]) == (1, 0, 0)
    assert [row[f"pose_R{axis}"] for axis in "xyz"] == [0.1, -0.2, -0.3]
    assert (row["frame"], row["face_id"], row["timestamp"]) == (5, 1, 0.25)
    assert (row["confidence"], row["success"]) == (0.9, 1)
    assert openface_row(replace(sighting(), quality=0.3))["success"] == 0


@pytest.mark.parametrize("write", [fex_row, openface_row])
def test_a_missing_face_is_nan_in_the_same_columns(write):
    there, missing = write(sighting()), write(nobody())
    assert list(there) == list(missing)
    known = {"frame", "time", "timestamp", "confidence", "success", "label", "Identity"}
    numbers = [
        value
        for name, value in missing.items()
        if name not in known and not isinstance(value, str)
    ]
    assert len(numbers) > 150
    assert np.isnan(numbers).all()
    assert missing.get("success", 0) == 0
    assert missing["label"] is None


@needs_formats
@pytest.mark.parametrize(
    ("write", "file"), [(fex_row, "Feat_Test.csv"), (openface_row, "OpenFace_Test.csv")]
)
def test_columns_are_those_of_real_files(write, file):
    with (FORMATS / file).open(encoding="utf-8") as lines:
        theirs = [name.strip() for name in next(csv.reader(lines))]
    ours = list(write(sighting()))
    added = {"time", "Identity", "label", "quality", "face_id", "input", "anger"}
    assert set(ours) - set(theirs) <= added | {"happiness"}
    shared = [name for name in ours if name in theirs and name != "input"]
    assert shared == [name for name in theirs if name in shared]
    for prefix in ("AU", "x_", "y_", "FaceRect", "pose_R"):
        assert {name for name in theirs if name.startswith(prefix)} <= set(ours)


def test_tables():
    table = as_table([sighting(), nobody()], format="openface", source="a.mp4")
    assert table["face_id"].tolist()[0] == 1
    assert np.isnan(table["face_id"][1])
    assert table["input"].tolist() == ["a.mp4", "a.mp4"]
    assert table["label"].isna().tolist() == [False, True]


def test_files_can_be_read_back():
    rows = [{"a": 1, "b": 0.1234567891, "c": "x, y"}, {"a": 2, "b": NAN, "c": None}]
    for kind in ("csv", "json"):
        file = io.StringIO()
        writer = RowWriter(file, kind)
        for row in rows:
            writer.write(row)
        writer.close()
        text = file.getvalue()
        if kind == "json":
            assert json.loads(text) == [
                {"a": 1, "b": 0.12345679, "c": "x, y"},
                {"a": 2, "b": None, "c": None},
            ]
        else:
            assert list(csv.DictReader(io.StringIO(text))) == [
                {"a": "1", "b": "0.12345679", "c": "x, y"},
                {"a": "2", "b": "", "c": ""},
            ]


@pytest.mark.parametrize("n_written", [0, 1, 2])
def test_a_list_is_whole_wherever_it_is_stopped(n_written):
    """Just before a row is written, or just after it."""

    class Stopped(io.StringIO):
        def write(self, text):
            if text.count("{") and self.getvalue().count("{") == n_written:
                super().write(text if keeps_text else "")
                raise KeyboardInterrupt
            return super().write(text)

    for keeps_text in (True, False):
        file = Stopped()
        writer = RowWriter(file, "json")
        for index in range(n_written):
            writer.write({"a": index})
        with pytest.raises(KeyboardInterrupt):
            writer.write({"a": n_written})
        writer.close()
        assert json.loads(file.getvalue()) == [
            {"a": index} for index in range(n_written + keeps_text)
        ]


def test_no_row_is_a_valid_list():
    file = io.StringIO()
    RowWriter(file, "json").close()
    assert json.loads(file.getvalue()) == []


def test_the_ending_tells_the_kind():
    assert (kind_of("a.CSV"), kind_of("b/c.json")) == ("csv", "json")
    with pytest.raises(ValueError, match=r"end in \.csv or \.json"):
        kind_of("a.xlsx")
