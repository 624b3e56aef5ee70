"""How the input of a model is computed from a tracked face: pixels or parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from ferpipe._base import first_steps
from ferpipe.candide.action_unit_rules import ActionUnitRules
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fitter import CandideFitter
from ferpipe.faces.alignment import FaceAligner, align_face, eye_transform
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.io.models import describe_input
from ferpipe.recognition.tracking import Track
from ferpipe.sequences import PerFrame

__all__ = ["ModelInput", "input_of"]

# side of the crops, in pixels, for models that take crops of any size
_CROP_SIZE = 48
# largest gray value of a crop
_CROP_SCALE = 255.0
# side of the region around a face for a model that detects the face itself, in box widths
_SURROUNDINGS = 2.2

# (image, track) -> the face in one frame; the frames of a sequence -> one sample; each
# frame as it comes -> the same frame of such a sample
Extract: TypeAlias = Callable[[NDArray, Track], NDArray]
Join: TypeAlias = Callable[[list[NDArray]], Any]
Prepare: TypeAlias = Callable[[NDArray], NDArray]


def _unchanged() -> Prepare:
    """Start a face whose frames the model takes as they are extracted."""
    return np.asarray


@dataclass(frozen=True, eq=False)
class ModelInput:
    """How the input of a model is computed from tracked faces.

    Attributes
    ----------
    model : estimator
        The steps that take this input: those behind the steps that are replaced here.
    extract : callable
        Takes an image and a Track and returns the face in one frame: a crop, or
        parameters of the wireframe.
    join : callable
        Takes the list of extracted frames of a sequence and returns one sample.
    begin : callable
        Called for each new face; returns a function that takes the extracted frames one by
        one and returns the frames of such a sample.
    sequences : bool
        Whether samples are sequences.
    color : bool
        Whether ``extract`` takes images in color.
    raw : bool
        Whether samples differ in size.
    wireframe : bool
        Whether samples are parameters or vertices of the wireframe.
    names : list of str or None
        Columns of the data frame that the model was fitted on; None for an array.
    """

    model: Any
    extract: Extract
    join: Join = np.stack
    begin: Callable[[], Prepare] = _unchanged
    sequences: bool = False
    color: bool = False
    raw: bool = False
    wireframe: bool = False
    names: list[str] | None = None

    def batch(self, samples: list[Any]) -> Any:
        """Join samples into one X of the model."""
        if self.sequences or self.raw:
            return samples
        if self.names is None:
            return np.stack(samples)
        import pandas as pd

        return pd.DataFrame(np.stack(samples), columns=self.names)


def input_of(model: Any, template: str | ArrayLike, input: str | None = None) -> ModelInput:
    """Find out which input a fitted model takes, and how to compute it.

    Parameters
    ----------
    model : estimator
        A fitted classifier.
    template : str or array-like of shape (2, 2)
        Where the eyes are in crops, as for :class:`ferpipe.FaceAligner`. A FaceAligner in
        the model overrides it.
    input : {"candide", None}, default=None
        What the columns of a model without images are, if the model has no record of it.

    Returns
    -------
    model_input : ModelInput

    Raises
    ------
    ValueError
        If the model takes an input that the Recognizer cannot compute, has no record of
        its input, or ``input`` contradicts that record.
    """
    if input not in (None, "candide"):
        raise ValueError(f"input must be 'candide' or None, got {input!r}.")
    found = _input_of(model, template, input)
    if input is not None and not found.wireframe:
        raise ValueError(
            f"input={input!r} is for models fitted on the output of CandideFitter, but "
            "this one takes images: leave input out."
        )
    return found


def _input_of(model: Any, template: str | ArrayLike, input: str | None) -> ModelInput:
    first = model.steps[0][1] if isinstance(model, Pipeline) else None
    rest = model[1:] if first is not None else None
    aligner = first.transformer_ if isinstance(first, PerFrame) else first
    if isinstance(aligner, FaceAligner):
        return replace(
            _crops(rest, aligner.size, aligner.template, aligner.color),
            extract=partial(
                _crop,
                size=aligner.size,
                template=aligner.template,
                margin=aligner.margin,
                mask=aligner.mask,
            ),
            sequences=aligner is not first,
        )
    if isinstance(first, CandideFitter) and _can_be_tracked(first):
        return _wireframe(
            rest,
            first.output,
            sequences=first.takes_sequences_,
            subtract_first=first.subtract_first,
        )
    takes = describe_input(model)
    kind, shape = takes["kind"], takes["shape"]
    sequences = kind in ("sequences", "raw sequences")
    if kind.startswith("raw "):
        if getattr(first, "detector", "dlib") is None:
            return replace(_crops(model, _CROP_SIZE, template, False), sequences=sequences)
        return ModelInput(
            model, _surroundings, list, sequences=sequences, color=True, raw=True
        )
    if isinstance(model if first is None else first, ActionUnitRules):
        input = "candide"  # it takes nothing else
    if len(shape) == 1:
        names = getattr(model, "feature_names_in_", None)
        if names is not None:
            return _named_columns(model, list(names))
        output = _output_of_width(shape[0])
        if input is None:
            raise ValueError(
                f"The model takes {shape[0]} features and has no record of what they are. "
                f"If they are those of CandideFitter({output!r}), set input='candide' "
                "(--input candide). A Pipeline that begins with images has the record, and "
                "so has a model fitted on the columns of "
                "CandideFitter().set_output(transform='pandas')."
            )
        return _wireframe(model, output, sequences=sequences)
    if len(shape) < 2:
        raise ValueError(
            f"{type(model).__name__} has no record of its input, so that the Recognizer "
            "cannot compute it: give a model of images, of sequences of images, or of the "
            "output of CandideFitter."
        )
    if shape[0] != shape[1]:
        raise ValueError(
            f"The model takes images of {shape[0]} x {shape[1]} pixels, but crops of faces "
            "are square: fit it on square images."
        )
    _check_scale(model)
    return replace(_crops(model, shape[0], template, len(shape) == 3), sequences=sequences)


def _check_scale(model: Any) -> None:
    """Refuse a model that was fitted on images of another scale than crops have."""
    for step in first_steps(model):
        step = getattr(step, "transformer_", step)  # of PerFrame
        for one in first_steps(step):
            scale = getattr(one, "value_scale_", None)
            if scale not in (None, _CROP_SCALE):
                raise ValueError(
                    f"{type(one).__name__} was fitted on values up to {scale:g}, but crops "
                    f"of faces have values up to {_CROP_SCALE:g}: fit the model on those."
                )


def _can_be_tracked(fitter: CandideFitter) -> bool:
    """Return whether a fitter's output follows from the parameters of a tracked face."""
    in_pixels = fitter.output not in ("units", "actions")
    if fitter.objective is not None or (fitter.detector is None and in_pixels):
        return False
    return not (fitter.takes_sequences_ and fitter.smoothing)


