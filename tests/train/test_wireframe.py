from dataclasses import replace

import numpy as np
import pytest

from ferpipe.candide.camera import mirror_parameters, project
from ferpipe.candide.model import CandideModel
from ferpipe.candide.point_fit import fit_points
from ferpipe.candide.prior import Prior
from ferpipe.candide.template import ANCHORS, partners, template_model
from ferpipe.candide.template_tables import COMMON_UNITS
from ferpipe.faces.landmark_points import MIRRORED
from ferpipe.train.wireframe import Calibration, calibrate, held_out_errors, template_prior

N_SHAPE, N_ANIMATION = 14, 65
NOISE = 0.01
TO_THE_OTHER_SIDE = np.array([-1.0, 1.0, 1.0])
QUICK = Calibration(n_rounds=1)


def hidden_model() -> CandideModel:
    """Return faces whose noses are elsewhere and whose wide eyes slant."""
    template = template_model()
    names = template.vertex_names
    vertices, units = template.vertices.copy(), template.shape_units.copy()
    vertices[names["nose_tip"]] += (0, 0.12, 0.06)
    width = units[template.shape_names.index("eye_width")]
    for side in ("left", "right"):
        width[names[f"eye_outer_{side}"], 1] += 0.05
        width[names[f"eye_inner_{side}"], 1] -= 0.05
    return replace(template, vertices=vertices, shape_units=units)


def faces_of(model, n, seed):
    """Draw faces and return their 68 points."""
    rng = np.random.default_rng(seed)
    sigma = rng.normal(0, 0.7, (n, N_SHAPE))
    # few actions at a time
    active = rng.random((n, N_ANIMATION)) < 0.15
    alpha = active * np.abs(rng.normal(0, 0.4, (n, N_ANIMATION)))
    angles = rng.normal(0, [0.2, 0.4, 0.2], (n, 3))
    scale, shift = rng.uniform(60, 150, n), rng.uniform(100, 300, (n, 2))
    pose = np.column_stack([angles, scale, shift])
    points = project(model.shape(sigma, alpha), pose)
    points += rng.normal(0, NOISE, points.shape) * scale[:, None, None]
    landmarks = np.repeat(points[:, list(model.landmarks)].mean(1)[:, None], 68, axis=1)
    for vertex, numbers in model.landmarks.items():
        landmarks[:, list(numbers)] = points[:, vertex, None]
    return landmarks


@pytest.fixture(scope="module")
def template():
    return template_model()


@pytest.fixture(scope="module")
def calibrated():
    return calibrate(faces_of(hidden_model(), 150, 0), Calibration(n_rounds=2))


@pytest.fixture(scope="module")
def few_faces():
    return faces_of(hidden_model(), 12, 2)


def visible(model):
    return np.array(sorted(model.landmarks))


def assert_same(found, expected, atol):
    (model, prior), (other, other_prior) = found, expected
    for one, same in [
        (model.vertices, other.vertices),
        (model.shape_units, other.shape_units),
        (model.animation_units, other.animation_units),
        (prior.mean, other_prior.mean),
        (prior.covariance, other_prior.covariance),
        (prior.noise, other_prior.noise),
    ]:
        np.testing.assert_allclose(one, same, atol=atol)


# What calibration finds


def test_new_faces_are_shown_better(template, calibrated):
    model, prior = calibrated
    faces = faces_of(hidden_model(), 80, 1)

    def error(*model_and_prior):
        return held_out_errors(*model_and_prior, faces).mean()

    found = error(model, prior)
    assert found < 0.8 * error(template, template_prior(template))
    # not by the prior alone: nearly as good as the model that drew the faces
    assert found < 0.85 * error(template, prior)
    assert found < 1.08 * error(hidden_model(), prior)


def test_the_rest_shape_goes_where_faces_are(template, calibrated):
    model, _ = calibrated
    moved = model.vertices - template.vertices
    tip = template.vertex_names["nose_tip"]
    assert 0.06 < moved[tip, 1] < 0.13
    assert 0.02 < moved[tip, 2] < 0.08
    # none else does as much
    assert np.linalg.norm(moved, axis=1).argmax() == tip
    others = np.delete(visible(template), visible(template).tolist().index(tip))
    assert np.linalg.norm(moved[others], axis=1).max() < 0.06


