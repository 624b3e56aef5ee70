"""SequenceNetwork: a recurrent network that classifies and encodes sequences."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

from ferpipe._base import SequenceMixin
from ferpipe._compat import Interval, StrOptions
from ferpipe.networks.backbones.registry import BACKBONES, find_backbone
from ferpipe.networks.estimator import (
    NETWORK_CONSTRAINTS,
    NetworkMixin,
    check_large_enough,
    check_widths,
    widths,
)

__all__ = ["SequenceNetwork"]


class SequenceNetwork(SequenceMixin, NetworkMixin, BaseEstimator):
    """Classify or encode sequences of face images, or of features a frame.

    A convolutional network sees each frame, recurrent layers read the frames in order,
    dense layers and an output layer decide. ``predict`` and ``predict_proba`` classify;
    ``transform`` gives the activations before the output layer, for a classifier that
    follows in a Pipeline. Sequences may differ in length.

    Parameters
    ----------
    backbone : str or None, default="auto"
        Convolutional network that is applied to each frame, as in ImageNetwork. None for
        frames that are features already: sequences of shape (T_i, d); each feature is
        standardized to mean 0 and standard deviation 1 over the training frames. "auto" is
        "small_cnn" for images and None for features.
    rnn_type : {"rnn", "gru", "lstm"}, default="lstm"
        Kind of the recurrent layers.
    hidden_size : int or list of int, default=(64, 32)
        Width of each recurrent layer, a direction. () for none: each frame is seen by
        itself.
    bidirectional : bool, default=True
        Read the sequences forwards and backwards. False answers from the past alone, and
        :meth:`stream` reads features frame by frame.
    pooling : {"last", "mean", "per_frame"}, default="mean"
        "last" takes the states at the end of reading (forwards after the last frame,
        backwards after the first), "mean" the mean of the outputs over the frames.
        "per_frame" decides on each frame, trained with its sequence's label; the
        frames' probabilities are summed and normalized [2]_.
    dense : None, int or list of int, default=None
        Widths of dense layers before the output layer, each with activation, batch norm
        and dropout.
    dropout : float, default=0.0
        Share of activations dropped after each recurrent and each dense layer.
        "small_cnn" also has a dropout of 0.4 of its own.
    activation : {"elu", "relu"}, default="relu"
        Activation of the convolutions and the dense layers.
    loss : {"cross_entropy", "squared_hinge"}, default="cross_entropy"
        "squared_hinge" makes the output layer a linear SVM [1]_: ``decision_function``
        takes the place of ``predict_proba``.
    output_l2 : float, default=0.0
        Factor of the sum of the output layer's squared weights in the loss; 0.01 in [1]_.
    weights : str, path or None, default=None
        What the frame network starts from: the name of a network that ships
        (:func:`ferpipe.pretrained` lists them) or a file of
        :func:`ferpipe.networks.pretrained.save_network`; None draws its weights. The layers
        behind it are always new.
    freeze : bool, default=False
        Keep the frame network as ``weights`` has it and train the layers behind it only.
    training : Training or None, default=None
        How to train; None stands for ``Training()``.
    augment : Augment or None, default=None
        Random changes of the training images, alike for all frames of a sequence; None
        for none.
    random_state : int, RandomState instance or None, default=None
        Seed of first weights, order, dropout, augmentation and validation share. The
        same seed and number of threads give the same network on the same machine.

    Attributes
    ----------
    backbone_ : str or None
        ``backbone``, with "auto" replaced by what it stands for.
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    frame_shape_ : tuple of int
        ``(d,)``, ``(h, w)`` or ``(h, w, 3)`` seen in fit.
    n_parameters_ : int
        Trained parameters of the network.
    history_ : list of dict
        One dict an epoch: ``epoch``, ``train_loss``, ``train_accuracy`` (under dropout
        and augmentation), ``valid_loss`` and ``valid_accuracy`` (with validation), ``lr``,
        ``seconds``.
    n_iter_ : int
        Epochs of the training.
    temperature_ : float
        By which scores are divided; 1 without ``Training(calibrate=True)``.
    training_images_ : ndarray of shape (m,), uint64
        Fingerprints of the images that the network and those that it was started from or
        taught by were trained on; the leak guard compares them with the tested images.
    weights_ : dict of str to ndarray
        Weights and buffers of the network.
    net_ : skorch.NeuralNet
        The net around the torch module; it is not pickled but built again from
        ``weights_`` at first use.

    See Also
    --------
    ImageNetwork : The same for single images.

    Notes
    -----
    Each sequence of images is brought to mean 0 and standard deviation 1 as a whole, so
    that uint8 images and the same values as float give the same answer, on any scale,
    and changes of light within a sequence stay.

    With ``pooling="per_frame"`` the loss of a sequence is the mean over its frames: a
    long sequence weighs no more than a short one. Paper [2]_ does not say.

    The network of [1]_ is ``backbone="paper_000", hidden_size=(128, 64), pooling="last",
    dense=128, dropout=…, activation="elu", loss="squared_hinge", output_l2=0.01``. Its
    layer table and its text disagree about a last unidirectional LSTM: the table, which
    has none, is followed. The dropout is not told there.

    References
    ----------
    .. [1] Seed paper 000: CNN, bidirectional LSTM and SVM on CK+48, table of layers.
    .. [2] Seed paper 001: LSTM and bidirectional LSTM on Cohn-Kanade sequences.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import SequenceNetwork, Training
    >>> rng = np.random.default_rng(0)
    >>> X = [rng.normal(size=(length, 6)) for length in (3, 5, 4, 2)]
    >>> y = ["anger", "fear", "anger", "fear"]
    >>> network = SequenceNetwork(training=Training(max_epochs=1))
    >>> network.fit(X, y).transform(X).shape
    (4, 64)
    """

    _parameter_constraints: dict = {
        "backbone": [StrOptions({"auto", *BACKBONES}), None],
        "rnn_type": [StrOptions({"rnn", "gru", "lstm"})],
        "hidden_size": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "bidirectional": ["boolean"],
        "pooling": [StrOptions({"last", "mean", "per_frame"})],
        "dense": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "activation": [StrOptions({"elu", "relu"})],
        "loss": [StrOptions({"cross_entropy", "squared_hinge"})],
        "output_l2": [Interval(Real, 0, None, closed="left")],
        **NETWORK_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        backbone="auto",
        rnn_type="lstm",
        hidden_size=(64, 32),
        bidirectional=True,
        pooling="mean",
        dense=None,
        dropout=0.0,
        activation="relu",
        loss="cross_entropy",
        output_l2=0.0,
        weights=None,
        freeze=False,
        training=None,
        augment=None,
        random_state=None,
    ):
        self.backbone = backbone
        self.rnn_type = rnn_type
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.dense = dense
        self.dropout = dropout
        self.activation = activation
        self.loss = loss
        self.output_l2 = output_l2
        self.weights = weights
        self.freeze = freeze
        self.training = training
        self.augment = augment
        self.random_state = random_state

    @property
    def backbone_(self):
        """Name of the convolutional network, or None if frames are features."""
        if self.backbone != "auto":
            return self.backbone
        return None if len(self.frame_shape_) == 1 else "small_cnn"

    def stream(self):
        """Begin a sequence that is read one frame at a time; several may be open.

        Returns
        -------
        stream : ferpipe.networks.streaming.SequenceStream
            ``stream.step(frame)`` returns what ``predict_proba``, or ``decision_function``,
            gives for all frames so far, in a time that does not grow with their number.

        Raises
        ------
        ValueError
            If the network reads backwards too, or sees images: these are scaled by their
            whole sequence.
        """
        from ferpipe.networks.streaming import SequenceStream

        return SequenceStream(self)

    def _check_frames(self, X, reset):
        return self._check_sequences(X, reset=reset)

    def _check_settings(self):
        check_widths("hidden_size", self.hidden_size)
        check_widths("dense", self.dense)
        if len(widths(self.hidden_size)) == 0 and self.pooling == "last":
            raise ValueError(
                "hidden_size=() reads frames in no order and has no last state: set "
                "pooling='mean' or 'per_frame', or name a recurrent layer."
            )
        if self.backbone_ is None:
            if len(self.frame_shape_) != 1:
                raise ValueError(
                    f"backbone=None reads features, sequences of shape (T_i, d), but X has "
                    f"frames of shape {self.frame_shape_}: for images set "
                    "backbone='small_cnn'."
                )
            if self.augment is not None:
                raise ValueError(
                    "augment changes images, but the frames are features: set augment=None."
                )
            if self.weights is not None:
                raise ValueError(
                    f"weights={str(self.weights)!r} belong to a backbone for images, but "
                    "the frames are features: set weights=None."
                )
            return
        is_image = len(self.frame_shape_) == 2 or self.frame_shape_[2:] == (3,)
        if not is_image:
            raise ValueError(
                f"backbone={self.backbone_!r} reads images of shape (h, w) or (h, w, 3), "
                f"but X has frames of shape {self.frame_shape_}: for features set "
                "backbone=None."
            )
        check_large_enough(self.frame_shape_, self.augment)
        self._check_weights()

    def _n_channels(self):
        return 1 if len(self.frame_shape_) == 2 else 3

    def _make_module(self):
        from ferpipe.networks.modules import FeatureScaler, SequenceClassifier

        if self.backbone_ is None:
            frames = FeatureScaler(self.frame_shape_[0])
        else:
            frames = find_backbone(self.backbone_)(self._n_channels(), self.activation)
        return SequenceClassifier(
            frames,
            len(self.classes_),
            images=self.backbone_ is not None,
            rnn_type=self.rnn_type,
            hidden_size=widths(self.hidden_size),
            bidirectional=self.bidirectional,
            pooling=self.pooling,
            dense=widths(self.dense),
            dropout=self.dropout,
            activation=self.activation,
        )

    def _learn_scale(self, module, dataset):
        if self.backbone_ is not None:
            return
        import torch

        features = np.concatenate(dataset.X).astype(np.float64)
        if dataset.weights is None:
            mean, scale = features.mean(axis=0), features.std(axis=0)
        else:
            weights = np.repeat(dataset.weights.numpy(), [len(x) for x in dataset.X])
            mean = np.average(features, axis=0, weights=weights)
            scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
        scale[scale <= 1e-7 * np.abs(features).max(axis=0)] = 1.0
        module.backbone.mean.copy_(torch.from_numpy(mean))
        module.backbone.scale.copy_(torch.from_numpy(scale))
