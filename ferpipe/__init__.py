"""Facial expression recognition in which everything is a scikit-learn estimator.

Public names are loaded when they are first used: ``import ferpipe`` brings in
neither torch nor OpenCV nor dlib.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "ActionUnitRules": "ferpipe.candide.rules",
    "AdaptiveHistogramEqualizer": "ferpipe.normalize",
    "Augment": "ferpipe.networks.augment",
    "CNNFeatures": "ferpipe.networks.cnn_features",
    "Cached": "ferpipe.cached",
    "CandideFitter": "ferpipe.candide.fitter",
    "Face": "ferpipe.detect",
    "FaceAligner": "ferpipe.align",
    "FrameDeltas": "ferpipe.sequences",
    "GaborFeatures": "ferpipe.features.gabor",
    "HOGFeatures": "ferpipe.features.hog",
    "HistogramEqualizer": "ferpipe.normalize",
    "ImageNetwork": "ferpipe.networks.image",
    "LBPFeatures": "ferpipe.features.lbp",
    "LBPTopFeatures": "ferpipe.features.lbp_top",
    "LandmarkPredictor": "ferpipe.landmarks.predictor",
    "LearnedObjective": "ferpipe.candide.learned_objective",
    "LocalContrastNormalizer": "ferpipe.normalize",
    "LocalMeanNormalizer": "ferpipe.normalize",
    "PerFrame": "ferpipe.sequences",
    "PixelFeatures": "ferpipe.features.pixels",
    "PixelNormalizer": "ferpipe.normalize",
    "PoolFrames": "ferpipe.sequences",
    "Recognizer": "ferpipe.recognizer",
    "SequenceNetwork": "ferpipe.networks.sequence",
    "Sighting": "ferpipe.stream",
    "Training": "ferpipe.networks.training",
    "ZernikeFeatures": "ferpipe.features.zernike",
    "detect_faces": "ferpipe.detect",
    "find_face": "ferpipe.detect",
    "grad_cam": "ferpipe.explain",
    "load": "ferpipe.persistence",
    "occlusion_map": "ferpipe.explain",
    "plot_explanation": "ferpipe.explain",
    "pretrained": "ferpipe.networks.pretrained",
    "read_frames": "ferpipe.images",
    "read_image": "ferpipe.images",
    "run": "ferpipe.grid",
    "save": "ferpipe.persistence",
}
_SUBPACKAGES = ("datasets", "features", "networks")

__all__ = ["__version__", *_PUBLIC, *_SUBPACKAGES]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name in _SUBPACKAGES:
        return import_module(f"ferpipe.{name}")
    raise AttributeError(f"module 'ferpipe' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
