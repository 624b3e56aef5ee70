"""Render wireframe faces as shaded gray images of varied people.

Each person has one texture map. For each image, the triangles are rasterized in order of
depth, with tones from the map and light from the vertices. Eyes, teeth and background are
computed separately. Where an edge crosses a pixel, and in eyes and mouth, the tone is the
mean of four samples per pixel instead of one.
"""

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import ArrayLike
from tqdm import tqdm

from ferpipe.candide.model import CandideModel
from ferpipe.candide.template import N_VERTICES
from ferpipe.synthesis.appearance import Appearance, random_appearance
from ferpipe.synthesis.raster import find_sides, interpolate, rasterize
from ferpipe.synthesis.scene import BACKGROUND, EYE, MOUTH, Scene, scene_of
from ferpipe.synthesis.texture import FINENESS, N_LEVELS, find_folds, fold, paint

__all__ = ["Appearance", "random_appearance", "render", "render_faces"]

_SMALLEST_SIZE = 16
# faces whose geometry is computed together
_BATCH = 16
# faces of a task: one process renders them in about a quarter of a second
_TASK = 16 * _BATCH
# offsets of the four samples from the center of a pixel: the centers of its quarters
_ACROSS = np.array([-0.25, 0.25, -0.25, 0.25], np.float32)[:, None, None]
_DOWN = np.array([-0.25, -0.25, 0.25, 0.25], np.float32)[:, None, None]
# pixels with four samples are arranged in rows: cv2 samples at most 2^15 per row
_WIDTH = 64


def render(
    model: CandideModel,
    parameters: ArrayLike,
    appearance: Appearance,
    size: int,
    *,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Render one face.

    Parameters
    ----------
    model : CandideModel
        The wireframe, with the vertices of
        :func:`~ferpipe.candide.template.template_model`. The names of its action units
        select the folds of the skin.
    parameters : array-like of shape (n_parameters,)
        As the model's ``parameter_names`` lists them.
    appearance : Appearance
        The appearance of person and image.
    size : int
        Width and height of the image in pixels, at least 16.
    rng : numpy.random.Generator, optional
        The source of the noise; the same for every call by default.

    Returns
    -------
    image : ndarray of shape (size, size), uint8

    Raises
    ------
    ValueError
        If the number of parameters is not that of the model, a parameter is not finite, the
        scale is not positive, the size is below 16, or the model has other vertices.
    """
    parameters = _check(model, parameters, size, 1)
    rng = rng or np.random.default_rng(0)
    return _render(model, parameters[None], [appearance], size, [rng])[0]


def render_faces(
    model: CandideModel,
    parameters: ArrayLike,
    appearances: Sequence[Appearance],
    size: int,
    *,
    n_jobs: int | None = None,
    random_state: int = 0,
    verbose: bool = False,
) -> np.ndarray:
    """Render many faces.

    Parameters
    ----------
    model : CandideModel
        The wireframe, as for :func:`render`.
    parameters : array-like of shape (n, n_parameters)
        As the model's ``parameter_names`` lists them.
    appearances : sequence of Appearance
        One for each face. Rendering is faster if images of one person are adjacent.
    size : int
        Width and height of the images in pixels, at least 16.
    n_jobs : int, optional
        Number of processes, as for joblib; a few hundred faces or fewer use one. The images
        do not depend on it.
    random_state : int, default=0
        Seed of the noise, 0 or more.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    images : ndarray of shape (n, size, size), uint8

    Raises
    ------
    ValueError
        As :func:`render`, or if the numbers of appearances and faces differ.
    """
    parameters = _check(model, parameters, size, 2)
    n = len(parameters)
    if len(appearances) != n:
        raise ValueError(
            f"Each face needs one appearance: got {len(appearances)} appearances of {n} "
            "faces."
        )
    starts = range(0, n, _TASK)
    run = Parallel(
        n_jobs=max(min(effective_n_jobs(n_jobs), len(starts)), 1), return_as="generator"
    )
    rendered = run(
        delayed(_render_batches)(
            model,
            parameters[start : start + _TASK],
            appearances[start : start + _TASK],
            size,
            random_state,
            start,
        )
        for start in starts
    )
    images = np.empty((n, size, size), np.uint8)
    with tqdm(total=n, desc="rendering", unit="face", disable=not verbose) as progress:
        for start, part in zip(starts, rendered, strict=True):
            images[start : start + len(part)] = part
            progress.update(len(part))
    return images


def _render_batches(
    model: CandideModel,
    parameters: np.ndarray,
    appearances: Sequence[Appearance],
    size: int,
    random_state: int,
    start: int,
) -> np.ndarray:
    """Render faces in batches; the noise depends on ``start``, the first face's index."""
    n = len(parameters)
    images = np.empty((n, size, size), np.uint8)
    for first in range(0, n, _BATCH):
        batch = slice(first, min(first + _BATCH, n))
        rngs = [
            np.random.default_rng((random_state, start + index))
            for index in range(batch.start, batch.stop)
        ]
        images[batch] = _render(model, parameters[batch], appearances[batch], size, rngs)
    return images


def _check(
    model: CandideModel, parameters: ArrayLike, size: int, n_dimensions: int
) -> np.ndarray:
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
            f"Only a wireframe with the {N_VERTICES} vertices of template_model can be "
            f"rendered; this one has {len(model.vertices)}."
        )
    return parameters


