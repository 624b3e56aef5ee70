"""YAML <-> estimators: one file is one experiment and its whole search space.

The language has six rules, written down in docs/yaml.md. Names come from an
allow-list, so a file from a stranger can build estimators and run nothing else.
This module knows nothing of data and of programs.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import yaml
from sklearn.base import is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import FeatureUnion, Pipeline

from ferpipe.constraints import InvalidParameterError, validate_parameters
from ferpipe.protocols import PROTOCOLS
from ferpipe.registry import SPLITTERS, estimator_classes

__all__ = ["Spec", "SpecError", "compile_spec", "override", "read_mapping", "suggest"]

_KEYS = ("name", "seed", "data", "pipeline", "evaluate", "search", "report")
_EVALUATE_KEYS = ("protocol", "folds", "inner", "scoring", "choose_by", "allow_leak")
_FOLDS = {"StratifiedKFold": {"n_splits": 5, "shuffle": True}}
_INNER = {"StratifiedKFold": {"n_splits": 3, "shuffle": True}}


class SpecError(ValueError):
    """A mistake in an experiment file; the message begins with its path in the file."""


@dataclass(frozen=True)
class Spec:
    """A compiled experiment.

    Attributes
    ----------
    name : str
        Name of the experiment.
    seed : int
        Seed of every ``random_state`` that the file leaves unset.
    loader : str
        Name of the data loader, without ``load_`` or ``make_``.
    data_parameters : dict
        Its parameters.
    pipeline : Pipeline
        Unfitted; every ``try`` stands at its first alternative.
    grid : list of dict
        What ``GridSearchCV`` takes as ``param_grid``; ``[{}]`` without a ``try``.
    protocol : str or None
        Name of the protocol that says what is trained on and what is judged.
    folds : splitter or None
        Outer folds, without a protocol.
    inner : splitter
        Inner folds.
    scoring : tuple of str
        Names of scorers.
    choose_by : str
        The scorer that the search maximises.
    allow_leak : bool
        Whether folds may hold the same sequence or identical samples on both sides.
    to : str or None
        Folder of the report.
    resolved : dict
        The mapping with every default filled in; it compiles to the same experiment.
    """

    name: str
    seed: int
    loader: str
    data_parameters: dict[str, Any]
    pipeline: Pipeline
    grid: list[dict[str, list]]
    protocol: str | None
    folds: Any
    inner: Any
    scoring: tuple[str, ...]
    choose_by: str
    allow_leak: bool
    to: str | None
    resolved: dict[str, Any]


def read_mapping(path) -> dict[str, Any]:
    """Read a YAML file into a mapping.

    Numbers such as ``1e-3`` are floats as in YAML 1.2, a key that stands twice is an
    error, and aliases are refused: a few lines of them can grow without bound.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    mapping : dict

    Raises
    ------
    SpecError
        If the file is missing or is not such a mapping.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise SpecError(f"{path}: cannot read this experiment file: {reason}.") from error
    try:
        mapping = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise SpecError(f"{path}{line}: this is not valid YAML: {problem}.") from error
    if not isinstance(mapping, dict):
        raise SpecError(
            f"{path}: an experiment file is a mapping with the keys {_listing(_KEYS)}."
        )
    return mapping


def override(mapping: Mapping, assignments: Iterable[str]) -> dict[str, Any]:
    """Return the mapping with values replaced.

    Parameters
    ----------
    mapping : dict
        An experiment as ``read_mapping`` gives it; it is left as it is.
    assignments : iterable of str
        Each ``"a.b.c=value"``; the value is read as YAML.

    Returns
    -------
    mapping : dict

    Raises
    ------
    SpecError
        If an assignment has no ``=`` or its path leads nowhere.
    """
    result = deepcopy(dict(mapping))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SpecError(f"--set {assignment}: expected a.b.c=value.")
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            raise SpecError(f"--set {assignment}: the value is not valid YAML.") from error
        _set_at(result, keys, value, assignment)
    return result


