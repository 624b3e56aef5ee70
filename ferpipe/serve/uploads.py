"""The body of a request, in memory only."""

import asyncio

from starlette.requests import Request

from ferpipe.serve.forms import field_of_form, parse_header
from ferpipe.serve.limits import Limits, Refused

__all__ = ["Uploads", "check_size", "file_in"]


class Uploads:
    """Receive bodies, few enough at a time.

    Parameters
    ----------
    limits : Limits
        How large they may be, each and together, and how long they may take.
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
            With 408 if it does not arrive in time, 413 if it is too large, 415 if it is
            of another kind, 429 if too much arrives from all clients.
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
                # to its end: who is still sending does not listen
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
        How much a form may hold.

    Returns
    -------
    content : bytes

    Raises
    ------
    Refused
        As :func:`ferpipe.serve.forms.field_of_form` raises it.

    Notes
    -----
    The framework's way of taking forms apart writes larger files to disk.
    """
    kind, parameters = parse_header(content_type)
    if kind != "multipart/form-data":
        return body
    return field_of_form(body, parameters.get("boundary", ""), "file", limits)


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"The image has more than the {limits.body_bytes:,} bytes that are taken."
    )
