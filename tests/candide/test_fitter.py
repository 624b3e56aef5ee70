import numpy as np
import pandas as pd
import pytest
from skimage.data import astronaut, coffee
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from ferpipe import CandideFitter, LandmarkPredictor
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.learned_objective import LearnedObjective, load_objective
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_points import outer_eye_distance
from ferpipe.geometry import similarity, warp
from ferpipe.synthesis.render import Appearance, render

FACE, NO_FACE = astronaut(), coffee()
CROP = FACE[60:180, 165:285]


@pytest.fixture(scope="module")
def found():
    return CandideFitter().fit([FACE]).locate([FACE])


@pytest.fixture(scope="module")
def landmarks():
    return LandmarkPredictor().transform([FACE])


@pytest.mark.parametrize("objective", [None, "landmarks", "learned"])
def test_the_wireframe_lies_on_the_landmarks(landmarks, objective):
    found = CandideFitter(objective=objective).fit([FACE]).locate([FACE])
    model, _ = load_calibrated()
    pose, sigma, alpha = model.split(found.parameters)
    vertices, points = visible_points(model, landmarks)
    shown = project(model.shape(sigma, alpha)[:, vertices], pose)
    error = np.linalg.norm(shown - points, axis=2).mean() / outer_eye_distance(landmarks)
    assert error < (0.03 if objective == "landmarks" else 0.05)
    assert found.quality[0] > 0.9
    assert found.scores[0] > 0
    x, y, width, height = found.boxes[0]
    assert x < found.parameters[0, 4] < x + width
    assert y < found.parameters[0, 5] < y + height


def test_a_smile_is_one(found):
    model, prior = load_calibrated()
    _, _, alpha = model.split(found.parameters[0])
    spread = np.sqrt(np.diag(prior.covariance))[-len(alpha) :]
    above = dict(
        zip(
            model.animation_names, (alpha - prior.mean[-len(alpha) :]) / spread, strict=True
        )
    )
    assert above["AU12_left"] + above["AU12_right"] > 1
    assert above["AU04_left"] + above["AU04_right"] < 1


@pytest.mark.parametrize("degrees", [-20, 15])
def test_a_turned_photo_changes_roll_alone(found, degrees):
    middle = (225.0, 125.0)
    turned = warp(FACE, similarity(1, np.deg2rad(degrees), middle, middle), FACE.shape[:2])
    again = CandideFitter("parameters").fit_transform([turned])[0]
    pose = found.parameters[0]
    # rz is counter-clockwise, the turn of the photo clockwise
    assert np.degrees(again[2] - pose[2]) == pytest.approx(-degrees, abs=1.5)
    assert np.abs(np.degrees(again[:2] - pose[:2])).max() < 4
    assert again[3] == pytest.approx(pose[3], rel=0.03)
    assert np.corrcoef(again[6:], pose[6:])[0, 1] > 0.95


def test_outputs_are_parts_of_one_fit(found, landmarks):
    model, _ = load_calibrated()
    whole = found.parameters
    n_shape, n_all = len(model.shape_names), len(model.parameter_names)
    for output, columns in {
        "parameters": slice(None),
        "pose": slice(6),
        "units": slice(6, None),
        "actions": slice(6 + n_shape, None),
    }.items():
        fitter = CandideFitter(output)
        np.testing.assert_array_equal(fitter.fit_transform([FACE]), whole[:, columns])
        names = fitter.get_feature_names_out()
        assert names.tolist() == list(model.parameter_names[columns])
    assert whole.shape == (1, n_all)
    fitter = CandideFitter("vertices")
    vertices = dict(
        zip(
            fitter.fit([FACE]).get_feature_names_out(),
            fitter.transform([FACE])[0],
            strict=True,
        )
    )
    tip = landmarks[0, 30]
    assert abs(vertices["nose_tip_x"] - tip[0]) < 4
    assert abs(vertices["nose_tip_y"] - tip[1]) < 4


def test_small_crops_and_photos_are_fitted_alike():
    small = warp(CROP, similarity(0.4, 0, (0, 0), (0, 0)), (48, 48))
    fitter = CandideFitter(detector=None).fit([CROP])
    one, other = fitter.locate([CROP, small]).parameters
    assert other[3] == pytest.approx(0.4 * one[3], rel=0.05)
    assert np.abs(np.degrees(one[:3] - other[:3])).max() < 6
    assert np.corrcoef(one[6:], other[6:])[0, 1] > 0.8


@pytest.mark.parametrize("ry", [-1.5, -0.7, 0.7, 1.5])
def test_turned_heads_and_profiles(ry):
    model, prior = load_calibrated()
    parameters = np.zeros(85)
    parameters[[1, 3, 4, 5]] = ry, 60, 96, 84
    parameters[6:20] = prior.mean[:14]
    image = render(model, parameters, Appearance(), 192)
    found = CandideFitter("pose", detector=None).fit([image]).locate([image])
    assert np.isfinite(found.parameters).all()
    assert 0 <= found.quality[0] <= 1
    if abs(ry) < 1:  # training drew no face that is turned further
        assert found.parameters[0, 1] == pytest.approx(ry, abs=0.2)
    else:  # half of the points are hidden: the fit is poor, and says so
        assert found.quality[0] < 0.5


