import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

import ferpipe
from ferpipe.journal import Journal
from ferpipe.store import StepMemory, Store

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.repeat([0, 1], 20)


class Counting(TransformerMixin, BaseEstimator):
    """Appends a line to a file at each fit."""

    def __init__(self, path=None, factor=1):
        self.path = path
        self.factor = factor

    def fit(self, X, y=None):
        with open(self.path, "a") as file:
            file.write("fit\n")
        self.mean_ = X.mean(0)
        return self

    def transform(self, X):
        return self.factor * (X - self.mean_)


def test_computes_once_and_finds_by_content(tmp_path):
    store = Store(tmp_path)
    calls = []

    def compute():
        calls.append(1)
        return X * 2

    first = store.get_or_compute(("double", X), compute)
    again = Store(tmp_path).get_or_compute(("double", X.copy()), compute)
    other = store.get_or_compute(("double", X + 1e-12), compute)
    assert len(calls) == 2
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, other)


def test_another_version_computes_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: 1)
    monkeypatch.setattr(ferpipe, "__version__", "0.0.0")
    assert store.get_or_compute(("a",), lambda: 2) == 2


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    store = Store(tmp_path)
    store.get_or_compute(("a",), lambda: X)
    (entry,) = tmp_path.glob("*/*.joblib")
    content = bytearray(entry.read_bytes())
    if damage == "cut":
        del content[-10:]
    else:
        content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    found = []
    value = store.get_or_compute(("a",), lambda: X, on_access=found.append)
    assert found == [False]
    np.testing.assert_array_equal(value, X)
    assert len(list(tmp_path.glob("*/*.joblib"))) == 1


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        Store(tmp_path).get_or_compute(("a",), fail)
    unpicklable = Store(tmp_path)
    with pytest.raises(Exception, match="pickle"):
        unpicklable.get_or_compute(("b",), lambda: (i for i in range(3)))
    assert not [p for p in tmp_path.glob("*/*") if p.suffix != ".lock"]


def test_the_entries_unused_for_longest_leave_first(tmp_path):
    store = Store(tmp_path, size_limit=3 * 8000 + 2000)
    for number in range(3):
        store.get_or_compute((number,), lambda n=number: np.full(1000, float(n)))
    entries = sorted(tmp_path.glob("*/*.joblib"), key=os.path.getmtime)
    for number, path in enumerate(entries):
        os.utime(path, (1000 + number, 1000 + number))
    store.get_or_compute((0,), lambda: pytest.fail("was there"))
    store.get_or_compute((3,), lambda: np.zeros(1000))
    found = []
    for number in (0, 3, 2, 1):
        store.get_or_compute((number,), lambda: np.zeros(1000), on_access=found.append)
    assert found == [True, True, True, False]


def test_two_that_want_the_same_compute_it_once(tmp_path):
    barrier = Barrier(4)
    calls = []

    def work(_):
        barrier.wait()
        return Store(tmp_path).get_or_compute(("a",), lambda: calls.append(1) or X)

    with ThreadPoolExecutor(4) as pool:
        for value in pool.map(work, range(4)):
            np.testing.assert_array_equal(value, X)
    assert len(calls) == 1


def test_a_search_fits_an_unchanged_step_once_a_fold(tmp_path):
    journal = Journal(tmp_path / "journal")
    pipeline = Pipeline(
        [("count", Counting(path=str(tmp_path / "fits"))), ("classify", SVC())],
        memory=StepMemory(Store(tmp_path / "store"), journal),
    )
    grid = {"count__factor": [1, 2], "classify__C": [0.1, 1, 10]}
    search = GridSearchCV(pipeline, grid, cv=4).fit(X, Y)
    fits = (tmp_path / "fits").read_text().count("fit")
    # The refit on all the data is the only one outside the folds.
    assert fits == 2 * 4 + 1
    assert journal.count("step_computed") == fits
    assert journal.count("step_reused") == 2 * 3 * 4 - 2 * 4
    plain = GridSearchCV(pipeline.set_params(memory=None), grid, cv=4).fit(X, Y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


def test_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "here"))
    Store().get_or_compute(("a",), lambda: 1)
    assert list((tmp_path / "here").glob("*/*.joblib"))
