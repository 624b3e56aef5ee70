"""Receive the bodies of requests in memory only."""

import asyncio

from starlette.requests import Request

from ferpipe.serve.forms import field_of_form, parse_header
from ferpipe.serve.limits import Limits, Refused

__all__ = ["Uploads", "check_size", "file_in"]


class Uploads:
    """Receive bodies within the limits.

    Parameters
    ----------
    limits : Limits
        Limits of each body, of all bodies together, and of time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._n_arriving = 0

    async def receive(self, request: Request) -> bytes:
        """Receive the body of a request.

        Parameters
        ----------
        request : Request
            Its body is the file, ``image/*``, or a form, ``multipart/form-data``.

        Returns
        -------
        body : bytes

        Raises
        ------
        Refused
            With 408 if the body does not arrive in time, 413 if it is too large, 415 if it
            has another type, 429 if all clients together send too much.
        """
        limits = self._limits
        declared = request.headers.get("content-type", "")
        kind, _ = parse_header(declared)
        if not (kind == "multipart/form-data" or kind.startswith("image/")):
            raise Refused(
                415,
                "The body must be an image (Content-Type: image/jpeg, say), or a form "
                "(multipart/form-data) with the field 'file'; got "
                f"{declared[:100] or 'no type'!r}.",
            )
        body = bytearray()
        n_bytes, refusal = 0, None
        try:
            async with asyncio.timeout(limits.seconds):
                # read to its end: a client that is still sending does not read the answer
                async for chunk in request.stream():
                    n_bytes += len(chunk)
                    if n_bytes > limits.body_bytes:
                        refusal = _too_large(limits)
                    elif self._n_arriving + len(chunk) > limits.arriving_bytes:
                        refusal = Refused(
                            429,
                            f"More than {limits.arriving_bytes:,} bytes of images arrive "
                            "at the same time: try again in a second.",
                        )
                    if refusal is None:
                        body += chunk
                        self._n_arriving += len(chunk)
                    else:
                        self._n_arriving -= len(body)
                        body.clear()
        except TimeoutError as error:
            raise Refused(
                408, f"The body did not arrive within {limits.seconds:g} s."
            ) from error
        finally:
            self._n_arriving -= len(body)
        if refusal is not None:
            raise refusal
        return bytes(body)


def check_size(content: bytes, limits: Limits) -> None:
    """Refuse a file or frame that is too large, with 413."""
    if len(content) > limits.body_bytes:
        raise _too_large(limits)


def file_in(body: bytes, content_type: str, limits: Limits) -> bytes:
    """Return the image file in the body of a request.

    Parameters
    ----------
    body : bytes
        The file, or a form with the file in the field ``file``.
    content_type : str
        As the header of the request gives it.
    limits : Limits
        Limits of a form.

    Returns
    -------
    content : bytes

    Raises
    ------
    Refused
        As :func:`ferpipe.serve.forms.field_of_form` raises it.

    Notes
    -----
    The parser of the framework writes larger files to disk.
    """
    kind, parameters = parse_header(content_type)
    if kind != "multipart/form-data":
        return body
    return field_of_form(body, parameters.get("boundary", ""), "file", limits)


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"The image has more than the {limits.body_bytes:,} bytes that are allowed."
    )
