import json

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from ferpipe.faces.landmark_cascade import load_cascade
from ferpipe.faces.landmark_points import (
    INNER,
    MIRRORED,
    eye_centers,
    outer_eye_distance,
)
from ferpipe.faces.landmarks import LandmarkPredictor, load_model
from ferpipe.geometry import similarity, transform_points, warp
from ferpipe.train.__main__ import main
from ferpipe.train.landmark_networks import (
    AnnotatedFaces,
    Recipe,
    find_faces,
    find_points,
    read_annotated_faces,
    scores_of,
    train,
    train_and_evaluate,
)

SMALL = Recipe(
    coarse_size=32,
    fine_size=32,
    coarse_channels=(8, 8, 16, 16),
    fine_channels=(8, 8, 16, 16),
    coarse_epochs=60,
    fine_epochs=60,
    batch_size=8,
)


@pytest.fixture(scope="module")
def faces():
    """One face in 16 places, with the points of the shipped networks: four a photo."""
    gray = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY)
    landmarks = LandmarkPredictor().transform([gray])[0]
    rng = np.random.default_rng(0)
    images, points = [], []
    for _ in range(16):
        angle, scale = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(1, 1.4)
        place = similarity(scale, angle, (224, 125), rng.uniform(110, 130, 2))
        images.append(warp(gray, place, (240, 240)))
        points.append(transform_points(place, landmarks))
    return AnnotatedFaces(images, np.array(points), np.repeat(list("abcd"), 4))


@pytest.fixture(scope="module")
def folder(faces, tmp_path_factory):
    """The same faces as files."""
    folder = tmp_path_factory.mktemp("faces")
    for number, (image, points) in enumerate(
        zip(faces.images, faces.landmarks, strict=True)
    ):
        name = f"photo{faces.photos[number]}_{number}"
        cv2.imwrite(str(folder / f"{name}.png"), image)
        lines = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
        (folder / f"{name}.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}")
    return folder


def test_annotated_faces_are_read(faces, folder):
    found = read_annotated_faces(folder)
    order = np.argsort([f"{photo}_{n}" for n, photo in enumerate(faces.photos)])
    np.testing.assert_allclose(found.landmarks, faces.landmarks[order])
    np.testing.assert_array_equal(found.images[1], faces.images[order[1]])
    assert found.photos.tolist() == [f"photo{faces.photos[n]}" for n in order]


