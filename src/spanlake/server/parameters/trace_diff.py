"""The body of a request to compare two traces: `{"base": {"traceId": …, "start": …, "end": …}, "compare": {…}, "format": …}`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from spanlake.model.errors import InvalidInput
from spanlake.model.trace import TimeRange
from spanlake.server.parameters.basic import parse_time_range, parse_trace_id


@dataclass(frozen=True, slots=True)
class TraceAsked:
    """One of the two traces, and where to look for it."""

    trace_id: tuple[int, int]
    time_range: TimeRange | None

    @property
    def hex_id(self) -> str:
        return f"{self.trace_id[0]:016x}{self.trace_id[1]:016x}"


@dataclass(frozen=True, slots=True)
class DiffAsked:
    """A comparison."""

    base: TraceAsked
    compare: TraceAsked
    format: str


def parse_diff(body: bytes, formats: tuple[str, ...]) -> DiffAsked:
    """What a body asks for; the first of the formats unless it says otherwise. Names of fields in any case, as Go reads them."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"invalid body: not JSON: {error}") from None
    fields = _fields("body", found)
    answer_format = fields.get("format") or formats[0]
    if answer_format not in formats:
        raise InvalidInput(f"invalid format: {str(answer_format)[:40]!r} is none of {', '.join(formats)}")
    return DiffAsked(_trace("base", fields.get("base")), _trace("compare", fields.get("compare")), answer_format)


def _trace(side: str, value: Any) -> TraceAsked:
    fields = _fields(side, value)
    text = fields.get("traceid")
    if not isinstance(text, str) or not text:
        raise InvalidInput(f"invalid {side}: traceId is missing")
    times = {name: str(fields[name]) for name in ("start", "end") if fields.get(name) is not None}
    return TraceAsked(parse_trace_id(text), parse_time_range(times))


def _fields(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f'invalid {name}: expected an object such as {{"base":{{"traceId":"…"}},"compare":{{"traceId":"…"}}}}')
    return {key.lower(): one for key, one in value.items()}
