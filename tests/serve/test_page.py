"""The page of ``python -m ferpipe.serve`` in a browser, as a person uses it."""

import base64
import re
import runpy
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest

from ferpipe import datasets

BROWSER = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "serve_page.py"))
PROGRAM = BROWSER["find_browser"]()
TOKEN = "sesame"
TEXT = "document.getElementById({!r}).textContent".format
HIDDEN = "document.getElementById({!r}).hidden".format
ANSWERED = f"{TEXT('rate')} !== ''"
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Synthetic faces, as images and as what the camera sees."""
    folder = tmp_path_factory.mktemp("files")
    drawn = datasets.make_expression_sequences(
        14, n_frames=6, size=220, classes=["happiness", "surprise"], random_state=5
    )
    smiling, surprised = (
        drawn.data[list(drawn.target).index(name)] for name in drawn.target_names
    )
    pictures = {"none": np.full((480, 640), 120, np.uint8)}
    for name, places in {"one": [(210, 130)], "two": [(40, 60), (380, 200)]}.items():
        pictures[name] = pictures["none"].copy()
        for (x, y), person in zip(places, (smiling, surprised), strict=False):
            pictures[name][y : y + 220, x : x + 220] = person[-1]
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    (folder / "notes.png").write_text("notes")
    with (folder / "camera.y4m").open("wb") as clip:
        clip.write(b"YUV4MPEG2 W320 H240 F10:1 Ip A1:1 C420jpeg\n")
        for face in [*smiling, *smiling[::-1]]:
            frame = np.pad(face, ((10, 10), (50, 50)), constant_values=120)
            clip.write(b"FRAME\n" + frame.tobytes() + bytes([128]) * (2 * 160 * 120))
    return folder


@pytest.fixture(scope="module")
def address():
    """Where the server is, and its page with the token."""
    with BROWSER["serving"]("fer2013", "--token", TOKEN) as address:
        yield address


@pytest.fixture(scope="module")
def browser(files, tmp_path_factory):
    camera = (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={files / 'camera.y4m'}",
    )
    profile = tmp_path_factory.mktemp("profile")
    with BROWSER["browsing"](PROGRAM, profile, *camera) as open_page:
        yield open_page


@pytest.fixture
def tab(browser, address):
    """A function that opens the page, and looks for trouble when it is closed."""

    @contextmanager
    def open_tab(address=address, *, expected=None):
        page = browser(address)
        page.show()
        try:
            page.wait(f"!{HIDDEN('gate')} || document.getElementById('scores').rows.length")
            yield page
            assert troubles(page, address, expected) == []
        finally:
            page.close()

    return open_tab


def troubles(page, address, expected=None):
    """Return errors of the page, and what it asked other hosts for."""
    told = [
        *(str(event) for event in page.events("Runtime.exceptionThrown")),
        *(
            str(event["args"])
            for event in page.events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ),
        *(
            event["entry"]["text"]
            for event in page.events("Log.entryAdded")
            if event["entry"]["level"] in ("error", "warning")
        ),
    ]
    asked = [event["request"]["url"] for event in page.events("Network.requestWillBeSent")]
    asked += [event["url"] for event in page.events("Network.webSocketCreated")]
    assert asked
    home = urlsplit(address).netloc
    return [
        *(one for one in told if not (expected and re.search(expected, one))),
        *(url for url in asked if urlsplit(url).netloc != home and url[:5] != "data:"),
    ]


def answer_of(address, image):
    """Return what the server says of an image."""
    headers = {"Content-Type": "image/png", "Authorization": f"Bearer {TOKEN}"}
    url = f"http://{urlsplit(address).netloc}/v1/predict"
    content = image.read_bytes()
    return httpx.post(url, content=content, headers=headers, timeout=60).json()


def picture_of(page):
    """Return the picture that the page shows, gray."""
    url = page.look("document.getElementById('picture').toDataURL()")
    content = base64.b64decode(url.partition(",")[2])
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


def whiteness(picture, box, scale):
    """Return the share of a box's sides on which there is a white line."""
    x, y, width, height = (scale * box[name] for name in ("x", "y", "width", "height"))
    along = np.linspace(0.1, 0.9, 50)
    sides = [
        *((x + share * width, y + end) for share in along for end in (0, height)),
        *((x + end, y + share * height) for share in along for end in (0, width)),
    ]
    near = [
        picture[round(down) - 2 : round(down) + 3, round(right) - 2 : round(right) + 3]
        for right, down in sides
    ]
    return np.mean([patch.max() > 235 for patch in near])


