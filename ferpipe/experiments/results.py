"""The results of an experiment: the record from which reports are made."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

__all__ = ["Fold", "Results"]


@dataclass(frozen=True)
class Fold:
    """One outer fold: the chosen parameters, the predictions and scores on its test part.

    Attributes
    ----------
    split : {"subject_independent", "data_set_independent", "stratified", "official"}
        Split that the fold belongs to.
    number : int
        0-based number within its split.
    test : ndarray of shape (n_test,)
        Indices of the test samples.
    predicted : ndarray of shape (n_test,)
        Predicted labels of the test samples.
    scores : dict of str to float
        Scorer name to score on the test samples.
    best_params : dict
        Parameters chosen by the search inside the training part (folds of the primary
        result), or by the search over all the data (folds of the other splits).
    step_predictions : dict of str to ndarray of shape (n_test,)
        Predictions of each earlier step that is a classifier itself, such as a network
        that computes embeddings.
    n_train : int
        Number of training samples.
    seconds : float
        Wall time of the search and the refit.
    probabilities : ndarray of shape (n_test, n_classes) or None
        Predicted probabilities, in the order of the run's classes; None if the model has no
        ``predict_proba``.
    temperature : float
        Temperature by which the model divides its logits; 1 without one.
    seed : int
        Seed of the folds and of every random state that the experiment leaves unset.
    """

    split: str
    number: int
    test: NDArray
    predicted: NDArray
    scores: dict[str, float]
    best_params: dict[str, Any]
    step_predictions: dict[str, NDArray]
    n_train: int
    seconds: float
    probabilities: NDArray | None = None
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Results:
    """All results of a run; reports are made from this alone.

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
        Split of the primary result: "subject_independent", "sequence_independent",
        "data_set_independent", "stratified" or "official". A protocol names its own;
        otherwise it is subject-independent if the data has groups.
    folds : tuple of Fold
        Outer folds of every split: of the primary result under every seed, of the others
        under the first seed.
    scoring : tuple of str
        Names of the scorers.
    refit : str
        The scorer that the searches maximize.
    best_params : dict
        Parameters of the saved model, chosen by the search over all the data.
    cv_results : dict
        ``GridSearchCV.cv_results_`` of the search over all the data.
    model : estimator
        Fitted on all the data with ``best_params``.
    history : dict of str to list of dict
        Step name to one dict an epoch (``train_loss``, ``valid_loss``,
        ``valid_accuracy``, …) for the networks in ``model``.
    learning_curve : dict or None
        ``n_train`` (list of int), ``train`` and ``test`` (lists of lists of float, one
        inner list per size): scores over the number of training samples; None for pipelines
        that train a network.
    settings : dict
        The resolved YAML mapping.
    fits : dict of str to int
        ``candidates``, ``total`` (number of fits), ``steps_computed`` and
        ``steps_reused`` (steps fitted, and read from the store), ``rows_computed`` and
        ``rows_reused`` (samples that stateless steps transformed, and read from the
        store).
    seconds : float
        Wall time of the run.
    command : str
        A command that repeats the run.
    versions : dict of str to str
        Package versions.
    protocol : str or None
        The protocol in words: what its score measures; None without a protocol.
    leak : str or None
        A leak of the folds that the experiment allows, in words.
    beside : dict of str to ndarray of shape (n,), bool
        Parts of the test samples that are scored in addition to all of them.
    search : str or None
        The candidates of each search, in words; None without a search.
    notes : tuple of str
        Notes on the score: test images that a pretrained network was trained on,
        near-identical images in training and test part.
    sequences : ndarray of shape (n,) or None
        Sequence of each sample, if the folds keep sequences together because subjects are
        unknown.
    """

    name: str
    data: dict[str, Any]
    target: NDArray
    groups: NDArray | None
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
    beside: dict[str, NDArray] = field(default_factory=dict)
    search: str | None = None
    notes: tuple[str, ...] = ()
    sequences: NDArray | None = None
