import numpy as np
import pandas as pd
import pytest

from ferpipe import _checks as checks
from ferpipe._checks import (
    as_list,
    check_frame_shape,
    check_images,
    check_landmarks,
    check_sequences,
    check_value_scale,
    value_scale_of,
)

GRAY = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)
FRAMES = np.arange(6.0).reshape(3, 2)


def objects(items):
    """Put items into a one-dimensional array of objects."""
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


def test_a_value_that_is_not_finite_is_found_in_any_slice(monkeypatch):
    monkeypatch.setattr(checks, "_CHECKED", 50)  # two images of 20 values at a time
    images = np.zeros((9, 4, 5), np.float32)
    images[7, 2, 3] = np.inf
    with pytest.raises(ValueError, match=r"the first at \(7, 2, 3\)"):
        check_images(images)
    images[0, 3, 4] = np.nan
    with pytest.raises(ValueError, match=r"the first at \(0, 3, 4\)"):
        check_images(images)


# images


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 3), (1, 1, 1), (3, 4, 3)])
def test_good_images_come_back_as_they_are(shape, dtype):
    images = np.ones(shape, dtype)
    assert check_images(images) is images


@pytest.mark.parametrize("container", [list, tuple, objects, np.ndarray.tolist])
def test_images_may_come_in_any_container(container):
    images = check_images(container(GRAY))
    np.testing.assert_array_equal(images, GRAY)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GRAY[0], r"got an array of shape \(4, 5\)\. A single image i goes in as \[i\]"),
        (np.zeros((2, 3, 4, 5)), r"\(2, 3, 4, 5\)\. Three color channels go last; seq"),
        (np.zeros((2, 4, 5, 4)), r"shape \(2, 4, 5, 4\)\. Three color channels go last"),
        (np.zeros((2, 6, 4, 5, 3)), "sequences of images go through PerFrame"),
        (np.zeros(7), r"got an array of shape \(7,\)\.$"),
        (np.float64(1), r"got an array of shape \(\)\.$"),
        ([], "X is empty: at least one image"),
        (np.zeros((0, 4, 5)), r"X is empty: got an array of shape \(0, 4, 5\)"),
        (np.zeros((2, 0, 5)), r"X is empty: got an array of shape \(2, 0, 5\)"),
        (
            [GRAY[0], GRAY[0, :3]],
            r"X\[1\] has shape \(3, 5\), but X\[0\] .* \(4, 5\)",
        ),
        ([GRAY[0], np.zeros((4, 5, 3))], r"all images must have one size"),
    ],
)
def test_images_of_a_wrong_shape(images, message):
    with pytest.raises(ValueError, match=message):
        check_images(images)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(bad):
    images = GRAY.astype(np.float32)
    images[1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"NaN or infinite.*first at \(1, 2, 3\).*drop"):
        check_images(images)


@pytest.mark.parametrize(
    ("images", "dtype"),
    [
        (["a.png", "b.png"], "<U5"),
        (GRAY.astype(object), "object"),
        (GRAY.astype(complex), "complex128"),
        (None, "object"),
    ],
)
def test_images_that_are_not_numbers(images, dtype):
    with pytest.raises(TypeError, match=f"numbers .uint8 or float., got dtype {dtype}"):
        check_images(images)


def test_the_name_stands_in_the_message():
    with pytest.raises(ValueError, match=r"^faces must hold images"):
        check_images(GRAY[0], name="faces")
    with pytest.raises(ValueError, match=r"^clips\[1\] is empty"):
        check_sequences([FRAMES, FRAMES[:0]], name="clips")
    with pytest.raises(ValueError, match=r"^points must hold landmarks"):
        check_landmarks(GRAY[0], name="points")


# sequences


@pytest.mark.parametrize("frame", [(2,), (4, 5), (4, 5, 3), (68, 2)])
def test_sequences_of_every_kind_of_frame(frame):
    clips = [np.ones((length, *frame)) for length in (3, 1, 2)]
    checked = check_sequences(clips)
    assert isinstance(checked, list)
    for one, other in zip(checked, clips, strict=True):
        assert one is other


