"""FaceAligner: crops of faces, upright and with the eyes at fixed positions."""

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from ferpipe._base import RawImageMixin
from ferpipe._compat import Interval, StrOptions, fit_context, validate_parameters
from ferpipe.faces.detection import check_detector
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.faces.landmarks import (
    NoFaceError,
    load_model,
    locate_faces,
)
from ferpipe.geometry import fit_similarity, similarity, transform_points, warp
from ferpipe.io.images import check_raw_images, read_image

__all__ = ["TEMPLATES", "FaceAligner", "align_face", "eye_transform"]

# Mean positions of the eye centers, as fractions of the crop's side from its top left
# corner: first the subject's right eye, on the left of the image. Made level and symmetric.
# Measured by benchmarks/crops.py --measure.
TEMPLATES = {
    "fer2013": ((0.315, 0.391), (0.685, 0.391)),
    "ck48": ((0.318, 0.404), (0.682, 0.404)),
}


def eye_transform(
    eyes: ArrayLike, size: int, template: str | ArrayLike = "fer2013", margin: float = 0.0
) -> np.ndarray:
    """Return the similarity transform that maps the eyes to their positions in a crop.

    Parameters
    ----------
    eyes : array-like of shape (2, 2)
        ``(x, y)`` of the eye centers in pixels of the image: first the subject's right
        eye, on the left of the image.
    size : int
        Side of the crop, in pixels.
    template : {"fer2013", "ck48"} or array-like of shape (2, 2), default="fer2013"
        Positions of the eye centers, as fractions of the crop's side.
    margin : float, default=0.0
        Space added on every side, as a fraction of the template's side; negative values
        cut off.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        From pixels of the image to pixels of the crop.
    """
    places = np.asarray(TEMPLATES[template] if isinstance(template, str) else template)
    within = (places + margin) / (1 + 2 * margin)
    return fit_similarity(eyes, within * size - 0.5)


def align_face(
    image: np.ndarray, matrix: np.ndarray, size: int, *, landmarks: np.ndarray | None = None
) -> np.ndarray:
    """Crop one face.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), uint8
        Gray or RGB.
    matrix : ndarray of shape (2, 3)
        From pixels of the image to pixels of the crop.
    size : int
        Side of the crop, in pixels.
    landmarks : ndarray of shape (p, 2), default=None
        Points of the face in pixels of the image; pixels outside their convex hull become
        0.

    Returns
    -------
    crop : ndarray of shape (size, size) or (size, size, 3), uint8
    """
    import cv2

    crop = warp(image, matrix, (size, size))
    if landmarks is not None:
        points = transform_points(matrix, landmarks).astype(np.float32)
        inside = np.zeros((size, size), np.uint8)
        hull = np.rint(cv2.convexHull(points) * 16).astype(np.int32)
        cv2.fillConvexPoly(inside, hull, 1, shift=4)
        crop = crop * (inside if crop.ndim == 2 else inside[:, :, None])
    return crop


