"""The application: addresses, the page and what they do."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect, HTTPConnection

import ferpipe
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.datasets.synthetic import make_expression_sequences
from ferpipe.io.models import describe_input
from ferpipe.recognition.recognizer import Recognizer
from ferpipe.recognition.stream import FacePrediction, Stream
from ferpipe.serve.answers import Answer, FrameAnswer, ModelFacts, Refusal, face_of
from ferpipe.serve.decoder import Decoder
from ferpipe.serve.facts import as_json, check_names
from ferpipe.serve.guard import Guard
from ferpipe.serve.limits import Limits, Refused
from ferpipe.serve.uploads import Uploads, check_size, file_in
from ferpipe.serve.work import Worker

__all__ = ["make_app"]

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_GUARDED = {
    401: "The token is missing or wrong.",
    403: "The request comes from a page of another site, or is meant for another server.",
}
_PREDICTING = {
    **_GUARDED,
    408: "The body did not arrive in time.",
    413: "The file is too large, or the form has too many fields.",
    415: "The body is neither an image nor a form.",
    422: "There is no image that can be read, or it has too many pixels.",
    429: "Too many images are waiting, or arriving.",
    503: "It took too long, or there are too many connections.",
}
_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            }
        },
    },
}
# of WebSocket closes: try again later, and gone
_BUSY, _GONE = 1013, 1001
# of a text message: of the time of a frame; more is no such message
_LONGEST_TEXT = 1000


def make_app(
    recognizer: Recognizer,
    *,
    name: str = "",
    card: dict[str, Any] | None = None,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    limits: Limits = Limits(),
) -> Guard:
    """Make the ASGI application.

    Parameters
    ----------
    recognizer : Recognizer
        What answers. It looks at all frames that it is given: ``every`` is None.
    name : str, default=""
        Of the model.
    card : dict, default=None
        What is known of the model.
    token : str or None, default=None
        Needed for everything under ``/v1/``; None for no token.
    hosts : collection of str or None, default=None
        Names under which the server is known; None for any.
    limits : Limits, default=Limits()
        How much is taken at once.

    Returns
    -------
    app : Guard

    Raises
    ------
    ValueError
        If the recognizer leaves out frames, or a name of a class or the card cannot be
        written as JSON.
    """
    if recognizer.every is not None:
        raise ValueError(
            f"The recognizer must have every=None, got {recognizer.every}: clients choose "
            "the frames that they send."
        )
    check_names(recognizer.classes)
    facts = _facts(recognizer, name, card, limits)
    uploads, decoder = Uploads(limits), Decoder(limits)
    decoding = Worker("decode", places=limits.waiting, room=limits.arriving_bytes)
    room = limits.waiting_images * limits.pixels
    recognizing = Worker("recognize", places=limits.waiting, room=room)
    n_streams = 0

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # what is loaded when it is first needed is loaded before the first request
        decoder.start()
        with suppress(Refused):
            await recognizing.run(recognizer.predict_image, _rendered_face())
        yield
        decoding.close()
        recognizing.close()
        decoder.close()

    async def answer(
        recognize: Callable[..., str],
        client: str,
        content_of: Callable[..., bytes],
        *arguments: Any,
    ) -> str:
        """Decode an image and recognize the faces in it, in time; return JSON."""
        read = partial(_read, decoder, content_of, *arguments, gray=not recognizer.color)
        try:
            async with asyncio.timeout(limits.seconds):
                image, seconds = await decoding.run(
                    read, client=client, size=len(arguments[0])
                )
                size = image.shape[0] * image.shape[1]
                return await recognizing.run(
                    recognize, image, seconds, client=client, size=size
                )
        except TimeoutError as error:
            raise Refused(
                503,
                f"No answer was found in {limits.seconds:g} s: try again later, or send a "
                "smaller image.",
            ) from error

    # the usual pages on the schema fetch scripts from elsewhere
    app = FastAPI(
        title="ferpipe",
        summary="Facial expressions in images and streams of frames.",
        version=ferpipe.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    # Guard looks at the token; this tells of it in the schema
    needs = [Depends(HTTPBearer(auto_error=False))] if token else []

    @app.exception_handler(Refused)
    async def refuse(request: Request, refusal: Refused) -> Response:
        wait = {"Retry-After": "1"} if refusal.status in (429, 503) else None
        return JSONResponse({"detail": refusal.sentence}, refusal.status, wait)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.post(
        "/v1/predict",
        response_model=Answer,
        responses=_documented(_PREDICTING),
        dependencies=needs,
        openapi_extra={"requestBody": _BODY},
    )
    async def predict(request: Request) -> Response:
        """Recognize the faces in an image, the surest first."""
        body = await uploads.receive(request)
        found = await answer(
            partial(_recognize, recognizer),
            _client_of(request),
            file_in,
            body,
            request.headers["content-type"],
            limits,
        )
        return Response(found, media_type="application/json")

    @app.get(
        "/v1/model",
        response_model=ModelFacts,
        responses=_documented(_GUARDED),
        dependencies=needs,
    )
    async def model() -> Response:
        """Tell what answers, and what is taken."""
        return Response(facts, media_type="application/json")

    @app.get("/healthz", responses=_documented({403: _GUARDED[403]}))
    async def health() -> dict[str, str]:
        """Say that the server runs."""
        return {"status": "ok"}

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        nonlocal n_streams
        await socket.accept()
        if n_streams >= limits.streams:
            await socket.close(
                _BUSY, f"{limits.streams} streams are open already: try again later."
            )
            return
        n_streams += 1
        try:
            await _serve_stream(socket, recognizer.stream(), answer, limits)
        finally:
            n_streams -= 1

    for path, (file, kind) in _FILES.items():
        content = Path(__file__).with_name(file).read_bytes()
        app.add_api_route(path, _sending(content, kind), include_in_schema=False)
    return Guard(app, token=token, hosts=hosts)


def _rendered_face() -> NDArray[np.uint8]:
    return make_expression_sequences(7, 1, 200, random_state=0).data[0][0]


def _sending(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send


def _documented(statuses: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": Refusal, "description": statuses[status]} for status in statuses
    }


def _facts(
    recognizer: Recognizer, name: str, card: dict[str, Any] | None, limits: Limits
) -> bytes:
    wireframe, _ = load_calibrated()
    return as_json(
        {
            "name": name,
            "version": ferpipe.__version__,
            "classes": recognizer.classes,
            "gives": recognizer.gives,
            "takes": describe_input(recognizer.model),
            "card": card or {},
            "action_units": wireframe.animation_names,
            "triangles": wireframe.triangles.tolist(),
            "limits": asdict(limits),
        }
    )


def _client_of(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _read(
    decoder: Decoder, content_of: Callable[..., bytes], *arguments: Any, gray: bool
) -> tuple[NDArray[np.uint8], float]:
    """Decode an image; return it and the seconds that it took."""
    start = time.perf_counter()
    image = decoder.read(content_of(*arguments), gray=gray)
    return image, time.perf_counter() - start


def _recognize(recognizer: Recognizer, image: NDArray[np.uint8], seconds: float) -> str:
    """Recognize the faces in an image; return the answer as JSON."""
    start = time.perf_counter() - seconds
    predictions = recognizer.predict_image(image)
    return Answer(**_seen(image, predictions, recognizer.gives, start)).model_dump_json()


def _recognize_frame(
    stream: Stream, moment: float, image: NDArray[np.uint8], seconds: float
) -> str:
    """Recognize the faces in the next frame of a stream; return the answer as JSON."""
    start = time.perf_counter() - seconds
    predictions = stream.step(image, moment)
    return FrameAnswer(
        frame=predictions[0].frame,
        time=moment,
        **_seen(image, predictions, stream.config.gives, start),
    ).model_dump_json()


def _seen(
    image: NDArray[np.uint8],
    predictions: list[FacePrediction],
    gives: str,
    start: float,
) -> dict[str, Any]:
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "gives": gives,
        "faces": [face_of(one) for one in predictions if one.face is not None],
        "seconds": time.perf_counter() - start,
    }


async def _serve_stream(
    socket: WebSocket, stream: Stream, answer: Callable[..., Awaitable[str]], limits: Limits
) -> None:
    """Answer the frames of one stream, until the client has enough."""
    loop = asyncio.get_running_loop()
    start = time.monotonic()
    given, last = None, -math.inf
    until = loop.time() + limits.idle_seconds
    with suppress(WebSocketDisconnect):
        while True:
            try:
                async with asyncio.timeout_at(until):
                    message = await socket.receive()
            except TimeoutError:
                reason = f"No frame came for {limits.idle_seconds:g} s."
                await socket.close(_GONE, reason)
                return
            if message["type"] == "websocket.disconnect":
                return
            frame = message.get("bytes")
            try:
                if frame is None:
                    given = _time_in(message["text"], last)
                    continue
                moment = time.monotonic() - start if given is None else given
                if moment <= last:
                    raise Refused(422, "A time must be given with each frame, or none.")
                check_size(frame, limits)
                work = partial(_recognize_frame, stream, moment)
                text = await answer(work, _client_of(socket), bytes, frame)
                given, last = None, moment
            except Refused as refusal:
                given = None
                text = Refusal(detail=refusal.sentence).model_dump_json()
            if frame is not None:
                until = loop.time() + limits.idle_seconds
            try:
                async with asyncio.timeout(limits.seconds):
                    await socket.send_text(text)
            except TimeoutError:
                await socket.close(_GONE, f"No answer was taken for {limits.seconds:g} s.")
                return


def _time_in(text: str, last: float) -> float:
    """Read the message that gives the time of the next frame."""
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError
        moment = json.loads(text)["time"]
        if isinstance(moment, bool) or not isinstance(moment, int | float):
            raise TypeError
        if not last < moment < math.inf:
            raise ValueError
        return float(moment)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Refused(
            422,
            'A text message must be {"time": SECONDS}, the time of the frame that follows, '
            "later than that of the frame before.",
        ) from error
