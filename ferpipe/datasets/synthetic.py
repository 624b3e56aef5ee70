"""Synthetic faces that move from nearly neutral to an expression, with known parameters."""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.model import POSE_NAMES
from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.labels import select_classes
from ferpipe.faces.alignment import TEMPLATES
from ferpipe.synthesis.appearance import Appearance, random_appearance
from ferpipe.synthesis.render import render_faces

__all__ = ["make_expression_sequences"]

# action unit -> lowest and highest intensity, share of the sequences that have it
_Way = Mapping[str, tuple[float, float, float]]

# The ways to show each expression: action unit -> (lowest and highest intensity at the
# peak, share of the sequences that have it). 1 is A, 5 is E.
_EXPRESSIONS = {
    "anger": ({"AU23": (3.5, 5, 1.0), "AU24": (3.5, 5, 1.0), "AU04": (2, 5, 0.8)},),
    "contempt": (
        {"AU14_left": (3.5, 5, 1.0)},
        {"AU14_right": (3.5, 5, 1.0)},
        {"AU14_left": (3.5, 5, 1.0), "AU14_right": (3.5, 5, 1.0)},
    ),
    "disgust": (
        {"AU09": (3.5, 5, 1.0), "AU04": (1, 3, 0.3)},
        {"AU10": (3.5, 5, 1.0)},
    ),
    "fear": (
        {
            "AU01": (3.5, 5, 1.0),
            "AU02": (3.5, 5, 1.0),
            "AU04": (3.5, 5, 1.0),
            "AU05": (2, 5, 0.8),
        },
        {"AU01": (3.5, 5, 1.0), "AU02": (3.5, 5, 1.0), "AU05": (5, 5, 1.0)},
    ),
    "happiness": ({"AU12": (3.5, 5, 1.0), "AU06": (2, 5, 0.7)},),
    "sadness": (
        {"AU01": (3.5, 5, 1.0), "AU04": (3.5, 5, 1.0), "AU15": (3.5, 5, 1.0)},
        {"AU11": (3.5, 5, 1.0)},
        {"AU06": (3.5, 5, 1.0), "AU15": (3.5, 5, 1.0)},
    ),
    "surprise": (
        {"AU01": (3.5, 5, 1.0), "AU02": (3.5, 5, 1.0), "AU26": (3.5, 5, 0.9)},
        {"AU01": (3.5, 5, 1.0), "AU02": (3.5, 5, 1.0), "AU27": (3.5, 5, 0.9)},
        {"AU05": (1, 2, 1.0), "AU26": (3.5, 5, 1.0)},
    ),
}

# Movements that mean nothing, in any expression that does not exclude them.
_INCIDENTAL = {"AU25": (0.5, 2, 0.2), "AU43": (0.5, 1.5, 0.2)}
_EXCLUDED = {"AU24": "AU25", "AU05": "AU43"}

_SEQUENCES_PER_SUBJECT = 5.5
_SMALLEST_SIZE = 24
# intensity of a parameter of 1: D
_STRONG = 4
_PUPILS = [114, 113]

# Standard deviation between sequences, and between first and last frame of one: angles in
# radians, scale as a factor, shifts in widths of the image.
_POSE_SPREAD = {
    "rx": (0.04, 0.01),
    "ry": (0.06, 0.02),
    "rz": (0.03, 0.01),
    "s": (0.025, 0.01),
    "tx": (0.01, 0.0025),
    "ty": (0.01, 0.0025),
}


