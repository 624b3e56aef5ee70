"""The limits of the server, and the error of a refused request."""

from dataclasses import dataclass

__all__ = ["Limits", "Refused"]


@dataclass(frozen=True)
class Limits:
    """Limits of requests, memory and time.

    Attributes
    ----------
    body_bytes : int
        Largest image file, frame or whole form, in bytes.
    arriving_bytes : int
        Bytes of all bodies that arrive at the same time, from all clients.
    parts : int
        Most fields of a form.
    part_header_bytes : int
        Most bytes of the headers of one field.
    pixels : int
        Most pixels of an image.
    decoding_seconds : float
        Processor time to decode an image, in seconds.
    waiting : int
        Most images and frames in each of the two queues, for decoding and for recognition,
        from all clients, with those in work.
    waiting_images : int
        Most decoded images of ``pixels`` pixels that wait for recognition; more if they are
        smaller.
    streams : int
        Most streams that are open at the same time.
    connections : int
        Most connections, including idle ones.
    seconds : float
        Most seconds for each of four steps: receiving the head of a request, receiving its
        body, computing the answer, and sending it.
    idle_seconds : float
        Seconds without a frame after which a stream is closed.
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
    """A request is refused.

    Parameters
    ----------
    status : int
        HTTP status.
    sentence : str
        The reason, and what to do.
    """

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
