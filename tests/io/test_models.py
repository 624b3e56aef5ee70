import ast
import functools
import json
import operator
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, SGDClassifier
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import ferpipe
from ferpipe import (
    CandideFitter,
    FaceAligner,
    HOGFeatures,
    LandmarkPredictor,
    PerFrame,
    PixelFeatures,
    PoolFrames,
    Recognizer,
    predict,
)
from ferpipe.experiments.registry import estimator_classes
from ferpipe.io.card import FORMAT
from ferpipe.io.models import card_path, describe_input
from ferpipe.serve.__main__ import _parser as serve_parser

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
        LinearSVC(dual=False),
        SGDClassifier(),
        GaussianNB(),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree"),
        KNeighborsClassifier(algorithm="brute"),
        DecisionTreeClassifier(),
        RandomForestClassifier(5),
        HistGradientBoostingClassifier(max_iter=3),
        MLPClassifier((4,), max_iter=5, early_stopping=True, validation_fraction=0.3),
        CalibratedClassifierCV(LinearSVC(dual=False), cv=2),
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
    steps = PerFrame(HOGFeatures()), PoolFrames("mean"), LinearSVC(dual=False)
    model = make_pipeline(*steps)
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
    """Calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# each would make the file or folder that it is given, at once or by what it returns
ATTACKS = {
    "mkdir": lambda made: Attack(os.mkdir, made),
    "system": lambda made: Attack(os.system, f"touch {made}"),
    "eval": lambda made: Attack(eval, f"__import__('os').mkdir({made!r})"),
    "exec": lambda made: Attack(exec, f"__import__('os').mkdir({made!r})"),
    "open": lambda made: Attack(open, made, "w"),
    "getattr": lambda made: Attack(getattr, Path(made), "touch"),
    "partial": lambda made: Attack(functools.partial(os.mkdir, made)),
    "methodcaller": lambda made: Attack(operator.methodcaller("touch"), Path(made)),
    "popen": lambda made: Attack(subprocess.Popen, ["touch", made]),
    "pickle": lambda made: Attack(pickle.loads, pickle.dumps(Attack(os.mkdir, made))),
    "save": lambda made: Attack(np.save, f"{made}", np.zeros(3)),
    "vectorize": lambda made: Attack(np.vectorize(os.mkdir), made),
    "apply": lambda made: Attack(np.apply_along_axis, os.mkdir, 0, made),
    "joblib": lambda made: Attack(joblib.dump, 1, made),
    "step": lambda made: FunctionTransformer(os.mkdir, kw_args={"path": made}),
    "metric": lambda made: KNeighborsClassifier(metric=os.mkdir),
}


@pytest.mark.parametrize("inside", ["attribute", "array", "array in an array"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_file_that_would_run_code_is_refused(tmp_path, attack, inside):
    target = tmp_path / "made"
    payload = attack(str(target))
    if inside != "attribute":
        payload = np.array([payload, None], dtype=object)
    if inside == "array in an array":
        payload = np.array([payload, None], dtype=object)
    model = SVC().fit(X, Y)
    model.extra = payload
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    rewrite_card(path)
    with pytest.raises(ValueError, match="not on the list of what a model may contain"):
        ferpipe.load(path)
    assert not list(tmp_path.glob("made*"))


@pytest.mark.parametrize("door", ["load", "Recognizer", "predict"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_door_lets_a_foreign_pickle_in(tmp_path, door, protocol, capsys):
    path = tmp_path / "model.joblib"
    path.write_bytes(pickle.dumps(Attack(os.mkdir, str(tmp_path / "made")), protocol))
    rewrite_card(path)
    if door == "predict":
        cv2.imwrite(str(tmp_path / "face.png"), np.zeros((9, 9), np.uint8))
        assert predict.main([str(path), str(tmp_path / "face.png")]) == 2
        assert "not on the list of what a model may contain" in capsys.readouterr().err
    else:
        with pytest.raises(ValueError, match="not on the list of what a model may contain"):
            {"load": ferpipe.load, "Recognizer": Recognizer}[door](path)
    assert not (tmp_path / "made").exists()


def named(module, name):
    """Opcodes that name a class or function."""
    return f"c{module}\n{name}\n".encode("ascii")


class Made:
    """Is unpickled by a call, and by a state if there is one."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def opcodes(value):
    """Return what puts a value on the stack, by protocol 2."""
    return pickle.dumps(value, 2)[2:-1]


