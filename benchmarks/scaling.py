"""One nested search in one or two processes: of joblib, of dask, of joblib's dask backend.

``python benchmarks/scaling.py`` runs the grid program with ``--n-jobs 1``, ``--n-jobs 2``,
``--dask local:1`` and ``--dask local:2`` on synthetic sequences: a recurrent network, 8
candidates, nested folds, an empty store. It also does the same searches and fits with
``GridSearchCV`` inside joblib's ``parallel_config("dask")``, one outer fold at a time.
The ways take turns. The table has the shortest time of the whole program, with start and
report, and of the search in it, the speed as a multiple of ``--dask local:1``, and whether
the predictions of the primary result are the same.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

WAYS = (
    ["--n-jobs", "1"],
    ["--n-jobs", "2"],
    ["--dask", "local:1"],
    ["--dask", "local:2"],
    ["joblib", "dask:2"],
)


def write_experiment(path, n_sequences, epochs):
    """Write the experiment file: 8 candidates, 3 outer and 2 inner folds."""
    network = {
        "backbone": None,
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
    out.mkdir(exist_ok=True)
    file = str(folder / "scaling.yaml")
    if way[0] == "joblib":
        program = [sys.executable, __file__, "--joblib", file, "--out", str(out)]
    else:
        options = ["--no-cache", "--out", str(out), *way]
        program = [sys.executable, "-m", "ferpipe.grid", file, *options]
    start = time.perf_counter()
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    name = "joblib.json" if way[0] == "joblib" else "results.json"
    results = json.loads((out / name).read_text())
    folds = [fold for fold in results["folds"] if fold["split"] == results["primary"]]
    return seconds, results["seconds"], [fold["predicted"] for fold in folds]


def search_by_joblib(file, out, n_workers=2):
    """Search with joblib's dask backend; write seconds and predictions to joblib.json."""
    from distributed import Client, LocalCluster
    from joblib import parallel_config
    from sklearn import config_context
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV

    from ferpipe.experiments.plan import make_plan
    from ferpipe.experiments.run import load_data
    from ferpipe.experiments.spec import compile_spec, read_mapping

    spec = compile_spec(read_mapping(file))
    bunch = load_data(spec)
    start = time.perf_counter()
    plan = make_plan(spec, bunch)
    y, groups = np.asarray(bunch.target), np.asarray(bunch.groups)
    everything = np.arange(len(y))
    folds = []

    def parts(indices):
        return [bunch.data[i] for i in indices], y[indices]

    with (
        config_context(enable_metadata_routing=True),
        LocalCluster(n_workers=n_workers, threads_per_worker=1) as cluster,
        Client(cluster),
        parallel_config("dask"),
    ):
        for train, test in [*plan.primary, (everything, None)]:
            search = GridSearchCV(
                spec.pipeline,
                spec.grid,
                cv=plan.inner_cv,
                scoring=list(spec.scoring),
                refit=spec.refit,
                n_jobs=n_workers,
            )
            search.fit(*parts(train), groups=groups[train])
            if test is not None:
                predicted = search.predict(parts(test)[0]).tolist()
                folds.append({"split": "primary", "predicted": predicted})
        # the folds of the stratified split, with the parameters of the last search
        for train, test in plan.split.folds["stratified"]:
            model = clone(spec.pipeline).set_params(**search.best_params_)
            model.fit(*parts(train)).predict(parts(test)[0])
    seconds = time.perf_counter() - start
    results = {"seconds": seconds, "primary": "primary", "folds": folds}
    (Path(out) / "joblib.json").write_text(json.dumps(results))


def main():
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=168)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--joblib", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.joblib:
        search_by_joblib(options.joblib, options.out)
        return 0
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
