"""Numbers, parameters and scores as text for readers."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

__all__ = [
    "EN_DASH",
    "INTERVAL_METHODS",
    "SEARCHED_WORDS",
    "SPLIT_NAMES",
    "calibration_words",
    "duration",
    "fit_words",
    "fixed",
    "gap_words",
    "mean_spread",
    "mean_spread_percent",
    "percent",
    "points",
    "range_percent",
    "readable",
    "readable_params",
]

EN_DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPLIT_NAMES = {
    "subject_independent": "subject-independent",
    "sequence_independent": "sequence-independent",
    "data_set_independent": "data-set-independent",
    "stratified": "stratified",
    "official": "official split",
}
SEARCHED_WORDS = (
    "only the folds of the primary result have a search of their own; stratified folds and "
    "learning curve use the parameters of a search over all the data, which makes their "
    "scores a little too high"
)
INTERVAL_METHODS = {
    "subject bootstrap": "it is a bootstrap over subjects",
    "wilson": "it is Wilson's, which assumes independent samples",
    "wilson over subjects": "it is Wilson's with the subjects as trials, because all "
    "subjects have the same score",
    "sequence bootstrap": "it is a bootstrap over sequences",
    "wilson over sequences": "it is Wilson's with the sequences as trials, because all "
    "sequences have the same score",
}


def readable(value: Any, show: Iterable[str] = ()) -> str:
    """Write the value of a parameter as a person would type it.

    Parameters
    ----------
    value : object
        A number, text, list or tuple, or an estimator.
    show : iterable of str, default=()
        Parameters of an estimator to write even if they have their default values.

    Returns
    -------
    text : str

    Examples
    --------
    >>> from sklearn.svm import SVC
    >>> readable(SVC(C=10))
    'SVC(C=10)'
    """
    if _is_estimator(value):
        defaults = signature(type(value)).parameters
        changed = [
            f"{name}={readable(given)}"
            for name, given in value.get_params(deep=False).items()
            if name in show or repr(given) != repr(defaults[name].default)
        ]
        return f"{type(value).__name__}({', '.join(changed)})"
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return f"[{', '.join(readable(item) for item in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(readable(item) for item in value)})"
    if isinstance(value, float):
        return f"{value:.6g}"
    return repr(value)


def readable_params(params: dict[str, Any]) -> dict[str, str]:
    """Write chosen parameters; those of a chosen estimator are in its parentheses."""
    chosen = [name for name in params if _is_estimator(params[name])]
    shown = {}
    for name, value in params.items():
        if any(name.startswith(f"{owner}__") for owner in chosen):
            continue
        if name in chosen:
            inside = {
                key.removeprefix(f"{name}__"): clone(params[key], safe=False)
                for key in params
                if key.startswith(f"{name}__")
            }
            shown[name] = readable(clone(value).set_params(**inside), show=inside)
        else:
            shown[name] = value if isinstance(value, str) else readable(value)
    return shown


def gap_words(gap: dict[str, Any]) -> str:
    """Describe the gap between the splits, as ``summarize`` returns it."""
    low, high = gap["interval"]["low"], gap["interval"]["high"]
    if low > 0:
        meaning = "samples of the same subjects in training raise the score"
    elif high < 0:
        meaning = "stratified folds score lower, for another reason than the subjects"
    else:
        meaning = "no significant difference: the interval contains zero"
    return (
        f"{points(gap['accuracy'])} points of pooled accuracy, stratified minus "
        "subject-independent "
        f"(95 % interval {points(low)} to {points(high)}): {meaning}"
    )


def calibration_words(calibration: dict[str, Any]) -> str:
    """Describe the calibration error, with and without the temperature."""
    error, unscaled = calibration["error"], calibration["error_unscaled"]
    words = f"expected calibration error {fixed(error)}"
    if not np.isclose(error, unscaled):
        words += f", {fixed(unscaled)} without the temperature"
    return words


def fit_words(fits: dict[str, int]) -> str:
    """Write the numbers of fits, and of fitted and reused steps and samples."""
    words = (
        f"{fits['candidates']} candidates, {fits['total']} fits; "
        f"{fits['steps_computed']} steps fitted, {fits['steps_reused']} read from the store"
    )
    if fits["rows_computed"] or fits["rows_reused"]:
        words += (
            f"; {fits['rows_computed']} samples transformed, {fits['rows_reused']} read "
            "from the store"
        )
    return words


def fixed(value: float | None) -> str:
    """Write a score with three decimals; an unknown one is a dash."""
    return EN_DASH if value is None or not np.isfinite(value) else _minus(f"{value:.3f}")


def mean_spread(score: dict[str, Any]) -> str:
    """Write ``mean`` and ``spread`` with three decimals."""
    if score["spread"] is None:
        return fixed(score["mean"])
    return f"{fixed(score['mean'])} ± {fixed(score['spread'])}"


def percent(value: float | None) -> str:
    """Write a share as per cent with one decimal."""
    return EN_DASH if value is None else f"{_hundredfold(value)} %"


def mean_spread_percent(score: dict[str, Any]) -> str:
    """Write ``mean`` and ``spread`` as per cent."""
    if score["spread"] is None:
        return percent(score["mean"])
    return f"{_hundredfold(score['mean'])} ± {_hundredfold(score['spread'])} %"


def range_percent(interval: dict[str, Any]) -> str:
    """Write ``low`` and ``high`` as per cent."""
    low, high = _hundredfold(interval["low"]), _hundredfold(interval["high"])
    return f"{low}{EN_DASH}{high} %"


def points(value: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return _minus(f"{100 * value:+.1f}")


def duration(seconds: float) -> str:
    """Write a time given in seconds."""
    if seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _hundredfold(value: float) -> str:
    # rounded as in ``fixed``, so that 0.887 and 88.7 % are the same number
    return f"{100 * round(value, 3):.1f}"


def _minus(number: str) -> str:
    return number.replace("-", MINUS)
