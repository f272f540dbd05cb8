"""Found traces as a table for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from spanlake.app.trace_view.read import printable

HEADINGS = ("trace", "start", "duration", "spans", "service", "name")
_WIDEST = 60


def search_lines(body: bytes) -> Iterator[str]:
    """The lines for the body of a search answer: one per trace, then what was looked at."""
    document = json.loads(body)
    rows = [_row(trace) for trace in document["traces"]]
    widths = [max(len(row[column]) for row in (HEADINGS, *rows)) for column in range(len(HEADINGS))]
    if rows:
        yield _line(HEADINGS, widths)
    for row in rows:
        yield _line(row, widths)
    metrics = document.get("metrics", {})
    spans, size = int(metrics.get("inspectedSpans", 0)), int(metrics.get("inspectedBytes", 0))
    traces = "1 trace" if len(rows) == 1 else f"{len(rows)} traces"
    yield f"{traces}; looked at {spans:,} spans, {size:,} bytes of {metrics.get('totalBlocks', 0)} blocks"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _row(trace: dict[str, Any]) -> tuple[str, ...]:
    start = datetime.fromtimestamp(int(trace["startTimeUnixNano"]) / 1e9).astimezone()
    matched = sum(spanset.get("matched", 0) for spanset in trace.get("spanSets", []))
    service, name = (printable(trace.get(key, ""))[:_WIDEST] for key in ("rootServiceName", "rootTraceName"))
    return (
        trace["traceID"].zfill(32),
        start.strftime("%Y-%m-%d %H:%M:%S"),
        f"{trace.get('durationMs', 0):,} ms",
        str(matched),
        service,
        name,
    )
