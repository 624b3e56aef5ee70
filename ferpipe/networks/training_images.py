"""Which images the networks in a pipeline were trained on, by their fingerprints."""

from os import PathLike

import numpy as np
from sklearn.frozen import FrozenEstimator

from ferpipe._base import input_kind
from ferpipe.io.fingerprints import fingerprints, read_fingerprints
from ferpipe.networks.weights import OWN, fingerprints_beside, weights_file

__all__ = ["images_seen", "known_training_images"]

# parameters whose value names trained weights
_NAMING = ("weights", "teacher", "blend_with")


def known_training_images(pipeline, grid=()) -> dict[str, np.ndarray | None]:
    """Find the trained networks in a pipeline, and what they were trained on.

    Parameters
    ----------
    pipeline : estimator
        Networks are looked for in it at any depth: names and files of weights, teachers
        and partners of averaging, and networks in a FrozenEstimator.
    grid : list of dict, default=()
        Values that are tried in it, as ``GridSearchCV`` takes them.

    Returns
    -------
    known : dict of str to ndarray of shape (m,), uint64, or None
        Name of each network to the fingerprints of its training images and of those of
        the networks that it was started from or taught by; None where they are not known.

    Raises
    ------
    ValueError
        If a file of fingerprints is damaged.
    """
    found = list(_named(pipeline, ""))
    for part in grid:
        for key, values in part.items():
            found += _named(list(values), key.rpartition("__")[2])
    known: dict[str, np.ndarray | None] = {}
    for name, numbers in found:
        others = known.get(name, numbers)
        both = numbers is not None and others is not None
        known[name] = np.union1d(numbers, others) if both else None
    return known


def images_seen(network, X) -> np.ndarray:
    """Return fingerprints of what a network knows after its training.

    Parameters
    ----------
    network : estimator
        Its parameters name what it was started from and taught by.
    X : images or sequences
        What it was trained on.

    Returns
    -------
    numbers : ndarray of shape (m,), uint64
        Sorted, each once; none for sequences of features.
    """
    validation = getattr(network.training, "validation", None)
    samples = list(X)
    if isinstance(validation, tuple | list):
        # they chose the epoch and the temperature
        samples += list(validation[0])
    frames = samples
    if input_kind(network) == "sequences":
        frames = [frame for sequence in samples for frame in sequence]
    if not frames or np.ndim(frames[0]) < 2:
        frames = []
    inherited = [own for own in known_training_images(network).values() if own is not None]
    return np.unique(np.concatenate([fingerprints(frames), *inherited]))


def _named(value, key, frozen=False):
    """Yield (name, fingerprints) of the trained networks in the value of a parameter."""
    if isinstance(value, str | PathLike):
        if key in _NAMING:
            yield from _in_file(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _named(item, key, frozen)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _named(item, key, frozen)
    elif hasattr(value, "get_params") and not isinstance(value, type):
        if frozen and hasattr(value, "weights_") and hasattr(value, "history_"):
            name = f"the fitted {type(value).__name__}"
            yield name, getattr(value, "training_images_", None)
        for name, inner in value.get_params(deep=False).items():
            yield from _named(inner, name, frozen or isinstance(value, FrozenEstimator))


def _in_file(weights):
    """Yield (name, fingerprints) of a network that ships, or of a file."""
    path = weights_file(weights)
    if path.is_file():
        beside = fingerprints_beside(path)
        ships = path.is_relative_to(OWN)
        name = path.parent.name if ships else f"{path.parent.name}/{path.name}"
        yield name, read_fingerprints(beside) if beside.is_file() else None
