"""The names that a model file holds, read by a pickle machine that makes nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

__all__ = ["names_in"]

# no model names so many
_MOST = 10_000
_LONGEST_REASON = 120


def names_in(path: Path | str) -> tuple[list[str], str | None]:
    """List what a model file names; nothing of it is imported, made or called.

    Parameters
    ----------
    path : str or path
        A joblib file.

    Returns
    -------
    names : list of str
        ``module.name`` of classes and functions, each once, in the file's order.
    damage : str or None
        Why the file could not be read to its end.
    """
    names: dict[str, None] = {}
    with Path(path).open("rb") as file:
        try:
            _Reader(file, names).load()
        except Exception as error:  # damaged bytes can raise nearly anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return list(names), reason[:_LONGEST_REASON]
        if file.read(1):
            return list(names), "there are bytes behind the end of the model."
    return list(names), None


class _Named:
    """Stands for what the file names."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Made:
    """Stands for what came of a call."""

    def __init__(self, of: Any, arguments: Any) -> None:
        self.of, self.arguments, self.state = of, arguments, None


class _Reader(pickle._Unpickler):
    """Goes through a pickle; the arrays that joblib puts between are left out."""

    dispatch: ClassVar[Any] = pickle._Unpickler.dispatch.copy()
    # the parts of pickle's machine that its type stubs leave out
    stack: list[Any]
    append: Callable[[Any], None]
    readline: Callable[[], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: BinaryIO, names: dict[str, None]) -> None:
        super().__init__(file)
        self._source = file
        self._names = names

    def find_class(self, module: str, name: str) -> _Named:
        self._names[f"{module}.{name}"] = None
        if len(self._names) > _MOST:
            raise ValueError("it names more than a model does.")
        return _Named(f"{module}.{name}")

    def persistent_load(self, key: Any) -> None:
        return None

    def get_extension(self, code: int) -> None:
        self.append(self.find_class("copyreg", f"extension {code}"))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _Made(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_inst(self) -> None:
        module = self.readline()[:-1].decode("ascii")
        name = self.readline()[:-1].decode("ascii")
        arguments = self.pop_mark()
        self.append(_Made(self.find_class(module, name), arguments))

    def load_obj(self) -> None:
        arguments = self.pop_mark()
        self.append(_Made(arguments.pop(0), arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if not isinstance(made, _Made):
            return
        made.state = state
        name = getattr(made.of, "name", "")
        if name in ("copyreg._reconstructor", "copy_reg._reconstructor"):
            name = getattr(made.arguments[0], "name", "")
        if name == "joblib.numpy_pickle.NumpyArrayWrapper":
            self._leave_out(state)

    def _leave_out(self, state: Any) -> None:
        size, holds_objects = _size_of(state["dtype"])
        if holds_objects:
            type(self)(self._source, self._names).load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._skip(self._source.read(1)[0])
        self._skip(int(np.prod(state["shape"], dtype=object)) * size)

    def _skip(self, n_bytes: int) -> None:
        start = self._source.tell()
        end = self._source.seek(0, 2)
        if not 0 <= n_bytes <= end - start:
            raise EOFError("an array is cut short.")
        self._source.seek(start + n_bytes)

    def load_append(self) -> None:
        self.stack.pop()

    def load_appends(self) -> None:
        self.pop_mark()

    def load_setitem(self) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        self._put(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._put(self.stack[-1], items)

    def _put(self, container: Any, items: list[Any]) -> None:
        # the description of an array is a dict with keys of text
        if type(container) is dict:
            pairs = zip(items[::2], items[1::2], strict=True)
            container.update((key, value) for key, value in pairs if type(key) is str)

    for _opcode, _function in (
        *((pickle.REDUCE, load_reduce), (pickle.NEWOBJ, load_reduce)),
        *((pickle.NEWOBJ_EX, load_newobj_ex), (pickle.BUILD, load_build)),
        *((pickle.INST, load_inst), (pickle.OBJ, load_obj)),
        *((pickle.APPEND, load_append), (pickle.APPENDS, load_appends)),
        *((pickle.ADDITEMS, load_appends), (pickle.SETITEM, load_setitem)),
        (pickle.SETITEMS, load_setitems),
    ):
        dispatch[_opcode[0]] = _function


def _size_of(dtype: Any) -> tuple[int, bool]:
    """Return the bytes of one value, and whether values are objects."""
    name = dtype.arguments[0]
    if not isinstance(name, str):
        raise TypeError("the kind of an array is broken.")
    plain = np.dtype(name)
    if plain.kind != "V" or dtype.state is None:
        return plain.itemsize, plain.hasobject
    fields = dtype.state[4] or {}
    inner = [_size_of(field[0])[1] for field in fields.values()]
    return plain.itemsize, any(inner)
