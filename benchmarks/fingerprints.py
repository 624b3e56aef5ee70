"""Measure hits and false alarms of fingerprints on copies of images; needs FERPIPE_DATA.

``python benchmarks/fingerprints.py`` prints the share of FER2013's training images that are
found again after each change, how many faces of other data sets are taken for one of them
by chance, and which pairs of images of CK+48 are taken for copies.
"""

import os
import time
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from ferpipe import datasets
from ferpipe.io.fingerprints import are_known, copies, fingerprints
from ferpipe.io.images import read_image
from ferpipe.networks.weights import FILE, OWN, fingerprints_beside

N_CHANGED = 3000


def resized(side, method=cv2.INTER_LINEAR):
    """Return a change that scales an image."""
    return lambda image: cv2.resize(image, (side, side), interpolation=method)


def compressed(quality):
    """Return a change that writes an image as JPEG and reads it again."""

    def change(image):
        code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(code, cv2.IMREAD_GRAYSCALE)

    return change


CHANGES = {
    "as they are": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "96 pixels": resized(96),
    "224 pixels, cubic": resized(224, cv2.INTER_CUBIC),
    "40 pixels": resized(40),
    "24 pixels, mean over areas": resized(24, cv2.INTER_AREA),
    "JPEG of quality 75": compressed(75),
    "JPEG of quality 40": compressed(40),
    "darker, less contrast": lambda image: (image * 0.6 + 30).astype(np.uint8),
}


def others(folder):
    """Faces that are not in FER2013, by data set."""
    yield "CK+48", datasets.load_ck48(folder, as_sequences=False).data
    for name in ("faces68", "photos"):
        files = sorted((folder / name).rglob("*.jpg")) + sorted(
            (folder / name).rglob("*.png")
        )
        yield name, [read_image(file) for file in files]


def main():
    """Print the figures."""
    folder = Path(os.environ["FERPIPE_DATA"])
    for file in sorted(OWN.glob(f"*/{FILE}")):
        beside = fingerprints_beside(file)
        print(f"{beside.parent.name:<16} {beside.stat().st_size:,} bytes")
    training = datasets.load_fer2013(folder / "fer2013", usage="Training").data
    start = time.perf_counter()
    known = fingerprints(training)
    print(f"{len(training)} images, {len(np.unique(known))} fingerprints", end=", ")
    print(f"{1e6 * (time.perf_counter() - start) / len(training):.0f} µs an image")
    print(f"found again, of {N_CHANGED}:")
    for name, change in CHANGES.items():
        found = are_known([change(image) for image in training[:N_CHANGED]], known)
        print(f"  {name:<28} {100 * found.mean():.1f} %")
    print("faces of other data sets that are taken for one of FER2013's training:")
    for name, images in others(folder):
        print(f"  {name:<28} {are_known(images, known).sum()} of {len(images)}")
    public = datasets.load_fer2013(folder / "fer2013", usage="PublicTest").data
    exact = {image.tobytes() for image in training}
    identical = np.array([image.tobytes() in exact for image in public])
    found = are_known(public, known)
    print(
        f"PublicTest: {found[identical].sum()} of {identical.sum()} identical images, and "
        f"{found[~identical].sum()} of {(~identical).sum()} others"
    )
    faces = datasets.load_ck48(folder, as_sequences=False)
    pairs = {tuple(pair) for pair in copies(faces.data).tolist()}
    counts = {"of one sequence": [0, 0], "of one person": [0, 0], "of two people": [0, 0]}
    for pair in combinations(range(len(faces.data)), 2):
        first, second = pair
        kind = "of two people"
        if faces.groups[first] == faces.groups[second]:
            same = faces.sequences[first] == faces.sequences[second]
            kind = "of one sequence" if same else "of one person"
        counts[kind][0] += pair in pairs
        counts[kind][1] += 1
    print("pairs of images of CK+48 that are taken for copies:")
    for kind, (n_found, n) in counts.items():
        print(f"  {kind:<28} {n_found} of {n}")


if __name__ == "__main__":
    main()
