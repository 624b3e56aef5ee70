"""What compiled code would follow out of memory, checked before it gets there.

Trees, support vectors and neighbors are read by compiled code that trusts its own fit: a
child that lies before its parent is an endless loop, a column that is not there a place in
foreign memory. :data:`FILL` puts a state from a file into compiled objects,
:func:`check_learned` compares what estimators have learned with what compiled code takes
for granted.
"""

from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse

from ferpipe._compat import histogram_boosting_types

__all__ = ["FILL", "Broken", "check_learned", "check_random", "full_name"]


class Broken(ValueError):
    """A state that compiled code cannot take."""


def full_name(kind: Any) -> str:
    """Return ``module.name`` of a class."""
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"


def _need(fulfilled: Any, what: str) -> None:
    if not fulfilled:
        raise Broken(f"{what} in it is broken.")


# Compiled objects, filled once


def _fill_tree(tree: Any, state: Any) -> None:
    what = "a decision tree"
    _need(isinstance(state, dict), what)
    nodes, values = state.get("nodes"), state.get("values")
    _need(isinstance(nodes, np.ndarray) and isinstance(values, np.ndarray), what)
    _need(nodes.ndim == 1 and len(nodes) >= 1 and tree.n_outputs >= 1, what)
    _need(state.get("node_count") == len(nodes), what)
    try:
        tree.__setstate__(state)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise Broken(f"{what} in it is broken.") from error
    children = np.stack([tree.children_left, tree.children_right])
    inner = children[0] != -1
    _need((children[:, ~inner] == -1).all(), what)
    # each child behind its parent: there is an end
    _need((children[:, inner] > np.flatnonzero(inner)).all(), what)
    _need((children < len(nodes)).all(), what)
    columns = tree.feature[inner]
    _need(((columns >= 0) & (columns < tree.n_features)).all(), what)


def _fill_search_tree(tree: Any, state: Any) -> None:
    """Build the tree anew from its data; its nodes are not read."""
    what = "a search tree"
    _need(isinstance(state, tuple) and len(state) == 13, what)
    data, leaf_size, metric, weights = state[0], state[4], state[11], state[12]
    _need(_is_array(data, 2, "f") and data.size and np.isfinite(data).all(), what)
    _need(isinstance(leaf_size, int) and 1 <= leaf_size < 2**31, what)
    _need(full_name(type(metric)) in _METRICS, what)
    if weights is not None:
        _need(_is_array(weights, 1, "f", (len(data),)), what)
    try:
        again = type(tree)(data, leaf_size, metric=metric, sample_weight=weights)
    except (ValueError, TypeError) as error:
        raise Broken(f"{what} in it is broken.") from error
    tree.__setstate__(again.__getstate__())


def _fill_metric(metric: Any, state: Any) -> None:
    what = "a metric"
    _need(isinstance(state, tuple) and len(state) >= 3, what)
    power, weights, matrix = state[:3]
    _need(isinstance(power, float) and power > 0, what)
    _need(_is_array(weights, 1, "f") and _is_array(matrix, 2, "f"), what)
    metric.__setstate__((power, weights, matrix))


_METRICS = {
    f"sklearn.metrics._dist_metrics.{name}Distance64"
    for name in (
        *("BrayCurtis", "Canberra", "Chebyshev", "Euclidean", "Hamming", "Manhattan"),
        *("Minkowski", "SEuclidean"),
    )
}
FILL = {
    "sklearn.neighbors._ball_tree.BallTree": _fill_search_tree,
    "sklearn.neighbors._ball_tree.BallTree64": _fill_search_tree,
    "sklearn.neighbors._kd_tree.KDTree": _fill_search_tree,
    "sklearn.neighbors._kd_tree.KDTree64": _fill_search_tree,
    "sklearn.tree._tree.Tree": _fill_tree,
    **dict.fromkeys(_METRICS, _fill_metric),
}


def check_random(source: Any) -> None:
    """Refuse a source of random numbers that would read beyond its own.

    Parameters
    ----------
    source : RandomState, Generator or BitGenerator
        That has got its state.

    Raises
    ------
    Broken
        If it would.
    """
    if isinstance(source, np.random.RandomState):
        state: Any = source.get_state(legacy=False)
    elif isinstance(source, np.random.BitGenerator):
        state = source.state
    else:
        return
    place = state["state"].get("pos", 0)
    _need(0 <= place <= 624, "a source of random numbers")