def rows_of(page, table):
    """Return head, width of the bar in percent and number of each row."""
    return page.look(
        f"Array.from(document.getElementById('{table}').rows, (row) => [row.cells[0]"
        ".textContent, parseFloat(row.cells[1].firstChild.firstChild.style.width), "
        "row.cells[2].textContent])"
    )


def percents(face):
    return {name: f"{100 * score:.0f} %" for name, score in face["scores"].items()}


def shown_of(page):
    return {name: number for name, _, number in rows_of(page, "scores")}


def best_of(page):
    (best,) = page.look(
        "Array.from(document.querySelectorAll('#scores .best th'), (one) => "
        "one.textContent)"
    )
    return best


def event_of(page, method):
    """Wait for an event, and return what it tells."""
    deadline = time.monotonic() + 60
    while not (heard := page.events(method)):
        assert time.monotonic() < deadline
        page.look("new Promise((done) => setTimeout(done, 20))")
    return heard[-1]


def focus(page):
    return page.look("document.activeElement.id || document.activeElement.tagName")


# Images


@pytest.mark.parametrize("way", ["choose", "drop"])
def test_an_image_is_answered_by_box_label_and_bars(tab, address, files, way):
    answer = answer_of(address, files / "one.png")
    (face,) = answer["faces"]
    with tab() as page:
        assert TOKEN not in page.look("location.href")
        page.show(scale=2)
        assert page.look(HIDDEN("answer"))
        getattr(page, way)(files / "one.png")
        page.wait(ANSWERED)
        best = face["label"]
        assert page.look(TEXT("status")) == f"One face: {best}, {percents(face)[best]}."
        assert re.fullmatch(r"answered in \d+ ms", page.look(TEXT("rate")))
        assert best_of(page) == best
        assert shown_of(page) == percents(face)
        for name, width, _ in rows_of(page, "scores"):
            assert width == pytest.approx(100 * face["scores"][name], abs=0.01)
        smile = next(row for row in rows_of(page, "units") if row[0].startswith("12"))
        sides = [face["action_units"][f"AU12_{side}"] for side in ("left", "right")]
        assert float(smile[2]) == pytest.approx(np.mean(sides), abs=0.006)
        assert smile[1] > 5
        assert page.look(TEXT("pose")).startswith("Head ")
        page.look("document.getElementById('mesh').click()")  # it is bright too
        picture = picture_of(page)
        scale = picture.shape[1] / answer["width"]
        assert whiteness(picture, face["box"], scale) == 1
        moved = {**face["box"], "x": face["box"]["x"] + 12, "y": face["box"]["y"] + 12}
        assert whiteness(picture, moved, scale) < 0.3


def test_of_several_faces_each_has_its_box_and_its_numbers(tab, address, files):
    answer = answer_of(address, files / "two.png")
    first, second = answer["faces"]
    with tab() as page:
        page.show(scale=2)
        page.choose(files / "two.png")
        page.wait(ANSWERED)
        assert page.look(TEXT("status")) == f"2 faces: {first['label']}, {second['label']}."
        page.look("document.getElementById('mesh').click()")
        picture = picture_of(page)
        scale = picture.shape[1] / answer["width"]
        for face in (first, second):
            assert whiteness(picture, face["box"], scale) == 1
        choices = page.look(
            "Array.from(document.querySelectorAll('#choices label'), (one) => "
            "one.textContent)"
        )
        assert choices == [f"1: {first['label']}", f"2: {second['label']}"]
        assert shown_of(page) == percents(first) != percents(second)
        box = second["box"]
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        x, y = page.look(
            "(({left, top, width}) => "
            f"{middle}.map((one, k) => [left, top][k] + one * width / {answer['width']}))"
            "(document.getElementById('picture').getBoundingClientRect())"
        )
        page.click(x, y)
        assert shown_of(page) == percents(second)
        assert (
            page.look("document.querySelector('#choices :checked').parentNode.textContent")
            == choices[1]
        )


