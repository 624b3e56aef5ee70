"""YAML <-> estimators: one file is one experiment and its whole search space.

The language has a few rules, written down in docs/yaml.md. Names come from an
allow-list, so a file from a stranger can build estimators and run nothing else.
This module knows nothing of data and of programs.
"""

import difflib
import itertools
import math
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

from ferpipe._compat import InvalidParameterError, validate_parameters
from ferpipe._system.terminal import printable
from ferpipe.experiments.protocols import PROTOCOLS
from ferpipe.experiments.registry import SPLITTERS, estimator_classes
from ferpipe.networks.pretrained import pretrained

__all__ = [
    "Spec",
    "SpecError",
    "check_inside",
    "compile_spec",
    "override",
    "read_mapping",
    "suggest",
]

# an experiment has some hundred bytes; parsing a hundred thousand takes seconds
_LARGEST_FILE = 2**18
_MOST_GRIDS = 10_000
_DEEPEST = 100
# values of an experiment, and how deep they and its estimators lie in each other
_MOST_VALUES = 20_000
_DEEPEST_VALUE = 24
_DEEPEST_PIPELINE = 6
_LARGEST_NUMBER = 2**63
_LONGEST_NAME = 100
_MOST_SEEDS = 100
# search -> the most candidates among which it may choose
_MOST_CANDIDATES = {"grid": 100_000, "random": 2**31 - 1, "halving": 100_000}
# highest values of the numbers that say how much is done before the first fit
_MOST_FOLDS = 1000
_SPLITTER_LIMITS = {
    "n_splits": _MOST_FOLDS,
    "n_repeats": _MOST_FOLDS,
    "n_groups": 3,
}
_DATA_LIMITS = {"n_sequences": 5000, "n_images": 5000, "n_frames": 200, "size": 2048}
# pixels that are drawn or read for one synthetic data set
_MOST_PIXELS = 2**28
_KEYS = ("name", "seed", "data", "pipeline", "evaluate", "search", "report")
_EVALUATE_KEYS = (
    *("protocol", "outer_cv", "inner_cv", "scoring", "refit", "seeds", "allow_leak"),
)
# search -> its parameters: lowest and highest value, what is taken where none is given
_SEARCHES = {
    "grid": {},
    "random": {"n_iter": (1, 100_000, 10)},
    "halving": {"factor": (2, 1000, 3)},
}
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
        Name of the protocol that says what is trained on and what is evaluated.
    outer_cv : splitter or None
        Outer folds, without a protocol.
    inner_cv : splitter
        Inner folds.
    scoring : tuple of str
        Names of scorers.
    refit : str
        The scorer that the search maximizes.
    search : (str, dict)
        "grid", "random" or "halving", and its parameters.
    repeats : tuple of Spec
        The same experiment under the other seeds of ``evaluate.seeds``.
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
    outer_cv: Any
    inner_cv: Any
    scoring: tuple[str, ...]
    refit: str
    search: tuple[str, dict[str, int]]
    repeats: tuple["Spec", ...]
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
        # a pipe is waited for without end
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise SpecError(f"{path}: this is {kind}; an experiment file was expected.")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise SpecError(
                f"{path}: the file is larger than the {_LARGEST_FILE:,} bytes that are "
                "read; an experiment has some hundred."
            )
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise SpecError(f"{path}: cannot read this experiment file: {reason}.") from error
    mapping = _parse_yaml(text, str(path))
    if not isinstance(mapping, dict):
        raise SpecError(
            f"{path}: an experiment file is a mapping with the keys {_listing(_KEYS)}."
        )
    _check_extent(mapping, f"{path}: ")
    return mapping


def _parse_yaml(text, name):
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise SpecError(f"{name}{line}: this is not valid YAML: {problem}.") from error
    # PyYAML lets these through from values such as !!int "" and 2001-99-99
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        words = f"a value in it cannot be read ({error!r:.200})"
        raise SpecError(f"{name}: {words}.") from error
    except RecursionError as error:
        words = "lists or mappings lie too deep in each other"
        raise SpecError(f"{name}: {words}.") from error


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
    _check_extent(mapping)
    result = deepcopy(dict(mapping))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise SpecError(f"--set {assignment}: expected a.b.c=value.")
        value = _parse_yaml(text, f"--set {assignment}")
        _set_at(result, keys, value, assignment)
    return result


