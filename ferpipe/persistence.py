"""Save and load fitted models: a joblib file and a JSON card beside it.

``load`` checks the file against its card and unpickles only classes from an
allow-list. The card's hash finds accidents, not attacks: whoever changes one
file can change both. What keeps a foreign file from running code is the
allow-list.
"""

import json
import os
import pickle
import platform
import tempfile
import warnings
from collections.abc import Iterable
from hashlib import file_digest
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
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

# a card has some kB
_LARGEST_CARD = 2**24
_LONGEST_RANGE = 2**20
_LONGEST_REASON = 200

# What estimators of the allow-listed packages keep inside: nothing here runs code. What a
# file could make large, endless or crash with stands in _GUARDED below.
_TRUSTED = frozenset(
    {
        "builtins.complex",
        "builtins.frozenset",
        "builtins.set",
        "builtins.slice",
        "collections.OrderedDict",
        "collections.defaultdict",
        "builtins.object",
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
            model = unpickler.load()
        except _Refused as error:
            raise ValueError(f"{path}: {error}") from error
        except Exception as error:  # damaged bytes can raise nearly anything
            reason = repr(error)[:_LONGEST_REASON]
            raise ValueError(f"{path}: this is not a saved model: {reason}.") from error
    if isinstance(model, type) or not hasattr(model, "fit"):
        raise ValueError(f"{path}: this is not a saved model but {type(model).__name__}.")
    return model


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


class _Refused(pickle.UnpicklingError):
    """The file names or does something that a model may not."""


class _AllowListUnpickler(NumpyUnpickler):
    """Unpickles estimators of scikit-learn and ferpipe, arrays and plain values only.

    A pickle is a program for a small machine: it names things, calls them, and changes
    what came of it. It may name only what is listed, call only what it named, and change
    only what was made by a call: a class or a function that it could change would be
    changed for the whole process.
    """

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, path, file, trusted, named=None):
        super().__init__(path, file, ensure_native_byte_order=True)
        self._trusted = trusted
        self._named = {} if named is None else named
        self._filled = {}

    def nested(self):
        """Return an unpickler of the same rules for what follows in the file."""
        return type(self)(self.filename, self.file_handle, self._trusted, self._named)

    def find_class(self, module, name):
        value = self._find(module, name)
        # the value too, so that no other object gets its id
        self._named[id(value)] = value
        return value

    def _find(self, module, name):
        full_name = f"{module}.{name}"
        if full_name in _GUARDED:
            return _GUARDED[full_name]
        if full_name in _TRUSTED or full_name in self._trusted:
            return super().find_class(module, name)
        first, *inner = module.split(".")
        # __main__ would run a program when it is imported
        importable = not any(part.startswith("__") for part in inner)
        if first in ("sklearn", "ferpipe") and "." not in name and importable:
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

    def _check_call(self, function):
        if id(function) not in self._named or function in _NEVER_CALLED:
            raise _Refused(f"it calls {function!r:.80}, which a model has no need of.")

    def load_reduce(self):
        self._check_call(self.stack[-2])
        super().load_reduce()

    def load_newobj(self):
        self._check_call(self.stack[-2])
        super().load_newobj()

    def load_newobj_ex(self):
        self._check_call(self.stack[-3])
        super().load_newobj_ex()

    def load_build(self):
        if id(self.stack[-2]) in self._named:
            raise _Refused(f"it changes {self.stack[-2]!r:.80} itself.")
        changed, state = self.stack[-2:]
        if isinstance(changed, np.dtype):
            _check_dtype(changed, state)
        elif isinstance(changed, np.ndarray):
            # another look at the memory of an array would outlive it
            if changed.shape != (0,) or id(changed) in self._filled:
                raise _Refused("it changes an array in it.")
            self._filled[id(changed)] = changed
            _check_array(state)
        super().load_build()
        if type(self.stack[-1]).__module__ == "sklearn.tree._tree":
            _check_tree(self.stack[-1])

    def load_refused(self):
        raise _Refused("it uses a kind of pickle that ferpipe.save does not write.")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    for _opcode in (
        *(pickle.INST, pickle.OBJ, pickle.PERSID, pickle.BINPERSID),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
    ):
        dispatch[_opcode[0]] = load_refused


class _ArrayPlace(NumpyArrayWrapper):
    """What joblib writes before the bytes of an array, checked before they are read."""

    def __init__(self):
        """Take nothing: what describes the array comes by __setstate__."""

    def __setstate__(self, state):
        shape, dtype = state.get("shape"), state.get("dtype")
        if (
            not set(state) <= _ARRAY_STATE
            or state.get("subclass") not in (np.ndarray, np.matrix)
            or not isinstance(dtype, np.dtype)
            or not isinstance(shape, tuple)
            or not all(type(n) is int and n >= 0 for n in shape)
            or state.get("order") not in ("C", "F")
        ):
            raise _Refused("the description of an array in it is broken.")
        vars(self).update(state)

    def read(self, unpickler, ensure_native_byte_order):
        """Read the array, unless the file is too short for it."""
        if self.dtype.hasobject:
            return unpickler.nested().load()
        n_bytes = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        file = unpickler.file_handle
        left = os.fstat(file.fileno()).st_size - file.tell()
        if n_bytes > left:
            raise _Refused(f"an array of {n_bytes} bytes in it is cut short.")
        return super().read(unpickler, ensure_native_byte_order)


_ARRAY_STATE = {
    *("subclass", "shape", "order", "dtype", "allow_mmap"),
    "numpy_array_alignment_bytes",
}
# real pickles name them, as what an array shall be, and never call them
_NEVER_CALLED = (np.ndarray, np.matrix)


def _latin_1(text, encoding):
    """Turn text into bytes, as pickles of the oldest protocols write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"it encodes text as {encoding!r:.80}.")
    return text.encode("latin-1")


def _bytearray(content=b""):
    if not isinstance(content, bytes):
        raise _Refused("a bytearray in it is broken.")
    return bytearray(content)


def _range(*limits):
    found = range(*limits)
    # len() fails for the longest ones
    if not -_LONGEST_RANGE <= (found.stop - found.start) // found.step <= _LONGEST_RANGE:
        raise _Refused(f"{found!r:.80} in it is too long.")
    return found


def _plain_object(cls, base, state):
    """Make an object as pickles of the oldest protocols do."""
    if base is not object or state is not None:
        raise _Refused("an object in it is broken.")
    return object.__new__(cls)


def _empty_array(subclass, shape, dtype):
    """Make the array that gets its shape and values by __setstate__."""
    if subclass not in _NEVER_CALLED or shape != (0,):
        raise _Refused("an array in it is broken.")
    return subclass.__new__(subclass, shape, dtype)


def _dtype(name, *_):
    """Make a dtype of its own, as those that numpy knows by name belong to all."""
    if not isinstance(name, str):
        raise _Refused("a dtype in it is broken.")
    return np.dtype(name, copy=True)


def _check_dtype(dtype, state):
    """Refuse a state that numpy does not write: it takes flags and sizes as they come."""
    if not isinstance(state, tuple) or len(state) != 8:
        raise _Refused("a dtype in it is broken.")
    _, order, _, names, fields, size, _, flags = state
    if names is None:
        plain = dtype.newbyteorder(order)
    else:
        formats, offsets = zip(*(fields[name] for name in names), strict=True)
        layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
        plain = np.dtype(layout, align=bool(flags & _ALIGNED))
    if (
        # bytes that were read already would become places in memory
        plain.hasobject != dtype.hasobject
        or plain.itemsize != dtype.itemsize
        or plain.__reduce__()[2] != state
    ):
        raise _Refused("a dtype in it is broken.")


# numpy's flag of a dtype whose fields lie as a compiler would lay them
_ALIGNED = 0x80


def _check_array(state):
    """Refuse a list that is too short for the array: numpy reads on behind its end."""
    _, shape, dtype, _, content = state
    if isinstance(content, list) and (
        dtype.kind != "O" or len(content) != np.prod(shape, dtype=object)
    ):
        raise _Refused("an array in it is broken.")


def _scalar(dtype, content=b""):
    """Make a number or text; the bytes of an object would be a place in memory."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or type(content) is not bytes:
        raise _Refused("a number in it is broken.")
    return np.frombuffer(content, dtype, 1)[0] if dtype.itemsize else dtype.type()


def _from_buffer(content, dtype, shape, order, axes=None):
    """Make an array of bytes that nothing in the file can change or move."""
    if type(content) not in (bytes, bytearray):
        raise _Refused("an array in it is broken.")
    flat = np.frombuffer(content, dtype)
    if axes is None:
        return flat.reshape(shape, order=order)
    return flat.reshape(shape).transpose(axes)


def _new_tree(n_features, n_classes, n_outputs):
    """Make a tree; compiled code would read beyond the end of a shorter array."""
    if not isinstance(n_classes, np.ndarray) or n_classes.shape != (n_outputs,):
        raise _Refused("a decision tree in it is broken.")
    from sklearn.tree._tree import Tree

    return Tree(n_features, n_classes, n_outputs)


def _check_tree(tree):
    """Refuse a tree that compiled code would not come to the end of."""
    children = np.stack([tree.children_left, tree.children_right])
    inner = children[0] != -1
    if (
        (children[:, ~inner] != -1).any()
        or (children[:, inner] <= np.flatnonzero(inner)).any()
        or (children >= tree.node_count).any()
        or (tree.feature[inner] < 0).any()
        or (tree.feature[inner] >= tree.n_features).any()
    ):
        raise _Refused("a decision tree in it is broken.")


_GUARDED = {
    "_codecs.encode": _latin_1,
    "builtins.bytearray": _bytearray,
    "builtins.range": _range,
    "copyreg._reconstructor": _plain_object,
    "joblib.numpy_pickle.NumpyArrayWrapper": _ArrayPlace,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _from_buffer,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.dtype": _dtype,
    # a model that was fitted on mapped data has ordinary arrays when it comes back
    "numpy.memmap": np.ndarray,
    "sklearn.tree._tree.Tree": _new_tree,
}


def _read_card(path):
    card_file = card_path(path)
    if not card_file.is_file():
        raise FileNotFoundError(
            f"{card_file}: the card of this model is missing. ferpipe.save writes both "
            "files; keep them together. (joblib.load reads a file without one, and runs "
            "whatever code is in it.)"
        )
    if card_file.stat().st_size > _LARGEST_CARD:
        raise ValueError(f"{card_file}: this is not the card of a model: it is too large.")
    try:
        card = json.loads(card_file.read_text(encoding="utf-8"))
        found = card["format"]
        complete = {"sha256", "versions", "classes", "input"} <= set(card)
        complete = complete and all(type(v) is str for v in card["versions"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
