import platform
import subprocess
import sys

_CHURN = """
import resource
from ferpipe.allocator import keep_freed_memory
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
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
        "from ferpipe.allocator import keep_freed_memory\n"
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
