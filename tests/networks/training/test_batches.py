import numpy as np
import torch

from ferpipe.networks.training.batches import (
    Batches,
    FrameDataset,
    balanced_order,
    count_batches,
)


def test_balanced_sampling_shows_classes_equally_often():
    target = torch.tensor([0] * 70 + [1] * 25 + [2] * 5)
    source = torch.Generator().manual_seed(0)
    order = balanced_order(target, source)
    assert len(order) == 100
    assert sorted(torch.bincount(target[order]).tolist()) == [33, 33, 34]
    rare = torch.bincount(order[target[order] == 2] - 95)
    assert rare.min() >= 6
    assert torch.bincount(order[target[order] == 0]).max() == 1
    assert not torch.equal(order, balanced_order(target, source))


def test_batches_are_nearly_equal_and_none_holds_one_sample():
    for n in range(2, 60):
        for batch_size in (2, 3, 8, 32):
            dataset = FrameDataset(np.zeros((n, 4, 4), np.uint8), np.arange(n))
            batches = list(Batches(dataset, batch_size, "shuffle"))
            sizes = [len(inputs) for inputs, _ in batches]
            assert len(batches) == count_batches(n, batch_size)
            assert min(sizes) >= 2
            assert max(sizes) <= max(batch_size, 3)
            assert max(sizes) - min(sizes) <= 1
            assert sorted(torch.cat([y for _, y in batches]).tolist()) == list(range(n))


def test_a_batch_is_float_channel_first_and_keeps_each_sequences_length():
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 256, (T, 5, 4, 3), dtype=np.uint8) for T in (2, 1, 3)]
    batch, y = FrameDataset(X, np.array([7, 8, 9])).__getitems__([2, 0])
    assert batch.lengths.tolist() == [3, 2]
    assert y.tolist() == [9, 7]
    assert batch.frames.dtype == torch.float32
    expected = np.concatenate([X[2], X[0]]).transpose(0, 3, 1, 2)
    assert np.array_equal(batch.frames.numpy(), expected)
    gray, _ = FrameDataset(X[0][..., 0]).__getitems__([1])
    assert gray.frames.shape == (1, 1, 5, 4)
    assert gray.lengths is None


def test_a_batch_has_the_soft_targets_of_its_samples():
    X = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    dataset = FrameDataset(X, np.zeros(10, int), places=np.arange(9, 1, -1))
    dataset.soft_targets = torch.arange(8.0)[:, None]
    for batch, _ in Batches(dataset, 3, "shuffle", torch.Generator().manual_seed(0)):
        assert torch.equal(9 - batch.frames[:, 0, 0, 0], batch.soft_targets[:, 0])


def test_images_stay_where_they_are_and_some_of_them_are_chosen_by_place():
    X = np.random.default_rng(0).random((6, 4, 5))
    y = np.arange(6)
    dataset = FrameDataset(X, y, np.array([5, 0, 3]))
    assert dataset.X is X
    assert len(dataset) == 3
    assert dataset.y.tolist() == [5, 0, 3]
    batch, target = dataset.__getitems__(np.array([2, 0]))
    assert target.tolist() == [3, 5]
    assert batch.frames.dtype == torch.float32
    np.testing.assert_array_equal(batch.frames[:, 0], X[[3, 5]].astype(np.float32))
    np.testing.assert_array_equal(dataset.samples(), X[[5, 0, 3]].astype(np.float32))
    sequences = FrameDataset(list(X), y, np.array([4, 1]))
    assert len(sequences) == 2
    np.testing.assert_array_equal(sequences.samples()[0], X[4].astype(np.float32))
