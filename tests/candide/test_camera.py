from functools import partial
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from ferpipe.candide.camera import (
    depths,
    fit_pose,
    mirror_parameters,
    project,
    project_with_jacobian,
    rotation_matrix,
    rough_poses,
)
from ferpipe.candide.model import CandideModel

RIGHT, TOP, NOSE = np.eye(3)
FRONTAL = np.array([0, 0, 0, 100, 50, 60.0])


def turned(**changes):
    """Return the frontal pose with some of its numbers changed."""
    names = ["rx", "ry", "rz", "s", "tx", "ty"]
    return np.array(
        [changes.get(name, value) for name, value in zip(names, FRONTAL, strict=True)]
    )


def random_poses(rng, n, most=np.radians(60)):
    angles = rng.uniform(-most, most, (n, 3))
    return np.column_stack([angles, rng.uniform(20, 200, n), rng.uniform(0, 300, (n, 2))])


def random_vertices(rng, n, relief=0.4):
    """Return vertices as far forward of a plane as those of faces."""
    return rng.uniform(-1, 1, (n, 3)) * (1, 1.3, relief) + (0.1, -0.2, 0.3)


def random_model(rng, n=9, n_shape=3, n_animation=4):
    return CandideModel(
        vertices=rng.normal(size=(n, 3)),
        triangles=np.array([[0, 1, 2]]),
        shape_units=rng.normal(size=(n_shape, n, 3)),
        animation_units=rng.normal(size=(n_animation, n, 3)),
        shape_names=tuple(f"shape {index}" for index in range(n_shape)),
        animation_names=tuple(f"animation {index}" for index in range(n_animation)),
    )


def random_parameters(rng, model, n):
    units = rng.normal(0, 0.3, (n, len(model.parameter_names) - 6))
    return np.column_stack([random_poses(rng, n), units])


def same_rotation(angles, expected, atol=1e-9):
    np.testing.assert_allclose(
        rotation_matrix(angles), rotation_matrix(expected), rtol=0, atol=atol
    )


# Rotation and projection


def test_rotation_is_scipys_about_fixed_axes_x_y_z():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (4, 5, 3))
    expected = Rotation.from_euler("xyz", angles.reshape(-1, 3)).as_matrix()
    np.testing.assert_allclose(
        rotation_matrix(angles), expected.reshape(4, 5, 3, 3), atol=1e-14
    )
    np.testing.assert_allclose(rotation_matrix(angles[0, 0]), expected[0], atol=1e-14)


def test_a_frontal_face_is_upright_and_y_goes_down():
    points = project([RIGHT, TOP, NOSE], FRONTAL)
    np.testing.assert_allclose(points, [(150, 60), (50, -40), (50, 60)])
    assert points.dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "vertex", "column", "row", "depth"),
    [
        ({"rx": 0.3}, TOP, 0, -np.cos(0.3), np.sin(0.3)),  # nods down: the top comes near
        ({"rx": 0.3}, NOSE, 0, np.sin(0.3), np.cos(0.3)),  # and the nose goes down
        ({"ry": 0.3}, NOSE, np.sin(0.3), 0, np.cos(0.3)),  # turns the nose to the right
        ({"ry": 0.3}, RIGHT, np.cos(0.3), 0, -np.sin(0.3)),
        ({"rz": 0.3}, TOP, -np.sin(0.3), -np.cos(0.3), 0),  # tilts counter-clockwise
        ({"rz": 0.3}, RIGHT, np.cos(0.3), -np.sin(0.3), 0),
    ],
)
def test_signs_of_the_angles(changes, vertex, column, row, depth):
    pose = turned(**changes)
    (point,) = project([vertex], pose)
    np.testing.assert_allclose(point, (50 + 100 * column, 60 + 100 * row))
    np.testing.assert_allclose(depths([vertex], pose), [depth], atol=1e-12)


def test_the_turns_come_in_the_order_x_y_z():
    quarter = np.pi / 2
    (point,) = project([TOP], turned(rx=quarter, ry=quarter, rz=quarter))
    # up, then to the camera, then to the right, then up
    np.testing.assert_allclose(point, (50, -40), atol=1e-12)


