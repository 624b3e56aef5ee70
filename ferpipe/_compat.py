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
    "WrongParameterError",
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
