"""What every loader returns: one layout of the Bunch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import Bunch

__all__ = ["as_bunch"]


def as_bunch(
    data: Any,
    target: Any,
    *,
    kind: str,
    groups: Sequence[str] | None = None,
    population: str | None = None,
    filenames: Sequence[Any] | None = None,
    target_names: list[str] | None = None,
    description: str = "data of your own",
    synthetic: bool = False,
    return_X_y: bool = False,
    **extra: Any,
) -> Any:
    """Lay out a data set as all loaders return it: the way in for data of your own.

    Parameters
    ----------
    data : ndarray or list of ndarray
        Images or sequences.
    target : sequence of str, ndarray of shape (n, k), or None
        Label of each sample. With ``target_names``, a column of 0 and 1 a name says which
        of them apply. None where labels are not known.
    kind : {"images", "sequences"}
        What a sample is.
    groups : sequence of str, default=None
        Subject of each sample, where subjects are known.
    population : str, default=None
        From which people the subjects come: in data sets of one population, the same name
        is the same person. None if no other data set has them.
    filenames : list, default=None
        The file of each sample, or the list of the files of its frames; None for data
        that has none.
    target_names : list of str, default=None
        Names of the columns of a target that has several; None takes those in ``target``.
    description : str, default="data of your own"
        Its first line is a title.
    synthetic : bool, default=False
        Whether the faces were drawn.
    return_X_y : bool, default=False
        Return ``(data, target)`` only.
    **extra : object
        Further entries of the Bunch.

    Returns
    -------
    bunch : Bunch or (data, target)
        ``data``, ``target``, ``groups``, ``population``, ``target_names``, ``filenames``,
        ``kind``, ``synthetic``, ``DESCR`` and the further entries.
    """
    if target is None:
        target_names = []
    elif target_names is None:
        target = np.asarray(target, dtype=str)
        target_names = [str(name) for name in np.unique(target)]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        groups=None if groups is None else np.asarray(groups, dtype=str),
        population=population,
        target_names=target_names,
        filenames=filenames,
        kind=kind,
        synthetic=synthetic,
        DESCR=description,
        **extra,
    )
