import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from ferpipe import FrameDeltas, HOGFeatures, PerFrame, PoolFrames
from ferpipe.sequences import frame_deltas, pool_frames

LENGTHS = (3, 1, 4, 2)


@pytest.fixture
def clips(rng):
    """Sequences of feature vectors that differ in length."""
    return [rng.normal(size=(length, 5)) for length in LENGTHS]


@pytest.fixture
def films(rng):
    """Sequences of gray images that differ in length."""
    return [rng.integers(0, 256, (length, 16, 24), dtype=np.uint8) for length in LENGTHS]


@pytest.fixture
def rng():
    return np.random.default_rng(3)


class Recorder(TransformerMixin, BaseEstimator):
    """Remembers what it is given."""

    __metadata_request__fit = {"groups": True}

    def fit(self, X, y=None, groups=None):
        self.seen_ = {"X": X, "y": y, "groups": groups}
        self.n_fits_ = getattr(self, "n_fits_", 0) + 1
        self.n_transforms_ = 0
        return self

    def transform(self, X):
        self.n_transforms_ += 1
        return X


# PerFrame


def test_per_frame_equals_the_transformer_applied_to_each_sequence(films):
    transformed = PerFrame(HOGFeatures()).fit(films).transform(films)
    extractor = HOGFeatures().fit(films[0])
    assert [len(frames) for frames in transformed] == list(LENGTHS)
    for frames, film in zip(transformed, films, strict=True):
        np.testing.assert_array_equal(frames, extractor.transform(film))


def test_per_frame_repeats_target_and_groups_for_each_frame(clips):
    y = np.array(["a", "b", "c", "d"])
    groups = [10, 20, 30, 40]
    seen = PerFrame(Recorder()).fit(clips, y, groups=groups).transformer_.seen_
    np.testing.assert_array_equal(seen["X"], np.concatenate(clips))
    assert list(seen["y"]) == list("aaabccccdd")
    assert list(seen["groups"]) == [10] * 3 + [20] + [30] * 4 + [40] * 2


def test_per_frame_fits_without_groups_what_takes_none(clips):
    fitted = PerFrame(PCA(2)).fit(clips, groups=[1, 2, 3, 4])
    assert fitted.transformer_.n_components_ == 2


def test_per_frame_routes_groups_through_a_pipeline(clips):
    inner = make_pipeline(StandardScaler(), Recorder())
    with sklearn.config_context(enable_metadata_routing=True):
        fitted = PerFrame(inner).fit(clips, groups=[1, 2, 3, 4])
        outer = make_pipeline(PerFrame(Recorder())).fit(clips, groups=[1, 2, 3, 4])
    assert list(fitted.transformer_[-1].seen_["groups"]) == [1, 1, 1, 2, 3, 3, 3, 3, 4, 4]
    assert list(outer[0].transformer_.seen_["groups"]) == [1, 1, 1, 2, 3, 3, 3, 3, 4, 4]


def test_per_frame_makes_one_batched_call(clips):
    per_frame = PerFrame(Recorder())
    per_frame.fit_transform(clips)
    assert per_frame.transformer_.n_fits_ == 1
    assert per_frame.transformer_.n_transforms_ == 1
    per_frame.transform(clips)
    assert per_frame.transformer_.n_transforms_ == 2


def test_per_frame_fit_transform_uses_that_of_the_transformer(clips):
    class Own(Recorder):
        def fit_transform(self, X, y=None):
            return self.fit(X, y).transform(X) + 1

    fitted = PerFrame(Own()).fit_transform(clips)
    for frames, clip in zip(fitted, clips, strict=True):
        np.testing.assert_array_equal(frames, clip + 1)


def test_per_frame_leaves_its_parameter_unfitted(clips):
    transformer = StandardScaler()
    PerFrame(transformer).fit(clips)
    assert not hasattr(transformer, "mean_")


def test_per_frame_keeps_a_frozen_transformer(clips):
    scaler = StandardScaler().fit(np.zeros((2, 5)) + 7)
    transformed = PerFrame(FrozenEstimator(scaler)).fit_transform(clips)
    np.testing.assert_allclose(transformed[0], clips[0] - 7)


def test_per_frame_supervised_transformer_separates_by_the_repeated_target():
    clips = [np.array([[0.0, 1], [0, 2]]), np.array([[5.0, 1], [5, 2], [5, 3]])]
    transformed = PerFrame(LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.5))
    first, second = transformed.fit_transform(clips, ["calm", "glad"])
    assert first.max() < second.min() or second.max() < first.min()


