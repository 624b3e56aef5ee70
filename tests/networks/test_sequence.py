import pickle

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

from ferpipe import Augment, EarlyStopping, SequenceNetwork, Training


def motions(n=60, seed=0, length=None):
    """Features of which one rises or falls over time: only the order tells the class."""
    rng = np.random.default_rng(seed)
    y = np.array(["rises", "falls"] * (n // 2))
    lengths = rng.integers(4, 9, n) if length is None else np.full(n, length)
    X = []
    for label, T in zip(y, lengths, strict=True):
        course = np.linspace(-1, 1, T) * (1 if label == "rises" else -1)
        X.append(
            np.column_stack([course, rng.normal(size=T)])
            + rng.normal(scale=0.1, size=(T, 2))
        )
    return X, y


def faces(n=24, size=24, color=False, seed=0):
    """Sequences of unequal length in which a bar grows above or below the middle."""
    rng = np.random.default_rng(seed)
    y = np.array(["anger", "fear"] * (n // 2))
    X = []
    for label in y:
        T = rng.integers(2, 5)
        frames = rng.normal(90, 20, (T, size, size, 3) if color else (T, size, size))
        rows = slice(4, 8) if label == "anger" else slice(-8, -4)
        for t in range(T):
            frames[t, rows] += 100 * (t + 1) / T
        X.append(frames.clip(0, 255).astype(np.uint8))
    return X, y


def on_motions(**changes):
    settings = {
        "backbone": None,
        "hidden_size": (8, 6),
        "training": Training(max_epochs=25, lr=0.02, batch_size=16),
        "random_state": 0,
    }
    return SequenceNetwork(**{**settings, **changes})


@pytest.mark.parametrize("rnn_type", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_every_cell_and_readout_learns_order(rnn_type, pooling):
    network = on_motions(rnn_type=rnn_type, pooling=pooling).fit(*motions())
    X, y = motions(seed=1)
    assert network.score(X, y) > 0.95
    assert network.transform(X).shape == (60, 12)


@pytest.mark.parametrize(
    "changes",
    [
        {"bidirectional": False, "pooling": "last"},
        {"loss": "squared_hinge", "output_l2": 0.01, "dense": 8, "activation": "elu"},
        {"dense": [8, 4], "dropout": 0.1, "hidden_size": 8},
    ],
)
def test_other_heads_learn_order(changes):
    network = on_motions(**changes).fit(*motions())
    assert network.score(*motions(seed=1)) > 0.95


@pytest.mark.parametrize("color", [False, True])
def test_learns_from_images_with_augmentation(color):
    network = SequenceNetwork(
        hidden_size=8,
        training=Training(max_epochs=8, batch_size=8, lr=0.003),
        augment=Augment(flip=True, shift=0.05, brightness=0.1, mixup=0.2),
        random_state=0,
    )
    X, y = faces(color=color)
    network.fit(X, y)
    X_new, y_new = faces(color=color, seed=1)
    assert network.score(X_new, y_new) > 0.95
    assert network.frame_shape_ == X[0].shape[1:]
    as_float = [x.astype(np.float64) for x in X_new]
    assert np.array_equal(network.predict_proba(as_float), network.predict_proba(X_new))
    scaled = [x / 255 - 1 for x in X_new]
    np.testing.assert_allclose(
        network.predict_proba(scaled), network.predict_proba(X_new), atol=1e-4
    )


@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_one_by_one_equals_batch_whatever_the_lengths(pooling):
    X, y = motions()
    network = on_motions(pooling=pooling, training=Training(max_epochs=2)).fit(X, y)
    for method in (network.predict_proba, network.transform):
        alone = np.concatenate([method([x]) for x in X])
        np.testing.assert_allclose(method(X), alone, atol=1e-6)
        np.testing.assert_allclose(method(X[::-1])[::-1], alone, atol=1e-6)


def test_images_one_by_one_equal_batch():
    X, y = faces(10)
    network = SequenceNetwork(
        hidden_size=4, training=Training(max_epochs=1), random_state=0
    )
    network.fit(X, y)
    alone = np.concatenate([network.predict_proba([x]) for x in X])
    np.testing.assert_allclose(network.predict_proba(X), alone, atol=1e-5)
    still = [np.stack([x[0]]) for x in X]
    assert network.predict_proba(still).shape == (10, 2)


def test_dense_arrays_are_lists_of_sequences():
    X, y = motions(length=4)
    network = on_motions(training=Training(max_epochs=2))
    from_list = network.fit(X, y).predict_proba(X)
    assert np.array_equal(network.fit(np.stack(X), y).predict_proba(np.stack(X)), from_list)


def test_a_streaming_network_reads_frame_by_frame():
    X, y = motions()
    network = on_motions(bidirectional=False, pooling="last").fit(X, y)
    longer = np.concatenate([X[0], X[1]])
    prefix = network.predict_proba([longer[: len(X[0])]])
    np.testing.assert_allclose(prefix, network.predict_proba(X[:1]), atol=1e-6)


def test_features_are_scaled_by_what_fit_saw():
    X, y = motions()
    network = on_motions(training=Training(max_epochs=3))
    probabilities = network.fit(X, y).predict_proba(X)
    frames = np.concatenate(X)
    np.testing.assert_allclose(
        network.weights_["backbone.mean"], frames.mean(axis=0), atol=1e-6
    )
    np.testing.assert_allclose(
        network.weights_["backbone.scale"], frames.std(axis=0), atol=1e-6
    )
    moved = [1000 * x + 50 for x in X]
    np.testing.assert_allclose(
        clone(network).fit(moved, y).predict_proba(moved), probabilities, atol=1e-3
    )
    with_constant = [np.column_stack([x, np.full(len(x), 7.0)]) for x in X]
    assert np.isfinite(
        clone(network).fit(with_constant, y).predict_proba(with_constant)
    ).all()


def test_scale_is_learnt_without_the_validation_samples():
    X, y = motions()
    outlier = [np.full((3, 2), 1e6), np.full((3, 2), 1e6)]
    settings = Training(max_epochs=1, validation=(outlier, ["rises", "falls"]))
    network = on_motions(training=settings).fit(X, y)
    assert network.weights_["backbone.mean"].max() < 1


def test_same_seed_same_network():
    X, y = motions()
    network = on_motions(dropout=0.3, training=Training(max_epochs=3))
    first = network.fit(X, y).predict_proba(X)
    assert np.array_equal(clone(network).fit(X, y).predict_proba(X), first)
    other = clone(network).set_params(random_state=1).fit(X, y).predict_proba(X)
    assert not np.allclose(other, first)


def test_pickled_network_predicts_the_same():
    X, y = motions()
    network = on_motions(training=Training(max_epochs=2), dense=[5]).fit(X, y)
    data = pickle.dumps(network)
    assert b"skorch" not in data
    assert b"torch" not in data
    loaded = pickle.loads(data)
    assert np.array_equal(loaded.predict_proba(X), network.predict_proba(X))
    assert loaded.history_ == network.history_


def test_codes_have_names():
    X, y = motions()
    network = on_motions(training=Training(max_epochs=1)).set_output(transform="pandas")
    table = network.fit(X, y).transform(X)
    assert table.columns[11] == "sequencenetwork11"


def test_grid_search_over_lists_with_groups():
    X, y = motions(40)
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            on_motions(
                training=Training(
                    max_epochs=3, validation=0.3, early_stopping=EarlyStopping(patience=2)
                )
            ),
            {"hidden_size": [[4], (6, 4)], "training__lr": [1e-2]},
            cv=StratifiedGroupKFold(2),
            error_score="raise",
        )
        search.fit(X, y, groups=np.arange(40) // 4)
    assert search.best_params_["hidden_size"] in ([4], (6, 4))


def test_hash_is_stable_and_lists_equal_tuples():
    assert joblib.hash(on_motions()) == joblib.hash(clone(on_motions()))
    X, y = motions(20)
    short = Training(max_epochs=1)
    from_list = on_motions(hidden_size=[8, 6], training=short).fit(X, y).predict_proba(X)
    assert np.array_equal(on_motions(training=short).fit(X, y).predict_proba(X), from_list)


def test_wrong_input_is_explained():
    X, y = motions(20)
    images, labels = faces(4)
    with pytest.raises(ValueError, match="for features set backbone=None"):
        SequenceNetwork(backbone="small_cnn").fit(X, y)
    with pytest.raises(ValueError, match="for images set backbone='small_cnn'"):
        on_motions().fit(images, labels)
    with pytest.raises(ValueError, match="set augment=None"):
        on_motions(augment=Augment(noise=0.1)).fit(X, y)
    with pytest.raises(ValueError, match="hidden_size must hold widths"):
        on_motions(hidden_size=[8, 2.5]).fit(X, y)
    with pytest.raises(ValueError, match="got 1 class: 'rises'"):
        on_motions().fit(X[::2], y[::2])
    with pytest.raises(ValueError, match="'rnn_type' parameter of SequenceNetwork"):
        on_motions(rnn_type="transformer").fit(X, y)
    fitted = on_motions(training=Training(max_epochs=1)).fit(X, y)
    with pytest.raises(
        ValueError, match=r"frames of shape \(3,\), but SequenceNetwork was"
    ):
        fitted.predict([np.ones((4, 3))])
    with pytest.raises(ValueError, match="X is empty"):
        fitted.predict([])
    with pytest.raises(ValueError, match=r"X\[1\] has NaN"):
        fitted.predict([X[0], X[1] * np.nan])


def test_no_recurrent_layers_see_each_frame_by_itself():
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(length, 4)) for length in (3, 5, 4, 2)]
    y = ["anger", "fear"] * 2
    network = SequenceNetwork(
        backbone=None, hidden_size=(), pooling="per_frame", training=Training(max_epochs=2)
    )
    network.fit(X, y)
    alone = [network.predict_proba([x[i : i + 1] for i in range(len(x))]) for x in X]
    expected = [rows.mean(axis=0) for rows in alone]
    np.testing.assert_allclose(network.predict_proba(X), expected, atol=1e-6)
    turned = network.predict_proba([x[::-1].copy() for x in X])
    np.testing.assert_allclose(turned, network.predict_proba(X), atol=1e-6)
    with pytest.raises(ValueError, match="no last state"):
        SequenceNetwork(backbone=None, hidden_size=(), pooling="last").fit(X, y)
