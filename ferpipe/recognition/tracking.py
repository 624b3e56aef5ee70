"""Track faces from frame to frame of a video; each keeps its number."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from ferpipe.candide.fit_cascade import WireframeCascade
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.faces.detection import Face

__all__ = ["Track", "Tracker", "expected_box", "match_boxes", "overlaps"]

# least overlap of boxes of one face in two frames, and of two tracks on one face
_SAME, _DOUBLE = 0.3, 0.5
# least weight of the newest movement in the velocity, a mean that reduces noise
_NEWEST = 0.2


def overlaps(boxes: ArrayLike, others: ArrayLike) -> NDArray:
    """Compute the overlap (intersection over union) of boxes.

    Parameters
    ----------
    boxes : array-like of shape (n, 4)
        ``(x, y, width, height)``.
    others : array-like of shape (m, 4)
        As ``boxes``.

    Returns
    -------
    overlaps : ndarray of shape (n, m)
        From 0 (disjoint) to 1 (equal).
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    others = np.asarray(others, np.float64).reshape(1, -1, 4)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    return common / (boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - common)


def match_boxes(
    boxes: ArrayLike, others: ArrayLike, *, least: float = _SAME
) -> list[tuple[int, int]]:
    """Pair boxes with the largest sum of overlaps.

    Parameters
    ----------
    boxes : array-like of shape (n, 4)
        ``(x, y, width, height)``.
    others : array-like of shape (m, 4)
        As ``boxes``.
    least : float, default=0.3
        Least overlap of a pair.

    Returns
    -------
    pairs : list of (int, int)
        Indices of both; each occurs at most once.
    """
    shares = overlaps(boxes, others)
    shares[shares < least] = 0
    rows, columns = linear_sum_assignment(-shares)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if shares[row, column] > 0
    ]


@dataclass(frozen=True, eq=False)
class Track:
    """A face in the last frame in which it was tracked.

    Attributes
    ----------
    face : int
        Number of the face.
    time : float
        Time of the frame, in seconds.
    box : tuple of float
        ``(x, y, width, height)`` in pixels.
    score : float
        Score of the detector when it last found the face.
    landmarks : ndarray of shape (68, 2)
        ``(x, y)`` in pixels.
    parameters : ndarray of shape (85,)
        Parameters of the wireframe.
    quality : float
        Probability that the wireframe lies on a face.
    velocity : ndarray of shape (2,)
        Velocity of the center of the box, in pixels per second.
    n_moves : int
        Number of movements in the mean velocity.
    """

    face: int
    time: float
    box: tuple[float, float, float, float]
    score: float
    landmarks: NDArray
    parameters: NDArray
    quality: float
    velocity: NDArray
    n_moves: int


def expected_box(track: Track, time: float) -> tuple[float, float, float, float]:
    """Extrapolate the box of a face to a time, at constant velocity.

    Parameters
    ----------
    track : Track
        The face.
    time : float
        In seconds.

    Returns
    -------
    box : tuple of float
        ``(x, y, width, height)`` in pixels.
    """
    x, y, width, height = track.box
    right, down = track.velocity * (time - track.time)
    return (x + float(right), y + float(down), width, height)


