import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib import delayed

from ferpipe._system.processes import in_processes


def square(number):
    return number**2


def mortal_square(number, path, n_lives):
    """Kill the process that does it as often as is said."""
    with Path(path).open("a") as file:
        file.write("begun\n")
    if number == 3 and Path(path).read_text().count("killed") < n_lives:
        with Path(path).open("a") as file:
            file.write("killed\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_results_stand_in_the_order_of_the_jobs(n_jobs):
    jobs = (delayed(square)(number) for number in range(5))
    assert in_processes(jobs, n_jobs=n_jobs) == [0, 1, 4, 9, 16]


def test_a_process_that_is_killed_costs_its_jobs_a_second_time(tmp_path):
    jobs = [delayed(mortal_square)(number, tmp_path / "log", 1) for number in range(5)]
    with pytest.warns(UserWarning, match="A process was killed"):
        assert in_processes(jobs, n_jobs=2) == [0, 1, 4, 9, 16]
    assert (tmp_path / "log").read_text().count("killed") == 1


def test_processes_that_are_killed_again_end_it_with_a_sentence(tmp_path):
    jobs = [delayed(mortal_square)(number, tmp_path / "log", 9) for number in range(5)]
    with (
        pytest.warns(UserWarning, match="A process was killed"),
        pytest.raises(
            ChildProcessError, match=r"killed twice.*goes on from there.* were 2"
        ),
    ):
        in_processes(jobs, n_jobs=2)
    assert (tmp_path / "log").read_text().count("killed") == 2


PARENT = """
import os, sys, time
from joblib import delayed
from ferpipe._system.processes import in_processes

def work(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(300)

in_processes([delayed(work)(sys.argv[1]) for _ in range(2)], n_jobs=2)
"""


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_killed_parent_leaves_no_process_behind(tmp_path):
    log = tmp_path / "log"
    log.touch()
    parent = subprocess.Popen([sys.executable, "-c", PARENT, log])
    workers = []
    try:
        deadline = time.monotonic() + 60
        while len(workers) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            workers = [int(line) for line in log.read_text().split()]
        assert all(map(alive, workers))
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 60
        while any(map(alive, workers)):
            assert time.monotonic() < deadline, "the workers go on without their parent"
            time.sleep(0.1)
    finally:
        parent.kill()
        parent.wait()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_other_errors_are_those_of_the_job(n_jobs):
    with pytest.raises(TypeError, match="unsupported operand"):
        in_processes([delayed(square)("a")], n_jobs=n_jobs)
