import cv2
import numpy as np
import pytest

from ferpipe.images import read_frames, read_image


@pytest.fixture
def colours():
    image = np.zeros((8, 12, 3), np.uint8)
    image[:4] = (200, 100, 0)
    image[4:] = (0, 50, 250)
    return image


def write(path, rgb):
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


def test_colours_come_as_rgb(tmp_path, colours):
    path = write(tmp_path / "ä b.png", colours)
    assert np.array_equal(read_image(path, grey=False), colours)


def test_grey_is_the_luma_of_the_colours(tmp_path, colours):
    image = read_image(write(tmp_path / "a.png", colours))
    assert image.dtype == np.uint8
    assert np.abs(image - colours @ [0.299, 0.587, 0.114]).max() <= 1


def test_grey_file_as_rgb_has_three_equal_channels(tmp_path):
    grey = np.arange(100, dtype=np.uint8).reshape(10, 10)
    cv2.imwrite(str(tmp_path / "a.bmp"), grey)
    image = read_image(tmp_path / "a.bmp", grey=False)
    assert np.array_equal(image, np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.png: the file is empty"),
        (b"just some words\n", r"a\.png: this is not an image.*just som"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_cut_off_image_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = write(tmp_path / f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\{suffix}: this is not an image, or a broken"):
        read_image(path)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")


def test_frames_of_a_video_come_in_order(tmp_path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 16))
    levels = (20, 120, 220)
    for level in levels:
        writer.write(np.full((16, 32, 3), level, np.uint8))
    writer.release()
    frames = list(read_frames(path))
    assert [frame.shape for frame in frames] == [(16, 32)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx(levels, abs=4)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("words")
    with pytest.raises(ValueError, match=r"a\.mp4: no frame can be read"):
        next(read_frames(tmp_path / "a.mp4"))
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        next(read_frames(tmp_path / "none.mp4"))
