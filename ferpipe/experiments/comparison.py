"""Two runs on the same samples: whether one is better, or lucky with these samples.

Everything is computed from what ``results.json`` of a report holds: the primary result's
folds with the samples held out and the labels predicted for them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from ferpipe.experiments.metrics import LEVEL, subject_bootstrap
from ferpipe.experiments.report.figures import LIGHT, plain_text
from ferpipe.experiments.report.formatting import SPLIT_NAMES, points
from ferpipe.experiments.report.page import FORMAT

__all__ = [
    "compare_runs",
    "corrected_t_test",
    "draw_comparisons",
    "scored_samples",
    "mcnemar_test",
    "read_run",
]

_NEEDED = ("name", "synthetic", "primary", "data", "target", "groups", "folds")
# bytes of a results.json that are read
_LARGEST = 2**28


def read_run(folder) -> dict[str, Any]:
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
        If the file is no JSON, of another format or incomplete.
    """
    try:
        path = Path(folder).expanduser() / "results.json"
        is_there = path.is_file()
    except (RuntimeError, ValueError) as error:  # ~nobody, a null byte
        raise ValueError(f"{folder}: this is no name of a folder: {error}.") from error
    if not is_there:
        raise FileNotFoundError(
            f"{folder} has no results.json: name the folder that python -m ferpipe.grid "
            "wrote its report to."
        )
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path} is larger than the {_LARGEST:,} bytes that are read.")
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}): run the experiment again."
        ) from error
    found = run.get("format") if isinstance(run, dict) else None
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


def _what_is_wrong(run):
    """Return what is not as a report has it, None if all is."""
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
        return "groups must be null or a list of subjects, one a sample"
    if not isinstance(folds, list):
        return "folds must be a list"
    for number, fold in enumerate(folds):
        wrong = _what_is_wrong_in(fold, len(target))
        if wrong is not None:
            return f"in folds[{number}] {wrong}"
    if not any(fold["split"] == run["primary"] for fold in folds):
        return "it has no fold of its primary"
    return None


def _what_is_wrong_in(fold, n_samples):
    if not isinstance(fold, dict) or not isinstance(fold.get("split"), str):
        return "split must be text"
    if not _is_place(fold.get("n_train"), 2**63) or fold["n_train"] < 1:
        return "n_train must be a number of samples"
    test, predicted = fold.get("test"), fold.get("predicted")
    places = isinstance(test, list) and all(_is_place(one, n_samples) for one in test)
    if not places or not test or len(set(test)) < len(test):
        return f"test must be a list of places from 0 to {n_samples - 1}, each once"
    if not _are_texts(predicted) or len(predicted) != len(test):
        return "predicted must be a list of labels, one for each place in test"
    return None


def _are_texts(values):
    return isinstance(values, list) and all(isinstance(one, str) for one in values)


def _is_place(value, end):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < end


