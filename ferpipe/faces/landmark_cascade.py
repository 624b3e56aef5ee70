"""Find the 68 points of a face with two small networks, from coarse to fine.

The coarse network takes an upright crop around the detector's box. The similarity transform
from the mean face to its points gives a crop in which the face is upright, centered and of
a fixed size. The fine network takes that crop; its points give a second such crop, from
which it computes the result.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ferpipe.faces.detection import Box, Face, score_face
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.geometry import (
    Pair,
    average_blocks,
    compose,
    fit_similarity,
    invert,
    similarity,
    transform_points,
    warp,
)
from ferpipe.io.format1 import current_metadata

__all__ = [
    "CropPlacer",
    "CROP_SIDE",
    "OnnxNetwork",
    "PointCascade",
    "crop_transform",
    "load_cascade",
    "place_in_box",
    "read_metadata",
]

# side of a crop, in outer eye distances of the mean face
CROP_SIDE = 2.35
# Change of dlib's score per movement of one outer eye distance, and the movement without a
# change; set on detections with scores from -0.8 in photos of AFW and Helen and in images
# without a face.
_SCORE_OF_MOVES = 40.0
_NEUTRAL_MOVE = 0.025


def crop_transform(placement: np.ndarray, mean_shape: np.ndarray, size: int) -> np.ndarray:
    """Return the transform from an image to the crop of a face.

    Parameters
    ----------
    placement : ndarray of shape (2, 3)
        The transform from the mean face to the image.
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face; its outer eye distance is 1.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        From pixels of the image to pixels of the crop, whose center is the middle of the
        mean face's bounding box.
    """
    middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
    to_crop = similarity(size / CROP_SIDE, 0, middle, ((size - 1) / 2, (size - 1) / 2))
    return compose(to_crop, invert(placement))


class CropPlacer:
    """Computes the transform from an image to a crop, from points of the face.

    Calling it with points equals ``crop_transform(fit_similarity(mean_points, points),
    mean_shape, size)`` in a quarter of the time: with points as complex numbers, a
    similarity transform is one product and one sum.

    Parameters
    ----------
    mean_points : ndarray of shape (k, 2)
        The same points of the mean face.
    mean_shape : ndarray of shape (68, 2)
        All points of the mean face; its outer eye distance is 1.
    size : int
        Side of the crop, in pixels.
    """

    def __init__(self, mean_points: np.ndarray, mean_shape: np.ndarray, size: int) -> None:
        mean = mean_points.mean(0)
        off = mean_points - mean
        # weights of the regression on the centered mean points, as complex numbers
        self._weights = (off[:, 0] - 1j * off[:, 1]) / (off**2).sum()
        from_mean = crop_transform(np.eye(2, 3), mean_shape, size)
        self._scale = from_mean[0, 0]
        x, y = transform_points(from_mean, mean)
        self._target = complex(x, y)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the transform from the image to the crop.

        Parameters
        ----------
        points : ndarray of shape (k, 2)
            The points, in pixels of the image.

        Returns
        -------
        matrix : ndarray of shape (2, 3)
            From pixels of the image to pixels of the crop.
        """
        numbers = np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
        middle = complex(numbers.mean())
        linear = self._scale / complex(self._weights @ (numbers - middle))
        shift = self._target - linear * middle
        return np.array(
            [
                [linear.real, -linear.imag, shift.real],
                [linear.imag, linear.real, shift.imag],
            ]
        )


def place_in_box(
    box: Box, angle: float, mean_shape: np.ndarray, box_width: float, box_center: Pair
) -> np.ndarray:
    """Place the mean face in a detector's box.

    Parameters
    ----------
    box : (float, float, float, float)
        ``(x, y, width, height)`` in pixels.
    angle : float
        In-plane rotation of the face, in radians, clockwise in the image.
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face.
    box_width : float
        Mean width of boxes, in outer eye distances.
    box_center : array-like of shape (2,)
        Mean center of boxes, in the frame of the mean face.

    Returns
    -------
    placement : ndarray of shape (2, 3)
        From the mean face to the image.
    """
    x, y, width, height = box
    center = np.array([x + width / 2, y + height / 2]) - 0.5
    return similarity(width / box_width, angle, box_center, center)


