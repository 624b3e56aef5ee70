import json
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ferpipe.experiments.comparison import (
    compare_runs,
    corrected_t_test,
    draw_comparisons,
    mcnemar_test,
    read_run,
    scored_samples,
)
from ferpipe.experiments.metrics import subject_bootstrap
from ferpipe.experiments.report.page import write_report
from ferpipe.experiments.results import Fold, Results

REPORTS = Path(__file__).parents[2] / "reports"
N = 60  # samples, 5 of each of 12 subjects, in 6 folds


def make_run(correct, *, name="run", folds=6, **changes):
    """What results.json holds of a run that has these samples right."""
    n = len(correct)
    target = ["anger", "fear"] * (n // 2)
    other = {"anger": "fear", "fear": "anger"}
    predicted = [t if right else other[t] for t, right in zip(target, correct, strict=True)]
    parts = np.array_split(np.arange(n), folds)
    run = {
        "format": 2,
        "name": name,
        "synthetic": False,
        "primary": "subject_independent",
        "data": {"loader": "drawn"},
        "target": target,
        "groups": [f"s{i // 5}" for i in range(n)],
        "folds": [
            {
                "split": "subject_independent",
                "n_train": n - len(part),
                "test": part.tolist(),
                "predicted": [predicted[i] for i in part],
            }
            for part in parts
        ],
    }
    return {**run, **changes}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def correct(rng):
    return rng.random(N) < 0.6, rng.random(N) < 0.8


def test_mcnemar_equals_the_binomial_written_out():
    for only_first in range(13):
        for only_second in range(13):
            n = only_first + only_second
            tail = sum(comb(n, k) for k in range(min(only_first, only_second) + 1)) / 2**n
            expected = min(1, 2 * tail)
            assert mcnemar_test(only_first, only_second) == pytest.approx(expected)


def test_mcnemar_where_nothing_differs_is_right_as_often_as_it_says(rng):
    p = {n: mcnemar_test(n, 300 - n) for n in range(301)}
    found = np.array([p[n] for n in rng.binomial(300, 0.5, 20_000)])
    # Exact: never more than 0.05; with 300 samples the next possible level is near it.
    assert 0.035 < np.mean(found < 0.05) < 0.053
    assert np.mean(found < 0.5) == pytest.approx(0.5, abs=0.06)


def test_corrected_t_equals_scipy_with_the_wider_error(rng):
    values = rng.normal(0.02, 0.05, 10)
    plain = stats.ttest_1samp(values, 0)
    assert corrected_t_test(values, 0) == pytest.approx((plain.statistic, plain.pvalue))
    t, p = corrected_t_test(values, 1 / 9)
    assert t == pytest.approx(plain.statistic * np.sqrt((1 / 10) / (1 / 10 + 1 / 9)))
    assert p == pytest.approx(2 * stats.t.cdf(-abs(t), 9))


def test_corrected_t_where_nothing_differs_is_right_as_often_as_it_says(rng):
    # Folds as Nadeau and Bengio take them: correlated by n_test / (n_train + n_test).
    n_folds, share = 10, 1 / 9
    correlation = share / (1 + share)
    common = rng.normal(0, np.sqrt(correlation), (5000, 1))
    own = rng.normal(0, np.sqrt(1 - correlation), (5000, n_folds))
    found = [corrected_t_test(values, share)[1] for values in common + own]
    usual = stats.ttest_1samp(common + own, 0, axis=1).pvalue
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.01)
    assert np.mean(usual < 0.05) > 0.12


def test_corrected_t_needs_two_folds_that_differ():
    assert corrected_t_test([0.1, 0.1, 0.1], 0.1) is None
    with pytest.raises(ValueError, match="at least two folds, got 1"):
        corrected_t_test([0.1], 0.1)


def test_intervals_of_runs_that_do_not_differ_hold_zero_as_often_as_they_say(rng):
    # Subjects on whom one run has all samples right and the other none, at random.
    outside = {"subjects": 0, "samples": 0}
    for _ in range(80):
        first = rng.random(24).repeat(5) < 0.5
        second = rng.random(24).repeat(5) < 0.5
        for name, groups in (
            ("subjects", make_run(first)["groups"]),
            ("samples", None),
        ):
            runs = [make_run(right, groups=groups) for right in (first, second)]
            interval = compare_runs(*runs)["interval"]
            outside[name] += not interval["low"] <= 0 <= interval["high"]
    assert outside["subjects"] / 80 < 0.125  # 0.05 and three standard errors
    assert outside["samples"] / 80 > 0.25  # what taking samples as independent does


