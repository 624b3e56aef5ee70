import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ferpipe import FaceAligner
from ferpipe.faces.detection import detect_faces, find_face
from ferpipe.io.images import _FORMATS, IMAGE_SUFFIXES, as_uint8, read_image

LUMA = [0.299, 0.587, 0.114]


@pytest.fixture
def colors():
    image = np.zeros((8, 12, 3), np.uint8)
    image[:4] = (200, 100, 0)
    image[4:] = (0, 50, 250)
    image[:, :3] = (40, 250, 20)
    return image


def write(path, rgb):
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return path


# What a file may hold


def test_colors_come_as_rgb(tmp_path, colors):
    path = write(tmp_path / "ä b.png", colors)
    assert np.array_equal(read_image(path, gray=False), colors)


def test_gray_is_the_luma_of_the_colors(tmp_path, colors):
    image = read_image(write(tmp_path / "a.png", colors))
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.rint(colors @ LUMA))


def test_gray_file_as_rgb_has_three_equal_channels(tmp_path):
    gray = np.arange(100, dtype=np.uint8).reshape(10, 10)
    cv2.imwrite(str(tmp_path / "a.bmp"), gray)
    image = read_image(tmp_path / "a.bmp", gray=False)
    assert np.array_equal(image, np.stack([gray] * 3, axis=-1))


@pytest.mark.parametrize(
    "suffix", ["bmp", "gif", "jp2", "jpg", "png", "ppm", "tif", "webp"]
)
def test_formats(tmp_path, suffix):
    ramp = np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 64, axis=0)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp).save(path)
    assert np.abs(read_image(path).astype(int) - ramp).max() <= 4


# how a stored image must be turned for each orientation (EXIF 2.32, tag 0x0112)
TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.swapaxes(image, 0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(np.swapaxes(image, 0, 1), 2),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_photos_are_turned_upright(tmp_path, colors, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colors).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png", gray=False)
    assert np.array_equal(image, TURNS[orientation](colors))


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    deep = np.array([[0, 257, 1000, 32896, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    assert read_image(tmp_path / "a.png").tolist() == [[0, 1, 4, 128, 255]]
    cv2.imwrite(str(tmp_path / "b.tif"), deep)
    assert read_image(tmp_path / "b.tif").tolist() == [[0, 1, 4, 128, 255]]


def test_sixteen_bits_in_color(tmp_path):
    deep = np.full((4, 4, 3), (60000, 30000, 257), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[:, :, ::-1])
    image = read_image(tmp_path / "a.png", gray=False)
    assert np.abs(image[0, 0].astype(int) - [233, 117, 1]).max() <= 1


def test_black_and_white(tmp_path):
    picture = Image.fromarray(np.eye(5, dtype=bool))
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), 255 * np.eye(5))


def test_palette(tmp_path, colors):
    Image.fromarray(colors).quantize(3).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", gray=False)
    assert np.abs(image.astype(int) - colors).max() <= 4


def test_cmyk(tmp_path, colors):
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", gray=False)
    assert np.abs(image.astype(int) - colors).max() <= 1


def test_transparent_parts_are_white(tmp_path):
    rgba = np.full((1, 3, 4), (200, 100, 0, 0), np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png", gray=False)
    assert image[0].tolist() == [[255, 255, 255], [227, 177, 127], [200, 100, 0]]
    Image.fromarray(rgba[:, :, [0, 3]], "LA").save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png").tolist() == [[255, 227, 200]]


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("L", (6, 4), level) for level in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(tmp_path / "a.gif"), np.full((4, 6), 10))


# Where it may come from


def test_file_objects(tmp_path, colors):
    path = write(tmp_path / "a.png", colors)
    with path.open("rb") as file:
        assert np.array_equal(read_image(file, gray=False), colors)
    content = io.BytesIO(path.read_bytes())
    assert np.array_equal(read_image(content, gray=False), colors)
    with pytest.raises(ValueError, match=r"BytesIO.*not an image.*words"):
        read_image(io.BytesIO(b"words"))
    with pytest.raises(TypeError, match=r"io\.BytesIO\(content\)"):
        read_image(path.read_bytes())


def test_arrays(colors):
    assert np.array_equal(read_image(colors, gray=False), colors)
    assert np.array_equal(read_image(colors), np.rint(colors @ LUMA))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 7, 255]], np.uint8), [[0, 7, 255]]),
        (np.array([[0, 7, 255]], np.int64), [[0, 7, 255]]),
        (np.array([[0.0, 7.4, 254.6]]), [[0, 7, 255]]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [[0, 128, 255]]),
        (np.array([[0, 257, 65535]], np.uint16), [[0, 1, 255]]),
        (np.array([[False, True]]), [[0, 255]]),
        (np.array([[0, 1]]), [[0, 1]]),
        (np.full((1, 2, 1), 9, np.uint8), [[9, 9]]),
        (np.array([[[0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8), [[[255] * 3, [9, 8, 7]]]),
    ],
)
def test_values_of_any_scale_become_uint8(values, expected):
    image = as_uint8(values)
    assert image.dtype == np.uint8
    assert image.tolist() == expected


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.array(["a.png"]), TypeError, "numbers, got dtype <U5; .*read_image"),
        (np.array([[0.0, np.nan]]), ValueError, "NaN or infinite"),
        (np.array([[0.0, 256.0]]), ValueError, r"from 0 to 256; expected 0\.\.255"),
        (np.array([[-1, 1]]), ValueError, "from -1 to 1"),
        (np.zeros((3, 8, 8)), ValueError, r"got \(3, 8, 8\); the color channels go last"),
        (np.zeros((0, 8)), ValueError, r"no pixels: got the shape \(0, 8\)"),
        (np.zeros(8), ValueError, r"got \(8,\)"),
    ],
)
def test_what_is_no_image_is_refused(values, error, message):
    with pytest.raises(error, match=f"^faces (must|has) .*{message}"):
        as_uint8(values, name="faces")


