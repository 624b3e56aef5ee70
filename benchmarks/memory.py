"""More data than memory: features, a classifier and a network from one mapped file.

``python benchmarks/memory.py --images 200000`` writes that many made images of 48x48 to a
file, some at a time, and then, each in a process of its own: computes HOG features of all
and trains a linear classifier on them; trains a network for one epoch; classifies all with
it. Prints seconds and the most memory that was resident, as the kernel counts it for each
process, parts of the file that were read included. Without a number it takes 5,000.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CLASSES = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
_AT_A_TIME = 1000


def labels(n):
    """Return the class of each image."""
    return np.array(CLASSES)[np.arange(n) % len(CLASSES)]


def write_images(path, n):
    """Write made images: stripes whose direction is the class, under noise."""
    from ferpipe.io.memmap import ArrayWriter

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    with ArrayWriter(path) as writer:
        for start in range(0, n, _AT_A_TIME):
            numbers = np.arange(start, min(n, start + _AT_A_TIME))
            turn = np.pi * (numbers % len(CLASSES) / len(CLASSES))[:, None, None]
            stripes = np.sin(0.5 * (np.cos(turn) * x + np.sin(turn) * y))
            noisy = 128 + 40 * stripes + rng.normal(scale=40, size=stripes.shape)
            for image in noisy.clip(0, 255).astype(np.uint8):
                writer.append(image)


def linear(images):
    """Fit HOG and a linear classifier; return the accuracy on the first tenth."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    from ferpipe import HOGFeatures

    model = make_pipeline(
        HOGFeatures(), SGDClassifier(max_iter=3, tol=None, random_state=0)
    )
    target, n_scored = labels(len(images)), len(images) // 10
    return model.fit(images, target).score(images[:n_scored], target[:n_scored])


def network(images):
    """Train a network for an epoch, with a share held out; return the accuracy on it."""
    from ferpipe._system.memory import keep_freed_memory

    keep_freed_memory()
    from ferpipe import ImageNetwork, Training

    training = Training(max_epochs=1, batch_size=128, validation=0.1)
    model = ImageNetwork(training=training, random_state=0).fit(images, labels(len(images)))
    return model.history_[0]["valid_accuracy"]


WORK = {"linear": linear, "network": network}


def measure(name, path):
    """Run one part and print accuracy, seconds and memory in MB."""
    images = np.load(path, mmap_mode="r")
    start = time.perf_counter()
    accuracy = WORK[name](images)
    seconds = time.perf_counter() - start
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:10} accuracy {accuracy:.3f} | {seconds:7.1f} s | {most:7.0f} MB resident")


def main():
    """Read the command line; write the images and measure in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="where the file goes; a temporary one")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(*options.measure)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "images.npy"
        write_images(path, options.images)
        print(f"{options.images} images of 48x48, {path.stat().st_size / 2**20:.0f} MB")
        for name in WORK:
            command = [sys.executable, __file__, "--measure", name, str(path)]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
