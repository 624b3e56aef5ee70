"""Predictions for the faces of one video while its frames come in."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ferpipe._system.threads import at_most, n_cores
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.fit_cascade import WireframeCascade
from ferpipe.candide.fit_quality import LEAST_QUALITY
from ferpipe.candide.model import POSE_NAMES
from ferpipe.faces.detection import Face, detect_faces, find_face
from ferpipe.faces.landmark_points import N_POINTS
from ferpipe.faces.landmarks import central_face
from ferpipe.io.images import as_uint8, read_image
from ferpipe.networks.streaming import SequenceStream
from ferpipe.recognition.model_input import ModelInput
from ferpipe.recognition.tracking import Track, Tracker

__all__ = ["FacePrediction", "Stream", "StreamConfig"]

_N_POSE = len(POSE_NAMES)
# default number of frames in the window of a model of whole sequences
_WINDOW = 10
# frames of a file in one batch of the model: networks take half the time for each
_AT_ONCE = 8
# times are sums of rounded steps: a frame may be early by so many seconds
_EARLY = 1e-4


@dataclass(frozen=True, eq=False)
class FacePrediction:
    """The prediction for one face in one frame.

    A frame without a face has one prediction too, in which all numbers are NaN.

    Attributes
    ----------
    frame : int
        Index in the video, from 0.
    time : float
        In seconds; NaN for an image.
    face : int or None
        Number of the face, the same in all frames of a video; None without a face.
    box : tuple of float
        ``(x, y, width, height)`` in pixels.
    detector_score : float
        Score that the detector gave the face when it last found it.
    scores : dict of str to float
        One number per class: probabilities if the model has ``predict_proba``, the values
        of its ``decision_function`` otherwise. With two classes the latter are each other's
        negatives.
    label : str or None
        The class with the highest score; None if that score is below ``abstain_below``, or
        without a face.
    landmarks : ndarray of shape (68, 2)
        ``(x, y)`` in pixels.
    parameters : ndarray of shape (85,)
        Parameters of the wireframe, in the order of ``CandideFitter("parameters")``.
    quality : float
        Probability that the wireframe lies on a face. Below 0.5, reject landmarks, pose and
        action units.
    neutral : ndarray of shape (65,) or None
        Action units of the neutral face, which ``action_units`` subtracts. None subtracts
        nothing.
    """

    frame: int
    time: float
    face: int | None
    box: tuple[float, float, float, float]
    detector_score: float
    scores: dict[str, float]
    label: str | None
    landmarks: NDArray
    parameters: NDArray
    quality: float
    neutral: NDArray | None = None

    @property
    def pose(self) -> dict[str, float]:
        """Head pose by name: rotation in radians, scale and translation in pixels."""
        return dict(zip(POSE_NAMES, map(float, self.parameters[:_N_POSE]), strict=True))

    @property
    def action_units(self) -> dict[str, float]:
        """Action units by name; 0 is neutral, 1 is intensity D of FACS."""
        model, _ = load_calibrated()
        values = model.split(self.parameters)[2]
        if self.neutral is not None:
            values = values - self.neutral
        return dict(zip(model.animation_names, map(float, values), strict=True))


@dataclass(frozen=True, eq=False)
class StreamConfig:
    """Settings of a stream, as a Recognizer gives them to each that it opens.

    Attributes
    ----------
    model_input : ModelInput
        The model, and how its input is computed from a tracked face.
    cascade : WireframeCascade
        Networks that fit landmarks and wireframe.
    classes : tuple of str
        Class names, in the order of the model's scores.
    gives : {"probabilities", "scores"}
        What the scores of a :class:`FacePrediction` are.
    keeps_state : bool
        Whether the model reads the frames of a face one by one and keeps its state.
    detector, detect_every, every, faces, min_size
        As the parameters of :class:`ferpipe.Recognizer`.
    window, smoothing, abstain_below, neutral
        As its parameters, too.
    """

    model_input: ModelInput
    cascade: WireframeCascade
    classes: tuple[str, ...]
    gives: str
    keeps_state: bool
    detector: str | Path | None
    detect_every: int
    every: float | None
    faces: str
    min_size: float | None
    window: int | None
    smoothing: float | None
    abstain_below: float | None
    neutral: float | None


class Stream:
    """Detects, tracks and classifies the faces of one video, frame by frame.

    Parameters
    ----------
    config : StreamConfig
        The settings.
    find_one : bool, default=False
        Search for the face of one person as thoroughly as FaceAligner does.
    """

    def __init__(self, config: StreamConfig, *, find_one: bool = False) -> None:
        self.config = config
        self._find = partial(_find_one if find_one else _find_all, config)
        self._detections: deque[Future[list[Face]]] = deque()
        self._tracker = Tracker(
            self._detect, config.cascade, detect_every=config.detect_every
        )
        self._n_frames = 0
        self._next_time = -np.inf
        self._histories: dict[int, _FaceHistory] = {}

    def step(self, frame: ArrayLike, time: float) -> list[FacePrediction]:
        """Recognize the faces in the next frame.

        Parameters
        ----------
        frame : array-like of shape (h, w) or (h, w, 3)
            Gray or RGB.
        time : float
            Seconds from the beginning of the video, more than the time of the last frame.

        Returns
        -------
        predictions : list of FacePrediction
            One per face, ordered by face number; one with NaN if there is no face. Empty
            for a frame that ``every`` skips.

        Raises
        ------
        TypeError, ValueError
            If the frame is not an image.
        """
        return self._classify([self._observe(frame, time)])[0]

    def run(
        self, frames: Iterable[tuple[float, NDArray]]
    ) -> Iterator[tuple[NDArray, list[FacePrediction]]]:
        """Recognize the faces in frames that are all available, as those of a file.

        The model classifies the faces of several frames in one batch. With
        ``detect_every=1`` a thread of its own runs the detector on the next frames.

        Parameters
        ----------
        frames : iterable of (float, ndarray)
            Pairs of time and frame, as :meth:`step` takes them and
            :func:`ferpipe.read_frames` yields them. Several are kept in memory: each must
            be an array of its own.

        Yields
        ------
        frame : ndarray
            The unchanged frame.
        predictions : list of FacePrediction
            What :meth:`step` returns.
        """
        detects_ahead = self.config.detect_every == 1 and self.config.every is None
        # threads that share a core with the detector's wait for it
        n_threads = max(1, n_cores() - detects_ahead)
        for batch in _batches(self._detected_ahead(frames) if detects_ahead else frames):
            with at_most(n_threads):
                predictions = self._classify(
                    [self._observe(frame, time) for time, frame in batch]
                )
            yield from zip([frame for _, frame in batch], predictions, strict=True)

    def _detected_ahead(
        self, frames: Iterable[tuple[float, NDArray]]
    ) -> Iterator[tuple[float, NDArray]]:
        """Yield the same frames while a thread runs the detector on the next ones."""
        waiting: deque[tuple[float, NDArray]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for time, frame in frames:
                gray = _gray(as_uint8(frame, name="frame"))
                self._detections.append(pool.submit(self._find, gray))
                waiting.append((time, frame))
                if len(waiting) > 2 * _AT_ONCE:
                    yield waiting.popleft()
            yield from waiting

    def _observe(self, frame: ArrayLike, time: float) -> "_Observation | None":
        """Track the faces into the next frame; None for a frame that is skipped."""
        number = self._n_frames
        self._n_frames += 1
        every = self.config.every
        if every is not None and time < self._next_time - _EARLY:
            return None
        if every is not None:
            late = 0.0 if np.isinf(self._next_time) else time - self._next_time
            # a pause is not made up for by more frames afterwards
            self._next_time = time + every - (late if late < every else 0.0)
        image = as_uint8(frame, name="frame")
        gray = _gray(image)
        in_color = self.config.model_input.color
        if in_color:
            image = read_image(image, gray=False)
        tracks = self._tracker.step(gray, time)
        if self.config.faces == "largest" and tracks:
            largest = max(tracks, key=lambda track: track.box[2])
            self._tracker.keep_only(largest)
            tracks = [largest]
        known = {track.face for track in self._tracker.tracks}
        for face in set(self._histories) - known:
            del self._histories[face]
        for track in tracks:
            if track.face not in self._histories:
                self._histories[track.face] = _FaceHistory(self.config)
        histories = [self._histories[track.face] for track in tracks]
        pixels = image if in_color else gray
        pairs = zip(tracks, histories, strict=True)
        samples = [history.sample(pixels, track) for track, history in pairs]
        return _Observation(number, time, tracks, histories, samples)

    def _classify(
        self, observations: list["_Observation | None"]
    ) -> list[list[FacePrediction]]:
        """Return one list of predictions per frame; an empty one for a skipped frame."""
        model_input = self.config.model_input
        present = [one for one in observations if one is not None]
        samples = [sample for one in present for sample in one.samples]
        scores: Any = []
        if self.config.keeps_state:
            readers = [history for one in present for history in one.histories]
            pairs = zip(readers, samples, strict=True)
            scores = [history.read(sample) for history, sample in pairs]
        elif samples:
            scores = _predict_scores(model_input.model, model_input.batch(samples))
        rows = iter(_in_columns(scores))
        return [[] if one is None else self._predictions(one, rows) for one in observations]

    def _predictions(
        self, observation: "_Observation", rows: Iterator[NDArray]
    ) -> list[FacePrediction]:
        number, time = observation.number, observation.time
        if not observation.tracks:
            return [_without_face(number, time, self.config.classes)]
        pairs = zip(observation.tracks, observation.histories, strict=True)
        return [
            self._prediction(number, time, track, history, next(rows))
            for track, history in pairs
        ]

    def _detect(self, gray: NDArray) -> list[Face]:
        if self._detections:
            return self._detections.popleft().result()
        return self._find(gray)

    def _prediction(
        self,
        number: int,
        time: float,
        track: Track,
        history: "_FaceHistory",
        scores: NDArray,
    ) -> FacePrediction:
        config = self.config
        if config.smoothing is not None:
            scores = history.smoothed(scores, time, config.smoothing)
        best = int(scores.argmax())
        least = config.abstain_below
        sure = least is None or scores[best] >= least
        neutral = None
        if config.neutral is not None and not np.isnan(time):
            neutral = history.neutral(track, time, config.neutral)
        return FacePrediction(
            frame=number,
            time=float(time),
            face=track.face,
            box=track.box,
            detector_score=track.score,
            scores=dict(zip(config.classes, map(float, scores), strict=True)),
            label=config.classes[best] if sure else None,
            landmarks=track.landmarks,
            parameters=track.parameters,
            quality=track.quality,
            neutral=neutral,
        )


class _FaceHistory:
    """The past of one tracked face: frames or network state, mean scores, neutral face."""

    def __init__(self, config: StreamConfig) -> None:
        self._input = config.model_input
        self._keeps_state = config.keeps_state
        self._frames: deque[NDArray] = deque(maxlen=config.window or _WINDOW)
        if config.keeps_state:
            self._prepare = self._input.begin()
            self._stream = SequenceStream(self._input.model)
        self._last_time = 0.0
        self._mean_scores: NDArray | None = None
        self._neutral_from: float | None = None
        self._n_neutral = 0
        self._sum_neutral: Any = 0.0

    def sample(self, image: NDArray, track: Track) -> Any:
        """Return the model's input for the face in the next frame."""
        frame = self._input.extract(image, track)
        if self._keeps_state or not self._input.sequences:
            return frame
        self._frames.append(frame)
        return self._input.join(list(self._frames))

    def read(self, frame: NDArray) -> Any:
        """Give the model the next frame; return its scores for all frames so far."""
        return self._stream.step(self._prepare(frame))

    def smoothed(self, scores: NDArray, time: float, seconds: float) -> NDArray:
        """Return the exponential mean of the face's scores."""
        if self._mean_scores is not None:
            weight = np.exp((self._last_time - time) / seconds)
            scores = weight * self._mean_scores + (1 - weight) * scores
        self._last_time, self._mean_scores = time, scores
        return scores

    def neutral(self, track: Track, time: float, seconds: float) -> NDArray:
        """Return the mean action units of the face's first seconds so far."""
        units = load_calibrated()[0].split(track.parameters)[2]
        if track.quality >= LEAST_QUALITY:
            if self._neutral_from is None:
                self._neutral_from = time
            if time - self._neutral_from < seconds - _EARLY:
                self._n_neutral += 1
                self._sum_neutral = self._sum_neutral + units
        if not self._n_neutral:
            return np.full_like(units, np.nan)
        return self._sum_neutral / self._n_neutral


