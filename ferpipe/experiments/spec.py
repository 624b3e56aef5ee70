"""YAML <-> estimators: one file is one experiment and its whole search space.

The rules of the language are in docs/yaml.md. Names come from an allow-list, so a file
from a stranger can build estimators and run nothing else. This module loads no data and
runs no program.
"""

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml
from sklearn.base import is_classifier
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer_names
from sklearn.pipeline import FeatureUnion, Pipeline

from ferpipe._compat import WrongParameterError, validate_parameters
from ferpipe._system.terminal import printable
from ferpipe.datasets.labels import nearest_words
from ferpipe.experiments.protocols import PROTOCOLS
from ferpipe.experiments.registry import SPLITTERS, estimator_classes
from ferpipe.networks.pretrained import pretrained
from ferpipe.networks.training.settings import Training

__all__ = [
    "Spec",
    "SpecError",
    "check_inside",
    "compile_spec",
    "override",
    "read_mapping",
    "suggest",
]

# bytes; an experiment has some hundred, and parsing a hundred thousand takes seconds
_LARGEST_FILE = 2**18
_MOST_GRIDS = 10_000
_DEEPEST = 100
# values of an experiment, and how deep they and its pipelines are nested
_MOST_VALUES = 20_000
_DEEPEST_VALUE = 24
_DEEPEST_PIPELINE = 6
_LARGEST_NUMBER = 2**63
_LONGEST_NAME = 100
_MOST_SEEDS = 100
# search -> largest search space
_MOST_CANDIDATES = {"grid": 100_000, "random": 2**31 - 1, "halving": 100_000}
# largest numbers of what is computed before the first fit
_MOST_FOLDS = 1000
_SPLITTER_LIMITS = {
    "n_splits": _MOST_FOLDS,
    "n_repeats": _MOST_FOLDS,
    "n_groups": 3,
}
_DATA_LIMITS = {"n_sequences": 5000, "n_images": 5000, "n_frames": 200, "size": 2048}
# pixels of one synthetic data set
_MOST_PIXELS = 2**28
_KEYS = ("name", "seed", "data", "pipeline", "evaluate", "search", "report")
_EVALUATE_KEYS = (
    *("protocol", "outer_cv", "inner_cv", "scoring", "refit", "seeds", "allow_leak"),
)
# search -> its parameters: lowest, highest and default value
_SEARCHES: dict[str, dict[str, tuple[int, int, int]]] = {
    "grid": {},
    "random": {"n_iter": (1, 100_000, 10)},
    "halving": {"factor": (2, 1000, 3)},
}
# parameters that take named steps, as a Pipeline does, and the one that takes a
# pretrained network
_TAKE_STEPS = {(StackingClassifier, "estimators"), (VotingClassifier, "estimators")}
_TAKES_PRETRAINED = (FrozenEstimator, "estimator")
_FOLDS = {"StratifiedKFold": {"n_splits": 5, "shuffle": True}}
_INNER = {"StratifiedKFold": {"n_splits": 3, "shuffle": True}}

# keys and names of before -> of now, or where they stand now
_RENAMED = {
    "AdaptiveHistogramEqualizer": "CLAHE",
    "average_from": "averaging: {WeightAveraging: {start: ...}}",
    "average_with": "averaging: {WeightAveraging: {blend_with: ...}}",
    "best_epoch": "early_stopping: {EarlyStopping: {restore_best_weights: ...}}",
    "cell": "rnn_type",
    "choose_by": "refit",
    "colour": "color",
    "folds": "outer_cv",
    "frames": "backbone",
    "hidden": "hidden_size",
    "inner": "inner_cv",
    "patience": "early_stopping: {EarlyStopping: {patience: ...}}",
    "readout": "pooling",
    "teacher": "distillation: {Distillation: {teacher: ...}}",
    "teacher_folds": "distillation: {Distillation: {folds: ...}}",
    "teacher_share": "distillation: {Distillation: {weight: ...}}",
    "views": "tta",
}


class SpecError(ValueError):
    """A mistake in an experiment file; the message begins with the place in the file."""


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
        Parameters of the loader.
    pipeline : Pipeline
        Unfitted; every ``try`` has its first alternative.
    grid : list of dict
        ``param_grid`` of ``GridSearchCV``; ``[{}]`` without a ``try``.
    protocol : str or None
        Name of the protocol that divides the data into training and test samples.
    outer_cv : splitter or None
        Outer folds; None with a protocol.
    inner_cv : splitter
        Inner folds.
    scoring : tuple of str
        Names of scorers.
    refit : str
        The scorer that the search maximizes.
    search : tuple of (str, dict)
        "grid", "random" or "halving", and the parameters of the search.
    repeats : tuple of Spec
        The same experiment under the other seeds of ``evaluate.seeds``.
    allow_leak : bool
        Whether the same sequence, subject or identical samples may be on both sides of a
        fold.
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


