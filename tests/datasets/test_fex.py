import os

import pytest

from ferpipe.datasets.fex import load_fex_csv

HEADER = "frame,FaceRectX,FaceScore,AU01,AU12,Pitch,happiness,input"


def write_fex(path, rows, header=HEADER):
    """Write rows of (frame, AU01, AU12, input); None stands for a missing face."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{frame},,,,,,,{source}"
        if first is None
        else f"{frame},10.5,0.99,{first},{second},3.5,0.2,{source}"
        for frame, first, second, source in rows
    ]
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "clips"
    for place, word in enumerate(("fear", "sad")):
        rows = [(0, place, 0.5, "anna.mp4"), (5, None, None, "anna.mp4")]
        rows += [(10, place, 0.7, "anna.mp4")]
        write_fex(root / word / "anna_1.csv", rows)
        rows = [(frame, 0.1 * place, 0.2, "ben.mp4") for frame in range(4)]
        write_fex(root / word / "ben_1.csv", rows)
    return root


def test_action_units_a_clip(folder):
    bunch = load_fex_csv(folder, groups="/([a-z]+)_")
    assert bunch.feature_names == ["AU01", "AU12"]
    assert bunch.data[0].tolist() == [[0, 0.5], [0, 0.7]]
    assert bunch.data[2].tolist() == [[1, 0.5], [1, 0.7]]
    assert [len(clip) for clip in bunch.data] == [2, 4, 2, 4]
    assert bunch.frames[0].tolist() == [0, 10]
    assert bunch.target.tolist() == ["fear", "fear", "sadness", "sadness"]
    assert bunch.groups.tolist() == ["anna", "ben"] * 2
    assert bunch.filenames == ["anna.mp4", "ben.mp4"] * 2


def test_a_file_of_several_images_is_one_sequence_each(tmp_path):
    path = tmp_path / "fex.csv"
    write_fex(path, [(0, 0.25, 0.5, "b.png"), (0, 0.75, 1, "a.png")])
    bunch = load_fex_csv(path)
    assert bunch.filenames == ["b.png", "a.png"]
    assert [clip.tolist() for clip in bunch.data] == [[[0.25, 0.5]], [[0.75, 1]]]
    assert bunch.target is None
    assert bunch.groups is None


def test_an_image_without_a_face_is_named_or_left_out(tmp_path):
    path = tmp_path / "fex.csv"
    rows = [(number, 0.5, 0.5, f"{number}.png") for number in range(20)]
    rows[7] = (7, None, None, "7.png")
    write_fex(path, rows)
    with pytest.raises(ValueError, match=r"fex\.csv: 7\.png: no frame shows a face"):
        load_fex_csv(path)
    with pytest.warns(UserWarning, match=r"Left out 1: .*7\.png"):
        bunch = load_fex_csv(path, on_error="warn")
    assert len(bunch.data) == 19
    assert "7.png" not in bunch.filenames


def test_columns_are_chosen_by_patterns(folder):
    bunch = load_fex_csv(folder, columns=["Pitch", "happiness"])
    assert bunch.feature_names == ["Pitch", "happiness"]
    assert bunch.data[1].tolist() == [[3.5, 0.2]] * 4
    with pytest.raises(ValueError, match="column input holds something else than numbers"):
        load_fex_csv(folder, columns="input")


def test_file_without_the_column_input_keeps_its_name(tmp_path):
    path = tmp_path / "fex.csv"
    write_fex(path, [(0, 0.5, 0.5, "1")], header=HEADER.replace("input", "session"))
    assert load_fex_csv(path).filenames == [str(path)]


def test_several_faces_and_foreign_files(folder):
    write_fex(folder / "sad/anna_1.csv", [(3, 0.1, 0.1, "a.mp4"), (3, 0.2, 0.2, "a.mp4")])
    with pytest.raises(ValueError, match=r"anna_1\.csv: a\.mp4: frame 3 shows 2 faces"):
        load_fex_csv(folder)
    (folder / "sad/anna_1.csv").write_text(f"{HEADER}\n0,1,0.9,0.5,0.5,1,0,a\n1,1,0.9")
    with pytest.raises(ValueError, match=r"anna_1\.csv: a row is cut off"):
        load_fex_csv(folder)
    (folder / "sad/anna_1.csv").write_text("a,b\n1,2\n")
    message = r"anna_1\.csv: there is no column frame, FaceScore.*py-feat"
    with pytest.raises(ValueError, match=message):
        load_fex_csv(folder)
    with pytest.raises(FileNotFoundError, match=r"FaceRectX"):
        load_fex_csv(folder / "nowhere")


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_file_of_py_feat_itself():
    path = "$FERPIPE_DATA/formats/Feat_Test.csv"
    bunch = load_fex_csv(path)
    assert bunch.data[0].shape == (1, 20)
    assert bunch.feature_names[-1] == "AU43"
    assert 0 <= bunch.data[0].min() < bunch.data[0].max() <= 1
    points = load_fex_csv(path, columns=["x_*", "y_*"]).data[0]
    assert points.shape == (1, 2 * 68)
    expressions = [
        "anger",
        "disgust",
        "fear",
        "happiness",
        "sadness",
        "surprise",
        "neutral",
    ]
    assert load_fex_csv(path, columns=expressions).data[0].sum() == pytest.approx(
        1, abs=1e-3
    )
