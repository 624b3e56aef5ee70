import csv
import json
import os
import re
import shutil
import subprocess
import sys
import wave
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import ferpipe
from ferpipe import HOGFeatures, datasets
from ferpipe.predict import _parser, find_inputs, main
from ferpipe.recognition.recognizer import Recognizer
from ferpipe.recognition.stream import Stream

MEDIA = Path(os.environ.get("FERPIPE_DATA", "nowhere"), "media")
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="needs FERPIPE_DATA")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model, a clip with one synthetic face, and two pictures."""
    folder = tmp_path_factory.mktemp("predict")
    classes = ["anger", "happiness"]
    bunch = datasets.make_expression_sequences(
        8, n_frames=2, classes=classes, random_state=0
    )
    model = make_pipeline(HOGFeatures(), LogisticRegression())
    model.fit(np.stack(bunch.data)[:, -1], bunch.target)
    ferpipe.save(model, folder / "model.joblib")
    faces = datasets.make_expression_sequences(
        2, n_frames=4, size=140, classes=classes, random_state=3
    )
    clip = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (220, 180)
    )
    for face in faces.data[0]:
        picture = np.full((180, 220), 120, np.uint8)
        picture[20:160, 40:180] = face
        clip.write(cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR))
    clip.release()
    (folder / "pictures").mkdir()
    Image.fromarray(picture).save(folder / "pictures" / "b.png")
    Image.fromarray(np.full((90, 90), 120, np.uint8)).save(folder / "pictures" / "a.png")
    (folder / "pictures" / "notes.txt").write_text("no picture")
    return folder


def run(folder, *words):
    return main([str(folder / "model.joblib"), *(str(word) for word in words)])


def read(path):
    with path.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_video_gives_a_row_a_frame(folder, tmp_path, capsys):
    table, video, plot = (tmp_path / name for name in ("o.csv", "v.mp4", "p.png"))
    words = ["-o", table, "--video", video, "--plot", plot]
    assert run(folder, folder / "clip.avi", *words) == 0
    rows = read(table)
    assert [row["frame"] for row in rows] == ["0", "1", "2", "3"]
    assert {row["Identity"] for row in rows} == {"Person_0"}
    assert {row["input"] for row in rows} == {str(folder / "clip.avi")}
    sums = [float(row["anger"]) + float(row["happiness"]) for row in rows]
    assert sums == pytest.approx([1] * 4, abs=1e-6)
    drawn = cv2.VideoCapture(str(video))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 4
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    with Image.open(plot) as picture:
        assert picture.size[0] > 500
    out, error = capsys.readouterr()
    assert out == ""
    assert [line.split()[0] for line in error.splitlines()] == ["wrote"] * 3
    assert str(video) in error


def test_frames_between_samples_are_drawn_but_not_told_of(folder, tmp_path):
    table, video = tmp_path / "o.json", tmp_path / "v.mp4"
    words = ["-o", table, "--video", video, "--every", "0.2", "--format", "openface"]
    assert run(folder, folder / "clip.avi", *words) == 0
    rows = json.loads(table.read_text())
    assert [row["frame"] for row in rows] == [1, 3]
    assert [row["timestamp"] for row in rows] == pytest.approx([0, 0.2])
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 4


def test_options_of_the_recognizer(folder, tmp_path):
    table = tmp_path / "o.json"
    words = ["--smooth", "0.2", "--abstain", "0.999", "--neutral", "0.15"]
    assert run(folder, folder / "clip.avi", "-o", table, *words) == 0
    rows = json.loads(table.read_text())
    recognizer = Recognizer(folder / "model.joblib", smoothing=0.2, neutral=0.15)
    for row, one in zip(rows, recognizer.predict_video(folder / "clip.avi"), strict=True):
        assert row["anger"] == pytest.approx(one.scores["anger"], abs=1e-7)
        unit = np.clip(one.action_units["AU26"], 0, 1)
        assert row["AU26"] == pytest.approx(unit, abs=1e-7)
        assert one.label in ("anger", "happiness")
        assert row["label"] is None
    assert rows[0]["AU26"] == 0


def test_a_folder_of_pictures_to_the_standard_output(folder, capsys):
    assert run(folder, folder / "pictures") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [Path(row["input"]).name for row in rows] == ["a.png", "b.png"]
    without, found = rows
    assert without["anger"] == without["FaceRectX"] == without["AU12"] == ""
    assert float(found["quality"]) > 0.5


def test_faces_of_several_files_have_numbers_of_their_own(folder, tmp_path):
    clip = folder / "clip.avi"
    for format, column in (("fex", "Identity"), ("openface", "face_id")):
        table = tmp_path / "o.json"
        words = ["-o", table, "--format", format]
        assert run(folder, clip, folder / "pictures", clip, *words) == 0
        faces = {}
        for row in json.loads(table.read_text()):
            if row[column] is not None:
                faces.setdefault((row["input"], row["frame"]), []).append(row[column])
        first, last = 0, 2
        of_clip = [faces[key] for key in faces if key[0] == str(clip)]
        names = ["Person_0", "Person_2"] if format == "fex" else [first, last]
        assert all(found == names for found in of_clip)
        (of_picture,) = [faces[key] for key in faces if key[0] != str(clip)]
        assert of_picture == (["Person_1"] if format == "fex" else [1])


def test_models_of_numbers_are_taken_at_the_callers_word(folder, tmp_path, capsys):
    rows = np.random.default_rng(0).normal(size=(4, 65))
    path = ferpipe.save(
        LogisticRegression().fit(rows, ["anger", "happiness"] * 2), tmp_path / "m.joblib"
    )
    table, picture = tmp_path / "o.csv", folder / "pictures" / "b.png"
    assert main([str(path), str(picture), "-o", str(table)]) == 2
    assert "--input candide" in capsys.readouterr().err
    assert main([str(path), str(picture), "-o", str(table), "--input", "candide"]) == 0


def test_inputs(folder):
    pictures = [folder / "pictures" / name for name in ("a.png", "b.png")]
    assert find_inputs([str(folder / "pictures")]) == pictures
    assert find_inputs([str(folder / "pictures" / "*.png"), "0"]) == [*pictures, 0]
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_inputs([str(folder / "nothing*.mp4")])


def error_of(capsys):
    out, error = capsys.readouterr()
    assert out == ""
    lines = [line for line in error.splitlines() if not line.startswith("wrote ")]
    assert len(lines) == 1
    return error


def test_files_that_are_no_videos(folder, tmp_path, capsys):
    sound, empty = tmp_path / "sound.mp4", tmp_path / "empty.mp4"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    empty.touch()
    for path in (sound, empty):
        table = tmp_path / "o.json"
        assert run(folder, path, "-o", table) == 2
        assert f"{path}: no frame can be read" in error_of(capsys)
        assert json.loads(table.read_text()) == []


def test_a_video_without_frames(folder, tmp_path, capsys):
    path = tmp_path / "none.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64)).release()
    assert path.stat().st_size > 0
    assert run(folder, path, "-o", tmp_path / "o.csv") == 2
    assert f"{path}: no frame can be read" in error_of(capsys)


def test_a_model_of_landmarks_given_a_video(folder, tmp_path, capsys):
    points = np.random.default_rng(0).normal(size=(8, 136))
    model = LogisticRegression().fit(points, ["anger", "fear"] * 4)
    ferpipe.save(model, tmp_path / "points.joblib")
    assert main([str(tmp_path / "points.joblib"), str(folder / "clip.avi")]) == 2
    assert "takes 136 features, which the Recognizer cannot compute" in error_of(capsys)


def test_nothing_to_plot_is_no_error(folder, tmp_path, capsys):
    path, plot = tmp_path / "empty.avi", tmp_path / "p.png"
    clip = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (120, 90))
    clip.write(np.full((90, 120, 3), 120, np.uint8))
    clip.release()
    assert run(folder, path, "-o", tmp_path / "o.csv", "--plot", plot) == 0
    assert "no face was found: there is nothing to plot" in error_of(capsys)
    assert not plot.exists()


def test_a_video_that_was_cut_short(folder, tmp_path, capsys):
    whole = (folder / "clip.avi").read_bytes()
    path, table = tmp_path / "cut.avi", tmp_path / "o.csv"
    path.write_bytes(whole[: len(whole) // 2])
    assert run(folder, path, "-o", table) == 0
    assert "is incomplete" in error_of(capsys)
    assert 1 <= len(read(table)) < 4


def test_one_broken_file_among_others_is_named(folder, tmp_path, capsys):
    broken, table = tmp_path / "broken.png", tmp_path / "o.csv"
    broken.write_bytes(b"nothing")
    assert run(folder, broken, folder / "pictures" / "b.png", "-o", table) == 1
    assert f"{broken}: this is not an image" in error_of(capsys)
    assert len(read(table)) == 1


def test_images_that_are_too_large_are_named(folder, tmp_path, capsys):
    large, long = tmp_path / "large.png", tmp_path / "long.png"
    Image.fromarray(np.full((200, 200), 120, np.uint8)).save(large)
    Image.fromarray(np.full((2, 40_000), 120, np.uint8)).save(long)
    assert run(folder, large, "--max-pixels", 39_999) == 2
    refusal = f"{large}: the image has 200 x 200 pixels, more than the 39,999"
    assert refusal in error_of(capsys)
    assert run(folder, long) == 2
    assert f"{long}: the image has 40000 x 2 pixels, but no side" in error_of(capsys)


def test_a_missing_camera(folder, capsys):
    assert run(folder, "97") == 2
    assert "camera 97 cannot be opened" in error_of(capsys)


@pytest.mark.parametrize("option", ["-o", "--video", "--plot"])
def test_outputs_that_cannot_be_written_fail_before_the_work(
    folder, tmp_path, capsys, monkeypatch, option
):
    monkeypatch.setattr(Stream, "step", None)
    target = tmp_path / "missing" / "o.csv"
    assert run(folder, folder / "clip.avi", option, target) == 2
    assert f"{target}: cannot write this file" in error_of(capsys)


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--video", "v.xyz", "cannot write this kind of video; use .mp4"),
        ("--plot", "p.xyz", "must end in .png, .pdf or .svg"),
        ("--video", "clip.avi", "this is an input"),
    ],
)
def test_outputs_that_would_fail_later_fail_before_the_work(
    folder, tmp_path, capsys, monkeypatch, option, name, message
):
    monkeypatch.setattr(Stream, "step", None)
    clip, target = tmp_path / "clip.avi", tmp_path / name
    clip.write_bytes((folder / "clip.avi").read_bytes())
    assert run(folder, clip, option, target) == 2
    assert f"{target}: " in (error := error_of(capsys))
    assert message in error
    assert clip.read_bytes() == (folder / "clip.avi").read_bytes()


def test_what_is_there_stays_when_there_is_nothing_to_do(folder, tmp_path, capsys):
    table = tmp_path / "o.csv"
    table.write_text("kept")
    words = [tmp_path / "no.joblib", folder / "clip.avi", "-o", table]
    assert main([str(word) for word in words]) == 2
    assert "no such model file" in error_of(capsys)
    assert table.read_text() == "kept"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rows_so_far_are_kept_when_it_is_stopped(
    folder, tmp_path, capsys, monkeypatch, kind
):
    look, table = Stream._observe, tmp_path / f"o.{kind}"

    def stopped(self, frame, time):
        if time > 0.15:
            raise KeyboardInterrupt
        return look(self, frame, time)

    monkeypatch.setattr(Stream, "_observe", stopped)
    monkeypatch.setattr("ferpipe.recognition.stream._AT_ONCE", 2)
    video, plot = tmp_path / "v.mp4", tmp_path / "p.png"
    words = ["-o", table, "--video", video, "--plot", plot]
    assert run(folder, folder / "clip.avi", *words) == 130
    assert "stopped: 2 rows were kept" in capsys.readouterr().err
    assert cv2.VideoCapture(str(video)).get(cv2.CAP_PROP_FRAME_COUNT) == 2
    with Image.open(plot) as picture:
        assert picture.format == "PNG"
    rows = json.loads(table.read_text()) if kind == "json" else read(table)
    assert [int(row["frame"]) for row in rows] == [0, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pictures", "--plot", "p.png"], "--plot takes one video or camera"),
        (["clip.avi", "-o", "o.xlsx"], "must end in .csv or .json"),
    ],
)
def test_wrong_words(folder, capsys, words, message):
    assert run(folder, folder / words[0], *words[1:]) == 2
    assert message in error_of(capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["--every", "0"],
        ["--faces", "two"],
        ["--format", "x"],
        ["--smooth", "-1"],
        ["--abstain", "50"],
        ["--neutral", "inf"],
    ],
)
def test_wrong_options_are_refused(folder, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(folder, folder / "clip.avi", *words)
    assert stopped.value.code == 2
    assert words[0] in capsys.readouterr().err


@needs_media
def test_a_real_video_that_was_cut_short_is_one_sentence(folder, tmp_path):
    whole = (MEDIA / "single_face.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) // 2])
    words = ["-m", "ferpipe.predict", str(folder / "model.joblib"), str(path)]
    # what OpenCV prints itself passes Python by
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: no frame can be read")
    assert done.stderr.count("\n") == 1


def test_the_guide_runs(capsys):
    guide = Path(__file__).parents[1] / "docs" / "predict.md"
    (code,) = re.findall(r"```python\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
    exec(code, {})
    label, quality, smile = capsys.readouterr().out.split()
    assert label in (
        "anger",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
        "surprise",
    )
    assert 0 <= float(quality) <= 1
    assert np.isfinite(float(smile))
    options = set(re.findall(r"^\| `(-[-a-z]+)", guide.read_text("utf-8"), re.MULTILINE))
    known = {word for action in _parser()._actions for word in action.option_strings}
    assert options == known - {"-h", "--help", "--out"}


@pytest.mark.parametrize("number", ["100000000000000000000", "9" * 5000, "70000"])
def test_a_camera_of_an_endless_number(folder, number, capsys):
    assert main([str(folder / "model.joblib"), number]) == 2
    error = capsys.readouterr().err
    assert "there is no camera with this number" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", ["a.png", "12", "clip.mp4"])
def test_what_is_no_file_is_one_sentence(folder, tmp_path, monkeypatch, capsys, kind, name):
    monkeypatch.chdir(tmp_path)
    make = os.mkfifo if kind == "pipe" else partial(os.symlink, "nowhere")
    make(name)
    assert main([str(folder / "model.joblib"), name]) == 2
    assert capsys.readouterr().err == (
        f"error: {name}: this is no file that can be read, but a link to nowhere, a pipe "
        "or the like.\n"
    )
    picture = str(next((folder / "pictures").glob("*.png")))
    make("out.csv")
    assert main([str(folder / "model.joblib"), picture, "-o", "out.csv"]) == 2
    assert "this is no file, but a pipe or a link" in capsys.readouterr().err
    assert os.path.lexists("out.csv")


def test_names_of_files_neither_steer_the_terminal_nor_the_spreadsheet(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    picture = next((folder / "pictures").glob("*.png"))
    shutil.copy(picture, "=HYPERLINK(1).png")
    Path("a\x1b[2J.png").write_bytes(b"no picture")
    words = ["=HYPERLINK(1).png", "a\x1b[2J.png", "-o", "out.csv"]
    assert main([str(folder / "model.joblib"), *words]) == 1
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert r"a\x1b[2J.png" in printed.err
    rows = list(csv.DictReader(Path("out.csv").read_text().splitlines()))
    assert {row["input"] for row in rows} == {"'=HYPERLINK(1).png"}
