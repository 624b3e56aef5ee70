from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ferpipe.candide.camera import fit_pose, mirror_parameters, project, rough_poses
from ferpipe.candide.point_fit import fit_points, fit_targets
from ferpipe.candide.prior import Prior, unit_limits
from ferpipe.candide.template import partners, template_model
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.landmark_points import MIRRORED

N_SHAPE, N_ANIMATION = 14, 65
N_UNITS = N_SHAPE + N_ANIMATION
# what fit_points knows of rx, ry and rz: their standard deviations about 0
ANGLE_SPREAD = np.array([0.4, 0.6, 1.5])
WIDE = np.r_[np.full(N_SHAPE, 1.0), np.full(N_ANIMATION, 0.5)]


def prior_of(spread, noise):
    return Prior(np.zeros(N_UNITS), np.diag(spread**2), noise)


# how different people and what they do are, from little to more than faces do
NARROW, USUAL, WILD = (
    prior_of(WIDE / 10, 0.005),
    prior_of(WIDE / 3, 0.01),
    prior_of(WIDE, 0.03),
)


@pytest.fixture(scope="module")
def model():
    return template_model()


@pytest.fixture(scope="module")
def visible(model):
    return np.array(sorted(model.landmarks))


def sample(model, visible, prior, n, seed):
    """Sample parameters from a prior, and the points that such faces show."""
    rng = np.random.default_rng(seed)
    units = rng.multivariate_normal(prior.mean, prior.covariance, n, method="cholesky")
    angles = rng.normal(0, [0.2, 0.3, 0.3], (n, 3))
    pose = np.column_stack([angles, rng.uniform(40, 150, n), rng.uniform(50, 300, (n, 2))])
    vertices = model.shape(units[:, :N_SHAPE], units[:, N_SHAPE:])[:, visible]
    shown = project(vertices, pose)
    noise = rng.normal(0, prior.noise, shown.shape) * pose[:, 3, None, None]
    return np.column_stack([pose, units]), shown + noise


def shown_by(model, visible, parameters):
    pose, sigma, alpha = model.split(parameters)
    return project(model.shape(sigma, alpha)[..., visible, :], pose)


def degrees_between(angles, others):
    rotation, other = (Rotation.from_euler("xyz", one) for one in (angles, others))
    return np.degrees((rotation * other.inv()).magnitude())


def residuals_of(model, visible, prior, points, weights=None):
    """Return the function of which the negative log posterior is half the squares."""
    weights = np.ones(len(visible)) if weights is None else weights
    units = np.concatenate([model.shape_units, model.animation_units])[:, visible]
    root = np.linalg.cholesky(np.linalg.inv(prior.covariance))
    # the noise is that many pixels as the scale of the mean face says where the fit starts
    mean = model.shape(prior.mean[:N_SHAPE], prior.mean[N_SHAPE:])[visible]
    noise = prior.noise * rough_poses(mean, points[None], weights[None])[0, 3]

    def residuals(parameters):
        rotation = Rotation.from_euler("xyz", parameters[:3]).as_matrix()
        face = model.vertices[visible] + np.tensordot(parameters[6:], units, 1)
        turned = parameters[3] * face @ rotation.T
        off = turned[:, :2] * (1, -1) + parameters[4:6] - points
        of_points = np.sqrt(weights)[:, None] * off / noise
        of_units = (parameters[6:] - prior.mean) @ root
        return np.r_[of_points.ravel(), parameters[:3] / ANGLE_SPREAD, of_units]

    return residuals


def differentiate(function, parameters):
    """Differentiate by central differences, with steps of the parameters' sizes."""
    scale = parameters[3]
    steps = 1e-5 * np.r_[1, 1, 1, scale, scale, scale, np.ones(len(parameters) - 6)]
    return np.stack(
        [
            (function(parameters + step) - function(parameters - step)) / (2 * step.sum())
            for step in np.diag(steps)
        ],
        axis=-1,
    )


def gain_left(residuals, parameters):
    """Tell by how much the log posterior might grow, by its gradient."""

    def objective(parameters):
        return (residuals(parameters) ** 2).sum() / 2

    gradient = differentiate(objective, parameters)
    jacobian = differentiate(residuals, parameters)
    return gradient @ np.linalg.solve(jacobian.T @ jacobian, gradient) / 2


# What is found


