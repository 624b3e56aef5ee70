import cv2
import numpy as np
import pytest

from ferpipe.io.images import IMAGE_SUFFIXES
from ferpipe.io.videos import VIDEO_SUFFIXES, read_frames


def test_no_suffix_stands_for_an_image_and_a_video():
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES)


def test_frames_of_a_video_come_in_order_with_their_times(tmp_path):
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 16))
    levels = (20, 120, 220)
    for level in levels:
        writer.write(np.full((16, 32, 3), level, np.uint8))
    writer.release()
    times, frames = zip(*read_frames(path), strict=True)
    assert times == pytest.approx((0, 0.2, 0.4))
    assert [frame.shape for frame in frames] == [(16, 32)] * 3
    assert [frame.mean() for frame in frames] == pytest.approx(levels, abs=4)
    assert next(read_frames(path, gray=False))[1].shape == (16, 32, 3)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "a.mp4").write_text("words")
    with pytest.raises(ValueError, match=r"a\.mp4: no frame can be read"):
        next(read_frames(tmp_path / "a.mp4"))
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        next(read_frames(tmp_path / "none.mp4"))
