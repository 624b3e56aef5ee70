import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
import yaml

import ferpipe
from ferpipe.grid import main

PIPELINE = {
    "name": "small",
    "data": {"expression_sequences": {"n_sequences": 84, "size": 32}},
    "pipeline": {
        "frames": {"PerFrame": {"transformer": "HOGFeatures"}},
        "pool": {"PoolFrames": {"method": {"try": ["mean", "last"]}}},
        "classify": {"SVC": {"kernel": "linear", "C": {"try": [0.01, 0.1]}}},
    },
    "evaluate": {
        "outer_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
        "inner_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
    },
}
WRITTEN = [
    "confusion_matrix.png",
    "cv_results.csv",
    "learning_curves.png",
    "model.joblib",
    "model.json",
    "report.html",
    "resolved.yaml",
    "results.json",
]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    return path


def start(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "ferpipe.grid", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_whole_job(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(file), "--out", str(out), "--n-jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "synthetic" in printed
    assert "4 candidates; outer folds: 2 subject-independent and 2 stratified" in printed
    assert sorted(path.name for path in out.iterdir()) == WRITTEN
    results = json.loads((out / "results.json").read_text())
    assert results["name"] == "small"
    bunch = ferpipe.datasets.make_expression_sequences(
        n_sequences=84, size=32, random_state=0
    )
    model = ferpipe.load(out / "model.joblib")
    np.testing.assert_array_equal(
        model.predict(bunch.data), joblib.load(out / "model.joblib").predict(bunch.data)
    )
    # The resolved file can be run again and gives the same.
    again = tmp_path / "again"
    assert main([str(out / "resolved.yaml"), "--out", str(again), "--n-jobs", "1"]) == 0
    repeated = json.loads((again / "results.json").read_text())
    assert repeated["splits"] == results["splits"]


def test_run_from_python_gives_the_same(file, tmp_path):
    results = ferpipe.run(
        file, set=["evaluate.outer_cv.StratifiedKFold.n_splits=3"], out=tmp_path / "out"
    )
    assert sum(fold.split == "subject_independent" for fold in results.folds) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == WRITTEN
    bunch = ferpipe.datasets.make_expression_sequences(
        n_sequences=84, size=32, random_state=0
    )
    same = ferpipe.run(
        PIPELINE, data=bunch, set=["evaluate.outer_cv.StratifiedKFold.n_splits=3"]
    )
    assert [fold.scores for fold in same.folds] == [fold.scores for fold in results.folds]
    assert same.data["loader"] == "given_in_python"


def test_run_takes_data_of_your_own(file):
    faces = ferpipe.datasets.make_expression_sequences(
        n_sequences=84, size=32, random_state=0
    )
    own = ferpipe.datasets.as_bunch(
        list(faces.data), list(faces.target), kind="sequences", groups=list(faces.groups)
    )
    results = ferpipe.run(file, data=own)
    assert results.primary == "subject_independent"
    assert results.data["synthetic"] is False


def test_dry_run_writes_nothing_but_the_plan(file, tmp_path, capsys):
    assert main([str(file), "--dry-run", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    # (2 folds + all) x (4 x 2 + 1) + 2 plain + 5 sizes x 2 folds
    assert "39 fits" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "pipeline.classify.SVC.kernal=rbf"], "Did you mean kernel?"),
        (["--set", "pipeline.classify.SVCC.C=1"], "Did you mean SVC?"),
        (["--set", "pipeline.classify.SVC.C.try=[]"], "at least one alternative"),
        (["--set", "evaluate.outer_cv.StratifiedKFold.n_splits=30"], "30 outer folds"),
        (["--data", "ck48=/nowhere/CK+48"], "/nowhere/CK+48"),
        (["--data", "ck48=$FERPIPE_NO_SUCH_VARIABLE"], "FERPIPE_NO_SUCH_VARIABLE"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(file, tmp_path, capsys, words, message):
    assert main([str(file), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_missing_file_is_named(capsys):
    assert main(["nothing.yaml"]) == 2
    assert "nothing.yaml: cannot read this experiment file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--n-jobs", "0"], ["--data", "ck48"]])
def test_bad_options_are_refused(file, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main([str(file), *words])
    assert caught.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_ctrl_c_leaves_whole_entries_and_no_report(file, tmp_path):
    out = tmp_path / "out"
    process = start(
        file,
        "--out",
        out,
        "--n-jobs",
        "2",
        "--set",
        "data.expression_sequences.n_sequences=400",
    )
    deadline = time.monotonic() + 200
    while not list((tmp_path / "cache").glob("*/*.joblib")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped: no report was written" in error
    assert "Traceback" not in error
    assert not out.exists() or not list(out.iterdir())
    # joblib ends the processes as they are: one that writes leaves a .part, never an entry
    entries = list((tmp_path / "cache").glob("*/*.joblib"))
    assert entries
    for entry in entries:
        digest = entry.stem.rpartition("-")[2]
        assert hashlib.sha256(entry.read_bytes()).hexdigest() == digest


def test_programs_are_listed():
    out = subprocess.run(
        [sys.executable, "-m", "ferpipe"], capture_output=True, text=True, check=True
    ).stdout
    assert "python -m ferpipe.grid" in out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_fails_before_the_work(file, tmp_path, capsys):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert main([str(file), "--out", str(tmp_path / "closed")]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_a_protocol_stands_in_the_place_of_folds(file, tmp_path, capsys):
    words = [str(file), "--protocol", "random-80-20", "--n-jobs", "1"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "protocol random-80-20: A random fifth of each class is the test part" in printed
    # 4 candidates x 2 inner folds and the refit
    assert "4 candidates; 67 to train, 17 to test; 9 fits" in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["folds"]) == 1
    assert "A random fifth" in results["protocol"]
    assert f"--protocol {words[2]}" in results["command"]
    resolved = yaml.safe_load((tmp_path / "out" / "resolved.yaml").read_text())
    assert resolved["evaluate"]["protocol"] == "random-80-20"
    assert "outer_cv" not in resolved["evaluate"]
    same = ferpipe.run(file, protocol="random-80-20")
    assert same.folds[0].scores == results["folds"][0]["scores"]


def test_a_protocol_of_another_data_set_names_both(file, capsys):
    assert main([str(file), "--protocol", "ck48-7-subject"]) == 2
    error = capsys.readouterr().err
    assert "ck48-7-subject is for the data set ck48, not expression_sequences" in error
    assert main([str(file), "--protocol", "ck48-7"]) == 2
    assert "Did you mean ck48-7-" in capsys.readouterr().err


HOG = {
    "name": "hog",
    "data": {
        "expression_sequences": {
            "n_sequences": 24,
            "classes": ["anger", "happiness"],
            "size": 32,
        }
    },
    "pipeline": {
        "frames": {"PerFrame": {"transformer": "HOGFeatures"}},
        "pool": "PoolFrames",
        "classify": "LinearSVC",
    },
    "evaluate": {"outer_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}}},
}


@pytest.fixture
def victim(tmp_path, monkeypatch):
    """A folder of somebody else, beside the one in which the program runs."""
    (tmp_path / "here").mkdir()
    (tmp_path / "victim").mkdir()
    for name in ("model.joblib", "cv_results.csv", "notes.txt"):
        (tmp_path / "victim" / name).write_text("mine")
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "victim")
    return tmp_path / "victim"


@pytest.mark.parametrize(
    "changes",
    [
        {"report": {"to": "../victim"}},
        {"report": {"to": "link"}},
        {"report": {"to": "VICTIM"}},
        {"name": ".."},
    ],
)
def test_a_file_from_a_stranger_writes_nothing_elsewhere(file, victim, changes, capsys):
    if changes.get("report") == {"to": "VICTIM"}:
        changes = {"report": {"to": str(victim)}}
    file.write_text(yaml.safe_dump(HOG | changes, sort_keys=False))
    before = {path: path.read_bytes() for path in victim.iterdir()}
    assert main([str(file), "--n-jobs", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    if "report" in changes:
        assert "--out FOLDER" in error
        with pytest.raises(ValueError, match="--out FOLDER"):
            ferpipe.run(HOG | changes, cache=False)
    assert {path: path.read_bytes() for path in victim.iterdir()} == before


def test_a_folder_that_is_no_report_is_refused_before_the_work(file, victim, capsys):
    source = victim.parent / "here" / "source"
    source.mkdir()
    (source / "code.py").write_text("mine")
    file.write_text(yaml.safe_dump(HOG | {"report": {"to": "source"}}, sort_keys=False))
    assert main([str(file), "--n-jobs", "1"]) == 2
    printed = capsys.readouterr()
    assert "holds code.py and no report" in printed.err
    assert printed.out == ""
    # who runs the program may name such a folder, but not have a model replaced
    assert main([str(file), "--n-jobs", "1", "--out", str(victim)]) == 2
    assert "holds cv_results.csv and no report" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match=r"holds cv_results\.csv"):
        ferpipe.run(HOG, out=victim, cache=False)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_narrow_terminal_costs_nothing(file, tmp_path, encoding):
    file.write_text(yaml.safe_dump(HOG, sort_keys=False))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [file, "--out", tmp_path / "out", "--n-jobs", "1"]
    program = start(*words, env=environment, encoding=encoding)
    out, error = program.communicate(timeout=300)
    assert program.returncode == 0, error
    assert "Traceback" not in error
    assert (tmp_path / "out" / "model.joblib").exists()
    assert "wrote" in out


def test_the_report_is_written_before_anything_is_printed(
    file, tmp_path, monkeypatch, capsys
):
    file.write_text(yaml.safe_dump(HOG, sort_keys=False))

    def broken(results):
        raise ValueError("no table today")

    monkeypatch.setattr(ferpipe.grid, "text_table", broken)
    assert main([str(file), "--out", str(tmp_path / "out"), "--n-jobs", "1"]) == 2
    assert "no table today" in capsys.readouterr().err
    assert {"report.html", "model.joblib"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_a_scorer_without_probabilities_is_found_in_a_dry_run(file, capsys):
    changes = {"evaluate": {**HOG["evaluate"], "scoring": ["roc_auc_ovr"]}}
    file.write_text(yaml.safe_dump(HOG | changes, sort_keys=False))
    assert main([str(file), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "roc_auc_ovr needs predict_proba, which LinearSVC(random_state=0)" in error
    assert "CalibratedClassifierCV" in error


def test_what_a_variable_holds_is_not_printed(file, monkeypatch, capsys):
    monkeypatch.setenv("SECRET", "the secret")
    changes = {"data": {"image_folder": {"path": "/nowhere/$SECRET"}}}
    file.write_text(yaml.safe_dump(HOG | changes, sort_keys=False))
    assert main([str(file), "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "/nowhere/$SECRET: no such file" in error
    assert "the secret" not in error
