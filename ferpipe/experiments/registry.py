"""The allow-list: all estimators, parameter objects and splitters of experiment files."""

from functools import cache
from importlib import import_module
from inspect import isclass

from sklearn.base import BaseEstimator

import ferpipe

__all__ = ["SPLITTERS", "estimator_classes"]

_SKLEARN = {
    "calibration": ["CalibratedClassifierCV"],
    "decomposition": [
        "PCA",
        "FastICA",
        "IncrementalPCA",
        "KernelPCA",
        "NMF",
        "TruncatedSVD",
    ],
    "discriminant_analysis": [
        "LinearDiscriminantAnalysis",
        "QuadraticDiscriminantAnalysis",
    ],
    "dummy": ["DummyClassifier"],
    "ensemble": [
        "AdaBoostClassifier",
        "BaggingClassifier",
        "ExtraTreesClassifier",
        "GradientBoostingClassifier",
        "HistGradientBoostingClassifier",
        "RandomForestClassifier",
        "StackingClassifier",
        "VotingClassifier",
    ],
    "feature_selection": ["RFE", "SelectFromModel", "SelectKBest", "VarianceThreshold"],
    "frozen": ["FrozenEstimator"],
    "kernel_approximation": ["AdditiveChi2Sampler", "Nystroem", "RBFSampler"],
    "linear_model": [
        "LogisticRegression",
        "LogisticRegressionCV",
        "Perceptron",
        "RidgeClassifier",
        "RidgeClassifierCV",
        "SGDClassifier",
    ],
    "multiclass": ["OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier"],
    "naive_bayes": ["GaussianNB"],
    "neighbors": [
        "KNeighborsClassifier",
        "NearestCentroid",
        "NeighborhoodComponentsAnalysis",
    ],
    "neural_network": ["MLPClassifier"],
    "preprocessing": [
        "MaxAbsScaler",
        "MinMaxScaler",
        "Normalizer",
        "PolynomialFeatures",
        "PowerTransformer",
        "QuantileTransformer",
        "RobustScaler",
        "StandardScaler",
    ],
    "random_projection": ["GaussianRandomProjection", "SparseRandomProjection"],
    "svm": ["LinearSVC", "NuSVC", "SVC"],
    "tree": ["DecisionTreeClassifier", "ExtraTreeClassifier"],
}
SPLITTERS = [
    "GroupKFold",
    "GroupShuffleSplit",
    "KFold",
    "LeaveOneGroupOut",
    "LeavePGroupsOut",
    "RepeatedStratifiedKFold",
    "ShuffleSplit",
    "StratifiedGroupKFold",
    "StratifiedKFold",
    "StratifiedShuffleSplit",
]


@cache
def estimator_classes() -> dict[str, type]:
    """Return name -> class of the estimators and parameter objects that a file may name.

    They are the public ones of ferpipe, and a list of scikit-learn's: classifiers, scalers,
    decompositions and similar.
    """
    classes = {
        name: getattr(import_module(f"sklearn.{module}"), name)
        for module, names in _SKLEARN.items()
        for name in names
    }
    for name in ferpipe.__all__:
        value = getattr(ferpipe, name)
        if isclass(value) and issubclass(value, BaseEstimator):
            classes[name] = value
    return classes
