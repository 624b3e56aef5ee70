"""Comparison of two runs on the same samples, with intervals and tests.

All is computed from ``results.json`` of the reports: the test samples and predicted labels
of the folds of the primary result.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from scipy.stats import t as student

import ferpipe
from ferpipe.experiments.metrics import LEVEL, subject_bootstrap
from ferpipe.experiments.report.figures import LIGHT, plain_text
from ferpipe.experiments.report.formatting import SPLIT_NAMES, points
from ferpipe.experiments.report.page import FORMAT

if TYPE_CHECKING:  # matplotlib is slow to import
    from matplotlib.figure import Figure

__all__ = [
    "compare_runs",
    "corrected_t_test",
    "draw_comparisons",
    "scored_samples",
    "mcnemar_test",
    "read_run",
]

_NEEDED = ("name", "synthetic", "primary", "data", "target", "groups", "folds")
# largest results.json that is read, in bytes
_LARGEST = 2**28


def read_run(folder: str | Path) -> dict[str, Any]:
    """Read ``results.json`` of a report.

    Parameters
    ----------
    folder : str or path
        Folder of the report.

    Returns
    -------
    run : dict
        Its content.

    Raises
    ------
    FileNotFoundError
        If the folder has no ``results.json``.
    ValueError
        If the file is not JSON, has another format or is incomplete.
    """
    try:
        path = Path(folder).expanduser() / "results.json"
        is_there = path.is_file()
    except (RuntimeError, ValueError) as error:  # ~nobody, a null byte
        raise ValueError(f"{folder}: this cannot be a folder: {error}.") from error
    if not is_there:
        raise FileNotFoundError(
            f"{folder} has no results.json: name the folder that python -m ferpipe.grid "
            "wrote its report to."
        )
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} is larger than the limit of {_LARGEST:,} bytes.")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}): run the experiment again."
        ) from error
    found = run.get("format") if isinstance(run, dict) else None
    if found == 1:
        raise ValueError(
            f"{path} has format 1, and this version of ferpipe reads format {FORMAT}. The "
            f"version that wrote it can compare it ({_writer_of(run)}); or run the "
            "experiment again with this version."
        )
    if found != FORMAT:
        raise ValueError(
            f"{path} has the format {found!r}, but this version of ferpipe reads {FORMAT}: "
            "run the experiment again."
        )
    missing = [key for key in _NEEDED if key not in run]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}: run the experiment again.")
    wrong = _what_is_wrong(run)
    if wrong is not None:
        raise ValueError(f"{path} is damaged: {wrong}; run the experiment again.")
    return run


def _writer_of(run: dict[str, Any]) -> str:
    """Name the version of ferpipe that wrote a report of format 1."""
    versions = run.get("versions")
    version = versions.get("ferpipe") if isinstance(versions, dict) else None
    known = isinstance(version, str) and version != ferpipe.__version__
    return f"ferpipe {version}" if known else "ferpipe 0.1.0 before its modules moved"


def _what_is_wrong(run: dict[str, Any]) -> str | None:
    """Return the first entry that is not as a report has it; None without one."""
    if not isinstance(run["name"], str) or not isinstance(run["synthetic"], bool):
        return "name must be text and synthetic true or false"
    if not isinstance(run["primary"], str) or run["primary"] not in SPLIT_NAMES:
        return f"primary must be one of {', '.join(SPLIT_NAMES)}"
    data, target, groups, folds = (run[k] for k in ("data", "target", "groups", "folds"))
    if not isinstance(data, dict) or not isinstance(data.get("loader"), str):
        return "data must be a map that names the loader"
    if not _are_texts(target) or not target:
        return "target must be a list of labels"
    if groups is not None and (not _are_texts(groups) or len(groups) != len(target)):
        return "groups must be null or a list of subjects, one per sample"
    if not isinstance(folds, list):
        return "folds must be a list"
    for number, fold in enumerate(folds):
        wrong = _what_is_wrong_in(fold, len(target))
        if wrong is not None:
            return f"in folds[{number}] {wrong}"
    if not any(fold["split"] == run["primary"] for fold in folds):
        return "it has no fold of its primary result"
    return None


def _what_is_wrong_in(fold: Any, n_samples: int) -> str | None:
    if not isinstance(fold, dict) or not isinstance(fold.get("split"), str):
        return "split must be text"
    if not _is_place(fold.get("n_train"), 2**63) or fold["n_train"] < 1:
        return "n_train must be a number of samples"
    test, predicted = fold.get("test"), fold.get("predicted")
    if (
        not isinstance(test, list)
        or not test
        or not all(_is_place(one, n_samples) for one in test)
        or len(set(test)) < len(test)
    ):
        return f"test must be a list of places from 0 to {n_samples - 1}, each once"
    if (
        not isinstance(predicted, list)
        or not _are_texts(predicted)
        or len(predicted) != len(test)
    ):
        return "predicted must be a list of labels, one for each place in test"
    return None


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)


def _is_place(value: Any, end: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def scored_samples(run: dict[str, Any]) -> tuple[NDArray, NDArray, NDArray]:
    """Collect the predictions of the primary result for each sample.

    Parameters
    ----------
    run : dict
        Content of ``results.json``.

    Returns
    -------
    samples : ndarray of shape (n,), int
        Indices of the test samples, ascending.
    correct : ndarray of shape (n,)
        Share of each sample's predictions that were right.
    n_predictions : ndarray of shape (n,), int
        Number of predictions for each sample.
    """
    folds = _primary_folds(run)
    test = np.concatenate([fold["test"] for fold in folds])
    predicted = np.concatenate([fold["predicted"] for fold in folds])
    right = np.asarray(run["target"])[test] == predicted
    samples, place = np.unique(test, return_inverse=True)
    n_predictions = np.bincount(place)
    return samples, np.bincount(place, weights=right) / n_predictions, n_predictions


def mcnemar_test(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test of two classifiers on the same samples.

    Only the n samples that exactly one of them has right show a difference. If both are
    equally good, each of these is right in either with probability 1/2, so that the p-value
    is ``min(1, 2 P(K <= min(only_first, only_second)))``, K binomial (n, 1/2).

    Parameters
    ----------
    only_first, only_second : int
        Number of samples that only the first, and only the second, has right.

    Returns
    -------
    p : float
        1 if there is no such sample.

    Notes
    -----
    The test assumes independent samples. Samples of one subject are not independent: the
    bootstrap over subjects allows for that, this test does not. As an exact test it is
    conservative: with few such samples, p is below 0.05 in less than 5 % of the cases
    without a difference.

    References
    ----------
    .. [1] Q. McNemar, "Note on the sampling error of the difference between correlated
       proportions or percentages", Psychometrika 12 (1947).
    .. [2] T. G. Dietterich, "Approximate statistical tests for comparing supervised
       classification learning algorithms", Neural Computation 10 (1998), section 3.1.

    Examples
    --------
    >>> print(f"{mcnemar_test(5, 14):.3f}")
    0.064
    """
    n = only_first + only_second
    return float(binomtest(only_first, n).pvalue) if n else 1.0


