"""Parameters of metrics queries, with the defaults and texts of tempo-traceql sections 7.1 and 3.3.

Whether a range is too long and a step too short is for the use case to say.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.metrics import AS_ALLOWED, InstantQuery, RangeQuery
from spanlake.model.trace import TimeRange
from spanlake.server.parameters.basic import NS_PER_SECOND, parse_integer, parse_time_ns
from spanlake.traceql import parse
from spanlake.traceql.durations import parse_duration

COUNT_MAX = (1 << 32) - 1
STEP_SECONDS_MAX = 10 * 365 * 86_400
SINCE_DEFAULT_NS = 3600 * NS_PER_SECOND

_SECONDS = re.compile(r"[0-9]{1,19}(\.[0-9]{0,19})?|\.[0-9]{1,19}")
_INTERVALS_WANTED = 240
_NS_PER_MS = 1_000_000
_ROUND_STEPS_NS = tuple(seconds * NS_PER_SECOND for seconds in (3600, 300, 60, 15, 5, 1))
_SHORT_RANGE_NS, _SHORT_STEP_NS = 60 * NS_PER_SECOND, 50 * _NS_PER_MS

Clock = Callable[[], int]
"""Nanoseconds since the epoch."""


def parse_range_query(parameters: Mapping[str, str], clock_ns: Clock = time.time_ns) -> RangeQuery:
    """A query for samples over time. Without `exemplars` there may be as many as the settings allow, as with 0."""
    window = parse_metrics_window(parameters, clock_ns)
    exemplars_max = _count(parameters, "exemplars") or AS_ALLOWED
    return RangeQuery(_text(parameters), window, parse_step_ns(parameters, window), exemplars_max, _count(parameters, "maxSeries"))


def parse_instant_query(parameters: Mapping[str, str], clock_ns: Clock = time.time_ns) -> InstantQuery:
    """A query for one number per series. `step` and `exemplars` mean nothing to it."""
    return InstantQuery(_text(parameters), parse_metrics_window(parameters, clock_ns), _count(parameters, "maxSeries"))


def parse_metrics_window(parameters: Mapping[str, str], clock_ns: Clock = time.time_ns) -> TimeRange:
    """`start` and `end`; without an end until now, without a start for `since` before the end (or now, if that is earlier)."""
    now_ns = clock_ns()
    end_ns = parse_time_ns("end", parameters["end"]) if parameters.get("end") else now_ns
    if parameters.get("start"):
        start_ns = parse_time_ns("start", parameters["start"])
    else:
        start_ns = max(min(end_ns, now_ns) - _since_ns(parameters), 0)
    if end_ns <= start_ns:
        raise InvalidInput("end must be greater than start")
    return TimeRange(start_ns, end_ns)


def parse_step_ns(parameters: Mapping[str, str], window: TimeRange) -> int:
    """`step` in seconds or as a duration; without it one that suits the range."""
    range_ns = window.end_ns - window.start_ns
    text = parameters.get("step", "")
    if not text:
        return default_step_ns(range_ns)
    step_ns = round(float(text) * NS_PER_SECOND) if _SECONDS.fullmatch(text) else parse_duration(text)
    if step_ns is None:
        raise InvalidInput(f"invalid step: {text[:40]!r} is neither a number of seconds nor a duration such as 30s or 1m")
    if step_ns == 0:
        raise InvalidInput("step must be greater than 0")
    if step_ns > STEP_SECONDS_MAX * NS_PER_SECOND:
        raise InvalidInput(f"invalid step: {text[:40]!r} is longer than {STEP_SECONDS_MAX} seconds")
    return step_ns


def default_step_ns(range_ns: int) -> int:
    """A round step that cuts the range into a few hundred intervals."""
    if range_ns < _SHORT_RANGE_NS:
        return max(_SHORT_STEP_NS, range_ns // _INTERVALS_WANTED // _SHORT_STEP_NS * _SHORT_STEP_NS)
    unit_ns = next((unit for unit in _ROUND_STEPS_NS if range_ns > unit * _INTERVALS_WANTED), None)
    return NS_PER_SECOND if unit_ns is None else range_ns // _INTERVALS_WANTED // unit_ns * unit_ns


def _text(parameters: Mapping[str, str]) -> str:
    return (parameters.get("q") or parameters.get("query") or "").strip()


def _since_ns(parameters: Mapping[str, str]) -> int:
    text = parameters.get("since", "")
    since_ns = parse_duration(text) if text else SINCE_DEFAULT_NS
    if not since_ns:
        raise InvalidInput(f"invalid since: {text[:40]!r} is not a duration such as 30m or 1h")
    return since_ns


def _count(parameters: Mapping[str, str], name: str) -> int:
    count = parse_integer(parameters, name, 0)
    if not 0 <= count <= COUNT_MAX:
        raise InvalidInput(f"invalid {name}: must be between 0 and {COUNT_MAX}, received {count}")
    return count


def bad_range_query(text: str, error: QueryError) -> InvalidInput:
    """What is said of a query that is no good. One that does not even parse is described in other words, as Tempo does."""
    try:
        parse(text)
    except QueryError:
        return InvalidInput(str(error))
    return bad_instant_query(error)


def bad_instant_query(error: QueryError) -> InvalidInput:
    """The same for a query at an instant."""
    return InvalidInput(f"compiling query: {error}")
