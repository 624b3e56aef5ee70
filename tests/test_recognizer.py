import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

import ferpipe
from ferpipe import (
    CandideFitter,
    FaceAligner,
    HOGFeatures,
    PerFrame,
    PixelFeatures,
    PoolFrames,
    datasets,
)
from ferpipe.align import TEMPLATES, align_face, eye_transform
from ferpipe.images import read_frames
from ferpipe.landmarks.points import eye_centres
from ferpipe.recognizer import Recognizer

MEDIA = Path(os.environ.get("FERPIPE_DATA", "nowhere"), "media")
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="needs FERPIPE_DATA")
CLASSES = ["anger", "happiness", "surprise"]


@pytest.fixture(scope="module")
def crops():
    bunch = datasets.make_expression_sequences(
        18, n_frames=2, size=48, classes=CLASSES, random_state=0
    )
    return np.stack(bunch.data), bunch.target


@pytest.fixture(scope="module")
def model(crops):
    data, target = crops
    classifier = make_pipeline(HOGFeatures(), LogisticRegression())
    return classifier.fit(data[:, -1], target)


@pytest.fixture(scope="module")
def frames():
    """A drawn face that moves and smiles, in larger pictures."""
    bunch = datasets.make_expression_sequences(
        2, n_frames=7, size=140, classes=["happiness", "anger"], random_state=3
    )
    pictures = []
    for index, face in enumerate(bunch.data[0]):
        picture = np.full((200, 280), 120, np.uint8)
        picture[30:170, 40 + 4 * index : 180 + 4 * index] = face
        pictures.append(picture)
    return pictures


@pytest.fixture(scope="module")
def clip(frames, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (280, 200))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def crop(frame, row, size=48, template="fer2013"):
    return align_face(
        frame, eye_transform(eye_centres(row.landmarks), size, template), size
    )


def scores_of(rows):
    return np.array([list(row.scores.values()) for row in rows])


def test_streaming_is_batch(model, clip):
    video = list(read_frames(clip))
    rows = list(Recognizer(model, detect_every=3).predict_video(clip))
    assert [row.frame for row in rows] == list(range(7))
    assert [row.time for row in rows] == pytest.approx(np.arange(7) / 10)
    assert {row.face for row in rows} == {0}
    assert list(rows[0].scores) == CLASSES
    batch = [crop(frame, row) for (_, frame), row in zip(video, rows, strict=True)]
    np.testing.assert_allclose(
        scores_of(rows), model.predict_proba(np.stack(batch)), atol=1e-6
    )
    assert [row.label for row in rows] == model.predict(np.stack(batch)).tolist()

    recognizer = Recognizer(model, detect_every=3)
    for _ in range(2):
        live = [row for time, frame in video for row in recognizer.step(frame, time)]
        np.testing.assert_array_equal(scores_of(live), scores_of(rows))
        recognizer.reset()


def test_colour_frames_give_the_numbers_of_grey_ones(model, clip, frames):
    recognizer = Recognizer(model)
    (grey,), (colour,) = (
        recognizer.stream().step(frame, 0.0)
        for frame in (frames[0], np.repeat(frames[0][:, :, None], 3, axis=2))
    )
    np.testing.assert_allclose(scores_of([colour]), scores_of([grey]), atol=1e-6)


def test_an_image_is_seen_as_the_aligner_cuts_it(model, frames):
    (row,) = Recognizer(model, faces="largest").predict_image(frames[0])
    expected = model.predict_proba(FaceAligner(48).fit_transform([frames[0]]))
    np.testing.assert_allclose(scores_of([row]), expected, atol=1e-6)
    whole = make_pipeline(FaceAligner(48), HOGFeatures(), LogisticRegression())
    whole.fit([frames[0], frames[6]] * 2, list("abab"))
    (again,) = Recognizer(whole, faces="largest").predict_image(frames[0])
    expected = whole.predict_proba([frames[0]])
    np.testing.assert_allclose(scores_of([again]), expected, atol=1e-6)
    assert np.isnan(row.time)
    assert row.quality > 0.5


def test_sequences_are_the_last_frames_of_a_face(crops, clip):
    data, target = crops
    steps = PerFrame(HOGFeatures()), PoolFrames("mean"), LogisticRegression()
    model = make_pipeline(*steps).fit(list(data), target)
    rows = list(Recognizer(model, window=3).predict_video(clip))
    seen = [
        crop(frame, row) for (_, frame), row in zip(read_frames(clip), rows, strict=True)
    ]
    windows = [np.stack(seen[max(0, t - 2) : t + 1]) for t in range(len(seen))]
    np.testing.assert_allclose(scores_of(rows), model.predict_proba(windows), atol=1e-6)