def compile_spec(mapping: Mapping) -> Spec:
    """Compile a mapping into estimators, a search space and folds.

    Parameters
    ----------
    mapping : dict
        An experiment as ``read_mapping`` gives it.

    Returns
    -------
    spec : Spec

    Raises
    ------
    SpecError
        With the path in the file and the nearest right word.
    """
    _check_keys(mapping, _KEYS, "")
    for key in ("data", "pipeline"):
        if mapping.get(key) is None:
            raise SpecError(f"{key}: this key is missing; an experiment needs it.")
    name = mapping.get("name", "experiment")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise SpecError(f"name: expected letters, digits, '_', '-' and '.', got {name!r}.")
    seed = mapping.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise SpecError(f"seed: expected a whole number from 0 to 2**32 - 1, got {seed!r}.")
    loader, data_parameters = _compile_data(mapping["data"])
    builder = _Builder(seed)
    pipeline = builder.pipeline(mapping["pipeline"], "pipeline", "")
    grid = pipeline.grids or [{}]
    last = pipeline.value.steps[-1][0]
    for classifier in [v for part in grid for v in part.get(last, [pipeline.value[-1]])]:
        if not is_classifier(classifier):
            raise SpecError(f"pipeline.{last}: the last step must be a classifier.")
    evaluate = mapping.get("evaluate") or {}
    _check_keys(evaluate, _EVALUATE_KEYS, "evaluate")
    protocol, folds, judged_by = _compile_outer(builder, evaluate)
    inner = builder.splitter(evaluate.get("inner", _INNER), "evaluate.inner")
    scoring, choose_by = _compile_scoring(evaluate)
    allow_leak = evaluate.get("allow_leak", False)
    if not isinstance(allow_leak, bool):
        raise SpecError(f"evaluate.allow_leak: expected true or false, got {allow_leak!r}.")
    search = mapping.get("search", "grid")
    if search != "grid":
        raise SpecError(f"search: expected grid, got {search!r}.")
    report = mapping.get("report") or {}
    _check_keys(report, ("to",), "report")
    to = report.get("to")
    if to is not None and not isinstance(to, str):
        raise SpecError(f"report.to: expected a folder, got {to!r}.")
    resolved = {
        "name": name,
        "seed": seed,
        "data": {loader: data_parameters},
        "pipeline": pipeline.resolved,
        "evaluate": {
            **judged_by,
            "inner": inner.resolved,
            "scoring": list(scoring),
            "choose_by": choose_by,
            "allow_leak": allow_leak,
        },
        "search": search,
        "report": {} if to is None else {"to": to},
    }
    return Spec(
        name=name,
        seed=seed,
        loader=loader,
        data_parameters=data_parameters,
        pipeline=pipeline.value,
        grid=grid,
        protocol=protocol,
        folds=folds,
        inner=inner.value,
        scoring=scoring,
        choose_by=choose_by,
        allow_leak=allow_leak,
        to=to,
        resolved=resolved,
    )


def _compile_outer(builder, evaluate):
    """Return protocol or outer folds, one of them None, and the key that says so."""
    protocol = evaluate.get("protocol")
    if protocol is None:
        built = builder.splitter(evaluate.get("folds", _FOLDS), "evaluate.folds")
        return None, built.value, {"folds": built.resolved}
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise SpecError(f"evaluate.protocol: {suggest(protocol, 'protocol', PROTOCOLS)}")
    if "folds" in evaluate:
        raise SpecError(
            f"evaluate: protocol {protocol} says what is judged; leave folds out, or name "
            "folds and no protocol."
        )
    return protocol, None, {"protocol": protocol}


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats, without aliases and repeated keys."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None,
                None,
                "aliases (*name) are not part of this language",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+"),
    list("-+.0123456789"),
)


@dataclass
class _Built:
    """A value, the search space within it and the YAML node that gives both again."""

    value: Any
    grids: list[dict[str, list]] = field(default_factory=list)
    resolved: Any = None
    alternatives: list[Any] = field(default_factory=list)


