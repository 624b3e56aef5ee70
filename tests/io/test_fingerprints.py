import cv2
import numpy as np
import pytest

from ferpipe.io.fingerprints import (
    are_known,
    copies,
    fingerprints,
    read_fingerprints,
    write_fingerprints,
)


def pictures(n, size=48, seed=0):
    """Smooth pictures that have nothing in common, like photographs without detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, 9, 9)).astype(np.float32) * 255
    return np.stack(
        [cv2.resize(c, (size, size), interpolation=cv2.INTER_CUBIC) for c in coarse]
    ).clip(0, 255).astype(np.uint8)  # fmt: skip


def changed(images):
    """The same pictures as somebody else may have them."""
    yield [cv2.resize(image, (96, 96)) for image in images]
    yield [cv2.resize(image, (224, 160), interpolation=cv2.INTER_CUBIC) for image in images]
    yield images[:, :, ::-1]
    yield images / 255.0
    yield (images * 0.6 + 40).astype(np.uint8)
    yield np.repeat(images[..., None], 3, axis=3)
    encoded = [cv2.imencode(".jpg", image, [1, 75])[1] for image in images]
    yield [cv2.imdecode(code, cv2.IMREAD_GRAYSCALE) for code in encoded]


def test_copies_are_known_and_other_images_are_not():
    images, others = pictures(200), pictures(2000, seed=1)
    known = fingerprints(images)
    assert not are_known(others, known).any()
    for number, variant in enumerate(changed(images)):
        assert are_known(variant, known).mean() > 0.95, number


def test_pairs_are_the_copies_at_any_size():
    images = pictures(60)
    for number, variant in enumerate(changed(images[:20])):
        together = [*images, *variant]
        np.testing.assert_array_equal(
            copies(together), [[i, 60 + i] for i in range(20)], err_msg=str(number)
        )
    assert len(copies(images)) == 0


def test_flat_and_tiny_images_are_never_copies():
    flat = np.full((5, 48, 48), 7, np.uint8)
    tiny = pictures(5, size=6)
    for images in (flat, tiny):
        assert not fingerprints(images).any()
        assert not are_known(images, fingerprints(images)).any()
        assert len(copies(images)) == 0


def test_file_holds_each_fingerprint_once_in_seven_bytes(tmp_path):
    numbers = fingerprints(np.random.default_rng(0).random((20_000, 16, 16)))
    path = write_fingerprints(tmp_path / "images.npz", np.concatenate([numbers, numbers]))
    np.testing.assert_array_equal(read_fingerprints(path), np.unique(numbers))
    assert path.stat().st_size < 7.5 * len(numbers)


def test_no_fingerprints_can_be_written(tmp_path):
    path = write_fingerprints(tmp_path / "images.npz", np.zeros(0, np.uint64))
    assert len(read_fingerprints(path)) == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nothing"])
def test_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"images\.npz: expected the fingerprints"):
        read_fingerprints(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="holds something else"):
        read_fingerprints(path)


def test_no_images():
    assert len(fingerprints([])) == len(copies([])) == 0
    assert len(are_known([], fingerprints(pictures(3)))) == 0
