"""The network that computes the wireframe's parameters from a crop of a face."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ferpipe.candide.model import POSE_NAMES
from ferpipe.faces.landmark_network import CropNetwork, PointNetwork

__all__ = ["WireframeNetwork"]

_N_POSE = len(POSE_NAMES)
# standard deviations of rx, ry, rz (radians), of log s, and of tx and ty in typical scales
_POSE_SPREAD = (0.3, 0.3, 0.3, 0.1, 0.1, 0.1)


class WireframeNetwork(CropNetwork):
    """A :class:`~ferpipe.faces.landmark_network.PointNetwork` with a head for parameters.

    Heat maps find the visible points of the wireframe. Fully connected layers compute the
    parameters from these points and from the feature maps, each reduced by a convolution:
    the points determine the pose and most units, folds and shading separate units that
    move the points alike.

    Parameters
    ----------
    size : int
        Side of the crop, in pixels; a multiple of 16.
    channels : (int, int, int, int)
        As for PointNetwork.
    n_points : int
        Number of visible points.
    scale : float
        Typical s of faces in crops, in pixels.
    unit_mean, unit_spread : array-like of shape (n_units,)
        Means and standard deviations of the shape and animation parameters, which
        standardize the output.

    Notes
    -----
    1,873,384 parameters with crops of 96 pixels, the channels 16, 32, 64, 128, 38 points
    and 79 units.
    """

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        size: int,
        channels: tuple[int, ...],
        n_points: int,
        *,
        scale: float,
        unit_mean: Sequence[float] | np.ndarray,
        unit_spread: Sequence[float] | np.ndarray,
    ) -> None:
        super().__init__()
        self.size = size
        self.points = PointNetwork(size, channels, n_points)
        *_, eighth, sixteenth = channels
        self.narrow_fine = _narrowed(eighth, 16)
        self.narrow_coarse = _narrowed(sixteenth, 64)
        n_maps = 16 * (size // 8) ** 2 + 64 * (size // 16) ** 2
        n_parameters = _N_POSE + len(unit_mean)
        self.seen = nn.Sequential(nn.Dropout(0.1), nn.Linear(n_maps, 256), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(256 + 2 * n_points, 256), nn.ReLU())
        self.from_hidden = nn.Linear(256, n_parameters)
        self.from_points = nn.Linear(2 * n_points, n_parameters)
        middle = (size - 1) / 2
        for name, values in (
            ("mean", (0, 0, 0, 0, middle, middle, *unit_mean)),
            (
                "spread",
                (
                    *_POSE_SPREAD[:4],
                    scale * _POSE_SPREAD[4],
                    scale * _POSE_SPREAD[5],
                    *unit_spread,
                ),
            ),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        self.scale = scale

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find parameters and points.

        Parameters
        ----------
        crops : tensor of shape (n, 1, size, size)
            Gray values 0..255.

        Returns
        -------
        parameters : tensor of shape (n, n_parameters), float32
            Head pose (radians and pixels of the crop), shape and animation parameters.
        points : tensor of shape (n, n_points, 2), float32
            ``(x, y)`` in pixels of the crop.
        """
        fine, coarse = self.points.features(crops)
        # before the heat maps: export_network expects their convolution to be the last
        narrow = (self.narrow_fine(fine).flatten(1), self.narrow_coarse(coarse).flatten(1))
        points = self.points.points_in(fine)
        positions = ((points - self.mean[4:6]) / self.spread[4:6]).flatten(1)
        features = self.seen(torch.cat(narrow, 1))
        hidden = self.hidden(torch.cat([features, 0.3 * positions], 1))
        learned = self.from_hidden(hidden).float() + self.from_points(positions).float()
        whole = self.mean + self.spread * learned
        scale = self.scale * torch.exp(whole[:, 3:4])
        return torch.cat([whole[:, :3], scale, whole[:, 4:]], 1), points

    def normalized(self, parameters: torch.Tensor) -> torch.Tensor:
        """Standardize parameters: means 0, standard deviations 1, s as its logarithm."""
        scale = torch.log(parameters[:, 3:4] / self.scale)
        whole = torch.cat([parameters[:, :3], scale, parameters[:, 4:]], 1)
        return (whole - self.mean) / self.spread


def _narrowed(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )
