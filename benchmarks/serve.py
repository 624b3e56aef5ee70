"""How soon the server answers, alone and under load, from a second process on loopback.

``python benchmarks/serve.py`` starts ``python -m ferpipe.serve`` with a network of random
weights on a free port, and sends it a JPEG image of 640 x 480 pixels with one synthetic
face: first one request after the other, then 200 requests, 8 at a time. ``--model FILE``
takes a saved model, or a network that ships.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

import cv2
import numpy as np

import ferpipe
from ferpipe import ImageNetwork, Training, datasets

ALONE, REQUESTS, AT_A_TIME = 40, 200, 8


def main():
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a saved model, or a network that ships")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or save_random_network(Path(folder))
        words = [sys.executable, "-m", "ferpipe.serve", str(model), "--port", "0"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                server.stdout.readline()
                address = urlsplit(server.stdout.readline().split()[0])
                return measure(address, jpeg_of_one_face())
            finally:
                server.terminate()


def measure(address, image):
    """Send requests and print how they were answered; return an exit status."""
    ask = Client(address, image)
    spent = {"alone": [ask() for _ in range(ALONE)]}
    start = time.perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as clients:
        loaded = f"{AT_A_TIME} at a time"
        spent[loaded] = list(clients.map(lambda _: ask(), range(REQUESTS)))
    rate = REQUESTS / (time.perf_counter() - start)
    print(f"{'ms':<16}{'best':>8}{'p50':>8}{'p95':>8}{'errors':>8}")
    for name, times in spent.items():
        good = 1000 * np.array([one for one in times if one is not None])
        shown = [good.min(), *np.percentile(good, [50, 95])] if len(good) else [np.nan] * 3
        numbers = "".join(f"{number:>8.1f}" for number in shown)
        print(f"{name:<16}{numbers}{len(times) - len(good):>8}")
    print(f"{rate:.1f} answers a second")
    return int(None in [*spent["alone"], *spent[loaded]])


class Client:
    """Send an image and wait for the answer, over one connection a thread."""

    def __init__(self, address, image):
        self.address, self.image = address, image
        self.of_thread = local()

    def __call__(self):
        """Return the seconds that it took; None if the face was not answered."""
        if not hasattr(self.of_thread, "connection"):
            host, port = self.address.hostname, self.address.port
            self.of_thread.connection = http.client.HTTPConnection(host, port, timeout=60)
        connection = self.of_thread.connection
        start = time.perf_counter()
        try:
            headers = {"Content-Type": "image/jpeg"}
            connection.request("POST", "/v1/predict", self.image, headers)
            answer = connection.getresponse()
            faces = json.loads(answer.read()).get("faces", [])
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        return time.perf_counter() - start if len(faces) == 1 else None


def jpeg_of_one_face():
    """Draw a face, in the middle of a larger picture."""
    picture = np.full((480, 640), 120, np.uint8)
    picture[110:350, 200:440] = datasets.make_expression_sequences(
        7, 1, 240, random_state=5
    ).data[0][0]
    return cv2.imencode(".jpg", picture)[1].tobytes()


def save_random_network(folder):
    """Save a small network that knows nothing: it takes the time of one that does."""
    crops = np.random.default_rng(0).integers(0, 256, (14, 48, 48), dtype=np.uint8)
    labels = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    network = ImageNetwork(training=Training(max_epochs=1), random_state=0)
    return ferpipe.save(network.fit(crops, labels * 2), folder / "random.joblib")


if __name__ == "__main__":
    sys.exit(main())
