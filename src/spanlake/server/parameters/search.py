"""Parameters of searches and tag queries, with the limits and texts of wire-contract sections 1.0, 1.4 and 1.6."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from spanlake.model.errors import InvalidInput
from spanlake.model.queries import SEARCH_LIMIT_DEFAULT, SearchQuery, TagNamesQuery, TagValuesQuery
from spanlake.model.trace import ALL_GENERATIONS, Pruning, TimeRange, TraceFilter
from spanlake.server.parameters.basic import NS_PER_SECOND, parse_integer, parse_time_ns
from spanlake.server.parameters.legacy import legacy_query
from spanlake.traceql.durations import parse_duration

LIMIT_MAX = 262_144
PRUNED_SPANS_MIN = 5
PRUNED_PARENT_DEPTH = 1
GROUP_BY_DEFAULT = ("db.operation*", "db.system*", "db.collection.name", "http.*method", "http.route", "rpc.method", "rpc.service")
"""Attributes that similar spans have in common unless the request says otherwise; names of spans tell the rest."""
GROUP_BY_PATTERNS_MAX = 50
GROUP_BY_CHARACTERS_MAX = 2000
SPSS_MAX = 100
_LEGACY = ("tags", "minDuration", "maxDuration")
_TRUE, _FALSE = {"1", "t", "T", "true", "TRUE", "True"}, {"0", "f", "F", "false", "FALSE", "False"}


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """The longest time range (0: any), and the clock that `since` counts from."""

    seconds_max: float
    clock_ns: Callable[[], int] = time.time_ns


RangeLimitsOf: TypeAlias = Callable[[str], RangeLimits]
"""Those of a tenant, or of several that are asked at once."""


def parse_search(parameters: Mapping[str, str], limits: RangeLimits) -> tuple[SearchQuery, bool]:
    """(the search, whether it is a legacy one, whose answer has no spansets)."""
    legacy = [name for name in _LEGACY if parameters.get(name)]
    text = parameters.get("q", "").strip()
    if text and legacy:
        raise InvalidInput(f"invalid request: can't specify {legacy[0]} and q in the same query")
    limit = parse_integer(parameters, "limit", SEARCH_LIMIT_DEFAULT)
    if limit <= 0:
        raise InvalidInput("invalid limit: must be a positive number")
    if limit > LIMIT_MAX:
        raise InvalidInput(f"limit {limit} exceeds max limit {LIMIT_MAX}")
    spss = parse_integer(parameters, "spss", 0)
    if spss < 0:
        raise InvalidInput("invalid spss: must be a non-negative number")
    if spss > SPSS_MAX:
        raise InvalidInput(f"spans per span set exceeds {SPSS_MAX}. received {spss}")
    window = parse_window(parameters, limits)
    return SearchQuery(text or legacy_query(parameters), window, limit, spss), not text


def parse_window(parameters: Mapping[str, str], limits: RangeLimits) -> TimeRange | None:
    """The range of `start` and `end`, both included, or of `since`; None without any."""
    if parameters.get("since"):
        return _since(parameters["since"], limits)
    given = [name for name in ("start", "end") if parameters.get(name)]
    times = {name: parse_time_ns(name, parameters[name]) for name in given}
    start_ns, end_ns = times.get("start", 0), times.get("end", 0)
    if not start_ns and not end_ns:
        return None
    start, end = start_ns // NS_PER_SECOND, end_ns // NS_PER_SECOND
    if end_ns <= start_ns:
        raise InvalidInput(f"http parameter start must be before end. received start={start} end={end}")
    if len(given) == 1:
        raise InvalidInput("error parsing date range: only one of start and end provided: must provide both or neither")
    if limits.seconds_max and end_ns - start_ns > limits.seconds_max * NS_PER_SECOND:
        raise InvalidInput(f"range specified by start and end exceeds {_go_hours(limits.seconds_max)}. received start={start} end={end}")
    return TimeRange(start_ns, end_ns + 1)


def _since(text: str, limits: RangeLimits) -> TimeRange:
    duration_ns = parse_duration(text)
    if duration_ns is None or duration_ns <= 0:
        raise InvalidInput(f"invalid since: {text[:40]!r} is not a duration such as 30m or 1h")
    now_ns = limits.clock_ns()
    start_ns = max(now_ns - duration_ns, 0)
    if limits.seconds_max and duration_ns > limits.seconds_max * NS_PER_SECOND:
        start, end = start_ns // NS_PER_SECOND, now_ns // NS_PER_SECOND
        raise InvalidInput(f"range specified by start and end exceeds {_go_hours(limits.seconds_max)}. received start={start} end={end}")
    return TimeRange(start_ns, now_ns + 1)


def _go_hours(seconds: float) -> str:
    """A duration as Go prints it: clients look for this text."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s"


