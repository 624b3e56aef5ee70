"""The network that finds 68 points in a crop of a face, and how it is written to a file."""

import json
import logging
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from ferpipe.landmarks.points import N_POINTS

__all__ = ["PointNetwork", "export_network"]


class PointNetwork(nn.Module):
    """Convolutions down to 1/16 of a crop and back to 1/8; one heat map a point.

    A point is the mean position under the softmax of its heat map (integral regression
    [1]_), so that the error of its place is what training lowers.

    Parameters
    ----------
    size : int
        Side of the crop, in pixels; a multiple of 16.
    channels : (int, int, int, int)
        Feature maps at 1/2, 1/4, 1/8 and 1/16 of the side.

    Notes
    -----
    572,476 parameters with the channels 16, 32, 64, 128. Crops are brought to mean 0 and
    standard deviation 1 first.

    References
    ----------
    .. [1] X. Sun, B. Xiao, F. Wei, S. Liang, Y. Wei, "Integral Human Pose Regression",
       ECCV 2018, eq. (1).
    """

    def __init__(self, size, channels=(16, 32, 64, 128)):
        super().__init__()
        self.size = size
        half, quarter, eighth, sixteenth = channels
        self.to_eighth = nn.Sequential(
            *_convolution(1, half, kernel=5, stride=2),
            *_convolution(half, quarter, stride=2),
            _Residual(quarter),
            *_convolution(quarter, eighth, stride=2),
            _Residual(eighth),
        )
        self.to_sixteenth = nn.Sequential(
            *_convolution(eighth, sixteenth, stride=2), _Residual(sixteenth)
        )
        self.back = nn.Sequential(
            nn.Conv2d(sixteenth, eighth, 1, bias=False), nn.BatchNorm2d(eighth)
        )
        self.mix = _Residual(eighth)
        self.heat = nn.Conv2d(eighth, N_POINTS, 1)
        self.shift = nn.Parameter(torch.zeros(N_POINTS, 2))
        self.register_buffer("places", 8 * (torch.arange(size // 8) + 0.5) - 0.5)

    def forward(self, crops):
        """Find the points.

        Parameters
        ----------
        crops : tensor of shape (n, 1, size, size)
            Grey values 0..255.

        Returns
        -------
        points : tensor of shape (n, 68, 2), float32
            ``(x, y)`` in pixels of the crop.
        """
        mean = crops.mean((2, 3), keepdim=True)
        deviation = ((crops - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        fine = self.to_eighth((crops - mean) / (deviation + 8))
        coarse = self.back(self.to_sixteenth(fine))
        coarse = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        heat = self.heat(self.mix(functional.relu(coarse + fine))).float()
        weights = heat.flatten(2).softmax(2).view(heat.shape)
        x = (weights.sum(2) * self.places).sum(2)
        y = (weights.sum(3) * self.places).sum(2)
        return torch.stack([x, y], 2) + 8 * self.shift


class _Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Sequential(*_convolution(channels, channels))
        self.second = nn.Sequential(*_convolution(channels, channels)[:2])

    def forward(self, x):
        return functional.relu(x + self.second(self.first(x)))


def _convolution(n_in, n_out, kernel=3, stride=1):
    return (
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class _FromBytes(nn.Module):
    """Takes the crop as it is cut out, in uint8."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, crops):
        return self.network(crops.float())


def export_network(network, path, **facts):
    """Write a network as an ONNX file that takes one uint8 crop.

    Parameters
    ----------
    network : PointNetwork
        Trained.
    path : str or path
        The file.
    **facts : numbers and lists
        What whoever runs it must know; written as JSON into the file's metadata.
    """
    import onnx

    module = _FromBytes(network).eval()
    crop = torch.zeros(1, 1, network.size, network.size, dtype=torch.uint8)
    # the exporter warns of its own inner workings, and logs operators that it lacks
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (crop,),
            dynamo=True,
            input_names=["crop"],
            output_names=["points"],
            verbose=False,
        )
    logger.setLevel(level)
    model = program.model_proto
    # where the exporter stood and what it was given is nobody's concern
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, {key: json.dumps(facts[key]) for key in facts})
    onnx.checker.check_model(model)
    part = Path(path).with_suffix(".part")
    part.write_bytes(model.SerializeToString())
    part.replace(path)
