"""Save and load fitted models: a joblib file and a JSON card beside it.

``load`` checks the file against its card and unpickles only what
:mod:`ferpipe.io.admitted` lists. The card's hash finds accidents, not attacks: whoever
changes one file can change both. What keeps a foreign file from running code is the list.
"""

import json
import os
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO

from sklearn.utils.validation import check_is_fitted

from ferpipe._base import first_steps, input_kind
from ferpipe._compat import BaseSearchCV, NumpyPickler
from ferpipe.io.card import (
    FORMAT,
    card_path,
    check_card,
    is_card,
    package_versions,
    plain_text,
    read_card,
)
from ferpipe.io.compiled import Broken
from ferpipe.io.contents import settle
from ferpipe.io.unpickler import Refused, unpickle

__all__ = [
    "card_path",
    "describe_input",
    "load",
    "package_versions",
    "read_card",
    "save",
]

_LONGEST_REASON = 200
# seconds: a pair of files that is being replaced is read again after each pause, for as
# long as one of the two is younger than _SETTLED, and at most _PATIENCE
_PAUSE, _SETTLED, _PATIENCE = 0.02, 0.5, 5.0


def save(
    model: Any,
    path: Path | str,
    *,
    data: str = "",
    protocol: str = "",
    scores: Mapping[str, float | None] | None = None,
    crop_template: dict[str, Any] | None = None,
    trusted: Iterable[str] = (),
) -> Path:
    """Save a fitted model and its card.

    What is saved can be loaded: the file is loaded again before it takes its place. A
    search is replaced by its best estimator, wherever it stands in the model.

    Parameters
    ----------
    model : estimator
        Fitted. It has ``classes_``.
    path : str or path
        The joblib file. The card stands beside it, with the ending ``.json``.
    data : str, default=""
        What the model was trained on.
    protocol : str, default=""
        How the scores were obtained.
    scores : dict of str to float, default=None
        Scores under that protocol; NaN becomes null.
    crop_template : dict, default=None
        The framing of the training crops.
    trusted : iterable of str, default=()
        As :func:`load` takes it: what the model holds that is not on the list. The card
        names it, and whoever loads the file must name it too.

    Returns
    -------
    path : Path
        The joblib file.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    ValueError
        If :func:`load` would refuse the file, which is named with the part; or if there is
        a file in the card's place that is no card.

    Warns
    -----
    UserWarning
        If a search is replaced.
    """
    check_is_fitted(model)
    path = Path(path).expanduser()
    _check_place(path)
    trusted = _names(trusted)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / path.name
        with part.open("wb") as file:
            pickler = _Pickler(file)
            pickler.dump(model)
        with part.open("rb") as file:
            hashed = file_digest(file, "sha256").hexdigest()
            try:
                loaded = _unpickle(file, trusted)
            except ValueError as error:
                raise ValueError(
                    f"{path}: this {type(model).__name__} is not saved, as it could not be "
                    f"loaded again: {error} Take that part out, or set another value."
                ) from error
        card = {
            "format": FORMAT,
            "model": plain_text(repr(loaded)),
            "classes": [str(name) for name in loaded.classes_],
            "input": describe_input(loaded),
            "crop_template": crop_template,
            "data": plain_text(data),
            "protocol": plain_text(protocol),
            "scores": {key: _or_null(value) for key, value in (scores or {}).items()},
            "versions": package_versions(),
            "sha256": hashed,
        }
        if trusted:
            card["trusted"] = sorted(trusted)
        if pickler.notes:
            card["notes"] = pickler.notes
        try:
            check_card(card)
        except ValueError as error:
            raise ValueError(f"{path}: the model is not saved: {error}") from error
        card_part = Path(folder) / card_path(path).name
        card_part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        os.replace(part, path)
        os.replace(card_part, card_path(path))
    for note in pickler.notes:
        warnings.warn(f"{path}: {note}", UserWarning, stacklevel=2)
    return path


def load(path: Path | str, *, trusted: Iterable[str] = ()) -> Any:
    """Load a model that ``save`` wrote, without running code from the file.

    Parameters
    ----------
    path : str or path
        The joblib file; its card stands beside it.
    trusted : iterable of str, default=()
        Full names of further classes or functions that the file may use, for example
        ``"mypackage.MyTransformer"``, and files that the model may open, such as a
        detector's network.

    Returns
    -------
    model : estimator
        With ``n_jobs``, ``memory`` and ``checkpoint`` set to None wherever they stand: how
        and where things run is not the file's to say.

    Raises
    ------
    FileNotFoundError
        If the file or its card is missing.
    ValueError
        If the card is no card or of an unknown format, the hash differs from the card's,
        the file is damaged, or it holds something outside the list.

    Warns
    -----
    UserWarning
        If the model was saved under another major or minor version of a package.
    """
    path = Path(path).expanduser()
    names = _names(trusted)
    begun = time.monotonic()
    while True:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such model file.")
        # one after the other, so that a pair is rarely replaced between
        with path.open("rb") as file:
            card = read_card(path)
            if card["sha256"] != file_digest(file, "sha256").hexdigest():
                if _is_settled(path) or time.monotonic() - begun > _PATIENCE:
                    break
                time.sleep(_PAUSE)
                continue
            _warn_of_versions(path, card["versions"])
            try:
                return _unpickle(file, names)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
    raise ValueError(
        f"{path}: the file is not the one that its card describes (sha256 differs): it "
        "was cut short or changed after it was saved; get both files again."
    )


