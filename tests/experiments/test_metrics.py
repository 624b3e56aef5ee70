import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
)

from ferpipe.experiments.metrics import (
    class_scores,
    subject_bootstrap,
    summarize,
    wilson_interval,
)
from ferpipe.experiments.results import Fold, Results

CLASSES = ("anger", "fear", "happiness")


def make_fold(split, number, test, predicted, scores=None, steps=None):
    return Fold(
        split=split,
        number=number,
        test=np.asarray(test),
        predicted=np.asarray(predicted),
        scores=scores or {"f1_macro": 0.5},
        best_params={},
        step_predictions=steps or {},
        n_train=10,
        seconds=1.0,
    )


def make_results(target, folds, *, groups=None, primary="stratified", **changes):
    results = Results(
        name="toy",
        data={"synthetic": False},
        target=np.asarray(target),
        groups=groups,
        classes=CLASSES,
        primary=primary,
        folds=tuple(folds),
        scoring=("f1_macro",),
        refit="f1_macro",
        best_params={},
        cv_results={},
        model=None,
        settings={},
    )
    return replace(results, **changes)


def noisy(target, share_wrong, seed):
    """Labels of which about that share is drawn anew."""
    rng = np.random.default_rng(seed)
    redrawn = rng.random(len(target)) < share_wrong
    return np.where(redrawn, rng.choice(CLASSES, len(target)), target)


@pytest.fixture
def grouped():
    """60 samples of 12 subjects; both splits, 3 folds each; one step that classifies."""
    target = np.array(CLASSES * 20)
    groups = np.repeat([f"s{i:02d}" for i in range(12)], 5)
    folds = []
    for split, share_wrong in (("subject_independent", 0.5), ("stratified", 0.2)):
        predicted = noisy(target, share_wrong, seed=1)
        step = noisy(target, 0.3, seed=2)
        for number in range(3):
            test = np.arange(20 * number, 20 * number + 20)
            scores = {"f1_macro": 0.1 * (number + 1) + (split == "stratified") * 0.2}
            fold = make_fold(
                split, number, test, predicted[test], scores, {"net": step[test]}
            )
            folds.append(fold)
    return make_results(target, folds, groups=groups, primary="subject_independent")


