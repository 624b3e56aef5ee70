import json
import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import ferpipe
from ferpipe import HOGFeatures, PerFrame, PoolFrames
from ferpipe.persistence import FORMAT, card_path, describe_input

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 6))
Y = np.array(["anger", "fear", "surprise"] * 20)


@pytest.fixture
def saved(tmp_path):
    model = make_pipeline(StandardScaler(), SVC()).fit(X, Y)
    return model, ferpipe.save(model, tmp_path / "model.joblib", scores={"accuracy": 0.5})


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), PCA(3), SVC()),
        make_pipeline(make_union(PCA(2), SelectKBest(k=2)), LogisticRegression()),
        LinearSVC(),
        SGDClassifier(),
        GaussianNB(),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree"),
        KNeighborsClassifier(algorithm="brute"),
        DecisionTreeClassifier(),
        RandomForestClassifier(5),
        HistGradientBoostingClassifier(max_iter=3),
        MLPClassifier((4,), max_iter=5, early_stopping=True, validation_fraction=0.3),
        CalibratedClassifierCV(LinearSVC(), cv=2),
        VotingClassifier([("a", SVC()), ("b", GaussianNB())]),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classifiers_come_back_the_same(model, tmp_path):
    model.fit(X, Y)
    path = ferpipe.save(model, tmp_path / "model.joblib")
    np.testing.assert_array_equal(ferpipe.load(path).predict(X), model.predict(X))


def test_a_pipeline_over_sequences_comes_back_in_a_process_with_joblib_only(tmp_path):
    sequences = [RNG.integers(0, 256, size=(3, 16, 16), dtype=np.uint8) for _ in range(12)]
    model = make_pipeline(PerFrame(HOGFeatures()), PoolFrames("mean"), LinearSVC())
    model.fit(sequences, Y[:12])
    path = ferpipe.save(model, tmp_path / "model.joblib")
    np.save(tmp_path / "x.npy", np.stack(sequences))
    code = (
        "import joblib, numpy as np, sys\n"
        f"model = joblib.load({str(path)!r})\n"
        f"print(*model.predict(list(np.load({str(tmp_path / 'x.npy')!r}))))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert out.stdout.decode().split() == list(model.predict(sequences))
    assert describe_input(model) == {"kind": "sequences", "shape": [16, 16]}


def test_the_card_says_what_the_model_is(saved):
    model, path = saved
    card = json.loads(card_path(path).read_text())
    assert card["format"] == FORMAT
    assert card["classes"] == ["anger", "fear", "surprise"]
    assert card["input"] == {"kind": "features", "shape": [6]}
    assert card["scores"] == {"accuracy": 0.5}
    assert card["versions"]["ferpipe"] == ferpipe.__version__
    assert card["model"] == repr(model)


def test_an_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        ferpipe.save(SVC(), tmp_path / "model.joblib")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_model(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes(), card_path(path).read_bytes()

    def fail(*arguments, **options):
        raise OSError("no space left on device")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="no space left"):
        ferpipe.save(model, path)
    assert (path.read_bytes(), card_path(path).read_bytes()) == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.joblib", "model.json"]


def test_a_truncated_file_is_refused(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"model\.joblib: .*sha256 differs.*cut short"):
        ferpipe.load(path)


def test_a_truncated_file_with_a_matching_card_is_refused(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:200])
    rewrite_card(path)
    with pytest.raises(ValueError, match="not a saved model"):
        ferpipe.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99 cannot be read"),
        ({"sha256": "0" * 64}, "sha256 differs"),
        ({"versions": None}, "not the card|cannot be read"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(saved, change, message):
    _, path = saved
    card = json.loads(card_path(path).read_text()) | change
    if change.get("versions", 0) is None:
        del card["versions"]
    card_path(path).write_text(json.dumps(card))
    with pytest.raises(ValueError, match=message):
        ferpipe.load(path)


def test_missing_files_are_named(saved, tmp_path):
    _, path = saved
    with pytest.raises(FileNotFoundError, match="no such model file"):
        ferpipe.load(tmp_path / "other.joblib")
    card_path(path).write_text("{")
    with pytest.raises(ValueError, match="not the card of a model"):
        ferpipe.load(path)
    card_path(path).unlink()
    with pytest.raises(FileNotFoundError, match="card of this model is missing"):
        ferpipe.load(path)


def test_other_versions_are_warned_of(saved):
    model, path = saved
    card = json.loads(card_path(path).read_text())
    card["versions"]["scikit-learn"] = "0.1.2"
    card_path(path).write_text(json.dumps(card))
    with pytest.warns(UserWarning, match=r"saved with scikit-learn 0\.1\.2 \(now"):
        loaded = ferpipe.load(path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


class Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("inside_array", [False, True])
@pytest.mark.parametrize("function", [os.mkdir, eval, joblib.load, pickle.loads])
def test_a_file_that_would_run_code_is_refused(tmp_path, function, inside_array):
    target = tmp_path / "made"
    payload = Attack(function, *(("1",) if function is not os.mkdir else (str(target),)))
    model = SVC().fit(X, Y)
    model.extra = np.array([payload, None], dtype=object) if inside_array else payload
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    rewrite_card(path)
    with pytest.raises(ValueError, match="not on the list of what a model may contain"):
        ferpipe.load(path)
    assert not target.exists()


def test_functions_of_allowed_packages_are_refused_unless_trusted(tmp_path):
    model = make_pipeline(FunctionTransformer(np.abs), SVC()).fit(X, Y)
    path = ferpipe.save(model, tmp_path / "model.joblib")
    with pytest.raises(ValueError, match=r"trusted=\['numpy\.\w*\.?absolute'\]|trusted=\["):
        ferpipe.load(path)
    name = refused_name(path)
    loaded = ferpipe.load(path, trusted=[name])
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def refused_name(path):
    with pytest.raises(ValueError, match="it names") as caught:
        ferpipe.load(path)
    return str(caught.value).partition("it names ")[2].partition(",")[0]


def rewrite_card(path):
    """Write a card whose hash fits, as somebody would who changes both files."""
    import hashlib

    card = {
        "format": FORMAT,
        "classes": [],
        "input": {},
        "versions": {},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    card_path(path).write_text(json.dumps(card))
