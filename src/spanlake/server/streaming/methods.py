"""The methods of the service, each a plain function that runs on a query thread and sends what it finds.

Requests become the parameters of the HTTP API, so that one set of defaults, limits and texts holds for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from spanlake.model.errors import InvalidInput, QueryError, TooLarge
from spanlake.model.metrics import MetricsAnswer
from spanlake.model.queries import Inspected, Progress, SearchAnswer, SearchProgress
from spanlake.model.stop import Stop
from spanlake.server.parameters.metrics import bad_instant_query, bad_range_query, parse_instant_query, parse_range_query
from spanlake.server.parameters.search import RangeLimitsOf, parse_search, parse_tag_names, parse_tag_values
from spanlake.server.ports import Queries, SpanMeter, TagSource, TraceSearcher
from spanlake.server.streaming.packets import packets
from spanlake.wire.tempo_protobuf import (
    encode_query_instant_response,
    encode_query_range_response,
    encode_search_response,
    encode_tag_values_response,
    encode_tag_values_v2_response,
    encode_tags_response,
    encode_tags_v2_response,
)
from spanlake.wire.tempo_protobuf_requests import (
    decode_query_instant_request,
    decode_query_range_request,
    decode_search_request,
    decode_tag_values_request,
    decode_tags_request,
)

PROGRESS_SECONDS = 0.5
"""Pause between two messages of a search that goes on. One that takes less has none but its answer."""

INSTANT_BYTES_MAX = (4 << 20) - 1024
"""An instant answer replaces the one before it, so it is sent whole or not at all; clients take no more."""


class Send(Protocol):
    """Hands a message on. A `passing` one need not be sent if there is a later one."""

    def __call__(self, message: bytes, *, passing: bool = False) -> None: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One call."""

    tenant: str
    request: bytes
    stop: Stop
    send: Send


Method: TypeAlias = Callable[[Call], None]
"""Sends at least one message, or raises what the HTTP endpoint would answer with."""


def streaming_methods(queries: Queries, limits: RangeLimitsOf) -> dict[str, Method]:
    """By name; those of metrics only if there is somebody to ask."""
    return {
        "Search": search_method(queries.searcher, limits),
        **tag_methods(queries.tags, limits),
        **metrics_methods(queries.meter),
    }


def search_method(searcher: TraceSearcher, limits: RangeLimitsOf, clock: Callable[[], float] = time.monotonic) -> Method:
    """`Search`: complete traces, each once, those that are certain before the search ends; and how far it is."""

    def search(call: Call) -> None:
        query, legacy = parse_search(decode_search_request(call.request), limits(call.tenant))
        pace = Pace(clock)
        sent: set[int] = set()

        def send(answer: SearchAnswer, *, last: bool) -> None:
            # A search that begins again, because its blocks went away, tells of traces again and perhaps of others.
            new = tuple(trace for trace in answer.traces if trace.trace_id not in sent)[: query.limit - len(sent)]
            sent.update(trace.trace_id for trace in new)
            message = encode_search_response(replace(answer, traces=new), spansets=not legacy)
            _send_packets(call, message, passing=not new and not last)
            pace.rest()

        progress = SearchProgress(pace.is_due, lambda answer: send(answer, last=False))
        try:
            answer = searcher.search(call.tenant, query, call.stop, progress)
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL query: {error}") from None
        send(answer, last=True)

    return search


class Pace:
    """Says when the next message of progress is due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.rest()

    def rest(self) -> None:
        """A message was sent."""
        self._due = self._clock() + PROGRESS_SECONDS

    def is_due(self) -> bool:
        return self._clock() >= self._due


def tag_methods(tags: TagSource, limits: RangeLimitsOf) -> dict[str, Method]:
    """The four methods of names and values of tags: one message with all there is."""

    def names(call: Call) -> None:
        query = parse_tag_names(decode_tags_request(call.request), limits(call.tenant))
        _send_packets(call, encode_tags_response(tags.names(call.tenant, query, call.stop), intrinsics=query.scope == "intrinsic"))

    def names_v2(call: Call) -> None:
        query = parse_tag_names(decode_tags_request(call.request), limits(call.tenant))
        _send_packets(call, encode_tags_v2_response(tags.names(call.tenant, query, call.stop)))

    def values(call: Call) -> None:
        query = parse_tag_values(*decode_tag_values_request(call.request), limits(call.tenant))
        _send_packets(call, encode_tag_values_response(tags.values_v1(call.tenant, query, call.stop)))

    def values_v2(call: Call) -> None:
        query = parse_tag_values(*decode_tag_values_request(call.request), limits(call.tenant))
        _send_packets(call, encode_tag_values_v2_response(tags.values(call.tenant, query, call.stop)))

    return {"SearchTags": names, "SearchTagsV2": names_v2, "SearchTagValues": values, "SearchTagValuesV2": values_v2}


def metrics_methods(meter: SpanMeter, clock: Callable[[], float] = time.monotonic) -> dict[str, Method]:
    """The two methods of metrics: one message with the answer; over time, also messages that say how far it is and have no series."""

    def query_range(call: Call) -> None:
        query = parse_range_query(decode_query_range_request(call.request))
        pace = Pace(clock)

        def tell(seen: Inspected) -> None:
            _send_packets(call, encode_query_range_response(MetricsAnswer((), seen)), passing=True)
            pace.rest()

        try:
            answer = meter.query_range(call.tenant, query, call.stop, Progress(pace.is_due, tell))
        except QueryError as error:
            raise bad_range_query(query.text, error) from None
        _send_packets(call, encode_query_range_response(answer))

    def query_instant(call: Call) -> None:
        query = parse_instant_query(decode_query_instant_request(call.request))
        try:
            answer = meter.query_instant(call.tenant, query, call.stop)
        except QueryError as error:
            raise bad_instant_query(error) from None
        message = encode_query_instant_response(answer)
        if len(message) > INSTANT_BYTES_MAX:
            series, size = len(answer.series), len(message)
            raise TooLarge(f"the answer has {series} series and {size} bytes, clients take {INSTANT_BYTES_MAX}: group by fewer values")
        call.send(message)

    return {"MetricsQueryRange": query_range, "MetricsQueryInstant": query_instant}


def _send_packets(call: Call, message: bytes, *, passing: bool = False) -> None:
    for packet in packets(message):
        call.send(packet, passing=passing)
