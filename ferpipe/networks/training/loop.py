"""What skorch is given: training step, callbacks, schedules.

This module loads torch and skorch; the estimators import it when they are fitted or
used.
"""

import math
import warnings
from dataclasses import replace

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler
from skorch.helper import predefined_split
from torch.optim import lr_scheduler
from tqdm import tqdm

from ferpipe._system.threads import at_most, guard_forks
from ferpipe.networks.modules import TrainingLoss, decide
from ferpipe.networks.training.augment import augment_batch, mix_batch
from ferpipe.networks.training.averaging import AverageWeights
from ferpipe.networks.training.batches import Batches, count_batches
from ferpipe.networks.training.checkpoint import Checkpoint, training_key

__all__ = [
    "apply",
    "cosine",
    "find_device",
    "history",
    "make_net",
    "one_cycle",
    "train",
    "uses_bfloat16",
]

_APPLY_BATCH = 128
_OPTIMIZERS = {
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "nadam": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    "adamax": (torch.optim.Adamax, {}),
}


def one_cycle(progress):
    """Share of the highest learning rate at a point of the training, in [0, 1].

    Rises from 0.04 for a quarter of the training, then falls to 0, both as a cosine: the
    course of torch's OneCycleLR, for any number of steps.
    """
    if progress < 0.25:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * progress / 0.25)) / 2
    return cosine((progress - 0.25) / 0.75)


def cosine(progress):
    """Share of the highest learning rate: falls from 1 to 0 as half a cosine wave."""
    return (1 + math.cos(math.pi * progress)) / 2


_COURSES = {"one_cycle": one_cycle, "cosine": cosine}