SVC_CLASS = named("sklearn.svm._classes", "SVC")
PLACE = named("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81"
LOSS = named("sklearn._loss.loss", "HalfBinomialLoss") + b")\x81"
NDARRAY = named("numpy", "ndarray")


def text(value):
    return b"V" + value.encode("ascii") + b"\n"


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # changes a class for the whole process
        (SVC_CLASS + b"N}" + text("predict") + NDARRAY + b"s\x86b", "changes <class"),
        # changes a function
        (
            named("sklearn.feature_selection._univariate_selection", "f_classif")
            + b"N}"
            + text("__defaults__")
            + b"Ns\x86b",
            "changes <function",
        ),
        # gets hold of the unpickler by what joblib calls on its place-holders of arrays
        (
            PLACE + b"}" + text("read") + named("builtins", "slice") + b"sb",
            "description of an array in it is broken",
        ),
        # calls an object that it made
        (LOSS + b")R", "it calls a HalfBinomialLoss"),
        (NDARRAY + b"(J\xff\xff\xff\x7ftR", "it calls <class 'numpy.ndarray'>"),
        (
            named("numpy", "memmap")
            + b"("
            + text("made")
            + text("u1")
            + text("w+")
            + b"tR",
            "it calls <class 'numpy.ndarray'>",
        ),
        # a loop that does not end, and memory without bound
        (
            named("builtins", "set")
            + named("builtins", "range")
            + b"(I1000000000000\ntR\x85R",
            "too long",
        ),
        (named("builtins", "bytearray") + b"(I100000000000\ntR", "bytearray in it is"),
        (named("_codecs", "encode") + b"(" + text("a") + text("zlib") + b"tR", "encodes"),
        (
            named("copyreg", "_reconstructor") + b"(" + NDARRAY * 2 + b"I1\ntR",
            "an object in it is broken",
        ),
        (
            named("numpy._core.multiarray", "_reconstruct")
            + b"("
            + NDARRAY
            + b"(I100000000000\nt"
            + text("b")
            + b"tR",
            "an array in it is broken",
        ),
        # the old ways to call
        (b"(" + text("touch made") + b"ios\nsystem\n", "a kind of pickle"),
        (b"(" + SVC_CLASS + b"o", "a kind of pickle"),
        (b"Pmade\n", "a kind of pickle"),
        (b"\x82\x01", "a kind of pickle"),
        # programs, and what is no estimator
        (named("ferpipe.grid.__main__", "SVC"), "not on the list"),
        (named("ferpipe.__main__", "main"), "not on the list"),
        (named("sklearn.svm._classes", "SVC.fit"), "not on the list"),
        (
            named("sklearn.utils._testing", "assert_run_python_script_without_output"),
            "list",
        ),
        (named("ferpipe.caching.store", "Store"), "not on the list"),
        (named("ferpipe.nothing_there", "SVC"), "not on the list"),
        # a class is made empty: its constructor does not run
        (SVC_CLASS + b")R", "it calls <class 'sklearn.svm._classes.SVC'>"),
        # reached through another module than its own
        (named("sklearn.svm", "SVC"), "not on the list"),
        (named("ferpipe.candide.learned_objective", "ExtraTreesRegressor"), "not on the"),
        (named("ferpipe.networks.training.loop", "Net"), "not on the list"),
        (named("sklearn.feature_extraction.text", "CountVectorizer"), "not on the list"),
        (named("scipy.stats._distn_infrastructure", "rv_continuous_frozen"), "not on the"),
        # an attribute that stands in for a method, for a constant of the class, for a
        # network that is built from weights, and a state that is set as one likes
        (SVC_CLASS + b")\x81" + opcodes({"predict": None}) + b"b", "a predict of its own"),
        (SVC_CLASS + b")\x81" + opcodes({"_impl": "one_class"}) + b"b", "an? _impl of its"),
        (SVC_CLASS + b")\x81" + opcodes({"__class__": 1}) + b"b", "attribute '__class__'"),
        (SVC_CLASS + b")\x81" + opcodes({"_net": 1}) + b"b", "attribute '_net'"),
        (SVC_CLASS + b")\x81" + opcodes(({}, {"C": 1})) + b"b", "attributes of a SVC"),
        # append and the like of objects that are no containers
        (SVC_CLASS + b")\x81I1\na", "it puts something into"),
        # compiled objects that were never filled, or twice
        (
            named("sklearn.neighbors._kd_tree", "newObj")
            + named("sklearn.neighbors._kd_tree", "KDTree")
            + b"\x85R",
            "a KDTree in it is empty",
        ),
        # not a model
        (b"I1\n", "not a saved model but int"),
        (SVC_CLASS, "not a saved model but"),
        (b"", "not a saved model"),
    ],
)
def test_a_pickle_by_hand_finds_no_way_around(tmp_path, monkeypatch, program, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.joblib"
    path.write_bytes(b"\x80\x02" + program + b".")
    rewrite_card(path)
    before = dict(vars(SVC))
    with pytest.raises(ValueError, match=message):
        ferpipe.load(path)
    assert not (tmp_path / "made").exists()
    assert vars(SVC) == before


def dtype_of(name, *state):
    return Made(np.dtype, (name, False, True), state)


def array_of(*state):
    return Made(np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state)


OBJECT_FLAGS = 63
FIELDS = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        # bytes that pass for objects would be places in memory
        (opcodes(dtype_of("f8", 3, "<", None, None, None, -1, -1, OBJECT_FLAGS)), "dtype"),
        (opcodes(dtype_of("V8", *FIELDS, 0)), "dtype"),
        (opcodes(dtype_of("V8", *np.dtype([("a", "O")]).__reduce__()[2])), "dtype"),
        (opcodes(dtype_of("f8", *FIELDS, OBJECT_FLAGS)), "dtype"),
        # sizes that do not fit
        (opcodes(dtype_of("U1", 3, "<", None, None, None, -5, 4, 8)), "dtype"),
        (opcodes(dtype_of("V8", *FIELDS[:5], 4000, 1, 27)), "dtype"),
        # numpy reads behind the end of a state, and of a list
        (opcodes(dtype_of("f8", 3, "<", None, -1, -1, 0)), "dtype"),
        (opcodes(array_of(1, (3,), np.dtype("O"), False, [1])), "an array in it is broken"),
        (
            opcodes(array_of(1, (1,), np.dtype("i8"), False, [1])),
            "an array in it is broken",
        ),
        # a look at memory that is given back
        (
            opcodes(np.arange(3.0))
            + opcodes((1, (1,), np.dtype("f8"), False, b"8" * 8))
            + b"b",
            "it changes an array",
        ),
        (
            opcodes(
                Made(
                    np._core.numeric._frombuffer,
                    (np.arange(3.0), np.dtype("f8"), (3,), "C"),
                )
            ),
            "an array in it is broken",
        ),
        (
            opcodes(Made(np._core.multiarray.scalar, (np.dtype("O"), b"8" * 8))),
            "a number in it is broken",
        ),
    ],
)
def test_arrays_by_hand_reach_no_memory(tmp_path, program, message):
    """In a process of its own: what gets through ends it."""
    path = tmp_path / "model.joblib"
    path.write_bytes(b"\x80\x02" + program + b".")
    rewrite_card(path)
    code = f"import ferpipe; ferpipe.load({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert f"ValueError: {path}: " in done.stderr
    assert message in done.stderr