@pytest.mark.parametrize(
    ("output", "part"), [("units", slice(6, None)), ("pose", slice(6))]
)
def test_models_of_the_wireframe_get_its_parameters(frames, output, part):
    rng = np.random.default_rng(0)
    model = LogisticRegression().fit(
        rng.normal(size=(9, {"units": 79, "pose": 6}[output])), CLASSES * 3
    )
    (row,) = Recognizer(model).predict_image(frames[3])
    expected = model.predict_proba(row.parameters[None, part])
    np.testing.assert_allclose(scores_of([row]), expected, atol=1e-6)
    fitter = CandideFitter(output)
    whole = make_pipeline(fitter, LogisticRegression()).fit(frames[:6], list("ababab"))
    (row,) = Recognizer(whole).predict_image(frames[3])
    expected = whole[1:].predict_proba(row.parameters[None, part])
    np.testing.assert_allclose(scores_of([row]), expected, atol=1e-6)
    alone = fitter.transform([frames[3]])[0]
    assert np.corrcoef(alone, row.parameters[part])[0, 1] > 0.9


def test_sequences_of_the_wireframe_have_one_sigma(frames):
    clips = [frames[:3], frames[3:6]] * 2
    model = make_pipeline(CandideFitter(), PoolFrames("mean"), LogisticRegression())
    model.fit(clips, list("abab"))
    recognizer = Recognizer(model, window=2)
    rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(frames[:3])]
    window = np.stack([rows[1].parameters, rows[2].parameters])[:, 6:]
    window[:, :14] = window[:, :14].mean(0)
    expected = model[1:].predict_proba([window])
    np.testing.assert_allclose(scores_of(rows[2:]), expected, atol=1e-6)


def test_other_models_of_raw_images_get_what_is_round_the_face(frames):
    model = make_pipeline(
        CandideFitter("actions", objective="landmarks"), LogisticRegression()
    )
    model.fit([frames[0], frames[6]] * 2, list("abab"))
    (row,) = Recognizer(model).predict_image(frames[6])
    assert row.label == "b"


def test_scores_of_a_model_without_probabilities(crops, frames):
    data, target = crops
    two = target != "surprise"
    model = make_pipeline(PixelFeatures(), LinearSVC()).fit(data[two, -1], target[two])
    recognizer = Recognizer(model)
    assert recognizer.gives == "scores"
    (row,) = recognizer.predict_image(frames[6])
    score = model.decision_function(crop(frames[6], row)[None])[0]
    assert row.scores == pytest.approx({"anger": -score, "happiness": score})
    assert row.label == model.predict(crop(frames[6], row)[None])[0]
    with pytest.raises(ValueError, match="gives scores only"):
        Recognizer(model, abstain_below=0.5)


def test_smoothing_is_an_exponential_mean_over_time(model, frames):
    plain, smooth = Recognizer(model), Recognizer(model, smoothing=0.2)
    times = [0.0, 0.1, 0.3, 0.35]
    raw = scores_of([plain.step(*pair)[0] for pair in zip(frames, times, strict=False)])
    found = scores_of([smooth.step(*pair)[0] for pair in zip(frames, times, strict=False)])
    expected = raw[0]
    np.testing.assert_allclose(found[0], expected)
    for index in range(1, 4):
        weight = np.exp(-(times[index] - times[index - 1]) / 0.2)
        expected = weight * expected + (1 - weight) * raw[index]
        np.testing.assert_allclose(found[index], expected, atol=1e-12)


def test_no_label_below_a_probability(model, frames):
    (row,) = Recognizer(model).predict_image(frames[6])
    best = max(row.scores.values())
    for least, label in ((best - 0.01, row.label), (best + 0.01, None)):
        (again,) = Recognizer(model, abstain_below=least).predict_image(frames[6])
        assert again.label == label
        assert again.scores == row.scores


def test_frames_are_left_out_between_samples(model, clip):
    rows = list(Recognizer(model, every=0.3).predict_video(clip))
    assert [row.frame for row in rows] == [0, 3, 6]
    stream = Recognizer(model, every=0.25).stream()
    blank = np.zeros((60, 80), np.uint8)
    times = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 5.0, 5.1, 5.3]
    taken = [time for time in times if stream.step(blank, time)]
    assert taken == [0, 0.3, 0.5, 5.0, 5.3]


def test_frames_without_a_face_are_rows_of_nan(model, frames):
    recognizer = Recognizer(model)
    blank = np.full_like(frames[0], 120)
    rows = [recognizer.step(frame, t) for t, frame in enumerate([frames[0], blank])]
    ((face,), (nobody,)) = rows
    assert (face.face, nobody.face, nobody.label) == (0, None, None)
    assert nobody.frame == 1
    assert np.isnan([*nobody.box, nobody.detector_score, nobody.quality]).all()
    assert np.isnan([*nobody.scores.values(), *nobody.action_units.values()]).all()
    assert nobody.scores.keys() == face.scores.keys()
    # after more than a second it is another face
    assert recognizer.step(frames[0], 3.0)[0].face == 1


