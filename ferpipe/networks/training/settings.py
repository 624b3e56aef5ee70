"""How a network is trained: the parameter objects that the estimators take."""

import warnings
from numbers import Integral, Real
from os import PathLike

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from ferpipe._compat import HasMethods, Interval, StrOptions, validate_parameters

__all__ = [
    "Distillation",
    "EarlyStopping",
    "Training",
    "WeightAveraging",
    "check_training",
    "split_validation",
]


class EarlyStopping(BaseEstimator):
    """Watch the validation loss: stop when it stalls and restore the best weights.

    Parameters
    ----------
    patience : int or None, default=5
        Stop when the validation loss has not improved for this many epochs; None trains
        for all of them.
    restore_best_weights : bool, default=True
        Keep the weights of the epoch with the lowest validation loss instead of the last
        ones.

    Examples
    --------
    >>> from ferpipe import EarlyStopping, Training
    >>> Training(validation=0.1, early_stopping=EarlyStopping(patience=3))
    Training(early_stopping=EarlyStopping(patience=3), validation=0.1)
    """

    _parameter_constraints: dict = {
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "restore_best_weights": ["boolean"],
    }

    def __init__(self, *, patience=5, restore_best_weights=True):
        self.patience = patience
        self.restore_best_weights = restore_best_weights


class WeightAveraging(BaseEstimator):
    """Keep the mean of the weights of the last epochs (stochastic weight averaging) [1]_.

    The statistics of batch norms are computed anew from the training samples without
    augmentation. Made for a constant learning rate, ``Training(schedule="constant")``.

    Parameters
    ----------
    start : float, default=0.5
        Share of ``max_epochs`` after which the mean begins, in [0, 1).
    blend_with : str, path or None, default=None
        A trained network, a file of :func:`ferpipe.networks.pretrained.save_network` or the
        name of one that ships. Its weights and the mean are averaged, half each [2]_. Name
        the network that the training started from with ``weights=``: networks with another
        start have their filters in another order, and a mean with them is of no use.

    References
    ----------
    .. [1] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson, "Averaging
       Weights Leads to Wider Optima and Better Generalization", UAI 2018.
    .. [2] M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022.

    Examples
    --------
    >>> from ferpipe import Training, WeightAveraging
    >>> Training(schedule="constant", averaging=WeightAveraging(start=0.75))
    Training(averaging=WeightAveraging(start=0.75), schedule='constant')
    """

    _parameter_constraints: dict = {
        "start": [Interval(Real, 0, 1, closed="left")],
        "blend_with": [str, PathLike, None],
    }

    def __init__(self, *, start=0.5, blend_with=None):
        self.start = start
        self.blend_with = blend_with


