"""Measure detection and framing: the crop test, and the templates of FaceAligner.

``python benchmarks/crops.py`` pastes FER2013 PublicTest faces on blurred noise and has them
found, aligned, cropped and classified; ``--measure`` prints the mean places of the eyes in
FER2013's and CK+48's framing, from which ``ferpipe.faces.alignment.TEMPLATES`` was set.
Both need FERPIPE_DATA.
"""

import argparse
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from ferpipe import FaceAligner, LandmarkPredictor, datasets, pretrained
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.geometry import transform_points

SIDE, PASTED = 400, 192
# A find counts as the face if its center is that near to the pasted crop's middle.
NEAR = 0.3


def load(name, **parameters):
    """Load the images of a data set under FERPIPE_DATA."""
    data = Path(os.environ["FERPIPE_DATA"])
    if name == "fer2013":
        return datasets.load_fer2013(data / "fer2013", **parameters).data
    sequences = datasets.load_ck48(data / "CK+48").data
    return np.concatenate(sequences)


def on_noise(face, rng):
    """Paste an enlarged face at a random place; return the image and the place."""
    noise = cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE)), (0, 0), 8)
    image = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    x, y = rng.integers(0, SIDE - PASTED, 2)
    large = cv2.resize(face, (PASTED, PASTED), interpolation=cv2.INTER_CUBIC)
    image[y : y + PASTED, x : x + PASTED] = large
    return image, (x, y)


def crop_test(n_faces, aligner, seed=0):
    """Print the share of faces found, and the errors of the eyes in the crops.

    Two distances, over the faces found at their place, in eye distances of the face:
    from the eyes by which the crop was cut to those that the same predictor finds on the
    pasted crop alone (how well a face is located in the photo); and, in the crop, from
    the eyes to where the data set's own crop of this face had them (how far one fixed
    template can follow a framing that varies).

    Where a network ships, also how often it is right on our crops of the faces found and
    on the same faces as the data set has them.
    """
    rng = np.random.default_rng(seed)
    path = Path(os.environ["FERPIPE_DATA"]) / "fer2013"
    public = datasets.load_fer2013(path, usage="PublicTest")
    faces, target = public.data[:n_faces], public.target[:n_faces]
    images, places = zip(*(on_noise(face, rng) for face in faces), strict=True)
    places = np.array(places)
    located = aligner.locate(images)
    crops = aligner.transform(images)
    pasted = [
        image[y : y + PASTED, x : x + PASTED]
        for image, (x, y) in zip(images, places, strict=True)
    ]
    eyes = eye_centers(LandmarkPredictor(detector=None).transform(pasted))
    centers = located.boxes[:, :2] + located.boxes[:, 2:] / 2
    off = np.abs(centers - places - PASTED / 2)
    right = (off < NEAR * PASTED).all(axis=1)  # NaN is not
    n_reported = int((~np.isnan(located.scores)).sum())

    unit = np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1)[:, None]
    by_paste = eyes + places[:, None]
    distance = np.linalg.norm(eye_centers(located.landmarks) - by_paste, axis=2) / unit
    scale = aligner.size / PASTED
    framed = scale * (eyes + 0.5) - 0.5
    recovered = np.array(
        [transform_points(*pair) for pair in zip(located.transforms, by_paste, strict=True)]
    )
    framing = np.linalg.norm(recovered - framed, axis=2) / (scale * unit)
    print(f"{len(faces)} PublicTest faces at {PASTED} px on {SIDE}x{SIDE} blurred noise")
    print(f"  face found at its place          {right.mean():.3f}")
    print(
        f"  something else was found         {(n_reported - right.sum()) / len(faces):.3f}"
    )
    for name, values in (
        ("eyes as on the pasted crop alone", distance[right].mean(axis=1)),
        ("eyes as in FER2013's own framing", framing[right].mean(axis=1)),
    ):
        print(f"  {name} mean {values.mean():.4f}, median {np.median(values):.4f}", end="")
        print(f", 90 % {np.quantile(values, 0.9):.4f} of the eye distance")
    if "fer2013" in pretrained():
        network = pretrained("fer2013")
        direct = network.predict(faces[right]) == target[right]
        cropped = network.predict(crops[right]) == target[right]
        print(
            f"  accuracy on the faces found      {direct.mean():.3f} given directly", end=""
        )
        print(f", {cropped.mean():.3f} on our crops of them")


def measure(n_faces, seed=0):
    """Print the mean places of the eyes in the framing of both data sets."""
    rng = np.random.default_rng(seed)
    for name in ("fer2013", "ck48"):
        images = load(name, usage="Training") if name == "fer2013" else load(name)
        few = rng.permutation(len(images))[:n_faces]
        predictor = LandmarkPredictor(detector=None, n_jobs=-1, verbose=True)
        eyes = eye_centers(predictor.transform(images[np.sort(few)]))
        places = (eyes + 0.5) / images.shape[1]
        mean, spread = np.median(places, axis=0), places.std(0)
        half = (mean[1, 0] - mean[0, 0]) / 2
        height = mean[:, 1].mean()
        print(f"{name}: {len(few)} images; medians {mean.round(4).tolist()}", end="")
        print(f", spread {spread.round(4).tolist()}")
        print(
            f"  level, symmetrical: x {0.5 - half:.4f} and {0.5 + half:.4f}, y {height:.4f}"
        )


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--detector", default="dlib")
    parser.add_argument("--measure", action="store_true", help="print the templates")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    if options.measure:
        measure(2000)
    else:
        crop_test(
            options.faces,
            FaceAligner(detector=options.detector, missing="center", n_jobs=-1),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
