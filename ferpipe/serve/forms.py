"""Forms (multipart/form-data): the content of the one field that is wanted."""

import re

from ferpipe.serve.limits import Limits, Refused

__all__ = ["field_of_form", "parse_header"]

# RFC 2046, section 5.1.1
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER = re.compile(
    r"""\s*;\s*([\w!#$%&'*+.^`|~-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))(?=[\s;]|\Z)""",
    re.ASCII | re.DOTALL,
)


def parse_header(value: str) -> tuple[str, dict[str, str]]:
    """Take apart a header such as Content-Type.

    Parameters
    ----------
    value : str
        ``kind; name=value; name="value"``.

    Returns
    -------
    kind : str
        In lower case.
    parameters : dict of str to str
        By name in lower case; those behind a broken one are left out, and of two of the
        same name the first counts.
    """
    kind, _, _ = value.partition(";")
    parameters: dict[str, str] = {}
    at = len(kind)
    while found := _PARAMETER.match(value, at):
        name, quoted, plain = found.groups()
        text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        parameters.setdefault(name.lower(), text)
        at = found.end()
    return kind.strip().lower(), parameters


def field_of_form(body: bytes, boundary: str, field: str, limits: Limits) -> bytes:
    """Return the content of a field of a form.

    Parameters
    ----------
    body : bytes
        Of the request.
    boundary : str
        As the header Content-Type of the request gives it.
    field : str
        Name of the field.
    limits : Limits
        How many fields there may be, and how long their headers.

    Returns
    -------
    content : bytes

    Raises
    ------
    Refused
        With 413 if there are too many fields or their headers are too long, with 422 if
        the form is broken, cut short, or does not have the field once.

    Notes
    -----
    The time goes with the length of the body, whatever it holds: it is searched for the
    boundary and for the ends of headers, in memory.
    """
    if not _BOUNDARY.fullmatch(boundary):
        raise Refused(
            422,
            "The form in the body has no boundary that can be used: the header "
            "Content-Type must be 'multipart/form-data; boundary=…', with 1 to 70 letters, "
            "digits and signs.",
        )
    mark = b"\r\n--" + boundary.encode("ascii")
    # what comes before the first boundary is no part of the form
    at = len(mark) - 2 if body.startswith(mark[2:]) else _end_of(mark, body, 0)
    contents = []
    n_parts = 0
    while body[at : at + 2] != b"--":
        n_parts += 1
        if n_parts > limits.parts:
            raise Refused(
                413, f"The form has more than the {limits.parts} fields that are taken."
            )
        start = _end_of_headers(body, at, limits)
        end = body.find(mark, start)
        if end < 0:
            raise Refused(422, "The form in the body is cut short.")
        if _name_of(body[at:start]) == field:
            contents.append((start, end))
        at = end + len(mark)
    if len(contents) != 1:
        found = f"{len(contents)} fields" if contents else "no field"
        raise Refused(422, f"The form has {found} {field!r}, but must have one.")
    start, end = contents[0]
    return bytes(body[start:end])


def _end_of(mark: bytes, body: bytes, start: int) -> int:
    found = body.find(mark, start)
    if found < 0:
        raise Refused(
            422, "The form in the body is broken: the boundary of its parts is not there."
        )
    return found + len(mark)


def _end_of_headers(body: bytes, at: int, limits: Limits) -> int:
    """Return where the content of the part begins whose boundary ends at ``at``."""
    line_end = body.find(b"\r\n", at, at + limits.part_header_bytes)
    if body[at : max(at, line_end)].strip(b" \t") or line_end < 0:
        raise Refused(
            422, "The form in the body is broken: a boundary does not end its line."
        )
    end = body.find(b"\r\n\r\n", line_end, line_end + 4 + limits.part_header_bytes)
    if end >= 0:
        return end + 4
    if len(body) - line_end > 4 + limits.part_header_bytes:
        raise Refused(
            413,
            "A field of the form has headers of more than the "
            f"{limits.part_header_bytes:,} bytes that are taken.",
        )
    raise Refused(422, "The form in the body is cut short.")


def _name_of(headers: bytes) -> str | None:
    """Return the name of a field, or None."""
    for line in headers.decode("utf-8", "replace").split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() == "content-disposition":
            kind, parameters = parse_header(value)
            return parameters.get("name") if kind == "form-data" else None
    return None
