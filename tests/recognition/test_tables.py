import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

from ferpipe import PixelFeatures, Recognizer
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project, rotation_matrix
from ferpipe.datasets import load_fex_csv, load_openface_csv, make_expression_sequences
from ferpipe.recognition.stream import FacePrediction
from ferpipe.recognition.tables import RowWriter, as_table, fex_row, kind_of, openface_row
from ferpipe.synthesis.appearance import random_appearance
from ferpipe.synthesis.render import render

FORMATS = Path(os.environ.get("FERPIPE_DATA", "nowhere"), "formats")
needs_formats = pytest.mark.skipif(not FORMATS.is_dir(), reason="needs FERPIPE_DATA")
NAN = float("nan")


def prediction(**units):
    names = load_calibrated()[0].parameter_names
    return FacePrediction(
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
    one = prediction()
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
        prediction(rx=0.1, ry=0.2, rz=0.3, AU12_left=0.4, AU12_right=0.8, AU26=2, AU43=-1),
        "a.mp4",
    )
    assert row["AU12"] == pytest.approx(0.6)
    assert (row["AU26"], row["AU43"], row["AU01"]) == (1, 0, 0)
    assert (row["x_3"], row["y_3"]) == (6, 7)
    assert [row[f"FaceRect{name}"] for name in ("X", "Y", "Width", "Height")] == [
        *(10, 20, 30, 40)
    ]
    assert (row["frame"], row["time"], row["Identity"]) == (4, 0.25, "Person_1")
    assert (row["anger"], row["happiness"], row["label"]) == (0.25, 0.75, "happiness")
    assert (row["FaceScore"], row["quality"], row["input"]) == (1.5, 0.9, "a.mp4")


def test_openface_columns_and_their_scales():
    row = openface_row(
        prediction(rx=0.1, ry=0.2, rz=0.3, AU12_left=0.4, AU12_right=0.6, AU43=3, AU26=0.2)
    )
    assert row["AU12_r"] == pytest.approx(2)
    assert (row["AU45_r"], row["AU45_c"]) == (5, 1)
    assert row["AU26_r"] == pytest.approx(0.8)
    assert (row["AU12_c"], row["AU26_c"], row["AU28_c"]) == (1, 0, 0)
    assert (row["frame"], row["face_id"], row["timestamp"]) == (5, 1, 0.25)
    assert (row["confidence"], row["success"]) == (0.9, 1)
    assert openface_row(replace(prediction(), quality=0.3))["success"] == 0


# rx, ry and rz, and where the head then is: the nose to the image's right or left and down
# or up, the eye on the image's right lower or higher
POSES = {"down": (0.25, 0, 0), "left": (0, 0.25, 0), "tilted": (0, 0, 0.25)}


@pytest.mark.parametrize("pose", POSES)
def test_angles_of_a_head_that_was_rendered(pose):
    """Signs as the landmarks of the same row show them, and in the units of each format."""
    model, _ = load_calibrated()
    faces = make_expression_sequences(7, size=160, random_state=0)
    truth = faces.parameters[0][0].copy()
    crops = np.zeros((2, 48, 48), np.uint8)
    classifier = make_pipeline(PixelFeatures(), DummyClassifier()).fit(crops, ["a", "b"])
    recognizer = Recognizer(classifier, detector=None)
    rows = {}
    for kind, angles in (("straight", (0, 0, 0)), ("turned", POSES[pose])):
        truth[:3] = angles
        look = random_appearance(np.random.default_rng(1))
        (rows[kind],) = recognizer.predict_image(render(model, truth, look, 160))
    fex = {kind: fex_row(one) for kind, one in rows.items()}
    change = {
        name: fex["turned"][name] - fex["straight"][name]
        for name in ("Pitch", "Roll", "Yaw")
    }
    nose, eyes = (
        {kind: function(one.landmarks) for kind, one in rows.items()}
        for function in (_nose, _eye_line)
    )
    name = {"down": "Pitch", "left": "Yaw", "tilted": "Roll"}[pose]
    assert max(change, key=lambda key: abs(change[key])) == name
    assert 7 < abs(change[name]) < 22  # 0.25 radians are 14.3 degrees
    if pose == "left":  # the subject's left is the image's right
        assert nose["turned"] > nose["straight"]
        assert change["Yaw"] < 0
    if pose == "tilted":  # counter-clockwise: the eye on the image's right is higher
        assert eyes["turned"] < eyes["straight"]
        assert change["Roll"] < 0
    if pose == "down":
        assert change["Pitch"] < 0
    openface = openface_row(rows["turned"])
    assert openface["pose_Rx"] == pytest.approx(-np.radians(fex["turned"]["Pitch"]))
    assert openface["pose_Ry"] == pytest.approx(np.radians(fex["turned"]["Yaw"]))
    assert openface["pose_Rz"] == pytest.approx(np.radians(fex["turned"]["Roll"]))


