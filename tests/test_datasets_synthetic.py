from collections import Counter

import numpy as np
import pytest

from ferpipe.datasets import make_expression_sequences
from ferpipe.datasets.drawing import ACTION_UNITS, IDENTITY_RANGES, draw_face
from ferpipe.datasets.labels import select_classes

NEUTRAL_POSE = {
    "roll": 0,
    "yaw": 0,
    "pitch": 0,
    "scale": 1,
    "shift_x": 0,
    "shift_y": 0,
}
FRONT_LIGHT = {
    "azimuth": -np.pi / 2,
    "elevation": 1.2,
    "ambient": 0.5,
    "gain": 1,
    "background": 0.2,
}
AVERAGE = {name: (low + high) / 2 for name, (low, high) in IDENTITY_RANGES.items()}


@pytest.fixture(scope="module")
def faces():
    return make_expression_sequences(112, 3, 24, random_state=3)


def draw(size=96, identity=AVERAGE, pose=NEUTRAL_POSE, light=FRONT_LIGHT, **units):
    return draw_face(units, identity, pose, light, size)


def shows(label, peak):
    """Tell whether the units at the peak are those of the table for a class."""
    on = {name for name, value in peak.items() if value > 0} - {"AU25", "AU43"}

    def needs(required, optional=()):
        return set(required) <= on <= {*required, *optional}

    jaw = ("AU26", "AU27")
    return {
        "anger": needs(("AU23", "AU24"), ("AU04",)),
        "contempt": bool(on) and on <= {"AU14L", "AU14R"},
        "disgust": needs(("AU09",), ("AU04",)) or needs(("AU10",)),
        "fear": needs(("AU01", "AU02", "AU04"), ("AU05",))
        or (needs(("AU01", "AU02", "AU05")) and peak["AU05"] == 5),
        "happiness": needs(("AU12",), ("AU06",)),
        "sadness": needs(("AU01", "AU04", "AU15"))
        or needs(("AU11",))
        or needs(("AU06", "AU15")),
        "surprise": needs(("AU01", "AU02"), jaw)
        or (needs(("AU05",), jaw) and peak["AU05"] <= 2),
    }[label]


def test_layout(faces):
    assert len(faces.data) == 112
    assert {(face.shape, face.dtype.str) for face in faces.data} == {((3, 24, 24), "|u1")}
    assert set(Counter(faces.target.tolist()).values()) == {16}
    assert faces.target_names == list(select_classes(7))
    assert faces.synthetic
    assert faces.kind == "sequences"
    assert faces.DESCR.lower().startswith("synthetic")
    assert {units.shape for units in faces.action_units} == {(3, len(ACTION_UNITS))}
    assert {pose.shape for pose in faces.pose} == {(3, len(faces.pose_names))}
    assert faces.identity.shape == (112, len(faces.identity_names))
    assert faces.light.shape == (112, len(faces.light_names))


def test_action_units_at_the_peak_are_those_of_the_class(faces):
    for label, units in zip(faces.target, faces.action_units, strict=True):
        peak = dict(zip(faces.action_unit_names, units[-1], strict=True))
        assert shows(label, peak), (label, peak)
        others = [name for name in faces.target_names if name != label]
        assert not any(shows(other, peak) for other in others), (label, peak)


def test_each_action_unit_occurs(faces):
    seen = {
        name
        for units in faces.action_units
        for name, value in zip(faces.action_unit_names, units[-1], strict=True)
        if value
    }
    assert seen == set(ACTION_UNITS)


def test_intensity_rises_to_the_peak_and_stays_within_the_scale(faces):
    for units in faces.action_units:
        assert np.all(np.diff(units, axis=0) >= 0)
        assert units.max() <= 5
        assert np.any(units[-1] > 1.5 * units[0])


def test_a_subject_keeps_its_identity_and_has_several_sequences(faces):
    counts = Counter(faces.groups.tolist())
    assert set(counts.values()) <= {5, 6}
    for subject in counts:
        identities = faces.identity[faces.groups == subject]
        assert np.all(identities == identities[0])
        assert len(set(faces.target[faces.groups == subject])) > 1
    assert len(np.unique(faces.identity, axis=0)) == len(counts)


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
    column = bunch.action_unit_names.index("AU12")
    assert min(units[0, column] for units in bunch.action_units) >= 2


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


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_each_action_unit_moves_the_face_more_when_stronger(unit):
    rest, weak, strong = (draw(**{unit: value}) for value in (0, 2, 5))
    assert 0 < np.abs(weak - rest).sum() < np.abs(strong - rest).sum()


# Rows and columns of a 96 x 96 face: what an action unit must change most.
@pytest.mark.parametrize(
    ("unit", "rows"),
    [
        ("AU01", slice(0, 24)),
        ("AU04", slice(0, 28)),
        ("AU05", slice(14, 36)),
        ("AU12", slice(40, 84)),
        ("AU15", slice(60, 96)),
        ("AU27", slice(60, 96)),
    ],
)
def test_change_is_where_the_muscle_acts(unit, rows):
    change = (draw(**{unit: 5}) - draw()) ** 2
    assert change[rows].sum() > 0.9 * change.sum()


def test_one_sided_dimples_mirror_each_other():
    left, right = draw(AU14L=5), draw(AU14R=5)
    change = (left - draw()) ** 2
    assert change[:, :48].sum() > 0.95 * change.sum()
    # The glint in the eye and the raster are the only things that are not mirrored.
    assert np.abs(left[50:] - right[50:, ::-1]).mean() < 0.02


def test_frontal_face_under_light_from_above_is_symmetric():
    image = draw()
    assert np.abs(image - image[:, ::-1]).mean() < 0.02


def test_light_from_one_side_brightens_that_side():
    lit_right = draw(light=FRONT_LIGHT | {"azimuth": 0.0, "elevation": 0.8})
    assert lit_right[30:70, 50:70].mean() > 1.1 * lit_right[30:70, 26:46].mean()


def test_shift_moves_the_image():
    # 0.5 half eye distances of 4.2 across 84 pixels are 10 pixels.
    still = draw(84, light=FRONT_LIGHT | {"gain": 1})
    moved = draw(84, pose=NEUTRAL_POSE | {"shift_x": 0.5})
    assert np.abs(moved[:, 10:] - still[:, :-10]).mean() < 0.01
