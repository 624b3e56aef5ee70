"""Everything that clients send, for minutes: what the server answers, and what it keeps.

``python benchmarks/serve_load.py --minutes 10 --requests 10000`` starts ``python -m
ferpipe.serve fer2013`` on a free port and sends it that many requests, spread over that
time, at most eight at once: synthetic faces, broken, empty and huge files, images of too
many pixels, senders that are slow or vanish, other kinds of content, and frames over
WebSockets, good and bad. Which request is of which kind follows from ``--seed``. Prints
answers and times by kind, every answer that is not among those that docs/serve.md promises,
memory and open files of the server, and a verdict; the exit status is 1 if something is
wrong. Without numbers it sends 1,000 in one minute.
"""

import argparse
import http.client
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from serve import jpeg_of_one_face
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ferpipe.serve.limits import Limits

# what any request may be answered when there is much to do
BUSY = {"429", "503"}
# memory that may be taken between the first minutes and the last ones
GROWTH = 1.05
SHOWN = 20


@dataclass
class Server:
    """Where the server is, and the files that it is sent."""

    host: str
    port: int
    face: bytes
    empty: bytes
    pixels: bytes
    huge: bytes

    @property
    def stream(self):
        """Return the address of the stream."""
        return f"ws://{self.host}:{self.port}/v1/stream"


def send(server, body, kind="image/jpeg", path="/v1/predict", method="POST"):
    """Send a request over a connection of its own; return status and faces."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=90)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        return read_answer(connection.getresponse())
    finally:
        connection.close()


def read_answer(answer):
    """Return the status as text, with the number of faces where there are some."""
    content = answer.read()
    if answer.status != 200:
        return str(answer.status)
    return f"200 {len(json.loads(content)['faces'])} faces"


def good(server, rng):
    """Send a face."""
    return send(server, server.face)


def form(server, rng):
    """Send a face in a form."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    body = head + server.face + b"\r\n--b--\r\n"
    return send(server, body, "multipart/form-data; boundary=b")


def chunked(server, rng):
    """Send a face in chunks of unknown number."""
    face = server.face
    return send(server, (face[i : i + 1000] for i in range(0, len(face), 1000)))


def no_face(server, rng):
    """Send an image without a face."""
    return send(server, server.empty)


def broken(server, rng):
    """Send a file with some bytes changed, cut short or made up."""
    content = bytearray(server.face)
    way = rng.integers(3)
    if way == 0:
        for place in rng.integers(len(content), size=10):
            content[place] = rng.integers(256)
    elif way == 1:
        del content[rng.integers(1, len(content)) :]
    else:
        content = rng.bytes(5000)
    return send(server, bytes(content))


def empty(server, rng):
    """Send no bytes."""
    return send(server, b"")


def huge(server, rng):
    """Send more bytes than are taken."""
    return send(server, server.huge)


def pixels(server, rng):
    """Send a small file of an image that is too large."""
    return send(server, server.pixels, "image/png")


def cut_form(server, rng):
    """Send a form that has no end."""
    return send(server, b"--b\r\nContent-Dispo", "multipart/form-data; boundary=b")


def other_kind(server, rng):
    """Send text."""
    return send(server, b"notes", "text/plain")


def nowhere(server, rng):
    """Ask for what is not there."""
    return send(server, None, path=f"/{rng.integers(1_000_000)}", method="GET")


def other_method(server, rng):
    """Ask in a way that is not offered."""
    return send(server, server.face, method="PUT")


def trickle(server, n_sent, pause):
    """Begin to send a face, slowly; return the socket."""
    sender = socket.create_connection((server.host, server.port), timeout=90)
    sender.sendall(
        f"POST /v1/predict HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(server.face)}\r\n\r\n".encode()
    )
    for part in np.array_split(np.frombuffer(server.face, np.uint8)[:n_sent], 8):
        sender.sendall(part.tobytes())
        time.sleep(pause)
    return sender


def wait_for_answer(sender):
    """Read the answer to what was sent over a socket."""
    with http.client.HTTPResponse(sender) as answer:
        answer.begin()
        return read_answer(answer)


def slow(server, rng):
    """Send a face in some seconds."""
    with trickle(server, len(server.face), rng.uniform(0, 0.4)) as sender:
        return wait_for_answer(sender)


