import numpy as np
import pytest

from ferpipe.candide.calibrated import load_calibrated
from ferpipe.candide.camera import project
from ferpipe.candide.designed_objectives import EdgeObjective, LandmarkObjective
from ferpipe.candide.objective import (
    contour_normals,
    count_minima,
    displace,
    fit_objective,
    mean_shape,
    search_indicators,
    start_in_box,
    visible_partners,
)
from ferpipe.candide.point_fit import unit_limits, visible_points
from ferpipe.faces.landmark_points import MIRRORED
from ferpipe.faces.landmarks import load_model
from ferpipe.geometry import fit_similarity, similarity, transform_points

N_VISIBLE = 38


@pytest.fixture(scope="module")
def calibrated():
    return load_calibrated()


@pytest.fixture(scope="module")
def facts():
    return load_model("ferpipe")


def sample_faces(calibrated, n, seed):
    """Draw likely faces: their parameters and visible points."""
    model, prior = calibrated
    rng = np.random.default_rng(seed)
    units = rng.multivariate_normal(prior.mean, prior.covariance / 4, n, method="cholesky")
    pose = np.column_stack(
        [
            rng.normal(0, [0.1, 0.15, 0.1], (n, 3)),
            rng.uniform(50, 80, n),
            rng.normal(120, 6, (n, 2)),
        ]
    )
    parameters = np.column_stack([pose, units])
    return parameters, shown(model, parameters)


def shown(model, parameters):
    pose, sigma, alpha = model.split(parameters)
    return project(model.shape(sigma, alpha)[..., sorted(model.landmarks), :], pose)


class Oracle:
    """Knows where points are, across contours only or in both directions."""

    n_stages = 2

    def __init__(self, truth, *, across_only=False):
        self.truth, self.across_only = truth, across_only
        self.stages = []

    def look(self, image, points):
        return image

    def observe(self, seen, points, normals, unit, stage):
        self.stages.append(stage)
        sure = np.broadcast_to(np.eye(2), (len(points), 2, 2))
        if self.across_only:
            sure = normals[:, :, None] * normals[:, None, :]
        return self.truth, sure * 1e4 / unit**2

    def values(self, seen, points, normals, unit, stage):
        offsets = np.linspace(-0.2, 0.2, 41)
        places = ((self.truth - points) * normals).sum(1) / unit
        return offsets, np.abs(offsets - places[:, None])


# Points and normals


def test_partners_are_those_of_the_68_points(calibrated):
    model, _ = calibrated
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(0, 200, (68, 2))
    _, points = visible_points(model, landmarks)
    _, mirrored = visible_points(model, (landmarks * (-1, 1))[MIRRORED])
    np.testing.assert_allclose(mirrored, (points * (-1, 1))[visible_partners()])


def test_normals_are_across_the_lips_and_the_brows(calibrated):
    model, _ = calibrated
    _, points = sample_faces(calibrated, 5, 1)
    normals = contour_normals(points)
    assert normals.shape == points.shape
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)
    visible = sorted(model.landmarks)
    at = {name: visible.index(v) for name, v in model.vertex_names.items() if v in visible}
    # in faces that hardly tilt
    for name in (
        "upper_lip",
        "lower_lip",
        "brow_top_left",
        "upper_lid_right",
        "chin_bottom",
    ):
        assert (np.abs(normals[:, at[name], 1]) > 0.8).all(), name
    for name in ("eye_outer_left", "mouth_corner_right", "nose_bridge"):
        assert (np.abs(normals[:, at[name], 0]) > 0.8).all(), name


def test_normals_follow_their_faces(calibrated):
    _, points = sample_faces(calibrated, 1, 2)
    points = points[0]
    turn = similarity(2.0, 0.7, (30, 40), (90, 10))
    turned = contour_normals(transform_points(turn, points))
    expected = contour_normals(points) @ (turn[:, :2] / 2).T
    np.testing.assert_allclose(turned, expected, atol=1e-12)
    mirrored = contour_normals((points * (-1, 1))[visible_partners()])
    same = np.abs((mirrored * (-1, 1) * contour_normals(points)[visible_partners()]).sum(1))
    np.testing.assert_allclose(same, 1)


