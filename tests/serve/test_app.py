import asyncio
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import ferpipe
from ferpipe import Cached, HOGFeatures, Recognizer, datasets
from ferpipe.candide.calibrated import load_calibrated
from ferpipe.serve import __main__ as program
from ferpipe.serve.answers import ModelFacts
from ferpipe.serve.app import make_app
from ferpipe.serve.connections import config_of
from ferpipe.serve.limits import Limits

CLASSES = ["anger", "happiness"]
PAGE = Path(program.__file__).parent
# machines that run tests may be busy: only tests of a limit set it short
PATIENT = {"seconds": 60.0}


@pytest.fixture(scope="module")
def model():
    bunch = datasets.make_expression_sequences(
        8, n_frames=2, classes=CLASSES, random_state=0
    )
    classifier = make_pipeline(HOGFeatures(), LogisticRegression())
    return classifier.fit(np.stack(bunch.data)[:, -1], bunch.target)


@pytest.fixture(scope="module")
def recognizer(model):
    return Recognizer(model)


@pytest.fixture(scope="module")
def frames():
    """A synthetic face that moves, in larger pictures, as PNG files."""
    faces = datasets.make_expression_sequences(
        2, n_frames=4, size=140, classes=CLASSES, random_state=3
    )
    files = []
    for index, face in enumerate(faces.data[0]):
        picture = np.full((180, 220), 120, np.uint8)
        picture[20:160, 40 + index : 180 + index] = face
        files.append(png(picture))
    return files


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


@contextmanager
def serving(recognizer, *, limits=None, **options):
    """Run a server on a free port; yield a client of it."""
    limits = limits or Limits(**PATIENT)
    app = make_app(recognizer, limits=limits, **options)
    server = uvicorn.Server(config_of(app, limits))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(
            target=asyncio.run, args=(server.serve(sockets=[listener]),)
        )
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(recognizer):
    with serving(recognizer, name="drawn", card={"data": "synthetic faces"}) as client:
        yield client


def post(client, content, kind="image/png", **options):
    return client.post(
        "/v1/predict", content=content, headers={"Content-Type": kind}, **options
    )


def stream_of(client, query=""):
    address = str(client.base_url).rstrip("/").replace("http", "ws")
    return connect(f"{address}/v1/stream{query}", open_timeout=60, proxy=None)


def ask(stream, content, moment):
    stream.send(f'{{"time": {moment!r}}}')
    stream.send(content)
    return loads(stream.recv(timeout=60))


def loads(text):
    return httpx.Response(200, text=text).json()


def detail_of(response, status):
    assert response.status_code == status, response.text
    assert set(response.json()) == {"detail"}
    return response.json()["detail"]


def numbers_of(face):
    """Return what an answer must hold of a prediction, exactly."""
    names = ("face", "label", "box", "scores", "quality", "action_units", "pose")
    if isinstance(face, dict):
        return {name: face[name] for name in names}
    box = dict(zip(("x", "y", "width", "height"), face.box, strict=True))
    return {**{name: getattr(face, name) for name in names}, "box": box}


# Images


def test_an_image_is_answered_as_the_recognizer_sees_it(client, recognizer, frames):
    answer = post(client, frames[0]).json()
    assert (answer["width"], answer["height"]) == (220, 180)
    assert answer["gives"] == "probabilities"
    (face,) = answer["faces"]
    (expected,) = recognizer.predict_image(io.BytesIO(frames[0]))
    assert numbers_of(face) == numbers_of(expected)
    np.testing.assert_allclose(face["landmarks"], expected.landmarks, atol=0.006)


def test_the_wireframe_lies_on_the_landmarks(client, frames):
    (face,) = post(client, frames[0]).json()["faces"]
    vertices, weights = load_calibrated()[0].landmark_weights
    away = np.array(face["wireframe"])[vertices] - weights @ np.array(face["landmarks"])
    assert np.linalg.norm(away, axis=1).mean() < 0.04 * face["box"]["width"]
    triangles = np.array(client.get("/v1/model").json()["triangles"])
    assert triangles.max() < len(face["wireframe"])


def test_a_form_is_answered_as_the_image_itself(client, frames):
    answer = client.post("/v1/predict", files={"file": ("a.png", frames[1])}).json()
    other = post(client, frames[1]).json()
    assert answer["faces"] == other["faces"] != []


def test_no_face_is_an_empty_list(client):
    answer = post(client, png(np.full((90, 120), 120, np.uint8)))
    assert answer.status_code == 200
    assert answer.json()["faces"] == []


