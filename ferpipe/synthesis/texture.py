"""The texture map of a person: the frontal view of the neutral wireframe.

The map has several levels of resolution, coarser ones for small images. An action unit
folds the skin: it darkens a patch of the map in proportion to its parameter.
"""

from collections import namedtuple
from functools import cache, lru_cache
from operator import attrgetter

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.candide.template import template_model
from ferpipe.synthesis.appearance import NO_HAIR, Appearance

__all__ = [
    "CLOTHES_COLUMN",
    "FINENESS",
    "Fold",
    "HAIR_COLUMNS",
    "MIDDLE_ROW",
    "N_LEVELS",
    "SKIN_COLUMNS",
    "find_folds",
    "fold",
    "paint",
    "to_map",
]

# pixels per unit of the model; each level has half the resolution of the one before
FINENESS = 80
N_LEVELS = 3
_COARSEST = 2 ** (N_LEVELS - 1)
_FACE_SHAPE = (224, 144)
# chosen so that the middle of the face lies between two columns of each level
_LEFT, _TOP = -71.5 / FINENESS, 1.42
# Columns beside the face hold the tones of other parts. They are wider than the sampled
# columns, by enough for the coarsest level.
_SKIN, _HAIR, _OTHER_SKIN, _CLOTHES = (144, 156), (156, 180), (180, 192), (192, 204)
_MAP_SHAPE = (_FACE_SHAPE[0], _CLOTHES[1])
MIDDLE_ROW = _MAP_SHAPE[0] / 2
SKIN_COLUMNS = tuple((first + end - 1) / 2 for first, end in (_SKIN, _OTHER_SKIN))
HAIR_COLUMNS = (_HAIR[0] + _COARSEST, _HAIR[1] - _COARSEST - 1)
CLOTHES_COLUMN = (_CLOTHES[0] + _CLOTHES[1] - 1) / 2
_DEEPEST_FOLD = 0.75
# width of the fading edge of an eyebrow, in outer eye distances
_BROW_EDGE = 0.03
# least darkness of a visible fold
_FAINT = 2e-4
# index of a unit, rows, columns, and how much the unit darkens them
Fold = tuple[int, slice, slice, np.ndarray]


def to_map(points: ArrayLike) -> np.ndarray:
    """Return the positions on the map of points of the frontal view.

    Parameters
    ----------
    points : array-like of shape (..., 2)
        x and y, in outer eye distances.

    Returns
    -------
    places : ndarray of shape (..., 2)
        Columns and rows, in pixels of the finest level.
    """
    points = np.asarray(points, np.float64)
    return (points - (_LEFT, _TOP)) * (FINENESS, -FINENESS)


_Person = namedtuple(
    "_Person",
    "skin texture texture_seed freckles beard brow brow_thickness lip hair hair_line "
    "clothes",
)
_person_of = attrgetter(*_Person._fields)


def paint(appearance: Appearance, level: int) -> np.ndarray:
    """Paint the map of a person; recent maps are cached.

    Parameters
    ----------
    appearance : Appearance
        The person.
    level : int
        0 is the finest map; each further one has half as many rows and columns.

    Returns
    -------
    tones : ndarray of shape (rows, columns), float32
    """
    return _paint(_Person(*_person_of(appearance)), level)


@lru_cache(maxsize=64)
def _paint(person: _Person, level: int) -> np.ndarray:
    rng = np.random.default_rng(person.texture_seed)
    masks = _masks(level)
    rows, wide = masks["always"].shape
    shape = rows, _MAP_SHAPE[1] >> level

    streaks = 0.5 * _grain(rng, (12, 90), shape) + 0.5 * _grain(rng, (5, 40), shape)
    uneven = 0.6 * _grain(rng, (9, 7), shape) + 0.5 * _grain(rng, (36, 30), shape)
    row, column = rng.integers(_GRAIN_SIZE - np.array(_FACE_SHAPE))
    # pixels of coarser maps are means of many
    fine = 0.7 * 0.5**level * _fine_grain()[row : row + rows, column : column + wide]
    tones = np.empty(shape, np.float32)
    if person.hair_line > NO_HAIR:
        tones[:] = person.skin
    else:
        tones[:] = person.hair * (1 + 0.35 * person.texture * streaks)

    hair, streaks = tones[:, :wide], streaks[:, :wide]
    face = 1 + 0.06 * person.texture * (uneven[:, :wide] + fine)
    face *= person.skin * masks["always"]
    if person.freckles:
        freckled = np.clip(_grain(rng, (110, 90), shape)[:, :wide] - 1.2, 0, 1)
        face *= 1 - person.freckles * freckled * masks["freckles"]
    if person.beard:
        face *= 1 - person.beard * (1 + 0.3 * person.texture * streaks) * masks["beard"]
    face *= 1 - person.lip * masks["lips"]
    within = person.brow_thickness * masks["brow height"] - masks["off brow"]
    brow = np.clip(0.5 + within / _BROW_EDGE, 0, 1) * masks["brow"]
    face *= 1 - person.brow * brow * (1 + 0.3 * person.texture * streaks)
    if person.hair_line <= NO_HAIR:
        ragged = 0.06 * person.texture * streaks
        above = masks["height"] - person.hair_line * masks["hair line"] + ragged
        face += np.clip(0.5 + 12 * above, 0, 1) * (hair - face)
    tones[:, :wide] = face
    for first, end in (_SKIN, _OTHER_SKIN):
        tones[:, first >> level : end >> level] = person.skin
    tones[:, _CLOTHES[0] >> level :] = person.clothes
    tones.flags.writeable = False
    return tones


