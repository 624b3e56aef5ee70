import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferpipe.datasets import load_ck48

FOLDERS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


@pytest.fixture
def folder(tmp_path):
    """Two subjects, one sequence a class each; gray level = 10 * class + frame."""
    root = tmp_path / "CK+48"
    for number, name in enumerate(FOLDERS):
        (root / name).mkdir(parents=True)
        for subject in ("S010", "S002"):
            for frame in (9, 10, 11):
                image = np.full((48, 48), 10 * number + frame, np.uint8)
                path = root / name / f"{subject}_{number:03d}_{frame:08d}.png"
                cv2.imwrite(str(path), image)
    return root


def test_sequences(folder):
    bunch = load_ck48(folder)
    assert len(bunch.data) == 14
    assert bunch.data[0].shape == (3, 48, 48)
    assert bunch.data[0].dtype == np.uint8
    assert bunch.groups.tolist() == ["S002"] * 7 + ["S010"] * 7
    assert bunch.sequences[0] == "S002_000"
    assert bunch.target[4] == "happiness"
    assert [frame[0, 0] for frame in bunch.data[4]] == [49, 50, 51]
    assert [Path(file).name for file in bunch.filenames[4]] == [
        f"S002_004_{frame:08d}.png" for frame in (9, 10, 11)
    ]
    assert bunch.kind == "sequences"
    assert not bunch.synthetic
    assert bunch.target_names == sorted(bunch.target_names)
    assert "CK+48" in bunch.DESCR.splitlines()[0]


def test_frames_know_their_sequence(folder):
    sequences, frames = load_ck48(folder), load_ck48(folder, as_sequences=False)
    assert frames.kind == "images"
    assert np.array_equal(frames.data, np.concatenate(sequences.data))
    assert np.array_equal(frames.sequences, np.repeat(sequences.sequences, 3))
    assert np.array_equal(frames.groups, np.repeat(sequences.groups, 3))
    assert len(frames.filenames) == 42


def test_classes_choose(folder):
    assert len(load_ck48(folder, classes=5).data) == 10
    assert load_ck48(folder, classes=["happy", "fear"]).target_names == [
        "fear",
        "happiness",
    ]


def test_return_X_y(folder):
    X, y = load_ck48(folder, return_X_y=True)
    assert len(X) == len(y) == 14


def test_path_may_hold_variables_and_the_folder_above(folder, monkeypatch):
    monkeypatch.setenv("FACES_HERE", str(folder.parent))
    assert len(load_ck48("$FACES_HERE").data) == 14
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_ck48("~/CK+48").data) == 14


def test_undefined_variable():
    with pytest.raises(ValueError, match="NOT_DEFINED_HERE, which is not set"):
        load_ck48("$NOT_DEFINED_HERE/CK+48")


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*S<subject>_<sequence>"):
        load_ck48(tmp_path / "nowhere")


def test_folder_without_classes(tmp_path):
    with pytest.raises(ValueError, match="no class folder in it"):
        load_ck48(tmp_path)


def test_missing_class(folder):
    for file in (folder / "fear").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="fear: this class is empty"):
        load_ck48(folder)
    (folder / "fear").rmdir()
    with pytest.raises(FileNotFoundError, match="no folder of the class fear"):
        load_ck48(folder)


def test_unknown_class(folder):
    (folder / "fear").rename(folder / "faer")
    with pytest.raises(ValueError, match=r"faer.*Did you mean fear"):
        load_ck48(folder)


@pytest.mark.parametrize("name", ["notes.txt", "anger/S010_004.png", "happy/face.jpg"])
def test_unexpected_file(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name}: unexpected file.*Expected: CK\+48/"):
        load_ck48(folder)


def test_hidden_files_are_ignored(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "anger" / "Thumbs.db").write_bytes(b"x")
    assert len(load_ck48(folder).data) == 14


def test_broken_image_is_an_error_or_left_out_with_a_warning(folder):
    broken = folder / "sadness" / "S010_005_00000010.png"
    broken.write_text("a text file named .png")
    with pytest.raises(ValueError, match=f"{broken.name}: this is not an image"):
        load_ck48(folder)
    with pytest.warns(UserWarning, match=f"Left out 1: .*{broken.name}"):
        bunch = load_ck48(folder, on_error="warn")
    assert len(bunch.data) == 13
    assert "S010_005" not in bunch.sequences


def test_many_broken_images_are_an_error_all_the_same(folder):
    for name in ("anger", "fear"):
        next((folder / name).iterdir()).write_bytes(b"")
    with pytest.raises(ValueError, match="2 wrong files among 14 samples are too many"):
        load_ck48(folder, on_error="warn")


def test_image_of_another_size(folder):
    path = folder / "anger" / "S010_000_00000009.png"
    cv2.imwrite(str(path), np.zeros((40, 48), np.uint8))
    with pytest.raises(ValueError, match=r"00000009\.png: the image has 40 x 48 pixels"):
        load_ck48(folder)


def test_unknown_on_error(folder):
    with pytest.raises(ValueError, match="'raise' or 'warn', got 'skip'"):
        load_ck48(folder, on_error="skip")


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
def test_real_data():
    bunch = load_ck48("$FERPIPE_DATA")
    assert len(bunch.data) == 327
    assert len(set(bunch.groups)) == 118
    assert Counter(bunch.target.tolist()) == {
        "surprise": 83,
        "happiness": 69,
        "disgust": 59,
        "anger": 45,
        "sadness": 28,
        "fear": 25,
        "contempt": 18,
    }
    assert {sequence.shape for sequence in bunch.data} == {(3, 48, 48)}
