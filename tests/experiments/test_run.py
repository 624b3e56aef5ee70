from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.utils import Bunch

from ferpipe import PoolFrames
from ferpipe.caching.events import Journal
from ferpipe.caching.store import Store
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.plan import DataError, make_plan
from ferpipe.experiments.report.page import text_table, write_report
from ferpipe.experiments.run import load_data, run_experiment
from ferpipe.experiments.spec import SpecError, compile_spec
from ferpipe.experiments.tasks import _stratified_order

CLASSES = np.array(["anger", "fear", "surprise"])


def make_bunch(n=60, n_subjects=15, seed=0):
    """Noisy sequences of feature vectors, three classes, subjects with their own offset."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    subject = rng.permutation(np.arange(n) % n_subjects)
    offsets = rng.normal(size=(n_subjects, 4))
    data = [
        np.eye(3, 4)[label[i]] * 2.0
        + offsets[subject[i]]
        + rng.normal(scale=0.8, size=(rng.integers(2, 5), 4))
        for i in range(n)
    ]
    return Bunch(
        data=data,
        target=CLASSES[label],
        groups=np.array([f"S{s:03}" for s in subject]),
        target_names=CLASSES,
        filenames=[f"clip{i}" for i in range(n)],
        kind="sequences",
        synthetic=True,
        DESCR="noise",
    )


def make_spec(**changes):
    mapping = {
        "name": "test",
        "data": {"expression_sequences": {}},
        "pipeline": {
            "pool": {"PoolFrames": {"method": {"try": ["mean", "max"]}}},
            "scale": "StandardScaler",
            "classify": {"SVC": {"C": {"try": [0.1, 1]}, "kernel": "linear"}},
        },
        "evaluate": {
            "outer_cv": {"StratifiedKFold": {"n_splits": 4, "shuffle": True}},
            "inner_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
        },
    }
    return compile_spec(mapping | changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    bunch, spec = make_bunch(), make_spec()
    return (
        bunch,
        spec,
        run_experiment(spec, bunch, store=Store(tmp_path_factory.mktemp("s"))),
    )


def take(bunch, indices):
    return [bunch.data[i] for i in indices], bunch.target[indices], bunch.groups[indices]


def test_nested_search_equals_one_written_by_hand(run):
    bunch, spec, results = run
    outer = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    inner = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    folds = [fold for fold in results.folds if fold.split == "subject_independent"]
    expected = list(outer.split(bunch.target, bunch.target, bunch.groups))
    assert len(folds) == len(expected) == 4
    for fold, (train, test) in zip(folds, expected, strict=True):
        np.testing.assert_array_equal(fold.test, test)
        X, y, groups = take(bunch, train)
        splits = list(inner.split(y, y, groups))
        search = GridSearchCV(spec.pipeline, spec.grid, cv=splits).fit(X, y)
        predicted = search.predict(take(bunch, test)[0])
        np.testing.assert_array_equal(fold.predicted, predicted)
        assert fold.best_params == search.best_params_
        assert fold.scores["accuracy"] == accuracy_score(bunch.target[test], predicted)
        assert fold.n_train == len(train)


def test_no_subject_stands_on_both_sides_of_the_primary(run):
    bunch, _, results = run
    assert results.primary == "subject_independent"
    tested = []
    for fold in results.folds:
        if fold.split == "subject_independent":
            rest = np.setdiff1d(np.arange(60), fold.test)
            assert not set(bunch.groups[fold.test]) & set(bunch.groups[rest])
            tested += list(fold.test)
    assert sorted(tested) == list(range(60))


def test_plain_split_is_scored_once_with_the_parameters_of_the_whole(run):
    bunch, spec, results = run
    plain = [fold for fold in results.folds if fold.split == "stratified"]
    expected = StratifiedKFold(4, shuffle=True, random_state=0)
    for fold, (train, test) in zip(
        plain, expected.split(bunch.target, bunch.target), strict=True
    ):
        X, y, _ = take(bunch, train)
        model = spec.pipeline.set_params(**results.best_params).fit(X, y)
        np.testing.assert_array_equal(fold.predicted, model.predict(take(bunch, test)[0]))
        assert fold.best_params == results.best_params


def test_model_is_fitted_on_everything_with_the_best_parameters(run):
    bunch, spec, results = run
    model = spec.pipeline.set_params(**results.best_params).fit(bunch.data, bunch.target)
    np.testing.assert_array_equal(
        results.model.predict(bunch.data), model.predict(bunch.data)
    )
    assert results.model.memory is None
    assert results.classes == tuple(CLASSES)
    assert results.cv_results["params"][0].keys() == results.best_params.keys()


def test_counts_of_fits(run):
    _, spec, results = run
    plan = make_plan(spec, make_bunch())
    # (4 outer folds + all the data) x (4 candidates x 3 folds + refit), 4 plain folds,
    # and a learning curve of 5 sizes on 4 folds.
    assert plan.fits == results.fits["total"] == 5 * 13 + 4 + 20
    assert results.fits["steps_reused"] > 0
    assert results.learning_curve["n_train"] == [9, 18, 27, 36, 45]
    assert np.shape(results.learning_curve["test"]) == (5, 4)


def test_a_second_run_takes_every_step_from_the_store(tmp_path):
    spec, bunch = make_spec(), make_bunch()
    first = run_experiment(spec, bunch, store=Store(tmp_path))
    second = run_experiment(spec, bunch, store=Store(tmp_path))
    assert first.fits["steps_computed"] > 0
    assert second.fits["steps_computed"] == 0
    for one, other in zip(first.folds, second.folds, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)


def test_stateless_steps_transform_a_sample_once(run, tmp_path, monkeypatch):
    tags = PoolFrames.__sklearn_tags__
    monkeypatch.setattr(
        PoolFrames, "__sklearn_tags__", lambda self: replace(tags(self), stateless=True)
    )
    bunch, spec, expected = run
    # for each of the two alternatives of the search
    for n_computed in (2 * 60, 0):
        results = run_experiment(spec, bunch, store=Store(tmp_path))
        assert results.fits["rows_computed"] == n_computed
        assert results.fits["rows_reused"] > 2 * 60
        assert results.best_params == expected.best_params
        assert repr(results.model) == repr(expected.model)
        assert results.settings == expected.settings
        for one, other in zip(results.folds, expected.folds, strict=True):
            np.testing.assert_array_equal(one.predicted, other.predicted)


def test_two_processes_give_what_one_gives(run, tmp_path):
    bunch, spec, results = run
    again = run_experiment(spec, bunch, store=Store(tmp_path), n_jobs=2)
    assert again.best_params == results.best_params
    for one, other in zip(results.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)
        assert one.scores == other.scores


def test_without_groups_the_plain_split_is_searched():
    bunch = make_bunch()
    bunch.groups = None
    results = run_experiment(make_spec(), bunch)
    assert results.primary == "stratified"
    assert {fold.split for fold in results.folds} == {"stratified"}
    assert len(results.folds) == 4


def test_a_single_candidate_is_not_searched():
    spec = make_spec(pipeline={"pool": "PoolFrames", "classify": "GaussianNB"})
    results = run_experiment(spec, make_bunch())
    assert results.cv_results == {}
    assert results.fits["total"] == 5 + 4 + 20


def test_a_classifier_that_encodes_is_scored_beside_the_last_step():
    spec = make_spec(
        pipeline={
            "pool": "PoolFrames",
            "encode": "LinearDiscriminantAnalysis",
            "classify": {"KNeighborsClassifier": {"n_neighbors": 1}},
        }
    )
    bunch = make_bunch()
    results = run_experiment(spec, bunch)
    fold = results.folds[0]
    train = np.setdiff1d(np.arange(60), fold.test)
    X, y, _ = take(bunch, train)
    pooled = spec.pipeline.fit(X, y)["encode"].predict(
        spec.pipeline["pool"].transform(take(bunch, fold.test)[0])
    )
    np.testing.assert_array_equal(fold.step_predictions["encode"], pooled)


def broken(**changes):
    bunch = make_bunch()
    bunch.update(changes)
    return bunch


def with_nan():
    bunch = make_bunch()
    bunch.data[7][1, 2] = np.nan
    return bunch


def with_two_sizes():
    bunch = make_bunch()
    bunch.data[5] = np.zeros((3, 5))
    return bunch


@pytest.mark.parametrize(
    ("bunch", "message"),
    [
        (
            broken(target=np.repeat("anger", 60)),
            r"all 60 samples are of one class \(anger\)",
        ),
        (
            broken(target=np.array(["anger"] * 57 + ["fear"] * 3)),
            r"class 'fear' has 3 samples for 4 outer folds",
        ),
        (
            broken(target=np.array(["anger"] * 57 + ["fear"] * 3), groups=None),
            r"class 'fear' has 3 samples for 4 outer folds; use fewer folds",
        ),
        (
            broken(groups=np.repeat(["a", "b", "c"], 20)),
            r"there are 3 subjects for 4 outer folds",
        ),
        (with_nan(), r"data\[7\] has NaN .*\(clip7\)"),
        (with_two_sizes(), r"data\[5\] has frames of shape \(5,\).*\(clip5\)"),
    ],
)
def test_data_that_cannot_be_used_is_refused(bunch, message):
    with pytest.raises(DataError, match=message):
        make_plan(make_spec(), bunch)


def test_folds_without_a_twin_are_never_called_by_subject():
    folds = {"RepeatedStratifiedKFold": {"n_splits": 3, "n_repeats": 2}}
    inner = {"KFold": {"n_splits": 2, "shuffle": True}}
    with pytest.raises(DataError, match=r"RepeatedStratifiedKFold ignores groups"):
        make_plan(make_spec(evaluate={"outer_cv": folds, "inner_cv": inner}), make_bunch())
    spec = make_spec(evaluate={"outer_cv": folds, "inner_cv": inner, "allow_leak": True})
    results = run_experiment(spec, make_bunch())
    assert results.primary == "stratified"
    assert [fold.split for fold in results.folds] == ["stratified"] * 6
    assert "samples of subject" in results.leak


def test_folds_by_group_need_groups():
    spec = make_spec(evaluate={"outer_cv": {"StratifiedGroupKFold": {"n_splits": 4}}})
    with pytest.raises(DataError, match="StratifiedGroupKFold needs groups"):
        make_plan(spec, broken(groups=None))
    plan = make_plan(spec, make_bunch())
    assert list(plan.split.folds) == ["subject_independent"]
    assert len(plan.primary) == 4


@pytest.mark.parametrize(
    ("first", "kind", "taken"),
    [("PoolFrames", "images", "sequences"), ("HOGFeatures", "sequences", "images")],
)
def test_data_of_another_kind_is_refused(first, kind, taken):
    spec = make_spec(pipeline={"first": first, "classify": "SVC"})
    nested = make_spec(
        pipeline={
            "both": {"union": {"a": first, "b": {"pipeline": {"c": first}}}},
            "classify": "SVC",
        }
    )
    for refused in (spec, nested):
        with pytest.raises(DataError, match=f"holds {kind}.*{first}, which takes {taken}"):
            make_plan(refused, broken(kind=kind))


def test_frames_of_one_sequence_on_both_sides_are_refused():
    images = np.random.default_rng(0).normal(size=(60, 8, 8))
    sequences = np.repeat(np.arange(20), 3)
    bunch = broken(data=images, kind="images", sequences=sequences, groups=sequences)
    pipeline = {"hog": "HOGFeatures", "classify": "SVC"}
    with pytest.raises(DataError, match=r"frames of sequence .* on both sides"):
        make_plan(make_spec(pipeline=pipeline), bunch)
    by_group = make_spec(
        pipeline=pipeline,
        evaluate={"outer_cv": {"StratifiedGroupKFold": {"n_splits": 4, "shuffle": True}}},
    )
    assert list(make_plan(by_group, bunch).split.folds) == ["subject_independent"]


def test_first_samples_of_a_learning_curve_hold_every_class():
    y = np.array(["a"] * 20 + ["b"] * 10 + ["c"])
    order = _stratified_order(y, np.arange(31), np.random.default_rng(0))
    assert sorted(order) == list(range(31))
    assert sorted(y[order[:3]]) == ["a", "b", "c"]
    assert np.unique(y[order[:16]], return_counts=True)[1].tolist() == [10, 5, 1]
    assert order[:3].tolist() != [0, 20, 30]  # shuffled


def make_photos():
    """One face in 12 photos of different sizes; mirrored, it is of another class."""
    photos = []
    for number in range(12):
        photo = astronaut()[: 300 + 10 * number, 60 : 400 - 8 * number]
        photos.append(photo if number % 2 else photo[:, ::-1].copy())
    return Bunch(
        data=photos,
        target=np.array(["anger", "fear"] * 6),
        groups=np.repeat(["a", "b", "c", "d", "e", "f"], 2),
        target_names=np.array(["anger", "fear"]),
        filenames=[f"photo{i}" for i in range(12)],
        kind="images",
        synthetic=False,
        DESCR="photos",
    )


def photo_spec():
    return make_spec(
        pipeline={"align": "FaceAligner", "hog": "HOGFeatures", "classify": "SVC"},
        evaluate={"outer_cv": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}}},
    )


def test_photos_of_many_sizes_are_aligned_in_the_pipeline():
    results = run_experiment(photo_spec(), make_photos())
    assert results.primary == "subject_independent"
    assert all(fold.scores["accuracy"] == 1 for fold in results.folds)


@pytest.mark.parametrize("kind", ["images", "sequences"])
def test_the_wireframe_takes_photos_and_clips_of_many_sizes(kind):
    photos = make_photos()
    steps = {"fit": {"CandideFitter": {"detector": None}}, "classify": "SVC"}
    if kind == "sequences":
        photos.data, photos.kind = [[photo] * 2 for photo in photos.data], kind
        steps = {"fit": steps["fit"], "pool": "PoolFrames", "classify": "SVC"}
    spec = make_spec(pipeline=steps, evaluate=photo_spec().resolved["evaluate"])
    assert run_experiment(spec, photos).primary == "subject_independent"


def test_photos_without_a_face_are_named_before_the_search():
    photos = make_photos()
    photos.data[4] = np.full((200, 300), 90, np.uint8)
    with pytest.raises(DataError, match=r"found in 1 of 12 images: photo4\. Leave"):
        make_plan(photo_spec(), photos)
    photos.data[4] = photos.data[5].astype(int) - 500
    with pytest.raises(DataError, match=r"data\[4\] has values from .*\(photo4\)"):
        make_plan(photo_spec(), photos)


def test_frames_without_a_face_and_wrong_samples_are_named_by_their_files():
    photos = make_photos()
    photos.data = [[photo] * 2 for photo in photos.data]
    photos.kind = "sequences"
    photos.data[4][1] = np.full((200, 300), 90, np.uint8)
    steps = {"fit": "CandideFitter", "pool": "PoolFrames", "classify": "SVC"}
    spec = make_spec(pipeline=steps, evaluate=photo_spec().resolved["evaluate"])
    with pytest.raises(DataError, match=r"in 1 of 24 images: frame 1 of photo4\. Leave"):
        make_plan(spec, photos)
    photos.filenames = [[f"{i}_{t}.png" for t in range(2)] for i in range(12)]
    with pytest.raises(DataError, match=r"in 1 of 24 images: 4_1\.png\. Leave"):
        make_plan(spec, photos)


def test_the_first_wrong_sample_is_named_whatever_the_message_says():
    bunch = make_bunch()
    bunch.data[3][0, 0] = np.nan
    bunch.data[7] = np.zeros((3, 5))
    with pytest.raises(DataError, match=r"data\[3\] has NaN.*\(clip3\)"):
        make_plan(make_spec(), bunch)
    # nothing is wrong with the first file alone
    bunch.data = [sample.astype(str) for sample in make_bunch().data]
    with pytest.raises(DataError, match="must hold numbers") as found:
        make_plan(make_spec(), bunch)
    assert "clip" not in str(found.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"ck84": {"path": "x"}}, r"data: 'ck84' .* Did you mean ck48\?"),
        ({"ck48": {"pat": "x"}}, r"data\.ck48: 'pat' .* Did you mean path\?"),
        ({"ck48": {}}, r"data\.ck48: .*path"),
        ({"joined": {"sets": {"ck48": {}}}}, r"data\.joined\.sets: .* at least two data"),
        ({"joined": {"sizes": 48}}, r"data\.joined: 'sizes' .* Did you mean size"),
        (
            {"joined": {"sets": {"ck48": {"pth": "x"}, "jaffe": {"path": "x"}}}},
            r"data\.joined\.sets\.ck48: 'pth' .* Did you mean path\?",
        ),
    ],
)
def test_mistakes_in_data_name_their_place(data, message):
    with pytest.raises(SpecError, match=message):
        load_data(make_spec(data=data))


def test_data_without_labels_or_with_several_is_refused():
    bunch = make_bunch()
    bunch.target = None
    with pytest.raises(DataError, match="has no labels"):
        make_plan(make_spec(), bunch)
    bunch.target = np.zeros((60, 5), int)
    with pytest.raises(DataError, match="5 labels per sample"):
        make_plan(make_spec(), bunch)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    evaluate = make_spec().resolved["evaluate"]
    for splitter in ("outer_cv", "inner_cv"):
        evaluate[splitter]["StratifiedKFold"]["random_state"] = None
    spec = make_spec(evaluate={**evaluate, "seeds": [0, 1, 2]})
    store = Store(tmp_path_factory.mktemp("seeds"))
    return spec, store, run_experiment(spec, make_bunch(), store=store)


def test_seeds_repeat_the_headline_with_other_folds(run, seeded):
    _, _, once = run
    _, _, results = seeded
    bunch = make_bunch()
    by_seed = {seed: [] for seed in (0, 1, 2)}
    for fold in results.folds:
        if fold.split == "subject_independent":
            by_seed[fold.seed].append(fold)
    for seed, folds in by_seed.items():
        splitter = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        expected = splitter.split(bunch.target, bunch.target, bunch.groups)
        for fold, (_, test) in zip(folds, expected, strict=True):
            np.testing.assert_array_equal(fold.test, test)
    alone = [fold for fold in once.folds if fold.split == "subject_independent"]
    assert [f.scores for f in by_seed[0]] == [f.scores for f in alone]
    assert results.best_params == once.best_params
    assert {fold.seed for fold in results.folds if fold.split == "stratified"} == {0}
    # two more times 4 folds x (4 candidates x 3 folds + refit)
    assert results.fits["total"] == once.fits["total"] + 2 * 4 * 13


def test_headline_of_seeds_is_their_mean(seeded, tmp_path):
    _, _, results = seeded
    summary = summarize(results)
    head = summary["splits"]["subject_independent"]
    assert summary["seeds"] == [0, 1, 2]
    assert head["n_folds"] == 4
    means = [
        np.mean(
            [
                f.scores["accuracy"]
                for f in results.folds
                if f.seed == s and f.split != "stratified"
            ]
        )
        for s in (0, 1, 2)
    ]
    assert len(set(means)) > 1
    found = head["seeds"]["accuracy"]
    np.testing.assert_allclose(found["values"], means)
    np.testing.assert_allclose(found["mean"], np.mean(means))
    np.testing.assert_allclose(found["spread"], np.std(means, ddof=1))
    np.testing.assert_allclose(head["accuracy"]["mean"], np.mean(means))
    assert head["n_tested"] == 60
    assert np.sum(head["confusion"]) == 180
    assert summary["splits"]["stratified"]["seeds"] is None
    assert "repeated with 3 seeds" in summary["protocol"]
    words = f"{means[1]:.3f} (seed 1)"
    page = write_report(results, tmp_path)["report.html"].read_text()
    for text in (text_table(results), page):
        assert words in text
        assert "accuracy, over seeds" in text


def test_a_run_of_seeds_goes_on_from_the_store(seeded):
    spec, store, results = seeded
    again = run_experiment(spec, make_bunch(), store=store)
    assert again.fits["steps_computed"] == 0
    for one, other in zip(results.folds, again.folds, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)


def count_fits(monkeypatch):
    counted = []
    add = Journal.add

    def watched(self, event, number=1):
        counted.extend([event] * number)
        add(self, event, number)

    monkeypatch.setattr(Journal, "add", watched)
    return counted


def test_random_search_tries_some_candidates(monkeypatch, tmp_path):
    counted = count_fits(monkeypatch)
    spec = make_spec(search={"random": {"n_iter": 3}})
    results = run_experiment(spec, make_bunch())
    assert len(results.cv_results["params"]) == 3
    assert results.fits["total"] == 5 * (3 * 3 + 1) + 4 + 20 == counted.count("fit")
    assert results.search == "3 of 4 candidates, sampled at random"
    page = write_report(results, tmp_path)["report.html"].read_text()
    for text in (text_table(results), page):
        assert "3 of 4 candidates, sampled at random" in text
    every = run_experiment(make_spec(search={"random": {"n_iter": 50}}), make_bunch())
    assert len(every.cv_results["params"]) == 4


def test_halving_gives_the_best_more_samples(monkeypatch, tmp_path):
    counted = count_fits(monkeypatch)
    spec = make_spec(search={"halving": {"factor": 2}})
    bunch = make_bunch(n=120)
    results = run_experiment(spec, bunch)
    found = results.cv_results
    # 4 candidates on a quarter of the samples, 2 on half of them, 1 on all
    assert list(found["iter"]) == [0, 0, 0, 0, 1, 1, 2]
    assert list(found["n_resources"]) == [30, 30, 30, 30, 60, 60, 120]
    assert results.best_params == found["params"][-1]
    assert results.fits["total"] == counted.count("fit")
    assert results.primary == "subject_independent"
    folder = write_report(results, tmp_path)
    rows = folder["cv_results.csv"].read_text().splitlines()
    assert len(rows) == 8
    names = rows[0].split(",")
    assert rows[1].split(",")[names.index("iter")] == "2"
    assert "4 candidates by successive halving" in folder["report.html"].read_text()


def test_halving_needs_enough_samples():
    spec = make_spec(search="halving")
    with pytest.raises(DataError, match=r"search\.halving: a training part of 1\d samples"):
        make_plan(spec, make_bunch(n=21, n_subjects=7))


def test_a_class_that_is_too_rare_for_the_inner_folds():
    bunch = make_bunch()
    bunch.groups = None
    bunch.target[bunch.target == "fear"] = "anger"
    bunch.target[:4] = "fear"
    evaluate = {
        "outer_cv": {"StratifiedKFold": {"n_splits": 4, "shuffle": True}},
        "inner_cv": {"StratifiedKFold": {"n_splits": 4, "shuffle": True}},
    }
    with pytest.raises(DataError, match=r"class 'fear' has 3 samples for 4 inner folds"):
        make_plan(make_spec(evaluate=evaluate), bunch)


def test_inner_folds_by_group_need_groups():
    spec = make_spec(evaluate={"inner_cv": {"GroupKFold": {"n_splits": 3}}})
    with pytest.raises(DataError, match="GroupKFold needs groups"):
        make_plan(spec, broken(groups=None))


def test_joined_data_sets_are_loaded(tmp_path):
    rng = np.random.default_rng(0)
    for subject in ("KA", "KM"):
        for code in ("AN", "HA", "NE"):
            image = Image.fromarray(rng.integers(0, 256, (30, 30), dtype=np.uint8))
            image.save(tmp_path / f"{subject}.{code}1.{rng.integers(99)}.tiff")
    own = tmp_path / "own"
    for name in ("angry", "happy"):
        (own / name).mkdir(parents=True)
        for subject in ("P1", "P2"):
            image = Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8))
            image.save(own / name / f"{subject}.png")
    (tmp_path / "jaffe").mkdir()
    for file in tmp_path.glob("*.tiff"):
        file.rename(tmp_path / "jaffe" / file.name)
    sets = {
        "jaffe": {"path": str(tmp_path)},
        "image_folder": {"path": str(own), "groups": r"/(P\d)"},
    }
    spec = make_spec(
        data={"joined": {"sets": sets, "size": 24}},
        pipeline={"hog": "HOGFeatures", "classify": "GaussianNB"},
        evaluate={"protocol": "leave-one-data-set-out"},
    )
    bunch = load_data(spec)
    assert bunch.data.shape == (8, 24, 24)
    assert set(bunch.target) == {"anger", "happiness"}
    results = run_experiment(spec, bunch)
    assert [set(bunch.data_set[fold.test]) for fold in results.folds] == [
        {"image_folder"},
        {"jaffe"},
    ]
    assert "images of another origin" in results.protocol
