"""Two indicators of how near to ideal an objective is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state

from ferpipe.candide.displacement import displace
from ferpipe.candide.objective import Objective
from ferpipe.candide.visible_points import as_visible, contour_normals, mean_shape
from ferpipe.geometry import fit_similarity, scale_of

__all__ = [
    "count_minima",
    "search_indicators",
]


def search_indicators(
    objective: Objective,
    images: Sequence[np.ndarray],
    points: ArrayLike,
    *,
    reach: float,
    stage: int = -1,
    tolerance: float = 0.03,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Measure how near to ideal an objective is, by two indicators of [1]_.

    Search lines run through points that are displaced as in training. P1 measures whether
    the lowest value on a line is at the right place; P2 whether a line has one minimum.

    Parameters
    ----------
    objective : Objective
        Learned or designed.
    images : list of ndarray of shape (h_i, w_i), uint8
        Gray.
    points : ndarray of shape (n, 68, 2) or (n, k, 2)
        The 68 points of each face, or the visible points, in pixels.
    reach : float
        Half the length of the search lines, in outer eye distances, as for
        :func:`ferpipe.candide.displacement.displace`.
    stage : int, default=-1
        Stage of the objective; the finest by default.
    tolerance : float, default=0.03
        Largest distance that counts as the right place, in outer eye distances.
    random_state : int, RandomState or None, default=None
        Seed or source of the displacements.

    Returns
    -------
    indicators : Bunch
        ``p1``, the fraction of lines whose lowest sample is within the tolerance of the
        annotated place; ``displacement``, the mean distance of the two in outer eye
        distances; ``p2``, the fraction of lines with one local minimum, ends included; and
        ``n_lines``. Lines that end before the annotated place do not count.

    References
    ----------
    .. [1] M. Wimmer, F. Stulp, S. Pietzsch, B. Radig, "Learning local objective functions
       for robust face model fitting", IEEE TPAMI 30(8), 2008, 1357-1370.
    """
    rng = check_random_state(random_state)
    points = as_visible(points)
    mean_points = mean_shape(points)
    starts = displace(points, reach, mean_points, rng)
    stage = range(objective.n_stages)[stage]
    away, alone = [], []
    for image, start, truth in zip(images, starts, points, strict=True):
        unit = scale_of(fit_similarity(mean_points, start))
        normals = contour_normals(start)
        prepared = objective.prepare(image, start)
        offsets, values = objective.values(prepared, start, normals, unit, stage)
        position = ((truth - start) * normals).sum(1) / unit
        counts = np.abs(position) <= offsets[-1]
        away.append(np.abs(offsets[values.argmin(1)] - position)[counts])
        alone.append(count_minima(values[counts]) == 1)
    distances = np.concatenate(away)
    return Bunch(
        p1=float((distances <= tolerance).mean()),
        displacement=float(distances.mean()),
        p2=float(np.concatenate(alone).mean()),
        n_lines=len(distances),
    )


def count_minima(values: np.ndarray) -> np.ndarray:
    """Count the local minima in each row; a flat stretch counts once.

    Parameters
    ----------
    values : ndarray of shape (n, n_samples)
        At least one sample per row.

    Returns
    -------
    counts : ndarray of shape (n,), int
    """
    counts = np.empty(len(values), int)
    for number, row in enumerate(values):
        steps = np.diff(row)
        signs = np.sign(steps[steps != 0])
        # down before and up after, as if the row rose to both sides
        counts[number] = (np.diff(np.r_[-1, signs, 1]) == 2).sum()
    return counts