def test_points_that_coincide_have_a_normal():
    normals = contour_normals(np.zeros((N_VISIBLE, 2)))
    np.testing.assert_array_equal(normals, np.tile([0.0, 1.0], (N_VISIBLE, 1)))


def test_mean_shape_is_level_symmetrical_and_of_size_1(calibrated):
    model, _ = calibrated
    _, points = sample_faces(calibrated, 10, 3)
    mean = mean_shape(points)
    left, right = (
        sorted(model.landmarks).index(model.vertex_names[f"eye_outer_{side}"])
        for side in ("left", "right")
    )
    np.testing.assert_allclose(mean[left], (0.5, 0), atol=1e-12)
    np.testing.assert_allclose(mean[right], (-0.5, 0), atol=1e-12)
    np.testing.assert_allclose(mean[visible_partners()], mean * (-1, 1), atol=1e-12)
    moved = [transform_points(similarity(1.5, 0.3, (0, 0), (9, 9)), p) for p in points]
    np.testing.assert_allclose(mean_shape(np.array(moved)), mean, atol=1e-6)


@pytest.mark.parametrize("reach", [0.3, 0.1])
def test_faces_are_displaced_as_far_as_lines_reach(calibrated, reach):
    _, points = sample_faces(calibrated, 300, 4)
    mean = mean_shape(points)
    displaced = displace(points, reach, mean, np.random.RandomState(0))
    units = [fit_similarity(mean, one)[:, 0] for one in points]
    size = np.linalg.norm(units, axis=1)[:, None, None]
    off = ((displaced - points) / size).reshape(300, -1, 2)
    shift = off.mean(1)
    assert shift.std() == pytest.approx(0.4 * reach, rel=0.1)
    # most of them lie on the lines
    assert 0.9 < (np.abs(off) < reach).mean() < 1
    again = displace(points, reach, mean, np.random.RandomState(0))
    np.testing.assert_array_equal(again, displaced)


def test_mean_face_is_placed_in_the_box(calibrated, facts):
    model, prior = calibrated
    parameters = start_in_box(model, prior, (60, 50, 100, 100), 0.0, facts)
    assert parameters.shape == (len(model.parameter_names),)
    points = shown(model, parameters)
    _, mean = visible_points(model, facts.mean_shape)
    placement = fit_similarity(mean, points)
    np.testing.assert_allclose(
        transform_points(placement, facts.box_center), (109.5, 99.5), atol=1
    )
    assert 100 / placement[0, 0] == pytest.approx(facts.box_width, rel=0.02)
    turned = start_in_box(model, prior, (60, 50, 100, 100), 0.4, facts)
    assert parameters[2] - turned[2] == pytest.approx(0.4, abs=0.01)


# Fits


@pytest.mark.parametrize("across_only", [False, True])
def test_faces_are_found_where_the_objective_wants_them(calibrated, across_only):
    model, prior = calibrated
    true, points = sample_faces(calibrated, 4, 5)
    image = np.zeros((240, 240), np.uint8)
    for one, parameters in zip(points, true, strict=True):
        pose = parameters[:6] + np.array([0, 0, 0.1, 5, 8, -6])
        start = np.r_[pose, prior.mean]
        oracle = Oracle(one, across_only=across_only)
        found, off = fit_objective(model, prior, oracle, image, start)
        away, before = (
            np.linalg.norm(shown(model, p) - one, axis=1).mean() / parameters[3]
            for p in (found, start)
        )
        assert before > 0.1
        assert away < (0.04 if across_only else 0.015)
        assert off < 0.02
        assert oracle.stages[0] == 0
        assert oracle.stages[-1] == 1


