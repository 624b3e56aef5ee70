"""The network that finds points in a crop of a face, and its export to ONNX."""

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ferpipe.faces.landmark_points import N_POINTS

__all__ = ["CropNetwork", "PointNetwork", "export_network"]

# number of weights from which a fully connected layer also computes in 8-bit integers
_LARGE = 500_000


class CropNetwork(nn.Module):
    """A network that takes crops of one size.

    Attributes
    ----------
    size : int
        Side of the crops, in pixels.
    """

    size: int


class PointNetwork(CropNetwork):
    """Convolutions down to 1/16 of a crop and back to 1/8, with one heat map per point.

    A point is the mean position under the softmax of its heat map (integral regression
    [1]_), so that training minimizes the error of the position.

    Parameters
    ----------
    size : int
        Side of the crop, in pixels; a multiple of 16.
    channels : (int, int, int, int)
        Numbers of feature maps at 1/2, 1/4, 1/8 and 1/16 of the side.
    n_points : int, default=68
        Number of points.

    Notes
    -----
    It has 572,476 parameters with the channels 16, 32, 64, 128 and 68 points. It first
    standardizes crops to mean 0 and standard deviation 1.

    References
    ----------
    .. [1] X. Sun, B. Xiao, F. Wei, S. Liang, Y. Wei, "Integral Human Pose Regression",
       ECCV 2018, eq. (1).
    """

    places: torch.Tensor

    def __init__(
        self,
        size: int,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        n_points: int = N_POINTS,
    ) -> None:
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
        self.heat = nn.Conv2d(eighth, n_points, 1)
        self.shift = nn.Parameter(torch.zeros(n_points, 2))
        self.register_buffer("places", 8 * (torch.arange(size // 8) + 0.5) - 0.5)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Find the points.

        Parameters
        ----------
        crops : tensor of shape (n, 1, size, size)
            Gray values 0..255.

        Returns
        -------
        points : tensor of shape (n, n_points, 2), float32
            ``(x, y)`` in pixels of the crop.
        """
        return self.points_in(self.features(crops)[0])

    def features(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the feature maps at 1/8 and at 1/16 of the side."""
        mean = crops.mean((2, 3), keepdim=True)
        deviation = ((crops - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        fine = self.to_eighth((crops - mean) / (deviation + 8))
        coarse = self.to_sixteenth(fine)
        back = functional.interpolate(self.back(coarse), scale_factor=2.0, mode="nearest")
        return self.mix(functional.relu(back + fine)), coarse

    def points_in(self, fine: torch.Tensor) -> torch.Tensor:
        """Return the points from the feature maps at 1/8 of the side, in pixels."""
        heat = self.heat(fine).float()
        weights = heat.flatten(2).softmax(2).view(heat.shape)
        x = (weights.sum(2) * self.places).sum(2)
        y = (weights.sum(3) * self.places).sum(2)
        return torch.stack([x, y], 2) + 8 * self.shift


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(channels, channels))
        self.second = nn.Sequential(*_convolution(channels, channels)[:2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _convolution(
    n_in: int, n_out: int, kernel: int = 3, stride: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    return (
        nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class _FromBytes(nn.Module):
    """Takes the crop in uint8."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.network(crops.float())


def export_network(
    network: CropNetwork,
    path: Path | str,
    crops: np.ndarray,
    *,
    outputs: tuple[str, ...] = ("points",),
    **facts: Any,
) -> None:
    """Write a network as an ONNX file whose convolutions compute in 8-bit integers.

    Weights are rounded to 7 bits per channel, so that integer sums overflow on no processor
    and results are the same on all; the ranges of activations are the 99.99 % quantiles
    over the crops. The first convolution and the last, which makes heat maps, stay in
    floating point: they cost little time and would lose the most precision.

    Parameters
    ----------
    network : CropNetwork
        A trained network that takes crops as :class:`PointNetwork` does.
    path : str or path
        The file.
    crops : ndarray of shape (n, size, size), uint8
        Crops like those that the network will process.
    outputs : tuple of str, default=("points",)
        Names of the network's outputs.
    **facts : numbers, strings and lists
        Metadata of the file, written as JSON.
    """
    import onnx

    size = network.size
    with tempfile.TemporaryDirectory() as folder, _quiet():
        exact, clean, whole = (Path(folder, f"{n}.onnx") for n in range(3))
        program = torch.onnx.export(
            _FromBytes(network).eval(),
            (torch.zeros(1, 1, size, size, dtype=torch.uint8),),
            dynamo=True,
            input_names=["crop"],
            output_names=list(outputs),
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned no program.")
        onnx.save(program.model_proto, exact)
        _quantize(exact, clean, whole, crops)
        model = onnx.load(whole)
    # remove paths and other traces of the exporter
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.helper.set_model_props(model, {key: json.dumps(facts[key]) for key in facts})
    onnx.checker.check_model(model)
    part = Path(path).with_suffix(".part")
    part.write_bytes(model.SerializeToString())
    part.replace(path)


def _quantize(exact: Path, clean: Path, whole: Path, crops: np.ndarray) -> None:
    import onnx

    # otherwise ONNX Runtime writes an identifier to disk and sends telemetry
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Crops(quantization.CalibrationDataReader):
        rest = iter(crops)

        def get_next(self) -> dict[str, np.ndarray] | None:
            crop = next(self.rest, None)
            return None if crop is None else {"crop": crop[None, None]}

    quant_pre_process(str(exact), str(clean))
    graph = onnx.load(clean).graph
    convolutions = [node.name for node in graph.node if node.op_type == "Conv"]
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer}
    layers = {
        node.name: sizes.get(node.input[1], 0)
        for node in graph.node
        if node.op_type == "Gemm"
    }
    # small layers take longer to load than to compute
    small = [name for name, size in layers.items() if size < _LARGE]
    quantization.quantize_static(
        str(clean),
        str(whole),
        Crops(),
        op_types_to_quantize=["Conv", "Gemm"],
        nodes_to_exclude=[convolutions[0], convolutions[-1], *small],
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.Percentile,
        extra_options={"CalibPercentile": 99.99},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the log messages of the exporter and the quantizer."""
    levels = {name: logging.getLogger(name).level for name in (None, "torch.onnx")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
