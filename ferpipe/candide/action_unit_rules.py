"""ActionUnitRules: expressions from action units by a table, without training."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ferpipe._compat import fit_context
from ferpipe.candide.calibrated import load_calibrated

__all__ = ["RULES", "ActionUnitRules"]

# An expression is present if one of its combinations of action units is: P. Lucey et al.,
# "The Extended Cohn-Kanade Dataset (CK+)", CVPR Workshops 2010, table 1, without the
# table's conditions on intensity.
RULES = {
    "anger": (("AU23", "AU24"),),
    "contempt": (("AU14_left",), ("AU14_right",)),
    "disgust": (("AU09",), ("AU10",)),
    "fear": (("AU01", "AU02", "AU04"), ("AU01", "AU02", "AU05")),
    "happiness": (("AU12",),),
    "sadness": (("AU01", "AU04", "AU15"), ("AU11",), ("AU06", "AU15")),
    "surprise": (("AU01", "AU02"), ("AU05",)),
}


class ActionUnitRules(ClassifierMixin, BaseEstimator):
    """Classify expressions by the table of action units that defines them.

    ``fit`` trains nothing; it stores the names of the classes. The score of an action unit
    is its distance above its mean, in standard deviations of the wireframe's prior. A
    combination scores the mean of its units, an expression the best of its combinations.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The expressions in ``y``; ``predict`` returns only these.
    n_features_in_ : int
        Number of columns: 65 or 79.

    See Also
    --------
    CandideFitter : Gives the action units.

    Notes
    -----
    Where the table names no side, the units of both sides of the face are averaged (left
    and right are the subject's). Images hardly distinguish AU23 from AU24, so the rule
    for anger needs both.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import ActionUnitRules
    >>> classes = ["anger", "happiness", "surprise"]
    >>> rules = ActionUnitRules().fit(np.zeros((3, 65)), classes)
    >>> rules.decision_function(np.zeros((1, 65))).shape
    (1, 3)
    """

    _parameter_constraints: dict = {}

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any) -> Self:
        """Store the classes.

        Parameters
        ----------
        X : ndarray of shape (n, 65) or (n, 79)
            Animation units, or shape and animation units, as CandideFitter gives them.
        y : array-like of shape (n,)
            Expressions, by canonical names.

        Returns
        -------
        self : ActionUnitRules

        Raises
        ------
        ValueError
            If a class has no rule, or X has another number of columns.
        """
        X, y = validate_data(self, X, y)
        self._actions_of(X)
        self.classes_ = np.unique(y)
        without = sorted(set(self.classes_.tolist()) - set(RULES))
        if without:
            raise ValueError(
                f"There is no rule for {', '.join(map(str, without))}; there are rules for "
                f"{', '.join(RULES)}. Leave such samples out."
            )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the score of each expression.

        Parameters
        ----------
        X : ndarray of shape (n, 65) or (n, 79)
            As in fit.

        Returns
        -------
        scores : ndarray of shape (n, n_classes), or (n,) for two classes
            In standard deviations; for two classes, the score of the second minus that of
            the first.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """Return the expression with the highest score.

        Parameters
        ----------
        X : ndarray of shape (n, 65) or (n, 79)
            As in fit.

        Returns
        -------
        labels : ndarray of shape (n,)
            Names of expressions.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return self.classes_[self._scores(X).argmax(1)]

    def _scores(self, X: np.ndarray) -> np.ndarray:
        actions = self._actions_of(X)
        return np.stack(
            [
                np.max(
                    [np.mean([actions[unit] for unit in units], axis=0) for units in rule],
                    axis=0,
                )
                for rule in (RULES[name] for name in self.classes_)
            ],
            axis=1,
        )

    def _actions_of(self, X: np.ndarray) -> dict[str, np.ndarray]:
        """Return standardized action units by name; without a side, the mean of both."""
        model, prior = load_calibrated()
        n_shape, n_animation = len(model.shape_names), len(model.animation_names)
        if X.shape[1] not in (n_animation, n_shape + n_animation):
            raise ValueError(
                f"X must have {n_animation} columns (animation units) or "
                f"{n_shape + n_animation} (shape units before them), got {X.shape[1]}: use "
                "CandideFitter(output='actions') or 'units', and PoolFrames for sequences."
            )
        spread = np.sqrt(np.diag(prior.covariance)[n_shape:])
        standard = (X[:, -n_animation:] - prior.mean[n_shape:]) / spread
        actions = dict(zip(model.animation_names, standard.T, strict=True))
        for name in model.animation_names:
            unit, _, side = name.partition("_")
            if side == "left":
                actions[unit] = (actions[name] + actions[f"{unit}_right"]) / 2
        return actions
