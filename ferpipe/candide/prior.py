"""The prior of the shape and animation parameters, and the limits of both."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = [
    "Prior",
    "condition_on_shape",
    "unit_limits",
]

# of sigma once it is known: not 0, so that its covariance can be inverted
_KNOWN = 1e-6
# Of animation units: faces at rest differ, in the brows above all. What opens the mouth or
# shuts the eyes hardly goes beyond the other end.
_ACTION_LIMITS = -1.0, 2.0
_OPENING_LIMITS = -0.5, 1.5
_OPENING = ("AU25", "AU26", "AU27", "AU43", "AU46")
# of people from the mean, in standard deviations
_MOST_UNUSUAL = 3.0


@dataclass(frozen=True, eq=False)
class Prior:
    """What faces are like before any of their points is seen: a Gaussian.

    Attributes
    ----------
    mean : ndarray of shape (n_shape + n_animation,)
        Of sigma and alpha.
    covariance : ndarray of shape (n_shape + n_animation, n_shape + n_animation)
        Of sigma and alpha.
    noise : float
        Standard deviation of a point's coordinate about the wireframe's, in units of the
        model (outer eye distances).
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    @cached_property
    def precision(self) -> np.ndarray:
        """The inverse of the covariance."""
        return np.linalg.inv(self.covariance)


def unit_limits(model, prior):
    """Return between what the units of faces lie.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its units.

    Returns
    -------
    limits : ndarray of shape (2, n_shape + n_animation)
        Least and largest values. Shape units are at most 3 standard deviations from
        their means. Animation units are from -1 to 2, and those that open the mouth or
        shut the eyes (AU25, AU26, AU27, AU43, AU46) from -0.5 to 1.5, where 0 is the
        wireframe's face at rest and 1 the unit as it is drawn.

    Notes
    -----
    Muscles pull and do not push, but faces at rest differ from the wireframe's: of 1207
    annotated faces fitted without limits, two of three have a unit outside -0.5 to 1.5,
    mostly of a brow, and one of ten a unit outside -1 to 2.
    """
    n_shape = len(model.shape_names)
    limits = np.empty((2, len(prior.mean)))
    for number, name in enumerate(model.animation_names, start=n_shape):
        opens = name.partition("_")[0] in _OPENING
        limits[:, number] = _OPENING_LIMITS if opens else _ACTION_LIMITS
    off = _MOST_UNUSUAL * np.sqrt(np.diag(prior.covariance)[:n_shape])
    limits[:, :n_shape] = prior.mean[:n_shape] + np.array([-off, off])
    return limits


def condition_on_shape(prior, sigma) -> Prior:
    """Return the prior of the animation units once the shape units are known.

    Parameters
    ----------
    prior : Prior
        Of all units.
    sigma : ndarray of shape (n_shape,)
        Shape parameters of the person.
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
