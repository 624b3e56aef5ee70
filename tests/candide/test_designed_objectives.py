import numpy as np
import pytest
from wireframe_faces import MODEL, N_VISIBLE, PRIOR, project_visible, sample_faces

from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.optimizer import fit_objective, start_in_box
from ferpipe.candide.visible_points import (
    contour_normals,
    visible_points,
)
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import fit_similarity, similarity, transform_points


@pytest.fixture(scope="module")
def facts():
    return load_model("ferpipe")


class Cascade:
    """Finds given landmarks, and remembers the box that it was given."""

    def __init__(self, facts, landmarks):
        self.mean_shape, self.box_of = facts.mean_shape, facts.box_of
        self.landmarks, self.boxes = landmarks, []

    def predict(self, image, box, angle):
        self.boxes.append((*box, angle))
        return self.landmarks


def test_landmarks_are_looked_for_once_and_where_the_points_are(facts):
    box, angle = (60.0, 50.0, 100.0, 100.0), 0.2
    start = start_in_box(MODEL, PRIOR, box, angle, facts)
    move = similarity(1.05, 0.05, (110, 100), (115, 95))
    _, points = visible_points(MODEL, facts.mean_shape)
    placement = fit_similarity(points, project_visible(start))
    landmarks = transform_points(move, transform_points(placement, facts.mean_shape))
    cascade = Cascade(facts, landmarks)
    objective = LandmarkObjective(MODEL, cascade)
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(MODEL, PRIOR, objective, image, start)
    assert len(cascade.boxes) == 1
    np.testing.assert_allclose(cascade.boxes[0][:4], box, atol=2)
    assert cascade.boxes[0][4] == pytest.approx(angle, abs=0.02)
    _, expected = visible_points(MODEL, landmarks)
    assert (
        np.linalg.norm(project_visible(found) - expected, axis=1).mean() < 0.02 * found[3]
    )
    assert off < 0.02


def test_landmarks_have_the_least_value(facts):
    rng = np.random.default_rng(9)
    _, (points,) = sample_faces(1, 9)
    normals = contour_normals(points)
    places = rng.uniform(-0.1, 0.1, N_VISIBLE)
    prepared = points + 60 * places[:, None] * normals
    objective = LandmarkObjective(MODEL, facts)
    offsets, values = objective.values(prepared, points, normals, 60, 0)
    assert (
        np.abs(offsets[values.argmin(1)] - places).max() <= np.diff(offsets)[0] / 2 + 1e-9
    )
    targets, sure = objective.find_targets(prepared, points, normals, 60, 0)
    np.testing.assert_array_equal(targets, prepared)
    np.testing.assert_allclose(sure, np.tile(np.eye(2) / (0.03 * 60) ** 2, (38, 1, 1)))


def test_edges_are_found_across_the_contour_and_not_along():
    # bright to the right of a slanting edge
    y, x = np.mgrid[:240, :240]
    direction = np.array([np.cos(0.3), np.sin(0.3)])
    distance = (x - 120) * direction[0] + (y - 120) * direction[1]
    image = np.where(distance > 0, 200, 60).astype(np.uint8)
    along = np.array([-direction[1], direction[0]])
    rng = np.random.default_rng(10)
    places = rng.uniform(-6, 6, N_VISIBLE)
    on_edge = 120 + rng.uniform(-60, 60, N_VISIBLE)[:, None] * along
    points = on_edge - places[:, None] * direction
    normals = np.tile(direction, (N_VISIBLE, 1))
    objective = EdgeObjective((0.2, 0.1))
    prepared = objective.prepare(image, points)
    targets, sure = objective.find_targets(prepared, points, normals, 60, 0)
    np.testing.assert_allclose(targets, on_edge, atol=1.6)
    np.testing.assert_allclose(sure @ along, 0, atol=1e-12)
    assert (np.einsum("kij,i,j->k", sure, direction, direction) > 0).all()
    offsets, values = objective.values(prepared, points, normals, 60, 1)
    assert offsets[[0, -1]].tolist() == [-0.1, 0.1]
    assert 0 <= values.min() < 0.1
    assert values.max() <= 1


def test_an_image_without_edges_says_nothing():
    _, (points,) = sample_faces(1, 11)
    objective = EdgeObjective()
    prepared = objective.prepare(np.full((240, 240), 90, np.uint8), points)
    _, sure = objective.find_targets(prepared, points, contour_normals(points), 60, 0)
    np.testing.assert_array_equal(sure, 0)
    start = np.r_[0, 0, 0, 60, 120, 120, PRIOR.mean]
    found, off = fit_objective(
        MODEL, PRIOR, objective, np.full((240, 240), 90, np.uint8), start
    )
    np.testing.assert_allclose(found, start, atol=1e-6)
    assert off == np.inf


def test_indicators_of_designed_objectives(facts):
    _, points = sample_faces(2, 12)
    rng = np.random.default_rng(13)
    images = list(rng.integers(0, 255, (2, 240, 240), dtype=np.uint8))
    edges = EdgeObjective((0.2,)).indicators(images, points, random_state=0)
    assert edges.p2 < 0.2
    assert edges.p1 < 0.6
    found = LandmarkObjective(MODEL, facts).indicators(images, points, random_state=0)
    assert found.p2 == 1
