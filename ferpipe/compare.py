"""Compare runs: ``python -m ferpipe.compare reports/a reports/b``."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ferpipe._system.terminal import careful_output, error_line, printable
from ferpipe.experiments.comparison import (
    compare_runs,
    draw_comparisons,
    read_run,
    scored_samples,
)
from ferpipe.experiments.report.formatting import EN_DASH, SPLIT_NAMES, percent, points

__all__ = ["main"]

_HEADS = ("", "accuracy", "difference", "95 % interval", "only right", "McNemar", "t-test")


def main(arguments: list[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line; None takes the program's own.

    Returns
    -------
    status : int
        0, or 2 for wrong input.
    """
    with careful_output():
        options = _parser().parse_args(arguments)
        try:
            _run(options)
        except (ValueError, OSError) as error:
            error_line(error)
            return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    folders = [options.first, *options.others]
    runs = [read_run(folder) for folder in folders]
    baseline, *names = _names(folders)
    comparisons = {
        name: compare_runs(runs[0], run) for name, run in zip(names, runs[1:], strict=True)
    }
    written = _write(options, runs[0], baseline, comparisons)
    print(_table(runs[0], baseline, comparisons))
    for path in written:
        print(f"wrote {path}")


def _write(
    options: argparse.Namespace,
    first: dict[str, Any],
    baseline: str,
    comparisons: dict[str, dict[str, Any]],
) -> list[Path]:
    """Write the files that the command line names, and return them."""
    written = []
    pictures = [options.plot] if options.plot else []
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / "comparison.json"
        content = {"baseline": baseline, "comparisons": comparisons}
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
        written.append(path)
        pictures.append(options.out / "comparison.png")
    if pictures:
        figure = draw_comparisons(baseline, comparisons, synthetic=first["synthetic"])
    for path in pictures:
        figure.savefig(path, dpi=200)
        written.append(path)
    return written


def _names(folders: list[Path]) -> list[str]:
    """Name runs by their folders, or by whole paths if two names are equal."""
    names = [printable(folder.resolve().name) for folder in folders]
    if len(set(names)) == len(names):
        return names
    names = [printable(str(folder)) for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError("a folder is named twice: name each run once.")
    return names


def _table(
    first: dict[str, Any], baseline: str, comparisons: dict[str, dict[str, Any]]
) -> str:
    _, correct, _ = scored_samples(first)
    rows = [list(_HEADS), [baseline, percent(float(correct.mean()))]]
    rows += [[name, *_cells(comparison)] for name, comparison in comparisons.items()]
    widths = [
        max(len(row[i]) for row in rows if i < len(row)) + 2 for i in range(len(_HEADS))
    ]
    lines = [
        f"{SPLIT_NAMES[first['primary']]} accuracy, {len(correct)} samples"
        + (" (synthetic data)" if first["synthetic"] else ""),
        "",
    ]
    lines += [
        row[0].ljust(widths[0])
        + "".join(
            cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=False)
        )
        for row in rows
    ]
    return "\n".join([*lines, "", *_notes(baseline, comparisons)])


def _cells(comparison: dict[str, Any]) -> list[str]:
    interval, mcnemar, t_test = (
        comparison[key] for key in ("interval", "mcnemar", "t_test")
    )
    return [
        percent(comparison["second"]),
        points(comparison["difference"]),
        f"{points(interval['low'])} to {points(interval['high'])}" if interval else EN_DASH,
        f"{mcnemar['only_second']} : {mcnemar['only_first']}" if mcnemar else EN_DASH,
        _p(mcnemar),
        _p(t_test),
    ]


def _notes(baseline: str, comparisons: dict[str, dict[str, Any]]) -> list[str]:
    found = list(comparisons.values())
    methods = {item["interval"]["method"] for item in found if item["interval"]}
    notes = [f"difference: points above {baseline}, on the samples that both tested"]
    if "subject bootstrap" in methods:
        notes.append("interval: bootstrap over subjects")
    if "sample bootstrap" in methods:
        notes.append("interval: bootstrap over samples, because subjects are not known")
    notes.append(f"only right: samples that only this run : only {baseline} has right")
    notes.append("McNemar: exact, two-sided p; it assumes independent samples")
    folds = sorted({item["t_test"]["n_folds"] for item in found if item["t_test"]})
    over = " or ".join(map(str, folds)) if folds else "no two"
    notes.append(
        f"t-test: corrected for overlapping training parts, p; {over} shared folds"
    )
    notes += [
        f"{name}: every fold differs by {points(item['difference'])} points, so the t-test "
        "is not defined"
        for name, item in comparisons.items()
        if item["t_test"] and item["t_test"]["p"] is None
    ]
    notes += [
        f"{name}: {item['n_samples']} samples compared, of {item['n_first']} that "
        f"{baseline} tested and {item['n_second']} that it tested"
        for name, item in comparisons.items()
        if not item["n_samples"] == item["n_first"] == item["n_second"]
    ]
    if len(found) > 1:
        notes.append(
            f"{len(found)} comparisons: divide 0.05 by {len(found)} before calling one of "
            "them significant"
        )
    return notes


def _p(test: dict[str, Any] | None) -> str:
    if test is None or test["p"] is None:
        return EN_DASH
    return "<0.001" if test["p"] < 0.001 else f"{test['p']:.3f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.compare",
        description="Compare runs with the first one, on the samples that both tested.",
    )
    parser.add_argument("first", type=Path, help="folder of the baseline's report")
    parser.add_argument("others", type=Path, nargs="+", help="folders of other reports")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="write the figure to this file"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help="write comparison.json and comparison.png to this folder",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
