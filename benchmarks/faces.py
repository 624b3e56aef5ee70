"""Measure speed and results of detection, landmarks and crops; needs FERPIPE_DATA.

``python benchmarks/faces.py`` prints milliseconds a face (one thread) beside dlib's own
predictor where ``--dat`` names its file, frames a second of a video through FaceAligner
(two threads) in all three ways to treat missing faces, how far crops move when photos are
turned, and the faces found in group photos. ``--draw FOLDER`` draws the boxes and points of
those, to be looked at.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from ferpipe import (
    FaceAligner,
    LandmarkPredictor,
    detect_faces,
    find_face,
    read_frames,
    read_image,
)
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import compose, similarity, transform_points, warp

# counted by hand: faces with distinct eyes, nose and mouth
BY_HAND = {"2008_002079.jpg": 6, "bald_guys.jpg": 24, "multi_face.jpg": 5}


def milliseconds(function, repeats=30):
    """Return the least time of a call over some rounds."""
    function()
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        rounds.append((time.perf_counter() - start) / repeats)
    return 1000 * min(rounds)


def predictors(image, dat):
    """Print the time of predictors on one face, one thread each."""
    cv2.setNumThreads(1)
    face = find_face(image)
    models = {"ferpipe": "ferpipe", **({"dlib": dat} if dat else {})}
    times = {}
    for name, path in models.items():
        model = load_model(path)
        times[name] = milliseconds(lambda model=model: model.predict(image, face.box))
    own = load_model("ferpipe")
    landmarks = own.predict(image, face.box)
    times["ferpipe, from the last frame"] = milliseconds(
        lambda: own.refine(image, landmarks)
    )
    print("landmarks, ms a face, one thread")
    for name, value in times.items():
        print(f"  {name:<30} {value:.2f}  ratio {value / times['ferpipe']:.2f}")
    for detector in ("dlib", "cascade"):
        value = milliseconds(lambda d=detector: find_face(image, detector=d), 5)
        print(f"  find_face, {detector:<19} {value:.2f}")


def video(path, n_jobs):
    """Print frames per second and the number of frames without a face."""
    frames = [frame for _, frame in read_frames(path, gray=True)]
    print(f"{path.name}: {len(frames)} frames {frames[0].shape}, {n_jobs} threads")
    for missing in ("raise", "nan", "center"):
        aligner = FaceAligner(missing=missing, n_jobs=n_jobs)
        start = time.perf_counter()
        try:
            crops = aligner.transform(frames)
        except ValueError as error:
            print(f"  {missing:<7} {error}")
            continue
        seconds = time.perf_counter() - start
        n_nan = int(np.isnan(crops).all(axis=(1, 2)).sum()) if missing == "nan" else 0
        print(f"  {missing:<7} {len(frames) / seconds:.0f} frames/s, {n_nan} of NaN")


def turned(folder, n_faces=200):
    """Print how far the eyes move in the crop when the photo is turned."""
    files = sorted(folder.glob("*.jpg"))
    files = files[:: len(files) // n_faces][:n_faces]
    images = [read_image(file) for file in files]
    aligner = FaceAligner(missing="center", n_jobs=2)
    upright = aligner.locate(images)
    print(f"{len(images)} photos turned: move of the eyes in the crop / eye distance")
    for degrees in (0, 10, 20, 30):
        middle = [(np.array(image.shape[::-1]) - 1) / 2 for image in images]
        turns = [similarity(1, np.deg2rad(degrees), at, at) for at in middle]
        found = aligner.locate(
            [warp(i, turn, i.shape) for i, turn in zip(images, turns, strict=True)]
        )
        eyes = eye_centers(upright.landmarks)
        moves = []
        for index, turn in enumerate(turns):
            again = transform_points(compose(found.transforms[index], turn), eyes[index])
            before = transform_points(upright.transforms[index], eyes[index])
            unit = np.linalg.norm(before[1] - before[0])
            moves.append(np.linalg.norm(again - before, axis=1).mean() / unit)
        known = ~np.isnan(moves)
        print(
            f"  {degrees:>2} degrees: {known.mean():.3f} found, "
            f"median {np.median(np.array(moves)[known]):.4f}, "
            f"90 % {np.quantile(np.array(moves)[known], 0.9):.4f}"
        )


def photos(folder, draw):
    """Print the faces found in group photos beside the count by hand."""
    print("group photos, detector dlib: by hand, found")
    for name, by_hand in BY_HAND.items():
        image = read_image(folder / name, gray=False)
        faces = detect_faces(image)
        print(f"  {name:<16} {by_hand:>3} {len(faces):>3}")
        if draw:
            drawn = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            model = load_model("ferpipe")
            for face in faces:
                x, y, width, height = (round(value) for value in face.box)
                cv2.rectangle(drawn, (x, y), (x + width, y + height), (0, 255, 0), 2)
                for u, v in model.predict(read_image(image), face.box, face.angle):
                    cv2.circle(drawn, (round(u), round(v)), 1, (0, 255, 255), -1)
            cv2.imwrite(str(Path(draw, name).with_suffix(".png")), drawn)


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dat", help="dlib's shape predictor, to compare with")
    parser.add_argument("--draw", help="folder for pictures of the finds")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    media = Path(os.environ["FERPIPE_DATA"], "media")
    predictors(read_image(media / "single_face.jpg"), options.dat)
    LandmarkPredictor().transform([read_image(media / "single_face.jpg")])
    for name in ("single_face.mp4", "face_noface.mov"):
        video(media / name, 2)
    turned(media.parent / "faces68")
    photos(media, options.draw)
    return 0


if __name__ == "__main__":
    sys.exit(main())
