"""What ImageNetwork and SequenceNetwork share: fit, predict, encode, pickle."""

import os
import threading
from contextlib import contextmanager
from os import PathLike
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    compute_class_weight,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from ferpipe._base import SampleMixin
from ferpipe._compat import fit_context, validate_parameters
from ferpipe.networks.training.augment import Augment
from ferpipe.networks.training.settings import Training, check_training, split_validation

__all__ = ["NetworkMixin"]


def _has_probabilities(network):
    if network.loss != "cross_entropy":
        raise AttributeError(
            f"loss={network.loss!r} gives no probabilities: use decision_function, or wrap "
            "the network in CalibratedClassifierCV."
        )
    return True


def _has_margins(network):
    if network.loss != "squared_hinge":
        raise AttributeError(
            f"loss={network.loss!r} gives probabilities: use predict_proba; "
            "decision_function belongs to loss='squared_hinge'."
        )
    return True


class NetworkMixin(ClassNamePrefixFeaturesOutMixin, SampleMixin, ClassifierMixin):
    """Fit, predict, encode and pickle a network.

    A subclass implements ``_check_frames``, ``_check_settings``, ``_n_channels`` and
    ``_make_module``, and may extend ``backbone_``, ``_views`` and ``_learn_scale``. The
    skorch net is ``net_``; pickles hold its weights as numpy arrays, from which it is built
    again when it is first used.
    """

    # parameters that every subclass has
    backbone: str | None
    activation: str
    loss: str
    output_l2: float
    weights: str | PathLike[str] | None
    freeze: bool
    training: Training | None
    augment: Augment | None
    random_state: Any

    __metadata_request__fit = {"groups": True}

    def set_params(self, **params: Any) -> Self:
        """Set parameters; ``training__lr`` and the like also where ``training`` is None.

        Parameters
        ----------
        **params : dict
            Parameters. ``training__…`` and ``augment__…`` reach into ``Training()`` and
            ``Augment()`` where these are None.

        Returns
        -------
        self : object
        """
        for name, settings in (("training", Training), ("augment", Augment)):
            is_unset = params.get(name, getattr(self, name)) is None
            if is_unset and any(key.startswith(f"{name}__") for key in params):
                params[name] = settings()
        return super().set_params(**params)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, groups=None, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : images or sequences
            As the class says.
        y : array-like of shape (n,)
            Class labels; at least 2 classes.
        groups : array-like of shape (n,) or None, default=None
            Subject of each sample: a validation share is held out by subject.
        sample_weight : array-like of shape (n,), float or None, default=None
            Factors of the samples' losses, relative to their mean; 2 has the effect of a
            sample that stands twice in a batch. A validation share is weighted too; a
            teacher that is fitted (:class:`Distillation`) is not.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If the data or the settings do not fit, or the loss stops being finite.
        MemoryError
            If there is too little memory for the network and its batches.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If the loss stops being finite and ``EarlyStopping(restore_best_weights=True)``
            has the weights of an earlier epoch: they are kept.
        """
        import torch

        from ferpipe.networks.modules import initialize
        from ferpipe.networks.training import loop
        from ferpipe.networks.training_images import images_seen
        from ferpipe.networks.weights import read_blend

        training = Training() if self.training is None else self.training
        check_training(training, loss=self.loss)
        if self.augment is not None:
            validate_parameters(self.augment)
        X = self._check_frames(X, reset=True)
        self._check_settings()
        self.classes_, target = _encode_labels(self, X, y)
        check_consistent_length(X, groups)
        sample_weight = _relative_weights(sample_weight, len(target))

        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        dataset, valid, groups = self._training_and_validation(
            X, target, groups, sample_weight, training, seed
        )
        class_weight = None
        if training.class_weight is not None:
            class_weight = compute_class_weight(
                training.class_weight,
                classes=self.classes_,
                y=self.classes_[dataset.y.numpy()],
                sample_weight=None if dataset.weights is None else dataset.weights.numpy(),
            )
        device = loop.find_device(training.device)
        with _drawing(device, seed) as draws:
            module = initialize(self._make_module())
        if self.weights is not None:
            self._start_from_weights(module)
        blend = None
        if training.averaging is not None and training.averaging.blend_with is not None:
            blend = read_blend(
                training.averaging.blend_with, module, self.classes_, self.activation
            )
        # after every check: fitting teachers takes minutes or hours
        kept = []
        if training.distillation is not None:
            kept = self._set_soft_targets(dataset, groups, training, seed)
        self._learn_scale(module, dataset)
        vars(self).pop("_folded", None)
        with _drawing(device, seed, draws):
            self._net = loop.train(
                module,
                dataset,
                valid,
                training,
                self.augment,
                loss={"kind": self.loss, "l2": self.output_l2},
                device=device,
                generator=torch.Generator().manual_seed(seed),
                blend=blend,
                class_weight=class_weight,
            )
        for path in kept:
            path.unlink(missing_ok=True)
        self.history_ = loop.history(self._net)
        self.n_iter_ = len(self.history_)
        self.weights_ = {
            name: value.cpu().numpy().copy() for name, value in module.state_dict().items()
        }
        self.training_images_ = images_seen(self, X)
        self.temperature_ = self._find_temperature(valid) if training.calibrate else 1.0
        self.n_parameters_ = sum(p.numel() for p in module.parameters() if p.requires_grad)
        return self

    def predict(self, X):
        """Most likely class of each sample.

        Parameters
        ----------
        X : images or sequences
            As in fit.

        Returns
        -------
        labels : ndarray of shape (n,)
        """
        best = self._decide(X).argmax(axis=1)
        return self.classes_[best]

    @available_if(_has_probabilities)
    def predict_proba(self, X):
        """Probability of each class; there is none with ``loss="squared_hinge"``.

        Parameters
        ----------
        X : images or sequences
            As in fit.

        Returns
        -------
        probabilities : ndarray of shape (n, n_classes), float32
            Columns in the order of ``classes_``.
        """
        return self._decide(X)

    @available_if(_has_margins)
    def decision_function(self, X):
        """Scores of the classes, only with ``loss="squared_hinge"``.

        Parameters
        ----------
        X : images or sequences
            As in fit.

        Returns
        -------
        scores : ndarray of shape (n, n_classes) or (n,), float32
            One against the rest; with two classes, how far the second is above the
            first.
        """
        scores = self._decide(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def transform(self, X):
        """Embeddings: what the output layer sees, as a mean over the views of an image.

        Parameters
        ----------
        X : images or sequences
            As in fit.

        Returns
        -------
        embeddings : ndarray of shape (n, n_embeddings), float32
        """
        return self._apply(
            X, lambda module, *batch: self._of_views(module.embeddings, *batch).mean(0)
        )

    @property
    def backbone_(self):
        """Name of the convolutional network, or None if frames are features."""
        return self.backbone

    @property
    def net_(self):
        """The skorch net around the trained torch module."""
        check_is_fitted(self, "weights_")
        if "_net" not in vars(self):
            self._net = self._rebuild_net()
        return self._net

    @property
    def inference_module_(self):
        """The torch module as it is applied, in evaluation mode: see fold_batch_norms."""
        from ferpipe.networks.folding import fold_batch_norms

        if "_folded" not in vars(self):
            self._folded = fold_batch_norms(self.net_.module_)
        return self._folded

    def __getstate__(self):
        state = dict(super().__getstate__())
        for rebuilt in ("_net", "_folded"):
            state.pop(rebuilt, None)
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = False
        return tags

    @property
    def _n_features_out(self):
        return self.weights_["output.weight"].shape[1]

    def _decide(self, X):
        import torch

        from ferpipe.networks.modules import decide

        def method(module, frames, lengths):
            rows = module.rows_per_sample(lengths)
            scores = self._of_views(module, frames, lengths) / self.temperature_
            return torch.stack([decide(one, self.loss, rows) for one in scores]).mean(0)

        return self._apply(X, method)

    def _check_frames(self, X, reset):
        """Check the data, and learn the shape of a frame or compare it with that of fit."""
        raise NotImplementedError

    def _check_settings(self):
        """Refuse parameters that do not suit each other or the shape of a frame."""
        raise NotImplementedError

    def _n_channels(self):
        """Return 1 for gray frames and 3 for RGB."""
        raise NotImplementedError

    def _make_module(self):
        """Build the torch module for the shape of a frame and ``classes_``."""
        raise NotImplementedError

    def _views(self, frames):
        """Return the views of the frames that are averaged for a prediction, a list."""
        return [frames]

    def _of_views(self, function, frames, lengths):
        """Return what a function makes of each view, (n_views, n_rows, k)."""
        import torch

        views = self._views(frames)
        # only images, which have no lengths, have several views
        return function(torch.cat(views), lengths).unflatten(0, (len(views), -1))

    def _find_temperature(self, valid):
        import torch

        from ferpipe.networks.training import loop
        from ferpipe.networks.training.calibration import fit_temperature

        def method(module, frames, lengths):
            return self._of_views(module, frames, lengths).transpose(0, 1)

        module = self.inference_module_
        scores = torch.from_numpy(loop.apply(module, valid, method)).transpose(0, 1)
        lengths = torch.tensor([len(x) for x in valid.X]) if valid.sequences else None
        return fit_temperature(scores, valid.y, module.rows_per_sample(lengths))

    def _apply(self, X, method):
        check_is_fitted(self, "weights_")
        from ferpipe.networks.training import loop
        from ferpipe.networks.training.batches import FrameDataset

        # they may have been set since fit
        validate_parameters(self)
        if self.training is not None:
            validate_parameters(self.training)
        X = self._check_frames(X, reset=False)
        return loop.apply(self.inference_module_, FrameDataset(X), method)

    def _rebuild_net(self):
        import torch

        from ferpipe.networks.training import loop

        training = Training() if self.training is None else self.training
        device = loop.find_device(training.device)
        # no weight is drawn: another thread may be at its training
        with torch.device("meta"):
            module = self._make_module()
        module.to_empty(device="cpu")
        module.load_state_dict({name: torch.tensor(w) for name, w in self.weights_.items()})
        return loop.make_net(module, device)

    def _training_and_validation(self, X, target, groups, sample_weight, training, seed):
        from ferpipe.networks.training.batches import FrameDataset

        if training.validation is None:
            return FrameDataset(X, target, weights=sample_weight), None, groups
        if isinstance(training.validation, tuple | list):
            X_valid, y_valid = training.validation
            X_valid = self._check_frames(X_valid, reset=False)
            y_valid = column_or_1d(y_valid)
            check_consistent_length(X_valid, y_valid)
            unknown = np.setdiff1d(y_valid, self.classes_)
            if len(unknown):
                raise ValueError(
                    f"Training(validation=(X, y)) has the class {str(unknown[0])!r}, which "
                    f"y in fit has not: {[str(c) for c in self.classes_]}."
                )
            known = np.searchsorted(self.classes_, y_valid)
            train = FrameDataset(X, target, weights=sample_weight)
            return train, FrameDataset(X_valid, known), groups
        inside, outside = split_validation(target, groups, training.validation, seed)
        train, valid = (
            FrameDataset(X, target, part, sample_weight) for part in (inside, outside)
        )
        return train, valid, None if groups is None else np.asarray(groups)[inside]

    def _start_from_weights(self, module):
        from ferpipe.networks.weights import load_backbone

        load_backbone(
            module.backbone,
            self.weights,
            backbone=self.backbone_,
            activation=self.activation,
            n_channels=self._n_channels(),
        )
        if self.freeze:
            module.freeze_frames()

    def _check_weights(self):
        if self.freeze and self.weights is None:
            raise ValueError(
                "freeze=True keeps the frame network as it is, but weights is None: there "
                "is nothing to keep; set weights='fer2013' or a file."
            )

    def _set_soft_targets(self, dataset, groups, training, seed):
        """Set a teacher's probabilities in a dataset; return files to remove later."""
        import torch

        from ferpipe.networks.training.distillation import (
            at_best_temperature,
            cross_fit,
            is_trained,
            predict_trained,
        )

        teacher = training.distillation.teacher
        kept = []
        if is_trained(teacher):
            soft = predict_trained(teacher, dataset, self.classes_, type(self))
        else:
            soft, kept = cross_fit(
                teacher,
                dataset,
                self.classes_,
                groups=groups,
                n_folds=training.distillation.folds,
                seed=seed,
                folder=training.checkpoint,
            )
            soft = at_best_temperature(soft, dataset.y.numpy())
        dataset.soft_targets = torch.from_numpy(soft)
        return kept

    def _learn_scale(self, module, dataset):
        """Learn the scale of features; images are standardized each by itself."""


