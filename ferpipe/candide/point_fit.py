"""Fit the wireframe to points: pose, person and action, with what is known beforehand.

One solver: Gauss-Newton steps, damped after Levenberg and Marquardt, with a Gaussian prior
and, where they are given, limits of the units.
"""

import numpy as np

from ferpipe.candide.camera import project, project_with_jacobian, rough_poses
from ferpipe.candide.model import POSE_NAMES

__all__ = [
    "fit_points",
    "fit_targets",
]

_N_POSE = len(POSE_NAMES)
# of rx, ry and rz, in radians; scale and shift are free
_ANGLE_SPREAD = np.array([0.4, 0.6, 1.5])
# of scale and shift about the start where targets may not determine them, as a multiple of
# the scale: so wide that it hardly matters
_FREE = 1000.0
_MOST_STEPS = 60
_CHUNK = 256


def fit_points(
    model, prior, vertices, points, *, weights=None, limits=None, covariances=False
):
    """Fit the parameters of faces to points.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its shape and animation units.
    vertices : array-like of shape (k,), int
        Vertices of the wireframe.
    points : ndarray of shape (n, k, 2)
        Where each face shows them, in pixels.
    weights : ndarray of shape (n, k), default=None
        How much each squared distance counts; None counts all alike.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        Least and largest values of the units, as :func:`unit_limits` gives them; None
        for none.
    covariances : bool, default=False
        Return the posterior covariances of sigma and alpha too, as they are without
        limits.

    Returns
    -------
    parameters : ndarray of shape (n, n_parameters)
        Most probable parameters, as the model's ``parameter_names`` lists them.
    covariances : ndarray of shape (n, n_units, n_units)
        Only if asked for.

    Raises
    ------
    ValueError
        If the points of a face determine no pose, or a lower limit is above an upper one.
    """
    vertices, points = np.asarray(vertices), np.asarray(points, np.float64)
    if weights is None:
        weights = np.ones(points.shape[:2])
    between = _limits_of_all(limits, len(prior.mean))
    parts = [
        _fit_chunk(
            model,
            prior,
            vertices,
            points[i : i + _CHUNK],
            weights[i : i + _CHUNK],
            between,
        )
        for i in range(0, len(points), _CHUNK)
    ]
    parameters = np.concatenate([part[0] for part in parts])
    if not covariances:
        return parameters
    return parameters, np.concatenate([part[1] for part in parts])


def fit_targets(
    model,
    prior,
    vertices,
    targets,
    precisions,
    start,
    *,
    limits=None,
    most_steps=_MOST_STEPS,
):
    """Fit the parameters of a face to places that are surer in some directions.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its shape and animation units.
    vertices : array-like of shape (k,), int
        Vertices of the wireframe.
    targets : ndarray of shape (k, 2)
        Where they should be seen, in pixels.
    precisions : ndarray of shape (k, 2, 2)
        How sure that is, per squared pixel: the inverse of the covariance, or of rank one
        where only the distance along a direction is known, or 0.
    start : ndarray of shape (n_parameters,)
        Parameters to start from; those beyond the limits are taken to them.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        As for :func:`fit_points`.
    most_steps : int, default=60
        Most Gauss-Newton steps.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        The most probable parameters.

    Raises
    ------
    ValueError
        If a lower limit is above an upper one.
    """
    precision, mean = _precision_of(model, prior)
    between = _limits_of_all(limits, len(prior.mean))
    parameters = np.clip(np.asarray(start, np.float64), *between)[None]
    # targets that do not determine scale and shift leave them
    mean[3:_N_POSE] = parameters[0, 3:_N_POSE]
    precision[range(3, _N_POSE), range(3, _N_POSE)] = (_FREE * parameters[0, 3]) ** -2
    _descend(
        model,
        np.asarray(vertices),
        np.asarray(targets, np.float64)[None],
        _square_roots(np.asarray(precisions, np.float64))[None],
        precision,
        mean,
        parameters,
        between,
        most_steps,
    )
    return parameters[0]


def _fit_chunk(model, prior, vertices, points, weights, between):
    n = len(points)
    precision, target = _precision_of(model, prior)
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[vertices]
    parameters = np.empty((n, len(target)))
    parameters[:, :_N_POSE] = rough_poses(typical, points, weights)
    parameters[:, _N_POSE:] = prior.mean
    np.clip(parameters, *between, out=parameters)
    # distances count in units of the model: by the scale of the start
    root = np.sqrt(weights)[:, :, None] / (prior.noise * parameters[:, None, 3:4])
    _descend(
        model, vertices, points, root, precision, target, parameters, between, _MOST_STEPS
    )
    hessian, _ = _derivatives(model, vertices, points, root, precision, target, parameters)
    return parameters, np.linalg.inv(hessian)[:, _N_POSE:, _N_POSE:]


