import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier

from ferpipe import Distillation, EarlyStopping, ImageNetwork, Training, WeightAveraging
from ferpipe.networks.pretrained import load_network, save_network
from ferpipe.networks.training import loop


def faces():
    X = np.random.default_rng(0).integers(0, 256, (24, 24, 24), dtype=np.uint8)
    return X, np.array(["anger", "fear"] * 12)


def network(**settings):
    settings = {"max_epochs": 5, "batch_size": 8, "schedule": "constant", **settings}
    return ImageNetwork(training=Training(lr=0.01, **settings), random_state=0)


@pytest.fixture
def weights_of_epochs(monkeypatch):
    """The weights at the ends of epochs, in order."""
    seen = []
    whole = loop.RecordEpoch.on_epoch_end

    def spied(self, net, **kwargs):
        whole(self, net, **kwargs)
        state = net.module_.state_dict()
        seen.append({name: value.numpy().copy() for name, value in state.items()})

    monkeypatch.setattr(loop.RecordEpoch, "on_epoch_end", spied)
    return seen


@pytest.mark.parametrize(("share", "first"), [(0, 0), (0.4, 2), (0.5, 2), (0.9, 4)])
def test_weights_are_the_mean_over_the_last_epochs(weights_of_epochs, share, first):
    fitted = network(averaging=WeightAveraging(start=share)).fit(*faces())
    assert len(weights_of_epochs) == 5
    for name, value in fitted.weights_.items():
        if "running" in name or "tracked" in name:
            continue
        mean = np.mean([weights[name] for weights in weights_of_epochs[first:]], axis=0)
        np.testing.assert_allclose(value, mean, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_blended_network_has_half_of_the_weight(tmp_path):
    X, y = faces()
    path = tmp_path / "first.safetensors"
    save_network(network().fit(X, y), path)
    partner = load_network(path).weights_
    alone = network(averaging=WeightAveraging(start=0.4)).fit(X, y).weights_
    blend = WeightAveraging(start=0.4, blend_with=str(path))
    both = network(averaging=blend).fit(X, y).weights_
    for name, value in both.items():
        if "running" in name or "tracked" in name:
            continue
        half = (alone[name] + partner[name]) / 2
        np.testing.assert_allclose(value, half, rtol=1e-5, atol=1e-7, err_msg=name)


def test_networks_that_cannot_be_blended_are_refused(tmp_path):
    X, y = faces()
    path = tmp_path / "first.safetensors"
    save_network(network().set_params(backbone="hog_cnn").fit(X, y), path)
    blended = network(averaging=WeightAveraging(start=0, blend_with=path))
    with pytest.raises(
        ValueError, match=r"network of another kind: backbone.* has the shape"
    ):
        blended.fit(X, y)
    with pytest.raises(
        ValueError, match=r"predicts the classes .*'anger', 'fear'.*; y has"
    ):
        blended.fit(X, np.where(y == "fear", "joy", y))
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        network(averaging=WeightAveraging(blend_with=tmp_path / "none")).fit(X, y)
    with pytest.raises(ValueError, match="its activation is 'relu', here it is 'elu'"):
        blended.set_params(backbone="hog_cnn", activation="elu").fit(X, y)


def test_a_missing_network_is_reported_before_a_teacher_is_fitted(tmp_path):
    class Teacher(DummyClassifier):
        def fit(self, X, y):
            raise AssertionError("fitted")

    lost = network(
        averaging=WeightAveraging(blend_with=tmp_path / "none"),
        distillation=Distillation(Teacher()),
    )
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        lost.fit(*faces())


def test_batch_norms_are_those_of_the_mean():
    X, y = faces()
    fitted = network(averaging=WeightAveraging(start=0.4), batch_size=24).fit(X, y)
    convolution, norm = fitted.net_.module_.backbone.filters[:2]
    images = X.reshape(24, -1).astype(float)
    images = (images - images.mean(1, keepdims=True)) / images.std(1, keepdims=True)
    with torch.no_grad():
        maps = convolution(torch.from_numpy(images).float().reshape(24, 1, 24, 24))
    maps = maps.transpose(0, 1).flatten(1)
    np.testing.assert_allclose(norm.running_mean, maps.mean(dim=1), atol=1e-4)
    np.testing.assert_allclose(norm.running_var, maps.var(dim=1), rtol=1e-3)
    assert norm.momentum == torch.nn.BatchNorm2d(1).momentum


def test_norms_of_frozen_frames_stay(tmp_path):
    X, y = faces()
    path = tmp_path / "first.safetensors"
    save_network(network().fit(X, y), path)
    first = load_network(path)
    second = network(averaging=WeightAveraging(start=0)).set_params(
        weights=str(path), freeze=True
    )
    second.fit(255 - X, y)
    for name, value in second.weights_.items():
        assert np.array_equal(value, first.weights_[name]) == name.startswith("backbone.")


def test_one_epoch_and_the_mean_of_several_are_not_kept_together():
    both = network(
        averaging=WeightAveraging(), early_stopping=EarlyStopping(), validation=0.25
    )
    with pytest.raises(ValueError, match=r"early_stopping=.*averaging=.* set only one"):
        both.fit(*faces())