NETWORK_CONSTRAINTS: dict = {
    "weights": [str, PathLike, None],
    "freeze": ["boolean"],
    "training": [Training, None],
    "augment": [Augment, None],
    "random_state": ["random_state"],
}


def widths(value):
    """Widths of layers as a tuple of int, from None, an int or a list."""
    if value is None:
        return ()
    return (value,) if np.isscalar(value) else tuple(value)


def check_widths(name, value):
    """Refuse widths of layers that are not positive integers."""
    for width in widths(value):
        if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
            raise ValueError(
                f"{name} must hold widths of layers, integers from 1 on, got {value!r}."
            )


def check_large_enough(shape, augment):
    """Refuse images, or windows of them, that three poolings would leave nothing of."""
    if min(shape[:2]) < 8:
        raise ValueError(
            f"Networks need images of at least 8 pixels a side, got {shape[:2]}: resize "
            "them."
        )
    if augment is not None and round(augment.window * min(shape[:2])) < 8:
        raise ValueError(
            f"Augment(window={augment.window}) of images of {shape[:2]} pixels has less "
            "than the 8 pixels a side that networks need: set a larger window."
        )


def _relative_weights(sample_weight, n_samples):
    """Return weights with the mean 1, in float32, or None."""
    if sample_weight is None:
        return None
    if np.ndim(sample_weight) == 0:
        sample_weight = np.full(n_samples, sample_weight)
    weights = check_array(
        sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
    )
    if weights.shape != (n_samples,):
        raise ValueError(
            "Sample weights must be 1D array or scalar: sample_weight has the shape "
            f"{weights.shape}, expected ({n_samples},)."
        )
    if weights.min() < 0 or weights.max() == 0:
        raise ValueError(
            "sample_weight must hold values of at least 0, and one above 0; the lowest is "
            f"{weights.min():g}, the highest {weights.max():g}."
        )
    return (weights / weights.mean()).astype(np.float32)


