"""FER2013: 48 x 48 gray faces in one csv file, with official splits and FER+ votes."""

import csv
import gzip
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ferpipe.caching.store import Store
from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import existing_path, file_state
from ferpipe.datasets.labels import FER2013_CODES, FERPLUS_VOTES, nearest_words
from ferpipe.io.memmap import map_images

__all__ = ["ferplus_majority", "load_fer2013"]

_LAYOUT = (
    "fer2013.csv or fer2013.csv.gz with the columns emotion, pixels, Usage (48 x 48 gray "
    "values a row), or the folder that holds it"
)
_USAGES = ("Training", "PublicTest", "PrivateTest")
_NAMES = ("fer2013.csv", "fer2013.csv.gz")
# a row of 2304 numbers takes at most 10,000 characters
_LONGEST_LINE = 100_000
# faces shrink to a third: a file beyond this text that shrank to a hundredth holds none
_LARGEST_TEXT = 2**28
_LARGEST_RATIO = 100


def load_fer2013(
    path: Path | str,
    *,
    usage: str | None = None,
    labels: str = "official",
    lazy: bool = False,
    return_X_y: bool = False,
) -> Any:
    """Load FER2013, faces from an image search in seven classes.

    The file is parsed once; later calls take the result from the store, as long as the
    file does not change.

    Parameters
    ----------
    path : str or path
        The csv or csv.gz file, or the folder that holds it or a folder ``fer2013``; ``~``
        and ``$NAME`` are resolved.
    usage : {"Training", "PublicTest", "PrivateTest"} or None, default=None
        Load one of the official splits only.
    labels : {"official", "ferplus"}, default="official"
        "ferplus" takes the majority of the ten votes of [2]_ in ``fer2013new.csv``, which
        must lie beside the csv file. See :func:`ferplus_majority`; faces without a
        majority are left out.
    lazy : bool, default=False
        Map the images into memory from a file of the cache, which is written at first;
        for a file of this format that is larger than memory (FER2013 takes 83 MB).
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : ndarray of shape (n, 48, 48), uint8, in the order of the file.
        ``target`` : ndarray of shape (n,), canonical names.
        ``groups`` : None, subjects are not known.
        ``usage`` : ndarray of shape (n,), the official split of each face.
        ``votes`` : ndarray of shape (n, 10), uint8, the FER+ votes for ``vote_names``;
        None when ``fer2013new.csv`` is not there.
        ``filenames`` : list of str, file and line number.
        ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a row is broken, a name is not known or the two files do not belong together.

    References
    ----------
    .. [1] I. Goodfellow et al., "Challenges in representation learning: a report on three
       machine learning contests", ICONIP 2013.
    .. [2] E. Barsoum et al., "Training deep networks for facial expression recognition
       with crowd-sourced label distribution", ICMI 2016.
    """
    if labels not in ("official", "ferplus"):
        raise ValueError(f"labels must be 'official' or 'ferplus', got {labels!r}.")
    if usage is not None and usage not in _USAGES:
        raise ValueError(f"{usage!r} is not a known usage. {nearest_words(usage, _USAGES)}")
    file = _find_file(existing_path(path, _LAYOUT))
    state = (str(file.resolve()), *file_state(file))
    if lazy:
        images, notes = map_images(state, lambda append: _parse_into(file, append))
        codes, usages = notes["codes"], notes["usages"]
    else:
        images, codes, usages = Store().get_or_compute(
            (_parse_faces.__qualname__, *state), lambda: _parse_faces(file)
        )
    target = np.array(FER2013_CODES)[codes]
    votes = _read_votes(file, usages, required=labels == "ferplus")
    if labels == "ferplus" and votes is not None:
        target = ferplus_majority(votes)
    kept = target != ""
    if usage is not None:
        kept &= usages == usage
        if not kept.any():
            raise ValueError(
                f"{file}: there is no row with Usage {usage}, only "
                f"{', '.join(np.unique(usages))}."
            )
    rows = np.flatnonzero(kept)
    return as_bunch(
        _select(images, rows, state) if lazy else images[rows],
        target[rows],
        kind="images",
        filenames=[f"{file}:{row + 2}" for row in rows],
        description=(
            f"FER2013, {usage or 'all official splits'}, {labels} labels\n\n48 x 48 gray "
            "faces collected by image search (Goodfellow et al. 2013). Many images occur "
            "more than once, also across the official splits. Subjects are not known. "
            "Research only."
        ),
        return_X_y=return_X_y,
        usage=usages[rows],
        votes=None if votes is None else votes[rows],
        vote_names=list(FERPLUS_VOTES),
    )


