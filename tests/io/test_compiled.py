"""States that compiled code would follow out of memory are refused when they are loaded."""

import hashlib
import json

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC, NuSVC
from sklearn.tree import DecisionTreeClassifier

import ferpipe
from ferpipe.io.card import card_path

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.array(["anger", "fear", "surprise"] * 20)


class Again:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def load(model, tmp_path):
    """Load a model with a card that fits, as somebody has it who knows the format."""
    path = tmp_path / "model.joblib"
    joblib.dump(model, path)
    card = {
        "format": 1,
        "classes": [],
        "input": {},
        "versions": {},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    card_path(path).write_text(json.dumps(card))
    return ferpipe.load(path)


@pytest.mark.parametrize("kind", [SVC, NuSVC])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("support_", lambda a: a[:-1]),
        ("_n_support", lambda a: a + 1),
        ("_n_support", lambda a: np.array([-5, 10, a.sum() - 5], a.dtype)),
        ("_n_support", lambda a: a[:2]),
        ("_dual_coef_", lambda a: a[:, :-1]),
        ("_dual_coef_", lambda a: a[:1]),
        ("_intercept_", lambda a: a[:1]),
        ("_probA", lambda a: np.zeros(1)),
        ("support_vectors_", lambda a: a[:, :2]),
        ("support_vectors_", lambda a: a[:-1]),
        ("support_vectors_", lambda a: np.zeros((0, 4))),
        ("n_features_in_", lambda a: 9),
        ("classes_", lambda a: a[:2]),
        ("kernel", lambda a: "precomputed"),
        ("_sparse", lambda a: True),
    ],
)
def test_support_vectors(kind, name, change, tmp_path):
    model = kind().fit(X, Y)
    setattr(model, name, change(getattr(model, name)))
    with pytest.raises(ValueError, match=rf"{kind.__name__} in it (is broken|was)"):
        load(model, tmp_path)


def test_without_the_number_of_columns_nothing_is_known(tmp_path):
    for model in (SVC(), DecisionTreeClassifier(), KNeighborsClassifier()):
        model.fit(X, Y)
        del model.n_features_in_
        with pytest.raises(ValueError, match="in it is broken"):
            load(model, tmp_path)


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_y", lambda a: a + 10**6),
        ("_y", lambda a: a - 1),
        ("_y", lambda a: a[:-1]),
        ("_fit_X", lambda a: a[:, :2]),
        ("_fit_X", lambda a: a[:5]),
        ("n_samples_fit_", lambda a: 10**6),
        ("n_neighbors", lambda a: 10**6),
        ("n_features_in_", lambda a: 9),
        ("effective_metric_params_", lambda a: {"Y_norm_squared": np.zeros(1)}),
        ("outputs_2d_", lambda a: True),
    ],
)
def test_neighbors(algorithm, name, change, tmp_path):
    model = KNeighborsClassifier(algorithm=algorithm).fit(X, Y)
    setattr(model, name, change(getattr(model, name)))
    with pytest.raises(ValueError, match="KNeighborsClassifier in it is broken"):
        load(model, tmp_path)


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
@pytest.mark.parametrize("part", range(13))
def test_a_search_tree_is_built_anew_from_its_data(algorithm, part, tmp_path):
    model = KNeighborsClassifier(algorithm=algorithm, leaf_size=3).fit(X, Y)
    expected = model.kneighbors(X)
    build, arguments, state = model._tree.__reduce__()
    state = list(state)
    if isinstance(state[part], np.ndarray) and part:
        changed = np.zeros_like(state[part])
        if part == 1:
            changed += 10**9
        state[part] = changed
    elif part in (5, 6):
        state[part] = 10**9
    model._tree = Again(build, arguments, tuple(state))
    loaded = load(model, tmp_path)
    np.testing.assert_array_equal(loaded.kneighbors(X)[1], expected[1])
    np.testing.assert_allclose(loaded.kneighbors(X)[0], expected[0])


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (0, np.zeros((0, 4))),
        (0, np.full((60, 4), np.nan)),
        (0, np.zeros(4)),
        (4, 0),
        (4, -1),
        (11, None),
        (12, np.zeros(1)),
    ],
)
def test_a_search_tree_of_nothing_is_refused(part, value, tmp_path):
    model = KNeighborsClassifier(algorithm="kd_tree").fit(X, Y)
    build, arguments, state = model._tree.__reduce__()
    state = (*state[:part], value, *state[part + 1 :])
    model._tree = Again(build, arguments, state)
    with pytest.raises(ValueError, match="a search tree in it is broken"):
        load(model, tmp_path)