def compile_spec(mapping: Mapping, *, out=None) -> Spec:
    """Compile a mapping into estimators, a search space and folds.

    Parameters
    ----------
    mapping : dict
        An experiment as ``read_mapping`` gives it.
    out : str or path, default=None
        A folder in which the experiment may write, beside the working directory.

    Returns
    -------
    spec : Spec

    Raises
    ------
    SpecError
        With the path in the file and the nearest right word. Also if a folder that the
        experiment writes to (``report.to``, a network's ``checkpoint``) lies elsewhere
        than in the working directory or ``out``, or the experiment is too large.
    """
    _check_extent(mapping)
    _check_keys(mapping, _KEYS, "")
    for key in ("data", "pipeline"):
        if mapping.get(key) is None:
            raise SpecError(f"{key}: this key is missing; an experiment needs it.")
    name = mapping.get("name", "experiment")
    # it becomes the name of a folder
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]*", name):
        raise SpecError(
            "name: expected letters, digits, '_', '-' and '.', beginning with one of the "
            f"first three, got {name!r}."
        )
    if len(name) > _LONGEST_NAME:
        raise SpecError(f"name: at most {_LONGEST_NAME} characters, got {len(name)}.")
    evaluate = mapping.get("evaluate") or {}
    _check_keys(evaluate, _EVALUATE_KEYS, "evaluate")
    seeds = _compile_seeds(mapping, evaluate)
    seed = seeds[0]
    loader, data_parameters = _compile_data(mapping["data"])
    builder = _Builder(seed, out)
    pipeline = builder.pipeline(mapping["pipeline"], "pipeline", "")
    grid = pipeline.grids or [{}]
    last = pipeline.value.steps[-1][0]
    for classifier in [v for part in grid for v in part.get(last, [pipeline.value[-1]])]:
        if classifier == "passthrough" or not is_classifier(classifier):
            raise SpecError(f"pipeline.{last}: the last step must be a classifier.")
    protocol, outer_cv = _compile_outer(builder, evaluate)
    inner = builder.splitter(evaluate.get("inner_cv", _INNER), "evaluate.inner_cv")
    scoring, refit = _compile_scoring(evaluate)
    allow_leak = evaluate.get("allow_leak", False)
    if not isinstance(allow_leak, bool):
        raise SpecError(f"evaluate.allow_leak: expected true or false, got {allow_leak!r}.")
    search = _compile_search(mapping.get("search", "grid"))
    n_candidates = sum(math.prod(map(len, part.values())) for part in grid)
    if n_candidates > _MOST_CANDIDATES[search[0]]:
        raise SpecError(
            f"search.{search[0]}: the pipeline has {n_candidates:,} candidates, more than "
            f"{_MOST_CANDIDATES[search[0]]:,}: try fewer values."
        )
    report = mapping.get("report") or {}
    _check_keys(report, ("to",), "report")
    to = report.get("to")
    if to is not None and not isinstance(to, str):
        raise SpecError(f"report.to: expected a folder, got {to!r}.")
    if to is not None:
        check_inside(to, "report.to", out)
    # Several seeds fill what is left unset here again, when this is run again.
    written = builder if len(seeds) == 1 else _Builder(None, out)
    resolved = {
        "name": name,
        "seed": seed,
        "data": {loader: data_parameters},
        "pipeline": written.pipeline(mapping["pipeline"], "pipeline", "").resolved,
        "evaluate": {
            **_resolve_outer(written, evaluate),
            "inner_cv": written.splitter(
                evaluate.get("inner_cv", _INNER), "evaluate.inner_cv"
            ).resolved,
            "scoring": list(scoring),
            "refit": refit,
            **({"seeds": list(seeds)} if len(seeds) > 1 else {}),
            "allow_leak": allow_leak,
        },
        "search": {search[0]: search[1]} if search[1] else search[0],
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
        outer_cv=outer_cv,
        inner_cv=inner.value,
        scoring=scoring,
        refit=refit,
        search=search,
        repeats=tuple(
            compile_spec(
                {**mapping, "seed": other, "evaluate": _without_seeds(evaluate)}, out=out
            )
            for other in seeds[1:]
        ),
        allow_leak=allow_leak,
        to=to,
        resolved=resolved,
    )


