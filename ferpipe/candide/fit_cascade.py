"""Fit the wireframe by two networks, from a box, landmarks or the previous frame.

The coarse landmark network finds points in an upright crop around the box. The similarity
transform from the mean face to these points gives a second crop, in which the face is
upright, centered and of a fixed size. From this crop the wireframe network computes the
parameters. Landmarks or parameters of the previous frame replace the first step.
"""

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

import ferpipe
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fit_quality import FitQualityModel, load_quality_model
from ferpipe.candide.model import POSE_NAMES, CandideModel
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.detection import Box, Face
from ferpipe.faces.landmark_cascade import CropPlacer, OnnxNetwork, PointCascade
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import invert, transform_points, warp

__all__ = [
    "WireframeCascade",
    "load_own_cascade",
    "load_wireframe_cascade",
    "parameters_in",
]

_OWN = Path(ferpipe.__file__).parent / "pretrained" / "fitter"


def parameters_in(matrix: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Return the parameters of a face in a rotated, scaled and shifted image.

    Parameters
    ----------
    matrix : ndarray of shape (2, 3)
        A similarity transform from the image to the transformed image.
    parameters : ndarray of shape (n_parameters,)
        Parameters of the face in the image; the first six are its pose.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        Parameters of the face in the transformed image; the shape and animation
        parameters do not change.
    """
    there = parameters.copy()
    there[2] -= np.arctan2(matrix[1, 0], matrix[0, 0])
    there[3] *= np.hypot(matrix[0, 0], matrix[1, 0])
    there[4:6] = transform_points(matrix, parameters[4:6])
    return there


@dataclass(frozen=True)
class WireframeCascade:
    """The networks, and the wireframe whose parameters they compute.

    Attributes
    ----------
    landmarks : PointCascade
        Its coarse network runs first; it scores uncertain detections again.
    network : OnnxNetwork
        From one crop, uint8 of shape (1, 1, size, size), to parameters (1, n_parameters)
        and points (1, k, 2).
    model : CandideModel
        The wireframe.
    vertices : ndarray of shape (k,), int
        The vertices that the points show.
    mean_points : ndarray of shape (k, 2)
        The visible points of the mean face, in outer eye distances.
    quality : FitQualityModel
        Gives the probability that the wireframe lies on a face.
    """

    landmarks: PointCascade
    network: OnnxNetwork
    model: CandideModel
    vertices: np.ndarray
    mean_points: np.ndarray
    quality: FitQualityModel

    def predict(
        self, image: np.ndarray, box: Box, angle: float = 0.0
    ) -> tuple[np.ndarray, float]:
        """Fit the wireframe to the face in a box.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        box : (float, float, float, float)
            ``(x, y, width, height)`` in pixels.
        angle : float, default=0.0
            In-plane rotation of the face, in radians, clockwise in the image.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
            As the model's ``parameter_names`` lists them.
        quality : float
            Probability that the wireframe lies on a face; see :class:`FitQualityModel`.
        """
        return self.from_landmarks(image, self.landmarks.predict_coarse(image, box, angle))

    def from_landmarks(
        self, image: np.ndarray, landmarks: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Fit the wireframe to a face with approximate landmarks.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        landmarks : ndarray of shape (68, 2)
            ``(x, y)`` in pixels.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        quality : float
            As :meth:`predict` returns them.
        """
        return self._predict(image, visible_points(self.model, landmarks)[1])

    def refine(self, image: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, float]:
        """Fit the wireframe again, starting from parameters that are nearly right.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        parameters : ndarray of shape (n_parameters,)
            The parameters of the previous frame of a video, for example.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        quality : float
            As :meth:`predict` returns them.
        """
        return self._predict(image, self._project_visible(parameters))

    def with_shape(
        self, image: np.ndarray, parameters: np.ndarray, sigma: np.ndarray
    ) -> np.ndarray:
        """Replace the shape parameters of one image by those of the person.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Not used: the networks already separate shape and animation parameters.
        parameters : ndarray of shape (n_parameters,)
            Parameters that the network computed.
        sigma : ndarray of shape (n_shape,)
            Shape parameters of the person.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        """
        there = parameters.copy()
        self.model.split(there)[1][:] = sigma
        return there

    def rescore(
        self, image: np.ndarray, face: Face, *, detector: str | Path = "dlib"
    ) -> float:
        """Score an uncertain detection again; see :meth:`PointCascade.rescore`."""
        return self.landmarks.rescore(image, face, detector=detector)

    def _predict(self, image: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
        to_crop = self._place(points)
        size = self.network.size
        crop = warp(image, to_crop, (size, size))
        (found,) = self.network.run(["parameters"], crop)
        parameters = found[0].astype(np.float64)
        quality = self.quality(crop, self._project_visible(parameters))
        return parameters_in(invert(to_crop), parameters), quality

    def _project_visible(self, parameters: np.ndarray) -> np.ndarray:
        n_pose = len(POSE_NAMES)
        shape = self._rest + parameters[n_pose:] @ self._units
        return project(shape.reshape(-1, 3), parameters[:n_pose])

    @cached_property
    def _rest(self) -> np.ndarray:
        return self.model.vertices[self.vertices].ravel()

    @cached_property
    def _units(self) -> np.ndarray:
        units = np.concatenate([self.model.shape_units, self.model.animation_units])
        return units[:, self.vertices].reshape(len(units), -1)

    @cached_property
    def _place(self) -> CropPlacer:
        return CropPlacer(self.mean_points, self.landmarks.mean_shape, self.network.size)


def load_wireframe_cascade(
    folder: Path | str, landmarks: PointCascade, model: CandideModel
) -> WireframeCascade:
    """Load the wireframe network and the quality model of its fits.

    Parameters
    ----------
    folder : str or path
        Holds ``wireframe.onnx`` and ``quality.npz``.
    landmarks : PointCascade
        The landmark networks; the coarse one runs first.
    model : CandideModel
        The wireframe that the network was trained with.

    Returns
    -------
    cascade : WireframeCascade
    """
    vertices, mean_points = visible_points(model, landmarks.mean_shape)
    path = Path(folder) / "wireframe.onnx"
    return WireframeCascade(
        landmarks,
        OnnxNetwork(path),
        model,
        vertices,
        mean_points,
        load_quality_model(Path(folder) / "quality.npz"),
    )


@cache
def load_own_cascade() -> WireframeCascade:
    """Load the networks that come with the package."""
    return load_wireframe_cascade(_OWN, load_model("ferpipe"), load_calibrated()[0])