def ferplus_majority(votes: ArrayLike) -> NDArray[np.str_]:
    """Return the expression that more than half of the votes agree on.

    Parameters
    ----------
    votes : ndarray of shape (n, 10)
        Votes for each of ``FERPLUS_VOTES``; the last two are "unknown" and "not a face".

    Returns
    -------
    names : ndarray of shape (n,)
        Canonical names; empty where there is no majority, or the majority is for
        "unknown" or "not a face".

    Notes
    -----
    The rule of Barsoum et al. (ICMI 2016): votes that stand alone are dropped as
    mistakes; the winner then needs more than half of the rest, so that there are no ties.

    Examples
    --------
    >>> ferplus_majority([[6, 0, 1, 1, 0, 0, 0, 0, 2, 0], [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]])
    array(['neutral', ''], dtype='<U9')
    """
    votes = np.asarray(votes)
    counted = np.where(votes > 1, votes, 0)
    winner = counted.argmax(axis=1)
    majority = 2 * counted.max(axis=1) > counted.sum(axis=1)
    names = np.array([*FERPLUS_VOTES[:-2], "", ""])
    return np.where(majority, names[winner], "")


def _find_file(path: Path) -> Path:
    if path.is_file():
        return path
    for folder in (path, path / "fer2013"):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    raise FileNotFoundError(f"{path}: there is no FER2013 file here. Expected: {_LAYOUT}.")


def _select(
    images: NDArray[np.uint8], rows: NDArray[np.intp], state: tuple[Any, ...]
) -> NDArray[np.uint8]:
    """Return rows of mapped images, mapped again."""
    start, stop = rows[0], rows[-1] + 1
    if stop - start == len(rows):
        return images[start:stop]

    def write(append: Callable[..., None]) -> dict[str, NDArray[Any]]:
        for row in rows:
            append(images[row])
        return {}

    return map_images((*state, rows), write)[0]


def _parse_faces(
    file: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.str_]]:
    """Return images (n, 48, 48), codes (n,) and usages (n,)."""
    images: list[NDArray[np.uint8]] = []
    notes = _parse_into(file, images.append)
    return np.stack(images), notes["codes"], notes["usages"]