# What estimators have learned


def check_learned(made: Any) -> None:
    """Refuse what an estimator has learned, if compiled code would go astray in it.

    Parameters
    ----------
    made : object
        An instance of an admitted class, complete.

    Raises
    ------
    Broken
        If it would.
    """
    if sparse.issparse(made):
        _check_sparse(made)
        return
    check = _CHECKS.get(full_name(type(made)))
    if check is None:
        return
    try:
        check(made, f"the {type(made).__name__}")
    except (AttributeError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise Broken(
            f"the {type(made).__name__} in it is broken: {error!r:.80}."
        ) from error


def _is_array(
    value: Any, n_dimensions: int, kinds: str, shape: tuple[int, ...] | None = None
) -> bool:
    return (
        type(value) is np.ndarray
        and value.ndim == n_dimensions
        and value.dtype.kind in kinds
        and (shape is None or value.shape == shape)
    )


def _width(made: Any, what: str) -> int:
    width = made.n_features_in_
    _need(isinstance(width, Integral) and not isinstance(width, bool), what)
    return width


def _check_sparse(matrix: Any) -> None:
    state = vars(matrix)
    arrays = [state.get(name) for name in ("data", "indices", "indptr")]
    shape = state.get("_shape")
    _need(all(isinstance(one, np.ndarray) for one in arrays), "a sparse matrix")
    _need(
        type(shape) is tuple and len(shape) == 2 and all(type(n) is int for n in shape),
        "a sparse matrix",
    )
    _need(all(one.ndim == 1 for one in arrays), "a sparse matrix")
    _need(all(one.dtype in (np.int32, np.int64) for one in arrays[1:]), "a sparse matrix")
    _need(arrays[0].dtype.kind in "fiub", "a sparse matrix")
    try:
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise Broken("a sparse matrix in it is broken.") from error


def _is_tree(one: Any, width: int) -> bool:
    tree = vars(one).get("tree_")
    if tree is None:
        return False
    return tree.n_features == width and full_name(type(tree)) == "sklearn.tree._tree.Tree"


def _check_tree_of(made: Any, what: str) -> None:
    if "tree_" in vars(made):
        _need(_is_tree(made, _width(made, what)), what)


def _check_boosting(made: Any, what: str) -> None:
    if "estimators_" not in vars(made):
        return
    from sklearn.tree import DecisionTreeRegressor

    width = _width(made, what)
    trees = made.estimators_
    _need(_is_array(trees, 2, "O") and trees.size, what)
    for one in trees.ravel():
        _need(type(one) is DecisionTreeRegressor and _is_tree(one, width), what)
        _need(one.tree_.n_outputs == 1 and one.tree_.max_n_classes == 1, what)
    start = made.init_
    constant = full_name(type(start)) in (
        "sklearn.dummy.DummyClassifier",
        "sklearn.dummy.DummyRegressor",
    )
    if not (constant or (isinstance(start, str) and start == "zero")):
        raise Broken(
            f"{what} in it begins with {type(start).__name__}; init=None or 'zero' is read."
        )
    try:
        begun = made._raw_predict_init(np.zeros((1, width), np.float32))
    except Exception as error:  # of numpy, on whatever the state holds
        raise Broken(f"{what} in it is broken: {error!r:.80}.") from error
    _need(_is_array(begun, 2, "f", (1, trees.shape[1])), what)
    _need(made.n_trees_per_iteration_ == trees.shape[1], what)


def _check_histogram_boosting(made: Any, what: str) -> None:
    if "_predictors" not in vars(made):
        return
    record_type, tree_class = histogram_boosting_types()
    width = _width(made, what)
    if vars(made).get("_preprocessor") is not None:
        raise Broken(f"{what} in it has categorical features, which are not read.")
    _need(isinstance(made._predictors, list), what)
    for one in [one for row in made._predictors for one in row]:
        _need(type(one) is tree_class, what)
        nodes = one.nodes
        _need(type(nodes) is np.ndarray and nodes.ndim == 1 and len(nodes), what)
        _need(nodes.dtype == record_type, what)
        inner = np.flatnonzero(nodes["is_leaf"] == 0)
        _need(not nodes["is_categorical"].any(), what)
        for child in (nodes["left"][inner], nodes["right"][inner]):
            # each child behind its parent: there is an end
            _need(((child > inner) & (child < len(nodes))).all(), what)
        columns = nodes["feature_idx"][inner]
        _need(((columns >= 0) & (columns < width)).all(), what)


def _check_support_vectors(made: Any, what: str) -> None:
    if "support_" not in vars(made) and "support_vectors_" not in vars(made):
        return
    width = _width(made, what)
    if made._sparse:
        raise Broken(f"{what} in it was fitted on sparse data, which is not read.")
    _need(isinstance(made.kernel, str), what)
    _need(_is_array(made.classes_, 1, "OSUifub"), what)
    n_classes, n_vectors = len(made.classes_), len(made.support_)
    n_pairs = n_classes * (n_classes - 1) // 2
    _need(n_classes >= 2, what)
    _need(_is_array(made.support_, 1, "i"), what)
    _need(_is_array(made._n_support, 1, "i", (n_classes,)), what)
    _need((made._n_support >= 0).all() and made._n_support.sum() == n_vectors, what)
    for coefficients in (made.dual_coef_, made._dual_coef_):
        _need(_is_array(coefficients, 2, "f", (n_classes - 1, n_vectors)), what)
    for intercept in (made.intercept_, made._intercept_):
        _need(_is_array(intercept, 1, "f", (n_pairs,)), what)
    for probability in (made._probA, made._probB):
        _need(_is_array(probability, 1, "f"), what)
        _need(len(probability) in (0, n_pairs), what)
    vectors = made.support_vectors_
    _need(_is_array(vectors, 2, "f"), what)
    n_seen = made.shape_fit_[0]
    if made.kernel == "precomputed":
        _need(vectors.size == 0 and width == n_seen, what)
        _need(((made.support_ >= 0) & (made.support_ < n_seen)).all(), what)
    else:
        _need(vectors.shape == (n_vectors, width), what)


def _check_neighbors(made: Any, what: str) -> None:
    if "_fit_X" not in vars(made):
        return
    width = _width(made, what)
    samples, target = made._fit_X, made._y
    _need(isinstance(made.metric, str) and isinstance(made.effective_metric_, str), what)
    _need(made.weights is None or isinstance(made.weights, str), what)
    for settings in (made.metric_params, made.effective_metric_params_):
        # among others are norms, which compiled code takes without a look at their number
        _need(settings is None or set(settings) <= {"p", "w", "V", "VI"}, what)
    if sparse.issparse(samples):
        _check_sparse(samples)
    else:
        _need(_is_array(samples, 2, "fiub"), what)
    n_samples, n_columns = samples.shape
    _need(n_columns == width and made.n_samples_fit_ == n_samples, what)
    _need(made.outputs_2d_ is False and _is_array(target, 1, "i", (n_samples,)), what)
    _need(_is_array(made.classes_, 1, "OSUifub"), what)
    _need(((target >= 0) & (target < len(made.classes_))).all(), what)
    n_neighbors = made.n_neighbors
    _need(isinstance(n_neighbors, Integral) and 1 <= int(n_neighbors) <= n_samples, what)
    tree = made._tree
    if tree is not None:
        _need(full_name(type(tree)).startswith("sklearn.neighbors."), what)
        _need(tree.data.shape == samples.shape, what)


_CHECKS = {
    "sklearn.ensemble._gb.GradientBoostingClassifier": _check_boosting,
    "sklearn.ensemble._gb.GradientBoostingRegressor": _check_boosting,
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting."
    "HistGradientBoostingClassifier": _check_histogram_boosting,
    "sklearn.neighbors._classification.KNeighborsClassifier": _check_neighbors,
    "sklearn.svm._classes.NuSVC": _check_support_vectors,
    "sklearn.svm._classes.SVC": _check_support_vectors,
    "sklearn.tree._classes.DecisionTreeClassifier": _check_tree_of,
    "sklearn.tree._classes.DecisionTreeRegressor": _check_tree_of,
    "sklearn.tree._classes.ExtraTreeClassifier": _check_tree_of,
    "sklearn.tree._classes.ExtraTreeRegressor": _check_tree_of,
}
