"""What an import does and does not do, which way imports point, and what is documented."""

import ast
import dataclasses
import doctest
import inspect
import json
import pkgutil
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

import ferpipe

PACKAGE = Path(ferpipe.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(ferpipe.__path__, "ferpipe.")
    if module.name != "ferpipe.__main__"
)
HEAVY = {
    "PIL",
    "cv2",
    "dask",
    "distributed",
    "dlib",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "skimage",
    "skorch",
    "torch",
}
# a module imports from its own row or from a row above it
LAYERS = (
    {"_base", "_checks", "_compat", "_system", "caching", "geometry", "io"},
    {"faces"},
    {"candide"},
    {"synthesis"},
    {"features"},
    {"sequences", "networks"},
    {"datasets"},
    {"experiments", "recognition"},
    {"grid", "predict", "train", "compare", "serve", "inspect"},
)


def python(code):
    """Run code in a fresh interpreter and return what it printed, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What an import does


@pytest.mark.parametrize(
    "code",
    [
        "import ferpipe",
        "import ferpipe; ferpipe.datasets, ferpipe.features, ferpipe.networks",
        "from ferpipe import FaceAligner, LandmarkPredictor; FaceAligner(64)",
        "from ferpipe import HOGFeatures, PerFrame; PerFrame(HOGFeatures())",
        "import ferpipe; ferpipe.SequenceNetwork(training=ferpipe.Training())",
    ],
)
def test_import_is_light(code):
    loaded = python(f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))")
    assert "ferpipe" in loaded
    assert set(loaded) & HEAVY == set()


SIDE_EFFECTS = """
import json, logging, os, random, signal, sys, warnings
from importlib import import_module

def everything():
    import numpy, sklearn, torch
    return {
        "environment": dict(os.environ),
        "warnings filters": [str(item) for item in warnings.filters],
        "random": str(random.getstate()),
        "numpy": str(numpy.random.get_state(legacy=False)),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "sklearn": sklearn.get_config(),
        "log handlers": str(logging.getLogger().handlers),
        "interrupt": str(signal.getsignal(signal.SIGINT)),
    }

environment, filters = dict(os.environ), list(warnings.filters)
for name in MODULES:  # so that what other packages do on import is done
    import_module(name)
os.environ.clear()
os.environ.update(environment)
warnings.filters[:] = filters
for name in [name for name in sys.modules if name.split(".")[0] == "ferpipe"]:
    del sys.modules[name]
before = everything()
for name in MODULES:
    import_module(name)
after = everything()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""


def test_import_changes_nothing_outside():
    assert len(MODULES) > 15
    assert python(f"MODULES = {MODULES}\n{SIDE_EFFECTS}") == []


# Which way imports point


def path_of(module):
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports_of(module):
    """Find the modules of the package that a module imports, anywhere in it."""
    imported = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            for alias in node.names:
                public = (
                    ferpipe._PUBLIC.get(alias.name) if node.module == "ferpipe" else None
                )
                imported.add(public or f"{node.module}.{alias.name}")
                imported.add(node.module)
    return {name for name in imported if name in MODULES and name != module}


def layer_of(module):
    name = module.split(".")[1]
    rows = [row for row, names in enumerate(LAYERS) if name in names]
    assert rows, f"Put {name!r} into LAYERS of this test, where design.md has it."
    return rows[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module):
    wrong = {name for name in imports_of(module) if layer_of(name) > layer_of(module)}
    assert wrong == set()


def test_imports_make_no_circle():
    # a package gathers the names of its modules: it is no step of a circle
    packages = {name for name in MODULES if path_of(name).name == "__init__.py"}
    graph = {name: imports_of(name) - packages for name in MODULES}
    assert any(graph.values())
    TopologicalSorter(graph).prepare()  # raises CycleError


# Public names and their documentation


@pytest.mark.parametrize("name", ferpipe.__all__)
def test_public_name_exists_and_is_documented(name):
    value = getattr(ferpipe, name)
    assert name in dir(ferpipe)
    if name != "__version__":
        assert inspect.getdoc(value)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'ferpipe' has no attribute 'Nothing'"):
        _ = ferpipe.Nothing


def documented(value, section):
    """Find the names in a numpydoc section of a docstring."""
    pattern = rf"^{section}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)"
    found = re.search(pattern, inspect.getdoc(value) or "", re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^(\S.*?)(?: :.*)?$", found[1], re.MULTILINE) if found else []
    return [name.strip(" *") for entry in entries for name in entry.split(",")]


def public_callables():
    """Yield the public functions, classes and their methods, with where they stand."""
    for module_name in MODULES:
        module = import_module(module_name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if getattr(value, "__module__", None) != module_name or not callable(value):
                continue
            yield f"{module_name}.{name}", value
            if inspect.isclass(value):
                for method_name, method in vars(value).items():
                    if inspect.isfunction(method) and not method_name.startswith("_"):
                        yield f"{module_name}.{name}.{method_name}", method


def offered_to_users():
    """Find what ``ferpipe`` and its three subpackages name in their ``__all__``."""
    packages = [ferpipe, ferpipe.datasets, ferpipe.features, ferpipe.networks]
    names = [getattr(package, name) for package in packages for name in package.__all__]
    return [value for value in names if callable(value)]


CALLABLES = dict(public_callables())
OFFERED = offered_to_users()


@pytest.mark.parametrize("name", CALLABLES)
def test_documented_parameters_are_the_parameters(name):
    value = CALLABLES[name]
    assert inspect.getdoc(value)
    fields = getattr(value, "_fields", None)  # of a named tuple
    if dataclasses.is_dataclass(value):
        # inherited fields are documented where they are defined
        own = inspect.get_annotations(value)
        fields = [f.name for f in dataclasses.fields(value) if f.name in own]
        fields = [name for name in fields if not name.startswith("_")]
    if fields is not None:
        assert sorted(documented(value, "Attributes")) == sorted(fields)
        return
    found = documented(value, "Parameters")
    if found or value in OFFERED:  # one sentence is enough for an inner function
        assert found == [
            name for name in inspect.signature(value).parameters if name != "self"
        ]


def test_documentation_was_found():
    assert len(CALLABLES) > 40
    assert set(OFFERED) <= set(CALLABLES.values())
    assert documented(ferpipe.PerFrame, "Parameters") == ["transformer"]
    assert documented(ferpipe.PerFrame, "Attributes") == ["transformer_", "frame_shape_"]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module):
    assert doctest.testmod(import_module(module)).failed == 0