@pytest.mark.parametrize("prior", [NARROW, USUAL], ids=["narrow", "usual"])
def test_faces_are_shown_about_as_exactly_as_their_points_are(model, visible, prior):
    sampled, points = sample(model, visible, prior, 60, 0)
    fitted = fit_points(model, prior, visible, points)
    assert fitted.shape == sampled.shape
    scale = sampled[:, 3, None, None]
    off = (shown_by(model, visible, fitted) - points) / scale
    assert 0.6 * prior.noise < np.sqrt((off**2).mean()) < prior.noise
    # nearer to where the vertices really are than the points are
    off_truth = (
        shown_by(model, visible, fitted) - shown_by(model, visible, sampled)
    ) / scale
    assert np.sqrt((off_truth**2).mean()) < 0.8 * prior.noise


def test_the_pose_is_found(model, visible):
    prior = replace(NARROW, noise=0.003)
    sampled, points = sample(model, visible, prior, 100, 1)
    fitted = fit_points(model, prior, visible, points)
    assert degrees_between(fitted[:, :3], sampled[:, :3]).max() < 2
    np.testing.assert_allclose(fitted[:, 3], sampled[:, 3], rtol=0.05)
    np.testing.assert_allclose(fitted[:, 4:6], sampled[:, 4:6], atol=5)


def test_units_that_points_show_are_found(model, visible):
    alone = np.full(N_UNITS, 1e-4)
    names = model.shape_names + model.animation_names
    shown = ["mouth_width", "eye_separation", "AU12_left", "AU26", "AU01_right"]
    chosen = [names.index(name) for name in shown]
    alone[chosen] = 1
    prior = prior_of(alone, 1e-3)
    sampled, points = sample(model, visible, prior, 20, 2)
    fitted = fit_points(model, prior, visible, points)
    found, true = (one[:, 6:][:, chosen] for one in (fitted, sampled))
    np.testing.assert_allclose(found, true, atol=0.1)
    others = np.delete(fitted[:, 6:], chosen, axis=1)
    assert np.abs(others).max() < 0.01


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_found_is_most_probable(model, visible, seed, weighted):
    rng = np.random.default_rng(seed)
    mean = rng.normal(0, 0.1, N_UNITS)
    prior = replace(USUAL, mean=mean)
    _, points = sample(model, visible, prior, 1, seed)
    weights = rng.uniform(0.2, 3, (1, len(visible))) if weighted else None
    (fitted,) = fit_points(model, prior, visible, points, weights=weights)
    used = np.ones(len(visible)) if weights is None else weights[0]
    gain = partial(gain_left, residuals_of(model, visible, prior, points[0], used))
    typical = model.shape(mean[:N_SHAPE], mean[N_SHAPE:])[visible]
    start = np.r_[fit_pose(typical, points[0], used), mean]
    assert gain(start) > 20
    assert gain(fitted) < 1e-3


def test_the_prior_wins_where_points_say_little(model, visible):
    mean = np.random.default_rng(0).normal(0, 0.2, N_UNITS)
    _, points = sample(model, visible, USUAL, 5, 3)
    prior = replace(USUAL, mean=mean, noise=1e4)
    fitted, covariances = fit_points(model, prior, visible, points, covariances=True)
    np.testing.assert_allclose(fitted[:, 6:], np.tile(mean, (5, 1)), atol=1e-5)
    np.testing.assert_allclose(covariances, [prior.covariance] * 5, atol=1e-5)
    # and less the more exact points are
    distances = [
        np.abs(
            fit_points(model, replace(USUAL, noise=noise), visible, points)[:, 6:]
        ).mean()
        for noise in (0.003, 0.03, 0.3)
    ]
    assert distances[0] > 1.5 * distances[1] > 1.5**2 * distances[2]


def test_faces_are_known_not_to_turn_far(model, visible):
    prior = replace(NARROW, noise=0.3)
    _, points = sample(model, visible, prior, 6, 17)
    fitted = fit_points(model, prior, visible, points)
    for one, parameters in zip(points, fitted, strict=True):
        assert gain_left(residuals_of(model, visible, prior, one), parameters) < 1e-3
    # of points as inexact as these, turns are told less than they may be off
    alone = np.array([fit_pose(model.vertices[visible], one) for one in points])
    assert np.abs(fitted[:, :2]).mean() < 0.8 * np.abs(alone[:, :2]).mean()


# Covariances