@pytest.mark.parametrize(
    "container", [list, tuple, objects, np.array, lambda clips: np.array(clips).tolist()]
)
def test_sequences_may_come_in_any_container(container):
    checked = check_sequences(container([FRAMES, FRAMES + 1]))
    np.testing.assert_array_equal(checked, [FRAMES, FRAMES + 1])


def test_a_sequence_may_be_a_list_of_frames():
    checked = check_sequences([list(FRAMES), list(FRAMES[:1])])
    np.testing.assert_array_equal(checked[0], FRAMES)
    assert checked[1].shape == (1, 2)


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([], "X is empty: at least one sequence"),
        (np.zeros((0, 3, 2)), "X is empty: at least one sequence"),
        (FRAMES, r"got an array of shape \(3, 2\). A single sequence s goes in as \[s\]"),
        ([FRAMES, FRAMES[0]], r"X\[1\] must have time first.*got shape \(2,\)"),
        ([1.0, 2.0], r"X\[0\] must have time first.*got shape \(\)"),
        ([FRAMES, FRAMES[:0]], r"X\[1\] is empty: got shape \(0, 2\)"),
        ([[], FRAMES], r"X\[0\] is empty"),
        (
            [FRAMES, FRAMES[:, :1]],
            r"X\[1\] has .* \(1,\), but X\[0\] has .* \(2,\)",
        ),
        ([FRAMES, GRAY], r"X\[1\] has frames of shape \(4, 5\), but X\[0\]"),
        (
            [[FRAMES[0], FRAMES[0, :1]]],
            r"frame 1 of shape \(1,\), but its frame 0",
        ),
        (np.zeros((2, 6, 3, 4, 5)), r"frames of shape \(3, 4, 5\), but a frame must be"),
        (
            np.zeros((2, 6, 4, 5, 3, 3)),
            r"X\[0\] has .* \(4, 5, 3, 3\), but a frame",
        ),
        (
            [FRAMES, FRAMES * np.nan],
            r"X\[1\] has NaN or infinite.*at \(0, 0\)",
        ),
    ],
)
def test_sequences_of_a_wrong_shape_or_value(clips, message):
    with pytest.raises(ValueError, match=message):
        check_sequences(clips)


@pytest.mark.parametrize("clips", [["a.mp4"], [["a.png", "b.png"]], GRAY.astype(object)])
def test_sequences_that_are_not_numbers(clips):
    with pytest.raises(TypeError, match="must hold numbers"):
        check_sequences(clips)


# landmarks


def test_landmarks_become_float64():
    points = check_landmarks([[[1, 2], [3, 4]]])
    assert points.dtype == np.float64
    np.testing.assert_array_equal(points, [[[1, 2], [3, 4]]])
    assert check_landmarks(points) is points


@pytest.mark.parametrize("shape", [(68, 2), (3, 68, 3), (3, 0, 2), (0, 68, 2), (2,)])
def test_landmarks_of_a_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"landmarks of shape \(n, p, 2\), got"):
        check_landmarks(np.zeros(shape))


def test_landmarks_that_are_missing():
    with pytest.raises(ValueError, match=r"NaN or infinite.*first at \(0, 1, 0\)"):
        check_landmarks([[[0, 1], [np.nan, 2]]])
    with pytest.raises(TypeError, match="must hold numbers"):
        check_landmarks([[["left", "right"]]])


# frame shape


def test_frame_shape_is_compared_with_that_of_fit():
    class Extractor:
        pass

    check_frame_shape([48, 48], (48, 48), Extractor())
    with pytest.raises(ValueError, match=r"images of shape \(40, 48\), but Extractor"):
        check_frame_shape((40, 48), (48, 48), Extractor())
    with pytest.raises(ValueError, match=r"fitted on frames of shape \(5,\): crop"):
        check_frame_shape((4,), (5,), Extractor(), kind="frames")
    with pytest.raises(ValueError, match=r"shape \(40, 48\): make them gray"):
        check_frame_shape((40, 48, 3), (40, 48), Extractor())
    with pytest.raises(ValueError, match=r"shape \(40, 48, 3\): give them in RGB"):
        check_frame_shape((40, 48), (40, 48, 3), Extractor())


