import pytest

from ferpipe.datasets.labels import CANONICAL, canonical_label, select_classes


@pytest.mark.parametrize("word", ["happy", "Happy", " JOY ", "happiness"])
def test_words_for_happiness(word):
    assert canonical_label(word) == "happiness"


def test_canonical_names_are_kept_and_sorted():
    assert [canonical_label(name) for name in CANONICAL] == sorted(CANONICAL)


def test_misspelt_word_gets_the_nearest_right_one():
    with pytest.raises(ValueError, match=r"'suprise' is not a known expression.*surprise"):
        canonical_label("suprise")


def test_numbers_of_classes():
    assert len(select_classes(7)) == 7
    assert set(select_classes(7)) - set(select_classes(6)) == {"contempt"}
    assert set(select_classes(6)) - set(select_classes(5)) == {"disgust"}


@pytest.mark.parametrize(
    ("classes", "kind", "message"),
    [
        (8, ValueError, "got 8"),
        ([], ValueError, "at least one"),
        (["happy", "happiness"], ValueError, "each once"),
        (["angr"], ValueError, "Did you mean angry or anger"),
        ("anger", TypeError, "list of names"),
    ],
)
def test_wrong_classes(classes, kind, message):
    with pytest.raises(kind, match=message):
        select_classes(classes)