@dataclass(frozen=True, eq=False)
class _Observation:
    """The tracked faces of one frame, and the model's input for each."""

    number: int
    time: float
    tracks: list[Track]
    histories: list[_FaceHistory]
    samples: list[Any]


def _predict_scores(model: Any, X: Any) -> NDArray:
    if hasattr(model, "predict_proba"):
        return model.predict_proba(X)
    return model.decision_function(X)


def _batches(
    frames: Iterable[tuple[float, NDArray]],
) -> Iterator[list[tuple[float, NDArray]]]:
    frames = iter(frames)
    while batch := list(islice(frames, _AT_ONCE)):
        yield batch


def _in_columns(scores: ArrayLike) -> NDArray:
    """Return one column per class, also where two classes share one score."""
    scores = np.array(scores, np.float64)
    return np.column_stack([-scores, scores]) if scores.ndim == 1 else scores


def _without_face(number: int, time: float, classes: Iterable[str]) -> FacePrediction:
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


def _find_all(config: StreamConfig, image: NDArray) -> list[Face]:
    if config.detector is None:
        return [central_face(image)]
    shorter_side = min(image.shape)
    sizes = [config.min_size or min(80, shorter_side / 6)]
    if config.faces == "largest":
        # most often it is large, and large faces are found many times faster
        sizes.insert(0, max(sizes[0], shorter_side / 3))
    for min_size in sizes:
        faces = detect_faces(image, detector=config.detector, min_size=min_size)
        if faces:
            break
    return faces


def _find_one(config: StreamConfig, image: NDArray) -> list[Face]:
    if config.detector is None:
        return [central_face(image)]
    rescore: Callable[[Face], Any] = partial(
        config.cascade.rescore, image, detector=config.detector
    )
    face = find_face(
        image, detector=config.detector, min_size=config.min_size, rescore=rescore
    )
    return [] if face is None else [face]


def _gray(image: NDArray) -> NDArray:
    import cv2

    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
