import numpy as np
from wireframe_faces import MODEL, N_VISIBLE, sample_faces

from ferpipe.candide.visible_points import (
    contour_normals,
    mean_shape,
    visible_partners,
    visible_points,
)
from ferpipe.faces.landmark_points import MIRRORED
from ferpipe.geometry import similarity, transform_points


def test_partners_are_those_of_the_68_points():
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(0, 200, (68, 2))
    _, points = visible_points(MODEL, landmarks)
    _, mirrored = visible_points(MODEL, (landmarks * (-1, 1))[MIRRORED])
    np.testing.assert_allclose(mirrored, (points * (-1, 1))[visible_partners()])


def test_normals_are_across_the_lips_and_the_brows():
    _, points = sample_faces(5, 1)
    normals = contour_normals(points)
    assert normals.shape == points.shape
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1)
    visible = sorted(MODEL.landmarks)
    at = {name: visible.index(v) for name, v in MODEL.vertex_names.items() if v in visible}
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


def test_normals_follow_their_faces():
    _, points = sample_faces(1, 2)
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


def test_mean_shape_is_level_symmetrical_and_of_size_1():
    _, points = sample_faces(10, 3)
    mean = mean_shape(points)
    left, right = (
        sorted(MODEL.landmarks).index(MODEL.vertex_names[f"eye_outer_{side}"])
        for side in ("left", "right")
    )
    np.testing.assert_allclose(mean[left], (0.5, 0), atol=1e-12)
    np.testing.assert_allclose(mean[right], (-0.5, 0), atol=1e-12)
    np.testing.assert_allclose(mean[visible_partners()], mean * (-1, 1), atol=1e-12)
    moved = [transform_points(similarity(1.5, 0.3, (0, 0), (9, 9)), p) for p in points]
    np.testing.assert_allclose(mean_shape(np.array(moved)), mean, atol=1e-6)


def test_visible_points_are_means_of_their_landmarks():
    landmarks = np.random.default_rng(0).uniform(0, 300, (4, 5, 68, 2))
    vertices, points = visible_points(MODEL, landmarks)
    assert vertices.tolist() == sorted(MODEL.landmarks)
    assert points.shape == (4, 5, len(vertices), 2)
    numbers = {MODEL.vertex_names[name]: name for name in MODEL.vertex_names}
    found = {numbers[vertex]: points[..., i, :] for i, vertex in enumerate(vertices)}
    np.testing.assert_array_equal(found["nose_tip"], landmarks[..., 30, :])
    np.testing.assert_array_equal(found["eye_outer_right"], landmarks[..., 36, :])
    for name, (one, other) in {
        "upper_lid_right": (37, 38),
        "lower_lid_left": (46, 47),
        "lower_lip_side_left": (55, 56),
    }.items():
        middle = (landmarks[..., one, :] + landmarks[..., other, :]) / 2
        np.testing.assert_allclose(found[name], middle)


def test_visible_points_of_one_face():
    landmarks = np.random.default_rng(1).uniform(0, 300, (2, 68, 2))
    _, both = visible_points(MODEL, landmarks)
    _, one = visible_points(MODEL, landmarks[1])
    np.testing.assert_array_equal(one, both[1])


def test_visible_vertices_are_those_that_landmarks_show():
    vertices, _ = visible_points(MODEL, np.zeros((1, 68, 2)))
    assert set(vertices) == set(MODEL.landmarks)
