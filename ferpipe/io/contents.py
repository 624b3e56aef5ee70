"""What a model that comes from a file holds, gone through before it is handed out."""

from collections.abc import Collection, Iterator
from os import PathLike, fspath
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from ferpipe._compat import InvalidParameterError, validate_parameters
from ferpipe.io.admitted import CLASSES
from ferpipe.io.compiled import Broken, check_learned, full_name

__all__ = ["objects_of", "settle"]

# what opens a file when the model predicts, and what may stand there instead
_FILES = {
    "detector": ("dlib", "cascade", None),
    "landmarks": ("ferpipe", "face_recognition_models"),
    "model": ("ferpipe", "face_recognition_models"),
}
_OPENS = {
    "ferpipe.faces.alignment.FaceAligner",
    "ferpipe.candide.fitter.CandideFitter",
    "ferpipe.faces.landmarks.LandmarkPredictor",
}
# how and where things run is not the file's to say
_LEFT_OUT = ("n_jobs", "memory", "checkpoint")


def objects_of(model: Any) -> Iterator[Any]:
    """Yield each object in a model once: estimators, and what else has attributes.

    Parameters
    ----------
    model : object
        A model.
    """
    left, seen = [model], {}
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
        elif isinstance(one, np.ndarray):
            if one.dtype.hasobject:
                left += one.ravel().tolist()
        elif full_name(type(one)) in CLASSES:
            yield one
            left += vars(one).values()


def settle(model: Any, trusted: Collection[str] = frozenset()) -> None:
    """Check what a model holds, and take out what is not the file's to say.

    ``n_jobs``, ``memory`` of pipelines and ``checkpoint`` of trainings become None.

    Parameters
    ----------
    model : object
        What was unpickled.
    trusted : collection of str, default=frozenset()
        Files that the model may open when it predicts, among others.

    Raises
    ------
    Broken
        If compiled code would go astray in it, a parameter is not what its estimator takes,
        or the model would open a file that is not trusted.
    """
    for one in objects_of(model):
        check_learned(one)
        if not isinstance(one, BaseEstimator):
            continue
        own = vars(one)
        for name in _LEFT_OUT:
            if own.get(name) is not None:
                own[name] = None
        kind = full_name(type(one))
        if kind in _OPENS:
            _check_files(one, trusted)
        if kind.startswith("ferpipe."):
            _check_parameters(one)


def _check_files(one: Any, trusted: Collection[str]) -> None:
    for name, known in _FILES.items():
        value = vars(one).get(name)
        if isinstance(value, PathLike):
            value = fspath(value)
        if not (value is None or isinstance(value, str)):
            raise Broken(f"{type(one).__name__}({name}={value!r:.80}) in it is broken.")
        if value not in known and value not in trusted and name in vars(one):
            raise Broken(
                f"{type(one).__name__}({name}={value!r:.200}) in it would open that file "
                f"when it predicts. If you know it: trusted=[{value!r:.200}]."
            )


def _check_parameters(one: Any) -> None:
    try:
        validate_parameters(one)
    except InvalidParameterError as error:
        raise Broken(f"a parameter in it is broken: {error}") from error
    except Exception as error:  # whatever stands there instead of a parameter
        reason = f"{type(error).__name__}: {error}"
        raise Broken(f"the {type(one).__name__} in it is broken: {reason:.200}") from error
