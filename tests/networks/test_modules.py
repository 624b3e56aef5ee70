import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC
from torch import nn

from ferpipe.networks.backbones.general import Paper000CNN, SmallCNN
from ferpipe.networks.modules import (
    FeatureScaler,
    FrameClassifier,
    SequenceClassifier,
    TrainingLoss,
    decide,
    initialize,
    mean_of_rows,
    standardize_images,
)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def sequence_module(pooling="mean", rnn_type="lstm", bidirectional=True, **changes):
    settings = {"hidden_size": (5, 4), "dense": (), "dropout": 0.0, "activation": "elu"}
    settings.update(changes)
    module = SequenceClassifier(
        FeatureScaler(3),
        2,
        images=False,
        rnn_type=rnn_type,
        bidirectional=bidirectional,
        pooling=pooling,
        **settings,
    )
    return initialize(module).eval()


def by_hand(module, sequence):
    """Outputs (T, width) of the last layer, forwards and backwards, step by step."""
    inputs = module.backbone(sequence)
    for layer in module.recurrent:
        directions = []
        for suffix in ("", "_reverse"):
            weights = [
                getattr(layer, f"{name}_l0{suffix}")
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            hidden = cell_state = torch.zeros(layer.hidden_size)
            outputs = []
            for frame in inputs.flip(0) if suffix else inputs:
                gates = weights[0] @ frame + weights[2] + weights[1] @ hidden + weights[3]
                i, f, g, o = gates.chunk(4)
                cell_state = f.sigmoid() * cell_state + i.sigmoid() * g.tanh()
                hidden = o.sigmoid() * cell_state.tanh()
                outputs.append(hidden)
            outputs = torch.stack(outputs)
            directions.append(outputs.flip(0) if suffix else outputs)
        inputs = torch.cat(directions, dim=1)
    return inputs


def test_paper_000_has_the_published_counts_and_shapes():
    cnn = Paper000CNN(1, "elu")
    running = sum(
        b.numel()
        for name, b in cnn.named_buffers()
        if not name.endswith("num_batches_tracked")
    )
    assert count(cnn) == 4_688_064
    assert count(cnn) + running == 4_691_904
    assert cnn(torch.rand(6, 1, 48, 48)).shape == (6, 512)

    network = SequenceClassifier(
        cnn,
        5,
        images=True,
        rnn_type="lstm",
        hidden_size=(128, 64),
        bidirectional=True,
        pooling="last",
        dense=(128,),
        dropout=0.3,
        activation="elu",
    ).eval()
    two_biases = 2 * 4 * 128 + 2 * 4 * 64
    assert count(network) == 5_526_213 + two_biases == 5_527_749
    assert [count(layer) for layer in network.recurrent] == [656_384 + 1024, 164_352 + 512]

    shapes = []
    for layer in network.recurrent:
        layer.register_forward_hook(
            lambda _, __, out: shapes.append(tuple(out[0].data.shape))
        )
    network.output.register_forward_hook(lambda _, args, __: shapes.append(args[0].shape))
    scores = network(torch.rand(6, 1, 48, 48), torch.tensor([3, 3]))
    assert shapes == [(6, 256), (6, 128), (2, 128)]
    assert scores.shape == (2, 5)


@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_readouts_match_a_loop_over_time(pooling):
    module = sequence_module(pooling)
    lengths = torch.tensor([2, 5, 1, 3])
    sequences = torch.randn(11, 3).split(lengths.tolist())
    expected = []
    for sequence in sequences:
        outputs = by_hand(module, sequence)
        if pooling == "last":
            half = outputs.shape[1] // 2
            rows = torch.cat([outputs[-1, :half], outputs[0, half:]])[None]
        else:
            rows = outputs.mean(dim=0, keepdim=True) if pooling == "mean" else outputs
        expected.append(module.output(rows))
    scores = module(torch.cat(sequences), lengths)
    torch.testing.assert_close(scores, torch.cat(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rnn_type", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean", "per_frame"])
def test_a_longer_neighbour_changes_nothing(rnn_type, bidirectional, pooling):
    module = sequence_module(pooling, rnn_type, bidirectional, dense=(6,))
    lengths = torch.tensor([3, 7, 1])
    sequences = torch.randn(11, 3).split(lengths.tolist())
    together = module.embeddings(torch.cat(sequences), lengths)
    alone = [module.embeddings(s, torch.tensor([len(s)])) for s in sequences]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)


