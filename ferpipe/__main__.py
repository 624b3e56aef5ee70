"""``python -m ferpipe PROGRAM ...`` runs a program; without PROGRAM it lists them."""

import signal
import sys
from importlib import import_module
from typing import Any

import ferpipe
from ferpipe._system.terminal import careful_output, printable

__all__ = ["main"]

PROGRAMS = {
    "grid": "run an experiment file: search, scores, report, model",
    "predict": "recognize expressions in images, videos or from a camera: a table",
    "serve": "a web page and an HTTP API for a model",
    "inspect": "list the content of a model file without loading it",
    "compare": "compare runs on the samples that both tested",
    "train": "train the pretrained models on data of your own",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the program named by the first argument.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line; None takes the program's own.

    Returns
    -------
    status : int
        Exit status of the program; 2 for an unknown program.
    """
    words = sys.argv[1:] if arguments is None else arguments
    with careful_output():
        if not words or words[0] in ("-h", "--help"):
            print(_listing())
            return 0
        if words[0] == "--version":
            print(f"ferpipe {ferpipe.__version__}")
            return 0
        if words[0] not in PROGRAMS:
            print(
                f"error: {printable(repr(words[0]))} is not a program of ferpipe; the "
                f"programs are {', '.join(PROGRAMS)}.",
                file=sys.stderr,
            )
            return 2
    return _program(words[0]).main(words[1:])


def _program(name: str) -> Any:
    module = import_module(f"ferpipe.{name}")
    return (
        import_module(f"ferpipe.{name}.__main__") if hasattr(module, "__path__") else module
    )


def _listing() -> str:
    width = max(map(len, PROGRAMS))
    lines = [
        f"  python -m ferpipe.{name:<{width}}  {what}" for name, what in PROGRAMS.items()
    ]
    head = f"ferpipe {ferpipe.__version__}: {(ferpipe.__doc__ or '').splitlines()[0]}"
    foot = "python -m ferpipe PROGRAM is the same. Each program has --help."
    return "\n".join([head, "", *lines, "", foot])


if __name__ == "__main__":
    # SIGTERM also stops the worker processes, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