def test_projection_of_batches_is_that_of_each():
    rng = np.random.default_rng(1)
    vertices, poses = rng.normal(size=(2, 3, 7, 3)), random_poses(rng, 6).reshape(2, 3, 6)
    points, depth = project(vertices, poses), depths(vertices, poses)
    assert points.shape == (2, 3, 7, 2)
    assert depth.shape == (2, 3, 7)
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(points[index], project(vertices[index], poses[index]))
        np.testing.assert_allclose(depth[index], depths(vertices[index], poses[index]))
        np.testing.assert_allclose(
            project(vertices[0, 0], poses)[index], project(vertices[0, 0], poses[index])
        )


# Jacobian


def differences(function, x, step=1e-6):
    """Return the central differences of a function, those of x last."""
    columns = []
    for index in range(len(x)):
        change = np.zeros(len(x))
        change[index] = step
        columns.append((function(x + change) - function(x - change)) / (2 * step))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("seed", range(5))
def test_jacobian_is_that_of_finite_differences(seed):
    rng = np.random.default_rng(seed)
    model = random_model(rng, n_shape=seed, n_animation=4 - seed)
    (parameters,) = random_parameters(rng, model, 1)

    def points_at(parameters):
        pose, sigma, alpha = model.split(parameters)
        return project(model.shape(sigma, alpha), pose)

    points, jacobian = project_with_jacobian(model, parameters)
    np.testing.assert_allclose(points, points_at(parameters))
    assert jacobian.shape == (9, 2, 10)
    np.testing.assert_allclose(
        jacobian, differences(points_at, parameters), rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("chosen", [[4, 0, 7, 0], (3,), np.array([8, 2]), []])
def test_jacobian_of_chosen_vertices(chosen):
    rng = np.random.default_rng(2)
    model = random_model(rng)
    (parameters,) = random_parameters(rng, model, 1)
    points, jacobian = project_with_jacobian(model, parameters)
    some_points, some = project_with_jacobian(model, parameters, chosen)
    chosen = np.array(chosen, int)
    np.testing.assert_allclose(some_points, points[chosen])
    np.testing.assert_allclose(some, jacobian[chosen])


def test_jacobians_of_batches_are_those_of_each():
    rng = np.random.default_rng(3)
    model = random_model(rng)
    parameters = random_parameters(rng, model, 6).reshape(2, 3, -1)
    points, jacobian = project_with_jacobian(model, parameters, [5, 1])
    assert points.shape == (2, 3, 2, 2)
    assert jacobian.shape == (2, 3, 2, 2, 13)
    for index in np.ndindex(2, 3):
        one_points, one = project_with_jacobian(model, parameters[index], [5, 1])
        np.testing.assert_allclose(points[index], one_points)
        np.testing.assert_allclose(jacobian[index], one)


def test_parameters_of_another_model_are_refused():
    model = random_model(np.random.default_rng(0))
    with pytest.raises(ValueError, match="got 12:"):
        project_with_jacobian(model, np.zeros(12))


# Pose of known vertices


def weighted_error(pose, vertices, points, weights):
    return (weights * ((project(vertices, pose) - points) ** 2).sum(1)).sum()


def least_error(vertices, points, weights, starts):
    """Return the least error that scipy finds from many starts."""

    def residuals(pose):
        misses = project(vertices, pose) - points
        return (np.sqrt(weights)[:, None] * misses).ravel()

    tight = {"xtol": 1e-12, "ftol": 1e-12, "x_scale": "jac"}
    return 2 * min(least_squares(residuals, start, **tight).cost for start in starts)


@pytest.mark.parametrize("relief", [1, 0.3, 0.05, 1e-4])
@pytest.mark.parametrize("n", [4, 5, 37])
def test_fit_recovers_poses(relief, n):
    rng = np.random.default_rng(n)
    for pose in random_poses(rng, 60):
        vertices = random_vertices(rng, n, relief)
        found = fit_pose(vertices, project(vertices, pose))
        np.testing.assert_allclose(found, pose, rtol=0, atol=1e-6)
        assert found.shape == (6,)


@pytest.mark.parametrize("relief", [1, 0.3, 0.05])
@pytest.mark.parametrize("noise", [0.02, 0.2, 1])
def test_fit_has_the_least_error(relief, noise):
    rng = np.random.default_rng(0)
    for pose in random_poses(rng, 6):
        vertices, weights = random_vertices(rng, 15, relief), rng.uniform(0.1, 2, 15)
        points = project(vertices, pose) + rng.normal(0, noise * pose[3], (15, 2))
        found = fit_pose(vertices, points, weights)
        starts = random_poses(rng, 10, np.pi)
        starts[:, 3], starts[:, 4:] = pose[3], points.mean(0)
        least = least_error(vertices, points, weights, [pose, *starts])
        assert weighted_error(found, vertices, points, weights) <= least * (1 + 1e-9)


@pytest.mark.parametrize("relief", [1, 0.3, 0.01])
@pytest.mark.parametrize("noise", [0.1, 1])
def test_fit_stops_where_the_gradient_is_zero(relief, noise):
    rng = np.random.default_rng(1)
    for pose in random_poses(rng, 40):
        vertices, weights = random_vertices(rng, 15, relief), rng.uniform(0.1, 2, 15)
        points = project(vertices, pose) + rng.normal(0, noise * pose[3], (15, 2))
        found = fit_pose(vertices, points, weights)
        root = np.sqrt(weights)[:, None]
        residual = (root * (project(vertices, found) - points)).ravel()
        slopes = differences(partial(project, vertices), found)
        slopes = (root[..., None] * slopes).reshape(30, 6)
        cosines = residual @ slopes / np.linalg.norm(slopes, axis=0)
        np.testing.assert_allclose(cosines / np.linalg.norm(residual), 0, atol=1e-7)


# with the last three, Newton's full steps miss the optimum or go out of all bounds
@pytest.mark.parametrize(
    ("seed", "relief"), [(0, 1), (1, 0.1), (646, 0.1), (1440, 0.1), (2064, 1)]
)
def test_fit_of_points_that_show_something_else(seed, relief):
    rng = np.random.default_rng(seed)
    vertices, points = rng.normal(size=(4, 3)) * (1, 1, relief), rng.normal(size=(4, 2))
    error = weighted_error(fit_pose(vertices, points), vertices, points, np.ones(4))
    starts = random_poses(rng, 10, np.pi)
    starts[:, 3], starts[:, 4:] = 1, points.mean(0)
    least = least_error(vertices, points, np.ones(4), starts)
    assert error <= least * (1 + 1e-9)


def test_weights_count_points():
    rng = np.random.default_rng(2)
    vertices = random_vertices(rng, 12)
    points = project(vertices, turned(rx=0.2, ry=-0.5)) + rng.normal(0, 9, (12, 2))
    weights = rng.integers(0, 4, 12)
    repeated = np.repeat(np.arange(12), weights)
    expected = fit_pose(vertices[repeated], points[repeated])
    np.testing.assert_allclose(fit_pose(vertices, points, weights), expected, atol=1e-8)
    np.testing.assert_allclose(
        fit_pose(vertices, points, 7.5 * weights), expected, atol=1e-8
    )
    assert np.abs(fit_pose(vertices, points) - expected).max() > 0.01
    np.testing.assert_allclose(
        fit_pose(vertices, points, np.ones(12)), fit_pose(vertices, points)
    )


def test_points_of_no_weight_may_be_anywhere():
    rng = np.random.default_rng(3)
    vertices, pose = random_vertices(rng, 12), turned(rx=-0.4, rz=0.3)
    points = project(vertices, pose)
    points[7] += 1000
    assert np.abs(fit_pose(vertices, points) - pose).max() > 1
    found = fit_pose(vertices, points, np.arange(12) != 7)
    np.testing.assert_allclose(found, pose, atol=1e-9)


@pytest.mark.parametrize("normal", [(0, 0, 0), (0.4, -0.7, 0.2)])
def test_flat_vertices_leave_two_poses(normal):
    rng = np.random.default_rng(4)
    plane = rotation_matrix(normal)
    for pose in random_poses(rng, 20):
        vertices = random_vertices(rng, 10, 0) @ plane.T
        points = project(vertices, pose)
        found = fit_pose(vertices, points)
        np.testing.assert_allclose(project(vertices, found), points, atol=1e-8)
        # a plane tilted the other way looks the same
        along = np.diag([1, 1, -1])
        other = along @ rotation_matrix(pose[:3]) @ plane @ along @ plane.T
        misses = [
            np.abs(rotation_matrix(found[:3]) - rotation).max()
            for rotation in (rotation_matrix(pose[:3]), other)
        ]
        assert min(misses) < 1e-7
        assert found[3] == pytest.approx(pose[3])


def test_fit_of_flat_vertices_has_the_least_error():
    rng = np.random.default_rng(5)
    for pose in [FRONTAL, *random_poses(rng, 6)]:
        vertices, weights = random_vertices(rng, 10, 0), rng.uniform(0.1, 2, 10)
        points = project(vertices, pose) + rng.normal(0, 0.1 * pose[3], (10, 2))
        found = fit_pose(vertices, points, weights)
        # an affine camera shows a plane as well as a turned one
        root = np.sqrt(weights)[:, None]
        design = root * np.column_stack([vertices[:, :2], np.ones(10)])
        _, residuals, *_ = np.linalg.lstsq(design, root * points)
        error = weighted_error(found, vertices, points, weights)
        assert error == pytest.approx(residuals.sum())


def test_fit_of_a_flat_frontal_face():
    vertices = random_vertices(np.random.default_rng(6), 10, 0)
    found = fit_pose(vertices, project(vertices, FRONTAL))
    np.testing.assert_allclose(found, FRONTAL, atol=1e-6)


def test_fit_of_a_diamond_without_any_rounding():
    pose = turned(s=2, tx=0, ty=0)
    for vertices in permutations([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)]):
        found = fit_pose(vertices, project(vertices, pose))
        np.testing.assert_allclose(found, pose, atol=1e-6)


