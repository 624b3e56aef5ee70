"""How numbers, parameters and scores are written for people."""

from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone

__all__ = [
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
    "subject_independent": "by subject",
    "sequence_independent": "by sequence",
    "data_set_independent": "by data set",
    "stratified": "stratified",
    "official": "on the official split",
}
SEARCHED_WORDS = (
    "only the primary result has searches of its own; stratified folds and learning curve "
    "have the parameters of a search over all the data, which flatters them"
)
INTERVAL_METHODS = {
    "subject bootstrap": "it comes from resampling subjects",
    "wilson": "it is Wilson's, which takes samples as independent",
    "wilson over subjects": "it is Wilson's with the subjects as trials, because every "
    "subject was evaluated alike",
    "sequence bootstrap": "it comes from resampling sequences",
    "wilson over sequences": "it is Wilson's with the sequences as trials, because every "
    "sequence was evaluated alike",
}


def readable(value, show: Iterable[str] = ()) -> str:
    """Write a parameter's value as a person would type it.

    Parameters
    ----------
    value : object
        A plain value, a list of values or an estimator.
    show : iterable of str, default=()
        Parameters of an estimator to name although they have their default value.

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
    """Write chosen parameters, those of a chosen estimator inside its parentheses."""
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
    """Say what ``summarize`` found as the gap between the splits."""
    low, high = gap["interval"]["low"], gap["interval"]["high"]
    if low > 0:
        meaning = "what knowing the subject is worth"
    elif high < 0:
        meaning = "plain folds score lower, for another reason than the subjects"
    else:
        meaning = "no difference is shown, for the interval holds zero"
    return (
        f"{points(gap['accuracy'])} points of pooled accuracy, stratified minus by subject "
        f"(95 % interval {points(low)} to {points(high)}): {meaning}"
    )


def calibration_words(calibration: dict[str, Any]) -> str:
    """Say how far confidence and accuracy are apart, before and after scaling."""
    error, unscaled = calibration["error"], calibration["error_unscaled"]
    words = f"expected calibration error {fixed(error)}"
    if not np.isclose(error, unscaled):
        words += f", {fixed(unscaled)} without the temperature"
    return words


def fit_words(fits: dict[str, int]) -> str:
    """Say how much was fitted and how much was not fitted again."""
    words = (
        f"{fits['candidates']} candidates, {fits['total']} fits; "
        f"{fits['steps_computed']} steps fitted, {fits['steps_reused']} step fits saved"
    )
    if fits["rows_computed"] or fits["rows_reused"]:
        words += (
            f"; {fits['rows_computed']} samples transformed, {fits['rows_reused']} found "
            "in the store"
        )
    return words


def fixed(value: float | None) -> str:
    """Write a score with three decimals; what is not known is a dash."""
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


def _is_estimator(value) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _hundredfold(value: float) -> str:
    # Rounded as ``fixed`` does it, so that 0.887 and 88.7 % stand for one number.
    return f"{100 * round(value, 3):.1f}"


def _minus(number: str) -> str:
    return number.replace("-", MINUS)