def corrected_t_test(
    differences: Sequence[float], test_over_train: float
) -> tuple[float, float] | None:
    """Corrected resampled t-test of two learners on the same folds.

    With the k differences d of the folds, their mean m and their variance s² (with k - 1),

        t = m / sqrt((1 / k + n_test / n_train) s²),

    compared with Student's distribution with k - 1 degrees of freedom. The usual test has
    1 / k only, as if the folds were independent; but their training parts overlap, and the
    usual test finds differences too often.

    Parameters
    ----------
    differences : sequence of float
        One per fold: score of the second learner minus that of the first; at least 2.
    test_over_train : float
        Ratio of the numbers of test and training samples of a fold.

    Returns
    -------
    found : (t, p) or None
        Two-sided p-value; None if all differences are equal, for then t is undefined.

    Raises
    ------
    ValueError
        If there are fewer than two folds.

    References
    ----------
    .. [1] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning
       52 (2003): the corrected resampled t-test. It was derived for random splits; for
       the folds of a cross-validation it is the usual approximation.

    Examples
    --------
    >>> t, p = corrected_t_test([0.02, 0.05, -0.01, 0.04, 0.03], 1 / 4)
    >>> print(f"{t:.2f} {p:.3f}")
    1.68 0.168
    """
    values = np.asarray(differences, dtype=float)
    k = len(values)
    if k < 2:
        raise ValueError(f"The corrected t-test needs at least two folds, got {k}.")
    # rounding makes equal differences unequal
    if np.ptp(values) < 1e-12:
        return None
    t = values.mean() / np.sqrt((1 / k + test_over_train) * values.var(ddof=1))
    return float(t), float(2 * student.sf(abs(t), k - 1))


