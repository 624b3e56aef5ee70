"""LandmarkPredictor: the 68 landmarks of the face in each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Protocol, Self, overload

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch
from tqdm import tqdm

import ferpipe
from ferpipe._base import RawImageMixin
from ferpipe._compat import Interval, StrOptions, fit_context, validate_parameters
from ferpipe.faces.detection import Box, Face, check_detector, find_face
from ferpipe.faces.landmark_cascade import PointCascade, load_cascade
from ferpipe.faces.landmark_points import N_POINTS
from ferpipe.geometry import invert, similarity, transform_points, warp
from ferpipe.io.images import check_raw_images, read_image

__all__ = [
    "LandmarkModel",
    "LandmarkPredictor",
    "NoFaceError",
    "central_face",
    "load_model",
    "locate_faces",
    "predict_in_center",
]

_OWN = Path(ferpipe.__file__).parent / "pretrained" / "landmarks68"
# dlib's boxes in crops of FER2013: median width and center, as fractions of the side
_CENTRAL_WIDTH = 0.79
_CENTRAL_CENTER = (0.5, 0.57)


class LandmarkModel(Protocol):
    """Finds the 68 points of a face."""

    def predict(self, image: np.ndarray, box: Box, angle: float = 0.0) -> np.ndarray:
        """Find the points of the face in a box.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        box : (float, float, float, float)
            ``(x, y, width, height)`` in pixels.
        angle : float, default=0.0
            In-plane rotation of the face, in radians, clockwise in the image.

        Returns
        -------
        landmarks : ndarray of shape (68, 2)
            ``(x, y)`` in pixels of the image.
        """

    def rescore(
        self, image: np.ndarray, face: Face, *, detector: str | Path = "dlib"
    ) -> float:
        """Return a better score of a face of which the detector is not sure.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        face : Face
            The detector's.
        detector : {"dlib", "cascade"} or path, default="dlib"
            As for :func:`ferpipe.faces.detection.score_face`.

        Returns
        -------
        score : float
            On the detector's scale.
        """


class LandmarkPredictor(RawImageMixin, BaseEstimator):
    """Find the 68 landmarks of the face in each image.

    It takes images of any sizes, finds one person's face in each
    (:func:`ferpipe.faces.detection.find_face`) and returns its landmarks. ``fit`` learns
    nothing.

    Parameters
    ----------
    model : {"ferpipe", "face_recognition_models"} or path, default="ferpipe"
        The landmark model. "ferpipe": two small networks that come with the package (for
        research, under the terms of the 300-W data; their ``card.json`` has the scores). A
        path that ends in ``.dat``: a shape predictor of dlib with 68 points.
        "face_recognition_models": the shape predictor in the installed package of that name
        (not for commercial use).
    detector : {"dlib", "cascade", None} or path, default="dlib"
        Face detector, as for :func:`ferpipe.faces.detection.detect_faces`. None: the
        images are already crops of faces, framed about as in FER2013.
    min_size : float, default=None
        Smallest width of a face, in pixels; None means 80, or a sixth of the shorter side
        of the image where that is less.
    threshold : float, default=None
        Detection score above which a face is accepted; None for the detector's default.
    missing : {"raise", "nan", "center"}, default="raise"
        Result for an image without a face: an error, NaN, or points found in the center of
        the image.
    n_jobs : int, default=None
        Number of images processed in parallel, one thread each; None means 1, -1 all
        processors.
    verbose : bool, default=False
        Show a progress bar.

    See Also
    --------
    FaceAligner : Crops the faces.

    Notes
    -----
    The numbering is that of 300-W: 0-16 jaw, 17-26 brows, 27-35 nose, 36-47 eyes, 48-67
    lips. Jaw, brows and eyes begin at the subject's right, the left of the image.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import LandmarkPredictor
    >>> images = [np.zeros((120, 90), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    >>> LandmarkPredictor(detector=None).transform(images).shape
    (2, 68, 2)
    >>> LandmarkPredictor(missing="nan").transform(images)[0, 0]
    array([nan, nan])
    """

    _gives = "landmarks"

    _parameter_constraints: dict = {
        "model": [str, Path],
        "detector": [str, Path, None],
        "min_size": [Interval(Real, 1, None, closed="left"), None],
        "threshold": [Real, None],
        "missing": [StrOptions({"raise", "nan", "center"})],
        "n_jobs": [Integral, None],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        model: str | Path = "ferpipe",
        *,
        detector: str | Path | None = "dlib",
        min_size: float | None = None,
        threshold: float | None = None,
        missing: str = "raise",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.detector = detector
        self.min_size = min_size
        self.threshold = threshold
        self.missing = missing
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the images, the detector and the model; nothing is learned.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : LandmarkPredictor
        """
        check_raw_images(X)
        load_model(self.model)
        if self.detector is not None:
            check_detector(self.detector)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Find the landmarks.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images of any sizes.

        Returns
        -------
        landmarks : ndarray of shape (n, 68, 2)
            ``(x, y)`` in pixels of each image.

        Raises
        ------
        NoFaceError
            If some images have no face and ``missing="raise"``. It is a ValueError, and
            its message names the images.
        """
        validate_parameters(self)
        images = check_raw_images(X)
        found = locate_faces(
            images,
            model=self.model,
            detector=self.detector,
            min_size=self.min_size,
            threshold=self.threshold,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        missing = np.isnan(found.scores)
        if self.missing == "raise" and missing.any():
            raise NoFaceError(missing)
        if self.missing == "center":
            predict_in_center(images, found, self.model)
        return found.landmarks

    def locate(self, X: Any) -> Bunch:
        """Find boxes, scores and landmarks; images without a face have NaN.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images of any sizes.

        Returns
        -------
        found : Bunch
            ``boxes`` (n, 4): x, y, width, height in pixels; ``scores`` (n,) of the
            detector; ``landmarks`` (n, 68, 2) in pixels.
        """
        return locate_faces(
            check_raw_images(X),
            model=self.model,
            detector=self.detector,
            min_size=self.min_size,
            threshold=self.threshold,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )


def locate_faces(
    images: Sequence[np.ndarray],
    *,
    model: str | Path,
    detector: str | Path | None,
    min_size: float | None,
    threshold: float | None,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Bunch:
    """Find the box and the landmarks of one face in each image.

    Parameters
    ----------
    images : list of ndarray of shape (h_i, w_i) or (h_i, w_i, 3), uint8
        Gray or RGB.
    model, detector, min_size, threshold, n_jobs, verbose
        As :class:`LandmarkPredictor` takes them.

    Returns
    -------
    found : Bunch
        ``boxes`` (n, 4) in pixels, ``scores`` (n,) of the detector, ``landmarks``
        (n, 68, 2) in pixels; NaN where there is no face.
    """
    finder = load_model(model)

    def locate(image: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        gray = read_image(image)
        face: Face | None = central_face(image)
        if detector is not None:
            face = find_face(
                image,
                detector=detector,
                min_size=min_size,
                threshold=threshold,
                rescore=partial(finder.rescore, gray, detector=detector),
            )
        if face is None:
            return np.full(4, np.nan), np.nan, np.full((N_POINTS, 2), np.nan)
        landmarks = finder.predict(gray, face.box, face.angle)
        return np.array(face.box), face.score, landmarks

    # dlib, OpenCV and ONNX Runtime release the interpreter lock
    done = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(locate)(image) for image in images
    )
    progress = tqdm(done, "faces", len(images), unit="image", disable=not verbose)
    boxes, scores, landmarks = (np.stack(part) for part in zip(*progress, strict=True))
    return Bunch(boxes=boxes, scores=scores, landmarks=landmarks)


def predict_in_center(
    images: Sequence[np.ndarray], found: Bunch, model: str | Path
) -> None:
    """Fill in landmarks from the center of images without a face.

    Parameters
    ----------
    images : list of ndarray of shape (h_i, w_i) or (h_i, w_i, 3), uint8
        Gray or RGB.
    found : Bunch
        Result of :func:`locate_faces`; its missing landmarks are filled in, in place.
    model : {"ferpipe", "face_recognition_models"} or path
        As :class:`LandmarkPredictor` takes it.
    """
    finder = load_model(model)
    for index in np.flatnonzero(np.isnan(found.scores)).tolist():
        image = read_image(images[index])
        found.landmarks[index] = finder.predict(image, central_face(image).box)


class NoFaceError(ValueError):
    """No face was found in some images.

    Parameters
    ----------
    missing : ndarray of shape (n,), bool
        True for images without a face.
    names : list of str of length n, default=None
        Names of the images; None for ``X[index]``.
    """

    def __init__(self, missing: np.ndarray, names: list[str] | None = None) -> None:
        super().__init__(missing, names)
        self.missing = missing
        self.names = names

    def __str__(self) -> str:
        indices = np.flatnonzero(self.missing)
        first = [f"X[{i}]" if self.names is None else self.names[i] for i in indices[:10]]
        more = f" and {len(indices) - 10} more" if len(indices) > 10 else ""
        return (
            f"No face was found in {len(indices)} of {len(self.missing)} images: "
            f"{', '.join(first)}{more}. Leave them out; or set missing='nan' or 'center', "
            "a lower min_size or threshold, or detector=None for images that are already "
            "crops of faces."
        )


def central_face(
    image: np.ndarray,
    *,
    width: float = _CENTRAL_WIDTH,
    center: tuple[float, float] = _CENTRAL_CENTER,
) -> Face:
    """Return the box of a face in the center of an image, by default as in FER2013.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3)
        An image.
    width : float, default=0.79
        Width of the face, as a fraction of the side of the largest central square.
    center : (float, float), default=(0.5, 0.57)
        ``(x, y)`` of its center from the top left corner of that square, as fractions of
        its side.

    Returns
    -------
    face : Face
        Its box is in pixels; its score is 0.
    """
    rows, columns = image.shape[:2]
    side = min(rows, columns)
    x = (columns - side) / 2 + (center[0] - width / 2) * side
    y = (rows - side) / 2 + (center[1] - width / 2) * side
    return Face((x, y, width * side, width * side), 0.0)


@overload
def load_model(model: Literal["ferpipe"]) -> PointCascade: ...


@overload
def load_model(model: str | Path) -> LandmarkModel: ...


def load_model(model: str | Path) -> LandmarkModel:
    """Load a landmark model.

    Parameters
    ----------
    model : {"ferpipe", "face_recognition_models"} or path
        As :class:`LandmarkPredictor` takes it.

    Raises
    ------
    FileNotFoundError
        If the file or the package is missing.
    ValueError
        If the name is unknown, or the file is not a predictor of 68 points.
    """
    if model == "ferpipe":
        return _load_own()
    if model == "face_recognition_models":
        # located, not imported: the package imports pkg_resources, which may be missing
        package = find_spec(model)
        if package is None or not package.submodule_search_locations:
            raise FileNotFoundError(
                "model='face_recognition_models': this package is not installed."
            )
        folder = Path(package.submodule_search_locations[0]) / "models"
        return _load_dlib(str(folder / "shape_predictor_68_face_landmarks.dat"))
    path = Path(model).expanduser()
    if path.suffix != ".dat":
        raise ValueError(
            f"model={str(model)!r} is not known; expected 'ferpipe', "
            "'face_recognition_models' or the path of a shape predictor of dlib (.dat)."
        )
    return _load_dlib(str(path))


@dataclass(frozen=True)
class _DlibPredictor:
    predictor: Any

    def predict(self, image: np.ndarray, box: Box, angle: float = 0.0) -> np.ndarray:
        """Find the points of the face in a box."""
        import dlib

        x, y, width, height = box
        if angle:
            # dlib starts from an upright mean face: rotate the image instead
            size = image.shape[:2]
            center = (x + width / 2, y + height / 2)
            upright = similarity(1, -angle, center, center)
            found = self.predict(warp(image, upright, size), box)
            return transform_points(invert(upright), found)
        left, top = round(x), round(y)
        rectangle = dlib.rectangle(
            left, top, left + round(width) - 1, top + round(height) - 1
        )
        shape = self.predictor(np.ascontiguousarray(image), rectangle)
        return np.array([(point.x, point.y) for point in shape.parts()], np.float64)

    def rescore(
        self, image: np.ndarray, face: Face, *, detector: str | Path = "dlib"
    ) -> float:
        """Return the detector's score unchanged."""
        return face.score


@cache
def _load_own() -> PointCascade:
    return load_cascade(_OWN)


@cache
def _load_dlib(path: str) -> _DlibPredictor:
    import dlib

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: this landmark file does not exist.")
    try:
        predictor = dlib.shape_predictor(path)
    except RuntimeError as error:
        raise ValueError(f"{path}: this is not a shape predictor of dlib.") from error
    blank = np.zeros((8, 8), np.uint8)
    n_points = predictor(blank, dlib.rectangle(0, 0, 7, 7)).num_parts
    if n_points != N_POINTS:
        raise ValueError(f"{path}: it finds {n_points} points; 68 are needed.")
    return _DlibPredictor(predictor)