@pytest.mark.parametrize("tilt", [{"rx": 0.2}, {"rx": -0.2}, {"ry": 0.2}, {"ry": -0.2}])
def test_a_little_relief_tells_which_way_a_face_is_tilted(tilt):
    rng = np.random.default_rng(7)
    vertices, pose = random_vertices(rng, 30, 0.1), turned(**tilt)
    points = project(vertices, pose) + rng.normal(0, 0.2, (30, 2))
    np.testing.assert_allclose(fit_pose(vertices, points)[:3], pose[:3], atol=0.03)


def test_angles_are_within_their_ranges():
    rng = np.random.default_rng(8)
    vertices = random_vertices(rng, 10)
    turns = np.pi / 2 * np.array(list(np.ndindex(5, 5, 5))) - np.pi
    for angles in [*rng.uniform(-7, 7, (100, 3)), *turns]:
        points = project(vertices, turned(rx=angles[0], ry=angles[1], rz=angles[2]))
        found = fit_pose(vertices, points)
        same_rotation(found[:3], angles, atol=1e-7)
        assert abs(found[1]) <= np.pi / 2
        assert (-np.pi < found[[0, 2]]).all()
        assert (found[[0, 2]] <= np.pi).all()
        assert found[3] == pytest.approx(100)


def test_a_mirrored_frontal_face_is_one_from_behind():
    vertices = random_vertices(np.random.default_rng(9), 10)
    found = fit_pose(vertices, project(vertices * (-1, 1, 1), FRONTAL))
    same_rotation(found[:3], (0, np.pi, 0))
    assert found[3] == pytest.approx(100)


