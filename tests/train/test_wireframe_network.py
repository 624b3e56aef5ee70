import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import mirror_parameters, project
from ferpipe.candide.fit_cascade import load_wireframe_cascade
from ferpipe.faces.landmark_cascade import read_metadata
from ferpipe.faces.landmarks import load_model
from ferpipe.train import wireframe_network as module
from ferpipe.train.landmark_networks import AnnotatedFaces
from ferpipe.train.wireframe_network import (
    FitterRecipe,
    agreement,
    columns_of_units,
    errors_of,
    random_parameters,
    sample_faces,
    scores_of_errors,
    scores_on_synthetic_faces,
    train_and_evaluate_fitter,
)

RECIPE = FitterRecipe(
    n_synthetic=40, batch=(4, 8), n_epochs=1, n_steps=3, channels=(8, 8, 16, 16)
)


@pytest.fixture(scope="module")
def wireframe():
    return load_calibrated()


@pytest.fixture(scope="module")
def faces(wireframe):
    """Return synthetic faces, annotated as photos are, by the mean face in their places."""
    model, prior = wireframe
    images, parameters = sample_faces(model, prior, 12, 128, seed=5)
    pose, sigma, alpha = model.split(parameters)
    shown = project(model.shape(sigma, alpha), pose)
    landmarks = np.repeat(load_model("ferpipe").mean_shape[None] * 42 + 64, 12, axis=0)
    for vertex, points in model.landmarks.items():
        for point in points:
            landmarks[:, point] = shown[:, vertex]
    photos = np.array([f"photo{i}" for i in range(12)])
    return AnnotatedFaces(list(images), landmarks, photos)


@pytest.fixture(scope="module")
def trained(faces, wireframe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitter")
    errors, score = train_and_evaluate_fitter(faces, folder, None, *wireframe, RECIPE)
    assert errors is None
    assert 0.5 < score <= 1
    return folder


def test_random_people_show_what_can_be_shown_together(wireframe):
    model, prior = wireframe
    parameters = random_parameters(model, prior, np.random.default_rng(0), 4000, 100)
    pose, sigma, alpha = model.split(parameters)
    units = columns_of_units(model)
    shown = {unit: (alpha[:, columns] > 0).any(1) for unit, columns in units.items()}
    for first, second in (("AU05", "AU43"), ("AU26", "AU27"), ("AU12", "AU15")):
        assert not (shown[first] & shown[second]).any()
        assert shown[first].mean() > 0.1
    assert shown["AU09"].mean() == pytest.approx(0.22, abs=0.02)
    assert shown["AU29"].mean() == pytest.approx(0.04, abs=0.01)
    assert alpha[shown["AU27"], units["AU27"][0]].min() >= 0.5
    assert alpha.max() <= 1.1
    np.testing.assert_allclose(sigma.mean(0), prior.mean[:14], atol=0.1)
    np.testing.assert_allclose(np.rad2deg(pose[:, :3].std(0)), (11, 20, 8), rtol=0.1)
    assert pose[:, 3].min() > 29


def test_synthetic_faces_follow_from_the_seed(wireframe):
    one, parameters = sample_faces(*wireframe, 3, 64, seed=1)
    other, again = sample_faces(*wireframe, 3, 64, seed=1)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(parameters, again)
    assert (sample_faces(*wireframe, 3, 64, seed=2)[0] != one).any()


def test_crops_show_their_points_where_their_parameters_do(faces, wireframe):
    model, prior = wireframe
    mean_shape = load_model("ferpipe").mean_shape
    crops = module._Crops(
        faces, model, prior, mean_shape, RECIPE, np.random.default_rng(3), verbose=False
    )
    for index in range(20):  # mirrored ones among them
        crop, points, parameters = crops.sample_synthetic(index)
        assert crop.shape == (96, 96)
        pose, sigma, alpha = model.split(parameters)
        shown = project(model.shape(sigma, alpha)[crops.vertices], pose)
        np.testing.assert_allclose(shown, points, atol=1e-8)


def test_a_training_writes_what_the_cascade_loads(trained, faces, wireframe):
    model, prior = wireframe
    cascade = load_wireframe_cascade(trained, load_model("ferpipe"), model)
    errors = errors_of(cascade, faces)
    assert errors.shape == (12, 2)
    assert np.isfinite(errors).all()
    scores = scores_on_synthetic_faces(cascade, prior, n=40)
    assert 0 < scores["found"] <= 1
    assert scores["rotation_mean"] > 0


def test_missing_networks_of_folds_are_named_at_once(faces, wireframe, tmp_path):
    with pytest.raises(ValueError, match="expected the landmark networks of the folds"):
        train_and_evaluate_fitter(faces, tmp_path, tmp_path / "none", *wireframe, RECIPE)


def test_what_was_trained_already_is_kept(trained, faces, wireframe, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    before = (trained / "wireframe.onnx").read_bytes()
    monkeypatch.setattr(module, "train_network", never)
    train_and_evaluate_fitter(faces, trained, None, *wireframe, RECIPE)
    assert (trained / "wireframe.onnx").read_bytes() == before
    assert "training" in read_metadata(trained / "wireframe.onnx")


def test_agreement_is_perfect_with_the_truth_and_only_with_it(wireframe):
    model, prior = wireframe
    truth = random_parameters(model, prior, np.random.default_rng(0), 200, 100)
    scores = agreement(model, truth, truth)
    assert scores["rotation_mean"] < 1e-4
    assert scores["AU12"] == scores["AU43"] == 1
    turned = truth.copy()
    turned[:, 2] += np.deg2rad(5)
    turned[:, 6:] = mirror_parameters(model, turned, 100)[:, 6:]
    scores = agreement(model, truth, turned)
    assert scores["rotation_median"] == pytest.approx(5, abs=1e-3)
    assert scores["AU12"] == 1  # both sides' mean
    turned[:, 20:] *= -1
    assert agreement(model, truth, turned)["AU12"] == -1


def test_errors_are_summed_up():
    errors = np.array([(0.02, 0.9), (0.04, 0.8), (0.06, 0.7), (0.2, 0.1)])
    assert scores_of_errors(errors) == {
        "mean_error": 0.08,
        "median_error": 0.05,
        "share_of_faces_above_0.1": 0.25,
        "share_of_quality_above_0.5": 0.75,
        "mean_error_of_these": 0.04,
        "share_of_these_above_0.1": 0.0,
    }
