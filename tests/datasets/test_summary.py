import numpy as np

from ferpipe.datasets import summary
from ferpipe.datasets.bunch import as_bunch


def images_bunch():
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 6), dtype=np.uint8)
    images[3] = images[0]  # within Training
    images[7] = images[1]  # across
    return as_bunch(
        images,
        ["fear", "anger"] * 4,
        kind="images",
        filenames=[str(number) for number in range(8)],
        description="A title\n\nMore.",
        groups=["a"] * 3 + ["b"] * 5,
        usage=np.array(["Training"] * 5 + ["PublicTest"] * 3),
    )


def test_images():
    assert summary(images_bunch()).splitlines() == [
        "A title",
        "samples: 8 images",
        "classes: anger 4, fear 4",
        "subjects: 2, with 3 to 5 samples each",
        "Training: 5 (anger 2, fear 3)",
        "PublicTest: 3 (anger 2, fear 1)",
        "sizes: 4 x 6 (8)",
        "duplicates: 2 groups of samples exactly alike (4 samples), 1 of them across "
        "splits",
    ]


def test_sequences_of_two_lengths():
    clips = [np.full((length, 4, 4), length, np.uint8) for length in (2, 3, 3)]
    bunch = as_bunch(
        clips, ["fear"] * 3, kind="sequences", filenames=None, description="Clips"
    )
    assert summary(bunch).splitlines()[2:] == [
        "classes: fear 3",
        "subjects: not known",
        "sizes: 4 x 4 (3)",
        "lengths: 2 (1), 3 (2)",
        "duplicates: 1 groups of samples exactly alike (2 samples)",
    ]


def test_same_bytes_of_another_shape_are_no_duplicate():
    images = [np.zeros((2, 8), np.uint8), np.zeros((4, 4), np.uint8)]
    bunch = as_bunch(images, ["a", "b"], kind="images", filenames=None, description="x")
    assert summary(bunch).endswith("duplicates: none")
