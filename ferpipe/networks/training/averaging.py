"""The mean of a network's weights over the last epochs of its training."""

import torch
from skorch.callbacks import Callback
from torch import nn

__all__ = ["AverageWeights", "measure_batch_norms"]


class AverageWeights(Callback):
    """Average the weights at the ends of epochs [1]_.

    Under a learning rate that stays, weights wander around the middle of a valley; their
    mean lies nearer to it than any of them, and it has learnt fewer wrong labels by heart
    than weights on which the learning rate has fallen to 0.

    Parameters
    ----------
    first : int
        Epoch, from 1, whose weights are the first to count.
    partner : dict of str to ndarray, or None
        Weights of another network of this kind, which are to take half of the mean [2]_.

    References
    ----------
    .. [1] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson, "Averaging
       Weights Leads to Wider Optima and Better Generalization", UAI 2018, algorithm 1.
    .. [2] M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022, eq. (1)
       with equal shares.
    """

    state_names = ("mean_", "n_averaged_")

    def __init__(self, first, partner):
        self.first = first
        self.partner = partner

    def on_train_begin(self, net, **kwargs):
        """Forget earlier trainings."""
        self.mean_ = None
        self.n_averaged_ = 0

    def on_epoch_end(self, net, **kwargs):
        """Let the weights of this epoch count."""
        if len(net.history) < self.first:
            return
        weights = net.module_.state_dict()
        self.n_averaged_ += 1
        if self.mean_ is None:
            self.mean_ = {name: value.cpu().clone() for name, value in weights.items()}
        for name, mean in self.mean_.items():
            if mean.is_floating_point():
                # on the CPU, where a checkpoint brings it back
                mean += (weights[name].cpu() - mean) / self.n_averaged_

    def put_in_place(self, net, dataset):
        """Give the module the mean, and batch norms that were measured on it."""
        kept = dict(self.mean_)
        for name, weights in (self.partner or {}).items():
            if kept[name].is_floating_point():
                kept[name] = (kept[name] + torch.from_numpy(weights)) / 2
        net.module_.load_state_dict(kept)
        measure_batch_norms(net, dataset)


def measure_batch_norms(net, dataset):
    """Measure the means and variances of batch norms anew, over an epoch of batches.

    Those of a mean of weights are not the mean of those of the weights. Samples are taken
    as they are, without the random changes of the training, for so they come afterwards.

    Parameters
    ----------
    net : Net
        skorch net with its module; norms of a frozen frame network stay as they are.
    dataset : FrameDataset
        Training samples.
    """
    net.module_.train()
    norms = [
        part
        for part in net.module_.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training
    ]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # the mean over all batches with equal weight
        norm.momentum = None
    with torch.no_grad():
        for batch, _ in net.get_iterator(dataset, training=True):
            net.infer(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
