"""Objectives side by side on faces68, folds by photo; needs FERPIPE_DATA.

``python benchmarks/objectives.py --networks NETWORKS --objectives OBJECTIVES`` prints for
landmarks, learned and designed (edges): the error of fits from the detector's boxes and
from nearby starts, P1 and P2 on the same search lines, and milliseconds a face, one
thread. NETWORKS is what ``python -m ferpipe.train landmarks FACES --keep-folds --out
NETWORKS`` wrote, OBJECTIVES what ``python -m ferpipe.train objective FACES --keep-folds
--out OBJECTIVES`` wrote; the wireframe is calibrated anew on each fold's other faces. Folds
that OBJECTIVES lacks are left out.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.model_selection import GroupKFold

from ferpipe.candide.camera import project
from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.displacement import displace
from ferpipe.candide.indicators import search_indicators
from ferpipe.candide.learned_objective import load_objective
from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.point_fit import fit_points
from ferpipe.candide.prior import unit_limits
from ferpipe.candide.visible_points import mean_shape, visible_points
from ferpipe.faces.landmark_cascade import load_cascade
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.train.landmark_networks import find_faces, read_annotated_faces
from ferpipe.train.wireframe import calibrate

# of the lines on which P1 and P2 are compared: the second of the learned stages
STAGE, REACH = 1, 0.15
# of nearby starts
NEAR = 0.1
NAMES = ("landmarks", "learned", "edges")


def measure(model, prior, objective, faces, starts):
    """Return the errors of fits in outer eye distances, and their seconds."""
    limits = unit_limits(model, prior)
    fitted, seconds = [], []
    for image, start in zip(faces.images, starts, strict=True):
        began = time.perf_counter()
        parameters, _ = fit_objective(model, prior, objective, image, start, limits=limits)
        seconds.append(time.perf_counter() - began)
        fitted.append(parameters)
    return errors_of(model, np.array(fitted), faces), np.array(seconds)


def errors_of(model, parameters, faces):
    """Return the mean error of the visible points of each face."""
    pose, sigma, alpha = model.split(parameters)
    vertices, points = visible_points(model, faces.landmarks)
    shown = project(model.shape(sigma, alpha)[:, vertices], pose)
    off = np.linalg.norm(shown - points, axis=2).mean(1)
    return off / outer_eye_distance(faces.landmarks)


def near_starts(model, prior, landmarks):
    """Return fits to points that are displaced a little."""
    vertices, points = visible_points(model, landmarks)
    rng = np.random.RandomState(0)
    displaced = displace(points, NEAR, mean_shape(points), rng)
    return fit_points(model, prior, vertices, displaced)


def compare(faces, networks, objectives):
    """Measure every fold and print the sums."""
    folds = GroupKFold(5, shuffle=True, random_state=0)
    rows = {name: {"box": [], "near": [], "time": [], "lines": []} for name in NAMES}
    started = {"box": [], "near": []}
    splits = folds.split(faces.images, groups=faces.photos)
    for number, (fit, test) in enumerate(splits, start=1):
        file = objectives / "folds" / str(number) / "objective.npz"
        if not file.exists():
            print(f"fold {number} is left out: there is no {file}")
            continue
        model, prior = calibrate(faces.landmarks[fit])
        cascade = load_cascade(networks / "folds" / str(number))
        learned, unseen = load_objective(file), faces.take(test)
        starts = {
            "box": [
                start_in_box(model, prior, face.box, face.angle, cascade)
                for face in find_faces(cascade, unseen.images)[0]
            ],
            "near": near_starts(model, prior, unseen.landmarks),
        }
        for kind, parameters in starts.items():
            started[kind].append(errors_of(model, np.array(parameters), unseen))
        for name, objective, of_lines in (
            ("landmarks", LandmarkObjective(model, cascade), None),
            ("learned", learned, None),
            ("edges", EdgeObjective(), EdgeObjective((REACH,))),
        ):
            row = rows[name]
            for kind, parameters in starts.items():
                errors, seconds = measure(model, prior, objective, unseen, parameters)
                row[kind].append(errors)
                if kind == "box":
                    row["time"].append(seconds)
            row["lines"].append(
                search_indicators(
                    of_lines or objective,
                    unseen.images,
                    unseen.landmarks,
                    reach=REACH,
                    stage=STAGE if name == "learned" else 0,
                    random_state=0,
                )
            )
    print_table(rows, started)


def print_table(rows, started):
    """Print one line an objective."""
    starts = {kind: np.concatenate(parts) for kind, parts in started.items()}
    print(
        f"{len(starts['box'])} faces; starts are off by {starts['box'].mean():.4f} (box) "
        f"and {starts['near'].mean():.4f} (near), in outer eye distances"
    )
    print(
        f"{'':<10} {'box':>7} {'median':>7} {'> 0.1':>7} {'near':>7} {'> 0.1':>7} "
        f"{'P1':>6} {'away':>7} {'P2':>6} {'ms':>6}"
    )
    for name, row in rows.items():
        box, near, seconds = (np.concatenate(row[kind]) for kind in ("box", "near", "time"))
        weights = [found.n_lines for found in row["lines"]]
        p1, away, p2 = (
            np.average([found[key] for found in row["lines"]], weights=weights)
            for key in ("p1", "displacement", "p2")
        )
        # the fastest tenth: others use the machine
        fastest = 1000 * np.percentile(seconds, 10)
        print(
            f"{name:<10} {box.mean():7.4f} {np.median(box):7.4f} "
            f"{(box > 0.1).mean():7.4f} {near.mean():7.4f} {(near > 0.1).mean():7.4f} "
            f"{p1:6.3f} {away:7.4f} {p2:6.3f} {fastest:6.1f}"
        )


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=Path, help="landmark networks of folds")
    parser.add_argument("--objectives", type=Path, help="learned objectives of folds")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("FERPIPE_DATA is not set: nothing to measure on.")
        return 0
    if not (options.networks and options.objectives):
        print("--networks and --objectives of folds are needed: see the first lines here.")
        return 0
    faces = read_annotated_faces(Path(os.environ["FERPIPE_DATA"]) / "faces68")
    compare(faces, options.networks, options.objectives)
    return 0


if __name__ == "__main__":
    sys.exit(main())
