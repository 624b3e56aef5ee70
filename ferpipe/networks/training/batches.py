"""Training data as batches of frames: whole batches at a time, no padding."""

import math
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Batch", "Batches", "FrameDataset", "balanced_order", "count_batches"]


@dataclass
class Batch:
    """Frames of some samples, one after the other.

    Attributes
    ----------
    frames : Tensor of shape (N, c, h, w) or (N, d)
        Frames of all samples.
    lengths : Tensor of shape (n_samples,) or None
        Number of frames of each sequence; None for single images.
    n_samples : int
        Number of images or sequences.
    soft_targets : Tensor of shape (n_samples, n_classes) or None
        Probabilities that a teacher predicts.
    weights : Tensor of shape (n_samples,) or None
        Factor of each sample's loss.
    """

    frames: torch.Tensor
    lengths: torch.Tensor | None
    n_samples: int
    soft_targets: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    def __len__(self):
        return self.n_samples


class FrameDataset(torch.utils.data.Dataset):
    """Images or sequences, given out a whole batch at a time.

    Parameters
    ----------
    X : ndarray of shape (n, h, w) or (n, h, w, 3), or list of ndarray (T_i, ...)
        Images, or sequences of images or features. Images stay as they are, and where they
        are: only those of a batch are looked at.
    y : ndarray of shape (n,) or None, default=None
        Classes as integers.
    places : ndarray of int or None, default=None
        Which samples belong to it, of ``X``, ``y`` and ``weights``; None for all.
    weights : ndarray of shape (n,) or None, default=None
        Factor of each sample's loss; None for 1.

    Attributes
    ----------
    soft_targets : float Tensor of shape (n, n_classes) or None
        Probabilities that a teacher predicts; batches hold those of their samples.
    """

    def __init__(self, X, y=None, places=None, weights=None):
        y = np.zeros(len(X), np.int64) if y is None else np.asarray(y)
        self.sequences = isinstance(X, list)
        if self.sequences:
            X = [_compact(x) for x in (X if places is None else [X[i] for i in places])]
        self.X = X
        self.places = None if self.sequences else places
        self.y = torch.as_tensor(y if places is None else y[places])
        self.soft_targets = None
        self.weights = None
        if weights is not None:
            weights = weights if places is None else weights[places]
            self.weights = torch.as_tensor(weights, dtype=torch.float32)

    def __len__(self):
        return len(self.y)

    def samples(self):
        """Return its samples, in memory if they are some of many."""
        if self.sequences:
            return self.X
        return _compact(self.X if self.places is None else self.X[self.places])

    def __getitems__(self, indices):
        if self.sequences:
            chosen = [self.X[index] for index in indices]
            lengths = torch.tensor([len(frames) for frames in chosen])
            batch = Batch(_to_tensor(np.concatenate(chosen)), lengths, len(indices))
        else:
            places = indices if self.places is None else self.places[indices]
            batch = Batch(_to_tensor(_compact(self.X[places])), None, len(indices))
        if self.soft_targets is not None:
            batch.soft_targets = self.soft_targets[indices]
        if self.weights is not None:
            batch.weights = self.weights[indices]
        return batch, self.y[indices]


class Batches:
    """An epoch of nearly equal batches, in a new order each time.

    Parameters
    ----------
    dataset : FrameDataset
        Samples.
    batch_size : int
        Largest number of samples in a batch (one more if one would be left alone).
    sampling : {None, "shuffle", "balanced"}, default=None
        None keeps the order.
    generator : torch.Generator or None, default=None
        Source of the orders.
    """

    def __init__(self, dataset, batch_size, sampling=None, generator=None):
        self.dataset = dataset
        self.sampling = sampling
        self.generator = generator
        self.n_batches = count_batches(len(dataset), batch_size)

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for indices in self._order().tensor_split(self.n_batches):
            yield self.dataset.__getitems__(indices.numpy())

    def _order(self):
        if self.sampling == "shuffle":
            return torch.randperm(len(self.dataset), generator=self.generator)
        if self.sampling == "balanced":
            return balanced_order(self.dataset.y, self.generator)
        return torch.arange(len(self.dataset))


def count_batches(n_samples, batch_size):
    """Batches an epoch; batch norms cannot train on one sample, so none is left alone."""
    return max(1, min(math.ceil(n_samples / batch_size), n_samples // 2))


def balanced_order(target, generator):
    """As many indices as there are samples, with all classes equally often (±1)."""
    shares = torch.arange(len(target)).tensor_split(int(target.max()) + 1)
    lucky = torch.randperm(len(shares), generator=generator)
    chosen = []
    for label, place in enumerate(lucky.tolist()):
        members = torch.nonzero(target == label)[:, 0]
        wanted = len(shares[place])
        rounds = [
            members[torch.randperm(len(members), generator=generator)]
            for _ in range(math.ceil(wanted / len(members)))
        ]
        chosen.append(torch.cat(rounds)[:wanted])
    order = torch.cat(chosen)
    return order[torch.randperm(len(order), generator=generator)]


def _compact(array):
    array = np.asarray(array)
    return array if array.dtype == np.uint8 else np.asarray(array, np.float32)


def _to_tensor(frames):
    frames = torch.from_numpy(frames).float()
    if frames.ndim == 3:
        return frames[:, None]
    return frames.permute(0, 3, 1, 2) if frames.ndim == 4 else frames
