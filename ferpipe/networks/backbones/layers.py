"""Layers that frame networks are built from."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    affine_grid,
    avg_pool2d,
    grid_sample,
)

__all__ = [
    "ACTIVATIONS",
    "LocalContrast",
    "SpatialTransformer",
    "channels_last",
    "convolution",
    "in_channels_last",
    "pool_to",
]

ACTIVATIONS = {"elu": nn.ELU, "relu": nn.ReLU}


def convolution(
    n_channels: int,
    width: int,
    activation: Callable[[], nn.Module],
    size: int = 3,
    stride: int = 1,
) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return a convolution without bias, its batch norm and its activation."""
    layer = nn.Conv2d(n_channels, width, size, stride, padding=size // 2, bias=False)
    return layer, nn.BatchNorm2d(width), activation()


def channels_last(frames: torch.Tensor) -> torch.Tensor:
    """Order in memory in which convolutions and pooling take two thirds of the time."""
    return frames.contiguous(memory_format=torch.channels_last)


def in_channels_last(*layers: nn.Module) -> nn.Sequential:
    """Return layers whose weights are in the order of memory of :func:`channels_last`."""
    # torch's types leave out this overload
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def pool_to(features: torch.Tensor, size: int) -> torch.Tensor:
    """Mean over a grid of cells; torch's pooling is slow even where it changes nothing."""
    if features.shape[-2:] == (size, size):
        return features
    return adaptive_avg_pool2d(features, size)


class LocalContrast(nn.Module):
    """Subtract the mean of 9×9 pixels around, divide by their deviation, map by map.

    Deviations below their mean over the map are raised to it, so that flat places stay
    flat [1]_. Nothing is trained.

    References
    ----------
    .. [1] K. Jarrett, K. Kavukcuoglu, M. Ranzato, Y. LeCun, "What is the best multi-stage
       architecture for object recognition?", ICCV 2009, section 2 (there over all maps
       together, with a Gaussian window).
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return normalized maps (N, c, h, w)."""
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            centered = maps - _around(maps)
            deviation = (_around(centered.square()) + 1e-8).sqrt()
            return centered / deviation.maximum(deviation.mean(dim=(2, 3), keepdim=True))


class SpatialTransformer(nn.Module):
    """Turn, resize and shift images to the part that matters for the next layers [1]_.

    A localization network of three convolutions, each with 2×2 max pooling and
    activation, and three dense layers gives the six numbers of an affine transform; the
    image is sampled there. It starts at the identity. 24,774 parameters for gray images,
    25,574 for RGB.

    Parameters
    ----------
    n_channels : int
        1 for gray, 3 for RGB images.
    activation : {"elu", "relu"}
        Activation of its layers.

    References
    ----------
    .. [1] M. Jaderberg, K. Simonyan, A. Zisserman, K. Kavukcuoglu, "Spatial Transformer
       Networks", NeurIPS 2015, eq. (1).
    """

    def __init__(self, n_channels: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        layers = []
        for width, size in ((16, 5), (16, 3), (16, 3)):
            filters = nn.Conv2d(n_channels, width, size, padding=size // 2)
            layers += [filters, nn.MaxPool2d(2), act()]
            n_channels = width
        self.look = nn.Sequential(*layers)
        self.decide = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 36, 32), act(), nn.Linear(32, 32), act()
        )
        self.transform = nn.Linear(32, 6)
        self.start_at_identity()

    def start_at_identity(self) -> None:
        """Set the last layer so that every image stays as it is."""
        nn.init.zeros_(self.transform.weight)
        self.transform.bias.data = torch.tensor([1.0, 0, 0, 0, 1, 0])

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (N, c, h, w) as the localization network wants them."""
        matrices = self.transform(self.decide(pool_to(self.look(frames), 6)))
        with torch.autocast(frames.device.type, enabled=False):
            frames = frames.float()
            grid = affine_grid(
                matrices.float().reshape(-1, 2, 3), list(frames.shape), align_corners=False
            )
            return grid_sample(frames, grid, padding_mode="border", align_corners=False)


def _around(maps: torch.Tensor) -> torch.Tensor:
    return avg_pool2d(maps, 9, 1, 4, count_include_pad=False)
