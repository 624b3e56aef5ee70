"""What each part of the training on FER2013 is worth: short runs that differ in one thing.

``python reports/ablations.py [NAME...] [--seeds 0 1 2] [--share 1] [--epochs 20]`` with
FERPIPE_DATA naming the folder that holds fer2013. The first run is
pipelines/fer2013_first.yaml without its teachers on a shorter schedule; each of the others
replaces something in it. They are trained on Training, or a share of it that is drawn once,
and scored on PublicTest with the mirror image beside each face: a selection score. Runs
that have a teacher have the network of the first run with the same seed. What was run
before, with the same settings, is not run again, and a stopped run goes on from its last
epoch. Runs and table stand in reports/fer2013.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from ferpipe import datasets
from ferpipe._system.memory import keep_freed_memory
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.spec import read_mapping
from ferpipe.grid import run
from ferpipe.networks.pretrained import save_network
from ferpipe.networks.training.loop import find_device

HERE = Path(__file__).parent
FOLDER = HERE / "fer2013"
EXPERIMENT = HERE.parent / "pipelines" / "fer2013_first.yaml"
NETWORK = "pipeline.classify.ImageNetwork"
TRAINING = f"{NETWORK}.training.Training"
AUGMENT = f"{NETWORK}.augment.Augment"
PLAIN = "labels alone"
TAUGHT = "behind the network of the first run"
ADAM = [
    *(f"{TRAINING}.optimizer=adam", f"{TRAINING}.lr=0.002"),
    f"{TRAINING}.weight_decay=0.0",
]
# What each run replaces. Learning rates are usual ones of the optimizers, tuned for none.
RUNS = {
    PLAIN: [],
    TAUGHT: [],
    f"{TAUGHT}, mixup and erasing": [f"{AUGMENT}.mixup=0.2", f"{AUGMENT}.erase=0.5"],
    "stochastic gradient descent": [f"{TRAINING}.optimizer=sgd", f"{TRAINING}.lr=0.1"],
    "Adam": ADAM,
    "NAdam": [f"{TRAINING}.optimizer=nadam", f"{TRAINING}.lr=0.002"],
    "Adamax": [
        *(f"{TRAINING}.optimizer=adamax", f"{TRAINING}.lr=0.004"),
        f"{TRAINING}.weight_decay=0.0",
    ],
    "class weights": [f"{TRAINING}.class_weight=balanced"],
    "balanced sampling": [f"{TRAINING}.sampling=balanced"],
    "label smoothing": [f"{TRAINING}.label_smoothing=0.1"],
    "mixup": [f"{AUGMENT}.mixup=0.2"],
    "erasing": [f"{AUGMENT}.erase=0.5"],
    "no augmentation": [f"{NETWORK}.augment=null"],
    "constant learning rate": [f"{TRAINING}.schedule=constant", f"{TRAINING}.lr=0.01"],
    "constant learning rate, mean of the last ten epochs": [
        *(f"{TRAINING}.schedule=constant", f"{TRAINING}.lr=0.01"),
        f"{TRAINING}.averaging={{WeightAveraging: {{start: 0.5}}}}",
    ],
    "Lonkar's network": [f"{NETWORK}.backbone=paper_003"],
    # the learning rate of the first run leaves a spatial transformer at one class for all
    "hybrid paper's network, Adam": [f"{NETWORK}.backbone=paper_004", *ADAM],
    "hybrid paper's, Adam, without its spatial transformer": [
        *(f"{NETWORK}.backbone=paper_004_unsteered", *ADAM),
    ],
}


def load(share):
    """Return FER2013 with a share of Training, stratified by class, and PublicTest."""
    bunch = datasets.load_fer2013(Path(os.environ["FERPIPE_DATA"]) / "fer2013")
    train = np.flatnonzero(bunch.usage == "Training")
    if share < 1:
        train, _ = train_test_split(
            train, train_size=share, stratify=bunch.target[train], random_state=0
        )
    kept = np.sort(np.concatenate([train, np.flatnonzero(bunch.usage == "PublicTest")]))
    for name in ("data", "target", "usage"):
        bunch[name] = bunch[name][kept]
    bunch.filenames = [bunch.filenames[index] for index in kept]
    return bunch


def measure(name, seed, epochs, share, bunch):
    """Train and score once; return what is kept of it."""
    kept = FOLDER / "checkpoints"
    teacher = kept / f"seed-{seed}-epochs-{epochs}-share-{share}.safetensors"
    is_taught = name.startswith(TAUGHT)
    if is_taught and not teacher.is_file():
        raise SystemExit(
            f"error: {teacher} is missing: run {PLAIN!r} with this seed first."
        )
    distillation = f"{{Distillation: {{teacher: {teacher}}}}}" if is_taught else "null"
    settings = [
        *(f"seed={seed}", "report=null", f"{TRAINING}.max_epochs={epochs}"),
        f"{TRAINING}.distillation={distillation}",
        *(f"{TRAINING}.checkpoint={kept}", *RUNS[name]),
    ]
    results = run(read_mapping(EXPERIMENT), data=bunch, set=settings)
    if name == PLAIN:
        save_network(results.model[-1], teacher)
    summary = summarize(results)
    head = summary["splits"][summary["primary"]]
    return {
        "accuracy": summary["primary_scores"]["accuracy"],
        "f1_macro": summary["primary_scores"]["f1_macro"],
        "calibration_error": head["calibration"]["error"],
        "seconds": round(results.seconds),
        "device": find_device("auto"),
    }


def write_table(runs):
    """Write the runs as a table, best first within a schedule, mean over seeds."""
    lines = ["# One change at a time", "", *__doc__.splitlines()[2:], ""]
    schedules = sorted({(row["share"], row["epochs"]) for row in runs}, reverse=True)
    for share, epochs in schedules:
        lines += [
            f"## {epochs} epochs, {share:.0%} of Training",
            "",
            "| run | PublicTest | macro-F1 | calibration error | seeds | minutes |",
            "|---|---|---|---|---|---|",
        ]
        rows = []
        for name in RUNS:
            found = [
                row
                for row in runs
                if (row["name"], row["share"], row["epochs"]) == (name, share, epochs)
            ]
            if found:
                mean = {
                    key: np.mean([row[key] for row in found])
                    for key in ("accuracy", "f1_macro", "calibration_error", "seconds")
                }
                spread = np.std([row["accuracy"] for row in found])
                accuracy = f"{mean['accuracy']:.4f}"
                accuracy += f" ± {spread:.4f}" if len(found) > 1 else ""
                rows.append(
                    (
                        -mean["accuracy"],
                        f"| {name} | {accuracy} | {mean['f1_macro']:.3f} "
                        f"| {mean['calibration_error']:.3f} | {len(found)} "
                        f"| {mean['seconds'] / 60:.0f} ({found[0]['device']}) |",
                    )
                )
        lines += [row for _, row in sorted(rows)] + [""]
    (FOLDER / "README.md").write_text("\n".join(lines))


def main():
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {list(RUNS)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--share", type=float, default=1.0, help="share of Training")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    unknown = set(options.names) - set(RUNS)
    if unknown:
        parser.error(f"no run {sorted(unknown)}; expected some of {list(RUNS)}")
    if "FERPIPE_DATA" not in os.environ:
        parser.error("FERPIPE_DATA is not set: it names the folder that holds fer2013")
    keep_freed_memory()
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "runs.json"
    runs = json.loads(path.read_text()) if path.is_file() else []
    bunch = load(options.share)
    for seed in options.seeds:
        for name in options.names or RUNS:
            settings = {
                "name": name,
                "seed": seed,
                "share": options.share,
                "epochs": options.epochs,
            }
            if any(settings.items() <= row.items() for row in runs):
                continue
            row = settings | measure(name, seed, options.epochs, options.share, bunch)
            print(row, flush=True)
            runs.append(row)
            path.write_text(json.dumps(runs, indent=1))
            write_table(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
