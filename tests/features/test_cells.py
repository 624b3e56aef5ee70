import numpy as np
import pytest

from ferpipe import GaborFeatures, LBPFeatures
from ferpipe.features.cells import cell_edges


@pytest.mark.parametrize("length", [6, 47, 48, 50, 100])
@pytest.mark.parametrize("n", [1, 5, 6, 7, 47])
def test_cells_cover_the_image_once(length, n):
    if length < n:
        return
    starts, ends = cell_edges((length, length), (n, n))[0]
    np.testing.assert_array_equal(starts, np.arange(n) * length // n)
    np.testing.assert_array_equal(ends, np.arange(1, n + 1) * length // n)


def test_cells_overlap_by_the_share_that_was_asked_for():
    # three cells of half the length, each beginning at a quarter more
    rows, columns = cell_edges((24, 8), (3, 1), 0.5)
    assert [list(side) for side in rows] == [[0, 6, 12], [12, 18, 24]]
    assert [list(side) for side in columns] == [[0], [8]]


@pytest.mark.parametrize("extractor", [GaborFeatures(), LBPFeatures()])
@pytest.mark.parametrize("size", [(5, 6), (6, 5)])
def test_more_cells_than_pixels_are_refused(extractor, size):
    with pytest.raises(ValueError, match=rf"cells=\(6, 6\).*got {size[0]}x{size[1]}"):
        extractor.fit(np.zeros((2, *size)))