def test_all_faces_or_the_largest(model, frames):
    picture = np.full((220, 420), 120, np.uint8)
    picture[10:210, :200] = cv2.resize(frames[0][30:170, 40:180], (200, 200))
    picture[40:160, 260:380] = cv2.resize(frames[0][30:170, 40:180], (120, 120))
    rows = Recognizer(model).predict_image(picture)
    assert [row.face for row in rows] == [0, 1]
    recognizer = Recognizer(model, faces="largest")
    for (row,) in (recognizer.predict_image(picture), recognizer.step(picture, 0.0)):
        assert row.box[0] + row.box[2] / 2 == pytest.approx(100, abs=20)


def test_memory_does_not_grow(crops, frames):
    data, target = crops
    steps = PerFrame(HOGFeatures()), PoolFrames("mean"), LogisticRegression()
    model = make_pipeline(*steps).fit(list(data), target)
    stream = Recognizer(model, window=2, smoothing=1.0).stream()
    blank = np.full_like(frames[0], 120)
    for t in range(6):
        stream.step(frames[0], 2.0 * t)
        assert len(stream._windows[t]) == 1
        stream.step(frames[1], 2.0 * t + 0.1)
        stream.step(frames[2], 2.0 * t + 0.2)
        assert len(stream._windows[t]) == 2
        stream.step(blank, 2.0 * t + 0.3)
        assert len(stream._tracker.tracks) == 1
        assert len(stream._windows) == len(stream._smooth) == 1


def test_saved_models_bring_their_framing(crops, frames, tmp_path):
    data, target = crops
    model = make_pipeline(PixelFeatures(), LogisticRegression()).fit(data[:, -1], target)
    card = {"name": "ck48", "eyes": [list(eye) for eye in TEMPLATES["ck48"]]}
    path = ferpipe.save(model, tmp_path / "model.joblib", crop_template=card)
    (row,) = Recognizer(path).predict_image(frames[0])
    expected = model.predict_proba(crop(frames[0], row, template="ck48")[None])
    np.testing.assert_allclose(scores_of([row]), expected, atol=1e-6)
    other = model.predict_proba(crop(frames[0], row)[None])
    assert np.abs(other - expected).max() > 1e-4


def test_colour_models_see_colours(crops, frames):
    data, target = crops
    coloured = np.repeat(data[:, -1, :, :, None], 3, axis=3)
    model = make_pipeline(HOGFeatures(), LogisticRegression()).fit(coloured, target)
    recognizer = Recognizer(model)
    assert recognizer.colour
    assert recognizer.predict_image(frames[0])[0].label in CLASSES
    assert recognizer.step(frames[0], 0.0)[0].label in CLASSES


def test_crops_need_no_detector(model, crops):
    (row,) = Recognizer(model, detector=None).predict_image(crops[0][0, -1])
    assert row.face == 0
    assert row.label in CLASSES


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detect_every": 0}, "detect_every must be a whole number"),
        ({"window": 2.5}, "window must be a whole number"),
        ({"every": 0}, "every must be a number above 0"),
        ({"faces": "one"}, "faces must be 'all' or 'largest'"),
        ({"detector": "magic"}, "detector='magic'"),
    ],
)
def test_wrong_settings(model, settings, message):
    with pytest.raises(ValueError, match=message):
        Recognizer(model, **settings)


def test_wrong_models(crops, tmp_path):
    data, target = crops
    with pytest.raises(ValueError, match="no network 'nothing'"):
        Recognizer("nothing")
    with pytest.raises(FileNotFoundError, match="no such model file"):
        Recognizer(tmp_path / "a.joblib")
    with pytest.raises(TypeError, match="a fitted classifier, got 3"):
        Recognizer(3)
    with pytest.raises(TypeError, match="Ridge has no classes"):
        Recognizer(Ridge().fit(np.eye(3), [1, 2, 3]))
    with pytest.raises(ValueError, match="takes 5 features"):
        Recognizer(LogisticRegression().fit(np.eye(5), list("ababa")))
    model = make_pipeline(HOGFeatures(), LogisticRegression())
    with pytest.raises(ValueError, match="48 x 40 pixels"):
        Recognizer(model.fit(data[:, -1, :, :40], target))
    with pytest.raises(NotFittedError):
        Recognizer(LogisticRegression())


@needs_media
def test_a_face_that_leaves(model):
    rows = list(Recognizer(model, every=0.2).predict_video(MEDIA / "face_noface.mov"))
    faces = [row.face for row in rows]
    gone = faces.index(None)
    assert 8 <= gone <= 20
    assert faces == [0] * gone + [None] * (len(faces) - gone)
    assert np.isnan(scores_of(rows[gone:])).all()
    assert np.isfinite(scores_of(rows[:gone])).all()
