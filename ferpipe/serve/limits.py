"""What the server takes, and how it says no."""

from dataclasses import dataclass

__all__ = ["Limits", "Refused"]


@dataclass(frozen=True)
class Limits:
    """How much the server takes at once.

    Attributes
    ----------
    body_bytes : int
        Of an image file or a frame.
    pixels : int
        Of an image, whatever the size of its file.
    waiting : int
        Images and frames that are worked on or wait for it, from all clients.
    streams : int
        Streams that are open at the same time.
    connections : int
        Connections, idle ones among them.
    seconds : float
        For a body to arrive; and again for the answer.
    idle_seconds : float
        Without a frame, after which a stream is closed.
    """

    body_bytes: int = 20_000_000
    pixels: int = 25_000_000
    waiting: int = 16
    streams: int = 8
    connections: int = 100
    seconds: float = 10.0
    idle_seconds: float = 60.0


class Refused(Exception):
    """A request is not answered.

    Parameters
    ----------
    status : int
        Of HTTP.
    sentence : str
        Why, and what to do.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
