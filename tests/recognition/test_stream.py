import threading

import cv2
import numpy as np
import pytest
from predictions import CLASSES, beginnings, crop, scores_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ferpipe import (
    HOGFeatures,
    PerFrame,
    PoolFrames,
)
from ferpipe.candide.fit_cascade import WireframeCascade, load_own_cascade
from ferpipe.io.videos import read_frames
from ferpipe.recognition.recognizer import Recognizer


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
        np.testing.assert_allclose(scores_of(live), scores_of(rows), rtol=0, atol=1e-6)
        recognizer.reset()


def test_looking_ahead_changes_nothing(model, clip):
    recognizer = Recognizer(model, detect_every=1)
    ahead = list(recognizer.predict_video(clip))
    alone = [
        row for time, frame in read_frames(clip) for row in recognizer.step(frame, time)
    ]
    assert [row.box for row in ahead] == [row.box for row in alone]
    # the finds of other frames would be elsewhere
    assert len({row.box for row in ahead}) > 2
    np.testing.assert_allclose(scores_of(ahead), scores_of(alone), rtol=0, atol=1e-6)


@pytest.mark.parametrize("detect_every", [1, 3])
def test_a_video_is_worked_on_some_frames_at_a_time(
    model, clip, frames, monkeypatch, detect_every
):
    asked = []

    def watched(model, X):
        asked.append(len(X))
        return model.predict_proba(X)

    settings = {"detect_every": detect_every, "smoothing": 0.3, "neutral": 0.2}
    recognizer = Recognizer(model, **settings)
    rows = [
        row for time, frame in read_frames(clip) for row in recognizer.step(frame, time)
    ]
    monkeypatch.setattr("ferpipe.recognition.stream._predict_scores", watched)
    monkeypatch.setattr("ferpipe.recognition.stream._AT_ONCE", 3)
    together = list(Recognizer(model, **settings).predict_video(clip))
    assert asked == [3, 3, 1]
    for row, other in zip(rows, together, strict=True):
        assert (row.frame, row.time, row.face, row.label, row.box) == (
            other.frame,
            other.time,
            other.face,
            other.label,
            other.box,
        )
        assert row.action_units == other.action_units
    np.testing.assert_allclose(scores_of(together), scores_of(rows), rtol=0, atol=1e-6)

    # samples leave frames out, and faces come and go: the rows stay with their frames
    times = np.arange(len(frames) + 2) / 10
    blank = np.full_like(frames[0], 120)
    shown = [*frames[:3], blank, *frames[3:], blank]
    seen = list(Recognizer(model, every=0.2).stream().run(zip(times, shown, strict=True)))
    assert [len(rows) for _, rows in seen] == [1, 0] * 4 + [1]
    assert all(frame is other for (frame, _), other in zip(seen, shown, strict=True))
    found = [rows[0].face is not None for _, rows in seen if rows]
    assert found == [True, True, True, True, False]


def test_looking_ahead_ends_with_the_frames(model, clip):
    rows = Recognizer(model, detect_every=1).predict_video(clip)
    next(rows)
    rows.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not any("ThreadPoolExecutor" in name for name in names)


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


def test_a_causal_network_hears_all_frames_of_a_face(causal, frames):
    """Of two faces each has a state of its own."""
    wide = [
        np.hstack([frame, other]) for frame, other in zip(frames, frames[::-1], strict=True)
    ]
    recognizer = Recognizer(causal, detect_every=3)
    assert recognizer.keeps_state
    rows = [recognizer.step(frame, t / 10) for t, frame in enumerate(wide)]
    for face in (0, 1):
        mine = [two[face] for two in rows]
        assert {row.face for row in mine} == {face}
        seen = [crop(frame, row) for frame, row in zip(wide, mine, strict=True)]
        expected = causal.predict_proba(beginnings(seen))
        np.testing.assert_allclose(scores_of(mine), expected, rtol=0, atol=1e-6)
        assert np.abs(causal.predict_proba([seen[-1][None]]) - expected[-1]).max() > 1e-4
    recognizer.reset()
    again = recognizer.step(wide[0], 0.0)
    np.testing.assert_array_equal(scores_of(again), scores_of(rows[0]))


def test_a_window_may_be_asked_for(causal, frames):
    recognizer = Recognizer(causal, window=2)
    assert not recognizer.keeps_state
    rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(frames)]
    seen = [crop(frame, row) for frame, row in zip(frames, rows, strict=True)]
    windows = [np.stack(seen[max(0, t - 1) : t + 1]) for t in range(len(seen))]
    np.testing.assert_allclose(scores_of(rows), causal.predict_proba(windows), atol=1e-6)


def test_action_units_are_told_against_the_face_at_rest(model, frames):
    plain, relative = Recognizer(model), Recognizer(model, neutral=0.25)
    names = list(plain.predict_image(frames[0])[0].action_units)

    def units(recognizer):
        rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(frames)]
        return rows, np.array([[row.action_units[name] for name in names] for row in rows])

    (rows, absolute), (_, found) = units(plain), units(relative)
    rest = np.stack([absolute[: min(t, 2) + 1].mean(axis=0) for t in range(len(frames))])
    np.testing.assert_allclose(found, absolute - rest, atol=1e-12)
    assert (found[0] == 0).all()
    assert found[-1, names.index("AU12_left")] > 0.3
    # the label is that of the model's own input, and an image has no past
    np.testing.assert_array_equal(
        scores_of(relative.predict_image(frames[0])),
        scores_of(plain.predict_image(frames[0])),
    )
    assert relative.predict_image(frames[0])[0].neutral is None
    assert [row.label for row in rows] == [
        row.label for row in units(Recognizer(model, neutral=0.25))[0]
    ]


def test_a_face_at_rest_is_not_learned_from_bad_fits(model, frames, monkeypatch):
    recognizer = Recognizer(model, neutral=0.15, detect_every=1)
    fit, worth = load_own_cascade().from_landmarks, iter([0.3, 0.9, 0.9, 0.9])
    monkeypatch.setattr(
        WireframeCascade,
        "from_landmarks",
        lambda self, *given: (fit(*given)[0], next(worth)),
    )
    rows = [recognizer.step(frame, t / 10)[0] for t, frame in enumerate(frames[:4])]
    first, second, third, last = (np.array([*row.action_units.values()]) for row in rows)
    assert np.isnan(first).all()
    assert (second == 0).all()
    raw = [row.parameters[20:] for row in rows]
    np.testing.assert_allclose(third, raw[2] - (raw[1] + raw[2]) / 2, atol=1e-12)
    np.testing.assert_allclose(last, raw[3] - (raw[1] + raw[2]) / 2, atol=1e-12)


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


@pytest.mark.parametrize("window", [None, 2])
def test_memory_does_not_grow(causal, frames, window):
    recognizer = Recognizer(causal, window=window, smoothing=1.0, neutral=1.0)
    stream = recognizer.stream()
    blank = np.full_like(frames[0], 120)
    for t in range(6):
        for index in range(3):
            stream.step(frames[index], 2.0 * t + index / 10)
        assert list(stream._histories) == [t]
        assert len(stream._histories[t]._frames) == (window or 0)
        stream.step(blank, 2.0 * t + 0.3)
        assert len(stream._tracker.tracks) == len(stream._histories) == 1
