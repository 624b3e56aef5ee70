"""Calibrate the wireframe's rest shape, units and prior on faces with 68 points."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RBFInterpolator
from sklearn.model_selection import GroupKFold
from tqdm import tqdm

from ferpipe.candide import template_tables as tables
from ferpipe.candide.camera import project, rotation_matrix
from ferpipe.candide.model import POSE_NAMES, CandideModel
from ferpipe.candide.point_fit import fit_points
from ferpipe.candide.prior import Prior
from ferpipe.candide.template import ANCHORS, partners, template_model
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_points import MIRRORED, outer_eye_distance

__all__ = [
    "Calibration",
    "calibrate",
    "calibrate_and_evaluate",
    "template_prior",
    "held_out_errors",
]

_N_POSE = len(POSE_NAMES)


@dataclass(frozen=True)
class Calibration:
    """How far calibration may leave what the tables draw.

    Attributes
    ----------
    n_rounds : int
        Rounds of fitting all faces and then the model to them.
    rest_spread : (float, float)
        Standard deviations by which a vertex may leave its place in the template: in x and
        y, and in z, which pictures show less well. In outer eye distances, as all lengths
        here.
    shape_spread, animation_spread : float
        The same for what a unit moves a vertex by.
    """

    n_rounds: int = 4
    rest_spread: tuple[float, float] = (0.2, 0.06)
    shape_spread: float = 0.006
    animation_spread: float = 0.003


def template_prior(model: CandideModel) -> Prior:
    """Return the prior for the template: nothing known of people, and common actions.

    Parameters
    ----------
    model : CandideModel
        The wireframe.

    Returns
    -------
    prior : Prior
        Standard deviations are 1 for shape units, 0.5 for the action units that
        ``tables.COMMON_UNITS`` lists and 0.1 for the others.
    """
    common = tables.COMMON_UNITS.split()
    n_shape = len(model.shape_names)
    spreads = [
        0.5 if name.partition("_")[0] in common else 0.1 for name in model.animation_names
    ]
    variances = np.r_[np.ones(n_shape), np.square(spreads)]
    return Prior(np.zeros(len(variances)), np.diag(variances), 0.03)


def calibrate(
    landmarks: NDArray[Any], settings: Calibration = Calibration(), *, verbose: bool = False
) -> tuple[CandideModel, Prior]:
    """Calibrate the wireframe on annotated faces.

    Each round fits pose and units of every face and of its mirror image under the present
    prior, and then chooses the prior, the rest shape and the units that make the points
    most probable, with what the fits leave uncertain taken into account (the EM algorithm
    for a factor model whose loadings are turned by each face's pose). Gaussian priors
    about the tables' figures keep the units' meaning: an animation unit moves only the
    vertices that it moves in the template, and how much faces act is not learned but stays
    as :func:`template_prior` has it. Left free, units take over what others are named for:
    the held-out error falls further, and the meaning is lost. Vertices that no point shows
    follow those about them.

    Parameters
    ----------
    landmarks : ndarray of shape (n, 68, 2)
        Points of faces, in pixels.
    settings : Calibration
        How far calibration may go.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    model : CandideModel
        Calibrated, symmetrical.
    prior : Prior
        Of its units.
    """
    template = template_model()
    model, prior = template, template_prior(template)
    # the mirror image of every face is a face
    both = np.concatenate([landmarks, (landmarks * (-1, 1))[:, MIRRORED]])
    vertices, points = visible_points(model, both)
    for _ in tqdm(range(settings.n_rounds), "calibrating", disable=not verbose):
        parameters, covariances = fit_points(
            model, prior, vertices, points, covariances=True
        )
        units = parameters[:, _N_POSE:]
        off = units - units.mean(0)
        covariance = template_prior(template).covariance
        persons = slice(len(template.shape_names))
        covariance[persons, persons] = (off.T @ off / len(units) + covariances.mean(0))[
            persons, persons
        ]
        seen = _refit_vertices(
            model, template, prior, vertices, points, parameters, covariances, settings
        )
        model = _spread(template, vertices, *seen)
        noise = _noise(model, vertices, points, parameters, covariances)
        prior = Prior(_even(model, units.mean(0)), _even(model, covariance), noise)
    return model, prior


def held_out_errors(
    model: CandideModel, prior: Prior, landmarks: NDArray[Any]
) -> NDArray[np.float64]:
    """Fit every other visible point and measure the rest, and the other way round.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    landmarks : ndarray of shape (n, 68, 2)
        Points of faces that neither has seen.

    Returns
    -------
    errors : ndarray of shape (n, k)
        Distance of each point, when it was held out, in outer eye distances.
    """
    vertices, points = visible_points(model, landmarks)
    errors = np.empty(points.shape[:2])
    for start in (0, 1):
        used = np.arange(len(vertices)) % 2 == start
        parameters = fit_points(model, prior, vertices[used], points[:, used])
        pose, sigma, alpha = model.split(parameters)
        shown = project(model.shape(sigma, alpha)[:, vertices[~used]], pose)
        errors[:, ~used] = np.linalg.norm(shown - points[:, ~used], axis=2)
    return errors / outer_eye_distance(landmarks)[:, None]


def _cameras(parameters: NDArray[Any]) -> NDArray[np.float64]:
    """Return the matrices (n, 2, 3) from vertices to points, but for the shift."""
    rotation = rotation_matrix(parameters[:, :3])
    return rotation[:, :2] * parameters[:, 3, None, None] * np.array([1.0, -1.0])[:, None]


def _refit_vertices(
    model: CandideModel,
    template: CandideModel,
    prior: Prior,
    vertices: NDArray[Any],
    points: NDArray[Any],
    parameters: NDArray[Any],
    covariances: NDArray[Any],
    settings: Calibration,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Choose rest positions and displacements of the visible vertices, by least squares.

    Each vertex alone: its points are linear in its position and in its displacement by
    each unit, ``camera @ (rest + sum(unit * displacement)) + shift``.
    """
    cameras, scale = _cameras(parameters), parameters[:, 3]
    n, n_shape = len(points), len(model.shape_names)
    units = parameters[:, _N_POSE:]
    factors = np.column_stack([np.ones(n), units])
    grams = cameras.swapaxes(1, 2) @ cameras / scale[:, None, None] ** 2
    all_units = np.concatenate([template.shape_units, template.animation_units])
    moves = np.arange(len(all_units)) < n_shape
    spreads = np.where(moves, settings.shape_spread, settings.animation_spread)
    rest = np.empty((len(vertices), 3))
    displacements = all_units[:, vertices].copy()
    for number, vertex in enumerate(vertices):
        allowed = np.flatnonzero(moves | (all_units[:, vertex] != 0).any(1))
        used = factors[:, [0, *(allowed + 1)]]
        second = used[:, :, None] * used[:, None, :]
        second[:, 1:, 1:] += covariances[np.ix_(np.arange(n), allowed, allowed)]
        size = 3 * used.shape[1]
        normal = np.einsum("nij,nab->iajb", second, grams, optimize=True)
        normal = normal.reshape(size, size) / prior.noise**2
        off = (points[:, number] - parameters[:, 4:6]) / scale[:, None] ** 2
        right = np.einsum("ni,nca,nc->ia", used, cameras, off, optimize=True)
        start = np.concatenate(
            [template.vertices[None, vertex], all_units[allowed, vertex]]
        )
        spread = np.concatenate(
            [
                [[settings.rest_spread[0]] * 2 + [settings.rest_spread[1]]],
                np.repeat(spreads[allowed, None], 3, axis=1),
            ]
        ).ravel()
        hessian = normal + np.diag(spread**-2)
        target = right.ravel() / prior.noise**2 + start.ravel() * spread**-2
        solved = np.linalg.solve(hessian, target).reshape(-1, 3)
        rest[number], displacements[allowed, number] = solved[0], solved[1:]
    return rest, displacements


def _spread(
    template: CandideModel,
    vertices: NDArray[Any],
    rest: NDArray[np.float64],
    displacements: NDArray[np.float64],
) -> CandideModel:
    """Make a symmetrical model whose other vertices follow the visible ones."""
    n_shape = len(template.shape_names)
    shape, animation = displacements[:n_shape], displacements[n_shape:]
    change = _follow(template, vertices, rest - template.vertices[vertices])
    new_units = template.shape_units + np.stack(
        [
            _follow(template, vertices, one - old[vertices])
            for one, old in zip(shape, template.shape_units, strict=True)
        ]
    )
    new_animation = template.animation_units.copy()
    new_animation[:, vertices] = animation
    partner = partners()
    flip = np.array([-1.0, 1.0, 1.0])
    other = new_animation[list(template.mirrored_animation)]
    whole = template.vertices + change
    return replace(
        template,
        vertices=(whole + whole[partner] * flip) / 2,
        shape_units=(new_units + new_units[:, partner] * flip) / 2,
        animation_units=(new_animation + other[:, partner] * flip) / 2,
    )


def _follow(
    template: CandideModel, vertices: NDArray[Any], change: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate changes of the visible vertices to all vertices of the template."""
    fixed = np.setdiff1d(ANCHORS, vertices)
    known = np.concatenate([vertices, fixed])
    values = np.concatenate([change, np.zeros((len(fixed), 3))])
    interpolate = RBFInterpolator(template.vertices[known], values, kernel="linear")
    used = np.flatnonzero(template.vertices.any(1))
    whole = np.zeros_like(template.vertices)
    whole[used] = interpolate(template.vertices[used])
    return whole


def _noise(
    model: CandideModel,
    vertices: NDArray[Any],
    points: NDArray[Any],
    parameters: NDArray[Any],
    covariances: NDArray[Any],
) -> float:
    """Return the standard deviation of points about the wireframe's."""
    pose, sigma, alpha = model.split(parameters)
    off = points - project(model.shape(sigma, alpha)[:, vertices], pose)
    cameras = _cameras(parameters) / parameters[:, 3, None, None]
    units = np.concatenate([model.shape_units, model.animation_units])[:, vertices]
    rows = np.einsum("nca,uka->nkcu", cameras, units, optimize=True)
    rows = rows.reshape(len(points), -1, len(units))
    unsure = ((rows @ covariances) * rows).sum((1, 2))
    square = (off**2).sum((1, 2)) / parameters[:, 3] ** 2 + unsure
    return float(np.sqrt(square.mean() / (2 * len(vertices))))


def _even(model: CandideModel, moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the mean or the covariance of the units the same for both sides of the face."""
    n_shape = len(model.shape_names)
    order = np.r_[model.mirrored_shape, n_shape + np.array(model.mirrored_animation)]
    mirrored = moments[order] if moments.ndim == 1 else moments[np.ix_(order, order)]
    return (moments + mirrored) / 2


def calibrate_and_evaluate(
    landmarks: NDArray[Any],
    photos: ArrayLike,
    settings: Calibration = Calibration(),
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> tuple[CandideModel, Prior, dict[str, float]]:
    """Calibrate on all faces, and on the other folds to measure on each.

    Parameters
    ----------
    landmarks : ndarray of shape (n, 68, 2)
        Points of faces.
    photos : array-like of shape (n,)
        The photo of each face; faces of one photo stay in one fold.
    settings : Calibration
        How far calibration may go.
    n_folds : int, default=5
        Folds; 0 for no judgement.
    seed : int, default=0
        Of the folds.

    Returns
    -------
    model : CandideModel
        Calibrated on all faces.
    prior : Prior
        Of its units.
    scores : dict
        Errors in outer eye distances.
    """
    scores = {}
    if n_folds:
        errors, template = [], template_model()
        folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
        for fit, test in folds.split(landmarks, groups=photos):
            model, prior = calibrate(landmarks[fit], settings, verbose=True)
            errors.append(held_out_errors(model, prior, landmarks[test]))
        held_out = np.concatenate(errors)
        of_template = held_out_errors(template, template_prior(template), landmarks)
        scores = {
            "mean_error_of_held_out_points": held_out.mean(),
            "median_over_faces": np.median(held_out.mean(1)),
            "share_of_faces_above_0.1": (held_out.mean(1) > 0.1).mean(),
            "mean_error_of_the_template": of_template.mean(),
        }
    model, prior = calibrate(landmarks, settings, verbose=True)
    return model, prior, {name: round(float(score), 5) for name, score in scores.items()}
