import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import local_binary_pattern as skimage_lbp

from ferpipe import datasets
from ferpipe.features.cells import cell_edges
from ferpipe.features.lbp import LBPFeatures, lbp, local_binary_pattern

METHODS = ["default", "ror", "uniform", "nri_uniform", "var"]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def by_scikit_image(images, n_points, radius, method):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Applying `local_binary_pattern` to floating")
        return np.stack([skimage_lbp(image, n_points, radius, method) for image in images])


def kinds_of_images():
    """Images that differ in type, texture, size and in how often points tie with pixels."""
    rng = np.random.default_rng(3)
    flat = np.array([0, 1, 100, 141, 255], np.uint8)[:, None, None]
    smooth = rng.normal(size=(2, 33, 18)).cumsum(axis=1).cumsum(axis=2)
    return {
        "bytes": rng.integers(0, 256, (3, 23, 31), dtype=np.uint8),
        "three grays": rng.integers(0, 3, (3, 24, 17), dtype=np.uint8),
        "constant": flat.repeat(70, axis=1).repeat(9, axis=2),
        "constant floats": np.full((1, 20, 40), 0.1) * np.array([1, 3, 7])[:, None, None],
        "double": rng.random((2, 17, 20)),
        "single": rng.random((2, 17, 20)).astype(np.float32),
        "half": rng.random((2, 17, 20)).astype(np.float16),
        "smooth": smooth,
        "smooth bytes": np.uint8(smooth % 256),
        "ties in thirds": np.float64(rng.integers(0, 4, (2, 19, 22))) / 3,
        "signed": rng.integers(-9000, 5000, (2, 12, 12), dtype=np.int16),
        "long": rng.integers(-5, 5, (2, 12, 12)) + 2**60,
        "booleans": rng.random((2, 12, 12)) > 0.5,
        "one pixel": rng.random((2, 1, 1)),
        "one row": rng.integers(0, 9, (2, 1, 30), dtype=np.uint8),
        "small differences": 1e6 + 1e-9 * rng.random((2, 12, 12)),
        "beyond single": 1e300 * rng.random((2, 9, 9)),
        "at its end": 1e38 * rng.random((2, 9, 9)),
        "subnormal": 1e-310 * rng.random((2, 9, 9)),
        "not contiguous": rng.integers(0, 256, (2, 40, 31), dtype=np.uint8)[:, ::2, ::-1],
        "wide": rng.integers(0, 20, (1, 30, 1500), dtype=np.uint8),
    }


@pytest.mark.parametrize("kind", kinds_of_images())
def test_codes_are_those_of_scikit_image(kind):
    images = kinds_of_images()[kind]
    for n_points, radius in (
        (8, 1),
        (8, 2),
        (16, 2),
        (24, 3),
        (16, 1),  # a point less than half a pixel below its center
        (12, 0.9),
        (8, 0.4),
        (5, 2.5),
        (9, 1.1),
        (1, 1),
        (2, 1.5),
        (31, 5),
        (4, 21),
    ):
        for method in METHODS[:-1]:
            np.testing.assert_array_equal(
                local_binary_pattern(images, n_points, radius, method),
                by_scikit_image(images, n_points, radius, method),
                err_msg=f"{n_points} points, radius {radius}, {method}",
            )
        if kind == "beyond single":  # squares are beyond double there
            continue
        variance = local_binary_pattern(images, n_points, radius, "var")
        expected = by_scikit_image(images, n_points, radius, "var")
        if images.dtype != np.float64:  # there, which rounding error is 0 is chance
            np.testing.assert_array_equal(np.isnan(variance), np.isnan(expected))
        np.testing.assert_allclose(
            np.nan_to_num(variance),
            np.nan_to_num(expected),
            rtol=1e-9,
            atol=1e-14 * np.square(images, dtype=np.float64).max(),
        )


def test_flat_areas_of_any_brightness():
    # weights of points less than half a pixel from the first row do not add up to 1
    images = (
        np.arange(256, dtype=np.uint8)[:, None, None].repeat(4, axis=1).repeat(4, axis=2)
    )
    for n_points, radius in ((20, 1), (24, 0.7), (8, 0.3), (8, 1)):
        expected = by_scikit_image(images, n_points, radius, "default")
        codes = local_binary_pattern(images, n_points, radius)
        np.testing.assert_array_equal(codes, expected)


@pytest.mark.skipif("FERPIPE_DATA" not in os.environ, reason="needs FERPIPE_DATA")
def test_codes_are_those_of_scikit_image_on_faces():
    folder = Path(os.environ["FERPIPE_DATA"], "fer2013")
    faces = datasets.load_fer2013(folder, usage="PublicTest").data[:60]
    for images in (faces, faces / 255, np.float32(faces) / 7 - 20):
        for n_points, radius in ((8, 1), (16, 2)):
            np.testing.assert_array_equal(
                local_binary_pattern(images, n_points, radius),
                by_scikit_image(images, n_points, radius, "default"),
            )


