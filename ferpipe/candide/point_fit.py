"""Fit the wireframe to points: head pose, shape and animation parameters.

The solver takes Gauss-Newton steps, damped after Levenberg and Marquardt, with a Gaussian
prior and optional limits of the shape and animation parameters.
"""

from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.candide.camera import project, project_with_jacobian, rough_poses
from ferpipe.candide.model import POSE_NAMES, CandideModel
from ferpipe.candide.prior import Prior

__all__ = [
    "fit_points",
    "fit_targets",
]

_N_POSE = len(POSE_NAMES)
# standard deviations of rx, ry and rz, in radians; scale and shift are free
_ANGLE_SPREAD = np.array([0.4, 0.6, 1.5])
# standard deviation of scale and shift about the start, as a multiple of the scale: wide,
# for targets that do not determine them
_FREE = 1000.0
_MOST_STEPS = 60
_CHUNK = 256


@overload
def fit_points(
    model: CandideModel,
    prior: Prior,
    vertices: ArrayLike,
    points: ArrayLike,
    *,
    weights: np.ndarray | None = ...,
    limits: np.ndarray | None = ...,
    covariances: Literal[False] = ...,
) -> np.ndarray: ...


@overload
def fit_points(
    model: CandideModel,
    prior: Prior,
    vertices: ArrayLike,
    points: ArrayLike,
    *,
    weights: np.ndarray | None = ...,
    limits: np.ndarray | None = ...,
    covariances: Literal[True],
) -> tuple[np.ndarray, np.ndarray]: ...


def fit_points(
    model: CandideModel,
    prior: Prior,
    vertices: ArrayLike,
    points: ArrayLike,
    *,
    weights: np.ndarray | None = None,
    limits: np.ndarray | None = None,
    covariances: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Fit the parameters of faces to points.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its shape and animation parameters.
    vertices : array-like of shape (k,), int
        Vertices of the wireframe.
    points : ndarray of shape (n, k, 2)
        Positions of these vertices in each image, in pixels.
    weights : ndarray of shape (n, k), default=None
        Weight of each squared distance; None for equal weights.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        Least and largest shape and animation parameters, as
        :func:`ferpipe.candide.prior.unit_limits` returns them; None for no limits.
    covariances : bool, default=False
        Also return the posterior covariances of the shape and animation parameters,
        computed without limits.

    Returns
    -------
    parameters : ndarray of shape (n, n_parameters)
        The most probable parameters, as the model's ``parameter_names`` lists them.
    covariances : ndarray of shape (n, n_units, n_units)
        Only if ``covariances=True``.

    Raises
    ------
    ValueError
        If the points of a face do not determine a pose, or a lower limit is above an upper
        one.
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
    model: CandideModel,
    prior: Prior,
    vertices: ArrayLike,
    targets: ArrayLike,
    precisions: ArrayLike,
    start: ArrayLike,
    *,
    limits: np.ndarray | None = None,
    most_steps: int = _MOST_STEPS,
) -> np.ndarray:
    """Fit the parameters of a face to targets with a precision matrix each.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its shape and animation parameters.
    vertices : array-like of shape (k,), int
        Vertices of the wireframe.
    targets : ndarray of shape (k, 2)
        Where these vertices should be in the image, in pixels.
    precisions : ndarray of shape (k, 2, 2)
        Inverse covariances of the targets, per squared pixel: of rank one where only the
        distance along one direction is known, 0 where nothing is known.
    start : ndarray of shape (n_parameters,)
        Parameters to start from; they are clipped to the limits.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        As for :func:`fit_points`.
    most_steps : int, default=60
        Largest number of Gauss-Newton steps.

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
    # where the targets do not determine scale and shift, these keep their start
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


def _fit_chunk(
    model: CandideModel,
    prior: Prior,
    vertices: np.ndarray,
    points: np.ndarray,
    weights: np.ndarray,
    between: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(points)
    precision, target = _precision_of(model, prior)
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[vertices]
    parameters = np.empty((n, len(target)))
    parameters[:, :_N_POSE] = rough_poses(typical, points, weights)
    parameters[:, _N_POSE:] = prior.mean
    np.clip(parameters, *between, out=parameters)
    # the noise is in units of the model: the scale of the start converts it to pixels
    root = np.sqrt(weights)[:, :, None] / (prior.noise * parameters[:, None, 3:4])
    _descend(
        model, vertices, points, root, precision, target, parameters, between, _MOST_STEPS
    )
    hessian, _ = _derivatives(model, vertices, points, root, precision, target, parameters)
    return parameters, np.linalg.inv(hessian)[:, _N_POSE:, _N_POSE:]


def _descend(
    model: CandideModel,
    vertices: np.ndarray,
    points: np.ndarray,
    root: np.ndarray,
    precision: np.ndarray,
    target: np.ndarray,
    parameters: np.ndarray,
    between: np.ndarray,
    most_steps: int,
) -> None:
    """Take damped Gauss-Newton steps within the limits, per face, in place."""
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
        # per face: the other faces of the batch must not change the result
        done = (better & (gain < 1e-6 * new_error)) | (damping[going] > 1e6)
        going = going[~done]
        if not len(going):
            break


def _derivatives(
    model: CandideModel,
    vertices: np.ndarray,
    points: np.ndarray,
    root: np.ndarray,
    precision: np.ndarray,
    target: np.ndarray,
    parameters: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gauss-Newton Hessian and the direction down of half the error."""
    n = len(points)
    projected, jacobian = project_with_jacobian(model, parameters, vertices)
    rows = _weigh(root, jacobian).reshape(n, -1, len(target))
    residual = _weigh(root, (points - projected)[..., None]).reshape(n, -1, 1)
    transposed = np.swapaxes(rows, 1, 2)
    downhill = (transposed @ residual)[..., 0] + (target - parameters) @ precision
    return transposed @ rows + precision, downhill


