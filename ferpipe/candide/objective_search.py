"""Fits that minimize an objective: from a box, or from the last frame."""

from dataclasses import dataclass

import numpy as np

from ferpipe.candide.camera import project
from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.fit_quality import load_quality_model
from ferpipe.candide.learned_objective import load_objective
from ferpipe.candide.model import CandideModel
from ferpipe.candide.objective import Objective
from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.prior import Prior, condition_on_shape, unit_limits
from ferpipe.faces.landmark_cascade import PointCascade

__all__ = [
    "OBJECTIVES",
    "ObjectiveSearch",
    "objective_named",
]

OBJECTIVES = ("landmarks", "learned", "edges")


def objective_named(name, model, landmarks) -> Objective:
    """Return one of the objectives that come with the package.

    Parameters
    ----------
    name : {"landmarks", "learned", "edges"}
        Which.
    model : CandideModel
        The wireframe.
    landmarks : PointCascade
        What finds landmarks.
    """
    if name == "landmarks":
        return LandmarkObjective(model, landmarks)
    return load_objective() if name == "learned" else EdgeObjective()


@dataclass(frozen=True)
class ObjectiveSearch:
    """An objective, and what its minimization needs besides; used as WireframeCascade is.

    Attributes
    ----------
    objective : Objective
        What is minimized.
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    landmarks : PointCascade
        Where faces are in detectors' boxes; it evaluates doubtful finds.
    """

    objective: Objective
    model: CandideModel
    prior: Prior
    landmarks: PointCascade

    def predict(self, image, box, angle=0.0):
        """Fit the wireframe to the face in a box; see WireframeCascade.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        box : (float, float, float, float)
            ``(x, y, width, height)`` in pixels.
        angle : float, default=0.0
            Turn of the face, in radians, clockwise.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        quality : float
            Probability that it lies on a face; see :class:`FitQualityModel`.
        """
        start = start_in_box(self.model, self.prior, box, angle, self.landmarks)
        return self._search(image, start, self.prior)

    def refine(self, image, parameters):
        """Fit the wireframe again, from where it nearly is.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        parameters : ndarray of shape (n_parameters,)
            Of the last frame of a video, for example.

        Returns
        -------
        parameters : ndarray of shape (n_parameters,)
        quality : float
            As :meth:`predict` returns them.
        """
        return self._search(image, parameters, self.prior, first_stage=self._second_stage)

    def with_shape(self, image, parameters, sigma):
        """Fit the wireframe to a face whose shape parameters are known.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        parameters : ndarray of shape (n_parameters,)
            Fitted before they were known.
        sigma : ndarray of shape (n_shape,)
            Shape parameters.

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

    def rescore(self, image, face, *, detector="dlib"):
        """Score a doubtful find again, as PointCascade does."""
        return self.landmarks.rescore(image, face, detector=detector)

    @property
    def _second_stage(self):
        """Where a fit goes on that is nearly there: the lines of the first reach far."""
        return min(1, self.objective.n_stages - 1)

    def _search(self, image, start, prior, first_stage=0):
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
        shown = project(self.model.shape(sigma, alpha)[vertices], pose)
        return parameters, load_quality_model()(image, shown)
