"""The optimizer: fit the wireframe to an image by an objective, from coarse to fine."""

import numpy as np

from ferpipe.candide.camera import project
from ferpipe.candide.model import CandideModel
from ferpipe.candide.objective import Objective, check_gray
from ferpipe.candide.point_fit import fit_points, fit_targets
from ferpipe.candide.prior import Prior
from ferpipe.candide.visible_points import contour_normals, visible_points
from ferpipe.faces.detection import Box
from ferpipe.faces.landmark_cascade import PointCascade, place_in_box
from ferpipe.geometry import fit_similarity, scale_of, transform_points

__all__ = ["fit_objective", "start_in_box"]

# mean movement of the points below which a stage ends, in outer eye distances
_STILL = 0.004
_MOST_STEPS = 2  # in each stage


def start_in_box(
    model: CandideModel, prior: Prior, box: Box, angle: float, landmarks: PointCascade
) -> np.ndarray:
    """Place the mean face in a detector's box.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its parameters.
    box : (float, float, float, float)
        ``(x, y, width, height)`` in pixels.
    angle : float
        In-plane rotation of the face, in radians, clockwise in the image.
    landmarks : PointCascade
        Its ``mean_shape``, ``box_width`` and ``box_center`` give where faces are in boxes.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        As the model's ``parameter_names`` lists them.
    """
    mean_shape = landmarks.mean_shape
    placement = place_in_box(
        box, angle, mean_shape, landmarks.box_width, landmarks.box_center
    )
    shape = transform_points(placement, mean_shape)
    vertices, points = visible_points(model, shape)
    return fit_points(model, prior, vertices, points[None])[0]


def fit_objective(
    model: CandideModel,
    prior: Prior,
    objective: Objective,
    image: np.ndarray,
    start: np.ndarray,
    *,
    limits: np.ndarray | None = None,
    first_stage: int = 0,
) -> tuple[np.ndarray, float]:
    """Fit the wireframe to an image by an objective.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its parameters.
    objective : Objective
        Gives where points should go.
    image : ndarray of shape (h, w), uint8
        Gray.
    start : ndarray of shape (n_parameters,)
        Parameters to start from: from :func:`start_in_box`, a fit to landmarks, or the
        previous frame.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        Limits of the units, as :func:`ferpipe.candide.prior.unit_limits` returns them.
    first_stage : int, default=0
        The stage to begin with. A start from the previous frame needs no coarse stage.
        Objectives with fewer stages begin with their last one.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        The parameters after the finest stage.
    off : float
        Distance between the points and their last targets, in outer eye distances: root
        mean square, weighted by the precisions. Infinite if all precisions are 0.

    Raises
    ------
    TypeError, ValueError
        If the image is not gray and of 8 bits.

    Notes
    -----
    Each stage finds targets and takes one Gauss-Newton step towards them; it repeats both
    once, unless the points have stopped moving.
    """
    check_gray(image)
    vertices = np.array(sorted(model.landmarks))
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[vertices]
    frontal = typical[:, :2] * (1, -1)
    parameters = np.asarray(start, np.float64)
    points = _project_visible(model, vertices, parameters)
    prepared = objective.prepare(image, points)
    for stage in range(min(first_stage, objective.n_stages - 1), objective.n_stages):
        for _ in range(_MOST_STEPS):
            unit = scale_of(fit_similarity(frontal, points))
            targets, precisions = objective.find_targets(
                prepared, points, contour_normals(points), unit, stage
            )
            parameters = fit_targets(
                model,
                prior,
                vertices,
                targets,
                precisions,
                parameters,
                limits=limits,
                most_steps=1,
            )
            before, points = points, _project_visible(model, vertices, parameters)
            if np.linalg.norm(points - before, axis=1).mean() < _STILL * unit:
                break
    away = targets - points
    weighted = np.einsum("ki,kij,kj->", away, precisions, away)
    total = np.einsum("kii->", precisions)
    return parameters, float(np.sqrt(weighted / total) / unit) if total else np.inf


def _project_visible(
    model: CandideModel, vertices: np.ndarray, parameters: np.ndarray
) -> np.ndarray:
    pose, sigma, alpha = model.split(parameters)
    return project(model.shape(sigma, alpha)[vertices], pose)
