"""Fit the wireframe to the frames of one person: one sigma, an alpha a frame."""

import numpy as np

from ferpipe.candide.model import POSE_NAMES
from ferpipe.candide.point_fit import Prior, fit_points

__all__ = ["fit_sequence", "given_person", "person_of"]

_N_POSE = len(POSE_NAMES)
# of sigma once it is known: not 0, so that its covariance can be inverted
_KNOWN = 1e-6


def fit_sequence(model, prior, vertices, points):
    """Fit one sigma to all frames of a sequence, and pose and alpha to each.

    Parameters
    ----------
    model : CandideModel
        The wireframe.
    prior : Prior
        Of its shape and animation units.
    vertices : array-like of shape (k,), int
        Vertices of the wireframe.
    points : ndarray of shape (T, k, 2)
        Where each frame shows them, in pixels.

    Returns
    -------
    parameters : ndarray of shape (T, n_parameters)
        All rows have the same sigma.
    """
    parameters, covariances = fit_points(model, prior, vertices, points, covariances=True)
    n_shape = len(model.shape_names)
    sigma = person_of(
        prior,
        parameters[:, _N_POSE : _N_POSE + n_shape],
        covariances[:, :n_shape, :n_shape],
    )
    parameters = fit_points(model, given_person(prior, sigma), vertices, points)
    parameters[:, _N_POSE : _N_POSE + n_shape] = sigma
    return parameters


def person_of(prior, sigmas, covariances):
    """Combine what frames say about the person, each by how sure it is.

    Parameters
    ----------
    prior : Prior
        Of the units; every frame's fit has already counted it once.
    sigmas : ndarray of shape (T, n_shape)
        Fitted to each frame alone.
    covariances : ndarray of shape (T, n_shape, n_shape)
        Their posterior covariances.

    Returns
    -------
    sigma : ndarray of shape (n_shape,)
        The mean of the product of the frames' posteriors, with the prior counted once.
    """
    n_shape = sigmas.shape[1]
    before = np.linalg.inv(prior.covariance[:n_shape, :n_shape])
    precisions = np.linalg.inv(covariances)
    again = len(sigmas) - 1
    total = precisions.sum(0) - again * before
    weighted = (precisions @ sigmas[:, :, None]).sum(0)[:, 0]
    return np.linalg.solve(total, weighted - again * before @ prior.mean[:n_shape])


def given_person(prior, sigma) -> Prior:
    """Return the prior of the animation units once the shape units are known.

    Parameters
    ----------
    prior : Prior
        Of all units.
    sigma : ndarray of shape (n_shape,)
        Shape parameters of the person.
    """
    n_shape = len(sigma)
    of_person = prior.covariance[:n_shape, :n_shape]
    across = prior.covariance[n_shape:, :n_shape]
    gain = np.linalg.solve(of_person, across.T).T
    mean = prior.mean[n_shape:] + gain @ (sigma - prior.mean[:n_shape])
    covariance = np.zeros_like(prior.covariance)
    covariance[:n_shape, :n_shape] = _KNOWN**2 * np.eye(n_shape)
    covariance[n_shape:, n_shape:] = prior.covariance[n_shape:, n_shape:] - gain @ across.T
    return Prior(np.concatenate([sigma, mean]), covariance, prior.noise)
