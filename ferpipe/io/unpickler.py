"""A pickle machine that makes listed objects only, and calls nothing else.

A pickle is a program for a small machine: it names things, calls them, and changes what
came of it. Here it may name only what :mod:`ferpipe.io.admitted` lists, call only what that
says, and change only what was made by a call: a class or a function that it could change
would be changed for the whole process.
"""

import os
import pickle
from functools import cached_property
from importlib import import_module
from inspect import getattr_static
from types import BuiltinFunctionType, FunctionType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from ferpipe._compat import OUTPUT_KEYS, NumpyArrayWrapper, NumpyUnpickler, tree_type
from ferpipe.io.admitted import CALLED, CLASSES, NAMED
from ferpipe.io.compiled import FILL, Broken, check_random, full_name
from ferpipe.io.format1 import MOVED, current_state

__all__ = ["GUARDED", "Refused", "refusal", "unpickle"]

_LONGEST_RANGE = 2**20


class Refused(pickle.UnpicklingError):
    """The file names or does something that a model may not."""


def refusal(name: str) -> str | None:
    """Return why a name is refused, or None.

    Parameters
    ----------
    name : str
        ``module.name``, as the file has it.

    Returns
    -------
    reason : str or None
    """
    if name in GUARDED or MOVED.get(name, name) in CLASSES | CALLED | NAMED:
        return None
    return "not on the list of what a model may contain"


def unpickle(file: BinaryIO, trusted: frozenset[str] = frozenset()) -> Any:
    """Unpickle what the list admits.

    Parameters
    ----------
    file : binary file
        At the beginning of the pickle; its name is that of a file.
    trusted : frozenset of str, default=frozenset()
        Full names of further classes and functions, which the file may call as it likes.

    Returns
    -------
    value : object

    Raises
    ------
    Refused
        If the file names or does something else; damaged bytes raise nearly anything.
    """
    return _Unpickler(file, trusted).load()


