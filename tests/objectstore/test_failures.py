"""How answers of real HTTP clients become errors: a server on loopback answers what each case needs."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from spanlake.model.errors import KeyExists, KeyMissing, StoreError
from spanlake.model.settings import StoreSettings
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore

ONCE = StoreSettings(attempts_max=1, timeout_seconds=5)


@dataclass
class Answers:
    """What the server says (a status and a body per path ending, else `default`) and what it was asked."""

    url: str
    default: tuple[int, str] = (200, "")
    by_ending: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            path = self.path.partition("?")[0]
            state.requests.append((self.command, path))
            status, body = next((answer for ending, answer in state.by_ending.items() if path.endswith(ending)), state.default)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of the library

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    serving.start()
    state = Answers(url=f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", state.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    yield state
    server.shutdown()
    serving.join()
    server.server_close()


def error_of(store: ObjectStore, operation: str) -> StoreError:
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: store.get("a/b"),
        "get_ranges": lambda: store.get_ranges("a/b", [(0, 1)]),
        "head": lambda: store.head("a/b"),
        "put": lambda: store.put("a/b", b"x"),
        "put_if_absent": lambda: store.put_if_absent("a/b", b"x"),
        "delete": lambda: store.delete(["a/b"]),
        "list": lambda: list(store.list("a/b")),
    }
    with pytest.raises(StoreError) as caught:
        calls[operation]()
    assert "'a/b'" in str(caught.value)
    assert len(str(caught.value)) < 700
    return caught.value


@pytest.mark.parametrize(
    ("status", "body", "transient"),
    [
        (400, "<Code>InvalidArgument</Code>", False),
        (400, "<Code>RequestTimeout</Code>", True),
        (401, "", False),
        (403, "<Code>AccessDenied</Code>", False),
        (405, "", False),
        (408, "", True),
        (416, "", False),
        (429, "", True),
        (500, "", True),
        (501, "", False),
        (503, "<Code>SlowDown</Code>", True),
        (301, "", False),
    ],
)
def test_status_decides_whether_an_error_is_transient(answers: Answers, status: int, body: str, *, transient: bool) -> None:
    answers.default = (status, body)
    store = open_store("s3://bucket", ONCE)
    operations = ("get", "get_ranges", "put", "put_if_absent", "delete", "list")
    for operation in operations:
        error = error_of(store, operation)
        assert type(error) is StoreError
        assert error.transient is transient
        assert operation in str(error)
    assert len(answers.requests) == len(operations)


def test_request_is_repeated_as_often_as_set_when_throttled(answers: Answers) -> None:
    answers.default = (503, "")
    settings = StoreSettings(attempts_max=3, backoff_first_seconds=0.001, backoff_max_seconds=0.001)
    for operation in ("get", "put", "put_if_absent", "delete"):
        answers.requests.clear()
        assert "attempt 3 of 3" in str(error_of(open_store("s3://bucket", settings), operation))
        assert len(answers.requests) == 3


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (412, "<Code>PreconditionFailed</Code>", KeyExists),
        (409, "<Code>BlobAlreadyExists</Code>", KeyExists),
        (409, "<Code>ConditionalRequestConflict</Code>", StoreError),
    ],
)
def test_put_if_absent_tells_a_lost_race_from_one_under_way(answers: Answers, status: int, body: str, expected: type[StoreError]) -> None:
    answers.default = (status, body)
    error = error_of(open_store("s3://bucket", ONCE), "put_if_absent")
    assert type(error) is expected
    assert error.transient is (expected is StoreError)


def test_missing_bucket_is_not_a_missing_key(answers: Answers) -> None:
    store = open_store("s3://bucket/prefix", ONCE)
    answers.default = (404, "<Code>NoSuchBucket</Code>")
    for operation in ("get", "get_ranges", "put", "put_if_absent", "delete", "list"):
        error = error_of(store, operation)
        assert type(error) is StoreError
        assert "no bucket or container at s3://bucket/prefix; create it" in str(error)
    answers.default = (404, "<Code>NoSuchKey</Code>")
    assert type(error_of(store, "get")) is KeyMissing
    assert type(error_of(store, "head")) is KeyMissing


def test_connection_failures_are_transient(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        hasty = open_store("s3://bucket", StoreSettings(attempts_max=1, timeout_seconds=0.05))
        for operation in ("get", "put"):
            timed_out = error_of(hasty, operation)
            assert timed_out.transient
            assert "(Timeout)" in str(timed_out)
    refused = error_of(hasty, "get")
    assert refused.transient
    assert "(Connect)" in str(refused)


def test_plain_http_is_refused_with_a_remedy_unless_allowed(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    error = error_of(open_store("s3://bucket", ONCE), "get")
    assert not error.transient
    assert "AWS_ALLOW_HTTP=true" in str(error)
    assert answers.requests == []


def test_delete_goes_on_when_google_says_that_a_key_is_missing(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    # An account without OAuth: otherwise the client would look for credentials in its surroundings.
    account = {"gcs_base_url": answers.url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    answers.default = (204, "")
    answers.by_ending = {"missing": (404, "<Code>NoSuchKey</Code>")}
    open_store("gs://bucket", ONCE).delete(["missing", "b", "c"])
    assert {path.rpartition("/")[2] for _, path in answers.requests} == {"missing", "b", "c"}


def test_signature_in_a_url_does_not_reach_the_text(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024-01-01&sig=topsecret")
    monkeypatch.setenv("AZURE_ENDPOINT", answers.url)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    answers.default = (500, "")
    error = error_of(open_store("az://container", ONCE), "get")
    assert error.transient
    assert answers.requests
    assert "topsecret" not in str(error)