@dataclass(frozen=True)
class PointCascade:
    """Both networks, the mean face and its position in detectors' boxes.

    Attributes
    ----------
    coarse, fine : OnnxNetwork
        From one crop, uint8 of shape (1, 1, size, size), to points (1, 68, 2).
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face; its outer eye distance is 1.
    box_width : float
        Mean width of detectors' boxes, in outer eye distances.
    box_center : ndarray of shape (2,)
        Their mean center, in the frame of the mean face.
    """

    coarse: "OnnxNetwork"
    fine: "OnnxNetwork"
    mean_shape: np.ndarray
    box_width: float
    box_center: np.ndarray

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
        return self._passes(image, box, angle)[1]

    def refine(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """Find the points again, from approximate ones.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        landmarks : ndarray of shape (68, 2)
            Points of the face, such as those of the previous frame of a video.

        Returns
        -------
        landmarks : ndarray of shape (68, 2)
            ``(x, y)`` in pixels of the image.
        """
        return self._predict(self.fine, image, fit_similarity(self.mean_shape, landmarks))

    def predict_coarse(self, image: np.ndarray, box: Box, angle: float = 0.0) -> np.ndarray:
        """Find approximate points by the coarse network alone.

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
        return self._predict(self.coarse, image, self._in_box(box, angle))

    def box_of(self, landmarks: np.ndarray) -> tuple[Box, float]:
        """Return the box that a detector would give for a face, and the face's rotation.

        Parameters
        ----------
        landmarks : ndarray of shape (68, 2)
            Points of the face, in pixels.

        Returns
        -------
        box : tuple of float
            ``(x, y, width, height)`` in pixels.
        angle : float
            In-plane rotation of the face, in radians, clockwise in the image.
        """
        placement = fit_similarity(self.mean_shape, landmarks)
        scale = np.hypot(placement[0, 0], placement[1, 0])
        angle = np.arctan2(placement[1, 0], placement[0, 0])
        width = float(scale * self.box_width)
        x, y = transform_points(placement, self.box_center) + 0.5 - width / 2
        return (float(x), float(y), width, width), float(angle)

    def rescore(
        self, image: np.ndarray, face: Face, *, detector: str | Path = "dlib"
    ) -> float:
        """Score an uncertain detection again, at the position of the points.

        On a face, the points hardly move when they are found a second time, and the
        detector finds the face again in an upright crop.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        face : Face
            The detection.
        detector : {"dlib", "cascade"} or path, default="dlib"
            As for :func:`ferpipe.faces.detection.score_face`.

        Returns
        -------
        score : float
            On the detector's scale.
        """
        first, again = self._passes(image, face.box, face.angle)
        moved = np.linalg.norm(again - first, axis=1).mean() / outer_eye_distance(first)
        score = score_face(image, *self.box_of(again), detector=detector)
        return score + _SCORE_OF_MOVES * (_NEUTRAL_MOVE - float(moved))

    def _in_box(self, box: Box, angle: float) -> np.ndarray:
        return place_in_box(box, angle, self.mean_shape, self.box_width, self.box_center)

    def _passes(
        self, image: np.ndarray, box: Box, angle: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the points by the coarse network and then by the fine one, twice."""
        size = self.fine.size
        times = max(1, round(CROP_SIDE * box[2] / self.box_width / size))
        # shrunk once instead of for each of the three crops
        x, y, width, height = box
        low, high = (x - width, y - height), (x + 2 * width, y + 2 * height)
        small, from_small = average_blocks(image, low, high, times)
        points = self._predict(
            self.coarse, small, compose(invert(from_small), self._in_box(box, angle))
        )
        first = self.refine(small, points)
        again = self.refine(small, first)
        return transform_points(from_small, first), transform_points(from_small, again)

    def _predict(
        self, network: "OnnxNetwork", image: np.ndarray, placement: np.ndarray
    ) -> np.ndarray:
        size = network.size
        to_crop = crop_transform(placement, self.mean_shape, size)
        crop = warp(image, to_crop, (size, size))
        (points,) = network.run(None, crop)
        return transform_points(invert(to_crop), points[0].astype(np.float64))


def load_cascade(folder: Path | str) -> PointCascade:
    """Load the networks from a folder.

    Parameters
    ----------
    folder : str or path
        Holds ``coarse.onnx`` and ``fine.onnx``.

    Returns
    -------
    cascade : PointCascade
    """
    coarse, fine = Path(folder) / "coarse.onnx", Path(folder) / "fine.onnx"
    facts = read_metadata(coarse)
    return PointCascade(
        OnnxNetwork(coarse),
        OnnxNetwork(fine),
        np.array(facts["mean_shape"]),
        facts["box_width"],
        np.array(facts["box_center"]),
    )


def read_metadata(path: Path | str) -> dict:
    """Read the metadata that :func:`~ferpipe.faces.landmark_network.export_network` wrote.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    metadata : dict
    """
    written = OnnxNetwork(path).session.get_modelmeta().custom_metadata_map
    return current_metadata({name: json.loads(value) for name, value in written.items()})


class OnnxNetwork:
    """A network in an ONNX file, run by one thread.

    Copies and pickles hold the path and open the file again.

    Parameters
    ----------
    path : str or path
        The file; it takes ``crop``, uint8 of shape (1, 1, size, size).
    """

    def __init__(self, path: Path | str) -> None:
        # otherwise ONNX Runtime writes an identifier to disk and sends telemetry
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        # one level of parallelism, the outermost
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            self.path, options, providers=["CPUExecutionProvider"]
        )
        self.size = self.session.get_inputs()[0].shape[-1]

    def run(self, outputs: list[str] | None, crop: np.ndarray) -> list[np.ndarray]:
        """Return the named outputs for a crop (size, size); all outputs for None."""
        return self.session.run(outputs, {"crop": crop[None, None]})

    def __reduce__(self) -> tuple[type["OnnxNetwork"], tuple[Path]]:
        return OnnxNetwork, (self.path,)
