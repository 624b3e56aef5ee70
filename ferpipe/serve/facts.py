"""What a model's card and classes say, as JSON that every client can read."""

import json
import math
from numbers import Integral, Real
from typing import Any

__all__ = ["as_json", "check_names"]


def as_json(facts: dict[str, Any]) -> bytes:
    """Write facts as JSON.

    Parameters
    ----------
    facts : dict
        Numbers that are not finite, which JSON does not have, become null; characters
        that UTF-8 does not have (lone surrogates) become U+FFFD; what JSON does not know
        at all becomes its text.

    Returns
    -------
    content : bytes

    Raises
    ------
    ValueError
        If it is nested too deep, or holds itself.
    """
    try:
        text = json.dumps(_plain(facts), allow_nan=False, ensure_ascii=False)
    except RecursionError as error:
        raise ValueError("The card of the model is nested too deep for JSON.") from error
    return text.encode("utf-8")


def check_names(names: list[str]) -> None:
    """Raise ValueError if a name of a class cannot be written in UTF-8."""
    for name in names:
        if name != _encodable(name):
            raise ValueError(
                f"The class {name!r} cannot be sent: its name holds characters that UTF-8 "
                "does not have; fit the model on other names."
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_encodable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    return _encodable(str(value))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
