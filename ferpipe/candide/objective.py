"""Objectives: what an image says about where the wireframe's points should go.

An objective looks at one image and tells for present positions of the visible points, all
of :func:`ferpipe.candide.point_fit.visible_points` in its order, where each should go and
how sure that is in every direction. :func:`fit_objective` turns to and fro between looking
and solving, from coarse to fine.
"""

from functools import cache
from typing import Any, Protocol

import numpy as np
from sklearn.utils import Bunch, check_random_state

from ferpipe.candide.camera import project
from ferpipe.candide.point_fit import fit_points, fit_targets, visible_points
from ferpipe.candide.template import template_model
from ferpipe.faces.landmark_cascade import place_in_box
from ferpipe.geometry import fit_similarity, similarity, transform_points

__all__ = [
    "Objective",
    "check_gray",
    "contour_normals",
    "displace",
    "fit_objective",
    "search_indicators",
    "start_in_box",
    "visible_partners",
]

# For each visible vertex of the left half and of the middle, which vertices its contour
# comes from and goes to: brow, lids, nose, lips; the chin runs parallel to the mouth.
_CONTOURS = """
15 15 16, 16 15 17, 17 16 17, 20 21 22, 21 20 23, 22 20 23, 23 21 22, 94 94 5, 5 94 6,
6 26 59, 26 26 6, 31 79 85, 79 31 33, 33 79 7, 7 33 66, 85 31 8, 8 85 86, 88 81 83,
81 88 87, 87 81 82, 83 88 40, 40 83 84, 10 31 64
"""
# a fit stands still when its points move less, in outer eye distances
_STILL = 0.004
_MOST_LOOKS = 2
# Of what displaces training shapes, in shares of the lines' reach: standard deviations of
# the shift (outer eye distances), the turn (radians) and the logarithm of the size. Faces
# start from others' shapes where lines reach this far, and from nearer ones where less.
_SHIFT, _TURN, _GROWTH = 0.4, 0.4, 0.33
_OTHERS_SHAPE = 0.3


class Objective(Protocol):
    """What :func:`fit_objective` asks of an objective."""

    @property
    def n_stages(self) -> int:
        """How many stages there are, numbered from 0, from coarse to fine."""

    def look(self, image, points) -> Any:
        """Do what an image needs once.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Where the visible points are thought to be, in pixels.
        """

    def observe(self, seen, points, normals, unit, stage):
        """Tell where points should go.

        Parameters
        ----------
        seen : object
            What ``look`` returned.
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

    def values(self, seen, points, normals, unit, stage):
        """Return the objective's values along search lines.

        Parameters
        ----------
        seen, points, normals, unit, stage
            As for ``observe``.

        Returns
        -------
        offsets : ndarray of shape (n_samples,)
            From the points along the normals, in outer eye distances.
        values : ndarray of shape (k, n_samples)
            The lower, the better.
        """


@cache
def _neighbours():
    """Return the positions of each visible vertex's neighbours on its contour."""
    model = template_model()
    visible = sorted(model.landmarks)
    partner = visible_partners()
    before, after = np.arange(len(visible)), np.arange(len(visible))
    for line in _CONTOURS.replace("\n", " ").split(","):
        one, start, end = (visible.index(int(number)) for number in line.split())
        before[one], after[one] = start, end
        if partner[one] != one:
            before[partner[one]], after[partner[one]] = partner[start], partner[end]
    return before, after


@cache
def visible_partners():
    """Return for each visible point which one is on the other side of the face.

    Returns
    -------
    partner : ndarray of shape (k,), int
        Itself in the middle.
    """
    model = template_model()
    visible = sorted(model.landmarks)
    names = {vertex: name for name, vertex in model.vertex_names.items()}
    other = {"left": "right", "right": "left"}
    partner = []
    for vertex in visible:
        stem, _, side = names[vertex].rpartition("_")
        name = f"{stem}_{other[side]}" if side in other else names[vertex]
        partner.append(visible.index(model.vertex_names[name]))
    return np.array(partner)


def contour_normals(points):
    """Return the directions across the contours on which the visible points lie.

    Parameters
    ----------
    points : ndarray of shape (..., k, 2)
        All visible points, in pixels.

    Returns
    -------
    normals : ndarray of shape (..., k, 2)
        Unit vectors. Where a point's neighbours coincide, along the image's y axis.

    Notes
    -----
    The contours are the brows, the lids, the ridge and the lower edge of the nose, and the
    outer and the inner edge of the lips. In the corners of eyes and mouth both edges
    meet, and the normal points along the eye or the mouth.
    """
    before, after = _neighbours()
    along = points[..., after, :] - points[..., before, :]
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 0, along / np.where(length > 0, length, 1), [1.0, 0.0])
    return np.stack([-along[..., 1], along[..., 0]], axis=-1)


