import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import hog as skimage_hog

from ferpipe import HOGFeatures
from ferpipe.features.hog import block_grid, hog


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


@pytest.mark.parametrize("block_norm", ["L1", "L1-sqrt", "L2", "L2-Hys"])
@pytest.mark.parametrize(
    ("orientations", "cell", "block"), [(9, (8, 8), (2, 2)), (8, (6, 5), (1, 3))]
)
def test_equals_scikit_image_on_grey(rng, orientations, cell, block, block_norm):
    images = rng.random((3, 30, 40))
    features = hog(
        images,
        orientations=orientations,
        pixels_per_cell=cell,
        cells_per_block=block,
        block_norm=block_norm,
    )
    for feature, image in zip(features, images, strict=True):
        expected = skimage_hog(image, orientations, cell, block, block_norm=block_norm)
        np.testing.assert_allclose(feature, expected, rtol=1e-9)


def test_colour_is_its_luminance(rng):
    colour = rng.random((2, 24, 24, 3))
    np.testing.assert_allclose(hog(colour), hog(rgb2gray(colour)), rtol=1e-9)
    grey = rng.integers(0, 256, (2, 24, 24), dtype=np.uint8)
    np.testing.assert_allclose(
        hog(np.repeat(grey[..., None], 3, axis=3)), hog(grey), rtol=0, atol=1e-9
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
