"""Who may talk to the server."""

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard"]

# nothing from outside, and no script or style but the files of the page
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# what needs no token
_OPEN = frozenset({"/", "/page.css", "/page.js", "/healthz", "/openapi.json"})


class Guard:
    """Refuse requests of web pages of others, and those without the token.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    token : str or None
        Needed for everything but the page with its files, ``/healthz`` and
        ``/openapi.json``, which tell nothing about the model; None for no token.
    hosts : collection of str or None
        Names under which the server is known; None for any.

    Notes
    -----
    A page of another site can make a browser send requests to a server on the same
    computer. It cannot forge the header Origin; and where it gives its own name a new
    address (DNS rebinding), the header Host holds that name.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Collection[str] | None
    ) -> None:
        self.app = app
        self._token = token
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                headers = MutableHeaders(scope=message)
                for name in _HEADERS:
                    headers.setdefault(name, _HEADERS[name])
            await send(message)

        refusal = self._refusal(HTTPConnection(scope))
        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, connection: HTTPConnection) -> JSONResponse | None:
        host = connection.headers.get("host", "")
        if self._hosts is not None and _name_in(host) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            return _answer(403, f"This server is not {host!r} but one of {names}.")
        origin = connection.headers.get("origin")
        if origin is not None and _place_in(origin) != host.lower():
            return _answer(403, f"Pages of {origin!r} may not use this server.")
        if self._token is None or _is_open(connection.scope):
            return None
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = connection.query_params.get("token", "")
        if hmac.compare_digest(_bytes_of(given.strip()), _bytes_of(self._token)):
            return None
        sentence = (
            "The token is missing or wrong: send 'Authorization: Bearer TOKEN', or add "
            "?token=TOKEN to the address. The server printed it when it was started."
        )
        return _answer(401, sentence, {"WWW-Authenticate": "Bearer"})


def _is_open(scope: Scope) -> bool:
    """Tell whether a request needs no token, by the path that is routed.

    The URL of a request is no help: it is put together from what the client claims in the
    header Host.
    """
    path, mounted_at = scope["path"], scope.get("root_path", "")
    if mounted_at and path.startswith(f"{mounted_at}/"):
        path = path.removeprefix(mounted_at)
    return scope["type"] == "http" and path in _OPEN


def _bytes_of(token: str) -> bytes:
    return token.encode("utf-8", "surrogatepass")


def _name_in(host: str) -> str | None:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _place_in(origin: str) -> str | None:
    """Return host and port of an Origin header."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _answer(
    status: int, sentence: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"detail": sentence}, status, headers)
