import cv2
import numpy as np
import pytest

from ferpipe.datasets.rafd import load_rafd

WORDS = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}


@pytest.fixture
def folder(tmp_path):
    """Two models, eight expressions, two angles, two gazes; blue, so gray is 29."""
    root = tmp_path / "RaFD"
    root.mkdir()
    for angle in ("045", "090"):
        for model in ("01_Caucasian_female", "29_Moroccan_male"):
            for word in WORDS:
                for gaze in ("frontal", "left"):
                    image = np.zeros((20, 14, 3), np.uint8)
                    image[:, :, 0] = 254
                    name = f"Rafd{angle}_{model}_{word}_{gaze}.jpg"
                    cv2.imwrite(str(root / name), image)
    return root


def test_frontal_images(folder):
    bunch = load_rafd(folder)
    assert bunch.data.shape == (32, 20, 14)
    assert np.abs(bunch.data.astype(int) - 29).max() <= 2
    assert set(bunch.groups) == {"01", "29"}
    assert set(bunch.angles) == {90}
    for file, label, gaze in zip(bunch.filenames, bunch.target, bunch.gazes, strict=True):
        *_, word, ending = file.removesuffix(".jpg").split("_")
        assert (WORDS[word], ending) == (label, gaze)
    assert bunch.target_names == sorted(WORDS.values())
    assert "request" in bunch.DESCR


def test_other_angles_in_color(folder):
    bunch = load_rafd(folder, angles=[45, 90], gray=False)
    assert bunch.data.shape == (64, 20, 14, 3)
    assert bunch.data[0, 0, 0, 2] > 240 > 20 > bunch.data[0, 0, 0, 0]
    assert bunch.angles.tolist() == [45] * 32 + [90] * 32


@pytest.mark.parametrize("angles", [(30,), 90, "90"])
def test_unknown_angles(folder, angles):
    with pytest.raises(ValueError, match="angles must be a list of some of 0, 45, 90"):
        load_rafd(folder, angles=angles)


def test_angle_without_images(folder):
    with pytest.raises(FileNotFoundError, match=r"no image of RaFD with angles=\[180\]"):
        load_rafd(folder, angles=[180])


def test_images_of_two_sizes_are_a_list(folder):
    name = "Rafd090_01_Caucasian_female_angry_frontal.jpg"
    cv2.imwrite(str(folder / name), np.zeros((8, 8, 3), np.uint8))
    data = load_rafd(folder).data
    assert isinstance(data, list)
    assert data[0].shape == (8, 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("list.txt", "unexpected file"),
        ("Rafd090_01_Caucasian_female_angri_frontal.jpg", "Did you mean angry"),
    ],
)
def test_unexpected_file(folder, name, message):
    (folder / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=rf"{name}: .*{message}.*Expected: RaFD/"):
        load_rafd(folder.parent)


def test_broken_image(folder):
    name = "Rafd090_29_Moroccan_male_sad_left.jpg"
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name}: the file is empty"):
        load_rafd(folder)
    with pytest.warns(UserWarning, match=name):
        X, y = load_rafd(folder, on_error="warn", return_X_y=True)
    assert len(X) == len(y) == 31


def test_missing_folder(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*Rafd<angle>"):
        load_rafd(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="this is a file"):
        load_rafd(next(folder.iterdir()))
