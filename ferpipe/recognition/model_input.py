"""What a model is given of a face that is followed: pixels or parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from ferpipe._base import first_steps
from ferpipe.candide.action_unit_rules import ActionUnitRules
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.fitter import CandideFitter
from ferpipe.faces.alignment import FaceAligner, align_face, eye_transform
from ferpipe.faces.landmark_points import eye_centers
from ferpipe.io.models import describe_input
from ferpipe.sequences import PerFrame

__all__ = ["ModelInput", "input_of"]

# of the crops of models that take crops of any size
_CROP_SIZE = 48
# largest value of crops
_CROP_SCALE = 255.0
# what is cut out round a face for a model that looks for it itself, in widths of the box
_SURROUNDINGS = 2.2


def _as_seen():
    """Begin a face of which the model gets what is seen."""
    return np.asarray


@dataclass(frozen=True, eq=False)
class ModelInput:
    """How the input of a model is made of faces that are followed.

    Attributes
    ----------
    model : estimator
        What gets it: the steps behind those whose work is done here.
    look : callable
        From an image and a Track to what is seen of the face in one frame.
    join : callable
        From the list of what was seen in the frames of a sequence to one sample.
    begin : callable
        Called for each new face; returns a function that makes, of what is seen in each
        frame as it comes, the frame of such a sample.
    sequences : bool
        Whether samples are sequences.
    color : bool
        Whether images are looked at in color.
    raw : bool
        Whether samples differ in size.
    wireframe : bool
        Whether the model gets numbers of the wireframe.
    names : list of str or None
        Columns of the data frame that the model was fitted on; None for an array.
    """

    model: Any
    look: Callable
    join: Callable = np.stack
    begin: Callable = _as_seen
    sequences: bool = False
    color: bool = False
    raw: bool = False
    wireframe: bool = False
    names: list[str] | None = None

    def batch(self, samples):
        """Put samples together as the model takes them."""
        if self.sequences or self.raw:
            return samples
        if self.names is None:
            return np.stack(samples)
        import pandas as pd

        return pd.DataFrame(np.stack(samples), columns=self.names)


def input_of(model, template, input=None) -> ModelInput:
    """Find out what a model takes.

    Parameters
    ----------
    model : estimator
        A fitted classifier.
    template : str or array-like of shape (2, 2)
        Where the eyes are in crops, as for :class:`ferpipe.FaceAligner`; a FaceAligner in
        the model knows better.
    input : {"candide", None}, default=None
        What the columns of a model without images are, if it is not on record.

    Returns
    -------
    model_input : ModelInput

    Raises
    ------
    ValueError
        If it takes something that is not made here, what it takes is not on record, or
        ``input`` contradicts the record.
    """
    if input not in (None, "candide"):
        raise ValueError(f"input must be 'candide' or None, got {input!r}.")
    found = _input_of(model, template, input)
    if input is not None and not found.wireframe:
        raise ValueError(
            f"input={input!r} is for models of the numbers of CandideFitter, but this one "
            "takes images: leave input out."
        )
    return found


def _input_of(model, template, input):
    first = model.steps[0][1] if isinstance(model, Pipeline) else None
    rest = model[1:] if first is not None else None
    aligner = first.transformer_ if isinstance(first, PerFrame) else first
    if isinstance(aligner, FaceAligner):
        return replace(
            _crops(rest, aligner.size, aligner.template, aligner.color),
            look=partial(
                _crop,
                size=aligner.size,
                template=aligner.template,
                margin=aligner.margin,
                mask=aligner.mask,
            ),
            sequences=aligner is not first,
        )
    if isinstance(first, CandideFitter) and _is_plain(first):
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
                f"The model takes {shape[0]} features, and what they are is not on record. "
                f"If they are those of CandideFitter({output!r}), set input='candide' "
                "(--input candide). Pipelines that begin with images have it on record, "
                "and so have models fitted on the columns of "
                "CandideFitter().set_output(transform='pandas')."
            )
        return _wireframe(model, output, sequences=sequences)
    if len(shape) < 2:
        raise ValueError(
            f"What {type(model).__name__} takes is not on record, so that the Recognizer "
            "cannot make it: it takes models of images or sequences of them, and of what "
            "CandideFitter gives."
        )
    if shape[0] != shape[1]:
        raise ValueError(
            f"The model takes images of {shape[0]} x {shape[1]} pixels, but crops of faces "
            "are square: fit it on square images."
        )
    _check_scale(model)
    return replace(_crops(model, shape[0], template, len(shape) == 3), sequences=sequences)


def _check_scale(model):
    """Refuse a model of images on another scale than crops are on."""
    for step in first_steps(model):
        step = getattr(step, "transformer_", step)  # of PerFrame
        for one in first_steps(step):
            scale = getattr(one, "value_scale_", None)
            if scale not in (None, _CROP_SCALE):
                raise ValueError(
                    f"{type(one).__name__} was fitted on values up to {scale:g}, but crops "
                    f"of faces have values up to {_CROP_SCALE:g}: fit the model on those."
                )


def _is_plain(fitter):
    """Say whether a fitter's answers follow from the parameters of a followed face."""
    in_pixels = fitter.output not in ("units", "actions")
    if fitter.objective is not None or (fitter.detector is None and in_pixels):
        return False
    return not (fitter.takes_sequences_ and fitter.smoothing)