def test_per_frame_splits_the_output_of_a_pandas_transformer(clips):
    plain = PerFrame(StandardScaler()).fit_transform(clips)
    pandas = PerFrame(StandardScaler().set_output(transform="pandas"))
    with sklearn.config_context(transform_output="pandas"):
        everywhere = PerFrame(StandardScaler()).fit_transform(clips)
    for i, transformed in enumerate(pandas.fit_transform(clips)):
        assert type(transformed) is np.ndarray
        np.testing.assert_array_equal(transformed, plain[i])
        np.testing.assert_array_equal(everywhere[i], plain[i])


def test_per_frame_gives_image_frames_if_the_transformer_does(films):
    halve = FunctionTransformer(lambda images: images[:, ::2, ::2])
    transformed = PerFrame(halve).fit_transform(films)
    assert [frames.shape for frames in transformed] == [(n, 8, 12) for n in LENGTHS]


def test_per_frame_takes_dense_arrays(rng):
    X = rng.normal(size=(4, 3, 5))
    dense = PerFrame(StandardScaler()).fit_transform(X)
    listed = PerFrame(StandardScaler()).fit_transform(list(X))
    np.testing.assert_array_equal(dense, listed)


def test_per_frame_names_are_those_of_the_transformer(films):
    fitted = PerFrame(HOGFeatures()).fit(films)
    expected = HOGFeatures().fit(films[0]).get_feature_names_out()
    assert list(fitted.get_feature_names_out()) == list(expected)


@pytest.mark.parametrize(
    ("transformer", "message"),
    [
        (
            FunctionTransformer(lambda X: X[:-1]),
            "for each of the 10 frames",
        ),
        (FunctionTransformer(lambda X: X[:, 0]), r"got ndarray of shape \(10,\)"),
        (OneHotEncoder(), "got csr_matrix of shape"),
    ],
)
def test_per_frame_refuses_output_that_cannot_be_split(clips, transformer, message):
    with pytest.raises(ValueError, match=message):
        PerFrame(transformer).fit_transform(clips)


def test_per_frame_refuses_a_target_of_another_length(clips):
    with pytest.raises(ValueError, match="y must have one entry per sequence: expected 4"):
        PerFrame(StandardScaler()).fit(clips, [0, 1])


# PoolFrames


def test_pooling_by_hand():
    clips = [np.array([[1, 9], [3, 4]], np.uint8), np.array([[250, 1], [251, 0]], np.uint8)]
    np.testing.assert_array_equal(pool_frames(clips, "mean"), [[2, 6.5], [250.5, 0.5]])
    np.testing.assert_array_equal(pool_frames(clips, "max"), [[3, 9], [251, 1]])
    np.testing.assert_array_equal(pool_frames(clips, "last"), [[3, 4], [251, 0]])
    np.testing.assert_array_equal(
        pool_frames(clips, "concat"), [[1, 9, 3, 4], [250, 1, 251, 0]]
    )


def test_pooling_takes_a_one_frame_sequence_as_it_is(clips):
    for method in ("mean", "max", "last"):
        pooled = PoolFrames(method).fit_transform(clips)
        np.testing.assert_array_equal(pooled[1], clips[1][0])


def test_pooled_names_follow_the_pipeline(films):
    two_frames = [film[:2] for film in films if len(film) > 1]
    pipeline = make_pipeline(PerFrame(HOGFeatures()), PoolFrames("concat")).fit(two_frames)
    names = pipeline.get_feature_names_out()
    first = pipeline[0].get_feature_names_out()
    assert list(names) == [f"t0_{n}" for n in first] + [f"t1_{n}" for n in first]


def test_data_frames_carry_names_to_the_rows(films):
    pipeline = make_pipeline(PerFrame(HOGFeatures()), FrameDeltas(), PoolFrames())
    expected = pipeline.fit(films).get_feature_names_out()
    rows = pipeline.set_output(transform="pandas").fit_transform(films)
    assert list(rows.columns) == list(expected)
    assert rows.columns[0].startswith("mean_hog_r0c0_")
    assert rows.columns[-1].startswith("mean_delta_hog_r")
    assert list(pipeline[-1].feature_names_in_[:1]) == [rows.columns[0][5:]]


