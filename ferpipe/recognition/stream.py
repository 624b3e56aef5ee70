"""What is seen of the faces of one video while its frames come in."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from ferpipe._system.threads import at_most, n_cores
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.candide.model import POSE_NAMES
from ferpipe.faces.detection import detect_faces, find_face
from ferpipe.faces.landmark_points import N_POINTS
from ferpipe.faces.landmarks import central_face
from ferpipe.io.images import as_uint8, read_image
from ferpipe.networks.streaming import SequenceStream
from ferpipe.recognition.tracking import Tracker

__all__ = ["FacePrediction", "Stream"]

_N_POSE = len(POSE_NAMES)
# frames that a model of whole sequences gets, unless it is said otherwise
_WINDOW = 10
# frames of a file that the model gets together: networks take half the time for each
_AT_ONCE = 8
# times are sums of rounded steps: a frame may be early by so many seconds
_EARLY = 1e-4


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """One face in one frame; or one frame without a face, in which numbers are NaN.

    Attributes
    ----------
    frame : int
        Index in the video, from 0.
    time : float
        In seconds; NaN for an image.
    face : int or None
        Number of the face, the same in all frames of a video.
    box : tuple of float
        ``(x, y, width, height)`` in pixels.
    detector_score : float
        Of the detector, when it last found the face.
    scores : dict of str to float
        A number a class: probabilities if the model gives them, else the values of its
        ``decision_function``; those of two classes are each other's negatives.
    label : str or None
        The class with the highest score; None if that is too low, or there is no face.
    landmarks : ndarray of shape (68, 2)
        ``(x, y)`` in pixels.
    parameters : ndarray of shape (85,)
        Of the wireframe, as ``CandideFitter("parameters")`` names them.
    quality : float
        Probability that the wireframe lies on a face: below 0.5 landmarks, pose and action
        units had better be rejected.
    neutral : ndarray of shape (65,) or None
        What ``action_units`` leaves out: those of the face at rest, as far as they are
        known. None for nothing.
    """

    frame: int
    time: float
    face: int | None
    box: tuple[float, float, float, float]
    detector_score: float
    scores: dict[str, float]
    label: str | None
    landmarks: np.ndarray
    parameters: np.ndarray
    quality: float
    neutral: np.ndarray | None = None

    @property
    def pose(self) -> dict[str, float]:
        """Rotation in radians, scale and place of the wireframe, by name."""
        return dict(zip(POSE_NAMES, map(float, self.parameters[:_N_POSE]), strict=True))

    @property
    def action_units(self) -> dict[str, float]:
        """Animation units of the wireframe, by name; 0 is neutral, 1 is intensity D."""
        model, _ = load_calibrated()
        values = model.split(self.parameters)[2]
        if self.neutral is not None:
            values = values - self.neutral
        return dict(zip(model.animation_names, map(float, values), strict=True))


class Stream:
    """What is known of one video while its frames come in.

    Parameters
    ----------
    recognizer : Recognizer
        What it is looked at with.
    find_one : bool, default=False
        Look for the face of one person as thoroughly as FaceAligner does.
    """

    def __init__(self, recognizer, *, find_one: bool = False):
        self.recognizer = recognizer
        self._find = partial(_find_one if find_one else _find_all, recognizer)
        self._finds: deque = deque()
        self._tracker = Tracker(
            self._detect, recognizer._cascade, detect_every=recognizer.detect_every
        )
        self._n_frames = 0
        self._next_time = -np.inf
        self._memories: dict[int, _Memory] = {}

    def step(self, frame, time) -> list[FacePrediction]:
        """Recognize the faces in the next frame.

        Parameters
        ----------
        frame : array-like of shape (h, w) or (h, w, 3)
            Gray or RGB.
        time : float
            Seconds from the beginning of the video, more than those of the frame before.

        Returns
        -------
        predictions : list of FacePrediction
            A face each, by its number; one of NaN if there is none. Empty for frames that
            are left out because of ``every``.

        Raises
        ------
        TypeError, ValueError
            If the frame is no image.
        """
        return self._classify([self._observe(frame, time)])[0]

    def run(self, frames) -> Iterator[tuple[np.ndarray, list[FacePrediction]]]:
        """Recognize the faces in frames that need not be answered one by one.

        The model works on some frames at once; where the detector looks at each frame, it
        looks ahead in a thread of its own.

        Parameters
        ----------
        frames : iterable of (float, ndarray)
            Times and frames, as :meth:`step` takes them and :func:`ferpipe.read_frames`
            yields them. Some are kept until they are answered: each is an array of its own.

        Yields
        ------
        frame : ndarray
            As it came.
        predictions : list of FacePrediction
            What :meth:`step` returns.
        """
        looks_ahead = self.recognizer.detect_every == 1 and self.recognizer.every is None
        # threads that share a core with the detector's wait for it
        n_threads = max(1, n_cores() - looks_ahead)
        for some in _batches(self._detected_ahead(frames) if looks_ahead else frames):
            with at_most(n_threads):
                answers = self._classify(
                    [self._observe(frame, time) for time, frame in some]
                )
            yield from zip([frame for _, frame in some], answers, strict=True)

    def _detected_ahead(self, frames):
        """Yield the same, while the detector looks at the next frames already."""
        waiting = deque()
        with ThreadPoolExecutor(1) as pool:
            for time, frame in frames:
                gray = _gray(as_uint8(frame, name="frame"))
                self._finds.append(pool.submit(self._find, gray))
                waiting.append((time, frame))
                if len(waiting) > 2 * _AT_ONCE:
                    yield waiting.popleft()
            yield from waiting

    def _observe(self, frame, time):
        """Find and follow the faces of the next frame; return what the model shall see."""
        number = self._n_frames
        self._n_frames += 1
        every = self.recognizer.every
        if every is not None and time < self._next_time - _EARLY:
            return None
        if every is not None:
            late = 0.0 if np.isinf(self._next_time) else time - self._next_time
            # a pause does not make up for itself by more frames afterwards
            self._next_time = time + every - (late if late < every else 0.0)
        image = as_uint8(frame, name="frame")
        gray = _gray(image)
        if self.recognizer.color:
            image = read_image(image, gray=False)
        tracks = self._tracker.step(gray, time)
        if self.recognizer.faces == "largest" and tracks:
            largest = max(tracks, key=lambda track: track.box[2])
            self._tracker.keep_only(largest)
            tracks = [largest]
        known = {track.face for track in self._tracker.tracks}
        for face in set(self._memories) - known:
            del self._memories[face]
        for track in tracks:
            if track.face not in self._memories:
                self._memories[track.face] = _Memory(self.recognizer)
        memories = [self._memories[track.face] for track in tracks]
        seen = image if self.recognizer._input.color else gray
        pairs = zip(tracks, memories, strict=True)
        samples = [memory.sample(seen, track) for track, memory in pairs]
        return _Look(number, time, tracks, memories, samples)

    def _classify(self, looks):
        """Return the predictions of some frames, in a list each."""
        recognizer = self.recognizer
        model_input = recognizer._input
        samples = [sample for look in looks if look for sample in look.samples]
        if recognizer.keeps_state:
            readers = [memory for look in looks if look for memory in look.memories]
            pairs = zip(readers, samples, strict=True)
            scores = [memory.read(sample) for memory, sample in pairs]
        elif samples:
            scores = _decide(model_input.model, model_input.batch(samples))
        else:
            scores = []
        rows = iter(_in_columns(scores))
        return [self._predictions(look, rows) if look else [] for look in looks]

    def _predictions(self, look, rows):
        if not look.tracks:
            return [_nobody(look.number, look.time, self.recognizer.classes)]
        return [
            self._prediction(look.number, look.time, track, memory, next(rows))
            for track, memory in zip(look.tracks, look.memories, strict=True)
        ]

    def _detect(self, gray):
        return self._finds.popleft().result() if self._finds else self._find(gray)

    def _prediction(self, number, time, track, memory, scores):
        if self.recognizer.smoothing is not None:
            scores = memory.smoothed(scores, time)
        best = int(scores.argmax())
        least = self.recognizer.abstain_below
        sure = least is None or scores[best] >= least
        classes = self.recognizer.classes
        neutral = None
        if self.recognizer.neutral is not None and not np.isnan(time):
            neutral = memory.neutral(track, time)
        return FacePrediction(
            frame=number,
            time=float(time),
            face=track.face,
            box=track.box,
            detector_score=track.score,
            scores=dict(zip(classes, map(float, scores), strict=True)),
            label=classes[best] if sure else None,
            landmarks=track.landmarks,
            parameters=track.parameters,
            quality=track.quality,
            neutral=neutral,
        )


@dataclass(frozen=True, eq=False)
class _Look:
    """The faces of one frame, and what the model is given of each."""

    number: int
    time: float
    tracks: list
    memories: list
    samples: list


class _Memory:
    """What is known of one face while its frames come in."""

    def __init__(self, recognizer):
        self._recognizer = recognizer
        self._frames = deque(maxlen=recognizer.window or _WINDOW)
        if recognizer.keeps_state:
            self._prepare = recognizer._input.begin()
            self._stream = SequenceStream(recognizer._input.model)
        self._last_time, self._smooth = 0.0, None
        self._at_rest_from = None
        self._at_rest = [0, 0.0]

    def sample(self, image, track):
        """Return what the model is given of the face in the next frame."""
        model_input = self._recognizer._input
        frame = model_input.look(image, track)
        if self._recognizer.keeps_state or not model_input.sequences:
            return frame
        self._frames.append(frame)
        return model_input.join(list(self._frames))

    def read(self, frame):
        """Let the model read the next frame; return what it says of all so far."""
        return self._stream.step(self._prepare(frame))

    def smoothed(self, scores, time):
        """Return the exponential mean of the face's scores."""
        if self._smooth is not None:
            weight = np.exp((self._last_time - time) / self._recognizer.smoothing)
            scores = weight * self._smooth + (1 - weight) * scores
        self._last_time, self._smooth = time, scores
        return scores

    def neutral(self, track, time):
        """Return the mean action units of the face's first seconds so far."""
        units = load_calibrated()[0].split(track.parameters)[2]
        if track.quality >= LEAST_QUALITY:
            if self._at_rest_from is None:
                self._at_rest_from = time
            if time - self._at_rest_from < self._recognizer.neutral - _EARLY:
                self._at_rest = [self._at_rest[0] + 1, self._at_rest[1] + units]
        count, total = self._at_rest
        return total / count if count else np.full_like(units, np.nan)


