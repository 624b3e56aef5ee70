import json

import numpy as np
import pytest

from ferpipe.serve.facts import as_json, check_names


def test_what_json_does_not_have_is_replaced():
    card = {
        "nan": float("nan"),
        "inf": [np.float32("inf"), -np.inf],
        "lone": "a\ud800b",
        "\udcff": (1, True, None, np.int64(7), np.float64(0.5)),
        3: {"kind": object},
    }
    read = json.loads(as_json(card).decode("utf-8"), parse_constant=pytest.fail)
    assert read["nan"] is None
    assert read["inf"] == [None, None]
    assert read["lone"] == "a\ufffd\ufffd\ufffdb"
    assert read["\ufffd\ufffd\ufffd"] == [1, True, None, 7, 0.5]
    assert read["3"] == {"kind": "<class 'object'>"}


def test_a_card_without_end_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    itself = {}
    itself["itself"] = itself
    for card in (deep, itself):
        with pytest.raises(ValueError, match="nested too deep"):
            as_json({"card": card})


def test_classes_must_have_names_that_can_be_sent():
    check_names(["Ärger", "怒り"])
    with pytest.raises(ValueError, match=r"class '\\ud800' cannot be sent"):
        check_names(["anger", "\ud800"])
