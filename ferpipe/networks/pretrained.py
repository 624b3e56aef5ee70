"""Networks that are ready for use: those that ship, and one's own in a file."""

import json
from pathlib import Path

import numpy as np

from ferpipe.io.fingerprints import write_fingerprints
from ferpipe.io.format1 import current_recipe
from ferpipe.networks.image import ImageNetwork
from ferpipe.networks.weights import FILE, OWN, build_network, fingerprints_beside

__all__ = ["load_network", "pretrained", "save_network"]

# parameters of ImageNetwork without which its weights mean nothing
_KEPT = ("backbone", "dense", "dropout", "activation", "loss", "output_l2", "tta")


def pretrained(name=None):
    """Return a network that ships with the package, or say which ones there are.

    Parameters
    ----------
    name : {"fer2013"} or None, default=None
        What it was trained on; None lists the networks.

    Returns
    -------
    network : ImageNetwork or dict
        Fitted, with ``card_``, a dict that says what it was trained on, under which
        terms it may be used and what it is worth. Without a name, each name and its
        card.

    Raises
    ------
    ValueError
        If there is no such network.

    Notes
    -----
    The first time that a network of the package is read in a process, its terms are logged
    as a warning of the logger ``"ferpipe.terms"``, which goes to the standard error unless
    logging is set up otherwise. ``logging.getLogger("ferpipe.terms").setLevel("ERROR")``
    silences it.

    Examples
    --------
    >>> from ferpipe import pretrained
    >>> pretrained("fer2013").classes_.tolist()
    ['anger', 'disgust', 'fear', 'happiness', 'neutral', 'sadness', 'surprise']
    """
    cards = {
        path.parent.name: _read_card(path.parent / "card.json")
        for path in sorted(OWN.glob(f"*/{FILE}"))
    }
    if name is None:
        return cards
    if name not in cards:
        raise ValueError(f"There is no network {name!r}; there are {', '.join(cards)}.")
    network = load_network(OWN / name / FILE)
    network.card_ = cards[name]
    return network


def _read_card(path):
    card = json.loads(path.read_text("utf-8"))
    return {**card, "recipe": current_recipe(card["recipe"])}


def save_network(network, path):
    """Write the weights of an ImageNetwork, in half precision, and what they belong to.

    ``NAME.fingerprints.npz`` beside it holds the fingerprints of the training images, 7
    bytes each, by which the leak guard recognizes them. Move the two files together.

    Parameters
    ----------
    network : ImageNetwork
        Fitted.
    path : str or path
        A ``.safetensors`` file.

    Returns
    -------
    path : Path

    Raises
    ------
    ValueError
        If a weight is too large for half precision.
    """
    from safetensors.numpy import save_file

    tensors = {}
    for name, value in network.weights_.items():
        if value.dtype == np.float32:
            with np.errstate(over="ignore"):
                value = value.astype(np.float16)
            if not np.isfinite(value).all():
                raise ValueError(
                    f"{name} has weights beyond 65504, which half precision cannot hold."
                )
        tensors[name] = value
    facts = {
        "parameters": {name: getattr(network, name) for name in _KEPT},
        "classes": [str(label) for label in network.classes_],
        "image_shape": [int(side) for side in network.image_shape_],
        "temperature": network.temperature_,
    }
    path = Path(path)
    save_file(tensors, path, metadata={"image_network": json.dumps(facts)})
    beside = fingerprints_beside(path)
    if hasattr(network, "training_images_"):
        write_fingerprints(beside, network.training_images_)
    else:
        # those of other weights that were here before
        beside.unlink(missing_ok=True)
    return path


def load_network(path):
    """Load an ImageNetwork that :func:`save_network` wrote.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    network : ImageNetwork
        Fitted.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of something else.
    """
    return build_network(ImageNetwork, path)
