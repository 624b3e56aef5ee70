import cv2
import numpy as np
import pytest
import sklearn
from scipy.ndimage import gaussian_filter
from skimage.exposure import equalize_hist
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ferpipe import (
    CLAHE,
    HistogramEqualizer,
    HOGFeatures,
    LocalContrastNormalizer,
    LocalMeanNormalizer,
    PixelNormalizer,
)
from ferpipe.faces.lighting import (
    equalize_adaptive_histogram,
    equalize_histogram,
    normalize_local_contrast,
    normalize_local_mean,
)

LUMA = [0.299, 0.587, 0.114]
FUNCTIONS = [
    normalize_local_mean,
    normalize_local_contrast,
    equalize_histogram,
    equalize_adaptive_histogram,
]
LOCAL, EQUALIZERS = FUNCTIONS[:2], FUNCTIONS[2:]
TRANSFORMERS = [
    LocalMeanNormalizer(),
    LocalContrastNormalizer(),
    PixelNormalizer(),
    HistogramEqualizer(),
    CLAHE(),
]


def named(value):
    return getattr(value, "__name__", type(value).__name__)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def faces(rng):
    """Smooth blobs with a little noise, which span 0..255 as whole numbers."""
    images = gaussian_filter(rng.random((4, 36, 28)), (0, 3, 3))
    images += 0.01 * rng.random(images.shape)
    low, high = images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)
    return np.rint(255 * (images - low) / (high - low)).astype(np.uint8)


@pytest.fixture
def color(faces):
    return np.stack([faces, faces[::-1], faces[:, ::-1]], axis=3)


# What the local normalizers compute


@pytest.mark.parametrize("sigma", [0.7, 1.35, 4.0, 20])
def test_local_mean_equals_scipy(faces, sigma):
    images = faces.astype(float)
    expected = images - gaussian_filter(images, (0, sigma, sigma))
    got = normalize_local_mean(faces, sigma=sigma)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.7, 1.35, 4.0, 20])
def test_local_contrast_equals_its_formula(faces, sigma):
    got = normalize_local_contrast(faces, sigma=sigma)
    assert got.dtype == np.float32
    for image, result in zip(faces.astype(float), got, strict=True):
        difference = image - gaussian_filter(image, sigma)
        deviation = np.sqrt(gaussian_filter(difference**2, sigma))
        expected = difference / np.maximum(deviation.mean(), deviation)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_window_larger_than_the_image(rng):
    images = rng.random((2, 3, 5))
    expected = images - gaussian_filter(images, (0, 6, 6))
    np.testing.assert_allclose(normalize_local_mean(images, sigma=6), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("function", LOCAL, ids=named)
def test_the_smallest_images(rng, function, shape):
    images = rng.random((2, *shape))
    result = function(images)
    assert result.shape == images.shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("offset", [-300.0, 0.125, 1e4])
def test_local_mean_takes_an_offset_off(faces, offset):
    np.testing.assert_allclose(
        normalize_local_mean(faces + offset), normalize_local_mean(faces), atol=1e-4
    )
    np.testing.assert_allclose(
        normalize_local_mean(0.25 * faces), 0.25 * normalize_local_mean(faces), atol=1e-4
    )


@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (3.7, -80.0), (0.01, 1e3)])
def test_local_contrast_takes_offset_and_scale_off(faces, scale, offset):
    np.testing.assert_allclose(
        normalize_local_contrast(scale * faces + offset),
        normalize_local_contrast(faces),
        atol=1e-5,
    )


def test_noise_in_flat_parts_is_not_blown_up(rng):
    image = 0.01 * rng.random((1, 60, 60))
    image[:, :, 40:] += rng.random((60, 20))
    result = normalize_local_contrast(image, sigma=3)[0]
    assert np.abs(result[:, :20]).max() < 0.1
    assert result[:, 45:].std() > 0.8


@pytest.mark.parametrize("function", LOCAL, ids=named)
def test_local_normalizers_take_each_channel_by_itself(color, function):
    result = function(color)
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], function(color[..., channel]))


# Pixels


@pytest.mark.parametrize("with_std", [True, False])
def test_pixels_equal_standard_scaler_on_rows(faces, color, with_std):
    for images in (faces, color, color / 255):
        rows = images.reshape(len(images), -1)
        scaler = StandardScaler(with_std=with_std).fit(rows)
        normalizer = PixelNormalizer(with_std=with_std).fit(images)
        np.testing.assert_allclose(normalizer.mean_.ravel(), scaler.mean_, rtol=1e-12)
        result = normalizer.transform(images)
        assert result.dtype == np.float32
        np.testing.assert_allclose(
            result.reshape(rows.shape), scaler.transform(rows), rtol=1e-6, atol=1e-6
        )


