"""How the program stops; what it trains is tested with each asset."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferpipe.faces.landmarks import load_model
from ferpipe.train.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """Pictures of noise, said to be faces."""
    points = load_model("ferpipe").mean_shape * 25 + 60
    lines = "\n".join(f"{x} {y}" for x, y in points)
    noise = np.random.default_rng(0).integers(0, 256, (8, 120, 120), dtype=np.uint8)
    for number, image in enumerate(noise):
        cv2.imwrite(str(tmp_path / f"photo{number}_0.png"), image)
        written = f"version: 1\nn_points: 68\n{{\n{lines}\n}}"
        (tmp_path / f"photo{number}_0.pts").write_text(written)
    return tmp_path


def is_worker(process):
    try:
        return "popen_loky" in Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return False


def workers_of(process):
    """Return the numbers of the training processes that a process started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for one in lists for child in one.read_text().split()]
    return [child for child in children if is_worker(child)]


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "words",
    [
        ["landmarks", "FOLDER"],
        ["candide", "FOLDER"],
        ["objective", "FOLDER"],
        ["fitter", "FOLDER"],
        ["expressions", "FILE"],
    ],
)
def test_nothing_is_written_into_the_package_by_itself(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: --out FOLDER is missing")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
def test_sigterm_stops_the_trainings_in_other_processes(folder):
    words = ["landmarks", str(folder), "--out", str(folder / "out"), "--n-jobs", "2"]
    program = subprocess.Popen(
        [sys.executable, "-m", "ferpipe.train", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    workers = []
    try:
        wait_until(lambda: len(workers_of(program.pid)) == 2, seconds=120)
        workers = workers_of(program.pid)
        program.terminate()
        assert program.wait(60) == 130
        wait_until(lambda: not any(map(is_worker, workers)), seconds=20)
    finally:
        program.kill()
        for worker in filter(is_worker, workers):
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        # to its end: the workers write there too
        _, told = program.communicate(timeout=60)
    assert told.splitlines()[-1] == "stopped."