def _compile_outer(builder, evaluate):
    """Return protocol and outer folds, one of them None."""
    protocol = evaluate.get("protocol")
    if protocol is None:
        return None, builder.splitter(
            evaluate.get("outer_cv", _FOLDS), "evaluate.outer_cv"
        ).value
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        raise SpecError(f"evaluate.protocol: {suggest(protocol, 'protocol', PROTOCOLS)}")
    if "outer_cv" in evaluate:
        raise SpecError(
            f"evaluate: protocol {protocol} says what is tested; leave outer_cv out, "
            "or name outer_cv and no protocol."
        )
    return protocol, None


def _resolve_outer(builder, evaluate):
    if evaluate.get("protocol") is not None:
        return {"protocol": evaluate["protocol"]}
    built = builder.splitter(evaluate.get("outer_cv", _FOLDS), "evaluate.outer_cv")
    return {"outer_cv": built.resolved}


def _compile_seeds(mapping, evaluate):
    """Return the seeds; the first stands in the place of the key ``seed``."""
    if "seeds" not in evaluate:
        return (_check_seed(mapping.get("seed", 0), "seed"),)
    seeds = evaluate["seeds"]
    if not isinstance(seeds, list) or not seeds:
        raise SpecError(
            f"evaluate.seeds: expected a list of seeds such as [0, 1, 2, 3, 4], got "
            f"{seeds!r}."
        )
    if len(seeds) > _MOST_SEEDS:
        raise SpecError(f"evaluate.seeds: at most {_MOST_SEEDS}, got {len(seeds)}.")
    for i, seed in enumerate(seeds):
        _check_seed(seed, f"evaluate.seeds[{i}]")
    if len(set(seeds)) < len(seeds):
        raise SpecError(f"evaluate.seeds: each seed once, got {seeds!r}.")
    if mapping.get("seed", seeds[0]) != seeds[0]:
        raise SpecError(
            f"evaluate.seeds: the first is {seeds[0]}, but seed is {mapping['seed']!r}: "
            "leave seed out, or make them the same."
        )
    return tuple(seeds)


def _check_seed(seed, path):
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise SpecError(
            f"{path}: expected a whole number from 0 to 2**32 - 1, got {seed!r}."
        )
    return seed


def _without_seeds(evaluate):
    return {key: value for key, value in evaluate.items() if key != "seeds"}


