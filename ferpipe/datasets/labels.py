"""Canonical names of expressions, and the words and codes of the data sets for them."""

import difflib
from collections.abc import Iterable, Sequence

__all__ = [
    "CANONICAL",
    "FER2013_CODES",
    "FERPLUS_VOTES",
    "canonical_label",
    "nearest_words",
    "select_classes",
]

CANONICAL = (
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)

# Position = the number in the `emotion` column of fer2013.csv.
FER2013_CODES = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
)

# Columns of fer2013new.csv, in its order; NF is "not a face".
FERPLUS_VOTES = (
    "neutral",
    "happiness",
    "surprise",
    "sadness",
    "anger",
    "disgust",
    "fear",
    "contempt",
    "unknown",
    "NF",
)

_OTHER_WORDS = {
    "angry": "anger",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "afraid": "fear",
    "fearful": "fear",
    "scared": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}

_CLASS_SETS = {
    7: tuple(name for name in CANONICAL if name != "neutral"),
    6: tuple(name for name in CANONICAL if name not in ("neutral", "contempt")),
    5: tuple(name for name in CANONICAL if name not in ("neutral", "contempt", "disgust")),
}


def canonical_label(word: str) -> str:
    """Return the canonical name of an expression.

    Parameters
    ----------
    word : str
        A data set's own word, in any case: ``"happy"``, ``"Angry"``, ``"fear"``.

    Returns
    -------
    name : str
        One of ``CANONICAL``.

    Raises
    ------
    ValueError
        If the word is not known; the message gives the nearest right word.

    Examples
    --------
    >>> canonical_label("Happy")
    'happiness'
    """
    key = str(word).strip().lower()
    name = _OTHER_WORDS.get(key, key)
    if name not in CANONICAL:
        near = nearest_words(key, (*CANONICAL, *_OTHER_WORDS))
        raise ValueError(f"{word!r} is not a known expression. {near}")
    return name


def select_classes(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Return the canonical names that a ``classes`` parameter stands for.

    Parameters
    ----------
    classes : {7, 6, 5} or list of str
        7 is all but neutral, 6 is without contempt, 5 is also without disgust; a list
        names the classes.

    Returns
    -------
    names : tuple of str
        Canonical names, in alphabetical order.

    Raises
    ------
    ValueError
        If the number or a name is not known, or a class is named twice.
    TypeError
        If it is neither a number nor a list.

    Examples
    --------
    >>> select_classes(5)
    ('anger', 'fear', 'happiness', 'sadness', 'surprise')
    >>> select_classes(["happy", "anger"])
    ('anger', 'happiness')
    """
    if isinstance(classes, list | tuple):
        names = [canonical_label(word) for word in classes]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"classes must name at least one expression, each once, got {classes!r}."
            )
        return tuple(sorted(names))
    if not isinstance(classes, int):
        raise TypeError(f"classes must be 7, 6, 5 or a list of names, got {classes!r}.")
    if classes not in _CLASS_SETS:
        raise ValueError(
            f"classes must be 7 (all but neutral), 6 (without contempt), 5 (also without "
            f"disgust) or a list of names, got {classes!r}."
        )
    return _CLASS_SETS[classes]


def nearest_words(word: object, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known words, or with all of them.

    Parameters
    ----------
    word : str
        What was found.
    known : iterable of str
        What would have been right.

    Returns
    -------
    sentence : str
    """
    known = list(known)
    near = difflib.get_close_matches(str(word), known)
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"Known: {', '.join(known)}."
