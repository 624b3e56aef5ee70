import os
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

import ferpipe
from ferpipe import inspect
from ferpipe.io.pickle_names import names_in

SAVED = sorted((Path(__file__).parent / "saved").rglob("*.joblib"))


@pytest.fixture
def path(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 3))
    model = make_pipeline(StandardScaler(), SVC()).fit(X, ["fear", "joy"] * 6)
    return ferpipe.save(model, tmp_path / "m.joblib", scores={"accuracy": 0.5})


def test_lists_names_and_card(path, capsys):
    assert inspect.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "  admitted  sklearn.svm._classes.SVC\n" in out
    assert "  classes: fear, joy\n" in out
    assert "  scores: accuracy 0.5\n" in out
    assert "refused" not in out


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_reads_every_saved_model_to_its_end(path):
    names, damage = names_in(path)
    assert damage is None
    assert "sklearn.pipeline.Pipeline" in names or len(names) > 3


class Attack:
    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return os.mkdir, (self.made,)


@pytest.mark.parametrize("inside", ["alone", "array", "array in an array"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_file_is_listed_and_does_nothing(tmp_path, inside, protocol, capsys):
    made = tmp_path / "made"
    payload = [np.arange(3.0), Attack(str(made)), np.array(["a", None], object)]
    for _ in range(["alone", "array", "array in an array"].index(inside)):
        array = np.empty(2, object)
        array[:] = [payload, 1]
        payload = array
    path = tmp_path / "m.joblib"
    joblib.dump(payload, path, protocol=protocol)
    assert inspect.main([str(path)]) == 2
    out, err = capsys.readouterr()
    assert f"  refused   {os.mkdir.__module__}.mkdir\n" in out
    assert "names are not on the list of what a model may contain" in err
    assert "the card of this model is missing" in err
    assert not made.exists()


def test_nothing_that_is_named_is_imported(tmp_path, capsys):
    path = tmp_path / "m.joblib"
    path.write_bytes(b"\x80\x02ctests_of_nothing\nThing\n)\x81.")
    (tmp_path / "tests_of_nothing.py").write_text("raise SystemExit(9)")
    sys.path.insert(0, str(tmp_path))
    try:
        assert inspect.main([str(path)]) == 2
    finally:
        sys.path.remove(str(tmp_path))
    assert "tests_of_nothing" not in sys.modules
    assert "refused   tests_of_nothing.Thing" in capsys.readouterr().out


def test_a_trusted_name_is_none_that_is_refused(tmp_path, capsys):
    X = np.random.default_rng(0).normal(size=(12, 3))
    model = make_pipeline(FunctionTransformer(), SVC()).fit(X, ["fear", "joy"] * 6)
    name = "sklearn.preprocessing._function_transformer.FunctionTransformer"
    path = ferpipe.save(model, tmp_path / "m.joblib", trusted=[name])
    assert inspect.main([str(path)]) == 2
    assert inspect.main([str(path), "--trusted", name]) == 0
    assert f"  trusted   {name}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"no pickle",
        b"\x80\x04\x95" + b"\xff" * 8,
        b"(" * 10_000,
        b"\x80\x04.",
    ],
)
def test_a_damaged_file_is_one_line(path, content, capsys):
    path.write_bytes(content)
    assert inspect.main([str(path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors
    assert all(line.startswith("error: ") for line in errors)
    assert any("cannot be read to its end" in line for line in errors)


def test_a_cut_file_names_what_comes_before(path, capsys):
    path.write_bytes(path.read_bytes()[:-200])
    assert inspect.main([str(path)]) == 2
    out, err = capsys.readouterr()
    assert "sklearn.pipeline.Pipeline" in out
    assert "the hash of the file is not the hash on its card" in err


def test_escapes_are_not_printed(tmp_path, capsys):
    path = tmp_path / "m.joblib"
    path.write_bytes(b"\x80\x02cos\x1b[2J\nsystem\n.")
    assert inspect.main([str(path)]) == 2
    assert "\x1b" not in "".join(capsys.readouterr())
    assert inspect.main([str(tmp_path / "nothing.joblib")]) == 2
