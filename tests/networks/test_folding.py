import numpy as np
import pytest
import torch
from torch import nn

from ferpipe import pretrained
from ferpipe.networks.backbones.layers import convolution
from ferpipe.networks.backbones.registry import BACKBONES, find_backbone
from ferpipe.networks.folding import fold_batch_norms


def with_trained_norms(module):
    """Give batch norms means, deviations, factors and shifts that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(part.weight, generator=generator)
            nn.init.normal_(part.bias, generator=generator)
    return module.eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_answers_stay(name):
    module = with_trained_norms(find_backbone(name)(1, "relu"))
    frames = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = module(frames)
        folded = fold_batch_norms(module)(frames)
    scale = expected.abs().max()
    np.testing.assert_allclose(folded / scale, expected / scale, atol=1e-5)


def test_norms_behind_convolutions_go_and_others_stay():
    module = nn.Sequential(
        *convolution(1, 4, nn.ReLU), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    folded = fold_batch_norms(module)
    kinds = [type(part).__name__ for part in folded]
    assert kinds == ["Conv2d", "Identity", "ReLU", "BatchNorm2d", "Conv2d"]
    assert not folded.training
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in before)


def test_shipped_network_has_none_left():
    folded = pretrained("fer2013").inference_module_
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
