"""A cache for features of samples, and one for fitted steps.

:class:`Cached` keeps the features of each sample, if they depend on this sample alone: any
fold, search or run that needs them finds them. :class:`StepMemory` keeps fitted steps,
which depend on many samples. :mod:`ferpipe.caching.store` holds both on disk.
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

# attributes that do not change the output
_WITHOUT_EFFECT = ("n_jobs", "verbose", OUTPUT_CONFIG)
# samples transformed between two reads of the store
_BLOCK = 64
# id of a read-only array -> weak reference to it, and the hash of its bytes
_REMEMBERED: dict = {}


class Cached(SampleMixin, BaseEstimator):
    """Keep the output of a transformer for each sample on disk.

    The key of a sample (an image, a sequence, a row) is its content. Another fold, search,
    process or program finds its output again as long as the transformer's class,
    parameters and learned attributes and the package are the same. Only new samples go
    through the transformer.

    Parameters
    ----------
    transformer : transformer
        It transforms each sample independently of the others. A transformer that learns
        from the data, such as a scaler, works, but its output is found again for the same
        fit only. Use Cached for stateless transformers, such as the extractors,
        FaceAligner and CandideFitter.
    store : RowStore, default=None
        Where the output is kept; None means ``$FERPIPE_CACHE`` or ``~/.cache/ferpipe``.
    journal : ferpipe.caching.events.Journal, default=None
        Counts the samples that were found (``row_reused``) and transformed
        (``row_computed``).

    Attributes
    ----------
    transformer_ : transformer
        The fitted clone.

    Notes
    -----
    Several processes may need the same samples at the same time. Each takes them in blocks
    in its own random order, and reads before each block which ones the others have
    transformed. Samples that are not arrays of numbers, such as names of files, are not
    kept. A change of code in a transformer outside ferpipe does not change the key.

    The grid program wraps stateless steps in it.

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
            Input of the transformer.
        y : array-like of shape (n,), default=None
            Target, as the transformer takes it.
        **fit_params : dict
            Other arguments of the transformer's fit.

        Returns
        -------
        self : Cached
        """
        self.transformer_ = clone(self.transformer).fit(X, y, **fit_params)
        return self

    def transform(self, X: Any) -> Any:
        """Transform new samples, and read the output of known ones.

        Parameters
        ----------
        X : array-like or list
            Input of the transformer.

        Returns
        -------
        transformed : ndarray or list of ndarray
            Output of the transformer.

        Raises
        ------
        ValueError, TypeError
            The errors of the transformer.
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
        # each sample once, even if it occurs twice
        places = {key: place for place, key in enumerate(keys)}
        # the key of no sample records whether the transformer returns a list
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
                transform(X)  # raises it too, with the index of the sample in X
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
    """The value of ``Pipeline(memory=...)``: steps reuse what was computed before.

    Stateless steps at the beginning of the pipeline are wrapped in :class:`Cached`. Any
    other step is not fitted again if its data and parameters are those of an earlier fit,
    of any candidate, fold or run. :func:`take_cache` removes the wrappers again.

    Parameters
    ----------
    store : Store
        Where fitted steps are kept; a RowStore in the same folder keeps rows of samples.
    journal : ferpipe.caching.events.Journal
        Counts ``step_reused`` and ``step_computed``, and what :class:`Cached` counts.
    """

    def __init__(self, store: Store, journal: Journal) -> None:
        self.store = store
        self.journal = journal

    def cache(
        self, function: Callable[..., Any], ignore: Sequence[str] = ()
    ) -> Callable[..., Any]:
        """Return ``function`` with a cache; a pipeline calls this once per fit.

        Parameters
        ----------
        function : callable
            It takes a transformer first, fits it, and returns the transformed data and the
            transformer. Its arguments include everything on which its result depends.
        ignore : sequence of str, default=()
            Names of keyword arguments on which its result does not depend.
        """
        rows = RowStore(self.store.folder, size_limit=self.store.size_limit)
        # behind a step that learns, samples differ from fold to fold
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
    """A pipeline that keeps the fit of its last step too.

    ``Pipeline(memory=...)`` keeps the steps before the last. A search that was killed finds
    these again, but would fit the last step of each candidate once more.

    Parameters
    ----------
    steps, transform_input
        As for Pipeline.
    memory : StepMemory
        Its journal counts ``fit_reused`` and ``fit_computed``.
    verbose
        As for Pipeline.
    """

    steps: list[tuple[str, Any]]

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit the steps that are not in the memory.

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
    """The last step of a pipeline while the pipeline is fitted."""

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
    """Wrap the stateless steps at the beginning of an estimator in :class:`Cached`.

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
    """Remove the wrappers of :func:`put_cache`; parameter and result are as there."""
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
    """Return a fitted model in which its transformer replaces every :class:`Cached`.

    Parameters
    ----------
    model : estimator
        It is not changed.

    Returns
    -------
    model : estimator
        It predicts the same and keeps nothing on disk. Parts without ``Cached`` are shared
        with the model; without any ``Cached`` it is the model itself.
    """
    return _without_cache(model, {})


def _without_cache(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)][1]
    known[id(value)] = value, value  # an object that contains itself ends here
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
    """Return the transformer of a Cached, with the ``set_output`` of Cached."""
    inner = cached._inner()
    wanted = getattr(cached, OUTPUT_CONFIG, {})
    if wanted == getattr(inner, OUTPUT_CONFIG, {}):
        return inner
    new = object.__new__(type(inner))
    vars(new).update({**vars(inner), OUTPUT_CONFIG: wanted})
    return new


def _holds_estimators(value: Any) -> bool:
    """Return whether an object is an estimator, or one of scikit-learn that holds some."""
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
            "Cached can keep arrays of numbers only, but "
            f"{type(transformer).__name__} returns something else: use it without Cached."
        )
    return transformed


def _identity(value: Any) -> Any:
    """Return what determines an estimator's output: class, parameters, state."""
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
    """Return a hash per sample; none if the samples do not hold numbers."""
    if not isinstance(X, list | tuple | np.ndarray):
        return []
    try:
        return [_key(sample, identity) for sample in X]
    except TypeError:
        return []


def _digest(X: Any) -> Any:
    """Return a quick hash of data; data that does not hold numbers is returned itself."""
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
    """Hash the bytes of an array; of a read-only array, once."""
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
