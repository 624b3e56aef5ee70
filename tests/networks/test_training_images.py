import json

import cv2
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from ferpipe import (
    CNNFeatures,
    Distillation,
    ImageNetwork,
    PerFrame,
    SequenceNetwork,
    Training,
    WeightAveraging,
)
from ferpipe.datasets import as_bunch
from ferpipe.experiments.report.page import text_table, write_report
from ferpipe.experiments.run import DataError, make_plan, run_experiment
from ferpipe.experiments.spec import compile_spec
from ferpipe.io.fingerprints import are_known, fingerprints, read_fingerprints
from ferpipe.networks.pretrained import load_network, pretrained, save_network
from ferpipe.networks.training_images import known_training_images


def pictures(n, seed, size=24):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 8, 8), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size, size)) for image in coarse])


SEEN, NEW = pictures(30, 0), pictures(60, 1)
ONCE = Training(max_epochs=1)


def labels(n):
    return np.array(["anger", "fear", "sadness"])[np.arange(n) % 3]


def network(**settings):
    settings = {"backbone": "residual", "training": ONCE, "random_state": 0} | settings
    return ImageNetwork(**settings)


@pytest.fixture(scope="module")
def fitted():
    return network().fit(SEEN, labels(30))


@pytest.fixture(scope="module")
def file(fitted, tmp_path_factory):
    return save_network(fitted, tmp_path_factory.mktemp("my") / "network.safetensors")


def test_training_images_are_kept_and_saved(fitted, file):
    assert are_known(SEEN, fitted.training_images_).all()
    assert not are_known(NEW, fitted.training_images_).any()
    np.testing.assert_array_equal(load_network(file).training_images_, np.unique(
        fingerprints(SEEN)
    ))  # fmt: skip
    beside = file.with_name("network.fingerprints.npz")
    np.testing.assert_array_equal(read_fingerprints(beside), fitted.training_images_)


def test_file_without_a_record_leaves_no_old_one(fitted, tmp_path):
    path = save_network(fitted, tmp_path / "n.safetensors")
    old = load_network(path)
    del old.training_images_
    save_network(old, path)
    assert [name.name for name in tmp_path.iterdir()] == ["n.safetensors"]
    assert known_training_images(network(weights=path)) == {
        f"{tmp_path.name}/n.safetensors": None
    }


def test_what_a_network_was_started_from_or_taught_by_is_inherited(file):
    for settings in (
        {"weights": file},
        {"training": Training(max_epochs=1, distillation=Distillation(str(file)))},
        {"training": Training(max_epochs=1, distillation=Distillation([file, str(file)]))},
        {"training": Training(max_epochs=1, averaging=WeightAveraging(blend_with=file))},
    ):
        again = network(**settings).fit(NEW, labels(60))
        assert are_known(SEEN, again.training_images_).all(), settings
        assert are_known(NEW, again.training_images_).all(), settings
    clips = [np.stack([image, image[::-1]]) for image in NEW[:6]]
    sequence = SequenceNetwork(backbone="residual", weights=file, training=ONCE)
    sequence.fit(clips, labels(6))
    assert are_known(SEEN, sequence.training_images_).all()
    assert are_known(NEW[:6, ::-1], sequence.training_images_).all()
    held = Training(max_epochs=1, validation=(NEW[:9], labels(9)))
    validated = network(training=held).fit(SEEN, labels(30))
    assert are_known(NEW[:9], validated.training_images_).all()


def test_networks_are_found_at_any_depth(fitted, file):
    name = f"{file.parent.name}/network.safetensors"
    for model, found in (
        (make_pipeline(PerFrame(CNNFeatures(weights=file)), LinearSVC()), name),
        (make_pipeline(CNNFeatures(), LinearSVC()), "fer2013"),
        (make_pipeline(FrozenEstimator(fitted), LinearSVC()), "the fitted ImageNetwork"),
        (FrozenEstimator(make_pipeline(fitted, LinearSVC())), "the fitted ImageNetwork"),
        (network(training=Training(distillation=Distillation(
            network(weights="fer2013_small")))),
         "fer2013_small"),
    ):  # fmt: skip
        assert list(known_training_images(model)) == [found]
        assert len(known_training_images(model)[found]) >= 30
    assert (
        known_training_images(make_pipeline(KNeighborsClassifier(weights="distance"))) == {}
    )
    # it is fitted again in every fold
    assert known_training_images(make_pipeline(fitted, LinearSVC())) == {}
    grid = [{"net__weights": [None, file]}, {"net": [CNNFeatures(weights="fer2013")]}]
    assert list(known_training_images(LinearSVC(), grid)) == [name, "fer2013"]


@pytest.mark.parametrize("name", ["fer2013", "fer2013_small"])
def test_networks_that_ship_know_their_training_images(name):
    shipped = pretrained(name)
    assert len(shipped.training_images_) > 27_000
    assert shipped.card_["bytes"]["network.fingerprints.npz"] <= 200_000
    assert not are_known(NEW, shipped.training_images_).any()


def experiment(file, **evaluate):
    return compile_spec(
        {
            "name": "known",
            "data": {"image_folder": {"path": "nowhere"}},
            "pipeline": {
                "cnn": {"CNNFeatures": {"weights": str(file), "block": 1}},
                "classify": "LinearSVC",
            },
            "evaluate": {"outer_cv": {"StratifiedKFold": {"n_splits": 2}}, **evaluate},
        }
    )


def faces(n_seen):
    """Data of which some were trained on, mirrored here."""
    data = np.concatenate([SEEN[:n_seen, :, ::-1], NEW])
    return as_bunch(data, labels(len(data)), kind="images")


def test_tested_images_that_a_network_was_trained_on_are_refused(file, tmp_path):
    words = r"30 of 90 tested images are among the 30 different images that .*/network"
    with pytest.raises(DataError, match=rf"{words}.* was trained on: .*Use other weights"):
        make_plan(experiment(file), faces(30))
    results = run_experiment(experiment(file, allow_leak=True), faces(30))
    assert "30 of 90 tested images" in results.leak
    assert "warning: 30 of 90 tested images" in text_table(results)


def test_a_chance_hit_is_told_and_not_refused(file, tmp_path):
    results = run_experiment(experiment(file), faces(2))
    assert results.leak is None
    words = "of 62 tested images are among the 30 different images that"
    assert f"note: 2 {words}" in text_table(results)
    paths = write_report(results, tmp_path)
    assert f'role="note">2 {words}' in paths["report.html"].read_text()
    assert words in json.loads(paths["results.json"].read_text())["notes"][0]
    assert make_plan(experiment(file), faces(0)).notes[0].startswith("0 of 60 tested")


def test_an_unknown_past_is_told(file, tmp_path):
    copy = tmp_path / "n.safetensors"
    copy.write_bytes(file.read_bytes())
    plan = make_plan(experiment(copy), faces(30))
    (note,) = plan.notes
    assert "not known" in note
    assert note.endswith("are not known")
