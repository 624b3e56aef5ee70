"""From the body of a request to an image, in memory only."""

import asyncio
import io

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ferpipe.images import read_image
from ferpipe.serve.limits import Limits, Refused

__all__ = ["read_body", "read_upload"]


async def read_body(request: Request, limits: Limits) -> bytes:
    """Receive the image file of a request.

    Parameters
    ----------
    request : Request
        Its body is the file, ``image/*``, or a form, ``multipart/form-data``, with the
        file in the field ``file``.
    limits : Limits
        How large it may be.

    Returns
    -------
    content : bytes
        The file.

    Raises
    ------
    Refused
        With 408 if it does not arrive in time, 413 if it is too large, 415 if it is of
        another kind, 422 if the form has no file.

    Notes
    -----
    Forms are taken apart here because the framework's way writes larger files to disk.
    """
    declared = request.headers.get("content-type", "")
    kind, options = parse_options_header(declared)
    if not (kind == b"multipart/form-data" or kind.startswith(b"image/")):
        raise Refused(
            415,
            "The body must be an image (Content-Type: image/jpeg, say), or a form "
            f"(multipart/form-data) with the field 'file'; got {declared or 'no type'!r}.",
        )
    body = bytearray()
    n_bytes = 0
    try:
        async with asyncio.timeout(limits.seconds):
            # to its end: who is still sending does not listen
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes <= limits.body_bytes:
                    body += chunk
    except TimeoutError as error:
        raise Refused(
            408, f"The body did not arrive within {limits.seconds:g} s."
        ) from error
    if n_bytes > limits.body_bytes:
        raise _too_large(limits)
    return _file_of_form(body, options) if kind.startswith(b"multi") else bytes(body)


def read_upload(content: bytes, limits: Limits, *, grey: bool):
    """Read the image in a file.

    Parameters
    ----------
    content : bytes
        The file.
    limits : Limits
        How large it may be.
    grey : bool
        As for :func:`ferpipe.read_image`.

    Returns
    -------
    image : ndarray of shape (h, w) or (h, w, 3), uint8

    Raises
    ------
    Refused
        With 413 or 422 if it is too large or no image.
    """
    if len(content) > limits.body_bytes:
        raise _too_large(limits)
    try:
        return read_image(_Upload(content), grey=grey, max_pixels=limits.pixels)
    except ValueError as error:
        sentence = str(error).replace(", or raise max_pixels", "")
        raise Refused(422, sentence) from error


class _Upload(io.BytesIO):
    """A file in memory that messages about it can name."""

    name = "upload"


def _too_large(limits):
    return Refused(
        413, f"The image has more than the {limits.body_bytes:,} bytes that are taken."
    )


def _file_of_form(body, options):
    """Return the content of the field ``file``."""
    field, header, value, parts = b"", bytearray(), bytearray(), {}
    whole = False

    def on_part_begin():
        nonlocal field
        field = b""

    def on_end():
        nonlocal whole
        whole = True

    def on_header_end():
        nonlocal field
        if header.lower() == b"content-disposition":
            field = parse_options_header(bytes(value))[1].get(b"name", b"")
        header.clear()
        value.clear()

    def on_part_data(data, start, end):
        parts.setdefault(field, bytearray()).extend(data[start:end])

    callbacks = {
        "on_part_begin": on_part_begin,
        "on_header_field": lambda data, start, end: header.extend(data[start:end]),
        "on_header_value": lambda data, start, end: value.extend(data[start:end]),
        "on_header_end": on_header_end,
        "on_part_data": on_part_data,
        "on_end": on_end,
    }
    try:
        MultipartParser(options.get(b"boundary", b""), callbacks).write(bytes(body))
    except FormParserError as error:
        raise Refused(422, "The form in the body is broken.") from error
    if not whole:
        raise Refused(422, "The form in the body is cut short.")
    if b"file" not in parts:
        raise Refused(422, "The form has no field 'file', or it is empty.")
    return bytes(parts[b"file"])