def _descend(
    model, vertices, points, root, precision, target, parameters, between, most_steps
):
    """Take damped Gauss-Newton steps within the limits, each face by itself, in place."""
    damping = np.full(len(points), 1e-3)
    error = _error(model, vertices, points, root, precision, target, parameters)
    going = np.arange(len(points))
    for _ in range(most_steps):
        here = parameters[going]
        hessian, downhill = _derivatives(
            model, vertices, points[going], root[going], precision, target, here
        )
        diagonal = np.einsum("nii->ni", hessian)
        diagonal *= 1 + damping[going, None]
        low, high = between
        held = ((here <= low) & (downhill < 0)) | ((here >= high) & (downhill > 0))
        if held.any():
            hessian[held[:, :, None] | held[:, None, :]] = 0
            diagonal[held] = 1
            downhill[held] = 0
        moved = here + np.linalg.solve(hessian, downhill[..., None])[..., 0]
        np.clip(moved, low, high, out=moved)
        new_error = _error(
            model, vertices, points[going], root[going], precision, target, moved
        )
        better = new_error < error[going]
        gain = np.where(better, error[going] - new_error, 0)
        parameters[going[better]] = moved[better]
        error[going[better]] = new_error[better]
        damping[going] *= np.where(better, 0.1, 10)
        # each face by itself: what others of its batch do must not matter
        done = (better & (gain < 1e-6 * new_error)) | (damping[going] > 1e6)
        going = going[~done]
        if not len(going):
            break


def _derivatives(model, vertices, points, root, precision, target, parameters):
    """Return the Gauss-Newton Hessian and the direction down of half the error."""
    n = len(points)
    shown, jacobian = project_with_jacobian(model, parameters, vertices)
    rows = _weigh(root, jacobian).reshape(n, -1, len(target))
    residual = _weigh(root, (points - shown)[..., None]).reshape(n, -1, 1)
    transposed = np.swapaxes(rows, 1, 2)
    downhill = (transposed @ residual)[..., 0] + (target - parameters) @ precision
    return transposed @ rows + precision, downhill


def _weigh(root, columns):
    """Multiply columns (n, k, 2, m) by numbers (n, k, 1) or by matrices (n, k, 2, 2)."""
    if root.ndim == 3:
        return root[..., None] * columns
    # written out: matrices as small as these are slow to multiply one by one
    x, y = columns[..., :1, :], columns[..., 1:, :]
    return root[..., :1] * x + root[..., 1:] * y


def _square_roots(matrices):
    """Return the symmetric square roots of matrices (..., 2, 2), which may be singular."""
    determinant = np.linalg.det(matrices)
    root = np.sqrt(np.maximum(determinant, 0))[..., None, None]
    trace = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    size = np.sqrt(np.maximum(trace + 2 * root, np.finfo(float).tiny))
    return (matrices + root * np.eye(2)) / size


def _limits_of_all(limits, n_units):
    """Return the limits of all parameters: those of the pose are infinite."""
    between = np.empty((2, _N_POSE + n_units))
    between[0], between[1] = -np.inf, np.inf
    if limits is not None:
        between[:, _N_POSE:] = limits
        if (between[0] > between[1]).any():
            raise ValueError("Lower limits of units must not be above the upper ones.")
    return between


def _precision_of(model, prior):
    """Return the precision and the mean of all parameters before a point is seen."""
    n = len(model.parameter_names)
    precision, mean = np.zeros((n, n)), np.zeros(n)
    precision[np.arange(3), np.arange(3)] = _ANGLE_SPREAD**-2
    precision[_N_POSE:, _N_POSE:] = prior.precision
    mean[_N_POSE:] = prior.mean
    return precision, mean


def _error(model, vertices, points, root, precision, target, parameters):
    pose, sigma, alpha = model.split(parameters)
    shown = project(model.shape(sigma, alpha)[:, vertices], pose)
    off = parameters - target
    residual = _weigh(root, (points - shown)[..., None])
    return (residual**2).sum((1, 2, 3)) + ((off @ precision) * off).sum(1)
