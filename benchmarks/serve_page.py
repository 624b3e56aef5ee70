"""How soon the web page shows what is in an image, in a real browser.

``python benchmarks/serve_page.py`` starts ``python -m ferpipe.serve`` with a network of
random weights on a free port, opens its page in Chromium without a window, and drops a
JPEG image of 640 x 480 pixels with one synthetic face on it, one time after the other.
Prints the milliseconds from the drop to the frame in which boxes, bars and label are on the
screen, and how many of them went by from the request to the server's answer. ``--model
FILE`` takes a saved model, or a network that ships. Without a browser it says so and ends.
"""

import argparse
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import numpy as np
from websockets.sync.client import connect

IMAGES = 40
PATIENCE = 60  # seconds
# of programs that are Chromium
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# no connections of its own, no waiting for a graphics card
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--remote-debugging-port=0",
)
# of the times of the drop, and of the frame after that in which the answer was painted
CLOCK = """
globalThis.dropped = new Promise((done) => addEventListener("drop", () => {
  const start = performance.now();
  const rate = document.getElementById("rate");
  const watch = new MutationObserver(() => {
    if (!rate.textContent) return;
    watch.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
  });
  watch.observe(rate, { childList: true });
}, { capture: true, once: true })), true
"""


def main():
    """Run the program; return its exit status."""
    from serve import jpeg_of_one_face, save_random_network

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a saved model, or a network that ships")
    options = parser.parse_args()
    program = find_browser()
    if program is None:
        print(f"There is no browser: none of {', '.join(NAMES)} was found.")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "face.jpg"
        image.write_bytes(jpeg_of_one_face())
        model = options.model or save_random_network(folder)
        with serving(model) as address, browsing(program, folder / "profile") as open_page:
            page = open_page(address)
            page.wait("document.getElementById('scores').rows.length")
            times = [time_of_drop(page, image) for _ in range(IMAGES)]
    print(f"{'ms':<20}{'best':>8}{'p50':>8}{'p95':>8}")
    names = ("drop to picture", "request to answer")
    for name, spent in zip(names, zip(*times, strict=True), strict=True):
        numbers = [min(spent), *np.percentile(spent, [50, 95])]
        print(f"{name:<20}" + "".join(f"{number:>8.1f}" for number in numbers))
    return 0


def time_of_drop(page, image):
    """Return the milliseconds from the drop to the picture, and from request to answer."""
    page.look(CLOCK)
    page.drop(image)
    spent = page.look("dropped")
    if page.look("document.querySelectorAll('#scores .best').length") != 1:
        raise RuntimeError("The face was not found.")
    return spent, page.look("performance.getEntriesByType('resource').at(-1).duration")


def find_browser():
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def serving(model, *words):
    """Run the server on a free port; yield the address of its page."""
    program = [sys.executable, "-m", "ferpipe.serve", str(model), "--port", "0", *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        try:
            server.stdout.readline()
            yield server.stdout.readline().split()[0]
        finally:
            server.terminate()


@contextmanager
def browsing(program, profile, *flags):
    """Run a browser; yield a function that opens an address in a new tab."""
    words = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as browser:
        try:
            address = f"ws://127.0.0.1:{_told_by(browser, Path(profile))}"
            with connect(address, max_size=None, proxy=None) as socket:
                wire = _Wire(socket)
                yield lambda address: Page(wire, address)
        finally:
            # it is many processes
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)


def _told_by(browser, profile):
    """Wait until the browser says where it listens."""
    file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and browser.poll() is None:
        told = file.read_text().split() if file.is_file() else []
        if len(told) == 2:
            return "".join(told)
        time.sleep(0.02)
    raise TimeoutError(f"The browser {browser.args[0]} did not start.")


class _Wire:
    """Commands to the browser, and the events that it tells of in between."""

    def __init__(self, socket):
        self.socket = socket
        self.numbers = count(1)
        self.events = {}  # session -> [(method, parameters)]

    def call(self, method, session=None, **parameters):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if "method" in answer:
                heard = self.events.setdefault(answer.get("sessionId"), [])
                heard.append((answer["method"], answer["params"]))


class Page:
    """One tab, as a person uses it.

    Parameters
    ----------
    wire : object
        What leads to the browser.
    address : str
        Of the page.
    """

    def __init__(self, wire, address):
        self._wire = wire
        self._target = wire.call("Target.createTarget", url="about:blank")["targetId"]
        attached = wire.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "DOM", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method, **parameters):
        """Send a command of the DevTools protocol."""
        return self._wire.call(method, self._session, **parameters)

    def close(self):
        """Close the tab."""
        self._wire.call("Target.closeTarget", targetId=self._target)

    def events(self, *methods):
        """Return the parameters of events that came so far."""
        heard = self._wire.events.get(self._session, [])
        return [parameters for method, parameters in heard if method in methods]

    def look(self, expression):
        """Return the value of an expression of JavaScript, awaited if it is a promise."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {})
            raise RuntimeError(f"{expression}: {thrown.get('description')}")
        return answer["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true; return its value."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.look(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"It did not come true: {expression}")
            time.sleep(0.02)
        return value

    def choose(self, *files, node=None):
        """Put files into the page's file field, or into a node of the DOM."""
        field = {"backendNodeId": node}
        if node is None:
            root = self.call("DOM.getDocument")["root"]["nodeId"]
            selector = "input[type=file]"
            field = self.call("DOM.querySelector", nodeId=root, selector=selector)
        self.call("DOM.setFileInputFiles", files=[str(file) for file in files], **field)

    def drop(self, *files):
        """Drop files in the middle of the window."""
        x, y = self.look("[innerWidth / 2, innerHeight / 2]")
        data = {
            "items": [],
            "files": [str(file) for file in files],
            "dragOperationsMask": 1,
        }
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def click(self, x, y):
        """Click somewhere in the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def press(self, key, *, shift=False):
        """Press a key: Tab, Enter, Space or an arrow."""
        codes = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowRight": 39, "ArrowLeft": 37}
        text = {"Enter": "\r", "Space": " "}.get(key)
        pressed = {
            "key": " " if key == "Space" else key,
            "code": key,
            "windowsVirtualKeyCode": codes[key],
            "modifiers": 8 if shift else 0,
        }
        typed = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def show(self, *, width=1200, height=900, scale=1, dark=False):
        """Set the size of the window in CSS pixels, and light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path):
        """Write the whole page to a PNG file."""
        content = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        Path(path).write_bytes(base64.b64decode(content))


if __name__ == "__main__":
    sys.exit(main())
