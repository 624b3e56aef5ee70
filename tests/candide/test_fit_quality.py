import numpy as np
import pytest
from skimage.data import astronaut, coffee
from sklearn.neural_network import MLPClassifier

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.fit_quality import (
    QUALITY_SIZE,
    FitQualityModel,
    load_quality_model,
    save_quality_model,
    standardized,
)
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmarks import LandmarkPredictor, load_model
from ferpipe.io.images import read_image

PHOTO = read_image(astronaut())


@pytest.fixture(scope="module")
def points():
    return visible_points(load_calibrated()[0], LandmarkPredictor().transform([PHOTO])[0])[
        1
    ]


def test_standardized_crops_are_the_same_in_any_light():
    crops = np.random.default_rng(0).integers(0, 100, (3, 8, 8))
    rows = standardized(crops)
    assert rows.shape == (3, 64)
    np.testing.assert_allclose(rows.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(standardized(crops + 50), rows, atol=1e-5)
    assert np.abs(standardized(2.0 * crops) - rows).max() < 0.5
    np.testing.assert_array_equal(standardized(np.full((1, 4, 4), 9)), 0)


def test_it_computes_what_scikit_learns_network_does():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, QUALITY_SIZE**2)), rng.random(60) < 0.5
    network = MLPClassifier((5,), max_iter=5, random_state=0)
    with pytest.warns(UserWarning, match="converge"):
        network.fit(X, y)
    (weights, last_weights), (offsets, last_offset) = network.coefs_, network.intercepts_
    shape = load_model("ferpipe").mean_shape
    _, mean_points = visible_points(load_calibrated()[0], shape)
    quality_model = FitQualityModel(
        shape, mean_points, weights, offsets, last_weights[:, 0], last_offset[0]
    )
    image = rng.integers(0, 255, (QUALITY_SIZE, QUALITY_SIZE), dtype=np.uint8)
    # placed so that the crop is the image itself
    side = QUALITY_SIZE / 2.35
    middle = (shape.min(0) + shape.max(0)) / 2
    at = (mean_points - middle) * side + (QUALITY_SIZE - 1) / 2
    expected = network.predict_proba(standardized(image[None]))[0, 1]
    assert quality_model(image, at) == pytest.approx(expected, abs=1e-3)


def test_a_face_is_good_and_all_else_is_not(points):
    quality_model = load_quality_model()
    assert quality_model(PHOTO, points) > 0.9
    unit = np.ptp(points[:, 0])
    for wrong in (
        points + np.array([0.5 * unit, 0]),
        points - np.array([0, 0.5 * unit]),
        (points - points.mean(0)) * 1.7 + points.mean(0),
        (points - points.mean(0)) @ [[0, 1], [-1, 0]] + points.mean(0),
    ):
        assert quality_model(PHOTO, wrong) < 0.4
    assert quality_model(read_image(coffee()), points) < 0.5
    assert quality_model(np.full((50, 50), 100, np.uint8), points) < 0.5


def test_saved_and_loaded_it_judges_alike(points, tmp_path):
    save_quality_model(tmp_path / "quality.npz", load_quality_model())
    again = load_quality_model(tmp_path / "quality.npz")
    assert again(PHOTO, points) == load_quality_model()(PHOTO, points)