def compare_runs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Compare the primary results of two runs on the samples that both tested.

    Parameters
    ----------
    first, second : dict
        Contents of ``results.json``, as :func:`read_run` returns them.

    Returns
    -------
    comparison : dict
        Ready for JSON:

        - ``split``; ``n_samples`` and ``n_subjects`` (None if unknown) that both tested;
          ``n_first`` and ``n_second``, the number of samples that each tested;
        - ``first``, ``second``: their accuracies on the samples that both tested, and
          ``difference``, second minus first;
        - ``interval`` of the difference: ``low``, ``high``, ``level`` and ``method``, which
          is "subject bootstrap", or "sample bootstrap" if subjects are not known; None if
          the difference is the same for all samples or there is only one subject;
        - ``mcnemar``: ``only_first``, ``only_second`` (samples that only one has right) and
          ``p``; None if a sample was tested more than once;
        - ``t_test``: ``n_folds``, ``t`` and ``p`` of the corrected t-test over the folds
          that both have (the same test samples, and as many training samples); ``t`` and
          ``p`` are None if all folds have the same difference; None with fewer than two
          folds.

    Raises
    ------
    ValueError
        If the runs are on different samples, their primary results are of different splits
        or they tested no sample in common.

    Notes
    -----
    ``results.json`` has no names of files: samples count as the same if the loader has the
    same name, and labels and subjects are equal and in the same order.
    """
    _check_comparable(first, second)
    samples_first, correct_first, times_first = scored_samples(first)
    samples_second, correct_second, times_second = scored_samples(second)
    both, here, there = np.intersect1d(samples_first, samples_second, return_indices=True)
    if not len(both):
        raise ValueError(
            f"{first['name']} and {second['name']} have evaluated no sample in common: "
            "compare runs that test the same part of the data."
        )
    correct_first, correct_second = correct_first[here], correct_second[there]
    difference = correct_second - correct_first
    groups = None if first["groups"] is None else np.asarray(first["groups"])[both]
    tested_once = times_first[here].max() == times_second[there].max() == 1
    return {
        "split": first["primary"],
        "n_samples": len(both),
        "n_subjects": None if groups is None else len(np.unique(groups)),
        "n_first": len(samples_first),
        "n_second": len(samples_second),
        "first": float(correct_first.mean()),
        "second": float(correct_second.mean()),
        "difference": float(difference.mean()),
        "interval": _interval(difference, groups),
        "mcnemar": _mcnemar(difference) if tested_once else None,
        "t_test": _t_test(first, second),
    }


def draw_comparisons(
    baseline: str, comparisons: dict[str, dict[str, Any]], *, synthetic: bool = False
) -> "Figure":
    """Draw the differences of runs to a baseline, with intervals.

    Parameters
    ----------
    baseline : str
        Name of the run that the others are compared with.
    comparisons : dict of str to dict
        Name of each other run to the result of :func:`compare_runs` with the baseline.
    synthetic : bool, default=False
        Whether the data is synthetic; the figure then has a label.

    Returns
    -------
    figure : matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    n = len(comparisons)
    figure = Figure((7.0, 1.3 + 0.36 * n), layout="constrained", facecolor=LIGHT.page)
    axes = figure.add_subplot()
    axes.axvline(0, color=LIGHT.lines[0], linewidth=1.2)
    for row, comparison in enumerate(comparisons.values()):
        if comparison["interval"]:
            ends = [100 * comparison["interval"][end] for end in ("low", "high")]
            axes.plot(ends, [row, row], color=LIGHT.lines[1], linewidth=2)
        place = 100 * comparison["difference"]
        axes.plot(place, row, "o", color=LIGHT.lines[1], markersize=7)
        axes.annotate(
            points(comparison["difference"]),
            (place, row),
            (0, 6),
            textcoords="offset points",
            ha="center",
            color=LIGHT.ink,
            fontsize=9,
            bbox={"facecolor": LIGHT.page, "edgecolor": "none", "pad": 0.5},
        )
    axes.set_yticks(range(n), [plain_text(name) for name in comparisons])
    axes.set_ylim(n - 0.5, -0.7)
    axes.set_facecolor(LIGHT.page)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT.muted)
    axes.tick_params(colors=LIGHT.muted, labelcolor=LIGHT.ink, labelsize=9, length=0)
    axes.grid(axis="x", color=LIGHT.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    one = next(iter(comparisons.values()))
    axes.set_xlabel(
        f"points of {SPLIT_NAMES[one['split']]} accuracy above "
        f"{plain_text(baseline)}, 95 % interval",
        color=LIGHT.muted,
        fontsize=9,
    )
    if synthetic:
        axes.set_title("synthetic data", loc="right", color=LIGHT.muted, fontsize=8)
    return figure


def _primary_folds(run: dict[str, Any]) -> list[dict[str, Any]]:
    return [fold for fold in run["folds"] if fold["split"] == run["primary"]]


def _check_comparable(first: dict[str, Any], second: dict[str, Any]) -> None:
    names = f"{first['name']} and {second['name']}"
    loaders = [run["data"]["loader"] for run in (first, second)]
    if loaders[0] != loaders[1]:
        raise ValueError(
            f"{names} are on different data sets, {loaders[0]} and {loaders[1]}: compare "
            "runs on one data set."
        )
    counts = [len(run["target"]) for run in (first, second)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{names} are on different samples of {loaders[0]}, {counts[0]} and "
            f"{counts[1]}: compare runs with the same classes and parameters of data."
        )
    for key, words in (("target", "labels"), ("groups", "subjects")):
        if first[key] != second[key]:
            raise ValueError(
                f"{names} are on different samples of {loaders[0]}: their {words} differ; "
                "compare runs with the same classes and parameters of data."
            )
    if first["primary"] != second["primary"]:
        splits = [SPLIT_NAMES[run["primary"]] for run in (first, second)]
        raise ValueError(
            f"{names} were evaluated by different splits, {splits[0]} and {splits[1]}: run "
            "both under one protocol."
        )


def _interval(difference: NDArray, groups: NDArray | None) -> dict[str, Any] | None:
    method = "sample bootstrap" if groups is None else "subject bootstrap"
    units = np.arange(len(difference)) if groups is None else groups
    if np.ptp(difference) == 0 or len(np.unique(units)) < 2:
        return None
    low, high = subject_bootstrap(difference, units)
    return {"low": low, "high": high, "level": LEVEL, "method": method}


def _mcnemar(difference: NDArray) -> dict[str, Any]:
    only_first, only_second = int((difference < 0).sum()), int((difference > 0).sum())
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar_test(only_first, only_second),
    }


def _t_test(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any] | None:
    folds_first, folds_second = _fold_accuracies(first), _fold_accuracies(second)
    shared = [fold for fold in folds_first if fold in folds_second]
    if len(shared) < 2:
        return None
    n_test = sum(len(test) for _, test in shared)
    n_train = sum(n for n, _ in shared)
    found = corrected_t_test(
        [folds_second[fold] - folds_first[fold] for fold in shared], n_test / n_train
    )
    t, p = found or (None, None)
    return {"n_folds": len(shared), "t": t, "p": p}


def _fold_accuracies(run: dict[str, Any]) -> dict[tuple[int, tuple[int, ...]], float]:
    """Map (number of training samples, test samples) to the accuracy of each fold."""
    target = np.asarray(run["target"])
    return {
        (fold["n_train"], tuple(sorted(fold["test"]))): float(
            np.mean(target[fold["test"]] == np.asarray(fold["predicted"]))
        )
        for fold in _primary_folds(run)
    }