def nodes_of(model):
    return model.tree_.__getstate__()["nodes"]


@pytest.mark.parametrize(
    "change",
    [
        {"node_count": 10**6},
        {"node_count": 1},
        {"nodes": np.zeros(0, nodes_of(DecisionTreeClassifier().fit(X, Y)).dtype)},
        {"nodes": None},
        {"values": np.zeros((1, 1, 3))},
    ],
)
def test_a_decision_tree_with_other_nodes_is_refused(change, tmp_path):
    model = DecisionTreeClassifier().fit(X, Y)
    build, arguments, state = model.tree_.__reduce__()
    model.tree_ = Again(build, arguments, {**state, **change})
    with pytest.raises(ValueError, match="a decision tree in it is broken"):
        load(model, tmp_path)


def test_an_empty_decision_tree_is_refused(tmp_path):
    model = DecisionTreeClassifier().fit(X, Y)
    build, arguments, _ = model.tree_.__reduce__()
    model.tree_ = Again(build, arguments)
    with pytest.raises(ValueError, match="a Tree in it is empty"):
        load(model, tmp_path)


@pytest.mark.parametrize("change", ["narrow", "other", "columns", "start", "width"])
def test_boosted_trees(change, tmp_path):
    model = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    if change == "narrow":
        model.estimators_ = model.estimators_[:, :1]
    elif change == "other":
        model.estimators_[0, 1] = DecisionTreeClassifier().fit(X, Y)
    elif change == "columns":
        model.n_features_in_ = 2
    elif change == "start":
        model.init_ = LogisticRegression().fit(X, Y)
    else:
        model.init_.fit(X, Y.astype("U1") == "f")
    with pytest.raises(ValueError, match="GradientBoostingClassifier in it"):
        load(model, tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("feature_idx", 10**6),
        ("feature_idx", -1),
        ("left", 0),
        ("right", 10**6),
        ("is_categorical", 1),
    ],
)
def test_trees_of_histograms(field, value, tmp_path):
    model = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    nodes = model._predictors[0][0].nodes
    nodes[field][0] = value
    assert not nodes["is_leaf"][0]
    with pytest.raises(ValueError, match="HistGradientBoostingClassifier in it is broken"):
        load(model, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("indices", np.array([10**6], np.int32)),
        ("indices", np.array([-1], np.int32)),
        ("indptr", np.array([0, 10**6], np.int32)),
        ("data", np.zeros(0)),
        ("data", np.array([None])),
        ("_shape", (10**6, 2)),
        ("_shape", None),
    ],
)
def test_sparse_matrices(name, value, tmp_path):
    matrix = sparse.csr_matrix(np.array([[0.0, 1.0]]))
    setattr(matrix, name, value)
    model = LogisticRegression().fit(X, Y)
    model.coef_ = matrix
    with pytest.raises(ValueError, match="a sparse matrix in it is broken"):
        load(model, tmp_path)


@pytest.mark.parametrize("place", [-1, 625, 10**6])
def test_a_source_of_random_numbers_reads_its_own_only(place, tmp_path):
    model = MLPClassifier((2,), max_iter=300, tol=0.1).fit(X, Y)
    build, arguments, state = model._random_state.__reduce__()
    state["state"]["pos"] = place
    model._random_state = Again(build, arguments, state)
    with pytest.raises(ValueError, match="a source of random numbers in it is broken"):
        load(model, tmp_path)
