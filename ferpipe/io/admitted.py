"""What a model file may name: classes and functions, one by one, each reviewed.

Reviewed means: no ``__setstate__`` or ``__reduce__`` that reads bytes, opens a path or
calls what it is given; nothing of the class opens a file, starts a process or calls a
function from the state when it predicts; compiled code that follows the state through
memory has a check in :mod:`ferpipe.io.compiled`. ``tests/io/test_admitted.py`` holds the
methods that were read and fails for a class that gains one.
"""

__all__ = ["CALLED", "CLASSES", "NAMED"]


def _names(listed: dict[str, str]) -> frozenset[str]:
    return frozenset(
        f"{module}.{name}" for module, names in listed.items() for name in names.split()
    )


# Made empty, then given their attributes: __init__ does not run.
CLASSES = _names(
    {
        "ferpipe.faces.alignment": "FaceAligner",
        "ferpipe.caching.transformer": "Cached",
        "ferpipe.candide.box_features": "BoxFeatures",
        "ferpipe.candide.fitter": "CandideFitter",
        "ferpipe.candide.learned_objective": "LearnedObjective _Lines _Stage",
        "ferpipe.candide.action_unit_rules": "ActionUnitRules",
        "ferpipe.candide.tree_arrays": "TreeArrays",
        "ferpipe.features.gabor": "GaborFeatures",
        "ferpipe.features.hog": "HOGFeatures",
        "ferpipe.features.lbp": "LBPFeatures",
        "ferpipe.features.lbp_top": "LBPTopFeatures",
        "ferpipe.features.pixels": "PixelFeatures",
        "ferpipe.features.zernike": "ZernikeFeatures",
        "ferpipe.faces.landmarks": "LandmarkPredictor",
        "ferpipe.networks.training.augment": "Augment",
        "ferpipe.networks.cnn_features": "CNNFeatures",
        "ferpipe.networks.image": "ImageNetwork",
        "ferpipe.networks.sequence": "SequenceNetwork",
        "ferpipe.networks.training.settings": "Distillation EarlyStopping Training "
        "WeightAveraging",
        "ferpipe.faces.lighting": "CLAHE HistogramEqualizer "
        "LocalContrastNormalizer LocalMeanNormalizer PixelNormalizer",
        "ferpipe.sequences": "FrameDeltas PerFrame PoolFrames",
        "scipy.sparse._csc": "csc_array csc_matrix",
        "scipy.sparse._csr": "csr_array csr_matrix",
        "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogitLink "
        "MultinomialLogit",
        "sklearn._loss.loss": "ExponentialLoss HalfBinomialLoss HalfMultinomialLoss "
        "HalfSquaredError",
        "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier "
        "_SigmoidCalibration _TemperatureScaling",
        "sklearn.decomposition._fastica": "FastICA",
        "sklearn.decomposition._incremental_pca": "IncrementalPCA",
        "sklearn.decomposition._kernel_pca": "KernelPCA",
        "sklearn.decomposition._nmf": "NMF",
        "sklearn.decomposition._pca": "PCA",
        "sklearn.decomposition._truncated_svd": "TruncatedSVD",
        "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis "
        "QuadraticDiscriminantAnalysis",
        "sklearn.dummy": "DummyClassifier DummyRegressor",
        "sklearn.ensemble._bagging": "BaggingClassifier",
        "sklearn.ensemble._forest": "ExtraTreesClassifier ExtraTreesRegressor "
        "RandomForestClassifier RandomForestRegressor",
        "sklearn.ensemble._gb": "GradientBoostingClassifier GradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.binning": "_BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": (
            "HistGradientBoostingClassifier"
        ),
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn.ensemble._stacking": "StackingClassifier",
        "sklearn.ensemble._voting": "VotingClassifier",
        "sklearn.ensemble._weight_boosting": "AdaBoostClassifier",
        "sklearn.feature_selection._from_model": "SelectFromModel",
        "sklearn.feature_selection._rfe": "RFE",
        "sklearn.feature_selection._univariate_selection": "SelectKBest",
        "sklearn.feature_selection._variance_threshold": "VarianceThreshold",
        "sklearn.frozen._frozen": "FrozenEstimator",
        "sklearn.isotonic": "IsotonicRegression",
        "sklearn.kernel_approximation": "AdditiveChi2Sampler Nystroem RBFSampler",
        "sklearn.linear_model._logistic": "LogisticRegression LogisticRegressionCV",
        "sklearn.linear_model._perceptron": "Perceptron",
        "sklearn.linear_model._ridge": "Ridge RidgeClassifier RidgeClassifierCV",
        "sklearn.linear_model._stochastic_gradient": "SGDClassifier",
        # splitters that a parameter cv holds; only fit uses them
        "sklearn.model_selection._split": "GroupKFold GroupShuffleSplit KFold "
        "LeaveOneGroupOut LeavePGroupsOut RepeatedStratifiedKFold ShuffleSplit "
        "StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit",
        "sklearn.multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier "
        "_ConstantPredictor",
        "sklearn.naive_bayes": "GaussianNB",
        "sklearn.neighbors._classification": "KNeighborsClassifier",
        "sklearn.neighbors._nca": "NeighborhoodComponentsAnalysis",
        "sklearn.neighbors._nearest_centroid": "NearestCentroid",
        "sklearn.neural_network._multilayer_perceptron": "MLPClassifier",
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.pipeline": "FeatureUnion Pipeline",
        "sklearn.preprocessing._data": "KernelCenterer MaxAbsScaler MinMaxScaler "
        "Normalizer PowerTransformer QuantileTransformer RobustScaler StandardScaler",
        "sklearn.preprocessing._label": "LabelBinarizer LabelEncoder",
        "sklearn.preprocessing._polynomial": "PolynomialFeatures",
        "sklearn.random_projection": "GaussianRandomProjection SparseRandomProjection",
        "sklearn.svm._classes": "LinearSVC NuSVC SVC",
        "sklearn.tree._classes": "DecisionTreeClassifier DecisionTreeRegressor "
        "ExtraTreeClassifier ExtraTreeRegressor",
        "sklearn.utils._bunch": "Bunch",
    }
)
# Called with what the file gives: containers and constructors of compiled classes that
# take numbers only. ferpipe.io.unpickler guards others, which could be made large or
# broken.
CALLED = _names(
    {
        "builtins": "complex frozenset set slice",
        "collections": "OrderedDict",
        "sklearn._loss._loss": "CyExponentialLoss CyHalfBinomialLoss CyHalfSquaredError "
        "CyHuberLoss",
        "sklearn.linear_model._sgd_fast": "EpsilonInsensitive Hinge ModifiedHuber "
        "SquaredEpsilonInsensitive SquaredHinge",
    }
)
# Named and never called by the file: what other things are made of, and parameters.
NAMED = _names(
    {
        "builtins": "object",
        "numpy": "matrix ndarray",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64",
        "numpy.random.bit_generator": "SeedSequence",
        "sklearn._loss._loss": "CyHalfMultinomialLoss",
        # scores of features, which SelectKBest calls in fit; they compute
        "sklearn.feature_selection._mutual_info": "mutual_info_classif",
        "sklearn.feature_selection._univariate_selection": "chi2 f_classif",
        "sklearn.metrics._dist_metrics": "BrayCurtisDistance64 CanberraDistance64 "
        "ChebyshevDistance64 EuclideanDistance64 HammingDistance64 ManhattanDistance64 "
        "MinkowskiDistance64 SEuclideanDistance64",
        "sklearn.neighbors._ball_tree": "BallTree BallTree64",
        "sklearn.neighbors._kd_tree": "KDTree KDTree64",
    }
)