def test_fits_that_leave_the_pose_open_are_refused():
    rng = np.random.default_rng(10)
    vertices = random_vertices(rng, 8)
    points = project(vertices, FRONTAL)
    with pytest.raises(ValueError, match="at least 4 points with a weight, got 3"):
        fit_pose(vertices[:3], points[:3])
    with pytest.raises(ValueError, match="at least 4 points with a weight, got 3"):
        fit_pose(vertices, points, [1, 0, 0, 2, 0, 3, 0, 0])
    with pytest.raises(ValueError, match="as when all are equal"):
        fit_pose(vertices, np.full((8, 2), 123.4))
    with pytest.raises(ValueError, match="as when all are equal"):
        fit_pose(vertices, np.zeros((8, 2)))
    line = rng.normal(size=(8, 1)) * (0.3, 0.4, -0.5) + (1, 2, 3)
    with pytest.raises(ValueError, match="lie on a line"):
        fit_pose(line, points)
    with pytest.raises(ValueError, match="lie on a line"):
        fit_pose(np.ones((8, 3)), points)
    with pytest.raises(ValueError, match="must not be negative, the least is -1"):
        fit_pose(vertices, points, [1, 1, 1, 1, 1, 1, -1, 1])
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match="must be finite"):
            fit_pose(vertices, np.where(points == points[3, 0], wrong, points))


