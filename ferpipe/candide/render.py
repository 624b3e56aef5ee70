"""Draw wireframe faces as shaded images of varied people in varied surroundings.

A face is painted once on a map, the frontal view of the wireframe at rest; each image
takes the map to where the vertices are, in the order of their depth, and lights it. Back
of the head, ears, neck and clothes are further triangles about the wireframe. Eyes and
teeth are drawn in the openings between lids and lips. What an action unit does to the
skin is a map of folds that darkens the face by as much as the unit is active.
"""

from dataclasses import dataclass, fields, replace
from functools import cache, lru_cache
from itertools import pairwise

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from ferpipe.candide.camera import rotation_matrix
from ferpipe.candide.wireframe import (
    N_VERTICES,
    drawn_model,
    partners,
    triangles_of_openings,
)

__all__ = ["Appearance", "random_appearance", "render", "render_faces"]

_SMALLEST_SIZE = 16
# images up to this size are drawn twice as large
_SIZE_TO_OVERSAMPLE = 128
_CHUNK = 16
# where the hair of the bald begins
_NO_HAIR = 1.5


@dataclass(frozen=True)
class Appearance:
    """What a picture of a face shows besides its geometry.

    Tones are shares of white, darknesses shares of the skin's tone; lengths are in outer
    eye distances unless said otherwise.

    Attributes
    ----------
    skin : float
        Tone of the skin.
    texture : float
        Strength of the skin's and the hair's unevenness, 0 to 1; with 0 the face is
        symmetrical.
    texture_seed : int
        What the unevenness is drawn from.
    freckles : float
        Darkness of the freckles.
    beard : float
        Darkness of the beard.
    brow : float
        Darkness of the eyebrows.
    brow_thickness : float
        Their height.
    iris : float
        Darkness of the iris, of white.
    lip : float
        Darkness of the lips.
    hair : float
        Tone of the hair.
    hair_line : float
        Height over the eyes where the hair begins; above 1.5 there is none.
    hair_volume : float
        How far the hair stands off the skull.
    hair_length : float
        How far it falls below the temples.
    clothes : float
        Tone of the clothes.
    background : int
        0 is plain, 1 a gradient, 2 blurred noise.
    background_tone : float
        Tone of the background.
    background_range : float
        How much the tone of a gradient or of noise varies.
    background_seed : int
        What the gradient's direction or the noise is drawn from.
    light : tuple of float
        Direction to the lamp: to the right of the image, up and to the camera, of any
        length.
    ambient : float
        Share of the light that comes from everywhere.
    brightness : float
        Factor of all tones.
    contrast : float
        Factor of the difference from mid-grey.
    blur : float
        Standard deviation of the blur, in pixels.
    noise : float
        Standard deviation of the noise, in grey levels of 255.
    """

    skin: float = 0.7
    texture: float = 0.3
    texture_seed: int = 0
    freckles: float = 0.0
    beard: float = 0.0
    brow: float = 0.6
    brow_thickness: float = 0.06
    iris: float = 0.7
    lip: float = 0.3
    hair: float = 0.15
    hair_line: float = 0.9
    hair_volume: float = 0.15
    hair_length: float = 0.0
    clothes: float = 0.3
    background: int = 0
    background_tone: float = 0.5
    background_range: float = 0.3
    background_seed: int = 0
    light: tuple[float, float, float] = (0.2, 0.4, 1.0)
    ambient: float = 0.45
    brightness: float = 1.0
    contrast: float = 1.0
    blur: float = 0.4
    noise: float = 2.0


_OF_PICTURE = frozenset(
    (
        *("background", "background_tone", "background_range", "background_seed"),
        *("light", "ambient", "brightness", "contrast", "blur", "noise"),
    )
)


