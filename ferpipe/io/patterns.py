"""Regular expressions from experiment files: only those that cannot take for ever.

Python's matcher goes back and tries again; a pattern such as ``(a+)+b`` makes it try all
ways to divide a text, which takes years. Here a pattern's ways are counted before it is
used.
"""

import re
from collections.abc import Iterable, Iterator
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

__all__ = ["safe_pattern"]

# kind and content, as the parser of re has them
_Node = tuple[Any, Any]

_LONGEST = 200
# ways in which a pattern may be tried at one place of a path of 100 characters
_LENGTH = 100
_MOST_WAYS = 40_000
_REPEATS = (kinds.MAX_REPEAT, kinds.MIN_REPEAT, kinds.POSSESSIVE_REPEAT)
_SETS = (kinds.LITERAL, kinds.NOT_LITERAL, kinds.IN, kinds.ANY)


def safe_pattern(text: str, name: str) -> re.Pattern[str]:
    r"""Compile a regular expression that a file names.

    Parameters
    ----------
    text : str
        The expression.
    name : str
        What it is called in messages.

    Returns
    -------
    pattern : re.Pattern

    Raises
    ------
    ValueError
        If it is no regular expression, is longer than 200 characters, or might take very
        long: it repeats what is itself repeated or has alternatives, refers back, looks
        around, or has more than two repetitions that may end anywhere (``.*`` may,
        ``[^/]+/`` may not).

    Examples
    --------
    >>> safe_pattern(r"[^/]+/(S\d+)_", "groups").search("anger/S010_004.png")[1]
    'S010'
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a regular expression (text), got {text!r}.")
    if len(text) > _LONGEST:
        raise ValueError(
            f"{name}: a regular expression has at most {_LONGEST} characters here, got "
            f"{len(text)}."
        )
    try:
        pattern = re.compile(text)
        ways = _ways(list(parser.parse(text)))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name}={text!r} is not a regular expression: {error}.") from None
    except _RefusedError as error:
        raise ValueError(
            f"{name}={text!r} is refused, because it {error} and might take very long: "
            r"write it plainer, such as '/(S\d+)_' or '[^/]+/([^/]+)/'."
        ) from None
    if ways > _MOST_WAYS:
        raise ValueError(
            f"{name}={text!r} is refused, because it has too many repetitions or "
            "alternatives that may end anywhere and might take very long: let each end at "
            "a character that it does not hold, as '[^/]+/' does."
        )
    return pattern


class _RefusedError(Exception):
    pass


def _ways(nodes: Iterable[_Node], at_end: bool = True) -> int:
    """Bound in how many ways the nodes of a pattern may match at one place of a text.

    ``at_end``: nothing follows these nodes, so that the first match of the last is taken.
    """
    flat = list(_flat(nodes))
    ways = 1
    for place, (kind, content) in enumerate(flat):
        if kind in _REPEATS:
            low, high, inside = content
            (part, *more) = list(_flat(list(inside))) or [(None, None)]
            if more or part[0] not in _SETS:
                raise _RefusedError("repeats more than one character")
            last = place + 1 == len(flat)
            free = not (at_end if last else _ends(part, flat[place + 1]))
            if high is kinds.MAXREPEAT or high - low > _LENGTH:
                ways *= _LENGTH if free else 1
            elif high > low:
                ways *= high - low + 1 if free else 1
        elif kind is kinds.BRANCH:
            ways *= sum(_ways(list(one), False) for one in content[1])
        elif kind not in (*_SETS, kinds.AT):
            raise _RefusedError("refers back or looks around")
        if ways > _MOST_WAYS:
            break
    return ways


def _flat(nodes: Iterable[_Node]) -> Iterator[_Node]:
    """Take groups away."""
    for kind, content in nodes:
        if kind is kinds.SUBPATTERN:
            yield from _flat(list(content[3]))
        elif kind is kinds.ATOMIC_GROUP:
            yield from _flat(list(content))
        else:
            yield kind, content


def _ends(repeated: _Node, following: _Node) -> bool:
    """Whether a repetition stops for certain where the next character begins."""
    kind, content = following
    if kind is kinds.AT:
        return content in (kinds.AT_END, kinds.AT_END_STRING)
    if kind in _REPEATS and content[0] > 0:  # at least one of them follows
        ((kind, content), *more) = list(_flat(list(content[2]))) or [(None, None)]
        if more:
            return False
    if kind is not kinds.LITERAL:
        return False
    return not _holds(repeated, content)


def _holds(repeated: _Node, code: int) -> bool:
    """Whether a set of characters holds one."""
    kind, content = repeated
    if kind is kinds.ANY:
        return True
    if kind is kinds.LITERAL:
        return content == code
    if kind is kinds.NOT_LITERAL:
        return content != code
    negated = content[0][0] is kinds.NEGATE
    return any(_is_in(item, chr(code)) for item in content) != negated


def _is_in(item: _Node, character: str) -> bool:
    kind, content = item
    if kind is kinds.LITERAL:
        return content == ord(character)
    if kind is kinds.RANGE:
        return content[0] <= ord(character) <= content[1]
    if kind is kinds.CATEGORY:
        return re.match(_CATEGORIES[content], character) is not None
    return False


_CATEGORIES = {
    kinds.CATEGORY_DIGIT: r"\d",
    kinds.CATEGORY_NOT_DIGIT: r"\D",
    kinds.CATEGORY_SPACE: r"\s",
    kinds.CATEGORY_NOT_SPACE: r"\S",
    kinds.CATEGORY_WORD: r"\w",
    kinds.CATEGORY_NOT_WORD: r"\W",
}
