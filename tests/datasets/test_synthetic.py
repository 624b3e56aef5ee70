from collections import Counter

import numpy as np
import pytest

from ferpipe import LandmarkPredictor
from ferpipe.candide.action_unit_rules import ActionUnitRules
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.visible_points import visible_points
from ferpipe.datasets import make_expression_sequences
from ferpipe.datasets.labels import select_classes
from ferpipe.faces.alignment import TEMPLATES

MODEL, PRIOR = load_calibrated()
SHAPE = slice(6, 6 + len(MODEL.shape_names))
ACTIONS = slice(SHAPE.stop, None)
# what the table asks for at most: E
STRONGEST = 1.25


@pytest.fixture(scope="module")
def faces():
    return make_expression_sequences(112, 3, 24, random_state=3)


def actions_at_the_peak(faces):
    """Yield the label and the action units of each sequence that are not 0."""
    for label, parameters in zip(faces.target, faces.parameters, strict=True):
        named = zip(faces.parameter_names[ACTIONS], parameters[-1, ACTIONS], strict=True)
        yield label, {name: value for name, value in named if value}


def shows(label, peak):
    """Tell whether the units at the peak are those of the table for a class."""
    sides = {name.partition("_")[0]: value for name, value in peak.items()}
    on = set(sides) - {"AU25", "AU43"}

    def needs(required, optional=()):
        return set(required) <= on <= {*required, *optional}

    jaw = ("AU26", "AU27")
    return {
        "anger": needs(("AU23", "AU24"), ("AU04",)),
        "contempt": needs(("AU14",)),
        "disgust": needs(("AU09",), ("AU04",)) or needs(("AU10",)),
        "fear": needs(("AU01", "AU02", "AU04"), ("AU05",))
        or (needs(("AU01", "AU02", "AU05")) and sides["AU05"] == STRONGEST),
        "happiness": needs(("AU12",), ("AU06",)),
        "sadness": needs(("AU01", "AU04", "AU15"))
        or needs(("AU11",))
        or needs(("AU06", "AU15")),
        "surprise": needs(("AU01", "AU02"), jaw)
        or (needs(("AU05",), jaw) and sides["AU05"] <= 0.5),
    }[label]


def test_layout(faces):
    assert len(faces.data) == 112
    assert {(face.shape, face.dtype.str) for face in faces.data} == {((3, 24, 24), "|u1")}
    assert set(Counter(faces.target.tolist()).values()) == {16}
    assert faces.target_names == list(select_classes(7))
    assert faces.synthetic
    assert faces.kind == "sequences"
    assert faces.DESCR.lower().startswith("synthetic")
    assert {p.shape for p in faces.parameters} == {(3, 85)}
    assert faces.parameter_names == list(MODEL.parameter_names)


def test_action_units_at_the_peak_are_those_of_the_class(faces):
    for label, peak in actions_at_the_peak(faces):
        assert shows(label, peak), (label, peak)
        others = [name for name in faces.target_names if name != label]
        assert not any(shows(other, peak) for other in others), (label, peak)


def test_each_action_unit_of_the_table_occurs(faces):
    seen = {
        name.partition("_")[0] for _, peak in actions_at_the_peak(faces) for name in peak
    }
    numbers = (1, 2, 4, 5, 6, 9, 10, 11, 12, 14, 15, 23, 24, 25, 26, 27, 43)
    assert seen == {f"AU{number:02d}" for number in numbers}


def test_only_contempt_is_one_sided(faces):
    one_sided = set()
    for label, peak in actions_at_the_peak(faces):
        for name, value in peak.items():
            base, _, side = name.partition("_")
            other = f"{base}_{'right' if side == 'left' else 'left'}"
            if side and peak.get(other) != value:
                one_sided.add((label, base))
    assert one_sided == {("contempt", "AU14")}


def test_rules_know_the_expressions_by_the_true_parameters(faces):
    actions = np.array([parameters[-1, ACTIONS] for parameters in faces.parameters])
    rules = ActionUnitRules().fit(actions, faces.target)
    # the table and the rules differ in what is said of intensity and of the jaw
    assert (rules.predict(actions) == faces.target).mean() > 0.7


def test_intensity_rises_to_the_peak_and_stays_within_the_scale(faces):
    for parameters in faces.parameters:
        actions = parameters[:, ACTIONS]
        assert np.all(np.diff(actions, axis=0) >= 0)
        assert actions.max() <= STRONGEST
        assert np.any(actions[-1] > 1.5 * actions[0])


