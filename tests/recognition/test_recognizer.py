import os
from pathlib import Path

import numpy as np
import pytest
from predictions import CLASSES, beginnings, crop, scores_of
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

import ferpipe
from ferpipe import (
    CandideFitter,
    FaceAligner,
    HOGFeatures,
    PerFrame,
    PixelFeatures,
    PoolFrames,
    SequenceNetwork,
    Training,
)
from ferpipe.experiments.spec import compile_spec, read_mapping
from ferpipe.faces.alignment import TEMPLATES
from ferpipe.recognition.recognizer import Recognizer

MEDIA = Path(os.environ.get("FERPIPE_DATA", "nowhere"), "media")
PIPELINES = Path(__file__).parents[2] / "pipelines"
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="needs FERPIPE_DATA")


def test_color_frames_give_the_numbers_of_gray_ones(model, clip, frames):
    recognizer = Recognizer(model)
    (gray,), (color,) = (
        recognizer.stream().step(frame, 0.0)
        for frame in (frames[0], np.repeat(frames[0][:, :, None], 3, axis=2))
    )
    np.testing.assert_allclose(scores_of([color]), scores_of([gray]), atol=1e-6)


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


def test_what_reads_backwards_falls_back_to_the_window(crops, frames):
    data, target = crops
    network = SequenceNetwork(
        backbone=None, hidden_size=4, training=Training(max_epochs=1), random_state=0
    )
    model = make_pipeline(PerFrame(HOGFeatures()), network).fit(list(data), target)
    recognizer = Recognizer(model)
    assert not recognizer.keeps_state
    course = [*frames, *frames[::-1]]
    rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(course)]
    seen = [crop(frame, row) for frame, row in zip(course, rows, strict=True)]
    np.testing.assert_allclose(
        scores_of(rows[-1:]), model.predict_proba([np.stack(seen[-10:])]), atol=1e-6
    )


def test_paper_001_streams(crops, frames):
    """Its wireframe is that of one person: sigma is the mean of the frames so far."""
    mapping = read_mapping(PIPELINES / "candide_lstm.yaml")
    network = mapping["pipeline"]["classify"]["SequenceNetwork"]
    network.update(dropout=0.2, hidden_size=12)
    network["training"]["Training"]["max_epochs"] = 2
    data, target = crops
    model = compile_spec(mapping).pipeline.fit(list(data), target)
    recognizer = Recognizer(model)
    assert recognizer.keeps_state
    rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(frames)]
    units = np.stack([row.parameters for row in rows])[:, 6:]
    so_far = np.arange(1, len(units) + 1)[:, None]
    units[:, :14] = units[:, :14].cumsum(axis=0) / so_far
    expected = model[-1].predict_proba(beginnings(units))
    np.testing.assert_allclose(scores_of(rows), expected, rtol=0, atol=1e-6)


def test_a_face_is_compared_with_its_own_first_frame(crops, frames):
    """Frame by frame a network hears what the fitter makes of the whole sequence."""
    data, target = crops
    fitter = CandideFitter("actions", detector=None, subtract_first=True)
    network = SequenceNetwork(
        backbone=None,
        hidden_size=6,
        bidirectional=False,
        training=Training(max_epochs=2),
        random_state=0,
    )
    model = make_pipeline(fitter, network).fit(list(data), target)
    recognizer = Recognizer(model, detect_every=1)
    assert recognizer.keeps_state
    late = 3
    wide = [
        np.hstack([frame, frames[::-1][t] if t >= late else np.full_like(frame, 120)])
        for t, frame in enumerate(frames)
    ]
    rows = [recognizer.step(frame, t / 10) for t, frame in enumerate(wide)]
    assert [len(two) for two in rows] == [1] * late + [2] * (len(wide) - late)
    for face, start in ((0, 0), (1, late)):
        mine = [two[face] for two in rows[start:]]
        alpha = np.stack([row.parameters for row in mine])[:, 20:]
        batch = network.predict_proba(beginnings(alpha - alpha[0]))
        np.testing.assert_allclose(scores_of(mine), batch, rtol=0, atol=1e-6)
        assert np.abs(network.predict_proba([alpha])[0] - batch[-1]).max() > 1e-4


@pytest.mark.parametrize(
    ("output", "part"), [("units", slice(6, None)), ("pose", slice(6))]
)
def test_models_of_the_wireframe_get_its_parameters(frames, output, part):
    rng = np.random.default_rng(0)
    model = LogisticRegression().fit(
        rng.normal(size=(9, {"units": 79, "pose": 6}[output])), CLASSES * 3
    )
    (row,) = Recognizer(model, input="candide").predict_image(frames[3])
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
    model = make_pipeline(PixelFeatures(), LinearSVC(dual=False))
    model.fit(data[two, -1], target[two])
    recognizer = Recognizer(model)
    assert recognizer.gives == "scores"
    (row,) = recognizer.predict_image(frames[6])
    score = model.decision_function(crop(frames[6], row)[None])[0]
    assert row.scores == pytest.approx({"anger": -score, "happiness": score})
    assert row.label == model.predict(crop(frames[6], row)[None])[0]
    with pytest.raises(ValueError, match="gives scores only"):
        Recognizer(model, abstain_below=0.5)


def test_no_label_below_a_probability(model, frames):
    (row,) = Recognizer(model).predict_image(frames[6])
    best = max(row.scores.values())
    for least, label in ((best - 0.01, row.label), (best + 0.01, None)):
        (again,) = Recognizer(model, abstain_below=least).predict_image(frames[6])
        assert again.label == label
        assert again.scores == row.scores


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


def test_color_models_see_colors(crops, frames):
    data, target = crops
    colored = np.repeat(data[:, -1, :, :, None], 3, axis=3)
    model = make_pipeline(HOGFeatures(), LogisticRegression()).fit(colored, target)
    recognizer = Recognizer(model)
    assert recognizer.color
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
        ({"neutral": -1}, "neutral must be a number above 0"),
        ({"abstain_below": 50}, "abstain_below must be a probability from 0 to 1"),
        ({"faces": "one"}, "faces must be 'all' or 'largest'"),
        ({"detector": "magic"}, "detector='magic'"),
    ],
)
def test_wrong_settings(model, settings, message):
    with pytest.raises(ValueError, match=message):
        Recognizer(model, **settings)


def test_wrong_models(tmp_path):
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
    with pytest.raises(NotFittedError):
        Recognizer(LogisticRegression())
    rng = np.random.default_rng(0)
    of_pairs = SVC(decision_function_shape="ovo").fit(rng.normal(size=(9, 65)), CLASSES * 3)
    with pytest.raises(ValueError, match="scores pairs of classes"):
        Recognizer(of_pairs, input="candide")
    of_several = KNeighborsClassifier().fit(np.eye(6), np.eye(6, dtype=int)[:, :2])
    with pytest.raises(TypeError, match="classifier of one label"):
        Recognizer(of_several, input="candide")


@needs_media
def test_a_face_that_leaves(model):
    rows = list(Recognizer(model, every=0.2).predict_video(MEDIA / "face_noface.mov"))
    faces = [row.face for row in rows]
    gone = faces.index(None)
    assert 8 <= gone <= 20
    assert faces == [0] * gone + [None] * (len(faces) - gone)
    assert np.isnan(scores_of(rows[gone:])).all()
    assert np.isfinite(scores_of(rows[:gone])).all()
