"""An S3 server on loopback for tests: moto in a thread of this process, one per session, and a fresh bucket per test.

    from moto_server import s3_server, s3_url        # in the conftest.py of a folder; both are fixtures

`s3_server` also sets the environment variables that obstore and deltalake read, for the whole session: changing them while threads of
those libraries run would be a race in the C library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from itertools import count
from typing import Any

import pytest

_BUCKETS = count()

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of the server; credentials and region are in the environment."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_request(self, *_args: object) -> None:
            pass

    app = one_write_at_a_time(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    serving = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    serving.start()
    url = f"http://127.0.0.1:{server.server_port}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", url)
        environment.setenv("AWS_ALLOW_HTTP", "true")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_REGION", "us-east-1")
        yield url
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def s3_url(s3_server: str) -> str:
    """`s3://bucket/prefix` in a bucket of its own."""
    bucket = f"bucket-{next(_BUCKETS)}"
    connection = HTTPConnection(s3_server.removeprefix("http://"))
    connection.request("PUT", f"/{bucket}")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()
    return f"s3://{bucket}/some/prefix"


def one_write_at_a_time(app: WsgiApp) -> WsgiApp:
    """moto checks If-None-Match and stores in two steps; S3 does it in one."""
    lock = threading.Lock()

    def locked(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"}:
            return app(environ, start_response)
        with lock:
            return list(app(environ, start_response))

    return locked