def test_images_do_not_touch_each_other(rng, monkeypatch):
    images = rng.integers(0, 5, (30, 13, 11), dtype=np.uint8)
    expected = [local_binary_pattern(image[None], 16, 2)[0] for image in images]
    np.testing.assert_array_equal(local_binary_pattern(images, 16, 2), expected)
    monkeypatch.setattr("ferpipe.features.lbp._PIXELS", 7 * 143)
    monkeypatch.setattr("ferpipe.features.lbp._BLOCK", 100)
    np.testing.assert_array_equal(local_binary_pattern(images, 16, 2), expected)
    variance = local_binary_pattern(images, 16, 2, "var")
    expected = by_scikit_image(images, 16, 2, "var")
    np.testing.assert_allclose(variance, expected, rtol=1e-9, atol=1e-12)


def test_codes_are_small_numbers(rng):
    images = rng.random((1, 9, 9))
    for n_points, dtype in ((8, np.uint8), (16, np.uint16), (17, np.uint32)):
        assert local_binary_pattern(images, n_points).dtype == dtype
    assert local_binary_pattern(images, method="var").dtype == np.float64


# Histograms


def histograms_by_hand(codes, n_bins, rows, columns):
    return np.stack(
        [
            [
                np.bincount(code[top:end, left:right].ravel(), minlength=n_bins)
                for code in codes
            ]
            for top, end in rows
            for left, right in columns
        ],
        axis=1,
    )


@pytest.mark.parametrize(
    ("method", "n_points", "n_bins"),
    [
        ("default", 6, 64),
        ("uniform", 8, 10),
        ("nri_uniform", 8, 59),
        ("uniform", 24, 26),
        ("nri_uniform", 20, 383),
    ],
)
def test_histograms_are_counts_of_codes_in_cells(rng, method, n_points, n_bins):
    images = rng.integers(0, 256, (3, 13, 20), dtype=np.uint8)
    codes = by_scikit_image(images, n_points, 2, method).astype(int)
    expected = histograms_by_hand(
        codes, n_bins, [(0, 6), (6, 13)], [(0, 6), (6, 13), (13, 20)]
    )
    parameters = {"n_points": n_points, "radius": 2, "method": method, "cells": (2, 3)}
    counts = lbp(images, norm=None, **parameters)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, expected.reshape(3, -1))
    shares = expected / expected.sum(axis=-1, keepdims=True)
    lengths = np.linalg.norm(expected, axis=-1, keepdims=True)
    for norm, values in (
        ("L1", shares),
        ("L1-sqrt", np.sqrt(shares)),
        ("L2", expected / lengths),
    ):
        np.testing.assert_allclose(
            lbp(images, norm=norm, **parameters), values.reshape(3, -1), rtol=1e-6
        )


def test_rotations_have_one_bin(rng):
    images = rng.integers(0, 256, (2, 30, 30), dtype=np.uint8)
    codes = by_scikit_image(images, 8, 1, "ror").astype(int)
    smallest = sorted(
        {min(int(f"{c:08b}"[k:] + f"{c:08b}"[:k], 2) for k in range(8)) for c in range(256)}
    )
    assert len(smallest) == 36
    counts = lbp(images, method="ror", cells=(1, 1), norm=None)
    for count, code in zip(counts, codes, strict=True):
        np.testing.assert_array_equal(
            count, [(code == number).sum() for number in smallest]
        )


def test_cells_overlap_by_the_share_that_was_asked_for(rng):
    images = rng.integers(0, 256, (4, 24, 17), dtype=np.uint8)
    codes = by_scikit_image(images, 8, 1, "uniform").astype(int)
    counts = lbp(images, method="uniform", cells=(3, 2), overlap=0.5, norm=None)
    columns = list(zip(*cell_edges((24, 17), (3, 2), 0.5)[1], strict=True))
    assert columns == [(0, 11), (5, 17)]
    expected = histograms_by_hand(codes, 10, [(0, 12), (6, 18), (12, 24)], columns)
    np.testing.assert_array_equal(counts, expected.reshape(4, -1))


