"""HOG of many images against scikit-image, one image after the other.

``python benchmarks/features_hog.py`` prints milliseconds an image for both, their ratio
and the largest difference of a feature. Rounds alternate; the fastest of each counts.
``OMP_NUM_THREADS=1`` keeps other threads out of it.
"""

import time
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from skimage import data
from skimage.color import rgb2gray
from skimage.feature import hog
from skimage.transform import resize

from ferpipe import HOGFeatures

SETTINGS = {"orientations": 9, "pixels_per_cell": (8, 8), "cells_per_block": (2, 2)}


def faces(size, n):
    """Cut a face out of a photo a little differently each time; uint8."""
    photo = rgb2gray(data.astronaut())
    rng = np.random.default_rng(0)
    crops = [photo[y : y + 180, x : x + 180] for y, x in rng.integers(0, (40, 240), (n, 2))]
    return np.stack([(255 * resize(crop, (size, size))).astype(np.uint8) for crop in crops])


def one_by_one(images, n_jobs):
    """Compute the features with scikit-image."""
    describe = partial(hog, **SETTINGS)
    if n_jobs == 1:
        return np.stack([describe(image) for image in images])
    with Parallel(n_jobs, require="sharedmem") as parallel:
        return np.stack(parallel(delayed(describe)(image) for image in images))


def compare(rounds=7):
    """Print one row for each size and number of threads."""
    print(
        "HOG, 9 orientations, 8x8 cells, 2x2 blocks   ours ms | skimage ms | ratio | diff"
    )
    for size, n_ours, n_peer in ((48, 2000, 200), (128, 300, 30)):
        images = np.resize(faces(size, n_peer), (n_ours, size, size))
        for n_jobs in (1, 2):
            extractor = HOGFeatures(**SETTINGS, n_jobs=n_jobs).fit(images)
            ours, theirs = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                features = extractor.transform(images)
                ours.append((time.perf_counter() - start) / n_ours)
                start = time.perf_counter()
                expected = one_by_one(images[:n_peer], n_jobs)
                theirs.append((time.perf_counter() - start) / n_peer)
            difference = np.abs(features[:n_peer] - expected).max()
            print(
                f"  {size}x{size}, {n_jobs} thread{'s' * (n_jobs > 1):1}"
                f"{1000 * min(ours):34.4f} | {1000 * min(theirs):10.4f} | "
                f"{min(theirs) / min(ours):5.1f} | {difference:.0e}"
            )


if __name__ == "__main__":
    compare()