def make_expression_sequences(
    n_sequences: int = 240,
    n_frames: int = 3,
    size: int = 48,
    *,
    classes: int | Sequence[str] = 7,
    random_state: Any = None,
    return_X_y: bool = False,
) -> Any:
    """Draw sequences of gray faces that move from nearly neutral to an expression.

    The faces are those of the wireframe that ships, framed as in FER2013. The expression
    of a sequence is drawn from the action-unit table of [1]_, with its alternatives
    (disgust is AU9 or AU10). Persons, poses, light, background, blur and noise vary. A
    subject keeps its shape, skin and hair over its five or six sequences.

    Parameters
    ----------
    n_sequences : int, default=240
        Number of sequences; classes are equally frequent.
    n_frames : int, default=3
        Frames a sequence. The last one shows the peak.
    size : int, default=48
        Width and height of a frame, in pixels, at least 24.
    classes : {7, 6, 5} or list of str, default=7
        7 is all but neutral, 6 is without contempt, 5 also without disgust; a list names
        the classes.
    random_state : int, RandomState or None, default=None
        Same number, same data.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (n_frames, size, size), uint8.
        ``target`` : ndarray of shape (n_sequences,), canonical names.
        ``groups`` : ndarray of shape (n_sequences,), subjects such as ``"P007"``.
        ``parameters`` : list of ndarray of shape (n_frames, 85), the true parameters of the
        wireframe, in pixels of the frames: what CandideFitter estimates.
        ``parameter_names`` : list of str, of pose, sigma and alpha.
        ``target_names``, ``filenames`` (None), ``kind``, ``synthetic`` (True), ``DESCR``.

    Raises
    ------
    ValueError
        If a number is too small or a class is not known.
    TypeError
        If a number is no integer.

    Notes
    -----
    All action units of a sequence follow one curve, ``start + (1 - start) s(t)``, with
    s rising smoothly (3 t² - 2 t³) from 0 at the first to 1 at the last frame. ``start``
    is drawn from 0 to 0.4: as with the last frames of CK+ sequences, the onset may
    already be under way. A single frame shows the peak.

    The table's intensities, A to E, are parameters of 0.25 to 1.25. Action units of both
    sides of the face are equally strong, but for one-sided contempt. AU25 and AU43 also
    occur at low intensity, without meaning. Shapes are drawn from the wireframe's prior;
    all other units are 0.

    References
    ----------
    .. [1] P. Lucey et al., "The Extended Cohn-Kanade Dataset (CK+): a complete dataset
       for action unit and emotion-specified expression", CVPR Workshops 2010, table 1.

    Examples
    --------
    >>> faces = make_expression_sequences(14, random_state=0)
    >>> faces.data[0].shape
    (3, 48, 48)
    >>> len(faces.target_names)
    7
    """
    names = select_classes(classes)
    if "neutral" in names:
        raise ValueError(
            "classes names 'neutral', but drawn sequences move to an expression; choose "
            f"among {', '.join(_EXPRESSIONS)}."
        )
    _check_integer("n_sequences", n_sequences, len(names))
    _check_integer("n_frames", n_frames, 1)
    _check_integer("size", size, _SMALLEST_SIZE)
    rng = check_random_state(random_state)
    target = rng.permutation(np.resize(names, n_sequences))
    n_subjects = int(np.ceil(n_sequences / _SEQUENCES_PER_SUBJECT))
    subjects = np.arange(n_sequences) * n_subjects // n_sequences
    model, prior = load_calibrated()
    sigmas = _sample_shapes(rng, prior, len(model.shape_names), n_subjects)[subjects]
    parameters = [
        np.concatenate(
            [
                _sample_poses(rng, model, n_frames, size),
                np.tile(sigma, (n_frames, 1)),
                _sample_actions(rng, model.animation_names, label, n_frames),
            ],
            axis=1,
        )
        for label, sigma in zip(target, sigmas, strict=True)
    ]
    seed = int(rng.randint(2**31 - 1))
    looks = _sample_appearances(np.random.default_rng(seed), subjects, size)
    frames = render_faces(
        model,
        np.concatenate(parameters),
        [look for look in looks for _ in range(n_frames)],
        size,
        random_state=seed,
    )
    return as_bunch(
        list(frames.reshape(n_sequences, n_frames, size, size)),
        target,
        kind="sequences",
        groups=[f"P{subject:03d}" for subject in subjects],
        filenames=None,
        description=(
            f"Synthetic faces, {n_sequences} sequences of {n_frames} frames, "
            f"{size} x {size}, {len(names)} classes\n\nDrawn from the action-unit table of "
            "CK+; persons, poses, light, blur and noise vary. A score on these drawings "
            "says nothing about real faces."
        ),
        synthetic=True,
        return_X_y=return_X_y,
        parameters=parameters,
        parameter_names=list(model.parameter_names),
    )