def start_in_box(model, prior, box, angle, facts):
    """Place the mean face in a detector's box.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    box : (float, float, float, float)
        ``(x, y, width, height)`` in pixels.
    angle : float
        Turn of the face, in radians, clockwise.
    facts : PointCascade
        Its ``mean_shape``, ``box_width`` and ``box_center`` say where faces are in boxes.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
    """
    placement = place_in_box(
        box, angle, facts.mean_shape, facts.box_width, facts.box_center
    )
    shape = transform_points(placement, facts.mean_shape)
    vertices, points = visible_points(model, shape)
    return fit_points(model, prior, vertices, points[None])[0]


def fit_objective(model, prior, objective, image, start, *, limits=None, first_stage=0):
    """Fit the wireframe to an image by an objective.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.
    objective : Objective
        What says where points should go.
    image : ndarray of shape (h, w), uint8
        Gray.
    start : ndarray of shape (n_parameters,)
        Parameters to start from: of :func:`start_in_box`, of a fit to landmarks, or of the
        previous frame.
    limits : ndarray of shape (2, n_shape + n_animation), default=None
        Of the units, as :func:`ferpipe.candide.point_fit.unit_limits` gives them.
    first_stage : int, default=0
        Where to begin; a start that is nearly right, as of the previous frame, needs no
        coarse stage. Objectives with fewer stages begin with their last.

    Returns
    -------
    parameters : ndarray of shape (n_parameters,)
        After the finest stage.
    off : float
        How far points are from where the last look wanted them, root mean square over the
        directions that it was sure of; in outer eye distances. Infinite if it was sure of
        none.

    Raises
    ------
    TypeError, ValueError
        If the image is not gray and of 8 bits.

    Notes
    -----
    In each stage the objective looks once or, unless the points stand still by then,
    twice, with one Gauss-Newton step after each look.
    """
    check_gray(image)
    vertices = np.array(sorted(model.landmarks))
    typical = model.shape(*np.split(prior.mean, [len(model.shape_names)]))[vertices]
    frontal = typical[:, :2] * (1, -1)
    parameters = np.asarray(start, np.float64)
    points = _shown(model, vertices, parameters)
    seen = objective.look(image, points)
    for stage in range(min(first_stage, objective.n_stages - 1), objective.n_stages):
        for _ in range(_MOST_LOOKS):
            unit = _size(fit_similarity(frontal, points))
            targets, precisions = objective.observe(
                seen, points, contour_normals(points), unit, stage
            )
            parameters = fit_targets(
                model,
                prior,
                vertices,
                targets,
                precisions,
                parameters,
                limits=limits,
                most_steps=1,
            )
            before, points = points, _shown(model, vertices, parameters)
            if np.linalg.norm(points - before, axis=1).mean() < _STILL * unit:
                break
    away = targets - points
    unsure = np.einsum("ki,kij,kj->", away, precisions, away)
    sure = np.einsum("kii->", precisions)
    return parameters, float(np.sqrt(unsure / sure) / unit) if sure else np.inf


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


def _shown(model, vertices, parameters):
    pose, sigma, alpha = model.split(parameters)
    return project(model.shape(sigma, alpha)[vertices], pose)


