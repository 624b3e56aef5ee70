"""Gabor filters beside scikit-image and OpenCV: time per image, and for all of FER2013.

``python benchmarks/features_gabor.py`` prints ours, peer, ratio for a bank of 5 frequencies
and 8 orientations, magnitudes pooled to means over 6x6 cells, of a batch of random images.
``--fer2013`` puts all faces of FERPIPE_DATA through it and prints seconds and memory.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from skimage.filters import gabor as skimage_gabor
from skimage.filters import gabor_kernel
from threadpoolctl import threadpool_limits

from ferpipe.features.gabor import GaborFeatures

BANKS = {
    "0.0625 .. 0.25": (0.25, 0.177, 0.125, 0.088, 0.0625),
    "default": GaborFeatures().frequencies,
}
ANGLES = np.pi * np.arange(8) / 8


def pooled(magnitudes):
    """Means over 6x6 cells of (k, h, w), where each cell has the same size."""
    k, height, width = magnitudes.shape
    height, width = height // 6 * 6, width // 6 * 6
    cells = magnitudes[:, :height, :width].reshape(k, 6, height // 6, 6, width // 6)
    return cells.mean(axis=(2, 4)).ravel()


def by_skimage(image, frequencies):
    """Filter by skimage.filters.gabor in a loop."""
    image = image.astype(np.float64)
    return pooled(
        np.array(
            [
                np.hypot(*skimage_gabor(image, frequency, theta=angle))
                for frequency in frequencies
                for angle in ANGLES
            ]
        )
    )


def by_opencv(image, kernels):
    """Filter by cv2.filter2D in a loop."""
    image = image.astype(np.float32)
    parts = (
        [
            cv2.filter2D(image, -1, part, borderType=cv2.BORDER_REFLECT)
            for part in (real, imaginary)
        ]
        for real, imaginary in kernels
    )
    return pooled(np.array([cv2.magnitude(*pair) for pair in parts]))


def seconds(function):
    """Return the seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(size, frequencies, threads, rounds):
    """Yield a peer, and the shortest time per image of both, in seconds."""
    images = np.random.default_rng(0).integers(0, 256, (64, size, size), dtype=np.uint8)
    kernels = [
        # filter2D correlates, and wants kernels turned round to convolve
        tuple(np.float32(part[::-1, ::-1]) for part in (kernel.real, kernel.imag))
        for frequency in frequencies
        for kernel in (gabor_kernel(frequency, angle) for angle in ANGLES)
    ]
    # short calls find a moment when nothing else runs
    batch = images[: 8 * threads]
    ours = GaborFeatures(frequencies=frequencies, n_jobs=threads).fit(batch)
    peers = {
        "skimage.filters.gabor loop": (lambda: by_skimage(images[0], frequencies), 2),
        "cv2.filter2D loop": (lambda: by_opencv(images[0], kernels), rounds),
    }
    for name, (peer, peer_rounds) in peers.items():
        times, peer_times = [], []
        for number in range(rounds):
            with threadpool_limits(1, "blas"):
                times.append(seconds(lambda: ours.transform(batch)) / len(batch))
            if number < peer_rounds:
                peer_times.append(seconds(peer))
        yield name, min(times), min(peer_times)


def all_of_fer2013(n_jobs):
    """Print the seconds and the peak memory of all FER2013 faces."""
    from ferpipe.datasets import load_fer2013

    faces = load_fer2013(Path(os.environ["FERPIPE_DATA"], "fer2013")).data
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    extractor = GaborFeatures(n_jobs=n_jobs)
    with threadpool_limits(1):
        taken = seconds(lambda: extractor.fit_transform(faces))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(faces)} faces, {n_jobs} threads: {taken:.1f} s; peak memory {peak:.0f} MB, "
        f"{before:.0f} MB of it before"
    )


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fer2013", action="store_true")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    if options.fer2013:
        for threads in options.threads:
            all_of_fer2013(threads)
        return 0
    for threads in options.threads:
        cv2.setNumThreads(threads)
        for size in (48, 128):
            for bank, frequencies in BANKS.items():
                print(f"{size}x{size}, {threads} threads, frequencies {bank}")
                for peer, ours, theirs in compare(
                    size, frequencies, threads, options.rounds
                ):
                    print(
                        f"  {peer:28} ours {1e3 * ours:7.3f} ms | peer {1e3 * theirs:9.2f} "
                        f"ms | {theirs / ours:7.1f}x"
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