class Tracker:
    """Track the faces of one video and number them.

    The detector runs on every few frames, and whenever a face is lost or there is none. In
    between, the landmarks and the wireframe of the last frame are refined; a face with a
    bad fit is lost. A detection belongs to the face that is expected there, by the largest
    sum of overlaps; faces of the last frame come first. A lost face is extrapolated at
    constant velocity and gets its number back if it is detected there in time. If two
    tracks are on one face, the one that is farther from its expected place is lost.

    Parameters
    ----------
    detect : callable
        Takes a gray image and returns a list of Face.
    cascade : WireframeCascade
        Fits landmarks and wireframe.
    detect_every : int, default=10
        The detector runs on every such frame; 1 detects faces in each frame.
    patience : float, default=1.0
        Seconds after which a lost face is forgotten.
    """

    def __init__(
        self,
        detect: Callable[[NDArray], Sequence[Face]],
        cascade: WireframeCascade,
        *,
        detect_every: int = 10,
        patience: float = 1.0,
    ) -> None:
        self.detect = detect
        self.cascade = cascade
        self.detect_every = detect_every
        self.patience = patience
        self._present: list[Track] = []
        self._missing: list[Track] = []
        self._n_faces = 0
        self._since_detection = 0

    @property
    def tracks(self) -> list[Track]:
        """Faces that are tracked or only recently lost, as they were last tracked."""
        return [*self._present, *self._missing]

    def step(self, image: NDArray, time: float) -> list[Track]:
        """Track and detect the faces of the next frame.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        time : float
            In seconds, more than the time of the last frame.

        Returns
        -------
        tracks : list of Track
            The faces in the frame, ordered by number.
        """
        before = {track.face: track for track in self._present}
        self._missing = [old for old in self._missing if time - old.time <= self.patience]
        self._since_detection += 1
        due = not before or self._since_detection >= self.detect_every
        seen = {} if due else self._follow(before.values(), image, time)
        seen = self._one_track_per_face(seen, time)
        if due or len(seen) < len(before):
            self._since_detection = 0
            found = self._find(seen, image, time)
            # the detector may have missed a face that is still there
            overlooked = [before[face] for face in before if due and face not in found]
            seen = {**self._follow(overlooked, image, time), **found}
        seen = self._one_track_per_face(seen, time)
        self._missing = [
            *(before[face] for face in before if face not in seen),
            *(old for old in self._missing if old.face not in seen),
        ]
        self._present = [seen[face] for face in sorted(seen)]
        return self._present

    def keep_only(self, track: Track) -> None:
        """Forget all faces but one.

        Parameters
        ----------
        track : Track
            One of those that the last step returned.
        """
        self._present, self._missing = [track], []

    def _follow(
        self, tracks: Iterable[Track], image: NDArray, time: float
    ) -> dict[int, Track]:
        """Fit the wireframe of the last frame again; drop faces with a bad fit."""
        followed = {}
        for track in tracks:
            landmarks = self.cascade.landmarks.refine(image, track.landmarks)
            box, _ = self.cascade.landmarks.box_of(landmarks)
            moved = self._fitted(track, image, time, box, landmarks)
            if moved.quality >= LEAST_QUALITY:
                followed[track.face] = moved
        return followed

    def _find(
        self, seen: dict[int, Track], image: NDArray, time: float
    ) -> dict[int, Track]:
        """Detect faces; return them together with the tracked ones."""
        faces = self.detect(image)
        belongs: dict[int, Track] = {}
        # if one face hides another, the detection is the face of the last frame
        for tracks in (self._present, self._missing):
            free = [index for index in range(len(faces)) if index not in belongs]
            places = [
                seen[track.face].box if track.face in seen else expected_box(track, time)
                for track in tracks
            ]
            pairs = match_boxes([faces[index].box for index in free], places)
            belongs.update({free[index]: tracks[place] for index, place in pairs})
        found = dict(seen)
        for index, face in enumerate(faces):
            track = belongs.get(index)
            if track is not None and track.face in seen:
                found[track.face] = replace(seen[track.face], score=face.score)
                continue
            landmarks = self.cascade.landmarks.predict(image, face.box, face.angle)
            if track is None:
                track = self._new_track(face, landmarks, time)
            track = replace(track, score=face.score)
            found[track.face] = self._fitted(track, image, time, face.box, landmarks)
        return found

    def _new_track(self, face: Face, landmarks: NDArray, time: float) -> Track:
        number = self._n_faces
        self._n_faces += 1
        nothing = np.full(len(self.cascade.model.parameter_names), np.nan)
        return Track(
            number, time, face.box, face.score, landmarks, nothing, 0.0, np.zeros(2), 0
        )

    def _fitted(
        self,
        track: Track,
        image: NDArray,
        time: float,
        box: tuple[float, float, float, float],
        landmarks: NDArray,
    ) -> Track:
        parameters, quality = self.cascade.from_landmarks(image, landmarks)
        velocity, n_moves = track.velocity, track.n_moves
        if time > track.time:
            newest = (_center(box) - _center(track.box)) / (time - track.time)
            n_moves += 1
            velocity = velocity + max(_NEWEST, 1 / n_moves) * (newest - velocity)
        return replace(
            track,
            time=time,
            box=box,
            landmarks=landmarks,
            parameters=parameters,
            quality=quality,
            velocity=velocity,
            n_moves=n_moves,
        )

    def _one_track_per_face(self, seen: dict[int, Track], time: float) -> dict[int, Track]:
        """Of two tracks on one face, drop the one farther from its expected place."""
        last = {track.face: track for track in self.tracks}

        def error(track: Track) -> float:
            if track.face not in last:
                return np.inf
            there = expected_box(last[track.face], time)
            distance = np.linalg.norm(_center(track.box) - _center(there))
            return float(distance / track.box[2])

        kept: list[Track] = []
        for track in sorted(seen.values(), key=error):
            others = [other.box for other in kept]
            if not kept or overlaps([track.box], others).max() < _DOUBLE:
                kept.append(track)
        return {track.face: track for track in kept}


def _center(box: tuple[float, float, float, float]) -> NDArray:
    x, y, width, height = box
    return np.array([x + width / 2, y + height / 2])
