import re

import pytest

from ferpipe.datasets.folders import check_pattern
from ferpipe.io.patterns import safe_pattern


@pytest.mark.parametrize(
    ("text", "path", "found"),
    [
        (r"/(S\d+)_", "anger/S010_004.png", "S010"),
        (r"[^/]+/([^/]+)/", "anger/anna/3.png", "anna"),
        (r"^\w+/([a-z]+)_\d+\.(?:png|jpg)$", "fear/bob_12.png", "bob"),
        (r"(.*)_(.*)_", "fear/a_b_c.png", "fear/a"),
        (r"(?i)(SUBJECT[0-9]{1,3})", "x/subject07_2.png", "subject07"),
        (r"([A-Z]{2}|[a-z]{3})-\d+", "x/KA-12.png", "KA"),
        (r"(\w+?)[.]", "x/anna.1.png", "anna"),
    ],
)
def test_what_people_write_is_taken(text, path, found):
    assert check_pattern(text).search(path)[1] == found


# what takes seconds to years on a path of a hundred characters
@pytest.mark.parametrize(
    "text",
    [
        "(a+)+b",
        "((.|.)*)*x",
        "(a|a)*b",
        "(?:a|ab)*c(x)",
        "(a|a)" * 20 + "b",
        "(a)" + "a?" * 30 + "a" * 30,
        "(.*)" * 5 + "x",
        "(.*.*.*=.*)x",
        r"(\w)\1+x",
        "(?=(a+)+b)(a)",
        "(a{1,50}){1,50}b",
        "(" * 150 + ")" * 150,
        "(a*)*" * 3,
        "(x+x+)+y",
        "([a-z]+)[a-z]+[0-9]*[a-z]+[0-9]*z",
        "(a)(?(1)b|c)",
        "(" + "a" * 300 + ")",
        "(a{99999999999})",
        "(\\d+)*x",
        "(?>(a+)+)b",
        "(a*?)*?b",
        "(?:a*|b)" * 20 + "(x)",
    ],
)
def test_what_might_take_for_ever_is_refused(text):
    with pytest.raises(ValueError, match="groups"):
        check_pattern(text)


def test_every_pattern_that_is_taken_is_quick_in_the_worst_case():
    # two free repetitions are the most: tried at each place of a path, without a match
    pattern = safe_pattern("(.*)a(.*)b", "groups")
    assert pattern.search("a" * 200) is None
    with pytest.raises(ValueError, match="too many repetitions"):
        safe_pattern("(.*)a(.*)b(.*)c", "groups")


def test_mistakes_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"groups='\(' is not a regular expression"):
        check_pattern("(")
    with pytest.raises(ValueError, match=r"must be a regular expression \(text\), got 7"):
        check_pattern(7)
    with pytest.raises(ValueError, match="no group in parentheses"):
        check_pattern("a+")
    assert isinstance(check_pattern("(a)"), re.Pattern)
