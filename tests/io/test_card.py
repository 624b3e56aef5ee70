import json

import numpy as np
import pytest
from sklearn.svm import SVC

import ferpipe
from ferpipe.io.card import card_path, check_card, read_card

EYES = [[0.3, 0.4], [0.7, 0.4]]


@pytest.fixture
def saved(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 3))
    model = SVC().fit(X, ["fear", "joy"] * 6)
    template = {"name": "own", "eyes": EYES}
    return ferpipe.save(model, tmp_path / "m.joblib", crop_template=template)


def test_a_card_comes_back_as_it_was_saved(saved):
    card = read_card(saved)
    assert card["classes"] == ["fear", "joy"]
    assert card["crop_template"]["eyes"] == EYES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", True),
        ("format", 3),
        ("classes", "joy"),
        ("classes", [1, 2]),
        ("classes", ["\x1b[2Jjoy", "fear"]),
        ("classes", ["joy\nfear"]),
        ("classes", ["\ud800"]),
        ("classes", ["\u202ejoy"]),
        ("input", None),
        ("input", {"kind": 3, "shape": []}),
        ("input", {"kind": "images", "shape": [-1, 48]}),
        ("input", {"kind": "images", "shape": [1.5]}),
        ("input", {"kind": "images", "shape": [2**40]}),
        ("input", {"kind": "images", "shape": list(range(99))}),
        ("crop_template", {"name": "ck48"}),
        ("crop_template", {"eyes": None}),
        ("crop_template", {"eyes": [[0.3, 0.4]]}),
        ("crop_template", {"eyes": [[0.3, float("nan")], [0.7, 0.4]]}),
        ("crop_template", {"eyes": [["a", "b"], [0.7, 0.4]]}),
        ("crop_template", {"eyes": EYES[::-1]}),
        ("crop_template", "ck48"),
        ("scores", [1]),
        ("scores", {"accuracy": "high"}),
        ("scores", {"accuracy": float("nan")}),
        ("scores", {"accuracy": 10**400}),
        ("versions", None),
        ("versions", {"numpy": 2}),
        ("sha256", 3),
        ("sha256", "0" * 63),
        ("data", 3),
        ("protocol", None),
        ("model", ["SVC"]),
        ("data", "\x9b"),
        ("trusted", "numpy.absolute"),
        ("notes", [3]),
        ("other", {"inside": [float("inf")]}),
    ],
)
def test_a_wrong_field_is_named(saved, field, value):
    file = card_path(saved)
    card = json.loads(file.read_text())
    file.write_text(json.dumps({**card, field: value}))
    for read in (read_card, ferpipe.load, ferpipe.Recognizer):
        with pytest.raises(ValueError, match=rf"m\.json: .*{field}"):
            read(saved)


@pytest.mark.parametrize("field", ["classes", "input", "versions", "sha256"])
def test_a_missing_field_is_an_error(saved, field):
    file = card_path(saved)
    card = json.loads(file.read_text())
    del card[field]
    file.write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"is not the card of a model|is missing"):
        read_card(saved)


def test_depth_is_bounded(saved):
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ValueError, match="other is nested too deep"):
        check_card({**read_card(saved), "other": deep})


def test_what_is_saved_can_be_read(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 3))
    model = SVC().fit(X, ["fear", "joy"] * 6)
    scores = {"accuracy": float("nan"), "f1": np.float32(0.5)}
    path = ferpipe.save(model, tmp_path / "m.joblib", data="a\x1bb", scores=scores)
    card = read_card(path)
    assert card["scores"] == {"accuracy": None, "f1": 0.5}
    assert card["data"] == "a\N{REPLACEMENT CHARACTER}b"
    model = SVC().fit(X, ["fear", "jo\x1by"] * 6)
    with pytest.raises(ValueError, match="not saved: classes holds the control character"):
        ferpipe.save(model, tmp_path / "other.joblib")
    assert not (tmp_path / "other.joblib").exists()
