"""How uvicorn serves the application: connections that wait or do not read, and the end."""

import asyncio
import logging
from typing import Any

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ferpipe.serve.limits import Limits

__all__ = ["config_of"]


def config_of(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return how uvicorn is to serve an application within limits."""
    logging.getLogger("uvicorn.error").addFilter(_without_place)
    return uvicorn.Config(
        _UntilTheEnd(app),
        http=_Connection,
        # named, as what is taken by itself differs between versions
        ws="websockets-sansio",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=limits.seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=3,
        # below it a frame that is too large is answered; at it the stream is cut
        ws_max_size=2 * limits.body_bytes,
        ws_per_message_deflate=False,
    )


def _without_place(record: logging.LogRecord) -> bool:
    """Leave out where a client's text that is no UTF-8 was noticed: it is no fault here."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
    return True


class _Connection(H11Protocol):
    """Close connections of which no request comes, or that do not take the answer.

    uvicorn itself waits without end for the rest of a request's head, and for the body of
    one that is answered already.
    """

    _deadline: asyncio.TimerHandle | None = None
    _deadline_of_answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # pause_writing tells of every byte that the client does not take
        transport.set_write_buffer_limits(high=0)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._deadline_of_answer is None:
            self._deadline_of_answer = self._close_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        _cancel(self._deadline_of_answer)
        self._deadline_of_answer = None

    def connection_lost(self, exc: Exception | None) -> None:
        _cancel(self._deadline)
        self._deadline = None
        _cancel(self._deadline_of_answer)
        self._deadline_of_answer = None
        super().connection_lost(exc)

    def _wait(self) -> None:
        """Begin to count when a request begins, and end when its head is there."""
        awaited = self.cycle is None or self.cycle.response_complete
        is_stream = self.transport.get_protocol() is not self
        if is_stream or not awaited:
            _cancel(self._deadline)
            self._deadline = None
        elif self._deadline is None:
            self._deadline = self._close_later()

    def _close_later(self) -> asyncio.TimerHandle:
        return self.loop.call_later(self.timeout_keep_alive, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


class _UntilTheEnd:
    """Let what is cancelled because the server stops end with an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except asyncio.CancelledError:
            # nobody but uvicorn cancels, and only then; it would print where
            if scope["type"] == "http" and not begun:
                refusal = JSONResponse({"detail": "The server stops."}, 503)
                await refusal(scope, receive, send)
