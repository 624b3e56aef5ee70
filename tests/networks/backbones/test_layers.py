import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from ferpipe.networks.backbones.layers import LocalContrast, SpatialTransformer
from ferpipe.networks.modules import initialize


def test_local_contrast_equals_its_definition_away_from_the_border():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(40, 40)).cumsum(0)
    centered = image - uniform_filter(image, 9)
    found = LocalContrast()(torch.from_numpy(image)[None, None])[0, 0].numpy()
    # scipy mirrors at the border: only places whose windows see neither are compared
    inner = slice(8, -8)
    deviation = np.sqrt(uniform_filter(centered**2, 9))
    ratio = (centered / deviation)[inner, inner]
    sure = deviation[inner, inner] > 1.3 * deviation.mean()
    assert sure.sum() > 20
    np.testing.assert_allclose(found[inner, inner][sure], ratio[sure], rtol=1e-4)


def test_local_contrast_does_not_see_light_and_keeps_flat_places_flat():
    image = torch.rand(2, 3, 24, 24)
    image[:, :, :12] = 0.5
    layer = LocalContrast()
    once = layer(image)
    torch.testing.assert_close(layer(3 * image + 7), once, atol=1e-4, rtol=1e-4)
    assert once[:, :, :7].abs().max() < 1e-4


@pytest.mark.parametrize("n_channels", [1, 3])
def test_spatial_transformer_starts_at_the_identity(n_channels):
    frames = torch.rand(4, n_channels, 48, 48)
    layer = initialize(SpatialTransformer(n_channels, "relu"))
    torch.testing.assert_close(layer(frames), frames, atol=1e-5, rtol=0)


def test_spatial_transformer_moves_what_it_is_told():
    frames = torch.rand(2, 1, 32, 32)
    layer = SpatialTransformer(1, "relu")
    # a shift of the grid by two pixels: one side is 2 in its units
    layer.transform.bias.data = torch.tensor([1.0, 0, 2 * 2 / 32, 0, 1, 0])
    torch.testing.assert_close(layer(frames)[..., :-2], frames[..., 2:], atol=1e-5, rtol=0)


def test_spatial_transformer_learns_where_to_look():
    """A bright square lies left or right; the target wants it in the middle."""
    torch.manual_seed(0)
    layer = SpatialTransformer(1, "relu")
    place = torch.rand(64) > 0.5
    frames = torch.zeros(64, 1, 32, 32)
    frames[place, :, 12:20, 4:12] = 1
    frames[~place, :, 12:20, 20:28] = 1
    target = torch.zeros(1, 1, 32, 32)
    target[..., 12:20, 12:20] = 1
    wide = torch.nn.AvgPool2d(9, 1, 4)
    optimizer = torch.optim.Adam(layer.parameters(), 2e-3)

    def loss():
        return (wide(layer(frames)) - wide(target)).square().mean()

    before = loss().item()
    for _ in range(150):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert loss().item() < 0.2 * before
