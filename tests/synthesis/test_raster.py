import numpy as np
import pytest

from ferpipe.synthesis.raster import find_sides, interpolate, rasterize

SIZE = 40


def label(corners, size=SIZE):
    """Rasterize triangles (t, 3, 2) with their numbers as labels."""
    x, y = np.moveaxis(np.asarray(corners, float), (2, 1), (0, 1))
    sides, heights = find_sides(x, y)
    numbers = np.arange(len(corners), dtype=np.int16)
    return rasterize(sides, heights, numbers, len(corners), size)


def covers(triangle, x, y):
    """Tell whether points lie within a triangle, by the side of each edge they are on."""
    turns = []
    for (x1, y1), (x2, y2) in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        turns.append((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1))
    return (np.array(turns) >= 0).all(0) | (np.array(turns) <= 0).all(0)


@pytest.mark.parametrize("seed", range(5))
def test_the_last_triangle_over_a_pixel_labels_it(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-15, SIZE + 15, (30, 3, 2))
    y, x = np.mgrid[:SIZE, :SIZE]
    expected = np.full((SIZE, SIZE), 30)
    for number, triangle in enumerate(corners):
        expected[covers(triangle, x, y)] = number
    labelled = label(corners)
    assert labelled.dtype == np.int16
    np.testing.assert_array_equal(labelled, expected)


def test_neighbours_leave_no_gap_and_do_not_overlap():
    rng = np.random.default_rng(0)
    inner = [[7.5, 31], [20, 30.5], *rng.uniform(3, 37, (20, 2))]
    for middle in inner:
        outline = [[0, 0], [39, 0], [39, 39], [0, 39]]
        fan = [
            (middle, a, b) for a, b in zip(outline, np.roll(outline, -1, 0), strict=True)
        ]
        counts = sum((label([triangle]) == 0).astype(int) for triangle in fan)
        assert (counts[:39, :39] == 1).all()
        # what ends on the last row or column does not cover it
        assert not counts[39].any()
        assert not counts[:, 39].any()


def test_order_and_direction_of_the_corners_do_not_matter():
    corners = np.array([[[3.2, 5.1], [31.7, 12.4], [11.3, 33.8]]])
    expected = label(corners)
    assert (expected == 0).sum() == pytest.approx(379, abs=12)
    for order in ((1, 2, 0), (2, 1, 0), (0, 2, 1)):
        np.testing.assert_array_equal(label(corners[:, order]), expected)


def test_what_covers_no_pixel_labels_none():
    nothing = [
        [[3, 3], [3, 20], [3, 11]],
        [[3, 3], [20, 3], [11, 3]],
        [[5.2, 5.2], [5.8, 5.2], [5.5, 5.8]],
        [[-9, -9], [-2, 5], [-3, 30]],
        [[1e9, 2e9], [2e9, 3e9], [3e9, 1e9]],
    ]
    assert (label(nothing) == len(nothing)).all()
    assert (label(np.zeros((0, 3, 2))) == 0).all()


def test_many_sets_at_once_are_as_each_alone():
    corners = np.random.default_rng(1).uniform(0, SIZE, (2, 4, 3, 7))
    sides, heights = find_sides(*corners)
    assert sides.shape == (4, 4, 7, 2)
    assert heights.shape == (4, 3, 7)
    for i in range(4):
        alone = find_sides(*corners[:, i])
        np.testing.assert_array_equal(alone[0], sides[i])
        np.testing.assert_array_equal(alone[1], heights[i])


def test_values_are_those_of_the_triangle_at_each_point():
    gradients = np.random.default_rng(2).normal(size=(2, 3, 3)).astype(np.float32)
    labels = np.array([[0, 1, 2], [2, 2, 1]])
    x, y = np.array([0.5, 1.5, 2.5], np.float32), np.array([[3], [4]], np.float32)
    values = interpolate(gradients, labels, x, y)
    assert values.dtype == np.float32
    for k, row, column in np.ndindex(2, 2, 3):
        a, b, c = gradients[k, :, labels[row, column]]
        expected = a * x[column] + b * y[row, 0] + c
        assert values[k, row, column] == pytest.approx(expected, rel=1e-5)