def test_a_subject_keeps_its_shape_and_has_several_sequences(faces):
    counts = Counter(faces.groups.tolist())
    assert set(counts.values()) <= {5, 6}
    shapes = np.array([parameters[:, SHAPE] for parameters in faces.parameters])
    for subject in counts:
        own = shapes[faces.groups == subject]
        assert np.all(own == own[0, 0])
        assert len(set(faces.target[faces.groups == subject])) > 1
    assert len(np.unique(shapes[:, 0], axis=0)) == len(counts)


def test_shapes_are_those_of_the_prior():
    bunch = make_expression_sequences(1500, 1, 24, classes=["happy"], random_state=0)
    _, first = np.unique(bunch.groups, return_index=True)
    shapes = np.array([bunch.parameters[i][0, SHAPE] for i in first])
    n = shapes.shape[1]
    spread = np.sqrt(np.diag(PRIOR.covariance)[:n])
    np.testing.assert_allclose(shapes.mean(0), PRIOR.mean[:n], atol=0.3)
    np.testing.assert_allclose(shapes.std(0) / spread, 1, atol=0.2)


def test_eyes_are_where_fer2013_has_them():
    bunch = make_expression_sequences(60, 2, 48, random_state=1)
    parameters = np.concatenate(bunch.parameters)
    poses, sigmas, alphas = MODEL.split(parameters)
    pupils = project(MODEL.shape(sigmas, alphas), poses)[:, [114, 113]]
    places = (pupils + 0.5) / 48
    np.testing.assert_allclose(places.mean(0), TEMPLATES["fer2013"], atol=0.015)
    assert 0.005 < places.std(0).min() < places.std(0).max() < 0.04


def test_landmarks_are_found_where_the_parameters_say():
    bunch = make_expression_sequences(14, 2, 64, random_state=2)
    frames = np.concatenate(bunch.data)
    found = LandmarkPredictor(detector=None).fit(frames).transform(frames)
    vertices, points = visible_points(MODEL, np.reshape(found, (len(frames), 68, 2)))
    poses, sigmas, alphas = MODEL.split(np.concatenate(bunch.parameters))
    expected = project(MODEL.shape(sigmas, alphas)[:, vertices], poses)
    off = np.linalg.norm(points - expected, axis=2).mean(1) / poses[:, 3]
    assert np.median(off) < 0.045
    assert off.max() < 0.12


def test_same_seed_same_data():
    first, again, other = (
        make_expression_sequences(7, 2, 24, random_state=seed) for seed in (5, 5, 6)
    )
    assert np.array_equal(first.data, again.data)
    assert np.array_equal(first.target, again.target)
    assert not np.array_equal(first.data, other.data)


def test_frames_differ_by_more_than_noise():
    bunch = make_expression_sequences(7, 3, 48, random_state=0)
    for clip in np.asarray(bunch.data, dtype=float):
        assert np.abs(clip[2] - clip[0]).max() > 30


def test_one_frame_shows_the_peak():
    bunch = make_expression_sequences(7, 1, 24, classes=["happy"], random_state=0)
    assert bunch.target_names == ["happiness"]
    assert {clip.shape for clip in bunch.data} == {(1, 24, 24)}
    column = bunch.parameter_names.index("AU12_left")
    assert min(parameters[0, column] for parameters in bunch.parameters) >= 0.875


def test_return_X_y():
    X, y = make_expression_sequences(5, size=24, classes=5, random_state=0, return_X_y=True)
    assert sorted(y) == list(select_classes(5))
    assert len(X) == 5


@pytest.mark.parametrize(
    ("parameters", "kind", "message"),
    [
        ({"n_sequences": 6}, ValueError, "n_sequences must be at least 7, got 6"),
        ({"n_frames": 0}, ValueError, "n_frames must be at least 1, got 0"),
        ({"size": 8}, ValueError, "size must be at least 24, got 8"),
        ({"size": 48.0}, TypeError, r"size must be an integer, got 48\.0"),
        ({"classes": ["neutral"]}, ValueError, "choose among anger"),
        ({"classes": ["hapy"]}, ValueError, "Did you mean happy"),
    ],
)
def test_wrong_parameters(parameters, kind, message):
    with pytest.raises(kind, match=message):
        make_expression_sequences(**parameters)
