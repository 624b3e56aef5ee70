"""The Recognizer: detector, tracker and model for images, videos and live frames."""

from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ferpipe._system.threads import guard_forks
from ferpipe.caching.transformer import without_cache
from ferpipe.candide.fit_cascade import load_own_cascade
from ferpipe.faces.detection import check_detector
from ferpipe.io.images import read_image
from ferpipe.io.models import load, read_card
from ferpipe.io.videos import read_frames
from ferpipe.networks.pretrained import pretrained
from ferpipe.networks.streaming import why_not_streamed
from ferpipe.recognition.model_input import input_of
from ferpipe.recognition.stream import FacePrediction, Stream, StreamConfig

__all__ = ["Recognizer"]


class Recognizer:
    """Recognize the expressions of all faces in images, videos and live frames.

    A :class:`ferpipe.recognition.tracking.Tracker` detects, tracks and numbers the faces.
    For each face the Recognizer computes the input that the model was fitted on, which the
    model's first step has on record: crops with the eyes at fixed places, parameters of the
    wireframe, or sequences of either.

    Parameters
    ----------
    model : str, path or estimator
        Name of a pretrained network (:func:`ferpipe.pretrained` lists them), a file that
        :func:`ferpipe.save` wrote, or a fitted classifier.
    detector : {"dlib", "cascade", None} or path, default="dlib"
        As for :func:`ferpipe.faces.detection.detect_faces`. None if the images already are
        crops of faces, framed about as FER2013's.
    detect_every : int, default=10
        The detector runs on every such frame of a video; in between, landmarks and
        wireframe track the faces. 1 detects faces in each frame.
    every : float, default=None
        Seconds between two frames of a video that are analyzed; None analyzes all.
    faces : {"all", "largest"}, default="all"
        Which faces of an image or frame are analyzed.
    min_size : float, default=None
        Smallest width of a face, in pixels; None means 80, or a sixth of the shorter side
        of the image where that is less.
    window : int, default=None
        Length of the sequence for a model of sequences: the last frames of each face, fewer
        at its beginning. None takes all frames of the face if the model can read them one
        by one and keep its state, as ``SequenceNetwork(backbone=None,
        bidirectional=False)`` can, and the last 10 otherwise.
    smoothing : float, default=None
        Seconds in which the weight of a frame falls to 1 / e in an exponential mean of
        each face's scores over its past; None for no smoothing.
    abstain_below : float, default=None
        Probability below which a face gets no label.
    neutral : float, default=None
        Length, in seconds, of a neutral expression at the beginning of each face. The mean
        action units of that time, or of its part so far, are subtracted from the reported
        action units. Frames with a quality below 0.5 do not count; until one counts, action
        units are NaN. The model's input does not change, and single images are reported
        unchanged. None subtracts nothing.
    template : {"fer2013", "ck48"} or array-like of shape (2, 2), default=None
        Where the eyes are in the crops that the model was fitted on, as for
        :class:`ferpipe.FaceAligner`. None takes the template of the model's card, or
        "fer2013" without one.
    trusted : iterable of str, default=()
        Names that the model file may use although they are not on the reviewed list, as
        for :func:`ferpipe.load`.
    input : {"candide", None}, default=None
        What the columns are for a model that was fitted on rows or sequences of numbers
        without names: "candide" for an output of :class:`ferpipe.CandideFitter`, which
        follows from the number of columns. None reads the model's record: its first step,
        or the names of its columns.

    Attributes
    ----------
    model : estimator
        The fitted classifier.
    classes : list of str
        Names of its classes.
    gives : {"probabilities", "scores"}
        What the scores of a :class:`FacePrediction` are.
    color : bool
        Whether the model uses color; otherwise gray images are enough.
    keeps_state : bool
        Whether the model reads the frames of a face one by one and keeps its state.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the model is not a fitted classifier with scores.
    ValueError
        If a parameter is wrong, the model takes an input that cannot be computed here, or
        it has no record of its input.

    See Also
    --------
    FaceAligner, CandideFitter : The same crops and parameters for training.

    Notes
    -----
    Images and features are never written to disk: in a copy of the model, each
    :class:`ferpipe.Cached` is replaced by the transformer inside it. The given model does
    not change.

    Copies and pickles hold the model and the settings. They open networks and detectors
    anew and do not hold the frames that went through :meth:`step`.

    Predictions depend on past frames only: a video gives the same numbers frame by frame as
    from its file, in memory that does not grow with its length.

    A model that begins with a FaceAligner, a PerFrame(FaceAligner) or a CandideFitter takes
    crops or parameters of tracked faces. Parameters differ a little from those of the
    CandideFitter alone, which starts the wireframe from coarser landmarks. Any other model
    of raw images takes the region around each face.

    CandideFitter gives all frames of a sequence one sigma (shape parameters), their mean.
    Here it is the mean over the frames of the window, or over all frames so far. With
    ``subtract_first=True`` the alpha (expression parameters) of the first of these frames
    is subtracted: if the model keeps its state, of the first frame with the face.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import ImageNetwork, Recognizer, Training
    >>> crops = np.random.default_rng(0).integers(0, 255, (8, 48, 48), dtype=np.uint8)
    >>> network = ImageNetwork(training=Training(max_epochs=1), random_state=0)
    >>> recognizer = Recognizer(network.fit(crops, ["anger", "fear"] * 4))
    >>> recognizer.predict_image(np.zeros((120, 160), np.uint8))[0].label is None
    True
    """

    def __init__(
        self,
        model: Any,
        *,
        detector: str | Path | None = "dlib",
        detect_every: int = 10,
        every: float | None = None,
        faces: str = "all",
        min_size: float | None = None,
        window: int | None = None,
        smoothing: float | None = None,
        abstain_below: float | None = None,
        neutral: float | None = None,
        template: str | ArrayLike | None = None,
        trusted: Iterable[str] = (),
        input: str | None = None,
    ) -> None:
        counts: dict[str, Any] = {
            "detect_every": detect_every,
            "window": 1 if window is None else window,
        }
        for name, value in counts.items():
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}.")
        positive: dict[str, Any] = {
            "every": every,
            "min_size": min_size,
            "smoothing": smoothing,
            "neutral": neutral,
        }
        for name, number in positive.items():
            if number is not None and not (isinstance(number, Real) and float(number) > 0):
                raise ValueError(
                    f"{name} must be a number above 0 or None, got {number!r}."
                )
        if abstain_below is not None and not (
            isinstance(abstain_below, Real) and 0 <= float(abstain_below) <= 1
        ):
            raise ValueError(
                "abstain_below must be a probability from 0 to 1 or None, got "
                f"{abstain_below!r}."
            )
        if faces not in ("all", "largest"):
            raise ValueError(f"faces must be 'all' or 'largest', got {faces!r}.")
        if detector is not None:
            check_detector(detector)
        opened, of_card = _open_model(model, trusted)
        # images of faces are not kept on disk
        self.model = without_cache(opened)
        self.classes = [str(name) for name in _classes_of(self.model)]
        self.gives = "probabilities" if hasattr(self.model, "predict_proba") else "scores"
        if abstain_below is not None and self.gives == "scores":
            raise ValueError(
                "abstain_below is a probability, but the model gives scores only: wrap it "
                "in CalibratedClassifierCV, or set abstain_below=None."
            )
        self.detector = detector
        self.detect_every = detect_every
        self.every = every
        self.faces = faces
        self.min_size = min_size
        self.window = window
        self.smoothing = smoothing
        self.abstain_below = abstain_below
        self.neutral = neutral
        self.input = input
        self._template = template or of_card or "fer2013"
        self._prepare()
        self.color = self._input.color
        self.keeps_state = (
            self._input.sequences
            and window is None
            and not why_not_streamed(self._input.model)
        )
        self.reset()

    def _prepare(self) -> None:
        guard_forks()
        self._input = input_of(self.model, self._template, self.input)

    def _config(self) -> StreamConfig:
        return StreamConfig(
            model_input=self._input,
            cascade=load_own_cascade(),
            classes=tuple(self.classes),
            gives=self.gives,
            keeps_state=self.keeps_state,
            detector=self.detector,
            detect_every=self.detect_every,
            every=self.every,
            faces=self.faces,
            min_size=self.min_size,
            window=self.window,
            smoothing=self.smoothing,
            abstain_below=self.abstain_below,
            neutral=self.neutral,
        )

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        for made_again in ("_input", "_own_stream"):
            del state[made_again]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()
        self.reset()

    def predict_image(self, image: Any) -> list[FacePrediction]:
        """Recognize the faces in one image.

        Parameters
        ----------
        image : str, path, binary file object or array-like
            As for :func:`ferpipe.read_image`.

        Returns
        -------
        predictions : list of FacePrediction
            One per face, the highest detector score first; one with NaN if there is no
            face. A model of sequences takes the image as a sequence of one frame.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If the image cannot be read.
        """
        stream = Stream(self._config(), find_one=self.faces == "largest")
        return stream.step(read_image(image, gray=not self.color), float("nan"))

    def predict_video(self, path: str | Path) -> Iterator[FacePrediction]:
        """Recognize the faces in a video, one frame at a time.

        Parameters
        ----------
        path : str or path
            A file as for :func:`ferpipe.read_frames`.

        Yields
        ------
        prediction : FacePrediction
            One per face per frame; one with NaN for a frame without a face.

        Raises
        ------
        FileNotFoundError, ValueError
            If the file does not exist or has no frame.
        """
        frames = read_frames(path, gray=not self.color)
        for _, predictions in self.stream().run(frames):
            yield from predictions

    def stream(self) -> Stream:
        """Open a stream for a video whose frames come one by one; several may be open."""
        return Stream(self._config())

    def step(self, frame: ArrayLike, time: float) -> list[FacePrediction]:
        """Recognize the faces in the next frame of the recognizer's own stream.

        Parameters
        ----------
        frame, time
            As :meth:`Stream.step` takes them.

        Returns
        -------
        predictions : list of FacePrediction
        """
        return self._own_stream.step(frame, time)

    def reset(self) -> None:
        """Start a new video: forget the frames that went through :meth:`step`."""
        self._own_stream = self.stream()


