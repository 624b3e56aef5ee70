"""Every private name of scikit-learn and joblib that the package touches, and why.

A private name can change with any release, so each stands here once, and a change inside
one of these libraries is followed in this file only. No private name of skorch or numpy is
touched. Names that scikit-learn calls on an estimator's class, such as
``_parameter_constraints`` and ``_n_features_out``, stand with the class.
"""

from typing import Any

# Pickles of models are read by rules of our own (ferpipe.io.unpickler): the unpickler and
# what joblib writes in place of an array have no public names.
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyPickler, NumpyUnpickler

# The decorator of scikit-learn's own estimators: fit checks the parameters first.
from sklearn.base import _fit_context as fit_context
from sklearn.model_selection import GridSearchCV

# The common class of GridSearchCV, RandomizedSearchCV and the halving searches.
from sklearn.model_selection._search import BaseSearchCV

# What `_parameter_constraints` are written with, and their check outside of fit.
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

# What `set_output` and the global configuration ask for. scikit-learn's own wrapping knows
# one table only, and not a list of sequences.
from sklearn.utils._set_output import ADAPTERS_MANAGER, _get_output_config

__all__ = [
    "OUTPUT_CONFIG",
    "OUTPUT_KEYS",
    "BaseSearchCV",
    "CandidateSearch",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "NumpyArrayWrapper",
    "NumpyPickler",
    "NumpyUnpickler",
    "StrOptions",
    "as_table",
    "WrongParameterError",
    "fit_context",
    "histogram_boosting_types",
    "set_output_container",
    "tree_type",
    "validate_parameters",
]

# The attribute in which `set_output` keeps what it was asked for: it does not change the
# values of the output, and Cached hands it on to the transformer that it wraps.
OUTPUT_CONFIG = "_sklearn_output_config"
# The attribute that turns scikit-learn's wrapping off. Models that were saved with format 1
# carry one of their own.
OUTPUT_KEYS = "_sklearn_auto_wrap_output_keys"


def validate_parameters(estimator: Any) -> None:
    """Check an estimator's parameters against its own constraints without fitting it.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimators without constraints pass, and so do parameters that one saved by an
        earlier version lacks.

    Raises
    ------
    WrongParameterError
        If a value is outside what the estimator takes; the error names the parameter.
    """
    if hasattr(estimator, "_parameter_constraints"):
        held = vars(estimator)
        for name in estimator._get_param_names():
            if name not in held:
                continue
            try:
                validate_parameter_constraints(
                    estimator._parameter_constraints,
                    {name: held[name]},
                    caller_name=type(estimator).__name__,
                )
            except InvalidParameterError as error:
                raise WrongParameterError(name, str(error)) from error


def set_output_container(estimator: Any, transform: str) -> None:
    """Record what ``set_output`` asks for, where scikit-learn reads it.

    Parameters
    ----------
    estimator : BaseEstimator
        The estimator.
    transform : {"default", "pandas", "polars"}
        What ``transform`` and ``fit_transform`` return.
    """
    setattr(estimator, OUTPUT_CONFIG, {"transform": transform})


def as_table(rows: Any, estimator: Any, X: Any) -> Any:
    """Turn rows into the container that ``set_output`` or the configuration asks for.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Output of the estimator.
    estimator : BaseEstimator
        Fitted; it names the columns.
    X : object
        Input of the estimator; a data frame or series gives the index.

    Returns
    -------
    table : ndarray, or DataFrame of pandas or polars
    """
    container = _get_output_config("transform", estimator)["dense"]
    if container == "default":
        return rows
    return ADAPTERS_MANAGER.adapters[container].create_container(
        rows, X, columns=estimator.get_feature_names_out
    )


def tree_type() -> type:
    """Return the compiled class of a decision tree: its arrays are checked when read."""
    from sklearn.tree._tree import Tree

    return Tree


def histogram_boosting_types() -> tuple[Any, type]:
    """Return the record type and the class of histogram boosting's trees, to check them."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    return PREDICTOR_RECORD_DTYPE, TreePredictor


class CandidateSearch(GridSearchCV):
    """A grid search over a list of candidates, in the order of the list.

    scikit-learn has no public search that takes its candidates as a list.
    """

    def _run_search(self, evaluate_candidates: Any) -> None:
        evaluate_candidates(self.param_grid)


class WrongParameterError(InvalidParameterError):
    """A value is outside what an estimator takes.

    Parameters
    ----------
    parameter : str
        Name of the parameter.
    message : str
        What scikit-learn says of it.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(parameter, message)
        self.parameter = parameter
        self.message = message

    def __str__(self) -> str:
        return self.message
