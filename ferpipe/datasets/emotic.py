"""EMOTIC: people in photographs of everyday scenes, in 26 categories of emotion."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import existing_path, read_samples
from ferpipe.datasets.labels import CANONICAL, nearest_words
from ferpipe.io.images import read_image

__all__ = ["EMOTIC_CATEGORIES", "emotic_expression", "load_emotic"]

_LAYOUT = (
    "EMOTIC/Annotations/Annotations.mat with the structures train, val and test, and the "
    "photographs as EMOTIC/emotic/<folder>/<file>.jpg, for example "
    "EMOTIC/emotic/mscoco/images/COCO_val2014_000000562243.jpg"
)
_SPLITS = ("train", "val", "test")

# Each category, with the one of seven expressions that a face showing it is closest to by
# the data set's own definition of the category: "" is for states that no single
# expression of the seven shows. Neutral stands for calm and attentive states.
EMOTIC_CATEGORIES = {
    "Affection": "happiness",  # fond feelings, tenderness
    "Anger": "anger",
    "Annoyance": "anger",  # bothered, irritated
    "Anticipation": "neutral",  # looking forward, getting prepared
    "Aversion": "disgust",  # dislike, repulsion
    "Confidence": "neutral",  # certain of an outcome
    "Disapproval": "anger",  # judging something as wrong, hostile
    "Disconnection": "neutral",  # indifferent, bored
    "Disquietment": "fear",  # worried, tense, alarmed
    "Doubt/Confusion": "",
    "Embarrassment": "",
    "Engagement": "neutral",  # paying attention
    "Esteem": "neutral",  # respect, gratitude
    "Excitement": "happiness",  # enthusiasm
    "Fatigue": "",
    "Fear": "fear",
    "Happiness": "happiness",
    "Pain": "sadness",  # as Suffering, of the body
    "Peace": "neutral",  # relaxed, without worry
    "Pleasure": "happiness",  # delight of the senses
    "Sadness": "sadness",
    "Sensitivity": "sadness",  # wounded, vulnerable
    "Suffering": "sadness",  # distress, anguish
    "Surprise": "surprise",
    "Sympathy": "",
    "Yearning": "",
}


def load_emotic(
    path: Path | str,
    *,
    usage: str | None = None,
    gray: bool = True,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load EMOTIC, people cut out of their photographs, in seven expressions.

    Parameters
    ----------
    path : str or path
        The folder that holds ``Annotations`` and ``emotic``, or one that holds it as
        ``EMOTIC``; ``~`` and ``$NAME`` are resolved.
    usage : {"train", "val", "test"} or None, default=None
        Load one of the official splits only.
    gray : bool, default=True
        Turn colors into gray; otherwise images are RGB.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out people whose photograph or annotation is broken, if they are few,
        and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (h_i, w_i) or (h_i, w_i, 3), uint8, the person's
        box. It holds the body, not only the face: a FaceAligner may stand first.
        ``target`` : ndarray of shape (n,), canonical names, see :func:`emotic_expression`.
        ``categories`` : ndarray of shape (n, 26), uint8, 1 for each of
        ``category_names`` that the person was given.
        ``boxes`` : ndarray of shape (n, 4), int, ``x0, y0, x1, y1`` in pixels of the
        photograph, the last ones not included.
        ``groups`` : ndarray of shape (n,), the photograph; people are not known.
        ``usage`` : ndarray of shape (n,), the official split.
        ``n_without_expression`` : int, people left out because their categories stand for
        no expression, or for several equally.
        ``filenames``, ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder or the annotations are missing.
    ValueError
        If the annotations are broken, a category is not known, or a photograph is missing
        or broken.

    References
    ----------
    .. [1] R. Kosti et al., "Context based emotion recognition using EMOTIC dataset", IEEE
       TPAMI 42, 2020.
    """
    if usage is not None and usage not in _SPLITS:
        raise ValueError(f"{usage!r} is not a known usage. {nearest_words(usage, _SPLITS)}")
    folder = existing_path(path, _LAYOUT)
    if (folder / "EMOTIC").is_dir():
        folder = folder / "EMOTIC"
    file = folder / "Annotations" / "Annotations.mat"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file. Expected: {_LAYOUT}.")
    people, unexpected = [], []
    for split, entry in _entries(file, _SPLITS if usage is None else (usage,)):
        try:
            people += _people(entry, folder / "emotic", split)
        except (ValueError, KeyError, TypeError) as error:
            unexpected.append(f"{file}: {split}: {_name(entry)}: {_reason(error)}")
    if not people:
        raise ValueError(f"{file}: nobody is annotated in it. Expected: {_LAYOUT}.")
    samples = [person for person in people if person["expression"]]
    n_without_expression = len(people) - len(samples)
    values = read_samples(
        samples,
        [person["expression"] for person in samples],
        lambda person: _cut(person, gray),
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    kept = [
        (*value, person)
        for value, person in zip(values, samples, strict=True)
        if value is not None
    ]
    data, boxes, samples = map(list, zip(*kept, strict=True))
    return as_bunch(
        data,
        [person["expression"] for person in samples],
        kind="images",
        groups=[person["photograph"] for person in samples],
        population="EMOTIC",
        filenames=[str(person["file"]) for person in samples],
        description=(
            f"EMOTIC, {usage or 'all splits'}, 26 categories taken as 7 expressions\n\n"
            "People in photographs of everyday scenes (Kosti et al. 2020); whole bodies, "
            "faces of any size and pose. The seven expressions are a table of this "
            "package, not of the data set. Non-commercial research, on request only."
        ),
        return_X_y=return_X_y,
        categories=np.array(
            [
                [name in person["categories"] for name in EMOTIC_CATEGORIES]
                for person in samples
            ],
            dtype=np.uint8,
        ),
        category_names=list(EMOTIC_CATEGORIES),
        boxes=np.array(boxes),
        usage=np.array([person["split"] for person in samples]),
        n_without_expression=n_without_expression,
    )


def emotic_expression(categories: Iterable[str]) -> str:
    """Return the expression that a person's categories of EMOTIC stand for.

    Parameters
    ----------
    categories : iterable of str
        Some of ``EMOTIC_CATEGORIES``.

    Returns
    -------
    name : str
        Of anger, disgust, fear, happiness, sadness and surprise the one that most of the
        categories stand for; without any of the six it is neutral, if a category stands
        for that. Empty where none stands for anything, or two are equally frequent.

    Raises
    ------
    ValueError
        If a category is not known.

    Notes
    -----
    The data set has no single label and its authors give no such table. Attention and
    calm (Engagement, Peace, …) go with every expression and decide only when nothing
    else does.

    Examples
    --------
    >>> emotic_expression(["Engagement", "Happiness", "Excitement", "Surprise"])
    'happiness'
    >>> emotic_expression(["Engagement", "Fatigue"])
    'neutral'
    >>> emotic_expression(["Anger", "Fear"])
    ''
    """
    categories = list(categories)
    for name in categories:
        if name not in EMOTIC_CATEGORIES:
            near = nearest_words(name, EMOTIC_CATEGORIES)
            raise ValueError(f"{name!r} is not a category of EMOTIC. {near}")
    votes = Counter(EMOTIC_CATEGORIES[name] for name in categories)
    six = [name for name in CANONICAL if votes[name] and name != "neutral"]
    if not six:
        return "neutral" if votes["neutral"] else ""
    most = max(votes[name] for name in six)
    first, *others = [name for name in six if votes[name] == most]
    return "" if others else first


def _entries(file: Path, splits: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield (split, annotation of a photograph)."""
    from scipy.io import loadmat

    try:
        content = loadmat(file, simplify_cells=True, variable_names=splits)
    except Exception as error:  # scipy's reader raises many kinds on foreign bytes
        raise ValueError(
            f"{file}: this is not a MATLAB file, or a broken one. Expected: {_LAYOUT}."
        ) from error
    for split in splits:
        if split not in content:
            raise ValueError(
                f"{file}: there is no structure {split} in it. Expected: {_LAYOUT}."
            )
        for entry in _as_list(content[split]):
            yield split, entry


def _people(entry: Any, photographs: Path, split: str) -> list[dict[str, Any]]:
    """List the annotated people of a photograph."""
    people = []
    for person in _as_list(entry["person"]):
        # train has one annotator, the others have several and what they add up to
        categories = (
            person["combined_categories"]
            if "combined_categories" in person
            else person["annotations_categories"]["categories"]
        )
        categories = [str(name) for name in _as_list(categories)]
        box = [int(value) for value in person["body_bbox"]]
        if len(box) != 4:
            raise ValueError(f"body_bbox has {len(box)} numbers, not 4")
        people.append(
            {
                "file": photographs / entry["folder"] / entry["filename"],
                "photograph": f"{entry['folder']}/{entry['filename']}",
                "split": split,
                "box": box,
                "categories": set(categories),
                "expression": emotic_expression(categories),
            }
        )
    return people


def _as_list(value: Any) -> list[Any]:
    """Undo that scipy turns a list of one into what it holds."""
    return list(value) if isinstance(value, list | np.ndarray) else [value]


def _name(entry: Any) -> Any:
    return entry.get("filename", entry) if isinstance(entry, dict) else entry


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no field {error.args[0]}"
    return str(error).rstrip(".")


def _cut(person: dict[str, Any], gray: bool) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the person's part of the photograph, and where it lies."""
    image = read_image(person["file"], gray=gray)
    height, width = image.shape[:2]
    x0, y0, x1, y1 = person["box"]
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    if x0 >= x1 or y0 >= y1:
        raise ValueError(
            f"{person['file']}: the box {person['box']} holds nothing of the "
            f"{height} x {width} pixels of the photograph"
        )
    return image[y0:y1, x0:x1].copy(), [x0, y0, x1, y1]
