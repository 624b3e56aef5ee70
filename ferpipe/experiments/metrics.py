"""Results to numbers: scores with spread and interval, confusion, the subject gap.

Everything here is a pure function; tables and figures are made in report.py.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import norm
from sklearn.metrics import confusion_matrix

from ferpipe.experiments.results import Fold, Results

__all__ = [
    "class_scores",
    "reliability",
    "subject_bootstrap",
    "summarize",
    "wilson_interval",
]

# Indices held out and the labels predicted for them, fold by fold.
_Predictions: TypeAlias = list[tuple[np.ndarray, np.ndarray]]

LEVEL = 0.95  # coverage of every interval
_DRAWS_AT_ONCE = 4_000_000


def wilson_interval(
    n_correct: float, n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Score interval of a proportion, for samples that do not depend on each other.

    Parameters
    ----------
    n_correct : float
        Number of successes, 0 to ``n``.
    n : int
        Number of trials, at least 1.
    level : float, default=0.95
        Coverage, between 0 and 1.

    Returns
    -------
    low, high : float
        Bounds, each in [0, 1].

    Raises
    ------
    ValueError
        If ``n`` is less than 1 or ``n_correct`` is not in [0, n].

    References
    ----------
    .. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical
       inference", Journal of the American Statistical Association 22 (1927).

    Examples
    --------
    >>> low, high = wilson_interval(85, 100)
    >>> print(f"{low:.3f} {high:.3f}")
    0.767 0.907
    """
    if n < 1 or not 0 <= n_correct <= n:
        raise ValueError(
            f"An interval needs n >= 1 and 0 <= n_correct <= n, got n_correct={n_correct} "
            f"and n={n}."
        )
    z = norm.ppf(0.5 + level / 2)
    share = n_correct / n
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half_width = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return max(0.0, float(center - half_width)), min(1.0, float(center + half_width))


