"""Serve a model to browsers and programs: ``python -m ferpipe.serve fer2013``."""

import argparse
import ipaddress
import json
import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ferpipe import __version__
from ferpipe._system.memory import share_freed_memory
from ferpipe.io.images import LARGEST_IMAGE
from ferpipe.io.models import card_path
from ferpipe.networks.pretrained import pretrained
from ferpipe.recognition.recognizer import Recognizer
from ferpipe.serve.limits import Limits

__all__ = ["main"]

_PIXELS = Limits.pixels
_LOCAL = ("localhost", "127.0.0.1", "::1")


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    options = _parser().parse_args(arguments)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        _serve(options)
    except ModuleNotFoundError as error:
        print(
            f"error: the server needs {error.name}: python -m pip install 'ferpipe[serve]'",
            file=sys.stderr,
        )
        return 2
    except (TypeError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


def _serve(options: argparse.Namespace) -> None:
    share_freed_memory()
    import uvicorn

    from ferpipe.serve.app import make_app
    from ferpipe.serve.connections import config_of

    local = _is_local(options.host)
    token = options.token or (None if local else secrets.token_urlsafe(16))
    with _listen(options.host, options.port) as listener:
        recognizer = Recognizer(options.model, trusted=options.trusted, input=options.input)
        limits = Limits(pixels=options.max_pixels)
        name, card = _card_of(options.model)
        app = make_app(
            recognizer,
            name=name,
            card=card,
            token=token,
            hosts={*_LOCAL, options.host.lower()} if local else None,
            limits=limits,
        )
        print(f"ferpipe {__version__} serves {name}: {', '.join(recognizer.classes)}")
        print(f"{_address(options.host, listener, token)}   (Ctrl-C stops it)", flush=True)
        uvicorn.Server(config_of(app, limits)).run(sockets=[listener])


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    """Take the port, before the work of loading the model."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise OSError(
            f"the server cannot listen at {host}, port {port}: {error.strerror}. Another "
            "--port or --host may be free."
        ) from error


def _card_of(model: str) -> tuple[str, dict[str, Any]]:
    """Return the name of a model and what its card says."""
    path = Path(model).expanduser()
    if path.is_file():
        name = os.fsencode(path.stem).decode("utf-8", "replace")
        return name, json.loads(card_path(path).read_text("utf-8"))
    return model, pretrained()[model]


def _address(host: str, listener: socket.socket, token: str | None) -> str:
    """Return where a browser finds the page."""
    anywhere = host in ("0.0.0.0", "::", "")
    name = socket.gethostname() if anywhere else f"[{host}]" if ":" in host else host
    port = listener.getsockname()[1]
    return f"http://{name}:{port}/{f'?token={quote(token)}' if token else ''}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.serve",
        description="Recognize expressions in a browser: a page for images and the camera, "
        "and an HTTP API. Images are not kept.",
    )
    parser.add_argument(
        "model", help="a network that ships, such as fer2013, or a saved model (.joblib)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for other computers to see it, which then need "
        "the token (default: 127.0.0.1, this computer only)",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="0 for any that is free (default: 8000)"
    )
    parser.add_argument(
        "--token",
        help="what clients must send (default: none at a local address, else one "
        "that is made up and printed)",
    )
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="NAME",
        help="a class, function or file that the model file may use although it is not on "
        "the list, such as mypackage.MyTransformer; may be given more than once",
    )
    parser.add_argument(
        "--max-pixels",
        type=_pixels,
        default=_PIXELS,
        help=f"images with more are refused (default: {_PIXELS:,})",
    )
    parser.add_argument(
        "--input",
        choices=("candide",),
        help="what a model of numbers was fitted on, if that is not on record: those of "
        "CandideFitter",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _pixels(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= LARGEST_IMAGE):
        raise argparse.ArgumentTypeError(
            f"expected a number from 1 to {LARGEST_IMAGE}, got {text!r}"
        )
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
