"""``python -m ferpipe PROGRAM ...`` runs a program; without one it lists them."""

import signal
import sys
from importlib import import_module

import ferpipe
from ferpipe._system.terminal import careful_output, printable

__all__ = ["main"]

PROGRAMS = {
    "grid": "run an experiment file: search, scores, report, model",
    "predict": "recognize expressions in images, videos or a camera: a table",
    "serve": "a web page and an HTTP API for a model",
    "inspect": "list what a model file holds, without loading it",
    "compare": "compare runs on the samples that they share",
    "train": "train what the package ships, on data of your own",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the program that the first word names.

    Parameters
    ----------
    arguments : list of str, default=None
        Command line; None takes the program's own.

    Returns
    -------
    status : int
        That of the program; 2 for a word that names none.
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
                f"error: {printable(repr(words[0]))} is no program of ferpipe; there are "
                f"{', '.join(PROGRAMS)}.",
                file=sys.stderr,
            )
            return 2
    return _program(words[0]).main(words[1:])


def _program(name):
    module = import_module(f"ferpipe.{name}")
    return (
        import_module(f"ferpipe.{name}.__main__") if hasattr(module, "__path__") else module
    )


def _listing():
    width = max(map(len, PROGRAMS))
    lines = [
        f"  python -m ferpipe.{name:<{width}}  {what}" for name, what in PROGRAMS.items()
    ]
    head = f"ferpipe {ferpipe.__version__}: {ferpipe.__doc__.splitlines()[0]}"
    foot = "python -m ferpipe PROGRAM is the same. Each takes --help."
    return "\n".join([head, "", *lines, "", foot])


if __name__ == "__main__":
    # as Ctrl-C does: processes that fit are stopped too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
