import os

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline

from ferpipe import HOGFeatures, ImageNetwork, Training
from ferpipe.datasets import folders, load_ferg, load_image_folder
from ferpipe.io.memmap import ArrayWriter, map_images

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (24, 16, 16), dtype=np.uint8)
Y = np.array(["anger", "fear"] * 12)


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "faces.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r")


@pytest.fixture
def faces(tmp_path):
    for label in ("Happy", "sleepy"):
        for number in range(6):
            path = tmp_path / "faces" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), RNG.integers(0, 256, (20, 30), dtype=np.uint8))
    return tmp_path / "faces"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">i2"])
@pytest.mark.parametrize("n", [1, 12])
def test_arrays_written_one_by_one_are_read_as_one(tmp_path, dtype, n):
    expected = RNG.integers(0, 99, (n, 5, 4, 3)).astype(dtype)
    with ArrayWriter(tmp_path / "a.npy") as writer:
        for array in expected:
            writer.append(array[:, ::-1][:, ::-1])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected, strict=True)


@pytest.mark.parametrize("other", [np.zeros((5, 4), np.uint8), np.zeros((4, 5))])
def test_one_file_holds_arrays_of_one_kind(tmp_path, other):
    with ArrayWriter(tmp_path / "a.npy") as writer:
        writer.append(np.ones((4, 5), np.uint8))
        with pytest.raises(ValueError, match=r"b\.png: it has the shape .* of one size"):
            writer.append(other, "b.png")
    assert np.load(tmp_path / "a.npy").shape == (1, 4, 5)


def test_images_are_written_once_and_found_by_what_they_depend_on(own_store):
    calls = []

    def write(append):
        calls.append(1)
        for image in X:
            append(image)
        return {"places": np.arange(24), "names": Y}

    for parts in (("a", 1), ("a", 1), ("a", 2)):
        images, notes = map_images(parts, write)
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        np.testing.assert_array_equal(images, X)
        np.testing.assert_array_equal(notes["names"], Y)
    assert len(calls) == 2
    assert len(list((own_store / "images").glob("*.npy"))) == 2


