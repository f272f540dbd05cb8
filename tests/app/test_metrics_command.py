"""`spanlake metrics` against a server of canned answers, and the lines that it shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rich.cells import cell_len

from spanlake.app.cli.main import main
from spanlake.app.query_view.metrics import MetricsViewOptions, instant_lines, range_lines

START_MS = 1_700_000_000_000


def series(labels: dict[str, Any], *values: float | str | None) -> dict[str, Any]:
    """A series of one point per minute; None is no point, and 0 is left out as in Tempo."""
    samples = [
        {"timestampMs": str(START_MS + 60_000 * place), **({"value": value} if value else {})}
        for place, value in enumerate(values)
        if value is not None
    ]
    return {"labels": [{"key": key, "value": value} for key, value in labels.items()], "samples": samples}


SHOP = series({"resource.service.name": {"stringValue": "shop\x1b[31m"}}, 0, 1, 2, 3, 4, 5, 6, 7)
TWO = series({"a": {"stringValue": 'x "y"'}, "n": {"intValue": "5"}, "ok": {"boolValue": True}}, 7, None, None, None, None, None, None, 3.5)
METRICS = {"inspectedSpans": "12345", "inspectedBytes": "678", "totalBlocks": 3}
RANGE = {"series": [SHOP, TWO], "metrics": METRICS}
INSTANT = {"series": [{"labels": SHOP["labels"], "value": 1234567.5}, {"labels": [], "value": "Infinity"}], "metrics": {}}


def lines_of(document: dict[str, Any], width: int = 80, limit: int = 0) -> list[str]:
    return [line.plain for line in range_lines(json.dumps(document).encode(), MetricsViewOptions(width, limit, UTC))]


def test_chart_has_one_line_per_series_on_one_scale() -> None:
    assert lines_of(RANGE, 86) == [
        "series                                                         min  mean  max  last",
        "shop\\x1b[31m                 ▁▁▁▁▂▂▂▂▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇████    0   3.5    7     7",
        '{a="x \\"y\\"", n=5, ok=true}  ████                        ▅▅▅▅  3.5  5.25    7   3.5',
        "                             2023-11-14 22:13:20",
        "2 series; looked at 12,345 spans, 678 bytes of 3 blocks",
    ]


@pytest.mark.parametrize("width", [1, 20, 60, 79, 200])
def test_lines_are_as_long_as_one_another_and_as_the_terminal_at_most(width: int) -> None:
    _, first, second, *_ = lines_of(RANGE, width)
    assert len(first) == len(second)
    assert width < 60 or len(first) <= width


@pytest.mark.parametrize("name", ["resource.service.name", "名前名前名前名前名前名前名前名前"])
def test_long_name_is_cut_in_the_middle(name: str) -> None:
    (line,) = [line for line in lines_of({"series": [series({"k": {"stringValue": name}}, 1.0)]}, 50) if "█" in line]
    shown = line.split("  ")[0].replace(" ", "")
    assert (shown[:2], shown[-2:], "…" in shown) == (name[:2], name[-2:], True)
    assert cell_len(line) <= 50


def test_cell_is_the_highest_of_its_points_when_there_are_more_points_than_cells() -> None:
    values = [1.0 + (place == 500) * 6 for place in range(1000)]
    line = lines_of({"series": [series({}, *values)]}, 80)[1]
    assert line.count("█") == 1
    assert line.count("▂") > 20


def test_series_may_be_flat_negative_or_infinite() -> None:
    flat = lines_of({"series": [series({}, 0, 0)]})[1]
    assert "▁▁" in flat
    below = lines_of({"series": [series({"k": {"stringValue": "v"}}, -1, "-Infinity", "Infinity", 1)]})[1]
    assert below.split()[0] == "v"
    assert below.split()[2:] == ["-inf", "nan", "inf", "1"]


def test_series_beyond_the_limit_are_counted_and_the_reason_for_a_partial_answer_is_shown() -> None:
    partial = {**RANGE, "status": "PARTIAL", "message": "too many\x07"}
    assert lines_of(partial, limit=1)[-2:] == [
        "2 series, 1 not shown; looked at 12,345 spans, 678 bytes of 3 blocks",
        "partial: too many\\x07",
    ]
    assert lines_of({"metrics": {}}) == ["0 series; looked at 0 spans, 0 bytes of 0 blocks"]


def test_instant_values_are_a_table() -> None:
    lines = [line.plain for line in instant_lines(json.dumps(INSTANT).encode(), MetricsViewOptions(80, 0, UTC))]
    assert lines == [
        "series            value",
        "shop\\x1b[31m  1,234,568",
        "{}                  inf",
        "2 series; looked at 0 spans, 0 bytes of 0 blocks",
    ]


class Canned(BaseHTTPRequestHandler):
    """Answers by path; keeps what it was sent."""

    asked: tuple[str, dict[str, list[str]]] = ("", {})

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        Canned.asked = (parts.path, parse_qs(parts.query, keep_blank_values=True))
        refused = Canned.asked[1]["q"] == ["{"]
        body = (
            b"1:2: expected a condition\n  {\n   ^" if refused else json.dumps(INSTANT if parts.path.endswith("query") else RANGE).encode()
        )
        self.send_response(400 if refused else 200)
        self.send_header("content-type", "text/plain" if refused else "application/json")
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


RATE = "{ } | rate()"


def test_metrics_asks_for_the_range_and_draws_without_colours_when_it_is_no_terminal(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "86")
    assert main(["metrics", RATE, "--since", "2h", "--step", "1m", "--url", url]) == 0
    assert Canned.asked == ("/api/metrics/query_range", {"q": [RATE], "since": ["2h"], "step": ["1m"]})
    out = capsys.readouterr().out
    assert [line.rstrip() for line in out.splitlines()][1] == lines_of(RANGE, 86)[1]
    assert "\x1b" not in out


def test_metrics_asks_for_one_value_per_series_with_instant(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", RATE, "--instant", "--url", url]) == 0
    assert Canned.asked == ("/api/metrics/query", {"q": [RATE], "since": ["1h"], "step": [""]})
    assert capsys.readouterr().out.startswith("series")


def test_metrics_prints_the_answer_of_the_server_with_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", RATE, "--json", "--url", url]) == 0
    assert json.loads(capsys.readouterr().out) == RANGE


def test_metrics_shows_where_a_query_is_wrong(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "{", "--url", url]) == 1
    assert capsys.readouterr().err.endswith("1:2: expected a condition\n  {\n   ^\n")
