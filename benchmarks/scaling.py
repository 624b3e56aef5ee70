"""One search in one or two processes: those of joblib, and workers of dask.

``python benchmarks/scaling.py`` runs the grid program with ``--n-jobs 1``, ``--n-jobs 2``,
``--dask local:1`` and ``--dask local:2`` on drawn sequences: a recurrent network, some
values to try, nested folds, nothing kept between the runs. The ways take turns; printed are
the least seconds of the whole program, start and report included, and of the search in it,
how many times as fast it is as one worker, and whether its predictions are that one's.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

WAYS = (
    ["--n-jobs", "1"],
    ["--n-jobs", "2"],
    ["--dask", "local:1"],
    ["--dask", "local:2"],
)


def write_experiment(path, n_sequences, epochs):
    """Write the experiment file: 8 candidates, 3 outer and 2 inner folds."""
    network = {
        "frames": None,
        "hidden_size": {"try": [[16], [32]]},
        "rnn_type": {"try": ["lstm", "gru"]},
        "training": {
            "Training": {"max_epochs": epochs, "lr": {"try": [0.003, 0.01]}},
        },
    }
    experiment = {
        "name": "scaling",
        "data": {"expression_sequences": {"n_sequences": n_sequences, "size": 48}},
        "pipeline": {
            "frames": {"PerFrame": {"transformer": "HOGFeatures"}},
            "classify": {"SequenceNetwork": network},
        },
        "evaluate": {
            "outer_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
            "inner_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
        },
    }
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))


def run(folder, way):
    """Run the program; return its seconds, those of the search, and the predictions."""
    out = folder / "out"
    program = [sys.executable, "-m", "ferpipe.grid", str(folder / "scaling.yaml")]
    start = time.perf_counter()
    done = subprocess.run(
        [*program, "--no-cache", "--out", str(out), *way],
        check=False,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    results = json.loads((out / "results.json").read_text())
    return seconds, results["seconds"], [fold["predicted"] for fold in results["folds"]]


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=168)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    seconds = {tuple(way): [] for way in WAYS}
    predicted = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_experiment(folder / "scaling.yaml", options.sequences, options.epochs)
        for _ in range(options.rounds):
            for way in map(tuple, WAYS):
                *both, predicted[way] = run(folder, way)
                seconds[way].append(both)
    least = {
        way: [min(column) for column in zip(*rows, strict=True)]
        for way, rows in seconds.items()
    }
    one = least["--dask", "local:1"][1]
    first = predicted["--dask", "local:1"]
    print("| way | program, s | search, s | times one worker | same predictions |")
    print("|---|---|---|---|---|")
    for way, (program, search) in least.items():
        same = "yes" if predicted[way] == first else "no"
        words = f"`{' '.join(way)}`"
        print(f"| {words} | {program:.1f} | {search:.1f} | {one / search:.2f} | {same} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