def _parse_into(file: Path, append: Callable[..., None]) -> dict[str, NDArray[Any]]:
    """Hand each image over, and return codes (n,) and usages (n,)."""
    try:
        codes, usages = _parse_rows(file, append)
    except (
        EOFError,
        gzip.BadGzipFile,
        zlib.error,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        raise ValueError(f"{file}: not a whole csv file ({error}).") from error
    if not codes:
        raise ValueError(f"{file}: there are no rows. Expected: {_LAYOUT}.")
    return {"codes": np.array(codes), "usages": np.array(usages)}


def _parse_rows(file: Path, append: Callable[..., None]) -> tuple[list[int], list[str]]:
    codes, usages = [], []
    with _open_text(file) as text, warnings.catch_warnings():
        # Older numpy only warns when a text goes on with something else than numbers.
        warnings.simplefilter("error", DeprecationWarning)
        rows = csv.reader(_lines(text, file))
        header = [name.strip() for name in next(rows, [])]
        if sorted(header) != ["Usage", "emotion", "pixels"]:
            raise ValueError(
                f"{file}: the first line is {','.join(header)[:80]!r}. Expected: {_LAYOUT}."
            )
        order = [header.index(name) for name in ("emotion", "pixels", "Usage")]
        for number, row in enumerate(
            tqdm(rows, desc=file.name, unit="row", disable=None, leave=False), start=2
        ):
            try:
                if len(row) != len(order):
                    raise ValueError(f"there are {len(row)} columns, not {len(order)}")
                emotion, pixels, usage = (row[column] for column in order)
                codes.append(_parse_code(emotion))
                append(_parse_pixels(pixels))
                usages.append(_parse_usage(usage))
            except ValueError as error:
                raise ValueError(
                    f"{file}:{number}: {error}. Expected: {_LAYOUT}."
                ) from error
    return codes, usages


def _open_text(file: Path) -> TextIO:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", newline="")
    return file.open(encoding="utf-8", newline="")


def _lines(text: TextIO, file: Path) -> Iterator[str]:
    """Yield the lines of a text; no file makes this take much more memory than its size."""
    most, seen = max(_LARGEST_TEXT, _LARGEST_RATIO * file.stat().st_size), 0
    while line := text.readline(_LONGEST_LINE):
        seen += len(line)
        if len(line) == _LONGEST_LINE:
            raise ValueError(
                f"{file}: a line has {_LONGEST_LINE:,} characters or more. Expected: "
                f"{_LAYOUT}."
            )
        if seen > most:
            raise ValueError(
                f"{file}: it unpacks to more than {most:,} characters, over "
                f"{_LARGEST_RATIO} times its size: this is no file of faces."
            )
        yield line


def _parse_code(text: str) -> int:
    code = int(text)
    if not 0 <= code < len(FER2013_CODES):
        raise ValueError(f"emotion is {code}, not 0 to {len(FER2013_CODES) - 1}")
    return code


def _parse_pixels(text: str) -> NDArray[np.uint8]:
    try:
        values = np.fromstring(text, dtype=np.int32, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise ValueError("pixels must be whole numbers, separated by blanks") from error
    if values.size != 48 * 48:
        raise ValueError(f"there are {values.size} pixels, not 2304")
    if values.min() < 0 or values.max() > 255:
        raise ValueError(f"pixels run from {values.min()} to {values.max()}, not 0 to 255")
    return values.astype(np.uint8).reshape(48, 48)


def _parse_usage(text: str) -> str:
    usage = text.strip()
    if usage not in _USAGES:
        raise ValueError(f"Usage is {usage!r}, not one of {', '.join(_USAGES)}")
    return usage


def _read_votes(
    file: Path, usages: NDArray[np.str_], required: bool
) -> NDArray[np.uint8] | None:
    """Return the votes (n, 10) in ``fer2013new.csv`` beside the file, or None."""
    votes_file = file.with_name("fer2013new.csv")
    if not votes_file.is_file():
        if required:
            raise FileNotFoundError(
                f"{votes_file}: there is no such file; labels='ferplus' needs the FER+ "
                "votes beside the csv file."
            )
        return None
    try:
        with votes_file.open(encoding="utf-8", newline="") as text:
            header, *rows = list(csv.reader(_lines(text, votes_file))) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{votes_file}: not a whole csv file ({error}).") from error
    if tuple(header) != ("Usage", "Image name", *FERPLUS_VOTES):
        raise ValueError(
            f"{votes_file}: the first line is {','.join(header)[:80]!r}; expected "
            f"Usage,Image name,{','.join(FERPLUS_VOTES)}."
        )
    if len(rows) != len(usages):
        raise ValueError(
            f"{votes_file} has {len(rows)} rows, but {file} has {len(usages)}: they must "
            "be the same faces in the same order."
        )
    differs = np.flatnonzero(np.array(["".join(row[:1]) for row in rows]) != usages)
    if differs.size:
        raise ValueError(
            f"{votes_file}:{differs[0] + 2}: Usage differs from that of {file}: both must "
            "be the same faces in the same order."
        )
    try:
        votes = np.array([row[2:] for row in rows], dtype=np.uint8)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{votes_file}: {error}; ten whole numbers a row expected."
        ) from error
    if votes.shape != (len(rows), len(FERPLUS_VOTES)):
        raise ValueError(
            f"{votes_file}: the rows have {votes.shape[1]} votes; ten whole numbers a row "
            "expected."
        )
    return votes
