"""`spanlake search` and `spanlake explain` against a server of canned answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from spanlake.app.cli.main import main

TRACE = {
    "traceID": "a1",
    "rootServiceName": "shop",
    "rootTraceName": "GET /\x1b[31m",
    "startTimeUnixNano": "1700000000000000000",
    "durationMs": 1200,
    "spanSets": [{"matched": 2}, {"matched": 3}],
}
FOUND = {"traces": [TRACE], "metrics": {"inspectedSpans": "12345", "inspectedBytes": "678", "totalBlocks": 3}}


class Canned(BaseHTTPRequestHandler):
    """Answers by path; keeps the parameters it was sent."""

    asked: dict[str, list[str]] = {}  # noqa: RUF012 (one server per test module)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        Canned.asked = parse_qs(parts.query)
        explain = parts.path == "/api/explain"
        refused = Canned.asked["q"] == ["{"]
        body = (
            b"invalid TraceQL query: 1:2: expected a condition\n  {\n   ^"
            if refused
            else b"plan\n"
            if explain
            else json.dumps(FOUND).encode()
        )
        self.send_response(400 if refused else 200)
        self.send_header("content-type", "text/plain" if explain or refused else "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Canned)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_search_shows_a_table(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "{ }", "--since", "1h", "--limit", "7", "--url", url]) == 0
    heading, row, summary = capsys.readouterr().out.splitlines()
    assert heading.split() == ["trace", "start", "duration", "spans", "service", "name"]
    assert row.startswith(f"{'a1':0>32}  20")
    assert row.split()[3:] == ["1,200", "ms", "5", "shop", "GET", "/\\x1b[31m"]
    assert summary == "1 trace; looked at 12,345 spans, 678 bytes of 3 blocks"
    assert Canned.asked == {"q": ["{ }"], "limit": ["7"], "spss": ["3"], "since": ["1h"]}


def test_search_prints_the_answer_of_the_server_with_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "{ }", "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == FOUND


def test_search_shows_where_a_query_is_wrong(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "{", "--url", url]) == 1
    assert capsys.readouterr().err.endswith("1:2: expected a condition\n  {\n   ^\n")


def test_explain_prints_the_explanation(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "{ }", "--url", url]) == 0
    assert capsys.readouterr().out == "plan\n"
