"""CandideFitter: the parameters of the wireframe, from images of faces."""

from collections.abc import Sequence
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from joblib import Parallel, delayed
from scipy.ndimage import gaussian_filter1d
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch, Tags
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ferpipe._base import SampleMixin
from ferpipe._checks import as_list
from ferpipe._compat import (
    HasMethods,
    Interval,
    StrOptions,
    fit_context,
    validate_parameters,
)
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fit_cascade import WireframeCascade, load_own_cascade
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.candide.model import POSE_NAMES
from ferpipe.candide.objective import Objective
from ferpipe.candide.objective_search import OBJECTIVES, ObjectiveSearch, objective_named
from ferpipe.faces.detection import Face, check_detector, find_face
from ferpipe.faces.landmarks import NoFaceError, central_face, load_model
from ferpipe.io.images import check_raw_images, check_raw_sequences, read_image

__all__ = ["CandideFitter"]

_N_POSE = len(POSE_NAMES)


class CandideFitter(SampleMixin, BaseEstimator):
    """Fit a wireframe to the face in each image: head pose, identity and expression.

    Two small networks, trained on photos and on synthetic faces with known parameters,
    compute the parameters directly; or Gauss-Newton steps minimize an objective, with a
    Gaussian prior learned from annotated faces. In sequences, it finds the face in the
    first frame and follows it from frame to frame; all frames of a sequence share the
    shape (identity) parameters, and each has its own animation (expression) parameters.

    Parameters
    ----------
    output : {"units", "actions", "pose", "parameters", "vertices"}, default="units"
        The output: shape and animation parameters; animation parameters alone; head pose
        (rx, ry, rz in radians, s, tx, ty in pixels); all of these; or the vertices, x and
        y in pixels of the image.
    detector : {"dlib", "cascade", None} or path, default="dlib"
        Face detector, as for :func:`ferpipe.faces.detection.detect_faces`. None: the
        images are already crops of faces, framed about as in FER2013.
    objective : {"landmarks", "learned", "edges"} or Objective, default=None
        The objective to minimize: distances to landmarks; the learned objective that comes
        with the package; the designed objective of edges; or a fitted
        :class:`ferpipe.LearnedObjective` in a FrozenEstimator. None for the networks,
        which are many times faster.
    missing : {"raise", "nan", "center"}, default="center"
        Result for an image without a face: an error that names it; NaN; or a fit to the
        center of the image.
    smoothing : float, default=0.0
        Standard deviation, in frames, of a Gaussian over time that smooths head pose and
        animation parameters of sequences; 0 for no smoothing.
    subtract_first : bool, default=False
        Subtract the animation parameters of the first frame from all frames of a sequence:
        for sequences that begin with a neutral face.
    min_size : float, default=None
        As for :class:`ferpipe.FaceAligner`.
    threshold : float, default=None
        As for :class:`ferpipe.FaceAligner`.
    n_jobs : int, default=None
        Number of images or sequences processed in parallel, one thread each; None means 1,
        -1 all processors.
    verbose : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    takes_sequences_ : bool
        True if ``fit`` got sequences, False if it got images.

    See Also
    --------
    LandmarkPredictor : Returns the landmarks alone.

    Notes
    -----
    A list of lists of images, a list of arrays (T, h, w) or (T, h, w, 3), or an array of
    shape (n, T, h, w) are sequences; a list of images or an array (n, h, w) are not. In
    both the last axis may hold the colors. Left and right in the names of units are the
    subject's.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import CandideFitter
    >>> crops = np.random.default_rng(0).integers(0, 255, (2, 48, 48), dtype=np.uint8)
    >>> CandideFitter(detector=None).fit_transform(crops).shape  # 14 shape, 65 animation
    (2, 79)
    """

    _parameter_constraints: dict = {
        "output": [StrOptions({"units", "actions", "pose", "parameters", "vertices"})],
        "detector": [str, Path, None],
        "objective": [
            StrOptions(set(OBJECTIVES)),
            HasMethods(["prepare", "find_targets", "values"]),
            None,
        ],
        "missing": [StrOptions({"raise", "nan", "center"})],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "subtract_first": ["boolean"],
        "min_size": [Interval(Real, 1, None, closed="left"), None],
        "threshold": [Real, None],
        "n_jobs": [Integral, None],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        output: str = "units",
        *,
        detector: str | Path | None = "dlib",
        objective: str | Objective | None = None,
        missing: str = "center",
        smoothing: float = 0.0,
        subtract_first: bool = False,
        min_size: float | None = None,
        threshold: float | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.output = output
        self.detector = detector
        self.objective = objective
        self.missing = missing
        self.smoothing = smoothing
        self.subtract_first = subtract_first
        self.min_size = min_size
        self.threshold = threshold
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the images and store whether they are sequences.

        Parameters
        ----------
        X : list of images or of sequences, or ndarray
            Images of faces, of any sizes, or sequences of them.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : CandideFitter

        Raises
        ------
        NotFittedError
            If ``objective`` is an estimator that is not fitted.
        """
        if isinstance(self.objective, BaseEstimator):
            _check_objective(self.objective)
        self._finder()
        if self.detector is not None:
            check_detector(self.detector)
        self.takes_sequences_ = _are_sequences(X)
        _frames_of(X)
        return self

    def transform(self, X: Any) -> np.ndarray | list[np.ndarray]:
        """Fit the wireframe to faces.

        Parameters
        ----------
        X : list of images or of sequences, or ndarray
            As in ``fit``.

        Returns
        -------
        features : ndarray of shape (n, d), or list of ndarray of shape (T_i, d)
            One row per image; one array per sequence. NaN where there is no face and
            ``missing="nan"``.

        Raises
        ------
        NoFaceError
            If some images have no face and ``missing="raise"``. It is a ValueError, and
            its message names the images.
        """
        check_is_fitted(self)
        validate_parameters(self)
        if len(X) and _are_sequences(X) != self.takes_sequences_:
            fitted, got = ("sequences", "images")[:: 1 if self.takes_sequences_ else -1]
            raise ValueError(
                f"X holds {got}, but this CandideFitter was fitted on {fitted}. Pass "
                "a single image or sequence x as [x]."
            )
        found = self.locate(X)
        if not self.takes_sequences_:
            return self._output_of(found.parameters)
        return [self._output_of(parameters) for parameters in found.parameters]

    def locate(self, X: Any) -> Bunch:
        """Fit the wireframe and return parameters, boxes, scores and quality.

        Parameters
        ----------
        X : list of images or of sequences, or ndarray
            Images of faces or sequences of them.

        Returns
        -------
        found : Bunch
            ``parameters`` (n, 85), as ``model.parameter_names`` lists them; ``boxes``
            (n, 4) in pixels and ``scores`` (n,) of the detector, NaN in frames in which the
            face was followed; and ``quality`` (n,), the probability that the wireframe lies
            on a face: reject fits below 0.5. For sequences, each is a list of arrays. NaN
            where there is no face.

        Raises
        ------
        NoFaceError
            As :meth:`transform` does.
        """
        sequential = _are_sequences(X)
        frames, lengths = _frames_of(X)
        ends = np.cumsum(lengths)
        clips = [frames[end - n : end] for n, end in zip(lengths, ends, strict=True)]
        finder = self._finder()
        # dlib, OpenCV and ONNX Runtime release the interpreter lock
        done = Parallel(n_jobs=self.n_jobs, prefer="threads", return_as="generator")(
            delayed(self._follow)(clip, finder, sequential) for clip in clips
        )
        unit = "sequence" if sequential else "image"
        parts = list(tqdm(done, "faces", len(clips), unit=unit, disable=not self.verbose))
        if self.missing == "raise":
            missing = np.concatenate([np.isnan(part.quality) for part in parts])
            names = [
                f"frame {t} of X[{i}]" for i, n in enumerate(lengths) for t in range(n)
            ]
            if missing.any():
                raise NoFaceError(missing, names if sequential else None)
        found = Bunch(**{name: [part[name] for part in parts] for name in parts[0]})
        if not sequential:
            found = Bunch(**{name: np.concatenate(found[name]) for name in found})
        return found

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns.

        Parameters
        ----------
        input_features : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        names : ndarray of str
        """
        model, _ = load_calibrated()
        if self.output == "vertices":
            named = {index: name for name, index in model.vertex_names.items()}
            vertices = [
                f"{named[index]}_{axis}" for index in sorted(named) for axis in ("x", "y")
            ]
            return np.array(vertices, dtype=object)
        names = np.array(model.parameter_names, dtype=object)
        return self._columns(names)

    def _finder(self) -> WireframeCascade | ObjectiveSearch:
        if self.objective is None:
            return load_own_cascade()
        model, prior = load_calibrated()
        landmarks = load_model("ferpipe")
        objective = self.objective
        if isinstance(objective, str):
            objective = objective_named(objective, model, landmarks)
        return ObjectiveSearch(objective, model, prior, landmarks)

    def _follow(
        self,
        frames: Sequence[np.ndarray],
        finder: WireframeCascade | ObjectiveSearch,
        one_person: bool,
    ) -> Bunch:
        """Fit the wireframe to the frames of one person, each from the one before."""
        model = finder.model
        n = len(frames)
        parameters = np.full((n, len(model.parameter_names)), np.nan)
        boxes, scores, quality = np.full((n, 4), np.nan), np.full(n, np.nan), np.zeros(n)
        last = None
        for index, frame in enumerate(frames):
            image = read_image(frame)
            if last is not None:
                parameters[index], quality[index] = finder.refine(image, last)
            if last is None or quality[index] < LEAST_QUALITY:
                face = self._face_in(frame, image, finder)
                if face is None:
                    parameters[index], quality[index], last = np.nan, np.nan, None
                    continue
                boxes[index], scores[index] = face.box, face.score
                parameters[index], quality[index] = finder.predict(
                    image, face.box, face.angle
                )
            last = parameters[index]
        located = np.flatnonzero(~np.isnan(quality)).tolist()
        if one_person and located:
            sigma = model.split(parameters[located])[1].mean(0)
            for index in located:
                parameters[index] = finder.with_shape(
                    read_image(frames[index]), parameters[index], sigma
                )
            parameters[located] = self._over_time(parameters[located])
        return Bunch(parameters=parameters, boxes=boxes, scores=scores, quality=quality)

    def _face_in(
        self,
        frame: np.ndarray,
        image: np.ndarray,
        finder: WireframeCascade | ObjectiveSearch,
    ) -> Face | None:
        if self.detector is None:
            return central_face(image)
        face = find_face(
            frame,
            detector=self.detector,
            min_size=self.min_size,
            threshold=self.threshold,
            rescore=partial(finder.rescore, image, detector=self.detector),
        )
        if face is None and self.missing == "center":
            return central_face(image)
        return face

    def _over_time(self, parameters: np.ndarray) -> np.ndarray:
        """Smooth pose and animation parameters; subtract those of the first frame."""
        n_shape = len(load_calibrated()[0].shape_names)
        changing = np.r_[0:_N_POSE, _N_POSE + n_shape : parameters.shape[1]]
        if self.smoothing:
            parameters[:, changing] = gaussian_filter1d(
                parameters[:, changing], self.smoothing, axis=0, mode="nearest"
            )
        if self.subtract_first:
            parameters[:, _N_POSE + n_shape :] -= parameters[0, _N_POSE + n_shape :].copy()
        return parameters

    def _output_of(self, parameters: np.ndarray) -> np.ndarray:
        if self.output != "vertices":
            return self._columns(parameters)
        model, _ = load_calibrated()
        pose, sigma, alpha = model.split(parameters)
        projected = project(model.shape(sigma, alpha), pose)
        return projected[:, sorted(model.vertex_names.values())].reshape(
            len(parameters), -1
        )

    def _columns(self, parameters: np.ndarray) -> np.ndarray:
        """Select the columns of the output from all parameters."""
        n_shape = len(load_calibrated()[0].shape_names)
        parts = {
            "units": slice(_N_POSE, None),
            "actions": slice(_N_POSE + n_shape, None),
            "pose": slice(_N_POSE),
            "parameters": slice(None),
        }
        return parameters[..., parts[self.output]]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.stateless = True
        # either of them before fit
        tags.input_tags.images = not getattr(self, "takes_sequences_", False)
        tags.input_tags.sequences = getattr(self, "takes_sequences_", True)
        tags.input_tags.raw_sizes = True
        return tags


def _check_objective(objective: BaseEstimator) -> None:
    """Raise NotFittedError, with the class of the objective, if it is not fitted."""
    inner = objective.estimator if isinstance(objective, FrozenEstimator) else objective
    name = type(inner).__name__
    check_is_fitted(
        inner,
        msg=f"CandideFitter needs a fitted objective, got a {name} that is not fitted. Fit "
        f"it on annotated faces and pass objective=FrozenEstimator(fitted): cloning a "
        f"CandideFitter would reset a {name} that is not frozen.",
    )


def _are_sequences(X: Any) -> bool:
    """Return whether X holds sequences of images, not images."""
    X = as_list(X)
    if isinstance(X, np.ndarray):
        return X.ndim == 5 or (X.ndim == 4 and X.shape[3] > 4)
    first = X[0] if isinstance(X, list) and X else None
    if isinstance(first, np.ndarray):
        return first.ndim == 4 or (first.ndim == 3 and first.shape[2] > 4)
    if not isinstance(first, list | tuple) or not len(first):
        return False
    return isinstance(first[0], str) or np.ndim(first[0]) > 1


def _frames_of(X: Any) -> tuple[list[np.ndarray], list[int]]:
    """Return all images, and the lengths of the sequences (1 for a single image)."""
    if _are_sequences(X):
        clips = check_raw_sequences(X)
        return [frame for clip in clips for frame in clip], [len(clip) for clip in clips]
    images = check_raw_images(X)
    return images, [1] * len(images)
