"""LearnedObjective: regress the distance of positions from the points of a face."""

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
# length of an outer eye distance in crops, and the crops' side, in pixels
_UNIT, _SIDE = 48, 168
_STRIDE = (_SIDE + 1) ** 2
# fraction of the faces held out to measure how exact the minima are
_HELD_OUT = 0.1
# training positions on the search line of each displaced face
_POSITIONS_PER_LINE = 2
# training rows of the first fit, which selects features
_FIRST_ROWS = 3000
# candidates for the minimum, in reaches of the line
_CANDIDATES = np.linspace(-1.3, 1.3, 53)
# gain below which a line gives no information
_LEAST_GAIN = 0.05
_LEAST_NOISE = 1e-3
_STORED = ("reach", "boxes", "columns", "thresholds", "leaves", "gain", "noise")
# Errors of neighboring lines are correlated: factor of the precisions that independent
# errors would have
_SHARE = 0.4
_SMOOTHING = np.array([1, 4, 6, 4, 1]) / 16
# integral images, gains, and the points where lines begin and where they belong
_Crops = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class LearnedObjective(BaseEstimator):
    """Objective that is learned from annotated faces.

    For every visible point of the wireframe, a regressor learns the distance of a position
    on the point's search line from the annotated position. Its features are differences of
    the mean brightness of boxes around the position. This distance is the ideal objective:
    it has one minimum, at the right place [1]_. Each point has two lines, across its
    contour and along it; the lines get shorter from stage to stage.

    Parameters
    ----------
    regressor : regressor, default=None
        Learns the distance from a few box features. None takes gradient boosting with 32
        trees of 5 levels. scikit-learn's trees, forests and gradient boosting with at most
        8 levels are evaluated together; other regressors one by one, which is slower.
    reaches : tuple of float, default=(0.3, 0.15, 0.075)
        Half the length of the search lines of each stage, in outer eye distances.
    n_samples : int, default=13
        Number of samples on a search line, odd or even.
    n_features : int, default=24
        Number of box features that each regressor keeps, of 588.
    n_displacements : int, default=4
        Number of displacements of each training face, and of its mirror image.
    random_state : int, RandomState or None, default=None
        Seed or source of displacements and positions; it also sets ``random_state`` of the
        regressors that have one.
    verbose : bool, default=False
        Show a progress bar in fit.

    Attributes
    ----------
    mean_points_ : ndarray of shape (k, 2)
        Visible points of the mean face; its outer eye distance is 1.
    stages_ : list
        The fitted regressors and features of each stage.
    n_stages : int
        Number of stages.

    See Also
    --------
    ferpipe.candide.optimizer.fit_objective : Fits the wireframe by an objective.

    Notes
    -----
    Differences from [1]_: the present points place an upright crop of fixed scale, in which
    the box features are computed and divided by the crop's standard deviation. Boosted
    trees replace the paper's single trees with linear leaves. The minimum of a line is that
    of the ideal objective ``|offset - minimum|`` nearest to all samples by least squares,
    which is more exact than the lowest sample. A held-out tenth of the faces measures how
    these minima follow the annotation, and with what error; this determines the
    precisions of the targets. Left and right points share one regressor, mirrored. The
    method ``values`` and the indicators smooth over five samples, because trees are step
    functions.

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
        """Number of stages, from coarse to fine."""
        return len(self.reaches)

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, images: Sequence[np.ndarray], points: ArrayLike) -> Self:
        """Learn from annotated faces.

        Parameters
        ----------
        images : list of ndarray of shape (h_i, w_i), uint8
            Gray.
        points : ndarray of shape (n, 68, 2) or (n, k, 2)
            The 68 points of each face, or the visible points of the wireframe, in pixels.

        Returns
        -------
        self : LearnedObjective

        Raises
        ------
        ValueError
            If the numbers of images and faces differ, there are fewer than 20, a face has
            another number of points, a point is not finite, or a reach is not positive.
        TypeError, ValueError
            If an image is not a gray array of uint8.
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
        kept = np.tile(_some(len(points) // 2, _HELD_OUT, rng), 2)
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
        """Return the image: every stage cuts its own crop.

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
        """Find where points should go, with precisions across and along contours.

        Parameters
        ----------
        prepared, points, normals, unit, stage
            As for :class:`ferpipe.candide.objective.Objective`.

        Returns
        -------
        targets : ndarray of shape (k, 2)
            Positions in pixels.
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
            As for :class:`ferpipe.candide.objective.Objective`.

        Returns
        -------
        offsets : ndarray of shape (n_samples,)
            In outer eye distances.
        values : ndarray of shape (k, n_samples)
            The distances, in outer eye distances, smoothed over five samples.
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
        """Measure P1 and P2 of a stage, on lines displaced as in its training.

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
        """Return integral images of displaced faces, their displaced and true points."""
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
        """Select the features of one line, fit its regressor and measure its minima."""
        integrals, gains, starts, directions, positions = _line_of(line, *learned)
        n = len(starts)
        offsets = rng.uniform(-reach, reach, (n, _POSITIONS_PER_LINE))
        distances = np.abs(offsets - positions[:, None])

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

        integrals, gains, starts, directions, positions = _line_of(line, *measured)
        rows, samples = np.arange(len(starts)), self._offsets(reach)
        offsets = np.tile(samples, (len(starts), 1))
        X = describe(boxes, rows, offsets)
        found = nearest_minima(samples, regressor.predict(X).reshape(offsets.shape))
        within = np.abs(positions) < reach
        gain, noise = _response(positions[within], found[within])
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
        """Return the transform to the crop in which a face is upright."""
        middle = (self.mean_points_.min(0) + self.mean_points_.max(0)) / 2
        to_crop = similarity(_UNIT, 0, middle, 2 * [(_SIDE - 1) / 2])
        return compose(to_crop, invert(fit_similarity(self.mean_points_, points)))

    def _raw_values(
        self, image: np.ndarray, points: np.ndarray, normals: np.ndarray, stage: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return offsets and predicted distances of the lines across, then along."""
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
        positions = (
            np.tile(starts, (2, 1))[:, None] + offsets[:, None] * directions[:, None]
        )
        features = lines.boxes
        X = features.describe(cv2.integral(crop).ravel(), features.index(positions))
        return offsets, lines.predict(X * _gain(crop))


@dataclass
class _Stage:
    """One fitted stage, for the lines of the subject's left half and the middle.

    Attributes
    ----------
    reach : float
        Half the length of its search lines, in outer eye distances.
    boxes : ndarray of shape (n_half, n_features, 2, 4), int
        Features of each line: first the lines across the contours, then those along them.
    regressors : TreeArrays or list of regressors
        The regressors of the same lines.
    gain, noise : ndarray of shape (n_half,)
        Minima are at ``gain`` times the true position, with errors of the standard
        deviation ``noise``, in outer eye distances.
    """

    reach: float
    boxes: np.ndarray
    regressors: Any
    gain: np.ndarray
    noise: np.ndarray

    @cached_property
    def lines(self) -> "_Lines":
        """The lines of both halves of the face."""
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
        """Predict the distances of positions (n_lines, n_samples) from their features."""
        if isinstance(self.regressors, TreeArrays):
            return self.regressors.predict(X)
        pairs = zip(self.regressors, X, strict=True)
        return np.stack([regressor.predict(rows) for regressor, rows in pairs])


def nearest_minima(offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find the ideal objectives nearest to values along search lines.

    Parameters
    ----------
    offsets : ndarray of shape (n_samples,)
        Offsets of the samples, from minus to plus the reach of the line.
    values : ndarray of shape (n_lines, n_samples)
        Predicted distances.

    Returns
    -------
    minima : ndarray of shape (n_lines,)
        For each line the m that minimizes ``sum((values - abs(offsets - m)) ** 2)``, on a
        grid of a twentieth of the reach, up to 1.3 times the reach; in the unit of
        ``offsets``.
    """
    minima = _CANDIDATES * offsets[-1]
    ideal = np.abs(minima[:, None] - offsets)
    off = (ideal**2).sum(1) - 2 * values @ ideal.T
    return minima[off.argmin(1)]


@cache
def _half() -> np.ndarray:
    """Return the indices of the visible points of the left half and of the middle."""
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
    """Return one line's starts, directions and true positions in all crops."""
    half = _half()
    point = half[line % len(half)]
    directions = contour_normals(starts)[:, point]
    if line >= len(half):
        directions = _tangents(directions)
    off = truths[:, point] - starts[:, point]
    positions = (off * directions).sum(1) / _UNIT
    return integrals, gains, starts[:, point], directions, positions


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
    """Return a mask that selects a fraction of n items at random."""
    chosen = np.zeros(n, bool)
    chosen[rng.permutation(n)[: max(1, round(share * n))]] = True
    return chosen


def _gain(crop: np.ndarray) -> np.float32:
    """Return the factor that normalizes a crop's contrast."""
    border = _SIDE // 6
    return np.float32(1 / max(crop[border:-border, border:-border].std(), 1.0))


def _response(positions: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Return the slope of found minima on the true positions, and the residual error."""
    spread = positions.var()
    if len(positions) < 3 or spread == 0:
        return 0.0, 1.0
    gain = ((positions - positions.mean()) * (found - found.mean())).mean() / spread
    noise = np.sqrt(((found - gain * positions) ** 2).mean())
    return float(max(gain, 0)), float(max(noise, _LEAST_NOISE))


def _as_arrays(regressors: Sequence[Any], n_features: int) -> TreeArrays | list[Any]:
    """Return the regressors as arrays if all are trees, otherwise as a list."""
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
        A fitted objective whose regressors are trees.

    Raises
    ------
    ValueError
        If a regressor is not a tree, a forest or gradient boosting of at most 8 levels.
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
        A file that :func:`save_objective` wrote; the package's own by default.

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
