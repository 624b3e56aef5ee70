"""Texture and shape features: a pure batch function and one thin transformer a file."""

from ferpipe.features.gabor import GaborFeatures
from ferpipe.features.hog import HOGFeatures
from ferpipe.features.lbp import LBPFeatures
from ferpipe.features.lbp_top import LBPTopFeatures
from ferpipe.features.pixels import PixelFeatures
from ferpipe.features.zernike import ZernikeFeatures

__all__ = [
    "GaborFeatures",
    "HOGFeatures",
    "LBPFeatures",
    "LBPTopFeatures",
    "PixelFeatures",
    "ZernikeFeatures",
]
