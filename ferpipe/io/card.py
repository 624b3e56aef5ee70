"""The card of a saved model: a JSON file beside it, checked in full when it is read."""

import json
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from pathlib import Path
from typing import Any

import ferpipe

__all__ = [
    "FORMAT",
    "card_path",
    "check_card",
    "is_card",
    "package_versions",
    "plain_text",
    "read_card",
]

FORMAT = 2
# of files that are read; those of format 1 are translated by ferpipe.io.format1
_READ = (1, 2)

# a card has some kB
_LARGEST = 2**24
_DEEPEST = 20
_LONGEST_SHAPE = 8
_LARGEST_NUMBER = 1e300
# what terminals and pages would obey: control characters, turns of the direction of reading
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def card_path(path: Path | str) -> Path:
    """Return where the card of a model file stands."""
    return Path(path).with_suffix(".json")


def read_card(path: Path | str) -> dict[str, Any]:
    """Read the card of a model.

    Parameters
    ----------
    path : str or path
        The model file; its card stands beside it.

    Returns
    -------
    card : dict
        As :func:`check_card` leaves it.

    Raises
    ------
    FileNotFoundError
        If the card is missing.
    ValueError
        If it is no card, or a field is wrong; the message names file and field.
    """
    file = card_path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: the card of this model is missing. ferpipe.save writes both "
            "files; keep them together. (joblib.load reads a file without one, and runs "
            "whatever code is in it.)"
        )
    if file.stat().st_size > _LARGEST:
        raise ValueError(f"{file}: this is not the card of a model: it is too large.")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: this is not the card of a model.") from error
    if not is_card(card):
        raise ValueError(f"{file}: this is not the card of a model.")
    if card["format"] not in _READ or type(card["format"]) is not int:
        raise ValueError(
            f"{file}: format {card['format']!r:.80} cannot be read; this version of "
            f"ferpipe reads formats {', '.join(map(str, _READ))}."
        )
    try:
        check_card(card)
    except ValueError as error:
        raise ValueError(f"{file}: this card of a model cannot be read: {error}") from error
    return card


def is_card(content: Any) -> bool:
    """Tell whether JSON is the card of a model, of whatever format.

    Parameters
    ----------
    content : object
        What JSON held.
    """
    return isinstance(content, dict) and {"format", "sha256", "versions"} <= set(content)


def check_card(card: Any) -> None:
    """Refuse a card of which a field is not what it should be.

    Parameters
    ----------
    card : dict
        The card. ``format``, ``classes``, ``input``, ``versions`` and ``sha256`` must be
        there; ``model``, ``data``, ``protocol``, ``scores``, ``crop_template``, ``trusted``
        and ``notes`` may be; others are checked for what no JSON should hold.

    Raises
    ------
    ValueError
        If a field is missing, of another type, or holds control characters, lone
        surrogates, NaN or numbers without bounds; the message names it.
    """
    _check_plain(card, "the card")
    for name in ("classes", "input", "versions", "sha256"):
        if name not in card:
            raise ValueError(f"{name} is missing.")
    for name, (fits, expected) in _FIELDS.items():
        if name in card and not fits(card[name]):
            raise ValueError(f"{name} must be {expected}, got {card[name]!r:.80}.")


def package_versions() -> dict[str, str]:
    """Return the versions that a result or a saved model depends on."""
    versions = {"ferpipe": ferpipe.__version__, "python": platform.python_version()}
    for name in (
        "scikit-learn",
        "numpy",
        "scipy",
        "torch",
        "skorch",
        "scikit-image",
        "opencv-python-headless",
        "dlib-bin",
        "onnxruntime",
    ):
        found = _version(name)
        if found is not None:
            versions[name] = found
    return versions


@cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def plain_text(text: str) -> str:
    """Replace what a terminal or a page would obey by the sign for an unknown character.

    Parameters
    ----------
    text : str
        Any text.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def _check_plain(value: Any, place: str, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"{place} is nested too deep.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place} has a key {key!r:.80}, which is no text.")
            _check_plain(key, f"a key of {place}", depth + 1)
            _check_plain(inner, key if depth == 0 else place, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_plain(inner, place, depth + 1)
    elif isinstance(value, str):
        if found := _CONTROL.search(value):
            raise ValueError(
                f"{place} holds the control character {found[0]!a}, which no text of a "
                "card may."
            )
    elif isinstance(value, bool) or value is None:
        return
    elif not isinstance(value, int | float):
        raise ValueError(f"{place} holds {type(value).__name__}, which JSON has not.")
    elif not abs(value) <= _LARGEST_NUMBER:
        raise ValueError(f"{place} holds a number that is NaN, infinite or too large.")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_names(value: Any) -> bool:
    return _are_texts(value) and not any(set(one) & set("\t\n") for one in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_input(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    shape = value.get("shape", [])
    return (
        isinstance(value.get("kind", ""), str)
        and isinstance(shape, list)
        and len(shape) <= _LONGEST_SHAPE
        and all(type(n) is int and 0 <= n < 2**31 for n in shape)
    )


def _is_template(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, dict):
        if not isinstance(value.get("name", ""), str):
            return False
        value = value.get("eyes")
    if not (isinstance(value, list | tuple) and len(value) == 2):
        return False
    return all(
        isinstance(eye, list | tuple) and len(eye) == 2 and all(map(_is_number, eye))
        for eye in value
    ) and (value[0][0] < value[1][0])


def _are_scores(value: Any) -> bool:
    return isinstance(value, dict) and all(
        score is None or _is_number(score) for score in value.values()
    )


def _are_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


_FIELDS = {
    "model": (_is_text, "text"),
    "classes": (_are_names, "a list of names"),
    "input": (_is_input, "a kind of input and a shape of whole numbers"),
    "crop_template": (_is_template, "null or the places of both eyes, (x, y) each"),
    "data": (_is_text, "text"),
    "protocol": (_is_text, "text"),
    "scores": (_are_scores, "numbers by name"),
    "versions": (_are_versions, "texts by name"),
    "trusted": (_are_texts, "a list of texts"),
    "notes": (_are_texts, "a list of texts"),
    "sha256": (_is_hash, "64 hexadecimal digits"),
}
