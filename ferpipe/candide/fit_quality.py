"""FitQualityModel: the probability that a fitted wireframe lies on a face."""

import math
from dataclasses import dataclass, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import ferpipe
from ferpipe.faces.landmark_cascade import CropPlacer
from ferpipe.geometry import warp

__all__ = [
    "LEAST_QUALITY",
    "QUALITY_SIZE",
    "FitQualityModel",
    "load_quality_model",
    "save_quality_model",
    "standardized",
]

_OWN = Path(ferpipe.__file__).parent / "pretrained" / "fitter" / "quality.npz"
# quality below which a fit is taken to miss the face
LEAST_QUALITY = 0.5
# side of the model's crops, in pixels
QUALITY_SIZE = 32
# added to the standard deviation of gray values, so that noise in flat crops stays small
_LEAST_CONTRAST = 8.0


def standardized(crops: ArrayLike) -> np.ndarray:
    """Standardize crops to mean 0 and standard deviation 1.

    Parameters
    ----------
    crops : array-like of shape (n, size, size)
        Gray values 0..255.

    Returns
    -------
    rows : ndarray of shape (n, size * size), float32
    """
    gray = np.asarray(crops, np.float32)
    rows = gray.reshape(len(gray), -1)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / (rows.std(1, keepdims=True) + _LEAST_CONTRAST)


@dataclass(frozen=True, eq=False)
class FitQualityModel:
    """A network with one hidden layer, on a small crop that the fit places.

    Attributes
    ----------
    mean_shape : ndarray of shape (68, 2)
        Points of the mean face; its outer eye distance is 1. They place the crop.
    mean_points : ndarray of shape (k, 2)
        The visible points of the wireframe in the mean face, in outer eye distances.
    weights, offsets : ndarray of shape (n_pixels, n_hidden) and (n_hidden,)
        From the standardized crop to the hidden units.
    last_weights, last_offset : ndarray of shape (n_hidden,) and ()
        From the hidden units, after ReLU, to the logit.
    """

    mean_shape: np.ndarray
    mean_points: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    last_weights: np.ndarray
    last_offset: np.ndarray

    def __call__(self, image: np.ndarray, points: np.ndarray) -> float:
        """Evaluate one fit.

        Parameters
        ----------
        image : ndarray of shape (h, w), uint8
            Gray; a crop of the face is enough.
        points : ndarray of shape (k, 2)
            The visible points of the fitted wireframe, in pixels.

        Returns
        -------
        quality : float
            Probability that the mean distance of the points from those of a face is below
            0.085 outer eye distances, for the displaced faces and images without a face
            that training samples.
        """
        crop = warp(image, self._place(points), (QUALITY_SIZE, QUALITY_SIZE))
        hidden = standardized(crop[None])[0] @ self.weights + self.offsets
        logit = float(np.maximum(hidden, 0) @ self.last_weights + self.last_offset)
        return 1 / (1 + math.exp(-min(max(logit, -50.0), 50.0)))

    @cached_property
    def _place(self) -> CropPlacer:
        return CropPlacer(self.mean_points, self.mean_shape, QUALITY_SIZE)


def save_quality_model(path: Path | str, quality_model: FitQualityModel) -> None:
    """Write a quality model to a file.

    Parameters
    ----------
    path : str or path
        The file, ``.npz``.
    quality_model : FitQualityModel
        The model; its weights are written in single precision.
    """
    arrays: dict[str, Any] = {
        one.name: np.float32(getattr(quality_model, one.name))
        for one in fields(quality_model)
    }
    np.savez_compressed(path, **arrays)


@cache
def load_quality_model(path: Path | str = _OWN) -> FitQualityModel:
    """Load what :func:`save_quality_model` wrote; the package's own by default."""
    with np.load(path, allow_pickle=False) as arrays:
        return FitQualityModel(**{name: arrays[name] for name in arrays.files})
