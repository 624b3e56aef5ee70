"""What the server takes, and how it says no."""

from dataclasses import dataclass

__all__ = ["Limits", "Refused"]


@dataclass(frozen=True)
class Limits:
    """How much the server takes at once.

    Attributes
    ----------
    body_bytes : int
        Of an image file or a frame; of a form, with all that it holds.
    arriving_bytes : int
        Of all bodies that arrive at the same time, from all clients.
    parts : int
        Fields of a form.
    part_header_bytes : int
        Of the headers of one of them.
    pixels : int
        Of an image, whatever the size of its file.
    decoding_seconds : float
        Of processor time, to decode an image.
    waiting : int
        Images and frames that are worked on or wait for it, from all clients: so many to
        be decoded, and so many to be recognized.
    waiting_images : int
        Decoded images that wait to be recognized, if all have ``pixels`` pixels; more of
        smaller ones.
    streams : int
        Streams that are open at the same time.
    connections : int
        Connections, idle ones among them.
    seconds : float
        For the head of a request to arrive; again for its body; again for the answer to
        be found; and again for it to be taken.
    idle_seconds : float
        Without a frame, after which a stream is closed.
    """

    body_bytes: int = 20_000_000
    arriving_bytes: int = 200_000_000
    parts: int = 100
    part_header_bytes: int = 8192
    pixels: int = 25_000_000
    decoding_seconds: float = 5.0
    waiting: int = 16
    waiting_images: int = 4
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
