"""Texture and shape features: a pure batch function and one thin transformer a file."""

from ferpipe.features.hog import HOGFeatures

__all__ = ["HOGFeatures"]