# Mirroring

WIDTH = 250
# vertices 0 and 1 are on the middle line, the others have a partner
PARTNERS = np.array([0, 1, 3, 2, 5, 4, 7, 6])


def mirrored_vectors(vectors):
    return vectors[..., PARTNERS, :] * (-1, 1, 1)


@pytest.fixture
def symmetric():
    rng = np.random.default_rng(0)
    rest, both, left, other, wide = rng.normal(size=(5, 8, 3))
    return CandideModel(
        vertices=rest + mirrored_vectors(rest),
        triangles=np.array([[0, 2, 3]]),
        shape_units=np.array([left, wide + mirrored_vectors(wide), mirrored_vectors(left)]),
        animation_units=np.array(
            [both + mirrored_vectors(both), other, mirrored_vectors(other)]
        ),
        shape_names=("left eye", "wide", "right eye"),
        animation_names=("jaw", "left brow", "right brow"),
        mirrored_shape=(2, 1, 0),
        mirrored_animation=(0, 2, 1),
    )


def test_mirrored_parameters_show_the_mirrored_face(symmetric):
    parameters = random_parameters(np.random.default_rng(1), symmetric, 20)
    points, _ = project_with_jacobian(symmetric, parameters)
    mirrored = mirror_parameters(symmetric, parameters, WIDTH)
    found, _ = project_with_jacobian(symmetric, mirrored)
    expected = points[:, PARTNERS]
    expected[..., 0] = WIDTH - 1 - expected[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_mirroring_takes_each_parameter_to_its_own():
    model = random_model(np.random.default_rng(2), n_shape=3, n_animation=0)
    model = CandideModel(**{**vars(model), "mirrored_shape": (2, 1, 0)})
    found = mirror_parameters(model, [0.1, 0.2, 0.3, 90, 40, 70, 1, 2, 3], WIDTH)
    np.testing.assert_allclose(found, [0.1, -0.2, -0.3, 90, 209, 70, 3, 2, 1])


def test_mirroring_twice_changes_nothing(symmetric):
    parameters = random_parameters(np.random.default_rng(3), symmetric, 6).reshape(2, 3, -1)
    before = parameters.copy()
    mirrored = mirror_parameters(symmetric, parameters, WIDTH)
    np.testing.assert_allclose(mirror_parameters(symmetric, mirrored, WIDTH), parameters)
    np.testing.assert_array_equal(parameters, before)
    for index in np.ndindex(2, 3):
        one = mirror_parameters(symmetric, parameters[index], WIDTH)
        np.testing.assert_array_equal(mirrored[index], one)


@pytest.mark.parametrize("missing", ["mirrored_shape", "mirrored_animation"])
def test_mirroring_needs_the_partners(symmetric, missing):
    model = CandideModel(**{**vars(symmetric), missing: ()})
    with pytest.raises(
        ValueError, match=r"lacks the partner.*mirrored_shape and mirrored_animation"
    ):
        mirror_parameters(model, np.zeros(12), WIDTH)


def test_parameters_of_another_model_are_not_mirrored(symmetric):
    with pytest.raises(ValueError, match="got 13:"):
        mirror_parameters(symmetric, np.zeros(13), WIDTH)


def test_rough_poses_are_exact_without_noise():
    rng = np.random.default_rng(3)
    vertices = rng.normal(size=(12, 3))
    poses = np.column_stack(
        [rng.uniform(-1, 1, (20, 3)), rng.uniform(20, 90, 20), rng.uniform(0, 200, (20, 2))]
    )
    points = project(vertices, poses)
    weights = rng.uniform(0.5, 2, points.shape[:2])
    np.testing.assert_allclose(rough_poses(vertices, points, weights), poses, atol=1e-8)
    # a point without weight does not matter
    weights[:, 4] = 0
    points[:, 4] += 50
    np.testing.assert_allclose(rough_poses(vertices, points, weights), poses, atol=1e-8)
    points[7] = points[7, 0]
    with pytest.raises(ValueError, match="not determine a pose"):
        rough_poses(vertices, points, weights)
