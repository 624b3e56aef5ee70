"""The mean of a network's weights over the last epochs of its training."""

import torch
from skorch.callbacks import Callback
from torch import nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["AverageWeights", "measure_batch_norms"]


class AverageWeights(Callback):
    """Average the weights at the ends of epochs [1]_.

    Under a constant learning rate, weights wander around a minimum of the loss; their mean
    lies nearer to it than each of them, and fits fewer wrong labels than weights that were
    trained until the learning rate was 0.

    Parameters
    ----------
    first : int
        Epoch, from 1, whose weights are the first in the mean.
    blend : dict of str to ndarray, or None
        Weights of another network with the same layers, averaged with the mean, half
        each [2]_.

    References
    ----------
    .. [1] P. Izmailov, D. Podoprikhin, T. Garipov, D. Vetrov, A. G. Wilson, "Averaging
       Weights Leads to Wider Optima and Better Generalization", UAI 2018, algorithm 1.
    .. [2] M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022, eq. (1)
       with equal shares.
    """

    state_names = ("weights_",)

    def __init__(self, first, blend):
        self.first = first
        self.blend = blend

    def on_train_begin(self, net, **kwargs):
        """Begin a new mean."""
        self.mean_ = AveragedModel(net.module_)

    def on_epoch_end(self, net, **kwargs):
        """Add the weights of this epoch to the mean."""
        if len(net.history) >= self.first:
            self.mean_.update_parameters(net.module_)

    @property
    def weights_(self):
        """The mean and the number of epochs in it, for a checkpoint."""
        return self.mean_.state_dict()

    @weights_.setter
    def weights_(self, weights):
        self.mean_.load_state_dict(weights)

    def load_mean(self, net, dataset):
        """Load the mean into the module and compute its batch norms anew."""
        mean = self.mean_.module.state_dict()
        for name, weights in (self.blend or {}).items():
            if mean[name].is_floating_point():
                mean[name] = (mean[name] + torch.from_numpy(weights).to(net.device)) / 2
        net.module_.load_state_dict(mean)
        measure_batch_norms(net, dataset)


def measure_batch_norms(net, dataset):
    """Compute the means and variances of batch norms anew, over an epoch of batches.

    A mean of weights has other statistics than the mean of the networks' statistics. The
    samples are not augmented, as they are not when the network predicts.

    Parameters
    ----------
    net : Net
        skorch net with its module; the norms of a frozen backbone stay as they are.
    dataset : FrameDataset
        Training samples.
    """
    # torch's update_bn also resets the norms of a frozen backbone
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
