"""Networks as scikit-learn estimators; torch loads when one is fitted or used."""

from ferpipe.networks.augment import Augment
from ferpipe.networks.image import ImageNetwork
from ferpipe.networks.sequence import SequenceNetwork
from ferpipe.networks.training import Training

__all__ = ["Augment", "ImageNetwork", "SequenceNetwork", "Training"]
