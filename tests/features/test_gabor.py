import os
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import convolve2d
from skimage.color import rgb2gray
from skimage.filters import gabor as skimage_gabor
from skimage.filters import gabor_kernel

from ferpipe.features.gabor import (
    GaborFeatures,
    gabor,
    gabor_at_points,
    gabor_responses,
)

BANK = {"frequencies": (0.3, 0.11), "orientations": 5}


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def responses_of_skimage(image, frequencies, orientations, bandwidth=1.0):
    """Filter one image by scikit-image, which filters floats only as floats."""
    image = image.astype(np.float64)
    responses = np.empty((len(frequencies), orientations, *image.shape), complex)
    for i, frequency in enumerate(frequencies):
        for k in range(orientations):
            angle = np.pi * k / orientations
            real, imaginary = skimage_gabor(image, frequency, angle, bandwidth)
            responses[i, k] = real + 1j * imaginary
    return responses


def assert_close(got, expected):
    """Within 1e-4 of each value, and 1e-5 of the largest where one is nearly 0."""
    largest = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * largest)


# 70 rows are filtered in parts
@pytest.mark.parametrize("size", [(48, 48), (21, 34), (70, 33), (9, 11)])
def test_equals_scikit_image(rng, size):
    images = rng.random((3, *size))
    responses = gabor_responses(images, **BANK)
    assert responses.dtype == np.complex64
    for got, image in zip(responses, images, strict=True):
        assert_close(got, responses_of_skimage(image, **BANK))


@pytest.mark.parametrize("size", [(4, 7), (9, 4), (1, 1)])
def test_images_much_smaller_than_a_kernel_are_mirrored_over_and_over(rng, size):
    # scipy, and scikit-image with it, reads beyond such images
    image = rng.random(size)
    responses = gabor_responses(image[None], **BANK)[0]
    for i, frequency in enumerate(BANK["frequencies"]):
        for k in range(BANK["orientations"]):
            kernel = gabor_kernel(frequency, np.pi * k / BANK["orientations"])
            y, x = (extent // 2 for extent in kernel.shape)
            mirrored = np.pad(image, ((y, y), (x, x)), mode="symmetric")
            assert_close(responses[i, k], convolve2d(mirrored, kernel, mode="valid"))


@pytest.mark.parametrize("orientations", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("bandwidth", [0.7, 2.0])
def test_equals_scikit_image_for_every_number_of_orientations(rng, orientations, bandwidth):
    bank = {"frequencies": (0.25,), "orientations": orientations, "bandwidth": bandwidth}
    image = rng.random((25, 30))
    assert_close(
        gabor_responses(image[None], **bank)[0], responses_of_skimage(image, **bank)
    )


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="needs FERPIPE_DATA")
def test_equals_scikit_image_on_faces():
    import cv2

    paths = sorted(Path(os.environ["FERPIPE_DATA"], "CK+48").glob("*/*.png"))[::400]
    faces = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])
    bank = {"frequencies": (0.25, 0.125), "orientations": 8}
    for got, face in zip(gabor_responses(faces, **bank), faces, strict=True):
        assert_close(got, responses_of_skimage(face, **bank))


def test_a_point_of_light_shows_the_kernel():
    image = np.zeros((41, 41))
    image[20, 20] = 1
    responses = gabor_responses(image[None], frequencies=(0.2,), orientations=8)[0, 0]
    for k in range(8):
        kernel = gabor_kernel(0.2, theta=np.pi * k / 8)
        y, x = (extent // 2 for extent in kernel.shape)
        shown = responses[k, 20 - y : 21 + y, 20 - x : 21 + x]
        np.testing.assert_allclose(shown, kernel, rtol=0, atol=1e-7)
        assert np.count_nonzero(responses[k]) <= kernel.size


def test_many_images_are_as_one_by_one(rng):
    images = rng.random((37, 20, 24))  # more than are filtered at a time
    together = gabor(images, cells=(3, 4), **BANK)
    alone = np.concatenate([gabor(image[None], cells=(3, 4), **BANK) for image in images])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def pool_by_hand(values, how):
    """Pool 11x13 values in 2x3 cells: edges at 0, 5, 11 and at 0, 4, 8, 13."""
    rows, columns = [(0, 5), (5, 11)], [(0, 4), (4, 8), (8, 13)]
    middle = {(0, 5): 2, (5, 11): 8, (0, 4): 2, (4, 8): 6, (8, 13): 10}
    return [
        values[middle[r], middle[c]] if how == "center" else getattr(np, how)(part)
        for r in rows
        for c in columns
        for part in [values[slice(*r), slice(*c)]]
    ]


@pytest.mark.parametrize("part", ["magnitude", "real", "imaginary"])
@pytest.mark.parametrize("pool", ["mean", "max", "std", "center"])
def test_pools_each_cell(rng, pool, part):
    images = rng.random((3, 11, 13)) * 255
    features = gabor(images, cells=(2, 3), pool=pool, part=part, **BANK)
    assert features.dtype == np.float32
    take = {"magnitude": np.abs, "real": np.real, "imaginary": np.imag}[part]
    for row, image in zip(features, images, strict=True):
        values = take(responses_of_skimage(image, **BANK)).reshape(-1, 11, 13)
        expected = np.array([pool_by_hand(value, pool) for value in values]).ravel()
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)


def test_one_cell_is_the_mean_over_the_image(rng):
    image = rng.random((16, 18))
    features = gabor(image[None], cells=(1, 1), **BANK)[0]
    means = np.abs(responses_of_skimage(image, **BANK)).mean(axis=(2, 3))
    np.testing.assert_allclose(features, means.ravel(), rtol=1e-5)