def _weigh(root: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Multiply columns (n, k, 2, m) by numbers (n, k, 1) or by matrices (n, k, 2, 2)."""
    if root.ndim == 3:
        return root[..., None] * columns
    # written out: matrices as small as these are slow to multiply one by one
    x, y = columns[..., :1, :], columns[..., 1:, :]
    return root[..., :1] * x + root[..., 1:] * y


def _square_roots(matrices: np.ndarray) -> np.ndarray:
    """Return the symmetric square roots of matrices (..., 2, 2), which may be singular."""
    determinant = np.linalg.det(matrices)
    root = np.sqrt(np.maximum(determinant, 0))[..., None, None]
    trace = np.trace(matrices, axis1=-2, axis2=-1)[..., None, None]
    size = np.sqrt(np.maximum(trace + 2 * root, np.finfo(float).tiny))
    return (matrices + root * np.eye(2)) / size


def _limits_of_all(limits: np.ndarray | None, n_units: int) -> np.ndarray:
    """Return the limits of all parameters; those of the pose are infinite."""
    between = np.empty((2, _N_POSE + n_units))
    between[0], between[1] = -np.inf, np.inf
    if limits is not None:
        between[:, _N_POSE:] = limits
        if (between[0] > between[1]).any():
            raise ValueError(
                "Lower limits, limits[0], must not be above the upper ones, limits[1]."
            )
    return between


def _precision_of(model: CandideModel, prior: Prior) -> tuple[np.ndarray, np.ndarray]:
    """Return the prior precision and mean of all parameters."""
    n = len(model.parameter_names)
    precision, mean = np.zeros((n, n)), np.zeros(n)
    precision[np.arange(3), np.arange(3)] = _ANGLE_SPREAD**-2
    precision[_N_POSE:, _N_POSE:] = prior.precision
    mean[_N_POSE:] = prior.mean
    return precision, mean


def _error(
    model: CandideModel,
    vertices: np.ndarray,
    points: np.ndarray,
    root: np.ndarray,
    precision: np.ndarray,
    target: np.ndarray,
    parameters: np.ndarray,
) -> np.ndarray:
    pose, sigma, alpha = model.split(parameters)
    projected = project(model.shape(sigma, alpha)[:, vertices], pose)
    off = parameters - target
    residual = _weigh(root, (points - projected)[..., None])
    return (residual**2).sum((1, 2, 3)) + ((off @ precision) * off).sum(1)