class _Builder:
    """Turns YAML nodes into values; ``prefix`` is the name that ``set_params`` takes."""

    def __init__(self, seed):
        self.seed = seed

    def pipeline(self, node, path, prefix):
        """Build an ordered map of steps into a Pipeline."""
        built = self._steps(node, path, prefix)
        for name, step in list(built.items())[:-1]:
            for value in step.alternatives or [step.value]:
                if value != "passthrough" and not hasattr(value, "transform"):
                    raise SpecError(
                        f"{path}.{name}: {type(value).__name__} has no transform, so it "
                        "can only be the last step."
                    )
        return _Built(
            Pipeline([(name, step.value) for name, step in built.items()]),
            _product(step.grids for step in built.values()),
            {name: step.resolved for name, step in built.items()},
        )

    def splitter(self, node, path):
        """Build a splitter of scikit-learn; the seed goes where samples are shuffled."""
        name, parameters = _name_and_parameters(node)
        module = import_module("sklearn.model_selection")
        if name not in SPLITTERS:
            _refuse(path, name, "splitter", SPLITTERS)
        splitter_class = getattr(module, name)
        known = signature(splitter_class).parameters
        for key in parameters:
            if key not in known:
                _refuse(f"{path}.{name}", key, "parameter", known)
        full = {
            key: parameter.default
            for key, parameter in known.items()
            if parameter.default is not parameter.empty
        } | parameters
        shuffles = full.get("shuffle", "random_state" in full)
        if shuffles and full.get("random_state") is None:
            full["random_state"] = self.seed
        try:
            value = splitter_class(**full)
        except (TypeError, ValueError) as error:
            raise SpecError(f"{path}.{name}: {error}") from error
        return _Built(value, resolved={name: full})

    def _steps(self, node, path, prefix):
        if not isinstance(node, dict) or not node:
            raise SpecError(
                f"{path}: expected an ordered map, step name -> estimator, got {node!r}."
            )
        for name in node:
            if not isinstance(name, str) or "__" in name or name in ("memory", "steps"):
                raise SpecError(f"{path}: {name!r} cannot be the name of a step.")
        return {
            name: self._step(step, f"{path}.{name}", _join(prefix, name))
            for name, step in node.items()
        }

    def _step(self, node, path, prefix):
        if node is None or node == "passthrough":
            return _Built("passthrough", resolved="passthrough")
        if isinstance(node, dict) and set(node) == {"union"}:
            built = self._steps(node["union"], f"{path}.union", prefix)
            return _Built(
                FeatureUnion([(name, step.value) for name, step in built.items()]),
                _product(step.grids for step in built.values()),
                {"union": {name: step.resolved for name, step in built.items()}},
            )
        if isinstance(node, dict) and set(node) == {"pipeline"}:
            built = self.pipeline(node["pipeline"], f"{path}.pipeline", prefix)
            built.resolved = {"pipeline": built.resolved}
            return built
        if _is_try(node):
            return self._alternatives(node, path, prefix, self._step)
        name, _ = _name_and_parameters(node)
        if name is None:
            raise SpecError(
                f"{path}: expected an estimator, Name or {{Name: {{parameter: value}}}}, "
                f"got {node!r}."
            )
        if name not in estimator_classes():
            _refuse(path, name, "estimator", estimator_classes())
        if not hasattr(estimator_classes()[name], "fit"):
            raise SpecError(
                f"{path}: {name} is a parameter object; it goes into a parameter of an "
                "estimator and cannot be a step."
            )
        return self._estimator(node, path, prefix)

    def _parameter(self, node, path, prefix):
        if _is_try(node):
            return self._alternatives(node, path, prefix, self._parameter)
        if isinstance(node, dict) and "try" in node:
            raise SpecError(f"{path}: try stands alone, got {node!r}.")
        if isinstance(node, dict) and len(node) == 1 and set(node) <= {"union", "pipeline"}:
            return self._step(node, path, prefix)
        if isinstance(node, list):
            built = [
                self._parameter(item, f"{path}[{i}]", None) for i, item in enumerate(node)
            ]
            return _Built([b.value for b in built], resolved=[b.resolved for b in built])
        name, parameters = _name_and_parameters(node)
        if name in estimator_classes():
            return self._estimator(node, path, prefix)
        if isinstance(node, dict):
            if (
                len(node) == 1
                and re.match(r"[A-Z]", str(name))
                and isinstance(parameters, dict)
            ):
                _refuse(path, name, "estimator", estimator_classes())
            if path.endswith(".estimators"):
                built = self._steps(node, path, prefix and prefix.rpartition("__")[0])
                return _Built(
                    [(key, step.value) for key, step in built.items()],
                    _product(step.grids for step in built.values()),
                    {key: step.resolved for key, step in built.items()},
                )
        return _Built(node, resolved=node)

    def _alternatives(self, node, path, prefix, build):
        if prefix is None:
            raise SpecError(
                f"{path}: try cannot stand inside a list; let it give whole lists instead."
            )
        nodes = node["try"]
        if not isinstance(nodes, list) or not nodes:
            raise SpecError(
                f"{path}.try: expected a list of at least one alternative, got {nodes!r}."
            )
        built = [build(item, f"{path}.try[{i}]", prefix) for i, item in enumerate(nodes)]
        plain = [b.value for b in built if not b.grids]
        grids = [{prefix: plain}] if plain else []
        for b in built:
            grids += [{prefix: [b.value], **grid} for grid in b.grids]
        return _Built(
            built[0].value,
            grids,
            {"try": [b.resolved for b in built]},
            [b.value for b in built],
        )

    def _estimator(self, node, path, prefix):
        name, parameters = _name_and_parameters(node)
        estimator_class = estimator_classes()[name]
        path = f"{path}.{name}"
        if not isinstance(parameters, dict):
            raise SpecError(f"{path}: expected a map of parameters, got {parameters!r}.")
        known = signature(estimator_class).parameters
        for key in parameters:
            if key not in known:
                _refuse(path, key, "parameter", known)
        built = {
            key: self._parameter(value, f"{path}.{key}", _join(prefix, key))
            for key, value in parameters.items()
        }
        for key, b in built.items():
            if isinstance(known[key].default, tuple):
                b.value, *b.alternatives = map(_as_tuple, [b.value, *b.alternatives])
                if b.alternatives:
                    b.grids = [{_join(prefix, key): b.alternatives}]
        values = {key: b.value for key, b in built.items()}
        if "random_state" in known and values.get("random_state") is None:
            values["random_state"] = self.seed
        try:
            estimator = estimator_class(**values)
        except TypeError as error:
            raise SpecError(f"{path}: {error}") from error
        for key, b in built.items():
            for alternative in b.alternatives or [b.value]:
                _validate(estimator_class(**{**values, key: alternative}), f"{path}.{key}")
        resolved = {
            key: built[key].resolved if key in built else value
            for key, value in estimator.get_params(deep=False).items()
            if key in built or _is_plain(value)
        }
        return _Built(
            estimator, _product(b.grids for b in built.values()), {name: resolved}
        )


