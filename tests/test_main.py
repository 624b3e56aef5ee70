import subprocess
import sys

import pytest

import ferpipe
from ferpipe.__main__ import PROGRAMS, _program, main


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "ferpipe", *words],
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_word_the_programs_are_listed_one_below_the_other(capsys):
    assert main([]) == main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    starts = [
        line.index(what) for line in lines for what in PROGRAMS.values() if what in line
    ]
    assert len(starts) == 2 * len(PROGRAMS)
    assert len(set(starts)) == 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_word_runs_its_program(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    assert f"usage: python -m ferpipe.{name}" in capsys.readouterr().out
    assert callable(_program(name).main)


def test_arguments_and_status_are_the_programs_own(tmp_path, capsys):
    assert main(["grid", str(tmp_path / "none.yaml")]) == 2
    assert "cannot read this experiment file" in capsys.readouterr().err


def test_version_and_wrong_words():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"ferpipe {ferpipe.__version__}\n")
    done = run("gird", "file.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: 'gird' is not a program of ferpipe; the programs are "
        f"{', '.join(PROGRAMS)}.\n"
    )