def _decide(model, X):
    if hasattr(model, "predict_proba"):
        return model.predict_proba(X)
    return model.decision_function(X)


def _batches(frames):
    """Yield lists of some frames."""
    frames = iter(frames)
    while some := list(islice(frames, _AT_ONCE)):
        yield some


def _in_columns(scores):
    """Give each of two classes a column too if their scores came as one."""
    scores = np.array(scores, np.float64)
    return np.column_stack([-scores, scores]) if scores.ndim == 1 else scores


def _nobody(number, time, classes):
    nan = float("nan")
    n_parameters = len(load_calibrated()[0].parameter_names)
    return FacePrediction(
        frame=number,
        time=float(time),
        face=None,
        box=(nan, nan, nan, nan),
        detector_score=nan,
        scores=dict.fromkeys(classes, nan),
        label=None,
        landmarks=np.full((N_POINTS, 2), nan),
        parameters=np.full(n_parameters, nan),
        quality=nan,
    )


def _find_all(recognizer, image):
    if recognizer.detector is None:
        return [central_face(image)]
    shorter_side = min(image.shape)
    sizes = [recognizer.min_size or min(80, shorter_side / 6)]
    if recognizer.faces == "largest":
        # most often it is large, and large faces are found many times faster
        sizes.insert(0, max(sizes[0], shorter_side / 3))
    for min_size in sizes:
        faces = detect_faces(image, detector=recognizer.detector, min_size=min_size)
        if faces:
            break
    return faces


def _find_one(recognizer, image):
    if recognizer.detector is None:
        return [central_face(image)]
    rescore = partial(recognizer._cascade.rescore, image, detector=recognizer.detector)
    face = find_face(
        image, detector=recognizer.detector, min_size=recognizer.min_size, rescore=rescore
    )
    return [] if face is None else [face]


def _gray(image):
    import cv2

    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
