"""Decode images from strangers in a process of its own, which may end.

A decoder may take minutes or gigabytes for a few bytes that are made for it, and no thread
can be stopped. The process has a budget of memory and, for each image, of processor time
(where the system knows such limits: not on Windows); beyond it the process ends, and the
next image gets a new one.
"""

import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferpipe.io.images import read_image
from ferpipe.serve.limits import Limits, Refused

__all__ = ["Decoder", "main"]

# whether the image is wanted in gray, and the length of the file
_HEAD = struct.Struct("<?Q")
# address space: of the process itself, and a pixel, of which formats were found to need 22
_BYTES, _BYTES_OF_PIXEL = 2**28, 32
_PROGRAM = "from ferpipe.serve.decoder import main; main()"


class Decoder:
    """Read images in another process, which begins with the first one.

    Parameters
    ----------
    limits : Limits
        How many pixels are decoded, in what time and memory.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._n_bytes = _BYTES + _BYTES_OF_PIXEL * limits.pixels
        self._process: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def read(self, content: bytes, *, gray: bool) -> NDArray[np.uint8]:
        """Read the image in a file.

        Parameters
        ----------
        content : bytes
            The file.
        gray : bool
            As for :func:`ferpipe.read_image`.

        Returns
        -------
        image : ndarray of shape (h, w) or (h, w, 3), uint8

        Raises
        ------
        Refused
            With 422 if it is no image, has too many pixels, or takes too much to decode.
        """
        limits = self._limits
        with self._one_at_a_time:
            try:
                facts, values = self._ask(content, gray)
            except (OSError, EOFError, ValueError) as error:
                self._end()
                raise Refused(
                    422,
                    f"The image cannot be decoded within {limits.decoding_seconds:g} s and "
                    f"{self._n_bytes:,} bytes of memory: send a smaller image, or "
                    "one of another format.",
                ) from error
        if "refusal" in facts:
            raise Refused(422, facts["refusal"])
        return np.frombuffer(values, np.uint8).reshape(facts["shape"])

    def start(self) -> None:
        """Start the process, before the first image needs it."""
        with self._one_at_a_time:
            self._started()

    def close(self) -> None:
        """End the process."""
        process = self._process
        if process is not None:
            process.kill()  # who reads from it stops
        with self._one_at_a_time:
            self._end()

    def _ask(self, content: bytes, gray: bool) -> tuple[dict[str, Any], bytes]:
        process = self._started()
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise OSError("the process has no pipes")
        requests.write(_HEAD.pack(gray, len(content)))
        requests.write(content)
        requests.flush()
        facts = json.loads(answers.readline())
        if "refusal" in facts:
            return facts, b""
        values = answers.read(int(np.prod(facts["shape"])))
        if len(values) != np.prod(facts["shape"]):
            raise EOFError("the process ended in the middle of an image")
        return facts, values

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            limits = self._limits
            words = (limits.pixels, limits.decoding_seconds, self._n_bytes)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *map(str, words)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    # a thread's stack is address space too
                    "OMP_NUM_THREADS": "1",
                    "OPENBLAS_NUM_THREADS": "1",
                },
                # Ctrl-C is for the server, which then ends this
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not written yet goes nowhere
                    if pipe is not None:
                        pipe.close()


class _Upload(io.BytesIO):
    """A file in memory that messages about it can name."""

    name = "upload"


def main() -> None:
    """Read files from standard input, one after the other, until it ends."""
    pixels, seconds, n_bytes = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    # what a library prints must not come between
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory(n_bytes)
    while head := sys.stdin.buffer.read(_HEAD.size):
        gray, length = _HEAD.unpack(head)
        content = sys.stdin.buffer.read(length)
        _limit_time(seconds)
        facts, image = _read(content, gray, pixels)
        _limit_time(0)
        answers.write(json.dumps(facts).encode("ascii") + b"\n")
        answers.write(image)
        answers.flush()


def _read(
    content: bytes, gray: bool, pixels: int
) -> tuple[dict[str, Any], bytes | memoryview]:
    try:
        image = read_image(_Upload(content), gray=gray, max_pixels=pixels)
    except ValueError as error:
        return {"refusal": str(error).replace(", or raise max_pixels", "")}, b""
    return {"shape": image.shape}, np.ascontiguousarray(image).data


def _limit_memory(n_bytes: int) -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """End the process when it has used so much processor time from now on; 0: never."""
    if sys.platform != "win32":
        # the signal ends the process in the middle of a decoder's code too
        signal.setitimer(signal.ITIMER_PROF, seconds)
