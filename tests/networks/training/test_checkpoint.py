import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from ferpipe import (
    Augment,
    EarlyStopping,
    ImageNetwork,
    SequenceNetwork,
    Training,
    WeightAveraging,
    datasets,
)
from ferpipe.networks.training import checkpoint as module_of_checkpoint

SETTINGS = {
    "max_epochs": 4,
    "batch_size": 8,
    "validation": 0.25,
    "early_stopping": EarlyStopping(patience=None),
    "optimizer": "momentum",
    "lr": 0.01,
}


@pytest.fixture(scope="module")
def faces():
    X = np.random.default_rng(0).integers(0, 256, (32, 24, 24), dtype=np.uint8)
    return X, np.array(["anger", "fear"] * 16)


def network(folder, **settings):
    return ImageNetwork(
        training=Training(checkpoint=folder, **{**SETTINGS, **settings}),
        augment=Augment(flip=True, noise=0.1, mixup=0.2),
        random_state=0,
    )


def same_weights(one, other):
    return all(np.array_equal(one.weights_[k], other.weights_[k]) for k in one.weights_)


class Killed(Exception):
    pass


def kill_in_epoch(monkeypatch, number):
    """Break the training in the middle of an epoch."""
    from ferpipe.networks.training.loop import RecordEpoch

    whole = RecordEpoch.on_batch_end

    def broken(self, net, **kwargs):
        whole(self, net, **kwargs)
        if len(net.history) == number and self.seen_[True] > 10:
            raise Killed

    monkeypatch.setattr(RecordEpoch, "on_batch_end", broken)


@pytest.mark.parametrize("schedule", ["one_cycle", "reduce_on_plateau", "constant"])
@pytest.mark.parametrize("epoch", [2, 4])
def test_broken_training_ends_as_the_unbroken_one(
    faces, tmp_path, monkeypatch, schedule, epoch
):
    whole = network(None, schedule=schedule).fit(*faces)
    broken = network(tmp_path, schedule=schedule)
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, epoch)
        with pytest.raises(Killed):
            broken.fit(*faces)
    assert len(list(tmp_path.iterdir())) == 1
    broken.fit(*faces)
    assert same_weights(whole, broken)
    names = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "lr")
    for row, other in zip(whole.history_, broken.history_, strict=True):
        assert [row[name] for name in names] == [other[name] for name in names]
    assert list(tmp_path.iterdir()) == []


def test_broken_training_of_sequences_goes_on(tmp_path, monkeypatch):
    data = datasets.make_expression_sequences(12, 2, 24, random_state=0)
    settings = {**SETTINGS, "validation": None, "early_stopping": None}
    settings["batch_size"] = 4

    def fresh(folder):
        training = Training(checkpoint=folder, **settings)
        return SequenceNetwork(hidden_size=8, training=training, random_state=0)

    whole = fresh(None).fit(data.data, data.target)
    broken = fresh(tmp_path)
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, 3)
        with pytest.raises(Killed):
            broken.fit(data.data, data.target)
    assert same_weights(whole, broken.fit(data.data, data.target))


def test_broken_training_goes_on_averaging(faces, tmp_path, monkeypatch):
    settings = {"averaging": WeightAveraging(start=0.25), "early_stopping": None}
    settings["schedule"] = "constant"
    whole = network(None, **settings).fit(*faces)
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, 4)
        with pytest.raises(Killed):
            network(tmp_path, **settings).fit(*faces)
    assert same_weights(whole, network(tmp_path, **settings).fit(*faces))
    assert list(tmp_path.iterdir()) == []


def test_other_data_or_settings_do_not_take_up_a_training(faces, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, 3)
        with pytest.raises(Killed):
            network(tmp_path).fit(*faces)
    X, y = faces
    changed = network(tmp_path).fit(255 - X, y)
    assert same_weights(changed, network(None).fit(255 - X, y))
    with pytest.warns(UserWarning, match="unfinished training on the same data"):
        slower = network(tmp_path, lr=0.005).fit(*faces)
    assert same_weights(slower, network(None, lr=0.005).fit(*faces))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["a" * 32, f"0.0.1-{'a' * 32}-{'b' * 32}"])
def test_a_checkpoint_of_another_version_is_not_passed_over(faces, tmp_path, name):
    (tmp_path / "notes.pt").touch()  # somebody's own
    network(tmp_path).fit(*faces)
    (tmp_path / f"{name}.pt").touch()
    with pytest.raises(ValueError, match=r"ferpipe (0\.0\.1|an older).*remove it"):
        network(tmp_path).fit(*faces)
    assert (tmp_path / f"{name}.pt").exists()


def test_training_killed_from_outside_goes_on(faces, tmp_path):
    """kill -9, as nothing in the process can catch it."""
    script = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        from ferpipe import Augment, EarlyStopping, ImageNetwork, Training
        from ferpipe.networks.training import loop

        whole = loop.RecordEpoch.on_batch_end

        def broken(self, net, **kwargs):
            whole(self, net, **kwargs)
            if len(net.history) == 3 and self.seen_[True] > 10:
                os.kill(os.getpid(), signal.SIGKILL)

        loop.RecordEpoch.on_batch_end = broken
        X = np.random.default_rng(0).integers(0, 256, (32, 24, 24), dtype=np.uint8)
        y = np.array(["anger", "fear"] * 16)
        import torch
        torch.set_num_threads(int(sys.argv[2]))
        settings = {settings}
        ImageNetwork(
            training=Training(checkpoint=sys.argv[1], **settings),
            augment=Augment(flip=True, noise=0.1, mixup=0.2),
            random_state=0,
        ).fit(X, y)
        """
    ).replace("{settings}", repr(SETTINGS))
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(torch.get_num_threads())],
        check=False,
        env={**os.environ},
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert same_weights(network(None).fit(*faces), network(tmp_path).fit(*faces))


def test_no_room_for_a_checkpoint_keeps_the_last_one(faces, tmp_path, monkeypatch):
    save = torch.save
    written = []

    def full(state, file):
        if written:
            file.write(b"part")
            raise OSError(28, "No space left on device")
        written.append(len(state["history"]))
        save(state, file)

    monkeypatch.setattr(module_of_checkpoint.torch, "save", full)
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, 4)
        with (
            pytest.warns(UserWarning, match=r"could not be written .*No space left"),
            pytest.raises(Killed),
        ):
            network(tmp_path).fit(*faces)
    (file,) = tmp_path.iterdir()
    assert len(torch.load(file, weights_only=True)["history"]) == 1
    monkeypatch.setattr(module_of_checkpoint.torch, "save", save)
    assert same_weights(network(tmp_path).fit(*faces), network(None).fit(*faces))


def test_broken_file_is_named(faces, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_in_epoch(patch, 3)
        with pytest.raises(Killed):
            network(tmp_path).fit(*faces)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cannot be read .* remove it"):
        network(tmp_path).fit(*faces)
