from typing import ClassVar

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV

from ferpipe import Augment, Distillation, ImageNetwork, SequenceNetwork, Training
from ferpipe.networks.pretrained import load_network, save_network
from ferpipe.networks.training import loop
from ferpipe.networks.training.batches import FrameDataset
from ferpipe.networks.training.distillation import (
    at_best_temperature,
    cross_fit,
    predict_trained,
)
from ferpipe.networks.training.settings import check_training


def features(n=60):
    """Sequences of two features whose mean tells the class."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = [
        rng.normal(scale=0.1, size=(length, 2)) + np.array([label, -label])
        for label, length in zip(y, rng.integers(1, 5, n), strict=True)
    ]
    return X, np.array(["anger", "fear"])[y]


def reader(distillation):
    """A network that reads such sequences."""
    settings = Training(max_epochs=20, lr=0.02, distillation=distillation)
    return SequenceNetwork(backbone=None, hidden_size=4, training=settings, random_state=0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A network that has learnt which images are bright, and images."""
    rng = np.random.default_rng(0)
    y = np.array(["anger", "fear"] * 24)
    X = rng.integers(0, 90, (48, 16, 16)).astype(np.uint8)
    X[y == "anger", 3:7] += 120
    settings = Training(max_epochs=6, batch_size=16, lr=0.003)
    fitted = ImageNetwork(training=settings, random_state=0).fit(X, y)
    assert fitted.score(X, y) == 1
    path = tmp_path_factory.mktemp("teacher") / "network.safetensors"
    return save_network(fitted, path), X, y


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_a_student_learns_from_its_teacher_where_labels_are_wrong(teacher, mixup):
    path, X, y = teacher
    lies = np.where(y == "anger", "fear", "anger")

    def score(weight):
        settings = {"max_epochs": 6, "batch_size": 16, "lr": 0.003}
        training = Training(distillation=Distillation(path, weight=weight), **settings)
        augment = Augment(mixup=mixup)
        network = ImageNetwork(training=training, augment=augment, random_state=0)
        return network.fit(X, lies).score(X, y)

    assert score(0.9) > 0.9
    assert score(0.1) < 0.1


