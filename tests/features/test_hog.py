import os

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from skimage.color import rgb2gray
from skimage.feature import hog as skimage_hog

from ferpipe import HOGFeatures
from ferpipe.features.hog import block_grid, hog

NORMS = ["L1", "L1-sqrt", "L2", "L2-Hys"]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def histograms_by_hand(image, orientations, cell):
    """Cell histograms by definition: mean magnitude of the gradients that fall in a bin."""
    dy, dx = np.zeros(image.shape), np.zeros(image.shape)
    dy[1:-1] = image[2:] - image[:-2]
    dx[:, 1:-1] = image[:, 2:] - image[:, :-2]
    magnitude = np.hypot(dx, dy)
    bins = (np.degrees(np.arctan2(dy, dx)) % 180 // (180 / orientations)).astype(int)
    rows, columns = image.shape[0] // cell, image.shape[1] // cell
    histograms = np.zeros((rows, columns, orientations))
    for y in range(rows * cell):
        for x in range(columns * cell):
            histograms[y // cell, x // cell, bins[y, x]] += magnitude[y, x] / cell**2
    return histograms


def test_equals_the_definition_written_out(rng):
    image = rng.random((20, 26))
    cells = histograms_by_hand(image, 9, 6)
    blocks = [
        cells[r : r + 2, c : c + 2].ravel()
        / np.sqrt((cells[r : r + 2, c : c + 2] ** 2).sum() + 1e-5**2)
        for r in range(2)
        for c in range(3)
    ]
    features = hog(image[None], pixels_per_cell=(6, 6), block_norm="L2")
    # scikit-image sums in single precision
    np.testing.assert_allclose(features[0], np.concatenate(blocks), rtol=0, atol=1e-6)


def assert_equals_scikit_image(images, orientations=9, cell=(8, 8), block=(2, 2), **norm):
    features = hog(
        images,
        orientations=orientations,
        pixels_per_cell=cell,
        cells_per_block=block,
        **norm,
    )
    assert features.dtype == np.float32
    expected = [skimage_hog(image, orientations, cell, block, **norm) for image in images]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("block_norm", NORMS)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    ("size", "orientations", "cell", "block"),
    [
        ((48, 48), 9, (8, 8), (2, 2)),
        ((30, 40), 8, (6, 5), (1, 3)),
        ((31, 45), 12, (7, 4), (3, 2)),
        ((17, 33), 1, (5, 8), (1, 1)),
        ((9, 8), 7, (9, 8), (1, 1)),
        ((11, 13), 6, (1, 1), (2, 3)),
        ((2, 9), 9, (2, 3), (1, 2)),
        ((7, 1), 9, (3, 1), (1, 1)),
        ((64, 64), 300, (32, 32), (1, 1)),
    ],
)
def test_equals_scikit_image(rng, size, orientations, cell, block, dtype, block_norm):
    images = rng.integers(0, 256, (5, *size), dtype=np.uint8)
    images[0] = 77
    images[1] //= 64  # few values: many gradients lie on the border between two bins
    if dtype != np.uint8:
        images = images.astype(dtype)
        images[2:] = rng.normal(0, 10.0 ** rng.integers(-5, 6, (3, 1, 1)), (3, *size))
    assert_equals_scikit_image(images, orientations, cell, block, block_norm=block_norm)


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="FERPIPE_DATA is not set")
@pytest.mark.parametrize("block_norm", NORMS)
def test_equals_scikit_image_on_faces(block_norm):
    from ferpipe.datasets import load_fer2013

    faces = load_fer2013("$FERPIPE_DATA", usage="PublicTest").data[:100]
    assert_equals_scikit_image(faces, block_norm=block_norm)
    assert_equals_scikit_image(faces / 255, block_norm=block_norm)
    assert_equals_scikit_image(np.sqrt(faces, dtype=np.float32), block_norm=block_norm)


