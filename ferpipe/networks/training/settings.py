"""How a network is trained: the parameter object that the estimators take."""

import warnings
from numbers import Integral, Real
from os import PathLike

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from ferpipe._compat import HasMethods, Interval, StrOptions, validate_parameters

__all__ = ["Training", "check_training", "split_validation"]


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
    class_weight : {None, "balanced"}, default=None
        "balanced" weights the loss of each sample by ``n / (n_classes * count)``.
    sampling : {"shuffle", "balanced"}, default="shuffle"
        "balanced" shows every class equally often in each epoch, which keeps its length:
        rare classes are repeated, frequent ones are shown in part.
    validation : None, float or (X, y), default=None
        Samples held out to watch the training: a share in (0, 0.5], or a fixed set. A
        share is held out by subject when fit gets ``groups`` (no subject is on both
        sides), and stratified by class otherwise.
    patience : int or None, default=None
        Stop when the validation loss did not improve for so many epochs.
    best_epoch : bool, default=False
        Keep the weights of the epoch with the lowest validation loss.
    average_from : float or None, default=None
        Keep the mean of the weights at the ends of epochs [4]_, from this share of
        ``max_epochs`` on, in [0, 1), and measure the batch norms anew on the unchanged
        samples. Made for a learning rate that stays, ``schedule="constant"``.
    average_with : str, path or None, default=None
        A trained network, a file of :func:`ferpipe.networks.pretrained.save_network` or one
        that ships, whose weights take half of that mean [5]_: the one that the training
        went on from by ``weights=``. Others have their filters in another order, and a mean
        of such networks is good for nothing.
    calibrate : bool, default=False
        Divide the scores by the temperature [1]_ under which the validation samples are
        most likely: probabilities then tell how often the answer is right. Only for the
        cross-entropy.
    teacher : str, path, list of them, estimator or None, default=None
        Whose probabilities the training leans on [2]_, beside the labels; only for the
        cross-entropy. A trained network for images: the name of one that ships or a file of
        :func:`ferpipe.networks.pretrained.save_network`, of the same classes; several
        in a list teach the mean of their probabilities. Or a classifier with
        ``predict_proba``, another network say: copies of it are fitted on parts of the
        training samples and asked about the rest, so that no answer is a label learnt by
        heart [3]_, and their answers are brought to the temperature under which the labels
        are most likely. Each sample is looked at once, unchanged, before the training.
    teacher_folds : int, default=3
        Number of parts for a teacher that is fitted; by subject when fit gets ``groups``.
    teacher_share : float, default=0.5
        Share of the target that the teacher's probabilities take, in [0, 1]; the label
        keeps the rest. Without a teacher it means nothing.
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
    .. [2] G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network",
       2015, section 2, at temperature 1.
    .. [3] T. Dao, G. M. Kamath, V. Syrgkanis, L. Mackey, "Knowledge Distillation as
       Semiparametric Inference", ICLR 2021, section 4 (cross-fitting).
    .. [4] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson, "Averaging
       Weights Leads to Wider Optima and Better Generalization", UAI 2018.
    .. [5] M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022.

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
        "class_weight": [StrOptions({"balanced"}), None],
        "sampling": [StrOptions({"shuffle", "balanced"})],
        "validation": [Interval(Real, 0, 0.5, closed="right"), tuple, list, None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "best_epoch": ["boolean"],
        "average_from": [Interval(Real, 0, 1, closed="left"), None],
        "average_with": [str, PathLike, None],
        "calibrate": ["boolean"],
        "teacher": [str, PathLike, list, tuple, HasMethods(["fit", "predict_proba"]), None],
        "teacher_folds": [Interval(Integral, 2, None, closed="left")],
        "teacher_share": [Interval(Real, 0, 1, closed="both")],
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
        patience=None,
        best_epoch=False,
        average_from=None,
        average_with=None,
        calibrate=False,
        teacher=None,
        teacher_folds=3,
        teacher_share=0.5,
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
        self.patience = patience
        self.best_epoch = best_epoch
        self.average_from = average_from
        self.average_with = average_with
        self.calibrate = calibrate
        self.teacher = teacher
        self.teacher_folds = teacher_folds
        self.teacher_share = teacher_share
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
    validate_parameters(training)
    if training.validation is None:
        for name, wants_it in (
            ("patience", training.patience is not None),
            ("best_epoch", training.best_epoch),
            ("calibrate", training.calibrate),
            ("schedule", training.schedule == "reduce_on_plateau"),
        ):
            if wants_it:
                raise ValueError(
                    f"Training({name}={getattr(training, name)!r}) looks at validation "
                    "samples, but validation is None: set validation=0.1 or a fixed (X, y)."
                )
    elif not isinstance(training.validation, Real) and len(training.validation) != 2:
        raise ValueError(
            "Training(validation=…) must be a share or a pair (X, y), got "
            f"{len(training.validation)} items."
        )
    if training.average_from is not None:
        for name, unset in (("best_epoch", False), ("patience", None)):
            value = getattr(training, name)
            if value:
                raise ValueError(
                    f"Training({name}={value!r}) keeps or stops at one epoch, "
                    f"average_from={training.average_from!r} keeps the mean of several: "
                    f"set {name}={unset} or average_from=None."
                )
    elif training.average_with is not None:
        raise ValueError(
            f"Training(average_with={str(training.average_with)!r}) takes part in the mean "
            "of average_from, which is None: set average_from=0.5 say."
        )
    for name, unset in (("label_smoothing", 0), ("calibrate", False), ("teacher", None)):
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
