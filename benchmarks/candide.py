"""What the wireframe's fits are worth; needs FERPIPE_DATA.

``python benchmarks/candide.py`` prints milliseconds a face, what is recovered from drawn
faces whose parameters are known and, on CK+48 by subject, the accuracy of an SVM on shape
and action units and of the rules without training; ``--figure FILE`` draws the mean action
units of each expression. ``--networks FOLDER`` adds the error on images by folds: FOLDER is
what ``python -m ferpipe.train landmarks FACES --keep-folds --out FOLDER`` wrote; the
wireframe is calibrated anew on each fold's other faces.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ferpipe import ActionUnitRules, CandideFitter, datasets
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project, rotation_matrix
from ferpipe.candide.point_fit import fit_points, visible_points
from ferpipe.candide.render import random_appearance, render_faces
from ferpipe.landmarks.cascade import load_cascade
from ferpipe.landmarks.points import outer_eye_distance
from ferpipe.train.candide import calibrate
from ferpipe.train.landmarks import find_points, read_annotated_faces

RENDERED = "AU01 AU02 AU04 AU05 AU09 AU10 AU12 AU15 AU20 AU26 AU27 AU43"
SHOWN = "AU01 AU02 AU04 AU05 AU06 AU07 AU09 AU10 AU12 AU15 AU17 AU20 AU24 AU25 AU26 AU27"


def milliseconds(frames):
    """Print the time of the fit to landmarks and of everything, one thread."""
    fitter = CandideFitter(detector=None).fit(frames)
    landmarks = fitter.locate(frames).landmarks
    model, prior = load_calibrated()
    vertices, points = visible_points(model, landmarks)
    prior = replace(prior, noise=0.03)
    print(f"ms a face, {len(frames)} faces of {frames[0].shape}, one thread")
    for name, function in (
        ("fit to landmarks, batch", lambda: fit_points(model, prior, vertices, points)),
        ("landmarks and fit, batch", lambda: fitter.transform(frames)),
    ):
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            function()
            rounds.append(time.perf_counter() - start)
        print(f"  {name:<26} {1000 * min(rounds) / len(frames):.2f}")


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


def rendered(n_faces=400, size=128):
    """Print what is recovered from drawn faces whose parameters are known."""
    model, prior = load_calibrated()
    rng = np.random.default_rng(0)
    n_shape = len(model.shape_names)
    parameters = np.zeros((n_faces, len(model.parameter_names)))
    pose, sigma, alpha = model.split(parameters)
    pose[:, :3] = rng.normal(0, np.deg2rad([8, 15, 8]), (n_faces, 3))
    pose[:, 3] = 0.3 * size * rng.uniform(0.9, 1.1, n_faces)
    pose[:, 4:] = rng.normal((0.5 * size, 0.42 * size), 0.02 * size, (n_faces, 2))
    people = prior.mean[:n_shape], prior.covariance[:n_shape, :n_shape]
    sigma[:] = rng.multivariate_normal(*people, n_faces)
    groups = {}
    for index, name in enumerate(model.animation_names):
        unit = name.partition("_")[0]
        if unit in RENDERED.split():
            groups.setdefault(unit, []).append(index)
    for columns in groups.values():
        shown = rng.random(n_faces) < 0.3
        alpha[:, columns] = (shown * rng.uniform(0.2, 1, n_faces))[:, None]
    looks = [random_appearance(rng) for _ in range(n_faces)]
    images = render_faces(model, parameters, looks, size, random_state=0)
    fitter = CandideFitter("parameters").fit(images)
    found = fitter.locate(images)
    seen = ~np.isnan(found.scores)
    turned = rotation_matrix(pose[:, :3])
    again = rotation_matrix(found.parameters[:, :3])
    cosine = (np.einsum("nij,nij->n", turned, again) - 1) / 2
    angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    print(
        f"{n_faces} drawn faces of {size} px (synthetic): found {seen.mean():.3f}; "
        f"rotation error of these: median {np.median(angle[seen]):.2f}, mean "
        f"{angle[seen].mean():.2f} degrees; correlation of"
    )
    _, _, actions = model.split(found.parameters)
    for unit, columns in sorted(groups.items()):
        truth, fitted = alpha[seen][:, columns].mean(1), actions[seen][:, columns].mean(1)
        print(f"  {unit} {np.corrcoef(truth, fitted)[0, 1]:.2f}", end="")
    print()


def on_images(data, networks):
    """Print the error of fits to images, with networks and wireframe of other photos."""
    faces = read_annotated_faces(data / "faces68")
    folds = GroupKFold(5, shuffle=True, random_state=0)
    errors = np.empty(len(faces.images))
    alone = np.empty(len(faces.images))
    splits = folds.split(faces.images, groups=faces.photos)
    for number, (fit, test) in enumerate(splits, start=1):
        model, prior = calibrate(faces.landmarks[fit])
        cascade = load_cascade(networks / "folds" / str(number))
        found, _ = find_points(cascade, faces.take(test))
        vertices, points = visible_points(model, found)
        parameters = fit_points(model, replace(prior, noise=0.03), vertices, points)
        pose, sigma, alpha = model.split(parameters)
        shown = project(model.shape(sigma, alpha)[:, vertices], pose)
        _, truth = visible_points(model, faces.landmarks[test])
        unit = outer_eye_distance(faces.landmarks[test])
        errors[test] = np.linalg.norm(shown - truth, axis=2).mean(1) / unit
        alone[test] = np.linalg.norm(points - truth, axis=2).mean(1) / unit
    print(
        f"images of faces68, 5 folds by photo: error {errors.mean():.4f} of the outer eye "
        f"distance, above 0.1 {(errors > 0.1).mean():.4f}; landmarks alone "
        f"{alone.mean():.4f}, {(alone > 0.1).mean():.4f}"
    )


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", help="where to draw the mean action units")
    parser.add_argument("--networks", type=Path, help="landmark networks of folds")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    data = Path(os.environ["FERPIPE_DATA"])
    faces = read_annotated_faces(data / "faces68")
    milliseconds(faces.images[:256])
    rendered()
    ck48(data, options.figure)
    if options.networks:
        on_images(data, options.networks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
