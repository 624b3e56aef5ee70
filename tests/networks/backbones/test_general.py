import math

import pytest
import torch

from ferpipe.networks.backbones import general, papers
from ferpipe.networks.backbones.general import GradientHistograms
from ferpipe.networks.backbones.registry import BACKBONES, find_backbone


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("size", [32, 48, 96])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_frame_networks_take_faces_of_any_usual_size(name, size, n_channels):
    network = find_backbone(name)(n_channels, "relu").eval()
    features = network(torch.rand(2, n_channels, size, size))
    assert features.shape == (2, network.n_outputs)
    assert torch.isfinite(features).all()


def test_every_backbone_has_a_name():
    classes = [
        getattr(module, name) for module in (general, papers) for name in module.__all__
    ]
    built = {value for value in classes if hasattr(value, "n_outputs")}
    assert {find_backbone(name) for name in BACKBONES} == built


@pytest.mark.parametrize(
    "network", [find_backbone(name) for name in BACKBONES if name != "paper_000"]
)
def test_parameter_counts_in_docstrings(network):
    for n_channels in (1, 3):
        assert f"{count(network(n_channels, 'relu')):,}" in network.__doc__


def test_gradient_histograms_vote_for_the_direction_across_an_edge():
    histograms = GradientHistograms()
    place = torch.arange(48.0)
    for bin_number in range(9):
        angle = bin_number * math.pi / 9
        ramp = math.cos(angle) * place[None, :] + math.sin(angle) * place[:, None]
        for image in (ramp, 5 - 3 * ramp):
            votes = histograms(image[None, None])[0]
            assert votes.shape == (9, 15, 15)
            assert (votes[:, 2:-2, 2:-2].argmax(dim=0) == bin_number).all()