@pytest.mark.parametrize(("n_correct", "n"), [(0, 7), (7, 7), (3, 10), (278, 327)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_interval_equals_scipy(n_correct, n, level):
    expected = stats.binomtest(n_correct, n).proportion_ci(level, method="wilson")
    assert wilson_interval(n_correct, n, level=level) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("n_correct", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_impossible_counts(n_correct, n):
    with pytest.raises(ValueError, match="0 <= n_correct <= n"):
        wilson_interval(n_correct, n)


def test_bootstrap_of_single_samples_is_binomial():
    # One sample a subject: the number of right ones in a resample is binomial.
    right = np.array([1] * 70 + [0] * 30)
    interval = subject_bootstrap(right, np.arange(100), n_resamples=40_000)
    expected = stats.binom.ppf([0.025, 0.975], 100, 0.7) / 100
    assert interval == pytest.approx(expected, abs=0.011)


def test_bootstrap_equals_scipy_on_subjects_of_unequal_size():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(25), rng.integers(1, 12, 25))
    values = (rng.random(len(groups)) < rng.random(25)[groups]).astype(float)
    sums, sizes = np.bincount(groups, values), np.bincount(groups)
    expected = stats.bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=40_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    interval = subject_bootstrap(values, groups, n_resamples=40_000)
    assert interval == pytest.approx(tuple(expected), abs=0.006)


def test_bootstrap_widens_when_samples_of_a_subject_agree():
    right = np.tile([1, 1, 1, 0], 50)
    alike = np.sort(right)
    groups = np.repeat(np.arange(50), 4)
    low, high = subject_bootstrap(alike, groups)
    assert subject_bootstrap(right, groups) == (0.75, 0.75)
    assert high - low > 0.2


def test_bootstrap_is_repeatable_and_does_not_depend_on_its_pieces(monkeypatch):
    rng = np.random.default_rng(0)
    values, groups = rng.random(90), np.repeat(np.arange(30), 3)
    whole = subject_bootstrap(values, groups)
    assert subject_bootstrap(values, groups) == whole
    assert subject_bootstrap(values, groups, seed=1) != whole
    monkeypatch.setattr("ferpipe.experiments.metrics._DRAWS_AT_ONCE", 1000)
    assert subject_bootstrap(values, groups) == whole


def test_bootstrap_needs_two_subjects():
    with pytest.raises(ValueError, match="at least two subjects, got 1"):
        subject_bootstrap(np.ones(3), np.zeros(3))


def test_class_scores_are_shares_of_the_confusion_matrix():
    target = np.array(CLASSES * 30)
    predicted = noisy(target, 0.5, seed=0)
    scores = class_scores(target, predicted, CLASSES)
    confusion = confusion_matrix(target, predicted, labels=CLASSES)
    hits, support = np.diag(confusion), confusion.sum(axis=1)
    np.testing.assert_array_equal(scores["precision"], hits / confusion.sum(axis=0))
    np.testing.assert_array_equal(scores["recall"], hits / support)
    np.testing.assert_array_equal(scores["support"], support)
    together = support + confusion.sum(axis=0)
    np.testing.assert_array_equal(scores["f1"], 2 * hits / together)


def test_class_scores_without_cases_are_not_a_number():
    scores = class_scores(["a", "a", "b"], ["a", "a", "a"], "abc")
    np.testing.assert_allclose(scores["precision"], [2 / 3, np.nan, np.nan])
    np.testing.assert_allclose(scores["recall"], [1, 0, np.nan])
    np.testing.assert_allclose(scores["f1"], [0.8, 0, np.nan])


def test_summary_pools_folds(grouped):
    split = summarize(grouped)["splits"]["subject_independent"]
    predicted = noisy(grouped.target, 0.5, seed=1)
    assert split["n_folds"] == 3
    assert split["n_tested"] == 60
    assert split["confusion"] == confusion_matrix(grouped.target, predicted).tolist()
    assert split["macro_f1"] == pytest.approx(
        f1_score(grouped.target, predicted, average="macro")
    )
    assert split["accuracy"]["pooled"] == pytest.approx(
        np.mean(predicted == grouped.target)
    )
    right = (predicted == grouped.target).reshape(3, 20).mean(axis=1)
    assert split["accuracy"]["mean"] == pytest.approx(right.mean())
    assert split["accuracy"]["spread"] == pytest.approx(right.std(ddof=1))
    assert [fold["accuracy"] for fold in split["folds"]] == pytest.approx(right)
    assert [fold["n_subjects"] for fold in split["folds"]] == [4, 4, 4]
    assert split["scores"]["f1_macro"] == pytest.approx({"mean": 0.2, "spread": 0.1})


def test_macro_f1_leaves_out_classes_neither_seen_nor_predicted():
    target = ["anger", "anger", "fear", "fear"]
    predicted = ["anger", "fear", "fear", "fear"]
    results = make_results(target, [make_fold("stratified", 0, range(4), predicted)])
    expected = f1_score(target, predicted, average="macro")
    assert summarize(results)["splits"]["stratified"]["macro_f1"] == pytest.approx(expected)


def test_interval_is_resampled_over_subjects(grouped):
    interval = summarize(grouped)["splits"]["subject_independent"]["accuracy"]["interval"]
    right = noisy(grouped.target, 0.5, seed=1) == grouped.target
    low, high = subject_bootstrap(right, grouped.groups)
    assert interval == {
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "subject bootstrap",
    }


def test_interval_without_groups_is_wilson(grouped):
    folds = [fold for fold in grouped.folds if fold.split == "stratified"]
    summary = summarize(replace(grouped, groups=None, primary="stratified", folds=folds))
    accuracy = summary["splits"]["stratified"]["accuracy"]
    low, high = wilson_interval(round(accuracy["pooled"] * 60), 60)
    assert accuracy["interval"]["method"] == "wilson"
    assert (accuracy["interval"]["low"], accuracy["interval"]["high"]) == (low, high)
    assert summary["n_subjects"] is None
    assert summary["gap"] is None


def test_interval_of_a_perfect_score_still_has_a_width():
    target = list(CLASSES) * 4
    groups = np.repeat(["a", "b", "c", "d"], 3)
    fold = make_fold("subject_independent", 0, range(12), target)
    results = make_results(target, [fold], groups=groups, primary="subject_independent")
    interval = summarize(results)["splits"]["subject_independent"]["accuracy"]["interval"]
    assert interval["method"] == "wilson over subjects"
    assert (interval["low"], interval["high"]) == wilson_interval(4, 4)


def test_sample_held_out_twice_counts_once():
    target = ["anger", "fear", "happiness", "anger"]
    folds = [
        make_fold("stratified", 0, [0, 1, 2, 3], target),
        make_fold("stratified", 1, [0, 1], ["fear", "fear"]),
    ]
    split = summarize(make_results(target, folds))["splits"]["stratified"]
    assert split["n_tested"] == 4
    assert split["accuracy"]["pooled"] == pytest.approx(3.5 / 4)
    interval = split["accuracy"]["interval"]
    assert (interval["low"], interval["high"]) == wilson_interval(3.5, 4)


def test_gap_is_paired_plain_minus_by_subject(grouped):
    gap = summarize(grouped)["gap"]
    plain = noisy(grouped.target, 0.2, seed=1) == grouped.target
    subject_independent = noisy(grouped.target, 0.5, seed=1) == grouped.target
    difference = plain.astype(float) - subject_independent
    assert gap["accuracy"] == pytest.approx(difference.mean())
    low, high = subject_bootstrap(difference, grouped.groups)
    assert (gap["interval"]["low"], gap["interval"]["high"]) == (low, high)
    assert gap["scores"] == pytest.approx({"f1_macro": 0.2})


def test_step_predictions_are_summarized_beside_the_pipeline(grouped):
    step = summarize(grouped)["splits"]["subject_independent"]["steps"]["net"]
    right = noisy(grouped.target, 0.3, seed=2) == grouped.target
    assert step["accuracy"]["pooled"] == pytest.approx(right.mean())
    assert step["n_folds"] == 3


def test_step_that_some_folds_left_out_is_taken_from_the_others(grouped):
    first, *others = grouped.folds
    results = replace(grouped, folds=(replace(first, step_predictions={}), *others))
    step = summarize(results)["splits"]["subject_independent"]["steps"]["net"]
    assert (step["n_folds"], step["n_tested"]) == (2, 40)


def test_counts_and_the_commonest_class():
    target = ["fear", "fear", "anger", "fear"]
    groups = np.array(["a", "a", "a", "b"])
    fold = make_fold("subject_independent", 0, range(4), target)
    summary = summarize(
        make_results(target, [fold], groups=groups, primary="subject_independent")
    )
    assert summary["commonest"] == {"label": "fear", "share": 0.75}
    assert summary["class_counts"] == {
        "anger": {"samples": 1, "subjects": 1},
        "fear": {"samples": 3, "subjects": 2},
        "happiness": {"samples": 0, "subjects": 0},
    }


def test_protocol_and_primary_scores(grouped):
    summary = summarize(grouped)
    assert summary["protocol"].startswith(
        "3 subject-independent folds, no subject on both sides"
    )
    assert "no search" in summary["protocol"]
    assert summary["primary_scores"] == pytest.approx({"f1_macro": 0.2})
    searched = summarize(replace(grouped, cv_results={"params": [{}]}))
    assert "chosen by f1_macro inside each training part" in searched["protocol"]


def test_learning_curve_is_averaged_by_size(grouped):
    curve = {
        "n_train": [10, 20],
        "train": [[1, 1], [0.9, 1]],
        "test": [[0.4, 0.6], [0.7, 0.7]],
    }
    summary = summarize(replace(grouped, learning_curve=curve))["learning_curve"]
    assert summary["n_train"] == [10, 20]
    assert summary["train"]["mean"] == pytest.approx([1, 0.95])
    assert summary["test"]["spread"] == pytest.approx([np.sqrt(0.02), 0])


def test_undefined_numbers_are_none_and_the_summary_is_strict_json():
    target = ["anger", "fear"]
    fold = make_fold("stratified", 0, [0, 1], ["anger", "anger"], {"f1_macro": np.nan})
    summary = summarize(make_results(target, [fold]))
    split = summary["splits"]["stratified"]
    assert split["accuracy"]["spread"] is None
    assert split["scores"]["f1_macro"] == {"mean": None, "spread": None}
    assert split["per_class"]["fear"]["precision"] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_seeds_are_summarized_apart_and_together():
    target = np.array(CLASSES * 4)
    wrong = np.roll(target, 1)
    halves = [np.arange(6), np.arange(6, 12)]
    folds = []
    for seed, n_wrong in ((3, 0), (5, 2), (8, 4)):
        for number, test in enumerate(halves):
            predicted = np.where(np.arange(6) < n_wrong, wrong[test], target[test])
            scores = {"f1_macro": 1 - n_wrong / 10 - number / 10}
            fold = make_fold("stratified", number, test, predicted, scores)
            folds.append(replace(fold, seed=seed))
    summary = summarize(make_results(target, folds))
    split = summary["splits"]["stratified"]
    assert summary["seeds"] == [3, 5, 8]
    assert split["seeds"]["f1_macro"]["values"] == pytest.approx([0.95, 0.75, 0.55])
    assert split["seeds"]["f1_macro"]["mean"] == pytest.approx(0.75)
    assert split["seeds"]["f1_macro"]["spread"] == pytest.approx(0.2)
    assert split["scores"]["f1_macro"]["mean"] == pytest.approx(0.75)
    assert split["n_folds"] == 2
    assert split["n_tested"] == 12
    # 12 of 36 answers are wrong, and each sample counts once in the interval
    assert split["accuracy"]["pooled"] == pytest.approx(1 - 12 / 36)
    low, high = wilson_interval(12 * (1 - 12 / 36), 12)
    assert (
        split["accuracy"]["interval"]["low"],
        split["accuracy"]["interval"]["high"],
    ) == (
        pytest.approx(low),
        pytest.approx(high),
    )
    assert np.sum(split["confusion"]) == 36
    assert [fold["seed"] for fold in split["folds"]] == [3, 3, 5, 5, 8, 8]
    assert "2 folds that ignore subjects; repeated with 3 seeds" in (summary["protocol"])
    alone = summarize(make_results(target, folds[:2]))
    assert alone["splits"]["stratified"]["seeds"] is None
    assert "seeds" not in alone["protocol"]