def parse_tag_names(parameters: Mapping[str, str], limits: RangeLimits) -> TagNamesQuery:
    """Names of tags; `scope=none` is no scope."""
    scope = parameters.get("scope") or "none"
    wanted = None if scope == "none" else scope
    return TagNamesQuery(wanted, parameters.get("q", ""), parse_window(parameters, limits), _tag_limit(parameters))


def parse_tag_values(tag: str, parameters: Mapping[str, str], limits: RangeLimits) -> TagValuesQuery:
    """Values of a tag."""
    return TagValuesQuery(tag, parameters.get("q", ""), parse_window(parameters, limits), _tag_limit(parameters))


def _tag_limit(parameters: Mapping[str, str]) -> int:
    limit = parse_integer(parameters, "limit", 0)
    if limit < 0:
        raise InvalidInput("invalid limit: must be a non-negative number")
    return limit


def parse_trace_filter(parameters: Mapping[str, str]) -> TraceFilter | None:
    """How a trace by id is wanted; None without `q` and `span_pruning`: as it is."""
    text, pruning = parameters.get("q", "").strip(), parse_pruning(parameters)
    if not text:
        return None if pruning is None else TraceFilter("", pruning=pruning)
    depths = {name: parse_integer(parameters, name, default) for name, default in (("match_depth", 0), ("ancestor_depth", ALL_GENERATIONS))}
    for name, depth in depths.items():
        if depth < ALL_GENERATIONS:
            raise InvalidInput(f"invalid {name}: must be -1 or greater, received {depth}")
    return TraceFilter(text, _boolean(parameters, "keep_hierarchy"), depths["match_depth"], depths["ancestor_depth"], pruning)


def parse_pruning(parameters: Mapping[str, str]) -> Pruning | None:
    """How similar spans of a trace are summarized; None unless `span_pruning` is true."""
    if not _boolean(parameters, "span_pruning"):
        return None
    text = parameters.get("span_pruning_group_by", "")
    patterns = tuple(stripped for pattern in text.split(",") if (stripped := pattern.strip())) or GROUP_BY_DEFAULT
    if len(text) > GROUP_BY_CHARACTERS_MAX or len(patterns) > GROUP_BY_PATTERNS_MAX:
        raise InvalidInput(
            f"invalid span_pruning_group_by: more than {GROUP_BY_PATTERNS_MAX} patterns or {GROUP_BY_CHARACTERS_MAX} characters"
        )
    spans_min = parse_integer(parameters, "span_pruning_min_spans", PRUNED_SPANS_MIN)
    if spans_min < 2:
        raise InvalidInput(f"invalid span_pruning_min_spans: must be 2 or greater, received {spans_min}")
    depth = parse_integer(parameters, "span_pruning_max_parent_depth", PRUNED_PARENT_DEPTH)
    if depth < ALL_GENERATIONS:
        raise InvalidInput(f"invalid span_pruning_max_parent_depth: must be -1 or greater, received {depth}")
    return Pruning(patterns, spans_min, depth)


def _boolean(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters.get(name, "")
    if text and text not in _TRUE | _FALSE:
        raise InvalidInput(f"invalid {name}: {text[:40]!r} is neither true nor false")
    return text in _TRUE
