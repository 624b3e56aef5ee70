import numpy as np
import pytest
from sklearn.base import clone

from ferpipe import Augment, EarlyStopping, ImageNetwork, SequenceNetwork, Training

RNG = np.random.default_rng(0)
FACES = RNG.integers(0, 256, (12, 16, 16), dtype=np.uint8)
CLIPS = [face[None].repeat(2, axis=0) for face in FACES]
TRACKS = [RNG.normal(size=(n, 3)) for n in RNG.integers(1, 5, 12)]
Y = np.array(["anger", "fear", "fear"] * 4)
WEIGHTS = np.array([1, 2, 0, 3] * 3)


def reader(**training):
    """A network whose gradient is that of the whole data, one step an epoch."""
    settings = {"optimizer": "sgd", "lr": 0.2, "max_epochs": 4, "batch_size": 100}
    settings["precision"] = "float32"
    return SequenceNetwork(
        hidden_size=4, training=Training(**settings, **training), random_state=0
    )


@pytest.mark.parametrize("class_weight", [None, "balanced", {"fear": 3.0}])
@pytest.mark.parametrize("pooling", ["mean", "per_frame"])
def test_weights_are_worth_repeated_samples(class_weight, pooling):
    places = np.repeat(np.arange(12), WEIGHTS)
    network = reader(class_weight=class_weight).set_params(pooling=pooling)
    repeated = clone(network).fit([TRACKS[place] for place in places], Y[places])
    weighted = clone(network).fit(TRACKS, Y, sample_weight=WEIGHTS * 7)
    plain = clone(network).fit(TRACKS, Y)
    for name, value in repeated.weights_.items():
        np.testing.assert_allclose(weighted.weights_[name], value, atol=1e-5, err_msg=name)
    assert np.abs(plain.predict_proba(TRACKS) - weighted.predict_proba(TRACKS)).max() > 1e-3


def test_equal_weights_change_nothing():
    plain = reader().fit(TRACKS, Y)
    for weights in (3.0, np.full(12, 0.5)):
        weighted = reader().fit(TRACKS, Y, sample_weight=weights)
        for name, value in plain.weights_.items():
            np.testing.assert_allclose(weighted.weights_[name], value, atol=1e-6)


def test_a_dict_weights_the_classes_that_it_names():
    balanced = reader(class_weight="balanced").fit(TRACKS, Y)
    named = reader(class_weight={"anger": 12 / (2 * 4), "fear": 12 / (2 * 8)})
    for name, value in named.fit(TRACKS, Y).weights_.items():
        np.testing.assert_allclose(value, balanced.weights_[name], atol=1e-6)
    with pytest.raises(ValueError, match=r"'anger', 'fear'.*not in class_weight"):
        reader(class_weight={"fera": 2.0}).fit(TRACKS, Y)


def test_images_can_be_weighted():
    settings = Training(max_epochs=30, lr=0.01, schedule="constant")
    faces = np.concatenate([FACES, FACES])
    labels = np.repeat(["anger", "fear"], 12)
    for favored, weights in (("anger", [9, 1]), ("fear", [1, 9])):
        network = ImageNetwork(training=settings, random_state=0)
        network.fit(faces, labels, sample_weight=np.repeat(weights, 12))
        assert (network.predict(FACES) == favored).mean() > 0.9


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((12, 1)), "must be 1D"),
        (np.ones(11), r"expected \(12,\)"),
        (np.full(12, -1.0), "the lowest is -1"),
        (np.zeros(12), "one above 0"),
        (np.full(12, np.nan), "sample_weight contains NaN"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        reader().fit(TRACKS, Y, sample_weight=weights)


def test_epochs_are_counted():
    assert reader().fit(TRACKS, Y).n_iter_ == 4
    stopping = EarlyStopping(patience=1)
    valid = (TRACKS, np.roll(Y, 1))
    stopped = reader(validation=valid, early_stopping=stopping)
    stopped.set_params(training__max_epochs=40, training__lr=2.0).fit(TRACKS, Y)
    assert stopped.n_iter_ == len(stopped.history_) < 40


@pytest.mark.parametrize(
    ("X", "backbone"), [(TRACKS, None), (CLIPS, "small_cnn")], ids=["tracks", "clips"]
)
def test_the_backbone_follows_from_the_frames(X, backbone):
    settings = {"hidden_size": 4, "training": Training(max_epochs=1), "random_state": 0}
    found = SequenceNetwork(**settings).fit(X, Y)
    named = SequenceNetwork(backbone=backbone, **settings).fit(X, Y)
    assert found.backbone == "auto"
    assert found.backbone_ == named.backbone_ == backbone
    np.testing.assert_array_equal(found.predict_proba(X), named.predict_proba(X))


@pytest.mark.parametrize("kind", [ImageNetwork, SequenceNetwork])
def test_parameters_behind_none_can_be_set(kind):
    one, other = kind(), kind()
    one.set_params(training__lr=0.01, augment__flip=True)
    assert one.training.lr == 0.01
    assert one.augment.get_params() == Augment(flip=True).get_params()
    assert other.training is None
    assert other.augment is None
    assert repr(kind()) == f"{kind.__name__}()"
    copy = clone(one).set_params(training__lr=0.5)
    assert (one.training.lr, copy.training.lr) == (0.01, 0.5)
    given = Training(batch_size=8)
    assert kind().set_params(training=given, training__lr=0.3).training is given
    assert given.lr == 0.3
    assert kind(training=given).set_params(training=None).training is None
    with pytest.raises(ValueError, match="Invalid parameter 'lrr' for estimator Training"):
        kind().set_params(training__lrr=1)