def test_runs_are_compared_sample_by_sample(correct):
    first, second = correct
    found = compare_runs(make_run(first), make_run(second))
    difference = second.astype(float) - first
    low, high = subject_bootstrap(difference, np.arange(N) // 5)
    assert (found["n_samples"], found["n_first"], found["n_second"]) == (N, N, N)
    assert (found["split"], found["n_subjects"]) == ("subject_independent", 12)
    assert (found["first"], found["second"]) == pytest.approx((first.mean(), second.mean()))
    assert found["difference"] == pytest.approx(difference.mean())
    # Subjects are numbered in another order: the draws differ.
    assert found["interval"]["method"] == "subject bootstrap"
    interval = (found["interval"]["low"], found["interval"]["high"])
    assert interval == pytest.approx((low, high), abs=0.02)
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    assert found["mcnemar"] == {
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar_test(only_first, only_second),
    }
    t, p = corrected_t_test(difference.reshape(6, 10).mean(axis=1), 10 / 50)
    assert found["t_test"] == pytest.approx({"n_folds": 6, "t": t, "p": p})
    json.dumps(found, allow_nan=False)


def test_the_other_way_round_has_the_other_sign(correct):
    first, second = (make_run(right) for right in correct)
    there, back = compare_runs(first, second), compare_runs(second, first)
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["t_test"]["t"] == pytest.approx(-there["t_test"]["t"])
    assert back["mcnemar"]["p"] == there["mcnemar"]["p"]
    assert back["mcnemar"]["only_first"] == there["mcnemar"]["only_second"]


def test_runs_that_judge_alike_have_no_interval_and_no_t(correct):
    found = compare_runs(make_run(correct[0]), make_run(correct[0]))
    assert (found["difference"], found["interval"]) == (0, None)
    t_test = found["t_test"]
    assert t_test["n_folds"] > 1
    assert (t_test["t"], t_test["p"]) == (None, None)
    assert found["mcnemar"] == {"only_first": 0, "only_second": 0, "p": 1.0}


def test_without_subjects_samples_are_resampled(correct):
    first, second = (make_run(right, groups=None) for right in correct)
    found = compare_runs(first, second)
    low, high = subject_bootstrap(correct[1] * 1.0 - correct[0], np.arange(N))
    assert found["interval"] == {
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "sample bootstrap",
    }
    assert found["n_subjects"] is None


def test_only_what_both_have_judged_is_compared(correct):
    first, second = (make_run(right) for right in correct)
    first["folds"], second["folds"] = first["folds"][:4], second["folds"][1:]
    found = compare_runs(first, second)
    assert (found["n_samples"], found["n_first"], found["n_second"]) == (30, 40, 50)
    assert found["first"] == pytest.approx(correct[0][10:40].mean())
    assert found["second"] == pytest.approx(correct[1][10:40].mean())
    assert found["t_test"]["n_folds"] == 3


def test_folds_that_are_not_the_same_give_no_t_test(correct):
    first, second = correct
    assert compare_runs(make_run(first), make_run(second, folds=5))["t_test"] is None
    fewer = make_run(second)
    fewer["folds"] = [{**fold, "n_train": 30} for fold in fewer["folds"]]
    assert compare_runs(make_run(first), fewer)["t_test"] is None


def test_order_inside_and_of_folds_does_not_matter(correct):
    first, second = (make_run(right) for right in correct)
    expected = compare_runs(first, second)
    second["folds"] = [
        {**fold, "test": fold["test"][::-1], "predicted": fold["predicted"][::-1]}
        for fold in second["folds"][::-1]
    ]
    found = compare_runs(first, second)
    assert found.pop("t_test") == pytest.approx(expected.pop("t_test"))
    assert found == expected


def test_samples_held_out_twice_count_by_the_share_that_was_right(correct):
    first, second = (make_run(right) for right in correct)
    wrong = make_run(np.zeros(N, bool))
    first["folds"] += wrong["folds"][:1]
    samples, shares, times = scored_samples(first)
    np.testing.assert_array_equal(samples, np.arange(N))
    np.testing.assert_array_equal(times, [2] * 10 + [1] * 50)
    np.testing.assert_allclose(shares[:10], correct[0][:10] / 2)
    found = compare_runs(first, second)
    assert found["mcnemar"] is None
    assert found["first"] == pytest.approx(shares.mean())


def test_other_splits_than_the_headline_are_left_aside(correct):
    first, second = (make_run(right) for right in correct)
    expected = compare_runs(first, second)
    plain = [{**fold, "split": "stratified"} for fold in make_run(~correct[1])["folds"]]
    second["folds"] = second["folds"] + plain
    assert compare_runs(first, second) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"loader": "ck48"}}, "different data sets, drawn and ck48"),
        ({"target": ["anger"] * N}, "different samples of drawn: their labels differ"),
        ({"target": ["anger"] * 50}, "different samples of drawn, 60 and 50"),
        ({"groups": ["s"] * N}, "different samples of drawn: their subjects differ"),
        ({"primary": "stratified"}, "different splits, subject-independent and stratified"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(correct, changes, message):
    first, second = correct
    with pytest.raises(ValueError, match=f"one and two .*{message}"):
        compare_runs(make_run(first, name="one"), make_run(second, name="two", **changes))


def test_runs_without_a_sample_in_common_are_refused(correct):
    first, second = (make_run(right) for right in correct)
    first["folds"], second["folds"] = first["folds"][:3], second["folds"][3:]
    with pytest.raises(ValueError, match="have evaluated no sample in common"):
        compare_runs(first, second)


def test_what_the_report_wrote_is_read(correct, tmp_path):
    run = make_run(correct[0])
    folds = [
        Fold(
            split="subject_independent",
            number=number,
            test=np.array(fold["test"]),
            predicted=np.array(fold["predicted"]),
            scores={"accuracy": 0.5},
            best_params={},
            step_predictions={},
            n_train=fold["n_train"],
            seconds=1.0,
        )
        for number, fold in enumerate(run["folds"])
    ]
    results = Results(
        name="toy",
        data={
            "loader": "drawn",
            "parameters": {},
            "description": "drawn",
            "synthetic": True,
            "kind": "images",
            "frame_shape": (8, 8),
            "lengths": None,
        },
        target=np.array(run["target"]),
        groups=np.array(run["groups"]),
        classes=("anger", "fear"),
        primary="subject_independent",
        folds=tuple(folds),
        scoring=("accuracy",),
        refit="accuracy",
        best_params={},
        cv_results={},
        model=None,
        settings={},
    )
    write_report(results, tmp_path / "one")
    write_report(replace(results, name="other"), tmp_path / "two")
    first, second = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert second["name"] == "other"
    assert compare_runs(first, make_run(correct[1])) == compare_runs(
        run, make_run(correct[1])
    )
    assert compare_runs(first, second)["difference"] == 0


def test_reports_that_lie_here_agree_with_their_own_scores():
    runs = [read_run(REPORTS / f"{name}_svm_ck48_7") for name in ("hog", "texture")]
    found = compare_runs(*runs)
    pooled = [run["splits"]["subject_independent"]["accuracy"]["pooled"] for run in runs]
    assert (found["first"], found["second"]) == pytest.approx(tuple(pooled))
    assert found["n_samples"] == 327
    assert found["t_test"]["n_folds"] == 10
    only = found["mcnemar"]["only_second"] - found["mcnemar"]["only_first"]
    assert found["difference"] == pytest.approx(only / 327)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "has the format None, but this version of ferpipe reads 2"),
        ('{"format": 9}', "has the format 9"),
        ('{"format": 2, "name": "a"}', "lacks synthetic, primary, data, target"),
    ],
)
def test_files_that_are_no_results_are_refused(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(tmp_path)


def test_a_folder_without_results_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no results\.json: name the folder"):
        read_run(tmp_path)


def test_figure_shows_differences_in_points_with_their_intervals(correct):
    runs = [make_run(right) for right in (*correct, correct[0])]
    comparisons = {
        "better": compare_runs(runs[0], runs[1]),
        "same": compare_runs(runs[0], runs[2]),
    }
    (axes,) = draw_comparisons("base", comparisons, synthetic=True).axes
    _, whisker, better, same = axes.lines
    interval = comparisons["better"]["interval"]
    np.testing.assert_allclose(
        whisker.get_xydata(), [[100 * interval["low"], 0], [100 * interval["high"], 0]]
    )
    place = 100 * comparisons["better"]["difference"]
    np.testing.assert_allclose(better.get_xydata(), [[place, 0]])
    np.testing.assert_allclose(same.get_xydata(), [[0, 1]])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["better", "same"]
    assert "subject-independent accuracy above base" in axes.get_xlabel()
    assert axes.get_title(loc="right") == "synthetic data"