def _size(matrix):
    """Return how many times larger a similarity transform makes things."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def displace(points, reach, mean_points, rng):
    """Displace faces as much as fits are off whose search lines reach so far.

    Parameters
    ----------
    points : ndarray of shape (n, k, 2)
        Visible points of faces, in pixels.
    reach : float
        Half the length of search lines, in outer eye distances.
    mean_points : ndarray of shape (k, 2)
        Of a face whose outer eye distance is 1.
    rng : numpy.random.RandomState
        What draws.

    Returns
    -------
    displaced : ndarray of shape (n, k, 2)
        Each face's shape is mixed with another's, the more the further lines reach, and
        shifted, turned and made larger or smaller.
    """
    others = rng.permutation(len(points))
    blend = min(1.0, reach / _OTHERS_SHAPE)
    displaced = np.empty_like(points)
    for number, (shape, other) in enumerate(zip(points, points[others], strict=True)):
        aligned = transform_points(fit_similarity(other, shape), other)
        mixed = shape + blend * (aligned - shape)
        unit = _size(fit_similarity(mean_points, shape))
        middle = mixed.mean(0)
        matrix = similarity(
            np.exp(rng.normal(0, _GROWTH * reach)),
            rng.normal(0, _TURN * reach),
            middle,
            middle + rng.normal(0, _SHIFT * reach * unit, 2),
        )
        displaced[number] = transform_points(matrix, mixed)
    return displaced


def search_indicators(
    objective, images, points, *, reach, stage=-1, tolerance=0.03, random_state=None
):
    """Measure how near to ideal an objective is, by two indicators of [1]_.

    Search lines run through points that are displaced as in training. P1 asks where the
    lowest value on a line is; P2 asks whether there is another minimum to be caught in.

    Parameters
    ----------
    objective : Objective
        Learned or designed.
    images : list of ndarray of shape (h_i, w_i), uint8
        Gray.
    points : ndarray of shape (n, 68, 2) or (n, k, 2)
        The 68 points of their faces, or the visible ones, in pixels.
    reach : float
        How far points are displaced, as :func:`displace` takes it.
    stage : int, default=-1
        Of the objective; the finest by default.
    tolerance : float, default=0.03
        How near counts as at the right place, in outer eye distances.
    random_state : int, RandomState or None, default=None
        Draws the displacements.

    Returns
    -------
    indicators : Bunch
        ``p1``, the share of lines whose lowest sample is within the tolerance of the
        annotated place; ``displacement``, the mean distance of the two in outer eye
        distances; ``p2``, the share of lines with one local minimum, ends included; and
        ``n_lines``. Lines that the annotated place lies beyond do not count.

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
        unit = _size(fit_similarity(mean_points, start))
        normals = contour_normals(start)
        seen = objective.look(image, start)
        offsets, values = objective.values(seen, start, normals, unit, stage)
        place = ((truth - start) * normals).sum(1) / unit
        counts = np.abs(place) <= offsets[-1]
        away.append(np.abs(offsets[values.argmin(1)] - place)[counts])
        alone.append(count_minima(values[counts]) == 1)
    away, alone = np.concatenate(away), np.concatenate(alone)
    return Bunch(
        p1=float((away <= tolerance).mean()),
        displacement=float(away.mean()),
        p2=float(alone.mean()),
        n_lines=len(away),
    )


def count_minima(values):
    """Count the local minima of rows of numbers; a level stretch counts once.

    Parameters
    ----------
    values : ndarray of shape (n, n_samples)
        At least one sample a row.

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


def as_visible(points):
    """Return the visible points of faces that may be given by all 68.

    Parameters
    ----------
    points : array-like of shape (n, 68, 2) or (n, k, 2)
        ``(x, y)`` in pixels.

    Returns
    -------
    points : ndarray of shape (n, k, 2)

    Raises
    ------
    ValueError
        If there are neither 68 nor k points, or a number is not finite.
    """
    points = np.asarray(points, np.float64)
    model = template_model()
    n_visible = len(model.landmarks)
    if points.ndim != 3 or points.shape[1:] not in ((68, 2), (n_visible, 2)):
        raise ValueError(
            f"points must have the shape (n, 68, 2), or (n, {n_visible}, 2) for the "
            f"visible ones, got {points.shape}."
        )
    if not np.isfinite(points).all():
        raise ValueError("points must be finite numbers: leave out faces without points.")
    return visible_points(model, points)[1] if points.shape[1] == 68 else points


def mean_shape(points):
    """Return the symmetrical mean of faces, level and with an outer eye distance of 1.

    Parameters
    ----------
    points : ndarray of shape (n, k, 2)
        Visible points of faces, in pixels.

    Returns
    -------
    mean : ndarray of shape (k, 2)
    """
    model = template_model()
    visible = sorted(model.landmarks)
    left, right = (
        visible.index(model.vertex_names[f"eye_outer_{side}"]) for side in ("left", "right")
    )
    partner = visible_partners()
    mean = points[0]
    for _ in range(4):
        aligned = [transform_points(fit_similarity(one, mean), one) for one in points]
        mean = np.mean(aligned, axis=0)
        mean = mean - (mean[left] + mean[right]) / 2
        mean = (mean + (mean * (-1, 1))[partner]) / 2
        # the right of the image is the subject's left
        mean = mean / (mean[left, 0] - mean[right, 0])
    return mean
