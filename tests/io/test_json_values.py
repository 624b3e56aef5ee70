import json
from pathlib import Path

import numpy as np

from ferpipe.io.json_values import json_value


def test_values_of_numpy_become_those_of_python():
    value = {
        "array": np.array([[1, 2]], np.uint8),
        "scalars": (np.float32(0.5), np.int64(3), np.bool_(True)),
        7: [np.array(["fear"]), None],
    }
    expected = {"array": [[1, 2]], "scalars": [0.5, 3, True], "7": [["fear"], None]}
    assert json_value(value) == expected
    assert json.loads(json.dumps(json_value(value), allow_nan=False)) == expected


def test_numbers_that_json_lacks_become_null():
    assert json_value([np.nan, float("inf"), np.float64(-np.inf), 1.0]) == [
        *[None] * 3,
        1.0,
    ]


def test_floats_are_rounded_to_significant_digits_and_whole_numbers_are_not():
    found = json_value({"a": 123.456789, "b": np.array([1e-9 / 3]), "n": 123456}, digits=4)
    assert found == {"a": 123.5, "b": [3.333e-10], "n": 123456}


def test_other_values_become_text():
    assert json_value([Path("a/b"), {1}], other=lambda one: type(one).__name__)[1] == "set"
    assert json_value(Path("a/b")) == "a/b"
