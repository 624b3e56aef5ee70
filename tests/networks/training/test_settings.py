import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from ferpipe import Distillation, EarlyStopping, SequenceNetwork, Training, WeightAveraging
from ferpipe.networks.training.loop import Net, RecordEpoch, cosine, find_device, one_cycle
from ferpipe.networks.training.settings import check_training, split_validation


def features(n=60, n_classes=2, seed=0, noise=0.5):
    """Sequences of two features whose mean tells the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = [
        rng.normal(scale=noise, size=(length, 2)) + np.array([label, -label])
        for label, length in zip(y, rng.integers(1, 5, n), strict=True)
    ]
    return X, np.array(["anger", "fear", "sadness"])[y]


def network(**training):
    settings = {"max_epochs": 5, "lr": 0.02, "schedule": "constant", **training}
    return SequenceNetwork(
        backbone=None, hidden_size=4, training=Training(**settings), random_state=0
    )


def column(fitted, name):
    return [epoch[name] for epoch in fitted.history_]


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lbfgs"},
        {"lr": 0},
        {"batch_size": 1},
        {"schedule": "steps"},
        {"validation": 0.7},
        {"device": "tpu"},
        {"label_smoothing": 1.0},
    ],
)
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=f"'{next(iter(wrong))}' parameter of Training"):
        network(**wrong).fit(*features())


@pytest.mark.parametrize(
    "wrong", [{"early_stopping": EarlyStopping()}, {"schedule": "reduce_on_plateau"}]
)
def test_watching_validation_without_validation_says_what_to_set(wrong):
    with pytest.raises(ValueError, match=r"validation is None: set validation=0.1"):
        network(**wrong).fit(*features())


def test_combinations_that_make_no_sense():
    with pytest.raises(ValueError, match="set only one of them"):
        check_training(Training(class_weight="balanced", sampling="balanced"))
    with pytest.raises(ValueError, match="set label_smoothing=0"):
        check_training(Training(label_smoothing=0.1), loss="squared_hinge")
    with pytest.raises(ValueError, match=r"a pair \(X, y\), got 3 items"):
        check_training(Training(validation=(1, 2, 3)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"early_stopping": EarlyStopping(patience=0)}, "'patience' .* of EarlyStopping"),
        ({"averaging": WeightAveraging(start=1)}, "'start' parameter of WeightAveraging"),
        ({"distillation": Distillation("a", weight=2)}, "'weight' .* of Distillation"),
        ({"distillation": Distillation(None)}, "'teacher' parameter of Distillation"),
        ({"early_stopping": 3}, "'early_stopping' parameter of Training"),
        (
            {"early_stopping": EarlyStopping(patience=None, restore_best_weights=False)},
            "does nothing: set patience",
        ),
    ],
)
def test_wrong_groups_of_settings_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        network(validation=0.25, **wrong).fit(*features())


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "nadam", "adamax"])
def test_every_optimizer_lowers_the_loss(name):
    lr = 0.3 if name in ("sgd", "momentum") else 0.02
    losses = column(
        network(optimizer=name, lr=lr, max_epochs=8).fit(*features()), "train_loss"
    )
    assert losses[-1] < 0.8 * losses[0]


def test_weight_decay_spares_biases():
    X, y = features()
    fitted = network(weight_decay=0.5).fit(X, y)
    groups = fitted.net_.optimizer_.param_groups
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]
    assert {p.ndim for p in groups[1]["params"]} == {1}
    strong = network(weight_decay=20.0, max_epochs=20).fit(X, y)
    size = np.linalg.norm(fitted.weights_["output.weight"])
    assert np.linalg.norm(strong.weights_["output.weight"]) < 0.3 * size


def test_plateau_halves_the_learning_rate():
    X, y = features()
    valid = (X, np.roll(y, 1))  # What is learnt makes the validation loss rise.
    lrs = column(
        network(schedule="reduce_on_plateau", validation=valid, max_epochs=7).fit(X, y),
        "lr",
    )
    assert lrs[:5] == [0.02] * 5
    assert lrs[-1] == pytest.approx(0.01)


def test_patience_stops_and_the_best_weights_are_restored():
    X, y = features()
    valid = (X, np.roll(y, 1))
    fitted = network(
        validation=valid, early_stopping=EarlyStopping(patience=3), max_epochs=50
    ).fit(X, y)
    losses = column(fitted, "valid_loss")
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 50
    probabilities = fitted.predict_proba(valid[0])
    truth = np.searchsorted(fitted.classes_, valid[1])
    loss = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    assert loss == pytest.approx(losses[best], rel=1e-4)

    last = clone(fitted)
    last.set_params(training__early_stopping__restore_best_weights=False).fit(X, y)
    assert column(last, "valid_loss") == losses
    probabilities = last.predict_proba(valid[0])
    loss = -np.log(probabilities[np.arange(len(truth)), truth]).mean()
    assert loss == pytest.approx(losses[-1], rel=1e-4)


def test_history_counts_the_samples_of_the_step_itself():
    X, y = features(30)
    fitted = network(validation=(X[:10], y[:10]), lr=1e-12, optimizer="sgd", max_epochs=2)
    fitted.fit(X, y)
    for epoch, row in enumerate(fitted.history_, start=1):
        assert row["epoch"] == epoch
        assert row["train_accuracy"] == pytest.approx(fitted.score(X, y))
        assert row["valid_accuracy"] == pytest.approx(fitted.score(X[:10], y[:10]))
        assert all(type(value) in (int, float) for value in row.values())
    json.dumps(fitted.history_)


def test_a_subject_is_never_on_both_sides():
    rng = np.random.default_rng(0)
    for seed in range(20):
        groups = rng.integers(0, 15, 90)
        y = np.repeat([0, 1, 2], [60, 25, 5])
        try:
            train, valid = split_validation(y, groups, 0.2, seed)
        except ValueError as error:
            assert "every sample of class" in str(error)  # noqa: PT017
            continue
        assert not set(groups[train]) & set(groups[valid])
        assert sorted([*train, *valid]) == list(range(90))
        assert 0.08 < len(valid) / 90 < 0.35


def test_shares_without_groups_are_stratified():
    y = np.repeat([0, 1], [80, 20])
    train, valid = split_validation(y, None, 0.1, 0)
    assert np.bincount(y[valid]).tolist() == [8, 2]
    assert not set(train) & set(valid)


def test_a_validation_share_is_held_out_by_subject_in_fit(monkeypatch):
    from ferpipe.networks.training import loop

    seen = {}

    def record(module, dataset, valid, *args, **kwargs):
        seen["train"], seen["valid"] = dataset, valid
        raise InterruptedError

    monkeypatch.setattr(loop, "train", record)
    groups = np.repeat(np.arange(12), 5)
    X = [np.full((2, 1), subject) for subject in groups]
    with pytest.raises(InterruptedError):
        network(validation=0.25).fit(X, np.arange(60) % 2, groups=groups)
    subjects = [{float(x[0, 0]) for x in seen[part].X} for part in ("train", "valid")]
    assert not subjects[0] & subjects[1]
    assert subjects[0] | subjects[1] == set(range(12))
    assert len(subjects[1]) == 3


def test_validation_that_would_lose_a_class():
    y = np.array([0] * 10 + [1] * 10)
    groups = np.array([0] * 10 + [1] * 10)
    with pytest.raises(ValueError, match="would hold out every sample of class"):
        split_validation(y, groups, 0.5, 0)
    with pytest.raises(ValueError, match="needs at least 2 subjects, got 1"):
        split_validation(y, np.zeros(20), 0.5, 0)


def test_fixed_validation_set_is_checked():
    X, y = features()
    with pytest.raises(ValueError, match="'joy', which y in fit has not"):
        network(validation=(X[:2], ["anger", "joy"])).fit(X, y)
    with pytest.raises(ValueError, match="fitted on frames of shape"):
        network(validation=([np.ones((2, 5))], ["anger"])).fit(X, y)


@pytest.mark.parametrize(
    "setting", [{"class_weight": "balanced"}, {"sampling": "balanced"}]
)
def test_rare_classes_are_not_forgotten(setting):
    rng = np.random.default_rng(0)
    y = np.repeat(["common", "rare"], [190, 10])
    X = [rng.normal(size=(2, 1)) + (label == "rare") for label in y]

    def recall(**changes):
        fitted = network(max_epochs=8, **changes).fit(X, y)
        return (fitted.predict(X[190:]) == "rare").mean()

    assert recall() < 0.5 < recall(**setting)


def test_label_smoothing_holds_probabilities_back():
    X, y = features(noise=0.05)
    sharp, smooth = (
        network(max_epochs=30, label_smoothing=share).fit(X, y).predict_proba(X).max(axis=1)
        for share in (0.0, 0.4)
    )
    assert sharp.mean() > 0.97
    assert smooth.mean() == pytest.approx(0.8, abs=0.05)


def test_loss_that_is_not_finite_names_the_epoch_and_the_cure():
    X, y = features()
    with pytest.raises(
        ValueError, match=r"(loss|weights) became .* in epoch \d+ .*lower the lear"
    ):
        network(lr=1e30, optimizer="sgd", max_epochs=20).fit([x * 10 for x in X], y)


def blow_up(monkeypatch, number):
    """Make the steps of an epoch so large that the network is lost."""
    whole = RecordEpoch.on_epoch_begin

    def broken(self, net, **kwargs):
        whole(self, net, **kwargs)
        if len(net.history) == number:
            for group in net.optimizer_.param_groups:
                group["lr"] = 1e38

    monkeypatch.setattr(RecordEpoch, "on_epoch_begin", broken)


def test_a_loss_that_is_not_finite_leaves_the_best_weights(monkeypatch):
    settings = {"validation": 0.25, "optimizer": "sgd"}
    settings["early_stopping"] = EarlyStopping(patience=None)
    X, y = features()
    whole = network(**settings, max_epochs=2).fit(X, y)
    blow_up(monkeypatch, 3)
    with pytest.warns(
        ConvergenceWarning, match=r"in epoch 3 .*lower the learning.*epoch [12], the best"
    ):
        stopped = network(**settings, max_epochs=5).fit(X, y)
    assert len(stopped.history_) == 2
    for name, value in whole.weights_.items():
        np.testing.assert_array_equal(stopped.weights_[name], value)


def test_a_loss_that_is_not_finite_leaves_the_checkpoint_before(monkeypatch, tmp_path):
    blow_up(monkeypatch, 3)
    with pytest.raises(ValueError, match="in epoch 3 of the training"):
        network(optimizer="sgd", checkpoint=tmp_path).fit(*features())
    (file,) = tmp_path.glob("*.pt")
    state = torch.load(file, weights_only=True)
    assert len(state["history"]) == 2
    assert all(value.isfinite().all() for value in state["module"].values())


def test_too_little_memory_says_what_to_lower(monkeypatch):
    def lack(*args, **kwargs):
        torch.empty(2**55)  # more than any machine has

    monkeypatch.setattr(Net, "train_step_single", lack)
    with pytest.raises(MemoryError, match=r"lower Training\(batch_size=32\)"):
        network().fit(*features())


def test_an_interrupt_is_not_swallowed(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(RecordEpoch, "on_epoch_end", interrupt)
    unfitted = network()
    with pytest.raises(KeyboardInterrupt):
        unfitted.fit(*features())
    assert not hasattr(unfitted, "weights_")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_absent():
    with pytest.raises(ValueError, match="set device='auto' or 'cpu'"):
        network(device="cuda").fit(*features())
    assert find_device("auto") == "cpu"


def test_bfloat16_is_for_training_only():
    X, y = features()
    fitted = network(precision="bfloat16", max_epochs=15).fit(X, y)
    assert fitted.score(X, y) > 0.8
    assert {w.dtype for w in fitted.weights_.values()} == {np.dtype(np.float32)}
    assert fitted.predict_proba(X).dtype == np.float32


def test_progress_bar_only_when_asked_for(capsys, monkeypatch):
    from ferpipe.networks.training import loop

    monkeypatch.setattr(
        loop, "tqdm", lambda disable, **kwargs: tqdm(disable=False, **kwargs)
    )
    network().fit(*features())
    assert capsys.readouterr().err == ""
    network(verbose=True).fit(*features())
    shown = capsys.readouterr().err
    assert "epoch" in shown
    assert "train_accuracy" in shown


def test_importing_training_loads_no_torch():
    code = (
        "import sys; from ferpipe import Training, Augment, ImageNetwork, SequenceNetwork;"
        "SequenceNetwork(training=Training(), augment=Augment());"
        "print([m for m in ('torch', 'skorch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_courses_of_the_learning_rate():
    assert [one_cycle(p) for p in (0.0, 0.25, 0.625, 1.0)] == pytest.approx(
        [0.04, 1, 0.5, 0]
    )
    assert [cosine(p) for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    X, y = features(40)
    lrs = column(
        network(schedule="one_cycle", lr=0.5, max_epochs=8, batch_size=10).fit(X, y), "lr"
    )
    assert lrs == pytest.approx([0.5 * one_cycle(epoch / 8) for epoch in range(8)])
    one_step = network(schedule="one_cycle", max_epochs=1, batch_size=100).fit(X, y)
    assert len(one_step.history_) == 1
