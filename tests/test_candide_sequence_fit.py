import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.point_fit import Prior, fit_points, visible_points
from ferpipe.candide.sequence_fit import fit_sequence, given_person, person_of


@pytest.fixture(scope="module")
def wireframe():
    return load_calibrated()


@pytest.fixture(scope="module")
def clip(wireframe):
    """Ten frames of one person that smiles and turns, with a little noise."""
    model, prior = wireframe
    rng = np.random.default_rng(0)
    sigma = rng.multivariate_normal(prior.mean, prior.covariance)[: len(model.shape_names)]
    parameters = np.zeros((10, len(model.parameter_names)))
    pose, persons, alpha = model.split(parameters)
    pose[:] = (0, 0, 0, 60, 100, 100)
    pose[:, 1] = np.linspace(-0.3, 0.3, 10)
    persons[:] = sigma
    for side in ("left", "right"):
        alpha[:, model.animation_names.index(f"AU12_{side}")] = np.linspace(0, 1, 10)
    points = project(model.shape(persons, alpha), pose)
    vertices = np.array(sorted(model.landmarks))
    points = points[:, vertices] + rng.normal(0, 0.9, (10, len(vertices), 2))
    return parameters, vertices, points


def test_all_frames_have_one_person(wireframe, clip):
    model, prior = wireframe
    truth, vertices, points = clip
    fitted = fit_sequence(model, prior, vertices, points)
    _, sigma, alpha = model.split(fitted)
    assert (sigma == sigma[0]).all()
    sides = [model.animation_names.index(f"AU12_{side}") for side in ("left", "right")]
    smile = alpha[:, sides].sum(1)
    assert np.corrcoef(smile, np.linspace(0, 1, 10))[0, 1] > 0.8
    assert np.degrees(np.abs(fitted[:, 1] - truth[:, 1])).mean() < 4


def test_many_frames_tell_more_of_the_person_than_one(wireframe, clip):
    model, prior = wireframe
    truth, vertices, points = clip
    true_shape = model.shape(model.split(truth[0])[1], np.zeros(len(model.animation_names)))

    def error(parameters):
        _, sigma, _ = model.split(parameters)
        shape = model.shape(sigma, np.zeros((len(sigma), len(model.animation_names))))
        return np.abs(shape - true_shape)[:, vertices].mean()

    alone = error(fit_points(model, prior, vertices, points))
    assert error(fit_sequence(model, prior, vertices, points)) < alone


def test_person_of_equals_the_product_of_posteriors():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(3, 3))
    prior = Prior(rng.normal(size=5), np.eye(5), 0.1)
    prior.covariance[:3, :3] = factor @ factor.T + np.eye(3)
    before = np.linalg.inv(prior.covariance[:3, :3])
    # two observations of sigma in known noise; each posterior counts the prior once
    seen = rng.normal(size=(2, 3))
    noises = np.array([np.diag([0.1, 0.2, 0.3]), np.diag([0.5, 0.1, 0.4])])
    inverse = np.linalg.inv(noises)
    covariances = np.linalg.inv(before + inverse)
    means = np.stack(
        [
            covariances[i] @ (before @ prior.mean[:3] + inverse[i] @ seen[i])
            for i in range(2)
        ]
    )
    expected = np.linalg.solve(
        before + inverse.sum(0),
        before @ prior.mean[:3] + inverse[0] @ seen[0] + inverse[1] @ seen[1],
    )
    np.testing.assert_allclose(person_of(prior, means, covariances), expected)


def test_given_person_is_the_conditional_gaussian():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(5, 5))
    prior = Prior(rng.normal(size=5), factor @ factor.T, 0.1)
    draws = rng.multivariate_normal(prior.mean, prior.covariance, 400_000)
    sigma = prior.mean[:2] + np.array([0.5, -0.3])
    given = given_person(prior, sigma)
    # regression of the draws is the conditional mean
    design = np.column_stack([np.ones(len(draws)), draws[:, :2]])
    weights, *_ = np.linalg.lstsq(design, draws[:, 2:], rcond=None)
    np.testing.assert_allclose(given.mean[2:], [1, *sigma] @ weights, atol=0.03)
    rest = draws[:, 2:] - design @ weights
    np.testing.assert_allclose(
        given.covariance[2:, 2:], np.cov(rest.T), rtol=0.05, atol=0.02
    )
    np.testing.assert_array_equal(given.mean[:2], sigma)
    assert np.abs(given.covariance[:2]).max() < 1e-10


def test_visible_points_are_those_of_the_68(wireframe):
    model, _ = wireframe
    vertices, _ = visible_points(model, np.zeros((1, 68, 2)))
    assert set(vertices) == set(model.landmarks)