def test_pixels_use_what_fit_saw_only(faces):
    normalizer = PixelNormalizer().fit(faces[:3])
    result = normalizer.transform(faces[3:])[0]
    training = faces[:3].astype(float)
    expected = (faces[3] - training.mean(0)) / training.std(0)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_pixel_that_never_varies_keeps_its_scale(rng):
    images = rng.random((7, 5, 4))
    images[:, 2, 1] = 0.1  # seven times 0.1 over seven is not 0.1
    normalizer = PixelNormalizer().fit(images)
    assert normalizer.scale_[2, 1] == 1
    images[0, 2, 1] = 3.1
    assert normalizer.transform(images)[0, 2, 1] == pytest.approx(3)
    alone = PixelNormalizer().fit(images[:1])
    assert (alone.scale_ == 1).all()
    assert (alone.transform(images[:1]) == 0).all()


# Histograms


def test_equalized_gray_bytes_are_those_of_opencv(faces):
    images = faces // 2 + 40  # that they do not span 0..255 makes no difference
    expected = [cv2.equalizeHist(image) for image in images]
    np.testing.assert_array_equal(equalize_histogram(images), expected)


def test_equalized_equals_scikit_image(faces):
    result = equalize_histogram(faces)
    assert result.dtype == np.uint8
    for image, equalized in zip(faces, result, strict=True):
        share = equalize_hist(image)  # of the pixels that are as bright at most
        expected = 255 * (share - share.min()) / (1 - share.min())
        np.testing.assert_allclose(equalized, expected, rtol=0, atol=0.51)


def test_equalized_levels_are_evenly_used(rng):
    image = rng.random((1, 200, 200)) ** 3
    counts, _ = np.histogram(equalize_histogram(image), bins=8, range=(0, 256))
    # the lowest of the 256 levels alone holds a sixth of these pixels
    assert counts[3:].min() > 0.1 * image.size
    assert counts[3:].max() < 0.15 * image.size
    before, _ = np.histogram(255 * image, bins=8, range=(0, 256))
    assert before.max() > 0.4 * image.size


def test_equalized_does_not_depend_on_a_monotone_change():
    image = np.random.default_rng(3).permutation(256).reshape(1, 16, 16).astype(np.uint8)
    darker = (image // 2).astype(np.uint8)
    brighter = np.rint(255 * np.sqrt(np.arange(256) / 255)).astype(np.uint8)[image]
    expected = equalize_histogram(image).astype(int)
    assert np.abs(equalize_histogram(darker) - expected).max() <= 2
    assert (
        np.abs(equalize_histogram(brighter)[image > 64] - expected[image > 64]).max() <= 2
    )


def test_amount_goes_from_stretched_to_equalized(faces):
    narrow = faces / 1000 + 7
    np.testing.assert_array_equal(equalize_histogram(narrow, amount=0), faces)
    half = equalize_histogram(narrow, amount=0.5)
    mean = (faces.astype(float) + equalize_histogram(narrow)) / 2
    np.testing.assert_allclose(half, mean, rtol=0, atol=0.5)


@pytest.mark.parametrize("clip_limit", [1, 2.5, 40.0])
@pytest.mark.parametrize("tiles", [(1, 1), (4, 4), (2, 5)])
def test_adaptive_equals_opencv_in_large_tiles(faces, tiles, clip_limit):
    images = np.stack([cv2.resize(image, (280, 240)) for image in faces])
    images[:, 0, 0], images[:, -1, -1] = 0, 255  # OpenCV does not stretch
    clahe = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=tiles[::-1])
    np.testing.assert_array_equal(
        equalize_adaptive_histogram(images, tiles=tiles, clip_limit=clip_limit),
        [clahe.apply(image) for image in images],
    )


def adaptive_by_definition(image, tiles, clip_limit):
    """Map each pixel by the clipped histograms of the tiles whose centers are nearest."""
    (height, width), (rows, columns) = image.shape, tiles
    maps = np.empty((rows, columns, 256))
    for r, band in enumerate(np.split(image, rows)):
        for c, tile in enumerate(np.split(band, columns, axis=1)):
            share = np.bincount(tile.ravel(), minlength=256) / tile.size
            clipped = np.minimum(share, clip_limit / 256)
            maps[r, c] = 255 * np.cumsum(clipped + (1 - clipped.sum()) / 256)
    result = np.empty(image.shape)
    for y in range(height):
        for x in range(width):
            down = np.clip((y + 0.5) * rows / height - 0.5, 0, rows - 1)
            right = np.clip((x + 0.5) * columns / width - 0.5, 0, columns - 1)
            top, left = min(int(down), rows - 2), min(int(right), columns - 2)
            around = maps[top : top + 2, left : left + 2, image[y, x]]
            down, right = down - top, right - left
            result[y, x] = [1 - down, down] @ around @ [1 - right, right]
    return result


