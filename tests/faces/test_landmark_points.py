import numpy as np
import pytest

from ferpipe.faces.landmark_points import (
    INNER,
    MIRRORED,
    eye_centers,
    outer_eye_distance,
    read_pts,
)

# the parts of the face, each from its outer or upper end
JAW, LEFT_BROW, RIGHT_BROW = range(17), range(17, 22), range(22, 27)
LEFT_EYE, RIGHT_EYE = range(36, 42), range(42, 48)


def write_pts(path, points, n_points=None):
    lines = "\n".join(f"{x:.6f} {y:.6f}" for x, y in points)
    count = len(points) if n_points is None else n_points
    path.write_text(f"version: 1\nn_points:  {count}\n{{\n{lines}\n}}\n")
    return path


def test_mirroring_twice_changes_nothing():
    assert sorted(MIRRORED) == list(range(68))
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(68))


def test_mirroring_swaps_the_sides_and_keeps_the_middle():
    assert set(MIRRORED[LEFT_EYE]) == set(RIGHT_EYE)
    assert set(MIRRORED[LEFT_BROW]) == set(RIGHT_BROW)
    assert set(MIRRORED[JAW]) == set(JAW)
    middle = {number for number in range(68) if MIRRORED[number] == number}
    assert middle == {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    # outer corners and upper lids keep their meaning
    assert MIRRORED[[36, 37, 39, 41]].tolist() == [45, 44, 42, 46]
    assert MIRRORED[[48, 60, 31, 17, 0]].tolist() == [54, 64, 35, 26, 16]


def test_eyes():
    landmarks = np.zeros((2, 68, 2))
    landmarks[:, LEFT_EYE] = (10, 20)
    landmarks[:, RIGHT_EYE] = (40, 24)
    landmarks[:, 36] = (4, 20)
    landmarks[:, 45] = (44, 20)
    expected = [[9, 20], [40 + 4 / 6, 24 - 4 / 6]]
    np.testing.assert_allclose(eye_centers(landmarks), [expected] * 2)
    np.testing.assert_allclose(outer_eye_distance(landmarks), [40, 40])


def test_inner_points_leave_the_jaw_out():
    assert list(range(68))[INNER] == list(range(17, 68))


def test_pts_files_count_pixels_from_one(tmp_path):
    points = np.random.default_rng(0).uniform(1, 200, (68, 2))
    path = write_pts(tmp_path / "a.pts", points)
    np.testing.assert_allclose(read_pts(path), points - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a .pts file"),
        ("words\n", "not a .pts file"),
        ("version: 1\nn_points: 2\n{\n1 2\n", "expected 2 points within braces"),
        ("version: 1\nn_points: 2\n{\n1 2\n}\n", "expected 2 points .* found 2 numbers"),
        ("version: 1\nn_points: 1\n{\n1 x\n}\n", "not a .pts file"),
        ("version: 1\nn_points: 1\n{\n1 nan\n}\n", "not finite"),
        (" " * (2**20 + 1), "larger than the 1,048,576 bytes"),
    ],
)
def test_wrong_pts_files_are_named(tmp_path, text, message):
    (tmp_path / "a.pts").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.pts: .*{message}"):
        read_pts(tmp_path / "a.pts")
