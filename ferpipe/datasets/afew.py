"""AFEW: clips of feature films, from the EmotiW challenges."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.files import (
    columns_read,
    existing_path,
    read_samples,
    visible_files,
)
from ferpipe.datasets.labels import canonical_label
from ferpipe.io.videos import read_frames

__all__ = ["load_afew"]

_LAYOUT = (
    "AFEW/<split>/<class>/<clip>.avi, for example AFEW/Train/Angry/000046280.avi, the "
    "splits being Train and Val (or Train_AFEW and Val_AFEW) and the classes Angry, "
    "Disgust, Fear, Happy, Neutral, Sad, Surprise"
)
_SPLITS = ("Train", "Val")
_CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def load_afew(
    path: Path | str,
    *,
    usage: str | None = None,
    every: float | None = None,
    gray: bool = True,
    on_error: str = "raise",
    return_X_y: bool = False,
) -> Any:
    """Load AFEW, Acted Facial Expressions in the Wild.

    Parameters
    ----------
    path : str or path
        The folder that holds the splits, or one that holds it as ``AFEW``; ``~`` and
        ``$NAME`` are resolved.
    usage : {"Train", "Val"} or None, default=None
        Load one of the official splits only. The labels of the test clips are not public.
    every : float, default=None
        Keep one frame in so many seconds, such as the 0.3 of [2]_; None keeps all. A clip
        of two seconds, 720 x 576 in gray, takes 20 MB with all its frames.
    gray : bool, default=True
        Turn colors into gray; otherwise frames are RGB.
    on_error : {"raise", "warn"}, default="raise"
        "warn" leaves out broken and unexpected files, if they are few, and names them.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data`` : list of ndarray of shape (T_i, h_i, w_i) or (T_i, h_i, w_i, 3), uint8.
        ``target`` : ndarray of shape (n,), canonical names.
        ``groups`` : None; the names of the clips do not tell film or actor.
        ``usage`` : ndarray of shape (n,), the official split of each clip.
        ``filenames``, ``target_names``, ``kind``, ``synthetic``, ``DESCR``.

    Raises
    ------
    FileNotFoundError
        If the folder, a split or the folder of a class is missing.
    ValueError
        If a file is unexpected or broken, a class is empty, or a parameter is wrong.

    References
    ----------
    .. [1] A. Dhall et al., "Collecting large, richly annotated facial-expression databases
       from movies", IEEE MultiMedia 19, 2012.
    .. [2] F. Wu and R. Pan, "Facial emotion recognition in images and videos".
    """
    if usage is not None and usage not in _SPLITS:
        raise ValueError(f"usage must be 'Train', 'Val' or None, got {usage!r}.")
    if every is not None and not every > 0:
        raise ValueError(f"every must be a number of seconds above 0, got {every!r}.")
    folder = existing_path(path, _LAYOUT)
    if (folder / "AFEW").is_dir():
        folder = folder / "AFEW"
    samples, unexpected = [], []
    for split in _SPLITS if usage is None else (usage,):
        found, wrong = _find_clips(folder, split)
        samples += found
        unexpected += wrong
    clips = read_samples(
        [file for file, _, _ in samples],
        [label for _, label, _ in samples],
        lambda file: _read_clip(file, every, gray),
        unexpected=unexpected,
        layout=_LAYOUT,
        on_error=on_error,
    )
    data, filenames, target, usages = columns_read(clips, samples)
    return as_bunch(
        data,
        target,
        kind="sequences",
        filenames=[str(file) for file in filenames],
        description=(
            f"AFEW, {usage or 'Train and Val'}, {len(set(target))} classes\n\nClips of "
            "films with acted expressions (Dhall et al. 2012). Academic research under a "
            "signed agreement; not to be passed on."
        ),
        return_X_y=return_X_y,
        usage=np.array(usages),
    )


def _find_clips(folder: Path, split: str) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """Return (file, label, split) of each clip, and unexpected files."""
    places = [folder / split, folder / f"{split}_AFEW"]
    split_folder = next((place for place in places if place.is_dir()), None)
    if split_folder is None:
        raise FileNotFoundError(
            f"{folder}: there is no folder {split} or {split}_AFEW. Expected: {_LAYOUT}. "
            "The parameter usage chooses one split."
        )
    samples, unexpected = [], []
    # other folders, such as those of faces that were cut out, are passed over
    for word in _CLASSES:
        class_folder = split_folder / word
        if not class_folder.is_dir():
            raise FileNotFoundError(
                f"{class_folder}: there is no folder of this class. Expected: {_LAYOUT}."
            )
        clips = []
        for file in visible_files(class_folder):
            if file.suffix.lower() == ".avi":
                clips.append((file, canonical_label(word), split))
            else:
                unexpected.append(f"{file}: unexpected file")
        if not clips:
            raise ValueError(f"{class_folder}: this class is empty. Expected: {_LAYOUT}.")
        samples += clips
    return samples, unexpected


def _read_clip(file: Path, every: float | None, gray: bool) -> NDArray[np.uint8]:
    """Return the frames of a video, one in ``every`` seconds."""
    if every is None:
        return np.stack([frame for _, frame in read_frames(file, gray=gray)])
    kept: dict[int, NDArray[np.uint8]] = {}
    for time, frame in read_frames(file, gray=gray):
        # containers round times: half a millisecond early is on time
        kept.setdefault(int((time + 5e-4) / every), frame)
    return np.stack(list(kept.values()))
