from functools import partial

import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.learned_objective import LearnedObjective, load_objective
from ferpipe.candide.visible_points import visible_points
from ferpipe.faces.detection import Face
from ferpipe.faces.landmarks import load_model
from ferpipe.train import learned_objectives as training
from ferpipe.train.__main__ import main
from ferpipe.train.landmark_networks import AnnotatedFaces
from ferpipe.train.learned_objectives import fit_faces, train_and_evaluate

SIZE = 120


def blank_faces(n):
    """Return mean faces, a little displaced, in images of noise; two of them a photo."""
    rng = np.random.default_rng(0)
    mean = load_model("ferpipe").mean_shape
    landmarks = 40 * mean + (60, 55) + rng.normal(0, 1.5, (n, 1, 2))
    images = list(rng.integers(0, 255, (n, SIZE, SIZE), dtype=np.uint8))
    photos = np.array([f"photo_{i // 2}" for i in range(n)])
    return AnnotatedFaces(images, landmarks, photos)


class Oracle:
    """Wants the points of each image where they are; images are known by their bytes."""

    n_stages = 1

    def __init__(self, faces):
        _, points = visible_points(load_calibrated()[0], faces.landmarks)
        self.truth = {
            image.tobytes(): p for image, p in zip(faces.images, points, strict=True)
        }

    def prepare(self, image, points):
        return self.truth[image.tobytes()]

    def find_targets(self, prepared, points, normals, unit, stage):
        return prepared, np.broadcast_to(np.eye(2) * 1e4 / unit**2, (len(points), 2, 2))


class Nothing(Oracle):
    def find_targets(self, prepared, points, normals, unit, stage):
        return points, np.zeros((len(points), 2, 2))


@pytest.fixture(scope="module")
def faces():
    return blank_faces(48)


def test_errors_are_those_of_the_visible_points(faces):
    model, prior = load_calibrated()
    few = faces.take(np.arange(5))
    facts = load_model("ferpipe")
    width = 40 * facts.box_width
    boxes = [Face((60 - width / 2 + 6, 55 - width / 2, width, width), 0.0)] * 5
    found = fit_faces(model, prior, Oracle(few), few, boxes, facts)
    left = fit_faces(model, prior, Nothing(few), few, boxes, facts)
    assert found.shape == (5,)
    assert found.max() < 0.04
    # the boxes are 6 pixels too far to the right, and of no use below
    assert left.min() > 0.08
    assert left.mean() == pytest.approx(6 / 40, abs=0.08)


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    """Return what two quick folds give."""
    folder = tmp_path_factory.mktemp("objective")
    quick = partial(LearnedObjective, reaches=(0.1,), n_features=3, n_displacements=1)
    calibrated_on = []

    def shipped(landmarks):
        calibrated_on.append(len(landmarks))
        return load_calibrated()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "LearnedObjective", quick)
        patch.setattr(training, "calibrate", shipped)
        found = train_and_evaluate(faces, folder, n_folds=2, keep_folds=True)
    return folder, *found, calibrated_on


def test_folds_are_trained_on_the_others_and_the_last_on_all(trained):
    folder, objective, scores, calibrated_on = trained
    assert calibrated_on == [24, 24]
    assert set(scores) == {
        "mean_error",
        "median_over_faces",
        "share_of_faces_above_0.1",
        "p1_of_stage_0",
        "displacement_of_stage_0",
        "p2_of_stage_0",
    }
    assert all(0 <= score <= 1 for score in scores.values())
    written = load_objective(folder / "objective.npz")
    np.testing.assert_array_equal(
        written.stages_[0].regressors.leaves, objective.stages_[0].regressors.leaves
    )
    folds = [load_objective(folder / "folds" / n / "objective.npz") for n in "12"]
    means = [one.mean_points_.tolist() for one in (*folds, written)]
    assert means[0] != means[1] != means[2] != means[0]


def test_a_folder_without_faces_is_an_error(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["objective", str(tmp_path), "--out", str(out)]) == 2
    assert "error:" in capsys.readouterr().err
