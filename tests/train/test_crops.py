import numpy as np
import pytest

from ferpipe.geometry import similarity, transform_points
from ferpipe.train.crops import change_picture, far, near, shear

PLACEMENT = similarity(40, 0.2, (0, 0), (60, 70))
MIDDLE = np.array([0.1, 0.3])


@pytest.mark.parametrize(
    ("jitter", "shift", "growth"), [(far, (0.16, 0.11), 0.13), (near, (0.035, 0.035), 0.05)]
)
def test_placements_spread_as_documented_in_training(jitter, shift, growth):
    rng = np.random.default_rng(0)
    drawn = [jitter(rng, PLACEMENT, MIDDLE) for _ in range(3000)]
    sizes = np.array([np.hypot(one[0, 0], one[1, 0]) for one in drawn])
    assert np.log(sizes / 40).std() == pytest.approx(growth, rel=0.1)
    middles = np.array([transform_points(one, MIDDLE) for one in drawn])
    off = (middles - transform_points(PLACEMENT, MIDDLE)) / 40
    np.testing.assert_allclose(off.std(0), shift, rtol=0.1)
    for one in drawn[:5]:  # similarity transforms, not mirrored
        linear = one[:, :2]
        size = np.hypot(*linear[0])
        np.testing.assert_allclose(linear @ linear.T, size**2 * np.eye(2), atol=1e-9)
        assert np.linalg.det(linear) > 0


def test_shear_keeps_the_middle_of_the_crop():
    matrix = shear(np.random.default_rng(0), np.eye(2, 3), 96)
    np.testing.assert_allclose(transform_points(matrix, [47.5, 47.5]), [47.5, 47.5])
    assert np.abs(matrix[:, :2] - np.eye(2)).max() > 0.01


def test_changed_pictures_still_show_the_face():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    crop = (128 + 60 * np.sin(x / 7) * np.cos(y / 9)).astype(np.float32)
    before = crop.copy()
    changed = [change_picture(crop, rng) for _ in range(200)]
    np.testing.assert_array_equal(crop, before)
    assert all(one.shape == (64, 64) and one.dtype == np.float32 for one in changed)
    alike = [np.corrcoef(one.ravel(), crop.ravel())[0, 1] for one in changed]
    assert np.median(alike) > 0.8
    assert min(alike) < 0.99
