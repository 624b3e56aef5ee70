"""Every class that a model file may name, with hostile states: loaded, and used.

``python benchmarks/gadgets.py`` fits models that hold every admitted class, puts hostile
values in the place of each of their attributes, one at a time (arrays of another shape,
length, type or content, huge numbers, paths, None, the owner itself, other estimators,
functions and classes of the list), writes a file with a card that fits, loads it with
``ferpipe.load`` and uses what comes: predict, predict_proba, decision_function, transform,
names of features, repr, get_params, clone. Trees, search trees, metrics and sources of
random numbers get hostile parts of their states.

Each file goes through a child forked from one warm parent, which an audit hook watches:
files opened outside the packages, changes to the file system, processes, sockets, code
compiled or executed from text. Address space is limited to 8 GB; a file that takes longer
than ``--seconds`` is told of, one that ends the process too, by its signal.

Prints classes, states and what came of them; each is made again by its number:
``python benchmarks/gadgets.py --first 4711 -n 1``.
"""

import argparse
import hashlib
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import (
    NMF,
    PCA,
    FastICA,
    IncrementalPCA,
    KernelPCA,
    TruncatedSVD,
)
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import (
    RFE,
    SelectFromModel,
    SelectKBest,
    VarianceThreshold,
    f_classif,
)
from sklearn.frozen import FrozenEstimator
from sklearn.kernel_approximation import AdditiveChi2Sampler, Nystroem, RBFSampler
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.multiclass import (
    OneVsOneClassifier,
    OneVsRestClassifier,
    OutputCodeClassifier,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import (
    KNeighborsClassifier,
    NearestCentroid,
    NeighborhoodComponentsAnalysis,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection
from sklearn.svm import SVC, LinearSVC, NuSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

import ferpipe
from ferpipe.io.admitted import CLASSES
from ferpipe.io.compiled import FILL, full_name
from ferpipe.io.contents import objects_of

# made here, so that forked processes have it without a copy
Process, SimpleQueue, Value = (
    getattr(get_context("fork"), name) for name in ("Process", "SimpleQueue", "Value")
)
SAVED = Path(__file__).parent.parent / "tests" / "saved" / "format1"
LISTS = {"films", "tracks", "faces_films"}
# modules and data of these may be read
_PLACES = (
    *(sys.prefix, sys.base_prefix, Path(ferpipe.__file__).parent),
    *(Path(np.__file__).parent.parent, "/proc", "/sys", "/dev", "/etc/localtime"),
)
PACKAGES = tuple(
    {str(make(place)) for place in _PLACES for make in (Path, os.path.realpath)}
)
# how often an attribute of a class is tried, in as many models
OWNERS = 1
METHODS = (
    *("predict", "predict_proba", "decision_function", "transform", "predict_log_proba"),
    "score_samples",
)


class Reduced:
    """Is pickled by a given reduction."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def subjects():
    """Yield (name, fitted model, data); together they hold every admitted class."""
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(40, 6)))
    three = np.array(["anger", "fear", "joy", "sad"] * 10)
    two = np.array(["anger", "fear"] * 20)
    seeded = {"random_state": np.random.RandomState(0)}
    plain = [
        *(SVC(), NuSVC(), SVC(kernel="poly"), LinearSVC()),
        *(DecisionTreeClassifier(**seeded), ExtraTreeClassifier(), GaussianNB()),
        *(RandomForestClassifier(2), ExtraTreesClassifier(2), BaggingClassifier(None, 2)),
        *(AdaBoostClassifier(n_estimators=2), GradientBoostingClassifier(n_estimators=2)),
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=5),
        *(LogisticRegression(), Perceptron(), RidgeClassifier(), RidgeClassifierCV()),
        *(SGDClassifier(), SGDClassifier(loss="modified_huber"), DummyClassifier()),
        *(LinearDiscriminantAnalysis(), QuadraticDiscriminantAnalysis(reg_param=0.1)),
        *(NearestCentroid(), MLPClassifier((4,), max_iter=3)),
        MLPClassifier((4,), max_iter=3, solver="sgd"),
        *(
            KNeighborsClassifier(metric=metric, algorithm=algorithm)
            for metric, algorithm in (
                *(("minkowski", "kd_tree"), ("euclidean", "ball_tree")),
                *(("minkowski", "brute"), ("canberra", "ball_tree"), ("cosine", "brute")),
            )
        ),
        *(OneVsOneClassifier(LinearSVC()), OneVsRestClassifier(LinearSVC())),
        OutputCodeClassifier(LinearSVC(), random_state=3),
        *(
            CalibratedClassifierCV(LinearSVC(), method=method, cv=StratifiedKFold(2))
            for method in ("sigmoid", "isotonic", "temperature")
        ),
        VotingClassifier([("a", LinearSVC()), ("b", GaussianNB())]),
        StackingClassifier([("a", LinearSVC()), ("b", GaussianNB())], cv=KFold(2)),
        LogisticRegressionCV(Cs=2, cv=2),
    ]
    for model in plain:
        yield type(model).__name__, model.fit(X, three), X
    for model in (
        GradientBoostingClassifier(n_estimators=2, loss="exponential"),
        HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=5),
        SVC(kernel="linear"),
    ):
        yield f"{type(model).__name__} of two", model.fit(X, two), X
    K = X @ X.T
    yield "SVC precomputed", SVC(kernel="precomputed").fit(K, three), K
    for step in (
        *(PCA(3), FastICA(3, max_iter=9), IncrementalPCA(3), KernelPCA(3, kernel="rbf")),
        *(NMF(3), TruncatedSVD(3), AdditiveChi2Sampler(), Nystroem(n_components=5)),
        *(RBFSampler(n_components=5), RFE(LinearSVC()), SelectFromModel(LinearSVC())),
        *(SelectKBest(k=2), VarianceThreshold(), FrozenEstimator(PCA(3).fit(X))),
        *(MaxAbsScaler(), MinMaxScaler(), Normalizer(), PolynomialFeatures()),
        *(PowerTransformer(), QuantileTransformer(n_quantiles=9), RobustScaler()),
        *(StandardScaler(), GaussianRandomProjection(3), SparseRandomProjection(3)),
        *(NeighborhoodComponentsAnalysis(max_iter=2), make_union(PCA(2), SelectKBest(k=2))),
    ):
        model = make_pipeline(step, LogisticRegression())
        yield type(step).__name__, model.fit(X, three), X
    splitters = LogisticRegression().fit(X, three)
    splitters.kept = [
        *(GroupKFold(), GroupShuffleSplit(), LeaveOneGroupOut(), LeavePGroupsOut(2)),
        *(RepeatedStratifiedKFold(), ShuffleSplit(), StratifiedGroupKFold()),
        StratifiedShuffleSplit(),
    ]
    yield "splitters", splitters, X
    regressors = LogisticRegression().fit(X, three)
    regressors.kept = [
        model.fit(X, X[:, 0])
        for model in (
            *(DecisionTreeRegressor(), GradientBoostingRegressor(n_estimators=2)),
            *(RandomForestRegressor(2), ExtraTreesRegressor(2)),
        )
    ]
    yield "regressors", regressors, X
    samples = np.load(SAVED / "samples.npz")
    for path in sorted(SAVED.glob("*.joblib")):
        data = str(np.load(path.with_suffix(".npz"))["data"])
        chosen = samples[data][:2]
        yield path.stem, ferpipe.load(path), list(chosen) if data in LISTS else chosen


def hostile(value, owner, bait):
    """Yield replacements for a value."""
    yield from (None, True, -1, 0, 3, 10**6, 2**31, 2**63, 2**70, 1e308, float("nan"))
    yield from ("", bait, "precomputed", b"x", [], {}, (), (10**6, 10**6), [bait], owner)
    yield from (f_classif, SVC, np.ndarray, GaussianNB(), PCA(2), np.random.RandomState(0))
    yield from (np.zeros(0), np.zeros((3, 3)), np.array([None, bait], object))
    yield np.array([bait] * 40)
    yield np.full((40, 6), -1)
    if isinstance(value, np.ndarray) and value.ndim:
        yield from (value[:-1], value[:0], np.concatenate([value, value]), value.T)
        yield from (value.ravel(), value[None], np.asfortranarray(value))
        if value.dtype.names:
            for name in value.dtype.names:
                for number in (-1, 0, 1, 2**31 - 1, 255):
                    changed = value.copy()
                    with np.errstate(all="ignore"):
                        changed[name] = np.array(number).astype(changed[name].dtype)
                    yield changed
        elif value.dtype.kind in "iuf":
            for kind in ("f4", "i8", "i4", "u1", "O", "U"):
                with np.errstate(all="ignore"):
                    yield value.astype(kind)
            for number in (-1, 2**31 - 1, np.nan, 1e300):
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    yield np.full_like(value, np.array(number).astype(value.dtype))
            changed = value.copy()
            changed.flat[-1:] = 127
            yield changed
        if value.ndim == 2:
            yield from (value[:, :-1], np.concatenate([value, value], axis=1))
    elif isinstance(value, list | tuple) and value:
        yield from (value[:-1], value[::-1], value + value)
    elif isinstance(value, dict):
        yield {**value, "extra": owner, "Y_norm_squared": np.zeros(1), "n_jobs": 10**6}
        for key, inner in list(value.items())[:4]:
            for changed in (None, -1, bait, np.zeros(0), np.zeros((3, 3)), inner, owner):
                yield {**value, key: changed}
    elif isinstance(value, float | np.floating):
        yield from (0.0, -1.0, 1e-308)


def states_of(value, bait):
    """Yield changed states of a compiled object, ready to be pickled."""
    reduced = value.__reduce__()
    build, arguments, state = (*reduced, None)[:3]
    for number, argument in enumerate(arguments):
        for changed in hostile(argument, None, bait):
            some = (*arguments[:number], changed, *arguments[number + 1 :])
            yield Reduced(build, some, state)
    yield Reduced(build, arguments)
    if isinstance(state, dict):
        for key, inner in state.items():
            for changed in hostile(inner, None, bait):
                yield Reduced(build, arguments, {**state, key: changed})
            if isinstance(inner, dict):
                for deep, deepest in inner.items():
                    for changed in hostile(deepest, None, bait):
                        yield Reduced(
                            build, arguments, {**state, key: {**inner, deep: changed}}
                        )
    elif isinstance(state, tuple):
        for number, inner in enumerate(state):
            for changed in hostile(inner, None, bait):
                some = (*state[:number], changed, *state[number + 1 :])
                yield Reduced(build, arguments, some)
            if hasattr(inner, "__reduce__") and full_name(type(inner)) in FILL:
                for changed in states_of(inner, bait):
                    some = (*state[:number], changed, *state[number + 1 :])
                    yield Reduced(build, arguments, some)


def is_compiled(value):
    """Return whether a value reads its own state."""
    return full_name(type(value)) in FILL or isinstance(
        value, np.random.RandomState | np.random.Generator
    )


def choose(models):
    """Choose places in models: [(number of the owner, attribute)] for each."""
    often = Counter()
    for model in models:
        chosen = []
        for number, owner in enumerate(objects_of(model)):
            for name in [*vars(owner), None]:
                key = full_name(type(owner)), name, full_name(type(vars(owner).get(name)))
                often[key] += 1
                if often[key] <= OWNERS:
                    chosen.append((number, name))
        yield chosen


def cases(model, chosen, bait):
    """Yield (class, attribute) while the model is changed."""
    owners = list(objects_of(model))
    for number, name in chosen:
        owner = owners[number]
        own = vars(owner)
        if name is not None:
            value = own[name]
            changes = [hostile(value, owner, bait)]
            if is_compiled(value):
                changes.append(states_of(value, bait))
            try:
                for some in changes:
                    for changed in some:
                        own[name] = changed
                        yield full_name(type(owner)), name
            finally:
                own[name] = value
            continue
        # and attributes that are not there
        for name in ("predict", "__class__", "__setstate__", "_impl", "_net", "memory"):
            if name not in own:
                own[name] = bait if name == "memory" else f_classif
                yield full_name(type(owner)), name
                del own[name]


def write(model, path):
    """Write a model and a matching card, as an attacker who knows the format."""
    file = io.BytesIO()
    try:
        joblib.dump(model, file)
    except Exception:  # some states cannot be pickled: no file holds them
        return False
    content = file.getvalue()
    path.write_bytes(content)
    card = {
        "format": 1,
        "classes": [],
        "input": {},
        "versions": {},
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return True


class Watch:
    """Findings of an audit hook since the last call."""

    def __init__(self, folder):
        self.own = str(folder)
        self.found: list[str] = []
        self.on = False
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        """Note events that no model needs."""
        if not self.on:
            return
        if event == "open":
            self._opened(*arguments[:3])
        elif event.startswith(
            ("subprocess.", "socket.", "ctypes.", "shutil.", "webbrowser")
        ) or (event.startswith("os.") and event not in ("os.listdir", "os.scandir")):
            self._note(event, arguments)
        elif event in ("exec", "compile"):
            code = arguments[-1] if event == "compile" else arguments[0]
            name = getattr(code, "co_filename", code)
            if isinstance(name, bytes):
                name = os.fsdecode(name)
            if not self._of_packages(str(name)):
                self._note(event, (name,))

    def _opened(self, path, mode, flags):
        if isinstance(path, int):
            return
        path = os.path.abspath(os.fsdecode(path))
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = path.startswith(self.own + "/model.")
        if not inside and (writes or not path.startswith(PACKAGES)):
            self._note("open", (path, mode))

    def _of_packages(self, name):
        if name.startswith(("<frozen", *PACKAGES)):
            return True
        # classes of data are made from text, and so are the names of torch's functions
        frames = [frame.filename for frame in traceback.extract_stack()[:-3]]
        makers = ("dataclasses.py", "collections/__init__.py", "importlib")
        return any(maker in frame for frame in frames[-4:] for maker in makers)

    def _note(self, event, arguments):
        self.found.append(f"{event} {arguments!r:.120}")


def use(model, X):
    """Use a model as its owner would."""
    for name in METHODS:
        attempt(lambda name=name: getattr(model, name)(X))
    for do in (
        lambda: repr(model),
        lambda: model.get_params(),
        lambda: clone(model),
        lambda: model.get_feature_names_out(),
    ):
        attempt(do)
    for one in (
        getattr(model, "kept", ()) if isinstance(getattr(model, "kept", ()), list) else ()
    ):
        attempt(lambda one=one: one.predict(X))
    for _, step in attempt(lambda: list(model.steps)) or ():
        attempt(lambda step=step: step.transform(X))


def attempt(do):
    """Run a function; a broken model may raise errors."""
    try:
        return do()
    except TooLong:
        raise
    except (Exception, RecursionError):
        return None


class TooLong(BaseException):
    """One file took too long."""


def too_long(signum, frame):
    """Raise after the time limit."""
    raise TooLong


def work(numbered, n, every, at, answers, seconds):
    """Try the states with the given numbers; report at the end."""
    first, last = numbered
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, too_long)
    counts, found, seen = Counter(), [], Counter()
    with tempfile.TemporaryDirectory() as folder:
        bait = Path(folder) / "bait.txt"
        bait.write_text("secret")
        path = Path(folder) / "model.joblib"
        os.environ["FERPIPE_CACHE"] = str(Path(folder) / "cache")
        watch = Watch(folder)
        number = -1
        for label, model, X, chosen in SUBJECTS:
            end = number + SIZES[label]
            if end < first:
                number = end
                continue
            for kind, name in cases(model, chosen, str(bait)):
                number += 1
                if number < first or number % every:
                    continue
                if number >= last:
                    break
                at.value = number
                what = f"{label}: {kind}.{name}"
                if not write(model, path):
                    counts["not written"] += 1
                    continue
                seen[kind] += 1
                watch.found, watch.on = [], True
                start = time.perf_counter()
                signal.setitimer(signal.ITIMER_REAL, seconds)
                outcome = "refused"
                try:
                    loaded = ferpipe.load(path)
                    outcome = "used"
                    use(loaded, X)
                except TooLong:
                    outcome = "too long"
                    found.append((number, what, f"took over {seconds} s"))
                except ValueError:
                    pass
                except BaseException as error:
                    outcome = "wrong error"
                    found.append((number, what, f"{type(error).__name__}: {error}"[:200]))
                signal.setitimer(signal.ITIMER_REAL, 0)
                watch.on = False
                counts[outcome] += 1
                cached = label.startswith("Cached")
                for one in dict.fromkeys(watch.found):
                    if not (cached and "/cache" in one):
                        found.append((number, what, one))
                slow = time.perf_counter() - start
                counts["slowest ms"] = max(counts["slowest ms"], round(1000 * slow))
            if number >= last:
                break
        extra = [one.name for one in Path(folder).iterdir()]
        known = {"bait.txt", "model.joblib", "model.json", "cache"}
        if set(extra) - known or bait.read_text() != "secret":
            found.append((last, "folder", f"files changed: {extra}"))
    answers.put((counts, found, seen))


def main():
    """Read the command line, search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, help="states (default: all)")
    parser.add_argument("--first", type=int, default=0, help="number of the first state")
    parser.add_argument("--every", type=int, default=1, help="take each so manieth state")
    parser.add_argument("--only", help="models whose names begin so")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    made = [one for one in subjects() if one[0].startswith(options.only or "")]
    named = Counter(label for label, *_ in made)
    numbers = Counter()
    places = list(choose([model for _, model, _ in made]))
    for (label, model, X), chosen in zip(made, places, strict=True):
        numbers[label] += 1
        label = label if named[label] == 1 else f"{label} {numbers[label]}"
        use(model, X)  # so that what is imported and read for the first time is
        SUBJECTS.append((label, model, X, chosen))
        SIZES[label] = sum(1 for _ in cases(model, chosen, "bait"))
    total = sum(SIZES.values())
    held = {full_name(type(one)) for _, model, *_ in SUBJECTS for one in objects_of(model)}
    last = total if options.n is None else min(total, options.first + options.n)
    of_all = f"{len(held)} of {len(CLASSES)} classes"
    print(f"{len(SUBJECTS)} models hold {of_all}; {total} states", flush=True)
    if not options.only:
        print("not held:", *sorted(CLASSES - held))
    start = time.perf_counter()
    counts, found, seen = Counter(), [], Counter()
    left = [(options.first, last)]
    at, answers = Value("q"), SimpleQueue()
    while left:
        part = left.pop()
        if part[0] >= part[1]:
            continue
        at.value = part[0]
        worker = Process(
            target=work,
            args=(part, last, options.every, at, answers, options.seconds),
        )
        worker.start()
        stuck = (at.value, time.monotonic())
        while worker.is_alive() and answers.empty():
            worker.join(0.1)
            if at.value != stuck[0]:
                stuck = (at.value, time.monotonic())
            elif time.monotonic() - stuck[1] > 4 * options.seconds:
                worker.kill()
        if answers.empty():
            worker.join()
            found.append((at.value, name_of(at.value), f"ended with {worker.exitcode}"))
            print("   ", *found[-1], flush=True)
            counts["ended the process"] += 1
            left += [(at.value + 1, part[1]), (part[0], at.value)]
            continue
        more, wrong, kinds = answers.get()
        worker.join()
        slowest = max(counts["slowest ms"], more["slowest ms"])
        counts += more
        counts["slowest ms"] = slowest
        found += wrong
        seen += kinds
    print(f"{time.perf_counter() - start:.0f} s; {len(seen)} classes; {dict(counts)}")
    grouped = {}
    for number, what, wrong in found:
        grouped.setdefault((what, wrong), []).append(number)
    for (what, wrong), group in grouped.items():
        print(f"    {what}: {wrong}: {len(group)} times, number {group[0]}")
    return bool(found)


def name_of(number):
    """Return which state has a number."""
    place = 0
    for label, model, _, chosen in SUBJECTS:
        if number < place + SIZES[label]:
            for kind, name in cases(model, chosen, "bait"):
                if place == number:
                    return f"{label}: {kind}.{name}"
                place += 1
        place += SIZES[label]
    return "?"


SUBJECTS: list = []
SIZES: dict = {}
if __name__ == "__main__":
    sys.exit(main())
