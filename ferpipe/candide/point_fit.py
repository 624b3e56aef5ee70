"""Fit the wireframe to points: pose, person and action, with what is known beforehand."""

from dataclasses import dataclass

import numpy as np

from ferpipe.candide.camera import project, project_with_jacobian, rough_poses
from ferpipe.candide.model import POSE_NAMES

__all__ = ["Prior", "fit_points", "visible_points"]

_N_POSE = len(POSE_NAMES)
# of rx, ry and rz, in radians; scale and shift are free
_ANGLE_SPREAD = np.array([0.4, 0.6, 1.5])
_MOST_STEPS = 60
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Prior:
    """What faces are like before any of their points is seen: a Gaussian.

    Attributes
    ----------
    mean : ndarray of shape (n_shape + n_animation,)
        Of sigma and alpha.
    covariance : ndarray of shape (n_shape + n_animation, n_shape + n_animation)
        Of sigma and alpha.
    noise : float
        Standard deviation of a point's coordinate about the wireframe's, in units of the
        model (outer eye distances).
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float


def visible_points(model, landmarks):
    """Return the points of the 68 that vertices of the wireframe are compared with.

    Parameters
    ----------
    model : CandideModel
        Its ``landmarks`` say which points show which vertex.
    landmarks : ndarray of shape (..., 68, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    vertices : ndarray of shape (k,), int
        Indices of the vertices, ascending.
    points : ndarray of shape (..., k, 2)
        Where they are seen.
    """
    vertices = sorted(model.landmarks)
    points = [landmarks[..., list(model.landmarks[v]), :].mean(-2) for v in vertices]
    return np.array(vertices), np.stack(points, axis=-2)


def fit_points(model, prior, vertices, points, *, weights=None, covariances=False):
    """Fit the parameters of faces to points, by Gauss-Newton.

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
    covariances : bool, default=False
        Return the posterior covariances of sigma and alpha too.

    Returns
    -------
    parameters : ndarray of shape (n, n_parameters)
        Most probable parameters, as the model's ``parameter_names`` lists them.
    covariances : ndarray of shape (n, n_units, n_units)
        Only if asked for.

    Raises
    ------
    ValueError
        If the points of a face determine no pose.
    """
    vertices, points = np.asarray(vertices), np.asarray(points, np.float64)
    if weights is None:
        weights = np.ones(points.shape[:2])
    parts = [
        _fit_chunk(model, prior, vertices, points[i : i + _CHUNK], weights[i : i + _CHUNK])
        for i in range(0, len(points), _CHUNK)
    ]
    parameters = np.concatenate([part[0] for part in parts])
    if not covariances:
        return parameters
    return parameters, np.concatenate([part[1] for part in parts])


def _fit_chunk(model, prior, vertices, points, weights):
    n = len(points)
    precision, target = _precision_of(model, prior)
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[vertices]
    parameters = np.empty((n, len(target)))
    parameters[:, :_N_POSE] = rough_poses(typical, points, weights)
    parameters[:, _N_POSE:] = prior.mean
    # distances count in units of the model: by the scale of the start
    root = np.sqrt(weights)[:, :, None] / (prior.noise * parameters[:, None, 3:4])
    damping = np.full(n, 1e-3)
    error = _error(model, vertices, points, root, precision, target, parameters)
    going = np.arange(n)
    for _ in range(_MOST_STEPS):
        hessian, gradient = _derivatives(
            model,
            vertices,
            points[going],
            root[going],
            precision,
            target,
            parameters[going],
        )
        diagonal = np.einsum("nii->ni", hessian)
        diagonal *= 1 + damping[going, None]
        moved = parameters[going] + np.linalg.solve(hessian, gradient[..., None])[..., 0]
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
    hessian, _ = _derivatives(model, vertices, points, root, precision, target, parameters)
    return parameters, np.linalg.inv(hessian)[:, _N_POSE:, _N_POSE:]


def _derivatives(model, vertices, points, root, precision, target, parameters):
    """Return the Gauss-Newton Hessian and the direction down of half the error."""
    n = len(points)
    shown, jacobian = project_with_jacobian(model, parameters, vertices)
    rows = (root[..., None] * jacobian).reshape(n, -1, len(target))
    residual = (root * (points - shown)).reshape(n, -1, 1)
    transposed = np.swapaxes(rows, 1, 2)
    downhill = (transposed @ residual)[..., 0] + (target - parameters) @ precision
    return transposed @ rows + precision, downhill


def _precision_of(model, prior):
    """Return the precision and the mean of all parameters before a point is seen."""
    n = len(model.parameter_names)
    precision, mean = np.zeros((n, n)), np.zeros(n)
    precision[np.arange(3), np.arange(3)] = _ANGLE_SPREAD**-2
    precision[_N_POSE:, _N_POSE:] = np.linalg.inv(prior.covariance)
    mean[_N_POSE:] = prior.mean
    return precision, mean


def _error(model, vertices, points, root, precision, target, parameters):
    pose, sigma, alpha = model.split(parameters)
    shown = project(model.shape(sigma, alpha)[:, vertices], pose)
    off = parameters - target
    return ((root * (points - shown)) ** 2).sum((1, 2)) + ((off @ precision) * off).sum(1)
