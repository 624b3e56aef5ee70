import numpy as np
import pytest
from sklearn import model_selection
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeavePGroupsOut,
    PredefinedSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from ferpipe.experiments.registry import SPLITTERS
from ferpipe.experiments.splitters import (
    as_splitter,
    grouped_counterpart,
    keeps_apart,
    needs_groups,
    split_by,
)

Y = np.array(["anger", "fear"] * 30)
GROUPS = np.repeat([f"S{i}" for i in range(10)], 6)


class GroupInName(KFold):
    """Its name promises what its folds do not keep."""


class Halves:
    """An own splitter without any base class that divides groups."""

    def split(self, X, y=None, groups=None):
        first = np.isin(groups, np.unique(groups)[::2])
        yield np.flatnonzero(first), np.flatnonzero(~first)

    def get_n_splits(self, X=None, y=None, groups=None):
        return 1


def splitter(name):
    kind = getattr(model_selection, name)
    return kind(n_groups=2) if name == "LeavePGroupsOut" else kind()


@pytest.mark.parametrize("name", SPLITTERS)
def test_every_splitter_of_a_file_keeps_groups_apart_or_is_refused(name):
    try:
        grouped = grouped_counterpart(splitter(name))
    except ValueError as error:
        assert name in ("RepeatedStratifiedKFold", "StratifiedShuffleSplit")
        assert f"{name} ignores groups" in str(error)  # noqa: PT017
    else:
        assert keeps_apart(split_by(grouped, Y, GROUPS), GROUPS)
        assert needs_groups(grouped)


@pytest.mark.parametrize(
    ("plain", "grouped"),
    [
        (StratifiedKFold(4, shuffle=True, random_state=3), StratifiedGroupKFold),
        (KFold(4, shuffle=True, random_state=3), GroupKFold),
        (KFold(3), GroupKFold),
        (ShuffleSplit(4, test_size=0.3, random_state=3), GroupShuffleSplit),
    ],
)
def test_twins_keep_numbers_shares_and_seed(plain, grouped):
    found = grouped_counterpart(plain)
    assert type(found) is grouped
    for name in ("n_splits", "shuffle", "test_size", "random_state"):
        if hasattr(plain, name):
            assert getattr(found, name) == getattr(plain, name)


def test_shares_of_shuffled_groups():
    assert grouped_counterpart(ShuffleSplit()).test_size == 0.1
    assert grouped_counterpart(ShuffleSplit(train_size=0.7)).train_size == 0.7
    with pytest.raises(ValueError, match=r"ShuffleSplit\(test_size=6\) counts samples"):
        grouped_counterpart(ShuffleSplit(test_size=6))


def test_what_a_splitter_does_counts_and_not_its_name():
    assert not needs_groups(GroupInName())
    with pytest.raises(ValueError, match="GroupInName ignores groups"):
        grouped_counterpart(GroupInName())
    assert needs_groups(LeavePGroupsOut(2))
    assert keeps_apart(split_by(Halves(), Y, GROUPS), GROUPS)


def test_everything_that_sklearn_takes_as_cv():
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    masks = [(np.arange(60) < 30, np.arange(60) >= 30)]
    assert isinstance(as_splitter(4, Y), StratifiedKFold)
    for given in (folds, iter(folds), PredefinedSplit(np.repeat([1, 0], 30))):
        found = split_by(as_splitter(given, Y), Y, GROUPS)
        for (train, test), (train_too, test_too) in zip(found, folds, strict=True):
            np.testing.assert_array_equal(train, train_too)
            np.testing.assert_array_equal(test, test_too)
    ((train, _),) = split_by(as_splitter(masks, Y), Y, GROUPS)
    np.testing.assert_array_equal(train, np.arange(30))
    with pytest.raises(ValueError, match="Expected `cv`"):
        as_splitter("five", Y)
