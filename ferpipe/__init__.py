"""Facial expression recognition in which everything is a scikit-learn estimator.

Public names are loaded when they are first used: ``import ferpipe`` brings in
neither torch nor OpenCV nor dlib.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "ActionUnitRules": "ferpipe.candide.action_unit_rules",
    "CLAHE": "ferpipe.faces.lighting",
    "Augment": "ferpipe.networks.training.augment",
    "CNNFeatures": "ferpipe.networks.cnn_features",
    "Cached": "ferpipe.caching.transformer",
    "CandideFitter": "ferpipe.candide.fitter",
    "Distillation": "ferpipe.networks.training.settings",
    "EarlyStopping": "ferpipe.networks.training.settings",
    "Face": "ferpipe.faces.detection",
    "FaceAligner": "ferpipe.faces.alignment",
    "FrameDeltas": "ferpipe.sequences",
    "GaborFeatures": "ferpipe.features.gabor",
    "HOGFeatures": "ferpipe.features.hog",
    "HistogramEqualizer": "ferpipe.faces.lighting",
    "ImageNetwork": "ferpipe.networks.image",
    "LBPFeatures": "ferpipe.features.lbp",
    "LBPTopFeatures": "ferpipe.features.lbp_top",
    "LandmarkPredictor": "ferpipe.faces.landmarks",
    "LearnedObjective": "ferpipe.candide.learned_objective",
    "LocalContrastNormalizer": "ferpipe.faces.lighting",
    "LocalMeanNormalizer": "ferpipe.faces.lighting",
    "PerFrame": "ferpipe.sequences",
    "PixelFeatures": "ferpipe.features.pixels",
    "PixelNormalizer": "ferpipe.faces.lighting",
    "PoolFrames": "ferpipe.sequences",
    "Recognizer": "ferpipe.recognition.recognizer",
    "SequenceNetwork": "ferpipe.networks.sequence",
    "FacePrediction": "ferpipe.recognition.stream",
    "Training": "ferpipe.networks.training.settings",
    "WeightAveraging": "ferpipe.networks.training.settings",
    "ZernikeFeatures": "ferpipe.features.zernike",
    "detect_faces": "ferpipe.faces.detection",
    "find_face": "ferpipe.faces.detection",
    "grad_cam": "ferpipe.recognition.explanation",
    "load": "ferpipe.io.models",
    "occlusion_map": "ferpipe.recognition.explanation",
    "plot_explanation": "ferpipe.recognition.explanation",
    "pretrained": "ferpipe.networks.pretrained",
    "read_frames": "ferpipe.io.videos",
    "read_image": "ferpipe.io.images",
    "run": "ferpipe.grid",
    "save": "ferpipe.io.models",
}
_SUBPACKAGES = ("datasets", "features", "networks")

__all__ = ["__version__", *_PUBLIC, *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"ferpipe.{name}")
    raise AttributeError(f"module 'ferpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
