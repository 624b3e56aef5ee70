import os

import numpy as np
import pytest

from ferpipe.datasets.openface import load_openface_csv

HEADER = "frame, timestamp, confidence, success, pose_Rx, AU01_r, AU12_r, AU12_c"


def write_clip(path, rows):
    """Write rows of (frame, success, AU01, AU12) as OpenFace does, blanks included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{frame}, {frame / 10}, 0.9, {success}, 0.1, {first}, {second}, 1"
        for frame, success, first, second in rows
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    """Two clips a class, of two and three frames; happiness has a frame without a face."""
    root = tmp_path / "clips"
    for place, word in enumerate(("angry", "happy")):
        write_clip(root / word / "anna_1.csv", [(1, 1, place, 0.5), (2, 1, place, 1.5)])
        rows = [(1, 1, place, 2), (2, 1 - place, 0, 0), (3, 1, place, 3)]
        write_clip(root / word / "ben_1.csv", rows)
    return root


def test_action_units_a_clip(folder):
    bunch = load_openface_csv(folder, groups="/([a-z]+)_")
    assert bunch.feature_names == ["AU01_r", "AU12_r"]
    assert [clip.tolist() for clip in bunch.data] == [
        [[0, 0.5], [0, 1.5]],
        [[0, 2], [0, 0], [0, 3]],
        [[1, 0.5], [1, 1.5]],
        [[1, 2], [1, 3]],
    ]
    assert bunch.target.tolist() == ["anger"] * 2 + ["happiness"] * 2
    assert bunch.groups.tolist() == ["anna", "ben"] * 2
    assert bunch.filenames[3].endswith("happy/ben_1.csv")
    assert bunch.kind == "sequences"


def test_frames_without_a_face_are_left_out(folder):
    frames = load_openface_csv(folder).frames
    assert [numbers.tolist() for numbers in frames] == [[1, 2], [1, 2, 3], [1, 2], [1, 3]]


def test_columns_are_chosen_by_patterns(folder):
    bunch = load_openface_csv(folder, columns=["AU*_c", "pose_*"])
    assert bunch.feature_names == ["pose_Rx", "AU12_c"]
    assert bunch.data[0].tolist() == [[0.1, 1], [0.1, 1]]
    with pytest.raises(ValueError, match=r"no column is named like 'gaze_\*'.*timestamp"):
        load_openface_csv(folder, columns="gaze_*")


def test_clips_can_be_trained_on(folder):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from ferpipe import PoolFrames

    X, y = load_openface_csv(folder, return_X_y=True)
    model = make_pipeline(PoolFrames("mean"), LogisticRegression(C=100)).fit(X, y)
    assert model.predict(X).tolist() == y.tolist()


def test_one_file_has_no_label(folder):
    bunch = load_openface_csv(folder / "happy" / "anna_1.csv")
    assert [clip.shape for clip in bunch.data] == [(2, 2)]
    assert bunch.target is None
    assert bunch.target_names == []
    assert load_openface_csv(folder / "happy/anna_1.csv", return_X_y=True)[1] is None


def test_file_that_lacks_a_column(folder):
    file = folder / "happy" / "ben_1.csv"
    text = file.read_text()
    file.write_text(text.replace("AU01_r", "AU02_r"))
    with pytest.raises(ValueError, match=r"ben_1\.csv: its columns differ.*AU01_r, AU02_r"):
        load_openface_csv(folder)
    file.write_text(text.replace("success", "found"))
    with pytest.raises(ValueError, match=r"ben_1\.csv: there is no column success"):
        load_openface_csv(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a whole csv file"),
        ("\x00\x01", "there is no column frame"),
        (HEADER, "there are no rows"),
        (f"{HEADER}\n1, 0, 0.9, 1, 0, 1, 2, 1\n1,2,3,4,5,6,7,8,9", "not a whole csv file"),
        (f"{HEADER}\n1, 0, 0.9, 1, 0, 1, 2, 1, 7, 8", "more columns than the first line"),
        (f"{HEADER}\n1, 0, 0.9, 1, 0, 1, 2, 1\n2, 0.1, 0.9, 1", "a row is cut off"),
        (f"{HEADER}\n1, 0, 0.9, 0, 0, 1, 2, 1", "no frame shows a face"),
        (f"{HEADER}\n1, 0, 0.9, 1, 0, 1, , 1", "NaN or infinite"),
        (f"{HEADER}\n1, 0, 0.9, 1, 0, 1, much, 1", "AU12_r holds something else"),
        (
            f"{HEADER}\n1, 0, 0.9, 1, 0, 1, 2, 1\n1, 0, 0.9, 1, 0, 1, 2, 1",
            "frame 1 shows 2 faces",
        ),
    ],
)
def test_damaged_file_is_named(folder, text, message):
    for number in range(2, 12):
        write_clip(folder / "angry" / f"clip_{number}.csv", [(1, 1, 0, 0)])
    file = folder / "happy" / "ben_1.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"ben_1\.csv: .*{message}"):
        load_openface_csv(folder)
    with pytest.warns(UserWarning, match=r"Left out 1: .*ben_1\.csv"):
        assert len(load_openface_csv(folder, on_error="warn").data) == 13


def test_unexpected_file_and_missing_folder(folder, tmp_path):
    (folder / "happy" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt: unexpected file.*FeatureExtraction"):
        load_openface_csv(folder)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*AU01_r"):
        load_openface_csv(tmp_path / "nowhere")


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_file_of_openface_itself():
    path = "$FERPIPE_DATA/formats/OpenFace_Test.csv"
    bunch = load_openface_csv(path)
    assert bunch.data[0].shape == (100, 17)
    assert bunch.feature_names[:2] == ["AU01_r", "AU02_r"]
    assert 0 <= bunch.data[0].min() < bunch.data[0].max() <= 5
    assert bunch.frames[0].tolist() == list(range(1, 101))
    presence = load_openface_csv(path, columns="AU*_c").data[0]
    assert np.isin(presence, (0, 1)).all()
    assert presence.shape[1] == 18
    points = load_openface_csv(path, columns=["x_*", "y_*"]).data[0]
    assert points.shape[1] == 2 * 68
