"""Ensembles of regression trees as plain arrays, all evaluated together."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeRegressor

__all__ = ["TreeArrays", "flatten_trees", "can_flatten"]

_MOST_LEVELS = 8


def can_flatten(regressor: Any) -> bool:
    """Return whether a fitted regressor can be written as complete trees.

    Parameters
    ----------
    regressor : estimator
        Fitted; a tree, forest or gradient boosting of scikit-learn whose trees have at
        most 8 levels.
    """
    return bool(_trees_of(regressor)) and all(
        tree.max_depth <= _MOST_LEVELS for tree in _trees_of(regressor)
    )


def _trees_of(regressor: Any) -> list[Any]:
    if isinstance(regressor, DecisionTreeRegressor):
        return [regressor.tree_]
    if isinstance(regressor, RandomForestRegressor | ExtraTreesRegressor):
        return [one.tree_ for one in regressor.estimators_]
    # boosting may start from any regressor; only a constant can be added to the leaves
    if isinstance(regressor, GradientBoostingRegressor) and isinstance(
        regressor.init_, DummyRegressor
    ):
        return [one.tree_ for one in regressor.estimators_.ravel()]
    return []


def flatten_trees(
    regressor: Any, n_features: int, n_levels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write a fitted ensemble as complete binary trees.

    Parameters
    ----------
    regressor : estimator
        A regressor that :func:`can_flatten` accepts.
    n_features : int
        Number of features that it was fitted on.
    n_levels : int
        Levels of splits of each tree; nodes below a leaf always lead to the left.

    Returns
    -------
    columns : ndarray of shape (n_trees, 2 ** n_levels - 1), uint8
        Feature that each inner node compares. The children of node i are the nodes
        2 i + 1 and 2 i + 2.
    thresholds : ndarray of the same shape, float32
        Larger values lead to the second child.
    leaves : ndarray of shape (n_trees, 2 ** n_levels), float32
        Term of each leaf in the prediction.
    """
    trees = _trees_of(regressor)
    n_inner = 2**n_levels - 1
    columns = np.zeros((len(trees), n_inner), np.uint8)
    thresholds = np.full((len(trees), n_inner), np.inf, np.float32)
    leaves = np.empty((len(trees), n_inner + 1), np.float32)
    for number, tree in enumerate(trees):
        nodes = np.zeros(1, np.intp)
        for level in range(n_levels):
            first = 2**level - 1
            splits = tree.children_left[nodes] >= 0
            here = slice(first, 2 * first + 1)
            columns[number, here] = np.where(splits, tree.feature[nodes], 0)
            # rounded down: scikit-learn compares float32 values with float64 thresholds
            exact = tree.threshold[nodes]
            rounded = exact.astype(np.float32)
            below = np.nextafter(rounded, np.float32(-np.inf))
            rounded = np.where(rounded > exact, below, rounded)
            thresholds[number, here] = np.where(splits, rounded, np.inf)
            left = np.where(splits, tree.children_left[nodes], nodes)
            right = np.where(splits, tree.children_right[nodes], nodes)
            nodes = np.stack([left, right], axis=1).ravel()
        leaves[number] = tree.value[nodes, 0, 0]
    if isinstance(regressor, GradientBoostingRegressor):
        leaves *= regressor.learning_rate
        start = regressor.init_.predict(np.zeros((1, n_features)))[0]
        leaves += start / len(trees)
    else:
        leaves /= len(trees)
    return columns, thresholds, leaves


class TreeArrays:
    """Complete trees of many regressors, evaluated together.

    Parameters
    ----------
    columns : ndarray of shape (n_regressors, n_trees, 2 ** n_levels - 1), uint8
    thresholds : ndarray of the same shape, float32
    leaves : ndarray of shape (n_regressors, n_trees, 2 ** n_levels), float32
        As :func:`flatten_trees` returns them for each.
    """

    def __init__(
        self, columns: np.ndarray, thresholds: np.ndarray, leaves: np.ndarray
    ) -> None:
        self.columns, self.thresholds, self.leaves = columns, thresholds, leaves

    @classmethod
    def of(cls, regressors: Sequence[Any], n_features: int) -> Self:
        """Flatten regressors.

        Parameters
        ----------
        regressors : list of estimator
            Each one that :func:`can_flatten` accepts, with as many trees as the others.
        n_features : int
            Number of features that each was fitted on.
        """
        depths = [tree.max_depth for one in regressors for tree in _trees_of(one)]
        n_levels = max(1, *depths)
        parts = [flatten_trees(one, n_features, n_levels) for one in regressors]
        return cls(*(np.stack(part) for part in zip(*parts, strict=True)))

    def take(self, indices: np.ndarray) -> "TreeArrays":
        """Return the trees of the regressors with these indices, which may repeat."""
        return TreeArrays(
            self.columns[indices], self.thresholds[indices], self.leaves[indices]
        )

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Predict with every regressor from its own rows.

        Parameters
        ----------
        X : ndarray of shape (n_regressors, n_rows, n_columns), float32
            Rows for each regressor.

        Returns
        -------
        values : ndarray of shape (n_regressors, n_rows), float32
        """
        n_regressors, n_rows, n_columns = X.shape
        n_trees, n_inner = self.columns.shape[1:]
        first_node, first_leaf, columns, thresholds, leaves = self._flat
        rows = np.arange(n_regressors * n_rows, dtype=np.intp) * n_columns
        rows = rows.reshape(n_regressors, n_rows, 1)
        values = np.ascontiguousarray(X).ravel()
        node = np.zeros((n_regressors, n_rows, n_trees), np.intp)
        for _ in range((n_inner + 1).bit_length() - 1):
            where = node + first_node
            right = values.take(columns.take(where) + rows) > thresholds.take(where)
            node += node
            node += right
            node += 1
        return leaves.take(node + (first_leaf - n_inner)).sum(-1)

    @cached_property
    def _flat(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The flattened arrays, and the index at which each tree begins."""
        n_regressors, n_trees, n_inner = self.columns.shape
        tree = np.arange(n_regressors * n_trees, dtype=np.intp)
        tree = tree.reshape(n_regressors, 1, n_trees)
        return (
            tree * n_inner,
            tree * (n_inner + 1),
            self.columns.astype(np.intp).ravel(),
            self.thresholds.ravel(),
            self.leaves.ravel(),
        )
