"""The optimizer: fit the wireframe to an image by an objective, from coarse to fine."""

import numpy as np

from ferpipe.candide.camera import project
from ferpipe.candide.objective import check_gray
from ferpipe.candide.point_fit import fit_points, fit_targets
from ferpipe.candide.visible_points import contour_normals, visible_points
from ferpipe.faces.landmark_cascade import place_in_box
from ferpipe.geometry import fit_similarity, scale_of, transform_points

__all__ = [
    "fit_objective",
    "start_in_box",
]

# a fit stands still when its points move less, in outer eye distances
_STILL = 0.004
_MOST_STEPS = 2


def start_in_box(model, prior, box, angle, facts):
    """Place the mean face in a detector's box.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    box : (float, float, float, float)
        ``(x, y, width, height)`` in pixels.
    angle : float
        Turn of the face, in radians, clockwise.
    facts : PointCascade
        Its ``mean_shape``, ``box_width`` and ``box_center`` say where faces are in boxes.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
    """
    placement = place_in_box(
        box, angle, facts.mean_shape, facts.box_width, facts.box_center
    )
    shape = transform_points(placement, facts.mean_shape)
    vertices, points = visible_points(model, shape)
    return fit_points(model, prior, vertices, points[None])[0]


def fit_objective(model, prior, objective, image, start, *, limits=None, first_stage=0):
    """Fit the wireframe to an image by an objective.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    objective : Objective
        What says where points should go.
    image : ndarray of shape (h, w), uint8
        Gray.
    start : ndarray of shape (n_parameters,)
        Parameters to start from: of :func:`start_in_box`, of a fit to landmarks, or of the
        previous frame.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        Of the units, as :func:`ferpipe.candide.point_fit.unit_limits` gives them.
    first_stage : int, default=0
        Where to begin; a start that is nearly right, as of the previous frame, needs no
        coarse stage. Objectives with fewer stages begin with their last.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        After the finest stage.
    off : float
        How far points are from where the last look wanted them, root mean square over the
        directions that it was sure of; in outer eye distances. Infinite if it was sure of
        none.

    Raises
    ------
    TypeError, ValueError
        If the image is not gray and of 8 bits.

    Notes
    -----
    In each stage the objective looks once or, unless the points stand still by then,
    twice, with one Gauss-Newton step after each look.
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
    unsure = np.einsum("ki,kij,kj->", away, precisions, away)
    sure = np.einsum("kii->", precisions)
    return parameters, float(np.sqrt(unsure / sure) / unit) if sure else np.inf


def _project_visible(model, vertices, parameters):
    pose, sigma, alpha = model.split(parameters)
    return project(model.shape(sigma, alpha)[vertices], pose)
