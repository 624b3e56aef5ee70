"""What the store saves: an experiment whose steps look at photos, run twice.

``python benchmarks/second_run.py`` pastes FER2013 PublicTest faces on larger pictures, a
folder a class, and runs detection, alignment, gradient histograms and nearest neighbours
on them by the grid program, with an empty store and then again; it needs FERPIPE_DATA.
Prints the seconds of both runs, their ratio and whether the scores are the same.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import yaml
from crops import on_noise

from ferpipe import datasets

EXPERIMENT = {
    "name": "photos",
    "pipeline": {
        # small faces are looked for too, as in photos of groups, and most time goes there
        "align": {"FaceAligner": {"size": 48, "min_size": 40, "missing": "center"}},
        "hog": "HOGFeatures",
        "classify": {"KNeighborsClassifier": {"n_neighbors": {"try": [1, 5, 15]}}},
    },
    "evaluate": {"scoring": ["accuracy"]},
}


def write_photos(folder, n_faces):
    """Write one photo a face of PublicTest into folders by class."""
    rng = np.random.default_rng(0)
    path = Path(os.environ["FERPIPE_DATA"]) / "fer2013"
    faces = datasets.load_fer2013(path, usage="PublicTest")
    for index in rng.permutation(len(faces.data))[:n_faces]:
        name = folder / faces.target[index] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(name), on_noise(faces.data[index], rng)[0])


def run(folder, number):
    """Run the experiment by its program; return seconds and what it found out."""
    out = folder / f"report{number}"
    command = [sys.executable, "-m", "ferpipe.grid", str(folder / "photos.yaml")]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "FERPIPE_CACHE": str(folder / "store")},
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start, json.loads((out / "results.json").read_text())


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=1000)
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", options.faces)
        data = {"image_folder": {"path": str(folder / "photos")}}
        (folder / "photos.yaml").write_text(
            yaml.safe_dump({"data": data, **EXPERIMENT}, sort_keys=False)
        )
        (first, found), (second, again) = run(folder, 1), run(folder, 2)
    same = found["outer_cv"] and all(
        one["predicted"] == other["predicted"]
        for one, other in zip(found["outer_cv"], again["outer_cv"], strict=True)
    )
    print(f"{options.faces} photos of 400x400, {found['fits']['total']} fits")
    print(f"  empty store {first:.1f} s, second {second:.1f} s: {first / second:.1f} times")
    print(f"  accuracy {found['primary_scores']['accuracy']:.3f}; same answers: {same}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