class Net(NeuralNet):
    """skorch's net with augmentation, bfloat16 and losses over frames in its steps."""

    def __init__(self, *args, augment=None, generator=None, bfloat16=False, **kwargs):
        self.augment = augment
        self.generator = generator
        self.bfloat16 = bfloat16
        super().__init__(*args, **kwargs)

    def infer(self, x, **fit_params):
        """Scores of a Batch."""
        return self.module_(x.frames.to(self.device), x.lengths)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Loss of the scores of a Batch."""
        rows = self.module_.rows_per_sample(X.lengths)
        soft, weights = (
            None if values is None else values.to(self.device)
            for values in (X.soft_targets, X.weights)
        )
        return self.criterion_(
            y_pred, y_true.to(self.device), rows, self.module_.output, soft, weights
        )

    def train_step_single(self, batch, **fit_params):
        """Forward and backward pass over one batch."""
        with at_most(n_values=batch[0].frames.numel()):
            return self._forward_and_backward(batch)

    def _forward_and_backward(self, batch):
        self.module_.train()
        self.criterion_.train()
        inputs, target = batch
        lengths = inputs.lengths
        frames = inputs.frames.to(self.device)
        mixed = None
        if self.augment is not None:
            frames = augment_batch(frames, self.augment, self.generator, lengths)
            if self.augment.mixup:
                mixup = self.augment.mixup
                frames, *mixed = mix_batch(frames, mixup, self.generator, lengths)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            scores = self.module_(frames, lengths)
        scores = scores.float()
        loss = self.get_loss(scores, target, X=inputs, training=True)
        if mixed is not None:
            partners, share = mixed
            if inputs.soft_targets is not None:
                inputs = replace(inputs, soft_targets=inputs.soft_targets[partners])
            if inputs.weights is not None:
                inputs = replace(inputs, weights=inputs.weights[partners])
            other = self.get_loss(scores, target[partners], X=inputs, training=True)
            loss = share * loss + (1 - share) * other
        loss.backward()
        return {"loss": loss, "y_pred": scores}

    def initialize_optimizer(self, triggered_directly=None):
        """Build the optimizer, if there is one; biases and batch norms do not decay."""
        if self.optimizer is None:
            return self
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim <= 1]
        _, settings = self.get_params_for_optimizer("optimizer", [])
        self.optimizer_ = self.optimizer(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}], **settings
        )
        return self


class _StopTraining(Exception):
    """Raised by a callback to end the training early."""


class _NotFinite(ValueError):
    """Raised when the loss or the weights stop being numbers."""

    def __init__(self, net, what):
        super().__init__(
            f"{what} in epoch {len(net.history)} of the training: lower the learning rate, "
            f"Training(lr={net.lr:g}), or set precision='float32', and look for extreme "
            "values in X."
        )


class RecordEpoch(Callback):
    """Record accuracies and the learning rate; stop when something is not finite."""

    def on_epoch_begin(self, net, **kwargs):
        """Start counting."""
        self.right_ = {True: 0, False: 0}
        self.seen_ = {True: 0, False: 0}
        net.history.record("lr", net.optimizer_.param_groups[0]["lr"])

    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        """Count right answers from the scores of the step itself."""
        if not math.isfinite(loss.item()):
            raise _NotFinite(net, f"The loss became {loss.item()}")
        inputs, target = batch
        rows = net.module_.rows_per_sample(inputs.lengths)
        guess = decide(y_pred.detach(), net.criterion_.kind, rows).argmax(dim=1)
        self.right_[training] += int((guess.cpu() == target).sum())
        self.seen_[training] += len(inputs)

    def on_epoch_end(self, net, **kwargs):
        """Write the shares of right answers, before the weights are saved anywhere."""
        # the loss of the last step was finite, what the step made of the weights may not be
        if not all(value.isfinite().all() for value in net.module_.state_dict().values()):
            raise _NotFinite(net, "The weights became NaN or infinite")
        for training, name in ((True, "train_accuracy"), (False, "valid_accuracy")):
            if self.seen_[training]:
                net.history.record(name, self.right_[training] / self.seen_[training])


# skorch's EarlyStopping stops by KeyboardInterrupt, which the user's Ctrl-C raises too, and
# leaves NaN weights where the epoch after the best one is the one that broke.
class WatchValidation(Callback):
    """Stop when the validation loss stalls, and keep the weights of the best epoch."""

    state_names = ("best_loss_", "best_epoch_", "best_weights_")

    def __init__(self, patience, restore_best_weights):
        self.patience = patience
        self.restore_best_weights = restore_best_weights

    def on_train_begin(self, net, **kwargs):
        """Begin without a best epoch."""
        self.best_loss_ = math.inf
        self.best_epoch_ = 0
        self.best_weights_ = None

    def on_epoch_end(self, net, **kwargs):
        """Compare this epoch with the best one."""
        epoch = len(net.history)
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_loss_:
            self.best_loss_, self.best_epoch_ = loss, epoch
            if self.restore_best_weights:
                state = net.module_.state_dict()
                self.best_weights_ = {name: value.clone() for name, value in state.items()}
        elif self.patience is not None and epoch - self.best_epoch_ >= self.patience:
            raise _StopTraining

    def on_train_end(self, net, **kwargs):
        """Restore the best weights."""
        if self.best_weights_ is not None:
            net.module_.load_state_dict(self.best_weights_)


# skorch's ProgressBar has a bar for the batches of each epoch, not one for the epochs.
class ShowProgress(Callback):
    """A progress bar over epochs with the latest losses and accuracies."""

    def on_train_begin(self, net, **kwargs):
        """Open the bar."""
        self.bar_ = tqdm(
            total=net.max_epochs,
            initial=len(net.history),
            unit="epoch",
            disable=None,
            leave=False,
        )

    def on_epoch_end(self, net, **kwargs):
        """Move on."""
        names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
        latest = net.history[-1]
        self.bar_.set_postfix({name: latest[name] for name in names if name in latest})
        self.bar_.update()

    def on_train_end(self, net, **kwargs):
        """Close the bar."""
        self.bar_.close()


def find_device(name):
    """Name of the torch device for a setting.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        Setting of Training.

    Returns
    -------
    device : {"cpu", "cuda"}

    Raises
    ------
    ValueError
        If "cuda" is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "Training(device='cuda') was asked for, but torch finds no CUDA device here: "
            "set device='auto' or 'cpu', or install a CUDA build of torch."
        )
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def make_net(module, device):
    """Put a module into an initialized skorch net, ready to be applied.

    Parameters
    ----------
    module : nn.Module
        Network with its weights.
    device : {"cpu", "cuda"}
        Where to run it.

    Returns
    -------
    net : Net
    """
    guard_forks()
    net = Net(
        module,
        TrainingLoss,
        criterion__kind="cross_entropy",
        # making one loads torch's compiler, a second's work
        optimizer=None,
        device=device,
        **_QUIET,
    )
    return net.initialize()


_QUIET = {
    "verbose": 0,
    "callbacks__print_log": None,
    "iterator_train": Batches,
    "iterator_valid": Batches,
}


