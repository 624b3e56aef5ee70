import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ferpipe import (
    FrameDeltas,
    HOGFeatures,
    ImageNetwork,
    PerFrame,
    PoolFrames,
    SequenceNetwork,
    Training,
)
from ferpipe.networks.streaming import SequenceStream, read_next, why_not_streamed


@pytest.fixture(scope="module")
def data():
    """Sequences of unequal length, with labels of three classes that differ in them."""
    rng = np.random.default_rng(0)
    y = np.array(["anger", "fear", "surprise"] * 6)
    shifts = {"anger": -0.5, "fear": 0.0, "surprise": 0.5}
    X = [
        rng.normal(shifts[label], 1, (rng.integers(2, 7), 4)).cumsum(axis=0) for label in y
    ]
    return X, y


@pytest.fixture(scope="module")
def long():
    return np.random.default_rng(1).normal(size=(60, 4)).cumsum(axis=0)


def network(**changes):
    settings = {
        "backbone": None,
        "hidden_size": (6, 5),
        "bidirectional": False,
        "training": Training(max_epochs=3, lr=0.02),
        "random_state": 0,
    }
    return SequenceNetwork(**{**settings, **changes})


def beginnings(sequence):
    return [sequence[: t + 1] for t in range(len(sequence))]


def answers(stream, frames):
    return np.array([stream.step(frame) for frame in frames])


@pytest.mark.parametrize("rnn_type", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_frame_by_frame_is_batch(data, long, rnn_type, pooling):
    fitted = network(rnn_type=rnn_type, pooling=pooling, dense=4).fit(*data)
    batch = fitted.predict_proba(beginnings(long))
    np.testing.assert_allclose(answers(fitted.stream(), long), batch, rtol=0, atol=1e-6)
    # the past counts: the last frame alone would say something else
    assert np.abs(fitted.predict_proba([long[-1:]]) - batch[-1]).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"training": Training(max_epochs=3, calibrate=True, validation=0.3)},
        {"hidden_size": (), "bidirectional": True, "pooling": "per_frame"},
        {"hidden_size": (), "bidirectional": True, "dense": 5, "activation": "elu"},
    ],
)
def test_other_networks_too(data, long, changes):
    fitted = network(**changes).fit(*data)
    np.testing.assert_allclose(
        answers(fitted.stream(), long), fitted.predict_proba(beginnings(long)), atol=1e-6
    )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_margins_come_as_from_decision_function(data, long, n_classes):
    X, y = data
    y = np.where(y == "surprise", "fear", y) if n_classes == 2 else y
    fitted = network(loss="squared_hinge", pooling="last").fit(X, y)
    batch = fitted.decision_function(beginnings(long))
    found = answers(fitted.stream(), long)
    assert found.shape == batch.shape
    np.testing.assert_allclose(found, batch, rtol=0, atol=1e-5)


def test_one_step_is_the_cell_of_the_books():
    layer = torch.nn.LSTM(3, 2, batch_first=True)
    weights = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    h = c = np.zeros(2)
    states = [None]
    for x in np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32):
        with torch.inference_mode():
            output, states = read_next([layer], torch.from_numpy(x), states)
        gates = weights["weight_ih_l0"] @ x + weights["weight_hh_l0"] @ h
        gates = gates + weights["bias_ih_l0"] + weights["bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
        np.testing.assert_allclose(output, h, atol=1e-6)


@pytest.mark.parametrize("reference", ["first", "previous"])
@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_pipelines_are_read_frame_by_frame(data, long, reference, pooling):
    model = make_pipeline(
        PerFrame(StandardScaler()),
        "passthrough",
        FrameDeltas(reference),
        network(pooling=pooling),
        StandardScaler(),
        LogisticRegression(),
    ).fit(*data)
    np.testing.assert_allclose(
        answers(SequenceStream(model), long),
        model.predict_proba(beginnings(long)),
        rtol=0,
        atol=1e-6,
    )


def test_classifiers_of_codes_without_probabilities(data, long):
    model = make_pipeline(network(), LinearSVC(dual=False)).fit(*data)
    np.testing.assert_allclose(
        answers(SequenceStream(model), long),
        model.decision_function(beginnings(long)),
        atol=1e-5,
    )


def test_images_are_read_by_their_features(data):
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 256, (3, 24, 24), dtype=np.uint8) for _ in data[1]]
    model = make_pipeline(PerFrame(HOGFeatures()), network()).fit(X, data[1])
    found = answers(SequenceStream(model), X[0])
    np.testing.assert_allclose(found, model.predict_proba(beginnings(X[0])), atol=1e-6)


def test_streams_do_not_disturb_each_other(data, long):
    fitted = network().fit(*data)
    alone = answers(fitted.stream(), long[:20])
    first, second = fitted.stream(), fitted.stream()
    found = []
    for here, there in zip(long[:20], long[40:], strict=True):
        found.append(first.step(here))
        second.step(there)
    np.testing.assert_array_equal(found, alone)
    assert (first.n_frames, second.n_frames) == (20, 20)


def test_what_is_kept_does_not_grow(data, long):
    stream = SequenceStream(make_pipeline(FrameDeltas("previous"), network()).fit(*data))
    sizes = []
    for _ in range(2):
        answers(stream, long)
        kept = [*stream._states[0], *stream._states[1], *stream._sums.values()]
        sizes.append([tensor.numel() for tensor in kept])
    assert sizes == [[6, 6, 5, 5, 5]] * 2


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (network(bidirectional=True), "reads backwards from the last frame"),
        (
            SequenceNetwork(backbone="small_cnn", bidirectional=False),
            "mean 0 and deviation 1 as a whole",
        ),
        (ImageNetwork(), "only a SequenceNetwork has a state to keep, got ImageNetwork"),
        (make_pipeline(PoolFrames(), LogisticRegression()), "only a SequenceNetwork"),
        (
            make_pipeline(make_pipeline(FrameDeltas()), network()),
            "Pipeline before the SequenceNetwork may need the whole sequence",
        ),
    ],
)
def test_models_of_whole_sequences_are_told_from_others(model, reason):
    assert reason in why_not_streamed(model)
    assert why_not_streamed(make_pipeline(FrameDeltas(), network())) == ""


def test_a_network_that_reads_backwards_is_refused(data):
    fitted = network(bidirectional=True).fit(*data)
    with pytest.raises(
        ValueError, match=r"cannot be read frame by frame: .* reads backwards"
    ):
        fitted.stream()
    with pytest.raises(NotFittedError):
        network().stream()


def test_wrong_frames_are_refused_and_change_nothing(data, long):
    model = make_pipeline(FrameDeltas(), network()).fit(*data)
    stream = SequenceStream(model)
    wrong = {
        "frames of shape": np.zeros(3),
        "NaN or infinite": np.full(4, np.nan),
        "frames of": np.zeros((2, 4)),
    }
    for message, frame in wrong.items():
        with pytest.raises(ValueError, match=message):
            stream.step(frame)
    np.testing.assert_allclose(
        stream.step(long[0]), model.predict_proba([long[:1]])[0], atol=1e-6
    )
