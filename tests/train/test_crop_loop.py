import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ferpipe.train.crop_loop import train_network


def make_network():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 1))


def train(n_epochs=30, seed=0):
    """Learn the mean of an image."""
    rng = np.random.default_rng(1)

    def sample_batch():
        images = rng.normal(size=(16, 2, 2)).astype(np.float32)
        return images, images.mean((1, 2))

    return train_network(
        make_network,
        sample_batch,
        lambda found, means: (
            (found.float()[:, 0] - torch.from_numpy(means)).square().mean()
        ),
        n_epochs=n_epochs,
        n_steps=20,
        lr=0.05,
        weight_decay=0.0,
        seed=seed,
        progress=tqdm(total=n_epochs, disable=True),
    )


def test_it_learns():
    weights = train()[1].weight.detach().numpy()
    np.testing.assert_allclose(weights, 0.25, atol=0.02)


def test_same_seed_same_weights():
    one, same, other = train(2), train(2), train(2, seed=1)
    assert torch.equal(one[1].weight, same[1].weight)
    assert not torch.equal(one[1].weight, other[1].weight)


def test_the_running_mean_is_returned_ready_to_use():
    before = torch.get_rng_state()
    network = train(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
