"""The backbones of the papers; each docstring names what its paper leaves open."""

from collections.abc import Callable

import torch
from torch import nn

from ferpipe.networks.backbones.layers import (
    ACTIVATIONS,
    LocalContrast,
    SpatialTransformer,
    channels_last,
    convolution,
    in_channels_last,
    pool_to,
)

__all__ = [
    "Paper000CNN",
    "Paper002CNN",
    "Paper002VGG",
    "Paper003CNN",
    "Paper004CNN",
    "Paper004Steered",
]


class Paper000CNN(nn.Module):
    """The time-distributed CNN of paper 000: 512 features a frame.

    The paper's layer table gives one row for it: output (None, 3, 512), 4,691,904
    parameters, and the whole network has 4,096 that are not trained. Eight 3×3
    convolutions of 64, 64, 128, 128, 256, 256, 512 and 512 filters with bias, each with
    batch norm, and a mean over places have exactly these numbers for gray images.
    The paper leaves their pooling open: here 2×2 max pooling after the second, fourth and
    sixth.

    torch counts 4,688,064 parameters: Keras also counts the running mean and variance of
    the batch norms (3,840), which are buffers here.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution; the paper has "elu".
    """

    n_outputs = 512

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, width in enumerate((64, 64, 128, 128, 256, 256, 512, 512)):
            layers += [
                nn.Conv2d(n_channels, width, 3, padding=1),
                ACTIVATIONS[activation](),
                nn.BatchNorm2d(width),
            ]
            if index in (1, 3, 5):
                layers.append(nn.MaxPool2d(2))
            n_channels = width
        self.filters = in_channels_last(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 512) of frames (N, c, h, w)."""
        return self.filters(channels_last(frames))


class Paper002CNN(nn.Module):
    """The 48×48 network of paper 002: 512 features a frame.

    A convolution of 5×5, local contrast normalization and max pooling, convolutions of
    5×5 and 4×4, a dense layer with dropout, activations after all. 2,595,136 parameters
    for gray images, 2,598,336 for RGB.

    The paper does not give the filters (64, 64 and 128 here), the dropout (0.5) and the
    width of the dense layer, but for its LSTM's input of 512. The second max pooling,
    after the second convolution, is the one that the paper wants to add. Images of other
    sizes than 48×48 are pooled to the same 6×6 cells.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each layer; the paper has "relu".
    """

    n_outputs = 512

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.filters = in_channels_last(
            *(nn.Conv2d(n_channels, 64, 5, padding=2), act()),
            *(LocalContrast(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 64, 5, padding=2), act(), nn.MaxPool2d(2)),
            *(nn.Conv2d(64, 128, 4, padding=2), act()),
        )
        self.dense = _dense(128, self.n_outputs, act, dropout=0.5)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 512) of frames (N, c, h, w)."""
        return self.dense(pool_to(self.filters(channels_last(frames)), 6))


class Paper002VGG(nn.Module):
    """The second network of paper 002, after VGG: 512 features a frame.

    Three rounds of two 3×3 convolutions and a 2×2 max pooling, with 32, 64 and 128
    filters, activations after all and no normalization. 2,646,240 parameters for gray
    images, 2,646,816 for RGB.

    The paper repeats each round's convolution two or three times; its LSTM reads 512
    numbers, for which a dense layer stands here.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each layer; the paper has "relu".
    """

    n_outputs = 512

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        for width in (32, 64, 128):
            for _ in range(2):
                layers += [nn.Conv2d(n_channels, width, 3, padding=1), act()]
                n_channels = width
            layers.append(nn.MaxPool2d(2))
        self.filters = in_channels_last(*layers)
        self.dense = _dense(128, self.n_outputs, act, dropout=0.0)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 512) of frames (N, c, h, w)."""
        return self.dense(pool_to(self.filters(channels_last(frames)), 6))


class Paper003CNN(nn.Module):
    """A network of paper 003's kind: 256 features a frame.

    The paper's figure names convolutions, batch norm, max pooling, dropout, flattening
    and dense layers, and none of their sizes. Here: three rounds of two 3×3 convolutions
    with batch norm, max pooling and a dropout of 0.25, with 64, 128 and 256 filters; a
    dense layer, batch norm, a dropout of 0.5. 3,505,216 parameters for gray images,
    3,506,368 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each layer; the paper has "relu".
    """

    n_outputs = 256

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        layers: list[nn.Module] = []
        for width in (64, 128, 256):
            for _ in range(2):
                layers += convolution(n_channels, width, act)
                n_channels = width
            layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
        self.filters = in_channels_last(*layers)
        self.dense = nn.Sequential(
            *list(_dense(256, self.n_outputs, act, dropout=0.0))[:-1],
            nn.BatchNorm1d(self.n_outputs),
            nn.Dropout(0.5),
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 256) of frames (N, c, h, w)."""
        return self.dense(pool_to(self.filters(channels_last(frames)), 6))


class Paper004CNN(nn.Module):
    """The six-layer CNN and the LSTM of paper 004: 256 features a frame.

    Six convolutions of 64, 64, 128, 128, 256 and 256 filters, max pooling after the third
    and the sixth; an LSTM of 256 reads the cells of the last maps row by row and gives its
    last state. The first convolution is 5×5 on every second pixel, the others 3×3.
    1,672,512 parameters for gray images, 1,675,712 for RGB.

    The paper leaves open the filters and how the LSTM reads a still image. It names one
    activation for every three convolutions; here each has its own, behind a batch norm,
    since three linear convolutions in a row are no more than one.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution; the paper has "relu".
    """

    n_outputs = 256

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.filters = in_channels_last(
            *convolution(n_channels, 64, act, size=5, stride=2),
            *convolution(64, 64, act),
            *convolution(64, 128, act),
            nn.MaxPool2d(2),
            *convolution(128, 128, act),
            *convolution(128, 256, act),
            *convolution(256, 256, act),
            nn.MaxPool2d(2),
        )
        self.reader = nn.LSTM(256, self.n_outputs, batch_first=True)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 256) of frames (N, c, h, w)."""
        maps = pool_to(self.filters(channels_last(frames)), 6).float()
        _, (state, _) = self.reader(maps.flatten(2).transpose(1, 2))
        return state[0]


class Paper004Steered(nn.Module):
    """Paper 004's network behind its spatial transformer: 256 features a frame.

    1,697,286 parameters for gray images, 1,701,286 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        As in Paper004CNN and SpatialTransformer.
    """

    n_outputs = Paper004CNN.n_outputs

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        self.steer = SpatialTransformer(n_channels, activation)
        self.read = Paper004CNN(n_channels, activation)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Features (N, 128) of frames (N, c, h, w)."""
        return self.read(self.steer(frames))


def _dense(
    n_maps: int, width: int, act: Callable[[], nn.Module], dropout: float
) -> nn.Sequential:
    """Return the layers from 6×6 cells to features."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36 * n_maps, width), act(), nn.Dropout(dropout)
    )
