"""Find the points of a face with two small networks, the second in the frame of the first.

The coarse network looks at an upright crop round the detector's box. The similarity
transform from the mean face to its points gives a crop in which the face stands upright,
centered and at one size; the fine network looks at that one, twice: the second time from
where its own points place the face.
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

# of a crop, in outer eye distances of the mean face
CROP_SIDE = 2.35
# In dlib's scores, for a move of one outer eye distance, and the move that counts for
# nothing; set on finds with scores from -0.8 in photos of AFW and Helen and in images
# without a face.
_SCORE_OF_MOVES = 40.0
_NEUTRAL_MOVE = 0.025


def crop_transform(placement: np.ndarray, mean_shape: np.ndarray, size: int) -> np.ndarray:
    """Return the transform from an image to the crop of a face.

    Parameters
    ----------
    placement : ndarray of shape (2, 3)
        From the mean face to the image.
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face; its outer eye distance is 1.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    matrix : ndarray of shape (2, 3)
        The crop's center is the middle of the mean face's bounding box.
    """
    middle = (mean_shape.min(0) + mean_shape.max(0)) / 2
    to_crop = similarity(size / CROP_SIDE, 0, middle, ((size - 1) / 2, (size - 1) / 2))
    return compose(to_crop, invert(placement))


class CropPlacer:
    """Frames a face by points that are known: what depends on them alone is left to do.

    Calling it with points is ``crop_transform(fit_similarity(mean_points, points),
    mean_shape, size)`` in a quarter of the time. Places are complex numbers here: a
    similarity transform is one product and one sum.

    Parameters
    ----------
    mean_points : ndarray of shape (k, 2)
        Those points of the mean face.
    mean_shape : ndarray of shape (68, 2)
        All points of it; its outer eye distance is 1.
    size : int
        Side of the crop, in pixels.
    """

    def __init__(self, mean_points: np.ndarray, mean_shape: np.ndarray, size: int) -> None:
        mean = mean_points.mean(0)
        off = mean_points - mean
        # the regression of complex numbers on these, centered
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
            In pixels of the image.

        Returns
        -------
        matrix : ndarray of shape (2, 3)
        """
        places = np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
        middle = complex(places.mean())
        turn = self._scale / complex(self._weights @ (places - middle))
        shift = self._target - turn * middle
        return np.array(
            [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]]
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
    """Both networks, and what they must know.

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
        """Find the points again, from where they nearly are.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        landmarks : ndarray of shape (68, 2)
            Points of the face, in the last frame of a video for example.

        Returns
        -------
        landmarks : ndarray of shape (68, 2)
        """
        return self._predict(self.fine, image, fit_similarity(self.mean_shape, landmarks))

    def predict_coarse(self, image: np.ndarray, box: Box, angle: float = 0.0) -> np.ndarray:
        """Find the points roughly, by the coarse network alone.

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
        """
        return self._predict(self.coarse, image, self._in_box(box, angle))

    def box_of(self, landmarks: np.ndarray) -> tuple[Box, float]:
        """Return the box that a detector would put round a face, and the face's turn.

        Parameters
        ----------
        landmarks : ndarray of shape (68, 2)
            Points of the face.

        Returns
        -------
        box : tuple of float
            ``(x, y, width, height)`` in pixels.
        angle : float
            In radians, clockwise.
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
        """Score a doubtful find again, where the points say that the face is.

        On a face, points that are looked for a second time from where they were found
        hardly move, and a detector finds it again in an upright crop.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        face : Face
            What the detector found.
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
        # smaller once rather than for each of the three crops
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
    """Read what :func:`~ferpipe.faces.landmark_network.export_network` wrote in a file.

    Parameters
    ----------
    path : path
        The file.
    """
    written = OnnxNetwork(path).session.get_modelmeta().custom_metadata_map
    return current_metadata({name: json.loads(value) for name, value in written.items()})


class OnnxNetwork:
    """A network of a file, run by one thread.

    Copies and pickles hold the path: the file is opened again where they arrive.

    Parameters
    ----------
    path : str or path
        The file; it takes ``crop``, uint8 of shape (1, 1, size, size).
    """

    def __init__(self, path: Path | str) -> None:
        # else it writes an identifier of the computer to disk, and reports to its maker
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
        """Return the named outputs, or all for None, of a crop (size, size)."""
        return self.session.run(outputs, {"crop": crop[None, None]})

    def __reduce__(self) -> tuple[type["OnnxNetwork"], tuple[Path]]:
        return OnnxNetwork, (self.path,)
