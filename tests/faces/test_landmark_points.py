import numpy as np

from ferpipe.faces.landmark_points import (
    INNER,
    MIRRORED,
    eye_centers,
    outer_eye_distance,
)

# the parts of the face, each from its outer or upper end
JAW, LEFT_BROW, RIGHT_BROW = range(17), range(17, 22), range(22, 27)
LEFT_EYE, RIGHT_EYE = range(36, 42), range(42, 48)


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
