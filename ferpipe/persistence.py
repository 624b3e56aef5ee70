"""Save and load fitted models: a joblib file and a JSON card beside it.

``load`` checks the file against its card and unpickles only classes from an
allow-list. The card's hash finds accidents, not attacks: whoever changes one
file can change both. What keeps a foreign file from running code is the
allow-list.
"""

import json
import os
import platform
import tempfile
import warnings
from collections.abc import Iterable
from hashlib import file_digest
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import joblib
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

import ferpipe
from ferpipe.kinds import first_steps

__all__ = [
    "card_path",
    "describe_input",
    "load",
    "package_versions",
    "save",
]

FORMAT = 1

# What estimators of the allow-listed packages keep inside: nothing here runs code.
_TRUSTED = frozenset(
    {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "collections.OrderedDict",
        "collections.defaultdict",
        "copyreg._reconstructor",
        "builtins.object",
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.numeric._frombuffer",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "numpy.matrix",
        "numpy.ndarray",
        "numpy.random._mt19937.MT19937",
        "numpy.random._pcg64.PCG64",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "numpy.random.bit_generator.SeedSequence",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfMultinomialLoss",
        "sklearn._loss._loss.__pyx_unpickle_CyHalfBinomialLoss",
        "sklearn._loss._loss.__pyx_unpickle_CyHalfMultinomialLoss",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.link.MultinomialLogit",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfMultinomialLoss",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.linear_model._sgd_fast.Hinge",
        "sklearn.metrics._dist_metrics.DistanceMetric64",
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.metrics._dist_metrics.ManhattanDistance64",
        "sklearn.metrics._dist_metrics.MinkowskiDistance64",
        "sklearn.metrics._dist_metrics.newObj",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.neighbors._ball_tree.newObj",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree64",
        "sklearn.neighbors._kd_tree.newObj",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
    }
)


def save(model, path, *, data="", protocol="", scores=None, crop_template=None) -> Path:
    """Save a fitted model and its card.

    Parameters
    ----------
    model : estimator
        Fitted. It has ``classes_``.
    path : str or path
        The joblib file. The card stands beside it, with the ending ``.json``.
    data : str, default=""
        What the model was trained on.
    protocol : str, default=""
        How the scores were obtained.
    scores : dict of str to float, default=None
        Scores under that protocol.
    crop_template : dict, default=None
        The framing of the training crops.

    Returns
    -------
    path : Path
        The joblib file.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    """
    check_is_fitted(model)
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / path.name
        joblib.dump(model, part)
        card = {
            "format": FORMAT,
            "model": repr(model),
            "classes": [str(name) for name in model.classes_],
            "input": describe_input(model),
            "crop_template": crop_template,
            "data": data,
            "protocol": protocol,
            "scores": scores or {},
            "versions": package_versions(),
            "sha256": _sha256(part),
        }
        card_part = Path(folder) / card_path(path).name
        card_part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
        os.replace(card_part, card_path(path))
    return path


