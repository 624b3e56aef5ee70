import numpy as np

from ferpipe.candide.prior import Prior, condition_on_shape, unit_limits
from ferpipe.candide.template import template_model

MODEL = template_model()
N_SHAPE, N_UNITS = 14, 79
SPREAD = np.r_[np.full(14, 1.0), np.full(65, 0.5)] / 3


def test_limits_of_units():
    rng = np.random.default_rng(0)
    prior = Prior(rng.normal(0, 0.1, N_UNITS), np.diag(SPREAD**2), 0.01)
    low, high = unit_limits(MODEL, prior)
    off = 3 * SPREAD[:N_SHAPE]
    np.testing.assert_allclose(low[:N_SHAPE], prior.mean[:N_SHAPE] - off)
    np.testing.assert_allclose(high[:N_SHAPE], prior.mean[:N_SHAPE] + off)
    names = np.array(MODEL.animation_names)
    between = {}
    for pair in zip(low[N_SHAPE:], high[N_SHAPE:], strict=True):
        between[pair] = set(names[(low[N_SHAPE:] == pair[0])])
    assert set(between) == {(-1.0, 2.0), (-0.5, 1.5)}
    narrow = {"AU25", "AU26", "AU27", "AU43", "AU46_left", "AU46_right"}
    assert between[-0.5, 1.5] == narrow


def test_known_shape_gives_the_conditional_gaussian():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(5, 5))
    prior = Prior(rng.normal(size=5), factor @ factor.T, 0.1)
    samples = rng.multivariate_normal(prior.mean, prior.covariance, 400_000)
    sigma = prior.mean[:2] + np.array([0.5, -0.3])
    given = condition_on_shape(prior, sigma)
    # regression of the samples is the conditional mean
    design = np.column_stack([np.ones(len(samples)), samples[:, :2]])
    weights, *_ = np.linalg.lstsq(design, samples[:, 2:], rcond=None)
    np.testing.assert_allclose(given.mean[2:], [1, *sigma] @ weights, atol=0.03)
    rest = samples[:, 2:] - design @ weights
    np.testing.assert_allclose(
        given.covariance[2:, 2:], np.cov(rest.T), rtol=0.05, atol=0.02
    )
    np.testing.assert_array_equal(given.mean[:2], sigma)
    assert np.abs(given.covariance[:2]).max() < 1e-10
