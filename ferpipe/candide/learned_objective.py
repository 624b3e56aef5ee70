"""LearnedObjective: how far places are from where a face's point is, by regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

import ferpipe
from ferpipe._compat import HasMethods, Interval, fit_context
from ferpipe.candide.box_features import BoxFeatures, box_pool, mirrored_boxes
from ferpipe.candide.displacement import displace
from ferpipe.candide.indicators import search_indicators
from ferpipe.candide.objective import check_gray
from ferpipe.candide.tree_arrays import TreeArrays, can_flatten
from ferpipe.candide.visible_points import (
    as_visible,
    contour_normals,
    mean_shape,
    visible_partners,
)
from ferpipe.geometry import (
    compose,
    fit_similarity,
    invert,
    similarity,
    transform_points,
    warp,
)

__all__ = ["LearnedObjective", "load_objective", "save_objective"]

_OWN = Path(ferpipe.__file__).parent / "pretrained" / "objective" / "objective.npz"
# pixels in an outer eye distance in crops, and the crops' side in pixels
_UNIT, _SIDE = 48, 168
_STRIDE = (_SIDE + 1) ** 2
# of the faces: kept apart to measure how exact the minima are
_KEPT = 0.1
# places on its search line that each displaced face gives to training
_PLACES_A_LINE = 2
# what the first fit, which chooses features, sees
_FIRST_ROWS = 3000
# candidates for the minimum, a line's reach to either side and a little beyond
_CANDIDATES = np.linspace(-1.3, 1.3, 53)
# minima that follow the truth less than this tell nothing
_LEAST_GAIN = 0.05
_LEAST_NOISE = 1e-3
_STORED = ("reach", "boxes", "columns", "thresholds", "leaves", "gain", "noise")
# Lines err alike where they are near each other and in strange faces: how much what all
# of them say counts, beside what it would if each erred by itself
_SHARE = 0.4
_SMOOTHING = np.array([1, 4, 6, 4, 1]) / 16
# integral images, gains, and the points where lines begin and where they belong
_Crops = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class LearnedObjective(BaseEstimator):
    """Objective that is learned from annotated faces.

    For every visible point of the wireframe a regressor learns, from differences of the
    mean brightness of boxes round a place on the point's search line, how far that place is
    from the annotated one: the ideal objective, which has one minimum and has it at the
    right place [1]_. There are two lines a point, across its contour and along it, and
    stages whose lines get shorter.

    Parameters
    ----------
    regressor : regressor, default=None
        Learns the distance of a place from few box features. None takes gradient boosting
        of 32 trees of 5 levels. Trees, forests and gradient boosting of scikit-learn of at
        most 8 levels are evaluated all at once; other regressors one by one, which is
        slower.
    reaches : tuple of float, default=(0.3, 0.15, 0.075)
        Half the length of the search lines of each stage, in outer eye distances.
    n_samples : int, default=13
        Places on a search line that are looked at, odd or even.
    n_features : int, default=24
        Box features that each regressor keeps, of 588.
    n_displacements : int, default=4
        How often each face is displaced to train on, and its mirror image as often.
    random_state : int, RandomState or None, default=None
        Draws displacements and places, and seeds the regressors that have a seed.
    verbose : bool, default=False
        Show a progress bar in fit.

    Attributes
    ----------
    mean_points_ : ndarray of shape (k, 2)
        Visible points of the mean face; its outer eye distance is 1.
    stages_ : list
        What each stage has learned.
    n_stages : int
        How many stages there are.

    See Also
    --------
    ferpipe.candide.optimizer.fit_objective : Fits the wireframe by it.

    Notes
    -----
    Differences from [1]_: box features are computed in a crop that is turned and scaled
    upright by the present points, so that they mean the same in all faces, and divided by
    the crop's standard deviation. Boosted trees stand for the paper's single trees with
    linear leaves. A line's minimum is not the lowest sample but the minimum of the ideal
    objective ``|offset - minimum|`` nearest to all samples by least squares, which errs
    less. How far these minima follow the truth, and with what error, is measured on a
    tenth of the faces that the regressors do not see, and decides how sure targets are.
    Left and right points share what is learned, mirrored. The values that are shown and of
    which the indicators are measured are smoothed over five samples, because trees are
    steps.

    References
    ----------
    .. [1] M. Wimmer, F. Stulp, S. Pietzsch, B. Radig, "Learning local objective functions
       for robust face model fitting", IEEE TPAMI 30(8), 2008, 1357-1370.
    """

    _parameter_constraints: dict = {
        "regressor": [HasMethods(["fit", "predict"]), None],
        "reaches": [tuple, list],
        "n_samples": [Interval(Integral, 3, None, closed="left")],
        "n_features": [Interval(Integral, 1, 255, closed="both")],
        "n_displacements": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        *,
        regressor: Any = None,
        reaches: tuple[float, ...] = (0.3, 0.15, 0.075),
        n_samples: int = 13,
        n_features: int = 24,
        n_displacements: int = 4,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.regressor = regressor
        self.reaches = reaches
        self.n_samples = n_samples
        self.n_features = n_features
        self.n_displacements = n_displacements
        self.random_state = random_state
        self.verbose = verbose

    @property
    def n_stages(self) -> int:
        """How many stages there are, from coarse to fine."""
        return len(self.reaches)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, images: Sequence[np.ndarray], points: ArrayLike) -> Self:
        """Learn from annotated faces.

        Parameters
        ----------
        images : list of ndarray of shape (h_i, w_i), uint8
            Gray.
        points : ndarray of shape (n, 68, 2) or (n, k, 2)
            The 68 points of their faces, or those that the wireframe's visible vertices
            are compared with; in pixels.

        Returns
        -------
        self : LearnedObjective

        Raises
        ------
        ValueError
            If there are not as many images as faces, fewer than 20, or points of another
            number or not finite, or a reach is not positive.
        TypeError, ValueError
            If an image is not gray and of 8 bits.
        """
        points = as_visible(points)
        if len(images) != len(points) or len(images) < 20:
            raise ValueError(
                "Training needs at least 20 images with the points of a face each, got "
                f"{len(images)} images and the points of {len(points)} faces."
            )
        if not all(isinstance(reach, Real) and reach > 0 for reach in self.reaches):
            raise ValueError(f"reaches must be positive numbers, got {self.reaches!r}.")
        for image in images:
            check_gray(image)
        rng = check_random_state(self.random_state)
        self.mean_points_ = mean_shape(points)
        images, points = _with_mirrored(images, points)
        # a face and its mirror image stay on one side
        kept = np.tile(_some(len(points) // 2, _KEPT, rng), 2)
        n_lines = 2 * len(_half())
        progress = tqdm(
            total=len(self.reaches) * n_lines, desc="lines", disable=not self.verbose
        )
        self.stages_ = []
        with progress:
            for reach in self.reaches:
                learned, measured = (
                    self._displaced_crops(images, points, reach, np.flatnonzero(part), rng)
                    for part in (~kept, kept)
                )
                lines = []
                for line in range(n_lines):
                    lines.append(self._learn_line(line, reach, learned, measured, rng))
                    progress.update()
                boxes, regressors, gain, noise = zip(*lines, strict=True)
                self.stages_.append(
                    _Stage(
                        float(reach),
                        np.array(boxes),
                        _as_arrays(regressors, self.n_features),
                        np.array(gain),
                        np.array(noise),
                    )
                )
        return self

    def prepare(self, image: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return the image: every stage looks at it anew.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        points : ndarray of shape (k, 2)
            Not used.
        """
        return image

    def find_targets(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tell where points should go, and how sure that is across and along contours.

        Parameters
        ----------
        prepared, points, normals, unit, stage
            As :class:`ferpipe.candide.objective.Objective` says.

        Returns
        -------
        targets : ndarray of shape (k, 2)
            In pixels.
        precisions : ndarray of shape (k, 2, 2)
            Per squared pixel.
        """
        offsets, values = self._raw_values(prepared, points, normals, stage)
        gain, noise = self.stages_[stage].lines.gain, self.stages_[stage].lines.noise
        known = gain > _LEAST_GAIN
        found = nearest_minima(offsets, values) / np.where(known, gain, np.inf)
        sure = np.where(known, _SHARE * (gain / (noise * unit)) ** 2, 0).reshape(2, -1, 1)
        directions = np.stack([normals, _tangents(normals)])
        targets = points + unit * (found.reshape(2, -1, 1) * directions).sum(0)
        outer = directions[..., :, None] * directions[..., None, :]
        return targets, (sure[..., None] * outer).sum(0)

    def values(
        self,
        prepared: np.ndarray,
        points: np.ndarray,
        normals: np.ndarray,
        unit: float,
        stage: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the learned distances along search lines across the contours.

        Parameters
        ----------
        prepared, points, normals, unit, stage
            As :class:`ferpipe.candide.objective.Objective` says.

        Returns
        -------
        offsets : ndarray of shape (n_samples,)
            In outer eye distances.
        values : ndarray of shape (k, n_samples)
            The same, smoothed over five samples.
        """
        offsets, values = self._raw_values(prepared, points, normals, stage)
        padded = np.pad(values[: len(points)], ((0, 0), (2, 2)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 5, axis=1)
        return offsets, windows @ _SMOOTHING

    def indicators(
        self,
        images: Sequence[np.ndarray],
        points: ArrayLike,
        *,
        stage: int = -1,
        tolerance: float = 0.03,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Measure P1 and P2 of a stage, on lines displaced as it was trained.

        Parameters
        ----------
        images, points, stage, tolerance, random_state
            As for :func:`ferpipe.candide.indicators.search_indicators`.

        Returns
        -------
        indicators : Bunch
        """
        check_is_fitted(self)
        return search_indicators(
            self,
            images,
            points,
            reach=self.reaches[stage],
            stage=stage,
            tolerance=tolerance,
            random_state=random_state,
        )

    def _displaced_crops(
        self,
        images: Sequence[np.ndarray],
        points: np.ndarray,
        reach: float,
        chosen: np.ndarray,
        rng: np.random.RandomState,
    ) -> _Crops:
        """Return integral images of displaced faces, and lines and truth in their crops."""
        import cv2

        crops, gains, starts, truths = [], [], [], []
        for _ in range(self.n_displacements):
            shapes = displace(points[chosen], reach, self.mean_points_, rng)
            for number, shape in zip(chosen, shapes, strict=True):
                to_crop = self._to_crop(shape)
                crop = warp(images[number], to_crop, (_SIDE, _SIDE))
                crops.append(cv2.integral(crop).ravel())
                gains.append(_gain(crop))
                starts.append(transform_points(to_crop, shape))
                truths.append(transform_points(to_crop, points[number]))
        return np.concatenate(crops), np.array(gains), np.array(starts), np.array(truths)

    def _learn_line(
        self,
        line: int,
        reach: float,
        learned: _Crops,
        measured: _Crops,
        rng: np.random.RandomState,
    ) -> tuple[np.ndarray, Any, float, float]:
        """Choose the features of one line, fit its regressor and measure its minima."""
        integrals, gains, starts, directions, places = _line_of(line, *learned)
        n = len(starts)
        offsets = rng.uniform(-reach, reach, (n, _PLACES_A_LINE))
        distances = np.abs(offsets - places[:, None])

        def describe(
            boxes: np.ndarray, rows: np.ndarray, offsets: np.ndarray
        ) -> np.ndarray:
            features = BoxFeatures(boxes, _SIDE)
            where = starts[rows, None] + offsets[..., None] * directions[rows, None] * _UNIT
            index = features.index(where) + rows[:, None] * _STRIDE
            X = features.describe(integrals, index.ravel())
            return X * np.repeat(gains[rows], offsets.shape[1])[:, None]

        pool = box_pool()
        first = rng.permutation(n)[:_FIRST_ROWS]
        seed = rng.randint(2**31 - 1)
        chooser = GradientBoostingRegressor(
            n_estimators=50,
            learning_rate=0.2,
            max_depth=3,
            max_features=0.05,
            subsample=0.5,
            min_samples_leaf=10,
            random_state=seed,
        )
        chooser.fit(describe(pool, first, offsets[first, :1]), distances[first, 0])
        best = np.argsort(-chooser.feature_importances_, kind="stable")
        boxes = pool[best[: self.n_features]]

        regressor = self._new_regressor(seed)
        regressor.fit(describe(boxes, np.arange(n), offsets), distances.ravel())

        integrals, gains, starts, directions, places = _line_of(line, *measured)
        rows, samples = np.arange(len(starts)), self._offsets(reach)
        offsets = np.tile(samples, (len(starts), 1))
        X = describe(boxes, rows, offsets)
        found = nearest_minima(samples, regressor.predict(X).reshape(offsets.shape))
        within = np.abs(places) < reach
        gain, noise = _response(places[within], found[within])
        return boxes, regressor, gain, noise

    def _new_regressor(self, seed: int) -> Any:
        if self.regressor is None:
            return GradientBoostingRegressor(
                n_estimators=32,
                learning_rate=0.25,
                max_depth=5,
                max_features=0.3,
                subsample=0.4,
                min_samples_leaf=20,
                random_state=seed,
            )
        regressor = clone(self.regressor)
        if "random_state" in regressor.get_params():
            regressor.set_params(random_state=seed)
        return regressor

    def _offsets(self, reach: float) -> np.ndarray:
        return np.linspace(-reach, reach, self.n_samples)

    def _to_crop(self, points: np.ndarray) -> np.ndarray:
        """Return the transform to the crop in which a face stands upright."""
        middle = (self.mean_points_.min(0) + self.mean_points_.max(0)) / 2
        to_crop = similarity(_UNIT, 0, middle, 2 * [(_SIDE - 1) / 2])
        return compose(to_crop, invert(fit_similarity(self.mean_points_, points)))

    def _raw_values(
        self, image: np.ndarray, points: np.ndarray, normals: np.ndarray, stage: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets, and what the regressors say of lines across and then along."""
        import cv2

        check_is_fitted(self)
        lines = self.stages_[stage].lines
        to_crop = self._to_crop(points)
        crop = warp(image, to_crop, (_SIDE, _SIDE))
        offsets = self._offsets(self.stages_[stage].reach)
        starts = transform_points(to_crop, points)
        across = normals @ to_crop[:, :2].T
        across *= _UNIT / np.linalg.norm(across, axis=1, keepdims=True)
        directions = np.concatenate([across, _tangents(across)])
        places = np.tile(starts, (2, 1))[:, None] + offsets[:, None] * directions[:, None]
        features = lines.boxes
        X = features.describe(cv2.integral(crop).ravel(), features.index(places))
        return offsets, lines.predict(X * _gain(crop))


@dataclass
class _Stage:
    """What one stage has learned, on the half of the lines whose points are not mirrored.

    Attributes
    ----------
    reach : float
        Half the length of its search lines, in outer eye distances.
    boxes : ndarray of shape (n_half, n_features, 2, 4), int
        Features of each line: first those across the contours, then those along them.
    regressors : TreeArrays or list of regressors
        Of the same lines.
    gain, noise : ndarray of shape (n_half,)
        Minima are at ``gain`` times the true place but for errors of the standard deviation
        ``noise``, in outer eye distances.
    """

    reach: float
    boxes: np.ndarray
    regressors: Any
    gain: np.ndarray
    noise: np.ndarray

    @cached_property
    def lines(self) -> "_Lines":
        """The lines of both halves."""
        partner, half = visible_partners(), _half()
        points = np.arange(len(partner))
        of_half = np.searchsorted(half, np.minimum(points, partner))
        source = np.concatenate([of_half, of_half + len(half)])
        other = np.tile(partner < points, 2)
        boxes = self.boxes[source]
        boxes[other] = mirrored_boxes(boxes[other])
        regressors: TreeArrays | list[Any]
        if isinstance(self.regressors, TreeArrays):
            regressors = self.regressors.take(source)
        else:
            regressors = [self.regressors[number] for number in source]
        return _Lines(
            BoxFeatures(boxes, _SIDE), regressors, self.gain[source], self.noise[source]
        )


@dataclass
class _Lines:
    """The lines of all points, ready to be evaluated."""

    boxes: BoxFeatures
    regressors: Any
    gain: np.ndarray
    noise: np.ndarray

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict the distances of places (n_lines, n_samples) from their features."""
        if isinstance(self.regressors, TreeArrays):
            return self.regressors.predict(X)
        pairs = zip(self.regressors, X, strict=True)
        return np.stack([regressor.predict(rows) for regressor, rows in pairs])


def nearest_minima(offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find the ideal objectives that are nearest to values along search lines.

    Parameters
    ----------
    offsets : ndarray of shape (n_samples,)
        Of the samples, from minus to plus a line's reach.
    values : ndarray of shape (n_lines, n_samples)
        Learned distances.

    Returns
    -------
    minima : ndarray of shape (n_lines,)
        Each the m that minimizes ``sum((values - abs(offsets - m)) ** 2)``, to a twentieth
        of the reach; at most 1.3 times the reach away.
    """
    minima = _CANDIDATES * offsets[-1]
    ideal = np.abs(minima[:, None] - offsets)
    off = (ideal**2).sum(1) - 2 * values @ ideal.T
    return minima[off.argmin(1)]


@cache
def _half() -> np.ndarray:
    """Return the visible points of the left side and of the middle."""
    partner = visible_partners()
    return np.flatnonzero(partner >= np.arange(len(partner)))


def _tangents(normals: np.ndarray) -> np.ndarray:
    return np.stack([normals[..., 1], -normals[..., 0]], axis=-1)


def _line_of(
    line: int,
    integrals: np.ndarray,
    gains: np.ndarray,
    starts: np.ndarray,
    truths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return one line's starts, directions and true places in all crops."""
    half = _half()
    point = half[line % len(half)]
    directions = contour_normals(starts)[:, point]
    if line >= len(half):
        directions = _tangents(directions)
    off = truths[:, point] - starts[:, point]
    places = (off * directions).sum(1) / _UNIT
    return integrals, gains, starts[:, point], directions, places


def _with_mirrored(
    images: Sequence[np.ndarray], points: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Add the mirror image of every face."""
    widths = np.array([image.shape[1] for image in images])
    mirrored = (points * (-1, 1))[:, visible_partners()]
    mirrored[..., 0] += widths[:, None] - 1
    flipped = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    return [*images, *flipped], np.concatenate([points, mirrored])


def _some(n: int, share: float, rng: np.random.RandomState) -> np.ndarray:
    """Choose a share of n things."""
    chosen = np.zeros(n, bool)
    chosen[rng.permutation(n)[: max(1, round(share * n))]] = True
    return chosen


def _gain(crop: np.ndarray) -> np.float32:
    """Return what a crop's brightness is multiplied by."""
    border = _SIDE // 6
    return np.float32(1 / max(crop[border:-border, border:-border].std(), 1.0))


def _response(places: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return how far found minima follow the true places, and their other errors."""
    spread = places.var()
    if len(places) < 3 or spread == 0:
        return 0.0, 1.0
    gain = ((places - places.mean()) * (found - found.mean())).mean() / spread
    noise = np.sqrt(((found - gain * places) ** 2).mean())
    return float(max(gain, 0)), float(max(noise, _LEAST_NOISE))


def _as_arrays(regressors: Sequence[Any], n_features: int) -> TreeArrays | list[Any]:
    """Write regressors as arrays where all of them are trees."""
    if not all(can_flatten(regressor) for regressor in regressors):
        return list(regressors)
    return TreeArrays.of(regressors, n_features)


def save_objective(path: Path | str, objective: LearnedObjective) -> None:
    """Write a learned objective to a file of plain arrays.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    objective : LearnedObjective
        Fitted with a regressor of trees.

    Raises
    ------
    ValueError
        If its regressors are no trees.
    """
    arrays: dict[str, Any] = {
        "mean_points": objective.mean_points_,
        "n_samples": objective.n_samples,
    }
    for number, stage in enumerate(objective.stages_):
        trees = stage.regressors
        if not isinstance(trees, TreeArrays):
            raise ValueError(
                "Only objectives whose regressor is a tree, a forest or gradient boosting "
                "of at most 8 levels can be written to plain arrays: use joblib."
            )
        parts = {
            "reach": stage.reach,
            "boxes": stage.boxes.astype(np.int8),
            "columns": trees.columns,
            "thresholds": trees.thresholds,
            "leaves": trees.leaves,
            "gain": stage.gain,
            "noise": stage.noise,
        }
        arrays |= {f"{name}_{number}": part for name, part in parts.items()}
    np.savez_compressed(path, **arrays)


@cache
def load_objective(path: Path | str = _OWN) -> LearnedObjective:
    """Load a learned objective.

    Parameters
    ----------
    path : path
        What :func:`save_objective` wrote; the package's own by default.

    Returns
    -------
    objective : LearnedObjective
        Fitted.
    """
    with np.load(path, allow_pickle=False) as arrays:
        n_stages = sum(name.startswith("reach_") for name in arrays.files)
        stages = []
        for number in range(n_stages):
            part = {name: arrays[f"{name}_{number}"] for name in _STORED}
            trees = TreeArrays(part["columns"], part["thresholds"], part["leaves"])
            stages.append(
                _Stage(
                    float(part["reach"]),
                    part["boxes"].astype(np.int64),
                    trees,
                    part["gain"],
                    part["noise"],
                )
            )
        mean_points, n_samples = arrays["mean_points"], int(arrays["n_samples"])
    objective = LearnedObjective(
        reaches=tuple(stage.reach for stage in stages),
        n_samples=n_samples,
        n_features=stages[0].boxes.shape[1],
    )
    objective.mean_points_, objective.stages_ = mean_points, stages
    return objective