def test_units_learn_what_faces_do(template, calibrated):
    model, _ = calibrated
    index = template.shape_names.index("eye_width")
    change = model.shape_units[index] - template.shape_units[index]
    for side in ("left", "right"):
        assert change[template.vertex_names[f"eye_outer_{side}"], 1] > 0.01
        assert change[template.vertex_names[f"eye_inner_{side}"], 1] < -0.01


def test_vertices_that_no_point_shows_follow_those_about_them(template, calibrated):
    model, _ = calibrated
    moved = model.vertices - template.vertices
    names = template.vertex_names
    for side in ("left", "right"):
        beside = names[f"nose_tip_side_{side}"]
        assert beside not in template.landmarks
        assert 0.02 < moved[beside, 1] < moved[names["nose_tip"], 1]
    anchors = sorted(set(ANCHORS) - set(template.landmarks))
    assert len(anchors) == 11
    np.testing.assert_allclose(moved[anchors], 0, atol=1e-9)
    reserved = np.flatnonzero(~template.vertices.any(1))
    assert len(reserved) == 9
    assert not model.vertices[reserved].any()
    assert not model.shape_units[:, reserved].any()


def test_the_prior_learns_how_much_people_differ(template, calibrated):
    _, prior = calibrated
    start = template_prior(template)
    # it comes down to what points are off by
    assert NOISE < prior.noise < 2 * NOISE < start.noise
    spread = np.sqrt(np.diag(prior.covariance))
    assert 0.4 < np.median(spread[:N_SHAPE]) < 0.9
    np.linalg.cholesky(prior.covariance)
    # which units act and how much is not learned: they would change their meaning
    np.testing.assert_array_equal(
        prior.covariance[:, N_SHAPE:], start.covariance[:, N_SHAPE:]
    )


# What it keeps


def test_the_model_stays_symmetrical(template, calibrated):
    model, prior = calibrated
    partner = partners()

    def mirrored(array):
        return array[..., partner, :] * TO_THE_OTHER_SIDE

    np.testing.assert_allclose(model.vertices, mirrored(model.vertices), atol=1e-12)
    np.testing.assert_allclose(model.shape_units, mirrored(model.shape_units), atol=1e-12)
    other = model.animation_units[list(template.mirrored_animation)]
    np.testing.assert_allclose(model.animation_units, mirrored(other), atol=1e-12)
    units = template.shape_names + template.animation_names
    mean = dict(zip(units, prior.mean, strict=True))
    for one, other in [("AU12_left", "AU12_right"), ("FAP08", "FAP09")]:
        assert mean[one] == pytest.approx(mean[other], abs=1e-12)
        assert mean[one] != 0
    persons = prior.covariance[:N_SHAPE, :N_SHAPE]
    np.testing.assert_allclose(persons, persons.T, atol=1e-12)


def test_animation_units_move_what_they_move_in_the_template(template, calibrated):
    model, _ = calibrated
    moves, moved = (one.animation_units.any(2) for one in (model, template))
    np.testing.assert_array_equal(moves, moved)
    # that of vertices that no point shows is as in the template
    unseen = np.setdiff1d(np.arange(len(template.vertices)), visible(template))
    np.testing.assert_array_equal(
        model.animation_units[:, unseen], template.animation_units[:, unseen]
    )
    assert (model.animation_units != template.animation_units).any()
    smile = model.animation_units[model.animation_names.index("AU12_left")]
    assert (smile[model.vertex_names["mouth_corner_left"], :2] > 0.05).all()


def test_names_triangles_and_landmarks_stay(template, calibrated):
    model, _ = calibrated
    assert model.parameter_names == template.parameter_names
    assert model.vertex_names == template.vertex_names
    assert model.landmarks == template.landmarks
    assert model.mirrored_animation == template.mirrored_animation
    np.testing.assert_array_equal(model.triangles, template.triangles)


# What it depends on


