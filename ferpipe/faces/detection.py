"""Find faces: dlib's HOG detector, OpenCV's cascade, or YuNet from a file."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ferpipe.geometry import invert, similarity, transform_points, warp
from ferpipe.io.images import as_uint8

__all__ = ["Box", "Face", "check_detector", "detect_faces", "find_face", "score_face"]

# More enlargement does not help: faces under 20 pixels show no expression.
_LARGEST_SCALE = 4.0
# x, y, width and height, in pixels
Box = tuple[float, float, float, float]
# center, width and score
_Find = tuple[np.ndarray, float, float]
# the detectors do not document that threads may share them: one per thread
_OF_THREAD = threading.local()


class Face(NamedTuple):
    """A face that a detector found.

    Attributes
    ----------
    box : tuple of float
        ``(x, y, width, height)`` in pixels of the image: the square from the brows to the
        chin, upright in the face's own frame. Boxes of all detectors are converted to this
        framing, which is dlib's.
    score : float
        Confidence on the detector's own scale.
    angle : float
        In-plane rotation at which the face was found, in radians, clockwise in the image;
        0 for faces found upright.
    """

    box: Box
    score: float
    angle: float = 0.0


def detect_faces(
    image: ArrayLike,
    *,
    detector: str | Path = "dlib",
    min_size: float = 40,
    threshold: float | None = None,
    angle: float = 0.0,
) -> list[Face]:
    """Find all the faces in an image.

    Parameters
    ----------
    image : array-like of shape (h, w), (h, w, 3) or (h, w, 4)
        Gray, RGB or RGBA, as :func:`ferpipe.io.images.as_uint8` takes it.
    detector : {"dlib", "cascade"} or path, default="dlib"
        "dlib": HOG detector for frontal faces [1]_, the more reliable of the two.
        "cascade": OpenCV's boosted cascade [2]_, several times faster.
        A path with the ending ``.onnx``: the YuNet network [3]_ in that file, which also
        finds faces in profile; OpenCV's model zoo has it.
    min_size : float, default=40
        Smallest width of a face, in pixels. The time grows with ``1 / min_size ** 2``: the
        image is first shrunk until such a face has the smallest size that the detector
        finds. Faces under 20 pixels are not searched.
    threshold : float, default=None
        Least score. None takes 0 for "dlib" and "cascade" and 0.6 for YuNet; lower values
        find more faces and more false ones.
    angle : float, default=0.0
        Search for faces rotated by this angle, in radians, clockwise in the image. Every
        detector tolerates about 15 degrees to either side of it.

    Returns
    -------
    faces : list of Face
        The best score first; empty if there is no face.

    Raises
    ------
    TypeError, ValueError
        If the input is not an image.
    FileNotFoundError
        If the file of the detector is missing.
    ValueError
        If the detector is unknown or its file cannot be read.

    References
    ----------
    .. [1] N. Dalal, B. Triggs, "Histograms of Oriented Gradients for Human Detection",
       CVPR 2005, as in dlib's ``get_frontal_face_detector``.
    .. [2] R. Lienhart, J. Maydt, "An Extended Set of Haar-like Features for Rapid Object
       Detection", ICIP 2002, as in ``haarcascade_frontalface_alt2.xml``.
    .. [3] W. Wu, H. Peng, S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine
       Intelligence Research 20, 2023.
    """
    kind = check_detector(detector)
    least = kind.threshold if threshold is None else threshold
    faces = _search(as_uint8(image), kind, min_size, least, angle)
    return sorted(faces, key=lambda face: -face.score)


def find_face(
    image: ArrayLike,
    *,
    detector: str | Path = "dlib",
    min_size: float | None = None,
    threshold: float | None = None,
    rescore: Callable[[Face], float] | None = None,
) -> Face | None:
    """Find the face in an image of one person: the largest certain detection.

    The search begins with faces of a third of the image's shorter side and continues with
    smaller ones only if it finds none: a large portrait costs no more than a small one. If
    no score is well above the threshold, it also searches for faces rotated by 25 degrees
    to either side and returns the best detection that is not far below the threshold;
    faces smaller than a fifth of the shorter side need a certain detection.

    Parameters
    ----------
    image : array-like of shape (h, w), (h, w, 3) or (h, w, 4)
        Gray, RGB or RGBA, as :func:`ferpipe.io.images.as_uint8` takes it.
    detector : {"dlib", "cascade"} or path, default="dlib"
        As for :func:`detect_faces`.
    min_size : float, default=None
        Smallest width of a face, in pixels; None means 80, or a sixth of the shorter side
        of the image where that is less.
    threshold : float, default=None
        As for :func:`detect_faces`. For "dlib", scores up to 0.8 above or below it are
        uncertain.
    rescore : callable, default=None
        Called with each uncertain :class:`Face`; its return value replaces the score. The
        best face is returned if its score is not below the threshold, for "dlib" not more
        than 0.5 below.

    Returns
    -------
    face : Face or None
        None if there is no face.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As for :func:`detect_faces`.
    """
    pixels = as_uint8(image)
    kind = check_detector(detector)
    middle = kind.threshold if threshold is None else threshold
    shorter_side = min(pixels.shape[:2])
    in_doubt: list[Face] = []
    for angle in (0.0, -_TILT, _TILT):
        for size in _sizes(shorter_side, min_size):
            faces = _search(pixels, kind, size, middle - kind.doubt, angle)
            sure = [face for face in faces if face.score >= middle + kind.doubt]
            if angle == 0 and sure:
                return max(sure, key=lambda face: face.box[2])
            in_doubt += [
                face
                for face in faces
                if face.box[2] >= shorter_side / 5 or face.score >= middle + kind.doubt
            ]

    scores = [
        (rescore(face) if rescore else face.score) - (_TILT_COST if face.angle else 0)
        for face in in_doubt
    ]
    if not scores or max(scores) < middle - kind.slack:
        return None
    return in_doubt[int(np.argmax(scores))]


def score_face(
    image: np.ndarray, box: Box, angle: float = 0.0, *, detector: str | Path = "dlib"
) -> float:
    """Return the detection score of a face at a known position.

    Parameters
    ----------
    image : ndarray of shape (h, w) or (h, w, 3), uint8
        Gray or RGB.
    box : (float, float, float, float)
        ``(x, y, width, height)`` in pixels, as of :class:`Face`.
    angle : float, default=0.0
        In-plane rotation of the face, in radians, clockwise in the image.
    detector : {"dlib", "cascade"} or path, default="dlib"
        As for :func:`detect_faces`.

    Returns
    -------
    score : float
        The best score of the detections in an upright crop that lie near the box and have
        about its size; 2 below the threshold if there are none.
    """
    kind = check_detector(detector)
    x, y, width, height = box
    side = round(_CROP_SIDE * kind.window)
    middle = (side - 1) / 2
    scale = _FACE_WIDTH * kind.window / width
    center = (x + width / 2 - 0.5, y + height / 2 - 0.5)
    crop = warp(image, similarity(scale, -angle, center, (middle, middle)), (side, side))
    return max(
        (
            float(score)
            for at, size, score in kind.find(crop, kind.threshold - 1.5)
            if np.abs(at - middle).max() < 0.25 * _FACE_WIDTH * kind.window
            and 0.65 < size / (_FACE_WIDTH * kind.window) < 1.5
        ),
        default=kind.threshold - 2.0,
    )


# score_face's crop, in windows of the detector: the width of the face, and the side
_FACE_WIDTH, _CROP_SIDE = 1.125, 1.875
_TILT = np.deg2rad(25)
# subtracted from dlib's scores of rotated faces, because most faces are upright
_TILT_COST = 0.25


def _sizes(shorter_side: int, min_size: float | None) -> Iterator[float]:
    least = min(80, shorter_side / 6) if min_size is None else min_size
    least = max(least, 80 / _LARGEST_SCALE)
    size = max(shorter_side / 3, least)
    yield size
    while size > least:
        size = max(size / 2, least)
        yield size


@dataclass(frozen=True)
class _Detector:
    """A detector and its constants.

    ``find(frame, threshold)`` yields (center, width, score) of faces in a gray or RGB
    frame, in the framing of dlib's boxes; ``window`` is the width of the smallest face
    that it finds, in pixels. Scores up to ``doubt`` above or below the threshold are
    uncertain; such a face is rejected if its final score is more than ``slack`` below.
    """

    find: Callable[[np.ndarray, float], Iterator[_Find]]
    window: float
    threshold: float
    doubt: float
    slack: float


def check_detector(detector: str | Path | None) -> _Detector:
    """Return the detector of a name or file.

    Parameters
    ----------
    detector : {"dlib", "cascade"} or path
        As for :func:`detect_faces`.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the name is unknown or the file cannot be read.
    """
    if detector == "dlib":
        return _Detector(_find_by_dlib, window=80, threshold=0, doubt=0.8, slack=0.5)
    if detector == "cascade":
        return _Detector(_find_by_cascade, window=36, threshold=0, doubt=0, slack=0)
    path = Path(str(detector)).expanduser()
    if path.suffix.lower() != ".onnx":
        raise ValueError(
            f"detector={detector!r} is not known; expected 'dlib', 'cascade' or the path "
            "of a YuNet network, ending in .onnx."
        )
    _load_yunet(str(path), threading.get_ident())

    def find(frame: np.ndarray, threshold: float) -> Iterator[_Find]:
        return _find_by_yunet(str(path), frame, threshold)

    return _Detector(find, window=24, threshold=0.6, doubt=0, slack=0)


def _search(
    image: np.ndarray, kind: _Detector, min_size: float, threshold: float, angle: float
) -> list[Face]:
    """Search for faces in the image, scaled and rotated to suit the detector."""
    scale = min(kind.window / min_size, _LARGEST_SCALE)
    height, width = image.shape[:2]
    frame_size = max(1, round(scale * height)), max(1, round(scale * width))
    from_image = similarity(
        scale,
        -angle,
        ((width - 1) / 2, (height - 1) / 2),
        ((frame_size[1] - 1) / 2, (frame_size[0] - 1) / 2),
    )
    unchanged = scale == 1 and angle == 0
    frame = image if unchanged else warp(image, from_image, frame_size)
    to_image = invert(from_image)
    faces = []
    for center, side, score in kind.find(frame, threshold):
        side = side / scale
        x, y = transform_points(to_image, center) - side / 2 + 0.5
        box = (float(x), float(y), float(side), float(side))
        faces.append(Face(box, float(score), float(angle)))
    return faces


def _find_by_dlib(frame: np.ndarray, threshold: float) -> Iterator[_Find]:
    detector = _of_thread("dlib", _load_dlib)
    boxes, scores, _ = detector.run(_gray(frame), 0, threshold)
    for box, score in zip(boxes, scores, strict=True):
        center = np.array([box.left() + box.right(), box.top() + box.bottom()]) / 2
        yield center, box.width(), score


# Size and center of dlib's boxes of the same faces (AFW and Helen), relative to the
# cascade's; medians, in widths of the cascade's box.
_CASCADE_WIDTH = 0.91
_CASCADE_CENTER = np.array([0.0, 0.065])


def _find_by_cascade(frame: np.ndarray, threshold: float) -> Iterator[_Find]:
    cascade = _of_thread("cascade", _load_cascade)
    boxes, _, scores = cascade.detectMultiScale3(
        _gray(frame), scaleFactor=1.1, minNeighbors=3, outputRejectLevels=True
    )
    for (x, y, width, _), score in zip(boxes, np.ravel(scores), strict=True):
        if score >= threshold:
            center = np.array([x, y]) + (width - 1) / 2
            yield center + width * _CASCADE_CENTER, width * _CASCADE_WIDTH, score


# dlib's boxes of the same faces, from annotated points: position of the center on the line
# from between the eyes to the mouth, and width relative to the hypotenuse of this line and
# the distance of the eyes; medians.
_POINTS_CENTER = 0.457
_POINTS_WIDTH = 1.69


def _find_by_yunet(path: str, frame: np.ndarray, threshold: float) -> Iterator[_Find]:
    import cv2

    network = _load_yunet(path, threading.get_ident())
    colors = frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
    network.setInputSize((frame.shape[1], frame.shape[0]))
    network.setScoreThreshold(threshold)
    _, found = network.detect(cv2.cvtColor(colors, cv2.COLOR_RGB2BGR))
    # x, y, width, height, five points (eyes, nose, mouth corners), score
    for row in [] if found is None else found:
        eye, other_eye, _, corner, other_corner = row[4:14].reshape(5, 2).astype(float)
        between = (eye + other_eye) / 2
        down = (corner + other_corner) / 2 - between
        width = _POINTS_WIDTH * np.hypot(*np.linalg.norm([down, other_eye - eye], axis=1))
        yield between + _POINTS_CENTER * down, width, row[14]


def _of_thread(name: str, load: Callable[[], Any]) -> Any:
    if not hasattr(_OF_THREAD, name):
        setattr(_OF_THREAD, name, load())
    return getattr(_OF_THREAD, name)


def _load_dlib() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


def _load_cascade() -> Any:
    import cv2
    from cv2.data import haarcascades

    name = "haarcascade_frontalface_alt2.xml"
    return cv2.CascadeClassifier(str(Path(haarcascades) / name))


@cache
def _load_yunet(path: str, thread: int) -> Any:
    import cv2

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: this detector file does not exist.")
    try:
        return cv2.FaceDetectorYN.create(path, "", (320, 320))
    except cv2.error as error:
        raise ValueError(f"{path}: OpenCV cannot read this as a network.") from error


def _gray(frame: np.ndarray) -> np.ndarray:
    import cv2

    return frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