@pytest.mark.parametrize("value", [1e300, -1e300, 1e16, np.float32(3e38), 2**60, -(2**63)])
def test_values_too_large_to_compute_with(value):
    """Their squares, or they themselves, are infinite in single precision."""
    array = np.zeros((2, 4, 4), np.asarray(value).dtype)
    array[1, 2, 3] = value
    for check in (check_images, check_sequences):
        with pytest.raises(ValueError, match=r"beyond 1e\+15 .*too large to compute with"):
            check(array)
    with pytest.raises(ValueError, match="too large to compute with"):
        check_landmarks(array[:, :, 2:])


@pytest.mark.parametrize(
    ("images", "scale"),
    [
        (np.zeros((1, 2, 2), np.uint8), 255),
        (np.full((1, 2, 2), 3, np.int64), 255),
        (np.full((1, 2, 2), 256, np.uint16), 65535),
        (np.full((1, 2, 2), True), 1),
        (np.full((1, 2, 2), 0.2), 1),
        (np.full((1, 2, 2), -3.5), 15),
        (np.full((1, 2, 2), 16.0), 255),
        (np.zeros((1, 2, 2)), None),
        (np.full((1, 2, 2), 1e6), None),
    ],
)
def test_scale_of_values(images, scale):
    assert value_scale_of(images) == scale
    check_value_scale(images, scale, object())


@pytest.mark.parametrize(
    ("images", "scale", "refused"),
    [
        (np.full((1, 2, 2), 0.9), 255, True),
        (np.full((1, 2, 2), -0.9), 255, True),
        (np.full((1, 2, 2), 1.5), 255, False),  # a dark picture
        (np.zeros((1, 2, 2)), 255, False),
        (np.ones((1, 2, 2), np.int64), 255, False),
        (np.full((1, 2, 2), 0.9), 15, False),
        (np.zeros((1, 2, 2), np.uint8), 1, True),
        (np.zeros((1, 2, 2), np.uint8), 15, True),
        (np.full((1, 2, 2), 1.3), 1, False),  # an interpolation beyond its pixels
        (np.zeros((1, 2, 2), np.uint8), 65535, True),
        (np.full((1, 2, 2), 60000, np.uint16), 255, True),
        (np.full((1, 2, 2), 300.0), 255, False),
        (np.full((1, 2, 2), 1e9), None, False),
    ],
)
def test_another_scale_than_in_fit(images, scale, refused):
    if not refused:
        check_value_scale(images, scale, object())
        return
    with pytest.raises(ValueError, match=f"fitted on values up to {scale}"):
        check_value_scale(images, scale, object())


# Containers and the axis of one channel


def test_an_axis_of_one_channel_is_dropped_and_one_of_two_is_refused():
    gray = GRAY[..., None]
    np.testing.assert_array_equal(check_images(gray), GRAY)
    np.testing.assert_array_equal(check_images(list(gray)), GRAY)
    # gray ones of both kinds are of one shape
    np.testing.assert_array_equal(check_images([GRAY[0], gray[1]]), GRAY[:2])
    (frames,) = check_sequences([gray])
    np.testing.assert_array_equal(frames, GRAY)
    (frames,) = check_sequences(gray[None])
    np.testing.assert_array_equal(frames, GRAY)
    with pytest.raises(ValueError, match=r"\(n, h, w\) or \(n, h, w, 3\)"):
        check_images(np.repeat(gray, 2, axis=3))


def test_a_column_of_a_data_frame_is_a_list():
    samples = pd.Series(list(GRAY), index=range(7, 7 + len(GRAY)))
    for column in (samples, samples.to_frame(), samples.to_numpy(), tuple(GRAY)):
        held = as_list(column)
        assert isinstance(held, list)
        np.testing.assert_array_equal(held, GRAY)
    # rows of numbers stay a table
    for rows in (pd.DataFrame({"a": [1.0, 2.0]}), pd.Series([1.0]), np.zeros((2, 3)), "ab"):
        assert as_list(rows) is rows
