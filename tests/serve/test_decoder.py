import io
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

import ferpipe
from ferpipe.serve.decoder import Decoder
from ferpipe.serve.limits import Limits, Refused


@pytest.fixture
def decoder():
    decoder = Decoder(Limits(pixels=250_000))
    yield decoder
    decoder.close()


def file_of(picture, kind="png", **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "tiff", "bmp"])
def test_images_are_those_that_read_image_reads(decoder, kind, gray):
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    for turned in (picture, picture[:, ::-1]):
        content = file_of(turned, kind)
        expected = ferpipe.read_image(io.BytesIO(content), gray=gray)
        np.testing.assert_array_equal(decoder.read(content, gray=gray), expected)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"notes", "not an image, or a broken one"),
        (
            file_of(np.zeros((501, 500), np.uint8)),
            "500 x 501 pixels, more than the 250,000",
        ),
        (file_of(np.zeros((2, 40_000), np.uint8)), "no side may have more than 32,766"),
    ],
)
def test_what_is_refused_is_said_and_the_process_goes_on(decoder, content, sentence):
    decoder.start()
    process = decoder._process
    with pytest.raises(Refused, match=sentence) as refused:
        decoder.read(content, gray=True)
    assert refused.value.status == 422
    assert "max_pixels" not in str(refused.value)
    assert decoder.read(file_of(np.ones((2, 3), np.uint8)), gray=True).shape == (2, 3)
    assert decoder._process is process


def slow_gif():
    """Return a file whose comment is read in a time that goes with its square."""
    picture = file_of(np.zeros((2, 2), np.uint8), "gif")
    place = picture.index(b",")
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 60_000 + b"\0"
    return picture[:place] + comment + picture[place:]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of time")
def test_an_image_that_takes_too_long_ends_the_process_and_the_next_gets_another():
    decoder = Decoder(Limits(decoding_seconds=0.02))
    try:
        with pytest.raises(Refused, match=r"cannot be decoded within 0\.02 s") as refused:
            decoder.read(slow_gif(), gray=True)
        assert refused.value.status == 422
        decoder._limits = Limits()
        assert decoder.read(file_of(np.ones((2, 3), np.uint8)), gray=True).shape == (2, 3)
    finally:
        decoder.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory")
def test_an_image_that_takes_too_much_memory_is_refused(decoder):
    decoder._n_bytes = 2**28
    decoder._limits = Limits(pixels=50_000_000)
    content = file_of(np.zeros((7000, 7000), np.uint8))
    with pytest.raises(Refused, match=r"not enough memory|cannot be decoded"):
        decoder.read(content, gray=True)
    assert decoder.read(file_of(np.ones((2, 3), np.uint8)), gray=True).shape == (2, 3)


def test_the_default_budget_is_enough_for_every_format():
    limits = Limits()
    side = int(limits.pixels**0.5)
    picture = Image.new("RGB", (side, side), (120, 90, 60))
    decoder = Decoder(limits)
    turned = Image.Exif()
    turned[0x0112] = 6
    try:
        for kind, options in (
            ("webp", {"lossless": True}),
            ("jpeg2000", {}),
            ("avif", {"speed": 10}),
            ("jpeg", {"exif": turned, "progressive": True}),
        ):
            file = io.BytesIO()
            picture.save(file, kind, **options)
            assert decoder.read(file.getvalue(), gray=False).shape == (side, side, 3)
    finally:
        decoder.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_a_process_that_dies_is_replaced(decoder):
    content = file_of(np.ones((2, 3), np.uint8))
    decoder.read(content, gray=True)
    os.kill(decoder._process.pid, signal.SIGKILL)
    with pytest.raises(Refused, match="cannot be decoded"):
        decoder.read(content, gray=True)
    assert decoder.read(content, gray=True).shape == (2, 3)


def test_it_ends_with_the_server(decoder):
    decoder.start()
    process = decoder._process
    decoder.close()
    assert process.poll() is not None
    decoder.close()
