"""Objectives that are not learned by search line: landmarks that are found, and edges."""

import numpy as np

from ferpipe.candide.indicators import search_indicators
from ferpipe.candide.visible_points import visible_points
from ferpipe.geometry import fit_similarity, transform_points

__all__ = ["EdgeObjective", "LandmarkObjective"]

_N_SAMPLES = 13
# standard deviations, in outer eye distances: of landmarks, of the brightness's smoothing,
# and of strong edges about the contours that they stand for
_LANDMARK_NOISE = 0.03
_SMOOTHING = 0.015
_EDGE_NOISE = 0.4
# reach of the search lines on which landmarks' values are shown
_REACH = 0.15


class LandmarkObjective:
    """Objective that wants points where a network finds landmarks.

    The landmarks are found once an image, from where the first points say that the face
    is, and are as sure in all directions.

    Parameters
    ----------
    model : CandideModel
        Its ``landmarks`` say which points show which vertex.
    cascade : PointCascade
        Networks, as :func:`ferpipe.faces.landmark_cascade.load_cascade` loads them.

    Attributes
    ----------
    n_stages : int
        1.
    """

    n_stages = 1

    def __init__(self, model, cascade):
        self.model, self.cascade = model, cascade

    def prepare(self, image, points):
        """Find the landmarks.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Where the visible points are thought to be, in pixels.

        Returns
        -------
        found : ndarray of shape (k, 2)
            Where the landmarks say that they are.
        """
        mean = self.cascade.mean_shape
        placement = fit_similarity(visible_points(self.model, mean)[1], points)
        box, angle = self.cascade.box_of(transform_points(placement, mean))
        landmarks = self.cascade.predict(image, box, angle)
        return visible_points(self.model, landmarks)[1]

    def find_targets(self, prepared, points, normals, unit, stage):
        """Return the landmarks; see :class:`ferpipe.candide.objective.Objective`."""
        sure = np.eye(2) / (_LANDMARK_NOISE * unit) ** 2
        return prepared, np.broadcast_to(sure, (len(points), 2, 2))

    def values(self, prepared, points, normals, unit, stage):
        """Return how far places on search lines are from those nearest to the landmarks.

        See :class:`ferpipe.candide.objective.Objective`.
        """
        offsets = np.linspace(-_REACH, _REACH, _N_SAMPLES)
        places = ((prepared - points) * normals).sum(1) / unit
        return offsets, np.abs(offsets - places[:, None])

    def indicators(self, images, points, *, tolerance=0.03, random_state=None):
        """Measure P1 and P2; P2 is 1 by definition.

        Parameters
        ----------
        images, points, tolerance, random_state
            As for :func:`ferpipe.candide.objective.search_indicators`.

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
    """Objective that was designed by hand: contours are where edges are strong.

    Its value is 1 less the change of brightness across the contour, as a share of the
    largest one on all search lines of the face. Nothing is known along the contour.

    Parameters
    ----------
    reaches : tuple of float, default=(0.1, 0.06, 0.03)
        Half the length of the search lines of each stage, in outer eye distances.

    Notes
    -----
    This is what learned objectives are compared with in [1]_. The smoothing, of 0.015 outer
    eye distances, and the trust in edges, which is small, are this project's own: of those
    tried, these and these reaches err least from detectors' boxes, which is to say that
    they stay where they are. Faces are found so only from very near.

    References
    ----------
    .. [1] M. Wimmer, F. Stulp, S. Pietzsch, B. Radig, "Learning local objective functions
       for robust face model fitting", IEEE TPAMI 30(8), 2008, 1357-1370.
    """

    def __init__(self, reaches=(0.1, 0.06, 0.03)):
        self.reaches = reaches

    @property
    def n_stages(self):
        """How many stages there are, from coarse to fine."""
        return len(self.reaches)

    def prepare(self, image, points):
        """Differentiate the smoothed image.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Where the visible points are thought to be: they tell the face's size.

        Returns
        -------
        gradient : ndarray of shape (h, w, 2), float32
            Along x and y, in gray levels a pixel.
        """
        import cv2

        # a face is about 1.4 outer eye distances high from brows to chin
        width = max(0.5, _SMOOTHING * np.ptp(points, axis=0).max() / 1.4)
        smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), width)
        kernel = {"ksize": 1, "scale": 0.5, "borderType": cv2.BORDER_REPLICATE}
        along_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, **kernel)
        return np.stack([along_x, cv2.Sobel(smooth, cv2.CV_32F, 0, 1, **kernel)], axis=-1)

    def find_targets(self, prepared, points, normals, unit, stage):
        """Return where edges are strongest.

        See :class:`ferpipe.candide.objective.Objective`. How sure a place is grows with the
        strength of its edge.
        """
        offsets, values = self.values(prepared, points, normals, unit, stage)
        targets = points + unit * offsets[values.argmin(1), None] * normals
        sure = (1 - values.min(1)) / (_EDGE_NOISE * unit) ** 2
        outer = normals[:, :, None] * normals[:, None, :]
        return targets, sure[:, None, None] * outer

    def values(self, prepared, points, normals, unit, stage):
        """Return 1 less the strength of edges across the contours.

        See :class:`ferpipe.candide.objective.Objective`.
        """
        import cv2

        reach = self.reaches[stage]
        offsets = np.linspace(-reach, reach, _N_SAMPLES)
        places = points[:, None] + unit * offsets[:, None] * normals[:, None]
        x, y = np.moveaxis(places.astype(np.float32), -1, 0)
        gradient = cv2.remap(
            prepared, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        strength = np.abs((gradient * normals[:, None]).sum(-1))
        return offsets, 1 - strength / max(strength.max(), 1e-6)

    def indicators(self, images, points, *, stage=-1, tolerance=0.03, random_state=None):
        """Measure P1 and P2 of a stage.

        Parameters
        ----------
        images, points, stage, tolerance, random_state
            As for :func:`ferpipe.candide.objective.search_indicators`.

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
