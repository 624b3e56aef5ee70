"""CandideModel: a wireframe face that is linear in its shape and animation units."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.faces.landmark_points import N_POINTS

__all__ = ["POSE_NAMES", "CandideModel"]

POSE_NAMES = ("rx", "ry", "rz", "s", "tx", "ty")


@dataclass(frozen=True, eq=False)
class CandideModel:
    """A wireframe of the face after Candide [1]_.

    Its vertices are ``rest + sum(sigma * shape units) + sum(alpha * animation units)``. The
    shape parameters sigma describe the identity of a person and stay the same over time;
    the animation parameters alpha describe the expression. Left and right are the
    subject's everywhere: x points to the subject's left (the right of the image in a
    frontal view), y up and z to the camera. Lengths are in outer eye distances.

    Attributes
    ----------
    vertices : ndarray of shape (n, 3)
        The neutral mean face, at which all parameters are 0.
    triangles : ndarray of shape (m, 3), int
        Indices of vertices, counter-clockwise from outside.
    shape_units : ndarray of shape (n_shape, n, 3)
        Displacement of every vertex for a parameter of 1.
    animation_units : ndarray of shape (n_animation, n, 3)
        The same for the animation units.
    shape_names, animation_names : tuple of str
        Names of the units.
    vertex_names : dict of str to int
        Vertices that have a name.
    landmarks : dict of int to tuple of int
        For a vertex, the indices of the points (of 68) that show it; two points stand for
        their mean.
    mirrored_shape, mirrored_animation : tuple of int
        Index of each unit's partner on the other side of the face; its own index for a
        symmetric unit. Empty if unknown.

    References
    ----------
    .. [1] J. Ahlberg, "CANDIDE-3 - an updated parameterized face", report LiTH-ISY-R-2326,
       Linköping University, 2001.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    shape_units: np.ndarray
    animation_units: np.ndarray
    shape_names: tuple[str, ...]
    animation_names: tuple[str, ...]
    vertex_names: dict[str, int] = field(default_factory=dict)
    landmarks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    mirrored_shape: tuple[int, ...] = ()
    mirrored_animation: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.vertices)
        _check_shape("vertices", self.vertices, (n, 3))
        _check_shape("triangles", self.triangles, (len(self.triangles), 3))
        corners = self.triangles.ravel()
        if len(corners) and not 0 <= corners.min() <= corners.max() < n:
            raise ValueError(f"triangles must hold indices of vertices, 0 to {n - 1}.")
        _check_shape("shape_units", self.shape_units, (len(self.shape_names), n, 3))
        _check_shape(
            "animation_units", self.animation_units, (len(self.animation_names), n, 3)
        )

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of all parameters: head pose, shape units, animation units."""
        return (*POSE_NAMES, *self.shape_names, *self.animation_names)

    @cached_property
    def landmark_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices that landmarks show, ascending, and weights (k, 68) of the landmarks."""
        vertices = sorted(self.landmarks)
        weights = np.zeros((len(vertices), N_POINTS))
        for row, vertex in zip(weights, vertices, strict=True):
            points = list(self.landmarks[vertex])
            row[points] = 1 / len(points)
        return np.array(vertices, np.intp), weights

    def split(self, parameters: np.ndarray) -> tuple[Any, Any, Any]:
        """Split parameters into head pose, shape and animation parameters.

        Parameters
        ----------
        parameters : ndarray of shape (..., 6 + n_shape + n_animation)
            As :attr:`parameter_names` lists them.

        Returns
        -------
        pose, sigma, alpha : ndarray
            Views of shape (..., 6), (..., n_shape) and (..., n_animation).

        Raises
        ------
        ValueError
            If there are more or fewer parameters than the model has.
        """
        n_pose, n_shape = len(POSE_NAMES), len(self.shape_names)
        expected = len(self.parameter_names)
        if parameters.shape[-1] != expected:
            raise ValueError(
                f"This model has {expected} parameters (6 of the pose, {n_shape} shape "
                f"units and {len(self.animation_names)} animation units), got "
                f"{parameters.shape[-1]}: use the model that they were fitted with."
            )
        n_person = n_pose + n_shape
        return (
            parameters[..., :n_pose],
            parameters[..., n_pose:n_person],
            parameters[..., n_person:],
        )

    def shape(self, sigma: ArrayLike, alpha: ArrayLike) -> np.ndarray:
        """Return the vertices of faces.

        Parameters
        ----------
        sigma : array-like of shape (..., n_shape)
            Shape parameters.
        alpha : array-like of shape (..., n_animation)
            Animation parameters.

        Returns
        -------
        vertices : ndarray of shape (..., n, 3)
            In units of the model, before rotation.
        """
        sigma, alpha = np.asarray(sigma), np.asarray(alpha)
        n = len(self.vertices)
        person = sigma @ self.shape_units.reshape(-1, 3 * n)
        action = alpha @ self.animation_units.reshape(-1, 3 * n)
        flat = self.vertices.ravel() + person + action
        return flat.reshape(*flat.shape[:-1], n, 3)


def _check_shape(name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    if np.shape(array) != expected:
        raise ValueError(f"{name} must have the shape {expected}, got {np.shape(array)}.")
