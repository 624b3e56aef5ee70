import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ferpipe import (
    ActionUnitRules,
    CandideFitter,
    FaceAligner,
    HOGFeatures,
    LandmarkPredictor,
    PerFrame,
    PixelFeatures,
    PoolFrames,
    datasets,
)
from ferpipe.recognition.model_input import input_of
from ferpipe.recognition.tracking import Track

OUTPUTS = ["pose", "actions", "units", "parameters", "vertices"]


@pytest.fixture(scope="module")
def frames():
    """A synthetic face that smiles, in larger pictures."""
    bunch = datasets.make_expression_sequences(
        1, n_frames=5, size=140, classes=["happiness"], random_state=3
    )
    return [
        np.pad(face, ((30, 30), (40, 100)), constant_values=120) for face in bunch.data[0]
    ]


@pytest.fixture(scope="module")
def tracks(frames):
    """The face as it is found in each frame, with the one sigma of a sequence."""
    found = CandideFitter().fit([frames]).locate([frames])
    landmarks = LandmarkPredictor().transform(frames)
    x, y, width, height = map(float, found.boxes[0][0])
    return [
        Track(0, float(t), (x, y, width, height), 1.0, points, row, 1.0, np.zeros(2), t)
        for t, (points, row) in enumerate(zip(landmarks, found.parameters[0], strict=True))
    ]


