"""Local binary patterns against scikit-image: milliseconds per image, and the ratio.

``OMP_NUM_THREADS=1 python benchmarks/features_lbp.py`` prints three tables: the codes of
every method, whole feature rows (codes and histograms in 6x6 cells), and LBP-TOP. Faces
are crops of scikit-image's astronaut with a little noise; with FERPIPE_DATA set, FER2013's
PublicTest in place of them at 48x48. The peer has one thread always: it has no threads.
"""

import os
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from skimage.feature import local_binary_pattern as skimage_lbp

from ferpipe import datasets
from ferpipe.features.extractor import in_chunks
from ferpipe.features.lbp import LBPFeatures, local_binary_pattern
from ferpipe.features.lbp_top import LBPTopFeatures

METHODS = ("default", "ror", "uniform", "nri_uniform", "var")
SETTINGS = [(8, 1), (16, 2), (24, 3)]


def faces(side, n):
    """Load or make n gray faces of one size, uint8."""
    if side == 48 and "FERPIPE_DATA" in os.environ:
        folder = Path(os.environ["FERPIPE_DATA"], "fer2013")
        return datasets.load_fer2013(folder, usage="PublicTest").data[:n]
    rng = np.random.default_rng(0)
    face = cv2.cvtColor(skimage.data.astronaut()[20:190, 135:305], cv2.COLOR_RGB2GRAY)
    face = cv2.resize(face, (side + 8, side + 8), interpolation=cv2.INTER_AREA)
    images = []
    for y, x in rng.integers(0, 9, (n, 2)):
        noise = rng.normal(scale=2, size=(side, side))
        images.append(np.clip(face[y : y + side, x : x + side] + noise, 0, 255))
    return np.asarray(images, np.uint8)


def best_times(ours, peer, rounds):
    """Run both in turn and return the shortest time of each, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        peer()
        times.append((middle - start, time.perf_counter() - middle))
    return np.min(times, axis=0)


def print_row(name, ours, peer):
    """Print milliseconds of both and their ratio."""
    print(f"{name:52} {1e3 * ours:9.4f} | {1e3 * peer:9.4f} | {peer / ours:6.1f}")


def codes_rows(side, n, n_threads, rounds):
    """Time the codes alone."""
    images = faces(side, n)
    kinds = {
        "uint8": images,
        "float64": images / 255,
        "uint8 noise": np.random.default_rng(1).integers(0, 256, images.shape, np.uint8),
    }
    for kind, data in kinds.items():
        for n_points, radius in SETTINGS:
            for method in METHODS if kind == "uint8" else ("default",):
                ours, peer = best_times(
                    lambda p=n_points, r=radius, m=method, d=data: in_chunks(
                        lambda part: local_binary_pattern(part, p, r, m),
                        d,
                        n_jobs=n_threads,
                        pixels=1 << 20,
                    ),
                    lambda p=n_points, r=radius, m=method, d=data: [
                        skimage_lbp(image, p, r, m) for image in d[:4]
                    ],
                    rounds,
                )
                name = f"codes {side}x{side} {n_threads} thr. {kind} {method}"
                print_row(f"{name} {n_points},{radius}", ours / n, peer / 4)


def by_scikit_image(image, n_points, radius):
    """Histograms of uniform patterns in 6x6 cells, as one writes them with scikit-image."""
    codes = skimage_lbp(image, n_points, radius, "nri_uniform")
    n_bins = n_points * (n_points - 1) + 3
    rows = [
        np.histogram(cell, n_bins, (0, n_bins))[0] / cell.size
        for strip in np.array_split(codes, 6)
        for cell in np.array_split(strip, 6, axis=1)
    ]
    return np.concatenate(rows)


def feature_rows(side, n, n_threads, rounds):
    """Time the extractor: codes, histograms and their norm."""
    images = faces(side, n)
    for n_points, radius in SETTINGS[:2]:
        extractor = LBPFeatures(n_points=n_points, radius=radius, n_jobs=n_threads).fit(
            images
        )
        ours, peer = best_times(
            lambda extractor=extractor: extractor.transform(images),
            lambda p=n_points, r=radius: [by_scikit_image(i, p, r) for i in images[:2]],
            rounds,
        )
        name = f"LBPFeatures {side}x{side} {n_threads} thr. nri_uniform {n_points},{radius}"
        print_row(name, ours / n, peer / 2)


def top_by_scikit_image(clip):
    """Codes of the three planes, slice by slice; no histograms."""
    for axis in range(3):
        for plane in np.moveaxis(clip, axis, 0):
            skimage_lbp(plane, 8, 1, "nri_uniform")


def top_rows(side, n, n_threads, rounds):
    """Time LBP-TOP on sequences of 3 and of 20 frames."""
    for length in (3, 20):
        clips = list(faces(side, n * length).reshape(n, length, side, side))
        extractor = LBPTopFeatures(n_jobs=n_threads).fit(clips)
        ours, peer = best_times(
            lambda extractor=extractor, clips=clips: extractor.transform(clips),
            lambda clips=clips: top_by_scikit_image(clips[0]),
            rounds,
        )
        name = f"LBPTopFeatures {side}x{side} {n_threads} thr. {length} frames, a sequence"
        print_row(name, ours / n, peer)


def print_rows(rounds=40):
    """Print all tables."""
    print(f"{'':52} {'ours ms':>9} | {'peer ms':>9} | {'ratio':>6}")
    for n_threads in (1, 2):
        for side, n in ((48, 448), (128, 112)):
            codes_rows(side, n, n_threads, rounds)
            feature_rows(side, n, n_threads, rounds)
            top_rows(side, n // 7, n_threads, rounds)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "Applying `local_binary_pattern` to floating-point")
    cv2.setNumThreads(1)
    print_rows()