class _Unpickler(NumpyUnpickler):
    """The machine; see :func:`unpickle`."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(
        self, file: BinaryIO, trusted: frozenset[str], outer: Self | None = None
    ) -> None:
        super().__init__(str(file.name), file, ensure_native_byte_order=True)
        self._trusted = trusted
        # by id, with the values, so that no other object gets the id of one
        self._named: dict[int, Any] = {} if outer is None else outer._named
        self._called: dict[int, Any] = {} if outer is None else outer._called
        self._made: dict[int, Any] = {} if outer is None else outer._made
        self._unfilled: dict[int, Any] = {} if outer is None else outer._unfilled
        self._filled: dict[int, Any] = {}
        self._outer = outer

    def load(self) -> Any:
        """Read what follows in the file."""
        value = super().load()
        if self._outer is None and self._unfilled:
            kind = type(next(iter(self._unfilled.values()))).__name__
            raise Refused(f"a {kind} in it is empty.")
        return value

    def nested(self) -> Self:
        """Return an unpickler of the same rules for what follows in the file."""
        return type(self)(self.file_handle, self._trusted, self)

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        value = self._find(full, module, name)
        self._named[id(value)] = value
        now = MOVED.get(full, full)
        callable_here = full in GUARDED and value not in (np.ndarray, _ArrayPlace)
        if full in self._trusted or callable_here or now in CALLED:
            self._called[id(value)] = value
        if full in self._trusted or now in CLASSES or value is _ArrayPlace:
            self._made[id(value)] = value
        return value

    def _find(self, full: str, module: str, name: str) -> Any:
        if full in GUARDED:
            return GUARDED[full]
        if full in self._trusted:
            return super().find_class(module, name)
        if refusal(full):
            raise Refused(
                f"it names {full}, which is not on the list of what a model may contain. "
                f"If you know where the file comes from: load(path, trusted=[{full!r}])."
            )
        module, _, name = MOVED.get(full, full).rpartition(".")
        try:
            value = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise Refused(
                f"it needs {full}, which the installed version lacks ({error})."
            ) from error
        if (value.__module__, value.__qualname__) != (module, name):
            raise Refused(
                f"it needs {full}, which in the installed version is "
                f"{value.__module__}.{value.__qualname__}."
            )
        return value

    def _check(self, function: Any, allowed: dict[int, Any]) -> None:
        if id(function) not in allowed:
            raise Refused(f"it calls {_shown(function)}, which a model has no need of.")

    def load_reduce(self) -> None:
        self._check(self.stack[-2], self._called)
        super().load_reduce()
        made = self.stack[-1]
        if full_name(type(made)) in FILL:
            self._unfilled[id(made)] = made

    def load_newobj(self) -> None:
        self._check(self.stack[-2], self._made)
        super().load_newobj()

    def load_newobj_ex(self) -> None:
        self._check(self.stack[-3], self._made)
        super().load_newobj_ex()

    def load_build(self) -> None:
        changed, state = self.stack[-2:]
        if id(changed) in self._named:
            raise Refused(f"it changes {_shown(changed)} itself.")
        kind = type(changed)
        try:
            if full_name(kind) in FILL:
                if self._unfilled.pop(id(changed), None) is None:
                    raise Refused(f"it changes a {kind.__name__} in it.")
                FILL[full_name(kind)](changed, self.stack.pop())
                return
            if isinstance(changed, np.dtype):
                _check_dtype(changed, state)
            elif isinstance(changed, np.ndarray):
                # another look at the memory of an array would outlive it
                if changed.shape != (0,) or id(changed) in self._filled:
                    raise Refused("it changes an array in it.")
                self._filled[id(changed)] = changed
                _check_array(state)
            elif full_name(kind) in CLASSES:
                if kind.__module__.startswith("ferpipe.") and isinstance(state, dict):
                    self.stack[-1] = state = current_state(kind.__name__, state)
                _check_attributes(changed, state)
            super().load_build()
            if kind.__module__.startswith("numpy.random"):
                check_random(changed)
        except Broken as error:
            raise Refused(str(error)) from error

    def load_append(self) -> None:
        self._check_container(self.stack[-2])
        super().load_append()

    def load_appends(self) -> None:
        self._check_container(self.metastack[-1][-1])
        super().load_appends()

    def load_additems(self) -> None:
        self._check_container(self.metastack[-1][-1])
        super().load_additems()

    def load_setitem(self) -> None:
        self._check_container(self.stack[-3])
        super().load_setitem()

    def load_setitems(self) -> None:
        self._check_container(self.metastack[-1][-1])
        super().load_setitems()

    def _check_container(self, container: Any) -> None:
        # of another object the methods append, extend, add are called
        if not isinstance(container, list | dict | set) or id(container) in self._named:
            raise Refused(f"it puts something into {_shown(container)}.")

    def load_refused(self) -> None:
        raise Refused("it uses a kind of pickle that ferpipe.save does not write.")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.APPEND[0]] = load_append
    dispatch[pickle.APPENDS[0]] = load_appends
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    for _opcode in (
        *(pickle.INST, pickle.OBJ, pickle.PERSID, pickle.BINPERSID),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4),
    ):
        dispatch[_opcode[0]] = load_refused


def _shown(value: Any) -> str:
    """Show what is named; the repr of what is made would run on a broken state."""
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        return f"{value!r:.80}"
    return f"a {type(value).__name__}"


# attributes of instances that stand in for one of the class
_STAND_IN = {OUTPUT_KEYS}
# what networks build from their weights when they are first used
_REBUILT = {"_net", "_folded", "_layers"}


def _check_attributes(made: Any, state: Any) -> None:
    """Refuse attributes that stand in for methods and constants of the class."""
    kind = type(made)
    if state is None:
        return
    if type(state) is not dict:
        raise Refused(f"the attributes of a {kind.__name__} in it are broken.")
    for name in state:
        if type(name) is not str or name.startswith("__") or name in _REBUILT:
            raise Refused(f"{kind.__name__} in it has an attribute {name!r:.80}.")
        own = getattr_static(kind, name, None)
        if (
            own is not None
            and name not in _STAND_IN
            and not isinstance(own, property | cached_property)
            and not hasattr(type(own), "__set__")
        ):
            raise Refused(f"{kind.__name__} in it has a {name} of its own.")


class _ArrayPlace(NumpyArrayWrapper):
    """What joblib writes before the bytes of an array, checked before they are read."""

    def __init__(self) -> None:
        """Take nothing: what describes the array comes by __setstate__."""

    def __setstate__(self, state: Any) -> None:
        shape, dtype = state.get("shape"), state.get("dtype")
        if (
            not set(state) <= _ARRAY_STATE
            or state.get("subclass") not in (np.ndarray, np.matrix)
            or not isinstance(dtype, np.dtype)
            or not isinstance(shape, tuple)
            or not all(type(n) is int and n >= 0 for n in shape)
            or state.get("order") not in ("C", "F")
        ):
            raise Refused("the description of an array in it is broken.")
        self.__dict__.update(state)

    def read(self, unpickler: Any, ensure_native_byte_order: bool) -> Any:
        """Read the array, unless the file is too short for it."""
        if self.dtype.hasobject:
            # joblib below 1.6 would read it without the rules
            return unpickler.nested().load()
        n_bytes = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        file = unpickler.file_handle
        left = os.fstat(file.fileno()).st_size - file.tell()
        if n_bytes > left:
            raise Refused(f"an array of {n_bytes} bytes in it is cut short.")
        return super().read(unpickler, ensure_native_byte_order)


_ARRAY_STATE = {
    *("subclass", "shape", "order", "dtype", "allow_mmap"),
    "numpy_array_alignment_bytes",
}


def _latin_1(text: str, encoding: str) -> bytes:
    """Turn text into bytes, as pickles of the oldest protocols write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"it encodes text as {encoding!r:.80}.")
    return text.encode("latin-1")