def _crops(model: Any, size: int, template: Any, color: bool) -> ModelInput:
    return ModelInput(model, partial(_crop, size=size, template=template), color=color)


def _crop(
    image: NDArray,
    track: Track,
    *,
    size: int,
    template: Any,
    margin: float = 0.0,
    mask: bool = False,
) -> NDArray:
    matrix = eye_transform(eye_centers(track.landmarks), size, template, margin)
    return align_face(image, matrix, size, landmarks=track.landmarks if mask else None)


def _surroundings(image: NDArray, track: Track) -> NDArray:
    """Cut out the region around a face, without turning it."""
    x, y, width, height = track.box
    half = _SURROUNDINGS * max(width, height) / 2
    left, top = max(0, round(x + width / 2 - half)), max(0, round(y + height / 2 - half))
    right, bottom = round(x + width / 2 + half), round(y + height / 2 + half)
    return image[top:bottom, left:right]


def _wireframe(
    model: Any, output: str, *, sequences: bool, subtract_first: bool = False
) -> ModelInput:
    """Take parameters of the wireframe; those of a sequence belong to one person."""
    columns = partial(_wireframe_columns, output=output)
    names = getattr(model, "feature_names_in_", None)
    names = None if names is None else list(names)
    if sequences:
        return ModelInput(
            model,
            lambda image, track: track.parameters,
            lambda frames: columns(_of_one_person(frames, subtract_first)),
            lambda: _PersonSoFar(columns, subtract_first),
            sequences=True,
            wireframe=True,
        )
    return ModelInput(
        model, lambda image, track: columns(track.parameters), wireframe=True, names=names
    )