def _check_integer(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}.")


def _sample_shapes(
    rng: np.random.RandomState, prior: Any, n_shape: int, n: int
) -> NDArray[np.float64]:
    """Draw persons (n, n_shape)."""
    root = np.linalg.cholesky(prior.covariance[:n_shape, :n_shape])
    return prior.mean[:n_shape] + rng.standard_normal((n, n_shape)) @ root.T


def _sample_appearances(
    rng: np.random.Generator, subjects: NDArray[np.intp], size: int
) -> list[Appearance]:
    """Draw an appearance for each sequence; the subjects look as they do."""
    looks: list[Appearance] = []
    for index, subject in enumerate(subjects):
        known = index > 0 and subjects[index - 1] == subject
        look = random_appearance(rng, person=looks[-1] if known else None)
        # as pictures from a laboratory, where all of a face is lit
        look = replace(
            look,
            light=(rng.uniform(-0.5, 0.5), rng.uniform(0, 0.7), 1.0),
            ambient=rng.uniform(0.4, 0.6),
            brightness=rng.uniform(0.9, 1.2),
            contrast=rng.uniform(0.9, 1.2),
            blur=rng.uniform(0.1, 0.45) * size / 48,
            noise=rng.uniform(1, 3.5),
        )
        looks.append(look)
    return looks


def _sample_actions(
    rng: np.random.RandomState, names: Sequence[str], label: str, n_frames: int
) -> NDArray[np.float64]:
    """Return animation units (n_frames, n_animation) that rise to the peak."""
    ways = _EXPRESSIONS[label]
    peak = _sample_peak(rng, ways[rng.randint(len(ways))])
    incidental = _sample_peak(rng, _INCIDENTAL)
    for unit, excluded in _EXCLUDED.items():
        if unit in peak:
            incidental.pop(excluded, None)
    peak = incidental | peak
    time = np.linspace(0, 1, n_frames) if n_frames > 1 else np.ones(1)
    start = rng.uniform(0, 0.4)
    curve = start + (1 - start) * time**2 * (3 - 2 * time)
    # names of one side end in _left or _right
    strengths = [peak.get(name, peak.get(name.partition("_")[0], 0)) for name in names]
    return np.outer(curve, strengths) / _STRONG


def _sample_peak(rng: np.random.RandomState, way: _Way) -> dict[str, float]:
    return {
        unit: rng.uniform(low, high)
        for unit, (low, high, share) in way.items()
        if rng.uniform() < share
    }


def _sample_poses(
    rng: np.random.RandomState, model: Any, n_frames: int, size: int
) -> NDArray[np.float64]:
    """Return poses (n_frames, 6) about those in which FER2013 shows faces."""
    between, within = np.array([_POSE_SPREAD[name] for name in POSE_NAMES]).T
    offset = between * rng.standard_normal(len(POSE_NAMES))
    drift = within * rng.standard_normal(len(POSE_NAMES))
    rx, ry, rz, larger, across, down = (
        offset + np.linspace(0, 1, n_frames)[:, None] * drift
    ).T
    left, right = size * np.array(TEMPLATES["fer2013"]) - 0.5
    pupils = model.vertices[_PUPILS, :2]
    scale = (right[0] - left[0]) / (pupils[1, 0] - pupils[0, 0])
    x, y = (left + right) / 2 + scale * pupils.mean(0) * (-1, 1)
    return np.stack(
        [rx, ry, rz, scale * (1 + larger), x + size * across, y + size * down], axis=1
    )
