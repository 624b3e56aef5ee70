import numpy as np
import pytest
from sklearn.utils import Bunch

from ferpipe.experiment import DataError, make_plan, run_experiment
from ferpipe.protocols import PROTOCOLS, identical_images
from ferpipe.spec import SpecError, compile_spec
from ferpipe.statistics import summarise


def fer2013(n=120, seed=0):
    """Images whose brightness tells the class, some of them twice, on official splits."""
    rng = np.random.default_rng(seed)
    target = np.array(["anger", "fear", "sadness"])[np.arange(n) % 3]
    level = {"anger": 60, "fear": 120, "sadness": 180}
    data = np.stack([rng.integers(0, 60, (16, 16)) + level[name] for name in target])
    usage = np.array(["Training"] * 80 + ["PublicTest"] * 20 + ["PrivateTest"] * 20)
    data[82] = data[4]
    data[10] = data[7]
    return Bunch(
        data=data.astype(np.uint8),
        target=target,
        groups=None,
        usage=usage,
        kind="images",
        synthetic=True,
        DESCR="levels",
    )


def spec(classify, evaluate=None):
    return compile_spec(
        {
            "name": "test",
            "data": {"fer2013": {"path": "nowhere"}},
            "pipeline": {"pixels": "PixelFeatures", "classify": classify},
            "evaluate": {"protocol": "fer2013-official", **(evaluate or {})},
        }
    )


KNN = {"KNeighborsClassifier": {"n_neighbors": 1}}


def test_identical_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (40, 2, 2), dtype=np.uint8)
    numbers = identical_images(images)
    same = (images[:, None] == images[None]).all((2, 3))
    np.testing.assert_array_equal(numbers[:, None] == numbers[None], same)
    np.testing.assert_array_equal(numbers, same.argmax(1))


def test_training_is_trained_on_and_public_test_is_judged():
    bunch = fer2013()
    plan = make_plan(spec(KNN), bunch)
    np.testing.assert_array_equal(plan.official.train, np.arange(80))
    np.testing.assert_array_equal(plan.official.test, np.arange(80, 100))
    assert plan.fits == 1
    results = run_experiment(spec(KNN), bunch)
    (fold,) = results.folds
    assert (results.headline, fold.split, fold.n_train) == ("official", "official", 80)
    np.testing.assert_array_equal(fold.test, np.arange(80, 100))
    assert results.fits["total"] == 1
    np.testing.assert_array_equal(fold.predicted, results.model.predict(bunch.data[80:100]))
    np.testing.assert_array_equal(
        fold.probabilities, results.model.predict_proba(bunch.data[80:100])
    )


def test_score_without_copies_stands_beside():
    bunch = fer2013()
    bunch.target[82] = "fear" if bunch.target[82] != "fear" else "anger"
    summary = summarise(run_experiment(spec(KNN), bunch))
    head = summary["splits"]["official"]
    beside = head["beside"]["without images that Training has too"]
    # the copy has another label in Training, so it is the one that goes wrong
    assert head["n_tested"] == 20
    assert beside["n_tested"] == 19
    wrong = round(20 * (1 - head["accuracy"]["pooled"]))
    assert round(19 * (1 - beside["accuracy"])) == wrong - (
        bunch.target[4] != bunch.target[82]
    )
    assert "PublicTest" in summary["protocol"]
    assert head["calibration"]["error"] == head["calibration"]["error_unscaled"]


def test_copies_stay_together_where_training_is_divided():
    bunch = fer2013()
    tried = {"KNeighborsClassifier": {"n_neighbors": {"try": [1, 3]}}}
    plan = make_plan(spec(tried), bunch)
    assert plan.fits == 2 * 3 + 1
    y, groups = bunch.target[:80], plan.groups[:80]
    for train, test in plan.inner.split(np.zeros(80), y, groups):
        assert not {7, 10} & set(train) or not {7, 10} & set(test)
    results = run_experiment(spec(tried), bunch)
    assert len(results.cv_results["params"]) == 2


def test_network_holds_out_a_share_without_copies(monkeypatch):
    from ferpipe.networks import base

    seen = {}
    split = base.split_validation

    def watched(target, groups, share, seed):
        seen["groups"] = groups
        return split(target, groups, share, seed)

    monkeypatch.setattr(base, "split_validation", watched)
    network = {
        "ImageNetwork": {
            "training": {
                "Training": {"max_epochs": 1, "validation": 0.25, "calibrate": True}
            }
        }
    }
    experiment = compile_spec(
        {
            "name": "test",
            "data": {"fer2013": {"path": "nowhere"}},
            "pipeline": {"classify": network},
            "evaluate": {"protocol": "fer2013-official"},
        }
    )
    bunch = fer2013()
    results = run_experiment(experiment, bunch)
    np.testing.assert_array_equal(seen["groups"], identical_images(bunch.data)[:80])
    (fold,) = results.folds
    assert fold.temperature == results.model[-1].temperature_ != 1
    calibration = summarise(results)["splits"]["official"]["calibration"]
    assert calibration["error"] != calibration["error_unscaled"]


def test_data_of_another_kind_is_refused():
    bunch = fer2013()
    bunch.usage[:] = "Training"
    with pytest.raises(DataError, match="PublicTest is not there"):
        make_plan(spec(KNN), bunch)
    del bunch["usage"]
    with pytest.raises(DataError, match="Training and PublicTest are not there"):
        make_plan(spec(KNN), bunch)


def test_mistakes_in_the_file():
    with pytest.raises(SpecError, match=r"evaluate.protocol: .*Did you mean fer2013-off"):
        spec(KNN, {"protocol": "fer2013-offical"})
    with pytest.raises(SpecError, match=r"evaluate\.protocol: "):
        spec(KNN, {"protocol": ["fer2013-official"]})
    with pytest.raises(SpecError, match="leave folds out"):
        spec(KNN, {"folds": {"StratifiedKFold": {"n_splits": 3}}})


def test_protocol_survives_resolving():
    first = spec(KNN)
    again = compile_spec(first.resolved)
    assert again.protocol == first.protocol == "fer2013-official"
    assert again.folds is None
    assert first.resolved["evaluate"]["protocol"] == "fer2013-official"
    assert "folds" not in first.resolved["evaluate"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_says_what_it_measures(name):
    assert len(PROTOCOLS[name].sentence) > 60
