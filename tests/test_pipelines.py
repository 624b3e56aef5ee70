"""Every experiment file compiles, says the same when resolved, and runs on small data."""

from pathlib import Path

import numpy as np
import pytest

from ferpipe.experiments.run import make_plan, run_experiment
from ferpipe.experiments.spec import compile_spec, read_mapping

FILES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.yaml"))


def shrunk(node):
    """The same file with one epoch, one alternative a try and two folds."""
    if isinstance(node, list):
        return [shrunk(item) for item in node]
    if isinstance(node, str) and node.endswith(".safetensors"):
        return "fer2013"  # the file is made by another experiment
    if not isinstance(node, dict):
        return node
    if set(node) == {"try"}:
        return {"try": [shrunk(item) for item in node["try"][:2]]}
    small = {"max_epochs": 1, "n_splits": 2, "n_sequences": 84, "n_components": 5}
    small["checkpoint"] = None
    return {key: small.get(key, shrunk(value)) for key, value in node.items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_compiles_and_resolves(path):
    spec = compile_spec(read_mapping(path))
    assert spec.name == path.stem
    again = compile_spec(spec.resolved)
    assert repr(again.pipeline) == repr(spec.pipeline)
    assert repr(again.grid) == repr(spec.grid)


def small_data(spec):
    """Synthetic faces in the shape that the experiment takes."""
    from ferpipe.datasets import make_expression_sequences

    bunch = make_expression_sequences(n_sequences=84, n_frames=3, random_state=0)
    if spec.protocol == "fer2013-official":
        bunch.update(data=np.stack([frames[-1] for frames in bunch.data]), kind="images")
        bunch.update(usage=np.repeat(["Training", "PublicTest"], 42), groups=None)
        # FER2013's classes, which the network that ships tells
        bunch.target[bunch.target == "contempt"] = "neutral"
    return bunch


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_runs_on_small_data(path):
    spec = compile_spec(shrunk(read_mapping(path)))
    bunch = small_data(spec)
    results = run_experiment(spec, bunch)
    assert results.fits["total"] == make_plan(spec, bunch).fits
    assert set(results.model.predict(bunch.data)) <= set(results.classes)


def test_there_are_files():
    assert len(FILES) >= 3
