"""What is computed once and remembered: rows of samples, and fitted steps.

Features of an image that no other image has a part in are remembered by sample
(:class:`Cached`): whatever fold, search or run the image comes up in again, they are there.
What is learned from many samples is remembered by fit (:class:`StepMemory`). Both are kept
on disk by :mod:`ferpipe.caching.store`.
"""

import weakref
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial
from hashlib import blake2b
from typing import Any, Self

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ferpipe._base import SampleMixin, Tags, is_stateless
from ferpipe._checks import as_list
from ferpipe._compat import OUTPUT_CONFIG, HasMethods, fit_context, validate_parameters
from ferpipe.caching.events import Journal
from ferpipe.caching.store import RowStore, Store, content_hash

__all__ = [
    "Cached",
    "KeptPipeline",
    "StepMemory",
    "put_cache",
    "take_cache",
    "without_cache",
]

# what does not change the output
_WITHOUT_EFFECT = ("n_jobs", "verbose", OUTPUT_CONFIG)
# samples transformed before the store is looked into again
_BLOCK = 64
# place in memory -> weak reference to the read-only array there, and the hash of its bytes
_REMEMBERED: dict = {}


class Cached(SampleMixin, BaseEstimator):
    """Remember on disk what a transformer made of each sample.

    A sample (an image, a sequence, a row) is known by its content; what was made of it is
    found again in another fold, search, process or program, as long as the transformer's
    class, parameters and learned attributes and the package are the same. Only samples
    that are not known go through the transformer.

    Parameters
    ----------
    transformer : transformer
        What each sample goes through, independently of the others. A transformer that
        learns from the data, such as a scaler, is right but remembers for one fit only:
        use it for what learns nothing, such as the extractors, FaceAligner and
        CandideFitter.
    store : RowStore, default=None
        Where rows are kept; None takes ``$FERPIPE_CACHE`` or ``~/.cache/ferpipe``.
    journal : ferpipe.caching.events.Journal, default=None
        Gets lines that say how many samples were found (``row_reused``) and transformed
        (``row_computed``).

    Attributes
    ----------
    transformer_ : transformer
        The fitted clone.

    Notes
    -----
    Several processes may want the same samples at the same time. Each takes them in an
    order of its own, some at a time, and looks before each time what the others have done.
    Samples that are not arrays of numbers, such as the names of files, are not remembered.
    A change in the code of a transformer that is not ferpipe's goes unnoticed.

    The programs put it around stateless steps by themselves.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from ferpipe import HOGFeatures
    >>> from ferpipe.caching.transformer import Cached
    >>> from ferpipe.caching.store import RowStore
    >>> faces = np.random.default_rng(0).random((4, 48, 48))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     extractor = Cached(HOGFeatures(), store=RowStore(folder)).fit(faces)
    ...     first = extractor.transform(faces)
    ...     again = extractor.transform(faces[::-1])  # nothing is computed
    >>> bool((again[::-1] == first).all())
    True
    """

    _parameter_constraints: dict = {
        "transformer": [HasMethods(["fit", "transform"])],
        "store": [RowStore, None],
        "journal": [Journal, None],
    }

    def __init__(
        self,
        transformer: Any,
        *,
        store: RowStore | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.transformer = transformer
        self.store = store
        self.journal = journal

    @property
    def image_shape_(self) -> tuple[int, ...]:
        """Shape of an image that the transformer saw in fit."""
        return self.transformer_.image_shape_

    @property
    def frame_shape_(self) -> tuple[int, ...]:
        """Shape of a frame that the transformer saw in fit."""
        return self.transformer_.frame_shape_

    @property
    def n_features_in_(self) -> int:
        """Number of features that the transformer saw in fit, where it takes rows."""
        return self.transformer_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the features that the transformer saw in fit, where they have names."""
        return self.transformer_.feature_names_in_

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Self:
        """Fit the transformer.

        Parameters
        ----------
        X : array-like or list
            What the transformer takes.
        y : array-like of shape (n,), default=None
            Target, as the transformer takes it.
        **fit_params : dict
            What else the transformer's fit takes.

        Returns
        -------
        self : Cached
        """
        self.transformer_ = clone(self.transformer).fit(X, y, **fit_params)
        return self

    def transform(self, X: Any) -> Any:
        """Transform samples, those that are known by looking them up.

        Parameters
        ----------
        X : array-like or list
            What the transformer takes.

        Returns
        -------
        transformed : ndarray or list of ndarray
            What the transformer gives.

        Raises
        ------
        ValueError, TypeError
            As the transformer raises them.
        """
        check_is_fitted(self)
        validate_parameters(self)
        X = as_list(X)
        transform = partial(_plain_transform, self.transformer_)
        identity = content_hash("rows", _identity(self.transformer_)).encode()
        keys = _keys(X, identity)
        if not keys:
            return transform(X)
        store = self.store or RowStore()
        # each sample once, even if it is there twice
        places = {key: place for place, key in enumerate(keys)}
        # whether the transformer gives a list is known by the key of no sample
        of_lists = _key([], identity)
        rows = store.read([of_lists, *places])
        missing = [key for key in places if key not in rows or of_lists not in rows]
        order = np.random.default_rng().permutation(len(missing))
        n_computed = 0
        for start in range(0, len(missing), _BLOCK):
            block = [missing[i] for i in order[start : start + _BLOCK]]
            if start:
                rows |= store.read(block)
                block = [key for key in block if key not in rows]
            if not block:
                continue
            try:
                some = transform(_take(X, [places[key] for key in block]))
            except (TypeError, ValueError):
                transform(X)  # raises it too, and names samples by their places in X
                raise
            new = dict(zip(block, map(np.asarray, some), strict=True))
            new[of_lists] = np.asarray(isinstance(some, list))
            store.write(new)
            rows |= new
            n_computed += len(block)
        if self.journal is not None:
            self.journal.add("row_computed", n_computed)
            self.journal.add("row_reused", len(keys) - n_computed)
        if rows[of_lists]:
            return [rows[key].copy() for key in keys]
        return np.stack([rows[key] for key in keys])

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Name the features as the transformer does.

        Parameters
        ----------
        input_features : array-like of str, default=None
            As the transformer takes it.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        return self.transformer_.get_feature_names_out(input_features)

    def get_metadata_routing(self) -> Any:
        """Return what metadata the transformer's methods take."""
        return self._inner().get_metadata_routing()

    def _inner(self) -> Any:
        return getattr(self, "transformer_", self.transformer)

    def __sklearn_tags__(self) -> Tags:
        tags, inner = super().__sklearn_tags__(), get_tags(self._inner())
        tags.input_tags, tags.target_tags = inner.input_tags, inner.target_tags
        tags.transformer_tags = inner.transformer_tags
        return tags


class StepMemory:
    """What ``Pipeline(memory=...)`` is given: steps remember what was computed before.

    Stateless steps at the beginning of the pipeline, which have ``stateless = True``, get
    :class:`Cached` around them: they know each sample again. Any other step whose data and
    parameters are those of an earlier fit is not fitted again, whichever candidate, fold
    or run the earlier fit belonged to. :func:`take_cache` makes plain what was fitted.

    Parameters
    ----------
    store : Store
        Where fitted steps are kept, and rows of samples in the same folder.
    journal : ferpipe.caching.events.Journal
        Gets a line ``step_reused`` or ``step_computed`` for each fitted step, and what
        :class:`Cached` adds.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self.store = store
        self.journal = journal

    def cache(
        self, function: Callable[..., Any], ignore: Sequence[str] = ()
    ) -> Callable[..., Any]:
        """Return ``function`` with its results kept; a pipeline asks once for each fit.

        Parameters
        ----------
        function : callable
            Takes a transformer first, fits it, and returns the transformed data and the
            transformer. It has everything that its result depends on among its arguments.
        ignore : sequence of str, default=()
            Names of keyword arguments that its result does not depend on.
        """
        rows = RowStore(self.store.folder, size_limit=self.store.size_limit)
        # behind a step that learns, a sample is another one in each fold
        at_the_start = True

        def call(transformer: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal at_the_start
            put: Callable[[Any], Any] = partial(put_cache, store=rows, journal=self.journal)
            if at_the_start and is_stateless(transformer):
                return function(put(transformer), X, *args, **kwargs)
            put = put if at_the_start else _leave
            at_the_start = False

            def compute() -> Any:
                transformed, fitted = function(put(transformer), X, *args, **kwargs)
                return transformed, take_cache(fitted)

            relevant = {name: value for name, value in kwargs.items() if name not in ignore}
            transformed, fitted = self.store.get_or_compute(
                ("step", function.__qualname__, transformer, _digest(X), args, relevant),
                compute,
                on_access=lambda found: self.journal.add(
                    "step_reused" if found else "step_computed"
                ),
            )
            return transformed, put(fitted)

        return call


class KeptPipeline(Pipeline):
    """A pipeline that remembers the fit of its last step too.

    ``Pipeline(memory=...)`` remembers the steps before the last. A search that was killed
    then finds them again, but would fit the last step of each candidate once more.

    Parameters
    ----------
    steps, transform_input
        As for Pipeline.
    memory : StepMemory
        Its journal gets a line ``fit_reused`` or ``fit_computed`` for each fit.
    verbose
        As for Pipeline.
    """

    steps: list[tuple[str, Any]]

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit the steps that the memory does not have.

        Parameters
        ----------
        X, y, **params
            As for Pipeline.

        Returns
        -------
        self : KeptPipeline
        """
        name, last = self.steps[-1]
        if last in (None, "passthrough") or is_stateless(last):
            return super().fit(X, y, **params)
        kept = _KeptFit(last, self.memory)
        self.steps = [*self.steps[:-1], (name, kept)]
        try:
            return super().fit(X, y, **params)
        finally:
            self.steps[-1] = (name, kept.estimator)


class _KeptFit(BaseEstimator):
    """Stands in for the last step while its pipeline is fitted."""

    def __init__(self, estimator: Any, memory: StepMemory) -> None:
        self.estimator = estimator
        self.memory = memory

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        self.estimator = self.memory.store.get_or_compute(
            ("fit", self.estimator, _digest(X), y, params),
            lambda: self.estimator.fit(X, y, **params),
            on_access=lambda found: self.memory.journal.add(
                "fit_reused" if found else "fit_computed"
            ),
        )
        return self

    def get_metadata_routing(self) -> Any:
        return self.estimator.get_metadata_routing()


def put_cache(
    estimator: Any, *, store: RowStore | None = None, journal: Journal | None = None
) -> Any:
    """Put :class:`Cached` around the stateless steps with which an estimator begins.

    Parameters
    ----------
    estimator : estimator
        Fitted or not. Pipelines and FeatureUnions are changed in place.
    store, journal
        As for :class:`Cached`.

    Returns
    -------
    estimator : estimator
    """
    if is_stateless(estimator):
        cached = Cached(estimator, store=store, journal=journal)
        cached.transformer_ = estimator
        return cached
    put = partial(put_cache, store=store, journal=journal)
    if isinstance(estimator, FeatureUnion):
        estimator.transformer_list = [
            (name, put(part)) for name, part in estimator.transformer_list
        ]
    elif isinstance(estimator, Pipeline):
        steps = list(estimator.steps)
        for place, (name, step) in enumerate(steps):
            steps[place] = (name, put(step))
            if not (step in (None, "passthrough") or is_stateless(step)):
                break
        estimator.steps = steps
    return estimator


def take_cache(estimator: Any) -> Any:
    """Take away what :func:`put_cache` put there; the parameter and result are as its."""
    if isinstance(estimator, Cached):
        return estimator.transformer_
    if isinstance(estimator, FeatureUnion):
        estimator.transformer_list = [
            (name, take_cache(part)) for name, part in estimator.transformer_list
        ]
    elif isinstance(estimator, Pipeline):
        estimator.steps = [(name, take_cache(step)) for name, step in estimator.steps]
    return estimator


def without_cache(model: Any) -> Any:
    """Return a fitted model in which every :class:`Cached` is replaced by what it wraps.

    Parameters
    ----------
    model : estimator
        It stays as it is.

    Returns
    -------
    model : estimator
        It predicts the same, and keeps nothing on disk. Parts without ``Cached`` are those
        of the model, not copies; the model itself if there is none in it.
    """
    return _without_cache(model, {})


def _without_cache(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)][1]
    known[id(value)] = value, value  # what holds itself ends here
    new = value
    if isinstance(value, Cached):
        new = _without_cache(_uncovered(value), known)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        items = [_without_cache(item, known) for item in value.flat]
        if _differ(items, value.flat):
            new = np.empty_like(value)
            new.reshape(-1)[:] = items
    elif isinstance(value, list | tuple):
        items = [_without_cache(item, known) for item in value]
        if _differ(items, value):
            new = value._make(items) if hasattr(value, "_make") else type(value)(items)
    elif isinstance(value, dict):
        items = [_without_cache(item, known) for item in value.values()]
        if _differ(items, value.values()):
            new = copy(value)
            new.update(zip(value, items, strict=True))
    elif _holds_estimators(value):
        state = vars(value)
        items = [_without_cache(item, known) for item in state.values()]
        if _differ(items, state.values()):
            new = object.__new__(type(value))
            vars(new).update(zip(state, items, strict=True))
    known[id(value)] = value, new
    return new