def _render(
    model: CandideModel,
    parameters: np.ndarray,
    appearances: Sequence[Appearance],
    size: int,
    rngs: Sequence[np.random.Generator],
) -> np.ndarray:
    pose, sigma, alpha = model.split(parameters)
    scene = scene_of(model)
    view = scene.view(model.shape(sigma, alpha), pose, appearances)
    folds = find_folds(tuple(model.animation_names))
    levels = np.rint(np.log2(FINENESS / pose[:, 3])).clip(0, N_LEVELS - 1)
    sides, heights = find_sides(*(2 * view.corners + 0.5))
    images = np.empty((len(parameters), size, size), np.uint8)
    for i, (appearance, level) in enumerate(
        zip(appearances, levels.astype(int).tolist(), strict=True)
    ):
        order = view.orders[i]
        quarters = rasterize(
            sides[i][:, order],
            heights[i][:, order],
            order.astype(np.int16),
            scene.background,
            2 * size,
        )
        skin = fold(paint(appearance, level), folds[level], alpha[i])
        tones = _color(
            scene, quarters, view.gradients[i], skin, level, appearance, view.flat[i]
        )
        images[i] = _develop(tones, appearance, rngs[i])
    return images


def _color(
    scene: Scene,
    quarters: np.ndarray,
    gradients: np.ndarray,
    skin: np.ndarray,
    level: int,
    appearance: Appearance,
    flat: np.ndarray,
) -> np.ndarray:
    """Return the tones of an image from the triangles at the quarters of its pixels."""
    size = len(quarters) // 2
    quarters = quarters.reshape(size, 2, size, 2).transpose(1, 3, 0, 2).reshape(4, -1)
    along = np.arange(size, dtype=np.float32)
    behind = _background(appearance, size)

    labels = quarters[0].reshape(size, size).astype(np.intp)
    column, row, light = interpolate(gradients, labels, along, along[:, None])
    tones = _sample(skin, column, row, level)
    tones *= light
    np.copyto(tones, behind, where=labels == scene.background)

    edges = _find_edges(scene, quarters)
    if not len(edges):
        return tones
    labels = quarters[:, edges].astype(np.intp)
    rows, columns = np.divmod(edges, size, dtype=np.float32)
    x, y, light = interpolate(gradients, labels, columns + _ACROSS, rows + _DOWN)
    samples = _sample(skin, x.reshape(-1, _WIDTH), y.reshape(-1, _WIDTH), level)
    samples = samples.reshape(labels.shape)
    kinds = scene.kinds[labels]
    eye, mouth = np.nonzero(kinds == EYE), np.nonzero(kinds == MOUTH)
    samples[eye] = _eye_tone(x[eye], y[eye], appearance)
    samples[mouth] = _mouth_tone(x[mouth], y[mouth], flat)
    samples *= light
    samples = np.where(kinds == BACKGROUND, behind.ravel()[edges], samples)
    tones.ravel()[edges] = samples.mean(0)
    return tones