def test_only_a_bidirectional_network_sees_the_future():
    for bidirectional in (False, True):
        module = sequence_module("per_frame", bidirectional=bidirectional)
        frames = torch.randn(4, 3)
        changed = frames.clone()
        changed[3] += 1.0
        length = torch.tensor([4])
        same = torch.equal(module(frames, length)[:3], module(changed, length)[:3])
        assert same is not bidirectional


def test_frame_network_runs_on_real_frames_only():
    module = sequence_module()
    seen = []
    module.backbone.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    module(torch.randn(9, 3), torch.tensor([1, 8]))
    assert seen == [9]


def test_every_frame_loss_is_the_mean_over_a_sequences_frames():
    scores = torch.randn(5, 3, dtype=torch.float64)
    target, rows = torch.tensor([2, 0]), torch.tensor([4, 1])
    logs = scores - torch.log(torch.exp(scores).sum(dim=1, keepdim=True))
    expected = (-logs[:4, 2].mean() - logs[4, 0]) / 2
    torch.testing.assert_close(
        TrainingLoss("cross_entropy")(scores, target, rows), expected
    )


def test_frames_decisions_are_summed_and_normalized():
    scores = torch.randn(5, 3)
    rows = torch.tensor([4, 1])
    probabilities = torch.exp(scores) / torch.exp(scores).sum(dim=1, keepdim=True)
    sums = torch.stack([probabilities[:4].sum(dim=0), probabilities[4]])
    expected = sums / sums.sum(dim=1, keepdim=True)
    torch.testing.assert_close(decide(scores, "cross_entropy", rows), expected)
    torch.testing.assert_close(
        decide(scores, "squared_hinge", rows)[0], scores[:4].mean(dim=0)
    )


def test_squared_hinge_is_the_objective_of_a_linear_svm():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    l2 = 0.01
    # LinearSVC minimizes |w|²/2 + C·Σ hinge² for each class; a large intercept_scaling
    # makes its penalty on the intercept vanish.
    C = 1 / (2 * l2 * len(y) * 3)
    svm = LinearSVC(
        C=C, loss="squared_hinge", intercept_scaling=1e3, tol=1e-9, max_iter=10**6
    )
    svm.fit(X, y)
    output = nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(torch.from_numpy(svm.coef_))
        output.bias.copy_(torch.from_numpy(svm.intercept_))
    objective = TrainingLoss("squared_hinge", l2=l2)
    inputs, target = torch.from_numpy(X), torch.from_numpy(y)
    loss = objective(output(inputs), target, output=output)
    margins = np.maximum(
        0, 1 - np.where(np.eye(3)[y] > 0, 1, -1) * svm.decision_function(X)
    )
    expected = (margins**2).mean() + l2 * (svm.coef_**2).sum()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert output.weight.grad.abs().max() < 1e-3
    assert output.bias.grad.abs().max() < 1e-3