def _uncovered(cached: Cached) -> Any:
    """Return what a Cached wraps, with what Cached was told to give (``set_output``)."""
    inner = cached._inner()
    wanted = getattr(cached, OUTPUT_CONFIG, {})
    if wanted == getattr(inner, OUTPUT_CONFIG, {}):
        return inner
    new = object.__new__(type(inner))
    vars(new).update({**vars(inner), OUTPUT_CONFIG: wanted})
    return new


def _holds_estimators(value: Any) -> bool:
    """Tell whether an object is an estimator, or what scikit-learn keeps some in."""
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return False
    package = type(value).__module__.partition(".")[0]
    return isinstance(value, BaseEstimator) or package in ("ferpipe", "sklearn")


def _differ(items: Iterable[Any], others: Iterable[Any]) -> bool:
    return any(item is not other for item, other in zip(items, others, strict=True))


def _leave(estimator: Any) -> Any:
    return estimator


def _plain_transform(transformer: Any, X: Any) -> Any:
    with sklearn.config_context(transform_output="default"):
        transformed = transformer.transform(X)
    if isinstance(transformed, list):
        return transformed
    transformed = np.asarray(transformed)
    if transformed.dtype.hasobject:
        raise TypeError(
            "Cached can remember arrays of numbers only, but "
            f"{type(transformer).__name__} gives something else: use it without Cached."
        )
    return transformed