def load(path, *, trusted: Iterable[str] = ()) -> Any:
    """Load a model that ``save`` wrote, without running code from the file.

    Parameters
    ----------
    path : str or path
        The joblib file; its card stands beside it.
    trusted : iterable of str, default=()
        Full names of further classes or functions that the file may use, for example
        ``"mypackage.MyTransformer"``.

    Returns
    -------
    model : estimator

    Raises
    ------
    FileNotFoundError
        If the file or its card is missing.
    ValueError
        If the format is unknown, the hash differs from the card's, the file is damaged
        or it names something outside the allow-list.

    Warns
    -----
    UserWarning
        If the model was saved under another major or minor version of a package.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such model file.")
    card = _read_card(path)
    if card["sha256"] != _sha256(path):
        raise ValueError(
            f"{path}: the file is not the one that its card describes (sha256 differs): it "
            "was cut short or changed after it was saved; get both files again."
        )
    _warn_of_versions(path, card["versions"])
    with path.open("rb") as file:
        unpickler = _AllowListUnpickler(str(path), file, frozenset(trusted))
        try:
            return unpickler.load()
        except _Refused as error:
            raise ValueError(f"{path}: {error}") from error
        except Exception as error:  # damaged bytes can raise nearly anything
            raise ValueError(f"{path}: this is not a saved model: {error!r}.") from error


def describe_input(model) -> dict[str, Any]:
    """Return what a fitted model takes: the record of its first step that knows.

    Parameters
    ----------
    model : estimator
        Fitted.

    Returns
    -------
    kind : dict
        ``kind`` ("images", "sequences", "raw images", "raw sequences", "features" or
        "unknown") and ``shape``, the shape of one image, of one frame or of one sample;
        raw ones have any.
    """
    for step in first_steps(model):
        for attribute in ("image_shape_", "frame_shape_"):
            if hasattr(step, attribute):
                shape = [int(n) for n in getattr(step, attribute)]
                return {"kind": step.input_kind, "shape": shape}
        if hasattr(step, "n_features_in_"):
            return {"kind": "features", "shape": [int(step.n_features_in_)]}
        if hasattr(step, "input_kind"):
            return {"kind": step.input_kind, "shape": []}
        if getattr(step, "estimator", None) is not None:
            return describe_input(step.estimator)
    return {"kind": "unknown", "shape": []}


def card_path(path) -> Path:
    """Return where the card of a model file stands."""
    return Path(path).with_suffix(".json")


def package_versions() -> dict[str, str]:
    """Return the versions that a result or a saved model depends on."""
    versions = {"ferpipe": ferpipe.__version__, "python": platform.python_version()}
    for name in (
        "scikit-learn",
        "numpy",
        "scipy",
        "torch",
        "skorch",
        "scikit-image",
        "opencv-python-headless",
        "dlib-bin",
        "onnxruntime",
    ):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


class _Refused(UnpicklingError):
    """The file names something that a model may not contain."""


class _AllowListUnpickler(NumpyUnpickler):
    """Unpickles estimators of scikit-learn and ferpipe, arrays and plain values only."""

    def __init__(self, path, file, trusted):
        super().__init__(path, file, ensure_native_byte_order=True)
        self._trusted = trusted

    def find_class(self, module, name):
        full_name = f"{module}.{name}"
        if full_name in _TRUSTED or full_name in self._trusted:
            return super().find_class(module, name)
        if module.partition(".")[0] in ("sklearn", "ferpipe") and "." not in name:
            try:
                value = getattr(import_module(module), name, None)
            except ImportError as error:
                raise _Refused(
                    f"it needs {full_name}, which the installed version lacks ({error})."
                ) from error
            if isinstance(value, type) and issubclass(value, BaseEstimator):
                return value
        raise _Refused(
            f"it names {full_name}, which is not on the list of what a model may contain. "
            f"If you know where the file comes from: load(path, trusted=[{full_name!r}])."
        )


def _read_card(path):
    card_file = card_path(path)
    if not card_file.is_file():
        raise FileNotFoundError(
            f"{card_file}: the card of this model is missing. ferpipe.save writes both "
            "files; keep them together. (joblib.load reads a file without one, and runs "
            "whatever code is in it.)"
        )
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        found = card["format"]
        complete = {"sha256", "versions", "classes", "input"} <= set(card)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{card_file}: this is not the card of a model.") from error
    if found != FORMAT or not complete:
        raise ValueError(
            f"{card_file}: format {found!r} cannot be read; this version of ferpipe reads "
            f"format {FORMAT}."
        )
    return card


def _warn_of_versions(path, saved):
    now = package_versions()
    other = [
        f"{name} {saved[name]} (now {now[name]})"
        for name in now
        if name in saved and saved[name].split(".")[:2] != now[name].split(".")[:2]
    ]
    if other:
        warnings.warn(
            f"{path} was saved with {', '.join(other)}; compare its predictions with known "
            "ones before you rely on them.",
            UserWarning,
            stacklevel=3,
        )


def _sha256(path):
    with Path(path).open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
