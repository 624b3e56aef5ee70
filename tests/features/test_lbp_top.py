import warnings

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import local_binary_pattern as skimage_lbp

from ferpipe.features.lbp_top import LBPTopFeatures, lbp_top


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def plane_codes(sequence, n_points, radius, method):
    """Codes of the inner voxels in XY, XT and YT, slice by slice, by scikit-image."""

    def codes(image):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Applying `local_binary_pattern` to floating")
            return skimage_lbp(image, n_points, radius, method)

    margin = int(np.ceil(radius))
    inner = (slice(margin, -margin),) * 3
    _, height, width = sequence.shape
    xy = np.stack([codes(frame) for frame in sequence])
    xt = np.stack([codes(sequence[:, y]) for y in range(height)], axis=1)
    yt = np.stack([codes(sequence[:, :, x]) for x in range(width)], axis=2)
    return [plane[inner].astype(int) for plane in (xy, xt, yt)]


@pytest.mark.parametrize(
    ("n_points", "radius", "method", "n_bins"),
    [
        (8, 1, "nri_uniform", 59),
        (8, 1, "default", 256),
        (8, 2, "uniform", 10),
        (5, 1.5, "uniform", 7),
        (24, 2, "uniform", 26),
    ],
)
@pytest.mark.parametrize("kind", ["bytes", "four grays", "floats"])
def test_equals_scikit_image_on_each_slice(rng, kind, n_points, radius, method, n_bins):
    shapes = [(7, 14, 12), (5, 14, 12), (7, 14, 12)]
    if kind == "floats":
        clips = [rng.random(shape) for shape in shapes]
    else:
        most = {"bytes": 256, "four grays": 4}[kind]
        clips = [rng.integers(0, most, shape, dtype=np.uint8) for shape in shapes]
    counts = lbp_top(
        clips, n_points=n_points, radius=radius, method=method, cells=(2, 3), norm=None
    )
    assert counts.dtype == np.float32
    margin = int(np.ceil(radius))
    rows = np.linspace(0, 14 - 2 * margin, 3).astype(int)
    columns = np.floor(np.linspace(0, 12 - 2 * margin, 4) + 1e-9).astype(int)
    for clip, count in zip(clips, counts, strict=True):
        expected = [
            np.bincount(
                codes[:, rows[r] : rows[r + 1], columns[c] : columns[c + 1]].ravel(),
                minlength=n_bins,
            )
            for codes in plane_codes(clip, n_points, radius, method)
            for r in range(2)
            for c in range(3)
        ]
        np.testing.assert_array_equal(count, np.concatenate(expected))


def code_by_hand(plane, row, column, n_points, row_radius, column_radius):
    """One code by definition, in a plane given as a 2-D array."""
    code = 0
    for k in range(n_points):
        angle = 2 * np.pi * k / n_points
        y = row - row_radius * np.sin(angle)
        x = column + column_radius * np.cos(angle)
        top, left = int(np.floor(y + 1e-9)), int(np.floor(x + 1e-9))
        dy, dx = y - top, x - left
        patch = plane[top : top + 2, left : left + 2]
        patch = np.pad(patch, [(0, 2 - patch.shape[0]), (0, 2 - patch.shape[1])])
        value = np.array([1 - dy, dy]) @ patch @ np.array([1 - dx, dx])
        code |= int(value >= plane[row, column]) << k
    return code


def test_each_plane_has_its_own_points_and_each_axis_its_radius(rng):
    clip = rng.random((6, 15, 12))
    n_points, (rx, ry, rt) = (4, 5, 6), (1.5, 3, 2)
    counts = lbp_top(
        [clip],
        n_points=n_points,
        radius=(rx, ry, rt),
        method="default",
        cells=(1, 1),
        norm=None,
    )[0]
    found = np.split(counts, [16, 48])
    expected = [np.zeros(16), np.zeros(32), np.zeros(64)]
    for t in range(2, 4):
        for y in range(3, 12):
            for x in range(2, 10):
                for number, arguments in enumerate(
                    (
                        (clip[t], y, x, 4, ry, rx),
                        (clip[:, y], t, x, 5, rt, rx),
                        (clip[:, :, x], t, y, 6, rt, ry),
                    )
                ):
                    expected[number][code_by_hand(*arguments)] += 1
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_movement_along_x_shows_in_xt_and_not_in_yt(rng):
    stripes = np.tile(rng.random(30), (20, 1))
    clip = np.stack([np.roll(stripes, t, axis=1) for t in range(5)])
    still = np.stack([stripes] * 5)
    extractor = LBPTopFeatures(method="default", cells=(1, 1)).fit([clip])
    moving, resting = np.split(extractor.transform([clip, still]), 3, axis=1)[1]
    # at rest, a row over time repeats the row above and below it
    assert np.abs(moving - resting).sum() > 1
    xy = np.split(extractor.transform([clip, still]), 3, axis=1)[0]
    assert np.abs(xy[0] - xy[1]).sum() < 0.5


