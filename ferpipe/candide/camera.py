"""The weak-perspective camera, which projects a wireframe into the image.

A head pose is ``(rx, ry, rz, s, tx, ty)``, as
:data:`~ferpipe.candide.model.POSE_NAMES` lists it.
It rotates a face by ``R = Rz(rz) @ Ry(ry) @ Rx(rx)``, angles in radians and
right-handed about the axes of the model: rx > 0 nods the head down, ry > 0 turns it to the
subject's left (the right of the image), rz > 0 tilts it counter-clockwise in the image. A
vertex g is projected to ``u = s * (R @ g)[0] + tx`` and ``v = -s * (R @ g)[1] + ty``, in
pixels and y down; s is in pixels per unit of the model (outer eye distances). Pixel centers
have whole coordinates.
"""

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.candide.model import POSE_NAMES, CandideModel

__all__ = [
    "depths",
    "fit_pose",
    "mirror_parameters",
    "project",
    "project_with_jacobian",
    "rough_poses",
    "rotation_matrix",
]

# the model's y points up, the image's down
_FLIP = np.array([1.0, -1.0])
# vertices lie on a line if their second extent is a smaller fraction of the first
_LINE = 1e-9
# Newton's method converges quadratically: it stops after a step as small as this
_LAST_STEP = 1e-8
_MOST_STEPS = 30
# derivatives of exp(growth) * rotation_matrix(angles) where angles and growth are 0
_FIRST = np.zeros((4, 3, 3))
_FIRST[0, 2, 1] = _FIRST[1, 0, 2] = _FIRST[2, 1, 0] = 1
_FIRST[0, 1, 2] = _FIRST[1, 2, 0] = _FIRST[2, 0, 1] = -1
_FIRST[3] = np.eye(3)
_SECOND = np.array(
    [[_FIRST[max(i, j)] @ _FIRST[min(i, j)] for j in range(4)] for i in range(4)]
)


