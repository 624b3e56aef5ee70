"""The report of a run: an HTML page, figures, tables and text for the terminal.

Nothing is computed here: all numbers come from ``summarize`` or from the run itself.
"""

import base64
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ferpipe._system.terminal import printable
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.report.figures import (
    DARK,
    LIGHT,
    Panel,
    curve_panels,
    draw_confusion,
    draw_panels,
    reliability_panels,
)
from ferpipe.experiments.report.formatting import (
    INTERVAL_METHODS,
    SEARCHED_WORDS,
    SPLIT_NAMES,
    calibration_words,
    duration,
    fit_words,
    fixed,
    gap_words,
    mean_spread,
    mean_spread_percent,
    percent,
    range_percent,
    readable,
    readable_params,
)
from ferpipe.experiments.results import Fold, Results
from ferpipe.io.csv_cells import safe_cell
from ferpipe.io.json_values import json_value

__all__ = ["FORMAT", "check_folder", "text_table", "write_report"]

# of results.json; python -m ferpipe.compare reads this one
FORMAT = 2
# files of a report; the model is saved in the same folder
_NAMES = (
    *("report.html", "results.json", "resolved.yaml", "confusion_matrix.png"),
    *("cv_results.csv", "learning_curves.png", "model.joblib", "model.json"),
)
# beginning of results.json
_BEGINNING = re.compile(rb'\{\s*"format": \d+,\s*"label": "')
# checkpoints may be in the folder before the report is
_CHECKPOINT = re.compile(r"[\w.+-]*[0-9a-f]{32}(-\d+)?\.(pt|npy)")
N_CANDIDATES_SHOWN = 10