def test_a_still_sequence_has_no_change_along_time(rng):
    still = np.repeat(rng.random((1, 12, 14)), 3, axis=0)
    counts = lbp_top([still], n_points=4, method="default", cells=(1, 1), norm=None)
    _, xt, yt = np.split(counts[0], 3)
    # the points before and after are as bright as the center: their bits are set
    for plane in (xt, yt):
        assert {code & 0b1010 for code in np.flatnonzero(plane)} == {0b1010}


def test_sequences_stand_for_themselves(rng):
    clips = [rng.integers(0, 9, (t, 12, 14), dtype=np.uint8) for t in (3, 6, 3, 4, 6)]
    clips[2] = clips[2].astype(np.float64)
    alone = [lbp_top([clip])[0] for clip in clips]
    np.testing.assert_array_equal(lbp_top(clips), alone)
    np.testing.assert_array_equal(lbp_top(clips, n_jobs=2), alone)


def test_long_sequences_and_many_are_worked_on_in_parts(rng, monkeypatch):
    clips = [rng.integers(0, 9, (5, 12, 14), dtype=np.uint8) for _ in range(7)]
    expected = lbp_top(clips)
    monkeypatch.setattr("ferpipe.features.lbp_top._VOXELS", 2 * 5 * 12 * 14)
    monkeypatch.setattr("ferpipe.features.lbp._BLOCK", 300)
    np.testing.assert_array_equal(lbp_top(clips), expected)


def test_histograms_are_normalized_by_plane_and_cell(rng):
    clips = rng.random((2, 4, 15, 15))
    extractor = LBPTopFeatures(cells=(2, 2), overlap=0.4)
    sums = extractor.fit_transform(clips).reshape(2, 3 * 4, 59).sum(axis=2)
    np.testing.assert_allclose(sums, 1, rtol=1e-6)


def test_color_is_its_luminance(rng):
    color = rng.random((2, 3, 14, 14, 3))
    np.testing.assert_array_equal(
        LBPTopFeatures().fit_transform(color),
        LBPTopFeatures().fit_transform(rgb2gray(color)),
    )


def test_name_says_plane_and_cell():
    clip = np.full((3, 18, 26), 5.0)
    clip[1, 14, 3] = 9.0  # brighter than before and after, and all round it
    extractor = LBPTopFeatures(cells=(4, 4), method="uniform", norm=None).fit([clip])
    names = extractor.get_feature_names_out()
    counts = dict(zip(names, extractor.transform([clip])[0], strict=True))
    lit = {name for name, count in counts.items() if name.endswith("_b0") and count}
    assert lit == {"lbp_xy_r3c0_b0", "lbp_xt_r3c0_b0", "lbp_yt_r3c0_b0"}
    assert len(set(names)) == len(names) == 3 * 16 * 10


def test_too_few_frames_are_an_error_that_says_how_many_are_needed():
    clips = [np.zeros((5, 12, 12)), np.zeros((4, 12, 12))]
    assert len(LBPTopFeatures().fit(clips).transform([clips[0][:3]])) == 1
    for radius in (2, 1.5, (1, 1, 2)):
        with pytest.raises(ValueError, match=r"X\[1\] has 4 frames.*at least 5 frames"):
            LBPTopFeatures(radius=radius, cells=(2, 2)).fit(clips)
    with pytest.raises(ValueError, match=r"X\[0\] has 1 frames.*at least 3 frames"):
        LBPTopFeatures().fit(clips).transform([clips[0][:1]])


def test_frames_without_an_inner_part_are_an_error():
    assert (
        LBPTopFeatures(cells=(1, 2)).fit_transform(np.zeros((1, 3, 3, 4))).shape[1] == 354
    )
    with pytest.raises(ValueError, match=r"Frames of 4x2 pixels have no inner part"):
        LBPTopFeatures(cells=(1, 1)).fit(np.zeros((1, 3, 4, 2)))
    with pytest.raises(ValueError, match=r"got 2x2: use fewer cells"):
        LBPTopFeatures(cells=(3, 1)).fit(np.zeros((1, 3, 4, 4)))


def test_plot_shows_the_middle_frame_in_three_planes(rng):
    clip = rng.integers(0, 256, (5, 16, 14), dtype=np.uint8)
    axes = LBPTopFeatures(method="uniform", cells=(2, 2)).plot(clip)
    shown = [picture.get_array() for picture in axes.images]
    for picture, codes in zip(shown, plane_codes(clip, 8, 1, "uniform"), strict=True):
        np.testing.assert_array_equal(picture, codes[1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"radius": (1, 1)}, r"radius must be positive, one number or three \(x, y, t\)"),
        ({"radius": (1, 1, 0)}, "radius must be positive"),
        ({"n_points": (8, 8)}, r"n_points must be one number or three"),
        ({"n_points": (8, 8, 0)}, "n_points must be whole numbers from 1 to 31"),
        ({"n_points": (8, 8, 17), "method": "ror"}, "from 1 to 16"),
        ({"cells": (3,)}, "cells must be two whole numbers"),
        ({"method": "var"}, "method"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        LBPTopFeatures(**parameters).fit(np.zeros((2, 5, 32, 32)))


def test_sequences_of_feature_vectors_are_refused():
    with pytest.raises(ValueError, match=r"takes sequences of images.*got frames of shape"):
        LBPTopFeatures().fit(np.zeros((2, 5, 32)))
