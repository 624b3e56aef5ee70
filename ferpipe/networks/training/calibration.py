"""Temperature scaling: one number that calibrates a network's probabilities."""

import math

import torch
from scipy.optimize import minimize_scalar

from ferpipe.networks.modules import decide

__all__ = ["fit_temperature"]

# of the logarithm: far beyond what any network needs
_BOUNDS = (-4.0, 4.0)


def fit_temperature(
    scores: torch.Tensor, target: torch.Tensor, rows: torch.Tensor | None = None
) -> float:
    """Find the temperature under which the classes of some samples are most likely.

    Parameters
    ----------
    scores : Tensor of shape (n_views, n or sum(rows), n_classes)
        Raw scores; the probabilities of views and of a sample's rows are averaged.
    target : int Tensor of shape (n,)
        Classes.
    rows : int Tensor of shape (n,) or None, default=None
        Rows of each sample; None for one each.

    Returns
    -------
    temperature : float
        By which scores are divided before the softmax; above 1 for an
        overconfident network.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, eq. (9).
    """
    scores = scores.double()

    def loss(logarithm: float) -> float:
        views = [
            decide(view / math.exp(logarithm), "cross_entropy", rows) for view in scores
        ]
        likelihood = torch.stack(views).mean(0).gather(1, target[:, None])
        return -likelihood.clamp(min=1e-300).log().mean().item()

    found = minimize_scalar(loss, bounds=_BOUNDS, method="bounded", options={"xatol": 1e-6})
    return math.exp(found.x)
