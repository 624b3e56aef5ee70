"""Fits that minimize an objective: from a box, or from the last frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferpipe.candide.camera import project
from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.fit_quality import load_quality_model
from ferpipe.candide.learned_objective import load_objective
from ferpipe.candide.model import CandideModel
from ferpipe.candide.objective import Objective
from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.prior import Prior, condition_on_shape, unit_limits
from ferpipe.faces.detection import Box, Face
from ferpipe.faces.landmark_cascade import PointCascade

__all__ = [
    "OBJECTIVES",
    "ObjectiveSearch",
    "objective_named",
]

OBJECTIVES = ("landmarks", "learned", "edges")


def objective_named(name: str, model: CandideModel, landmarks: PointCascade) -> Objective:
    """Return one of the objectives that come with the package.

    Parameters
    ----------
    name : {"landmarks", "learned", "edges"}
        Name of the objective.
    model : CandideModel
        The wireframe.
    landmarks : PointCascade
        The networks that find landmarks.
    """
    if name == "landmarks":
        return LandmarkObjective(model, landmarks)
    return load_objective() if name == "learned" else EdgeObjective()


@dataclass(frozen=True)
class ObjectiveSearch:
    """Fits by an objective, with the methods of :class:`WireframeCascade`.

    Attributes
    ----------
    objective : Objective
        The objective to minimize.
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its parameters.
    landmarks : PointCascade
        Gives where faces are in detectors' boxes, and scores uncertain detections again.
    """

    objective: Objective
    model: CandideModel
    prior: Prior
    landmarks: PointCascade

    def predict(
        self, image: np.ndarray, box: Box, angle: float = 0.0
    ) -> tuple[np.ndarray, float]:
        """Fit the wireframe to the face in a box; see WireframeCascade.

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
        quality : float
            Probability that the wireframe lies on a face; see :class:`FitQualityModel`.
        """
        start = start_in_box(self.model, self.prior, box, angle, self.landmarks)
        return self._search(image, start, self.prior)

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
        return self._search(image, parameters, self.prior, first_stage=self._second_stage)

    def with_shape(
        self, image: np.ndarray, parameters: np.ndarray, sigma: np.ndarray
    ) -> np.ndarray:
        """Fit the wireframe to a face whose shape parameters are known.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        parameters : ndarray of shape (n_parameters,)
            Parameters of a fit without known shape parameters.
        sigma : ndarray of shape (n_shape,)
            The shape parameters.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        """
        pose, _, alpha = self.model.split(parameters)
        start = np.concatenate([pose, sigma, alpha])
        known = condition_on_shape(self.prior, sigma)
        fitted, _ = self._search(image, start, known, first_stage=self._second_stage)
        n_pose = len(pose)
        fitted[n_pose : n_pose + len(sigma)] = sigma
        return fitted

    def rescore(
        self, image: np.ndarray, face: Face, *, detector: str | Path = "dlib"
    ) -> float:
        """Score an uncertain detection again; see :meth:`PointCascade.rescore`."""
        return self.landmarks.rescore(image, face, detector=detector)

    @property
    def _second_stage(self) -> int:
        """The stage from which a fit that is nearly right continues."""
        return min(1, self.objective.n_stages - 1)

    def _search(
        self, image: np.ndarray, start: np.ndarray, prior: Prior, first_stage: int = 0
    ) -> tuple[np.ndarray, float]:
        limits = unit_limits(self.model, self.prior)
        parameters, _ = fit_objective(
            self.model,
            prior,
            self.objective,
            image,
            start,
            limits=limits,
            first_stage=first_stage,
        )
        pose, sigma, alpha = self.model.split(parameters)
        vertices, _ = self.model.landmark_weights
        projected = project(self.model.shape(sigma, alpha)[vertices], pose)
        return parameters, load_quality_model()(image, projected)
