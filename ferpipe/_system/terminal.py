"""What programs print: names as text, whatever they hold and whatever the terminal takes.

Names come from files of strangers: of classes, images, steps. Escape sequences in them
could rename the window, hide lines or write others in their place.
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
    r"""Write control characters and what turns the direction of text as escapes.

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
    """Escape what is printed meanwhile and cannot or must not reach the terminal.

    Control characters are escaped, and so is what the encoding of the output lacks: a
    program neither lets a name steer the terminal nor fails for want of a letter.
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
    """A text file that escapes what it is given."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write a text; what it returns counts the text as it was given."""
        safe = printable(text, lines=True)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(safe.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)