def train(
    module,
    dataset,
    valid,
    training,
    augment,
    *,
    loss,
    device,
    generator,
    blend=None,
    class_weight=None,
):
    """Train a module.

    Parameters
    ----------
    module : nn.Module
        Network with its first weights.
    dataset : FrameDataset
        Training samples.
    valid : FrameDataset or None
        Validation samples.
    training : Training
        Settings.
    augment : Augment or None
        Random changes of the training images.
    loss : dict
        Arguments of TrainingLoss: ``kind`` and ``l2``.
    device : {"cpu", "cuda"}
        Where to train.
    generator : torch.Generator
        Source of the batches' order and of the augmentation, on the CPU.
    blend : dict of str to ndarray, or None, default=None
        Weights to blend the mean of ``training.averaging`` with.
    class_weight : ndarray of shape (n_classes,) or None, default=None
        Factor of the loss of each class's samples.

    Returns
    -------
    net : Net
        The trained skorch net.

    Raises
    ------
    ValueError
        If the loss or the weights stop being finite and no weights of an earlier epoch are
        kept; a checkpoint stays where it is.
    MemoryError
        If torch finds too little memory.
    """
    guard_forks()
    optimizer, settings = _OPTIMIZERS[training.optimizer]
    checkpoint = None
    if training.checkpoint is not None:
        key = training_key(module, dataset, valid, training, augment, loss, generator)
        checkpoint = Checkpoint(training.checkpoint, key)
    if class_weight is not None:
        class_weight = torch.as_tensor(class_weight, dtype=torch.float32)
    averaging = None
    if training.averaging is not None:
        first = 1 + math.floor(training.averaging.start * training.max_epochs)
        averaging = AverageWeights(first, blend)
    distillation = training.distillation
    net = Net(
        module,
        TrainingLoss,
        criterion__label_smoothing=training.label_smoothing,
        criterion__class_weight=class_weight,
        criterion__soft_weight=0.0 if distillation is None else distillation.weight,
        **{f"criterion__{name}": value for name, value in loss.items()},
        optimizer=optimizer,
        optimizer__weight_decay=training.weight_decay,
        **{f"optimizer__{name}": value for name, value in settings.items()},
        lr=training.lr,
        max_epochs=training.max_epochs,
        batch_size=training.batch_size,
        iterator_train__sampling=training.sampling,
        iterator_train__generator=generator,
        train_split=None if valid is None else predefined_split(valid),
        callbacks=_callbacks(training, len(dataset), averaging, checkpoint),
        augment=augment,
        generator=generator,
        bfloat16=uses_bfloat16(training.precision, device),
        device=device,
        **_QUIET,
    )
    net.initialize()
    # Not net.fit: it takes an interrupt from the keyboard for a normal end.
    net.notify("on_train_begin", X=dataset, y=None)
    try:
        net.fit_loop(dataset, epochs=training.max_epochs - len(net.history))
        if averaging is not None:
            averaging.load_mean(net, dataset)
    except _StopTraining:
        pass
    except _NotFinite as error:
        best = _best_epoch(net)
        if best is None:
            raise
        del net.history[-1]
        warnings.warn(
            f"{error} The weights of epoch {best}, the best one, are kept.",
            ConvergenceWarning,
            stacklevel=3,
        )
    except RuntimeError as error:
        if not _lacks_memory(error):
            raise
        raise MemoryError(
            "There is too little memory for this network and batch size: lower "
            f"Training(batch_size={training.batch_size}), or take smaller images. ({error})"
        ) from error
    finally:
        net.notify("on_train_end", X=dataset, y=None)
    if checkpoint is not None:
        checkpoint.remove()
    net.train_split = None
    return net


def apply(module, dataset, method):
    """Run a method of the module over all samples, in float32 and without gradients.

    Parameters
    ----------
    module : nn.Module
        Trained network, in evaluation mode.
    dataset : FrameDataset
        Samples.
    method : callable
        Maps (module, frames, lengths) to a Tensor with one row a sample.

    Returns
    -------
    rows : ndarray of shape (n, k), float32
    """
    device = next(module.parameters()).device
    rows = []
    with torch.inference_mode():
        for batch, _ in Batches(dataset, _APPLY_BATCH):
            with at_most(n_values=batch.frames.numel()):
                result = method(module, batch.frames.to(device), batch.lengths)
            rows.append(result.cpu().numpy())
    return np.concatenate(rows)


def history(net):
    """Epochs of a training as plain dicts of numbers."""
    names = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr")
    epochs = []
    for row in net.history:
        epoch = {name: float(row[name]) for name in names if name in row}
        epochs.append({**epoch, "epoch": int(row["epoch"]), "seconds": float(row["dur"])})
    return epochs


def _callbacks(training, n_samples, averaging, checkpoint):
    callbacks = [RecordEpoch()]
    if training.schedule in _COURSES:
        n_steps = training.max_epochs * count_batches(n_samples, training.batch_size)
        course = _COURSES[training.schedule]
        callbacks.append(
            LRScheduler(
                lr_scheduler.LambdaLR,
                step_every="batch",
                event_name=None,
                lr_lambda=lambda step: course(step / n_steps),
            )
        )
    elif training.schedule == "reduce_on_plateau":
        callbacks.append(
            LRScheduler(
                lr_scheduler.ReduceLROnPlateau,
                monitor="valid_loss",
                event_name=None,
                factor=0.5,
                patience=3,
            )
        )
    if training.early_stopping is not None:
        callbacks.append(WatchValidation(**training.early_stopping.get_params()))
    if averaging is not None:
        callbacks.append(averaging)
    if checkpoint is not None:
        callbacks.append(checkpoint)
    if training.verbose:
        callbacks.append(ShowProgress())
    return callbacks


def _lacks_memory(error):
    """Say whether torch found too little memory: on the CPU it raises no own kind."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


def _best_epoch(net):
    """Return the epoch whose weights are kept, or None."""
    for _, callback in net.callbacks_:
        if isinstance(callback, WatchValidation) and callback.best_weights_ is not None:
            return callback.best_epoch_
    return None


def uses_bfloat16(precision, device):
    """Say whether a setting of Training means bfloat16 on a device."""
    if precision != "auto":
        return precision == "bfloat16"
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return any(
        getattr(torch.cpu, name, bool)()
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