def _compile_search(node):
    """Return (kind, parameters) of ``grid``, ``random`` or ``{random: {n_iter: 20}}``."""
    kind, parameters = _name_and_parameters(node)
    if kind not in _SEARCHES:
        _refuse("search", node if kind is None else kind, "search", _SEARCHES)
    if not isinstance(parameters, dict):
        raise SpecError(f"search.{kind}: expected a map, got {parameters!r}.")
    _check_keys(parameters, _SEARCHES[kind], f"search.{kind}")
    found = {}
    for name, (lowest, highest, default) in _SEARCHES[kind].items():
        value = parameters.get(name, default)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not lowest <= value <= highest:
            raise SpecError(
                f"search.{kind}.{name}: expected a whole number from {lowest} to "
                f"{highest:,}, got {value!r}."
            )
        found[name] = value
    return kind, found


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

    def fetch_flow_collection_start(self, TokenClass):
        # the scanner's time grows with the square of the depth
        if self.flow_level >= _DEEPEST:
            problem = f"brackets lie more than {_DEEPEST} deep in each other"
            raise yaml.scanner.ScannerError(None, None, problem, self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_whole_number(self, node):
        value = self.construct_yaml_int(node)
        if abs(value) >= _LARGEST_NUMBER:
            problem = "the number is too large"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
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
    # the class that keeps it from standing before another step; None if it can
    blocks: str | None = None


class _Builder:
    """Turns YAML nodes into values; ``prefix`` is the name that ``set_params`` takes."""

    def __init__(self, seed, out=None):
        self.seed = seed
        self.out = out

    def pipeline(self, node, path, prefix):
        """Build an ordered map of steps into a Pipeline."""
        built = self._steps(node, path, prefix)
        *before, (_, last) = built.items()
        for name, step in before:
            if step.blocks is not None:
                raise SpecError(
                    f"{path}.{name}: {step.blocks} has no transform, so it can only be "
                    "the last step."
                )
        return _Built(
            Pipeline([(name, step.value) for name, step in built.items()]),
            _product(step.grids for step in built.values()),
            {name: step.resolved for name, step in built.items()},
            blocks=last.blocks and "Pipeline",
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
        _check_limits(parameters, _SPLITTER_LIMITS, f"{path}.{name}")
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

    def _steps(self, node, path, prefix, build=None):
        if not isinstance(node, dict) or not node:
            raise SpecError(
                f"{path}: expected an ordered map, step name -> estimator, got {node!r}."
            )
        for name in node:
            if not isinstance(name, str) or "__" in name or name in ("memory", "steps"):
                raise SpecError(f"{path}: {name!r} cannot be the name of a step.")
            if printable(name) != name:
                raise SpecError(
                    f"{path}: {name!r} cannot be the name of a step: it holds control "
                    "characters."
                )
        if path.count(".pipeline") + path.count(".union") > _DEEPEST_PIPELINE:
            raise SpecError(
                f"{path}: pipelines and unions lie more than {_DEEPEST_PIPELINE} deep in "
                "each other."
            )
        return {
            name: (build or self._step)(step, f"{path}.{name}", _join(prefix, name))
            for name, step in node.items()
        }

    def _part(self, node, path, prefix):
        """Build a part of a union, which may be left out."""
        if node == "drop":
            return _Built("drop", resolved="drop")
        if _is_try(node):
            return self._alternatives(node, path, prefix, self._part)
        return self._step(node, path, prefix)

    def _step(self, node, path, prefix):
        if node is None or node == "passthrough":
            return _Built("passthrough", resolved="passthrough")
        if node == "drop":
            raise SpecError(
                f"{path}: drop leaves out a part of a union; passthrough leaves out a step."
            )
        if isinstance(node, dict) and set(node) == {"union"}:
            built = self._steps(node["union"], f"{path}.union", prefix, self._part)
            if all(
                "drop" in (part.alternatives or [part.value]) for part in built.values()
            ):
                raise SpecError(f"{path}.union: one part must stay whatever is tried.")
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
            _refuse(path, name, "estimator", [*estimator_classes(), "passthrough", "drop"])
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
        if name == "pretrained" and path.endswith(".FrozenEstimator.estimator"):
            return _pretrained(parameters, f"{path}.pretrained")
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
            next((b.blocks for b in built if b.blocks is not None), None),
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
        if name == "Training" and "checkpoint" in built:
            folders = built["checkpoint"].alternatives or [built["checkpoint"].value]
            for folder in folders:
                if isinstance(folder, str):
                    check_inside(folder, f"{path}.checkpoint", self.out)
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
        _validate(estimator, path)
        for key, b in built.items():
            for alternative in b.alternatives:
                _validate(estimator_class(**{**values, key: alternative}), path)
        resolved = {
            key: built[key].resolved if key in built else value
            for key, value in estimator.get_params(deep=False).items()
            if key in built or _is_plain(value)
        }
        return _Built(
            estimator,
            _product(b.grids for b in built.values()),
            {name: resolved},
            blocks=None if hasattr(estimator, "transform") else name,
        )


def _pretrained(parameters, path):
    """Load a network that ships, for FrozenEstimator, which keeps its weights."""
    if not isinstance(parameters, dict) or not isinstance(parameters.get("name"), str):
        raise SpecError(f"{path}: expected {{name: ...}}, got {parameters!r}.")
    if len(parameters) > 1:
        raise SpecError(f"{path}: the only parameter is name, got {_listing(parameters)}.")
    try:
        network = pretrained(parameters["name"])
    except ValueError as error:
        raise SpecError(f"{path}.name: {error}") from error
    return _Built(network, resolved={"pretrained": parameters})


def _compile_data(node):
    name, parameters = _name_and_parameters(node)
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise SpecError("data: expected {loader: {parameter: value}}.")
    _check_data_limits(parameters, f"data.{name}")
    return name, parameters


def _check_data_limits(parameters, path):
    """Refuse numbers by which loading alone takes hours, here or in joined data sets."""
    _check_limits(parameters, _DATA_LIMITS, path)
    drawn = [parameters.get(name) for name in ("n_sequences", "n_images", "n_frames")]
    size = parameters.get("size", 48)
    sides = size if isinstance(size, list) else [size, size]
    numbers = [value for value in [*drawn, *sides] if isinstance(value, int)]
    if any(drawn) and math.prod(numbers) > _MOST_PIXELS:
        raise SpecError(
            f"{path}: this makes {math.prod(numbers):,} pixels, more than "
            f"{_MOST_PIXELS:,}: take fewer or smaller frames."
        )
    sets = parameters.get("sets")
    for name, own in sets.items() if isinstance(sets, dict) else ():
        if isinstance(own, dict):
            _check_data_limits(own, f"{path}.sets.{name}")


def _check_limits(parameters, limits, path):
    """Refuse numbers that are too high; what is no number is left to what takes it."""
    for name, highest in limits.items():
        value = parameters.get(name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not number <= highest:
                raise SpecError(f"{path}.{name}: at most {highest:,}, got {number!r}.")


def check_inside(folder, path: str, out=None) -> None:
    """Refuse a folder that an experiment must not write to.

    Parameters
    ----------
    folder : str or path
        What the experiment names.
    path : str
        Where it names it.
    out : str or path, default=None
        A folder in which it may write, beside the working directory.

    Raises
    ------
    SpecError
        If the folder lies in neither, links followed.
    """
    roots = [Path.cwd()] + ([] if out is None else [Path(out).expanduser()])
    try:
        place = Path(folder).expanduser().resolve()
        inside = any(place.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a null byte
        raise SpecError(f"{path}: {folder!r} is no folder: {error}.") from error
    if not inside:
        raise SpecError(
            f"{path}: {folder!r} lies outside the working directory; an experiment file "
            "writes there only if the command line allows it with --out FOLDER."
        )


def _check_extent(mapping, place=""):
    """Refuse what has too many values, or lies too deep: every step below stays short."""
    level, n_values = [mapping], 0
    for _ in range(_DEEPEST_VALUE):
        below = []
        for value in level:
            if isinstance(value, Mapping):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple):
                below += value
            elif isinstance(value, int) and abs(value) >= _LARGEST_NUMBER:
                raise SpecError(f"{place}a number in the experiment is too large.")
        n_values += len(below)
        if n_values > _MOST_VALUES:
            raise SpecError(
                f"{place}the experiment has more than {_MOST_VALUES:,} names and values."
            )
        level = below
        if not level:
            return
    raise SpecError(
        f"{place}the experiment's lists and maps lie more than {_DEEPEST_VALUE} deep in "
        "each other."
    )


def _compile_scoring(evaluate):
    scoring = evaluate.get("scoring", ["accuracy", "balanced_accuracy", "f1_macro"])
    if isinstance(scoring, str):
        scoring = [scoring]
    if not isinstance(scoring, list) or not scoring:
        raise SpecError(f"evaluate.scoring: expected a list of scorers, got {scoring!r}.")
    for name in scoring:
        if name not in get_scorer_names():
            _refuse("evaluate.scoring", name, "scorer", get_scorer_names())
    refit = evaluate.get("refit", scoring[0])
    if refit not in scoring:
        _refuse("evaluate.refit", refit, "name in evaluate.scoring", scoring)
    return tuple(scoring), refit


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
        # it begins with "The 'tta' parameter of"
        name = str(error).split("'")[1]
        raise SpecError(f"{path}.{name}: {error}") from error


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
    n_combinations = math.prod(map(len, parts))
    if n_combinations > _MOST_GRIDS:
        raise SpecError(
            f"pipeline: its alternatives make {n_combinations:,} search spaces, more than "
            f"{_MOST_GRIDS:,}: try fewer at a time."
        )
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