def fitted(*steps, X):
    """A model that ends in a classifier which learns nothing."""
    return make_pipeline(*steps, DummyClassifier()).fit(X, ["a", "b"] * (len(X) // 2))


def seen(model_input, frames, tracks):
    return [model_input.extract(*pair) for pair in zip(frames, tracks, strict=True)]


def one_by_one(model_input, frames, tracks):
    prepare = model_input.begin()
    return np.stack([prepare(frame) for frame in seen(model_input, frames, tracks)])


def test_crops_are_those_of_the_aligner(frames, tracks):
    aligner = FaceAligner(40, template="ck48")
    whole = fitted(aligner, HOGFeatures(), X=frames[:4])
    crops = aligner.transform(frames)
    alone = whole[1:]
    for model, template in ((whole, "fer2013"), (alone, "ck48")):
        found = seen(input_of(model, template), frames, tracks)
        np.testing.assert_array_equal(found, crops)
    assert [type(step) for _, step in input_of(whole, "fer2013").model.steps] == [
        HOGFeatures,
        DummyClassifier,
    ]


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_wireframe_is_seen_as_the_fitter_gives_it(frames, tracks, output, sequences):
    fitter = CandideFitter(output)
    X = [frames, frames] if sequences else frames[:4]
    after = (PoolFrames(),) if sequences else ()
    model_input = input_of(fitted(fitter, *after, X=X), "fer2013")
    assert model_input.sequences is sequences
    (expected,) = CandideFitter(output).fit_transform([frames])
    if sequences:
        join = model_input.join(seen(model_input, frames, tracks))
        np.testing.assert_allclose(join, expected, atol=1e-9)
        found = one_by_one(model_input, frames, tracks)
    else:
        found = np.stack(seen(model_input, frames, tracks))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_first_frame_is_subtracted_frame_by_frame_as_from_the_whole(
    frames, tracks, output
):
    fitter = CandideFitter(output, subtract_first=True)
    model = fitted(fitter, PoolFrames(), X=[frames, frames])
    model_input = input_of(model, "fer2013")
    (expected,) = fitter.transform([frames])
    found = one_by_one(model_input, frames, tracks)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    join = model_input.join(seen(model_input, frames, tracks))
    np.testing.assert_allclose(join, expected, rtol=0, atol=1e-6)
    (plain,) = CandideFitter(output).fit_transform([frames])
    assert (np.abs(expected - plain).max() > 0.1) == (output != "pose")


def test_each_face_is_compared_with_its_own_first_frame(frames, tracks):
    fitter = CandideFitter("actions", subtract_first=True)
    model_input = input_of(fitted(fitter, PoolFrames(), X=[frames, frames]), "fer2013")
    whole = one_by_one(model_input, frames, tracks)
    later = one_by_one(model_input, frames[2:], tracks[2:])
    np.testing.assert_allclose(later, whole[2:] - whole[2], atol=1e-12)
    assert np.abs(later[1:]).max() > 0.05


def test_sigma_is_the_mean_of_the_frames_until_then(frames, tracks):
    model = fitted(CandideFitter("parameters"), PoolFrames(), X=[frames, frames])
    model_input = input_of(model, "fer2013")
    rows = np.random.default_rng(0).normal(size=(4, 85))
    prepare = model_input.begin()
    found = np.stack([prepare(row) for row in rows])
    means = rows[:, 6:20].cumsum(axis=0) / np.arange(1, 5)[:, None]
    np.testing.assert_allclose(found[:, 6:20], means, atol=1e-12)
    changing = np.r_[0:6, 20:85]
    np.testing.assert_array_equal(found[:, changing], rows[:, changing])
    joined = model_input.join(list(rows))
    np.testing.assert_allclose(joined[:, 6:20], np.tile(means[-1], (4, 1)), atol=1e-12)


@pytest.mark.parametrize("output", OUTPUTS)
def test_numbers_without_a_record_are_those_that_the_caller_names(frames, tracks, output):
    (expected,) = CandideFitter(output).fit_transform([frames])
    rows = np.random.default_rng(0).normal(size=(4, expected.shape[1]))
    clips = [rows, rows] * 2
    of_clips = make_pipeline(PoolFrames(), DummyClassifier()).fit(clips, list("abab"))
    for model in (LogisticRegression().fit(rows, list("abab")), of_clips):
        with pytest.raises(ValueError, match="set input='candide'"):
            input_of(model, "fer2013")
        model_input = input_of(model, "fer2013", "candide")
        found = seen(model_input, frames, tracks)
        if model_input.sequences:
            found = model_input.join(found)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_columns_are_known_by_the_names_that_fit_saw(frames, tracks):
    fitter = CandideFitter("units").set_output(transform="pandas")
    table = fitter.fit_transform(frames[:4])
    some = ["AU12_left", "AU12_right", *table.columns[:2]]
    vertices = CandideFitter("vertices").set_output(transform="pandas")
    places = vertices.fit_transform(frames[:4])
    for columns in (table, table[some], table[table.columns[::-1]], places):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(columns, list("abab"))
        model_input = input_of(model, "fer2013")
        batch = model_input.batch(seen(model_input, frames, tracks))
        expected = table if columns is not places else places
        output = "units" if columns is not places else "vertices"
        (rows,) = CandideFitter(output).fit_transform([frames])
        index = [expected.columns.get_loc(name) for name in columns.columns]
        np.testing.assert_allclose(batch, rows[:, index], atol=1e-9)
        assert model.predict_proba(batch).shape == (5, 2)  # and no warning of names
    whole = make_pipeline(fitter, StandardScaler(), LogisticRegression())
    model_input = input_of(whole.fit(frames[:4], list("abab")), "fer2013")
    batch = model_input.batch(seen(model_input, frames, tracks))
    assert model_input.model.predict_proba(batch).shape == (5, 2)


def test_what_is_on_record_is_not_taken_for_something_else(frames):
    """OpenFace's action units, pixels and landmarks are as long as some of ours, or not."""
    rng = np.random.default_rng(0)
    openface = [f"AU{unit:02d}_r" for unit in range(65)]
    table = pd.DataFrame(rng.normal(size=(4, 65)), columns=openface)
    model = LogisticRegression().fit(table, list("abab"))
    for said in (None, "candide"):
        with pytest.raises(ValueError, match="columns named AU00_r, AU01_r"):
            input_of(model, "fer2013", said)
    for n_columns in (17, 48 * 48, 68 * 2):
        rows = rng.normal(size=(4, n_columns))
        with pytest.raises(ValueError, match=f"takes {n_columns} features, which"):
            input_of(LogisticRegression().fit(rows, list("abab")), "fer2013", "candide")
    images = rng.integers(0, 256, (4, 48, 48), dtype=np.uint8)
    of_images = fitted(HOGFeatures(), X=images)
    with pytest.raises(ValueError, match="this one takes images: leave input out"):
        input_of(of_images, "fer2013", "candide")
    with pytest.raises(ValueError, match="input must be 'candide' or None, got 'units'"):
        input_of(of_images, "fer2013", "units")
    # an array of images looks like sequences of features, and the other way round
    with pytest.raises(ValueError, match="takes 48 features, which"):
        input_of(fitted(PoolFrames(), X=images), "fer2013", "candide")
    with pytest.raises(ValueError, match="images of 60 x 65 pixels"):
        input_of(fitted(HOGFeatures(), X=rng.normal(size=(4, 60, 65))), "fer2013")
    landmarks = rng.normal(size=(4, 68, 2))
    with pytest.raises(ValueError, match="takes 2 features, which"):
        input_of(fitted(PoolFrames(), X=landmarks), "fer2013", "candide")


@pytest.mark.parametrize("of_sequences", [False, True])
def test_a_model_of_another_scale_than_crops_is_refused(frames, tracks, of_sequences):
    images = np.random.default_rng(0).random((4, 48, 48))
    steps, X = ((PixelFeatures(),), images)
    if of_sequences:
        steps, X = (PerFrame(PixelFeatures()), PoolFrames()), images[:, None]
    with pytest.raises(ValueError, match="fitted on values up to 1, but crops"):
        input_of(fitted(*steps, X=X), "fer2013")
    model_input = input_of(fitted(*steps, X=255 * X), "fer2013")
    assert model_input.extract(frames[0], tracks[0]).dtype == np.uint8
    # what does not depend on the scale is used
    input_of(fitted(HOGFeatures(), X=images), "fer2013")


def test_rules_of_action_units_take_nothing_else(frames, tracks):
    rules = ActionUnitRules().fit(np.zeros((2, 65)), ["anger", "happiness"])
    (expected,) = CandideFitter("actions").fit_transform([frames])
    found = seen(input_of(rules, "fer2013"), frames, tracks)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    "fitter", [CandideFitter(objective="landmarks"), CandideFitter(smoothing=1.0)]
)
def test_what_looks_for_the_face_itself_gets_what_is_round_it(frames, tracks, fitter):
    clips = [frames[:1], frames[1:2]]
    model = fitted(fitter, PoolFrames(), X=clips)
    model_input = input_of(model, "fer2013")
    assert model_input.raw
    assert model_input.sequences
    assert model_input.model is model
    x, y, width, height = tracks[0].box
    around = model_input.extract(frames[0], tracks[0])
    assert around.shape[0] <= 2.2 * height + 1
    inner = frames[0][round(y) : round(y + height), round(x) : round(x + width)]
    views = np.lib.stride_tricks.sliding_window_view(around, inner.shape)
    assert (views == inner).all(axis=(2, 3)).any()


def test_color_is_looked_at_where_the_model_was_fitted_on_it(frames):
    gray = np.stack(frames)[:4, 30:170, 40:180]
    color = np.repeat(gray[..., None], 3, axis=3)
    for X, expected in ((gray, False), (color, True)):
        model = fitted(PixelFeatures(), X=X)
        assert input_of(model, "fer2013").color is expected


def test_what_is_not_made_here_is_refused(frames):
    with pytest.raises(ValueError, match=r"takes 5 features.* 79 \('units'\)"):
        input_of(LogisticRegression().fit(np.eye(5), list("ababa")), "fer2013")
    model = fitted(HOGFeatures(), X=np.stack(frames)[:4])
    with pytest.raises(ValueError, match="200 x 280 pixels"):
        input_of(model, "fer2013")