def random_appearance(rng, *, person=None):
    """Draw an appearance.

    Parameters
    ----------
    rng : numpy.random.Generator
        What it is drawn from.
    person : Appearance, optional
        Keep this person (skin, brows, eyes, lips, hair, clothes) and draw only the
        picture: background, light, brightness, contrast, blur and noise.

    Returns
    -------
    appearance : Appearance
    """
    skin = rng.uniform(0.35, 0.95)
    dark_hair = rng.uniform(0.03, 0.25)
    hair = rng.choice([dark_hair, rng.uniform(0.25, 0.75)], p=[0.65, 0.35])
    no_hair, bearded, freckled, long = rng.uniform(size=4)
    of_person = {
        "skin": skin,
        "texture": rng.uniform(0.1, 1),
        "texture_seed": int(rng.integers(2**31)),
        "freckles": rng.uniform(0.1, 0.4) if freckled < 0.15 else 0.0,
        "beard": rng.uniform(0.1, 0.6) if bearded < 0.2 else 0.0,
        "brow": rng.uniform(0.3, 0.85),
        "brow_thickness": rng.uniform(0.03, 0.095),
        "iris": rng.uniform(0.5, 0.92),
        "lip": rng.uniform(0.1, 0.45),
        "hair": float(hair),
        "hair_line": 2.0 if no_hair < 0.08 else rng.uniform(0.6, 1.15),
        "hair_volume": rng.uniform(0.04, 0.3),
        "hair_length": rng.uniform(1.2, 2.5) if long < 0.4 else 0.0,
        "clothes": rng.uniform(0.05, 0.9),
    }
    of_picture = {
        "background": int(rng.integers(3)),
        "background_tone": rng.uniform(0.05, 0.95),
        "background_range": rng.uniform(0.1, 0.8),
        "background_seed": int(rng.integers(2**31)),
        "light": (rng.uniform(-0.9, 0.9), rng.uniform(-0.2, 1.0), 1.0),
        "ambient": rng.uniform(0.2, 0.6),
        "brightness": rng.uniform(0.85, 1.3),
        "contrast": rng.uniform(0.8, 1.3),
        "blur": rng.uniform(0.0, 0.9),
        "noise": rng.uniform(0.5, 7),
    }
    if person is not None:
        return replace(person, **of_picture)
    return Appearance(**of_person, **of_picture)


def render(model, parameters, appearance, size, *, rng=None):
    """Draw one face.

    Parameters
    ----------
    model : CandideModel
        The wireframe, with the vertices of :func:`~ferpipe.candide.wireframe.drawn_model`.
        Action units are known by their names; those it lacks make no folds.
    parameters : array-like of shape (n_parameters,)
        As the model's ``parameter_names`` lists them.
    appearance : Appearance
        What the picture shows besides.
    size : int
        Width and height of the image in pixels, at least 16.
    rng : numpy.random.Generator, optional
        What the noise is drawn from; the same for every call by default.

    Returns
    -------
    image : ndarray of shape (size, size), uint8

    Raises
    ------
    ValueError
        If there are more or fewer parameters than the model has, one is not a finite
        number, the scale is not positive, the size is below 16 or the model has other
        vertices.
    """
    parameters = _check(model, parameters, size, 1)
    return _render(model, parameters, appearance, size, rng or np.random.default_rng(0))


def render_faces(
    model, parameters, appearances, size, *, n_jobs=None, random_state=0, verbose=False
):
    """Draw many faces.

    Parameters
    ----------
    model : CandideModel
        The wireframe, as for :func:`render`.
    parameters : array-like of shape (n, n_parameters)
        As the model's ``parameter_names`` lists them.
    appearances : sequence of Appearance
        One for each face. It is faster if pictures of one person follow each other.
    size : int
        Width and height of the images in pixels, at least 16.
    n_jobs : int, optional
        Number of threads, as joblib counts them. The images do not depend on it.
    random_state : int, default=0
        What the noise is drawn from, 0 or more.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    images : ndarray of shape (n, size, size), uint8

    Raises
    ------
    ValueError
        As :func:`render`, or if there are more or fewer appearances than faces.
    """
    parameters = _check(model, parameters, size, 2)
    n = len(parameters)
    if len(appearances) != n:
        raise ValueError(
            f"Each face needs one appearance: got {len(appearances)} appearances of {n} "
            "faces."
        )
    images = np.empty((n, size, size), np.uint8)

    def draw(indices):
        for index in indices:
            rng = np.random.default_rng((random_state, index))
            images[index] = _render(model, parameters[index], appearances[index], size, rng)
        return len(indices)

    chunks = [range(first, min(first + _CHUNK, n)) for first in range(0, n, _CHUNK)]
    done = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")(
        delayed(draw)(chunk) for chunk in chunks
    )
    with tqdm(total=n, desc="drawing", unit="face", disable=not verbose) as progress:
        for n_drawn in done:
            progress.update(n_drawn)
    return images


def _check(model, parameters, size, n_dimensions):
    parameters = np.asarray(parameters, np.float64)
    if parameters.ndim != n_dimensions:
        expected = ("n_parameters", "n, n_parameters")[n_dimensions - 1]
        raise ValueError(
            f"parameters must have the shape ({expected}), got {parameters.shape}."
        )
    pose, _, _ = model.split(parameters)
    if not np.isfinite(parameters).all():
        raise ValueError("parameters must be finite numbers, got NaN or infinity.")
    if not (pose[..., 3] > 0).all():
        raise ValueError(f"The scale s must be positive, got {pose[..., 3].min():g}.")
    if size < _SMALLEST_SIZE:
        raise ValueError(f"size must be at least {_SMALLEST_SIZE} pixels, got {size}.")
    if len(model.vertices) != N_VERTICES:
        raise ValueError(
            f"Only wireframes with the {N_VERTICES} vertices of drawn_model can be drawn, "
            f"this one has {len(model.vertices)}."
        )
    return parameters


