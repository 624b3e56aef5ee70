import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.base import clone

from ferpipe import ImageNetwork, SequenceNetwork, Training
from ferpipe.networks.pretrained import load_network, save_network
from ferpipe.networks.weights import OWN


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


def test_new_network_starts_from_saved_frames(file, faces):
    X, y = faces
    settings = {"backbone": "residual", "weights": file, "random_state": 1}
    still = Training(max_epochs=1, lr=1e-12, weight_decay=0.0)
    started = ImageNetwork(training=still, **settings).fit(X, y)
    saved = load_network(file)
    for name, value in started.weights_.items():
        if name.startswith("backbone.") and "running" not in name and "num_" not in name:
            np.testing.assert_allclose(value, saved.weights_[name], atol=1e-6)
    fresh = ImageNetwork(training=still, **{**settings, "weights": None}).fit(X, y)
    np.testing.assert_allclose(
        started.weights_["output.weight"], fresh.weights_["output.weight"], atol=1e-6
    )


@pytest.mark.parametrize("kind", [ImageNetwork, SequenceNetwork])
def test_frozen_frames_stay_as_they_were(kind, file, faces):
    X, y = faces
    if kind is SequenceNetwork:
        X, y = [X[i : i + 2] for i in range(0, 24, 2)], y[:12]
    network = kind(
        backbone="residual",
        weights=file,
        freeze=True,
        training=Training(max_epochs=2, lr=0.05),
        random_state=0,
    ).fit(X, y)
    saved = load_network(file)
    for name, value in network.weights_.items():
        if name.startswith("backbone."):
            np.testing.assert_array_equal(value, saved.weights_[name])
    thawed = clone(network).set_params(freeze=False).fit(X, y)
    assert any(
        not np.array_equal(thawed.weights_[name], saved.weights_[name])
        for name in saved.weights_
        if name.startswith("backbone.")
    )
    assert network.n_parameters_ < thawed.n_parameters_
    torch.testing.assert_close(
        torch.from_numpy(network.predict_proba(X)).sum(1), torch.ones(len(X))
    )


def test_frozen_needs_weights(faces):
    with pytest.raises(ValueError, match=r"freeze=True .* weights is None"):
        ImageNetwork(freeze=True).fit(*faces)


def test_weights_of_something_else_are_refused(file, faces, tmp_path):
    X, y = faces
    with pytest.raises(
        ValueError, match=r"backbone='residual' .* has backbone='small_cnn'"
    ):
        ImageNetwork(weights=file).fit(X, y)
    with pytest.raises(ValueError, match=r"gray images; this network .* RGB"):
        ImageNetwork(backbone="residual", weights=file).fit(np.stack([X] * 3, axis=-1), y)
    with pytest.raises(ValueError, match=r"activation='relu'.*activation='elu'"):
        ImageNetwork(backbone="residual", activation="elu", weights=file).fit(X, y)
    with pytest.raises(FileNotFoundError, match=r"no network of that name"):
        ImageNetwork(backbone="residual", weights="fer2031").fit(X, y)
    features = [np.zeros((2, 5))] * 4
    with pytest.raises(ValueError, match=r"frames are features: set weights=None"):
        SequenceNetwork(backbone=None, weights=file).fit(features, ["a", "b"] * 2)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:5000])
    foreign = tmp_path / "foreign.safetensors"
    save_file({"x": np.zeros(3)}, foreign)
    for broken in (cut, foreign):
        with pytest.raises(ValueError, match=r"no weights of an ImageNetwork, or .* cut"):
            load_network(broken)
        with pytest.raises(ValueError, match=r"no weights of an ImageNetwork, or .* cut"):
            ImageNetwork(backbone="residual", weights=broken).fit(X, y)


USES = """
import warnings
warnings.simplefilter("error")
import numpy as np
from ferpipe import CNNFeatures, ImageNetwork, Training, pretrained
pretrained()
pretrained("fer2013_small")
pretrained("fer2013_small")
crops = np.random.default_rng(0).integers(0, 256, (8, 48, 48), dtype=np.uint8)
CNNFeatures(weights="fer2013").fit(crops)
CNNFeatures(weights="fer2013_small").fit(crops)
pretrained("fer2013")
"""


@pytest.mark.parametrize("silenced", [False, True])
def test_terms_are_shown_once_in_a_process(silenced):
    quiet = 'import logging; logging.getLogger("ferpipe.terms").setLevel("ERROR")'
    done = subprocess.run(
        [sys.executable, "-c", (quiet if silenced else "") + USES],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stderr.splitlines()
    assert [line.split(":")[0] for line in lines] == (
        [] if silenced else ["fer2013_small", "fer2013"]
    )
    assert all("research only" in line for line in lines)
    assert done.stdout == ""


def test_every_trained_file_has_its_terms():
    """The licence of the package, its text and the cards say the same."""
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert project["project"]["license"] == "MIT AND LicenseRef-Research-Only"
    assert "ferpipe/pretrained/TERMS.md" in project["project"]["license-files"]
    assert "pretrained/TERMS.md" in project["tool"]["setuptools"]["package-data"]["ferpipe"]
    text = (OWN / "TERMS.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` .* \| ([^|]+) \|$", text, re.MULTILINE)
    folders = sorted(card.parent.name for card in OWN.glob("*/card.json"))
    assert sorted(name for name, _ in rows) == folders
    for name, terms in rows:
        card = json.loads((OWN / name / "card.json").read_text("utf-8"))
        assert ("research only" in card["terms"]) == (terms == "research only")