def _is_settled(path: Path) -> bool:
    """Whether neither a model file nor its card was replaced a moment ago."""
    newest = max(file.stat().st_mtime for file in (path, card_path(path)))
    return time.time() - newest > _SETTLED


def describe_input(model: Any) -> dict[str, Any]:
    """Return what a fitted model takes: the record of its first step that knows.

    Parameters
    ----------
    model : estimator
        Fitted.

    Returns
    -------
    kind : dict
        ``kind`` ("images", "sequences", "raw images", "raw sequences", "features" or
        "unknown") and ``shape``, the shape of one image, of one frame or of one sample;
        raw ones have any.
    """
    for step in first_steps(model):
        for attribute in ("image_shape_", "frame_shape_"):
            if hasattr(step, attribute):
                shape = [int(n) for n in getattr(step, attribute)]
                return {"kind": input_kind(step) or "unknown", "shape": shape}
        if hasattr(step, "n_features_in_"):
            return {"kind": "features", "shape": [int(step.n_features_in_)]}
        if input_kind(step) is not None:
            return {"kind": input_kind(step), "shape": []}
        if getattr(step, "estimator", None) is not None:
            return describe_input(step.estimator)
    return {"kind": "unknown", "shape": []}


class _Pickler(NumpyPickler):
    """Pickles as joblib does, with best estimators in the place of searches."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.notes: list[str] = []

    def save(self, obj: Any) -> Any:
        """Write an object."""
        if isinstance(obj, BaseSearchCV):
            search, obj = obj, _best(obj)
            kept = f"its best estimator, {type(obj).__name__}"
            if not hasattr(search, "best_estimator_"):
                kept = f"its estimator, {type(obj).__name__}"
            note = f"{type(search).__name__} is not saved, but {kept}, which can be loaded."
            if note not in self.notes:
                self.notes.append(note)
        return super().save(obj)


def _best(search: Any) -> Any:
    if hasattr(search, "best_estimator_"):
        return search.best_estimator_
    if hasattr(search, "cv_results_"):
        raise ValueError(
            f"A {type(search).__name__} with refit=False has no fitted estimator to save: "
            "set refit=True."
        )
    return search.estimator


def _unpickle(file: BinaryIO, trusted: frozenset[str]) -> Any:
    file.seek(0)
    try:
        model = unpickle(file, trusted)
        if isinstance(model, type) or not hasattr(model, "fit"):
            raise Refused(f"this is not a saved model but {type(model).__name__}.")
        settle(model, trusted)
    except (Refused, Broken) as error:
        raise ValueError(str(error)) from error
    except Exception as error:  # damaged bytes can raise nearly anything
        reason = repr(error)[:_LONGEST_REASON]
        raise ValueError(f"this is not a saved model: {reason}.") from error
    return model


def _names(trusted: Iterable[str]) -> frozenset[str]:
    if isinstance(trusted, str):
        raise TypeError(f"trusted must be a list of names, got the text {trusted!r}.")
    return frozenset(map(str, trusted))


def _check_place(path: Path) -> None:
    """Refuse to write over a file that is no card."""
    card = card_path(path)
    if card == path:
        raise ValueError(f"{path}: a model file cannot end in .json, as its card does.")
    if not (card.exists() or card.is_symlink()):
        return
    try:
        found = is_card(json.loads(card.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        found = False
    if not found:
        raise ValueError(
            f"{card}: the card of {path.name} would take the place of this file, which is "
            "no card of a model; give the model another name, or move that file."
        )


def _or_null(score: float | None) -> float | None:
    return None if score is None or score != score else float(score)


def _warn_of_versions(path: Path, saved: dict[str, str]) -> None:
    now = package_versions()
    other = [
        f"{name} {saved[name]} (now {now[name]})"
        for name in now
        if name in saved and saved[name].split(".")[:2] != now[name].split(".")[:2]
    ]
    if other:
        warnings.warn(
            f"{path} was saved with {', '.join(other)}; compare its predictions with known "
            "ones before you rely on them.",
            UserWarning,
            stacklevel=3,
        )
