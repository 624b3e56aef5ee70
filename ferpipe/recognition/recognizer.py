"""Recognizer: detector, tracker and model, for images, videos and live frames."""

from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path

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
from ferpipe.recognition.stream import FacePrediction, Stream

__all__ = ["Recognizer"]


class Recognizer:
    """Recognize the expressions of all faces in images, videos and live frames.

    Faces are detected, followed and numbered by a
    :class:`ferpipe.recognition.tracking.Tracker`. A model gets of each face what it was
    fitted on, as its first step has it on record: crops with the eyes at fixed places,
    parameters of the wireframe, or sequences of either.

    Parameters
    ----------
    model : str, path or estimator
        Name of a network that ships (:func:`ferpipe.pretrained` lists them), a file that
        :func:`ferpipe.save` wrote, or a fitted classifier.
    detector : {"dlib", "cascade", None} or path, default="dlib"
        As for :func:`ferpipe.faces.detection.detect_faces`. None: images are crops of faces
        already, framed about as FER2013's.
    detect_every : int, default=10
        Frames of a video from one look of the detector to the next; between, faces are
        followed by landmarks and wireframe. 1 detects faces in each frame.
    every : float, default=None
        Seconds from one frame of a video that is looked at to the next; None for all.
    faces : {"all", "largest"}, default="all"
        Which faces of an image or frame are looked at.
    min_size : float, default=None
        Smallest width of a face, in pixels; None means 80, or a sixth of the shorter side
        of the image where that is less.
    window : int, default=None
        Frames that a model of sequences gets: the last ones of each face, fewer in its
        beginning. None: all of the face's frames, if the model can read them one by one
        and keep its state, as ``SequenceNetwork(backbone=None, bidirectional=False)`` does;
        the last 10 otherwise.
    smoothing : float, default=None
        Seconds in which the weight of a frame falls to 1 / e in an exponential mean of
        each face's scores over its past; None for no smoothing.
    abstain_below : float, default=None
        Probability below which a face gets no label.
    neutral : float, default=None
        Seconds in which each face is taken to be at rest when it comes: its mean action
        units there, those so far while they last, are subtracted from those reported.
        Frames of too low a quality do not count; until one does, action units are NaN. The
        model's input stays as it is, and so do images. None for nothing.
    template : {"fer2013", "ck48"} or array-like of shape (2, 2), default=None
        Where the eyes are in the crops that the model was fitted on, as for
        :class:`ferpipe.FaceAligner`. None takes what the model's card says, or "fer2013".
    trusted : iterable of str, default=()
        As :func:`ferpipe.load` takes it, for a model file that holds more than the list
        admits.
    input : {"candide", None}, default=None
        What the columns of a model are that was fitted on rows or sequences of numbers
        without names: "candide" for those of :class:`ferpipe.CandideFitter`, whose output
        follows from their number. None takes the record: the first step, or the names of
        the columns.

    Attributes
    ----------
    model : estimator
        The fitted classifier.
    classes : list of str
        Names of its classes.
    gives : {"probabilities", "scores"}
        What the scores of a :class:`FacePrediction` are.
    color : bool
        Whether the model sees colors: only then they need be read.
    keeps_state : bool
        Whether the model reads all frames of a face one by one, not the last ones anew.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If the model is no classifier that can be used.
    ValueError
        If a parameter is wrong, the model takes something that is not made here, or what
        it takes is not on record.

    See Also
    --------
    FaceAligner, CandideFitter : The same crops and parameters for training.

    Notes
    -----
    Nothing of what is shown is written to disk: a :class:`ferpipe.Cached` anywhere in the
    model is replaced by the transformer in it, in a copy; the model given stays as it is.

    Copies and pickles have the model and the settings. Networks and detectors are opened
    again where they arrive, and frames that went through :meth:`step` are forgotten.

    Answers use the past alone: a video gives the same numbers frame by frame as at once,
    in memory that does not grow with its length.

    A model that begins with a FaceAligner, a PerFrame(FaceAligner) or a CandideFitter gets
    crops or parameters of faces that are followed already. Parameters differ a little from
    those of the CandideFitter alone, which looks at the wireframe from coarser landmarks.
    Any other model of raw images gets what is round each face.

    CandideFitter gives all frames of a sequence one sigma, the mean over them. Here it is
    the mean over the frames that the model hears of: those of the window, or those so far.
    With ``subtract_first=True`` the alpha that is subtracted is that of the first of these
    frames: where the model keeps its state, that in which the face came.

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
        model,
        *,
        detector="dlib",
        detect_every=10,
        every=None,
        faces="all",
        min_size=None,
        window=None,
        smoothing=None,
        abstain_below=None,
        neutral=None,
        template=None,
        trusted=(),
        input=None,
    ):
        counts = {
            "detect_every": detect_every,
            "window": 1 if window is None else window,
        }
        for name, value in counts.items():
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}.")
        positive = {
            "every": every,
            "min_size": min_size,
            "smoothing": smoothing,
            "neutral": neutral,
        }
        for name, number in positive.items():
            if number is not None and not (isinstance(number, Real) and number > 0):
                raise ValueError(
                    f"{name} must be a number above 0 or None, got {number!r}."
                )
        if abstain_below is not None and not (
            isinstance(abstain_below, Real) and 0 <= abstain_below <= 1
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
        # what it is shown is not kept on disk
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

    def _prepare(self):
        guard_forks()
        self._input = input_of(self.model, self._template, self.input)
        self._cascade = load_own_cascade()

    def __getstate__(self):
        state = dict(vars(self))
        for made_again in ("_input", "_cascade", "_own_stream"):
            del state[made_again]
        return state

    def __setstate__(self, state):
        vars(self).update(state)
        self._prepare()
        self.reset()

    def predict_image(self, image) -> list[FacePrediction]:
        """Recognize the faces in one image.

        Parameters
        ----------
        image : str, path, binary file object or array-like
            As for :func:`ferpipe.read_image`.

        Returns
        -------
        predictions : list of FacePrediction
            A face each, the surest first; one of NaN if there is none. A model of
            sequences takes the image as a sequence of one frame.

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            If it is no image.
        """
        stream = Stream(self, find_one=self.faces == "largest")
        return stream.step(read_image(image, gray=not self.color), float("nan"))

    def predict_video(self, path) -> Iterator[FacePrediction]:
        """Recognize the faces in a video, one frame at a time.

        Parameters
        ----------
        path : str or path
            A file as for :func:`ferpipe.read_frames`.

        Yields
        ------
        prediction : FacePrediction
            A face in a frame each; one of NaN for a frame without a face.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or no frame in it.
        """
        frames = read_frames(path, gray=not self.color)
        for _, predictions in self.stream().run(frames):
            yield from predictions

    def stream(self) -> Stream:
        """Begin a video of which the frames come one by one; several may be open."""
        return Stream(self)

    def step(self, frame, time) -> list[FacePrediction]:
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

    def reset(self):
        """Forget the frames that went through :meth:`step`: another video begins."""
        self._own_stream = self.stream()


def _open_model(model, trusted):
    """Return a fitted model, and the places of the eyes that its card tells of."""
    if isinstance(model, str) and not Path(model).suffix and not Path(model).exists():
        network = pretrained(model)
        return network, _eyes(network.card_)
    if isinstance(model, str | Path):
        loaded = load(model, trusted=trusted)
        return loaded, _eyes(read_card(Path(model).expanduser()))
    return model, None


def _eyes(card):
    template = card.get("crop_template")
    return template["eyes"] if isinstance(template, dict) else template


def _classes_of(model):
    if isinstance(model, type) or not hasattr(model, "fit"):
        raise TypeError(
            "model must be the name of a network that ships, the path of a saved model or "
            f"a fitted classifier, got {model!r}."
        )
    check_is_fitted(model)
    if not hasattr(model, "classes_") or isinstance(model.classes_, list):
        raise TypeError(
            f"{type(model).__name__} has no classes, or several lists of them: a "
            "classifier of one label was expected, or a Pipeline that ends in one."
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