def check_folder(folder: str | Path, *, named: bool) -> None:
    """Check that a report may be written to a folder.

    Parameters
    ----------
    folder : str or path
        Folder of the report; it may be missing.
    named : bool
        Whether the user named the folder. Then it may hold other files, if their names are
        not those of a report's files.

    Raises
    ------
    FileExistsError
        If a report could replace files there that do not belong to a report.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.is_symlink() or folder.exists():
            raise FileExistsError(f"{folder}: expected a folder; use --out FOLDER.")
        return
    if _is_report(folder):
        return
    found: Iterator[Path]
    if named:
        found = (folder / name for name in _NAMES if os.path.lexists(folder / name))
    else:
        below = (path for path in folder.rglob("*") if not path.is_dir())
        found = (path for path in below if not _CHECKPOINT.fullmatch(path.name))
    other = next(found, None)
    if other is not None:
        raise FileExistsError(
            f"{folder}: this folder holds {other.relative_to(folder)} and no report "
            "(results.json) that it could belong to; it is not overwritten. Name another "
            "folder with --out FOLDER."
        )


def _is_report(folder: Path) -> bool:
    path = folder / "results.json"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _BEGINNING.match(file.read(100)) is not None


def write_report(results: Results, folder: str | Path) -> dict[str, Path]:
    """Write the report of a run, and replace the files of an older report.

    Parameters
    ----------
    results : Results
        Results of a run.
    folder : str or path
        Folder of the report; it is made if it is missing.

    Returns
    -------
    paths : dict of str to Path
        File name to path: ``report.html`` (one self-contained page), ``results.json``,
        ``resolved.yaml`` and ``confusion_matrix.png``; ``cv_results.csv`` if there was a
        search; ``learning_curves.png`` if there are curves.

    Raises
    ------
    FileExistsError
        If the folder holds files with such names that do not belong to a report.

    Notes
    -----
    All files are made before the first is written, and each is moved into place complete.
    Files of an older report that this one does not have are removed.
    """
    check_folder(folder, named=True)
    summary = summarize(results)
    panels = [*curve_panels(results, summary), *reliability_panels(summary)]
    # results.json comes first: it marks the folder as a report. Names of files may hold
    # surrogates, which are escaped as in JSON
    files = {
        "results.json": _json(results, summary).encode(errors="backslashreplace"),
        "report.html": _page(results, summary, panels).encode(),
        "resolved.yaml": _resolved(results).encode(errors="backslashreplace"),
        "confusion_matrix.png": _png(draw_confusion(summary)),
    }
    stale = []
    if results.cv_results:
        files["cv_results.csv"] = _cv_table(results).encode(errors="backslashreplace")
    else:
        stale.append("cv_results.csv")
    if panels:
        files["learning_curves.png"] = _png(draw_panels(panels, summary, LIGHT))
    else:
        stale.append("learning_curves.png")
    return _write_together(Path(folder), files, stale)


def text_table(results: Results) -> str:
    """Write the scores of a run as text for the terminal.

    Parameters
    ----------
    results : Results
        Results of a run.

    Returns
    -------
    text : str
        The primary result, scores of all splits and of single steps, the gap, the chosen
        parameters, number of fits and time.
    """
    summary = summarize(results)
    head = summary["splits"][summary["primary"]]
    accuracy, interval = head["accuracy"], head["accuracy"]["interval"]
    subjects = summary["n_subjects"]
    lines = [
        summary["name"] + (" (synthetic data)" if summary["synthetic"] else ""),
        "",
        f"{SPLIT_NAMES[summary['primary']]} accuracy: {mean_spread_percent(accuracy)}, "
        f"95 % interval {range_percent(interval)}",
        f"{summary['n_samples']} {results.data['kind']}, "
        f"{'unknown' if subjects is None else subjects} subjects, "
        f"{len(summary['classes'])} classes",
        summary["protocol"],
    ]
    if head["seeds"]:
        lines.append(_seed_words(summary))
    lines += [
        f"{name}: accuracy {percent(part['accuracy'])}, 95 % interval "
        f"{range_percent(part['interval'])}, {part['n_tested']} {results.data['kind']}"
        for name, part in head["beside"].items()
    ]
    if summary["leak"]:
        lines.append(f"warning: {summary['leak']}; this score measures memory")
    if subjects is None:
        lines.append("note: subjects are unknown and may be on both sides of the split")
    lines += [f"note: {note}" for note in summary["notes"]]
    if len(summary["splits"]) > 1 and results.cv_results:
        lines.append(f"note: {SEARCHED_WORDS}")
    rows = _score_rows(results, summary)
    names = [SPLIT_NAMES[split] for split in summary["splits"]]
    width = max(len(label) for label, _ in rows) + 2
    lines += ["", " " * width + "".join(f"{name:>18}" for name in names)]
    lines += [
        f"{label:<{width}}" + "".join(f"{mean_spread(score):>18}" for score in scores)
        for label, scores in rows
    ]
    facts = []
    if summary["gap"]:
        facts.append(("gap", gap_words(summary["gap"])))
    facts += [
        ("parameters" if i == 0 else "", f"{name} = {value}")
        for i, (name, value) in enumerate(readable_params(results.best_params).items())
    ]
    if head["calibration"]:
        facts.append(("calibration", calibration_words(head["calibration"])))
    if summary["search"]:
        facts.append(("searched", summary["search"]))
    if results.fits:
        facts.append(("fits", fit_words(results.fits)))
    facts.append(("time", duration(results.seconds)))
    return "\n".join([*lines, "", *(f"{name:<12}{text}" for name, text in facts)])


def _page(results: Results, summary: dict[str, Any], panels: list[Panel]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ferpipe.experiments.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    filters: dict[str, Callable] = {
        "duration": duration,
        "fixed": fixed,
        "mean_spread": mean_spread,
        "percent": percent,
        "range_percent": range_percent,
        "readable": readable,
    }
    environment.filters.update(filters)
    head = summary["splits"][summary["primary"]]
    return environment.get_template("report.html").render(
        results=results,
        summary=summary,
        head=head,
        split_names=SPLIT_NAMES,
        searched_words=SEARCHED_WORDS,
        interval_method=INTERVAL_METHODS[head["accuracy"]["interval"]["method"]],
        score_rows=_score_rows(results, summary),
        calibration_words=(
            calibration_words(head["calibration"]) if head["calibration"] else None
        ),
        gap_words=gap_words(summary["gap"]) if summary["gap"] else None,
        seed_words=_seed_words(summary) if head["seeds"] else None,
        best_params=readable_params(results.best_params),
        fold_tables=_fold_tables(results, summary),
        candidates=_candidates(results),
        panels=[(panel, *_both_themes(panel, summary)) for panel in panels],
        fit_words=fit_words(results.fits) if results.fits else None,
        settings=_dump_yaml(results.settings),
    )


def _shown(value: Any) -> Any:
    """Escape control characters of names, but not line ends."""
    return printable(value, lines=True) if type(value) is str else value


def _seed_words(summary: dict[str, Any]) -> str:
    """Write the first score for each seed, and their spread."""
    seeds = summary["splits"][summary["primary"]]["seeds"]
    scorer, found = next(iter(seeds.items()))
    values = ", ".join(
        f"{fixed(value)} (seed {seed})"
        for seed, value in zip(summary["seeds"], found["values"], strict=True)
    )
    return f"{scorer} over seeds {mean_spread(found)}: {values}"


def _score_rows(results: Results, summary: dict[str, Any]) -> list[tuple[str, list]]:
    """Make one row per scorer and per step that classifies; one column per split."""
    splits = summary["splits"].values()
    rows = [
        (scorer, [split["scores"][scorer] for split in splits])
        for scorer in results.scoring
    ]
    steps = sorted({step for split in splits for step in split["steps"]})
    absent = {"mean": None, "spread": None}
    if any(split["seeds"] for split in splits):
        for scorer in results.scoring:
            by_seed = [(split["seeds"] or {}).get(scorer, absent) for split in splits]
            rows.append((f"{scorer}, over seeds", by_seed))
    for step in steps:
        rows.append(
            (
                f"accuracy of {step} alone",
                [
                    split["steps"].get(step, {"accuracy": absent})["accuracy"]
                    for split in splits
                ],
            )
        )
    return rows


def _fold_tables(results: Results, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a table of the folds of each split, with the parameters that they chose."""
    tables = []
    for name, split in summary["splits"].items():
        folds = [fold for fold in results.folds if fold.split == name]
        choices: list[tuple[dict[str, str], list[str]]] = []
        for fold in folds:
            params = readable_params(fold.best_params)
            alike = [numbers for chosen, numbers in choices if chosen == params]
            if alike:
                alike[0].append(_fold_name(fold, summary))
            elif params:
                choices.append((params, [_fold_name(fold, summary)]))
        names = [_fold_name(fold, summary) for fold in folds]
        rows = list(zip(names, folds, split["folds"], strict=True))
        tables.append({"split": name, "rows": rows, "choices": choices})
    return tables


