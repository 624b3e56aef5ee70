"""kill -9 at random moments of a search: what is lost, and whether it ends the same.

``python benchmarks/kill.py`` runs a search on synthetic faces by the grid program, with two
processes. Then it runs it again with an empty store, kills the program and all its
processes at ten random moments, and starts it again each time until it ends. Prints a
table of the fits that were found, begun and lost, and says whether scores, parameters,
predictions and the saved model are those of the unbroken run. ``--seed`` gives other
moments. The package must not be changed meanwhile: its files are part of what a fit is
known by.

A fit is a step or a classifier that is fitted anew; the program notes in its journal that
it begins one, and an entry in the store says that it is finished.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
import yaml

from ferpipe import datasets

DATA = {"n_sequences": 140, "n_frames": 3, "size": 32, "random_state": 0}
EXPERIMENT = {
    "name": "kill",
    "data": {"expression_sequences": DATA},
    "pipeline": {
        "frames": {"PerFrame": {"transformer": "HOGFeatures"}},
        "pool": {"PoolFrames": {"method": {"try": ["mean", "last"]}}},
        "scale": "StandardScaler",
        "classify": {
            "RandomForestClassifier": {
                "n_estimators": 150,
                "max_features": {"try": ["sqrt", 0.1]},
            }
        },
    },
    "evaluate": {
        "outer_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
        "inner_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
    },
}
FOUND, BEGUN = ("step_reused", "fit_reused"), ("step_computed", "fit_computed")


class Search:
    """Runs of one experiment with one store.

    Parameters
    ----------
    folder : path
        Where everything goes.
    n_jobs : int
        Processes.
    """

    def __init__(self, folder, n_jobs):
        self.folder, self.n_runs = folder, 0
        self.folder.mkdir()
        (folder / "kill.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
        words = ["-m", "ferpipe.grid", folder / "kill.yaml", "--out", folder / "report"]
        self.command = [sys.executable, *map(str, words), "--n-jobs", str(n_jobs)]

    def start(self):
        """Start the program in a process group and a temporary folder of its own."""
        self.n_runs += 1
        temporary = self.folder / f"run{self.n_runs}"
        temporary.mkdir()
        return subprocess.Popen(
            self.command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "FERPIPE_CACHE": str(self.folder / "store"),
                "TMPDIR": str(temporary),
                "JOBLIB_TEMP_FOLDER": str(temporary),
            },
        )

    def run(self):
        """Run the program to its end; return the seconds."""
        start = time.perf_counter()
        process = self.start()
        while process.poll() is None:
            self.noted(BEGUN)
            time.sleep(0.01)
        if process.returncode:
            sys.exit(process.stderr.read())
        return time.perf_counter() - start

    def noted(self, events):
        """Return how often events were noted by the last run so far."""
        kept = self.folder / f"run{self.n_runs}.journal"
        for journal in self.folder.glob(f"run{self.n_runs}/ferpipe-*/journal"):
            if not kept.exists():
                os.link(journal, kept)  # the program removes its own name of it
        lines = kept.read_text().splitlines() if kept.exists() else []
        return sum(line.partition(" ")[0] in events for line in lines)

    def finished(self):
        """Return the number of fits in the store."""
        return len(list((self.folder / "store").glob("*/*.joblib")))

    def outcome(self):
        """Return all that must not depend on how often the search was killed."""
        results = json.loads((self.folder / "report" / "results.json").read_text())
        for name in ("seconds", "fits", "command"):
            del results[name]
        for fold in results["folds"]:
            del fold["seconds"]
        table = (self.folder / "report" / "cv_results.csv").read_text().splitlines()
        timed = ["_time" in name for name in table[0].split(",")]
        model = joblib.load(self.folder / "report" / "model.joblib")
        faces = datasets.make_expression_sequences(**DATA).data
        return {
            "results": results,
            "candidates": [
                [word for word, out in zip(row.split(","), timed, strict=True) if not out]
                for row in table
            ],
            "model": model.predict_proba(faces).tolist(),
        }


def kill_often(search, moments, pauses):
    """Kill a search a little after so many fits are begun; print a table."""
    print(f"{'kill':>4}{'at fit':>8}{'found':>7}{'begun':>7}{'finished':>10}{'lost':>6}")
    begun = lost = 0
    for number, (moment, pause) in enumerate(zip(moments, pauses, strict=True), 1):
        before = search.finished()
        process = search.start()
        while begun + search.noted(BEGUN) < moment and process.poll() is None:
            time.sleep(0.005)
        time.sleep(pause)
        # a program that has just ended cannot be killed any more
        if process.poll() is not None:
            sys.exit(f"kill {number} came too late: {process.stderr.read()}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        # who is killed cannot take its semaphores away
        for semaphore in Path("/dev/shm").glob(f"sem.loky-{process.pid}-*"):
            semaphore.unlink()
        began, finished = search.noted(BEGUN), search.finished() - before
        row = f"{number:>4}{moment:>8}{search.noted(FOUND):>7}{began:>7}{finished:>10}"
        print(f"{row}{began - finished:>6}", flush=True)
        begun += began
        lost += began - finished
    return begun, lost


def main():
    """Read the command line, run and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as name:
        unbroken = Search(Path(name) / "unbroken", options.n_jobs)
        seconds = unbroken.run()
        n_fits = unbroken.finished()
        print(f"unbroken: {n_fits} fits, {seconds:.1f} s with {options.n_jobs} processes")
        broken = Search(Path(name) / "broken", options.n_jobs)
        # the last fits of all are over too soon after one another
        moments = 1 + np.sort(rng.choice(n_fits - 5, options.kills, replace=False))
        pauses = rng.uniform(0, options.n_jobs * seconds / n_fits, options.kills)
        begun, lost = kill_often(broken, moments, pauses)
        seconds = broken.run()
        last, found = broken.noted(BEGUN), broken.noted(FOUND)
        print(f"{'end':>4}{'':>8}{found:>7}{last:>7}{broken.finished():>10} in the store")
        same = unbroken.outcome() == broken.outcome()
    begun += last
    print(f"last run {seconds:.1f} s; {begun} fits begun, {begun - n_fits} of them again")
    most = options.kills * options.n_jobs
    print(f"lost when killed: {lost}, at most one a process and kill: {most}")
    print("scores, parameters, predictions and model:", "the same" if same else "OTHERS")
    return int(not same or not begun - n_fits <= lost <= most)


if __name__ == "__main__":
    sys.exit(main())