def test_wrong_folders(tmp_path):
    with pytest.raises(ValueError, match=r"found no \.pts file"):
        read_annotated_faces(tmp_path)
    (tmp_path / "a_1.pts").write_text("version: 1\nn_points: 1\n{\n1 2\n}\n")
    with pytest.raises(ValueError, match=r"a_1\.pts: there is no \.jpg or \.png"):
        read_annotated_faces(tmp_path)
    cv2.imwrite(str(tmp_path / "a_1.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"a_1\.pts: expected 68 points, found 1"):
        read_annotated_faces(tmp_path)


def test_trained_networks_find_the_points(faces, tmp_path):
    train(faces, tmp_path, SMALL)
    cascade = load_cascade(tmp_path)
    shape = cascade.mean_shape
    np.testing.assert_allclose(shape[MIRRORED], shape * (-1, 1), atol=1e-5)
    assert outer_eye_distance(shape) == pytest.approx(1, abs=1e-5)
    # the boxes are some 1.75 outer eye distances wide, and above the middle of the points
    assert 1.3 < cascade.box_width < 2.3
    assert -0.3 < cascade.box_center[1] < 0.1
    found, missed = find_points(cascade, faces)
    assert not missed.any()
    scores = scores_of(found, faces.landmarks, missed)
    assert scores["mean_error_all_68"] < 0.15  # short of training it would be about 0.4


def test_same_seed_same_networks(faces, tmp_path):
    recipe = Recipe(**{**vars(SMALL), "coarse_epochs": 1, "fine_epochs": 1})
    few = faces.take(np.arange(8))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        train(few, tmp_path / name, recipe, seed=3)
    image, box = faces.images[9], (60.0, 60.0, 120.0, 120.0)
    first = load_cascade(tmp_path / "a").predict(image, box)
    np.testing.assert_allclose(load_cascade(tmp_path / "b").predict(image, box), first)


def test_stopped_training_goes_on(faces, tmp_path, monkeypatch):
    recipe = Recipe(**{**vars(SMALL), "coarse_epochs": 1, "fine_epochs": 1})
    few = faces.take(np.arange(8))

    def stop(*_, **__):
        raise KeyboardInterrupt

    train(few, tmp_path, recipe)
    both = [(tmp_path / name).read_bytes() for name in ("coarse.onnx", "fine.onnx")]
    (tmp_path / "fine.onnx").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("ferpipe.train.landmark_networks.train_network", stop)
        with pytest.raises(KeyboardInterrupt):  # the second network is missing
            train(few, tmp_path, recipe)
    train(few, tmp_path, recipe)
    assert both == [(tmp_path / n).read_bytes() for n in ("coarse.onnx", "fine.onnx")]
    monkeypatch.setattr("ferpipe.train.landmark_networks.train_network", stop)
    train(few, tmp_path, recipe)
    with pytest.raises(KeyboardInterrupt):  # networks of another seed are not kept
        train(few, tmp_path, recipe, seed=1)


def test_faces_that_are_not_found_start_in_the_middle():
    noise = np.random.default_rng(0).integers(0, 255, (2, 200, 100), dtype=np.uint8)
    for assess in (None, load_model("ferpipe")):
        found, missed = find_faces(assess, list(noise))
        assert missed.all()
        for face in found:
            x, y, width, height = face.box
            assert (x + width / 2, y + height / 2) == (50, 100)
            assert width == height


def test_scores():
    truth = np.repeat(load_model("ferpipe").mean_shape[None] * 50, 4, axis=0)
    errors = np.full((4, 68), 0.02)
    errors[0] = 0.2
    errors[1, :17] = 0.06
    found = truth + 50 * errors[:, :, None] * (0, 1)
    scores = scores_of(found, truth, np.array([True, False, False, False]))
    # both eyes of face 0 are 0.18 outer eye distances higher in the crop than the others'
    eyes = eye_centers(truth[0])
    apart = np.linalg.norm(eyes[1] - eyes[0]) / 50
    spread = 0.18 * np.sqrt(3) / 4 / apart
    assert scores["spread_of_aligned_eyes"] == pytest.approx(spread, abs=1e-4)
    assert scores["mean_error_all_68"] == pytest.approx(errors.mean(), abs=1e-5)
    assert scores["mean_error_inner_51"] == pytest.approx(errors[:, INNER].mean(), abs=1e-5)
    assert scores["share_of_faces_above_0.1"] == 0.25
    assert scores["share_of_faces_the_detector_missed"] == 0.25
    assert scores["mean_error_all_68_of_found"] == pytest.approx(
        errors[1:].mean(), abs=1e-5
    )


def test_no_photo_stands_on_both_sides(faces, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "ferpipe.train.landmark_networks.shutil.rmtree", lambda folder: None
    )

    def remember(part, folder, recipe, *, seed, name, position=0):
        seen.append((name, set(part.photos)))

    monkeypatch.setattr("ferpipe.train.landmark_networks.train", remember)
    monkeypatch.setattr("ferpipe.train.landmark_networks.load_cascade", lambda folder: None)

    def nothing(cascade, part):
        seen.append(("measured", set(part.photos)))
        return np.zeros((len(part.images), 68, 2)), np.zeros(len(part.images), bool)

    monkeypatch.setattr("ferpipe.train.landmark_networks.find_points", nothing)
    found, _ = train_and_evaluate(faces, tmp_path, SMALL, n_folds=4)
    assert found.shape == (16, 68, 2)
    assert seen[0] == ("all faces", set("abcd"))
    for (_, fitted), (name, measured) in zip(seen[1::2], seen[2::2], strict=True):
        assert name == "measured"
        assert fitted | measured == set("abcd")
        assert not fitted & measured


def test_program_writes_networks_and_card(folder, tmp_path, capsys):
    out = tmp_path / "new"
    arguments = ["landmarks", str(folder), "--out", str(out), "--epochs", "1"]
    assert main([*arguments, "--folds", "2", "--n-jobs", "1"]) == 0
    card = json.loads((out / "card.json").read_text())
    assert {"coarse.onnx", "fine.onnx"} == set(card["bytes"])
    assert "research" in card["terms"]
    assert "2 folds by photo" in card["protocol"]
    assert 0 < card["scores"]["mean_error_inner_51"] < 2
    assert card["command"].endswith("--epochs 1 --folds 2 --seed 0")
    load_cascade(out)
    assert "mean_error_all_68" in capsys.readouterr().out


def test_program_names_wrong_input(tmp_path, capsys):
    assert main(["landmarks", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "found no .pts file" in capsys.readouterr().err