def _render(model, parameters, appearance, size, rng):
    import cv2

    pose, sigma, alpha = model.split(parameters)
    scene = _scene(model)
    times = 2 if size <= _SIZE_TO_OVERSAMPLE else 1
    wide = size * times
    points, depth, shade, places, flat = scene.place(
        model.shape(sigma, alpha), pose, appearance
    )
    points = points * times + (times - 1) / 2
    order, gradients = scene.visible(points, depth, shade, places)
    covering = _rasterise(points[scene.triangles[order]], wide)
    attributes = _interpolate(gradients, covering, wide)

    skin = _paint(replace(appearance, **_PLAIN))
    texture = scene.folded(skin, alpha)
    image = cv2.remap(texture, attributes[0], attributes[1], cv2.INTER_LINEAR)
    image *= attributes[2]
    kinds = np.append(scene.kinds[order], _BESIDE)[covering]
    np.copyto(image, _background(appearance, wide), where=kinds == _BESIDE)
    inside = np.nonzero(kinds >= _EYE)
    x, y, lit = (attribute[inside] for attribute in attributes)
    tones = _eye_tone(x, y, appearance), _mouth_tone(x, y, flat)
    image[inside] = np.where(kinds[inside] == _EYE, *tones) * lit

    if times > 1:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    if appearance.blur > 0:
        image = cv2.GaussianBlur(image, (0, 0), appearance.blur)
    image = 0.5 + appearance.contrast * (appearance.brightness * image - 0.5)
    image *= 255
    if appearance.noise > 0:
        image += appearance.noise * rng.standard_normal(image.shape, np.float32)
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)


# The map that is painted: pixels for each unit, and what of the frontal view it shows

_FINENESS = 80
_LEFT, _TOP = -0.9, 1.42
_MAP_HEIGHT, _FACE_WIDTH = 223, 145
# columns beside the face from which other parts take their tones
_HAIR_COLUMNS, _CLOTHES_COLUMNS = (154, 169), (180, 186)
_SKIN_COLUMNS = (146, 152), (171, 177)
_MAP_WIDTH = 188
_MAP_SHAPE = (_MAP_HEIGHT, _MAP_WIDTH)
_PLAIN = {
    field.name: field.default for field in fields(Appearance) if field.name in _OF_PICTURE
}


def _on_map(points):
    """Return where points (..., 2) of the frontal view are on the map, in its pixels."""
    points = np.asarray(points, np.float64)
    return (points - (_LEFT, _TOP)) * (_FINENESS, -_FINENESS)


# Folds of the left half: unit, depth, width and course in the frontal view at rest
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
def _fold_maps():
    """Return for each unit how much it darkens the map at its full strength."""
    import cv2

    maps = {}
    for line in _FOLDS.strip().splitlines():
        name, *numbers = line.split()
        depth, width, *course = (float(number) for number in numbers)
        narrow = _stroke(np.reshape(course, (-1, 2)), width)
        narrow = cv2.GaussianBlur(narrow, (0, 0), 0.45 * width * _FINENESS)
        # the bulge beside a fold catches light
        wide = cv2.GaussianBlur(narrow, (0, 0), 1.4 * width * _FINENESS)
        fold = depth * (narrow - 0.35 * wide)
        maps[name] = maps.get(name, np.zeros(_MAP_SHAPE, np.float32)) + fold
    return maps


