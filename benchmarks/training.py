"""Training speed of ImageNetwork against a bare PyTorch loop, side by side.

The same module, batches, data, optimizer and arithmetic; both train alternately in one
process, and the time spent in the program (user) and in the kernel (system) is printed
apart: ``python benchmarks/training.py --threads 1 --size 48``.
"""

import argparse
import resource
import time

import numpy as np

from ferpipe._system.memory import keep_freed_memory


def train_estimator(images, labels, epochs, batch_size, precision):
    """Train through ImageNetwork."""
    from ferpipe import ImageNetwork, Training

    training = Training(
        optimizer="nadam",
        schedule="constant",
        max_epochs=epochs,
        batch_size=batch_size,
        precision=precision,
    )
    ImageNetwork(training=training, random_state=0).fit(images, labels)


def train_bare(images, labels, epochs, batch_size, precision):
    """Train the same module in the shortest PyTorch loop."""
    import torch
    from torch.nn.functional import cross_entropy

    from ferpipe.networks.backbones.general import SmallCNN
    from ferpipe.networks.modules import FrameClassifier, initialize

    classes, target = np.unique(labels, return_inverse=True)
    frames = torch.from_numpy(images)[:, None]
    target = torch.from_numpy(target)
    module = FrameClassifier(
        SmallCNN(1, "relu"), len(classes), dense=(), dropout=0.0, activation="relu"
    )
    initialize(module).train()
    optimizer = torch.optim.NAdam(
        module.parameters(), lr=0.002, weight_decay=1e-4, decoupled_weight_decay=True
    )
    for _ in range(epochs):
        for chosen in torch.randperm(len(frames)).split(batch_size):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                scores = module(frames[chosen].float())
            loss = cross_entropy(scores.float(), target[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def measure(train, *args):
    """Wall, user and system seconds of a training."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    train(*args)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return np.array(
        [wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime]
    )


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--default-allocator", action="store_true")
    options = parser.parse_args()

    if not options.default_allocator:
        keep_freed_memory()
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    shape = (options.images, options.size, options.size)
    images = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = rng.choice(["anger", "fear", "happiness", "sadness", "surprise"], len(images))
    rivals = {"ImageNetwork": train_estimator, "bare PyTorch loop": train_bare}
    for train in rivals.values():
        train(images[:256], labels[:256], 1, options.batch_size, options.precision)

    seconds = {name: [] for name in rivals}
    for _ in range(options.rounds):
        for name, train in rivals.items():
            settings = options.epochs, options.batch_size, options.precision
            seconds[name].append(measure(train, images, labels, *settings))

    print(
        f"{len(images)} images of {options.size}x{options.size}, batches of "
        f"{options.batch_size}, {options.precision}, {torch.get_num_threads()} threads, "
        f"median of {options.rounds} rounds"
    )
    for name, rounds in seconds.items():
        wall, user, system = np.median(rounds, axis=0)
        print(
            f"{name:18s} {options.epochs * len(images) / wall:7.0f} images/s   "
            f"user {user:.2f} s   system {system:.2f} s ({system / (user + system):.1%})"
        )
    ours, bare = (np.array(rounds) for rounds in seconds.values())
    by_wall = np.median(bare[:, 0] / ours[:, 0])
    by_processor = np.median(bare[:, 1:].sum(axis=1) / ours[:, 1:].sum(axis=1))
    print(
        f"speed of ImageNetwork / bare loop: {by_wall:.3f} by wall time, "
        f"{by_processor:.3f} by processor time"
    )


if __name__ == "__main__":
    main()
