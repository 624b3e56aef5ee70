import pickle
import pickletools
import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from ferpipe import Augment, EarlyStopping, ImageNetwork, Training

FAST = Training(max_epochs=6, batch_size=16, lr=0.003)


def faces(n=48, size=24, color=False, seed=0):
    """Noisy images with a bright bar above (anger) or below (fear) the middle."""
    rng = np.random.default_rng(seed)
    y = np.array(["anger", "fear"] * (n // 2))
    X = rng.normal(90, 25, (n, size, size, 3) if color else (n, size, size))
    X[y == "anger", size // 5 : size // 3] += 90
    X[y == "fear", -size // 3 : -size // 5] += 90
    return X.clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def fitted():
    return ImageNetwork(training=FAST, random_state=0).fit(*faces())


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_hinge"])
def test_learns_where_the_bar_is(color, loss):
    X, y = faces(color=color)
    network = ImageNetwork(loss=loss, training=FAST, random_state=0).fit(X, y)
    X_new, y_new = faces(color=color, seed=1)
    assert network.score(X_new, y_new) > 0.95
    assert network.image_shape_ == X.shape[1:]
    assert network.classes_.tolist() == ["anger", "fear"]
    parameters = sum(p.numel() for p in network.net_.module_.parameters())
    assert network.n_parameters_ == parameters


def test_paper_000_as_an_image_network():
    X, y = faces(8)
    network = ImageNetwork(
        backbone="paper_000", training=Training(max_epochs=1), random_state=0
    )
    assert network.fit(X, y).transform(X).shape == (8, 512)


def test_codes_are_what_the_output_layer_sees(fitted):
    X, _ = faces(seed=2)
    embeddings = fitted.transform(X)
    assert embeddings.shape == (48, 128)
    assert embeddings.dtype == np.float32
    scores = (
        embeddings @ fitted.weights_["output.weight"].T + fitted.weights_["output.bias"]
    )
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    labels = fitted.classes_[expected.argmax(axis=1)]
    assert np.array_equal(fitted.predict(X), labels)


def test_windows_that_are_too_small_are_named():
    X, y = faces(8, size=10)
    network = ImageNetwork(training=FAST, augment=Augment(window=0.6))
    with pytest.raises(ValueError, match=r"Augment\(window=0.6\) of images of \(10, 10\)"):
        network.fit(X, y)


def test_codes_have_names_and_may_be_a_frame(fitted):
    names = fitted.get_feature_names_out()
    assert len(names) == 128
    table = clone(fitted).set_output(transform="pandas").fit(*faces()).transform(faces()[0])
    assert table.columns.tolist() == names.tolist()
    assert names[3] == "imagenetwork3"


def test_probabilities_or_margins_never_both(fitted):
    assert hasattr(fitted, "predict_proba")
    assert not hasattr(fitted, "decision_function")
    X, y = faces()
    hinge = clone(fitted).set_params(loss="squared_hinge", output_l2=0.01).fit(X, y)
    assert not hasattr(hinge, "predict_proba")
    margins = hinge.decision_function(X)
    assert margins.shape == (48,)
    assert np.array_equal(hinge.predict(X) == "fear", margins > 0)
    three = np.array(["anger", "fear", "sadness"] * 16)
    assert hinge.fit(X, three).decision_function(X).shape == (48, 3)


def test_uint8_and_float_and_any_scale_agree(fitted):
    X, _ = faces(seed=3)
    expected = fitted.predict_proba(X)
    for dtype in (np.float32, np.float64, np.int64):
        assert np.array_equal(fitted.predict_proba(X.astype(dtype)), expected)
    np.testing.assert_allclose(fitted.predict_proba(X / 255), expected, atol=1e-4)
    again = clone(fitted).fit(faces()[0].astype(float), faces()[1])
    assert np.array_equal(again.predict_proba(X), expected)


def test_one_by_one_equals_batch_and_input_is_unchanged(fitted):
    X, _ = faces(200)
    X.flags.writeable = False
    together = fitted.predict_proba(X)
    alone = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(0, 200, 17)])
    np.testing.assert_allclose(together[::17], alone, atol=1e-6)


def test_same_seed_same_network_whatever_torch_drew_before(fitted):
    X, y = faces()
    augmented = clone(fitted).set_params(augment=Augment(flip=True, noise=0.1, mixup=0.3))
    results = []
    for _ in range(2):
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
        results.append(augmented.fit(X, y).predict_proba(X))
    assert np.array_equal(*results)
    other = augmented.set_params(random_state=1).fit(X, y).predict_proba(X)
    assert not np.allclose(results[0], other)


def test_global_random_states_are_untouched(fitted):
    X, y = faces()
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    clone(fitted).set_params(training__validation=0.25).fit(X, y).predict(X)
    pickle.loads(pickle.dumps(fitted)).predict(X)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_a_random_state_instance_moves_on():
    X, y = faces(16)
    network = ImageNetwork(
        training=Training(max_epochs=1), random_state=np.random.RandomState(0)
    )
    one, two = network.fit(X, y).predict_proba(X), network.fit(X, y).predict_proba(X)
    assert not np.allclose(one, two)


def test_pickles_hold_no_torch_object(fitted):
    fitted.predict(faces()[0])
    modules = set()
    strings = []
    for opcode, argument, _ in pickletools.genops(pickle.dumps(fitted)):
        if isinstance(argument, str):
            strings.append(argument)
        if opcode.name == "STACK_GLOBAL":
            modules.add(strings[-2])
        elif opcode.name == "GLOBAL":
            modules.add(argument.split()[0])
    assert "ferpipe.networks.image" in modules
    assert not [module for module in modules if module.split(".")[0] in ("torch", "skorch")]


def test_loads_in_a_process_that_has_only_joblib(fitted, tmp_path):
    X, _ = faces()
    joblib.dump(fitted, tmp_path / "model.joblib")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import joblib, sys, numpy as np\n"
        f"model = joblib.load(r'{tmp_path / 'model.joblib'}')\n"
        "print('torch' in sys.modules)\n"
        f"X = np.load(r'{tmp_path / 'X.npy'}')\n"
        f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
        f"np.save(r'{tmp_path / 'p.npy'}', model.predict_proba(X))\n"
        "print(hasattr(model, 'net_'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert np.array_equal(np.load(tmp_path / "p.npy"), fitted.predict_proba(X))


def test_hash_of_an_estimator_is_stable(fitted):
    unfitted = [
        ImageNetwork(training=Training(lr=0.1), augment=Augment(flip=True))
        for _ in range(2)
    ]
    assert (
        joblib.hash(unfitted[0])
        == joblib.hash(unfitted[1])
        == joblib.hash(clone(unfitted[0]))
    )
    before = joblib.hash(fitted)
    loaded = pickle.loads(pickle.dumps(fitted))
    loaded.predict(faces()[0])
    assert joblib.hash(loaded) == before


def test_nested_parameters_are_reached():
    network = ImageNetwork(training=Training(), augment=Augment())
    network.set_params(training__lr=0.5, augment__rotation=0.1)
    assert network.get_params()["training__lr"] == 0.5
    assert network.augment.rotation == 0.1


def test_grid_search_with_groups_and_validation_by_subject():
    X, y = faces()
    groups = np.arange(48) // 4
    network = ImageNetwork(
        training=Training(max_epochs=2, validation=0.25, early_stopping=EarlyStopping()),
        random_state=0,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            make_pipeline(network, SVC()),
            {"imagenetwork__training__lr": [1e-3, 1e-9]},
            cv=GroupKFold(2),
            error_score="raise",
        )
        search.fit(X, y, groups=groups)
    assert set(search.cv_results_["rank_test_score"]) <= {1, 2}
    assert "valid_loss" in search.best_estimator_[0].history_[0]


def test_fit_does_not_touch_parameters_and_fitting_twice_is_fitting_once(fitted):
    X, y = faces()
    network = clone(fitted)
    before = joblib.hash(network.get_params())
    once = network.fit(X, y).predict_proba(X)
    assert joblib.hash(network.get_params()) == before
    assert np.array_equal(network.fit(X, y).predict_proba(X), once)


def test_wrong_input_is_explained(fitted):
    X, y = faces()
    network = clone(fitted)
    with pytest.raises(ValueError, match="at least 2 classes; got 1 class: 'anger'"):
        network.fit(X[::2], y[::2])
    with pytest.raises(ValueError, match="requires y to be passed"):
        network.fit(X, None)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        network.fit(X, y[:-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        network.fit(X, y, groups=[1, 2])
    with pytest.raises(ValueError, match="NaN or infinite"):
        network.fit(np.where(X > 250, np.nan, X), y)
    with pytest.raises(ValueError, match="at least 8 pixels a side"):
        network.fit(X[:, :6, :6], y)
    with pytest.raises(ValueError, match="dense must hold widths"):
        clone(fitted).set_params(dense=[8, 0]).fit(X, y)
    with pytest.raises(ValueError, match="'backbone' parameter of ImageNetwork"):
        ImageNetwork(backbone="big_cnn").fit(X, y)
    with pytest.raises(ValueError, match="'training' parameter of ImageNetwork"):
        ImageNetwork(training={"lr": 1}).fit(X, y)
    with pytest.raises(ValueError, match="'rotation' parameter of Augment"):
        ImageNetwork(augment=Augment(rotation=30)).fit(X, y)
    with pytest.raises(
        ValueError, match=r"images of shape \(30, 30\).*fitted on images of"
    ):
        fitted.predict(np.zeros((2, 30, 30)))
    with pytest.raises(NotFittedError):
        ImageNetwork().predict(X)
    assert not hasattr(ImageNetwork(), "net_")