@pytest.mark.parametrize(
    ("content", "kind", "status", "sentence"),
    [
        (b"notes", "image/png", 422, "not an image, or a broken one"),
        (b"", "image/png", 422, "the file is empty"),
        (b"notes", "text/plain", 415, "got 'text/plain'"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "must be an image"),
        (b"notes", "multipart/form-data", 422, "has no valid boundary"),
        (b"notes", "multipart/form-data; boundary=b", 422, "form in the body is broken"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx',
            "multipart/form-data; boundary=b",
            422,
            "form in the body is cut short",
        ),
        (
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
            422,
            "no field 'file'",
        ),
    ],
)
def test_what_is_no_image_is_refused(client, content, kind, status, sentence):
    assert sentence in detail_of(post(client, content, kind), status)


def test_many_clients_get_the_same_answer(client, frames):
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda _: post(client, frames[0]), range(16)))
    assert [answer.status_code for answer in answers] == [200] * 16
    (first, *others) = [answer.json()["faces"] for answer in answers]
    assert len(first) == 1
    assert all(other == first for other in others)


# Streams


def test_a_stream_is_answered_as_the_recognizer_sees_it(client, recognizer, frames):
    """Two streams at once, of which each keeps its own faces."""
    alone = recognizer.stream()
    with stream_of(client) as first, stream_of(client) as second:
        for index, frame in enumerate(frames):
            picture = ferpipe.read_image(io.BytesIO(frame))
            (expected,) = alone.step(picture, index / 10)
            answer = ask(first, frame, index / 10)
            assert (answer["frame"], answer["time"]) == (index, index / 10)
            assert [numbers_of(face) for face in answer["faces"]] == [numbers_of(expected)]
            assert ask(second, frames[0], float(index))["frame"] == index


def test_frames_without_a_time_get_that_of_their_arrival(client, frames):
    with stream_of(client) as stream:
        stream.send(frames[0])
        first = loads(stream.recv(timeout=60))["time"]
        stream.send(frames[1])
        assert loads(stream.recv(timeout=60))["time"] > first >= 0


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"notes", "not an image, or a broken one"),
        ("notes", "A text message must be"),
        ('{"time": 1}', "later than that of the frame before"),
        ('{"time": "2"}', "A text message must be"),
        ('{"time": NaN}', "A text message must be"),
        ("[]", "A text message must be"),
        ("[" * 100_000, "A text message must be"),
        ('{"time": true}', "A text message must be"),
        ('{"time": ' + "9" * 900 + "}", "A text message must be"),
    ],
)
def test_a_stream_goes_on_after_a_mistake(client, frames, message, sentence):
    with stream_of(client) as stream:
        assert ask(stream, frames[0], 1.0)["frame"] == 0
        if isinstance(message, bytes):
            stream.send('{"time": 2}')
        stream.send(message)
        assert sentence in loads(stream.recv(timeout=60))["detail"]
        assert ask(stream, frames[1], 3.0)["frame"] == 1


# Limits


def test_an_image_too_large_is_refused_and_the_next_one_answered(recognizer, frames):
    limits = Limits(**PATIENT, body_bytes=len(frames[0]), pixels=220 * 180)
    with serving(recognizer, limits=limits) as client:
        for _ in range(2):
            refusal = detail_of(post(client, frames[0] + bytes(5_000_000)), 413)
            assert f"{len(frames[0]):,} bytes" in refusal
        refusal = detail_of(post(client, png(np.zeros((200, 220), np.uint8))), 422)
        assert "220 x 200 pixels" in refusal
        assert "max_pixels" not in refusal
        with stream_of(client) as stream:
            assert "bytes" in ask(stream, frames[0] + b"0", 0.0)["detail"]
            assert ask(stream, frames[0], 0.1)["frame"] == 0
        assert post(client, frames[0]).status_code == 200


