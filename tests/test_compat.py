"""Private names of scikit-learn, joblib, skorch and numpy stand in one module only."""

import ast
from pathlib import Path

import pytest

import ferpipe
from ferpipe import _compat

PACKAGE = Path(ferpipe.__file__).parent
LIBRARIES = {"joblib", "numpy", "sklearn", "skorch"}
# what named tuples, os and torch call so
ALLOWED = {"_BatchNorm", "_exit", "_fields", "_make", "_replace"}
# attributes with which saved models of scikit-learn are stored: a part of the file format
STORED = {
    *("_dual_coef_", "_fit_X", "_intercept_", "_n_support", "_predictors", "_probA"),
    *("_probB", "_raw_predict_init", "_sparse", "_tree", "_y"),
}
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def names_defined(tree):
    """Find the private names that a module gives to something of its own."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr
            case ast.Call(
                func=ast.Attribute(attr="__setattr__"),
                args=[_, ast.Constant(value=name), _],
            ):  # of a frozen dataclass
                yield name


OWN = {name for tree in SOURCES.values() for name in names_defined(tree)}


def private_names(tree):
    """Yield (line, name) of what a module touches and the package does not define."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in LIBRARIES:
                inside = module.split(".")[1:]
                for name in (*inside, *(alias.name for alias in node.names)):
                    if is_private(name):
                        yield node.lineno, f"{module}.{name}"
                if module == "joblib.numpy_pickle":
                    yield node.lineno, module
            case ast.Import():
                for alias in node.names:
                    root, *inside = alias.name.split(".")
                    if root in LIBRARIES and any(map(is_private, inside)):
                        yield node.lineno, alias.name
            case ast.Attribute(attr=attr) if is_private(attr) and attr not in OWN | ALLOWED:
                yield node.lineno, attr
            case ast.Constant(value=str(value)) if value.startswith("_sklearn_"):
                yield node.lineno, value


def found_in(text):
    return {name for _, name in private_names(ast.parse(text))}


@pytest.mark.parametrize("module", sorted(SOURCES.keys() - {"_compat.py"}))
def test_no_private_name_outside(module):
    found = [(line, name) for line, name in private_names(SOURCES[module])]
    if module == "io/compiled.py":
        found = [(line, name) for line, name in found if name not in STORED]
    assert found == [], f"put it into ferpipe/_compat.py, with its reason: {found}"


def test_each_name_has_its_reason():
    source = (PACKAGE / "_compat.py").read_text().splitlines()
    for node in SOURCES["_compat.py"].body:
        if any(private_names(node)):
            documented = isinstance(node, ast.FunctionDef | ast.ClassDef)
            above = source[node.lineno - 2]
            assert above.startswith("# ") or (documented and ast.get_docstring(node)), node
    assert set(_compat.__all__) >= {"fit_context", "Interval", "NumpyPickler"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("from sklearn.base import _fit_context", "sklearn.base._fit_context"),
        ("import sklearn.utils._tags", "sklearn.utils._tags"),
        ("from joblib.numpy_pickle import NumpyPickler", "joblib.numpy_pickle"),
        ("net._set_training(True)", "_set_training"),
        ("training._validate_params()", "_validate_params"),
        ("np._core", "_core"),
        ("vars(x)['_sklearn_output_config']", "_sklearn_output_config"),
    ],
)
def test_a_private_name_is_found(text, name):
    assert name in found_in(text)
