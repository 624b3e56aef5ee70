"""Weights of networks in files, without pickle, and how a new network starts from them."""

import json
import logging
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ferpipe
from ferpipe.io.fingerprints import read_fingerprints
from ferpipe.io.format1 import current_facts, current_tensors

__all__ = [
    "FILE",
    "OWN",
    "build_network",
    "check_classes",
    "fingerprints_beside",
    "load_backbone",
    "read_blend",
    "read_weights",
    "weights_file",
]

# those that ship, and what the file of each is called
OWN = Path(ferpipe.__file__).parent / "pretrained"
FILE = "network.safetensors"


def weights_file(name: str | PathLike[str]) -> Path:
    """Return the file of a network that ships, by its name, or the path that was given."""
    own = OWN / str(name) / FILE
    return own if own.is_file() else Path(name).expanduser()


def fingerprints_beside(file: str | PathLike[str]) -> Path:
    """Return the file of the training images' fingerprints, beside a file of weights."""
    return Path(file).with_suffix(".fingerprints.npz")


def read_weights(
    path: str | PathLike[str],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the weights of an ImageNetwork.

    Parameters
    ----------
    path : str or path
        A file, or the name of a network that ships.

    Returns
    -------
    facts : dict
        ``parameters``, ``classes``, ``image_shape`` and ``temperature`` of the network.
    weights : dict of str to ndarray
        Floats are float32 again.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    ValueError
        If the file is damaged or of something else.
    """
    from safetensors import SafetensorError, safe_open

    path = weights_file(path)
    if path.parent.parent == OWN:
        _show_terms(path.parent.name)
    if not path.is_file():
        names = ", ".join(found.parent.name for found in OWN.glob(f"*/{FILE}"))
        raise FileNotFoundError(
            f"{path}: there is no such file of weights, and no network of that name comes "
            f"with ferpipe ({names or 'none does'})."
        )
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {})["image_network"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if "frames" in facts["parameters"]:
            facts, arrays = current_facts(facts), current_tensors(arrays)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: these are no weights of an ImageNetwork, or the file was cut short "
            f"({error})."
        ) from error
    return facts, {
        name: value.astype(np.float32) if value.dtype == np.float16 else value
        for name, value in arrays.items()
    }


@cache
def _show_terms(name: str) -> None:
    """Log the terms of a network that ships, once in a process."""
    card = json.loads((OWN / name / "card.json").read_text("utf-8"))
    logging.getLogger("ferpipe.terms").warning("%s: %s.", name, card["terms"])


def load_backbone(
    module: Any,
    weights: str | PathLike[str],
    *,
    backbone: str | None,
    activation: str,
    n_channels: int,
) -> None:
    """Take the weights of a frame network from a file.

    Parameters
    ----------
    module : nn.Module
        The frame network; changed in place.
    weights : str or path
        Name of a network that ships, or a file.
    backbone, activation : str
        Which frame network it is.
    n_channels : int
        1 for gray, 3 for RGB images.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_weights`, and if the weights are of another network.
    """
    import torch

    facts, arrays = read_weights(weights)
    parameters = facts["parameters"]
    n_theirs = 1 if len(facts["image_shape"]) == 2 else 3
    theirs = _describe(parameters["backbone"], parameters["activation"], n_theirs)
    ours = _describe(backbone, activation, n_channels)
    if theirs != ours:
        raise ValueError(
            f"weights={str(weights)!r} are those of {theirs}; this network has {ours}."
        )
    start = "backbone."
    state = {
        name.removeprefix(start): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith(start)
    }
    module.load_state_dict(state)


def check_classes(setting: str, theirs: list[str], ours: list[str]) -> None:
    """Refuse a network that predicts other classes than the samples have.

    Parameters
    ----------
    setting : str
        How it was named, for the message.
    theirs, ours : list
        Labels in order.

    Raises
    ------
    ValueError
        If they differ.
    """
    if theirs != ours:
        raise ValueError(f"{setting} predicts the classes {theirs}; y has {ours}.")


def read_blend(
    path: str | PathLike[str], module: Any, classes: NDArray[Any], activation: str
) -> dict[str, NDArray[Any]]:
    """Read all weights of a network that another one is averaged with.

    Parameters
    ----------
    path : str or path
        The file, or the name of a network that ships.
    module : nn.Module
        The other network.
    classes : ndarray of shape (n_classes,)
        Classes of the other network, in order.
    activation : str
        That of the other network, which has no weights to show it.

    Returns
    -------
    weights : dict of str to ndarray

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_weights`, and if the two are not of one kind or have other classes.
    """
    facts, weights = read_weights(path)
    setting = f"WeightAveraging(blend_with={str(path)!r})"
    check_classes(setting, facts["classes"], [str(label) for label in classes])
    theirs = {name: value.shape for name, value in weights.items()}
    ours = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if theirs != ours:
        differing = sorted(
            name for name in theirs | ours if theirs.get(name) != ours.get(name)
        )
        name = differing[0]
        raise ValueError(
            f"{setting} is a network of another kind: {name} has the shape "
            f"{theirs.get(name)} there and {ours.get(name)} here. Name one with the same "
            "layers."
        )
    if facts["parameters"]["activation"] != activation:
        raise ValueError(
            f"{setting} is a network of another kind: its activation is "
            f"{facts['parameters']['activation']!r}, here it is {activation!r}."
        )
    return weights


def build_network(kind: type, path: str | PathLike[str]) -> Any:
    """Build a fitted network from its file.

    Parameters
    ----------
    kind : type
        ImageNetwork, which stands above this module.
    path : str or path
        The file, or the name of a network that ships.

    Returns
    -------
    network : ImageNetwork

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_weights`, and if the weights do not fit.
    """
    facts, weights = read_weights(path)
    network = kind(**facts["parameters"])
    network.classes_ = np.array(facts["classes"])
    network.image_shape_ = tuple(facts["image_shape"])
    network.temperature_ = float(facts["temperature"])
    network.weights_ = weights
    network.history_ = []
    beside = fingerprints_beside(weights_file(path))
    if beside.is_file():
        network.training_images_ = read_fingerprints(beside)
    counted = [weights[name] for name in weights if not _is_buffer(name)]
    network.n_parameters_ = sum(value.size for value in counted)
    try:
        network.net_  # noqa: B018
    except RuntimeError as error:
        raise ValueError(
            f"{path}: its weights do not fit backbone={network.backbone!r}: the file is of "
            "another version or damaged."
        ) from error
    return network


def _is_buffer(name: str) -> bool:
    """Return whether an entry is a statistic, not a trained weight."""
    ending = name.rpartition(".")[2]
    return ending in ("running_mean", "running_var", "num_batches_tracked")


def _describe(backbone: str | None, activation: str, n_channels: int) -> str:
    kind = "gray" if n_channels == 1 else "RGB"
    return f"backbone={backbone!r} with activation={activation!r} for {kind} images"
