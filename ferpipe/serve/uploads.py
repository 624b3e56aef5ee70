"""The body of a request, which stays in memory."""

import asyncio

from starlette.requests import Request

from ferpipe.serve.forms import field_of_form, parse_header
from ferpipe.serve.limits import Limits, Refused

__all__ = ["Uploads", "check_size", "file_in"]


class Uploads:
    """Receives request bodies, with limits on their sizes.

    Parameters
    ----------
    limits : Limits
        Largest size of a body, of all bodies together, and longest time to receive one.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._n_arriving = 0

    async def receive(self, request: Request) -> bytes:
        """Receive the body of a request.

        Parameters
        ----------
        request : Request
            A request whose body is an image file (``image/*``) or a form
            (``multipart/form-data``).

        Returns
        -------
        body : bytes

        Raises
        ------
        Refused
            With status 408 if the body does not arrive in time, 413 if it is too large, 415
            if it is of another type, 429 if all bodies together are too large.
        """
        limits = self._limits
        declared = request.headers.get("content-type", "")
        kind, _ = parse_header(declared)
        if not (kind == "multipart/form-data" or kind.startswith("image/")):
            raise Refused(
                415,
                "The body must be an image (as Content-Type: image/jpeg), or a form "
                "(multipart/form-data) with the field 'file'; got "
                f"{declared[:100] or 'no type'!r}.",
            )
        body = bytearray()
        n_bytes = 0
        refusal: Refused | None = None
        try:
            async with asyncio.timeout(limits.seconds):
                # read to the end: a client reads no answer while it sends
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
    """Refuse a file or frame that is too large, with status 413."""
    if len(content) > limits.body_bytes:
        raise _too_large(limits)


def file_in(body: bytes, content_type: str, limits: Limits) -> bytes:
    """Return the image file in the body of a request.

    Parameters
    ----------
    body : bytes
        The file, or a form with the file in the field ``file``.
    content_type : str
        Content-Type header of the request.
    limits : Limits
        Limits on the form.

    Returns
    -------
    content : bytes

    Raises
    ------
    Refused
        As :func:`ferpipe.serve.forms.field_of_form` raises it.

    Notes
    -----
    The form parser of the web framework writes large files to disk.
    """
    kind, parameters = parse_header(content_type)
    if kind != "multipart/form-data":
        return body
    return field_of_form(body, parameters.get("boundary", ""), "file", limits)


def _too_large(limits: Limits) -> Refused:
    return Refused(
        413, f"The image is larger than the limit of {limits.body_bytes:,} bytes."
    )