@pytest.mark.parametrize("clip_limit", [1.0, 2.0, 4.0, 40.0])
@pytest.mark.parametrize("tiles", [(2, 2), (3, 2), (4, 4)])
def test_adaptive_is_as_defined_in_small_tiles(faces, tiles, clip_limit):
    result = equalize_adaptive_histogram(faces, tiles=tiles, clip_limit=clip_limit)
    for image, equalized in zip(faces, result, strict=True):
        # up to 255 of the 2048 or more pixels of a tile are not spread evenly
        expected = adaptive_by_definition(image, tiles, clip_limit)
        np.testing.assert_allclose(equalized, expected, rtol=0, atol=10)
        assert abs((equalized - expected).mean()) < 6


def test_tiles_are_rows_and_columns():
    # two rows of tiles: each half has its own contrast, whatever the other half's is
    image = np.zeros((1, 64, 64))
    image[0, :32] = np.linspace(0, 0.1, 64)
    image[0, 32:] = np.linspace(0.9, 1, 64)
    options = {"clip_limit": 1000.0}
    split = equalize_adaptive_histogram(image, tiles=(2, 1), **options).astype(int)
    joint = equalize_adaptive_histogram(image, tiles=(1, 2), **options).astype(int)
    assert np.ptp(split[0, 0]) > 220
    assert np.ptp(joint[0, 0]) < 140


def test_adaptive_takes_shade_from_one_side_off(rng):
    texture = rng.random((1, 64, 64))
    shaded = texture * np.linspace(0.3, 1, 64)
    even = equalize_adaptive_histogram(shaded, clip_limit=1000.0)[0]
    whole = equalize_histogram(shaded)[0]
    assert abs(float(even[:, :16].mean()) - even[:, -16:].mean()) < 25
    assert abs(float(whole[:, :16].mean()) - whole[:, -16:].mean()) > 60


@pytest.mark.parametrize("clip_limit", [1.0, 2.0, 4.0])
def test_limit_bounds_how_much_contrast_grows(rng, clip_limit):
    image = rng.integers(100, 104, (1, 128, 128))  # four levels of noise
    image[0, 0, :2] = 0, 255
    limited = equalize_adaptive_histogram(image, clip_limit=clip_limit)
    assert 3 <= np.ptp(limited[0, 32:, 32:]) <= 3 * (clip_limit + 1) + 1
    assert np.ptp(equalize_adaptive_histogram(image, clip_limit=1000.0)[0, 32:, 32:]) > 180


@pytest.mark.parametrize("function", EQUALIZERS, ids=named)
def test_equalizers_take_any_scale(faces, function):
    expected = function(faces)
    for images in (faces / 256, faces * 64.0 - 5000, faces.astype(np.int32) - 128):
        np.testing.assert_array_equal(function(images), expected)


@pytest.mark.parametrize("function", EQUALIZERS, ids=named)
def test_equalizers_change_the_luma_and_keep_the_colors(faces, function):
    gray = faces // 2
    tint = np.array([30, 0, 10])
    tint = tint - tint @ LUMA  # it adds nothing to the luma
    result = function(gray[..., None] + tint).astype(float)
    expected = function(gray)[..., None] + tint * 255 / np.ptp(gray, (1, 2))[0]
    inside = ((expected > 0) & (expected < 255)).all(axis=3)
    assert inside.mean() > 0.5
    # the luma can round to another level where it stands between two
    assert np.quantile(np.abs(result - expected)[inside], 0.99) <= 1.5
    np.testing.assert_allclose(result, np.clip(expected, 0, 255), rtol=0, atol=6)


@pytest.mark.parametrize("function", EQUALIZERS, ids=named)
def test_equal_channels_stay_equal(faces, function):
    result = function(np.repeat(faces[..., None], 3, axis=3))
    np.testing.assert_array_equal(result, np.repeat(function(faces)[..., None], 3, axis=3))


# What all of them keep


@pytest.mark.parametrize("function", FUNCTIONS, ids=named)
@pytest.mark.parametrize("level", [np.uint8(0), np.uint8(77), 0.1, -1e6])
def test_flat_images_become_0(function, level):
    for shape in ((2, 9, 8), (2, 9, 8, 3)):
        result = function(np.full(shape, level))
        np.testing.assert_array_equal(result, np.zeros(shape))


