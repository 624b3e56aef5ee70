import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.color import rgb2gray
from skimage.transform import downscale_local_mean

from ferpipe.caching.store import RowStore
from ferpipe.caching.transformer import Cached
from ferpipe.features.pixels import PixelFeatures, pixels


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_pixels_row_by_row(rng, dtype):
    images = rng.integers(0, 256, (4, 5, 7)).astype(dtype)
    extractor = PixelFeatures().fit(images)
    features = extractor.transform(images)
    assert features.dtype == np.float32
    for index, name in enumerate(extractor.get_feature_names_out()):
        r, c = map(int, name.removeprefix("pixel_r").split("c"))
        np.testing.assert_array_equal(features[:, index], images[:, r, c])
    assert features.shape == (4, 35)


def test_whole_factors_are_means_of_tiles(rng):
    images = rng.random((3, 12, 20))
    expected = [downscale_local_mean(image, (3, 4)) for image in images]
    np.testing.assert_allclose(
        pixels(images, size=(4, 5)), np.reshape(expected, (3, 20)), rtol=1e-6
    )


@pytest.mark.parametrize("size", [(7, 5), (12, 1), (11, 19), (12, 20), (1, 1)])
def test_other_factors_equal_opencv(rng, size):
    images = rng.random((3, 12, 20))
    expected = [
        cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images
    ]
    features = pixels(images, size=size)
    np.testing.assert_allclose(features, np.reshape(expected, (3, -1)), rtol=0, atol=1e-6)


def test_the_mean_is_kept(rng):
    images = rng.integers(0, 256, (3, 48, 48), dtype=np.uint8)
    np.testing.assert_allclose(
        pixels(images, size=(13, 17)).mean(axis=1), images.mean(axis=(1, 2)), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_and_floats_agree_exactly(rng, dtype):
    images = rng.integers(0, 256, (5, 23, 31), dtype=np.uint8)
    np.testing.assert_array_equal(
        pixels(images.astype(dtype), size=(9, 10)), pixels(images, size=(9, 10))
    )


def test_color_is_its_luminance(rng):
    color = rng.random((2, 6, 8, 3))
    expected = rgb2gray(color).reshape(2, -1)
    np.testing.assert_allclose(pixels(color), expected, rtol=1e-6)


def test_many_images_are_each_as_if_alone(rng):
    images = rng.integers(0, 256, (90, 48, 48), dtype=np.uint8)  # more than one chunk
    features = pixels(images, size=(20, 20))
    alone = np.concatenate([pixels(image[None], size=(20, 20)) for image in images])
    np.testing.assert_array_equal(features, alone)
    threads = PixelFeatures(size=(20, 20), n_jobs=2)
    np.testing.assert_array_equal(threads.fit_transform(images), features)


@pytest.mark.parametrize("size", [(25, 24), (24, 25)])
def test_images_are_not_made_larger(size):
    with pytest.raises(ValueError, match=r"24x24 pixels are smaller than size=\(2"):
        PixelFeatures(size=list(size)).fit(np.zeros((1, 24, 24)))
    with pytest.raises(ValueError, match="smaller than size="):
        pixels(np.zeros((1, 24, 24)), size=size)


@pytest.mark.parametrize("size", [(8,), (8, 0), (8.0, 8)])
def test_a_size_must_be_two_positive_whole_numbers(size):
    with pytest.raises(ValueError, match="size must be two whole numbers"):
        PixelFeatures(size=size).fit(np.zeros((1, 24, 24)))


def test_plot_shows_the_pixels(rng):
    image = rng.integers(0, 256, (12, 18, 3), dtype=np.uint8)
    axes = Figure().subplots()
    assert PixelFeatures(size=(4, 6)).plot(image, axes) is axes
    drawn = axes.images[0].get_array()
    np.testing.assert_array_equal(drawn.reshape(1, -1), pixels(image[None], size=(4, 6)))
    assert PixelFeatures().plot(image).images[0].get_array().shape == (12, 18)


def test_rows_that_are_remembered_are_of_the_scale_of_fit(tmp_path):
    """What another fit on floats has stored does not slip past the check."""
    faces = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    store = RowStore(tmp_path)
    Cached(PixelFeatures(), store=store).fit(faces / 255).transform(faces / 255)
    extractor = Cached(PixelFeatures(), store=store).fit(faces)
    extractor.transform(faces.astype(float))
    with pytest.raises(ValueError, match="fitted on values up to 255"):
        extractor.transform(faces / 255)
