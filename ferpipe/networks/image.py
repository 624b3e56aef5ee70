"""ImageNetwork: a convolutional network that classifies and encodes single images."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator

from ferpipe._base import ImageMixin
from ferpipe._compat import Interval, StrOptions
from ferpipe.networks.backbones.registry import BACKBONES, find_backbone
from ferpipe.networks.estimator import (
    NETWORK_CONSTRAINTS,
    NetworkMixin,
    check_large_enough,
    check_widths,
    widths,
)
from ferpipe.networks.test_time_augmentation import TTA, augmented_views

__all__ = ["ImageNetwork"]


class ImageNetwork(ImageMixin, NetworkMixin, BaseEstimator):
    """Classify or encode face images with a convolutional network.

    ``predict`` and ``predict_proba`` classify; ``transform`` gives the activations before
    the output layer, for a classifier that follows in a Pipeline.

    Parameters
    ----------
    backbone : str, default="small_cnn"
        Convolutional network, from 8 pixels a side on. "small_cnn" is fast and made for
        32 to 96 pixels (128 features), "hog_cnn" adds a branch on gradient histograms and
        is better on few faces (256), "residual" (256) and "wide_residual" (320) are for
        tens of thousands of faces.
        Those of the papers: "paper_000" (512), "paper_002" (512), "paper_002_vgg" (512),
        "paper_003" (256), "paper_004" with its spatial transformer and
        "paper_004_unsteered" without it (256).
    dense : None, int or list of int, default=None
        Widths of dense layers between it and the output layer, each with activation,
        batch norm and dropout.
    dropout : float, default=0.0
        Share of activations dropped after each dense layer, or before the output layer
        when there is none. "small_cnn" also has a dropout of 0.4 of its own.
    activation : {"elu", "relu"}, default="relu"
        Activation of the convolutions and the dense layers.
    loss : {"cross_entropy", "squared_hinge"}, default="cross_entropy"
        "squared_hinge" makes the output layer a linear SVM: ``decision_function`` takes
        the place of ``predict_proba``.
    output_l2 : float, default=0.0
        Factor of the sum of the output layer's squared weights in the loss.
    tta : {"flip", "ten_crop", "ten_affine"} or None, default=None
        What is looked at to decide: the image; also its mirror image; ten windows; or ten
        views of it turned and resized, see Notes. Probabilities are averaged, and so are
        the embeddings of ``transform``.
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
        Random changes of the training images; None for none.
    random_state : int, RandomState instance or None, default=None
        Seed of first weights, order, dropout, augmentation and validation share. The
        same seed and number of threads give the same network on the same machine.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    image_shape_ : tuple of int
        ``(h, w)`` or ``(h, w, 3)`` seen in fit.
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
    SequenceNetwork : The same for sequences.

    Notes
    -----
    Each image is brought to mean 0 and standard deviation 1 inside the network, so that
    uint8 images and the same values as float give the same answer, on any scale.

    The ten windows are those in the corners and in the middle, of 11/12 of the sides, and
    their mirror images. The ten views of "ten_affine" are the image as it is, turned by 0.1
    radians to either side, 7 % larger and 7 % smaller, and their mirror images: for
    networks trained under such changes (``Augment(rotation=0.15, scale=0.1)``).

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import ImageNetwork, Training
    >>> X = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    >>> y = ["anger", "fear"] * 4
    >>> network = ImageNetwork(training=Training(max_epochs=1), random_state=0).fit(X, y)
    >>> network.transform(X).shape
    (8, 128)
    """

    _parameter_constraints: dict = {
        "backbone": [StrOptions(set(BACKBONES))],
        "dense": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "activation": [StrOptions({"elu", "relu"})],
        "loss": [StrOptions({"cross_entropy", "squared_hinge"})],
        "output_l2": [Interval(Real, 0, None, closed="left")],
        "tta": [StrOptions(set(TTA)), None],
        **NETWORK_CONSTRAINTS,
    }

    def __init__(
        self,
        *,
        backbone="small_cnn",
        dense=None,
        dropout=0.0,
        activation="relu",
        loss="cross_entropy",
        output_l2=0.0,
        tta=None,
        weights=None,
        freeze=False,
        training=None,
        augment=None,
        random_state=None,
    ):
        self.backbone = backbone
        self.dense = dense
        self.dropout = dropout
        self.activation = activation
        self.loss = loss
        self.output_l2 = output_l2
        self.tta = tta
        self.weights = weights
        self.freeze = freeze
        self.training = training
        self.augment = augment
        self.random_state = random_state

    def _check_frames(self, X, reset):
        return self._check_images(X, reset=reset)

    def _check_settings(self):
        check_widths("dense", self.dense)
        check_large_enough(self.image_shape_, self.augment)
        self._check_weights()

    def _views(self, frames):
        return augmented_views(frames, self.tta)

    def _n_channels(self):
        return 1 if len(self.image_shape_) == 2 else 3

    def _make_module(self):
        from ferpipe.networks.modules import FrameClassifier

        return FrameClassifier(
            find_backbone(self.backbone)(self._n_channels(), self.activation),
            len(self.classes_),
            dense=widths(self.dense),
            dropout=self.dropout,
            activation=self.activation,
        )
