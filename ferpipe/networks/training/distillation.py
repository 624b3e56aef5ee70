"""What a teacher makes of the training samples: targets beside their labels."""

import warnings
from os import PathLike
from pathlib import Path

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

import ferpipe
from ferpipe.networks.weights import build_network, check_classes

__all__ = ["predict_trained", "at_best_temperature", "cross_fit", "is_trained"]

_AT_ONCE = 1024


def predict_trained(teacher, dataset, classes, kind):
    """Return what a trained network, or several in the mean, make of images.

    Parameters
    ----------
    teacher : str, path or list of them
        A network that ships, or a file of
        :func:`ferpipe.networks.pretrained.save_network`.
    dataset : FrameDataset
        Images.
    classes : ndarray of shape (n_classes,)
        Labels that it must know, in order.
    kind : type
        ImageNetwork.

    Returns
    -------
    soft : ndarray of shape (n, n_classes), float32
        Probabilities, averaged over the networks.

    Raises
    ------
    FileNotFoundError
        If there is no such network.
    ValueError
        If the list is empty or holds something else than names, or a network is for
        other classes, for images of another size, or asked for sequences.
    """
    names = teacher if isinstance(teacher, list | tuple) else [teacher]
    if not names:
        raise ValueError(
            "Distillation(teacher=[]) names no network: name one, or set "
            "Training(distillation=None)."
        )
    for name in names:
        if not isinstance(name, str | PathLike):
            raise ValueError(
                "Distillation(teacher=[…]) names trained networks, each by a string or a "
                f"path, got {name!r}. An estimator to be fitted is given without a list."
            )
    return np.mean([_predict_one(name, dataset, classes, kind) for name in names], axis=0)


def _predict_one(teacher, dataset, classes, kind):
    if dataset.sequences:
        raise ValueError(
            f"Distillation({str(teacher)!r}) is a network for single images and cannot "
            "teach a SequenceNetwork: name an estimator for sequences as the teacher, or "
            "start the backbone from weights=."
        )
    network = build_network(kind, teacher)
    check_classes(
        f"Distillation({str(teacher)!r})", network.classes_.tolist(), classes.tolist()
    )
    places = np.arange(len(dataset)) if dataset.places is None else dataset.places
    parts = np.array_split(places, max(1, len(places) // _AT_ONCE))
    return np.concatenate([network.predict_proba(dataset.X[part]) for part in parts])


def cross_fit(teacher, dataset, classes, *, groups, n_folds, seed, folder):
    """Return what an estimator makes of samples that it was not fitted on.

    The samples are divided by class; a copy of the estimator is fitted on all parts but
    one and asked about that one, for each part in turn.

    Parameters
    ----------
    teacher : estimator
        Classifier with ``predict_proba``; copies are fitted.
    dataset : FrameDataset
        Images or sequences.
    classes : ndarray of shape (n_classes,)
        Label of each class number.
    groups : ndarray of shape (n,) or None
        Subject of each sample: no subject is soft by a copy that has seen it.
    n_folds : int
        Number of parts.
    seed : int
        Of the division, and of a teacher that has none.
    folder : str, path or None
        Where the answers of each part are kept, so that a run that is killed does not begin
        again; None keeps none.

    Returns
    -------
    soft : ndarray of shape (n, n_classes), float32
        Probabilities; 0 for classes of which a copy saw no sample.
    kept : list of Path
        Files in ``folder``, to be removed when the training is over.

    Raises
    ------
    ValueError
        If there are fewer subjects, or samples of every class, than parts.
    """
    X, y = dataset.samples(), classes[dataset.y.numpy()]
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    try:
        folds = list(kind(n_folds, shuffle=True, random_state=seed).split(y, y, groups))
    except ValueError as error:
        raise ValueError(
            f"Distillation(folds={n_folds}) divides {len(y)} training samples and "
            f"cannot be met: {error} Lower it, or name a trained network as the teacher."
        ) from error
    if "random_state" in teacher.get_params() and teacher.random_state is None:
        teacher = clone(teacher).set_params(random_state=seed)
    key = joblib.hash((ferpipe.__version__, clone(teacher), X, y, groups, n_folds, seed))
    soft = np.zeros((len(y), len(classes)), np.float32)
    kept = []
    for number, (seen, unseen) in enumerate(folds):
        path = None if folder is None else Path(folder).expanduser() / f"{key}-{number}.npy"
        if path is None or not path.is_file():
            fitted = clone(teacher).fit(_chosen(X, seen), y[seen])
            answer = fitted.predict_proba(_chosen(X, unseen))
            columns = np.searchsorted(classes, fitted.classes_)
            soft[np.ix_(unseen, columns)] = answer
            if path is not None:
                _keep(path, soft[unseen])
        else:
            soft[unseen] = np.load(path, allow_pickle=False)
        kept.append(path)
    return soft, [path for path in kept if path is not None]


def at_best_temperature(soft, target):
    """Sharpen or soften probabilities until the labels are most likely.

    Teachers that were trained with smoothed labels and on changed images are less sure
    than they are right. Only for samples that the teacher was not fitted on.

    Parameters
    ----------
    soft : ndarray of shape (n, n_classes), float32
        Probabilities.
    target : ndarray of shape (n,), int
        Classes.

    Returns
    -------
    soft : ndarray of shape (n, n_classes), float32
    """
    import torch

    from ferpipe.networks.training.calibration import fit_temperature

    scores = torch.from_numpy(soft).clamp(min=1e-12).log()
    temperature = fit_temperature(scores[None], torch.from_numpy(target))
    return (scores / temperature).softmax(dim=1).numpy()


def is_trained(teacher):
    """Say whether a teacher is named: a trained network or several, none to be fitted."""
    return isinstance(teacher, str | PathLike | list | tuple)


def _chosen(X, places):
    return [X[place] for place in places] if isinstance(X, list) else X[places]


def _keep(path, answer):
    """Write an answer, or warn if there is no room for it."""
    from ferpipe.networks.training.checkpoint import replace_file

    try:
        replace_file(path, lambda file: np.save(file, answer))
    except OSError as error:
        warnings.warn(
            f"{path}: a teacher's answers could not be written ({error}). The training "
            "goes on; if it is killed, this teacher is fitted again.",
            stacklevel=2,
        )