_GRAIN_SIZE = 400


@cache
def _fine_grain() -> np.ndarray:
    """Return an array of noise; each person's skin is a different part of it."""
    return np.random.default_rng(0).standard_normal((_GRAIN_SIZE, _GRAIN_SIZE), np.float32)


def _grain(
    rng: np.random.Generator, coarse: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray:
    import cv2

    noise = rng.standard_normal(coarse, np.float32)
    return cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_LINEAR)


def _coarser(image: np.ndarray, level: int) -> np.ndarray:
    """Return the image at a coarser level."""
    import cv2

    size = image.shape[1] >> level, image.shape[0] >> level
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


# folds of the left half: unit, depth, width and curve, in the frontal view at rest
_FOLDS = """
AU01  .30 .020  0 .43  .14 .44  .27 .42
AU01  .34 .022  0 .53  .15 .54  .30 .52
AU01  .26 .020  0 .63  .15 .64  .28 .62
AU02  .30 .022  .27 .42  .42 .42  .60 .33
AU02  .34 .022  .30 .52  .45 .51  .64 .42
AU02  .24 .020  .28 .62  .45 .60  .62 .53
AU04  .42 .026  .055 .17  .065 .26  .055 .37
AU04  .26 .022  .12 .22  .13 .30  .11 .37
AU04  .25 .024  0 .10  .06 .10
AU05  .18 .020  .25 .11  .36 .14  .46 .10
AU06  .28 .016  .53 .01  .59 .03  .66 .07
AU06  .30 .016  .53 -.01  .60 -.02  .67 -.02
AU06  .26 .016  .52 -.03  .58 -.07  .64 -.11
AU06  .32 .024  .22 -.10  .33 -.135  .46 -.10  .53 -.04
AU07  .26 .018  .22 -.06  .35 -.085  .47 -.06
AU09  .42 .018  0 .07  .05 .06  .10 .08
AU09  .42 .018  0 .01  .06 0  .12 .02
AU09  .38 .016  .06 -.04  .11 -.08  .16 -.07
AU09  .38 .016  .07 -.10  .12 -.15  .17 -.15
AU09  .42 .030  .18 -.36  .25 -.45  .33 -.58
AU10  .48 .030  .20 -.40  .29 -.47  .37 -.60
AU11  .50 .030  .19 -.41  .25 -.50  .33 -.62
AU12  .46 .032  .21 -.43  .30 -.53  .37 -.65  .40 -.76
AU12  .30 .024  .36 -.70  .39 -.76  .37 -.82
AU13  .32 .028  .22 -.43  .31 -.55  .36 -.68
AU14  .62 .034  .35 -.69  .375 -.75  .35 -.81
AU15  .40 .026  .32 -.77  .355 -.84  .37 -.93
AU15  .24 .030  .10 -.95  .20 -.97  .28 -.93
AU16  .26 .030  0 -.94  .12 -.93  .20 -.91
AU17  .44 .032  0 -.96  .10 -.97  .19 -1.01
AU17  .34 .024  .05 -1.05  .06 -1.05
AU17  .34 .024  .11 -1.10  .12 -1.10
AU17  .34 .024  .03 -1.14  .04 -1.14
AU17  .28 .020  .09 -1.02  .10 -1.02
AU18  .26 .014  .04 -.66  .04 -.62
AU18  .26 .014  .12 -.68  .13 -.63
AU18  .26 .014  .10 -.86  .11 -.91
AU20  .36 .028  .34 -.68  .38 -.76  .36 -.86
AU23  .30 .030  0 -.935  .13 -.93  .22 -.88
AU23  .26 .020  .06 -.63  .16 -.65  .26 -.69
AU24  .36 .030  0 -.925  .13 -.92  .24 -.86
AU24  .28 .020  .05 -.63  .16 -.65  .27 -.70
AU28  .26 .026  0 -.90  .13 -.88  .24 -.82
AU43  .20 .016  .22 .04  .35 .085  .46 .05
"""