def _find_edges(scene: Scene, quarters: np.ndarray) -> np.ndarray:
    """Return the pixels that need four samples, some repeated: (k, _WIDTH).

    They are the pixels whose quarters (4, n) show several surfaces, and all of eyes and
    mouth.
    """
    first, *others = quarters
    close = (first != others[0]) | (first != others[1]) | (first != others[2])
    mixed = np.flatnonzero(close)
    first, *others = quarters[:, mixed].astype(np.intp)
    close[mixed] = ~np.all([scene.smooth[first, other] for other in others], axis=0)
    close |= scene.open.take(quarters[0])
    edges = np.flatnonzero(close)
    return np.resize(edges, (-(-len(edges) // _WIDTH), _WIDTH))


def _sample(
    skin: np.ndarray, column: np.ndarray, row: np.ndarray, level: int
) -> np.ndarray:
    """Sample the map of a level at positions given in pixels of the finest level."""
    import cv2

    share = 0.5**level
    shift = 0.5 * share - 0.5
    column, row = (share * place + shift for place in (column, row))
    return cv2.remap(skin, column, row, cv2.INTER_LINEAR)


def _develop(
    tones: np.ndarray, appearance: Appearance, rng: np.random.Generator
) -> np.ndarray:
    """Apply blur, brightness, contrast and noise to an image."""
    import cv2

    if appearance.blur > 0:
        tones = cv2.GaussianBlur(tones, (0, 0), appearance.blur)
    tones *= 255 * appearance.contrast * appearance.brightness
    tones += 127.5 * (1 - appearance.contrast)
    if appearance.noise > 0:
        tones += appearance.noise * rng.standard_normal(tones.shape, np.float32)
    return np.rint(np.clip(tones, 0, 255, out=tones), out=tones)


# Tones that are not on the map

_TEETH, _LOWER_LIP = 115, 40
_IRIS_RADIUS, _PUPIL_RADIUS, _GLINT_RADIUS = 0.066, 0.026, 0.014
_TEETH_HEIGHT = 0.055


def _eye_tone(x: np.ndarray, y: np.ndarray, appearance: Appearance) -> np.ndarray:
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


def _mouth_tone(x: np.ndarray, y: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Return the tone in the open mouth, at positions of the unrotated face."""
    tone = np.full(len(x), 0.07, np.float32)
    low = flat[_LOWER_LIP, 1]
    tongue = (x / 0.17) ** 2 + ((y - low) / 0.1) ** 2 < 1
    tone[tongue] = 0.2
    edge = flat[_TEETH, 1] - _TEETH_HEIGHT
    teeth = (y > edge) & (np.abs(x) < 0.2)
    tone[teeth] = 0.82 - 1.6 * np.abs(x[teeth]) ** 1.5
    return tone


def _background(appearance: Appearance, size: int) -> np.ndarray:
    """Return the tones of the background."""
    import cv2

    tone, spread = np.float32(appearance.background_tone), appearance.background_range
    if appearance.background == 0:
        return np.full((size, size), np.clip(tone, 0, 1))
    rng = np.random.default_rng(appearance.background_seed)
    if appearance.background == 1:
        angle = rng.uniform(0, 2 * np.pi)
        along = np.linspace(-0.5 * spread, 0.5 * spread, size, dtype=np.float32)
        uneven = np.float32(np.cos(angle)) * along
        uneven = uneven + np.float32(np.sin(angle)) * along[:, None]
    else:
        n = int(rng.integers(3, 12))
        coarse = 0.35 * spread * rng.standard_normal((n, n), np.float32)
        noise = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        uneven = np.asarray(noise, np.float32)
    uneven += tone
    return np.clip(uneven, 0, 1, out=uneven)
