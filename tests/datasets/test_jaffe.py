import cv2
import numpy as np
import pytest

from ferpipe.datasets.jaffe import load_jaffe

CODES = ("AN", "DI", "FE", "HA", "NE", "SA", "SU")


@pytest.fixture
def folder(tmp_path):
    """Two subjects, two images a class each; gray level = number of the image."""
    root = tmp_path / "jaffe"
    root.mkdir()
    number = 0
    for subject in ("KA", "YM"):
        for code in CODES:
            for repeat in (1, 2):
                number += 1
                image = np.full((12, 16), number, np.uint8)
                cv2.imwrite(str(root / f"{subject}.{code}{repeat}.{number}.tiff"), image)
    return root


def test_names_give_subject_and_expression(folder):
    bunch = load_jaffe(folder)
    assert bunch.data.shape == (28, 12, 16)
    assert bunch.data.dtype == np.uint8
    assert bunch.groups.tolist() == ["KA"] * 14 + ["YM"] * 14
    assert bunch.kind == "images"
    assert "passed on" in bunch.DESCR
    first = bunch.data[:14, 0, 0].argsort()
    assert bunch.target[:14][first].tolist() == [
        name
        for name in (
            "anger",
            "disgust",
            "fear",
            "happiness",
            "neutral",
            "sadness",
            "surprise",
        )
        for _ in range(2)
    ]
    assert bunch.filenames[3].endswith(f"{bunch.data[3, 0, 0]}.tiff")


def test_folder_above_and_return_X_y(folder, monkeypatch):
    monkeypatch.setenv("FACES_HERE", str(folder.parent))
    X, y = load_jaffe("$FACES_HERE", return_X_y=True)
    assert len(X) == len(y) == 28


def test_images_of_two_sizes_are_a_list(folder):
    cv2.imwrite(str(folder / "KA.AN1.1.tiff"), np.zeros((8, 8), np.uint8))
    data = load_jaffe(folder).data
    assert isinstance(data, list)
    assert {image.shape for image in data} == {(12, 16), (8, 8)}


def test_readme_beside_the_images_is_no_error(folder):
    (folder / "README_FIRST.txt").write_text("terms")
    assert len(load_jaffe(folder).data) == 28


@pytest.mark.parametrize("name", ["notes.txt", "KA.XX1.30.tiff", "KA.AN1.tiff"])
def test_unexpected_file(folder, name):
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name}: unexpected file.*Expected: jaffe/"):
        load_jaffe(folder)
    with pytest.warns(UserWarning, match=f"Left out 1: .*{name}"):
        assert len(load_jaffe(folder, on_error="warn").data) == 28


def test_broken_image(folder):
    (folder / "YM.NE1.23.tiff").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"YM\.NE1\.23\.tiff: this is not an image"):
        load_jaffe(folder)
    with pytest.warns(UserWarning, match=r"YM\.NE1\.23"):
        bunch = load_jaffe(folder, on_error="warn")
    assert len(bunch.data) == len(bunch.target) == len(bunch.groups) == 27
    assert not any(name.endswith("YM.NE1.23.tiff") for name in bunch.filenames)


def test_missing_or_foreign_folder(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*KA\.AN1\.39\.tiff"):
        load_jaffe(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: there is no image of JAFFE"):
        load_jaffe(tmp_path / "empty")
    with pytest.raises(ValueError, match="this is a file"):
        load_jaffe(next(folder.iterdir()))