def subject_bootstrap(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    level: float = LEVEL,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a mean over samples when whole subjects are resampled.

    Samples of one subject are alike, so that the subject, not the sample, is the unit
    that another study would draw anew.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One value a sample, such as 1 for right and 0 for wrong.
    groups : ndarray of shape (n,)
        Subject of each sample.
    level : float, default=0.95
        Coverage, between 0 and 1.
    n_resamples : int, default=10_000
        Number of bootstrap samples.
    seed : int, default=0
        Seed of the resampling.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If there are fewer than two subjects.

    Notes
    -----
    How often each subject is drawn follows a multinomial distribution, so that a
    resampled mean is a ratio of two products with the counts: no sample is copied.
    """
    names, subject = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"Resampling needs at least two subjects, got {len(names)}.")
    sums = np.bincount(subject, weights=values)
    sizes = np.bincount(subject)
    rng = np.random.default_rng(seed)
    equal_chance = np.full(len(names), 1 / len(names))
    at_once = max(1, _DRAWS_AT_ONCE // len(names))
    means = np.empty(n_resamples)
    for start in range(0, n_resamples, at_once):
        stop = min(start + at_once, n_resamples)
        counts = rng.multinomial(len(names), equal_chance, size=stop - start)
        means[start:stop] = (counts @ sums) / (counts @ sizes)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of each class.

    Parameters
    ----------
    confusion : ndarray of shape (n_classes, n_classes)
        Counts; rows are true classes, columns are predicted ones.

    Returns
    -------
    scores : dict of str to ndarray of shape (n_classes,)
        ``precision``, ``recall``, ``f1`` and ``support``. A ratio without cases (the
        precision of a class that is never predicted) is NaN.
    """
    confusion = np.asarray(confusion)
    hits = np.diag(confusion)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


def reliability(
    confidence: np.ndarray, correct: np.ndarray, *, n_bins: int = 15
) -> dict[str, Any]:
    """Compare how sure a model is with how often it is right.

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Probability of the class that was answered, in [0, 1].
    correct : ndarray of shape (n,), bool
        Whether it was the true one.
    n_bins : int, default=15
        Equal parts of [0, 1].

    Returns
    -------
    found : dict
        ``error``: the expected calibration error, the mean over the samples of the
        difference between confidence and accuracy of their bin; ``bins``: for each that
        is not empty ``n``, mean ``confidence`` and ``accuracy``.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, eq. (3). Bins are open below and closed above, as there.

    Examples
    --------
    >>> import numpy as np
    >>> print(f"{reliability(np.full(4, 0.9), np.array([1, 1, 0, 1]))['error']:.2f}")
    0.15
    """
    number = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    counts = np.bincount(number, minlength=n_bins)
    sure = np.bincount(number, confidence, n_bins)
    right = np.bincount(number, correct, n_bins)
    return {
        "error": float(np.abs(sure - right).sum() / len(confidence)),
        "bins": [
            {
                "n": int(counts[i]),
                "confidence": float(sure[i] / counts[i]),
                "accuracy": float(right[i] / counts[i]),
            }
            for i in np.flatnonzero(counts)
        ],
    }


def summarize(results: Results) -> dict[str, Any]:
    """Everything that a report says about the scores, ready for JSON.

    Parameters
    ----------
    results : Results
        What a run found out.

    Returns
    -------
    summary : dict
        - ``name``, ``synthetic``, ``primary`` (split that stands first),
          ``primary_scores`` (scorer to mean), ``protocol`` (in words), ``leak``
          (in words, or None), ``notes`` (in words), ``seeds``, ``search`` (what was tried,
          in words, or None), ``classes``, ``n_samples``, ``n_subjects`` (None if unknown);
        - ``commonest``: the commonest ``label`` and its ``share``, which is the accuracy
          of always answering it;
        - ``class_counts``: class to ``samples`` and ``subjects``;
        - ``splits``: for each split that was run ``n_folds``, ``n_tested``, ``accuracy``
          (``mean``, ``spread``, ``pooled``, ``interval``), ``macro_f1``, ``confusion``
          (counts, rows are true classes), ``per_class`` (class to ``precision``,
          ``recall``, ``f1``, ``support``); ``folds`` (``number``, ``seed``, ``n_train``,
          ``n_test``, ``n_subjects``, ``accuracy``); ``scores`` (scorer to ``mean`` and
          ``spread``); ``seeds`` (scorer to ``mean`` and ``spread`` of the means that each
          seed has, and those as ``values``; None with one seed); ``calibration``
          (``error`` and ``bins`` as :func:`reliability` gives them, and
          ``error_unscaled``, the error without the model's temperature; None if the model
          gives no probabilities); ``beside`` (part of the tested samples to ``n_tested``,
          ``accuracy`` and ``interval``); ``steps``: step name to the first six of these
          for the step's own predictions;
        - ``gap``: stratified minus by subject: ``scores`` (scorer to difference of the
        means),
          ``accuracy`` (difference of the pooled accuracies), its ``interval``; None
          if either split was not run or they test no two subjects in common;
        - ``learning_curve``: ``n_train``, and ``mean`` and ``spread`` of ``train`` and
          ``test``; None if there is none.

        What is not defined (the spread of one fold) is None.

    Notes
    -----
    ``spread`` is the standard deviation over folds (with n - 1), those of all seeds
    together. ``n_folds`` counts those of one seed, ``confusion`` the samples of all.
    ``pooled`` is taken over all held-out samples together; a sample that several folds
    hold out counts once, with the share of its predictions that were right. The interval
    belongs to the pooled accuracy: subjects are resampled when they are known; otherwise
    it is Wilson's. Where everything is right or everything is wrong, resampling has
    nothing to vary, and Wilson's interval is taken with the subjects as trials. Macro-F1
    is the mean over the classes that were seen or predicted.
    """
    splits: dict[str, list[Fold]] = {}
    for fold in results.folds:
        splits.setdefault(fold.split, []).append(fold)
    summaries = {name: _split_summary(results, splits[name]) for name in splits}
    primary = summaries[results.primary]
    return {
        "name": results.name,
        "synthetic": bool(results.data["synthetic"]),
        "primary": results.primary,
        "primary_scores": {
            scorer: score["mean"] for scorer, score in primary["scores"].items()
        },
        "protocol": _protocol(results, primary["n_folds"]),
        "leak": results.leak,
        "notes": list(results.notes),
        "seeds": sorted({fold.seed for fold in results.folds}),
        "search": results.search,
        "classes": list(results.classes),
        "n_samples": len(results.target),
        "n_subjects": _n_subjects(results.groups),
        "commonest": _commonest(results),
        "class_counts": _class_counts(results),
        "splits": summaries,
        "gap": _gap(results, splits),
        "learning_curve": _learning_curve(results.learning_curve),
    }


def _protocol(results: Results, n_folds: int) -> str:
    if results.protocol is not None:
        folds = results.protocol
    elif results.primary == "subject_independent":
        folds = f"{n_folds} folds by subject, no subject on both sides"
    elif results.primary == "sequence_independent":
        folds = f"{n_folds} folds by sequence, no sequence on both sides"
    else:
        folds = f"{n_folds} folds that do not look at subjects"
    n_seeds = len({fold.seed for fold in results.folds})
    if n_seeds > 1:
        folds += f"; repeated with {n_seeds} seeds"
    if not results.cv_results:
        return f"{folds}; nothing was searched"
    return f"{folds}; parameters chosen by {results.refit} inside each training part"


def _split_summary(results: Results, folds: list[Fold]) -> dict[str, Any]:
    steps = sorted({step for fold in folds for step in fold.step_predictions})
    return {
        **_predictions_summary(results, [(fold.test, fold.predicted) for fold in folds]),
        "n_folds": sum(fold.seed == folds[0].seed for fold in folds),
        "folds": [_fold_summary(results, fold) for fold in folds],
        "scores": {
            scorer: _mean_and_spread([fold.scores[scorer] for fold in folds])
            for scorer in results.scoring
        },
        "seeds": _by_seed(results, folds),
        "calibration": _calibration(results, folds),
        "beside": {
            name: _part_summary(results, folds, part)
            for name, part in results.beside.items()
        },
        # A search over a step may leave it out of some folds.
        "steps": {
            step: _predictions_summary(
                results,
                [
                    (fold.test, fold.step_predictions[step])
                    for fold in folds
                    if step in fold.step_predictions
                ],
            )
            for step in steps
        },
    }


def _by_seed(results: Results, folds: list[Fold]) -> dict[str, Any] | None:
    """Summarize, for each scorer, the means over the folds that each seed has."""
    seeds = sorted({fold.seed for fold in folds})
    if len(seeds) == 1:
        return None
    summary = {}
    for scorer in results.scoring:
        values = [
            float(np.mean([fold.scores[scorer] for fold in folds if fold.seed == seed]))
            for seed in seeds
        ]
        summary[scorer] = {**_mean_and_spread(values), "values": values}
    return summary


def _predictions_summary(results: Results, predictions: _Predictions) -> dict[str, Any]:
    """Summarize the predictions of one model over the folds of one split."""
    tested, correct = _pooled(results, predictions)
    confusion = confusion_matrix(
        np.concatenate([results.target[test] for test, _ in predictions]),
        np.concatenate([predicted for _, predicted in predictions]),
        labels=list(results.classes),
    )
    scores = class_scores(confusion)
    return {
        "n_folds": len(predictions),
        "n_tested": len(tested),
        "accuracy": {
            **_mean_and_spread(
                [np.mean(results.target[test] == labels) for test, labels in predictions]
            ),
            "pooled": float(correct.mean()),
            "interval": _accuracy_interval(results, tested, correct),
        },
        "macro_f1": float(np.nanmean(scores["f1"])),
        "confusion": confusion.tolist(),
        "per_class": {
            name: {
                "precision": _defined(scores["precision"][i]),
                "recall": _defined(scores["recall"][i]),
                "f1": _defined(scores["f1"][i]),
                "support": int(scores["support"][i]),
            }
            for i, name in enumerate(results.classes)
        },
    }


def _calibration(results: Results, folds: list[Fold]) -> dict[str, Any] | None:
    probabilities = [fold.probabilities for fold in folds if fold.probabilities is not None]
    if len(probabilities) < len(folds):
        return None
    correct = np.concatenate(
        [results.target[fold.test] == fold.predicted for fold in folds]
    )
    scaled, unscaled = [], []
    for fold, shares in zip(folds, probabilities, strict=True):
        scaled.append(shares.max(axis=1))
        powers = shares**fold.temperature
        unscaled.append(powers.max(axis=1) / powers.sum(axis=1))
    found = reliability(np.concatenate(scaled), correct)
    before = reliability(np.concatenate(unscaled), correct)
    return {**found, "error_unscaled": before["error"]}


def _part_summary(results: Results, folds: list[Fold], part: np.ndarray) -> dict[str, Any]:
    """Summarize the predictions of some of the tested samples."""
    tested, correct = _pooled(
        results,
        [(fold.test[part[fold.test]], fold.predicted[part[fold.test]]) for fold in folds],
    )
    return {
        "n_tested": len(tested),
        "accuracy": float(correct.mean()),
        "interval": _accuracy_interval(results, tested, correct),
    }


def _fold_summary(results: Results, fold: Fold) -> dict[str, Any]:
    groups = None if results.groups is None else results.groups[fold.test]
    return {
        "number": fold.number,
        "seed": fold.seed,
        "n_train": fold.n_train,
        "n_test": len(fold.test),
        "n_subjects": _n_subjects(groups),
        "accuracy": float(np.mean(results.target[fold.test] == fold.predicted)),
    }


def _pooled(results: Results, predictions: _Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return the samples held out and, for each, the share of right predictions."""
    test = np.concatenate([test for test, _ in predictions])
    right = results.target[test] == np.concatenate([labels for _, labels in predictions])
    tested, sample = np.unique(test, return_inverse=True)
    return tested, np.bincount(sample, weights=right) / np.bincount(sample)


def _accuracy_interval(
    results: Results, tested: np.ndarray, correct: np.ndarray
) -> dict[str, Any]:
    unit = "subject" if results.sequences is None else "sequence"
    groups = results.groups if results.sequences is None else results.sequences
    groups = None if groups is None else np.asarray(groups)[tested]
    n_groups = 0 if groups is None else len(np.unique(groups))
    if groups is None or n_groups == 1:
        low, high = wilson_interval(correct.sum(), len(correct))
        method = "wilson"
    elif correct.min() == correct.max():
        low, high = wilson_interval(correct[0] * n_groups, n_groups)
        method = f"wilson over {unit}s"
    else:
        low, high = subject_bootstrap(correct, groups)
        method = f"{unit} bootstrap"
    return {"low": low, "high": high, "level": LEVEL, "method": method}


def _gap(results: Results, splits: dict[str, list[Fold]]) -> dict[str, Any] | None:
    if results.groups is None or not {"stratified", "subject_independent"} <= set(splits):
        return None
    plain, subject_independent = splits["stratified"], splits["subject_independent"]
    tested, correct = _pooled(results, [(fold.test, fold.predicted) for fold in plain])
    tested_too, correct_too = _pooled(
        results, [(fold.test, fold.predicted) for fold in subject_independent]
    )
    # The same samples on both sides: the difference is paired, which narrows its interval.
    both, here, there = np.intersect1d(tested, tested_too, return_indices=True)
    if len(np.unique(results.groups[both])) < 2:
        return None
    difference = correct[here] - correct_too[there]
    low, high = subject_bootstrap(difference, results.groups[both])
    return {
        "accuracy": float(difference.mean()),
        "interval": {
            "low": low,
            "high": high,
            "level": LEVEL,
            "method": "subject bootstrap",
        },
        "scores": {
            scorer: _defined(
                np.mean([fold.scores[scorer] for fold in plain])
                - np.mean([fold.scores[scorer] for fold in subject_independent])
            )
            for scorer in results.scoring
        },
    }


def _commonest(results: Results) -> dict[str, Any]:
    counts = [int(np.sum(results.target == name)) for name in results.classes]
    return {
        "label": results.classes[int(np.argmax(counts))],
        "share": max(counts) / len(results.target),
    }


def _class_counts(results: Results) -> dict[str, Any]:
    counts = {}
    for name in results.classes:
        members = results.target == name
        groups = None if results.groups is None else results.groups[members]
        counts[name] = {"samples": int(members.sum()), "subjects": _n_subjects(groups)}
    return counts


def _n_subjects(groups: np.ndarray | None) -> int | None:
    return None if groups is None else len(np.unique(groups))


def _learning_curve(curve: dict[str, Any] | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    summary: dict[str, Any] = {"n_train": [int(n) for n in curve["n_train"]]}
    for part in ("train", "test"):
        by_size = [_mean_and_spread(scores) for scores in curve[part]]
        summary[part] = {
            "mean": [size["mean"] for size in by_size],
            "spread": [size["spread"] for size in by_size],
        }
    return summary


def _mean_and_spread(values: Sequence[float]) -> dict[str, float | None]:
    spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return {"mean": _defined(np.mean(values)), "spread": _defined(spread)}


def _defined(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    ratio = np.full(len(numerator), np.nan)
    return np.divide(numerator, denominator, out=ratio, where=denominator > 0)
