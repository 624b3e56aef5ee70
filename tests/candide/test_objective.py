import numpy as np
import pytest

from ferpipe.candide.objective import check_gray


@pytest.mark.parametrize(
    ("image", "error", "got"),
    [
        (np.zeros((4, 4)), TypeError, "got float64"),
        ([[0, 1]], TypeError, "got list"),
        (np.zeros((4, 4, 3), np.uint8), ValueError, r"got \(4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), ValueError, r"got \(0, 4\)"),
    ],
)
def test_images_that_are_not_gray_are_refused(image, error, got):
    with pytest.raises(error, match=f"{got}.*read_image"):
        check_gray(image)


def test_gray_images_are_accepted():
    check_gray(np.zeros((1, 1), np.uint8))
