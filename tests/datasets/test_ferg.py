import cv2
import numpy as np
import pytest

from ferpipe.datasets.ferg import load_ferg

WORDS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


@pytest.fixture
def folder(tmp_path):
    """Two characters, two images a class each; gray level = number of the image."""
    root = tmp_path / "FERG_DB_256"
    for character in ("mery", "aia"):
        for place, word in enumerate(WORDS):
            class_folder = root / character / f"{character}_{word}"
            class_folder.mkdir(parents=True)
            for number in (2, 10):
                image = np.full((16, 16, 3), 20 * place + number, np.uint8)
                cv2.imwrite(str(class_folder / f"{class_folder.name}_{number}.png"), image)
    (root / "README.txt").write_text("terms")
    return root


def test_groups_are_characters(folder):
    bunch = load_ferg(folder)
    assert bunch.data.shape == (28, 16, 16)
    assert bunch.groups.tolist() == ["aia"] * 14 + ["mery"] * 14
    assert bunch.target[:14:2].tolist() == [
        "anger",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
        "surprise",
    ]
    assert bunch.data[:4, 0, 0].tolist() == [2, 10, 22, 30]
    assert bunch.filenames[1].endswith("aia/aia_anger/aia_anger_10.png")
    assert bunch.synthetic
    assert bunch.kind == "images"


def test_scaled_and_in_color_from_the_folder_above(folder):
    X, y = load_ferg(folder.parent, size=8, gray=False, return_X_y=True)
    assert X.shape == (28, 8, 8, 3)
    assert y.shape == (28,)
    with pytest.raises(ValueError, match="size must be"):
        load_ferg(folder, size=0)


def test_the_3d_set_may_have_other_names_and_sizes(folder):
    folder = folder.rename(folder.parent / "FERG_3D_DB")
    cv2.imwrite(str(folder / "aia/aia_joy/aia_joy_2.png"), np.zeros((9, 9), np.uint8))
    bunch = load_ferg(folder)
    assert isinstance(bunch.data, list)
    assert bunch.DESCR.startswith("FERG_3D_DB, 7 classes")


@pytest.mark.parametrize("name", ["list.csv", "aia/list.csv", "aia/aia_joy/list.csv"])
def test_unexpected_file(folder, name):
    (folder / name).write_text("x")
    with pytest.raises(ValueError, match=f"{name}: unexpected file.*Expected: FERG_DB_256"):
        load_ferg(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("aia_joi", "Did you mean joy"),
        ("mery_joy", "does not bear the name of its character, aia"),
    ],
)
def test_unexpected_class_folder(folder, name, message):
    (folder / "aia/aia_joy").rename(folder / "aia" / name)
    with pytest.raises(ValueError, match=f"aia/{name}.*{message}"):
        load_ferg(folder)


def test_empty_class_and_broken_image(folder):
    broken = folder / "aia/aia_joy/aia_joy_2.png"
    broken.write_bytes(b"x")
    with pytest.raises(ValueError, match=r"aia_joy_2\.png: this is not an image"):
        load_ferg(folder)
    with pytest.warns(UserWarning, match=r"aia_joy_2\.png"):
        bunch = load_ferg(folder, on_error="warn")
    assert len(bunch.data) == len(bunch.groups) == 27
    broken.unlink()
    (folder / "aia/aia_joy/aia_joy_10.png").unlink()
    with pytest.raises(ValueError, match="aia_joy: this class is empty"):
        load_ferg(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such.*<character>_<class>"):
        load_ferg(tmp_path / "nowhere")
