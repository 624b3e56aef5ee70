from dataclasses import replace

import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.recognition.drawing import Curves, draw_predictions, plot_scores
from ferpipe.recognition.stream import FacePrediction

N_PARAMETERS = len(load_calibrated()[0].parameter_names)


def prediction(face=0, quality=0.9, frame=0):
    parameters = np.zeros(N_PARAMETERS)
    parameters[3:6] = 40, 110, 100
    parameters[-5] = frame
    return FacePrediction(
        frame=frame,
        time=frame / 10,
        face=face,
        box=(60.0, 50.0, 100.0, 100.0),
        detector_score=1.0,
        scores={"anger": 0.25, "fear": 0.75},
        label="fear",
        landmarks=np.zeros((68, 2)),
        parameters=parameters,
        quality=quality,
    )


def test_boxes_and_wireframes_are_drawn_where_the_faces_are():
    frame = np.full((200, 240, 3), 60, np.uint8)
    kept = frame.copy()
    drawn = draw_predictions(frame, [prediction()])
    np.testing.assert_array_equal(frame, kept)
    changed = (drawn != frame).any(2)
    assert changed[50, 60:160].all()
    assert changed[50:150, 159:161].any(1).all()
    inside = changed[60:140, 70:150].mean()
    without = draw_predictions(frame, [prediction(quality=0.2)])
    assert inside > 0.1
    assert (without[60:140, 70:150] == 60).all()
    assert not changed[185:].any()


def test_nothing_is_drawn_without_a_face():
    frame = np.full((50, 60, 3), 60, np.uint8)
    nobody = replace(prediction(), face=None, box=(np.nan,) * 4)
    np.testing.assert_array_equal(draw_predictions(frame, [nobody]), frame)


def test_curves_are_those_of_the_face_that_is_seen_most():
    rows = [prediction(frame=t) for t in range(5)] + [prediction(face=1, frame=5)]
    figure = plot_scores(rows)
    upper, lower = figure.axes
    assert [line.get_label() for line in upper.lines] == ["anger", "fear"]
    assert upper.lines[1].get_xdata() == pytest.approx(np.arange(5) / 10)
    assert upper.lines[1].get_ydata() == pytest.approx([0.75] * 5)
    changing = load_calibrated()[0].animation_names[-5]
    assert lower.lines[0].get_label() == changing
    with pytest.raises(ValueError, match="no face"):
        plot_scores([replace(prediction(), face=None)])


def test_curves_have_gaps_where_the_face_is_away():
    nobody = replace(prediction(), face=None, time=0.2, frame=2)
    rows = [prediction(frame=0), prediction(frame=1), nobody, prediction(face=1, frame=3)]
    upper, _ = plot_scores([*rows, prediction(frame=4), prediction(frame=5)]).axes
    assert np.isnan(upper.lines[0].get_ydata()).tolist() == [
        *(False, False, True, True, False, False)
    ]


def test_a_plot_shows_action_units_against_the_face_at_rest():
    rest = np.zeros(65)
    rest[-5] = 2
    rows = [replace(prediction(frame=t), neutral=rest) for t in range(4)]
    _, lower = plot_scores(rows).axes
    np.testing.assert_allclose(lower.lines[0].get_ydata(), np.arange(4) - 2.0)


def test_memory_of_curves_does_not_grow_and_their_course_stays():
    curves = Curves()
    for frame in range(5000):
        # a face that stays, and many that pass
        n_passing = 3 if frame % 10 == 0 else 0
        passing = [1 + frame + k for k in range(n_passing)]
        curves.add([prediction(face=face, frame=frame) for face in (0, *passing)])
    assert curves.n_faces <= 50
    n_kept = [len(bins) for bins in curves._sums.values()]
    assert max(n_kept) <= 1000
    figure = curves.draw()
    line = figure.axes[1].lines[0]
    assert figure.axes[0].get_title() == "face 0"
    assert 500 <= len(line.get_xdata()) <= 1000
    # this unit counts frames, ten a second: its line stays straight
    np.testing.assert_allclose(line.get_ydata(), 10 * line.get_xdata())
    assert line.get_xdata()[[0, -1]] == pytest.approx([0, 500], abs=0.5)