def test_a_dtype_of_all_is_not_changed(tmp_path):
    path = tmp_path / "model.joblib"
    state = opcodes((3, ">", None, None, None, -1, -1, 0))
    name = named("numpy", "dtype")
    path.write_bytes(b"\x80\x02" + name + text("f8") + b"\x85R" + state + b"b.")
    rewrite_card(path)
    with pytest.raises(ValueError, match="not a saved model but Float64DType"):
        ferpipe.load(path)
    assert np.dtype("f8").isnative
    assert np.arange(2.0).tobytes() == b"\0" * 14 + b"\xf0?"


@pytest.mark.parametrize(
    "value",
    [
        *(np.float32(2.5), np.int64(-3), np.bool_(True), np.str_("fear"), np.str_("")),
        *(np.bytes_(b"ab"), np.array([1.5, 2.0], "f4"), np.array(["joy", None], object)),
        *(
            np.array(["a", "bcd"]),
            np.zeros(2, [("x", "f8"), ("y", "u1")]),
            np.zeros((0, 3)),
        ),
        np.zeros(3, np.dtype([("x", "u1"), ("y", "f8")], align=True)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
)
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numbers_and_arrays_come_back_the_same(tmp_path, value, protocol):
    model = SVC()
    model.kept = {"inside": [value]}
    path = tmp_path / "model.joblib"
    path.write_bytes(pickle.dumps(model, protocol))
    rewrite_card(path)
    (again,) = ferpipe.load(path).kept["inside"]
    assert type(again) is type(value)
    assert again.dtype == value.dtype
    np.testing.assert_array_equal(again, value)


def calls_of_a_module(package):
    """Yield (file, module, function, constant keywords) of each module.function(...)."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                given = {
                    word.arg: word.value.value
                    for word in node.keywords
                    if isinstance(word.value, ast.Constant)
                }
                yield path, getattr(node.func.value, "id", ""), node.func.attr, given


def test_no_module_but_the_store_reads_pickles():
    pickles = {"joblib", "pickle", "marshal", "shelve", "pd"}
    found = set()
    for path, owner, name, given in calls_of_a_module(Path(ferpipe.__file__).parent):
        if name not in ("load", "loads", "read_pickle"):
            continue
        found.add(owner)
        if owner == "np":
            assert given.get("allow_pickle") is False, path
        elif owner == "torch":
            assert given.get("weights_only") is True, path
        else:
            assert owner not in pickles or path.name == "store.py", path
    # that the search finds what there is
    assert {"np", "torch", "joblib"} <= found


def test_an_array_that_claims_more_than_the_file_holds_is_not_made(tmp_path):
    model = SVC().fit(X, Y)
    model.extra = np.zeros((3, 77), np.uint8)
    path = ferpipe.save(model, tmp_path / "model.joblib")
    content = path.read_bytes()
    assert content.count(b"K\x03KM\x86") == 1
    path.write_bytes(content.replace(b"K\x03KM\x86", b"J\xff\xff\xff\x7fKM\x86"))
    rewrite_card(path)
    with pytest.raises(ValueError, match=r"array of 165356240819 bytes in it is cut short"):
        ferpipe.load(path)


@pytest.mark.parametrize("change", ["loop", "feature", "outputs"])
def test_a_tree_that_compiled_code_would_run_astray_in_is_refused(tmp_path, change):
    model = DecisionTreeClassifier(random_state=0).fit(X, Y)
    build, arguments, state = model.tree_.__reduce__()
    if change == "outputs":
        arguments = (arguments[0], arguments[1], 10**6)
    else:
        state["nodes"] = state["nodes"].copy()
        name, value = {"loop": ("left_child", 0), "feature": ("feature", 10**6)}[change]
        state["nodes"][name][0] = value
    model.tree_ = Again(build, arguments, state)
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    rewrite_card(path)
    with pytest.raises(ValueError, match="a decision tree in it is broken"):
        ferpipe.load(path)


class Again:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"\xff",
        b"3",
        b'{"format": 1, "sha256": "", "versions": 3, "classes": [], "input": {}}',
        b'{"format": 1, "sha256": "", "versions": {"a": 2}, "classes": [], "input": {}}',
        b" " * (2**24 + 1),
    ],
    ids=["deep", "no text", "number", "no versions", "no text of a version", "large"],
)
def test_a_broken_card_is_refused(saved, content):
    _, path = saved
    card_path(path).write_bytes(content)
    with pytest.raises(ValueError, match=r"not the card of a model|cannot be read"):
        ferpipe.load(path)


@pytest.mark.filterwarnings("ignore:.*was saved with", "ignore:Trying to unpickle")
@pytest.mark.parametrize("name", ["svc", "network"])
def test_a_file_of_each_format_still_loads(name):
    folder = Path(__file__).parents[1] / "saved"
    samples = np.load(folder / "samples.npz")
    model = ferpipe.load(folder / f"{name}_format1.joblib")
    method = model.decision_function if name == "svc" else model.predict_proba
    np.testing.assert_allclose(method(list(samples["frames"])), samples[name], atol=1e-5)


def test_saved_networks_hold_nothing_of_torch():
    content = (Path(__file__).parents[1] / "saved" / "network_format1.joblib").read_bytes()
    assert b"torch" not in content
    assert b"skorch" not in content
    # that the search would find a name: pickles hold it as text
    assert b"ferpipe.networks.sequence" in content


def test_a_model_that_was_fitted_on_mapped_data_comes_back(tmp_path):
    np.save(tmp_path / "x.npy", X)
    model = KNeighborsClassifier(algorithm="brute").fit(X, Y)
    model._fit_X = np.load(tmp_path / "x.npy", mmap_mode="r")
    path = ferpipe.save(model, tmp_path / "model.joblib")
    (tmp_path / "x.npy").unlink()
    loaded = ferpipe.load(path)
    assert type(loaded._fit_X) is np.ndarray
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_functions_of_allowed_packages_are_refused_unless_trusted(tmp_path):
    model = make_pipeline(FunctionTransformer(np.abs), SVC()).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"Pipeline is not saved.*names sklearn\.\S+\.Func"
    ):
        ferpipe.save(model, tmp_path / "model.joblib")
    assert not list(tmp_path.iterdir())
    names = [
        "sklearn.preprocessing._function_transformer.FunctionTransformer",
        "numpy.absolute",
        "numpy._core._multiarray_umath.absolute",
    ]
    path = ferpipe.save(model, tmp_path / "model.joblib", trusted=names)
    with pytest.raises(
        ValueError, match=r"load\(path, trusted=\['sklearn\.\S+Transformer'\]"
    ):
        ferpipe.load(path)
    assert json.loads(card_path(path).read_text())["trusted"] == sorted(names)
    loaded = ferpipe.load(path, trusted=names)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    with pytest.raises(TypeError, match="trusted must be a list of names"):
        ferpipe.load(path, trusted=names[0])


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


# What is saved can be loaded


MACRO = make_scorer(f1_score, average="macro")
SEARCHED = make_pipeline(StandardScaler(), LinearSVC(dual=False))
VALUES = {"linearsvc__C": [0.1, 1]}


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(SEARCHED, VALUES, cv=StratifiedKFold(2)),
        GridSearchCV(
            SEARCHED, VALUES, cv=2, scoring=make_scorer(f1_score, average="macro")
        ),
        RandomizedSearchCV(
            SEARCHED, {"linearsvc__C": loguniform(0.1, 1)}, n_iter=2, cv=2, random_state=0
        ),
        make_pipeline(
            StandardScaler(), GridSearchCV(LinearSVC(dual=False), {"C": [0.1, 1]}, cv=2)
        ),
        CalibratedClassifierCV(
            GridSearchCV(LinearSVC(dual=False), {"C": [0.1, 1]}, cv=2), cv=2
        ),
    ],
    ids=["splitter", "scorer", "distribution", "in a pipeline", "in a calibration"],
)
def test_a_search_is_saved_as_its_best_estimator(search, tmp_path):
    search.fit(X, Y)
    with pytest.warns(UserWarning, match=r"SearchCV is not saved, but its .*est"):
        path = ferpipe.save(search, tmp_path / "model.joblib")
    loaded = ferpipe.load(path)
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))
    notes = json.loads(card_path(path).read_text())["notes"]
    assert all("SearchCV is not saved, but its" in note for note in notes)
    assert "SearchCV" not in repr(loaded)


def test_a_search_without_a_best_estimator_is_refused(tmp_path):
    inner = GridSearchCV(LinearSVC(dual=False), {"C": [1]}, cv=2, refit=False).fit(X, Y)
    model = make_pipeline(StandardScaler(), LinearSVC(dual=False)).fit(X, Y)
    model.steps.insert(0, ("search", inner))
    with pytest.raises(ValueError, match=r"refit=False has no .*refit=True"):
        ferpipe.save(model, tmp_path / "model.joblib")


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (
            CalibratedClassifierCV(
                make_pipeline(FunctionTransformer(), LinearSVC(dual=False)), cv=2
            ),
            "FunctionTransformer",
        ),
        (KNeighborsClassifier(metric=lambda a, b: abs(a - b).sum()), "lambda"),
        (
            LogisticRegressionCV(Cs=2, cv=2, scoring=MACRO, l1_ratios=(0,)),
            "_Scorer",
        ),
        (
            GradientBoostingClassifier(n_estimators=2, init=LogisticRegression()),
            "begins with LogisticRegression",
        ),
    ],
    ids=["function", "metric", "scorer", "start of boosting"],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_load_would_refuse_is_not_saved(model, part, tmp_path):
    with pytest.raises((ValueError, pickle.PicklingError, AttributeError), match=part):
        ferpipe.save(model.fit(X, Y), tmp_path / "model.joblib")
    assert not list(tmp_path.iterdir())


# metrics of truth values and of places on a globe, which no features here are
FOR_TRUTH_VALUES = {
    *("dice", "haversine", "jaccard", "rogerstanimoto", "russellrao", "sokalmichener"),
    *("kulsinski", "matching", "sokalsneath", "yule"),
}


def variants():
    """Yield scikit-learn's estimators of the registry, with each option by name."""
    special = {
        "FrozenEstimator": lambda kind: kind(GaussianNB().fit(X, Y)),
        "VotingClassifier": lambda kind: kind([("a", SVC()), ("b", GaussianNB())]),
        "StackingClassifier": lambda kind: kind(
            [("a", LinearSVC()), ("b", GaussianNB())], cv=StratifiedKFold(2)
        ),
        "GaussianRandomProjection": lambda kind: kind(3),
        "SparseRandomProjection": lambda kind: kind(3),
        "MLPClassifier": lambda kind: kind((4,), max_iter=5),
        "LogisticRegressionCV": lambda kind: kind(Cs=2, cv=2),
        "BaggingClassifier": lambda kind: kind(n_estimators=2),
        "DummyClassifier": lambda kind: kind(random_state=0),
    }
    for name in (
        *("RFE", "SelectFromModel", "OneVsOneClassifier", "OneVsRestClassifier"),
        "OutputCodeClassifier",
    ):
        special[name] = lambda kind: kind(LinearSVC(dual=False))
    for name in (
        *("AdaBoostClassifier", "ExtraTreesClassifier", "GradientBoostingClassifier"),
        "RandomForestClassifier",
    ):
        special[name] = lambda kind: kind(n_estimators=2)
    special["HistGradientBoostingClassifier"] = lambda kind: kind(max_iter=2)
    for name, kind in estimator_classes().items():
        if not kind.__module__.startswith("sklearn."):
            continue
        make = special.get(name, lambda kind: kind())
        yield name, make(kind), {}
        constraints = getattr(kind, "_parameter_constraints", {})
        for parameter, several in constraints.items():
            for one in several if isinstance(several, list) else ():
                for option in getattr(one, "options", ()):
                    if isinstance(option, str):
                        yield name, make(kind), {parameter: option}
        if "random_state" in constraints and name != "DummyClassifier":
            yield name, make(kind), {"random_state": np.random.RandomState(0)}


@pytest.mark.filterwarnings("ignore")
def test_every_estimator_of_the_registry_comes_back_with_every_option(tmp_path):
    data = np.abs(X)
    names, n_variants = set(), 0
    for name, model, options in variants():
        try:
            if options:
                model.set_params(**options)
            model.fit(data, Y)
            if not hasattr(model, "predict"):
                model = make_pipeline(model, LogisticRegression()).fit(data, Y)
            expected = model.predict(data)
        except (ValueError, TypeError, AttributeError, NotImplementedError):
            continue  # options that do not go together
        try:
            path = ferpipe.save(model, tmp_path / "model.joblib")
        except ValueError as error:
            # where a search tree holds the metric
            listed = "Distance64, which is not on the list" not in str(error)
            if listed or options.get("metric") not in FOR_TRUTH_VALUES:
                raise
            continue
        np.testing.assert_array_equal(
            ferpipe.load(path).predict(data), expected, err_msg=f"{name} {options}"
        )
        names.add(name)
        n_variants += 1
    of_sklearn = {
        name
        for name, kind in estimator_classes().items()
        if kind.__module__.startswith("sklearn.")
    }
    assert names == of_sklearn
    assert n_variants > 250


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON", '{"format": 1}'])
def test_a_file_that_is_no_card_is_not_overwritten(content, tmp_path):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.json: .* no card of a model"):
        ferpipe.save(GaussianNB().fit(X, Y), tmp_path / "model.joblib")
    assert (tmp_path / "model.json").read_text() == content
    assert not (tmp_path / "model.joblib").exists()
    with pytest.raises(ValueError, match=r"cannot end in \.json"):
        ferpipe.save(GaussianNB().fit(X, Y), tmp_path / "other.json")


def test_loading_while_another_process_saves_never_says_changed(tmp_path):
    path = ferpipe.save(GaussianNB().fit(X, Y), tmp_path / "model.joblib")
    code = (
        "import sys, ferpipe\n"
        "model = ferpipe.load(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    model.kept = number\n"
        "    ferpipe.save(model, sys.argv[1])\n"
    )
    saver = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    try:
        assert saver.stdout.readline() == b"ready\n"
        found = {getattr(ferpipe.load(path), "kept", 0) for _ in range(200)}
    finally:
        saver.kill()
        saver.communicate()
    # that it was replaced meanwhile
    assert len(found) > 5


def test_how_things_run_is_not_the_files_to_say(tmp_path):
    forest = RandomForestClassifier(2, n_jobs=2)
    model = make_pipeline(StandardScaler(), forest).fit(X, Y)
    model.set_params(memory=str(tmp_path / "elsewhere"))
    forest.estimators_[0].n_jobs = 64
    model.kept = {"inside": [KNeighborsClassifier(n_jobs=64)]}
    path = ferpipe.save(model, tmp_path / "model.joblib")
    loaded = ferpipe.load(path)
    assert loaded.memory is None
    inner = loaded[-1]
    assert inner.n_jobs is None
    assert inner.estimators_[0].n_jobs is None
    assert loaded.kept["inside"][0].n_jobs is None
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (FaceAligner(detector="/tmp/secret.onnx"), "detector"),
        (FaceAligner(landmarks="/tmp/secret.dat"), "landmarks"),
        (LandmarkPredictor(model=Path("/tmp/secret.dat")), "model"),
        (CandideFitter(detector="/tmp/secret.onnx"), "detector"),
        (PerFrame(FaceAligner(detector=["x"])), "detector"),
    ],
)
def test_a_model_that_would_open_a_file_is_refused(step, name, tmp_path):
    model = make_pipeline(step, GaussianNB().fit(X, Y))
    model.classes = 3
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    rewrite_card(path)
    kind = type(getattr(step, "transformer", step)).__name__
    with pytest.raises(ValueError, match=rf"{kind}\({name}=.* in it|names pathlib"):
        ferpipe.load(path)


