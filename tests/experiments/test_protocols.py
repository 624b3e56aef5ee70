import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GroupKFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)
from sklearn.utils import Bunch

from ferpipe.datasets.duplicates import number_identical
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.plan import DataError, make_plan
from ferpipe.experiments.protocols import PROTOCOLS, scored_part
from ferpipe.experiments.registry import SPLITTERS
from ferpipe.experiments.report.page import text_table, write_report
from ferpipe.experiments.run import run_experiment
from ferpipe.experiments.spec import SpecError, compile_spec


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


def test_training_is_trained_on_and_public_test_is_judged():
    bunch = fer2013()
    plan = make_plan(spec(KNN), bunch)
    ((train, test),) = plan.split.folds["official"]
    np.testing.assert_array_equal(train, np.arange(80))
    np.testing.assert_array_equal(test, np.arange(80, 100))
    assert plan.fits == 1
    results = run_experiment(spec(KNN), bunch)
    (fold,) = results.folds
    assert (results.primary, fold.split, fold.n_train) == ("official", "official", 80)
    np.testing.assert_array_equal(fold.test, np.arange(80, 100))
    assert results.fits["total"] == 1
    np.testing.assert_array_equal(fold.predicted, results.model.predict(bunch.data[80:100]))
    np.testing.assert_array_equal(
        fold.probabilities, results.model.predict_proba(bunch.data[80:100])
    )


def test_score_without_copies_stands_beside():
    bunch = fer2013()
    bunch.target[82] = "fear" if bunch.target[82] != "fear" else "anger"
    summary = summarize(run_experiment(spec(KNN), bunch))
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
    y, groups = bunch.target[:80], plan.split.groups[:80]
    for train, test in plan.inner_cv.split(np.zeros(80), y, groups):
        assert not {7, 10} & set(train) or not {7, 10} & set(test)
    results = run_experiment(spec(tried), bunch)
    assert len(results.cv_results["params"]) == 2


def test_network_holds_out_a_share_without_copies(monkeypatch):
    from ferpipe.networks import estimator as base

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
    np.testing.assert_array_equal(seen["groups"], number_identical(bunch.data)[:80])
    (fold,) = results.folds
    assert fold.temperature == results.model[-1].temperature_ != 1
    calibration = summarize(results)["splits"]["official"]["calibration"]
    assert calibration["error"] != calibration["error_unscaled"]


def test_data_of_another_kind_is_refused():
    bunch = fer2013()
    bunch.usage[:] = "Training"
    with pytest.raises(DataError, match=r"fer2013-official: .* PublicTest is missing"):
        make_plan(spec(KNN), bunch)
    del bunch["usage"]
    with pytest.raises(DataError, match="Training and PublicTest are missing"):
        make_plan(spec(KNN), bunch)


def test_mistakes_in_the_file():
    with pytest.raises(SpecError, match=r"evaluate.protocol: .*Did you mean fer2013-off"):
        spec(KNN, {"protocol": "fer2013-offical"})
    with pytest.raises(SpecError, match=r"evaluate\.protocol: "):
        spec(KNN, {"protocol": ["fer2013-official"]})
    with pytest.raises(SpecError, match="leave outer_cv out"):
        spec(KNN, {"outer_cv": {"StratifiedKFold": {"n_splits": 3}}})


