"""Drawn faces that move from nearly neutral to an expression, with known parameters."""

import numbers

import numpy as np
from sklearn.utils import check_random_state
from tqdm import tqdm

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.drawing import (
    ACTION_UNITS,
    IDENTITY_RANGES,
    LIGHT_RANGES,
    POSE_NAMES,
    draw_face,
)
from ferpipe.datasets.labels import select_classes

__all__ = ["make_expression_sequences"]

# The ways to show each expression: action unit -> (lowest and highest intensity at the
# peak, share of the sequences that have it). 1 is A, 5 is E.
_EXPRESSIONS = {
    "anger": ({"AU23": (3.5, 5, 1.0), "AU24": (3.5, 5, 1.0), "AU04": (2, 5, 0.8)},),
    "contempt": (
        {"AU14L": (3.5, 5, 1.0)},
        {"AU14R": (3.5, 5, 1.0)},
        {"AU14L": (3.5, 5, 1.0), "AU14R": (3.5, 5, 1.0)},
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

# Standard deviation between sequences, and between first and last frame of one.
_POSE_SPREAD = {
    "roll": (0.03, 0.01),
    "yaw": (0.06, 0.02),
    "pitch": (0.04, 0.01),
    "scale": (0.025, 0.01),
    "shift_x": (0.04, 0.01),
    "shift_y": (0.04, 0.01),
}


def make_expression_sequences(
    n_sequences=240,
    n_frames=3,
    size=48,
    *,
    classes=7,
    random_state=None,
    return_X_y=False,
):
    """Draw sequences of grey faces that move from nearly neutral to an expression.

    The expression of a sequence is drawn from the action-unit table of [1]_, with its
    alternatives (disgust is AU9 or AU10). Identity, pose, light, blur and noise vary. A
    subject keeps its identity over its five or six sequences.

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
        ``action_units`` : list of ndarray of shape (n_frames, 18), intensity 0 to 5 of
        each of ``action_unit_names``.
        ``pose`` : list of ndarray of shape (n_frames, 6), see ``pose_names``: roll, yaw
        and pitch in radians, scale as a factor, shifts in half eye distances.
        ``identity`` : ndarray of shape (n_sequences, 20), see ``identity_names``.
        ``light`` : ndarray of shape (n_sequences, 5), see ``light_names``.
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

    AU25 and AU43 also occur at low intensity, without meaning.

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
    identities = _draw_uniform(rng, IDENTITY_RANGES, n_subjects)[subjects]
    lights = _draw_uniform(rng, LIGHT_RANGES, n_sequences)
    units = [_draw_action_units(rng, label, n_frames) for label in target]
    poses = [_draw_pose(rng, n_frames) for _ in range(n_sequences)]
    data = [
        _draw_sequence(rng, *parameters, size)
        for parameters in tqdm(
            zip(units, poses, identities, lights, strict=True),
            total=n_sequences,
            desc="drawing",
            unit="sequence",
            disable=None,
            leave=False,
        )
    ]
    return as_bunch(
        data,
        target,
        kind="sequences",
        groups=[f"P{subject:03d}" for subject in subjects],
        filenames=None,
        description=(
            f"Synthetic drawn faces, {n_sequences} sequences of {n_frames} frames, "
            f"{size} x {size}, {len(names)} classes\n\nDrawn from the action-unit table of "
            "CK+; identity, pose, light, blur and noise vary. A score on these drawings "
            "says nothing about real faces."
        ),
        synthetic=True,
        return_X_y=return_X_y,
        action_units=units,
        action_unit_names=list(ACTION_UNITS),
        pose=poses,
        pose_names=list(POSE_NAMES),
        identity=identities,
        identity_names=list(IDENTITY_RANGES),
        light=lights,
        light_names=list(LIGHT_RANGES),
    )


def _check_integer(name, value, lowest):
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}.")


def _draw_uniform(rng, ranges, n):
    low, high = np.array(list(ranges.values())).T
    return rng.uniform(low, high, size=(n, len(ranges)))


def _draw_action_units(rng, label, n_frames):
    """Return intensities (n_frames, n_action_units) that rise to the peak."""
    ways = _EXPRESSIONS[label]
    peak = _draw_peak(rng, ways[rng.randint(len(ways))])
    incidental = _draw_peak(rng, _INCIDENTAL)
    for unit, excluded in _EXCLUDED.items():
        if unit in peak:
            incidental.pop(excluded, None)
    peak = incidental | peak
    time = np.linspace(0, 1, n_frames) if n_frames > 1 else np.ones(1)
    start = rng.uniform(0, 0.4)
    curve = start + (1 - start) * time**2 * (3 - 2 * time)
    return np.outer(curve, [peak.get(name, 0.0) for name in ACTION_UNITS])


def _draw_peak(rng, way):
    return {
        unit: rng.uniform(low, high)
        for unit, (low, high, share) in way.items()
        if rng.uniform() < share
    }


def _draw_pose(rng, n_frames):
    base_spread, drift_spread = np.array([_POSE_SPREAD[name] for name in POSE_NAMES]).T
    base = base_spread * rng.standard_normal(len(POSE_NAMES))
    drift = drift_spread * rng.standard_normal(len(POSE_NAMES))
    rest = np.array([float(name == "scale") for name in POSE_NAMES])
    return rest + base + np.outer(np.linspace(0, 1, n_frames), drift)


def _draw_sequence(rng, units, poses, identity, light, size):
    import cv2

    blur = rng.uniform(0.1, 0.45) * size / 48
    noise = rng.uniform(0.004, 0.014)
    frames = []
    for unit, pose in zip(units, poses, strict=True):
        image = draw_face(
            dict(zip(ACTION_UNITS, unit, strict=True)),
            dict(zip(IDENTITY_RANGES, identity, strict=True)),
            dict(zip(POSE_NAMES, pose, strict=True)),
            dict(zip(LIGHT_RANGES, light, strict=True)),
            size,
        )
        image = cv2.GaussianBlur(image, (0, 0), blur)
        image = image + noise * rng.standard_normal(image.shape)
        frames.append(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8))
    return np.stack(frames)