def test_no_face_and_no_image_are_told_in_a_sentence(tab, files):
    with tab(expected=r"status of 422") as page:
        page.choose(files / "none.png")
        page.wait(ANSWERED)
        assert page.look(TEXT("status")) == "No face was found."
        assert page.look(HIDDEN("answer"))
        assert picture_of(page).mean() == pytest.approx(120, abs=1)
        page.drop(files / "notes.png")
        page.wait(f"!{HIDDEN('error')}")
        assert re.match(r"notes\.png: .*not an image.*\.$", page.look(TEXT("error")))
        assert page.look(HIDDEN("picture"))
        assert not page.look(HIDDEN("invitation"))
        assert page.look(TEXT("status")) == ""
        page.choose(files / "one.png")  # and all is well again
        page.wait(ANSWERED)
        assert page.look(HIDDEN("error"))
        assert not page.look(HIDDEN("answer"))


def test_an_image_is_pasted(tab, files):
    content = base64.b64encode((files / "one.png").read_bytes()).decode()
    with tab() as page:
        page.look(
            f"(bytes => {{ const files = new DataTransfer(); files.items.add(new File("
            "[bytes], 'image.png', { type: 'image/png' })); document.dispatchEvent("
            "new ClipboardEvent('paste', { clipboardData: files })); })"
            f"(Uint8Array.from(atob('{content}'), (one) => one.charCodeAt(0)))"
        )
        page.wait(ANSWERED)
        assert page.look(TEXT("status")).startswith("One face: ")


# The camera


def test_the_camera_shows_frames_a_second_bars_and_curves(tab):
    with tab() as page:
        page.look("document.getElementById('camera').click()")
        assert page.look(TEXT("camera")) == "Stop camera"
        page.wait(f"/frames\\/s, \\d+ ms a frame$/.test({TEXT('rate')})")
        rate = float(page.look(TEXT("rate")).split()[0])
        assert 0 < rate < 60
        assert re.match(r"One face: \w+, \d+ %\.", page.look(TEXT("status")))
        widths = [width for _, width, _ in rows_of(page, "scores")]
        assert sum(widths) == pytest.approx(100, abs=0.1)
        assert best_of(page) in page.look(TEXT("status"))
        assert page.look(TEXT("span")) == "over the last 20 s"
        painted = (
            "(curve => curve.getContext('2d').getImageData(0, 0, curve.width, "
            "curve.height / 2).data.some((one) => one))"
            "(document.querySelector('#units tr[data-key=AU12] canvas'))"
        )
        page.wait(painted)
        page.look("document.getElementById('camera').click()")
        assert page.look(TEXT("camera")) == "Use camera"
        assert page.look(TEXT("rate")) == ""
        n_frames = len(page.events("Network.webSocketFrameSent"))
        page.look("new Promise((done) => setTimeout(done, 300))")
        assert len(page.events("Network.webSocketFrameSent")) == n_frames
        event_of(page, "Network.webSocketClosed")


# Without a mouse


def test_everything_is_reached_by_keys(tab, files):
    with tab() as page:
        page.call("Page.setInterceptFileChooserDialog", enabled=True)
        page.press("Tab")
        assert focus(page) == "file"
        assert ring(page, "document.querySelector('label[for=file]')")
        page.press("Enter")
        opened = event_of(page, "Page.fileChooserOpened")
        page.choose(files / "two.png", node=opened["backendNodeId"])
        page.wait(ANSWERED)
        assert focus(page) == "file"
        page.press("Tab")
        assert focus(page) == "camera"
        assert ring(page, "document.activeElement")
        page.press("Tab")
        assert focus(page) == "mesh"
        assert ring(page, "document.activeElement")
        before = picture_of(page)
        page.press("Space")
        assert np.abs(picture_of(page) - before.astype(float)).max() > 50
        page.press("Tab")
        assert ring(page, "document.activeElement.parentNode")
        of_first = shown_of(page)
        page.press("ArrowRight")
        assert shown_of(page) != of_first
        page.press("Tab")
        assert focus(page) == "SUMMARY"
        page.press("Enter")
        assert page.look("document.querySelector('#about').open")
        for _ in range(3):
            page.press("Tab", shift=True)
        assert focus(page) == "camera"
        page.press("Enter")
        page.wait(f"{TEXT('rate')}.includes('frames/s')")
        page.press("Space")
        assert page.look(TEXT("camera")) == "Use camera"


