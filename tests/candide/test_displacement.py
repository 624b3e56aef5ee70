import numpy as np
import pytest
from wireframe_faces import sample_faces

from ferpipe.candide.displacement import displace
from ferpipe.candide.visible_points import (
    mean_shape,
)
from ferpipe.geometry import fit_similarity


@pytest.mark.parametrize("reach", [0.3, 0.1])
def test_faces_are_displaced_as_far_as_lines_reach(reach):
    _, points = sample_faces(300, 4)
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