def test_protocol_survives_resolving():
    first = spec(KNN)
    again = compile_spec(first.resolved)
    assert again.protocol == first.protocol == "fer2013-official"
    assert again.outer_cv is None
    assert first.resolved["evaluate"]["protocol"] == "fer2013-official"
    assert "folds" not in first.resolved["evaluate"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_says_what_it_measures(name):
    assert len(PROTOCOLS[name].sentence) > 60


CK48 = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")


def ck48(n_subjects=12, classes=CK48, seed=0):
    """Each subject shows each class once; two frames whose values tell the class."""
    rng = np.random.default_rng(seed)
    target = np.tile(classes, n_subjects)
    groups = np.repeat([f"S{i:03}" for i in range(n_subjects)], len(classes))
    order = rng.permutation(len(target))
    level = {name: 30.0 * i for i, name in enumerate(CK48)}
    data = [rng.normal(level[name], 20, (2, 3)) for name in target[order]]
    return Bunch(
        data=data,
        target=target[order],
        groups=groups[order],
        sequences=np.array([f"{g}_{i:03}" for i, g in enumerate(groups[order])]),
        filenames=[[f"{i}.png"] for i in range(len(target))],
        target_names=sorted(classes),
        feature_names=["x"] * len(target),
        kind="sequences",
        synthetic=False,
        DESCR="CK+48, 7 classes\n\nMade.",
    )


def on(loader, protocol, tried=None, **evaluate):
    return compile_spec(
        {
            "name": "test",
            "data": {loader: {}},
            "pipeline": {
                "pool": "PoolFrames",
                "classify": {"KNeighborsClassifier": {"n_neighbors": tried or 3}},
            },
            "evaluate": {
                "protocol": protocol,
                "inner_cv": {"StratifiedKFold": {"n_splits": 2, "shuffle": True}},
                **evaluate,
            },
        }
    )


def assert_same_folds(folds, expected):
    for (train, test), (train_too, test_too) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(train, train_too)
        np.testing.assert_array_equal(test, test_too)


@pytest.mark.parametrize("n", [5, 6, 7])
def test_ck48_by_subject_is_what_the_targets_name(n):
    bunch = ck48()
    plan = make_plan(on("ck48", f"ck48-{n}-subject"), bunch)
    left_out = {5: {"contempt", "disgust"}, 6: {"contempt"}, 7: set()}[n]
    keep = ~np.isin(bunch.target, list(left_out))
    y, groups = bunch.target[keep], bunch.groups[keep]
    np.testing.assert_array_equal(plan.bunch.target, y)
    np.testing.assert_array_equal(plan.bunch.groups, groups)
    splitter = StratifiedGroupKFold(10, shuffle=True, random_state=0)
    assert_same_folds(plan.primary, splitter.split(y, y, groups))
    plain = StratifiedKFold(10, shuffle=True, random_state=0).split(y, y)
    assert_same_folds(plan.split.folds["stratified"], plain)
    assert isinstance(plan.inner_cv, StratifiedGroupKFold)
    assert plan.leak is plan.declared is None


@pytest.mark.parametrize(("ending", "n_folds"), [("", 10), ("-5fold", 5)])
def test_ck48_as_the_papers_split_it_declares_its_subjects(ending, n_folds, tmp_path):
    spec, bunch = on("ck48", f"ck48-5-stratified{ending}"), ck48()
    plan = make_plan(spec, bunch)
    y = plan.bunch.target
    expected = StratifiedKFold(n_folds, shuffle=True, random_state=0).split(y, y)
    assert list(plan.split.folds) == ["stratified"]
    assert_same_folds(plan.primary, expected)
    assert isinstance(plan.inner_cv, StratifiedKFold)
    results = run_experiment(spec, bunch)
    assert results.leak is None
    sentence = PROTOCOLS[spec.protocol].sentence
    declared = "samples of subject 'S000' (and of 11 others) stand on both sides of a fold"
    paths = write_report(results, tmp_path)
    page = " ".join(paths["report.html"].read_text().split())
    for text in (text_table(results), page.replace("&#39;", "'")):
        assert sentence in text
        assert declared in text
    assert sentence in json.loads(paths["results.json"].read_text())["protocol"]


def test_classes_are_left_out_of_every_entry():
    bunch = ck48()
    part = scored_part(PROTOCOLS["ck48-5-subject"], bunch)
    kept = np.flatnonzero(~np.isin(bunch.target, ["contempt", "disgust"]))
    assert len(part.data) == len(kept) == 60
    for i, place in enumerate(kept):
        assert part.data[i] is bunch.data[place]
        assert part.filenames[i] == bunch.filenames[place]
    np.testing.assert_array_equal(part.sequences, bunch.sequences[kept])
    assert part.target_names == ["anger", "fear", "happiness", "sadness", "surprise"]
    assert part.feature_names == bunch.feature_names
    assert part.DESCR.startswith("CK+48, 7 classes, 5 of them evaluated\n")
    assert len(bunch.data) == 84
    assert scored_part(PROTOCOLS["ck48-7-subject"], bunch) is bunch


@pytest.mark.parametrize(
    ("loader", "protocol"),
    [
        ("jaffe", "jaffe-leave-one-subject-out"),
        ("ferg", "ferg-leave-one-character-out"),
    ],
)
def test_leave_one_out(loader, protocol):
    bunch = ck48(n_subjects=4)
    plan = make_plan(on(loader, protocol), bunch)
    expected = LeaveOneGroupOut().split(bunch.target, bunch.target, bunch.groups)
    assert_same_folds(plan.primary, expected)
    assert list(plan.split.folds) == ["subject_independent"]
    with pytest.raises(
        DataError, match=rf"{protocol}: it needs at least 2 subjects, .* 1\."
    ):
        make_plan(on(loader, protocol), ck48(n_subjects=1))


def test_one_data_set_after_the_other_is_left_out(tmp_path):
    bunch = ck48(n_subjects=4)
    bunch["data_set"] = np.where(np.isin(bunch.groups, ["S000", "S001"]), "a", "b")
    spec = on("joined", "leave-one-data-set-out", tried={"try": [1, 3]})
    plan = make_plan(spec, bunch)
    (_, first), (_, second) = plan.primary
    assert set(bunch.data_set[first]) == {"a"}
    assert set(bunch.data_set[second]) == {"b"}
    assert isinstance(plan.inner_cv, StratifiedGroupKFold)
    results = run_experiment(spec, bunch)
    assert len(results.folds) == 2
    assert results.primary == "data_set_independent"
    write_report(results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Data-set-independent accuracy" in page
    assert "a model that was trained on other data sets" in page


def test_random_80_20():
    bunch = ck48()
    plan = make_plan(on("ck48", "random-80-20"), bunch)
    train, test = train_test_split(
        np.arange(84), test_size=0.2, stratify=bunch.target, random_state=0
    )
    assert_same_folds(plan.primary, [(np.sort(train), np.sort(test))])
    assert "subject 'S0" in plan.declared
    assert plan.fits == 1


@pytest.mark.parametrize(
    ("protocol", "sizes"),
    [("random-70-10-20", (140, 20, 40)), ("random-80-10-10", (160, 20, 20))],
)
def test_the_middle_part_compares_the_values_to_try(protocol, sizes):
    bunch = ck48(n_subjects=40, classes=CK48[:5])
    spec = on("ck48", protocol, tried={"try": [1, 5, 120]})
    plan = make_plan(spec, bunch)
    ((train, test),) = plan.primary
    ((fitted, compared),) = plan.inner_cv.split(train)
    assert (len(fitted), len(compared), len(test)) == sizes
    np.testing.assert_array_equal(train[compared], np.sort(plan.split.validation))
    assert set(np.unique(bunch.target[test], return_counts=True)[1]) == {sizes[2] // 5}
    results = run_experiment(spec, bunch)
    assert results.fits["total"] == 3 + 1
    mean = np.array([frames.mean(0) for frames in bunch.data])
    from sklearn.neighbors import KNeighborsClassifier

    by_hand = [
        accuracy_score(
            bunch.target[train[compared]],
            KNeighborsClassifier(n)
            .fit(mean[train[fitted]], bunch.target[train[fitted]])
            .predict(mean[train[compared]]),
        )
        for n in (1, 5, 120)
    ]
    np.testing.assert_allclose(results.cv_results["mean_test_accuracy"], by_hand)
    # The chosen one is fitted on both parts together.
    (fold,) = results.folds
    assert fold.n_train == sizes[0] + sizes[1]
    best = KNeighborsClassifier(results.best_params["classify__n_neighbors"])
    best.fit(mean[train], bunch.target[train])
    np.testing.assert_array_equal(fold.predicted, best.predict(mean[test]))


def test_another_seed_gives_other_folds():
    bunch = ck48()
    plan = make_plan(on("ck48", "ck48-7-subject", seeds=[0, 3]), bunch)
    (other,) = plan.repeats
    splitter = StratifiedGroupKFold(10, shuffle=True, random_state=3)
    assert_same_folds(other.primary, splitter.split(bunch.data, bunch.target, bunch.groups))


@pytest.mark.parametrize(
    ("loader", "protocol", "bunch", "message"),
    [
        (
            "jaffe",
            "ck48-7-subject",
            ck48(),
            "ck48-7-subject is for the data set ck48, not jaffe",
        ),
        (
            "ck48",
            "leave-one-data-set-out",
            ck48(),
            "is for the data set joined, not ck48",
        ),
        (
            "ck48",
            "ck48-7-subject",
            ck48(classes=CK48[2:]),
            "ck48-7-subject: it evaluates .* anger, contempt are not in this data set",
        ),
        ("ck48", "ck48-5-subject", ck48(n_subjects=9), "at least 10 subjects, .* has 9"),
        (
            "ck48",
            "ck48-5-stratified",
            ck48(n_subjects=9),
            "has 9 samples for 10 outer folds",
        ),
        ("given_in_python", "leave-one-data-set-out", ck48(), "it needs several data sets"),
        ("ck48", "random-80-10-10", ck48(n_subjects=2), "has 2 samples for 3 parts"),
    ],
)
def test_data_that_a_protocol_cannot_judge(loader, protocol, bunch, message):
    with pytest.raises(DataError, match=rf"evaluate\.protocol: .*{message}"):
        make_plan(on(loader, protocol), bunch)


def test_subjects_that_are_not_known():
    bunch = ck48()
    bunch.groups = None
    with pytest.raises(DataError, match=r"at least 10 subjects, .* none that are known"):
        make_plan(on("ck48", "ck48-7-subject"), bunch)


def test_a_leak_that_is_not_declared_is_refused_and_named():
    bunch = ck48()
    spec = on("ck48", "random-80-20")
    ((train, test),) = make_plan(spec, bunch).primary
    bunch.data[test[0]] = bunch.data[train[0]]
    with pytest.raises(DataError, match=r"protocol random-80-20: samples .* are identical"):
        make_plan(spec, bunch)
    plan = make_plan(on("ck48", "random-80-20", allow_leak=True), bunch)
    assert "identical" in plan.leak
    assert "subject" in plan.declared
    bunch = ck48()
    bunch.sequences = bunch.groups
    with pytest.raises(DataError, match=r"random-80-20: frames of sequence 'S0"):
        make_plan(spec, bunch)


def test_copies_on_both_sides_of_fer2013_are_told():
    plan = make_plan(spec(KNN), fer2013())
    assert plan.leak is None
    assert "samples 4 and 82 are identical (and 0 more groups are)" in plan.declared


def by(folds=None, inner_cv=None, **evaluate):
    """An experiment on CK+48 whose search tries two values."""
    given = {
        "outer_cv": folds,
        "inner_cv": inner_cv or {"StratifiedKFold": {"n_splits": 2}},
    }
    mapping = on("ck48", "random-80-20", tried={"try": [1, 3]}).resolved
    del mapping["evaluate"]["protocol"]
    mapping["evaluate"] |= {k: v for k, v in given.items() if v} | evaluate
    return compile_spec(mapping)


def shared(folds, groups):
    """Count the groups on both sides of the worst fold."""
    return max(len(set(groups[train]) & set(groups[test])) for train, test in folds)


SPLITTED = {
    "GroupKFold": {"n_splits": 3},
    "GroupShuffleSplit": {"n_splits": 3},
    "KFold": {"n_splits": 3, "shuffle": True},
    "LeaveOneGroupOut": {},
    "LeavePGroupsOut": {"n_groups": 1},
    "RepeatedStratifiedKFold": {"n_splits": 3, "n_repeats": 2},
    "ShuffleSplit": {"n_splits": 3},
    "StratifiedGroupKFold": {"n_splits": 3},
    "StratifiedKFold": {"n_splits": 3},
    "StratifiedShuffleSplit": {"n_splits": 3},
}


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("place", ["outer_cv", "inner_cv"])
def test_known_subjects_are_kept_apart_by_every_splitter_or_it_is_refused(place, name):
    bunch, node = ck48(), {name: SPLITTED[name]}
    if name in ("RepeatedStratifiedKFold", "StratifiedShuffleSplit"):
        with pytest.raises(DataError, match=rf"{name} ignores groups.*allow_leak: true"):
            make_plan(by(**{place: node}), bunch)
        plan = make_plan(by(**{place: node}, allow_leak=True), bunch)
        assert (
            "subject 'S0" if place == "outer_cv" else f"inner folds ({name})"
        ) in plan.leak
        return
    plan = make_plan(by(**{place: node}), bunch)
    assert next(iter(plan.split.folds)) == "subject_independent"
    assert shared(plan.primary, bunch.groups) == 0
    train, _ = plan.primary[0]
    y, groups = bunch.target[train], bunch.groups[train]
    assert shared(plan.inner_cv.split(y, y, groups), groups) == 0
    assert plan.leak is None


class Promises(GroupKFold):
    """Asks for groups and divides samples nevertheless."""

    def split(self, X, y=None, groups=None):
        return StratifiedKFold(self.n_splits).split(X, y)


@pytest.mark.parametrize(
    "folds",
    [
        [(np.arange(40), np.arange(40, 84))],
        iter([(np.arange(40), np.arange(40, 84))]),
        Promises(3),
        PredefinedSplit(np.arange(84) % 3),
    ],
    ids=["list", "iterator", "own", "predefined"],
)
def test_own_folds_are_judged_by_what_they_do(folds):
    bunch = ck48()
    with pytest.raises(DataError, match="subjects are known, but the outer folds have"):
        make_plan(replace(by(), outer_cv=folds), bunch)


def test_own_folds_that_keep_subjects_apart_are_taken():
    bunch = ck48()
    first = np.isin(bunch.groups, np.unique(bunch.groups)[::2])
    halves = [(np.flatnonzero(first), np.flatnonzero(~first))]
    plan = make_plan(replace(by(), outer_cv=halves), bunch)
    assert_same_folds(plan.split.folds["subject_independent"], halves)
    assert list(make_plan(replace(by(), outer_cv=4), bunch).split.folds) == [
        "subject_independent",
        "stratified",
    ]


@pytest.mark.parametrize("inner", [Promises(2), [(np.arange(20), np.arange(20, 40))]])
def test_own_inner_folds_are_judged_by_what_they_do(inner):
    with pytest.raises(DataError, match=r"inner_cv has samples of one|A list of folds"):
        make_plan(replace(by(), inner_cv=inner), ck48())
    assert isinstance(
        make_plan(replace(by(), inner_cv=3), ck48()).inner_cv, StratifiedGroupKFold
    )


def test_sequences_are_the_groups_where_subjects_are_not_known():
    rng = np.random.default_rng(0)
    bunch = ck48()
    bunch.groups, bunch.kind = None, "images"
    bunch.data = rng.integers(0, 256, (84, 12, 12), dtype=np.uint8)
    bunch.sequences = np.array([f"clip{i // 3}" for i in range(84)])
    spec = compile_spec(
        {**by().resolved, "pipeline": {"pixels": "PixelFeatures", "classify": "LinearSVC"}}
    )
    plan = make_plan(spec, bunch)
    assert list(plan.split.folds) == ["sequence_independent"]
    assert shared(plan.primary, bunch.sequences) == 0
    assert isinstance(plan.inner_cv, StratifiedGroupKFold)
