"""Torch modules of the network estimators around a frame network, and their losses.

All modules take frames channel-first, one sequence after the other without padding,
and the lengths of the sequences.
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from ferpipe.networks.backbones.layers import ACTIVATIONS, SpatialTransformer, channels_last

__all__ = [
    "CELLS",
    "FeatureScaler",
    "FrameClassifier",
    "SequenceClassifier",
    "TrainingLoss",
    "decide",
    "initialize",
    "mean_of_rows",
    "standardize_images",
]

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class FeatureScaler(nn.Module):
    """Bring each given feature to mean 0 and standard deviation 1 of the training data.

    Parameters
    ----------
    n_features : int
        Features a frame. ``mean`` and ``scale`` are buffers, filled in by fit.
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.n_outputs = n_features

    def forward(self, frames):
        """Scaled features (N, d)."""
        return (frames - self.mean) / self.scale


class _Freezable(nn.Module):
    """A network whose frame network can be kept as it is while the rest is trained."""

    frozen = False

    def freeze_frames(self):
        """Keep the weights and the running means of the frame network."""
        self.frozen = True
        self.backbone.requires_grad_(False)

    def train(self, mode=True):
        """Set the mode of training; a frozen frame network stays out of it."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class FrameClassifier(_Freezable):
    """Classify single images: frame network, dense layers, output layer.

    Parameters
    ----------
    backbone : nn.Module
        Maps (N, c, h, w) to (N, ``n_outputs``).
    n_classes : int
        Outputs.
    dense : tuple of int
        Widths of the dense layers before the output layer.
    dropout : float
        Share of activations dropped after each dense layer, or before the output layer
        when there is none.
    activation : {"elu", "relu"}
        Activation of the dense layers.
    """

    def __init__(self, backbone, n_classes, *, dense, dropout, activation):
        super().__init__()
        self.backbone = backbone
        self.head, width = _dense_layers(backbone.n_outputs, dense, dropout, activation)
        if not dense:
            self.head.append(nn.Dropout(dropout))
        self.output = nn.Linear(width, n_classes)
        self.n_embeddings = width

    def embeddings(self, frames, lengths=None):
        """Input of the output layer, one row an image (n, n_embeddings)."""
        frames = channels_last(standardize_images(frames))
        return self.head(self.backbone(frames))

    def forward(self, frames, lengths=None):
        """Scores, one row an image (n, n_classes)."""
        return self.output(self.embeddings(frames))

    def rows_per_sample(self, lengths):
        """None: each image has one row of scores."""
        return


class SequenceClassifier(_Freezable):
    """Classify sequences: frame network, recurrent layers, pooling, dense layers, output.

    A bidirectional LSTM layer of width h on d inputs has 2 · 4h(d + h + 2) parameters:
    torch keeps two bias vectors where Keras has one and counts 2 · 4h(d + h + 1). With
    ``Paper000CNN``, hidden_size (128, 64) and dense (128,) the shapes are those of the
    table of paper 000, and its 5,526,213 trained parameters become 5,527,749.

    Parameters
    ----------
    backbone : nn.Module
        Maps (N, ...) to (N, ``n_outputs``).
    n_classes : int
        Outputs.
    images : bool
        Whether frames are images, to be standardized a sequence.
    rnn_type : {"rnn", "gru", "lstm"}
        Kind of recurrent layer.
    hidden_size : tuple of int
        Width of each recurrent layer, a direction.
    bidirectional : bool
        Read each sequence in both directions.
    pooling : {"last", "mean", "per_frame"}
        What the dense layers see: the last state (forwards: after the last frame,
        backwards: after the first), the mean over frames, or each frame by itself.
    dense, dropout, activation
        As in FrameClassifier; dropout also follows each recurrent layer.
    """

    def __init__(
        self,
        backbone,
        n_classes,
        *,
        images,
        rnn_type,
        hidden_size,
        bidirectional,
        pooling,
        dense,
        dropout,
        activation,
    ):
        super().__init__()
        self.backbone = backbone
        self.images = images
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.ModuleList()
        width = backbone.n_outputs
        for size in hidden_size:
            layer = CELLS[rnn_type](
                width, size, batch_first=True, bidirectional=bidirectional
            )
            self.recurrent.append(layer)
            width = 2 * size if bidirectional else size
        self.head, width = _dense_layers(width, dense, dropout, activation)
        self.output = nn.Linear(width, n_classes)
        self.n_embeddings = width

    def forward(self, frames, lengths):
        """Scores: one row a sequence, or one a frame with pooling "per_frame"."""
        return self.output(self._rows(frames, lengths))

    def embeddings(self, frames, lengths):
        """Input of the output layer (n, n_embeddings), a mean if there are many rows."""
        return mean_of_rows(self._rows(frames, lengths), self.rows_per_sample(lengths))

    def rows_per_sample(self, lengths):
        """Rows of scores of each sequence; None for one each."""
        return lengths if self.pooling == "per_frame" else None

    def _rows(self, frames, lengths):
        if self.images:
            frames = channels_last(standardize_images(frames, lengths))
        features = self.backbone(frames).float()
        # Recurrent layers are small and lose more in bfloat16 than they gain.
        with torch.autocast(features.device.type, enabled=False):
            return self.head(self._read(features, lengths))

    def _read(self, features, lengths):
        rows = self._in_order(features, lengths) if self.recurrent else features
        if self.pooling == "mean":
            return mean_of_rows(rows, lengths)
        return rows

    def _in_order(self, features, lengths):
        """Read frames by the recurrent layers: the last state, or an output a frame."""
        padded = pad_sequence(features.split(lengths.tolist()), batch_first=True)
        packed = pack_padded_sequence(
            padded, lengths, batch_first=True, enforce_sorted=False
        )
        for layer in self.recurrent:
            packed, state = layer(packed)
            packed = packed._replace(data=self.dropout(packed.data))
        if self.pooling == "last":
            state = state[0] if isinstance(state, tuple) else state
            return self.dropout(torch.cat(list(state), dim=1))
        outputs, _ = pad_packed_sequence(packed, batch_first=True)
        times = torch.arange(outputs.shape[1])
        return outputs[(times < lengths[:, None]).to(outputs.device)]


class TrainingLoss(nn.Module):
    """Loss of a batch: each sample's loss, averaged over its frames, then over samples.

    Parameters
    ----------
    kind : {"cross_entropy", "squared_hinge"}
        "squared_hinge" is max(0, 1 - t s)² averaged over classes, t = 1 for the true
        class and -1 for the others: the SVM head of paper 000, as Keras computes it.
    label_smoothing : float
        For the cross-entropy.
    class_weight : float Tensor of shape (n_classes,) or None
        Factor of a sample's loss by its class.
    l2 : float
        Factor of the sum of squared weights (no biases) of the output layer.
    soft_weight : float
        Weight of soft targets, where they are given, in the target; the label has the rest.
    """

    def __init__(
        self, kind, *, label_smoothing=0.0, class_weight=None, l2=0.0, soft_weight=0.0
    ):
        super().__init__()
        self.kind = kind
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weight", class_weight)
        self.l2 = l2
        self.soft_weight = soft_weight

    def forward(
        self, scores, target, rows=None, output=None, soft_targets=None, weights=None
    ):
        """Mean loss over samples.

        Parameters
        ----------
        scores : Tensor of shape (n or sum(rows), n_classes)
            Raw scores, one row a sample or a frame.
        target : int Tensor of shape (n,)
            Classes.
        rows : int Tensor of shape (n,) or None, default=None
            Rows of each sample; None for one each.
        output : nn.Linear or None, default=None
            Output layer, for its L2 term.
        soft_targets : Tensor of shape (n, n_classes) or None, default=None
            A teacher's probabilities of each sample, for the cross-entropy.
        weights : Tensor of shape (n,) or None, default=None
            Factor of each sample's loss.

        Returns
        -------
        loss : Tensor of shape ()
        """
        per_row = (
            target if rows is None else target.repeat_interleave(rows.to(target.device))
        )
        if self.kind == "cross_entropy":
            losses = cross_entropy(
                scores, per_row, reduction="none", label_smoothing=self.label_smoothing
            )
        else:
            signs = 2 * one_hot(per_row, scores.shape[1]) - 1
            losses = relu(1 - signs * scores).square().mean(dim=1)
        if soft_targets is not None:
            if rows is not None:
                repeats = rows.to(soft_targets.device)
                soft_targets = soft_targets.repeat_interleave(repeats, dim=0)
            soft_losses = cross_entropy(scores, soft_targets, reduction="none")
            losses = torch.lerp(losses, soft_losses, self.soft_weight)
        losses = mean_of_rows(losses[:, None], rows)[:, 0]
        if self.class_weight is not None:
            losses = losses * self.class_weight[target]
        if weights is not None:
            losses = losses * weights
        loss = losses.mean()
        if self.l2:
            loss = loss + self.l2 * output.weight.square().sum()
        return loss


def decide(scores, kind, rows=None):
    """Probabilities or decision values of samples from rows of scores.

    Parameters
    ----------
    scores : Tensor of shape (n or sum(rows), n_classes)
        Raw scores, one row a sample or a frame.
    kind : {"cross_entropy", "squared_hinge"}
        Loss that the scores were trained with; the first gives probabilities.
    rows : int Tensor of shape (n,) or None, default=None
        Rows of each sample; None for one each.

    Returns
    -------
    decided : Tensor of shape (n, n_classes)
        Frames are summed and normalized, as in paper 001.
    """
    if kind == "cross_entropy":
        scores = scores.softmax(dim=1)
    return mean_of_rows(scores, rows)


def mean_of_rows(values, rows):
    """Mean over the rows of each sample.

    Parameters
    ----------
    values : Tensor of shape (sum(rows), k)
        Rows, one sample after the other.
    rows : int Tensor of shape (n,) or None
        Rows of each sample; None for one each.

    Returns
    -------
    means : Tensor of shape (n, k)
    """
    if rows is None:
        return values
    return torch.segment_reduce(values, "mean", lengths=rows.to(values.device))


def standardize_images(frames, lengths=None):
    """Bring each image, or each sequence of images as a whole, to mean 0 and deviation 1.

    Light and camera cancel, and the scale of the pixels with them: uint8 and float images
    need no care. A constant image becomes 0.

    Parameters
    ----------
    frames : float Tensor of shape (N, c, h, w)
        Frames, one sequence after the other.
    lengths : int Tensor of shape (n,) or None, default=None
        Frames of each sequence; None standardizes each image by itself.

    Returns
    -------
    frames : float Tensor of shape (N, c, h, w)
    """

    def level(values):
        per_frame = values.mean(dim=(1, 2, 3))[:, None]
        means = mean_of_rows(per_frame, lengths)
        if lengths is not None:
            means = means.repeat_interleave(lengths.to(means.device), dim=0)
        return means[:, :, None, None]

    mean = level(frames)
    centered = frames - mean
    deviation = level(centered.square()).sqrt()
    # What is left of a constant image is rounding, which must not be blown up.
    is_constant = deviation <= 1e-5 * mean.abs()
    return centered / deviation.masked_fill(is_constant, torch.inf)


def initialize(module):
    """Draw the initial weights in place.

    He-normal for convolutions and dense layers; recurrent layers as Keras has them:
    Glorot-uniform inputs, orthogonal recurrences, forget gates open (bias 1). Spatial
    transformers start at the identity.

    Parameters
    ----------
    module : nn.Module
        Network.

    Returns
    -------
    module : nn.Module
        The same network.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.RNNBase):
            for name, parameter in part.named_parameters():
                _initialize_recurrent(name, parameter, part.hidden_size, part.mode)
    for part in module.modules():
        if isinstance(part, SpatialTransformer):
            part.start_at_identity()
    return module


def _initialize_recurrent(name, parameter, hidden_size, mode):
    if "weight" in name:
        draw = nn.init.xavier_uniform_ if "weight_ih" in name else nn.init.orthogonal_
        for gate in parameter.data.split(hidden_size):
            draw(gate)
    else:
        nn.init.zeros_(parameter)
        if mode == "LSTM" and "bias_ih" in name:
            parameter.data[hidden_size : 2 * hidden_size] = 1.0


def _dense_layers(width, sizes, dropout, activation):
    layers = nn.Sequential()
    for size in sizes:
        layers.extend(
            [
                nn.Linear(width, size),
                ACTIVATIONS[activation](),
                nn.BatchNorm1d(size),
                nn.Dropout(dropout),
            ]
        )
        width = size
    return layers, width
