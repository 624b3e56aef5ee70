"""What files of format 1 call by other names: modules, classes, parameters, tensors.

Format 1 was written before modules and parameters got the names that they have now. Model
files, files of network weights and the cards of shipped weights of that format are
translated here while they are read. A name that is not in these tables is refused.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = [
    "MOVED",
    "current_facts",
    "current_metadata",
    "current_recipe",
    "current_state",
    "current_tensors",
]

# module.class of format 1 -> module.class; the list of admitted classes has the latter
# ruff: noqa: E501
MOVED = {
    "ferpipe.align.FaceAligner": "ferpipe.faces.alignment.FaceAligner",
    "ferpipe.cached.Cached": "ferpipe.caching.transformer.Cached",
    "ferpipe.candide.rules.ActionUnitRules": "ferpipe.candide.action_unit_rules.ActionUnitRules",
    "ferpipe.landmarks.predictor.LandmarkPredictor": "ferpipe.faces.landmarks.LandmarkPredictor",
    "ferpipe.networks.augment.Augment": "ferpipe.networks.training.augment.Augment",
    "ferpipe.networks.training.Training": "ferpipe.networks.training.settings.Training",
    "ferpipe.normalize.AdaptiveHistogramEqualizer": "ferpipe.faces.lighting.CLAHE",
    "ferpipe.normalize.HistogramEqualizer": "ferpipe.faces.lighting.HistogramEqualizer",
    "ferpipe.normalize.LocalContrastNormalizer": "ferpipe.faces.lighting.LocalContrastNormalizer",
    "ferpipe.normalize.LocalMeanNormalizer": "ferpipe.faces.lighting.LocalMeanNormalizer",
    "ferpipe.normalize.PixelNormalizer": "ferpipe.faces.lighting.PixelNormalizer",
}

_NETWORK = {"frames": "backbone", "views": "tta", "cell": "rnn_type"}
_NETWORK |= {"hidden": "hidden_size", "readout": "pooling"}
# class -> names of its parameters and attributes in format 1 -> their names
_ATTRIBUTES = {
    "ImageNetwork": _NETWORK,
    "SequenceNetwork": _NETWORK,
    "CNNFeatures": {"views": "tta", "frames_": "backbone_"},
    "FaceAligner": {"colour": "color"},
}
# (parameter, its value in format 1) -> its value
_VALUES: dict[tuple[str, str], str | None] = {
    ("tta", "one"): None,
    ("pooling", "every_frame"): "per_frame",
    ("missing", "centre"): "center",
    ("pool", "centre"): "center",
}

_SETTINGS = "ferpipe.networks.training.settings"
# parameter of Training -> its class, and the parameters of Training in format 1 that are
# parameters of that class now, with their defaults of that time
_GROUPS: dict[str, tuple[str, dict[str, tuple[str, Any]]]] = {
    "early_stopping": (
        "EarlyStopping",
        {"patience": ("patience", None), "best_epoch": ("restore_best_weights", False)},
    ),
    "averaging": (
        "WeightAveraging",
        {"average_from": ("start", None), "average_with": ("blend_with", None)},
    ),
    "distillation": (
        "Distillation",
        {
            "teacher": ("teacher", None),
            "teacher_share": ("weight", 0.5),
            "teacher_folds": ("folds", 3),
        },
    ),
}


def current_state(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Translate the attributes of an estimator of format 1.

    Parameters
    ----------
    name : str
        Its class.
    state : dict of str to object
        Its parameters and learned attributes, by their names in format 1.

    Returns
    -------
    state : dict of str to object
        The same by their names now.
    """
    return _grouped(name, _renamed(name, state), _make_settings)


def _renamed(name: str, state: dict[str, Any]) -> dict[str, Any]:
    """Translate the names of parameters and attributes, and their values."""
    names = _ATTRIBUTES.get(name, {})
    renamed = {names.get(key, key): value for key, value in state.items()}
    for key, value in renamed.items():
        if isinstance(value, str) and (key, value) in _VALUES:
            renamed[key] = _VALUES[key, value]
    if names is _NETWORK and isinstance(renamed.get("weights_"), dict):
        renamed["weights_"] = current_tensors(renamed["weights_"])
    return renamed


def _grouped(
    name: str, state: dict[str, Any], make: Callable[[str, dict[str, Any]], Any]
) -> dict[str, Any]:
    """Replace flat parameters of Training by the objects that hold them now."""
    if name != "Training":
        return state
    flat = {old for _, names in _GROUPS.values() for old in names}
    grouped = {key: value for key, value in state.items() if key not in flat}
    for parameter, (kind, names) in _GROUPS.items():
        if not names.keys() & state.keys():
            continue
        values = {new: state.get(old, unset) for old, (new, unset) in names.items()}
        # the first of them turned the group on, or best_epoch
        first, *_ = values.values()
        is_on = first is not None or values.get("restore_best_weights", False)
        grouped[parameter] = make(kind, values) if is_on else None
    return grouped


def _make_settings(kind: str, values: dict[str, Any]) -> Any:
    # by name: networks stand above this package
    return getattr(import_module(_SETTINGS), kind)(**values)


def current_tensors(weights: dict[str, Any]) -> dict[str, Any]:
    """Translate the names of a network's tensors of format 1."""
    return {
        f"backbone.{name.removeprefix('frames.')}"
        if name.startswith("frames.")
        else name: value
        for name, value in weights.items()
    }


def current_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Translate what a file of network weights of format 1 says about the network.

    Parameters
    ----------
    facts : dict
        ``parameters``, ``classes``, ``image_shape`` and ``temperature``.

    Returns
    -------
    facts : dict
        The same with the parameters' names of now.
    """
    return {**facts, "parameters": current_state("ImageNetwork", facts["parameters"])}


def current_recipe(recipe: Any) -> Any:
    """Translate the pipeline that the card of shipped weights has on record.

    Parameters
    ----------
    recipe : dict, list or plain value
        Part of an experiment file: ``{Class: {parameter: value}}`` at any depth.

    Returns
    -------
    recipe : dict, list or plain value
        The same with the names of now.
    """
    if isinstance(recipe, list):
        return [current_recipe(one) for one in recipe]
    if not isinstance(recipe, dict):
        return recipe
    return {
        name: current_recipe(
            _grouped(name, _renamed(name, value), lambda kind, values: {kind: values})
            if isinstance(value, dict)
            else value
        )
        for name, value in recipe.items()
    }


def current_metadata(facts: dict[str, Any]) -> dict[str, Any]:
    """Translate what the file of a landmark or wireframe network says about its crops."""
    return {name.replace("centre", "center"): value for name, value in facts.items()}
