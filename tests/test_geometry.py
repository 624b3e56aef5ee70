import cv2
import numpy as np
import pytest
from scipy.spatial import procrustes
from skimage.measure import block_reduce
from skimage.transform import SimilarityTransform, estimate_transform
from skimage.transform import warp as skimage_warp

from ferpipe.geometry import (
    average_blocks,
    compose,
    fit_similarity,
    invert,
    similarity,
    transform_points,
    warp,
)


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(-20, 90, (30, 2))


def test_similarity_turns_scales_and_places_as_in_skimage(points):
    expected = SimilarityTransform(scale=1.7, rotation=0.4, translation=(3, -8))
    matrix = similarity(1.7, 0.4, (0, 0), (3, -8))
    np.testing.assert_allclose(matrix, expected.params[:2])
    np.testing.assert_allclose(transform_points(matrix, points), expected(points))


def test_similarity_takes_the_center_to_the_target():
    matrix = similarity(0.3, 2, (5, 6), (-1, 9))
    np.testing.assert_allclose(transform_points(matrix, np.array([5, 6])), (-1, 9))


def test_a_positive_angle_turns_clockwise_on_the_screen():
    matrix = similarity(1, np.pi / 2, (0, 0), (0, 0))
    right, down = np.array([1, 0]), np.array([0, 1])
    np.testing.assert_allclose(transform_points(matrix, right), down, atol=1e-12)


def test_fit_recovers_a_similarity(points):
    matrix = similarity(0.6, -1.1, (4, 4), (50, 60))
    found = fit_similarity(points, transform_points(matrix, points))
    np.testing.assert_allclose(found, matrix, atol=1e-10)


def test_fit_has_the_residual_of_scipys_procrustes_analysis(points):
    other = points + np.random.default_rng(1).normal(0, 6, points.shape)
    residual = transform_points(fit_similarity(points, other), points) - other
    _, _, disparity = procrustes(other, points)
    size = ((other - other.mean(0)) ** 2).sum()
    assert (residual**2).sum() / size == pytest.approx(disparity)


def test_fit_never_mirrors(points):
    mirrored = points * (-1, 1)
    matrix = fit_similarity(points, mirrored)
    assert np.linalg.det(matrix[:, :2]) > 0
    expected = estimate_transform("similarity", points, mirrored).params[:2]
    np.testing.assert_allclose(matrix, expected, atol=1e-10)


def test_fit_of_one_place_is_refused():
    with pytest.raises(ValueError, match="at least two different points"):
        fit_similarity(np.ones((3, 2)), np.ones((3, 2)))


def test_invert_and_compose(points):
    first, second = similarity(2, 0.3, (1, 2), (3, 4)), similarity(0.7, -1, (0, 5), (6, 6))
    np.testing.assert_allclose(
        transform_points(compose(second, first), points),
        transform_points(second, transform_points(first, points)),
    )
    np.testing.assert_allclose(
        compose(invert(first), first), np.eye(2, 3), rtol=0, atol=1e-12
    )


# Warps


def smooth_image(shape):
    noise = np.random.default_rng(2).uniform(0, 255, shape).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 6)


def test_warp_equals_skimage(points):
    image = smooth_image((90, 70))
    matrix = similarity(1.3, 0.2, (35, 45), (40, 50))
    inverse = SimilarityTransform(np.vstack([invert(matrix), [0, 0, 1]]))
    expected = skimage_warp(
        image, inverse, output_shape=(100, 80), order=1, mode="edge", preserve_range=True
    )
    np.testing.assert_allclose(warp(image, matrix, (100, 80)), expected, atol=0.5)


@pytest.mark.parametrize("shrinks", [2, 3, 5])
def test_warp_puts_structures_where_the_matrix_says(shrinks):
    rows, columns = np.mgrid[:200, :200].astype(np.float32)
    center = np.array([110.0, 90.0])
    blob = np.exp(-((columns - center[0]) ** 2 + (rows - center[1]) ** 2) / 400)
    matrix = similarity(1 / shrinks, 0.5, (100, 100), (30, 30))
    small = warp(blob.astype(np.float32), matrix, (60, 60))
    total = small.sum()
    rows, columns = np.mgrid[:60, :60]
    found = (columns * small).sum() / total, (rows * small).sum() / total
    np.testing.assert_allclose(found, transform_points(matrix, center), atol=0.02)


@pytest.mark.parametrize("shrinks", [2, 4, 7])
def test_warp_does_not_alias(shrinks):
    stripes = np.tile(np.array([0, 255], np.uint8), (240, 120))
    small = warp(stripes, similarity(1 / shrinks, 0, (0, 0), (2, 2)), (20, 20))
    assert np.ptp(small[:, 3:]) <= 255 / shrinks + 1  # sampling would leave 255
    assert small[:, 3:].mean() == pytest.approx(127.5, abs=2)


def test_what_is_beside_a_shrunk_image_looks_like_its_border():
    image = np.zeros((50, 41, 3), np.uint8)
    image[:, -5:] = 90
    image[:, :5] = 30
    image[-3:, :5] = 50
    right = warp(image, similarity(1 / 3, 0, (20, 20), (-53, 7)), (8, 15))
    assert (right == 90).all()
    left = warp(image, similarity(1 / 3, 0, (20, 20), (67, 7)), (8, 15))
    assert (left == 30).all()
    below = warp(image, similarity(1 / 3, 0, (0, 50), (0, -40)), (9, 2))
    assert (below[:, 0] == 50).all()
    whole = warp(image, similarity(1 / 4, 0, (20, 25), (50, 50)), (101, 101))
    assert (whole[:40, :40] == 30).all()
    assert (whole[90:, :20] == 50).all()


def test_blocks_are_averages():
    image = np.random.default_rng(0).integers(0, 256, (31, 40)).astype(np.float32)
    small, matrix = average_blocks(image, (13, 9), (25, 14), 3)
    # 6 more pixels on every side
    left, top = transform_points(matrix, np.zeros(2)) - 1
    assert (left, top) == (7, 3)
    expected = block_reduce(image[3:21, 7:31], 3, np.mean)
    np.testing.assert_allclose(small[:6, :8], expected, rtol=1e-5)
    whole, _ = average_blocks(image, (-90, -90), (90, 90), 2)
    assert whole.shape == (16, 20)
    beside, matrix = average_blocks(image, (90, 10), (95, 12), 2)
    assert 0 < beside.shape[1] <= 3
    assert transform_points(matrix, np.zeros(2))[0] >= 35


def test_warp_keeps_colors_and_dtype():
    image = np.zeros((40, 40, 3), np.uint8)
    image[..., 0] = 200
    warped = warp(image, similarity(0.4, 0, (0, 0), (5, 5)), (10, 12))
    assert warped.shape == (10, 12, 3)
    assert warped.dtype == np.uint8
    assert (warped == [200, 0, 0]).all()
