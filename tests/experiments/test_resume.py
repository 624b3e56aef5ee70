"""A search that is broken off, or whose store is lost, ends as the unbroken one."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch

from ferpipe.caching import store as store_module
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store
from ferpipe.experiments.run import run_experiment
from ferpipe.experiments.spec import compile_spec

TWO = {"StratifiedKFold": {"n_splits": 2, "shuffle": True}}


def make_bunch():
    """Feature vectors of three classes, by twelve subjects."""
    label = np.arange(72) % 3
    data = np.eye(3, 5)[label] + np.random.default_rng(0).normal(size=(72, 5))
    return Bunch(
        data=list(data[:, None]),
        target=np.array(["anger", "fear", "surprise"])[label],
        groups=np.array([f"S{i % 12:02}" for i in range(72)]),
        filenames=[f"clip{i}" for i in range(72)],
        kind="sequences",
        synthetic=True,
        DESCR="noise",
    )


def make_spec():
    return compile_spec(
        {
            "name": "broken",
            "data": {"expression_sequences": {}},
            "pipeline": {
                "pool": {"PoolFrames": {"method": "mean"}},
                "scale": "StandardScaler",
                "classify": {"LogisticRegression": {"C": {"try": [0.01, 1.0]}}},
            },
            "evaluate": {"outer_cv": TWO, "inner_cv": TWO},
        }
    )


def outcome(results):
    """Return all that must not depend on how often a run was broken off."""
    return {
        "best": [results.best_params, *(fold.best_params for fold in results.folds)],
        "scores": [fold.scores for fold in results.folds],
        "predicted": [fold.predicted.tolist() for fold in results.folds],
        "probabilities": [fold.probabilities.tolist() for fold in results.folds],
        "candidates": results.cv_results["mean_test_accuracy"].tolist(),
        "curve": results.learning_curve,
        "model": results.model.predict_proba(make_bunch().data).tolist(),
    }


class Counted:
    """Runs the experiment and counts the fits that are begun."""

    def __init__(self, monkeypatch):
        self.begun = 0
        add = Journal.add

        def watched(journal, event, number=1):
            self.begun += event in ("step_computed", "fit_computed")
            add(journal, event, number)

        monkeypatch.setattr(Journal, "add", watched)

    def __call__(self, folder):
        self.begun = 0
        return outcome(run_experiment(make_spec(), make_bunch(), store=Store(folder)))


@pytest.fixture
def counted(monkeypatch):
    return Counted(monkeypatch)


def run_and_die(folder, moment, n):
    """Run the experiment in a process that is killed where its n-th fit begins or ends."""
    done = subprocess.run(
        [sys.executable, "-c", f"import test_resume as t; t.die(*{[folder, moment, n]!r})"],
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == -signal.SIGKILL


def die(folder, moment, n):
    reached = 0

    def dying(function):
        def counted(*arguments):
            nonlocal reached
            reached += moment != "begins" or arguments[1].endswith("_computed")
            if reached == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return counted

    if moment == "begins":
        Journal.add = dying(Journal.add)
    else:  # it is on the disk, but under a name of its own still
        store_module.os.replace = dying(os.replace)
    run_experiment(make_spec(), make_bunch(), store=Store(folder))


def test_a_search_that_is_killed_goes_on_where_it_was(tmp_path, counted):
    unbroken = counted(tmp_path / "unbroken")
    n_fits = counted.begun
    folder = tmp_path / "broken"
    kept = 0
    for moment, n in (("begins", 4), ("is written", 6), ("begins", 11)):
        run_and_die(str(folder), moment, n)
        kept += n - 1
        assert len(list(folder.glob("*/*.joblib"))) == kept
    assert len(list(folder.glob("*/*.part"))) == 1
    assert counted(folder) == unbroken
    # nothing is done twice but the three fits that were under way
    assert counted.begun == n_fits - kept
    assert counted(folder) == unbroken
    assert counted.begun == 0


def test_a_store_that_is_removed_in_the_middle_costs_no_result(
    tmp_path, counted, monkeypatch
):
    unbroken = counted(tmp_path / "unbroken")
    n_fits = counted.begun
    folder = tmp_path / "removed"
    write = store_module._write
    written = []

    def remove_before(value, *place):
        written.append(value)
        if len(written) == 12:
            shutil.rmtree(folder)
            place[0].mkdir(parents=True)
        write(value, *place)

    monkeypatch.setattr(store_module, "_write", remove_before)
    assert counted(folder) == unbroken
    # some fits that are asked for again were lost
    assert n_fits <= counted.begun < 2 * n_fits
    assert counted(folder) == unbroken
    assert counted.begun <= 12


def test_damaged_entries_are_fitted_again(tmp_path, counted):
    unbroken = counted(tmp_path)
    entries = sorted(tmp_path.glob("*/*.joblib"))
    for place, entry in enumerate(entries[::5]):
        content = bytearray(entry.read_bytes())
        if place % 2:
            del content[len(content) // 2 :]
        else:
            content[len(content) // 2] ^= 255
        entry.write_bytes(content)
    with pytest.warns(UserWarning, match="this is damaged"):
        assert counted(tmp_path) == unbroken
    assert counted.begun == len(entries[::5])


class Mortal(LogisticRegression):
    """A classifier that kills the process in which it is fitted for the n-th time."""

    def __init__(self, log=None, n=None, C=1.0):
        super().__init__(C=C)
        self.log = log
        self.n = n

    def fit(self, X, y):
        with open(self.log, "a") as file:
            file.write("fit\n")
        if Path(self.log).read_text().count("\n") == self.n:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)


def test_a_worker_that_is_killed_costs_the_fits_under_way(tmp_path):
    def run(n, n_jobs):
        log = tmp_path / f"log{n}"
        steps = [
            ("pool", make_spec().pipeline[0]),
            ("scale", StandardScaler()),
            ("classify", Mortal(str(log), n)),
        ]
        spec = replace(make_spec(), pipeline=Pipeline(steps))
        store = Store(tmp_path / f"store{n}")
        results = run_experiment(spec, make_bunch(), store=store, n_jobs=n_jobs)
        return outcome(results), log.read_text().count("fit")

    unbroken, n_fits = run(None, 1)
    with pytest.warns(UserWarning, match="A process was killed"):
        broken, n_begun = run(6, 2)
    assert broken == unbroken
    assert n_fits < n_begun <= n_fits + 2