def test_a_file_that_is_trusted_may_be_opened(tmp_path):
    model = make_pipeline(FaceAligner(detector="/tmp/known.onnx"), GaussianNB().fit(X, Y))
    with pytest.raises(ValueError, match=r"not saved.*trusted=\['/tmp/known\.onnx'\]"):
        ferpipe.save(model, tmp_path / "model.joblib")
    path = ferpipe.save(model, tmp_path / "model.joblib", trusted=["/tmp/known.onnx"])
    loaded = ferpipe.load(path, trusted=["/tmp/known.onnx"])
    assert loaded[0].detector == "/tmp/known.onnx"


def test_trusted_names_reach_the_recognizer_and_the_programs(tmp_path, capsys):
    images = RNG.integers(0, 256, size=(12, 16, 16), dtype=np.uint8)
    steps = PixelFeatures(), FunctionTransformer(), LogisticRegression()
    model = make_pipeline(*steps).fit(images, Y[:12])
    name = "sklearn.preprocessing._function_transformer.FunctionTransformer"
    path = ferpipe.save(model, tmp_path / "model.joblib", trusted=[name])
    with pytest.raises(ValueError, match="not on the list"):
        Recognizer(path)
    assert Recognizer(path, trusted=[name]).classes == ["anger", "fear", "surprise"]
    cv2.imwrite(str(tmp_path / "face.png"), images[0])
    arguments = [str(path), str(tmp_path / "face.png")]
    assert predict.main(arguments) == 2
    assert predict.main([*arguments, "--trusted", name]) != 2
    options = serve_parser().parse_args([str(path), "--trusted", "a.B", "--trusted", "c.D"])
    assert options.trusted == ["a.B", "c.D"]
