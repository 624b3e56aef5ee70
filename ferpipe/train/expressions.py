"""Train the network that classifies expressions, by its experiment file, for shipping."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ferpipe.datasets.fer2013 import load_fer2013
from ferpipe.experiments.metrics import summarize
from ferpipe.experiments.run import load_data
from ferpipe.experiments.spec import compile_spec, read_mapping
from ferpipe.grid import run
from ferpipe.io.fingerprints import fingerprints, write_fingerprints
from ferpipe.networks.image import ImageNetwork
from ferpipe.networks.pretrained import load_network, save_network
from ferpipe.networks.weights import FILE, fingerprints_beside

__all__ = ["Trained", "add_fingerprints", "train_expressions"]

# views beside those that the file asks for, by the ending of their name in the card
_OTHER_VIEWS = {
    "_of_one_view": None,
    "_of_ten_crops": "ten_crop",
    "_of_ten_affine": "ten_affine",
}


@dataclass(frozen=True)
class Trained:
    """Training and scores of the network, for its card.

    Attributes
    ----------
    protocol : str
        What the scores measure.
    scores : dict
        What they are.
    recipe : dict
        The pipeline of the experiment file.
    """

    protocol: str
    scores: dict
    recipe: dict


def train_expressions(experiment: str | Path, folder: str | Path) -> Trained:
    """Run an experiment whose pipeline is one ImageNetwork and write its weights.

    The report goes where the experiment says. A run that was stopped resumes if the
    experiment names a folder of checkpoints.

    Parameters
    ----------
    experiment : str or path
        The file, with a protocol.
    folder : str or path
        Where ``network.safetensors`` goes, in half precision, and the fingerprints of the
        training images.

    Returns
    -------
    trained : Trained

    Raises
    ------
    ValueError
        If the pipeline is something else, or no protocol is named.
    """
    spec = compile_spec(read_mapping(experiment))
    steps = [type(step) for _, step in spec.pipeline.steps]
    if steps != [ImageNetwork] or spec.protocol is None:
        raise ValueError(
            f"{experiment}: expected one ImageNetwork as the pipeline and a protocol "
            f"(evaluate.protocol), got {[kind.__name__ for kind in steps]} and "
            f"{spec.protocol}."
        )
    results = run(experiment, progress=True)
    path = save_network(results.model[-1], Path(folder) / FILE)
    summary = summarize(results)
    head = summary["splits"][summary["primary"]]
    (fold,) = results.folds
    images = load_data(spec).data[fold.test]
    shipped = load_network(path)
    target = results.target[fold.test]
    tried = {"": shipped.tta} | _OTHER_VIEWS
    as_shipped = {
        f"accuracy_as_shipped{ending}": float(
            np.mean(shipped.set_params(tta=views).predict(images) == target)
        )
        for ending, views in tried.items()
    }
    scores = {
        **summary["primary_scores"],
        **{f"accuracy {name}": part["accuracy"] for name, part in head["beside"].items()},
        "expected_calibration_error": head["calibration"]["error"],
        "expected_calibration_error_unscaled": head["calibration"]["error_unscaled"],
        **as_shipped,
    }
    return Trained(
        summary["protocol"],
        {name: round(value, 5) for name, value in scores.items()},
        spec.resolved["pipeline"],
    )


def add_fingerprints(path: str | Path, folder: str | Path) -> Path:
    """Write the fingerprints of FER2013's Training beside a network that was trained on it.

    For networks that were trained before training kept fingerprints.

    Parameters
    ----------
    path : str or path
        Folder of FER2013.
    folder : str or path
        Holds ``network.safetensors`` and its ``card.json``, which names the new file.

    Returns
    -------
    path : Path
        Of the file.

    Raises
    ------
    FileNotFoundError
        If the data, the network or its card is missing.
    """
    network, card_file = Path(folder) / FILE, Path(folder) / "card.json"
    if not network.is_file():
        raise FileNotFoundError(f"{network}: there is no network to add fingerprints to.")
    card = json.loads(card_file.read_text("utf-8"))
    images = load_fer2013(path, usage="Training").data
    written = write_fingerprints(fingerprints_beside(network), fingerprints(images))
    content = written.read_bytes()
    card["bytes"][written.name] = len(content)
    card["sha256"][written.name] = sha256(content).hexdigest()
    card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return written
