import numpy as np
import pytest
from sklearn.ensemble import BaggingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ferpipe.experiments.report.formatting import (
    EN_DASH,
    MINUS,
    duration,
    fixed,
    gap_words,
    mean_spread,
    mean_spread_percent,
    percent,
    points,
    range_percent,
    readable,
    readable_params,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SVC(C=10), "SVC(C=10)"),
        (SVC(), "SVC()"),
        (SVC, "<class 'sklearn.svm._classes.SVC'>"),
        (
            BaggingClassifier(SVC(kernel="linear")),
            "BaggingClassifier(estimator=SVC(kernel='linear'))",
        ),
        (
            make_pipeline(StandardScaler(), SVC(C=2)),
            "Pipeline(steps=[('standardscaler', StandardScaler()), ('svc', SVC(C=2))])",
        ),
        (np.float64(0.1) * 3, "0.3"),
        (np.logspace(-5, -3, 2), "[1e-05, 0.001]"),
        ([128, 64], "[128, 64]"),
        ((128, "a"), "(128, 'a')"),
        (np.int64(3), "3"),
        (None, "None"),
        (True, "True"),
    ],
)
def test_readable(value, text):
    assert readable(value) == text


def test_parameters_of_a_chosen_estimator_stand_inside_it():
    chosen = SVC()
    params = {
        "reduce__n_components": 0.98,
        "classify": chosen,
        "classify__C": 1.0,
        "classify__kernel": "linear",
        "pool": "mean",
    }
    assert readable_params(params) == {
        "reduce__n_components": "0.98",
        "classify": "SVC(C=1, kernel='linear')",
        "pool": "mean",
    }
    assert chosen.kernel == "rbf"


def test_estimator_inside_a_chosen_estimator():
    inner = SVC()
    params = {
        "classify": BaggingClassifier(),
        "classify__estimator": inner,
        "classify__estimator__C": 10,
    }
    assert readable_params(params) == {"classify": "BaggingClassifier(estimator=SVC(C=10))"}
    assert inner.C == 1.0


def test_name_that_only_begins_alike_is_kept():
    params = {"classify": SVC(), "classify_too__C": 3}
    assert readable_params(params) == {"classify": "SVC()", "classify_too__C": "3"}


def test_scores():
    assert fixed(0.12345) == "0.123"
    assert fixed(-1.5) == f"{MINUS}1.500"
    assert fixed(None) == fixed(np.nan) == percent(None) == EN_DASH
    assert percent(0.8456) == "84.6 %"
    assert (fixed(0.8875), percent(0.8875)) == ("0.887", "88.7 %")
    assert points(-0.021) == f"{MINUS}2.1"
    assert points(0.021) == "+2.1"
    score = {"mean": 0.8456, "spread": 0.0312}
    assert mean_spread(score) == "0.846 ± 0.031"
    assert mean_spread_percent(score) == "84.6 ± 3.1 %"
    assert mean_spread({"mean": 0.5, "spread": None}) == "0.500"
    assert mean_spread_percent({"mean": 0.5, "spread": None}) == "50.0 %"
    assert range_percent({"low": 0.795, "high": 0.89}) == f"79.5{EN_DASH}89.0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "40 ms"),
        (0.96, "1.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (133.4, "2 min 13 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("low", "high", "meaning"),
    [
        (0.01, 0.09, "samples of the same subjects in training raise the score"),
        (
            -0.095,
            -0.025,
            "stratified folds score lower, for another reason than the subjects",
        ),
        (-0.02, 0.03, "no significant difference: the interval contains zero"),
        (0.0, 0.0, "no significant difference: the interval contains zero"),
    ],
)
def test_gap_says_what_its_interval_says(low, high, meaning):
    gap = {"accuracy": (low + high) / 2, "interval": {"low": low, "high": high}}
    words = gap_words(gap)
    assert words.endswith(f": {meaning}")
    assert points(low) in words
    assert points(high) in words