@pytest.mark.parametrize("orientations", [2, 3, 8, 9, 12, 36])
def test_every_whole_number_gradient_is_in_its_bin(orientations):
    rise = np.arange(-255, 256)
    dy, dx = (axis.ravel() for axis in np.meshgrid(rise, rise))
    y, x = np.mgrid[:3, :3]
    # 3 x 3 pixels: (dx, dy) in the middle, dx or dy alone twice on the borders
    ramps = (x * dx[:, None, None] + y * dy[:, None, None]) / 2
    features = hog(
        ramps,
        orientations=orientations,
        pixels_per_cell=(3, 3),
        cells_per_block=(1, 1),
        block_norm="L1",
    )
    expected = np.zeros((len(dx), orientations))
    for u, v, count in ((dx, dy, 1), (dx, 0 * dy, 2), (0 * dx, dy, 2)):
        angle = np.degrees(np.arctan2(v, u)) % 180
        borders = np.arange(1, orientations) * 180 / orientations
        bins = np.searchsorted(borders, angle, side="right")
        expected[np.arange(len(dx)), bins] += count * np.hypot(u, v) / 9
    expected /= expected.sum(axis=1, keepdims=True) + 1e-5
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)


def test_gradients_to_the_left_are_those_to_the_right(rng):
    images = rng.random((3, 16, 16))
    images[:, 1:] = images[:, :1]  # no gradient along y: 0 degrees, or 180
    features = hog(images).reshape(3, 4, 9)
    assert (features[..., 0] > 0).all()
    assert not features[..., 1:].any()
    np.testing.assert_allclose(hog(-images), hog(images), rtol=0, atol=1e-7)


def test_almost_level_gradients_are_counted():
    image = np.array([[0, 1e-17, 0], [-1, 0, 1], [0, 0, 0]])  # (2, -1e-17) in the middle
    settings = {"pixels_per_cell": (3, 3), "cells_per_block": (1, 1)}
    features = hog(image[None], **settings, block_norm="L2")[0]
    np.testing.assert_allclose(features, np.eye(9)[8], rtol=0, atol=1e-6)
    # scikit-image rounds the angle up to 180 degrees, which is in none of its bins
    assert not skimage_hog(image, **settings, block_norm="L2").any()


def test_many_images_are_each_as_if_alone(rng):
    images = rng.integers(0, 256, (300, 24, 32), dtype=np.uint8)  # more than one chunk
    features = hog(images)
    for index in (0, 169, 170, 171, 299):
        np.testing.assert_array_equal(features[index], hog(images[index : index + 1])[0])
    np.testing.assert_array_equal(
        HOGFeatures(n_jobs=2).fit_transform(images), HOGFeatures().fit_transform(images)
    )


def test_order_in_memory_does_not_matter(rng):
    images = rng.integers(0, 256, (4, 20, 24), dtype=np.uint8)
    np.testing.assert_array_equal(hog(np.asfortranarray(images)), hog(images))
    flipped = np.ascontiguousarray(images[:, ::-1, ::-1])
    np.testing.assert_array_equal(hog(images[:, ::-1, ::-1]), hog(flipped))


def test_color_is_its_luminance(rng):
    color = rng.random((2, 24, 24, 3))
    np.testing.assert_allclose(hog(color), hog(rgb2gray(color)), rtol=0, atol=1e-7)
    gray = rng.integers(0, 256, (2, 24, 24), dtype=np.uint8)
    np.testing.assert_allclose(
        hog(np.repeat(gray[..., None], 3, axis=3)), hog(gray), rtol=0, atol=1e-7
    )


@pytest.mark.parametrize(("angle", "expected"), [(10, "o10"), (90, "o90"), (130, "o130")])
def test_a_ramp_fills_the_orientation_that_its_name_says(angle, expected):
    y, x = np.mgrid[:24, :24]
    ramp = 9 * (x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle)))
    extractor = HOGFeatures(pixels_per_cell=(6, 6), cells_per_block=(1, 1))
    features = extractor.fit_transform(ramp[None])[0]
    inner = {
        name: value
        for name, value in zip(extractor.get_feature_names_out(), features, strict=True)
        if name.startswith("hog_r1c2_")
    }
    assert max(inner, key=inner.get) == f"hog_r1c2_b0_{expected}"
    assert sum(value > 1e-6 for value in inner.values()) == 1


