"""Networks as scikit-learn estimators; torch loads when one is fitted or used."""

from ferpipe.networks.cnn_features import CNNFeatures
from ferpipe.networks.image import ImageNetwork
from ferpipe.networks.sequence import SequenceNetwork
from ferpipe.networks.training.augment import Augment
from ferpipe.networks.training.settings import (
    Distillation,
    EarlyStopping,
    Training,
    WeightAveraging,
)

__all__ = [
    "Augment",
    "CNNFeatures",
    "Distillation",
    "EarlyStopping",
    "ImageNetwork",
    "SequenceNetwork",
    "Training",
    "WeightAveraging",
]