@pytest.mark.parametrize("failure", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind(own_store, failure):
    def write(append):
        append(X[0])
        raise failure

    with pytest.raises(type(failure)):
        map_images(("a",), write)
    with pytest.raises(ValueError, match="no image to keep"):
        map_images(("a",), lambda append: {})
    left = [path.suffix for path in (own_store / "images").iterdir()]
    assert set(left) <= {".lock"}


def test_what_a_killed_process_left_is_written_over(own_store):
    def write(append):
        append(X[0])
        return {}

    map_images(("a",), write)
    (path,) = (own_store / "images").glob("*.npy")
    path.rename(path.with_suffix(".part"))
    with path.with_suffix(".part").open("ab") as file:
        file.write(bytes(1000))
    np.testing.assert_array_equal(map_images(("a",), write)[0], X[:1])


def test_a_folder_of_images_is_mapped_and_read_once(faces, monkeypatch):
    expected = load_image_folder(faces, groups=r"(\d)\.png")
    lazy = load_image_folder(faces, groups=r"(\d)\.png", lazy=True)
    monkeypatch.setattr(folders, "read_image", lambda *a, **k: pytest.fail("read again"))
    again = load_image_folder(faces, groups=r"(\d)\.png", lazy=True)
    for bunch in (lazy, again):
        assert isinstance(bunch.data, np.memmap)
        np.testing.assert_array_equal(bunch.data, expected.data)
        for name in ("target", "groups"):
            np.testing.assert_array_equal(bunch[name], expected[name])
        assert bunch.filenames == expected.filenames


def test_a_file_that_changed_and_another_size_are_read_anew(faces):
    load_image_folder(faces, lazy=True)
    assert load_image_folder(faces, lazy=True, size=8).data.shape == (12, 8, 8)
    cv2.imwrite(str(faces / "Happy" / "0.png"), np.full((20, 30), 7, np.uint8))
    os.utime(faces / "Happy" / "0.png", (1, 1))
    assert np.all(load_image_folder(faces, lazy=True).data[0] == 7)


def test_mapped_images_have_one_size(faces):
    cv2.imwrite(str(faces / "sleepy" / "3.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(ValueError, match=r"3\.png: it has the shape .*the parameter size"):
        load_image_folder(faces, lazy=True)
    assert load_image_folder(faces, lazy=True, size=8).data.shape == (12, 8, 8)


def test_files_that_were_left_out_are_named_each_time(faces):
    (faces / "Happy" / "2.png").write_bytes(b"no image")
    for message in (r"Left out 1: .*2\.png", r"Left out 1: .*2\.png: it could not be"):
        with pytest.warns(UserWarning, match=message):
            bunch = load_image_folder(faces, lazy=True, on_error="warn")
        assert len(bunch.data) == len(bunch.target) == 11
        assert not any("Happy/2.png" in name for name in bunch.filenames)


def test_ferg_can_be_mapped(tmp_path):
    for number in range(2):
        for word in ("anger", "joy"):
            folder = tmp_path / "FERG_DB_256" / "aia" / f"aia_{word}"
            folder.mkdir(parents=True, exist_ok=True)
            image = np.full((9, 9, 3), 40 * number, np.uint8)
            cv2.imwrite(str(folder / f"aia_{word}_{number}.png"), image)
    bunch = load_ferg(tmp_path, lazy=True)
    assert isinstance(bunch.data, np.memmap)
    np.testing.assert_array_equal(bunch.data, load_ferg(tmp_path).data)


def test_pipelines_and_folds_take_mapped_images_as_any_array(mapped):
    model = make_pipeline(HOGFeatures(), LogisticRegression())
    expected = cross_val_predict(model, X, Y, cv=3, method="predict_proba")
    found = cross_val_predict(model, mapped, Y, cv=3, method="predict_proba")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("validation", [None, 0.25])
def test_networks_train_from_mapped_images_as_from_any_array(mapped, validation):
    training = Training(max_epochs=2, batch_size=8, validation=validation)
    network = ImageNetwork(training=training, random_state=0)
    expected = network.fit(X, Y).predict_proba(X)
    np.testing.assert_array_equal(network.fit(mapped, Y).predict_proba(mapped), expected)


def test_networks_do_not_copy_the_images(mapped, monkeypatch):
    from ferpipe.networks.training import loop

    seen = []
    whole = loop.train

    def train(module, dataset, valid, *arguments, **options):
        seen.extend([dataset, valid])
        return whole(module, dataset, valid, *arguments, **options)

    monkeypatch.setattr(loop, "train", train)
    training = Training(max_epochs=1, validation=0.25)
    ImageNetwork(training=training, random_state=0).fit(mapped, Y)
    assert all(np.shares_memory(dataset.X, mapped) for dataset in seen)


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "notes"])
def test_damaged_images_are_named_and_written_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)

    def write(append):
        for image in images:
            append(image)
        return {"places": np.arange(5)}

    map_images(("some",), write)
    ending = "npz" if damage == "notes" else "npy"
    (path,) = (tmp_path / "images").glob(f"*.{ending}")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[-100:]
    elif damage == "empty":
        content.clear()
    else:
        content[-20] ^= 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(UserWarning, match=f"{path.name}: this is damaged"):
        found, notes = map_images(("some",), write)
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(notes["places"], np.arange(5))
    assert list(notes) == ["places"]


def test_other_images_of_the_same_size_and_time_are_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "cache"))
    files = []
    for name, value in (("anger", 10), ("fear", 200)):
        path = tmp_path / "faces" / name / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)
        os.utime(path, ns=(1, 1))
        files.append(path)
    folder = tmp_path / "faces"
    first = load_image_folder(folder, lazy=True).data
    one, other = (path.read_bytes() for path in files)
    assert len(one) == len(other)
    files[0].write_bytes(other)
    os.utime(files[0], ns=(1, 1))
    again = load_image_folder(folder, lazy=True).data
    assert (first[0, 0, 0], again[0, 0, 0]) == (10, 200)