def _fold_name(fold: Fold, summary: dict[str, Any]) -> str:
    """Write the number of a fold from 1, with its seed if there are several."""
    number = str(fold.number + 1)
    return f"{number} (seed {fold.seed})" if len(summary["seeds"]) > 1 else number


def _candidates(results: Results) -> list[dict[str, Any]]:
    """List the best candidates of the search over all the data."""
    found = results.cv_results
    if not found:
        return []
    key = _score_key(results)
    order = _best_first(found, key)[:N_CANDIDATES_SHOWN]
    return [
        {
            "rank": int(found[f"rank_test_{key}"][i]),
            "score": {
                "mean": found[f"mean_test_{key}"][i],
                "spread": found[f"std_test_{key}"][i],
            },
            "seconds": found["mean_fit_time"][i],
            "samples": found["n_resources"][i] if "n_resources" in found else None,
            "params": readable_params(found["params"][i]),
        }
        for i in order
    ]


def _best_first(found: dict[str, Any], key: str) -> NDArray:
    """Order candidates by rank, those of the last round of a halving first."""
    rounds = np.asarray(found.get("iter", np.zeros(len(found["params"]))))
    return np.lexsort((found[f"rank_test_{key}"], -rounds))


def _score_key(results: Results) -> str:
    """Return the name of ``refit`` in cv_results_: "score" if it is the only scorer."""
    several = f"rank_test_{results.refit}" in results.cv_results
    return results.refit if several else "score"


def _cv_table(results: Results) -> str:
    import pandas as pd

    key = _score_key(results)
    columns = {
        name: [_cell(value) for value in values] if name.startswith("param_") else values
        for name, values in results.cv_results.items()
        if name != "params"
    }
    table = pd.DataFrame(columns).iloc[_best_first(results.cv_results, key)]
    params = [name for name in columns if name.startswith("param_")]
    first = [f"rank_test_{key}", *params, f"mean_test_{key}", f"std_test_{key}"]
    table = table[first + [name for name in columns if name not in first]]
    table = table.rename(columns=safe_cell).map(safe_cell)
    return table.assign(synthetic=bool(results.data["synthetic"])).to_csv(index=False)


def _cell(value: Any) -> str:
    if value is np.ma.masked:
        return ""
    return value if isinstance(value, str) else readable(value)


def _json(results: Results, summary: dict[str, Any]) -> str:
    everything = {
        "format": FORMAT,
        "label": "synthetic data" if summary["synthetic"] else "",
        **summary,
        "data": results.data,
        "scoring": results.scoring,
        "refit": results.refit,
        "best_params": results.best_params,
        "target": results.target,
        "groups": results.groups,
        "folds": [_fold_dict(fold) for fold in results.folds],
        "history": results.history,
        "settings": results.settings,
        "versions": results.versions,
        "command": results.command,
        "seconds": results.seconds,
        "fits": results.fits,
    }
    content = json_value(everything, other=_in_words)
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _fold_dict(fold: Fold) -> dict[str, Any]:
    fields = {name: getattr(fold, name) for name in fold.__dataclass_fields__}
    if fold.probabilities is not None:
        fields["probabilities"] = fold.probabilities.round(4)
    return fields


def _in_words(value: Any) -> str:
    return str(value) if isinstance(value, Path) else readable(value)


def _resolved(results: Results) -> str:
    head = [f"Repeat: {results.command}"] if results.command else []
    head += [f"{name} {version}" for name, version in results.versions.items()]
    comment = "".join(f"# {line}\n" for text in head for line in text.splitlines())
    return comment + _dump_yaml(results.settings)


class _YamlDumper(yaml.SafeDumper):
    """Writes tuples as lists, short lists on one line, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: yaml.SafeDumper, values: Sequence[Any]) -> yaml.Node:
    nested = any(isinstance(value, dict | list | tuple) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=not nested)


_YamlDumper.add_representer(list, _represent_list)
_YamlDumper.add_representer(tuple, _represent_list)


def _dump_yaml(settings: dict[str, Any]) -> str:
    return yaml.dump(settings, Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=200)
    return buffer.getvalue()


def _both_themes(panel: Panel, summary: dict[str, Any]) -> list[str]:
    return [
        base64.b64encode(_png(draw_panels([panel], summary, theme))).decode()
        for theme in (LIGHT, DARK)
    ]


def _write_together(
    folder: Path, files: dict[str, bytes], stale: list[str]
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    # Inside the folder, so that each move stays on one file system and is atomic.
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        for name in files:
            os.replace(Path(temporary) / name, folder / name)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    return {name: folder / name for name in files}