def _crops(model, size, template, color):
    look = partial(_crop, size=size, template=template)
    return ModelInput(model, look, color=color)


def _crop(image, track, *, size, template, margin=0.0, mask=False):
    matrix = eye_transform(eye_centers(track.landmarks), size, template, margin)
    return align_face(image, matrix, size, landmarks=track.landmarks if mask else None)


def _surroundings(image, track):
    """Cut out what is round a face, upright as it is in the image."""
    x, y, width, height = track.box
    half = _SURROUNDINGS * max(width, height) / 2
    left, top = max(0, round(x + width / 2 - half)), max(0, round(y + height / 2 - half))
    right, bottom = round(x + width / 2 + half), round(y + height / 2 + half)
    return image[top:bottom, left:right]


def _wireframe(model, output, *, sequences, subtract_first=False):
    """See parameters; those of a sequence belong to one person."""
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


def _named_columns(model, names):
    """Choose columns of the wireframe by the names that the model has on record."""
    for output in ("parameters", "vertices"):
        known = CandideFitter(output).get_feature_names_out().tolist()
        if set(names) <= set(known):
            places = [known.index(name) for name in names]
            break
    else:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise ValueError(
            f"The model was fitted on columns named {shown}; the Recognizer makes those "
            "that CandideFitter names, and crops of faces. Save the whole Pipeline that "
            "begins with images."
        )

    def look(image, track):
        return _wireframe_columns(track.parameters, output)[places]

    return ModelInput(model, look, wireframe=True, names=names)


def _output_of_width(n_columns):
    """Tell by their number which output of CandideFitter a model was fitted on."""
    nothing = np.zeros(len(load_calibrated()[0].parameter_names))
    outputs = ("pose", "actions", "units", "parameters", "vertices")
    widths = {len(_wireframe_columns(nothing, output)): output for output in outputs}
    if n_columns not in widths:
        known = ", ".join(f"{width} ({widths[width]!r})" for width in widths)
        raise ValueError(
            f"The model takes {n_columns} features, which the Recognizer cannot make; of "
            f"a face it makes those of CandideFitter's outputs: {known}. Save the whole "
            "Pipeline that begins with images."
        )
    return widths[n_columns]


def _wireframe_columns(parameters, output):
    """Choose what CandideFitter's ``output`` names among parameters of the wireframe."""
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


def _of_one_person(frames, subtract_first):
    """Give all frames the mean sigma and compare alpha, as CandideFitter does."""
    parameters = np.stack(frames)
    _, sigma, alpha = load_calibrated()[0].split(parameters)
    sigma[:] = sigma.mean(0)
    if subtract_first:
        alpha -= alpha[0].copy()
    return parameters


class _PersonSoFar:
    """Do the same frame by frame, with the mean sigma of the frames until then."""

    def __init__(self, columns, subtract_first):
        self._columns = columns
        self._subtract_first = subtract_first
        self._first_alpha = None
        self._n_frames, self._sum = 0, 0.0

    def __call__(self, parameters):
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