def test_name_says_where_the_edge_is():
    image = np.zeros((32, 40))
    image[9:15, 26:31] = 1.0  # inside the cell in row 1, column 3
    extractor = HOGFeatures().fit(image[None])
    features = extractor.transform(image[None])[0]
    lit = extractor.get_feature_names_out()[features > 0]
    assert {name.split("_")[1] for name in lit} == {"r1c3"}
    assert {name.split("_")[2] for name in lit} == {"b0", "b1", "b2", "b3"}


def test_names_are_as_many_as_columns_and_differ(rng):
    extractor = HOGFeatures(orientations=7, pixels_per_cell=(5, 6), cells_per_block=(3, 2))
    features = extractor.fit_transform(rng.random((2, 33, 31)))
    names = extractor.get_feature_names_out()
    assert len(set(names)) == len(names) == features.shape[1]


def test_brightness_and_contrast_hardly_matter(rng):
    images = rng.random((2, 24, 24))
    np.testing.assert_allclose(hog(images), hog(40 * images + 100), atol=1e-3)


def test_lists_from_yaml_equal_tuples(rng):
    images = rng.random((2, 24, 24))
    lists = HOGFeatures(pixels_per_cell=[6, 6], cells_per_block=[1, 1])
    tuples = HOGFeatures(pixels_per_cell=(6, 6), cells_per_block=(1, 1))
    np.testing.assert_array_equal(lists.fit_transform(images), tuples.fit_transform(images))


def test_one_block_is_enough_and_less_is_an_error():
    assert block_grid((16, 16), (8, 8), (2, 2)) == (1, 1)
    for size in ((15, 16), (16, 15)):
        with pytest.raises(ValueError, match=r"16x16 pixels.*make pixels_per_cell or"):
            HOGFeatures().fit(np.zeros((2, *size)))


@pytest.mark.parametrize("pair", [(8,), (8, 0), (8.0, 8), [8, "8"]])
@pytest.mark.parametrize("name", ["pixels_per_cell", "cells_per_block"])
def test_a_pair_must_be_two_positive_whole_numbers(name, pair):
    with pytest.raises(ValueError, match=f"{name} must be two whole numbers"):
        HOGFeatures(**{name: pair}).fit(np.zeros((2, 32, 32)))


def test_an_unknown_norm_is_an_error():
    with pytest.raises(ValueError, match=r"block_norm must be one of L1, .* got 'L3'"):
        hog(np.zeros((1, 16, 16)), block_norm="L3")


def test_plot_draws_rays_along_the_edges():
    image = np.zeros((16, 24), np.uint8)
    image[:, 12:] = 200  # an edge that runs downwards, in the cell in column 1
    extractor = HOGFeatures(orientations=4, cells_per_block=(1, 1))
    axes = extractor.plot(image)
    (rays,) = axes.collections
    strengths = np.broadcast_to(rays.get_colors(), (24, 4))[:, 3].reshape(2, 3, 4)
    assert {(r, c, o) for r, c, o in zip(*np.nonzero(strengths), strict=True)} == {
        (0, 1, 0),
        (1, 1, 0),
    }
    start, end = rays.get_segments()[4]  # the first orientation of row 0, column 1
    direction = np.degrees(np.arctan2(*(end - start)[::-1]))
    assert direction == pytest.approx(22.5 + 90)
    np.testing.assert_allclose((start + end) / 2, (11.5, 3.5))


def test_plot_draws_where_it_is_told(rng):
    axes = Figure().subplots()
    assert HOGFeatures().plot(rng.random((20, 20, 3)), axes) is axes
    assert axes.get_facecolor() == to_rgba("black")
    with pytest.raises(ValueError, match="smaller than one HOG block"):
        HOGFeatures().plot(np.zeros((8, 8)))
