"""Every example runs as it stands and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    scores = [float(number) for number in re.findall(r" (0\.\d{3}|1\.000)", done.stdout)]
    assert len(scores) == len(done.stdout.splitlines()) >= 2
    assert min(scores) > 0.2


def test_there_are_examples():
    assert len(FILES) >= 2
