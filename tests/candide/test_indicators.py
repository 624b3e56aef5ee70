import numpy as np
import pytest
from wireframe_faces import N_VISIBLE, Oracle, sample_faces

from ferpipe.candide.indicators import count_minima, search_indicators


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


def test_an_ideal_objective_has_indicators_of_1():
    _, points = sample_faces(3, 7)

    class Each(Oracle):
        """The truth of the face whose number the image holds."""

        def values(self, prepared, points, normals, unit, stage):
            oracle = Oracle(self.truth[prepared[0, 0]])
            return oracle.values(prepared, points, normals, unit, stage)

    images = [np.full((240, 240), number, np.uint8) for number in range(3)]
    found = search_indicators(Each(points), images, points, reach=0.1, random_state=0)
    assert found.p1 == found.p2 == 1
    assert found.displacement < 0.006  # half the samples' distance
    assert 80 < found.n_lines <= 3 * N_VISIBLE


def test_a_wavy_objective_with_shifted_minima_has_low_ones():
    _, points = sample_faces(1, 8)

    class Wavy(Oracle):
        def values(self, prepared, points, normals, unit, stage):
            offsets, values = super().values(prepared, points, normals, unit, stage)
            shifted = np.abs(values - 0.08)
            return offsets, shifted + 0.02 * (np.arange(41) % 2)

    image = [np.zeros((240, 240), np.uint8)]
    found = search_indicators(Wavy(points[0]), image, points, reach=0.1, random_state=0)
    assert found.p2 == 0
    assert found.p1 < 0.1
    assert found.displacement == pytest.approx(0.08, abs=0.01)


def test_points_of_another_number_are_refused():
    image = [np.zeros((240, 240), np.uint8)]
    with pytest.raises(ValueError, match=r"\(n, 68, 2\), or \(n, 38, 2\)"):
        search_indicators(Oracle(None), image, np.zeros((1, 5, 2)), reach=0.1)
    with pytest.raises(ValueError, match="finite"):
        search_indicators(Oracle(None), image, np.full((1, 68, 2), np.nan), reach=0.1)
