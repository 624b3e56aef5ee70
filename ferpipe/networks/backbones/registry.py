"""The backbones by the names that the estimators take; torch loads when one is found."""

from importlib import import_module
from typing import Any

__all__ = ["BACKBONES", "find_backbone"]

# name -> module of this package and class
BACKBONES = {
    "small_cnn": ("general", "SmallCNN"),
    "hog_cnn": ("general", "HogCNN"),
    "residual": ("general", "ResidualCNN"),
    "wide_residual": ("general", "WideResidualCNN"),
    "paper_000": ("papers", "Paper000CNN"),
    "paper_002": ("papers", "Paper002CNN"),
    "paper_002_vgg": ("papers", "Paper002VGG"),
    "paper_003": ("papers", "Paper003CNN"),
    "paper_004": ("papers", "Paper004Steered"),
    "paper_004_unsteered": ("papers", "Paper004CNN"),
}


def find_backbone(name: str) -> Any:
    """Return the class of a backbone.

    Parameters
    ----------
    name : str
        A key of ``BACKBONES``.

    Returns
    -------
    backbone : type
        A torch module; it is made from ``n_channels`` and ``activation``.
    """
    module, kind = BACKBONES[name]
    return getattr(import_module(f"ferpipe.networks.backbones.{module}"), kind)