def _stroke(course, width):
    """Return the share of each pixel of the map that a line and its mirror image cover."""
    import cv2

    course = _smooth(np.asarray(course, np.float64))
    mask = np.zeros(_MAP_SHAPE, np.uint8)
    thickness = max(1, round(width * _FINENESS))
    for side in (1, -1):
        pixels = np.rint(16 * _on_map(course * (side, 1))).astype(np.int32)
        cv2.polylines(mask, [pixels], False, 255, thickness, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _area(outline):
    """Return the share of each pixel of the map within an outline on the left and right."""
    import cv2

    mask = np.zeros(_MAP_SHAPE, np.uint8)
    for side in (1, -1):
        pixels = np.rint(16 * _on_map(np.multiply(outline, (side, 1)))).astype(np.int32)
        cv2.fillPoly(mask, [pixels], 255, cv2.LINE_AA, shift=4)
    return mask.astype(np.float32) / 255


def _smooth(course):
    """Put three points between any two of a course, on a smooth curve through all."""
    if len(course) < 3:
        return course
    ends = 2 * course[[0, -1]] - course[[1, -2]]
    padded = np.concatenate([ends[:1], course, ends[1:]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    share = np.array([0, 0.25, 0.5, 0.75])[:, None, None]
    turn = 0.5 * (end - before)
    turn_after = 0.5 * (after - start)
    curve = (
        (2 * share**3 - 3 * share**2 + 1) * start
        + (share**3 - 2 * share**2 + share) * turn
        + (3 * share**2 - 2 * share**3) * end
        + (share**3 - share**2) * turn_after
    )
    return np.concatenate([np.swapaxes(curve, 0, 1).reshape(-1, 2), course[-1:]])


@cache
def _masks():
    """Return the parts of the map that are the same for all people."""
    import cv2

    flat = drawn_model().vertices[:, :2]

    def soft(mask, width):
        return cv2.GaussianBlur(mask, (0, 0), width * _FINENESS)

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
    always = np.ones(_MAP_SHAPE, np.float32)
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
    return {
        # sockets, nose, lids and the line between the lips
        "always": always,
        "lips": lips,
        "beard": np.maximum(beard, moustache).astype(np.float32),
        "hair line": 1 - np.minimum(np.abs(x) / 0.84, 1) ** 3,
    }


@cache
def _map_positions():
    """Return the frontal view's x and y of each pixel of the map."""
    rows, columns = np.mgrid[:_MAP_HEIGHT, :_MAP_WIDTH].astype(np.float32)
    return columns / _FINENESS + _LEFT, _TOP - rows / _FINENESS


@lru_cache(maxsize=64)
def _paint(person):
    """Paint the face of a person on the map."""
    import cv2

    rng = np.random.default_rng(person.texture_seed)
    masks = _masks()
    x, y = _map_positions()

    def grain(rows, columns):
        coarse = rng.standard_normal((rows, columns), np.float32)
        return cv2.resize(coarse, _MAP_SHAPE[::-1], interpolation=cv2.INTER_LINEAR)

    fine = rng.standard_normal(_MAP_SHAPE, np.float32)
    uneven = 0.6 * grain(9, 7) + 0.5 * grain(36, 30) + 0.4 * fine
    streaks = 0.5 * grain(12, 90) + 0.5 * grain(5, 40)
    face = masks["always"] * person.skin * (1 + 0.06 * person.texture * uneven)
    if person.freckles:
        freckled = np.clip(grain(110, 90) - 1.2, 0, 1)
        freckled *= np.exp(-(((y + 0.15) / 0.3) ** 2) - (x / 0.5) ** 4)
        face *= 1 - person.freckles * freckled
    if person.beard:
        face *= 1 - person.beard * (1 + 0.15 * streaks) * masks["beard"]
    face *= 1 - person.lip * masks["lips"]
    brow = _brow(person.brow_thickness)
    face *= 1 - person.brow * brow * (1 + 0.3 * person.texture * streaks)
    hair = person.hair * (1 + 0.35 * person.texture * streaks)
    if person.hair_line > _NO_HAIR:
        hair[:] = person.skin
    else:
        side = masks["hair line"]
        ragged = 0.06 * person.texture * streaks
        edge = y - person.hair_line * side + ragged
        covered = np.clip(0.5 + 12 * edge, 0, 1)
        face += covered * (hair - face)
    face[:, _FACE_WIDTH:] = hair[:, _FACE_WIDTH:]
    for first, last in _SKIN_COLUMNS:
        face[:, first : last + 1] = person.skin
    face[:, _CLOTHES_COLUMNS[0] - 1 :] = person.clothes
    face.flags.writeable = False
    return face


def _brow(thickness):
    import cv2

    inner, middle, outer = (0.125, 0.199), (0.417, 0.245), (0.665, 0.148)
    spine = _smooth(np.array([inner, middle, outer]))
    share = np.linspace(0, 1, len(spine))
    half = 0.5 * thickness * np.minimum(0.75 + 1.2 * share, 1.25 - share)
    edge = np.stack([np.zeros_like(half), half], axis=1)
    outline = np.concatenate([spine + edge, (spine - edge)[::-1]])
    return cv2.GaussianBlur(_area(outline), (0, 0), 0.012 * _FINENESS)


# The triangles of a scene

_BESIDE, _FACE, _BEHIND, _EYE, _MOUTH = range(5)
# of the left half or across the middle; edges along them are drawn as curves
_CURVES = (
    (20, 97, 21, 105, 23),
    (20, 99, 22, 107, 23),
    (31, 79, 33, 7, 66, 80, 64),
    (31, 85, 8, 86, 64),
    (88, 81, 87, 82, 89),
    (88, 83, 40, 84, 89),
    (15, 16, 17),
    (14, 29, 28, 30, 32, 10, 65, 63, 61, 62, 47),
    (14, 12, 11, 0, 44, 45, 47),
)
_STILL = (0.0, 0.0, 0.0)
_RIM = (28, 29, 14, 12, 11, 0, 44, 45, 47, 62, 61)
_TEETH, _LOWER_LIP = 115, 40
# from which vertex, and how far: the middle, then the edge
_EAR = (
    (28, 0.04, 0.16, -0.04),
    (29, -0.02, 0.06, 0.02),
    (28, -0.03, 0.02, 0.03),
    (28, 0.08, 0.10, -0.10),
    (29, 0.13, -0.08, -0.14),
    (29, 0.10, 0.07, -0.10),
)
# about where the neck meets the head; they do not turn with it
_NECK_PIVOT = (0, -0.7, -0.45)
_CLOTHES = (
    (0, -1.15, 0.3),
    (-0.55, -0.9, 0),
    (-2.1, -1.5, 0),
    (-2.4, -5, 0.2),
    (2.4, -5, 0.2),
    (2.1, -1.5, 0),
    (0.55, -0.9, 0),
)


@lru_cache(maxsize=8)
def _scene(model):
    return _Scene(model)


class _Scene:
    """The triangles of a wireframe and of what is about it, and how they are drawn."""

    def __init__(self, model):
        eyes, mouth = triangles_of_openings()
        half = len(eyes) // 2
        triangles = [np.asarray(model.triangles), eyes[:half], eyes[half:], mouth]
        owners = np.repeat(np.arange(4), [len(part) for part in triangles])
        self.blend, triangles, owners, middles = _curved(
            np.concatenate(triangles), owners, _CURVES
        )
        flat = drawn_model().vertices[:, :2]
        on_map = _on_map(self.blend @ flat)
        occlusion = np.ones(len(on_map))
        self._add_head(flat, middles)
        n_head = len(on_map) + len(self.anchors)
        neck, of_neck = _neck()
        collar = len(neck)
        self.body = np.concatenate([neck, _CLOTHES])
        of_clothes = [(0, i, i % 6 + 1) for i in range(1, 7)]
        behind = np.concatenate(
            [
                self.of_head + len(on_map),
                of_neck + n_head,
                np.array(of_clothes) + n_head + collar,
            ]
        )
        on_body = np.full((len(self.body), 2), _MAP_HEIGHT / 2)
        on_body[:collar, 0] = np.mean(_SKIN_COLUMNS[0])
        on_body[collar:, 0] = np.mean(_CLOTHES_COLUMNS)
        # the chin's shadow
        shadow = np.where(np.arange(collar) < collar // 2, 0.5, 0.9)
        self.triangles = np.concatenate([triangles, behind])
        self.on_map = np.concatenate([on_map, self.head_on_map, on_body])
        self.occlusion = np.concatenate(
            [occlusion, self.head_occlusion, shadow, np.ones(len(_CLOTHES))]
        )
        kind_of_owner = np.array([_FACE, _EYE, _EYE, _MOUTH])
        self.kinds = np.append(kind_of_owner[owners], np.full(len(behind), _BEHIND))
        # the hair that falls behind the neck, the neck and the clothes come first
        self.rank = np.full(len(self.triangles), 3)
        first = len(triangles) + len(self.of_head)
        self.rank[first - 2 : first] = 0
        self.rank[first : first + len(of_neck)] = 1
        self.rank[first + len(of_neck) :] = 2

        self.openings = np.flatnonzero(self.kinds >= _EYE)
        self.opened = self.triangles[self.openings]
        # of eyes the pupil
        self.origins = np.array([113, 114, -1])[owners[owners > 0] - 1]
        lit = np.ones(len(self.on_map))
        upper = _with_middles([_CURVES[0]], middles)
        lit[upper + _with_middles([partners()[list(_CURVES[0])]], middles)] = 0.5
        corners = [20, 23, 53, 56]
        lit[corners] = 0.7
        self.lit = lit[self.opened][..., None]
        self.lit[self.origins < 0] = 1
        incidence = np.zeros((len(self.on_map), len(self.triangles)), np.float32)
        for corner in self.triangles.T:
            incidence[corner, np.arange(len(self.triangles))] = 1
        # no edge where the back of the head begins
        rim = _with_middles([_RIM], middles)
        begun = np.arange(len(on_map), len(on_map) + len(rim))
        incidence[rim] += incidence[begun]
        incidence[begun] = incidence[rim]
        self.incidence = incidence
        self._add_folds(model.animation_names)

    def _add_head(self, flat, middles):
        """Add the back of the head, the ears and long hair about the rim of the face."""
        rim = _with_middles([_RIM], middles)
        n = len(rim)
        outline = self.blend[rim] @ flat
        outward = (outline - (0, 0.3)) * (1, 0.9)
        # hair stands off the skull, not the ears, and rounds the top of the head
        height = np.clip((outline[:, 1] + 0.3) / 0.4, 0.1, 1)[:, None]
        step = np.arange(n)
        rounding = np.clip(0.7 - np.abs(outline[:, :1]), 0, None) * (0, 1)
        hair = _in_depth((outward + rounding) * height, 0)
        columns = np.linspace(*_HAIR_COLUMNS, n)
        low = outline[:, 1] < 0.05
        skin_columns = np.array([_SKIN_COLUMNS[0], _SKIN_COLUMNS[-1]]).mean(1)
        columns[low] = np.where(step < n // 2, *skin_columns)[low]
        on_map = np.stack([columns, _on_map(outline)[:, 1]], axis=1)
        # vertex, offset from it, what hair and its length add, place on the map, light
        corners = []
        for offset, stands, light in (
            (np.zeros((n, 3)), 0, 1.0),
            (_in_depth(0 * outward, -0.12), 1, 0.95),
            (_in_depth(-0.18 * outward, -0.6), 1, 0.85),
        ):
            parts = zip(rim, offset, stands * hair, on_map, strict=True)
            corners += [(a, o, h, _STILL, place, light) for a, o, h, place in parts]
        following = np.roll(step, -1)
        triangles = []
        for ring in (0, n):
            for a, b in pairwise(ring + step):  # open at the nape
                # symmetrical diagonals
                left = a - ring < n // 2
                triangles.append((a, n + a, b if left else n + b))
                triangles.append((b, n + a if left else a, n + b))
        middle = _MAP_HEIGHT / 2
        apex = len(corners)
        triangles += [
            (2 * n + a, apex, 2 * n + b) for a, b in zip(step, following, strict=True)
        ]
        at = (np.mean(_HAIR_COLUMNS), middle)
        corners.append((0, (0, -1, -0.9), _STILL, _STILL, at, 0.7))

        skin = (np.mean(_SKIN_COLUMNS[0]), middle)
        partner = partners()
        for side in (1, -1):
            centre, *ring = range(len(corners), len(corners) + len(_EAR))
            for vertex, x, y, z in _EAR:
                anchor = vertex if side > 0 else partner[vertex]
                light = 0.95 if len(corners) > centre else 0.6
                corners.append((anchor, (side * x, y, z), _STILL, _STILL, skin, light))
            pairs = zip(ring, np.roll(ring, -side), strict=True)
            triangles += [(centre, a, b) for a, b in pairs]

        first = len(corners)
        for vertex, side, column in ((14, 1, -1), (47, -1, 0)):
            at, wide = (0.03 * side, 0, -0.2), (0.8 * side, 0, 0)
            high, low = ((_HAIR_COLUMNS[column], row) for row in (60, 200))
            corners.append((vertex, at, wide, _STILL, high, 0.8))
            corners.append((vertex, at, wide, (0.1 * side, -1, 0), low, 0.7))
        triangles += [(first, first + 2, first + 3), (first, first + 3, first + 1)]
        self.of_head = np.array(triangles)
        columns = (np.array(column) for column in zip(*corners, strict=True))
        self.anchors, self.offsets, self.away, self.falls, *shown = columns
        self.head_on_map, self.head_occlusion = shown

    def _add_folds(self, names):
        maps, folded = [], []
        left = np.clip(0.5 + _map_positions()[0] / 0.08, 0, 1)
        shares = {"left": left, "right": 1 - left}
        for index, name in enumerate(names):
            base, _, side = name.partition("_")
            if base in _fold_maps():
                maps.append((_fold_maps()[base] * shares.get(side, 1)).ravel())
                folded.append(index)
        self.fold_units = np.array(folded, np.intp)
        self.folds = np.array(maps, np.float32).reshape(len(maps), _MAP_HEIGHT * _MAP_WIDTH)

    def folded(self, skin, alpha):
        """Return the painted map with the folds that the units make."""
        strength = np.clip(alpha[self.fold_units], 0, 1).astype(np.float32)
        active = np.flatnonzero(strength)
        if not len(active):
            return skin
        dark = (strength[active] @ self.folds[active]).reshape(skin.shape)
        return skin * (1 - np.minimum(dark, 0.75))

    def place(self, vertices, pose, appearance):
        """Return where the vertices are seen, their depths and their light.

        After them come the places of the corners of the openings, by which these are
        drawn: in the eyes from the pupil, as if seen from before, in the mouth of the
        face that is not turned.
        """
        flat = self.blend @ vertices
        around = flat[self.anchors] + self.offsets
        if appearance.hair_line <= _NO_HAIR:
            around += appearance.hair_volume * self.away
            around += appearance.hair_length * self.falls
        rotation = rotation_matrix(pose[:3])
        head = np.concatenate([flat, around]) @ rotation.T
        turned = np.concatenate([head, self.body + rotation @ _NECK_PIVOT])
        points = pose[3] * turned[:, :2] * (1, -1) + pose[4:]
        places = flat[self.opened, :2]
        in_eye = self.origins >= 0
        pupils = turned[self.origins[in_eye], None, :2]
        places[in_eye] = (turned[self.opened[in_eye], :2] - pupils) @ _unturned(rotation)
        corners = turned[self.triangles]
        sides = corners[:, 1:] - corners[:, :1]
        normals = self.incidence @ np.cross(sides[:, 0], sides[:, 1])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        towards = np.asarray(appearance.light) / np.linalg.norm(appearance.light)
        lit = np.maximum(normals @ towards, 0)
        shade = appearance.ambient + (1 - appearance.ambient) * lit
        return points, turned[:, 2], shade * self.occlusion, places, flat

    def visible(self, points, depth, shade, places):
        """Return the triangles that face the camera, far ones first, with gradients."""
        values = np.concatenate([self.on_map, shade[:, None]], axis=1)[self.triangles]
        values[self.openings, :, :2] = places
        values[self.openings, :, 2:] *= self.lit
        corners = points[self.triangles]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
        order = np.lexsort((depth[self.triangles].mean(1), self.rank))
        # y points down: what faces the camera is clockwise
        order = order[(area < -1e-6)[order]]
        return order, _gradients(corners[order], values[order])


def _in_depth(plane, z):
    return np.column_stack([plane, np.full(len(plane), z)])


def _unturned(rotation):
    """Return what takes offsets in the image back into the plane of the face."""
    left, share, right = np.linalg.svd(rotation[:2, :2])
    # an eye is round: in profile too something of its iris is seen
    return (left / np.maximum(share, _LEAST_FORESHORTENING)) @ right


def _gradients(corners, values):
    """Return values (t, 3 corners, k) as a x + b y + c: (k, 3, t)."""
    start = corners[:, 0]
    (x1, y1), (x2, y2) = (corners[:, 1] - start).T, (corners[:, 2] - start).T
    area = x1 * y2 - y1 * x2
    along, across = (values[:, 1] - values[:, 0]).T, (values[:, 2] - values[:, 0]).T
    a = (along * y2 - across * y1) / area
    b = (across * x1 - along * x2) / area
    c = values[:, 0].T - a * start[:, 0] - b * start[:, 1]
    return np.stack([a, b, c], axis=1)


def _interpolate(gradients, covering, wide):
    """Return the values of each pixel from its triangle's gradients, 0 beside all."""
    k, _, n = gradients.shape
    table = np.zeros((k, 3, n + 1), np.float32)
    table[..., :n] = gradients
    x = np.arange(wide, dtype=np.float32)
    values = np.empty((k, wide, wide), np.float32)
    for value, (a, b, c) in zip(values, table, strict=True):
        np.multiply(a[covering], x, out=value)
        value += b[covering] * x[:, None]
        value += c[covering]
    return values


def _rasterise(corners, wide):
    """Return for each pixel the last triangle that covers its centre, or their number."""
    n = len(corners)
    x, y = corners[..., 0], corners[..., 1]
    first = np.clip(np.ceil(y.min(1)), 0, wide).astype(np.intp)
    n_rows = np.clip(np.ceil(y.max(1)), 0, wide).astype(np.intp) - first
    of = np.repeat(np.arange(n), n_rows)
    row = np.arange(len(of)) + np.repeat(first - np.cumsum(n_rows) + n_rows, n_rows)
    left, right = np.full(len(of), np.inf), np.full(len(of), -np.inf)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rise = y[:, b] - y[:, a]
        slope = (x[:, b] - x[:, a]) / np.where(rise == 0, 1, rise)
        at = (x[:, a] - slope * y[:, a])[of] + row * slope[of]
        crossed = (y[:, a][of] <= row) != (y[:, b][of] <= row)
        left = np.where(crossed, np.minimum(left, at), left)
        right = np.where(crossed, np.maximum(right, at), right)
    begin = np.clip(np.ceil(left), 0, wide)
    length = np.maximum(np.clip(np.ceil(right), 0, wide) - begin, 0).astype(np.intp)
    start = row * wide + begin.astype(np.intp)
    pixels = np.arange(length.sum()) + np.repeat(start - np.cumsum(length) + length, length)
    covering = np.full(wide * wide, n, np.intp)
    covering[pixels] = np.repeat(of, length)
    return covering.reshape(wide, wide)


def _curved(triangles, owners, curves):
    """Put a vertex onto the middle of each edge along the curves, and split triangles.

    Returns the matrix from old to new vertices, the triangles, their owners and the new
    vertex of each edge.
    """
    triangles = [tuple(int(i) for i in triangle) for triangle in triangles]
    owners = list(owners)
    known, every = set(), set()
    for a, b, c in triangles:
        every |= {frozenset(edge) for edge in ((a, b), (b, c), (c, a))}
    partner = partners()
    rows, middles = list(np.eye(N_VERTICES)), {}
    for curve in [*curves, *(tuple(partner[list(curve)]) for curve in curves)]:
        for position, edge in enumerate(pairwise(int(i) for i in curve)):
            key = frozenset(edge)
            if key in known or key not in every:
                continue
            known.add(key)
            middles[key] = len(rows)
            rows.append(_middle_of_curve(curve, position))
            triangles, owners = _split(triangles, owners, edge, middles[key])
    return np.array(rows), np.array(triangles), np.array(owners), middles


def _middle_of_curve(curve, position):
    """Return the weights of the vertices in a smooth curve's middle between two."""
    weights = np.zeros(N_VERTICES)
    start, end = curve[position : position + 2]
    before = curve[position - 1] if position > 0 else None
    after = curve[position + 2] if position + 2 < len(curve) else None
    weights[start] += 9 / 16
    weights[end] += 9 / 16
    for outer, near, far in ((before, start, end), (after, end, start)):
        if outer is None:  # the curve goes on as it came
            weights[near] -= 2 / 16
            weights[far] += 1 / 16
        else:
            weights[outer] -= 1 / 16
    return weights


def _split(triangles, owners, edge, middle):
    divided, owned = [], []
    for triangle, owner in zip(triangles, owners, strict=True):
        if not set(edge) <= set(triangle):
            divided.append(triangle)
            owned.append(owner)
            continue
        first = next(i for i in range(3) if triangle[i - 1] not in edge)
        a, b, c = (triangle[(first + i) % 3] for i in range(3))
        divided += [(a, middle, c), (middle, b, c)]
        owned += [owner, owner]
    return divided, owned


def _with_middles(curves, middles):
    """Return the vertices of curves with those on the middles of their edges."""
    found = []
    for curve in curves:
        for start, end in pairwise(int(i) for i in curve):
            found.append(start)
            middle = middles.get(frozenset((start, end)))
            found += [] if middle is None else [middle]
        found.append(int(curve[-1]))
    return found


def _neck():
    """Return the corners of the neck's front, about its pivot, and the triangles."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 7)
    x, z = 0.5 * np.sin(angle), 0.42 * np.cos(angle) - 0.2
    top = np.stack([x, np.full(7, 0.1), z], axis=1)
    low = np.stack([1.15 * x, np.full(7, -1.3), z], axis=1)
    triangles = []
    for i in range(6):
        triangles += [(i, i + 7, i + 1), (i + 1, i + 7, i + 8)]
    return np.concatenate([top, low]), np.array(triangles)


# What is not on the map

_LEAST_FORESHORTENING = 0.35
_IRIS_RADIUS, _PUPIL_RADIUS, _GLINT_RADIUS = 0.066, 0.026, 0.014
_TEETH_HEIGHT = 0.055


def _eye_tone(x, y, appearance):
    """Return the eyeball's tone at offsets from the pupil in outer eye distances."""
    distance = np.hypot(x, y)
    white = 0.62 + 0.28 * appearance.skin
    tone = np.where(distance < _IRIS_RADIUS, 1 - appearance.iris, white)
    rim = np.abs(distance - _IRIS_RADIUS) < 0.008
    tone[rim] *= 0.6
    tone[distance < _PUPIL_RADIUS] = 0.02
    right, up, _ = np.asarray(appearance.light) / np.linalg.norm(appearance.light)
    glint = np.hypot(x - 0.035 * right, y - 0.035 * up) < _GLINT_RADIUS
    tone[glint] = 0.95
    return tone


def _mouth_tone(x, y, flat):
    """Return the tone in the open mouth, at places of the unturned face."""
    tone = np.full(len(x), 0.07, np.float32)
    low = flat[_LOWER_LIP, 1]
    tongue = (x / 0.17) ** 2 + ((y - low) / 0.1) ** 2 < 1
    tone[tongue] = 0.2
    edge = flat[_TEETH, 1] - _TEETH_HEIGHT
    teeth = (y > edge) & (np.abs(x) < 0.2)
    tone[teeth] = 0.82 - 1.6 * np.abs(x[teeth]) ** 1.5
    return tone


def _background(appearance, wide):
    """Paint what is behind the person."""
    import cv2

    rng = np.random.default_rng(appearance.background_seed)
    spread = appearance.background_range
    if appearance.background == 0:
        uneven = np.zeros((wide, wide), np.float32)
    elif appearance.background == 1:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.linspace(-0.5, 0.5, wide, dtype=np.float32)
        uneven = spread * (np.cos(angle) * along + np.sin(angle) * along[:, None])
    else:
        n = int(rng.integers(3, 12))
        coarse = 0.35 * spread * rng.standard_normal((n, n)).astype(np.float32)
        uneven = cv2.resize(coarse, (wide, wide), interpolation=cv2.INTER_CUBIC)
    return np.clip(appearance.background_tone + uneven, 0, 1)
