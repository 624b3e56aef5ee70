"""Features from inside a trained network, for a classifier on other faces."""

from numbers import Integral
from os import PathLike

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ferpipe._compat import Interval, StrOptions
from ferpipe._system.threads import at_most, guard_forks
from ferpipe.features.extractor import ImageExtractor, in_chunks, to_gray
from ferpipe.networks.backbones.registry import find_backbone
from ferpipe.networks.weights import read_weights

__all__ = ["CNNFeatures"]

# where the filters of a frame network are in its file
_FILTERS = "backbone.filters."


class CNNFeatures(ImageExtractor, BaseEstimator):
    """What a block in the middle of a trained network sees, averaged over a grid of cells.

    The last layers of a network know the faces and labels that it was trained on; those
    in the middle have filters for mouths, folds and brows that serve other faces, cameras
    and labels as well. On few faces they go further with a linear classifier than the
    network's own embeddings.

    Parameters
    ----------
    weights : str or path, default="fer2013"
        Name of a network that ships (:func:`ferpipe.pretrained` lists them), or a file of
        :func:`ferpipe.networks.pretrained.save_network`, of ``backbone="residual"`` or
        "wide_residual".
    block : int, default=2
        Residual block whose output is taken, from 1 (64 maps) over 2 and 3 (128) to 4 and
        5 (256, or 320 of the wide network).
    cells : int or None, default=4
        Rows and columns of the grid over which each map is averaged; None takes every
        place of a map by itself.
    tta : {"flip"} or None, default=None
        "flip" takes the mean over the image and its mirror image: on which side of the
        face something is seen makes no difference then.

    Attributes
    ----------
    image_shape_ : tuple of int
        Shape of an image seen in fit, ``(h, w)`` or ``(h, w, 3)``.
    network_shape_ : tuple of int
        ``(h, w)`` or ``(h, w, 3)`` that the network was trained on.
    activation_ : str
        Activation of the network.
    weights_ : dict of str to ndarray
        Weights of the layers up to the block. They are kept with the estimator: a saved
        model stays as it is when another network ships.

    See Also
    --------
    ImageNetwork : Its ``transform`` gives the embeddings before the output layer.
    ferpipe.PerFrame : Apply it to every frame of sequences.

    Notes
    -----
    Images are brought to the size that the network was trained on, and each to mean 0 and
    standard deviation 1, as in the training. That features from the middle of a network
    carry over better than later ones is known since [1]_. The weights that ship have terms:
    ``pretrained("fer2013").card_``.

    References
    ----------
    .. [1] J. Yosinski, J. Clune, Y. Bengio, H. Lipson, "How transferable are features in
       deep neural networks?", NeurIPS 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import CNNFeatures
    >>> faces = np.random.default_rng(0).random((2, 48, 48))
    >>> extractor = CNNFeatures().fit(faces)
    >>> extractor.transform(faces).shape
    (2, 2048)
    >>> str(extractor.get_feature_names_out()[0])
    'cnn_f0_r0c0'
    """

    _parameter_constraints: dict = {
        "weights": [str, PathLike],
        "block": [Interval(Integral, 1, 5, closed="both")],
        "cells": [Interval(Integral, 1, None, closed="left"), None],
        "tta": [StrOptions({"flip"}), None],
    }

    def __init__(self, *, weights="fer2013", block=2, cells=4, tta=None):
        self.weights = weights
        self.block = block
        self.cells = cells
        self.tta = tta

    def get_feature_names_out(self, input_features=None):
        """Name the columns of the output, such as ``cnn_f17_r0c3``: map, row, column.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's interface; pixels have no names.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        n_maps, *shape = self._maps_shape()
        rows, columns = shape if self.cells is None else (self.cells, self.cells)
        return np.asarray(
            [
                f"cnn_f{number}_r{row}c{column}"
                for number in range(n_maps)
                for row in range(rows)
                for column in range(columns)
            ],
            dtype=object,
        )

    def _learn(self, images):
        facts, arrays = read_weights(self.weights)
        frames = facts["parameters"]["backbone"]
        if frames not in ("residual", "wide_residual"):
            raise ValueError(
                f"weights={str(self.weights)!r} are of backbone={frames!r}: CNNFeatures "
                "looks into backbone='residual' or 'wide_residual'."
            )
        self.backbone_ = frames
        self.network_shape_ = tuple(facts["image_shape"])
        self.activation_ = facts["parameters"]["activation"]
        vars(self).pop("_layers", None)
        wanted = self._layers_without_weights().state_dict()
        self.weights_ = {name: arrays[_FILTERS + name] for name in wanted}

    def _check_parameters(self, image_shape):
        _, rows, columns = self._maps_shape()
        if self.cells is not None and self.cells > min(rows, columns):
            raise ValueError(
                f"cells={self.cells} does not go into the maps of block {self.block}, "
                f"which have {rows} x {columns} places: take fewer, or an earlier block."
            )

    def _maps_shape(self):
        """Return how many maps the block has, and their rows and columns."""
        return find_backbone(self.backbone_).maps_shape(self.block, self.network_shape_[:2])

    def _layers_without_weights(self):
        import torch

        n_channels = 1 if len(self.network_shape_) == 2 else 3
        with torch.device("meta"):
            network = find_backbone(self.backbone_)(n_channels, self.activation_)
            return network.up_to_block(self.block)

    def _transform(self, images):
        # torch has threads of its own
        return in_chunks(self._describe, images)

    def _describe(self, images):
        import torch
        from torch.nn.functional import adaptive_avg_pool2d, interpolate

        from ferpipe.networks.backbones.layers import channels_last
        from ferpipe.networks.modules import standardize_images
        from ferpipe.networks.test_time_augmentation import augmented_views

        if len(self.network_shape_) == 2:
            images = to_gray(images)[..., None]
        elif images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)
        with torch.inference_mode(), at_most(n_values=images.size):
            frames = torch.from_numpy(np.asarray(images, np.float32)).permute(0, 3, 1, 2)
            size = self.network_shape_[:2]
            if frames.shape[2:] != size:
                frames = interpolate(frames, size, mode="bilinear", antialias=True)
            views = augmented_views(standardize_images(frames), self.tta)
            maps = self._trained_layers()(channels_last(torch.cat(views)))
            if self.cells is not None:
                maps = adaptive_avg_pool2d(maps, self.cells)
            return maps.flatten(1).unflatten(0, (len(views), -1)).mean(0).numpy()

    def _trained_layers(self):
        import torch

        from ferpipe.networks.folding import fold_batch_norms

        guard_forks()
        if "_layers" not in vars(self):
            layers = self._layers_without_weights()
            layers.load_state_dict(
                {name: torch.tensor(value) for name, value in self.weights_.items()},
                assign=True,
            )
            layers = layers.to(memory_format=torch.channels_last)
            self._layers = fold_batch_norms(layers)
        return self._layers

    def __getstate__(self):
        state = dict(super().__getstate__())
        state.pop("_layers", None)
        return state
