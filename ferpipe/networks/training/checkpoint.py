"""Checkpoints: a training that is killed goes on where its last epoch ended."""

import os
import re
import tempfile
import warnings
from contextlib import suppress
from functools import partial
from inspect import signature
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from skorch.callbacks import Callback, LRScheduler

import ferpipe

__all__ = ["Checkpoint", "replace_file", "training_key"]

# settings that change where a training runs or what follows it, not its epochs
_IRRELEVANT = {"blend_with", "calibrate", "checkpoint", "device", "verbose"}
_KEY = re.compile(r"(?P<version>.+)-(?P<data>[0-9a-f]{32})-[0-9a-f]{32}")
# as versions named them that kept nothing but a hash
_OLD_KEY = re.compile("[0-9a-f]{32}")
# what these make is hashed instead
_HASHED = {"validation", "teacher", "folds"}


def training_key(module, dataset, valid, training, augment, loss, generator):
    """Hash all that the result of a training depends on.

    Parameters
    ----------
    module : nn.Module
        Network with its first weights.
    dataset, valid : FrameDataset, or None for ``valid``
        Training and validation samples.
    training : Training
        Settings.
    augment : Augment or None
        Random changes.
    loss : dict
        Arguments of the loss.
    generator : torch.Generator
        Source of the batches' order, in its first state.

    Returns
    -------
    key : str
        The package's version, 32 hexadecimal digits of the data and 32 of all else.
    """
    weights = [value.cpu().numpy() for value in module.state_dict().values()]
    samples = [
        (part.samples(), part.y.numpy()) for part in (dataset, valid) if part is not None
    ]
    settings = _not_default(training, ignored=_IRRELEVANT | _HASHED)
    changes = None if augment is None else _not_default(augment)
    state = generator.get_state().numpy()
    given = [
        None if values is None else values.numpy()
        for values in (dataset.soft_targets, dataset.weights)
    ]
    rest = joblib.hash((str(module), weights, settings, changes, loss, state, given))
    return f"{ferpipe.__version__}-{joblib.hash(samples)}-{rest}"


class Checkpoint(Callback):
    """Save the state of a training after each epoch, and start from it if there is one.

    Weights, optimizer, learning rate, random states, history and the best epoch go into
    one file, which takes the last one's place in one step. It stands after the callbacks
    whose state it saves.

    Parameters
    ----------
    folder : str or path
        Where checkpoints lie; made if it is not there.
    key : str
        Of the training, as :func:`training_key` gives it: the file's name. A training
        with other data or settings has another file.

    Raises
    ------
    ValueError
        When a training begins whose checkpoint is not there while the folder holds some
        of another version of ferpipe, or it cannot be read.

    Warns
    -----
    UserWarning
        When the folder holds an unfinished training of the same data with other settings.
    """

    def __init__(self, folder, key):
        self.folder = folder
        self.key = key

    def on_train_begin(self, net, **kwargs):
        """Take up the state of an earlier run of the same training."""
        self.path_ = Path(self.folder).expanduser() / f"{self.key}.pt"
        if not self.path_.is_file():
            self._look_for_others()
            return
        try:
            state = torch.load(self.path_, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{self.path_}: this checkpoint cannot be read ({error}); remove it to "
                "start the training from its beginning."
            ) from error
        net.module_.load_state_dict(state["module"])
        net.optimizer_.load_state_dict(state["optimizer"])
        net.history.extend({**row, "batches": []} for row in state["history"])
        net.generator.set_state(state["generator"])
        torch.set_rng_state(state["random"])
        if net.device == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"])
        for name, callback in _with_state(net).items():
            _set_state(callback, state["callbacks"][name])

    def _look_for_others(self):
        """Tell of unfinished trainings which this one may have been meant to go on from."""
        version, data = _KEY.fullmatch(self.key).group("version", "data")
        for path in sorted(self.path_.parent.glob("*.pt")):
            known = _KEY.fullmatch(path.stem)
            other = known["version"] if known else "an older version"
            if _OLD_KEY.fullmatch(path.stem) or (known and other != version):
                raise ValueError(
                    f"{path}: this checkpoint is of ferpipe {other}, and this is "
                    f"{version}, which cannot go on from there: remove it to start from "
                    "the beginning, or name another folder in Training(checkpoint=...)."
                )
            if known and known["data"] == data:
                warnings.warn(
                    f"{path}: this is an unfinished training on the same data with other "
                    "settings. This one starts from its beginning; remove the file if it "
                    "is not needed.",
                    stacklevel=2,
                )

    def on_epoch_end(self, net, **kwargs):
        """Write the state, or warn if there is no room for it."""
        state = {
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "history": [
                {name: _plain(value) for name, value in row.items() if name != "batches"}
                for row in net.history
            ],
            "generator": net.generator.get_state(),
            "random": torch.get_rng_state(),
            "callbacks": {
                name: _get_state(callback) for name, callback in _with_state(net).items()
            },
        }
        if net.device == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state()
        try:
            replace_file(self.path_, partial(torch.save, state))
        except (OSError, RuntimeError) as error:
            warnings.warn(
                f"{self.path_}: the checkpoint of epoch {len(net.history)} could not be "
                f"written ({error}). The training goes on; the last one stays.",
                stacklevel=2,
            )

    def remove(self):
        """Remove the file: the training came to its end."""
        self.path_.unlink(missing_ok=True)


def _not_default(settings, ignored=()):
    """Return what was set: a parameter that comes new with a default changes no key."""
    known = signature(type(settings)).parameters
    return {
        name: _not_default(value, ignored) if isinstance(value, BaseEstimator) else value
        for name, value in settings.get_params(deep=False).items()
        if name not in ignored and value != known[name].default
    }


def replace_file(path, write):
    """Write a file whole or not at all, in the place of an older one.

    Parameters
    ----------
    path : Path
        The file; its folder is made if it is not there.
    write : callable
        Takes the open file, binary.

    Raises
    ------
    OSError, RuntimeError
        If there is no room; the older file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def _with_state(net):
    return {
        name: callback
        for name, callback in net.callbacks_
        if isinstance(callback, LRScheduler) or hasattr(callback, "state_names")
    }


def _get_state(callback):
    if isinstance(callback, LRScheduler):
        state = callback.lr_scheduler_.state_dict()
    else:
        state = {name: getattr(callback, name) for name in callback.state_names}
    return {name: _plain(value) for name, value in state.items()}


def _set_state(callback, state):
    if isinstance(callback, LRScheduler):
        callback.lr_scheduler_.load_state_dict(state)
    else:
        for name, value in state.items():
            setattr(callback, name, value)


def _plain(value):
    """Return a number as Python's own: files are read without running code."""
    return value.item() if isinstance(value, np.generic) else value
