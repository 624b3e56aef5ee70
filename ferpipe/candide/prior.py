"""The prior of the shape and animation parameters, and the limits of both."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ferpipe.candide.model import CandideModel

__all__ = [
    "Prior",
    "condition_on_shape",
    "unit_limits",
]

# standard deviation of known shape parameters: not 0, so that the covariance is regular
_KNOWN = 1e-6
# Limits of animation parameters. Neutral faces differ, most of all in the brows; units that
# open the mouth or close the eyes are hardly ever negative.
_ACTION_LIMITS = -1.0, 2.0
_OPENING_LIMITS = -0.5, 1.5
_OPENING = ("AU25", "AU26", "AU27", "AU43", "AU46")
# limit of shape parameters, in standard deviations from the mean
_MOST_UNUSUAL = 3.0


@dataclass(frozen=True, eq=False)
class Prior:
    """A Gaussian prior of the shape and animation parameters.

    Attributes
    ----------
    mean : ndarray of shape (n_shape + n_animation,)
        Mean of the shape and animation parameters.
    covariance : ndarray of shape (n_shape + n_animation, n_shape + n_animation)
        Their covariance.
    noise : float
        Standard deviation of an annotated coordinate about that of the wireframe, in units
        of the model (outer eye distances).
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    @cached_property
    def precision(self) -> np.ndarray:
        """The inverse of the covariance."""
        return np.linalg.inv(self.covariance)


def unit_limits(model: CandideModel, prior: Prior) -> np.ndarray:
    """Return the limits of the shape and animation parameters.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its parameters.

    Returns
    -------
    limits : ndarray of shape (2, n_shape + n_animation)
        Least and largest values. Shape parameters are at most 3 standard deviations from
        their means. Animation parameters are from -1 to 2, and those that open the mouth
        or close the eyes (AU25, AU26, AU27, AU43, AU46) from -0.5 to 1.5, where 0 is the
        neutral face of the wireframe and 1 the displacement in the template's tables.

    Notes
    -----
    Muscles only pull, but neutral faces differ from that of the wireframe, so values below
    0 occur. Of 1207 annotated faces fitted without limits, two thirds have a parameter
    outside -0.5 to 1.5, mostly of a brow, and a tenth one outside -1 to 2.
    """
    n_shape = len(model.shape_names)
    limits = np.empty((2, len(prior.mean)))
    for number, name in enumerate(model.animation_names, start=n_shape):
        opens = name.partition("_")[0] in _OPENING
        limits[:, number] = _OPENING_LIMITS if opens else _ACTION_LIMITS
    off = _MOST_UNUSUAL * np.sqrt(np.diag(prior.covariance)[:n_shape])
    limits[:, :n_shape] = prior.mean[:n_shape] + np.array([-off, off])
    return limits


def condition_on_shape(prior: Prior, sigma: np.ndarray) -> Prior:
    """Return the prior for a person whose shape parameters are known.

    Parameters
    ----------
    prior : Prior
        The prior of all parameters.
    sigma : ndarray of shape (n_shape,)
        Shape parameters of the person.

    Returns
    -------
    prior : Prior
        The conditional Gaussian of the animation parameters, with the shape parameters
        fixed.
    """
    n_shape = len(sigma)
    with_shape = prior.covariance[:n_shape, :n_shape]
    across = prior.covariance[n_shape:, :n_shape]
    gain = np.linalg.solve(with_shape, across.T).T
    mean = prior.mean[n_shape:] + gain @ (sigma - prior.mean[:n_shape])
    covariance = np.zeros_like(prior.covariance)
    covariance[:n_shape, :n_shape] = _KNOWN**2 * np.eye(n_shape)
    covariance[n_shape:, n_shape:] = prior.covariance[n_shape:, n_shape:] - gain @ across.T
    return Prior(np.concatenate([sigma, mean]), covariance, prior.noise)
