"""Numbers of a report: scores with spread and interval, confusion matrix, subject gap.

All functions are pure; ``ferpipe.experiments.report`` makes tables and figures.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ferpipe.experiments.results import Fold, Results

__all__ = [
    "class_scores",
    "reliability",
    "subject_bootstrap",
    "summarize",
    "wilson_interval",
]

# test samples and their predicted labels, fold by fold
_Predictions: TypeAlias = list[tuple[NDArray, NDArray]]

LEVEL = 0.95  # coverage of every interval
_DRAWS_AT_ONCE = 4_000_000


def wilson_interval(
    n_correct: float, n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Wilson score interval of a proportion, for independent samples.

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
    values: NDArray,
    groups: NDArray,
    *,
    level: float = LEVEL,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a mean over samples when whole subjects are resampled.

    Samples of one subject are similar: another study would sample new subjects, not new
    samples of the same subjects.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One value per sample, such as 1 for right and 0 for wrong.
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
    The counts of the subjects in a resample follow a multinomial distribution. A resampled
    mean is a ratio of two products with these counts, so no sample is copied.
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


def class_scores(
    target: ArrayLike, predicted: ArrayLike, classes: Sequence[str]
) -> dict[str, NDArray]:
    """Precision, recall, F1 and support of each class.

    Parameters
    ----------
    target, predicted : array-like of shape (n,)
        True and predicted labels.
    classes : sequence of str
        Class names.

    Returns
    -------
    scores : dict of str to ndarray of shape (n_classes,)
        ``precision``, ``recall``, ``f1`` and ``support``. A ratio without cases (the
        precision of a class that is never predicted) is NaN.
    """
    names = ("precision", "recall", "f1", "support")
    values = precision_recall_fscore_support(
        target, predicted, labels=list(classes), zero_division=np.nan
    )
    return dict(zip(names, values, strict=True))


def reliability(
    confidence: NDArray, correct: NDArray, *, n_bins: int = 15
) -> dict[str, Any]:
    """Compare the confidence of a model with its accuracy.

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Probability of the predicted class, in [0, 1].
    correct : ndarray of shape (n,), bool
        Whether the predicted class is the true one.
    n_bins : int, default=15
        Number of equal parts of [0, 1].

    Returns
    -------
    found : dict
        ``error``: the expected calibration error, the mean over the samples of the absolute
        difference between confidence and accuracy of their bin; ``bins``: ``n``, mean
        ``confidence`` and ``accuracy`` of each bin that is not empty.

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
    """Summarize the scores of a run for the report, ready for JSON.

    Parameters
    ----------
    results : Results
        Results of a run.

    Returns
    -------
    summary : dict
        - ``name``, ``synthetic``, ``primary`` (split of the primary result),
          ``primary_scores`` (scorer to mean), ``protocol`` (in words), ``leak``
          (in words, or None), ``notes`` (in words), ``seeds``, ``search`` (candidates, in
          words, or None), ``classes``, ``n_samples``, ``n_subjects`` (None if unknown);
        - ``commonest``: the most frequent ``label`` and its ``share``, which is the
          accuracy of always predicting it;
        - ``class_counts``: class to ``samples`` and ``subjects``;
        - ``splits``: for each split ``n_folds``, ``n_tested``, ``accuracy``
          (``mean``, ``spread``, ``pooled``, ``interval``), ``macro_f1``, ``confusion``
          (counts, rows are true classes), ``per_class`` (class to ``precision``,
          ``recall``, ``f1``, ``support``); ``folds`` (``number``, ``seed``, ``n_train``,
          ``n_test``, ``n_subjects``, ``accuracy``); ``scores`` (scorer to ``mean`` and
          ``spread``); ``seeds`` (scorer to ``mean`` and ``spread`` of the means of the
          seeds, and these means as ``values``; None with one seed); ``calibration``
          (``error`` and ``bins`` as :func:`reliability` returns them, and
          ``error_unscaled``, the error without the model's temperature; None if the model
          gives no probabilities); ``beside`` (part of the test samples to ``n_tested``,
          ``accuracy`` and ``interval``); ``steps``: step name to the first six of these
          for the step's own predictions;
        - ``gap``: stratified minus subject-independent: ``scores`` (scorer to difference of
          the means), ``accuracy`` (difference of the pooled accuracies), its ``interval``;
          None if a split is missing or both test less than two subjects in common;
        - ``learning_curve``: ``n_train``, and ``mean`` and ``spread`` of ``train`` and
          ``test``; None if there is none.

        Undefined values (the spread of one fold) are None.

    Notes
    -----
    ``spread`` is the standard deviation over the folds of all seeds (with n - 1).
    ``n_folds`` counts the folds of one seed, ``confusion`` the test samples of all seeds.
    ``pooled`` is the accuracy over all test samples together; a sample that several folds
    test counts once, with the share of its right predictions. The interval belongs to the
    pooled accuracy: it resamples subjects if they are known, and is Wilson's otherwise. If
    all predictions are right, or all are wrong, resampling shows no variation, and the
    interval is Wilson's with the subjects as trials. Macro-F1 is the mean over the classes
    that occur in the labels or the predictions.
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
        folds = f"{n_folds} subject-independent folds, no subject on both sides"
    elif results.primary == "sequence_independent":
        folds = f"{n_folds} sequence-independent folds, no sequence on both sides"
    else:
        folds = f"{n_folds} folds that ignore subjects"
    n_seeds = len({fold.seed for fold in results.folds})
    if n_seeds > 1:
        folds += f"; repeated with {n_seeds} seeds"
    if not results.cv_results:
        return f"{folds}; no search"
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
        # a search may leave a step out of some folds
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
    """Summarize, for each scorer, the mean over the folds of each seed."""
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
    true = np.concatenate([results.target[test] for test, _ in predictions])
    predicted = np.concatenate([labels for _, labels in predictions])
    confusion = confusion_matrix(true, predicted, labels=list(results.classes))
    scores = class_scores(true, predicted, results.classes)
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


def _part_summary(results: Results, folds: list[Fold], part: NDArray) -> dict[str, Any]:
    """Summarize the predictions of a part of the test samples."""
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


def _pooled(results: Results, predictions: _Predictions) -> tuple[NDArray, NDArray]:
    """Return the test samples and, for each, the share of right predictions."""
    test = np.concatenate([test for test, _ in predictions])
    right = results.target[test] == np.concatenate([labels for _, labels in predictions])
    tested, sample = np.unique(test, return_inverse=True)
    return tested, np.bincount(sample, weights=right) / np.bincount(sample)


def _accuracy_interval(
    results: Results, tested: NDArray, correct: NDArray
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
    stratified, independent = splits["stratified"], splits["subject_independent"]
    tested, correct = _pooled(results, [(fold.test, fold.predicted) for fold in stratified])
    tested_too, correct_too = _pooled(
        results, [(fold.test, fold.predicted) for fold in independent]
    )
    # a paired difference on the same samples has a narrower interval
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
                np.mean([fold.scores[scorer] for fold in stratified])
                - np.mean([fold.scores[scorer] for fold in independent])
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


def _n_subjects(groups: NDArray | None) -> int | None:
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