def rotation_matrix(angles: ArrayLike) -> np.ndarray:
    """Compute rotation matrices from angles.

    Parameters
    ----------
    angles : array-like of shape (..., 3)
        rx, ry and rz in radians.

    Returns
    -------
    rotation : ndarray of shape (..., 3, 3)
        ``Rz(rz) @ Ry(ry) @ Rx(rx)``.
    """
    angles = np.moveaxis(np.asarray(angles, np.float64), -1, 0)
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    rotation = np.array(
        [
            [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
            [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
            [-sy, cy * sx, cy * cx],
        ]
    )
    return np.moveaxis(rotation, (0, 1), (-2, -1))


def project(vertices: ArrayLike, pose: ArrayLike) -> np.ndarray:
    """Project vertices into the image.

    Parameters
    ----------
    vertices : array-like of shape (..., n, 3)
        Vertices of faces, in units of the model.
    pose : array-like of shape (..., 6)
        Their head poses.

    Returns
    -------
    points : ndarray of shape (..., n, 2)
        ``(x, y)`` in pixels.
    """
    vertices, pose = np.asarray(vertices, np.float64), np.asarray(pose, np.float64)
    camera = _camera(rotation_matrix(pose[..., :3]), pose)
    return vertices @ np.swapaxes(camera, -1, -2) + pose[..., None, 4:]


def depths(vertices: ArrayLike, pose: ArrayLike) -> np.ndarray:
    """Return how near to the camera vertices are.

    Parameters
    ----------
    vertices : array-like of shape (..., n, 3)
        Vertices of faces, in units of the model.
    pose : array-like of shape (..., 6)
        Their head poses.

    Returns
    -------
    depth : ndarray of shape (..., n)
        z after the rotation, in units of the model: larger is nearer.
    """
    vertices, pose = np.asarray(vertices, np.float64), np.asarray(pose, np.float64)
    towards = rotation_matrix(pose[..., :3])[..., 2, :]
    return (vertices @ towards[..., None])[..., 0]


def project_with_jacobian(
    model: CandideModel, parameters: ArrayLike, vertices: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Project the vertices of a model, with derivatives with respect to all parameters.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    parameters : array-like of shape (..., n_parameters)
        As the model's ``parameter_names`` lists them.
    vertices : array-like of shape (k,), int, optional
        Indices of the vertices to project; all by default.

    Returns
    -------
    points : ndarray of shape (..., k, 2)
        ``(x, y)`` in pixels.
    jacobian : ndarray of shape (..., k, 2, n_parameters)
        Derivative of each coordinate with respect to each parameter.

    Raises
    ------
    ValueError
        If there are more or fewer parameters than the model has.
    """
    parameters = np.asarray(parameters, np.float64)
    pose, _, _ = model.split(parameters)
    chosen = slice(None) if vertices is None else np.asarray(vertices, np.intp)
    units = np.concatenate([model.shape_units[:, chosen], model.animation_units[:, chosen]])
    n_pose, n_units, k = len(POSE_NAMES), len(units), units.shape[1]
    flat = parameters[..., n_pose:] @ units.reshape(n_units, 3 * k)
    deformed = model.vertices[chosen] + flat.reshape(*flat.shape[:-1], k, 3)
    rotation = rotation_matrix(pose[..., :3])
    camera = _camera(rotation, pose)
    points = deformed @ np.swapaxes(camera, -1, -2) + pose[..., None, 4:]

    jacobian = np.empty((*points.shape, n_pose + n_units))
    moved = _camera_derivatives(rotation, pose)
    rows = moved.reshape(*moved.shape[:-3], 8, 3)
    jacobian[..., :4] = (deformed @ np.swapaxes(rows, -1, -2)).reshape(*points.shape, 4)
    jacobian[..., 4:6] = np.eye(2)
    jacobian[..., 6:] = camera[..., None, :, :] @ np.moveaxis(units, 0, -1)
    return points, jacobian


def fit_pose(
    vertices: ArrayLike, points: ArrayLike, weights: ArrayLike | None = None
) -> np.ndarray:
    """Fit the head pose that projects known vertices to given points, by least squares.

    Parameters
    ----------
    vertices : array-like of shape (k, 3)
        Vertices of a face, in units of the model.
    points : array-like of shape (k, 2)
        Their positions in the image, in pixels.
    weights : array-like of shape (k,), optional
        Weight of each squared distance; equal by default. At least four must be positive.

    Returns
    -------
    pose : ndarray of shape (6,)
        Minimizes the weighted sum of squared distances between the projected vertices and
        the points. s is positive, ry from -pi / 2 to pi / 2, rx and rz above -pi and up to
        pi.

    Raises
    ------
    ValueError
        If there are fewer than four points with a positive weight, a weight is negative, a
        number is not finite, the vertices lie on a line, or the points do not determine the
        pose, as when all are equal.

    Notes
    -----
    Two poses project the plane nearest to the vertices alike; the best affine camera gives
    both in closed form. Newton's method runs from each to an optimum, and the function
    returns the better one. If the vertices lie exactly in a plane, both are equally good
    and either may be returned.
    """
    vertices = np.asarray(vertices, np.float64)
    upward = np.asarray(points, np.float64) * _FLIP
    weights = np.asarray(np.ones(len(vertices)) if weights is None else weights, np.float64)
    if not all(np.isfinite(array).all() for array in (vertices, upward, weights)):
        raise ValueError("Vertices, points and weights must be finite numbers.")
    if (weights < 0).any():
        raise ValueError(f"Weights must not be negative, the least is {weights.min():g}.")
    n_used = np.count_nonzero(weights)
    if n_used < 4:
        raise ValueError(f"A pose needs at least 4 points with a weight, got {n_used}.")

    # the error depends on the points only through their regression on the principal axes
    weights = weights / weights.sum()
    root = np.sqrt(weights)[:, None]
    middle, points_middle = weights @ vertices, weights @ upward
    spread = root * (vertices - middle)
    directions, extents, axes = np.linalg.svd(spread, full_matrices=False)
    if extents[1] <= _LINE * extents[0]:
        raise ValueError("The vertices lie on a line: their pose is not determined.")
    if np.linalg.det(axes) < 0:
        directions[:, 2] *= -1
        axes[2] *= -1
    target = (root * (upward - points_middle)).T @ directions
    if np.linalg.norm(target[:, :2]) <= 1e-12 * np.linalg.norm(root * upward):
        raise ValueError(
            "The points do not determine a pose, as when all are equal: give different "
            "points for the vertices."
        )

    starts = _flat_cameras(target[:, :2] / extents[:2])
    optima = [_refine(start, extents, target) for start in starts]
    camera = min(optima, key=lambda optimum: _error(optimum, extents, target)) @ axes
    scale = np.linalg.norm(camera[0])
    shift = points_middle - camera[:2] @ middle
    return np.array([*_angles(camera / scale), scale, *(shift * _FLIP)])


def rough_poses(
    vertices: np.ndarray, points: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Estimate the head poses of many faces, as starts of a fit.

    Parameters
    ----------
    vertices : ndarray of shape (k, 3)
        Vertices of a face, not all in one plane, in units of the model.
    points : ndarray of shape (n, k, 2)
        Their positions in each image, in pixels.
    weights : ndarray of shape (n, k)
        Weight of each squared distance.

    Returns
    -------
    poses : ndarray of shape (n, 6)
        The scaled rotations nearest to the affine cameras that fit best.

    Raises
    ------
    ValueError
        If the points of a face do not determine a pose, as when all are equal.
    """
    shares = (weights / weights.sum(1, keepdims=True))[:, :, None]
    upward = points * _FLIP
    middle = (shares * vertices).sum(1, keepdims=True)
    points_middle = (shares * upward).sum(1, keepdims=True)
    off = vertices - middle
    weighted = np.swapaxes(shares * off, 1, 2)
    affine = np.linalg.solve(weighted @ off, weighted @ (upward - points_middle))
    left, scales, right = np.linalg.svd(np.swapaxes(affine, 1, 2), full_matrices=False)
    rows = left @ right
    rotations = np.concatenate([rows, np.cross(rows[:, :1], rows[:, 1:])], axis=1)
    scale = scales.mean(1)
    if (scale <= 1e-9 * np.abs(points).max()).any():
        raise ValueError(
            "The points of a face do not determine a pose, as when all are equal: leave "
            "this face out."
        )
    shift = points_middle - scale[:, None, None] * (middle @ np.swapaxes(rows, 1, 2))
    angles = np.array([_angles(rotation) for rotation in rotations])
    return np.column_stack([angles, scale, shift[:, 0] * _FLIP])


def mirror_parameters(model: CandideModel, parameters: ArrayLike, width: int) -> np.ndarray:
    """Return the parameters of faces in the horizontally mirrored image.

    Parameters
    ----------
    model : CandideModel
        The wireframe, symmetric about x = 0.
    parameters : array-like of shape (..., n_parameters)
        As the model's ``parameter_names`` lists them.
    width : int
        Width of the image in pixels.

    Returns
    -------
    mirrored : ndarray of shape (..., n_parameters)
        They project each vertex to the mirrored position of its partner on the other side
        of the face.

    Raises
    ------
    ValueError
        If the model does not name the partner of each unit, or has another number of
        parameters.
    """
    pose, sigma, alpha = model.split(np.asarray(parameters, np.float64))
    partners = model.mirrored_shape, model.mirrored_animation
    names = model.shape_names, model.animation_names
    if [*map(len, partners)] != [*map(len, names)]:
        raise ValueError(
            "This model lacks the partner of each unit on the other side of the face: give "
            "mirrored_shape and mirrored_animation."
        )
    pose = pose * (1, -1, -1, 1, -1, 1)
    pose[..., 4] += width - 1
    of_shape, of_animation = (np.array(indices, np.intp) for indices in partners)
    return np.concatenate([pose, sigma[..., of_shape], alpha[..., of_animation]], axis=-1)


def _camera(rotation: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Return the matrices (..., 2, 3) from vertices to points, without the shift."""
    return rotation[..., :2, :] * pose[..., 3, None, None] * _FLIP[:, None]


def _camera_derivatives(rotation: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Differentiate `_camera` with respect to rx, ry, rz and s: (..., 2, 4, 3)."""
    derivatives = np.empty((*pose.shape[:-1], 2, 4, 3))
    rz, towards = pose[..., 2, None], rotation[..., 2, :]
    derivatives[..., 0, 0] = 0
    derivatives[..., 0, 1] = rotation[..., :2, 2]
    derivatives[..., 0, 2] = -rotation[..., :2, 1]
    derivatives[..., 0, 1, :] = np.cos(rz) * towards
    derivatives[..., 1, 1, :] = np.sin(rz) * towards
    derivatives[..., 0, 2, :] = -rotation[..., 1, :]
    derivatives[..., 1, 2, :] = rotation[..., 0, :]
    derivatives[..., :3, :] *= pose[..., 3, None, None, None]
    derivatives[..., 3, :] = rotation[..., :2, :]
    derivatives[..., 1, :, :] *= -1
    return derivatives


# The fit: cameras are scaled rotations (3, 3) from the principal axes of the vertices, and
# y is up


def _flat_cameras(linear: np.ndarray) -> list[np.ndarray]:
    """Return the two cameras that project the first two axes as `linear` does."""
    _, (scale, less), axes = np.linalg.svd(linear)
    depth = np.sqrt(scale**2 - less**2) * axes[1]
    cameras = []
    for third in (depth, -depth):
        first = np.vstack([linear, third])
        cameras.append(np.column_stack([first, np.cross(*first.T) / scale]))
    return cameras


def _error(camera: np.ndarray, extents: np.ndarray, target: np.ndarray) -> float:
    return ((camera[:2] * extents - target) ** 2).sum()


def _refine(camera: np.ndarray, extents: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minimize the error by Newton's method from a camera."""
    for _ in range(_MOST_STEPS):
        residual = camera[:2] * extents - target
        first = (_FIRST @ camera)[:, :2] * extents
        second = (_SECOND @ camera)[..., :2, :] * extents
        gradient = (first * residual).sum((-1, -2))
        hessian = np.tensordot(first, first, ((1, 2), (1, 2)))
        hessian += (second * residual).sum((-1, -2))
        curvatures, directions = np.linalg.eigh(hessian)
        # absolute curvatures lead away from saddles; those of a flat frontal face can be 0
        curvatures = np.abs(curvatures)
        curvatures = np.maximum(curvatures, 1e-15 * curvatures.max())
        step = -directions @ (directions.T @ gradient / curvatures)
        length = np.linalg.norm(step)
        if length < _LAST_STEP:
            return _moved(camera, step)
        step /= max(1.0, length)
        error = _error(camera, extents, target)
        while _error(_moved(camera, step), extents, target) >= error:
            step /= 2
            if np.linalg.norm(step) < _LAST_STEP:
                return camera
        camera = _moved(camera, step)
    return camera


def _moved(camera: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.exp(step[3]) * rotation_matrix(step[:3]) @ camera


def _angles(rotation: np.ndarray) -> np.ndarray:
    """Return the angles of a rotation, the inverse of `rotation_matrix`."""
    across = np.hypot(rotation[0, 0], rotation[1, 0])
    ry = np.arctan2(-rotation[2, 0], across)
    if across > 1e-8:
        rx = np.arctan2(rotation[2, 1], rotation[2, 2])
        rz = np.arctan2(rotation[1, 0], rotation[0, 0])
    else:  # in profile rx and rz rotate about one axis
        rx, rz = 0.0, np.arctan2(-rotation[0, 1], rotation[1, 1])
    angles = np.array([rx, ry, rz])
    return np.where(angles == -np.pi, np.pi, angles)
