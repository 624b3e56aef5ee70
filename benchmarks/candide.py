"""What the wireframe's fits are worth; needs FERPIPE_DATA.

``python benchmarks/candide.py`` prints milliseconds per face, the parameters recovered from
synthetic faces and sequences whose parameters are known and, on CK+48 by subject, the
accuracy of an SVM on shape and action units and of the rules without training; ``--figure
FILE`` draws the mean action units of each expression. ``--fitters FOLDER --networks
FOLDER`` adds the error on crops of several sizes by folds: the folders of ``python -m
ferpipe.train fitter FACES
--networks FOLDER --out FOLDER`` and of ``python -m ferpipe.train landmarks FACES
--keep-folds --out FOLDER``.
"""

import argparse
import os
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ferpipe import ActionUnitRules, CandideFitter, datasets
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fit_cascade import load_own_cascade, load_wireframe_cascade
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.alignment import eye_transform
from ferpipe.faces.landmark_cascade import load_cascade
from ferpipe.faces.landmark_points import eye_centers, outer_eye_distance
from ferpipe.faces.landmarks import central_face
from ferpipe.geometry import similarity, transform_points, warp
from ferpipe.train.landmark_networks import read_annotated_faces
from ferpipe.train.wireframe import calibrate
from ferpipe.train.wireframe_network import agreement, scores_on_synthetic_faces

SHOWN = "AU01 AU02 AU04 AU05 AU06 AU07 AU09 AU10 AU12 AU15 AU17 AU20 AU24 AU25 AU26 AU27"
SIZES = (48, 128, 256)


def milliseconds(photos):
    """Print the time of a face, one thread, by the size of the picture."""
    cascade = load_own_cascade()
    print(f"ms a face, {len(photos)} faces, one thread")
    print("  size  batch  from the box  warm frame  objective: landmarks  learned")
    for size in SIZES:
        matrix = similarity(size / 256, 0, (0, 0), (0, 0))
        images = [warp(photo, matrix, (size, size)) for photo in photos]
        boxes = [central_face(image).box for image in images]
        fits = [cascade.predict(*both)[0] for both in zip(images, boxes, strict=True)]
        fitters = [
            CandideFitter(detector=None, objective=objective).fit(images)
            for objective in (None, "landmarks", "learned")
        ]
        few = [[image] for image in images[:32]]
        times = (
            shortest(fitters[0].transform, [images]) / len(images),
            shortest(cascade.predict, images, boxes),
            shortest(cascade.refine, images, fits),
            shortest(fitters[1].transform, few),
            shortest(fitters[2].transform, few),
        )
        print(f"  {size:>4}  " + "  ".join(f"{time:.2f}" for time in times))