def _identity(value: Any) -> Any:
    """Return what an estimator's output depends on: its class, parameters and state."""
    if isinstance(value, BaseEstimator):
        state = {
            name: _identity(item)
            for name, item in sorted(value.__getstate__().items())
            if name not in _WITHOUT_EFFECT
        }
        return type(value).__module__, type(value).__qualname__, state
    if isinstance(value, list | tuple):
        return [_identity(item) for item in value]
    return value


def _keys(X: Any, identity: bytes) -> list[bytes]:
    """Hash each sample; there are no keys of what does not hold numbers."""
    if not isinstance(X, list | tuple | np.ndarray):
        return []
    try:
        return [_key(sample, identity) for sample in X]
    except TypeError:
        return []


def _digest(X: Any) -> Any:
    """Hash data quickly; what does not hold numbers is left to others."""
    try:
        return _key(X)
    except TypeError:
        return X


def _key(sample: Any, identity: bytes = b"") -> bytes:
    digest = blake2b(digest_size=16, key=identity)
    _feed(digest, sample)
    return digest.digest()


def _feed(digest: blake2b, sample: Any) -> None:
    if isinstance(sample, list | tuple):
        digest.update(f"{len(sample)} of ".encode())
        for item in sample:
            _feed(digest, item)
    elif isinstance(sample, np.ndarray) and sample.dtype.kind in "fiub":
        digest.update(f"{sample.dtype.str}{sample.shape}".encode())
        digest.update(_content(sample))
    else:
        raise TypeError(f"{type(sample).__name__} holds no numbers")


def _content(array: NDArray[Any]) -> bytes:
    """Hash an array's bytes, once for one that cannot be written to."""
    if array.flags.writeable:
        return _hash(array)
    place = id(array)
    known, found = _REMEMBERED.get(place, (None, b""))
    if known is None or known() is not array:
        found = _hash(array)
        forget = weakref.ref(array, lambda _: _REMEMBERED.pop(place, None))
        _REMEMBERED[place] = forget, found
    return found


def _hash(array: NDArray[Any]) -> bytes:
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return blake2b(flat.data, digest_size=16).digest()


def _take(X: Any, places: list[int]) -> Any:
    return X[places] if isinstance(X, np.ndarray) else [X[place] for place in places]
