import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone

from ferpipe import ImageNetwork, SequenceNetwork, Training, datasets
from ferpipe.networks.training.calibration import fit_temperature


def draw(temperature, n=20_000, seed=0):
    """Scores, and classes drawn with the probabilities at a temperature."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=4, size=(n, 5))
    noise = rng.gumbel(size=scores.shape)
    return torch.from_numpy(scores), torch.from_numpy(
        (scores / temperature + noise).argmax(1)
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_recovers_the_temperature_that_classes_were_drawn_with(temperature):
    scores, target = draw(temperature)
    assert fit_temperature(scores[None], target) == pytest.approx(temperature, rel=0.03)


def test_lowers_the_loss_as_much_as_a_fine_search():
    scores, target = draw(1.7, n=300)
    found = fit_temperature(scores[None], target)

    def loss(temperature):
        rows = log_softmax(scores.numpy() / temperature, axis=1)
        return -rows[np.arange(len(rows)), target.numpy()].mean()

    assert loss(found) <= min(loss(t) for t in np.linspace(0.3, 5, 2000)) + 1e-9


def test_rows_of_a_sequence_are_averaged():
    scores, target = draw(2.0)
    rows = torch.full((len(target),), 3)
    repeated = scores.repeat_interleave(3, dim=0)
    assert fit_temperature(repeated[None], target, rows) == pytest.approx(2.0, rel=0.03)


def calibrated(kind, **settings):
    training = Training(max_epochs=3, validation=0.3, calibrate=True)
    return kind(training=training, random_state=0, **settings)


@pytest.mark.parametrize("tta", [None, "flip"])
def test_network_divides_by_what_its_validation_samples_tell(tta):
    X = np.random.default_rng(0).integers(0, 256, (60, 24, 24), dtype=np.uint8)
    y = np.array(["anger", "fear", "sadness"] * 20)
    network = calibrated(ImageNetwork, tta=tta).fit(X, y)
    assert network.temperature_ != 1.0
    plain = clone(network).set_params(training__calibrate=False).fit(X, y)
    assert plain.temperature_ == 1.0
    if tta is None:
        warm = np.exp(
            log_softmax(np.log(plain.predict_proba(X)) / network.temperature_, axis=1)
        )
        np.testing.assert_allclose(network.predict_proba(X), warm, atol=1e-5)
    # with nothing to learn from noise, honest probabilities are nearly equal
    assert network.predict_proba(X).std() < plain.predict_proba(X).std()


def test_sequences_too():
    data = datasets.make_expression_sequences(24, 2, 24, random_state=0)
    network = calibrated(SequenceNetwork, hidden_size=8, pooling="per_frame")
    network.fit(data.data, data.target)
    assert np.isfinite(network.temperature_)
    np.testing.assert_allclose(network.predict_proba(data.data).sum(1), 1, atol=1e-5)


def test_settings_that_do_not_go_together():
    X = np.zeros((4, 24, 24), np.uint8)
    with pytest.raises(ValueError, match=r"calibrate=True.*validation=0.1"):
        ImageNetwork(training=Training(calibrate=True)).fit(X, [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"calibrate=True.*cross_entropy"):
        ImageNetwork(
            loss="squared_hinge", training=Training(calibrate=True, validation=0.5)
        ).fit(X, [0, 1, 0, 1])
