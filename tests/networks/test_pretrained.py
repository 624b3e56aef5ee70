from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

from ferpipe import ImageNetwork, Training
from ferpipe.experiments.spec import compile_spec, read_mapping
from ferpipe.networks.pretrained import load_network, pretrained, save_network


@pytest.fixture(scope="module")
def faces():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24), dtype=np.uint8)
    return X, np.array(["anger", "fear", "sadness"] * 8)


@pytest.fixture(scope="module")
def fitted(faces):
    training = Training(max_epochs=2, validation=0.25, calibrate=True)
    network = ImageNetwork(
        backbone="residual", dense=16, tta="flip", training=training, random_state=0
    )
    return network.fit(*faces)


@pytest.fixture(scope="module")
def file(fitted, tmp_path_factory):
    return save_network(fitted, tmp_path_factory.mktemp("weights") / "n.safetensors")


def test_saved_network_answers_as_the_one_that_was_fitted(fitted, file, faces):
    again = load_network(file)
    X, _ = faces
    np.testing.assert_allclose(again.predict_proba(X), fitted.predict_proba(X), atol=5e-3)
    np.testing.assert_array_equal(again.classes_, fitted.classes_)
    assert again.temperature_ == fitted.temperature_
    assert again.n_parameters_ == fitted.n_parameters_
    assert again.image_shape_ == (24, 24)
    n_values = sum(value.size for value in fitted.weights_.values())
    assert file.stat().st_size < 2 * n_values + 20_000


def test_weights_too_large_for_half_precision(fitted, tmp_path):
    large = clone(fitted)
    vars(large).update(vars(fitted))
    name = "output.weight"
    large.weights_ = {**fitted.weights_, name: fitted.weights_[name] + 1e5}
    with pytest.raises(ValueError, match=r"output\.weight has weights beyond 65504"):
        save_network(large, tmp_path / "large.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "file"), [("fer2013", "cnn"), ("fer2013_small", "small")])
def test_the_recipe_of_a_card_is_the_experiment_that_made_it(name, file):
    path = Path(__file__).parents[2] / "pipelines" / f"fer2013_{file}.yaml"
    expected = compile_spec(read_mapping(path)).resolved["pipeline"]
    recipe = pretrained(name).card_["recipe"]
    assert (
        compile_spec({"data": {"ck48": {}}, "pipeline": recipe}).resolved["pipeline"]
        == expected
    )