@pytest.mark.parametrize("kind", ["cross_entropy", "squared_hinge"])
def test_gradient_of_the_loss_against_finite_differences(kind):
    output = nn.Linear(3, 4, dtype=torch.float64)
    objective = TrainingLoss(
        kind,
        label_smoothing=0.1 if kind == "cross_entropy" else 0.0,
        class_weight=torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64),
        l2=0.05,
    )
    embeddings = torch.randn(6, 3, dtype=torch.float64)
    target, rows = torch.tensor([0, 3, 1]), torch.tensor([2, 3, 1])

    def loss():
        return objective(output(embeddings), target, rows, output)

    loss().backward()
    step = 1e-6
    for parameter in (output.weight, output.bias):
        for place in np.ndindex(*parameter.shape):
            with torch.no_grad():
                parameter[place] += step
                above = loss().item()
                parameter[place] -= 2 * step
                below = loss().item()
                parameter[place] += step
            slope = (above - below) / (2 * step)
            assert parameter.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_the_weight_of_soft_targets():
    torch.manual_seed(0)
    scores, target = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    soft = torch.rand(5, 3).softmax(dim=1)
    loss = TrainingLoss("cross_entropy", label_smoothing=0.1, soft_weight=0.3)
    expected = 0
    for score, label, teacher in zip(scores, target, soft, strict=True):
        smoothed = 0.9 * torch.eye(3)[label] + 0.1 / 3
        wanted = 0.7 * smoothed + 0.3 * teacher
        expected -= (wanted * score.log_softmax(0)).sum() / 5
    torch.testing.assert_close(loss(scores, target, soft_targets=soft), expected)
    alone = TrainingLoss("cross_entropy", label_smoothing=0.1)
    torch.testing.assert_close(loss(scores, target), alone(scores, target))


def test_class_weights_scale_each_samples_loss():
    scores, target = torch.randn(4, 2), torch.tensor([0, 1, 1, 1])
    weight = torch.tensor([2.0, 0.5])
    single = TrainingLoss("cross_entropy")
    losses = torch.stack(
        [single(scores[i : i + 1], target[i : i + 1]) for i in range(4)]
    ) * torch.tensor([2.0, 0.5, 0.5, 0.5])
    weighted = TrainingLoss("cross_entropy", class_weight=weight)(scores, target)
    torch.testing.assert_close(weighted, losses.mean())


def test_images_are_standardized_by_sequence():
    frames = 40 * torch.rand(5, 1, 8, 8) + torch.arange(5.0)[:, None, None, None]
    lengths = torch.tensor([3, 2])
    result = standardize_images(frames, lengths)
    for part, whole in zip(result.split([3, 2]), frames.split([3, 2]), strict=True):
        expected = (whole - whole.mean()) / whole.std(correction=0)
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        standardize_images(frames / 255 + 3, lengths), result, rtol=1e-3, atol=1e-3
    )
    assert not torch.equal(standardize_images(frames), result)


@pytest.mark.parametrize("value", [0.0, 0.1, 255.0])
def test_constant_images_become_zero(value):
    assert standardize_images(torch.full((2, 3, 7, 9), value)).abs().max() < 1e-6


def test_mean_of_rows():
    values = torch.arange(8.0).reshape(4, 2)
    expected = torch.tensor([[0.0, 1.0], [4.0, 5.0]])
    assert torch.equal(mean_of_rows(values, torch.tensor([1, 3])), expected)


def test_initial_weights_are_he_normal_and_forget_gates_open():
    cnn = initialize(Paper000CNN(1, "elu"))
    last = [part for part in cnn.modules() if isinstance(part, nn.Conv2d)][-1]
    assert last.weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    lstm = sequence_module().recurrent[0]
    assert torch.equal((lstm.bias_ih_l0 + lstm.bias_hh_l0)[5:10], torch.ones(5))
    assert torch.equal(lstm.bias_ih_l0[:5], torch.zeros(5))
    gate = lstm.weight_hh_l0[5:10]
    torch.testing.assert_close(gate @ gate.T, torch.eye(5), atol=1e-5, rtol=0)


def test_dense_layers_come_before_the_output_layer():
    module = FrameClassifier(
        SmallCNN(1, "elu"), 3, dense=(20, 10), dropout=0.5, activation="elu"
    ).eval()
    frames = torch.rand(4, 1, 32, 32)
    assert module.embeddings(frames).shape == (4, 10)
    torch.testing.assert_close(module(frames), module.output(module.embeddings(frames)))
    kinds = [type(part) for part in module.head]
    assert kinds == [nn.Linear, nn.ELU, nn.BatchNorm1d, nn.Dropout] * 2
