"""What an experiment found out: the record that statistics and reports are made from."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Fold", "Results"]


@dataclass(frozen=True)
class Fold:
    """One outer fold: what was chosen inside it and how it did on the part held out.

    Attributes
    ----------
    split : {"subject_independent", "data_set_independent", "stratified", "official"}
        Kind of split that the fold belongs to.
    number : int
        0-based number within its split.
    test : ndarray of shape (n_test,)
        Indices of the samples held out.
    predicted : ndarray of shape (n_test,)
        Predicted labels of those samples.
    scores : dict of str to float
        Scorer name to score on the part held out.
    best_params : dict
        Parameters chosen by the search inside the training part (the primary result's
        folds), or by the search over all the data (the other split's).
    step_predictions : dict of str to ndarray of shape (n_test,)
        For each step before the last that is itself a classifier (a network that
        encodes): its own predictions, so that both can be reported.
    n_train : int
        Number of training samples.
    seconds : float
        Wall time of the search and the refit.
    probabilities : ndarray of shape (n_test, n_classes) or None
        Those of the samples, in the order of the run's classes; None if the model gives
        none.
    temperature : float
        By which the model divides its scores; 1 where it does not.
    seed : int
        Seed of the folds and of every random state that was left unset.
    """

    split: str
    number: int
    test: np.ndarray
    predicted: np.ndarray
    scores: dict[str, float]
    best_params: dict[str, Any]
    step_predictions: dict[str, np.ndarray]
    n_train: int
    seconds: float
    probabilities: np.ndarray | None = None
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Results:
    """Everything that a run found out; reports are made from this alone.

    Attributes
    ----------
    name : str
        Name of the experiment.
    data : dict
        ``loader`` (str), ``parameters`` (dict), ``description`` (str), ``synthetic``
        (bool), ``kind`` ("images" or "sequences"), ``frame_shape`` (tuple),
        ``lengths`` ((shortest, longest) sequence or None).
    target : ndarray of shape (n,)
        True labels (str).
    groups : ndarray of shape (n,) or None
        Subject of each sample.
    classes : tuple of str
        Class names in the model's order (sorted).
    primary : str
        "subject_independent", "sequence_independent", "data_set_independent",
        "stratified" or "official".
        The split whose figures stand first: a protocol's own if one is named, by subject
        when the data has groups.
    folds : tuple of Fold
        Outer folds of every split; those of the primary result under every seed, the others
        under the first.
    scoring : tuple of str
        Names of the scorers.
    refit : str
        The scorer that the searches maximize.
    best_params : dict
        Parameters chosen by the search over all the data; the saved model has them.
    cv_results : dict
        ``GridSearchCV.cv_results_`` of the search over all the data.
    model : estimator
        Fitted on all the data with ``best_params``.
    history : dict of str to list of dict
        Step name to one dict an epoch (``train_loss``, ``valid_loss``,
        ``valid_accuracy``, …) for the networks in ``model``.
    learning_curve : dict or None
        ``n_train`` (list of int), ``train`` and ``test`` (lists of lists of float, one
        inner list a size): scores over the number of training samples, for pipelines
        without a network.
    settings : dict
        The resolved YAML mapping.
    fits : dict of str to int
        ``candidates``, ``total`` (fits asked for), ``steps_computed`` and
        ``steps_reused`` (step fits done, and taken from the store), ``rows_computed`` and
        ``rows_reused`` (samples that stateless steps described, and took from the store).
    seconds : float
        Wall time of the run.
    command : str
        A command that repeats the run.
    versions : dict of str to str
        Package versions.
    protocol : str or None
        What the named protocol's score measures.
    leak : str or None
        What stands on both sides of the folds, where the file allows that.
    beside : dict of str to ndarray of shape (n,), bool
        Parts of the tested samples whose score stands beside the primary result.
    search : str or None
        What each search tried; None if nothing was searched.
    notes : tuple of str
        What a reader of the score must know besides: tested images that trained networks
        in the pipeline know, near-identical images on both sides.
    sequences : ndarray of shape (n,) or None
        Sequence of each sample, where these are kept together and subjects are unknown.
    """

    name: str
    data: dict[str, Any]
    target: np.ndarray
    groups: np.ndarray | None
    classes: tuple[str, ...]
    primary: str
    folds: tuple[Fold, ...]
    scoring: tuple[str, ...]
    refit: str
    best_params: dict[str, Any]
    cv_results: dict[str, Any]
    model: Any
    settings: dict[str, Any]
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    learning_curve: dict[str, Any] | None = None
    fits: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    protocol: str | None = None
    leak: str | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict)
    search: str | None = None
    notes: tuple[str, ...] = ()
    sequences: np.ndarray | None = None
