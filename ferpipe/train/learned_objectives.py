"""Train the objective that is learned from annotated faces, and assess it by photo."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from ferpipe.candide.camera import project
from ferpipe.candide.learned_objective import LearnedObjective, save_objective
from ferpipe.candide.model import CandideModel
from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.prior import Prior, unit_limits
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.detection import Face
from ferpipe.faces.landmark_cascade import PointCascade
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.faces.landmarks import load_model
from ferpipe.train.landmark_networks import AnnotatedFaces, find_faces
from ferpipe.train.wireframe import calibrate

__all__ = ["SETTINGS", "fit_faces", "train_and_evaluate"]

SETTINGS = ("reaches", "n_samples", "n_features", "n_displacements", "random_state")


def fit_faces(
    model: CandideModel,
    prior: Prior,
    objective: Any,
    faces: AnnotatedFaces,
    boxes: Sequence[Face],
    facts: PointCascade,
) -> NDArray[np.float64]:
    """Fit the wireframe to faces by an objective, from boxes.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    objective : Objective
        Learned, of landmarks or designed.
    faces : AnnotatedFaces
        Faces that none of these has seen.
    boxes : list of Face
        As :func:`ferpipe.train.landmark_networks.find_faces` returns them.
    facts : PointCascade
        Says where faces are in boxes.

    Returns
    -------
    errors : ndarray of shape (n,)
        Mean distance of the visible points from the hand-made ones, in outer eye distances.
    """
    limits = unit_limits(model, prior)
    fitted = [
        fit_objective(
            model,
            prior,
            objective,
            image,
            start_in_box(model, prior, face.box, face.angle, facts),
            limits=limits,
        )[0]
        for image, face in zip(faces.images, boxes, strict=True)
    ]
    pose, sigma, alpha = model.split(np.array(fitted))
    vertices, points = visible_points(model, faces.landmarks)
    shown = project(model.shape(sigma, alpha)[:, vertices], pose)
    off = np.linalg.norm(shown - points, axis=2).mean(1)
    return off / outer_eye_distance(faces.landmarks)


def train_and_evaluate(
    faces: AnnotatedFaces,
    folder: Path | str,
    *,
    n_folds: int = 5,
    seed: int = 0,
    keep_folds: bool = False,
) -> tuple[LearnedObjective, dict[str, float]]:
    """Train on all faces, and on the other folds to measure on each.

    Parameters
    ----------
    faces : AnnotatedFaces
        Faces; those of one photo stay in one fold.
    folder : path
        Where ``objective.npz`` goes.
    n_folds : int, default=5
        Folds; 0 for no judgement.
    seed : int, default=0
        Of the folds and of the trainings.
    keep_folds : bool, default=False
        Keep the objectives of the folds, for other judgements.

    Returns
    -------
    objective : LearnedObjective
        Trained on all faces.
    scores : dict
        Errors are in outer eye distances.
    """
    folder = Path(folder)
    facts = load_model("ferpipe")
    errors, measured = [], []
    if n_folds:
        boxes, _ = find_faces(None, faces.images)
        folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
        splits = folds.split(faces.images, groups=faces.photos)
        for number, (fit, test) in enumerate(splits, start=1):
            objective = _train(faces.take(fit), seed)
            place = folder / "folds" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            save_objective(place / "objective.npz", objective)
            model, prior = calibrate(faces.landmarks[fit])
            unseen = faces.take(test)
            starts = [boxes[index] for index in test]
            errors.append(fit_faces(model, prior, objective, unseen, starts, facts))
            measured.append(_indicators(objective, unseen, seed))
        if not keep_folds:
            shutil.rmtree(folder / "folds")
    objective = _train(faces, seed)
    save_objective(folder / "objective.npz", objective)
    return objective, _scores_of(errors, measured)


def _train(faces: AnnotatedFaces, seed: int) -> LearnedObjective:
    objective = LearnedObjective(random_state=seed, verbose=True)
    return objective.fit(faces.images, faces.landmarks)


def _indicators(objective: LearnedObjective, faces: AnnotatedFaces, seed: int) -> list[Any]:
    return [
        objective.indicators(faces.images, faces.landmarks, stage=stage, random_state=seed)
        for stage in range(objective.n_stages)
    ]


def _scores_of(
    errors: list[NDArray[np.float64]], measured: list[list[Any]]
) -> dict[str, float]:
    """Sum up the folds."""
    if not errors:
        return {}
    distances = np.concatenate(errors)
    scores = {
        "mean_error": distances.mean(),
        "median_over_faces": np.median(distances),
        "share_of_faces_above_0.1": (distances > 0.1).mean(),
    }
    for stage, parts in enumerate(zip(*measured, strict=True)):
        weights = [part.n_lines for part in parts]
        for name in ("p1", "displacement", "p2"):
            mean = np.average([part[name] for part in parts], weights=weights)
            scores[f"{name}_of_stage_{stage}"] = mean
    return {name: round(float(score), 5) for name, score in scores.items()}
