"""Python and numpy values as the values that strict JSON has."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["json_value"]


def json_value(
    value: Any, *, digits: int | None = None, other: Callable[[Any], str] = str
) -> Any:
    """Convert a value to one that strict JSON can hold.

    Parameters
    ----------
    value : object
        A number, text, None, an array, or dicts, lists and tuples of these.
    digits : int, default=None
        Significant digits of floats; None keeps all.
    other : callable, default=str
        Turns any other value into text.

    Returns
    -------
    value : dict, list, str, int, float, bool or None
        NaN and infinite numbers become None.

    Examples
    --------
    >>> import numpy as np
    >>> json_value({"scores": np.array([0.5, np.nan]), 3: (True, None)})
    {'scores': [0.5, None], '3': [True, None]}
    """
    if isinstance(value, dict):
        return {
            str(key): json_value(item, digits=digits, other=other)
            for key, item in value.items()
        }
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [json_value(item, digits=digits, other=other) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    if value is None or isinstance(value, str | int):
        return value
    return other(value)
