from math import factorial

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.color import rgb2gray

from ferpipe.features.zernike import ZernikeFeatures, zernike

# the radial polynomials up to order 4, as every book prints them
RADIAL = {
    (0, 0): lambda r: r**0,
    (1, 1): lambda r: r,
    (2, 0): lambda r: 2 * r**2 - 1,
    (2, 2): lambda r: r**2,
    (3, 1): lambda r: 3 * r**3 - 2 * r,
    (3, 3): lambda r: r**3,
    (4, 0): lambda r: 6 * r**4 - 6 * r**2 + 1,
    (4, 2): lambda r: 4 * r**4 - 3 * r**2,
    (4, 4): lambda r: r**4,
}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def disc(size):
    """Distance and angle of the pixels of a square, in units of its inscribed disc."""
    axis = (np.arange(size) + 0.5) / (size / 2) - 1
    x, y = np.meshgrid(axis, axis)
    return np.hypot(x, y), np.arctan2(y, x)


def radial_by_factorials(n, m, r):
    """Radial polynomial as the sum in Teague's paper."""
    return sum(
        (-1) ** s
        * factorial(n - s)
        / (factorial(s) * factorial((n + m) // 2 - s) * factorial((n - m) // 2 - s))
        * r ** (n - 2 * s)
        for s in range((n - m) // 2 + 1)
    )


def magnitudes_by_definition(image, radial):
    """Sum over the pixels of a square image, one moment after the other."""
    r, angle = disc(len(image))
    inside = r <= 1
    return [
        abs(
            (n + 1)
            / inside.sum()
            * (image * polynomial(r) * np.exp(-1j * m * angle))[inside].sum()
        )
        for (n, m), polynomial in radial.items()
    ]


@pytest.mark.parametrize("size", [16, 25])
def test_equals_the_printed_polynomials(rng, size):
    images = rng.random((3, size, size))
    features = zernike(images, order=4)
    assert features.dtype == np.float32
    expected = [magnitudes_by_definition(image, RADIAL) for image in images]
    np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-7)


def test_equals_the_sum_of_factorials_at_higher_orders(rng):
    image = rng.random((24, 24))
    radial = {
        (n, m): lambda r, n=n, m=m: radial_by_factorials(n, m, r)
        for n in range(15)
        for m in range(n % 2, n + 1, 2)
    }
    features = zernike(image[None], order=14)[0]
    expected = magnitudes_by_definition(image, radial)
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("index", range(25))
def test_a_polynomial_is_its_own_moment_alone(index):
    names = ZernikeFeatures(order=8).fit(np.zeros((1, 9, 9))).get_feature_names_out()
    n, m = (int(part[1:]) for part in names[index].split("_")[1:])
    r, angle = disc(400)
    image = 3 * radial_by_factorials(n, m, r) * np.cos(m * angle + 0.4)
    expected = np.zeros(25)
    expected[index] = 3 * np.cos(0.4) if m == 0 else 1.5  # the other half has -m
    np.testing.assert_allclose(zernike(image[None])[0], expected, rtol=0, atol=0.01)


def test_high_orders_stay_finite_and_small():
    features = zernike(np.ones((1, 64, 64)), order=60)[0]
    assert features[0] == 1
    assert features[1:].max() < 1


@pytest.mark.parametrize("size", [20, 21])
def test_quarter_turns_and_mirrors_change_nothing(rng, size):
    images = rng.integers(0, 256, (4, size, size), dtype=np.uint8)
    features = zernike(images, order=12)
    for turns in (1, 2, 3):
        turned = np.rot90(images, turns, axes=(1, 2))
        np.testing.assert_allclose(zernike(turned, order=12), features, 1e-5, 1e-4)
    np.testing.assert_allclose(zernike(images[:, :, ::-1], order=12), features, 1e-5, 1e-4)
    assert np.abs(zernike(images[:, ::-1] // 2, order=12) - features).max() > 1


def test_other_turns_change_little():
    y, x = np.mgrid[:96, :96] - 47.5

    def blobs(angle):
        u = x * np.cos(angle) + y * np.sin(angle)
        v = y * np.cos(angle) - x * np.sin(angle)
        return np.exp(-((u - 14) ** 2 + v**2) / 200) + 2 * np.exp(
            -(u**2 + (v + 20) ** 2) / 90
        )

    features = zernike(np.stack([blobs(angle) for angle in (0, 0.3, 1, 2.5)]))
    assert np.ptp(features, axis=0).max() < 0.002
    assert features[0].max() > 0.2


def test_the_first_moment_is_the_mean_of_the_disc(rng):
    image = rng.random((18, 18))
    image[disc(18)[0] > 1] = 1e3  # the corners do not count
    inside = image[disc(18)[0] <= 1]
    assert zernike(image[None])[0, 0] == pytest.approx(inside.mean(), rel=1e-6)


def test_the_disc_of_an_oblong_image_is_in_its_middle(rng):
    image = rng.random((20, 31))
    np.testing.assert_allclose(
        zernike(image[None, :, :30]), zernike(image[None, :, 5:25]), rtol=1e-6
    )
    np.testing.assert_allclose(
        zernike(image.T[None, 1:]), zernike(image.T[None, 6:26]), rtol=1e-6
    )


def test_cells_are_small_images(rng):
    images = rng.integers(0, 256, (3, 29, 34), dtype=np.uint8)  # one row, one column over
    extractor = ZernikeFeatures(order=5, grid=(2, 3)).fit(images)
    features = extractor.transform(images).reshape(3, 2, 3, -1)
    names = extractor.get_feature_names_out().reshape(2, 3, -1)
    for r in range(2):
        for c in range(3):
            cell = images[:, 14 * r : 14 * r + 14, 11 * c : 11 * c + 11]
            np.testing.assert_allclose(features[:, r, c], zernike(cell, order=5), 1e-6)
            assert names[r, c, 5] == f"zernike_r{r}c{c}_n3_m3"


def test_names_of_one_cell_leave_it_out(rng):
    extractor = ZernikeFeatures(order=3).fit(rng.random((2, 8, 8)))
    assert list(extractor.get_feature_names_out()) == [
        f"zernike_{index}"
        for index in ("n0_m0", "n1_m1", "n2_m0", "n2_m2", "n3_m1", "n3_m3")
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_and_floats_agree_exactly(rng, dtype):
    images = rng.integers(0, 256, (5, 23, 31), dtype=np.uint8)
    np.testing.assert_array_equal(zernike(images.astype(dtype)), zernike(images))


def test_color_is_its_luminance(rng):
    color = rng.random((2, 16, 16, 3))
    np.testing.assert_allclose(zernike(color), zernike(rgb2gray(color)), rtol=1e-6)


def test_many_images_are_each_as_if_alone(rng):
    images = rng.integers(0, 256, (90, 48, 48), dtype=np.uint8)  # more than one chunk
    features = zernike(images)
    alone = np.concatenate([zernike(image[None]) for image in images])
    np.testing.assert_allclose(features, alone, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(ZernikeFeatures(n_jobs=2).fit_transform(images), features)


def test_one_pixel_is_enough_for_a_cell():
    image = np.array([[[4, 9], [16, 25]]], np.uint8)
    features = zernike(image, order=2, grid=(2, 2)).reshape(4, 4)
    np.testing.assert_allclose(features[:, 0], [4, 9, 16, 25])
    np.testing.assert_allclose(features[:, 1:], [[0, 3 * p, 0] for p in (4, 9, 16, 25)])


def test_a_grid_finer_than_the_pixels_is_an_error():
    for size in ((2, 5), (5, 2)):
        with pytest.raises(ValueError, match="cannot be cut into 3x3 cells"):
            ZernikeFeatures(grid=(3, 3)).fit(np.zeros((1, *size)))
        with pytest.raises(ValueError, match="cannot be cut into 3x3 cells"):
            zernike(np.zeros((1, *size)), grid=(3, 3))


@pytest.mark.parametrize("grid", [(2,), (0, 2), (2.0, 2)])
def test_a_grid_must_be_two_positive_whole_numbers(grid):
    with pytest.raises(ValueError, match="grid must be two whole numbers"):
        ZernikeFeatures(grid=grid).fit(np.zeros((1, 8, 8)))


def test_lists_from_yaml_equal_tuples(rng):
    images = rng.random((2, 12, 12))
    lists, tuples = ZernikeFeatures(grid=[2, 2]), ZernikeFeatures(grid=(2, 2))
    np.testing.assert_array_equal(lists.fit_transform(images), tuples.fit_transform(images))


def test_plot_rebuilds_a_smooth_image():
    r, angle = disc(60)
    image = 2 + r * np.cos(angle - 1) + r**2 * np.sin(2 * angle)
    axes = Figure().subplots()
    assert ZernikeFeatures(order=12).plot(image, axes) is axes
    drawn = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_array_equal(np.isnan(drawn), r > 1)
    assert np.abs(drawn - image)[r < 0.9].max() < 0.2


def test_plot_lays_cells_side_by_side(rng):
    image = rng.random((20, 30))
    drawn = ZernikeFeatures(grid=(2, 3)).plot(image).images[0].get_array()
    cell = ZernikeFeatures().plot(image[10:, 20:]).images[0].get_array()
    assert drawn.shape == (20, 30)
    np.testing.assert_allclose(drawn[10:, 20:], cell)