def shortest(function, *inputs):
    """Return milliseconds a face of the quickest of five rounds."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for one in zip(*inputs, strict=True):
            function(*one)
        rounds.append(time.perf_counter() - start)
    return 1000 * min(rounds) / len(inputs[0])


def drawn_faces():
    """Print what is recovered from synthetic people whose parameters are known."""
    scores = scores_on_synthetic_faces(load_own_cascade(), load_calibrated()[1])
    print("synthetic faces of 128 px (synthetic), one image each:")
    print("  " + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()))


def synthetic_sequences(n_sequences=120, n_frames=6, size=128):
    """Print the same of sequences, and how still sigma holds."""
    model, _ = load_calibrated()
    bunch = datasets.make_expression_sequences(n_sequences, n_frames, size, random_state=77)
    frames = [frame for clip in bunch.data for frame in clip]
    alone = CandideFitter("parameters", detector=None).fit_transform(frames)
    together = CandideFitter("parameters", detector=None).fit_transform(bunch.data)
    truth = np.concatenate(bunch.parameters)
    print(f"{n_sequences} sequences of {n_frames} frames of {size} px (synthetic)")
    for name, fitted in (("each frame alone", alone), ("sequences", np.vstack(together))):
        scores = agreement(model, truth, fitted)
        print(
            f"  {name:<32}"
            + "  ".join(f"{unit} {value:.2f}" for unit, value in scores.items())
        )
    changes = [p - p[:1] for p in together], [p - p[:1] for p in bunch.parameters]
    scores = agreement(model, *(np.vstack(part) for part in changes[::-1]))
    print(
        f"  {'change since the first frame':<32}"
        + "  ".join(f"{unit} {scores[unit]:.2f}" for unit in scores if "AU" in unit)
    )
    sigma = model.split(alone)[1].reshape(n_sequences, n_frames, -1)
    within, between = sigma.std(1).mean(), sigma.mean(1).std(0).mean()
    print(
        f"  sigma of frames fitted alone: spread within a sequence {within:.3f}, between "
        f"sequences {between:.3f}"
    )


def ck48(data, figure):
    """Print what units of CK+48 sequences tell of expressions, by subject."""
    bunch = datasets.load_ck48(data / "CK+48")
    units = CandideFitter(detector=None, n_jobs=-1).fit_transform(bunch.data)
    X, y, groups = np.stack(units), bunch.target, bunch.groups
    folds = StratifiedGroupKFold(10, shuffle=True, random_state=0)
    for left_out in ((), ("contempt",), ("contempt", "disgust")):
        kept = ~np.isin(y, left_out)
        scores = []
        rows = X[kept].reshape(kept.sum(), -1)
        for fit, test in folds.split(rows, y[kept], groups[kept]):
            search = GridSearchCV(
                make_pipeline(StandardScaler(), SVC()),
                {"svc__C": [1, 3, 10], "svc__gamma": [1e-3, 3e-3, 1e-2]},
                cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
            )
            search.fit(rows[fit], y[kept][fit], groups=groups[kept][fit])
            scores.append(search.score(rows[test], y[kept][test]))
        print(
            f"CK+48, {len(set(y[kept]))} classes by subject, SVM on the units of 3 frames: "
            f"{np.mean(scores):.3f} +- {np.std(scores):.3f}"
        )
    last = X[:, -1]
    rules = ActionUnitRules().fit(last, y)
    found = rules.predict(last)
    print(f"rules without training, last frame: {(found == y).mean():.3f}")
    print("  rows are the truth:", ", ".join(rules.classes_))
    for row in confusion_matrix(y, found):
        print("  " + " ".join(f"{count:>4}" for count in row))
    if figure:
        draw_activation(last, y, figure)


def draw_activation(last, y, path):
    """Draw the mean of each action unit in each class, in its spread over CK+48."""
    from matplotlib.figure import Figure

    model, _ = load_calibrated()
    actions = dict(zip(model.animation_names, last[:, -65:].T, strict=True))
    names = SHOWN.split()
    columns = []
    for name in names:
        one = actions.get(name)
        if one is None:
            one = actions[f"{name}_left"] + actions[f"{name}_right"]
        columns.append((one - one.mean()) / one.std())
    classes = np.unique(y)
    table = np.array([[column[y == c].mean() for column in columns] for c in classes])
    drawing = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = drawing.subplots()
    axes.imshow(table, cmap="RdBu_r", vmin=-1.8, vmax=1.8, aspect="auto")
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=9)
    for (row, column), value in np.ndenumerate(table):
        axes.text(
            column,
            row,
            f"{value:+.1f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if abs(value) > 1.1 else "black",
        )
    axes.set_title(
        "Mean action units on CK+48 (last frames), in standard deviations", fontsize=10
    )
    drawing.savefig(path, dpi=130)


def by_size(faces, networks, fitters):
    """Print the error on crops in FER2013's framing, by networks of other photos."""
    folds = GroupKFold(5, shuffle=True, random_state=0)
    errors = {size: np.empty(len(faces.images)) for size in SIZES}
    splits = folds.split(faces.images, groups=faces.photos)
    for number, (fit, test) in enumerate(splits, start=1):
        model, _ = calibrate(faces.landmarks[fit])
        landmarks = load_cascade(networks / "folds" / str(number))
        path = fitters / "folds" / str(number)
        cascade = load_wireframe_cascade(path, landmarks, model)
        for index, size in product(test, SIZES):
            truth = faces.landmarks[index]
            to_crop = eye_transform(eye_centers(truth), size)
            crop = warp(faces.images[index], to_crop, (size, size))
            fitted, _ = cascade.predict(crop, central_face(crop).box)
            pose, sigma, alpha = model.split(fitted)
            shown = project(model.shape(sigma, alpha)[cascade.vertices], pose)
            _, points = visible_points(model, transform_points(to_crop, truth))
            unit = outer_eye_distance(transform_points(to_crop, truth))
            errors[size][index] = np.linalg.norm(shown - points, axis=1).mean() / unit
    print(
        "faces68, crops in FER2013's framing, no detector, 5 folds by photo: error, > 0.1"
    )
    for size, one in errors.items():
        print(f"  {size:>4} px  {one.mean():.4f}  {(one > 0.1).mean():.4f}")


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", help="where to draw the mean action units")
    parser.add_argument("--fitters", type=Path, help="networks of folds of the fitter")
    parser.add_argument("--networks", type=Path, help="networks of folds for landmarks")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    data = Path(os.environ["FERPIPE_DATA"])
    faces = read_annotated_faces(data / "faces68")
    milliseconds(faces.images[:256])
    drawn_faces()
    synthetic_sequences()
    if options.fitters and options.networks:
        by_size(faces, options.networks, options.fitters)
    ck48(data, options.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