class FaceAligner(RawImageMixin, BaseEstimator):
    """Find the face in each image and crop it, with the eyes level and at fixed positions.

    It takes images of any sizes and returns crops of one size, as later steps need. A
    similarity transform (rotation, scale, shift) maps the centers of both eyes to their
    mean positions in a known data set, so that a network gets the framing that it was
    trained on. ``fit`` learns nothing.

    Parameters
    ----------
    size : int, default=48
        Side of the crops, in pixels.
    template : {"fer2013", "ck48"} or array-like of shape (2, 2), default="fer2013"
        Positions of the eye centers: the means of that data set, or ``((x, y), (x, y))`` as
        fractions of the crop's side, the subject's right eye (on the left of the image)
        first.
    margin : float, default=0.0
        Space added on every side, as a fraction of the template's side; negative values
        cut off.
    color : bool, default=False
        Return RGB crops instead of gray ones.
    mask : bool, default=False
        Set pixels outside the convex hull of the landmarks to black.
    missing : {"raise", "nan", "center"}, default="raise"
        Result for an image without a face: an error that names it; a crop of NaN (all
        crops are float32 then); or the central square of the image.
    detector : {"dlib", "cascade", None} or path, default="dlib"
        Face detector, as for :func:`ferpipe.faces.detection.detect_faces`. None: the
        images are already crops of faces, framed about as in FER2013.
    min_size : float, default=None
        Smallest width of a face, in pixels; None means 80, or a sixth of the shorter side
        of the image where that is less.
    threshold : float, default=None
        Detection score above which a face is accepted; None for the detector's default.
    landmarks : {"ferpipe", "face_recognition_models"} or path, default="ferpipe"
        Landmark model, as ``model`` of :class:`LandmarkPredictor`.
    n_jobs : int, default=None
        Number of images processed in parallel, one thread each; None means 1, -1 all
        processors.
    verbose : bool, default=False
        Show a progress bar.

    See Also
    --------
    LandmarkPredictor : Returns the landmarks.

    Notes
    -----
    Levelling the eyes and fixing their distance is the alignment of seed paper 002 [1]_.
    Here the center of each eye is the mean of its six landmarks.

    References
    ----------
    .. [1] Seed paper 002: pretrained CNN and LSTM on JAFFE and CK+, section on alignment.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import FaceAligner
    >>> images = [np.zeros((120, 90), np.uint8), np.zeros((64, 64, 3), np.uint8)]
    >>> FaceAligner(32, missing="center").fit_transform(images).shape
    (2, 32, 32)
    """

    _gives = "images"

    _parameter_constraints: dict = {
        "size": [Interval(Integral, 4, None, closed="left")],
        "template": [StrOptions(set(TEMPLATES)), "array-like"],
        "margin": [Interval(Real, -0.5, None, closed="neither")],
        "color": ["boolean"],
        "mask": ["boolean"],
        "missing": [StrOptions({"raise", "nan", "center"})],
        "detector": [str, Path, None],
        "min_size": [Interval(Real, 1, None, closed="left"), None],
        "threshold": [Real, None],
        "landmarks": [str, Path],
        "n_jobs": [Integral, None],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        size: int = 48,
        *,
        template: str | ArrayLike = "fer2013",
        margin: float = 0.0,
        color: bool = False,
        mask: bool = False,
        missing: str = "raise",
        detector: str | Path | None = "dlib",
        min_size: float | None = None,
        threshold: float | None = None,
        landmarks: str | Path = "ferpipe",
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.size = size
        self.template = template
        self.margin = margin
        self.color = color
        self.mask = mask
        self.missing = missing
        self.detector = detector
        self.min_size = min_size
        self.threshold = threshold
        self.landmarks = landmarks
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the images and the parameters; nothing is learned.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images.
        y : ignored
            Present for scikit-learn's interface.

        Returns
        -------
        self : FaceAligner
        """
        check_raw_images(X)
        self._check_places()
        load_model(self.landmarks)
        if self.detector is not None:
            check_detector(self.detector)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Crop the faces.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images of any sizes.

        Returns
        -------
        crops : ndarray of shape (n, size, size) or (n, size, size, 3)
            uint8, or float32 when ``missing="nan"``.

        Raises
        ------
        NoFaceError
            If some images have no face and ``missing="raise"``. It is a ValueError, and
            its message names the images.
        """
        validate_parameters(self)
        images = check_raw_images(X)
        found = self._locate(images)
        missing = np.isnan(found.scores)
        if self.missing == "raise" and missing.any():
            raise NoFaceError(missing)
        shape = (len(images), self.size, self.size, *((3,) if self.color else ()))
        if self.missing == "nan":
            crops = np.full(shape, np.nan, np.float32)
        else:
            crops = np.empty(shape, np.uint8)
        for index, image in enumerate(images):
            if missing[index] and self.missing == "nan":
                continue
            matrix, landmarks = found.transforms[index], found.landmarks[index]
            if missing[index]:
                matrix, landmarks = _middle_square(image, self.size), None
            crops[index] = align_face(
                read_image(image, gray=not self.color),
                matrix,
                self.size,
                landmarks=landmarks if self.mask else None,
            )
        return crops

    def locate(self, X: Any) -> Bunch:
        """Find boxes, landmarks and transforms; images without a face have NaN.

        Parameters
        ----------
        X : list of array-like, or ndarray of shape (n, h, w) or (n, h, w, 3)
            Images of any sizes.

        Returns
        -------
        found : Bunch
            ``boxes`` (n, 4): x, y, width, height in pixels; ``scores`` (n,) of the
            detector; ``landmarks`` (n, 68, 2); ``transforms`` (n, 2, 3): from pixels of
            the image to pixels of the crop.
        """
        return self._locate(check_raw_images(X))

    def _locate(self, images: Sequence[np.ndarray]) -> Bunch:
        places = self._check_places()
        found = locate_faces(
            images,
            model=self.landmarks,
            detector=self.detector,
            min_size=self.min_size,
            threshold=self.threshold,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        found.transforms = np.full((len(images), 2, 3), np.nan)
        for index in np.flatnonzero(~np.isnan(found.scores)):
            eyes = eye_centers(found.landmarks[index])
            found.transforms[index] = eye_transform(eyes, self.size, places, self.margin)
        return found

    def _check_places(self) -> np.ndarray:
        if isinstance(self.template, str):
            return np.array(TEMPLATES[self.template])
        places = np.asarray(self.template, dtype=np.float64)
        if places.shape != (2, 2) or not np.isfinite(places).all():
            raise ValueError(
                "template must be the name of a data set or the positions of both eyes, as "
                "fractions of the crop's side such as ((0.3, 0.4), (0.7, 0.4)); got "
                f"{self.template!r}."
            )
        if places[0, 0] >= places[1, 0]:
            raise ValueError(
                "template must begin with the subject's right eye, on the left of the "
                f"image, which has the smaller x; got {self.template!r}."
            )
        return places


def _middle_square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    scale = size / min(height, width)
    center = ((width - 1) / 2, (height - 1) / 2)
    return similarity(scale, 0, center, ((size - 1) / 2, (size - 1) / 2))
