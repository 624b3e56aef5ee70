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
    """What :func:`fit_objective` asks of an objective."""

    @property
    def n_stages(self) -> int:
        """How many stages there are, numbered from 0, from coarse to fine."""

    def prepare(self, image, points) -> Any:
        """Do what an image needs once.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Where the visible points are thought to be, in pixels.
        """

    def find_targets(self, prepared, points, normals, unit, stage):
        """Tell where points should go.

        Parameters
        ----------
        prepared : object
            What ``prepare`` returned.
        points : ndarray of shape (k, 2)
            Present positions, in pixels.
        normals : ndarray of shape (k, 2)
            Unit vectors across the contours.
        unit : float
            Pixels in an outer eye distance.
        stage : int
            From coarse to fine.

        Returns
        -------
        targets : ndarray of shape (k, 2)
            In pixels.
        precisions : ndarray of shape (k, 2, 2)
            How sure they are, per squared pixel; 0 in directions that it does not know of.
        """

    def values(self, prepared, points, normals, unit, stage):
        """Return the objective's values along search lines.

        Parameters
        ----------
        prepared, points, normals, unit, stage
            As for ``find_targets``.

        Returns
        -------
        offsets : ndarray of shape (n_samples,)
            From the points along the normals, in outer eye distances.
        values : ndarray of shape (k, n_samples)
            The lower, the better.
        """


def check_gray(image):
    """Check that an image is one that objectives look at.

    Parameters
    ----------
    image : ndarray of shape (h, w), uint8
        The image.

    Raises
    ------
    TypeError
        If it is no array of uint8.
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
