"""The protocol of an objective: where an image wants the wireframe's points.

An objective prepares an image once. Then it returns, for the present positions of the
visible points, where each should go and how certain that is in every direction. The
visible points are all of :func:`ferpipe.candide.visible_points.visible_points`, in its
order. :mod:`ferpipe.candide.optimizer` alternates between an objective and a solver.
"""

from typing import Any, Protocol

import numpy as np

__all__ = [
    "Objective",
    "check_gray",
]


class Objective(Protocol):
    """The methods that :func:`ferpipe.candide.optimizer.fit_objective` calls."""

    @property
    def n_stages(self) -> int:
        """Number of stages; they are numbered from 0, from coarse to fine."""

    def prepare(self, image: np.ndarray, points: np.ndarray) -> Any:
        """Prepare an image once for all stages.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Estimated positions of the visible points, in pixels.

        Returns
        -------
        prepared : object
            The argument ``prepared`` of the other methods.
        """

    def find_targets(
        self,
        prepared: Any,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find where points should go.

        Parameters
        ----------
        prepared : object
            What ``prepare`` returned.
        points : ndarray of shape (k, 2)
            Present positions, in pixels.
        normals : ndarray of shape (k, 2)
            Unit vectors perpendicular to the contours.
        unit : float
            Length of an outer eye distance, in pixels.
        stage : int
            The stage, 0 for the coarsest.

        Returns
        -------
        targets : ndarray of shape (k, 2)
            Positions in pixels.
        precisions : ndarray of shape (k, 2, 2)
            Inverse covariances of the targets, per squared pixel; 0 in directions without
            information.
        """

    def values(
        self,
        prepared: Any,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the objective's values along search lines.

        Parameters
        ----------
        prepared, points, normals, unit, stage
            As for :meth:`find_targets`.

        Returns
        -------
        offsets : ndarray of shape (n_samples,)
            Signed distances from the points along the normals, in outer eye distances.
        values : ndarray of shape (k, n_samples)
            Lower is better.
        """


def check_gray(image: Any) -> None:
    """Check that an image is a gray array of uint8, as objectives need.

    Parameters
    ----------
    image : ndarray of shape (h, w), uint8
        The image.

    Raises
    ------
    TypeError
        If it is not an array of uint8.
    ValueError
        If it is not gray, or empty.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise TypeError(
            f"Expected a gray image as an array of uint8, got {kind}: "
            "ferpipe.io.images.read_image makes one of any image."
        )
    if image.ndim != 2 or not image.size:
        raise ValueError(
            f"Expected a gray image of shape (h, w), got {image.shape}: "
            "ferpipe.io.images.read_image makes one of any image."
        )