def _encode_labels(network, X, y):
    if y is None:
        raise ValueError(
            f"{type(network).__name__} requires y to be passed, but the target y is None."
        )
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    check_consistent_length(X, y)
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"{type(network).__name__} needs samples of at least 2 classes; got 1 class: "
            f"{str(classes[0])!r}."
        )
    return classes, target


# torch has one generator for all threads. By process: a lock that was held when a process
# was forked is never released in it.
_LOCKS: dict[int, Any] = {}


@contextmanager
def _drawing(device, seed, draws=None):
    """Let one thread at a time draw from torch's generator; put it back as it was.

    First weights and dropout draw from it. ``draws`` is where an earlier block stopped, a
    list that this one yields and fills when it ends.
    """
    import torch

    devices = [torch.cuda.current_device()] if device == "cuda" else []
    stopped = []
    lock = _LOCKS.setdefault(os.getpid(), threading.RLock())
    with lock, torch.random.fork_rng(devices=devices):
        if draws is None:
            torch.default_generator.manual_seed(seed)
            if devices:
                torch.cuda.manual_seed(seed)
        else:
            torch.set_rng_state(draws[0])
            if devices:
                torch.cuda.set_rng_state(draws[1])
        yield stopped
        stopped.append(torch.get_rng_state())
        if devices:
            stopped.append(torch.cuda.get_rng_state())