def scored_samples(run: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Collect what the primary result's folds say of each sample.

    Parameters
    ----------
    run : dict
        Content of ``results.json``.

    Returns
    -------
    samples : ndarray of shape (n,), int
        Indices of the samples that were held out, ascending.
    correct : ndarray of shape (n,)
        Share of each sample's predictions that were right.
    n_predictions : ndarray of shape (n,), int
        How often it was held out.
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

    Only samples that one of them has right and the other wrong tell the two apart. If both
    are equally good, each of these n samples falls to either with probability 1/2, so that
    the p-value is ``min(1, 2 P(K <= min(only_first, only_second)))``, K binomial (n, 1/2).

    Parameters
    ----------
    only_first, only_second : int
        Samples that only the first, and only the second, has right.

    Returns
    -------
    p : float
        1 if there is no such sample.

    Notes
    -----
    The test takes samples as independent. Those of one subject are not: the bootstrap over
    subjects allows for that, this test does not. Being exact it errs on the safe side:
    with few such samples p falls below 0.05 in fewer than 5 % of the cases where nothing
    differs.

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
    1 / k alone, as if the folds were independent; but their training parts overlap, which
    makes it find differences where there are none.

    Parameters
    ----------
    differences : sequence of float
        One a fold: score of the second learner minus that of the first; at least 2.
    test_over_train : float
        Samples held out by a fold over samples that it trains on.

    Returns
    -------
    found : (t, p) or None
        Two-sided p-value; None if all differences are equal, where t is not defined.

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
    # Equal differences leave a spread of the order of rounding.
    if np.ptp(values) < 1e-12:
        return None
    t = values.mean() / np.sqrt((1 / k + test_over_train) * values.var(ddof=1))
    return float(t), float(2 * student.sf(abs(t), k - 1))


def compare_runs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Compare the primary results of two runs on the samples that both have evaluated.

    Parameters
    ----------
    first, second : dict
        Contents of ``results.json``, as :func:`read_run` gives them.

    Returns
    -------
    comparison : dict
        Ready for JSON:

        - ``split``; ``n_samples`` and ``n_subjects`` (None if unknown) evaluated by both;
          ``n_first`` and ``n_second``, the samples evaluated by each;
        - ``first``, ``second``: their accuracies on the samples evaluated by both, and
          ``difference``, second minus first;
        - ``interval`` of the difference: ``low``, ``high``, ``level`` and ``method``, which
          is "subject bootstrap", or "sample bootstrap" where subjects are not known; None
          if every sample is evaluated alike or there is only one subject;
        - ``mcnemar``: ``only_first``, ``only_second`` (samples that only one has right) and
          ``p``; None if a sample was held out more than once;
        - ``t_test``: ``n_folds``, ``t`` and ``p`` of the corrected t-test over the folds
          that both have (the same samples held out, equally many to train on); ``t`` and
          ``p`` are None if all folds differ by the same; None if there are fewer than two.

    Raises
    ------
    ValueError
        If the runs are not on the same samples, their primary results are different splits
        or no sample was evaluated by both.

    Notes
    -----
    ``results.json`` has no names of files: that samples are the same is told by the name of
    the loader and by equal labels and subjects in the same order.
    """
    _check_comparable(first, second)
    samples_first, correct_first, times_first = scored_samples(first)
    samples_second, correct_second, times_second = scored_samples(second)
    both, here, there = np.intersect1d(samples_first, samples_second, return_indices=True)
    if not len(both):
        raise ValueError(
            f"{first['name']} and {second['name']} have evaluated no sample in common: "
            "compare runs that hold out the same part of the data."
        )
    correct_first, correct_second = correct_first[here], correct_second[there]
    difference = correct_second - correct_first
    groups = None if first["groups"] is None else np.asarray(first["groups"])[both]
    held_out_once = times_first[here].max() == times_second[there].max() == 1
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
        "mcnemar": _mcnemar(difference) if held_out_once else None,
        "t_test": _t_test(first, second),
    }


def draw_comparisons(
    baseline: str, comparisons: dict[str, dict[str, Any]], *, synthetic: bool = False
):
    """Draw how far runs are above or below one of them, with intervals.

    Parameters
    ----------
    baseline : str
        Name of the run that the others are compared with.
    comparisons : dict of str to dict
        Name of each other run to what :func:`compare_runs` gave with the baseline first.
    synthetic : bool, default=False
        Whether the data is synthetic, which the figure then says.

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
        f"points of accuracy {SPLIT_NAMES[one['split']]} above "
        f"{plain_text(baseline)}, 95 % interval",
        color=LIGHT.muted,
        fontsize=9,
    )
    if synthetic:
        axes.set_title("synthetic data", loc="right", color=LIGHT.muted, fontsize=8)
    return figure


def _primary_folds(run):
    return [fold for fold in run["folds"] if fold["split"] == run["primary"]]


def _check_comparable(first, second):
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


def _interval(difference, groups):
    method = "sample bootstrap" if groups is None else "subject bootstrap"
    units = np.arange(len(difference)) if groups is None else groups
    if np.ptp(difference) == 0 or len(np.unique(units)) < 2:
        return None
    low, high = subject_bootstrap(difference, units)
    return {"low": low, "high": high, "level": LEVEL, "method": method}


def _mcnemar(difference):
    only_first, only_second = int((difference < 0).sum()), int((difference > 0).sum())
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar_test(only_first, only_second),
    }


def _t_test(first, second):
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


def _fold_accuracies(run):
    """Map (samples trained on, indices held out) to the accuracy of a primary fold."""
    target = np.asarray(run["target"])
    return {
        (fold["n_train"], tuple(sorted(fold["test"]))): np.mean(
            target[fold["test"]] == np.asarray(fold["predicted"])
        )
        for fold in _primary_folds(run)
    }
