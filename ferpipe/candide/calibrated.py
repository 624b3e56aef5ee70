"""The wireframe of the package, calibrated on annotated faces, and its prior."""

from functools import cache
from pathlib import Path

import numpy as np

import ferpipe
from ferpipe.candide.model import CandideModel
from ferpipe.candide.prior import Prior
from ferpipe.candide.template import template_model

__all__ = ["load_calibrated", "save_calibrated"]

_OWN = Path(ferpipe.__file__).parent / "pretrained" / "candide" / "wireframe.npz"


@cache
def load_calibrated(path: Path | str = _OWN) -> tuple[CandideModel, Prior]:
    """Load a calibrated wireframe and the prior of its units.

    Parameters
    ----------
    path : path
        A file that :func:`save_calibrated` wrote; the package's own by default.

    Returns
    -------
    model : CandideModel
        It has the names, triangles and landmarks of the template.
    prior : Prior
        The prior of its parameters.
    """
    template = template_model()
    with np.load(path, allow_pickle=False) as arrays:
        model = CandideModel(
            arrays["vertices"].astype(np.float64),
            template.triangles,
            arrays["shape_units"].astype(np.float64),
            arrays["animation_units"].astype(np.float64),
            template.shape_names,
            template.animation_names,
            template.vertex_names,
            template.landmarks,
            template.mirrored_shape,
            template.mirrored_animation,
        )
        mean, covariance = arrays["mean"], arrays["covariance"]
        prior = Prior(mean, covariance, float(arrays["noise"]))
    return model, prior


def save_calibrated(path: Path | str, model: CandideModel, prior: Prior) -> None:
    """Write the arrays that calibration changes to a file.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    model : CandideModel
        The wireframe.
    prior : Prior
        The prior of its parameters.
    """
    np.savez_compressed(
        path,
        vertices=model.vertices.astype(np.float32),
        shape_units=model.shape_units.astype(np.float32),
        animation_units=model.animation_units.astype(np.float32),
        mean=prior.mean,
        covariance=prior.covariance,
        noise=prior.noise,
    )