class Distillation(BaseEstimator):
    """Train towards the probabilities of a teacher, beside the labels [1]_.

    Only for the cross-entropy. The teacher predicts each sample once, without
    augmentation, before the training.

    Parameters
    ----------
    teacher : str, path, list of them, or estimator
        A trained network for images with the same classes: the name of one that ships or
        a file of :func:`ferpipe.networks.pretrained.save_network`; of several in a list the
        mean of the probabilities counts. Or a classifier with ``predict_proba``, such as
        another network: copies of it are fitted on parts of the training samples and
        predict the others, so that no probability comes from a label that the teacher was
        fitted on [2]_. These probabilities are scaled by the temperature under which the
        labels are most likely.
    weight : float, default=0.5
        Weight of the teacher's probabilities in the target, in [0, 1]; the label has the
        rest.
    folds : int, default=3
        Number of parts for a teacher that is fitted; by subject when fit gets ``groups``.

    References
    ----------
    .. [1] G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network",
       2015, section 2, at temperature 1.
    .. [2] T. Dao, G. M. Kamath, V. Syrgkanis, L. Mackey, "Knowledge Distillation as
       Semiparametric Inference", ICLR 2021, section 4 (cross-fitting).

    Examples
    --------
    >>> from ferpipe import Distillation, Training
    >>> Training(distillation=Distillation("fer2013", weight=0.6))
    Training(distillation=Distillation(teacher='fer2013', weight=0.6))
    """

    _parameter_constraints: dict = {
        "teacher": [str, PathLike, list, tuple, HasMethods(["fit", "predict_proba"])],
        "weight": [Interval(Real, 0, 1, closed="both")],
        "folds": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(self, teacher, *, weight=0.5, folds=3):
        self.teacher = teacher
        self.weight = weight
        self.folds = folds


class Training(BaseEstimator):
    """Settings of the training of a network.

    The object only holds the settings; they are checked when a network is fitted. In a
    grid search they are reached as ``training__lr`` and so on.

    Parameters
    ----------
    optimizer : {"sgd", "momentum", "adam", "adamw", "nadam", "adamax"}, default="nadam"
        "momentum" is stochastic gradient descent with Nesterov momentum 0.9.
    lr : float, default=0.002
        Learning rate; the highest one under ``schedule="one_cycle"``.
    weight_decay : float, default=0.0001
        Decay of weight matrices and filters; biases and batch norms are left alone.
        It is decoupled from the gradient with "adamw" and "nadam" and an L2 term of the
        loss with the others.
    max_epochs : int, default=40
        Passes over the training data.
    batch_size : int, default=32
        Samples a step, at least 2. An epoch is cut in nearly equal batches of at most
        this size, so that no batch of a single sample is left at its end.
    schedule : {"constant", "one_cycle", "cosine", "reduce_on_plateau"}, \
default="one_cycle"
        Course of the learning rate. "one_cycle" rises for the first quarter of the steps
        and then falls to nearly 0, "cosine" falls from the start, "reduce_on_plateau"
        halves it when the validation loss did not improve for 3 epochs.
    label_smoothing : float, default=0.0
        Share of the target given to all classes alike, in [0, 1); only for the
        cross-entropy.
    class_weight : dict, "balanced" or None, default=None
        Factor of the loss of each class's samples, by label; classes that the dict leaves
        out have 1. "balanced" is ``n / (n_classes * count)``.
    sampling : {"shuffle", "balanced"}, default="shuffle"
        "balanced" shows every class equally often in each epoch, which keeps its length:
        rare classes are repeated, frequent ones are shown in part.
    validation : None, float or (X, y), default=None
        Samples held out to watch the training: a share in (0, 0.5], or a fixed set. A
        share is held out by subject when fit gets ``groups`` (no subject is on both
        sides), and stratified by class otherwise.
    early_stopping : EarlyStopping or None, default=None
        Stop when the validation loss stalls, and restore the best weights.
    averaging : WeightAveraging or None, default=None
        Keep the mean of the weights of the last epochs.
    calibrate : bool, default=False
        Divide the scores by the temperature [1]_ under which the validation samples are
        most likely: probabilities then tell how often the answer is right. Only for the
        cross-entropy.
    distillation : Distillation or None, default=None
        Train towards the probabilities of a teacher, beside the labels.
    checkpoint : str, path or None, default=None
        Folder in which the state of the training is saved after each epoch. A training
        that was killed goes on there when it is run again with the same data and
        settings, and ends with the weights of an unbroken one; the file is removed then.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" takes a CUDA device if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the frame network in training; inference is always float32. "auto"
        takes bfloat16 on CUDA devices and on processors that have instructions for it.
    verbose : bool, default=False
        Show a progress bar over epochs.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, section 4.2.

    Examples
    --------
    >>> from ferpipe import Training
    >>> Training(optimizer="adam", lr=1e-3).get_params()["lr"]
    0.001
    """

    _parameter_constraints: dict = {
        "optimizer": [StrOptions({"sgd", "momentum", "adam", "adamw", "nadam", "adamax"})],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "schedule": [StrOptions({"constant", "one_cycle", "cosine", "reduce_on_plateau"})],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "sampling": [StrOptions({"shuffle", "balanced"})],
        "validation": [Interval(Real, 0, 0.5, closed="right"), tuple, list, None],
        "early_stopping": [EarlyStopping, None],
        "averaging": [WeightAveraging, None],
        "calibrate": ["boolean"],
        "distillation": [Distillation, None],
        "checkpoint": [str, PathLike, None],
        "device": [StrOptions({"auto", "cpu", "cuda"})],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        *,
        optimizer="nadam",
        lr=0.002,
        weight_decay=0.0001,
        max_epochs=40,
        batch_size=32,
        schedule="one_cycle",
        label_smoothing=0.0,
        class_weight=None,
        sampling="shuffle",
        validation=None,
        early_stopping=None,
        averaging=None,
        calibrate=False,
        distillation=None,
        checkpoint=None,
        device="auto",
        precision="auto",
        verbose=False,
    ):
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.sampling = sampling
        self.validation = validation
        self.early_stopping = early_stopping
        self.averaging = averaging
        self.calibrate = calibrate
        self.distillation = distillation
        self.checkpoint = checkpoint
        self.device = device
        self.precision = precision
        self.verbose = verbose


def check_training(training, *, loss="cross_entropy"):
    """Check each setting of a Training, and those that must go together.

    Parameters
    ----------
    training : Training
        The settings.
    loss : {"cross_entropy", "squared_hinge"}, default="cross_entropy"
        Loss that the network is trained with.

    Raises
    ------
    ValueError
        If a value is not allowed or a combination makes no sense.
    """
    for settings in (
        training,
        training.early_stopping,
        training.averaging,
        training.distillation,
    ):
        if settings is not None:
            validate_parameters(settings)
    stopping = training.early_stopping
    if training.validation is None:
        for name, needs_it in (
            ("early_stopping", stopping is not None),
            ("calibrate", training.calibrate),
            ("schedule", training.schedule == "reduce_on_plateau"),
        ):
            if needs_it:
                raise ValueError(
                    f"Training({name}={getattr(training, name)!r}) needs validation "
                    "samples, but validation is None: set validation=0.1 or a fixed (X, y)."
                )
    elif not isinstance(training.validation, Real) and len(training.validation) != 2:
        raise ValueError(
            "Training(validation=…) must be a share or a pair (X, y), got "
            f"{len(training.validation)} items."
        )
    if stopping is not None:
        if training.averaging is not None:
            raise ValueError(
                f"Training(early_stopping={stopping!r}) stops at one epoch or restores it, "
                f"averaging={training.averaging!r} keeps the mean of several: set only one "
                "of them."
            )
        if stopping.patience is None and not stopping.restore_best_weights:
            raise ValueError(
                f"{stopping!r} does nothing: set patience, restore_best_weights=True, or "
                "Training(early_stopping=None)."
            )
    for name, unset in (
        ("label_smoothing", 0),
        ("calibrate", False),
        ("distillation", None),
    ):
        value = getattr(training, name)
        if value and loss == "squared_hinge":
            raise ValueError(
                f"Training({name}={value!r}) belongs to loss='cross_entropy': set "
                f"{name}={unset} for loss='squared_hinge'."
            )
    if training.class_weight == "balanced" and training.sampling == "balanced":
        raise ValueError(
            "class_weight='balanced' and sampling='balanced' correct twice for rare "
            "classes: set only one of them."
        )


def split_validation(y, groups, share, seed):
    """Choose the samples to train on and those held out.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Class of each sample.
    groups : array-like of shape (n,) or None
        Subject of each sample; no subject comes on both sides.
    share : float
        Share to hold out, in (0, 0.5]. By subject it is rounded to the nearest 1 / k, and
        whole subjects are held out, so that the share is met only nearly.
    seed : int
        Seed of the draw.

    Returns
    -------
    train, valid : ndarray of int
        Sorted indices.

    Raises
    ------
    ValueError
        If nothing can be held out, or a class would be missing from the training part.
    """
    if groups is None:
        splitter = StratifiedShuffleSplit(1, test_size=share, random_state=seed)
        train, valid = next(splitter.split(np.zeros(len(y)), y))
    else:
        n_subjects = len(np.unique(groups))
        n_splits = min(
            round(1 / share), n_subjects, np.unique(y, return_counts=True)[1].max()
        )
        if n_splits < 2:
            raise ValueError(
                f"validation={share} by subject needs at least 2 subjects, got "
                f"{n_subjects}; give a fixed (X, y) instead."
            )
        splitter = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            # A class too rare for every fold is fine: only one fold is held out.
            warnings.filterwarnings("ignore", message="The least populated class")
            train, valid = next(splitter.split(np.zeros(len(y)), y, groups))
    missing = np.setdiff1d(y, y[train])
    if len(missing):
        raise ValueError(
            f"validation={share} would hold out every sample of class number {missing[0]}: "
            "lower the share, drop the class or give a fixed (X, y)."
        )
    return np.sort(train), np.sort(valid)