def test_columns_in_another_order_are_refused(clips):
    frames = [pd.DataFrame(clip, columns=list("abcde")) for clip in clips]
    pool = PoolFrames().fit(frames)
    assert list(pool.get_feature_names_out()[:2]) == ["mean_a", "mean_b"]
    assert list(pool.get_feature_names_out(["face"])[:1]) == ["mean_face_a"]
    with pytest.raises(ValueError, match=r"column 0 named 'e'.*fitted on 'a'"):
        pool.transform([frame[list("edcba")] for frame in frames])
    pool.fit(clips)  # which have no names
    assert not hasattr(pool, "feature_names_in_")


def test_concat_column_is_the_value_that_its_name_says(clips):
    pool = PoolFrames("concat").set_output(transform="pandas")
    frame = pool.fit_transform([clip[:2] for clip in clips if len(clip) > 1])
    assert list(frame.columns[4:7]) == ["t0_x4", "t1_x0", "t1_x1"]
    np.testing.assert_array_equal(frame["t1_x0"], [clips[i][1, 0] for i in (0, 2, 3)])


def test_concat_refuses_unequal_lengths(clips):
    with pytest.raises(ValueError, match=r"one length only, got lengths from 1 to 4.*pool"):
        PoolFrames("concat").fit(clips)
    pool = PoolFrames("concat").fit([clip[:2] for clip in clips if len(clip) > 1])
    with pytest.raises(ValueError, match="of 3 frames, but PoolFrames was fitted on"):
        pool.transform(clips[:1])
    with pytest.raises(ValueError, match="one length only"):
        pool.transform(clips)


def test_pooling_refuses_images(films):
    with pytest.raises(ValueError, match=r"frames of shape \(16, 24\).*PerFrame"):
        PoolFrames().fit(films)


# FrameDeltas


def test_deltas_by_hand():
    clip = np.array([[1.0], [4.0], [6.0]])
    np.testing.assert_array_equal(
        frame_deltas([clip], "first", append=False)[0], [[0], [3], [5]]
    )
    np.testing.assert_array_equal(
        frame_deltas([clip], "previous", append=False)[0], [[0], [3], [2]]
    )
    np.testing.assert_array_equal(
        frame_deltas([clip], "previous", append=True)[0], [[1, 0], [4, 3], [6, 2]]
    )


def test_previous_deltas_add_up_to_first_deltas(clips):
    first = frame_deltas(clips, "first", append=False)
    previous = frame_deltas(clips, "previous", append=False)
    for one, other in zip(first, previous, strict=True):
        np.testing.assert_allclose(np.cumsum(other, axis=0), one, atol=1e-12)


@pytest.mark.parametrize("reference", ["first", "previous"])
def test_deltas_of_bytes_do_not_wrap_round(reference):
    film = np.array([200, 10], np.uint8).reshape(2, 1, 1)
    deltas = FrameDeltas(reference, append=False).fit_transform([film])[0]
    assert deltas[1].item() == -190


def test_deltas_of_a_single_frame_are_zero(clips):
    deltas = FrameDeltas().fit_transform(clips)[1]
    np.testing.assert_array_equal(deltas, [[*clips[1][0], 0, 0, 0, 0, 0]])


def test_deltas_keep_float32(clips):
    deltas = FrameDeltas().fit_transform([clip.astype(np.float32) for clip in clips])
    assert deltas[0].dtype == np.float32


def test_delta_names(clips):
    assert list(FrameDeltas().fit(clips).get_feature_names_out())[4:7] == [
        "x4",
        "delta_x0",
        "delta_x1",
    ]
    alone = FrameDeltas(append=False).fit(clips)
    assert alone.get_feature_names_out(list("abcde"))[4] == "delta_e"
    with pytest.raises(ValueError, match="5 features of a frame, got 1 names"):
        alone.get_feature_names_out(["a"])


def test_deltas_of_images_stand_alone(films):
    deltas = FrameDeltas(append=False).fit(films)
    assert [frames.shape for frames in deltas.transform(films)] == [f.shape for f in films]
    with pytest.raises(ValueError, match=r"Only feature vectors have names.*\(16, 24\)"):
        deltas.get_feature_names_out()
    with pytest.raises(ValueError, match="set append=False"):
        FrameDeltas().fit(films)


def test_pixel_motion_feeds_an_extractor(films):
    motion = make_pipeline(FrameDeltas(append=False), PerFrame(HOGFeatures()), PoolFrames())
    rows = motion.fit_transform(films)
    assert not rows[1].any()  # one frame, no motion
    assert rows[[0, 2, 3]].any(axis=1).all()