def test_settings_say_how_far_it_may_go(template, few_faces):
    nowhere = 1e-7
    fixed = Calibration(1, (nowhere, nowhere), nowhere, nowhere)
    for name in ("shape_spread", "animation_spread", "rest_spread"):
        free = replace(fixed, **{name: getattr(Calibration(), name)})
        model, _ = calibrate(few_faces, free)
        changes = {
            "rest_spread": np.abs(model.vertices - template.vertices).max(),
            "shape_spread": np.abs(model.shape_units - template.shape_units).max(),
            "animation_spread": np.abs(
                model.animation_units - template.animation_units
            ).max(),
        }
        assert changes.pop(name) > 1e-3
        assert max(changes.values()) < 1e-6
    depth = replace(fixed, rest_spread=(nowhere, 0.1))
    moved = calibrate(few_faces, depth)[0].vertices - template.vertices
    assert np.abs(moved[:, :2]).max() < 1e-6
    assert np.abs(moved[:, 2]).max() > 1e-3


def test_without_a_round_all_is_in_the_template(template, few_faces):
    expected = template, template_prior(template)
    assert_same(calibrate(few_faces, Calibration(n_rounds=0)), expected, 0)


def test_the_mirror_image_of_every_face_is_a_face_too(template, few_faces, monkeypatch):
    fits = []

    def fit(*args, **kwargs):
        fits.append(fit_points(*args, **kwargs))
        return fits[-1]

    monkeypatch.setattr("ferpipe.train.wireframe.fit_points", fit)
    calibrate(few_faces, QUICK)
    ((parameters, _),) = fits
    faces, mirrored = np.split(parameters, 2)
    expected = mirror_parameters(template, faces, 1)
    np.testing.assert_allclose(mirrored, expected, rtol=1e-6, atol=1e-6)


def test_mirrored_faces_teach_the_same(few_faces):
    mirrored = (few_faces * (-1, 1) + (400, 0))[:, MIRRORED]
    assert_same(calibrate(mirrored, QUICK), calibrate(few_faces, QUICK), 1e-6)


def test_the_size_of_images_does_not_matter(few_faces):
    larger = 2.5 * few_faces + (30, -10)
    assert_same(calibrate(larger, QUICK), calibrate(few_faces, QUICK), 1e-6)


def test_the_prior_of_the_template_expects_common_actions(template):
    prior = template_prior(template)
    assert isinstance(prior, Prior)
    assert not prior.mean.any()
    spread = np.sqrt(np.diag(prior.covariance))
    np.testing.assert_array_equal(prior.covariance, np.diag(spread**2))
    np.testing.assert_array_equal(spread[:N_SHAPE], 1)
    units = dict(zip(template.animation_names, spread[N_SHAPE:], strict=True))
    for name in ("AU01_left", "AU12_right", "AU26", "AU43"):
        assert units[name] == pytest.approx(0.5)
    for name in ("AU13_left", "AU29", "AU61", "FAP18"):
        assert units[name] == pytest.approx(0.1)
    assert set(COMMON_UNITS.split()) <= {name.partition("_")[0] for name in units}


# Errors of points held out


def test_faces_at_rest_leave_no_error(template):
    # turned ones are expected to be turned less
    pose = np.array([[0, 0, 0, 90, 100, 120], [0, 0, 0, 60, 10, 20]])
    points = project(np.array([template.vertices] * 2), pose)
    landmarks = np.ones((2, 68, 2))
    for vertex, numbers in template.landmarks.items():
        landmarks[:, list(numbers)] = points[:, vertex, None]
    errors = held_out_errors(template, template_prior(template), landmarks)
    assert errors.shape == (2, len(template.landmarks))
    np.testing.assert_allclose(errors, 0, atol=1e-6)


def test_a_point_is_not_used_to_find_itself(template, few_faces):
    """What it is off by is its error, in full."""
    prior = template_prior(template)
    before = held_out_errors(template, prior, few_faces)
    distance = np.linalg.norm(few_faces[:, 45] - few_faces[:, 36], axis=1)
    vertices = visible(template).tolist()
    for name, number in [("nose_tip", 30), ("inner_lower_lip", 66)]:
        elsewhere = few_faces.copy()
        elsewhere[:, number, 0] += 1e5
        after = held_out_errors(template, prior, elsewhere)
        place = vertices.index(template.vertex_names[name])
        off = np.abs(after[:, place] - 1e5 / distance)
        assert (off <= before[:, place] + 1e-6).all()
        # the points held out with it do not see it either
        alike = np.arange(len(vertices)) % 2 == place % 2
        alike[place] = False
        np.testing.assert_allclose(after[:, alike], before[:, alike], rtol=1e-7)
        # those of the other half do
        assert (after[:, np.arange(len(vertices)) % 2 != place % 2].mean(1) > 1).all()
