import numpy as np
import pytest

from ferpipe.datasets import as_bunch
from ferpipe.datasets.folders import resize
from ferpipe.datasets.joined import join_data_sets


def images(classes, size=24, groups=True, **extra):
    rng = np.random.default_rng(size)
    target = np.repeat(classes, 3)
    return as_bunch(
        rng.integers(0, 256, (len(target), size, size), dtype=np.uint8),
        target,
        kind="images",
        groups=[f"S{i % 3}" for i in range(len(target))] if groups else None,
        **extra,
    )


def test_shared_classes_of_all_are_kept_in_order():
    one = images(["anger", "contempt", "fear"], filenames=[f"{i}.png" for i in range(9)])
    two = images(["neutral", "fear", "anger"], synthetic=True)
    joined = join_data_sets({"one": one, "two": two})
    np.testing.assert_array_equal(
        joined.data, np.concatenate([one.data[[0, 1, 2, 6, 7, 8]], two.data[3:]])
    )
    assert list(joined.target) == ["anger"] * 3 + ["fear"] * 6 + ["anger"] * 3
    assert list(joined.data_set) == ["one"] * 6 + ["two"] * 6
    assert list(joined.groups[:2]) == ["one/S0", "one/S1"]
    # the same name of a subject is somebody else in another data set
    assert len(set(joined.groups)) == 6
    assert joined.filenames[3] == "6.png"
    assert joined.filenames[6] == "two/sample 3"
    assert joined.target_names == ["anger", "fear"]
    assert joined.synthetic is True
    assert "one: 6 of 9 samples. two: 6 of 9 samples. Left out: contempt, neutral." in (
        joined.DESCR
    )
    assert "sequences" not in joined


def test_subjects_are_unknown_where_one_data_set_does_not_know_them():
    one, two = images(["anger", "fear"]), images(["anger", "fear"], groups=False)
    assert join_data_sets({"one": one, "two": two}).groups is None


def test_frames_keep_their_sequence():
    one = images(["anger", "fear"], sequences=np.array(["a", "a", "b"] * 2))
    two = images(["anger", "fear"])
    joined = join_data_sets({"one": one, "two": two})
    assert list(joined.sequences[:3]) == ["one/a", "one/a", "one/b"]
    assert len(set(joined.sequences[6:])) == 6


def test_sizes_are_scaled_only_if_asked():
    one, two = images(["anger", "fear"], size=24), images(["anger", "fear"], size=40)
    with pytest.raises(ValueError, match=r"one: \(24, 24\), two: \(40, 40\)\): size: 48"):
        join_data_sets({"one": one, "two": two})
    joined = join_data_sets({"one": one, "two": two}, size=32)
    assert joined.data.shape == (12, 32, 32)
    np.testing.assert_array_equal(joined.data[7], resize(two.data[1], (32, 32)))


def test_sequences_are_joined():
    rng = np.random.default_rng(0)

    def clips(size):
        data = [rng.integers(0, 256, (2 + i, size, size), dtype=np.uint8) for i in range(4)]
        return as_bunch(data, ["anger", "fear"] * 2, kind="sequences", groups=list("abab"))

    one, two = clips(24), clips(30)
    joined = join_data_sets({"one": one, "two": two}, size=24)
    assert [clip.shape for clip in joined.data] == [(2 + i, 24, 24) for i in range(4)] * 2
    np.testing.assert_array_equal(joined.data[3], one.data[3])
    with pytest.raises(ValueError, match="one: sequences, two: images"):
        join_data_sets({"one": one, "two": images(["anger", "fear"])})


@pytest.mark.parametrize(
    ("bunches", "message"),
    [
        ({"one": images(["anger", "fear"])}, "at least two data sets can be joined, got 1"),
        (
            {"one": images(["anger", "fear"]), "two": images(["fear", "sadness"])},
            "share fewer than two classes: one: anger fear, two: fear sadness",
        ),
        (
            {
                "one": images(["anger", "fear"]),
                "two": as_bunch(np.zeros((3, 24, 24), np.uint8), None, kind="images"),
            },
            "two has not one label a sample",
        ),
    ],
)
def test_what_cannot_be_joined(bunches, message):
    with pytest.raises(ValueError, match=message):
        join_data_sets(bunches)