def test_covariances_are_those_of_the_linearized_model(model, visible):
    _, points = sample(model, visible, USUAL, 3, 4)
    fitted, covariances = fit_points(model, USUAL, visible, points, covariances=True)
    assert covariances.shape == (3, N_UNITS, N_UNITS)
    for one, found, where in zip(points, covariances, fitted, strict=True):
        of = residuals_of(model, visible, USUAL, one)
        jacobian = differentiate(of, where)
        expected = np.linalg.inv(jacobian.T @ jacobian)[6:, 6:]
        spread = np.sqrt(np.diag(expected))
        off = (found - expected) / np.outer(spread, spread)
        assert np.abs(off).max() < 0.03


def test_covariances_are_symmetric_positive_definite_and_below_the_priors(model, visible):
    for prior in (NARROW, USUAL):
        _, points = sample(model, visible, prior, 30, 5)
        _, covariances = fit_points(model, prior, visible, points, covariances=True)
        transposed = np.swapaxes(covariances, 1, 2)
        np.testing.assert_allclose(covariances, transposed, atol=1e-10)
        np.linalg.cholesky(covariances)
        # points can only add to what is known
        less = np.linalg.eigvalsh(prior.covariance - covariances)
        assert less.min() > -1e-10
        assert less.max() > 0.5 * prior.covariance[0, 0]


def test_covariances_say_how_far_fits_are_off(model, visible):
    sampled, points = sample(model, visible, USUAL, 150, 6)
    fitted, covariances = fit_points(model, USUAL, visible, points, covariances=True)
    off = (fitted - sampled)[:, 6:]
    squares = np.einsum(
        "ni,ni->n", off, np.linalg.solve(covariances, off[..., None])[..., 0]
    )
    # of 150 faces with 79 units: chi squares
    assert squares.mean() / N_UNITS == pytest.approx(1, abs=0.06)


def test_asking_for_covariances_changes_nothing_else(model, visible):
    _, points = sample(model, visible, USUAL, 4, 7)
    fitted, _ = fit_points(model, USUAL, visible, points, covariances=True)
    np.testing.assert_array_equal(fit_points(model, USUAL, visible, points), fitted)


# Weights


def test_a_point_of_weight_0_does_not_matter(model, visible):
    _, points = sample(model, visible, USUAL, 6, 8)
    weights = np.ones(points.shape[:2])
    weights[::2, [3, 17]] = 0
    weights[1::2, 30] = 0
    elsewhere = points.copy()
    elsewhere[weights == 0] += (300, -90)
    fit = partial(fit_points, model, USUAL, visible, covariances=True)
    expected, expected_covariances = fit(points, weights=weights)
    found, covariances = fit(elsewhere, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariances, expected_covariances, rtol=1e-9, atol=1e-12)
    # as without them
    left = np.delete(np.arange(len(visible)), [3, 17])
    without = fit_points(model, USUAL, visible[left], points[::2][:, left])
    np.testing.assert_allclose(without, found[::2], rtol=1e-3, atol=1e-3)
    # while it would with a weight
    assert np.abs(fit_points(model, USUAL, visible, elsewhere) - expected).max() > 1


def test_weights_are_noise_turned_round(model, visible):
    _, points = sample(model, visible, USUAL, 5, 9)
    fours = np.full(points.shape[:2], 4.0)
    weighted = fit_points(model, USUAL, visible, points, weights=fours)
    exact = replace(USUAL, noise=USUAL.noise / 2)
    np.testing.assert_allclose(
        weighted, fit_points(model, exact, visible, points), rtol=1e-8, atol=1e-8
    )


# Many faces


def test_faces_are_fitted_alone_as_among_others(model, visible):
    for prior in (USUAL, WILD):
        _, points = sample(model, visible, prior, 20, 10)
        together = fit_points(model, prior, visible, points)
        for one, expected in zip(points, together, strict=True):
            (alone,) = fit_points(model, prior, visible, one[None])
            np.testing.assert_allclose(alone, expected, rtol=1e-6, atol=1e-6)


def test_a_face_that_takes_more_steps_is_not_left_on_its_way(model, visible):
    _, points = sample(model, visible, WILD, 20, 13)
    for one, together in zip(points, fit_points(model, WILD, visible, points), strict=True):
        (alone,) = fit_points(model, WILD, visible, one[None])
        of = residuals_of(model, visible, WILD, one)
        improbable, improbable_alone = ((of(p) ** 2).sum() / 2 for p in (together, alone))
        assert improbable < improbable_alone + 0.1


def test_a_face_with_points_far_off_is_fitted_to_the_end(model, visible):
    _, points = sample(model, visible, replace(WILD, noise=2 * WILD.noise), 10, 25)
    (fitted,) = fit_points(model, WILD, visible, points[1:2])
    assert gain_left(residuals_of(model, visible, WILD, points[1]), fitted) < 0.01


