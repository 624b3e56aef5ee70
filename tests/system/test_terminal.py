import io
import sys
import warnings

import pytest
from tqdm import tqdm

from ferpipe._system.terminal import careful_output, error_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("anger", "anger"),
        ("\u6012\u308a, col\u00e8re", "\u6012\u308a, col\u00e8re"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\nc\td", r"a\rb\nc\td"),
        ("exe.\u202egnp", r"exe.\u202egnp"),
        ("\udcff", r"\udcff"),
        ("\x00\x7f", r"\x00\x7f"),
    ],
)
def test_names_are_text(text, shown):
    assert printable(text) == shown


def printed(encoding, action):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding, newline="") for _ in range(2)]
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = streams
    try:
        with careful_output():
            action()
        assert (sys.stdout, sys.stderr) == tuple(streams)
    finally:
        sys.stdout, sys.stderr = before
    for stream in streams:
        stream.flush()
    return [stream.buffer.getvalue().decode(encoding) for stream in streams]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_what_the_encoding_lacks_is_escaped(encoding):
    def action():
        sys.stdout.write("0.5 \u00b1 \u2013 \u6012\x1b[2J\n")
        sys.stdout.writelines(["a", "\u2212"])
        error_line("two\nlines \u2212 \x1b")
        # as Python shows warnings
        text = warnings.formatwarning("left out a\x1b[31m", UserWarning, "a.py", 1)
        sys.stderr.write(text)

    out, err = printed(encoding, action)
    assert r"\x1b[2J" in out
    assert r"left out a\x1b[31m" in err
    assert r"error: two\nlines" in err
    assert "\x1b" not in out + err
    if encoding == "ascii":
        assert out == "0.5 \\xb1 \\u2013 \\u6012\\x1b[2J\na\\u2212"


def test_progress_bars_still_move():
    def action():
        for _ in tqdm(range(3), "fit", file=sys.stderr):
            pass

    _, err = printed("ascii", action)
    assert "\r" in err
    assert "3/3" in err
