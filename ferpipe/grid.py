"""Run an experiment file: ``python -m ferpipe.grid pipelines/lstm_svm.yaml``."""

import argparse
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferpipe._system.memory import keep_freed_memory
from ferpipe._system.terminal import careful_output, error_line, printable
from ferpipe._system.threads import n_cores
from ferpipe.caching.store import Store
from ferpipe.experiments.cluster import check_address
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.plan import Plan
from ferpipe.experiments.protocols import PROTOCOLS
from ferpipe.experiments.report.formatting import SPLIT_NAMES
from ferpipe.experiments.report.page import check_folder, text_table, write_report
from ferpipe.experiments.results import Results
from ferpipe.experiments.run import load_data, make_plan, run_experiment
from ferpipe.experiments.spec import (
    SpecError,
    check_inside,
    compile_spec,
    override,
    read_mapping,
)
from ferpipe.faces.alignment import TEMPLATES
from ferpipe.io.models import save

__all__ = ["main", "run"]


def run(
    experiment: str | Path | Mapping[str, Any],
    *,
    data: Any = None,
    protocol: str | None = None,
    set: Iterable[str] = (),
    n_jobs: int = 1,
    dask: str | None = None,
    out: str | Path | None = None,
    cache: bool = True,
    progress: bool = False,
) -> Results:
    """Run an experiment; write its report and model if a folder is given.

    Parameters
    ----------
    experiment : str, path or dict
        A YAML file, or the mapping in it.
    data : Bunch or dict, default=None
        A data set as the loaders and ``datasets.as_bunch`` return it, or
        ``{loader: path}`` as for ``--data``; None loads the data of the experiment.
    protocol : str, default=None
        A protocol that replaces the protocol or the folds of the experiment.
    set : iterable of str, default=()
        Values to replace, each ``"a.b.c=value"``.
    n_jobs : int, default=1
        Number of processes, one fold each.
    dask : str, default=None
        "local:4" for four processes of a dask cluster on this machine, "tls://host:port"
        for the workers of a running scheduler; ``n_jobs`` has no effect then.
    out : str or path, default=None
        Folder of the report; None takes ``report.to``, and writes nothing without it.
        ``report.to`` and checkpoints must be in the working directory or in ``out``.
    cache : bool, default=True
        Keep fitted steps and features of samples in the store between runs.
    progress : bool, default=False
        Show a progress bar.

    Returns
    -------
    results : Results

    Raises
    ------
    SpecError
        If the experiment has a mistake; the message gives its place in the file.
    FileExistsError
        If the folder of the report holds other files.
    DataError
        If the experiment cannot be run on the data.
    ModuleNotFoundError, ConnectionError, ValueError
        If the dask cluster cannot be used; the message gives the reason.
    """
    if dask is not None:
        check_address(dask)
    mapping = experiment if isinstance(experiment, Mapping) else read_mapping(experiment)
    if isinstance(data, dict) and not hasattr(data, "target"):
        mapping = _with_data(mapping, data)
        data = None
    spec = compile_spec(override(_with_protocol(mapping, protocol), set), out=out)
    folder = out or spec.to
    if folder is not None:
        folder = Path(folder).expanduser()
        check_folder(folder, named=out is not None)
    if data is None:
        data = load_data(spec)
    else:
        resolved = {**spec.resolved, "data": {"given_in_python": {}}}
        spec = replace(
            spec, loader="given_in_python", data_parameters={}, resolved=resolved
        )
    results = run_experiment(
        spec,
        data,
        store=Store() if cache else None,
        n_jobs=n_jobs,
        dask=dask,
        progress=progress,
    )
    if folder is not None:
        _write(results, folder)
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    with careful_output():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    keep_freed_memory()
    try:
        return _run_program(options, arguments)
    except (SpecError, ValueError, OSError, ModuleNotFoundError) as error:
        error_line(error)
        return 2
    except MemoryError as error:
        print(f"error: too little memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "" if options.no_cache else " The same command continues from here."
        print(f"\nstopped: no report was written.{kept}", file=sys.stderr)
        return 130


def _run_program(options: argparse.Namespace, arguments: list[str] | None) -> int:
    with_data = _with_data(read_mapping(options.file), dict(options.data))
    mapping = _with_protocol(with_data, options.protocol)
    spec = compile_spec(override(mapping, options.set), out=options.out)
    folder = options.out or spec.to
    if folder is None:
        folder = f"reports/{spec.name}"
        check_inside(folder, "name")
    folder = Path(folder).expanduser()
    check_folder(folder, named=options.out is not None)
    bunch = load_data(spec)
    store = None if options.no_cache else Store()
    plan = make_plan(spec, bunch, store=store)
    processes = options.dask or f"{options.n_jobs} processes"
    print(f"{_describe_plan(plan)}\n  {processes}", flush=True)
    if options.dry_run:
        return 0
    _check_writable(folder)
    words = sys.argv[1:] if arguments is None else arguments
    results = run_experiment(
        spec,
        bunch,
        store=store,
        n_jobs=options.n_jobs,
        dask=options.dask,
        progress=True,
        command=shlex.join(["python", "-m", "ferpipe.grid", *words]),
    )
    # the results of hours are on disk before anything else can fail
    paths = _write(results, folder)
    print(text_table(results))
    for path in paths:
        print(f"wrote {path}")
    return 0


def _write(results: Results, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = list(write_report(results, folder).values())
    summary = summarize(results)
    model = save(
        results.model,
        folder / "model.joblib",
        data=f"{results.data['loader']}: {results.data['description'].splitlines()[0]}",
        protocol=summary["protocol"],
        scores=summary["primary_scores"],
        crop_template=_crop_template(results.data["loader"]),
    )
    return [*paths, model]


def _crop_template(loader: str) -> dict[str, Any] | None:
    """Return the eye positions in the data set's crops, if they are known."""
    if loader not in TEMPLATES:
        return None
    return {"name": loader, "eyes": [list(place) for place in TEMPLATES[loader]]}


def _with_data(mapping: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the loader; the parameters of the same loader stay."""
    mapping = dict(mapping)
    for name, path in data.items():
        present = mapping.get("data")
        kept = present.get(name) or {} if isinstance(present, dict) else {}
        mapping["data"] = {name: {**kept, "path": str(path)}}
    return mapping


def _with_protocol(mapping: Mapping[str, Any], protocol: str | None) -> Mapping[str, Any]:
    """Replace protocol or outer folds by a protocol; None changes nothing."""
    evaluate = mapping.get("evaluate") or {}
    if protocol is None or not isinstance(evaluate, Mapping):
        return mapping
    kept = {key: value for key, value in evaluate.items() if key != "outer_cv"}
    return {**mapping, "evaluate": {**kept, "protocol": protocol}}


def _check_writable(folder: Path) -> None:
    """Fail before the run, not after it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder}: cannot write to this folder; use --out.")


def _describe_plan(plan: Plan) -> str:
    spec, bunch = plan.spec, plan.bunch
    counts = Counter(printable(str(name)) for name in bunch.target)
    n_groups = 0 if bunch.groups is None else len({str(name) for name in bunch.groups})
    label = "synthetic data, " if bunch.synthetic else ""
    if plan.saves_scored:
        ((train, test),) = plan.primary
        outer = f"{len(train)} to train, {len(test)} to test"
    else:
        outer = "outer folds: " + " and ".join(
            f"{len(folds)} {SPLIT_NAMES[split]}"
            for split, folds in plan.split.folds.items()
        )
    if plan.repeats:
        outer += f", {1 + len(plan.repeats)} seeds"
    lines = [
        f"{spec.name}: {label}{spec.loader}: {len(bunch.target)} {bunch.kind}, "
        f"{n_groups or 'unknown'} subjects, {len(counts)} classes",
        "  " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)),
        f"  {plan.candidates} candidates; {outer}; {plan.fits} fits",
    ]
    if spec.protocol:
        lines.insert(2, f"  protocol {spec.protocol}: {PROTOCOLS[spec.protocol].sentence}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.grid",
        description="Run an experiment file: nested search, scores, report, saved model.",
    )
    parser.add_argument("file", help="experiment file, for example pipelines/lstm_svm.yaml")
    parser.add_argument(
        "--data",
        metavar="NAME=PATH",
        action="append",
        default=[],
        type=_name_and_path,
        help="use this loader and folder or file, for example ck48=~/data/CK+48",
    )
    parser.add_argument(
        "--set",
        metavar="A.B=C",
        action="append",
        default=[],
        help="replace a value of the file, for example data.ck48.classes=5",
    )
    parser.add_argument(
        "--n-jobs",
        type=_positive,
        default=n_cores(),
        help="number of processes, one fold each (default: one per core)",
    )
    parser.add_argument(
        "--dask",
        metavar="WHERE",
        type=_address,
        help="run candidates and folds on a dask cluster: local:N starts N processes here, "
        "tls://HOST:PORT uses the workers of a scheduler; instead of --n-jobs",
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        help="evaluate by this protocol, not by the protocol or folds of the file, for "
        f"example ck48-7-subject; known: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the report; report.to and checkpoints of the file must be in the "
        "working directory or in this folder",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="do not read fitted steps and features from the store, and write none to it",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan of the run, and stop"
    )
    return parser


def _name_and_path(text: str) -> tuple[str, Any]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, path


def _address(text: str) -> str:
    try:
        check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return number


if __name__ == "__main__":
    # SIGTERM also stops the worker processes, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
