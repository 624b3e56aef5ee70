import numpy as np
import pytest
import torch

from ferpipe.candide.fit_network import WireframeNetwork

N_UNITS = 79


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return WireframeNetwork(
        96,
        (16, 32, 64, 128),
        38,
        scale=40.0,
        unit_mean=np.linspace(-1, 1, N_UNITS),
        unit_spread=np.full(N_UNITS, 0.5),
    ).eval()


def test_it_has_as_many_parameters_as_it_says(network):
    n_parameters = sum(one.numel() for one in network.parameters())
    assert f"{n_parameters:,} parameters" in WireframeNetwork.__doc__


def test_it_gives_parameters_and_points(network):
    with torch.no_grad():
        parameters, points = network(torch.rand(3, 1, 96, 96) * 255)
    assert parameters.shape == (3, 6 + N_UNITS)
    assert points.shape == (3, 38, 2)
    assert (parameters[:, 3] > 0).all()
    assert ((points > -20) & (points < 116)).all()


def test_normalized_undoes_what_it_does_to_what_is_learned(network):
    with torch.no_grad():
        parameters, _ = network(torch.rand(3, 1, 96, 96) * 255)
        normal = network.normalized(parameters)
        pose = network.mean[:3] + normal[:, :3] * network.spread[:3]
        scale = 40 * torch.exp(network.spread[3] * normal[:, 3])
    torch.testing.assert_close(pose, parameters[:, :3])
    torch.testing.assert_close(scale, parameters[:, 3])
    # the mean face is at 0
    mean = network.mean[None].clone()
    mean[:, 3] = 40
    torch.testing.assert_close(network.normalized(mean), torch.zeros_like(mean))


def test_brightness_and_contrast_hardly_matter(network):
    crops = torch.rand(2, 1, 96, 96) * 200
    with torch.no_grad():
        one, _ = network(crops)
        other, _ = network(crops * 1.1 + 20)
    assert (network.normalized(one) - network.normalized(other)).abs().max() < 0.1


def test_gradients_reach_every_weight(network):
    parameters, points = network(torch.rand(4, 1, 96, 96) * 255)
    (network.normalized(parameters).square().sum() + points.square().sum()).backward()
    for one in network.parameters():
        assert one.grad is not None
        assert one.grad.abs().sum() > 0
