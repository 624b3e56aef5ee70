from PIL import Image

from ferpipe.io.images import _FORMATS
from ferpipe.io.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def test_images_are_of_kinds_that_are_read():
    kinds = Image.registered_extensions()
    assert {kinds[suffix] for suffix in IMAGE_SUFFIXES} <= set(_FORMATS)
    assert {".png", ".jpg", ".webp"} <= IMAGE_SUFFIXES


def test_no_file_is_both():
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
