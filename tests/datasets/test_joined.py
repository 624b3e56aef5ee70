import numpy as np
import pytest

from ferpipe.datasets import as_bunch
from ferpipe.datasets.folders import resize
from ferpipe.datasets.joined import join_data_sets
from ferpipe.experiments.leakage import find_leaks
from ferpipe.experiments.plan import DataError, make_plan
from ferpipe.experiments.spec import compile_spec


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
    one = images(
        ["anger", "contempt", "fear"],
        filenames=[f"{i}.png" for i in range(9)],
        population="one's",
    )
    two = images(["neutral", "fear", "anger"], synthetic=True, population="two's")
    joined = join_data_sets({"one": one, "two": two})
    np.testing.assert_array_equal(
        joined.data, np.concatenate([one.data[[0, 1, 2, 6, 7, 8]], two.data[3:]])
    )
    assert list(joined.target) == ["anger"] * 3 + ["fear"] * 6 + ["anger"] * 3
    assert list(joined.data_set) == ["one"] * 6 + ["two"] * 6
    assert list(joined.groups[:2]) == ["one's/S0", "one's/S1"]
    # the same name of a subject is somebody else in another population
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


def test_people_of_one_population_are_one_group_across_data_sets():
    one, two = (
        images(
            ["anger", "fear"],
            size,
            population="Cohn-Kanade",
            sequences=np.array([f"S{i % 3}_00{i}" for i in range(6)]),
        )
        for size in (24, 48)
    )
    joined = join_data_sets({"ck48": one, "ckplus": two}, size=24)
    assert set(joined.groups) == {f"Cohn-Kanade/S{i}" for i in range(3)}
    assert len(set(joined.sequences)) == 6
    again = join_data_sets({"both": joined, "ck": two}, size=24)
    assert set(again.groups) == set(joined.groups)


def test_leaving_out_a_data_set_with_the_same_people_is_refused():
    one, two = (
        images(["anger", "fear"], size, population="Cohn-Kanade") for size in (24, 48)
    )
    joined = join_data_sets({"ck48": one, "ckplus": two}, size=24)
    spec = {
        "name": "test",
        "data": {"joined": {}},
        "pipeline": {"pixels": "PixelFeatures", "classify": "LinearSVC"},
        "evaluate": {"protocol": "leave-one-data-set-out"},
    }
    with pytest.raises(DataError, match=r"subject 'Cohn-Kanade/S0' \(and of 2 others\)"):
        make_plan(compile_spec(spec), joined)
    spec["evaluate"]["allow_leak"] = True
    assert "Cohn-Kanade/S0" in make_plan(compile_spec(spec), joined).leak
    spec["evaluate"] = {"outer_cv": {"StratifiedKFold": {"n_splits": 3}}}
    plan = make_plan(compile_spec(spec), joined)
    for train, test in plan.split.folds["subject_independent"]:
        assert not set(joined.groups[train]) & set(joined.groups[test])


def test_the_same_picture_at_two_sizes_is_found_in_joined_sets():
    one = images(["anger", "fear"], 24, groups=False)
    large = np.stack([resize(image, (96, 96)) for image in one.data])
    two = as_bunch(large, one.target, kind="images")
    joined = join_data_sets({"one": one, "two": two}, size=48)
    leaks = find_leaks([(np.arange(6), np.arange(6, 12))], joined)
    assert (
        "samples one/sample 0 and two/sample 0 show the same picture"
        in (leaks["identical"])
    )
    assert "(and 5 more pairs do)" in leaks["identical"]
    mirrored = as_bunch(large[:, :, ::-1], one.target, kind="images")
    joined = join_data_sets({"one": one, "two": mirrored}, size=48)
    assert "identical" in find_leaks([(np.arange(6), np.arange(6, 12))], joined)


def test_same_names_without_a_population_warn():
    one, two = images(["anger", "fear"]), images(["anger", "fear"], population="JAFFE")
    with pytest.warns(UserWarning, match=r"one and two have 3 names of subjects in common"):
        joined = join_data_sets({"one": one, "two": two})
    assert len(set(joined.groups)) == 6


def test_frames_keep_their_sequence():
    one = images(["anger", "fear"], sequences=np.array(["a", "a", "b"] * 2), groups=False)
    two = images(["anger", "fear"])
    joined = join_data_sets({"one": one, "two": two})
    assert list(joined.sequences[:3]) == ["one/a", "one/a", "one/b"]
    assert len(set(joined.sequences[6:])) == 6


def test_sizes_are_scaled_only_if_asked():
    one, two = (images(["anger", "fear"], size, groups=False) for size in (24, 40))
    with pytest.raises(ValueError, match=r"one: \(24, 24\), two: \(40, 40\)\): size: 48"):
        join_data_sets({"one": one, "two": two})
    joined = join_data_sets({"one": one, "two": two}, size=32)
    assert joined.data.shape == (12, 32, 32)
    np.testing.assert_array_equal(joined.data[7], resize(two.data[1], (32, 32)))


def test_sequences_are_joined():
    rng = np.random.default_rng(0)

    def clips(size):
        data = [rng.integers(0, 256, (2 + i, size, size), dtype=np.uint8) for i in range(4)]
        return as_bunch(
            data,
            ["anger", "fear"] * 2,
            kind="sequences",
            groups=list("abab"),
            population=f"people in {size} pixels",
        )

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