def test_more_faces_than_are_fitted_at_once(model, visible):
    _, points = sample(model, visible, NARROW, 3, 11)
    weights = np.random.default_rng(0).uniform(0.5, 2, points.shape[:2])
    fit = partial(fit_points, model, NARROW, visible, covariances=True)
    few, few_covariances = fit(points, weights=weights)
    order = np.random.default_rng(1).integers(0, 3, 600)
    many, covariances = fit(points[order], weights=weights[order])
    np.testing.assert_allclose(many, few[order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(covariances, few_covariances[order], atol=1e-5)


def test_faces_without_a_pose_are_refused(model, visible):
    _, points = sample(model, visible, NARROW, 2, 12)
    points[1] = points[1, 0]
    with pytest.raises(ValueError, match="not determine a pose"):
        fit_points(model, NARROW, visible, points)


# Images


def test_larger_images_change_scale_and_shift_only(model, visible):
    _, points = sample(model, visible, USUAL, 10, 13)
    small = fit_points(model, USUAL, visible, points)
    large = fit_points(model, USUAL, visible, 3 * points)
    np.testing.assert_allclose(large[:, 3:6], 3 * small[:, 3:6], rtol=1e-7)
    others = [0, 1, 2, *range(6, 6 + N_UNITS)]
    np.testing.assert_allclose(large[:, others], small[:, others], atol=1e-7)


def test_a_face_elsewhere_changes_the_shift_only(model, visible):
    _, points = sample(model, visible, USUAL, 10, 14)
    here = fit_points(model, USUAL, visible, points)
    there = fit_points(model, USUAL, visible, points + np.array([500, -70]))
    expected = here + np.r_[0, 0, 0, 0, 500, -70, np.zeros(N_UNITS)]
    np.testing.assert_allclose(there, expected, atol=1e-7)


def test_mirrored_faces_have_mirrored_parameters(model):
    rng = np.random.default_rng(15)
    # symmetrical: what goes together on one side does on the other
    order = np.r_[model.mirrored_shape, N_SHAPE + np.array(model.mirrored_animation)]
    root = np.diag(WIDE / 3) + rng.normal(0, 0.01, (N_UNITS, N_UNITS))
    covariance = root @ root.T
    covariance = (covariance + covariance[np.ix_(order, order)]) / 2
    mean = rng.normal(0, 0.05, N_UNITS)
    prior = Prior((mean + mean[order]) / 2, covariance, 0.01)
    landmarks = np.zeros((10, 68, 2))
    visible = np.array(sorted(model.landmarks))
    _, points = sample(model, visible, prior, 10, 16)
    for vertex, seen in zip(visible, np.moveaxis(points, 1, 0), strict=True):
        landmarks[:, list(model.landmarks[vertex])] = seen[:, None]
    width = 400
    mirrored = (landmarks * (-1, 1) + (width - 1, 0))[:, MIRRORED]
    found, other = (
        fit_points(model, prior, *visible_points(model, one))
        for one in (landmarks, mirrored)
    )
    expected = mirror_parameters(model, found, width)
    np.testing.assert_allclose(other, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(other[:, 6:] - found[:, 6:]).max() > 0.1
    # the points that this compares are those of partners
    assert set(partners()[visible]) == set(visible)


# Limits


def test_limits_are_kept_and_the_rest_is_most_probable(model, visible):
    _, points = sample(model, visible, USUAL, 3, 18)
    free = fit_points(model, USUAL, visible, points)
    size = np.abs(free[:, 6:]).mean()
    limits = np.array([np.full(N_UNITS, -size / 2), np.full(N_UNITS, size)])
    fitted = fit_points(model, USUAL, visible, points, limits=limits)
    units = fitted[:, 6:]
    assert (units >= limits[0]).all()
    assert (units <= limits[1]).all()
    bounds = np.full((2, fitted.shape[1]), np.inf) * [[-1], [1]]
    bounds[:, 6:] = limits
    for one, found in zip(points, fitted, strict=True):
        of = residuals_of(model, visible, USUAL, one)
        start = np.r_[found[:6], np.clip(free[0, 6:], *limits)]
        # an independent solver for bounded least squares
        expected = least_squares(of, start, bounds=bounds, x_scale="jac", max_nfev=60)
        assert (of(found) ** 2).sum() / 2 < expected.cost * 1.002
        held = (found[6:] == limits[0]) | (found[6:] == limits[1])
        assert held.sum() > 5


def test_limits_that_no_unit_reaches_change_nothing(model, visible):
    _, points = sample(model, visible, USUAL, 4, 19)
    limits = np.array([np.full(N_UNITS, -50.0), np.full(N_UNITS, 50.0)])
    np.testing.assert_array_equal(
        fit_points(model, USUAL, visible, points, limits=limits),
        fit_points(model, USUAL, visible, points),
    )


def test_units_of_equal_limits_are_fixed(model, visible):
    _, points = sample(model, visible, USUAL, 2, 20)
    limits = unit_limits(model, USUAL)
    limits[:, 5] = 0.3
    fitted = fit_points(model, USUAL, visible, points, limits=limits)
    np.testing.assert_array_equal(fitted[:, 6 + 5], 0.3)


def test_limits_the_wrong_way_round_are_refused(model, visible):
    _, points = sample(model, visible, USUAL, 2, 20)
    with pytest.raises(ValueError, match="must not be above"):
        fit_points(model, USUAL, visible, points, limits=unit_limits(model, USUAL)[::-1])


# Targets


def test_equally_sure_targets_are_points(model, visible):
    _, points = sample(model, visible, USUAL, 2, 21)
    fitted = fit_points(model, USUAL, visible, points)
    for one, expected in zip(points, fitted, strict=True):
        typical = model.shape(np.zeros(N_SHAPE), np.zeros(N_ANIMATION))[visible]
        start = np.r_[fit_pose(typical, one), np.zeros(N_UNITS)]
        scale = rough_poses(typical, one[None], np.ones((1, len(visible))))[0, 3]
        sure = np.broadcast_to(np.eye(2) / (USUAL.noise * scale) ** 2, (len(visible), 2, 2))
        found = fit_targets(model, USUAL, visible, one, sure, start)
        np.testing.assert_allclose(
            shown_by(model, visible, found), shown_by(model, visible, expected), atol=0.02
        )
        np.testing.assert_allclose(found[6:], expected[6:], atol=5e-3)


def test_what_targets_are_not_sure_of_does_not_matter(model, visible):
    rng = np.random.default_rng(22)
    sampled, points = sample(model, visible, USUAL, 1, 22)
    directions = rng.normal(size=(len(visible), 2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sure = directions[:, :, None] * directions[:, None, :] * 0.5
    sure[4] = 0
    across = np.stack([-directions[:, 1], directions[:, 0]], axis=1)
    elsewhere = points[0] + rng.normal(0, 30, (len(visible), 1)) * across
    elsewhere[4] += (500, -70)
    fit = partial(fit_targets, model, USUAL, visible)
    found, expected = (fit(t, sure, sampled[0]) for t in (elsewhere, points[0]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # while the other direction does
    moved = fit(points[0] + 5 * directions, sure, sampled[0])
    assert np.abs(moved - expected).max() > 0.1


def test_oblique_precisions_weigh_as_their_residuals_say(model, visible):
    rng = np.random.default_rng(23)
    sampled, points = sample(model, visible, USUAL, 1, 23)
    factors = rng.normal(0, 0.4, (len(visible), 2, 2))
    sure = factors @ np.swapaxes(factors, 1, 2)
    found = fit_targets(model, USUAL, visible, points[0], sure, sampled[0])

    def cost(parameters):
        off = shown_by(model, visible, parameters) - points[0]
        prior = np.r_[parameters[:3] / ANGLE_SPREAD, parameters[6:] / (WIDE / 3)]
        return np.einsum("ki,kij,kj->", off, sure, off) + (prior**2).sum()

    gradient = differentiate(cost, found)
    steps = 1e-2 * np.r_[1, 1, 1, found[3], found[3], found[3], np.ones(N_UNITS)]
    assert np.abs(gradient * steps).max() < 0.01 * cost(found)
    assert cost(found) < 0.5 * cost(sampled[0])


def test_targets_without_a_step_stay_within_the_limits(model, visible):
    sampled, points = sample(model, visible, WILD, 1, 24)
    limits = unit_limits(model, NARROW)
    none = np.zeros((len(visible), 2, 2))
    found = fit_targets(
        model, WILD, visible, points[0], none, sampled[0], limits=limits, most_steps=0
    )
    np.testing.assert_array_equal(found[6:], np.clip(sampled[0, 6:], *limits))
    np.testing.assert_array_equal(found[:6], sampled[0, :6])
