import ast
import inspect

import pytest
import sklearn.model_selection
from sklearn.base import BaseEstimator

import ferpipe
from ferpipe.experiments.registry import SPLITTERS, estimator_classes


def test_holds_classes_of_two_packages_only():
    for name, value in estimator_classes().items():
        assert isinstance(value, type)
        assert issubclass(value, BaseEstimator)
        assert value.__name__ == name
        assert value.__module__.partition(".")[0] in ("sklearn", "ferpipe")


def test_holds_every_public_estimator_of_the_package():
    public = {
        name
        for name in ferpipe.__all__
        if inspect.isclass(getattr(ferpipe, name))
        and issubclass(getattr(ferpipe, name), BaseEstimator)
    }
    assert {"HOGFeatures", "SequenceNetwork", "Training"} <= public
    assert public <= set(estimator_classes())


@pytest.mark.parametrize("name", SPLITTERS)
def test_splitters_split(name):
    assert hasattr(getattr(sklearn.model_selection, name), "split")


def test_nothing_in_the_allow_list_takes_code_as_a_string():
    # FunctionTransformer and its like would turn a name in a file into a call.
    assert "FunctionTransformer" not in estimator_classes()
    source = inspect.getsource(inspect.getmodule(estimator_classes))
    called = {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"eval", "exec", "compile", "__import__"}
