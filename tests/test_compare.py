import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ferpipe.compare import main

N = 40


def write_run(folder, share, *, seed=0, **changes):
    """Write results.json of a run that has about this share of 40 samples right."""
    target = np.array(["anger", "fear"] * (N // 2))
    other = np.where(target == "anger", "fear", "anger")
    right = np.random.default_rng(seed).random(N) < share
    predicted = np.where(right, target, other)
    run = {
        "format": 2,
        "name": folder.name,
        "synthetic": False,
        "primary": "subject_independent",
        "data": {"loader": "drawn"},
        "target": target.tolist(),
        "groups": [f"s{i // 4}" for i in range(N)],
        "folds": [
            {
                "split": "subject_independent",
                "n_train": 30,
                "test": list(range(start, start + 10)),
                "predicted": predicted[start : start + 10].tolist(),
            }
            for start in range(0, N, 10)
        ],
    }
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({**run, **changes}))
    return str(folder)


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path / name, share, seed=seed)
        for seed, (name, share) in enumerate({"base": 0.4, "good": 0.9, "bad": 0.1}.items())
    ]


def rows(text):
    """Words of the table's rows by the name that they start with."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}


def test_table_has_a_row_for_each_run(runs, capsys):
    assert main(runs) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("subject-independent accuracy, 40 samples\n")
    table = rows(printed)
    rights = [np.random.default_rng(i).random(N) < s for i, s in enumerate((0.4, 0.9, 0.1))]
    assert table["base"] == [f"{100 * rights[0].mean():.1f}", "%"]
    only_good = (rights[1] & ~rights[0]).sum()
    only_base = (rights[0] & ~rights[1]).sum()
    gain = 100 * (rights[1].mean() - rights[0].mean())
    good = table["good"]
    assert good[:3] == [f"{100 * rights[1].mean():.1f}", "%", f"{gain:+.1f}"]
    assert good[6:9] == [str(only_good), ":", str(only_base)]
    assert good[9] == "<0.001"
    assert table["bad"][2].startswith("\N{MINUS SIGN}")
    assert "interval: bootstrap over subjects" in printed
    assert "divide 0.05 by 2" in printed


def test_single_comparison_is_not_corrected_for_several(runs, capsys):
    assert main(runs[:2]) == 0
    assert "divide" not in capsys.readouterr().out


def test_what_is_not_known_is_a_dash_and_is_told(tmp_path, capsys):
    first = write_run(tmp_path / "one", 0.5, groups=None, synthetic=True)
    second = write_run(tmp_path / "two", 0.5, groups=None, synthetic=True)
    content = json.loads((tmp_path / "two" / "results.json").read_text())
    content["folds"] = content["folds"][:1] * 2
    (tmp_path / "two" / "results.json").write_text(json.dumps(content))
    assert main([first, second]) == 0
    printed = capsys.readouterr().out
    assert "40 samples (synthetic data)" in printed
    assert rows(printed)["two"][-4:] == ["\N{EN DASH}"] * 4
    assert "no two shared folds" in printed
    assert (
        "two: 10 samples compared, of 40 that one tested and 10 that it tested" in printed
    )


def test_runs_without_subjects_say_what_was_resampled(tmp_path, capsys):
    first = write_run(tmp_path / "one", 0.5, groups=None)
    second = write_run(tmp_path / "two", 0.6, seed=1, groups=None)
    assert main([first, second]) == 0
    assert (
        "bootstrap over samples, because subjects are not known" in capsys.readouterr().out
    )


def test_picture_and_numbers_are_written(runs, tmp_path, capsys):
    picture, out = tmp_path / "a.png", tmp_path / "new" / "out"
    assert main([*runs, "--plot", str(picture), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for path in (picture, out / "comparison.png"):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"wrote {path}" in printed
    content = json.loads((out / "comparison.json").read_text())
    assert content["baseline"] == "base"
    assert list(content["comparisons"]) == ["good", "bad"]
    assert content["comparisons"]["good"]["n_samples"] == N


def test_nothing_is_written_unless_asked(runs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert main(runs) == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys):
    folders = [
        write_run(tmp_path / place / "run", 0.5, seed=place == "b") for place in "ab"
    ]
    assert main(folders) == 0
    assert set(folders) <= set(rows(capsys.readouterr().out))


def error(arguments, capsys):
    assert main([str(word) for word in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_mistakes_are_one_sentence_and_status_2(runs, tmp_path, capsys):
    assert "has no results.json" in error([runs[0], tmp_path], capsys)
    other = write_run(tmp_path / "other", 0.5, data={"loader": "ck48"})
    assert "different data sets, drawn and ck48" in error([runs[0], other], capsys)
    fewer = write_run(tmp_path / "fewer", 0.5, target=["anger"] * N)
    assert "different samples of drawn" in error([*runs, fewer], capsys)
    newer = write_run(tmp_path / "newer", 0.5, format=99)
    assert "has the format 99" in error([runs[0], newer], capsys)
    older = write_run(tmp_path / "older", 0.5, format=1)
    found = error([runs[0], older], capsys)
    assert (
        "older/results.json has format 1, and this version of ferpipe reads format 2"
        in (found)
    )
    assert "(ferpipe 0.1.0 before its modules moved)" in found
    older = write_run(tmp_path / "old", 0.5, format=1, versions={"ferpipe": "0.0.9"})
    assert "that wrote it can compare it (ferpipe 0.0.9)" in error([older, runs[0]], capsys)
    assert "named twice" in error([runs[0], runs[0]], capsys)


def test_runs_that_are_alike_are_said_to_share_their_folds(tmp_path, capsys):
    first = write_run(tmp_path / "one", 0.6)
    second = write_run(tmp_path / "two", 0.6)
    assert main([first, second, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "p; 4 shared folds" in printed
    assert "two: every fold differs by +0.0 points, so that the t-test is not" in printed
    assert rows(printed)["two"][-1] == "\N{EN DASH}"
    content = json.loads((tmp_path / "out" / "comparison.json").read_text())
    found = content["comparisons"]["two"]["t_test"]
    assert found == {"n_folds": 4, "t": None, "p": None}


FOLD = {
    "split": "subject_independent",
    "n_train": 30,
    "test": [0, 1],
    "predicted": ["a", "b"],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": 7},
        {"synthetic": None},
        {"primary": ["subject_independent"]},
        {"primary": "by_moon"},
        {"data": []},
        {"data": {"loader": {}}},
        {"target": []},
        {"target": 5},
        {"target": [["anger"]] * N},
        {"groups": ["s"]},
        {"groups": [1.5] * N},
        {"folds": {}},
        {"folds": []},
        {"folds": [None]},
        {"folds": [{}]},
        {"folds": [{**FOLD, "split": "stratified"}]},
        {"folds": [{**FOLD, "n_train": 0}]},
        {"folds": [{**FOLD, "n_train": float("nan")}]},
        {"folds": [{**FOLD, "test": [0, N]}]},
        {"folds": [{**FOLD, "test": [0, -1]}]},
        {"folds": [{**FOLD, "test": [0, 0]}]},
        {"folds": [{**FOLD, "test": [0, 10**30]}]},
        {"folds": [{**FOLD, "test": [True, 1]}]},
        {"folds": [{**FOLD, "test": []}]},
        {"folds": [{**FOLD, "predicted": ["a"]}]},
        {"folds": [{**FOLD, "predicted": [{}, []]}]},
    ],
)
def test_a_damaged_file_is_one_sentence(runs, tmp_path, capsys, changes):
    broken = write_run(tmp_path / "broken", 0.5, **changes)
    for order in ([runs[0], broken], [broken, runs[0]]):
        message = error(order, capsys)
        assert "broken/results.json is damaged: " in message
        assert "run the experiment again" in message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"format": NaN}', b"7"]
)
def test_what_is_no_report_is_one_sentence(runs, tmp_path, capsys, content):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "results.json").write_bytes(content)
    assert "none/results.json" in error([runs[0], tmp_path / "none"], capsys)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "loop"])
def test_what_is_no_file_is_one_sentence(runs, tmp_path, capsys, kind):
    folder = tmp_path / kind
    folder.mkdir()
    path = folder / "results.json"
    if kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    assert "has no results.json" in error([runs[0], folder], capsys)
    assert error([runs[0], path], capsys)  # it in the place of a folder
    assert error([runs[0], "~nobody-of-this-name"], capsys)


def test_names_are_printed_as_text(runs, tmp_path, capsys):
    hostile = write_run(tmp_path / "a\x1b[2Jb$\\frac{$", 0.5)
    assert main([runs[0], hostile, "--plot", str(tmp_path / "a.png")]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert r"a\x1b[2Jb" in printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_narrow_encoding_loses_nothing(runs, tmp_path, encoding):
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "ferpipe.compare", *runs, "--out", str(out)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert len(list(out.iterdir())) == 2
    assert done.stdout.decode(encoding).startswith("subject-independent accuracy")


def test_one_folder_is_not_enough(runs, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(runs[:1])
    assert stopped.value.code == 2
    assert "required: others" in capsys.readouterr().err
