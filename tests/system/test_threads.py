"""Forks, threads and copies: the answers stay the same, and come."""

import copy
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest

from ferpipe import (
    Augment,
    CandideFitter,
    CNNFeatures,
    Distillation,
    ImageNetwork,
    LandmarkPredictor,
    Recognizer,
    SequenceNetwork,
    Training,
)
from ferpipe._system.threads import at_most, n_cores, threads_for
from ferpipe.candide.fit_cascade import load_own_cascade
from ferpipe.faces.landmarks import load_model

CHILDREN = """
import multiprocessing, sys
import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from ferpipe import (
    CandideFitter, CNNFeatures, ImageNetwork, LandmarkPredictor, PixelFeatures, Recognizer,
    SequenceNetwork, Training, pretrained,
)

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (64, 48, 48), dtype=np.uint8)
labels = ["anger", "fear"] * 32
tracks = rng.normal(size=(64, 100, 6))


def models():
    quick = Training(max_epochs=1)
    network = pretrained("fer2013_small")
    recognizer = Recognizer(network, detector=None)
    reader = SequenceNetwork(backbone=None, hidden_size=4, training=quick, random_state=0)
    neighbours = make_pipeline(PixelFeatures(), KNeighborsClassifier(1))

    def fit(X):
        return ImageNetwork(training=quick, random_state=0).fit(X, labels).predict_proba(X)

    def recognize(X):
        return [list(recognizer.predict_image(x)[0].scores.values()) for x in X]

    few = images[:4]
    return {
        "network": (network.predict_proba, images),
        "fit": (fit, images),
        "middle": (CNNFeatures(weights="fer2013_small").fit(images).transform, images),
        "sequences": (reader.fit(tracks, labels).predict_proba, tracks),
        "neighbours": (neighbours.fit(images, labels).predict_proba, images),
        "recognizer": (recognize, few),
        "landmarks": (LandmarkPredictor(missing="center").fit(few).transform, few),
        "wireframe": (CandideFitter().fit(few).transform, few),
    }


def answers(_=None):
    made = known or models()
    return {name: np.asarray(method(X)) for name, (method, X) in made.items()}


known = None
if __name__ == "__main__":
    import torch

    assert torch.get_num_threads() == 2
    known = models()  # children that are forked have the parent's own
    expected = answers()
    n = 1 if sys.argv[1] == "spawn" else 2
    with multiprocessing.get_context(sys.argv[1]).Pool(n) as pool:
        for found in pool.map_async(answers, range(n)).get(timeout=60):
            for name, value in expected.items():
                np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    print(len(expected))
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_a_process_that_has_computed_answer_the_same(method, tmp_path):
    """Before forks were guarded, the children waited for threads that they have not."""
    script = tmp_path / "children.py"
    script.write_text(CHILDREN)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), method],
        # dask leaves limits of its own in the environment
        env={**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32), dtype=np.uint8)


def test_fits_beside_each_other_are_fits_alone(images):
    """torch has one generator for all threads: dropout and first weights come from it."""
    import torch

    labels = ["anger", "fear", "anger"] * 8
    training = Training(max_epochs=2, batch_size=8, sampling="balanced")
    augment = Augment(flip=True, noise=0.1, mixup=0.2)
    clips = np.stack([images, images[::-1]], 1)
    fits = [
        (ImageNetwork(training=training, augment=augment, random_state=3), images),
        (ImageNetwork(dense=8, dropout=0.5, training=training, random_state=3), images),
        (SequenceNetwork(hidden_size=4, training=training, random_state=3), list(clips)),
    ]

    def fit(index):
        network, X = fits[index]
        return copy.deepcopy(network).fit(X, labels).predict_proba(X)

    alone = [fit(index) for index in range(3)]
    states = torch.get_rng_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    order = [0, 1, 2, 0, 1, 2]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fit, order))
    for index, found in zip(order, together, strict=True):
        np.testing.assert_allclose(found, alone[index], rtol=0, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), states[0])
    now = np.random.get_state(legacy=False)  # noqa: NPY002
    np.testing.assert_equal(now, states[1])


def test_a_teacher_that_is_fitted_in_threads_is_waited_for(images):
    """The lock is not held while other threads may need it."""
    from sklearn.ensemble import VotingClassifier

    quick = Training(max_epochs=1)
    pupils = [(name, ImageNetwork(training=quick, random_state=0)) for name in "ab"]
    teacher = VotingClassifier(pupils, voting="soft", n_jobs=2)
    network = ImageNetwork(
        training=Training(max_epochs=1, distillation=Distillation(teacher, folds=2)),
        random_state=0,
    )

    def fit():
        with joblib.parallel_config("threading"):
            network.fit(images, ["anger", "fear"] * 12)

    thread = threading.Thread(target=fit, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert network.predict(images).shape == (24,)


def test_building_a_network_again_draws_nothing(images):
    """A server answers while a network is trained beside it."""
    import torch

    network = ImageNetwork(training=Training(max_epochs=1), random_state=0)
    network.fit(images, ["anger", "fear"] * 12)
    expected = network.predict_proba(images)
    again = pickle.loads(pickle.dumps(network))
    state = torch.get_rng_state()
    drawn = []
    original = torch.random.fork_rng
    torch.random.fork_rng = lambda *args, **kwargs: (
        drawn.append(1) or original(*args, **kwargs)
    )
    try:
        np.testing.assert_array_equal(again.predict_proba(images), expected)
    finally:
        torch.random.fork_rng = original
    assert not drawn
    assert torch.equal(torch.get_rng_state(), state)


def test_eight_threads_share_a_recognizer(frames):
    recognizer = Recognizer("fer2013_small")
    pictures = [frames[0], frames[3]] * 8
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(recognizer.predict_image, pictures))
    for picture, found in zip(pictures, together, strict=True):
        for mine, alone in zip(
            found, Recognizer("fer2013_small").predict_image(picture), strict=True
        ):
            np.testing.assert_allclose(
                list(mine.scores.values()), list(alone.scores.values()), atol=1e-6
            )
            np.testing.assert_allclose(mine.landmarks, alone.landmarks, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_what_holds_sessions_and_detectors_is_copied(copied, frames, crops):
    picture = frames[0]
    data, target = crops
    for recognizer in (
        Recognizer("fer2013_small"),
        Recognizer(_of_wireframes(data, target), every=0.1, smoothing=0.5),
    ):
        expected = recognizer.predict_image(picture)
        recognizer.step(picture, 0.0)
        again = copied(recognizer)
        (one,), (other,) = again.predict_image(picture), expected
        assert one.scores == other.scores
        np.testing.assert_array_equal(one.parameters, other.parameters)
        # the copy begins a video of its own
        assert again.step(picture, 0.0)[0].frame == 0
        assert recognizer.step(picture, 0.2)[0].frame == 1
    box = (60.0, 60.0, 90.0, 90.0)
    for finder in (load_model("ferpipe"), load_own_cascade()):
        one, other = copied(finder).predict(picture, box), finder.predict(picture, box)
        np.testing.assert_array_equal(np.hstack(one[0]), np.hstack(other[0]))
    for estimator in (
        LandmarkPredictor(),
        CandideFitter(),
        CNNFeatures(weights="fer2013_small"),
    ):
        used = estimator.fit(data[:2, 0])
        expected = used.transform(data[:2, 0])
        np.testing.assert_array_equal(copied(used).transform(data[:2, 0]), expected)


def _of_wireframes(data, target):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from ferpipe import PoolFrames

    fitter = CandideFitter("actions", detector=None)
    return make_pipeline(fitter, PoolFrames(), LogisticRegression()).fit(list(data), target)


def test_what_counts_cores_minds_quotas_and_the_environment(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert n_cores() == 1
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads_for(), threads_for(4), threads_for(12)) == (6, 1, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert (threads_for(), threads_for(2), threads_for(6)) == (2, 2, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads_for() == 6


def test_only_one_place_counts_cores_or_sets_threads():
    words = ("cpu_count", "sched_getaffinity", "set_num_threads", "setNumThreads")
    package = Path(__file__).parents[2] / "ferpipe"
    found = {
        (path.name, word)
        for path in package.rglob("*.py")
        for word in words
        if word in path.read_text("utf-8")
    }
    # trainings that spread over processes give each one thread
    allowed = {
        ("threads.py", word)
        for word in ("cpu_count", "sched_getaffinity", "set_num_threads")
    }
    allowed |= {
        (name, "set_num_threads")
        for name in ("wireframe_network.py", "landmark_networks.py")
    }
    assert found <= allowed


def test_small_batches_take_one_thread_and_other_threads_keep_theirs():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as pool:
            with at_most(n_values=48 * 48):
                assert torch.get_num_threads() == 1
                assert pool.submit(torch.get_num_threads).result() == 2
            assert torch.get_num_threads() == 2
        with at_most(n_values=1 << 20):
            assert torch.get_num_threads() == min(2, n_cores())
        with at_most(3):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_network_applies_single_images_in_one_thread(images, monkeypatch):
    import torch

    network = ImageNetwork(training=Training(max_epochs=1), random_state=0)
    network.fit(images, ["anger", "fear"] * 12)
    seen = []
    monkeypatch.setattr(
        ImageNetwork,
        "_views",
        lambda self, frames: seen.append(torch.get_num_threads()) or [frames],
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network.predict_proba(images[:1])
        network.predict_proba(np.repeat(images, 6, axis=0))
    finally:
        torch.set_num_threads(before)
    assert seen[0] == 1
    assert seen[-1] == min(2, n_cores())
