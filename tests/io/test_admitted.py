from importlib import import_module

import pytest

from ferpipe.experiments.registry import estimator_classes
from ferpipe.io.admitted import CALLED, CLASSES, NAMED
from ferpipe.io.format1 import MOVED
from ferpipe.io.unpickler import GUARDED

# Who reads a state, or writes one, in a way of its own; each was read.
READ = {
    # takes the version out of the state and updates the attributes
    "sklearn.base.BaseEstimator": "attributes only",
    # rebuilds an interpolation of numpy from two arrays
    "sklearn.isotonic.IsotonicRegression": "attributes only",
    # updates the attributes, converts the nodes; ferpipe.io.compiled checks them
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor": "attributes only",
    # does nothing
    "sklearn.utils._bunch.Bunch": "nothing",
    # leave out what is rebuilt from weights; there is no __setstate__
    "ferpipe.networks.estimator.NetworkMixin": "writes only",
    "ferpipe.networks.cnn_features.CNNFeatures": "writes only",
    # containers of Python
    "collections.OrderedDict": "plain",
    "builtins.frozenset": "plain",
    "builtins.set": "plain",
    "builtins.slice": "plain",
    # compiled: constructors of numbers, or filled by ferpipe.io.compiled and numpy's checks
    **dict.fromkeys(
        [
            "numpy.ndarray",
            "numpy.random.bit_generator.BitGenerator",
            "numpy.random.bit_generator.SeedSequence",
            "sklearn._loss._loss.CyLossFunction",
            "sklearn.metrics._dist_metrics.DistanceMetric",
            "sklearn.metrics._dist_metrics.DistanceMetric64",
            "sklearn.neighbors._ball_tree.BinaryTree64",
            "sklearn.neighbors._kd_tree.BinaryTree64",
        ],
        "compiled",
    ),
    **dict.fromkeys(
        [
            f"sklearn._loss._loss.Cy{name}"
            for name in (*("HalfMultinomialLoss", "HuberLoss"),)
        ],
        "compiled",
    ),
    **dict.fromkeys(
        [
            f"sklearn.linear_model._sgd_fast.{name}"
            for name in (
                *("EpsilonInsensitive", "Hinge", "ModifiedHuber"),
                *("SquaredEpsilonInsensitive", "SquaredHinge"),
            )
        ],
        "compiled",
    ),
}
OWN_WAYS = ("__setstate__", "__reduce__", "__reduce_ex__", "__getstate__")
OF_THE_PROJECT = ("builtins", "collections", "ferpipe", "numpy", "scipy", "sklearn")
ALL = sorted(CLASSES | CALLED | NAMED)


def find(full):
    module, _, name = full.rpartition(".")
    return getattr(import_module(module), name)


def own_ways(kind):
    """Find the classes of the line of descent that read or write states themselves."""
    found = set()
    for one in kind.__mro__[:-1]:
        if set(OWN_WAYS) & set(vars(one)):
            found.add(f"{one.__module__}.{one.__qualname__}")
    return found


def test_so_many_are_admitted():
    assert (len(CLASSES), len(CALLED), len(NAMED)) == (132, 14, 22)
    assert not CLASSES & CALLED
    assert not (CLASSES | CALLED) & NAMED
    assert len(GUARDED) == 21


@pytest.mark.parametrize("full", ALL)
def test_an_admitted_name_is_where_it_is_said_to_be_and_was_read(full):
    value = find(full)
    assert f"{value.__module__}.{value.__qualname__}" == full
    assert not {"tests", "_testing", "conftest", "__main__"} & set(full.split("."))
    if not isinstance(value, type):
        assert full in NAMED
        return
    for one in value.__mro__:
        assert one.__module__.partition(".")[0] in (*OF_THE_PROJECT, "abc", "typing"), one
    assert own_ways(value) <= set(READ)


def test_nothing_was_read_in_vain():
    ways = set().union(*(own_ways(find(one)) for one in ALL if isinstance(find(one), type)))
    assert set(READ) <= ways


def test_every_estimator_that_a_yaml_file_may_name_is_admitted():
    missing = {
        f"{kind.__module__}.{kind.__qualname__}" for kind in estimator_classes().values()
    } - CLASSES
    assert missing == set()


def test_moved_names_lead_to_admitted_ones():
    assert set(MOVED.values()) <= CLASSES | CALLED | NAMED