def read_mapping(path: str | Path) -> dict[str, Any]:
    """Read a YAML file into a mapping.

    Numbers such as ``1e-3`` are floats as in YAML 1.2. A repeated key is an error, and so
    is an alias: a few lines of aliases can grow without bound.

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
        If the file is missing or does not hold a mapping.
    """
    path = Path(path).expanduser()
    try:
        # opening a pipe waits forever
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not an ordinary file"
            raise SpecError(f"{path}: this is {kind}; expected an experiment file.")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise SpecError(
                f"{path}: the file is larger than the limit of {_LARGEST_FILE:,} bytes; an "
                "experiment has some hundred."
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


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise SpecError(f"{name}{line}: this is not valid YAML: {problem}.") from error
    # PyYAML raises these for values such as !!int "" and 2001-99-99
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        words = f"a value in it cannot be read ({error!r:.200})"
        raise SpecError(f"{name}: {words}.") from error
    except RecursionError as error:
        words = "lists or mappings are nested too deeply"
        raise SpecError(f"{name}: {words}.") from error


def override(mapping: Mapping, assignments: Iterable[str]) -> dict[str, Any]:
    """Return a copy of the mapping with values replaced.

    Parameters
    ----------
    mapping : dict
        An experiment as ``read_mapping`` returns it.
    assignments : iterable of str
        Each ``"a.b.c=value"``; the value is read as YAML.

    Returns
    -------
    mapping : dict

    Raises
    ------
    SpecError
        If an assignment has no ``=`` or its path does not exist.
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


def compile_spec(mapping: Mapping, *, out: str | Path | None = None) -> Spec:
    """Compile a mapping into estimators, a search space and folds.

    Parameters
    ----------
    mapping : dict
        An experiment as ``read_mapping`` returns it.
    out : str or path, default=None
        A folder besides the working directory to which the experiment may write.

    Returns
    -------
    spec : Spec

    Raises
    ------
    SpecError
        If the mapping has a mistake; the message gives its path and the nearest known
        word. Also if the experiment is too large, or writes to a folder (``report.to``,
        ``checkpoint`` of a network) outside of the working directory and ``out``.
    """
    _check_extent(mapping)
    _check_keys(mapping, _KEYS, "")
    for key in ("data", "pipeline"):
        if mapping.get(key) is None:
            raise SpecError(f"{key}: this key is missing; an experiment needs it.")
    name = mapping.get("name", "experiment")
    # the name becomes the name of a folder
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
    # with several seeds, what is unset here is filled again by each of them
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


def _compile_outer(
    builder: "_Builder", evaluate: Mapping[str, Any]
) -> tuple[str | None, Any]:
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
            f"evaluate: protocol {protocol} has outer folds of its own; leave "
            "outer_cv out, or name outer_cv and no protocol."
        )
    return protocol, None


def _resolve_outer(builder: "_Builder", evaluate: Mapping[str, Any]) -> dict[str, Any]:
    if evaluate.get("protocol") is not None:
        return {"protocol": evaluate["protocol"]}
    built = builder.splitter(evaluate.get("outer_cv", _FOLDS), "evaluate.outer_cv")
    return {"outer_cv": built.resolved}


def _compile_seeds(
    mapping: Mapping[str, Any], evaluate: Mapping[str, Any]
) -> tuple[int, ...]:
    """Return the seeds; the first one is that of the key ``seed``."""
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


def _check_seed(seed: Any, path: str) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise SpecError(
            f"{path}: expected a whole number from 0 to 2**32 - 1, got {seed!r}."
        )
    return seed


def _without_seeds(evaluate: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in evaluate.items() if key != "seeds"}


def _compile_search(node: Any) -> tuple[str, dict[str, int]]:
    """Return (kind, parameters) of ``grid``, ``random`` or ``{random: {n_iter: 20}}``."""
    kind, parameters = _name_and_parameters(node)
    if kind is None or kind not in _SEARCHES:
        _refuse("search", node if kind is None else kind, "search", _SEARCHES)
    if not isinstance(parameters, dict):
        raise SpecError(f"search.{kind}: expected a map, got {parameters!r}.")
    _check_keys(parameters, _SEARCHES[kind], f"search.{kind}")
    found = {}
    for name, (lowest, highest, default) in _SEARCHES[kind].items():
        value = parameters.get(name, default)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not lowest <= value <= highest:
            raise SpecError(
                f"search.{kind}.{name}: expected a whole number from {lowest} to "
                f"{highest:,}, got {value!r}."
            )
        found[name] = value
    return kind, found


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats, without aliases and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(
                None,
                None,
                "aliases (*name) are not part of this language",
                event.start_mark,
            )
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        # the scanner's time grows with the square of the depth
        if self.flow_level >= _DEEPEST:
            problem = f"brackets are nested more than {_DEEPEST} deep"
            raise yaml.scanner.ScannerError(None, None, problem, self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_whole_number(self, node: Any) -> int:
        value = self.construct_yaml_int(node)
        if abs(value) >= _LARGEST_NUMBER:
            problem = "the number is too large"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                problem = f"the key {key.value!r} is repeated"
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
    """A value, the search space in it and the YAML node that builds both again."""

    value: Any
    grids: list[dict[str, list]] = field(default_factory=list)
    resolved: Any = None
    alternatives: list[Any] = field(default_factory=list)
    # class name of an estimator without transform, which can only be the last step
    blocks: str | None = None


class _Place(NamedTuple):
    """A parameter of an estimator class, which a value is built for."""

    owner: type
    parameter: str


class _Builder:
    """Turns YAML nodes into values; ``prefix`` is the name for ``set_params``."""

    def __init__(self, seed: int | None, out: str | Path | None = None) -> None:
        self.seed = seed
        self.out = out
        self._depth = 0

    def pipeline(self, node: Any, path: str, prefix: str | None) -> _Built:
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

    def splitter(self, node: Any, path: str) -> _Built:
        """Build a splitter of scikit-learn; one that shuffles gets the seed."""
        name, parameters = _name_and_parameters(node)
        module = import_module("sklearn.model_selection")
        if name is None or name not in SPLITTERS:
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

    def _steps(
        self,
        node: Any,
        path: str,
        prefix: str | None,
        build: Callable[..., _Built] | None = None,
    ) -> dict[str, _Built]:
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
        with self._nested(path):
            return {
                name: (build or self._step)(step, f"{path}.{name}", _join(prefix, name))
                for name, step in node.items()
            }

    @contextmanager
    def _nested(self, path: str) -> Iterator[None]:
        if self._depth > _DEEPEST_PIPELINE:
            raise SpecError(
                f"{path}: pipelines and unions are nested more than {_DEEPEST_PIPELINE} "
                "deep."
            )
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _part(self, node: Any, path: str, prefix: str | None) -> _Built:
        """Build a part of a union, which may be left out."""
        if node == "drop":
            return _Built("drop", resolved="drop")
        if _is_try(node):
            return self._alternatives(node, path, prefix, self._part)
        return self._step(node, path, prefix)

    def _step(self, node: Any, path: str, prefix: str | None) -> _Built:
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
                raise SpecError(
                    f"{path}.union: every part may be drop; give one part that never is."
                )
            return _Built(
                FeatureUnion([(name, step.value) for name, step in built.items()]),
                _product(step.grids for step in built.values()),
                {"union": {name: step.resolved for name, step in built.items()}},
            )
        if isinstance(node, dict) and set(node) == {"pipeline"}:
            nested = self.pipeline(node["pipeline"], f"{path}.pipeline", prefix)
            nested.resolved = {"pipeline": nested.resolved}
            return nested
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
                f"{path}: {name} is a parameter object and cannot be a step; give it to a "
                "parameter of an estimator."
            )
        return self._estimator(node, path, prefix)

    def _parameter(
        self, node: Any, path: str, prefix: str | None, *, place: _Place | None = None
    ) -> _Built:
        if _is_try(node):
            build = partial(self._parameter, place=place)
            return self._alternatives(node, path, prefix, build)
        if isinstance(node, dict) and "try" in node:
            raise SpecError(f"{path}: try must be the only key, got {node!r}.")
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
        if name == "pretrained" and place == _TAKES_PRETRAINED:
            return _pretrained(parameters, f"{path}.pretrained")
        if isinstance(node, dict):
            if (
                len(node) == 1
                and re.match(r"[A-Z]", str(name))
                and isinstance(parameters, dict)
            ):
                _refuse(path, name, "estimator", estimator_classes())
            if place in _TAKE_STEPS:
                steps = self._steps(node, path, prefix and prefix.rpartition("__")[0])
                return _Built(
                    [(key, step.value) for key, step in steps.items()],
                    _product(step.grids for step in steps.values()),
                    {key: step.resolved for key, step in steps.items()},
                )
        return _Built(node, resolved=node)

    def _alternatives(
        self, node: Any, path: str, prefix: str | None, build: Callable[..., _Built]
    ) -> _Built:
        if prefix is None:
            raise SpecError(
                f"{path}: try cannot be inside a list; let it give whole lists instead."
            )
        nodes = node["try"]
        if not isinstance(nodes, list) or not nodes:
            raise SpecError(
                f"{path}.try: expected a list of at least one alternative, got {nodes!r}."
            )
        built = [build(item, f"{path}.try[{i}]", prefix) for i, item in enumerate(nodes)]
        values = [b.value for b in built if not b.grids]
        grids = [{prefix: values}] if values else []
        for b in built:
            grids += [{prefix: [b.value], **grid} for grid in b.grids]
        return _Built(
            built[0].value,
            grids,
            {"try": [b.resolved for b in built]},
            [b.value for b in built],
            next((b.blocks for b in built if b.blocks is not None), None),
        )

    def _estimator(self, node: Any, path: str, prefix: str | None) -> _Built:
        name, parameters = _name_and_parameters(node)
        estimator_class: Any = estimator_classes()[str(name)]
        path = f"{path}.{name}"
        if not isinstance(parameters, dict):
            raise SpecError(f"{path}: expected a map of parameters, got {parameters!r}.")
        known = signature(estimator_class).parameters
        for key in parameters:
            if key not in known:
                _refuse(path, key, "parameter", known)
        built = {
            key: self._parameter(
                value,
                f"{path}.{key}",
                _join(prefix, key),
                place=_Place(estimator_class, key),
            )
            for key, value in parameters.items()
        }
        if issubclass(estimator_class, Training) and "checkpoint" in built:
            folders = built["checkpoint"].alternatives or [built["checkpoint"].value]
            for folder in folders:
                if isinstance(folder, str):
                    check_inside(folder, f"{path}.checkpoint", self.out)
        for key, b in built.items():
            if isinstance(known[key].default, tuple):
                b.value, *b.alternatives = map(_as_tuple, [b.value, *b.alternatives])
                full_name = _join(prefix, key)
                if b.alternatives and full_name is not None:
                    b.grids = [{full_name: b.alternatives}]
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
            if key in built or _is_yaml(value)
        }
        return _Built(
            estimator,
            _product(b.grids for b in built.values()),
            {name: resolved},
            blocks=None if hasattr(estimator, "transform") else name,
        )


def _pretrained(parameters: Any, path: str) -> _Built:
    """Load a pretrained network for FrozenEstimator, which does not train it."""
    if not isinstance(parameters, dict) or not isinstance(parameters.get("name"), str):
        raise SpecError(f"{path}: expected {{name: ...}}, got {parameters!r}.")
    if len(parameters) > 1:
        raise SpecError(f"{path}: the only parameter is name, got {_listing(parameters)}.")
    try:
        network = pretrained(parameters["name"])
    except ValueError as error:
        raise SpecError(f"{path}.name: {error}") from error
    return _Built(network, resolved={"pretrained": parameters})


def _compile_data(node: Any) -> tuple[str, dict[str, Any]]:
    name, parameters = _name_and_parameters(node)
    if not isinstance(name, str) or not isinstance(parameters, dict):
        raise SpecError("data: expected {loader: {parameter: value}}.")
    _check_data_limits(parameters, f"data.{name}")
    return name, parameters


def _check_data_limits(parameters: Mapping[str, Any], path: str) -> None:
    """Refuse numbers with which loading alone takes hours, also in joined data sets."""
    _check_limits(parameters, _DATA_LIMITS, path)
    counts = [parameters.get(name) for name in ("n_sequences", "n_images", "n_frames")]
    size = parameters.get("size", 48)
    sides = size if isinstance(size, list) else [size, size]
    numbers = [value for value in [*counts, *sides] if isinstance(value, int)]
    if any(counts) and math.prod(numbers) > _MOST_PIXELS:
        raise SpecError(
            f"{path}: this makes {math.prod(numbers):,} pixels, more than "
            f"{_MOST_PIXELS:,}: take fewer or smaller frames."
        )
    sets = parameters.get("sets")
    for name, own in sets.items() if isinstance(sets, dict) else ():
        if isinstance(own, dict):
            _check_data_limits(own, f"{path}.sets.{name}")


def _check_limits(
    parameters: Mapping[str, Any], limits: Mapping[str, int], path: str
) -> None:
    """Refuse numbers that are too high; other values are checked by what takes them."""
    for name, highest in limits.items():
        value = parameters.get(name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int | float) and not number <= highest:
                raise SpecError(f"{path}.{name}: at most {highest:,}, got {number!r}.")


def check_inside(folder: str | Path, path: str, out: str | Path | None = None) -> None:
    """Check that an experiment may write to a folder.

    Parameters
    ----------
    folder : str or path
        The folder.
    path : str
        The key that names it.
    out : str or path, default=None
        A folder besides the working directory to which the experiment may write.

    Raises
    ------
    SpecError
        If the folder, with links resolved, is in neither of them.
    """
    roots = [Path.cwd()] + ([] if out is None else [Path(out).expanduser()])
    try:
        place = Path(folder).expanduser().resolve()
        inside = any(place.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a null byte
        raise SpecError(f"{path}: {folder!r} is not a folder: {error}.") from error
    if not inside:
        raise SpecError(
            f"{path}: {folder!r} is outside of the working directory; an experiment file "
            "may write there only if the command line allows it with --out FOLDER."
        )


def _check_extent(mapping: Mapping, place: str = "") -> None:
    """Refuse too many values, or too deep ones: every step below stays short."""
    level: list[Any] = [mapping]
    n_values = 0
    for _ in range(_DEEPEST_VALUE):
        below: list[Any] = []
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
        f"{place}the experiment's lists and maps are nested more than {_DEEPEST_VALUE} "
        "deep."
    )


def _compile_scoring(evaluate: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
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


def _set_at(mapping: dict[str, Any], keys: list[str], value: Any, assignment: str) -> None:
    """Set mapping[k0][k1]... = value; a ``Name`` on the path becomes ``{Name: {}}``."""
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


def _check_keys(mapping: Any, known: Collection[str], path: str) -> None:
    if not isinstance(mapping, Mapping):
        raise SpecError(f"{path}: expected a map with {_listing(known)}, got {mapping!r}.")
    for key in mapping:
        if key not in known:
            _refuse(path or "top of the file", key, "key", known)


def _validate(estimator: Any, path: str) -> None:
    try:
        validate_parameters(estimator)
    except WrongParameterError as error:
        raise SpecError(f"{path}.{error.parameter}: {error}") from error


def suggest(name: object, kind: str, known: Iterable[str]) -> str:
    """Return a message that refuses a name and gives the nearest known words.

    Parameters
    ----------
    name : object
        The wrong name.
    kind : str
        A noun for what was expected.
    known : iterable of str
        The known names.

    Returns
    -------
    message : str
    """
    refusal = f"{name!r} is not a known {kind}"
    if "." in str(name):
        return f"{refusal}; dotted paths are not taken."
    words = sorted(map(str, known))
    now = _RENAMED.get(str(name), "")
    if now.partition(":")[0] in words:
        return f"{refusal}. It is called {now} now."
    return f"{refusal}. {nearest_words(name, words)}"


def _refuse(path: str, name: object, kind: str, known: Iterable[str]) -> NoReturn:
    raise SpecError(f"{path}: {suggest(name, kind, known)}")


def _name_and_parameters(node: Any) -> tuple[str | None, Any]:
    """``Name`` and ``{Name: {...}}`` -> (name, parameters)."""
    if isinstance(node, dict) and len(node) == 1:
        ((name, parameters),) = node.items()
        return name, {} if parameters is None else parameters
    return (node if isinstance(node, str) else None), {}


def _product(grids_of_parts: Iterable[list[dict[str, list]]]) -> list[dict[str, list]]:
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


def _is_try(node: Any) -> bool:
    return isinstance(node, dict) and "try" in node and len(node) == 1


def _is_yaml(value: Any) -> bool:
    """Return whether YAML can write the value and read the same one."""
    return value is None or isinstance(
        value, bool | int | str | float | list | tuple | dict
    )


def _join(prefix: str | None, name: str) -> str | None:
    """Name a parameter; None where set_params cannot reach it, as inside a list."""
    if prefix is None:
        return None
    return f"{prefix}__{name}" if prefix else name


def _listing(words: Iterable[object]) -> str:
    return ", ".join(str(word) for word in words)


def _as_tuple(value: Any) -> Any:
    """Make a tuple of a list: YAML has no tuples."""
    return tuple(value) if isinstance(value, list) else value
