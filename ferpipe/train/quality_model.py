"""Train what tells whether a fitted wireframe lies on a face."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPClassifier

from ferpipe.candide.fit_quality import QUALITY_SIZE, FitQualityModel, standardized
from ferpipe.candide.model import CandideModel
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_cascade import crop_transform
from ferpipe.geometry import fit_similarity, similarity, transform_points, warp
from ferpipe.train.crops import change_picture
from ferpipe.train.landmark_networks import AnnotatedFaces

__all__ = ["train_quality_model", "train_and_evaluate_quality"]

# Mean distance of points, in outer eye distances, up to which a fit is good; what is near
# to it is not learned from
_GOOD, _UNSURE = 0.085, (0.07, 0.1)
# Standard deviations of the displacement (outer eye distances), the turn (degrees) and the
# logarithm of the size of placements that are good, and of those that mostly are not
_NEAR, _FAR = (0.03, 3.0, 0.04), (0.35, 35.0, 0.35)
_SHARES = (0.4, 0.4, 0.2)
_N_CROPS, _N_HIDDEN = 40000, 64


def train_and_evaluate_quality(
    faces: AnnotatedFaces, model: CandideModel, mean_shape: NDArray[Any], *, seed: int = 0
) -> tuple[FitQualityModel, float]:
    """Train on all faces, and on four fifths of the photos to measure on the rest.

    Parameters
    ----------
    faces : AnnotatedFaces
        Faces and their points.
    model : CandideModel
        Says which points its vertices show.
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face; its outer eye distance is 1.
    seed : int, default=0
        Of the fold, the crops and the training.

    Returns
    -------
    quality_model : FitQualityModel
        Trained on all faces.
    score : float
        Area under the curve of good placements against others, of the fifth.
    """
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    fit, test = next(folds.split(faces.images, groups=faces.photos))
    quality_model = train_quality_model(faces.take(fit), model, mean_shape, seed=seed)
    rng = np.random.default_rng(seed + 1)
    rows, errors = _sample_crops(faces.take(test), model, mean_shape, 4000, rng)
    hidden = np.maximum(rows @ quality_model.weights + quality_model.offsets, 0)
    score = roc_auc_score(errors < _GOOD, hidden @ quality_model.last_weights)
    return train_quality_model(faces, model, mean_shape, seed=seed), round(float(score), 4)


def train_quality_model(
    faces: AnnotatedFaces,
    model: CandideModel,
    mean_shape: NDArray[Any],
    *,
    n_crops: int = _N_CROPS,
    seed: int = 0,
) -> FitQualityModel:
    """Train on faces whose placement is displaced a little or far, and on noise.

    Parameters
    ----------
    faces, model, mean_shape
        As for :func:`train_and_evaluate_quality`.
    n_crops : int, default=40000
        Crops that are drawn.
    seed : int, default=0
        Of the crops and the training.
    """
    rng = np.random.default_rng(seed)
    rows, errors = _sample_crops(faces, model, mean_shape, n_crops, rng)
    sure = (errors < _UNSURE[0]) | (errors > _UNSURE[1])
    network = MLPClassifier(
        (_N_HIDDEN,),
        alpha=1e-2,
        learning_rate_init=2e-3,
        early_stopping=True,
        n_iter_no_change=5,
        max_iter=60,
        random_state=seed,
    ).fit(rows[sure], errors[sure] < _GOOD)
    (weights, last_weights), (offsets, last_offset) = network.coefs_, network.intercepts_
    _, mean_points = visible_points(model, mean_shape)
    return FitQualityModel(
        mean_shape, mean_points, weights, offsets, last_weights[:, 0], last_offset[0]
    )


def _sample_crops(
    faces: AnnotatedFaces,
    model: CandideModel,
    mean_shape: NDArray[Any],
    n: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw standardized crops (n, n_pixels), and how far their placement is off."""
    _, mean_points = visible_points(model, mean_shape)
    _, points = visible_points(model, faces.landmarks)
    crops = np.empty((n, QUALITY_SIZE, QUALITY_SIZE), np.float32)
    errors = np.empty(n)
    for number in range(n):
        face = rng.integers(len(points))
        kind = rng.choice(3, p=_SHARES)
        if kind == 2:
            crop, errors[number] = _noise(rng), np.inf
        else:
            truth = fit_similarity(mean_points, points[face])
            placement = _displaced(truth, mean_shape, rng, (_NEAR, _FAR)[kind])
            off = transform_points(placement, mean_points)
            off -= transform_points(truth, mean_points)
            unit = np.hypot(truth[0, 0], truth[1, 0])
            errors[number] = np.linalg.norm(off, axis=1).mean() / unit
            to_crop = crop_transform(placement, mean_shape, QUALITY_SIZE)
            crop = warp(faces.images[face], to_crop, (QUALITY_SIZE, QUALITY_SIZE))
        crop = crop.astype(np.float32)
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        if rng.random() < 0.5:
            crop = change_picture(crop, rng)
        crops[number] = crop
    return standardized(crops), errors


def _displaced(
    placement: NDArray[Any],
    mean_shape: NDArray[Any],
    rng: np.random.Generator,
    spreads: tuple[float, float, float],
) -> NDArray[np.float64]:
    shift, turn, growth = spreads
    unit = np.hypot(placement[0, 0], placement[1, 0])
    angle = np.arctan2(placement[1, 0], placement[0, 0])
    middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
    target = transform_points(placement, middle) + rng.normal(size=2) * shift * unit
    return similarity(
        unit * np.exp(rng.normal(0, growth)),
        angle + np.deg2rad(rng.normal(0, turn)),
        middle,
        target,
    )


def _noise(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a picture of nothing, from fine to coarse."""
    import cv2

    n = int(rng.integers(3, QUALITY_SIZE))
    noise = rng.normal(128, 40, (n, n)).astype(np.float32)
    size = (QUALITY_SIZE, QUALITY_SIZE)
    return np.clip(cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC), 0, 255)
