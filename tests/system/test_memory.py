import os
import platform
import subprocess
import sys

_CHURN = """
import resource
from ferpipe._system.memory import keep_freed_memory
if {keep}:
    print(keep_freed_memory())
import numpy as np
np.ones(10**7)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(10**7)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(keep):
    code = _CHURN.format(keep=keep)
    # a program that ran in this process has left its settings to those started later
    env = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_freed_memory_is_not_asked_for_again():
    done, faults = run(keep=True)
    if platform.libc_ver()[0] != "glibc":
        assert done == "False"
        return
    assert done == "True"
    (faults_by_default,) = run(keep=False)
    assert int(faults) < 0.1 * int(faults_by_default)


def test_processes_started_later_keep_freed_memory_too():
    code = (
        "from ferpipe._system.memory import keep_freed_memory\n"
        "import subprocess, sys\n"
        "keep_freed_memory()\n"
        f"churn = {_CHURN.format(keep=False)!r}\n"
        "subprocess.run([sys.executable, '-c', churn], check=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if platform.libc_ver()[0] == "glibc":
        (faults_by_default,) = run(keep=False)
        assert int(done.stdout) < 0.1 * int(faults_by_default)


_ARENAS = """
from ctypes import CDLL
from threading import Barrier, Thread
from ferpipe._system.memory import share_freed_memory
if {share}:
    print(share_freed_memory())

barrier = Barrier(8)

def work():
    barrier.wait()
    kept = [bytearray(1000) for _ in range(1000)]
    barrier.wait()

threads = [Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
library = CDLL(None)
library.malloc_stats()
"""


def arenas(share):
    """Count the heaps that glibc has after eight threads worked at once."""
    code = _ARENAS.format(share=share)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), done.stderr.count("Arena ")


def test_threads_share_a_heap():
    if platform.libc_ver()[0] != "glibc":
        assert arenas(share=True)[0] == ["False"]
        return
    said, shared = arenas(share=True)
    assert said == ["True"]
    assert shared == 1
    assert arenas(share=False)[1] > 1