def _bytearray(content: Any = b"") -> bytearray:
    if not isinstance(content, bytes):
        raise Refused("a bytearray in it is broken.")
    return bytearray(content)


def _range(*limits: Any) -> range:
    found = range(*limits)
    # len() fails for the longest ones
    if not -_LONGEST_RANGE <= (found.stop - found.start) // found.step <= _LONGEST_RANGE:
        raise Refused(f"{found!r:.80} in it is too long.")
    return found


def _plain_object(cls: Any, base: Any, state: Any) -> Any:
    """Make an object as pickles of the oldest protocols do."""
    known = cls is _ArrayPlace or full_name(cls) in CLASSES
    if base is not object or state is not None or not known:
        raise Refused("an object in it is broken.")
    return object.__new__(cls)


def _empty_array(subclass: Any, shape: Any, dtype: Any) -> Any:
    """Make the array that gets its shape and values by __setstate__."""
    if subclass not in (np.ndarray, np.matrix) or shape != (0,):
        raise Refused("an array in it is broken.")
    return subclass.__new__(subclass, shape, dtype)


def _dtype(name: Any, *_: Any) -> np.dtype[Any]:
    """Make a dtype of its own, as those that numpy knows by name belong to all."""
    if not isinstance(name, str):
        raise Refused("a dtype in it is broken.")
    return np.dtype(name, copy=True)


def _check_dtype(dtype: np.dtype[Any], state: Any) -> None:
    """Refuse a state that numpy does not write: it takes flags and sizes as they come."""
    if not isinstance(state, tuple) or len(state) != 8:
        raise Refused("a dtype in it is broken.")
    _, order, _, names, fields, size, _, flags = state
    if names is None:
        plain = dtype.newbyteorder(order)
    else:
        formats, offsets = zip(*(fields[name] for name in names), strict=True)
        layout: Any = {
            "names": names,
            "formats": formats,
            "offsets": offsets,
            "itemsize": size,
        }
        plain = np.dtype(layout, align=bool(flags & _ALIGNED))
    if (
        # bytes that were read already would become places in memory
        plain.hasobject != dtype.hasobject
        or plain.itemsize != dtype.itemsize
        or plain.__reduce__()[2] != state
    ):
        raise Refused("a dtype in it is broken.")