# Files that are wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.png: the file is empty"),
        (b"just some words\n", r"a\.png: this is not an image.*just som"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "this is not an image"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_cut_off_image_is_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    path = write(tmp_path / f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"a\{suffix}: this is not an image, or a broken"):
        read_image(path)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"this is a folder.*load_image_folder"):
        read_image(tmp_path)


def png_start(width, height):
    """Make a PNG file that claims a size and breaks off in its first pixels."""

    def chunk(kind, content):
        checked = kind + content
        length, check = struct.pack(">I", len(content)), zlib.crc32(checked)
        return length + checked + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels)


def test_a_header_that_claims_too_much_is_refused_before_decoding(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_start(20_000, 20_000))
    with pytest.raises(ValueError, match=r"bomb\.png: .*20000 x 20000 .* the 50,000,000"):
        read_image(path)


def test_the_pixel_limit_can_be_set(tmp_path, colors):
    path = write(tmp_path / "a.png", colors)
    assert read_image(path, max_pixels=96).shape == (8, 12)
    with pytest.raises(ValueError, match="12 x 8 pixels, more than the 95"):
        read_image(path, max_pixels=95)
    before = Image.MAX_IMAGE_PIXELS
    path.write_bytes(png_start(20_000, 20_000))
    with pytest.raises(ValueError, match="a broken one"):  # read on: there are no pixels
        read_image(path, max_pixels=400_000_000)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_is_measured_before_its_decoder_is_made(tmp_path, monkeypatch, lossless):
    """The decoder takes memory for all pixels at once."""
    path = tmp_path / "bomb.webp"
    Image.new("RGB", (5000, 4000)).save(path, lossless=lossless)
    assert path.stat().st_size < 40_000
    animated = tmp_path / "animated.webp"
    frames = [Image.new("RGB", (5000, 4000), color) for color in ("white", "black")]
    frames[0].save(animated, save_all=True, append_images=frames[1:])
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("opened"))
    for file in (path, animated):
        with pytest.raises(ValueError, match="5000 x 4000 pixels, more than"):
            read_image(file, max_pixels=9_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="measures in /proc")
def test_decoding_takes_little_more_memory_than_the_pixels(tmp_path):
    """Of 1 kB of WebP, which took 1.4 GB: 58 bytes a pixel."""
    path = tmp_path / "bomb.webp"
    Image.new("RGBA", (3000, 3000), (9, 9, 9, 9)).save(path, lossless=True)
    code = f"""if True:
        import resource
        from ferpipe import read_image
        from PIL import _webp, WebPImagePlugin
        with open("/proc/self/status") as file:
            now = next(line for line in file if line.startswith("VmSize:"))
        most = int(now.split()[1]) * 1024 + 30 * 3000**2
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print(read_image({str(path)!r}).shape)
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "(3000, 3000)\n", done.stderr


def test_without_memory_for_the_pixels_it_is_said(tmp_path, colors, monkeypatch):
    def load(picture):
        raise MemoryError

    path = write(tmp_path / "a.png", colors)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(ValueError, match=r"a\.png: there is not enough memory"):
        read_image(path)


@pytest.mark.parametrize("shape", [(2, 32_767), (32_767, 2), (1, 40_000, 3)])
def test_a_side_that_opencv_cannot_warp_is_refused(tmp_path, shape):
    image = np.full(shape, 120, np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    sides = f"{shape[1]} x {shape[0]} pixels, but no side may have more than 32,766"
    with pytest.raises(ValueError, match=rf"a\.png: .*{sides}"):
        read_image(tmp_path / "a.png")
    for take in (read_image, lambda image: find_face(image), FaceAligner().fit_transform):
        with pytest.raises(ValueError, match=sides):
            take([image] if "fit" in str(take) else image)


@pytest.mark.parametrize("shape", [(2, 32_766), (32_766, 2)])
def test_the_longest_side_is_worked_with(shape):
    image = read_image(np.full(shape, 120, np.uint8))
    assert find_face(image) is None
    assert detect_faces(image) == []


def test_values_without_a_known_range_are_refused(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: the image has 32 bits a channel"):
        read_image(tmp_path / "a.tif")


# Folders


def test_every_suffix_of_an_image_belongs_to_a_format_that_is_read():
    kinds = Image.registered_extensions()
    assert {kinds[suffix] for suffix in IMAGE_SUFFIXES} <= set(_FORMATS)
    assert {".png", ".jpg", ".webp"} <= IMAGE_SUFFIXES