def _compile_data(node):
    name, parameters = _name_and_parameters(node)
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise SpecError("data: expected {loader: {parameter: value}}.")
    return name, parameters


def _compile_scoring(evaluate):
    scoring = evaluate.get("scoring", ["accuracy", "balanced_accuracy", "f1_macro"])
    if isinstance(scoring, str):
        scoring = [scoring]
    if not isinstance(scoring, list) or not scoring:
        raise SpecError(f"evaluate.scoring: expected a list of scorers, got {scoring!r}.")
    for name in scoring:
        if name not in get_scorer_names():
            _refuse("evaluate.scoring", name, "scorer", get_scorer_names())
    choose_by = evaluate.get("choose_by", scoring[0])
    if choose_by not in scoring:
        _refuse("evaluate.choose_by", choose_by, "name in evaluate.scoring", scoring)
    return tuple(scoring), choose_by


def _set_at(mapping, keys, value, assignment):
    """Set mapping[k0][k1]... = value; a bare ``Name`` on the way becomes ``{Name: {}}``."""
    node = mapping
    for depth, key in enumerate(keys[:-1]):
        inside = node.get(key)
        if isinstance(inside, str) and inside == keys[depth + 1]:
            inside = {inside: {}}
        elif inside is None and (key in node or key in _KEYS):
            inside = {}
        if not isinstance(inside, dict):
            place = ".".join(keys[: depth + 1])
            if key in node:
                raise SpecError(
                    f"--set {assignment}: {place} is {inside!r}; nothing can be set in it."
                )
            _refuse(f"--set {assignment}", key, f"key at {place}", list(node))
        node[key] = inside
        node = inside
    node[keys[-1]] = value


def _check_keys(mapping, known, path):
    if not isinstance(mapping, Mapping):
        raise SpecError(f"{path}: expected a map with {_listing(known)}, got {mapping!r}.")
    for key in mapping:
        if key not in known:
            _refuse(path or "top of the file", key, "key", known)


def _validate(estimator, path):
    try:
        validate_parameters(estimator)
    except InvalidParameterError as error:
        raise SpecError(f"{path}: {error}") from error


def suggest(name, kind: str, known: Iterable[str]) -> str:
    """Return a sentence that refuses a name and gives the nearest right words.

    Parameters
    ----------
    name : object
        What was found.
    kind : str
        What was expected, as a noun.
    known : iterable of str
        What would have been right.

    Returns
    -------
    sentence : str
    """
    words = [str(word) for word in known]
    refusal = f"{name!r} is not a known {kind}"
    if "." in str(name):
        return f"{refusal}; dotted paths are not taken."
    near = difflib.get_close_matches(str(name), words)
    if near:
        return f"{refusal}. Did you mean {' or '.join(near)}?"
    return f"{refusal}. Known: {_listing(sorted(words))}."


def _refuse(path, name, kind, known) -> NoReturn:
    raise SpecError(f"{path}: {suggest(name, kind, known)}")


def _name_and_parameters(node):
    """``Name`` and ``{Name: {...}}`` -> (name, parameters)."""
    if isinstance(node, dict) and len(node) == 1:
        ((name, parameters),) = node.items()
        return name, {} if parameters is None else parameters
    return (node if isinstance(node, str) else None), {}


def _product(grids_of_parts):
    """Combine the search spaces of parts that vary independently."""
    parts = [grids for grids in grids_of_parts if grids]
    if not parts:
        return []
    return [
        {key: values for grid in combination for key, values in grid.items()}
        for combination in itertools.product(*parts)
    ]


def _is_try(node):
    return isinstance(node, dict) and "try" in node and len(node) == 1


def _is_plain(value):
    """Whether YAML can write the value and read the same one."""
    return value is None or isinstance(
        value, bool | int | str | float | list | tuple | dict
    )


def _join(prefix, name):
    """Name of a parameter; None where set_params cannot reach, as inside a list."""
    if prefix is None:
        return None
    return f"{prefix}__{name}" if prefix else name


def _listing(words):
    return ", ".join(str(word) for word in words)


def _as_tuple(value):
    """YAML has lists only; a parameter whose default is a tuple gets one."""
    return tuple(value) if isinstance(value, list) else value