@cache
def _fold_maps() -> dict[str, np.ndarray]:
    """Return for each unit the darkness of its folds for a parameter of 1."""
    import cv2

    maps: dict[str, np.ndarray] = {}
    for line in _FOLDS.strip().splitlines():
        name, *numbers = line.split()
        depth, width, *curve = (float(number) for number in numbers)
        narrow = _stroke(np.reshape(curve, (-1, 2)), width)
        narrow = cv2.GaussianBlur(narrow, (0, 0), 0.45 * width * FINENESS)
        # the bulge beside a fold is brighter
        wide = cv2.GaussianBlur(narrow, (0, 0), 1.4 * width * FINENESS)
        fold = depth * (narrow - 0.35 * wide)
        maps[name] = maps.get(name, np.zeros(_FACE_SHAPE, np.float32)) + fold
    return maps


def _stroke(curve: ArrayLike, width: float) -> np.ndarray:
    """Return the fraction of each pixel that a curve and its mirror image cover."""
    import cv2

    curve = _smooth(np.asarray(curve, np.float64))
    mask = np.zeros(_FACE_SHAPE, np.uint8)
    thickness = max(1, round(width * FINENESS))
    for side in (1, -1):
        pixels = np.rint(16 * to_map(curve * (side, 1))).astype(np.int32)
        cv2.polylines(mask, [pixels], False, 255, thickness, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _area(outline: ArrayLike) -> np.ndarray:
    """Return the fraction of each pixel inside an outline or its mirror image."""
    import cv2

    mask = np.zeros(_FACE_SHAPE, np.uint8)
    for side in (1, -1):
        pixels = np.rint(16 * to_map(np.multiply(outline, (side, 1)))).astype(np.int32)
        cv2.fillPoly(mask, [pixels], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _smooth(curve: np.ndarray) -> np.ndarray:
    """Insert three points between neighbors of a curve, on a smooth curve through all."""
    if len(curve) < 3:
        return curve
    ends = 2 * curve[[0, -1]] - curve[[1, -2]]
    padded = np.concatenate([ends[:1], curve, ends[1:]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    share = np.array([0, 0.25, 0.5, 0.75])[:, None, None]
    tangent = 0.5 * (end - before)
    tangent_after = 0.5 * (after - start)
    smooth = (
        (2 * share**3 - 3 * share**2 + 1) * start
        + (share**3 - 2 * share**2 + share) * tangent
        + (3 * share**2 - 2 * share**3) * end
        + (share**3 - share**2) * tangent_after
    )
    return np.concatenate([np.swapaxes(smooth, 0, 1).reshape(-1, 2), curve[-1:]])


@cache
def _masks(level: int) -> dict[str, np.ndarray]:
    """Return the parts of a map's face that are the same for all people."""
    return {name: _coarser(mask, level) for name, mask in _finest_masks().items()}


@cache
def _finest_masks() -> dict[str, np.ndarray]:
    import cv2

    flat = template_model().vertices[:, :2]

    def soft(mask: np.ndarray, width: float) -> np.ndarray:
        return cv2.GaussianBlur(mask, (0, 0), width * FINENESS)

    outer_top = _smooth(flat[[31, 79, 33, 7]])
    outer_low = _smooth(flat[[31, 85, 8]])
    inner_top, inner_low = _smooth(flat[[88, 81, 87]]), _smooth(flat[[88, 83, 40]])
    upper = np.concatenate([outer_top, inner_top[::-1]])
    lower = np.concatenate([outer_low, inner_low[::-1]])
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = _map_positions()
    beard = 1 / (1 + np.exp(-(0.65 * np.abs(x) ** 1.5 - 0.83 - y) / 0.04))
    moustache = soft(_area([(0, -0.58), (0.2, -0.6), (0.3, -0.72), (0, -0.66)]), 0.02)
    lashes = flat[[20, 97, 21, 105, 23]]
    lower_lid = flat[[20, 99, 22, 107, 23]]
    crease = flat[[95, 19, 103]] - (0, 0.012)
    seam = np.maximum(_stroke(inner_top, 0.014), _stroke(inner_low, 0.014))
    always = np.ones(_FACE_SHAPE, np.float32)
    for darkness, blur, mask in (
        (0.12, 0.05, _area([(0.16, 0.1), (0.4, 0.17), (0.57, 0.08), (0.5, -0.08)])),
        (0.10, 0.02, _stroke([(0.22, -0.09), (0.35, -0.14), (0.46, -0.11)], 0.03)),
        (0.09, 0.04, _stroke([(0.1, 0.1), (0.11, -0.1), (0.14, -0.35)], 0.06)),
        (0.08, 0.02, _stroke([(0.22, -0.45), (0.31, -0.56), (0.36, -0.68)], 0.03)),
        (0.28, 0.012, _stroke([(0.155, -0.37), (0.205, -0.44), (0.19, -0.51)], 0.02)),
        (0.06, 0.015, _stroke([(0, -0.57), (0, -0.66)], 0.03)),
        (0.20, 0.03, _area([(0, -0.9), (0.16, -0.9), (0.1, -0.96), (0, -0.965)])),
        (0.75, 0.01, _area((0.098, -0.512) + circle * (0.048, 0.02))),
        (0.60, 0.006, seam),
        (0.40, 0.012, _stroke([(0.28, -0.748), (0.325, -0.745)], 0.025)),
        (0.28, 0.008, _stroke(crease, 0.014)),
        (0.30, 0.006, _stroke(lower_lid, 0.012)),
        (0.75, 0.006, _stroke(lashes, 0.022)),
    ):
        always *= 1 - darkness * soft(mask, blur)
    lips = soft(np.maximum(_area(upper), _area(lower)), 0.008) + 0.4 * soft(
        _area(upper), 0.01
    )
    spine = _smooth(np.array([(0.125, 0.199), (0.417, 0.245), (0.665, 0.148)]))
    share = np.clip((np.abs(x) - spine[0, 0]) / np.ptp(spine[:, 0]), 0, 1)
    along = np.minimum(np.abs(x) - spine[0, 0], spine[-1, 0] - np.abs(x))
    masks = {
        # sockets, nose, lids and the line between the lips
        "always": always,
        "lips": lips,
        "beard": np.maximum(beard, moustache),
        "freckles": np.exp(-(((y + 0.15) / 0.3) ** 2) - (x / 0.5) ** 4),
        "hair line": 1 - np.minimum(np.abs(x) / 0.84, 1) ** 3,
        "height": y,
        # from end to end; half the height for a thickness of 1; distance from the middle
        "brow": np.clip(0.5 + along / _BROW_EDGE, 0, 1),
        "brow height": 0.6 * np.minimum(0.75 + 1.2 * share, 1.25 - share),
        "off brow": np.abs(y - np.interp(np.abs(x), *spine.T)),
    }
    return {name: mask.astype(np.float32) for name, mask in masks.items()}


@cache
def _map_positions() -> tuple[np.ndarray, np.ndarray]:
    """Return the frontal view's x and y of each pixel of the map."""
    rows, columns = np.mgrid[: _FACE_SHAPE[0], : _FACE_SHAPE[1]].astype(np.float32)
    return columns / FINENESS + _LEFT, _TOP - rows / FINENESS


def fold(skin: np.ndarray, folds: list[Fold], alpha: np.ndarray) -> np.ndarray:
    """Darken the skin by the folds of the action units.

    Parameters
    ----------
    skin : ndarray of shape (rows, columns), float32
        A map from :func:`paint`.
    folds : list of tuple
        The folds of the same level, from :func:`find_folds`.
    alpha : ndarray of shape (n_animation,)
        Animation parameters; they are clipped to 0 to 1.

    Returns
    -------
    folded : ndarray of shape (rows, columns), float32
    """
    strengths = np.clip(alpha, 0, 1).tolist()
    dark = np.zeros_like(skin)
    for unit, rows, columns, darkness in folds:
        if strengths[unit]:
            dark[rows, columns] += np.float32(strengths[unit]) * darkness
    np.minimum(dark, _DEEPEST_FOLD, out=dark)
    return skin * np.subtract(1, dark, out=dark)


@cache
def find_folds(animation_names: tuple[str, ...]) -> tuple[list[Fold], ...]:
    """Find the folds of action units.

    Parameters
    ----------
    animation_names : tuple of str
        Names of the action units; those of one side of the face (the subject's) end in
        ``_left`` or ``_right``. Units without folds in the table are left out.

    Returns
    -------
    levels : tuple of list of tuple
        For each level of the map: index of the unit, slices of rows and columns, and their
        darkness for a parameter of 1.
    """
    left = np.clip(0.5 + _map_positions()[0] / 0.08, 0, 1)
    shares = {"left": left, "right": 1 - left}
    levels: tuple[list[Fold], ...] = tuple([] for _ in range(N_LEVELS))
    for index, name in enumerate(animation_names):
        base, _, side = name.partition("_")
        if base not in _fold_maps():
            continue
        darkness = _fold_maps()[base] * shares.get(side, np.float32(1))
        box = []
        for axis in (1, 0):
            extent = np.flatnonzero(np.abs(darkness).max(axis) > _FAINT)
            box.append((extent[0] // _COARSEST, extent[-1] // _COARSEST + 1))
        for level, folds in enumerate(levels):
            times = _COARSEST >> level
            rows, columns = (slice(times * low, times * high) for low, high in box)
            patch = np.ascontiguousarray(_coarser(darkness, level)[rows, columns])
            folds.append((index, rows, columns, patch))
    return levels
