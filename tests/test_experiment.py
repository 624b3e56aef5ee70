import numpy as np
import pytest
from skimage.data import astronaut
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.utils import Bunch

from ferpipe import PoolFrames
from ferpipe.experiment import (
    DataError,
    _stratified_order,
    load_data,
    make_plan,
    run_experiment,
)
from ferpipe.spec import SpecError, compile_spec
from ferpipe.store import Store

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
            "folds": {"StratifiedKFold": {"n_splits": 4, "shuffle": True}},
            "inner": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}},
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
    folds = [fold for fold in results.folds if fold.split == "by_subject"]
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


def test_no_subject_stands_on_both_sides_of_the_headline(run):
    bunch, _, results = run
    assert results.headline == "by_subject"
    tested = []
    for fold in results.folds:
        if fold.split == "by_subject":
            rest = np.setdiff1d(np.arange(60), fold.test)
            assert not set(bunch.groups[fold.test]) & set(bunch.groups[rest])
            tested += list(fold.test)
    assert sorted(tested) == list(range(60))


def test_plain_split_is_scored_once_with_the_parameters_of_the_whole(run):
    bunch, spec, results = run
    plain = [fold for fold in results.folds if fold.split == "plain"]
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
    monkeypatch.setattr(PoolFrames, "stateless", True, raising=False)
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
    assert results.headline == "plain"
    assert {fold.split for fold in results.folds} == {"plain"}
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
    spec = make_spec(
        evaluate={
            "folds": {"KFold": {"n_splits": 3, "shuffle": True}},
            "inner": {"KFold": {"n_splits": 2, "shuffle": True}},
        }
    )
    results = run_experiment(spec, make_bunch())
    assert results.headline == "plain"
    assert [fold.split for fold in results.folds] == ["plain"] * 3


def test_folds_by_group_need_groups():
    spec = make_spec(evaluate={"folds": {"StratifiedGroupKFold": {"n_splits": 4}}})
    with pytest.raises(DataError, match="StratifiedGroupKFold needs groups"):
        make_plan(spec, broken(groups=None))
    plan = make_plan(spec, make_bunch())
    assert len(plan.by_subject) == 4
    assert plan.plain == []


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
        evaluate={"folds": {"StratifiedGroupKFold": {"n_splits": 4, "shuffle": True}}},
    )
    assert len(make_plan(by_group, bunch).by_subject) == 4


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
        evaluate={"folds": {"StratifiedKFold": {"n_splits": 3, "shuffle": True}}},
    )


def test_photos_of_many_sizes_are_aligned_in_the_pipeline():
    results = run_experiment(photo_spec(), make_photos())
    assert results.headline == "by_subject"
    assert all(fold.scores["accuracy"] == 1 for fold in results.folds)


@pytest.mark.parametrize("kind", ["images", "sequences"])
def test_the_wireframe_takes_photos_and_clips_of_many_sizes(kind):
    photos = make_photos()
    steps = {"fit": {"CandideFitter": {"detector": None}}, "classify": "SVC"}
    if kind == "sequences":
        photos.data, photos.kind = [[photo] * 2 for photo in photos.data], kind
        steps = {"fit": steps["fit"], "pool": "PoolFrames", "classify": "SVC"}
    spec = make_spec(pipeline=steps, evaluate=photo_spec().resolved["evaluate"])
    assert run_experiment(spec, photos).headline == "by_subject"


def test_photos_without_a_face_are_named_before_the_search():
    photos = make_photos()
    photos.data[4] = np.full((200, 300), 90, np.uint8)
    with pytest.raises(DataError, match=r"found in 1 of 12 images: photo4\. Leave"):
        make_plan(photo_spec(), photos)
    photos.data[4] = photos.data[5].astype(int) - 500
    with pytest.raises(DataError, match=r"data\[4\] has values from .*\(photo4\)"):
        make_plan(photo_spec(), photos)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"ck84": {"path": "x"}}, r"data: 'ck84' .* Did you mean ck48\?"),
        ({"ck48": {"pat": "x"}}, r"data\.ck48: 'pat' .* Did you mean path\?"),
        ({"ck48": {}}, r"data\.ck48: .*path"),
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
    with pytest.raises(DataError, match="5 labels a sample"):
        make_plan(make_spec(), bunch)