def test_variances_are_counted_by_sixteenths_of_their_image(rng):
    images = rng.random((3, 16, 24))
    counts = lbp(images, method="var", cells=(2, 2), norm=None).reshape(3, 4, 16)
    variance = by_scikit_image(images, 8, 1, "var")
    ranks = variance.reshape(3, -1).argsort(axis=1).argsort(axis=1).reshape(3, 16, 24)
    expected = histograms_by_hand(ranks // 24, 16, [(0, 8), (8, 16)], [(0, 12), (12, 24)])
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(
        lbp(1000 * images, method="var", cells=(2, 2), norm=None).reshape(3, 4, 16), counts
    )


def test_flat_places_have_the_lowest_variance(rng):
    images = rng.random((2, 20, 20))
    images[:, :10] = 0.1
    counts = lbp(images, method="var", cells=(4, 1), norm=None).reshape(2, 4, 16)
    # the second row of cells lies within the flat part but for its right and left ends
    assert (counts[:, 1, 0] >= 5 * 18 - 20).all()
    constant = lbp(np.full((1, 9, 9), 7.3), method="var", cells=(1, 1), norm=None)
    assert constant[0, 0] >= 49
    assert np.isfinite(lbp(np.zeros((1, 9, 9)), method="var")).all()


# The estimator


def test_estimator_is_the_function(rng):
    images = rng.integers(0, 256, (5, 20, 25), dtype=np.uint8)
    parameters = {"radius": [1, 2.5], "n_points": [8, 12], "cells": [3, 4], "norm": "L2"}
    extractor = LBPFeatures(overlap=0.3, method="uniform", **parameters)
    expected = [
        lbp(
            images,
            radius=r,
            n_points=p,
            cells=(3, 4),
            overlap=0.3,
            method="uniform",
            norm="L2",
        )
        for r, p in ((1, 8), (2.5, 12))
    ]
    np.testing.assert_array_equal(
        extractor.fit_transform(images), np.concatenate(expected, axis=1)
    )


def test_threads_change_nothing(rng):
    images = rng.integers(0, 256, (9, 200, 210), dtype=np.uint8)
    expected = LBPFeatures().fit_transform(images)
    np.testing.assert_array_equal(LBPFeatures(n_jobs=3).fit_transform(images), expected)


def test_bytes_and_floats_agree_exactly(rng):
    images = rng.integers(0, 6, (4, 20, 25), dtype=np.uint8)
    for method in METHODS:
        extractor = LBPFeatures(method=method)
        expected = extractor.fit_transform(images)
        for dtype in (np.float16, np.float32, np.float64):
            np.testing.assert_array_equal(
                extractor.fit_transform(images.astype(dtype)), expected
            )


def test_steady_light_changes_nothing(rng):
    images = rng.integers(1, 60, (3, 24, 24)).astype(np.float64)
    # the border is compared with 0
    expected = LBPFeatures(cells=(1, 1)).fit_transform(images)
    np.testing.assert_array_equal(
        LBPFeatures(cells=(1, 1)).fit_transform(4 * images), expected
    )


def test_color_is_its_luminance(rng):
    color = rng.random((2, 24, 24, 3))
    np.testing.assert_array_equal(
        LBPFeatures().fit_transform(color), LBPFeatures().fit_transform(rgb2gray(color))
    )


def test_name_says_where_the_pattern_is():
    images = np.full((1, 40, 32), 5.0)
    images[0, 26, 12] = 9.0  # brighter than all round it, in the cell of row 2, column 1
    extractor = LBPFeatures(cells=(4, 3), method="uniform", norm=None).fit(images)
    counts = dict(
        zip(extractor.get_feature_names_out(), extractor.transform(images)[0], strict=True)
    )
    lit = {name for name, count in counts.items() if name.endswith("_b0") and count}
    assert lit == {"lbp_R1_r2c1_b0"}
    assert counts["lbp_R1_r1c1_b8"] == 10 * 11


def test_names_of_several_scales_differ(rng):
    extractor = LBPFeatures(
        radius=(1, 2.5), n_points=(8, 16), method="uniform", cells=(2, 2)
    )
    features = extractor.fit_transform(rng.random((2, 20, 20)))
    names = extractor.get_feature_names_out()
    assert len(set(names)) == len(names) == features.shape[1] == 4 * (10 + 18)
    assert names[-1] == "lbp_R2.5_r1c1_b17"


def test_plot_shows_codes_and_cells(rng):
    image = rng.integers(0, 256, (30, 24), dtype=np.uint8)
    axes = LBPFeatures(radius=(1, 2), cells=(3, 2)).plot(image)
    shown = [picture.get_array() for picture in axes.images]
    for codes, radius in zip(shown, (1, 2), strict=True):
        np.testing.assert_array_equal(codes, skimage_lbp(image, 8, radius, "nri_uniform"))
    assert len(axes.patches) == 2 * 6
    again = LBPFeatures().plot(np.repeat(image[..., None], 3, axis=2), axes)
    assert again is axes


def test_more_cells_than_pixels_is_an_error():
    assert LBPFeatures(cells=(9, 8)).fit_transform(np.zeros((1, 9, 8))).shape == (1, 4248)
    with pytest.raises(ValueError, match=r"at least that many rows.*got 9x8: use fewer"):
        LBPFeatures(cells=(9, 9)).fit(np.zeros((1, 9, 8)))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"cells": (3,)}, "cells must be two whole numbers"),
        ({"cells": (3, 0)}, "cells must be two whole numbers"),
        ({"cells": (3.0, 3)}, "cells must be two whole numbers"),
        ({"radius": (1, 0)}, "radius must be positive"),
        ({"radius": ()}, "radius must be positive"),
        ({"radius": (1, "2")}, "radius must be positive"),
        ({"radius": (1, 1.0)}, "radius must not name a scale twice"),
        ({"n_points": (8, 16)}, r"n_points must be one number, or one for each radius"),
        ({"n_points": (8.5,)}, "n_points must be whole numbers from 1 to 31"),
        ({"n_points": 17, "method": "ror"}, "whole numbers from 1 to 16 for histograms"),
        ({"n_points": 32}, "n_points"),
        ({"overlap": 1.0}, "overlap"),
        ({"norm": "L3"}, "norm"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LBPFeatures(**parameters).fit(np.zeros((2, 32, 32)))