class Held:
    """A recognizer's work that lasts until it is let go."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, image):
        self.begun.set()
        assert self.go.wait(60)
        return []


def test_too_many_at_a_time_are_refused_until_there_is_room(
    recognizer, frames, monkeypatch
):
    held = Held()
    limits = Limits(**PATIENT, waiting=2)
    with serving(recognizer, limits=limits) as client, ThreadPoolExecutor(2) as others:
        monkeypatch.setattr(recognizer, "predict_image", held)
        two = [others.submit(post, client, frames[0]) for _ in range(2)]
        assert held.begun.wait(60)
        deadline = time.monotonic() + 60
        answer = post(client, frames[0])
        while answer.status_code != 429 and time.monotonic() < deadline:
            answer = post(client, frames[0])
        assert "2 images are waiting already" in detail_of(answer, 429)
        assert answer.headers["Retry-After"] == "1"
        held.go.set()
        assert [one.result().status_code for one in two] == [200, 200]
        assert post(client, frames[0]).status_code == 200


def test_what_takes_too_long_is_refused_and_the_next_one_answered(
    recognizer, frames, monkeypatch
):
    held = Held()
    with serving(recognizer, limits=Limits(seconds=1.0)) as client:
        wait_for_an_answer(client, frames[0])
        monkeypatch.setattr(recognizer, "predict_image", held)
        assert "in 1 s" in detail_of(post(client, frames[0]), 503)
        assert held.begun.is_set()
        held.go.set()
        wait_for_an_answer(client, frames[0])


def wait_for_an_answer(client, content):
    """Busy machines may miss a short limit some times."""
    deadline = time.monotonic() + 60
    while (status := post(client, content).status_code) != 200:
        assert status == 503
        assert time.monotonic() < deadline


def test_a_body_that_does_not_arrive_is_not_waited_for(recognizer):
    with serving(recognizer, limits=Limits(seconds=0.2)) as client:
        host, port = client.base_url.host, client.base_url.port
        with socket.create_connection((host, port), timeout=60) as slow:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n"
            slow.sendall(f"{head}Content-Type: image/png\r\n\r\n".encode())
            assert b" 408 " in slow.recv(100)
        assert client.get("/healthz").status_code == 200


def test_streams_are_counted(recognizer, frames):
    with serving(recognizer, limits=Limits(**PATIENT, streams=1)) as client:
        with stream_of(client) as first:
            ask(first, frames[0], 0.0)
            with stream_of(client) as second, pytest.raises(ConnectionClosed) as closed:
                second.recv(timeout=60)
            assert closed.value.rcvd.code == 1013
            assert "1 streams are open already" in closed.value.rcvd.reason
            assert ask(first, frames[1], 0.1)["frame"] == 1
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:  # the server hears of the end of the first a little later
                with stream_of(client) as third:
                    assert ask(third, frames[0], 0.0)["frame"] == 0
                break
            except ConnectionClosed:
                time.sleep(0.02)
        else:
            pytest.fail("the place of a closed stream is not given to another")


def test_a_stream_without_frames_is_closed(recognizer):
    with serving(recognizer, limits=Limits(idle_seconds=0.2)) as client:
        with stream_of(client) as stream, pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=60)
        assert closed.value.rcvd.reason == "No frame came for 0.2 s."


def test_text_messages_do_not_keep_a_stream_open(recognizer):
    with (
        serving(recognizer, limits=Limits(idle_seconds=1.0)) as client,
        stream_of(client) as stream,
    ):

        def send_texts():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                stream.send('{"time": 1}')
                time.sleep(0.05)

        with pytest.raises(ConnectionClosed) as closed:
            send_texts()
    assert closed.value.rcvd.reason == "No frame came for 1 s."


def test_text_that_is_no_utf8_ends_the_stream_without_a_traceback(client, caplog):
    with stream_of(client) as stream:
        stream.socket.sendall(b"\x81\x82\0\0\0\0\xff\xfe")
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=60)
    assert closed.value.rcvd.code == 1007
    assert not any(record.exc_info for record in caplog.records)


def test_many_large_images_do_not_keep_out_a_small_one(recognizer, frames, monkeypatch):
    held = Held()
    large = png(np.full((1500, 1500), 120, np.uint8))
    limits = Limits(**PATIENT, waiting=4)
    with serving(recognizer, limits=limits) as client, ThreadPoolExecutor(9) as others:
        monkeypatch.setattr(recognizer, "predict_image", held)
        first = others.submit(post, client, frames[0])
        assert held.begun.wait(60)
        many = [others.submit(post, client, large) for _ in range(7)]
        deadline = time.monotonic() + 60
        while sum(one.done() for one in many) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        small = others.submit(post, client, frames[0])
        while sum(one.done() for one in many) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        held.go.set()
        assert [first.result().status_code, small.result().status_code] == [200, 200]
        assert sorted(one.result().status_code for one in many) == 2 * [200] + 5 * [429]


def test_what_arrives_from_all_is_limited(recognizer, frames):
    limits = Limits(**PATIENT, arriving_bytes=len(frames[0]))
    with serving(recognizer, limits=limits) as client:
        for _ in range(2):
            refusal = detail_of(post(client, frames[0] + b"0"), 429)
            assert "bytes of images arrive at the same time" in refusal
        assert post(client, frames[0]).status_code == 200


def test_a_form_of_many_fields_is_refused(client, frames):
    fields = {f"a{number}": ("a.png", frames[0]) for number in range(Limits().parts)}
    form = {**fields, "file": ("a.png", frames[0])}
    assert "100 fields" in detail_of(client.post("/v1/predict", files=form), 413)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET / HT",
        b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n1",
    ],
)
@pytest.mark.parametrize("rest", [b"", b"a"])
def test_connections_on_which_no_request_comes_are_closed(recognizer, begun, rest):
    """Also when single bytes come, of a head or of a body that nobody waits for."""
    with serving(recognizer, limits=Limits(seconds=1.0)) as client:
        host, port = client.base_url.host, client.base_url.port
        with socket.create_connection((host, port), timeout=0.05) as slow:
            slow.sendall(begun)
            deadline = time.monotonic() + 60
            closed = False
            while not closed and time.monotonic() < deadline:
                try:
                    if rest:
                        slow.sendall(rest)
                    closed = slow.recv(1000) == b""
                except TimeoutError:
                    pass
                except OSError:
                    closed = True
        assert closed
        assert client.get("/healthz").status_code == 200


def test_a_client_that_takes_no_answer_is_left(recognizer):
    with serving(recognizer, limits=Limits(seconds=1.0)) as client:
        host, port = client.base_url.host, client.base_url.port
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(60)
            deaf.connect((host, port))
            ask_for_all = f"GET /page.js HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() * 500

            def send_without_end():
                for _ in range(10_000):
                    deaf.sendall(ask_for_all)

            with pytest.raises(OSError, match=r"reset|Broken pipe"):
                send_without_end()


# Who may talk to it


def test_the_token_is_needed_for_the_model_only(recognizer, frames):
    with serving(recognizer, token="sesame") as client:
        answers = [
            post(client, frames[0]),
            client.get("/v1/model"),
            client.get("/v1/model", params={"token": "sésame"}),
            client.get("/v1/model", headers={"Authorization": "Basic sesame"}),
            client.get("/v1/model", headers={"Authorization": "Bearer sesam"}),
        ]
        for answer in answers:
            assert "token is missing or wrong" in detail_of(answer, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} sesame"}
            assert client.get("/v1/model", headers=headers).status_code == 200
        assert client.get("/v1/model", params={"token": "sesame"}).status_code == 200
        for path in ("/", "/page.js", "/page.css", "/healthz", "/openapi.json"):
            assert client.get(path).status_code == 200
        with pytest.raises(InvalidStatus) as refused, stream_of(client):
            pass
        assert refused.value.response.status_code == 401
        with stream_of(client, "?token=sesame") as stream:
            assert ask(stream, frames[0], 0.0)["frame"] == 0
        scheme = client.get("/openapi.json").json()["components"]["securitySchemes"]
        assert scheme["HTTPBearer"]["scheme"] == "bearer"


def test_names_and_pages_of_others_are_refused(recognizer, frames):
    with serving(recognizer, hosts={"localhost", "127.0.0.1", "::1"}) as client:
        port = client.base_url.port
        for host in ("localhost", f"localhost:{port}", "[::1]:80", "LOCALHOST"):
            assert client.get("/", headers={"Host": host}).status_code == 200
        for host in ("evil.example", f"evil.example:{port}", "[::1", "localhost.evil"):
            answer = client.get("/", headers={"Host": host})
            assert "This server is not" in detail_of(answer, 403)
        own = {"Origin": f"http://127.0.0.1:{port}"}
        assert client.get("/v1/model", headers=own).status_code == 200
        others = ("http://evil.example", f"http://localhost:{port}", "null", "")
        for origin in (*others, f"http://127.0.0.1:{port + 1}"):
            answer = client.get("/v1/model", headers={"Origin": origin})
            assert "may not use this server" in detail_of(answer, 403)
        address = f"ws://127.0.0.1:{port}/v1/stream"
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(address, origin="http://evil.example", open_timeout=60, proxy=None),
        ):
            pass
        assert refused.value.response.status_code == 403
        with (
            pytest.raises(InvalidStatus) as refused,
            connect(address, origin="http://[bad", open_timeout=60, proxy=None),
        ):
            pass
        assert refused.value.response.status_code == 403


def test_headers_of_all_answers(client, frames):
    for answer in (client.get("/"), client.get("/nothing"), post(client, b"notes")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


# The page and the schema


def test_the_page_needs_nothing_from_outside(client):
    page = client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    files = set(re.findall(r'(?:src|href)="([^"]*)"', page.text)) - {"data:,"}
    assert files == {"page.css", "page.js"}
    texts = [page.text, *(client.get(f"/{file}").text for file in sorted(files))]
    assert all(len(text) > 1000 for text in texts)
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", "".join(texts))


def test_every_part_that_the_page_asks_for_is_there():
    page, script = (PAGE / "page.html").read_text(), (PAGE / "page.js").read_text()
    wanted = set(re.findall(r'element\("(\w+)"\)', script))
    assert len(wanted) > 10
    assert wanted <= set(re.findall(r'id="(\w+)"', page))
    labelled = set(re.findall(r'for="(\w+)"', page))
    assert labelled == {"file", "token"}


def test_action_units_of_the_page_are_those_of_the_wireframe(client):
    script = (PAGE / "page.js").read_text()
    units = set(re.findall(r"\b(AU\d\d): ", script))
    assert len(units) > 10
    assert units <= {name[:4] for name in client.get("/v1/model").json()["action_units"]}


def test_facts_of_the_model(client):
    facts = client.get("/v1/model").json()
    assert facts["name"] == "drawn"
    assert facts["classes"] == CLASSES
    assert facts["card"] == {"data": "synthetic faces"}
    assert facts["takes"] == {"kind": "images", "shape": [48, 48]}
    assert facts["limits"]["body_bytes"] == Limits().body_bytes


def test_facts_are_json_whatever_the_card_says(recognizer):
    card = {"score": float("nan"), "by": "\ud800"}
    with serving(recognizer, name="\udcff", card=card) as client:
        answer = client.get("/v1/model")
    assert answer.status_code == 200
    facts = ModelFacts.model_validate(answer.json())
    assert facts.card == {"score": None, "by": "\ufffd\ufffd\ufffd"}


def test_the_server_keeps_to_its_schema(client, frames):
    """What schemathesis makes up is answered as the schema says, never by a 500."""
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} == {
        "/v1/predict",
        "/v1/model",
        "/healthz",
    }
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def answer_as_promised(case):
            # bytes that are made up are no image, which a schema cannot say
            case.call_and_validate(timeout=60, excluded_checks=[positive_data_acceptance])

        answer_as_promised()
    seen = post(client, frames[0])
    schema["/v1/predict"]["POST"].validate_response(seen)
    assert len(seen.json()["faces"]) == 1


def test_frames_must_not_be_left_out(model):
    with pytest.raises(ValueError, match=r"every=None, got 0\.3"):
        make_app(Recognizer(model, every=0.3))


# The program


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    return ferpipe.save(model, tmp_path_factory.mktemp("serve") / "drawn.joblib")


def test_the_program_serves_until_it_is_stopped(path):
    words = [sys.executable, "-m", "ferpipe.serve", str(path), "--port", "0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        first, address = running.stdout.readline(), running.stdout.readline().split()[0]
        assert first.strip().endswith("serves drawn: anger, happiness")
        assert httpx.get(f"{address}v1/model", timeout=60).json()["name"] == "drawn"
        with connect(
            f"{address.replace('http', 'ws')}v1/stream", open_timeout=60, proxy=None
        ) as stream:
            stream.send(bytes(Limits().body_bytes + 1))
            refusal = loads(stream.recv(timeout=60))["detail"]
            assert f"{Limits().body_bytes:,} bytes" in refusal
            running.send_signal(signal.SIGINT)
            _, error = running.communicate(timeout=60)
    assert running.returncode == 0
    assert error == "stopped\n"


@pytest.fixture
def watched(path, tmp_path):
    """A program that serves a model with Cached, and the folders that it may write to."""
    model = ferpipe.load(path)
    around = make_pipeline(Cached(HOGFeatures()), model[-1])
    around[0].transformer_ = model[0]
    ferpipe.save(around, tmp_path / "cached.joblib")
    folders = {
        name: tmp_path / name for name in ("FERPIPE_CACHE", "TMPDIR", "HOME", "here")
    }
    for folder in folders.values():
        folder.mkdir()
    places = {name: str(folder) for name, folder in folders.items()}
    words = [sys.executable, "-m", "ferpipe.serve", "../cached.joblib", "--port", "0"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folders["here"],
        env={
            **os.environ,
            **places,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    ) as running:
        running.stdout.readline()
        address = running.stdout.readline().split()[0]
        with httpx.Client(base_url=address, timeout=60) as client:
            yield running, client, folders
        running.kill()


def test_nothing_is_written_to_disk(watched, frames, monkeypatch, tmp_path):
    running, client, folders = watched
    file = io.BytesIO()
    Image.fromarray(np.full((600, 900, 3), 120, np.uint8)).save(file, "bmp")
    assert len(file.getvalue()) > 2**20  # from there on forms usually go to disk
    for content in (frames[0], file.getvalue()):
        assert post(client, content).status_code == 200
        form = {"file": ("a.bmp", content), "other": ("b", content)}
        assert client.post("/v1/predict", files=form).status_code == 200
    with stream_of(client) as stream:
        assert len(ask(stream, frames[0], 0.0)["faces"]) == 1
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    written = [file for folder in folders.values() for file in folder.rglob("*")]
    assert written == []
    # the same model alone does keep what it is shown
    monkeypatch.setenv("FERPIPE_CACHE", str(folders["FERPIPE_CACHE"]))
    crop = np.zeros((1, 48, 48), np.uint8)
    ferpipe.load(tmp_path / "cached.joblib").predict(crop)
    assert any(folders["FERPIPE_CACHE"].rglob("*"))


def test_what_outlasts_the_end_is_told_so(watched, frames):
    running, client, _ = watched
    host, port = client.base_url.host, client.base_url.port
    head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n"
    with (
        socket.create_connection((host, port), timeout=60) as slow,
        stream_of(client) as stream,
    ):
        slow.sendall(f"{head}Content-Type: image/png\r\n\r\n1234".encode())
        ask(stream, frames[0], 0.0)
        running.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=60)
        assert closed.value.rcvd.code == 1012
        answer = b""
        while more := slow.recv(1000):
            answer += more
        assert b" 503 " in answer
        assert answer.endswith(b'{"detail":"The server stops."}')
    _, error = running.communicate(timeout=60)
    assert "Traceback" not in error


def test_a_port_that_is_taken(path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert program.main([str(path), "--port", str(port)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert len(error.splitlines()) == 1
    assert f"cannot listen at 127.0.0.1, port {port}: Address already in use" in error


@pytest.fixture
def apps(monkeypatch):
    """Applications that would have been served."""
    kept = []
    monkeypatch.setattr(
        uvicorn.Server, "run", lambda server, sockets: kept.append(server.config.app)
    )
    return kept


def test_other_addresses_get_a_token(path, apps, capsys):
    assert program.main([str(path), "--port", "0", "--host", "0.0.0.0"]) == 0
    token = re.search(r"\?token=(\S{20,}) ", capsys.readouterr().out)[1]

    async def statuses():
        address = "http://elsewhere"
        transport = httpx.ASGITransport(apps[0])
        async with httpx.AsyncClient(transport=transport, base_url=address) as client:
            words = ("", f"?token={token}", f"?token={token[:-1]}")
            return [(await client.get(f"/v1/model{word}")).status_code for word in words]

    assert asyncio.run(statuses()) == [401, 200, 401]


def test_the_limit_of_pixels_is_told(path, apps, capsys):
    async def pixels_of(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            facts = await client.get("/v1/model", headers={"Host": "localhost"})
            return facts.json()["limits"]["pixels"]

    assert program.main([str(path), "--port", "0", "--max-pixels", "1234"]) == 0
    assert asyncio.run(pixels_of(apps[0])) == 1234
    for number in ("0", "-1", "x", "1" + "0" * 9):
        with pytest.raises(SystemExit):
            program.main([str(path), "--max-pixels", number])
        assert "expected a number from 1 to 50000000" in capsys.readouterr().err


def test_local_addresses_get_none(path, apps, capsys):
    for host in ("127.0.0.1", "localhost"):
        assert program.main([str(path), "--port", "0", "--host", host]) == 0
        assert "token" not in capsys.readouterr().out
    assert program.main([str(path), "--port", "0", "--token", "mine"]) == 0
    assert "?token=mine " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("no.joblib", "no such model file"), ("nobody", "There is no network 'nobody'")],
)
def test_models_that_are_not_there(model, sentence, capsys):
    assert program.main([model, "--port", "0"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_what_to_install_is_said(path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert program.main([str(path)]) == 2
    assert "pip install 'ferpipe[serve]'" in capsys.readouterr().err