def test_even_light_is_the_sum_of_the_kernel():
    features = gabor(np.full((2, 24, 24), 7.0), cells=(1, 1), **BANK)
    expected = [
        7 * abs(gabor_kernel(frequency, theta=np.pi * k / 5).sum())
        for frequency in BANK["frequencies"]
        for k in range(5)
    ]
    np.testing.assert_allclose(features, [expected] * 2, rtol=1e-3, atol=1e-5)
    std = gabor(np.full((1, 24, 24), 7.0), pool="std", **BANK)
    np.testing.assert_allclose(std, 0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_and_floats_agree_exactly(rng, dtype):
    images = rng.integers(0, 256, (5, 24, 24), dtype=np.uint8)
    np.testing.assert_array_equal(gabor(images), gabor(images.astype(dtype)))
    color = rng.integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(gabor(color), gabor(color.astype(dtype)))


def test_color_is_its_luminance(rng):
    color = rng.random((2, 24, 24, 3))
    np.testing.assert_allclose(gabor(color), gabor(rgb2gray(color)), rtol=1e-5)


@pytest.mark.parametrize(("angle", "name"), [(0, "t0"), (45, "t45"), (157.5, "t157.5")])
@pytest.mark.parametrize(("frequency", "short"), [(0.2, "f0.20"), (0.1, "f0.10")])
def test_stripes_answer_to_the_name_that_describes_them(angle, name, frequency, short):
    y, x = np.mgrid[:48, :48]
    along = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
    stripes = np.cos(2 * np.pi * frequency * along)
    stripes[24:] = 0
    stripes[:, :24] = 0
    extractor = GaborFeatures(cells=(2, 2)).fit(stripes[None])
    features = extractor.transform(stripes[None])[0]
    assert (
        extractor.get_feature_names_out()[features.argmax()] == f"gabor_{short}_{name}_r0c1"
    )


def test_names_are_as_many_as_columns_and_differ(rng):
    extractor = GaborFeatures(frequencies=(0.121, 0.122), orientations=7, cells=(3, 2))
    features = extractor.fit_transform(rng.random((2, 33, 31)))
    names = extractor.get_feature_names_out()
    assert len(set(names)) == len(names) == features.shape[1] == 2 * 7 * 6
    assert names[-1] == "gabor_f0.122_t154.3_r2c1"


def test_the_same_images_give_the_same_wherever_they_are_in_memory(rng):
    images = rng.random((3, 21, 23)).astype(np.float32)
    expected = gabor(images)
    for offset in range(1, 12):
        memory = np.empty(images.size + offset, np.float32)[offset:].reshape(images.shape)
        memory[...] = images
        np.testing.assert_array_equal(gabor(memory), expected)


def test_threads_give_the_same(rng):
    images = rng.random((150, 48, 48))
    one = GaborFeatures().fit(images)
    two = GaborFeatures(n_jobs=2).fit(images)
    np.testing.assert_array_equal(one.transform(images), two.transform(images))


def test_lists_from_yaml_equal_tuples(rng):
    images = rng.random((2, 24, 24))
    lists = GaborFeatures(frequencies=[0.2, 0.1], cells=[2, 2])
    tuples = GaborFeatures(frequencies=(0.2, 0.1), cells=(2, 2))
    np.testing.assert_array_equal(lists.fit_transform(images), tuples.fit_transform(images))


@pytest.mark.parametrize("frequencies", [(), (0.6,), (0.0, 0.1), (-0.1,), ("0.1",)])
def test_frequencies_are_within_what_pixels_can_show(frequencies):
    with pytest.raises(ValueError, match=r"above 0 and at most 0\.5 cycles per pixel"):
        GaborFeatures(frequencies=frequencies).fit(np.zeros((1, 9, 9)))


def test_frequencies_must_differ():
    with pytest.raises(ValueError, match="frequencies must differ"):
        GaborFeatures(frequencies=(0.1, 0.1)).fit(np.zeros((1, 9, 9)))


# Points


def test_points_take_the_nearest_pixel(rng):
    images = rng.random((40, 20, 24))
    points = rng.uniform((0, 0), (23, 19), (40, 3, 2))
    features = gabor_at_points(images, points, **BANK).reshape(40, 3, 2, 5)
    responses = np.abs(gabor_responses(images, **BANK))
    for i, p in [(0, 0), (7, 2), (39, 1)]:
        x, y = np.rint(points[i, p]).astype(int)
        np.testing.assert_allclose(features[i, p], responses[i, :, :, y, x], rtol=1e-5)


def test_points_outside_take_the_edge(rng):
    images = rng.random((1, 20, 24))
    outside = gabor_at_points(images, [[[-5.0, 3.0], [30.0, 25.0]]], part="real")
    edge = gabor_at_points(images, [[[0.0, 3.0], [23.0, 19.0]]], part="real")
    np.testing.assert_array_equal(outside, edge)


def test_points_are_needed_for_each_image(rng):
    with pytest.raises(ValueError, match="1 sets for 2 images"):
        gabor_at_points(rng.random((2, 9, 9)), np.zeros((1, 4, 2)))


# Drawing


@pytest.mark.parametrize("part", ["magnitude", "real"])
def test_plot_draws_a_tile_a_filter(rng, part):
    extractor = GaborFeatures(frequencies=(0.2, 0.1), orientations=3, part=part)
    axes = extractor.plot(rng.random((12, 18)))
    (tiles,) = [image.get_array() for image in axes.images]
    assert tiles.shape == (2 * 12, 3 * 18)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0°", "60°", "120°"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.20", "0.10"]
    assert extractor.plot(rng.random((12, 18)), axes) is axes