def ring(page, element):
    """Say whether an element shows that it has the focus."""
    style = page.look(
        f"(style => [style.outlineStyle, style.outlineWidth])(getComputedStyle({element}))"
    )
    return style == ["solid", "2px"]


# What else it looks like


@pytest.mark.parametrize("width", [320, 360, 1200])
def test_nothing_is_cut_off_or_faint(tab, files, width):
    with tab() as page:
        page.choose(files / "two.png")
        page.wait(ANSWERED)
        page.look("document.querySelector('#about').open = true")
        page.look("document.getElementById('error').hidden = false")
        page.look("document.getElementById('error').textContent = 'W'.repeat(200)")
        for dark in (False, True):
            page.show(width=width, dark=dark)
            assert page.look("document.documentElement.scrollWidth") <= width
            faint = [one for one in page.look(CONTRASTS) if one[1] < 4.5]
            assert faint == []
        assert len(page.look(CONTRASTS)) > 50
        # the measure itself: light gray on white
        page.look("document.getElementById('status').style.color = '#777'")
        assert min(page.look(CONTRASTS), key=lambda one: one[1])[1] < 4.5


# of each text that is seen: the text, and its contrast to what is behind, as WCAG has it
CONTRASTS = """
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => channels(color).slice(0, 3).map((one) => one / 255)
    .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, k) => sum + [0.2126, 0.7152, 0.0722][k] * one, 0);
  const behind = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return channels(color)[3] === 0 ? behind(element.parentElement) : color;
  };
  return Array.from(document.querySelectorAll("body *"))
    .filter((one) => one.checkVisibility())
    .filter((one) => Array.from(one.childNodes).some(
      (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim()))
    .map((one) => {
      const both = [light(getComputedStyle(one).color), light(behind(one))];
      const [dim, bright] = both.sort((a, b) => a - b);
      return [one.textContent.trim(), (bright + 0.05) / (dim + 0.05)];
    });
})()
"""


# What goes wrong


def test_the_token_is_asked_for(tab, address):
    plain = address.partition("?")[0]
    with tab(plain, expected=r"status of 401") as page:
        assert not page.look(HIDDEN("gate"))
        assert focusable(page) == ["token", "BUTTON"]
        page.look("document.getElementById('token').focus()")
        page.call("Input.insertText", text="wrong")
        page.press("Enter")
        page.wait(f'{TEXT("error")} === "This is not the server\'s token."')
        page.look("document.getElementById('token').value = ''")
        page.call("Input.insertText", text=TOKEN)
        page.press("Enter")
        page.wait("document.getElementById('scores').rows.length")
        assert page.look(HIDDEN("gate"))
        assert page.look(HIDDEN("error"))
        assert focusable(page)[:3] == ["file", "camera", "mesh"]


def focusable(page):
    return page.look(
        "Array.from(document.querySelectorAll('input, button, summary'))"
        ".filter((one) => one.checkVisibility()).map((one) => one.id || one.tagName)"
    )


def test_a_server_that_is_gone_is_told_of(tab, files):
    with tab(expected=r"ERR_INTERNET_DISCONNECTED") as page:
        page.call(
            "Network.emulateNetworkConditions",
            offline=True,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )
        page.choose(files / "one.png")
        page.wait(f"!{HIDDEN('error')}")
        assert page.look(TEXT("error")) == (
            "The server does not answer. Is it still running?"
        )


def test_troubles_are_heard(browser, address):
    page = browser(address)
    page.look("console.error('first'), setTimeout(() => { throw Error('second') })")
    page.look("fetch('http://192.0.2.1/third').catch(() => 0)")
    event_of(page, "Runtime.exceptionThrown")
    found = " ".join(troubles(page, address))
    page.close()
    for word in ("first", "second", "third"):
        assert word in found