def stalled(server, rng):
    """Stop in the middle and wait."""
    with trickle(server, len(server.face) // 2, 0) as sender:
        return wait_for_answer(sender)


def vanishing(server, rng):
    """Stop in the middle and leave."""
    with trickle(server, len(server.face) // 2, 0):
        return "gone"


def no_http(server, rng):
    """Send bytes that are no request."""
    with socket.create_connection((server.host, server.port), timeout=90) as sender:
        sender.sendall(rng.bytes(200) + b"\r\n\r\n")
        return wait_for_answer(sender)


def frames(server, rng):
    """Send some frames of a face, one after the other."""
    with connect(server.stream, open_timeout=90, proxy=None) as stream:
        for number in range(3):
            stream.send(json.dumps({"time": number / 25}))
            stream.send(server.face)
            faces = json.loads(stream.recv(timeout=90)).get("faces", [])
            if len(faces) != 1:
                return f"frame with {len(faces)} faces"
    return "frames"


def bad_frames(server, rng):
    """Send what is no frame, and then one."""
    bad = [b"", b"notes", rng.bytes(3000), "notes", '{"time": NaN}', "[]", server.pixels]
    with connect(server.stream, open_timeout=90, proxy=None) as stream:
        for place in rng.permutation(len(bad))[:3]:
            stream.send(bad[place])
            if "detail" not in json.loads(stream.recv(timeout=90)):
                return "bad frame answered"
        stream.send(server.face)
        return "frames" if "faces" in json.loads(stream.recv(timeout=90)) else "no frame"


def huge_frame(server, rng):
    """Send a frame of more bytes than are taken."""
    with connect(server.stream, open_timeout=90, proxy=None) as stream:
        stream.send(server.huge)
        refused = "detail" in json.loads(stream.recv(timeout=90))
    return "refused frame" if refused else "huge frame answered"


def cut_frame(server, rng):
    """Send a frame so large that the stream is cut."""
    with connect(server.stream, open_timeout=90, proxy=None) as stream:
        stream.send(server.huge + server.huge)
        return f"went on: {stream.recv(timeout=90)}"


def vanishing_stream(server, rng):
    """Send a frame and leave without a word."""
    with socket.create_connection((server.host, server.port), timeout=90) as sender:
        sender.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        accepted = b" 101 " in sender.recv(4096)
        # a binary message whose length stands in eight bytes, with a mask of zeros
        head = b"\x82\xff" + len(server.face).to_bytes(8) + bytes(4)
        sender.sendall(head + server.face)
    return "gone" if accepted else "not accepted"


# how often in a thousand, and what is promised
KINDS = {
    good: (300, {"200 1 faces"}),
    form: (70, {"200 1 faces"}),
    chunked: (50, {"200 1 faces"}),
    no_face: (50, {"200 0 faces"}),
    broken: (150, {"200 1 faces", "200 0 faces", "422"}),
    empty: (50, {"422"}),
    huge: (20, {"413", "408"}),
    pixels: (50, {"422"}),
    cut_form: (40, {"422"}),
    other_kind: (50, {"415"}),
    nowhere: (30, {"404"}),
    other_method: (20, {"405"}),
    slow: (15, {"200 1 faces"}),
    stalled: (5, {"408"}),
    vanishing: (20, {"gone"}),
    no_http: (10, {"400"}),
    frames: (30, {"frames", "closed 1013"}),
    bad_frames: (20, {"frames", "closed 1013"}),
    huge_frame: (10, {"refused frame", "closed 1013"}),
    # who is still sending when the stream is closed may not hear why
    cut_frame: (5, {"closed 1009", "closed 1013", "closed without a word"}),
    vanishing_stream: (15, {"gone"}),
}


def answer_to(kind, server, rng):
    """Send a request of a kind; return what came of it, in words."""
    try:
        return kind(server, rng)
    except InvalidStatus as error:
        return str(error.response.status_code)
    except ConnectionClosed as closed:
        return f"closed {closed.rcvd.code if closed.rcvd else 'without a word'}"
    except (OSError, http.client.HTTPException, TimeoutError) as error:
        return type(error).__name__


class Watch:
    """Looks at the memory and the open files of a process once a second."""

    def __init__(self, pid):
        self.pid, self.start, self.seen = pid, time.monotonic(), []
        self.done = Event()
        self.thread = Thread(target=self._follow)

    def look(self, name=""):
        """Return seconds, resident MB and open files, and print them under a name."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
        n_files = len(os.listdir(f"/proc/{self.pid}/fd"))
        now = time.monotonic() - self.start
        if name:
            print(f"{name:<14}{resident:>8.0f} MB{n_files:>6} open files", flush=True)
        return now, resident, n_files

    def _follow(self):
        minute = 1
        while not self.done.wait(1):
            self.seen.append(self.look())
            if self.seen[-1][0] > 60 * minute:
                self.look(f"minute {minute}")
                minute += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()


def bombard(server, options):
    """Send all requests, each when its time has come; return (kind, answer, seconds)."""
    rng = np.random.default_rng(options.seed)
    kinds = list(KINDS)
    weights = np.array([weight for weight, _ in KINDS.values()])
    chosen = rng.choice(len(kinds), options.requests, p=weights / weights.sum())
    start = time.monotonic()
    numbers, lock, answers = iter(range(options.requests)), Lock(), []

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            due = start + 60 * options.minutes * number / options.requests
            time.sleep(max(0, due - time.monotonic()))
            kind = kinds[chosen[number]]
            begun = time.perf_counter()
            answer = answer_to(kind, server, np.random.default_rng([options.seed, number]))
            answers.append((kind, answer, time.perf_counter() - begun))

    with ThreadPoolExecutor(options.at_once) as pool:
        for worker in [pool.submit(work) for _ in range(options.at_once)]:
            worker.result()
    return answers


def report(answers):
    """Print what was answered to which kind, and how soon; return what was not promised."""
    by_kind = defaultdict(list)
    for kind, answer, seconds in answers:
        by_kind[kind].append((answer, seconds))
    print(f"\n{'kind':<18}{'sent':>6}{'p50 ms':>9}{'p95 ms':>9}   answers")
    wrong = Counter()
    for kind, (_, promised) in KINDS.items():
        if not by_kind[kind]:
            continue
        p50, p95 = np.percentile([1000 * seconds for _, seconds in by_kind[kind]], [50, 95])
        counts = Counter(answer for answer, _ in by_kind[kind])
        words = ", ".join(f"{answer}: {n}" for answer, n in counts.most_common())
        print(f"{kind.__name__:<18}{counts.total():>6}{p50:>9.0f}{p95:>9.0f}   {words}")
        for answer, n in counts.items():
            if answer not in promised | BUSY:
                wrong[f"{kind.__name__}: {answer}"] += n
    statuses = Counter(answer.partition(" ")[0] for _, answer, _ in answers)
    print("all:", ", ".join(f"{answer}: {n}" for answer, n in sorted(statuses.items())))
    errors = {a: n for a, n in statuses.items() if a.startswith("5") and a not in BUSY}
    print("5xx that are not the 503 of the documentation:", errors or "none")
    for what, n in wrong.most_common(SHOWN):
        print(f"NOT PROMISED: {what} ({n} times)")
    return wrong.total()


def check_memory(watch, n_files):
    """Compare the last third of the time with the second one; return what grew."""
    grown = []
    end = watch.seen[-1][0]
    memory = [
        np.median([mb for at, mb, _ in watch.seen if low * end < at <= high * end])
        for low, high in ((1 / 3, 2 / 3), (2 / 3, 1))
    ]
    print(f"memory in the second and the last third: {memory[0]:.0f}, {memory[1]:.0f} MB")
    if memory[1] > GROWTH * memory[0]:
        grown.append("memory grew")
    if watch.look()[2] > n_files:
        grown.append("files were left open")
    return grown


def write_files():
    """Make the files that are sent."""
    limits = Limits()
    side = int(limits.pixels**0.5) + 100
    file, none = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, "png")
    Image.fromarray(np.full((480, 640), 120, np.uint8)).save(none, "jpeg")
    return {
        "face": jpeg_of_one_face(),
        "empty": none.getvalue(),
        "pixels": file.getvalue(),
        "huge": bytes(limits.body_bytes + 1),
    }


def measure(process, address, options):
    """Send everything and print what came of it; return what is wrong."""
    server = Server(address.hostname, address.port, **write_files())
    watch = Watch(process.pid)
    watch.look("start")
    # the most that it ever takes at once, it takes now
    with ThreadPoolExecutor(options.at_once) as pool:
        for kind in (good, pixels, huge, frames, huge_frame, cut_frame):
            for _ in range(options.at_once):
                pool.submit(answer_to, kind, server, np.random.default_rng(0))
    time.sleep(3)
    _, _, n_files = watch.look("warm")
    start = time.monotonic()
    with watch:
        answers = bombard(server, options)
    seconds = time.monotonic() - start
    time.sleep(3)
    watch.look("end")
    wrong = ["answers that are not promised"] * (report(answers) > 0)
    print(f"{len(answers)} requests in {seconds:.0f} s, {options.at_once} at a time")
    wrong += check_memory(watch, n_files)
    if good(server, None) != "200 1 faces":
        wrong.append("the server answers no more")
    return wrong


def main():
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="fer2013", help="or a saved model")
    options = parser.parse_args()
    # the client tells at length that it was cut off while it was sending
    logging.getLogger("websockets.client").setLevel(logging.CRITICAL)
    words = [sys.executable, "-m", "ferpipe.serve", options.model, "--port", "0"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            process.stdout.readline()
            address = urlsplit(process.stdout.readline().split()[0])
            wrong = measure(process, address, options)
        finally:
            process.send_signal(signal.SIGINT)
        if process.wait(60) != 0:
            wrong.append(f"the server ended with {process.returncode}")
        log.seek(0)
        said = Counter(line.rstrip() for line in log)
    for line, n in said.most_common(SHOWN):
        print(f"the server said: {line} ({n} times)")
    if any("Traceback" in line for line in said):
        wrong.append("the server had an error that it did not expect")
    print("verdict:", "; ".join(wrong) or "all as promised")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
