import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import similarity
from ferpipe.train import quality_model as module
from ferpipe.train.landmark_networks import AnnotatedFaces
from ferpipe.train.quality_model import train_quality_model
from ferpipe.train.wireframe_network import sample_faces

MODEL, PRIOR = load_calibrated()
MEAN_SHAPE = load_model("ferpipe").mean_shape


@pytest.fixture(scope="module")
def faces():
    """Return synthetic faces with the landmarks that show vertices in their places."""
    images, parameters = sample_faces(MODEL, PRIOR, 60, 96, seed=8, spread=(8, 12, 6))
    pose, sigma, alpha = MODEL.split(parameters)
    shown = project(MODEL.shape(sigma, alpha), pose)
    landmarks = np.zeros((60, 68, 2))
    for vertex, points in MODEL.landmarks.items():
        landmarks[:, list(points)] = shown[:, vertex, None]
    return AnnotatedFaces(list(images), landmarks, np.array([f"p{i}" for i in range(60)]))


def test_a_judge_tells_faces_in_place_from_others(faces):
    quality_model = train_quality_model(
        faces.take(np.arange(40)), MODEL, MEAN_SHAPE, n_crops=4000
    )
    vertices = list(MODEL.landmark_weights[0])
    rng = np.random.default_rng(0)
    good, bad = [], []
    for image, landmarks in zip(faces.images[40:], faces.landmarks[40:], strict=True):
        points = MODEL.landmark_weights[1] @ landmarks
        assert len(points) == len(vertices)
        good.append(quality_model(image, points))
        bad.append(quality_model(image, points + rng.choice([-1, 1], 2) * 16))
    assert np.median(good) > 0.8
    assert np.median(bad) < 0.3


def test_displacements_are_what_is_asked_for():
    placement = similarity(40, 0.1, (0, 0), (50, 50))
    rng = np.random.default_rng(0)
    drawn = [
        module._displaced(placement, MEAN_SHAPE, rng, (0.1, 5, 0.2)) for _ in range(2000)
    ]
    sizes = np.log([np.hypot(one[0, 0], one[1, 0]) for one in drawn])
    angles = [np.arctan2(one[1, 0], one[0, 0]) for one in drawn]
    assert sizes.mean() == pytest.approx(np.log(40), abs=0.02)
    assert sizes.std() == pytest.approx(0.2, rel=0.1)
    assert np.rad2deg(np.std(angles)) == pytest.approx(5, rel=0.1)


def test_errors_are_in_outer_eye_distances(faces, monkeypatch):
    monkeypatch.setattr(module, "_SHARES", (1.0, 0.0, 0.0))
    monkeypatch.setattr(module, "_NEAR", (0.0, 0.0, np.log(1.5)))
    _, errors = module._sample_crops(
        faces, MODEL, MEAN_SHAPE, 200, np.random.default_rng(0)
    )
    # growth about the middle: the points' mean distance from it times the change of size
    middle = (MEAN_SHAPE.min(0) + MEAN_SHAPE.max(0)) / 2
    from_middle = np.linalg.norm(MODEL.landmark_weights[1] @ MEAN_SHAPE - middle, axis=1)
    growth = np.exp(np.random.default_rng(1).normal(0, np.log(1.5), 100000))
    assert errors.mean() == pytest.approx(
        from_middle.mean() * np.abs(growth - 1).mean(), rel=0.25
    )
