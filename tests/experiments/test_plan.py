"""Counting fits; what is refused is in test_experiment.py and test_protocols.py."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingGridSearchCV
from sklearn.utils import Bunch

from ferpipe.experiments.plan import DataError, _halving_rounds, make_plan
from ferpipe.experiments.spec import compile_spec


@pytest.mark.parametrize(
    ("candidates", "n_samples", "factor"),
    [(2, 60, 3), (3, 60, 3), (9, 90, 3), (10, 40, 3), (8, 100, 2), (27, 30, 2), (5, 24, 4)],
)
def test_rounds_of_a_halving_are_those_of_sklearn(candidates, n_samples, factor):
    search = HalvingGridSearchCV(
        DummyClassifier(strategy="constant"),
        {"constant": [0] * candidates},
        factor=factor,
        cv=2,
        random_state=0,
        return_train_score=False,
    )
    y = np.arange(n_samples) % 2
    search.fit(np.zeros((n_samples, 1)), y)
    assert _halving_rounds(candidates, n_samples, 2 * 2 * 2, factor) == search.n_candidates_


def noise(n=60):
    rng = np.random.default_rng(0)
    return Bunch(
        data=rng.integers(0, 256, (n, 12, 12), dtype=np.uint8),
        target=np.array(["anger", "fear"])[np.arange(n) % 2],
        groups=np.array([f"S{i // 6}" for i in range(n)]),
        kind="images",
        synthetic=True,
        DESCR="noise",
    )


def plan_of(search="grid", **evaluate):
    mapping = {
        "name": "test",
        "data": {"image_folder": {"path": "nowhere"}},
        "pipeline": {
            "pixels": "PixelFeatures",
            "classify": {"LinearSVC": {"C": {"try": [1, 2, 3, 4, 5, 6]}}},
        },
        "search": search,
        "evaluate": evaluate,
    }
    return make_plan(compile_spec(mapping), noise())


FOLDS = {"StratifiedKFold": {"n_splits": 2}}
INNER = {"StratifiedKFold": {"n_splits": 2}}


def test_fits_of_every_way_of_searching():
    # a search a fold and one over all the data; 2 plain folds; curves of 5 sizes
    rest = 2 + 2 * 5
    for search, tried in (("grid", 6), ({"random": {"n_iter": 4}}, 4), ("halving", 6 + 2)):
        plan = plan_of(search, outer_cv=FOLDS, inner_cv=INNER)
        assert plan.fits == 3 * (tried * 2 + 1) + rest


def test_fits_of_other_seeds_are_those_of_their_primary():
    plan = plan_of(outer_cv=FOLDS, inner_cv=INNER, seeds=[0, 1, 2])
    assert [other.fits for other in plan.repeats] == [2 * 13, 2 * 13]
    assert plan.fits == plan_of(outer_cv=FOLDS, inner_cv=INNER).fits + 4 * 13


def test_one_part_that_is_judged_leaves_one_model():
    plan = plan_of(protocol="random-80-20", inner_cv=INNER)
    assert plan.saves_scored
    assert plan.fits == 13
    assert plan.curve == []
    assert not plan_of(outer_cv=FOLDS).saves_scored


def scored(classifier, *scoring, target=None, **evaluate):
    mapping = {
        "name": "test",
        "data": {"image_folder": {"path": "nowhere"}},
        "pipeline": {"pixels": "PixelFeatures", "classify": classifier},
        "evaluate": {"scoring": list(scoring), **evaluate},
    }
    bunch = noise()
    if target is not None:
        bunch.target = np.array(target)
    return make_plan(compile_spec(mapping), bunch)


@pytest.mark.parametrize(
    ("classifier", "scorer"),
    [
        ("LinearSVC", "roc_auc_ovr"),
        ("RidgeClassifier", "neg_log_loss"),
        ({"SVC": {"C": {"try": [1, 2]}}}, "roc_auc_ovo_weighted"),
        ({"try": ["LogisticRegression", "LinearSVC"]}, "neg_brier_score"),
        ({"SGDClassifier": {"loss": {"try": ["log_loss", "hinge"]}}}, "d2_log_loss_score"),
        ({"VotingClassifier": {"estimators": {"a": "SVC"}, "voting": "hard"}}, "roc_auc"),
    ],
)
def test_a_scorer_that_the_classifier_cannot_serve_is_refused(classifier, scorer):
    with pytest.raises(DataError, match=f"{scorer} needs .* CalibratedClassifierCV"):
        scored(classifier, "accuracy", scorer)


@pytest.mark.parametrize(
    "classifier",
    [
        {"CalibratedClassifierCV": {"estimator": "LinearSVC"}},
        {"StackingClassifier": {"estimators": {"a": "SVC"}}},
        "LogisticRegression",
        {"SGDClassifier": {"loss": {"try": ["log_loss", "modified_huber"]}}},
    ],
)
def test_a_scorer_that_the_classifier_can_serve_is_taken(classifier):
    scored(classifier, "accuracy", "roc_auc", "neg_log_loss", "roc_auc_ovr")


@pytest.mark.parametrize("scorer", ["r2", "f1", "jaccard_samples", "roc_auc"])
def test_a_scorer_that_cannot_take_such_labels_is_refused(scorer):
    three = np.array(["anger", "fear", "joy"])[np.arange(60) % 3]
    with pytest.raises(DataError, match=f"evaluate.scoring: {scorer} cannot score this"):
        scored("LogisticRegression", scorer, target=three)


def test_a_part_that_lacks_a_class_is_found_before_the_run():
    # the third class is the last subject's alone
    target = ["anger", "fear"] * 27 + ["joy"] * 6
    with pytest.raises(DataError, match=r"neg_log_loss cannot .* 3 classes, .* part 2"):
        scored(
            "LogisticRegression",
            "neg_log_loss",
            target=target,
            outer_cv={"GroupKFold": {"n_splits": 5}},
        )