def _named_columns(model: Any, names: list[str]) -> ModelInput:
    """Take the columns of the wireframe that the model was fitted on, by their names."""
    for output in ("parameters", "vertices"):
        known = CandideFitter(output).get_feature_names_out().tolist()
        if set(names) <= set(known):
            places = [known.index(name) for name in names]
            break
    else:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise ValueError(
            f"The model was fitted on columns named {shown}, which the Recognizer cannot "
            "compute: it computes the columns of CandideFitter, and crops of faces. Save "
            "the whole Pipeline that begins with images."
        )

    def extract(image: NDArray, track: Track) -> NDArray:
        return _wireframe_columns(track.parameters, output)[places]

    return ModelInput(model, extract, wireframe=True, names=names)


def _output_of_width(n_columns: int) -> str:
    """Return the output of CandideFitter that has so many columns."""
    nothing = np.zeros(len(load_calibrated()[0].parameter_names))
    outputs = ("pose", "actions", "units", "parameters", "vertices")
    widths = {len(_wireframe_columns(nothing, output)): output for output in outputs}
    if n_columns not in widths:
        known = ", ".join(f"{width} ({widths[width]!r})" for width in widths)
        raise ValueError(
            f"The model takes {n_columns} features, which the Recognizer cannot compute; "
            f"it computes the outputs of CandideFitter: {known}. Save the whole Pipeline "
            "that begins with images."
        )
    return widths[n_columns]


def _wireframe_columns(parameters: NDArray, output: str) -> NDArray:
    """Return the columns of one ``output`` of CandideFitter."""
    model, _ = load_calibrated()
    pose, sigma, alpha = model.split(parameters)
    if output == "vertices":
        shown = project(model.shape(sigma, alpha), pose)
        named = shown[..., sorted(model.vertex_names.values()), :]
        return named.reshape(*parameters.shape[:-1], -1)
    parts = {
        "pose": [pose],
        "actions": [alpha],
        "units": [sigma, alpha],
        "parameters": [parameters],
    }
    return np.concatenate(parts[output], axis=-1)


def _of_one_person(frames: list[NDArray], subtract_first: bool) -> NDArray:
    """Give all frames the mean sigma and subtract alpha, as CandideFitter does."""
    parameters = np.stack(frames)
    _, sigma, alpha = load_calibrated()[0].split(parameters)
    sigma[:] = sigma.mean(0)
    if subtract_first:
        alpha -= alpha[0].copy()
    return parameters


class _PersonSoFar:
    """Do the same frame by frame, with the mean sigma of the frames so far."""

    def __init__(self, columns: Prepare, subtract_first: bool) -> None:
        self._columns = columns
        self._subtract_first = subtract_first
        self._first_alpha: NDArray | None = None
        self._n_frames = 0
        self._sum: Any = 0.0

    def __call__(self, parameters: NDArray) -> NDArray:
        parameters = parameters.copy()
        _, sigma, alpha = load_calibrated()[0].split(parameters)
        self._n_frames += 1
        self._sum = self._sum + sigma
        sigma[:] = self._sum / self._n_frames
        if self._subtract_first:
            if self._first_alpha is None:
                self._first_alpha = alpha.copy()
            alpha -= self._first_alpha
        return self._columns(parameters)
