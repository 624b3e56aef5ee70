"""Follow faces from frame to frame of a video, each under a number of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.faces.detection import Face

__all__ = ["Track", "Tracker", "expected_box", "match_boxes", "overlaps"]

# boxes of one face in two frames overlap at least so much, those of two faces less
_SAME, _DOUBLE = 0.3, 0.5
# least share of the newest movement in the velocity: noise of some frames averages out
_NEWEST = 0.2


def overlaps(boxes, others):
    """Return how much boxes overlap: area of the intersection over that of the union.

    Parameters
    ----------
    boxes : array-like of shape (n, 4)
        ``(x, y, width, height)``.
    others : array-like of shape (m, 4)
        The same.

    Returns
    -------
    overlaps : ndarray of shape (n, m)
        0, apart, to 1, equal.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 1, 4)
    others = np.asarray(others, np.float64).reshape(1, -1, 4)
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    return common / (boxes[..., 2:].prod(-1) + others[..., 2:].prod(-1) - common)


def match_boxes(boxes, others, *, least=_SAME) -> list[tuple[int, int]]:
    """Pair boxes so that the sum of their overlaps is the largest.

    Parameters
    ----------
    boxes : array-like of shape (n, 4)
        ``(x, y, width, height)``.
    others : array-like of shape (m, 4)
        The same.
    least : float, default=0.3
        Overlap from which on two boxes may be a pair.

    Returns
    -------
    pairs : list of (int, int)
        Indices of both; each occurs once at most.
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
    """A face in the frame in which it was last seen.

    Attributes
    ----------
    face : int
        Its number.
    time : float
        Of the frame, in seconds.
    box : tuple of float
        ``(x, y, width, height)`` in pixels.
    score : float
        Of the detector, when it last found the face.
    landmarks : ndarray of shape (68, 2)
        ``(x, y)`` in pixels.
    parameters : ndarray of shape (85,)
        Of the wireframe.
    quality : float
        Probability that the wireframe lies on a face.
    velocity : ndarray of shape (2,)
        Of the middle of the box, in pixels a second.
    n_moves : int
        Movements from frame to frame that the velocity is a mean of.
    """

    face: int
    time: float
    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray
    parameters: np.ndarray
    quality: float
    velocity: np.ndarray
    n_moves: int


def expected_box(track, time):
    """Return the box that a face has at a time, if it goes on as it went.

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
    """Find the faces of each frame of one video and tell which is which.

    A detector looks every few frames, and whenever a face was lost or there is none.
    Between, landmarks and wireframe of the last frame are fitted again; a face whose fit
    is no good is lost. A find belongs to the face that is expected there, by the largest
    sum of overlaps; faces of the frame before come first. A lost face goes on in its
    direction, unseen, and gets its number back if it is found there in time. Of two tracks
    that came to lie on one face, the one that is farther from where it was expected is
    lost.

    Parameters
    ----------
    detect : callable
        From a gray image to a list of Face.
    cascade : WireframeCascade
        Fits landmarks and wireframe.
    detect_every : int, default=10
        Frames from one look of the detector to the next; 1 does without following.
    patience : float, default=1.0
        Seconds after which a lost face is given up.
    """

    def __init__(
        self,
        detect: Callable[[np.ndarray], Sequence[Face]],
        cascade: Any,
        *,
        detect_every: int = 10,
        patience: float = 1.0,
    ):
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
        """Faces that are seen or waited for, as they were last seen."""
        return [*self._present, *self._missing]

    def step(self, image, time) -> list[Track]:
        """Find the faces of the next frame.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray.
        time : float
            In seconds, later than that of the frame before.

        Returns
        -------
        tracks : list of Track
            The faces that are seen, by their numbers.
        """
        before = {track.face: track for track in self._present}
        self._missing = [old for old in self._missing if time - old.time <= self.patience]
        self._since_detection += 1
        due = not before or self._since_detection >= self.detect_every
        seen = {} if due else self._follow(before.values(), image, time)
        seen = self._one_track_a_face(seen, time)
        if due or len(seen) < len(before):
            self._since_detection = 0
            found = self._find(seen, image, time)
            # what the detector overlooks may be there nevertheless
            overlooked = [before[face] for face in before if due and face not in found]
            seen = {**self._follow(overlooked, image, time), **found}
        seen = self._one_track_a_face(seen, time)
        self._missing = [
            *(before[face] for face in before if face not in seen),
            *(old for old in self._missing if old.face not in seen),
        ]
        self._present = [seen[face] for face in sorted(seen)]
        return self._present

    def keep_only(self, track):
        """Forget all faces but one.

        Parameters
        ----------
        track : Track
            One of those that the last step returned.
        """
        self._present, self._missing = [track], []

    def _follow(self, tracks, image, time):
        """Fit the wireframe again to faces of the last frame; those it does not fit go."""
        followed = {}
        for track in tracks:
            landmarks = self.cascade.landmarks.refine(image, track.landmarks)
            box, _ = self.cascade.landmarks.box_of(landmarks)
            moved = self._fitted(track, image, time, box, landmarks)
            if moved.quality >= LEAST_QUALITY:
                followed[track.face] = moved
        return followed

    def _find(self, seen, image, time):
        """Detect faces; return them, and those that are seen already."""
        faces = self.detect(image)
        belongs = {}
        # where a face hides another the find is the one that was seen until now
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

    def _new_track(self, face, landmarks, time):
        number = self._n_faces
        self._n_faces += 1
        nothing = np.full(len(self.cascade.model.parameter_names), np.nan)
        return Track(
            number, time, face.box, face.score, landmarks, nothing, 0.0, np.zeros(2), 0
        )

    def _fitted(self, track, image, time, box, landmarks):
        parameters, quality = self.cascade.from_landmarks(image, landmarks)
        velocity, n_moves = track.velocity, track.n_moves
        if time > track.time:
            newest = (_middle(box) - _middle(track.box)) / (time - track.time)
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

    def _one_track_a_face(self, seen, time):
        """Drop those of doubled tracks that are farther from where they were expected."""
        last = {track.face: track for track in self.tracks}

        def surprise(track):
            if track.face not in last:
                return np.inf
            there = expected_box(last[track.face], time)
            return np.linalg.norm(_middle(track.box) - _middle(there)) / track.box[2]

        kept = []
        for track in sorted(seen.values(), key=surprise):
            others = [other.box for other in kept]
            if not kept or overlaps([track.box], others).max() < _DOUBLE:
                kept.append(track)
        return {track.face: track for track in kept}


def _middle(box):
    x, y, width, height = box
    return np.array([x + width / 2, y + height / 2])