# numpy's flag of a dtype whose fields lie as a compiler would lay them
_ALIGNED = 0x80


def _check_array(state: Any) -> None:
    """Refuse a list that is too short for the array: numpy reads on behind its end."""
    _, shape, dtype, _, content = state
    if isinstance(content, list) and (
        dtype.kind != "O" or len(content) != np.prod(shape, dtype=object)
    ):
        raise Refused("an array in it is broken.")


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """Make a number or text; the bytes of an object would be a place in memory."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject or type(content) is not bytes:
        raise Refused("a number in it is broken.")
    return np.frombuffer(content, dtype, 1)[0] if dtype.itemsize else dtype.type()


def _from_buffer(
    content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> NDArray[Any]:
    """Make an array of bytes that nothing in the file can change or move."""
    if type(content) not in (bytes, bytearray):
        raise Refused("an array in it is broken.")
    flat = np.frombuffer(content, dtype)
    if axes is None:
        return flat.reshape(shape, order=order)
    return flat.reshape(shape).transpose(axes)


def _bit_generator(kind: Any = "MT19937") -> np.random.BitGenerator:
    kinds = {"MT19937": np.random.MT19937, "PCG64": np.random.PCG64}
    kind = kinds.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in kinds.values():
        raise Refused("a source of random numbers in it is broken.")
    return kind()


def _random_state(generator: Any = "MT19937", *_: Any) -> np.random.RandomState:
    return np.random.RandomState(_as_generator(generator))


def _generator(generator: Any = "MT19937", *_: Any) -> np.random.Generator:
    return np.random.Generator(_as_generator(generator))


def _as_generator(generator: Any) -> np.random.BitGenerator:
    if isinstance(generator, str):
        return _bit_generator(generator)
    if not isinstance(generator, np.random.BitGenerator):
        raise Refused("a source of random numbers in it is broken.")
    return generator


def _seed_sequence(kind: Any, checksum: Any, state: Any) -> Any:
    if kind is not np.random.SeedSequence:
        raise Refused("a source of random numbers in it is broken.")
    from numpy.random import bit_generator

    unpickle = vars(bit_generator)["__pyx_unpickle_SeedSequence"]
    return unpickle(kind, checksum, state)


def _new_tree(n_features: Any, n_classes: Any, n_outputs: Any) -> Any:
    """Make a tree; compiled code would read beyond the end of a shorter array."""
    if not isinstance(n_classes, np.ndarray) or n_classes.shape != (n_outputs,):
        raise Refused("a decision tree in it is broken.")
    return tree_type()(n_features, n_classes, n_outputs)


def _new_compiled(kind: Any) -> Any:
    """Make an empty search tree or metric."""
    if full_name(kind) not in FILL:
        raise Refused("a search tree in it is broken.")
    return kind.__new__(kind)


def _new_multinomial(kind: Any, checksum: Any, state: Any) -> Any:
    """Make a loss; the class is not the file's to choose."""
    if full_name(kind) != "sklearn._loss._loss.CyHalfMultinomialLoss":
        raise Refused("a loss in it is broken.")
    return kind.__new__(kind)


GUARDED = {
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
    "numpy.random._pickle.__bit_generator_ctor": _bit_generator,
    "numpy.random._pickle.__generator_ctor": _generator,
    "numpy.random._pickle.__randomstate_ctor": _random_state,
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": _seed_sequence,
    "sklearn._loss._loss.__pyx_unpickle_CyHalfMultinomialLoss": _new_multinomial,
    "sklearn.metrics._dist_metrics.newObj": _new_compiled,
    "sklearn.neighbors._ball_tree.newObj": _new_compiled,
    "sklearn.neighbors._kd_tree.newObj": _new_compiled,
    "sklearn.tree._tree.Tree": _new_tree,
}
