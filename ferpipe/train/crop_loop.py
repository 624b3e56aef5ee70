"""The training of a small network on crops that are drawn as it goes."""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from ferpipe.networks.training.loop import find_device, uses_bfloat16

__all__ = ["train_network"]

Network = TypeVar("Network", bound=nn.Module)

# of the old weights in the running mean, at most
_LONGEST_MEMORY = 0.998


def train_network(
    make_network: Callable[[], Network],
    draw_batch: Callable[[], tuple[Any, Any]],
    loss_of: Callable[[Any, Any], torch.Tensor],
    *,
    n_epochs: int,
    n_steps: int,
    lr: float,
    weight_decay: float,
    seed: int,
    progress: "tqdm[Any]",
) -> Network:
    """Train a network by AdamW on one cycle of the learning rate.

    Parameters
    ----------
    make_network : callable
        Makes it; its weights follow from the seed.
    draw_batch : callable
        Returns the images (n, size, size) of the next step, float32, and what they show.
    loss_of : callable
        Takes what the network gives and what the images show; returns the loss.
    n_epochs, n_steps : int
        Epochs, and steps in each.
    lr : float
        Highest learning rate of the cycle.
    weight_decay : float
        AdamW's.
    seed : int
        Of the weights.
    progress : tqdm
        Counts epochs; closed at the end.

    Returns
    -------
    network : nn.Module
        With the running mean of the weights, in evaluation mode.
    """
    device = find_device("auto")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make_network().to(device)
        # the stubs of torch leave out that `to` takes this alone
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=n_epochs * n_steps, pct_start=0.1
    )
    step = 0
    network.train()
    for _ in range(n_epochs):
        total = 0.0
        for _ in range(n_steps):
            images, shown = draw_batch()
            batch = torch.from_numpy(images)[:, None].to(device)
            with torch.autocast(
                device, torch.bfloat16, enabled=uses_bfloat16("auto", device)
            ):
                found = network(batch.contiguous(memory_format=torch.channels_last))
            loss = loss_of(found, shown)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            _average(average, network, min(_LONGEST_MEMORY, (1 + step) / (10 + step)))
            total += loss.item()
        progress.set_postfix(loss=f"{total / n_steps:.4f}", refresh=False)
        progress.update()
    progress.close()
    return average.cpu()


def _average(average: nn.Module, network: nn.Module, share: float) -> None:
    with torch.no_grad():
        states = zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        )
        for mean, new in states:
            if mean.dtype.is_floating_point:
                mean.mul_(share).add_(new, alpha=1 - share)
            else:
                mean.copy_(new)
