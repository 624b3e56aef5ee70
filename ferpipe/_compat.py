"""The one place that touches scikit-learn's private names.

Every estimator takes its parameter constraints from here, so that a change
inside scikit-learn has to be followed in this file only.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "fit_context",
    "validate_parameters",
]


def validate_parameters(estimator):
    """Check an estimator's parameters against its own constraints without fitting it.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimators without constraints pass, and so do parameters that one saved by an
        earlier version lacks.

    Raises
    ------
    InvalidParameterError
        If a value is outside what the estimator takes.
    """
    if hasattr(estimator, "_parameter_constraints"):
        held = vars(estimator)
        validate_parameter_constraints(
            estimator._parameter_constraints,
            {name: held[name] for name in estimator._get_param_names() if name in held},
            caller_name=type(estimator).__name__,
        )