def _open_model(model: Any, trusted: Iterable[str]) -> tuple[Any, Any]:
    """Return a fitted model and the eye positions of its card."""
    if isinstance(model, str) and not Path(model).suffix and not Path(model).exists():
        network = pretrained(model)
        return network, _eyes(network.card_)
    if isinstance(model, str | Path):
        loaded = load(model, trusted=trusted)
        return loaded, _eyes(read_card(Path(model).expanduser()))
    return model, None


def _eyes(card: dict[str, Any]) -> Any:
    template = card.get("crop_template")
    return template["eyes"] if isinstance(template, dict) else template


def _classes_of(model: Any) -> Any:
    if isinstance(model, type) or not hasattr(model, "fit"):
        raise TypeError(
            "model must be the name of a pretrained network, the path of a saved model or "
            f"a fitted classifier, got {model!r}."
        )
    check_is_fitted(model)
    if not hasattr(model, "classes_") or isinstance(model.classes_, list):
        raise TypeError(
            f"{type(model).__name__} has no classes, or several lists of them: expected a "
            "classifier of one label, or a Pipeline that ends in one."
        )
    if not (hasattr(model, "predict_proba") or hasattr(model, "decision_function")):
        raise TypeError(
            f"{type(model).__name__} has neither predict_proba nor decision_function; the "
            "Recognizer needs one of them."
        )
    last = model[-1] if isinstance(model, Pipeline) else model
    pairs = getattr(last, "decision_function_shape", None) == "ovo"
    if pairs and not hasattr(model, "predict_proba") and len(model.classes_) > 2:
        raise ValueError(
            f"{type(last).__name__}(decision_function_shape='ovo') scores pairs of "
            "classes, not classes: set 'ovr'."
        )
    return model.classes_
