"""Frame networks: convolutional networks that turn each image into features.

Each takes frames (N, c, h, w), standardized, and names its width ``n_outputs``.
"""

import math

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, pad, relu

from ferpipe.networks.backbones.layers import (
    ACTIVATIONS,
    channels_last,
    convolution,
    pool_to,
)

__all__ = [
    "GradientHistograms",
    "HogCNN",
    "ResidualCNN",
    "SmallCNN",
    "WideResidualCNN",
]


class SmallCNN(nn.Module):
    """A fast CNN for faces of 32 to 96 pixels: 128 features a frame.

    Convolutions of 32 (5×5, every second pixel), 64 and 96 (3×3) filters, each with batch
    norm and activation; 2×2 max pooling after the first two; pooling to 6×6 cells;
    dropout 0.4; a dense layer of 128.
    517,408 parameters for gray images, 519,008 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution and the dense layer.
    """

    n_outputs = 128

    def __init__(self, n_channels, activation):
        super().__init__()
        act = ACTIVATIONS[activation]
        self.filters = nn.Sequential(
            *convolution(n_channels, 32, act, size=5, stride=2),
            nn.MaxPool2d(2),
            *convolution(32, 64, act),
            nn.MaxPool2d(2),
            *convolution(64, 96, act),
        ).to(memory_format=torch.channels_last)
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(96 * 36, self.n_outputs), act()
        )

    def forward(self, frames):
        """Features (N, 128) of frames (N, c, h, w)."""
        return self.dense(pool_to(self.filters(channels_last(frames)), 6))


class GradientHistograms(nn.Module):
    """Soft histograms of gradient directions, as HOG has them, on the device.

    Unsigned directions in 9 overlapping bins, summed over windows of 6×6 pixels every 3
    pixels, divided by the energy of the 3×3 windows around. Nothing is trained.
    """

    n_bins = 9
    cell = 3

    def forward(self, frames):
        """Histograms (N, 9, h / 3, w / 3) of frames (N, c, h, w)."""
        with torch.autocast(frames.device.type, enabled=False), torch.no_grad():
            gray = pad(frames.float().mean(dim=1, keepdim=True), [1] * 4, mode="replicate")
            right = gray[..., 1:-1, 2:] - gray[..., 1:-1, :-2]
            down = gray[..., 2:, 1:-1] - gray[..., :-2, 1:-1]
            squared = right.square() + down.square() + 1e-8
            # Twice the angle: opposite directions are the same edge.
            cos = (right.square() - down.square()) / squared
            sin = 2 * right * down / squared
            bins = torch.arange(self.n_bins, device=frames.device) * (
                2 * math.pi / self.n_bins
            )
            bins = bins[:, None, None]
            votes = relu(cos * bins.cos() + sin * bins.sin()).square().square()
            votes = votes * squared.sqrt()
            cells = avg_pool2d(
                votes, 2 * self.cell, self.cell, self.cell // 2, count_include_pad=False
            )
            energy = cells.square().sum(dim=1, keepdim=True)
            energy = avg_pool2d(energy, 3, 1, 1, count_include_pad=False)
            floor = 0.02 * energy.mean(dim=(2, 3), keepdim=True) + 1e-6
            return (cells / (energy + floor).sqrt()).clamp(max=0.8).sqrt()


class HogCNN(nn.Module):
    """SmallCNN beside a dense layer on gradient histograms: 256 features a frame.

    On few training faces it generalizes better than SmallCNN alone.
    776,754 parameters for gray images, 778,354 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution and the dense layers.
    """

    n_outputs = 256

    def __init__(self, n_channels, activation):
        super().__init__()
        self.learnt = SmallCNN(n_channels, activation)
        self.histograms = nn.Sequential(
            GradientHistograms(), nn.BatchNorm2d(GradientHistograms.n_bins)
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(GradientHistograms.n_bins * 225, 128),
            ACTIVATIONS[activation](),
        )
        self.dropout = nn.Dropout(0.2)

    def forward(self, frames):
        """Features (N, 256) of frames (N, c, h, w)."""
        histograms = self.dense(pool_to(self.histograms(frames), 15))
        return self.dropout(torch.cat([histograms, self.learnt(frames)], dim=1))


class ResidualCNN(nn.Module):
    """A residual network [1]_ for tens of thousands of faces: 256 features a frame.

    A 3×3 convolution of 32 filters and a 2×2 max pooling; a convolution of 64 filters and
    a residual block; then two stages of two residual blocks each, with 128 and 256 filters
    and half the side from stage to stage; a mean over places.
    2,718,176 parameters for gray images, 2,718,752 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image
       Recognition", CVPR 2016.
    """

    n_outputs = 256

    def __init__(self, n_channels, activation):
        super().__init__()
        act = ACTIVATIONS[activation]
        self.filters = nn.Sequential(
            *convolution(n_channels, 32, act),
            nn.MaxPool2d(2),
            *convolution(32, 64, act),
            _ResidualBlock(64, 64, act),
            _ResidualBlock(64, 128, act),
            _ResidualBlock(128, 128, act),
            _ResidualBlock(128, self.n_outputs, act),
            _ResidualBlock(self.n_outputs, self.n_outputs, act),
        ).to(memory_format=torch.channels_last)

    def forward(self, frames):
        """Features (N, 256) of frames (N, c, h, w)."""
        return self.filters(channels_last(frames)).mean(dim=(2, 3))

    def up_to_block(self, number):
        """Return the layers up to a residual block, from 1 to 5."""
        blocks = [
            i for i, part in enumerate(self.filters) if isinstance(part, _ResidualBlock)
        ]
        return self.filters[: blocks[number - 1] + 1]

    @classmethod
    def maps_shape(cls, number, shape):
        """Count maps, rows and columns of a residual block's output for images (h, w)."""
        halvings = number // 2
        height, width = (math.ceil(side // 2 / 2**halvings) for side in shape)
        return (64, 128, cls.n_outputs)[halvings], height, width


class WideResidualCNN(ResidualCNN):
    """ResidualCNN with 320 filters in its last stage: 320 features a frame.

    3,796,064 parameters for gray images, 3,796,640 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation after each convolution.
    """

    n_outputs = 320


class _ResidualBlock(nn.Module):
    """Two convolutions added to their input, which a 1×1 convolution fits if need be."""

    def __init__(self, n_channels, width, act):
        super().__init__()
        stride = 1 if width == n_channels else 2
        self.first = nn.Sequential(*convolution(n_channels, width, act, stride=stride))
        self.second = nn.Sequential(*convolution(width, width, act)[:2])
        self.fit = None
        if stride == 2:
            fit = nn.Conv2d(n_channels, width, 1, stride, bias=False)
            self.fit = nn.Sequential(fit, nn.BatchNorm2d(width))
        self.last = act()

    def forward(self, x):
        kept = x if self.fit is None else self.fit(x)
        return self.last(kept + self.second(self.first(x)))