def test_limits_are_kept(calibrated):
    model, prior = calibrated
    true, points = sample_faces(calibrated, 1, 6)
    limits = unit_limits(model, prior)
    limits[:, -65:] = [[-0.01], [0.01]]
    start = np.r_[true[0, :6], prior.mean]
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(model, prior, Oracle(points[0]), image, start, limits=limits)
    assert (np.abs(found[-65:]) <= 0.01).all()
    free, off_free = fit_objective(model, prior, Oracle(points[0]), image, start)
    assert np.abs(free[-65:]).max() > 0.05
    assert off > 1.5 * off_free


def test_fits_that_stand_still_look_no_more(calibrated):
    model, prior = calibrated
    start = np.r_[0, 0, 0, 60, 120, 120, prior.mean]
    oracle = Oracle(shown(model, start))
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(model, prior, oracle, image, start)
    np.testing.assert_allclose(found, start, atol=0.01)
    assert off < 1e-3
    assert oracle.stages == [0, 1]
    oracle.stages.clear()
    fit_objective(model, prior, oracle, image, start, first_stage=1)
    fit_objective(model, prior, oracle, image, start, first_stage=7)
    assert oracle.stages == [1, 1]


# Indicators


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([3, 1, 2], 1),
        ([1, 2, 3], 1),
        ([3, 2, 1], 1),
        ([1, 3, 2], 2),
        ([2, 1, 1, 3], 1),
        ([2, 1, 1, 0.5], 1),
        ([1, 2, 1, 2, 1], 3),
        ([1, 1, 1], 1),
        ([4], 1),
    ],
)
def test_minima_are_counted(row, expected):
    assert count_minima(np.array([row, row])).tolist() == [expected, expected]


def test_an_ideal_objective_has_indicators_of_1(calibrated):
    _, points = sample_faces(calibrated, 3, 7)

    class Each(Oracle):
        """The truth of the face whose number the image holds."""

        def values(self, seen, points, normals, unit, stage):
            oracle = Oracle(self.truth[seen[0, 0]])
            return oracle.values(seen, points, normals, unit, stage)

    images = [np.full((240, 240), number, np.uint8) for number in range(3)]
    found = search_indicators(Each(points), images, points, reach=0.1, random_state=0)
    assert found.p1 == found.p2 == 1
    assert found.displacement < 0.006  # half the samples' distance
    assert 80 < found.n_lines <= 3 * N_VISIBLE


def test_a_wavy_objective_with_shifted_minima_has_low_ones(calibrated):
    _, points = sample_faces(calibrated, 1, 8)

    class Wavy(Oracle):
        def values(self, seen, points, normals, unit, stage):
            offsets, values = super().values(seen, points, normals, unit, stage)
            shifted = np.abs(values - 0.08)
            return offsets, shifted + 0.02 * (np.arange(41) % 2)

    image = [np.zeros((240, 240), np.uint8)]
    found = search_indicators(Wavy(points[0]), image, points, reach=0.1, random_state=0)
    assert found.p2 == 0
    assert found.p1 < 0.1
    assert found.displacement == pytest.approx(0.08, abs=0.01)


def test_points_of_another_number_are_refused(calibrated):
    image = [np.zeros((240, 240), np.uint8)]
    with pytest.raises(ValueError, match=r"\(n, 68, 2\), or \(n, 38, 2\)"):
        search_indicators(Oracle(None), image, np.zeros((1, 5, 2)), reach=0.1)
    with pytest.raises(ValueError, match="finite"):
        search_indicators(Oracle(None), image, np.full((1, 68, 2), np.nan), reach=0.1)


# Landmarks


class Cascade:
    """Finds given landmarks, and remembers the box that it was given."""

    def __init__(self, facts, landmarks):
        self.mean_shape, self.box_of = facts.mean_shape, facts.box_of
        self.landmarks, self.boxes = landmarks, []

    def predict(self, image, box, angle):
        self.boxes.append((*box, angle))
        return self.landmarks


