import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import Parallel, delayed
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import get_tags

import ferpipe
from ferpipe import HOGFeatures, PerFrame, PoolFrames
from ferpipe._base import ImageMixin, input_kind
from ferpipe.caching.events import Journal
from ferpipe.caching.store import RowStore, Store
from ferpipe.caching.transformer import (
    Cached,
    KeptPipeline,
    StepMemory,
    put_cache,
    take_cache,
    without_cache,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = np.repeat([0, 1], 20)
IMAGES = RNG.integers(0, 256, (200, 6, 5), dtype=np.uint8)


class Counting(TransformerMixin, BaseEstimator):
    """Appends a line to a file at each fit."""

    def __init__(self, path=None, factor=1):
        self.path = path
        self.factor = factor

    def fit(self, X, y=None):
        with open(self.path, "a") as file:
            file.write("fit\n")
        self.mean_ = X.mean(0)
        return self

    def transform(self, X):
        return self.factor * (X - self.mean_)


class Sums(ImageMixin, BaseEstimator):
    """Learns nothing; appends to a file how many samples it transformed."""

    stateless = True

    def __init__(self, path=None, factor=1, as_list=False, n_jobs=None):
        self.path = path
        self.factor = factor
        self.as_list = as_list
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        self.image_shape_ = np.shape(X[0])
        return self

    def transform(self, X):
        for index, sample in enumerate(X):
            if np.any(np.equal(sample, 13.5)):
                raise ValueError(f"X[{index}] is unlucky")
        with open(self.path, "a") as file:
            file.write(f"{len(X)}\n")
        rows = [self.factor * np.atleast_1d(np.sum(sample, axis=-1)) for sample in X]
        return rows if self.as_list else np.stack(rows)

    def get_feature_names_out(self, input_features=None):
        return np.array([f"sum{i}" for i in range(self.image_shape_[0])], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.stateless = self.stateless
        return tags


class Slow(Sums):
    def transform(self, X):
        time.sleep(0.002 * len(X))
        return super().transform(X)


class Learned(Sums):
    """Learns how bright the images are that it was fitted on."""

    stateless = False

    def fit(self, X, y=None):
        self.brightness_ = np.mean(X)
        return super().fit(X, y)

    def transform(self, X):
        return super().transform(X) - self.brightness_


class SumsWithGroups(Sums):
    """Cannot be fitted without groups."""

    __metadata_request__fit = {"groups": True}

    def fit(self, X, y=None, groups=None):
        assert groups is not None
        return super().fit(X, y)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


class Place:
    """A store, a journal and the number of samples that went through Sums."""

    def __init__(self, folder):
        self.path = str(folder / "log")
        self.store = Store(folder / "store")
        self.journal = Journal(folder / "journal")

    @property
    def rows(self):
        return RowStore(self.store.folder)

    def transformed(self):
        return sum(map(int, Path(self.path).read_text().split()))

    def cached(self, **parameters):
        return Cached(Sums(self.path, **parameters), store=self.rows, journal=self.journal)


# Cached


def test_gives_what_the_transformer_gives_and_transforms_a_sample_once(place):
    cached = place.cached().fit(IMAGES)
    expected = IMAGES.sum(axis=-1)
    for some in (slice(0, 100), slice(50, 150), slice(None, None, -1), slice(3, 4)):
        np.testing.assert_array_equal(cached.transform(IMAGES[some]), expected[some])
    assert place.transformed() == 200
    assert place.journal.count("row_computed") == 200
    assert place.journal.count("row_reused") == 50 + 150 + 1
    again = place.cached().fit_transform(IMAGES)
    np.testing.assert_array_equal(again, expected)
    assert again.flags.writeable
    assert place.transformed() == 200


def test_the_same_sample_twice_is_transformed_once(place):
    twice = np.repeat(IMAGES[:70], 2, axis=0)
    transformed = place.cached().fit_transform(twice)
    np.testing.assert_array_equal(transformed, twice.sum(axis=-1))
    assert place.transformed() == 70


@pytest.mark.parametrize("changed", [{"factor": 2}, {"as_list": True}])
def test_other_parameters_transform_again(place, changed):
    place.cached().fit_transform(IMAGES)
    other = place.cached(**changed).fit_transform(IMAGES)
    assert place.transformed() == 400
    np.testing.assert_array_equal(other, changed.get("factor", 1) * IMAGES.sum(axis=-1))


def test_number_of_processes_makes_no_difference(place):
    place.cached().fit_transform(IMAGES)
    place.cached(n_jobs=2).fit_transform(IMAGES)
    assert place.transformed() == 200


@pytest.mark.parametrize("changed", [np.float32, np.int16, None])
def test_other_samples_transform_again(place, changed):
    place.cached().fit_transform(IMAGES)
    other = IMAGES.copy()
    if changed is None:
        other[:, 0, 0] ^= 1
    else:
        other = other.astype(changed)
    place.cached().fit_transform(other)
    assert place.transformed() == 400


def test_samples_with_the_same_bytes_in_another_shape_differ(place):
    flat = np.zeros((1, 2, 15), np.uint8)
    place.cached().fit_transform(flat)
    assert place.cached().fit_transform(flat.reshape(1, 6, 5)).shape == (1, 6)


def test_another_version_transforms_again(place, monkeypatch):
    place.cached().fit_transform(IMAGES)
    monkeypatch.setattr(ferpipe, "__version__", "0.0.0")
    place.cached().fit_transform(IMAGES)
    assert place.transformed() == 400


def test_what_was_learned_is_part_of_the_key(place):
    cached = Cached(StandardScaler(), store=place.rows)
    for train in (X, X[:20], X):
        np.testing.assert_array_equal(
            clone(cached).fit(train).transform(X), StandardScaler().fit(train).transform(X)
        )


def test_sequences_come_in_lists_again(place):
    clips = [IMAGES[:2], IMAGES[2:4], IMAGES[4:7], list(IMAGES[7:9])]
    expected = PerFrame(HOGFeatures(pixels_per_cell=(2, 2))).fit_transform(clips)
    cached = Cached(PerFrame(HOGFeatures(pixels_per_cell=(2, 2))), store=place.rows)
    cached.fit(clips, groups=[1, 1, 2, 2])
    for _ in range(2):
        transformed = cached.transform(clips)
        assert isinstance(transformed, list)
        for one, other in zip(transformed, expected, strict=True):
            np.testing.assert_array_equal(one, other, strict=True)
            one += 1  # nobody else's
    assert input_kind(cached) == "sequences"
    assert cached.frame_shape_ == (6, 5)
    assert get_tags(cached).input_tags.three_d_array


def test_lists_of_equal_arrays_stay_lists(place):
    for _ in range(2):
        assert isinstance(place.cached(as_list=True).fit_transform(IMAGES), list)
    assert place.transformed() == 200


def test_errors_name_samples_by_their_place(place):
    bad = IMAGES.astype(float)
    bad[171, 2, 2] = 13.5
    with pytest.raises(ValueError, match=r"X\[171\] is unlucky"):
        place.cached().fit(bad).transform(bad)


def test_file_names_are_not_remembered(place):
    class Lengths(Sums):
        def fit(self, X, y=None):
            return self

        def transform(self, X):
            return np.array([[len(Path(name).read_text())] for name in X])

    file = Path(place.path)
    cached = Cached(Lengths(), store=place.rows)
    for text in ("one", "three"):
        file.write_text(text)
        assert cached.fit_transform([str(file)]) == len(text)


def test_what_is_no_array_of_numbers_is_refused(place):
    class Sparse(Sums):
        def transform(self, X):
            return csr_array(X)

    with pytest.raises(TypeError, match=r"arrays of numbers only, but Sparse"):
        Cached(Sparse(), store=place.rows).fit(X).transform(X)


def test_unfitted_says_so():
    with pytest.raises(NotFittedError):
        Cached(HOGFeatures()).transform(IMAGES)


def test_data_frames_have_the_names(place):
    cached = place.cached().set_output(transform="pandas")
    for _ in range(2):
        frame = cached.fit_transform(IMAGES)
        assert isinstance(frame, pd.DataFrame)
        assert list(frame.columns) == [f"sum{i}" for i in range(6)]
        np.testing.assert_array_equal(frame, IMAGES.sum(axis=-1))
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(place.cached().fit_transform(IMAGES), pd.DataFrame)
    clips = [IMAGES[:2], IMAGES[2:5]]
    lists = Cached(PerFrame(Sums(place.path)), store=place.rows).fit(clips)
    assert isinstance(lists.set_output(transform="pandas").transform(clips), list)


def test_the_store_is_that_of_the_environment_by_default(tmp_path, monkeypatch, place):
    monkeypatch.setenv("FERPIPE_CACHE", str(tmp_path / "here"))
    Cached(Sums(place.path)).fit_transform(IMAGES)
    assert (tmp_path / "here" / "rows.sqlite").is_file()


def test_two_processes_share_the_work(place):
    cached = Cached(Slow(place.path), store=place.rows, journal=place.journal)
    many = RNG.integers(0, 256, (1500, 6, 5), dtype=np.uint8)
    both = Parallel(2)(delayed(clone(cached).fit_transform)(many) for _ in range(2))
    for one in both:
        np.testing.assert_array_equal(one, many.sum(axis=-1))
    # without sharing each of them would have done all; the last parts may be done twice
    assert 1500 <= place.journal.count("row_computed") < 2300


# Around the steps of a pipeline


def test_a_search_fits_an_unchanged_step_once_a_fold(tmp_path):
    journal = Journal(tmp_path / "journal")
    pipeline = Pipeline(
        [("count", Counting(path=str(tmp_path / "fits"))), ("classify", SVC())],
        memory=StepMemory(Store(tmp_path / "store"), journal),
    )
    grid = {"count__factor": [1, 2], "classify__C": [0.1, 1, 10]}
    search = GridSearchCV(pipeline, grid, cv=4).fit(X, Y)
    fits = (tmp_path / "fits").read_text().count("fit")
    # The refit on all the data is the only one outside the folds.
    assert fits == 2 * 4 + 1
    assert journal.count("step_computed") == fits
    assert journal.count("step_reused") == 2 * 3 * 4 - 2 * 4
    plain = GridSearchCV(pipeline.set_params(memory=None), grid, cv=4).fit(X, Y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )


class Fits(SVC):
    """A classifier that counts its fits, or fails."""

    def __init__(self, path=None, C=1.0, fails=False):
        super().__init__(C=C)
        self.path = path
        self.fails = fails

    def fit(self, X, y):
        if self.fails:
            raise ValueError("half-way")
        with open(self.path, "a") as file:
            file.write("fit\n")
        return super().fit(X, y)


def kept_pipeline(place, **changes):
    classify = Fits(place.path, **changes)
    memory = StepMemory(place.store, place.journal)
    return KeptPipeline(
        [("scale", StandardScaler()), ("classify", classify)], memory=memory
    )


def test_a_second_search_fits_no_last_step(place):
    grid = {"classify__C": [0.1, 1, 10]}
    plain = Pipeline(kept_pipeline(place).steps)
    expected = GridSearchCV(plain, grid, cv=4).fit(X, Y)
    n_fits = Path(place.path).read_text().count("fit")
    assert n_fits == 3 * 4 + 1
    for n_more in (n_fits, 0):
        before = Path(place.path).read_text().count("fit")
        search = GridSearchCV(kept_pipeline(place), grid, cv=4).fit(X, Y)
        assert Path(place.path).read_text().count("fit") == before + n_more
        np.testing.assert_array_equal(search.predict(X), expected.predict(X))
        for name in ("mean_test_score", "rank_test_score"):
            found = search.cv_results_[name]
            np.testing.assert_array_equal(found, expected.cv_results_[name])
    assert (
        place.journal.count("fit_computed") == place.journal.count("fit_reused") == n_fits
    )
    assert isinstance(search.best_estimator_[-1], Fits)


@pytest.mark.parametrize("change", ["data", "target", "parameter", "step before"])
def test_what_a_last_step_depends_on_fits_it_again(place, change):
    kept_pipeline(place).fit(X, Y)
    model = kept_pipeline(place, C=2.0 if change == "parameter" else 1.0)
    if change == "step before":
        model.set_params(scale__with_mean=False)
    model.fit(X + X**2 * (change == "data"), 1 - Y if change == "target" else Y)
    assert place.journal.count("fit_computed") == 2


def test_a_last_step_that_fails_is_left_as_it_was(place):
    model = kept_pipeline(place, fails=True)
    with pytest.raises(ValueError, match="half-way"):
        model.fit(X, Y)
    assert isinstance(model[-1], Fits)
    model.set_params(classify__fails=False).fit(X, Y)
    assert model.score(X, Y) > 0.5


@pytest.mark.parametrize("last", ["passthrough", None, Sums()])
def test_a_last_step_that_learns_nothing_is_not_kept(place, last):
    memory = StepMemory(place.store, place.journal)
    steps = [("scale", StandardScaler()), ("last", last)]
    KeptPipeline(steps, memory=memory).fit(X, Y)
    assert place.journal.count("fit_computed") == 0
    assert len(list(place.store.folder.glob("*/*.joblib"))) == 1


LABELS = np.arange(200) % 2


def searched(pipeline, grid):
    search = GridSearchCV(
        pipeline, grid, cv=StratifiedGroupKFold(4), scoring="accuracy", error_score="raise"
    )
    with sklearn.config_context(enable_metadata_routing=True):
        return search.fit(IMAGES, LABELS, groups=np.arange(200) // 4)


def test_a_search_transforms_each_sample_once(place):
    pipeline = Pipeline(
        [("sum", Sums(place.path)), ("scale", StandardScaler()), ("classify", SVC())]
    )
    grid = {"sum__factor": [1, 2], "classify__C": [0.1, 1, 10]}
    plain = searched(clone(pipeline), grid)
    before = place.transformed()
    pipeline.set_params(memory=StepMemory(place.store, place.journal))
    search = searched(pipeline, grid)
    assert place.transformed() - before == 2 * 200
    assert place.journal.count("row_computed") == 2 * 200
    # a train and a test part for each candidate and fold, and the refit on all
    assert place.journal.count("row_reused") == 6 * 4 * 200 + 200 - 2 * 200
    assert search.best_params_ == plain.best_params_
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    # what comes after it is remembered as a whole: the scaler once a fold and factor
    assert place.journal.count("step_computed") == 2 * 4 + 1


def test_the_model_of_a_search_is_plain_again(place):
    union = FeatureUnion(
        [
            ("sum", Sums(place.path)),
            ("scaled", make_pipeline(Sums(place.path, factor=3), StandardScaler())),
        ]
    )
    steps = [("both", union), ("scale", StandardScaler()), ("classify", SVC())]
    pipeline = Pipeline(steps, memory=StepMemory(place.store, place.journal))
    for _ in range(2):
        model = searched(pipeline, {"both__sum__factor": [1, 2]}).best_estimator_
        assert "Cached" in repr(model)
        plain = take_cache(model).set_params(memory=None)
        assert "Cached" not in repr(plain)
        expected = clone(plain).fit(IMAGES, LABELS)
        np.testing.assert_array_equal(plain.predict(IMAGES), expected.predict(IMAGES))
        assert repr(plain) == repr(expected)
    assert place.journal.count("row_computed") == 3 * 200


def test_groups_may_go_to_a_union_of_remembered_steps(place):
    branches = [(f"times{factor}", SumsWithGroups(place.path, factor)) for factor in (1, 2)]
    memory = StepMemory(place.store, place.journal)
    model = Pipeline([("both", FeatureUnion(branches)), ("svc", SVC())], memory=memory)
    with sklearn.config_context(enable_metadata_routing=True):
        model.fit(IMAGES, LABELS, groups=LABELS)
    assert place.journal.count("row_computed") == 2 * 200


def test_behind_a_step_that_learns_samples_are_not_remembered(place):
    steps = [("scale", StandardScaler()), ("sum", Sums(place.path)), ("classify", SVC())]
    model = Pipeline(steps, memory=StepMemory(place.store, place.journal))
    model.fit(X[..., None].repeat(2, axis=2).reshape(40, 6), Y)
    assert place.journal.count("row_computed") == 0
    assert place.journal.count("step_computed") == 2
    assert "Cached" not in repr(model)


def test_what_is_frozen_is_remembered_with_what_it_has_learned(place):
    dark, bright = (Learned(place.path).fit(images) for images in (IMAGES // 2, IMAGES))
    for learned in (dark, bright, dark):
        steps = [("sum", FrozenEstimator(learned)), ("classify", SVC())]
        memory = StepMemory(place.store, place.journal)
        model = Pipeline(steps, memory=memory).fit(IMAGES, LABELS)
        expected = IMAGES.sum(axis=-1) - learned.brightness_
        np.testing.assert_array_equal(model[0].transform(IMAGES), expected)
    assert place.journal.count("row_computed") == 2 * 200
    assert place.journal.count("step_computed") == 0


def test_put_and_take_are_opposites(place):
    pipeline = make_pipeline(
        "passthrough", Sums(place.path), Sums(place.path, 2), StandardScaler(), Sums()
    )
    before = repr(pipeline)
    put_cache(pipeline)
    kinds = [type(step).__name__ for _, step in pipeline.steps]
    assert kinds == ["str", "Cached", "Cached", "StandardScaler", "Sums"]
    assert repr(take_cache(pipeline)) == before
    scaler = StandardScaler()
    assert put_cache(scaler) is take_cache(scaler) is scaler


def test_read_only_samples_are_hashed_once(monkeypatch):
    from ferpipe.caching import transformer as cached

    hashed = []
    whole = cached._hash
    monkeypatch.setattr(cached, "_hash", lambda array: hashed.append(1) or whole(array))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    views = [image.view() for image in images]
    for view in views:
        view.flags.writeable = False
    first = cached._keys(views, b"one")
    assert cached._keys(views, b"one") == first
    assert cached._keys(views, b"two") != first
    assert len(hashed) == 3
    # what can be written to is looked at each time, and has the same key
    assert cached._keys(list(images), b"one") == first
    assert len(hashed) == 6
    images[0, 0, 0] += 1
    assert cached._keys(list(images), b"one")[0] != first[0]
    n_known = len(cached._REMEMBERED)
    del view, views
    assert len(cached._REMEMBERED) == n_known - 3


# Without a cache


def models_with_cached():
    """Return {name: (model, its samples)}, each fitted, with Cached in another place."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (24, 12, 12), dtype=np.uint8)
    y = np.array(["a", "b"] * 12)
    X[y == "a", :6] //= 4
    clips = [X[start : start + 2] for start in range(0, 24, 2)]

    def cached():
        return Cached(HOGFeatures(pixels_per_cell=(4, 4)))

    def classifier():
        return make_pipeline(cached(), LogisticRegression())

    named = [("one", classifier()), ("other", classifier())]
    frozen = FrozenEstimator(cached().fit(X))
    in_pandas = cached().set_output(transform="pandas")
    columns = ColumnTransformer([("some", "passthrough", slice(0, 9))])
    made = {
        "pipeline": make_pipeline(cached(), StandardScaler(), LogisticRegression()),
        "nested pipeline": make_pipeline(make_pipeline(cached()), LogisticRegression()),
        "union": make_pipeline(
            FeatureUnion([("a", cached()), ("b", cached())]), LogisticRegression()
        ),
        "voting": VotingClassifier(named, voting="soft"),
        "stacking": StackingClassifier(named, cv=2),
        "calibrated": CalibratedClassifierCV(classifier(), cv=2),
        "frozen": make_pipeline(frozen, LogisticRegression()),
        "frozen whole": make_pipeline(FrozenEstimator(classifier().fit(X, y))),
        "one of many": OneVsRestClassifier(classifier()),
        "search": GridSearchCV(
            classifier(), {"logisticregression__C": [0.1, 1.0]}, cv=2, refit=True
        ),
        "cached twice": make_pipeline(Cached(cached()), LogisticRegression()),
        "pandas": make_pipeline(in_pandas, columns, LogisticRegression()),
    }
    fitted = {name: (model.fit(X, y), X) for name, model in made.items()}
    per_frame = make_pipeline(PerFrame(cached()), PoolFrames(), LogisticRegression())
    fitted["per frame"] = per_frame.fit(clips, y[:12]), clips
    whole = make_pipeline(Cached(PerFrame(cached())), PoolFrames(), LogisticRegression())
    fitted["whole clips"] = whole.fit(clips, y[:12]), clips
    return fitted


def test_without_cache_nothing_is_kept_and_predictions_are_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("FERPIPE_CACHE", str(folder))
    for name, (model, X) in models_with_cached().items():
        before = repr(model)
        expected = model.predict_proba(X)
        assert any(folder.rglob("*")), name  # it does keep them
        shutil.rmtree(folder)
        plain = without_cache(model)
        np.testing.assert_array_equal(plain.predict_proba(X), expected, err_msg=name)
        assert not folder.exists(), name
        assert "Cached" not in repr(plain), name
        assert repr(model) == before, name
        model.predict_proba(X)
        assert any(folder.rglob("*")), name  # the model given is not changed
        shutil.rmtree(folder)


def test_a_model_without_cached_is_itself():
    model = make_pipeline(HOGFeatures(pixels_per_cell=(2, 2)), StandardScaler()).fit(IMAGES)
    assert without_cache(model) is model
    around = make_pipeline(Cached(HOGFeatures(pixels_per_cell=(2, 2))), *model[1:])
    assert without_cache(around)[1] is model[1]