@pytest.mark.parametrize("function", LOCAL, ids=named)
def test_a_flat_color_becomes_0(function):
    assert (function(np.full((2, 9, 8, 3), [0.1, 0.7, 0.3])) == 0).all()


@pytest.mark.parametrize("function", EQUALIZERS, ids=named)
def test_colors_of_equal_luma_become_0(function):
    image = np.zeros((1, 8, 8, 3))
    image[..., 0] = np.linspace(0, 1, 8)
    image[..., 1] = (0.5 - 0.299 * image[..., 0]) / 0.587
    assert (function(image) == 0).all()


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=named)
def test_gray_images_one_by_one_and_as_float(faces, transformer):
    fitted = transformer.fit(faces)
    together = fitted.transform(faces)
    alone = [fitted.transform(faces[i : i + 1])[0] for i in range(len(faces))]
    np.testing.assert_array_equal(alone, together)
    for dtype in (np.float32, np.float64):
        floats = faces.astype(dtype)
        np.testing.assert_array_equal(transformer.fit(floats).transform(floats), together)
    assert together.shape == faces.shape
    assert fitted.image_shape_ == faces.shape[1:]


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=named)
def test_steps_of_a_pipeline_that_gives_data_frames(faces, transformer):
    hog = HOGFeatures(pixels_per_cell=(6, 6))
    pipeline = make_pipeline(transformer, hog).set_output(transform="pandas")
    table = pipeline.fit_transform(faces)
    assert list(table.columns) == list(hog.get_feature_names_out())
    expected = hog.transform(transformer.fit_transform(faces))
    np.testing.assert_array_equal(table, expected)
    with sklearn.config_context(transform_output="pandas"):
        assert isinstance(transformer.fit_transform(faces), np.ndarray)


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=named)
def test_images_have_no_names(faces, transformer):
    name = type(transformer).__name__
    with pytest.raises(
        ValueError, match=rf"feature vectors have names, and {name} gives images"
    ):
        transformer.fit(faces).get_feature_names_out()


def test_paper_002(faces):
    steps = make_pipeline(LocalMeanNormalizer(), PixelNormalizer(with_std=False))
    result = steps.fit_transform(faces)
    np.testing.assert_allclose(result.mean(axis=0), 0, atol=1e-5)
    local = normalize_local_mean(faces)
    np.testing.assert_allclose(result, local - local.mean(axis=0), atol=1e-4)


# Wrong input


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=named)
def test_wrong_images_are_refused(faces, transformer):
    transformer.fit(faces)
    with pytest.raises(ValueError, match=rf"\(36, 27\), but {named(transformer)} was fit"):
        transformer.transform(faces[:, :, :-1])
    broken = faces.astype(float)
    broken[1, 2, 3] = np.nan
    for method in (transformer.fit, transformer.transform):
        with pytest.raises(ValueError, match=r"NaN .*first at \(1, 2, 3\)"):
            method(broken)


@pytest.mark.parametrize("tiles", [(4,), (4, 0), (4.0, 4), [4, "4"]])
def test_tiles_must_be_two_positive_whole_numbers(faces, tiles):
    with pytest.raises(ValueError, match="tiles must be two whole numbers"):
        CLAHE(tiles=tiles).fit(faces)


@pytest.mark.parametrize("tiles", [(37, 1), (1, 29)])
def test_more_tiles_than_pixels_are_refused(faces, tiles):
    message = rf"36x28 pixels .* {tiles[0]}x{tiles[1]} tiles: make tiles smaller"
    with pytest.raises(ValueError, match=message):
        CLAHE(tiles=tiles).fit(faces)
    with pytest.raises(ValueError, match=message):
        equalize_adaptive_histogram(faces, tiles=tiles)


def test_tiles_from_yaml_equal_tuples(faces):
    lists = CLAHE(tiles=[2, 3]).fit_transform(faces)
    tuples = CLAHE(tiles=(2, 3)).fit_transform(faces)
    np.testing.assert_array_equal(lists, tuples)


@pytest.mark.parametrize(
    "transformer",
    [
        LocalMeanNormalizer(sigma=0),
        LocalContrastNormalizer(sigma=-1.0),
        PixelNormalizer(with_std="no"),
        HistogramEqualizer(amount=1.5),
        CLAHE(clip_limit=0.5),
    ],
    ids=named,
)
def test_parameters_out_of_range_are_refused(faces, transformer):
    name = next(iter(set(transformer.get_params()) - {"tiles"}))
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {named(transformer)}"):
        transformer.fit(faces)
