import numpy as np
import pytest

from ferpipe.datasets.duplicates import number_identical


def test_numbers_are_the_first_equal_image():
    images = np.random.default_rng(0).integers(0, 2, (40, 2, 2), dtype=np.uint8)
    numbers = number_identical(images)
    same = (images[:, None] == images[None]).all((2, 3))
    np.testing.assert_array_equal(numbers[:, None] == numbers[None], same)
    np.testing.assert_array_equal(numbers, same.argmax(1))


@pytest.mark.parametrize("kind", [np.array, list])
def test_equal_samples_have_the_number_of_the_first(kind):
    images = np.random.default_rng(0).integers(0, 255, (6, 4, 5), dtype=np.uint8)
    images[3] = images[1]
    images[5] = images[0]
    np.testing.assert_array_equal(number_identical(kind(images)), [0, 1, 2, 1, 4, 0])


def test_sequences_are_compared_frame_by_frame():
    a, b = np.zeros((4, 5), np.uint8), np.ones((4, 5), np.uint8)
    data = [[a, b], [b, a], [a, b], [a], [a, a]]
    np.testing.assert_array_equal(number_identical(data), [0, 1, 0, 3, 4])


def test_the_same_bytes_in_another_shape_or_dtype_are_another_sample():
    row = np.arange(8, dtype=np.uint8)
    data = [row.reshape(2, 4), row.reshape(4, 2), row.reshape(2, 4).view(np.int8)]
    np.testing.assert_array_equal(number_identical(data), [0, 1, 2])


def test_memory_order_does_not_matter():
    image = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(
        number_identical([image, np.asfortranarray(image)]), [0, 0]
    )
