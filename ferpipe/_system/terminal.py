"""Print names from outside safely: escape what could control the terminal.

Names of classes, images and steps come from files of other people. Escape sequences in them
could rename the window, hide lines or write over them.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

__all__ = ["careful_output", "error_line", "printable"]

# control characters but tab, line feed and carriage return (progress bars); what turns the
# direction of text or ends a line for some programs; halves of characters
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_CONTROL = re.compile(f"{_UNSAFE.pattern[:-1]}\t\n\r]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""Escape control characters and characters that change the direction of text.

    Parameters
    ----------
    text : str
        A name, or another text from outside.
    lines : bool, default=False
        Leave tabs and ends of lines as they are.

    Returns
    -------
    text : str

    Examples
    --------
    >>> print(printable("anger\x1b[31m"))
    anger\x1b[31m
    """
    return (_UNSAFE if lines else _CONTROL).sub(
        lambda found: found[0].encode("unicode_escape").decode(), text
    )


def error_line(error: object) -> None:
    """Print an error as one line to the standard error."""
    sys.stderr.write(f"error: {printable(str(error))}\n")


@contextmanager
def careful_output() -> Iterator[None]:
    """Escape unsafe characters in everything that is printed inside a block.

    It escapes control characters, which could control the terminal, and characters that
    the encoding of the output lacks, which would raise an error.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        None if stream is None else _Careful(stream) for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Careful:
    """A text file that escapes unsafe characters."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write a text; return its length before it was escaped."""
        safe = printable(text, lines=True)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(safe.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)