def test_images_without_a_face():
    fitter = CandideFitter(missing="nan").fit([FACE])
    answer = fitter.transform([NO_FACE, FACE])
    assert np.isnan(answer[0]).all()
    assert np.isfinite(answer[1]).all()
    assert np.isfinite(CandideFitter().fit_transform([NO_FACE])).all()
    with pytest.raises(ValueError, match=r"No face was found in 1 of 2 images: X\[0\]"):
        CandideFitter(missing="raise").fit([FACE]).transform([NO_FACE, FACE])
    with pytest.raises(ValueError, match=r"frame 1 of X\[0\]"):
        CandideFitter(missing="raise").fit_transform([[FACE, NO_FACE]])


def test_sequences_have_one_person_each():
    clips = [[CROP, CROP[:, ::-1], CROP], np.stack([CROP, CROP])]
    fitter = CandideFitter(detector=None).fit(clips)
    assert fitter.takes_sequences_
    first, second = fitter.transform(clips)
    assert first.shape == (3, 79)
    assert second.shape == (2, 79)
    assert (first[:, :14] == first[0, :14]).all()
    assert (first[0, 14:] != first[1, 14:]).any()
    assert np.corrcoef(first[0, 14:], first[2, 14:])[0, 1] > 0.8


def test_a_lost_face_is_looked_for_again():
    shifted = np.roll(FACE, 150, axis=1)
    found = CandideFitter().fit([[FACE]]).locate([[FACE, FACE, shifted, shifted]])
    (scores,), (quality,) = found.scores, found.quality
    # the detector looks in the first frame, and where the face is no longer where it was
    assert np.isfinite(scores).tolist() == [True, False, True, False]
    assert (quality > 0.9).all()
    tx = found.parameters[0][:, 4]
    assert abs(tx[1] - tx[0]) < 3
    assert abs(tx[2] - tx[0] - 150) < 6


def test_frames_without_a_face_are_nan():
    clips = [[NO_FACE, FACE, NO_FACE]]
    fitter = CandideFitter(missing="nan").fit(clips)
    (answer,) = fitter.transform(clips)
    assert np.isnan(answer).all(1).tolist() == [True, False, True]


def test_objectives_that_are_learned_are_parameters():
    objective = FrozenEstimator(load_objective())
    fitter = clone(CandideFitter("pose", detector=None, objective=objective))
    expected = CandideFitter("pose", detector=None, objective="learned")
    np.testing.assert_array_equal(
        fitter.fit_transform([CROP]), expected.fit_transform([CROP])
    )
    clips = [[CROP, CROP[:, ::-1]]]
    units = clone(expected).set_params(output="units").fit_transform(clips)[0]
    assert (units[0, :14] == units[1, :14]).all()
    with pytest.raises(ValueError, match="'objective' parameter"):
        CandideFitter(objective="corners").fit([CROP])


def test_first_frame_can_be_subtracted_and_time_smoothed():
    clip = [[CROP, CROP[:, ::-1], CROP, CROP[:, ::-1]]]
    plain, *_ = CandideFitter("actions", detector=None).fit_transform(clip)
    fitter = CandideFitter("actions", detector=None, subtract_first=True)
    np.testing.assert_allclose(fitter.fit_transform(clip)[0], plain - plain[0])
    fitter = CandideFitter("actions", detector=None, smoothing=1.0)
    smooth, *_ = fitter.fit_transform(clip)
    assert (
        np.abs(np.diff(smooth, axis=0)).sum() < 0.6 * np.abs(np.diff(plain, axis=0)).sum()
    )


def test_data_frames_for_images_lists_for_sequences():
    fitter = CandideFitter("pose", detector=None).set_output(transform="pandas")
    frame = fitter.fit_transform([CROP, CROP])
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["rx", "ry", "rz", "s", "tx", "ty"]
    answer = clone(fitter).fit_transform([[CROP, CROP]])
    assert isinstance(answer, list)
    assert answer[0].shape == (2, 6)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.full((48, 48), np.nan), ValueError, "NaN"),
        ("a.png", TypeError, "must hold numbers"),
        (np.zeros((0, 5)), ValueError, "no pixels"),
    ],
)
def test_wrong_images(image, error, message):
    with pytest.raises(error, match=message):
        CandideFitter(detector=None).fit_transform([image])


@pytest.mark.parametrize("image", [np.full((48, 48), 90, np.uint8), np.eye(8) * 255])
def test_images_that_show_nothing_are_fitted_badly(image):
    found = CandideFitter(detector=None).fit([image]).locate([image])
    assert np.isfinite(found.parameters).all()
    assert 0 <= found.quality[0] <= 1


@pytest.mark.parametrize("freeze", [FrozenEstimator, lambda objective: objective])
def test_an_unfitted_objective_is_refused_by_fit(freeze):
    fitter = CandideFitter(detector=None, objective=freeze(LearnedObjective()))
    with pytest.raises(NotFittedError, match=r"got a LearnedObjective .*FrozenEstimator"):
        fitter.fit([CROP])