def test_landmarks_are_looked_for_once_and_where_the_points_are(calibrated, facts):
    model, prior = calibrated
    box, angle = (60.0, 50.0, 100.0, 100.0), 0.2
    start = start_in_box(model, prior, box, angle, facts)
    move = similarity(1.05, 0.05, (110, 100), (115, 95))
    _, points = visible_points(model, facts.mean_shape)
    placement = fit_similarity(points, shown(model, start))
    landmarks = transform_points(move, transform_points(placement, facts.mean_shape))
    cascade = Cascade(facts, landmarks)
    objective = LandmarkObjective(model, cascade)
    image = np.zeros((240, 240), np.uint8)
    found, off = fit_objective(model, prior, objective, image, start)
    assert len(cascade.boxes) == 1
    np.testing.assert_allclose(cascade.boxes[0][:4], box, atol=2)
    assert cascade.boxes[0][4] == pytest.approx(angle, abs=0.02)
    _, expected = visible_points(model, landmarks)
    assert np.linalg.norm(shown(model, found) - expected, axis=1).mean() < 0.02 * found[3]
    assert off < 0.02


def test_landmarks_have_the_least_value(calibrated, facts):
    model, _ = calibrated
    rng = np.random.default_rng(9)
    _, (points,) = sample_faces(calibrated, 1, 9)
    normals = contour_normals(points)
    places = rng.uniform(-0.1, 0.1, N_VISIBLE)
    seen = points + 60 * places[:, None] * normals
    objective = LandmarkObjective(model, facts)
    offsets, values = objective.values(seen, points, normals, 60, 0)
    assert (
        np.abs(offsets[values.argmin(1)] - places).max() <= np.diff(offsets)[0] / 2 + 1e-9
    )
    targets, sure = objective.observe(seen, points, normals, 60, 0)
    np.testing.assert_array_equal(targets, seen)
    np.testing.assert_allclose(sure, np.tile(np.eye(2) / (0.03 * 60) ** 2, (38, 1, 1)))


# Edges


def test_edges_are_found_across_the_contour_and_not_along(calibrated):
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
    seen = objective.look(image, points)
    targets, sure = objective.observe(seen, points, normals, 60, 0)
    np.testing.assert_allclose(targets, on_edge, atol=1.6)
    np.testing.assert_allclose(sure @ along, 0, atol=1e-12)
    assert (np.einsum("kij,i,j->k", sure, direction, direction) > 0).all()
    offsets, values = objective.values(seen, points, normals, 60, 1)
    assert offsets[[0, -1]].tolist() == [-0.1, 0.1]
    assert 0 <= values.min() < 0.1
    assert values.max() <= 1


def test_an_image_without_edges_says_nothing(calibrated):
    _, (points,) = sample_faces(calibrated, 1, 11)
    objective = EdgeObjective()
    seen = objective.look(np.full((240, 240), 90, np.uint8), points)
    _, sure = objective.observe(seen, points, contour_normals(points), 60, 0)
    np.testing.assert_array_equal(sure, 0)
    model, prior = calibrated
    start = np.r_[0, 0, 0, 60, 120, 120, prior.mean]
    found, off = fit_objective(
        model, prior, objective, np.full((240, 240), 90, np.uint8), start
    )
    np.testing.assert_allclose(found, start, atol=1e-6)
    assert off == np.inf


def test_indicators_of_designed_objectives(calibrated, facts):
    model, _ = calibrated
    _, points = sample_faces(calibrated, 2, 12)
    rng = np.random.default_rng(13)
    images = list(rng.integers(0, 255, (2, 240, 240), dtype=np.uint8))
    edges = EdgeObjective((0.2,)).indicators(images, points, random_state=0)
    assert edges.p2 < 0.2
    assert edges.p1 < 0.6
    found = LandmarkObjective(model, facts).indicators(images, points, random_state=0)
    assert found.p2 == 1
