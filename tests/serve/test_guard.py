"""The guard alone, driven with raw scopes as a hostile client or a proxy can make them."""

import asyncio

import pytest

from ferpipe.serve.guard import Guard


def statuses(path, *, token="sesame", hosts=None, kind="http", query=b"", **options):
    """Return the status of the guard's own answer, or what the application answers."""
    answers = []

    async def app(scope, receive, send):
        answers.append("through")

    async def send(message):
        if message["type"].endswith("response.start"):
            answers.append(message["status"])

    headers = {"host": "127.0.0.1", **options.pop("headers", {})}
    scope = {
        "type": kind,
        "method": "GET",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        "extensions": {"websocket.http.response": {}},
        **options,
    }
    asyncio.run(Guard(app, token=token, hosts=hosts)(scope, None, send))
    (answer,) = answers
    return answer


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("host", ["127.0.0.1?", "127.0.0.1#", "a/healthz?", "[", ""])
def test_the_host_header_does_not_choose_the_path(host, kind):
    assert statuses("/v1/model", kind=kind, headers={"host": host}) == 401


@pytest.mark.parametrize(
    "path",
    [
        "/v1/model",
        "/v1/model/",
        "//v1/model",
        "/V1/model",
        "/healthz/../v1/model",
        "/healthz/v1/model",
        "/page.js/",
        "/%76%31/model",
        "http://127.0.0.1/v1/model",
        "",
        "v1/model",
        "/unknown",
    ],
)
def test_what_is_not_known_to_be_open_needs_the_token(path):
    assert statuses(path) == 401
    assert statuses(path, query=b"token=sesame") == "through"


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/model", "/v1/stream"])
def test_a_mounted_application_needs_it_too(path):
    mounted = {"root_path": "/faces"}
    assert statuses(f"/faces{path}", **mounted) == 401
    assert statuses("/faces/healthz", **mounted) == "through"
    assert statuses("/faceshealthz", **mounted) == 401
    assert statuses("/healthz", kind="websocket") == 401


@pytest.mark.parametrize("origin", ["http://[bad", "http://[::1", "null", "", "http://a]"])
def test_an_origin_that_is_no_address_is_refused(origin):
    assert statuses("/v1/model", token=None, headers={"origin": origin}) == 403


def test_a_token_of_any_characters_is_compared():
    assert statuses("/v1/model", token="\udcff") == 401
    assert statuses("/v1/model", query=b"token=%ff%00&token=x&" + b"a&" * 9999) == 401
