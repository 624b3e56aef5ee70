import re

import pytest

from ferpipe.serve.forms import field_of_form, parse_header
from ferpipe.serve.limits import Limits, Refused

LIMITS = Limits(parts=5, part_header_bytes=200)


def part(name="file", content=b"image", more=b""):
    head = f'Content-Disposition: form-data; name="{name}"; filename="a.png"'.encode()
    return b"--b\r\n" + head + more + b"\r\n\r\n" + content + b"\r\n"


def file_in(body, boundary="b"):
    return field_of_form(body, boundary, "file", LIMITS)


@pytest.mark.parametrize(
    "body",
    [
        part() + b"--b--",
        part() + b"--b--\r\nwhat follows is no part of it \r\n--b\r\n",
        b"nor what comes before\r\n" + part() + b"--b--\r\n",
        part("other") + part() + part("more", b"") + b"--b--\r\n",
        part().replace(b"--b\r\n", b"--b \t\r\n") + b"--b--",
        part(more=b"\r\nContent-Type: image/png") + b"--b--",
        b"--b\r\ncontent-disposition:form-data;NAME=file\r\n\r\nimage\r\n--b--",
        b'--b\r\nX: name="file"\r\n\r\nno\r\n' + part() + b"--b--",
    ],
)
def test_the_field_is_found(body):
    assert file_in(body) == b"image"


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\n--", b"--b--", b"-\r\n-b\n--a\0"])
def test_the_content_is_taken_as_it_is(content):
    assert file_in(part(content=content) + b"--b--") == content


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "boundary of its parts is not there"),
        (b"notes", "boundary of its parts is not there"),
        (b"--b--", "no field 'file'"),
        (part("other") + b"--b--", "no field 'file'"),
        (part('x"; filename="; name=file') + b"--b--", "no field 'file'"),
        (part() + part() + b"--b--", "has 2 fields 'file', but must have one"),
        (part(), "cut short"),
        (part()[:20], "cut short"),
        (b"--b\r\n\r\n", "cut short"),
        (b"--bb\r\n" + part()[5:] + b"--b--", "does not end its line"),
        (part(content=b"\r\n--b-") + b"--b--", "does not end its line"),
        (b"--b", "does not end its line"),
        (part().replace(b"form-data", b"attachment") + b"--b--", "no field 'file'"),
    ],
)
def test_what_is_no_such_form_is_refused(body, sentence):
    with pytest.raises(Refused, match=re.escape(sentence)) as refused:
        file_in(body)
    assert refused.value.status == 422


@pytest.mark.parametrize("boundary", ["", "ü", "b\n", "b" * 71, "b ", '"', "\0"])
def test_a_boundary_must_be_one(boundary):
    with pytest.raises(Refused, match="no valid boundary"):
        file_in(part() + b"--b--", boundary)
    assert file_in(part().replace(b"b", b"b" * 70) + b"--" + b"b" * 70 + b"--", "b" * 70)


def test_parts_and_their_headers_are_counted():
    assert file_in(4 * part("other") + part() + b"--b--") == b"image"
    with pytest.raises(Refused, match="more than the 5 fields") as refused:
        file_in(5 * part("other") + part() + b"--b--")
    assert refused.value.status == 413
    with pytest.raises(Refused, match="more than the 200 bytes") as refused:
        file_in(part(more=b"\r\nX: " + b"a" * 200) + b"--b--")
    assert refused.value.status == 413


class Counted(bytes):
    """Counts how much of it is searched, and how often."""

    searches = 0

    def find(self, *args):
        Counted.searches += 1
        return super().find(*args)


def test_the_work_does_not_go_with_what_the_body_holds():
    """20 MB of parts took 14 s."""
    for filling in (b"\r", b"\r\n--", b"\r\n--b\r\n", b"\r\n\r\n", b": \r\n", b"-"):
        Counted.searches = 0
        body = Counted(b"--b\r\n" + filling * (200_000 // len(filling)))
        with pytest.raises(Refused):
            file_in(body)
        assert Counted.searches < 4 * LIMITS.parts


def test_headers_are_taken_apart():
    kind, parameters = parse_header('Form-Data ; NAME="a\\"b;c" ; x=y; x=z; q="')
    assert kind == "form-data"
    assert parameters == {"name": 'a"b;c', "x": "y"}
    assert parse_header("") == ("", {})
    assert parse_header("image/png") == ("image/png", {})
