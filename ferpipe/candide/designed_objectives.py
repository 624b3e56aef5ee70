"""Objectives that are not learned per search line: landmarks and edges."""

from collections.abc import Sequence

import numpy as np
from sklearn.utils import Bunch

from ferpipe.candide.indicators import search_indicators
from ferpipe.candide.model import CandideModel
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_cascade import PointCascade
from ferpipe.geometry import fit_similarity, transform_points

__all__ = ["EdgeObjective", "LandmarkObjective"]

_N_SAMPLES = 13
# standard deviations, in outer eye distances: of landmarks, of the Gaussian blur, and of
# strong edges about the contours
_LANDMARK_NOISE = 0.03
_SMOOTHING = 0.015
_EDGE_NOISE = 0.4
# reach of the search lines of landmarks, in outer eye distances
_REACH = 0.15


class LandmarkObjective:
    """Objective whose targets are the landmarks that networks find.

    The networks run once per image, in the box about the first points. The precision is the
    same in all directions.

    Parameters
    ----------
    model : CandideModel
        Its ``landmarks`` list the points that show each vertex.
    cascade : PointCascade
        The networks, as :func:`ferpipe.faces.landmark_cascade.load_cascade` loads them.

    Attributes
    ----------
    n_stages : int
        1.
    """

    n_stages = 1

    def __init__(self, model: CandideModel, cascade: PointCascade) -> None:
        self.model, self.cascade = model, cascade

    def prepare(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Find the landmarks.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Estimated positions of the visible points, in pixels.

        Returns
        -------
        found : ndarray of shape (k, 2)
            Positions of the visible points by the landmarks, in pixels.
        """
        mean = self.cascade.mean_shape
        placement = fit_similarity(visible_points(self.model, mean)[1], points)
        box, angle = self.cascade.box_of(transform_points(placement, mean))
        landmarks = self.cascade.predict(image, box, angle)
        return visible_points(self.model, landmarks)[1]

    def find_targets(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the landmarks; see :class:`ferpipe.candide.objective.Objective`."""
        sure = np.eye(2) / (_LANDMARK_NOISE * unit) ** 2
        return prepared, np.broadcast_to(sure, (len(points), 2, 2))

    def values(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the distances along search lines from the projections of the landmarks.

        See :class:`ferpipe.candide.objective.Objective`.
        """
        offsets = np.linspace(-_REACH, _REACH, _N_SAMPLES)
        positions = ((prepared - points) * normals).sum(1) / unit
        return offsets, np.abs(offsets - positions[:, None])

    def indicators(
        self,
        images: Sequence[np.ndarray],
        points: np.ndarray,
        *,
        tolerance: float = 0.03,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Measure P1 and P2; P2 is 1 by definition.

        Parameters
        ----------
        images, points, tolerance, random_state
            As for :func:`ferpipe.candide.indicators.search_indicators`.

        Returns
        -------
        indicators : Bunch
        """
        return search_indicators(
            self,
            images,
            points,
            reach=_REACH,
            tolerance=tolerance,
            random_state=random_state,
        )


class EdgeObjective:
    """Objective designed by hand: contours are where edges are strong.

    Its value is 1 minus the brightness gradient across the contour, as a fraction of the
    largest gradient on all search lines of the face. It gives no information along the
    contour.

    Parameters
    ----------
    reaches : tuple of float, default=(0.1, 0.06, 0.03)
        Half the length of the search lines of each stage, in outer eye distances.

    Notes
    -----
    The paper [1]_ compares learned objectives with this one. The blur of 0.015 outer eye
    distances, the low precision of edges and the reaches were chosen by experiment: they
    give the smallest error from detectors' boxes, mostly by moving little. The objective
    finds a face only from a start very near to it.

    References
    ----------
    .. [1] M. Wimmer, F. Stulp, S. Pietzsch, B. Radig, "Learning local objective functions
       for robust face model fitting", IEEE TPAMI 30(8), 2008, 1357-1370.
    """

    def __init__(self, reaches: tuple[float, ...] = (0.1, 0.06, 0.03)) -> None:
        self.reaches = reaches

    @property
    def n_stages(self) -> int:
        """Number of stages, from coarse to fine."""
        return len(self.reaches)

    def prepare(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Compute the gradient of the blurred image.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Estimated positions of the visible points, in pixels; they give the size of the
            face.

        Returns
        -------
        gradient : ndarray of shape (h, w, 2), float32
            Along x and y, in gray levels per pixel.
        """
        import cv2

        # a face is about 1.4 outer eye distances high from brows to chin
        width = max(0.5, _SMOOTHING * np.ptp(points, axis=0).max() / 1.4)
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), width)
        gradient = [
            cv2.Sobel(
                smooth,
                cv2.CV_32F,
                *axis,
                ksize=1,
                scale=0.5,
                borderType=cv2.BORDER_REPLICATE,
            )
            for axis in ((1, 0), (0, 1))
        ]
        return np.stack(gradient, axis=-1)

    def find_targets(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where edges are strongest.

        See :class:`ferpipe.candide.objective.Objective`. The precision grows with the
        strength of the edge.
        """
        offsets, values = self.values(prepared, points, normals, unit, stage)
        targets = points + unit * offsets[values.argmin(1), None] * normals
        sure = (1 - values.min(1)) / (_EDGE_NOISE * unit) ** 2
        outer = normals[:, :, None] * normals[:, None, :]
        return targets, sure[:, None, None] * outer

    def values(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return 1 minus the strength of edges across the contours.

        See :class:`ferpipe.candide.objective.Objective`.
        """
        import cv2

        reach = self.reaches[stage]
        offsets = np.linspace(-reach, reach, _N_SAMPLES)
        positions = points[:, None] + unit * offsets[:, None] * normals[:, None]
        x, y = np.moveaxis(positions.astype(np.float32), -1, 0)
        gradient = cv2.remap(
            prepared, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        strength = np.abs((gradient * normals[:, None]).sum(-1))
        return offsets, 1 - strength / max(strength.max(), 1e-6)

    def indicators(
        self,
        images: Sequence[np.ndarray],
        points: np.ndarray,
        *,
        stage: int = -1,
        tolerance: float = 0.03,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Measure P1 and P2 of a stage.

        Parameters
        ----------
        images, points, stage, tolerance, random_state
            As for :func:`ferpipe.candide.indicators.search_indicators`.

        Returns
        -------
        indicators : Bunch
        """
        return search_indicators(
            self,
            images,
            points,
            reach=self.reaches[stage],
            stage=stage,
            tolerance=tolerance,
            random_state=random_state,
        )