def test_left_is_the_subjects():
    """The right of an image: of vertices, action units and the turn of a head."""
    model, _ = load_calibrated()
    nothing = np.zeros(len(model.parameter_names))
    nothing[3] = 100.0

    def shown(**changed):
        parameters = nothing.copy()
        for name, value in changed.items():
            parameters[model.parameter_names.index(name)] = value
        pose, sigma, alpha = model.split(parameters)
        return project(model.shape(sigma, alpha), pose)

    at_rest, place = shown(), model.vertex_names
    assert at_rest[place["eye_outer_left"], 0] > at_rest[place["eye_outer_right"], 0] + 50
    moved = np.linalg.norm(shown(AU12_left=1.0) - at_rest, axis=1)
    assert at_rest[moved.argmax(), 0] > 0
    assert shown(ry=0.3)[place["nose_tip"], 0] > at_rest[place["nose_tip"], 0] + 5


def _nose(landmarks):
    """Return how far the nose is from the eye on the image's left to the other."""
    (left, _), (right, _), (nose, _) = landmarks[[36, 45, 30]]
    return (nose - left) / (right - left)


def _eye_line(landmarks):
    """Return the turn of the line through the eyes, clockwise."""
    x, y = landmarks[45] - landmarks[36]
    return np.degrees(np.arctan2(y, x))


@pytest.mark.parametrize(
    ("format", "signs", "unit"),
    [("fex", (-1, 1, 1), 180 / np.pi), ("openface", (1, 1, 1), 1)],
)
def test_angles_turn_the_head_as_the_format_composes_them(tmp_path, format, signs, unit):
    """Rx Ry Rz about right, down and away; the wireframe's is Rz Ry Rx, y up, z near."""
    pose = np.array([0.3, -0.4, 0.25])
    file = tmp_path / "a.csv"
    with file.open("w", newline="") as lines:
        writer = RowWriter(lines, "csv")
        one = prediction(**dict(zip(("rx", "ry", "rz"), pose, strict=True)))
        writer.write((fex_row if format == "fex" else openface_row)(one, "a.mp4"))
        writer.close()
    load, columns = (
        (load_fex_csv, ["Pitch", "Yaw", "Roll"])
        if format == "fex"
        else (load_openface_csv, ["pose_Rx", "pose_Ry", "pose_Rz"])
    )
    bunch = load(file, columns=columns)
    found = dict(zip(bunch.feature_names, bunch.data[0][0], strict=True))
    a, b, c = (sign * found[name] / unit for sign, name in zip(signs, columns, strict=True))
    theirs = Rotation.from_euler("XYZ", [a, b, c]).as_matrix()
    flip = np.diag([1, -1, -1])
    np.testing.assert_allclose(theirs, flip @ rotation_matrix(pose) @ flip, atol=1e-6)


@needs_formats
def test_signs_are_those_of_real_files():
    """In a real row the nose and the eyes are where the angles say."""
    feat = pd.read_csv(FORMATS / "Feat_Test.csv").iloc[0]
    landmarks = np.stack([feat.filter(regex=f"^{axis}_") for axis in "xy"], 1)
    assert feat["Yaw"] > 1
    assert _nose(landmarks) < 0.5  # to the image's left, the subject's right
    assert feat["Roll"] * _eye_line(landmarks) > 0  # clockwise
    table = pd.read_csv(FORMATS / "OpenFace_Test.csv", skipinitialspace=True)
    points = [
        np.stack([row.filter(regex=f"^{axis}_") for axis in "xy"], 1)
        for _, row in table.iterrows()
    ]
    assert np.corrcoef(table["pose_Ry"], [_nose(one) for one in points])[0, 1] < -0.9
    assert np.corrcoef(table["pose_Rz"], [_eye_line(one) for one in points])[0, 1] > 0.7


@pytest.mark.parametrize("write", [fex_row, openface_row])
def test_a_missing_face_is_nan_in_the_same_columns(write):
    there, missing = write(prediction()), write(nobody())
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
    ours = list(write(prediction()))
    added = {"time", "Identity", "label", "quality", "face_id", "input", "anger"}
    assert set(ours) - set(theirs) <= added | {"happiness"}
    shared = [name for name in ours if name in theirs and name != "input"]
    assert shared == [name for name in theirs if name in shared]
    for prefix in ("AU", "x_", "y_", "FaceRect", "pose_R"):
        assert {name for name in theirs if name.startswith(prefix)} <= set(ours)


def test_tables():
    table = as_table([prediction(), nobody()], format="openface", source="a.mp4")
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