def test_several_teachers_give_the_mean_of_their_probabilities(teacher, tmp_path):
    path, X, y = teacher
    settings = Training(max_epochs=1, batch_size=16)
    lies = np.where(y == "anger", "fear", "anger")
    other = ImageNetwork(training=settings, random_state=1).fit(X, lies)
    paths = [path, save_network(other, tmp_path / "other.safetensors")]
    dataset = FrameDataset(X, np.arange(48) % 2, places=np.arange(8, 48))
    soft = predict_trained(paths, dataset, np.unique(y), ImageNetwork)
    alone = [load_network(one).predict_proba(X[8:]) for one in paths]
    np.testing.assert_allclose(soft, (alone[0] + alone[1]) / 2, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    assert soft.dtype == np.float32
    students = [
        ImageNetwork(
            training=Training(max_epochs=1, distillation=Distillation(names)),
            random_state=0,
        )
        for names in (path, [path, path], paths)
    ]
    one, twice, two = (student.fit(X, y).predict_proba(X) for student in students)
    np.testing.assert_array_equal(one, twice)
    assert np.abs(one - two).max() > 1e-3


def test_teachers_that_do_not_fit(teacher, tmp_path):
    path, X, y = teacher

    def student(teacher):
        return ImageNetwork(training=Training(distillation=Distillation(teacher)))

    with pytest.raises(ValueError, match="names no network"):
        student([]).fit(X, y)
    with pytest.raises(ValueError, match=r"got DummyClassifier\(\)\. An estimator"):
        student([path, DummyClassifier()]).fit(X, y)
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        student([path, tmp_path / "none"]).fit(X, y)
    with pytest.raises(ValueError, match=r"the classes \['anger', 'fear'\]; y has"):
        student(path).fit(X, np.where(y == "fear", "joy", y))
    with pytest.raises(ValueError, match="16"):
        student(path).fit(np.tile(X, (1, 2, 2)), y)
    with pytest.raises(FileNotFoundError, match="no such file of weights"):
        student(tmp_path / "none").fit(X, y)
    with pytest.raises(ValueError, match="cannot teach a SequenceNetwork"):
        reader(Distillation(path)).fit(*features())
    with pytest.raises(ValueError, match="belongs to loss='cross_entropy'"):
        check_training(Training(distillation=Distillation(path)), loss="squared_hinge")


@pytest.mark.parametrize("groups", [None, np.arange(48) % 2])
def test_folds_that_cannot_be_met_are_named(teacher, groups):
    _, X, y = teacher
    settings = Training(distillation=Distillation(DummyClassifier(), folds=30))
    with pytest.raises(ValueError, match=r"folds=30\) divides 48 .* Lower it"):
        ImageNetwork(training=settings).fit(X, y, groups=groups)


class KnowsGroups(ClassifierMixin, BaseEstimator):
    """Say "fear" of images whose first pixel, their group, it was fitted on."""

    fits: ClassVar[list] = []

    def fit(self, X, y):
        self.fits.append(len(X))
        self.classes_ = np.unique(y)
        self.known_ = set(X[:, 0, 0])
        return self

    def predict_proba(self, X):
        known = np.isin(X[:, 0, 0], list(self.known_))
        return np.column_stack([~known, known]).astype(float)


def test_a_fitted_teacher_predicts_other_subjects_only(tmp_path):
    groups = np.arange(48) // 4
    X = np.full((48, 8, 8), groups[:, None, None], np.uint8)
    dataset = FrameDataset(X, np.arange(48) % 2, places=np.arange(4, 48))
    settings = {"groups": groups[4:], "n_folds": 4, "seed": 0, "folder": tmp_path}
    classes = np.array(["anger", "fear"])
    soft, kept = cross_fit(KnowsGroups(), dataset, classes, **settings)
    assert soft.tolist() == [[1.0, 0.0]] * 44
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert len(kept) == len(KnowsGroups.fits) == 4
    again, _ = cross_fit(KnowsGroups(), dataset, classes, **settings)
    assert np.array_equal(again, soft)
    assert len(KnowsGroups.fits) == 4


def test_probabilities_that_cannot_be_written(teacher, tmp_path):
    _, X, y = teacher
    (tmp_path / "file").write_text("no folder")
    dataset = FrameDataset(X, (y == "fear").astype(int))
    settings = {"groups": None, "n_folds": 2, "seed": 0, "folder": tmp_path / "file"}
    with pytest.warns(UserWarning, match="answers could not be written"):
        soft, _ = cross_fit(DummyClassifier(), dataset, np.unique(y), **settings)
    assert soft.sum(axis=1).tolist() == [1.0] * 48


def test_answers_are_as_sure_as_they_are_right():
    rng = np.random.default_rng(0)
    scores = rng.normal(scale=2, size=(4000, 3)).astype(np.float32)
    honest = softmax(scores, axis=1)
    target = (rng.random((4000, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=2)
    timid, proud = softmax(scores / 3, axis=1), softmax(scores * 2, axis=1)
    for told in (timid, proud):
        assert np.abs(told - honest).mean() > 0.05
        assert np.abs(at_best_temperature(told, target) - honest).mean() < 0.01
    # a class that no copy saw stays the least likely, and nothing becomes NaN
    never = at_best_temperature(np.tile(np.float32([0, 0.2, 0.8]), (9, 1)), np.full(9, 2))
    assert np.isfinite(never).all()
    assert (never.argmin(axis=1) == 0).all()


def test_a_student_of_a_fitted_teacher_ends_the_same_after_a_kill(
    teacher, tmp_path, monkeypatch
):
    _, X, y = teacher
    settings = {"max_epochs": 3, "batch_size": 16}

    def student(folder):
        tutor = ImageNetwork(training=Training(**settings))
        training = Training(distillation=Distillation(tutor), checkpoint=folder, **settings)
        return ImageNetwork(training=training, random_state=0)

    whole = student(None).fit(X, y)
    trainings = []
    train = loop.train

    def killed_in_the_third(*args, **kwargs):
        trainings.append(kwargs)
        if len(trainings) == 3:
            raise InterruptedError
        return train(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", killed_in_the_third)
        with pytest.raises(InterruptedError):
            student(tmp_path).fit(X, y)
    assert len(list(tmp_path.iterdir())) == 2
    again = student(tmp_path).fit(X, y)
    assert list(tmp_path.iterdir()) == []
    for name, value in whole.weights_.items():
        assert np.array_equal(value, again.weights_[name])


def test_sequences_are_taught_by_an_estimator_of_sequences():
    X, y = features()
    lies = np.where(y == "anger", "fear", "anger")
    lies[::3] = y[::3]
    tutor = DummyClassifier(strategy="constant", constant="fear")
    soft = reader(Distillation(tutor, weight=1.0)).fit(X, lies)
    assert (soft.predict(X) == "fear").all()
    soft.set_params(pooling="per_frame").fit(X, lies)
    assert (soft.predict(X) == "fear").all()


def test_a_search_reaches_the_weight(teacher):
    path, X, y = teacher
    quick = Training(max_epochs=2, distillation=Distillation(path, weight=0.5))
    search = GridSearchCV(
        ImageNetwork(training=quick, random_state=0),
        {"training__distillation__weight": [0.0, 1.0]},
        cv=2,
    ).fit(X, y)
    tried = search.cv_results_["param_training__distillation__weight"]
    assert list(tried) == [0.0, 1.0]
    chosen = search.best_estimator_.training.distillation
    assert chosen.weight == search.best_params_["training__distillation__weight"]
    assert quick.distillation.weight == 0.5
