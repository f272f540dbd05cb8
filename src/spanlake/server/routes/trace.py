"""Trace by id, version 1 and 2: wire-contract section 1.3.

Version 1 says 404 for a trace that is not there and 422 for one that it cannot give whole; version 2 always says 200, with an empty
trace or with `PARTIAL` and the reason.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.stop import Stop
from spanlake.model.trace import TraceAnswer
from spanlake.server.answers import JSON, PROTOBUF, TEXT, Answer, QueryEdge, endpoint, negotiated, stoppable_endpoint
from spanlake.server.parameters import parse_time_range, parse_trace_id
from spanlake.server.parameters.search import parse_trace_filter
from spanlake.server.ports import TraceFilterer, TraceReader
from spanlake.wire.trace_json import encode_trace_v1, encode_trace_v2, encode_trace_v2_protobuf

UNPROCESSABLE = 422


def trace_routes(edge: QueryEdge, reader: TraceReader, filterer: TraceFilterer) -> list[Route]:
    """`/api/traces/{id}` and `/api/v2/traces/{id}`; only the second one filters."""

    def find(request: Request) -> TraceAnswer:
        trace_id = parse_trace_id(request.path_params["trace_id"])
        time_range = parse_time_range(request.query_params)
        tenant = edge.tenants_of(request)
        return reader.find(tenant, trace_id, time_range)

    def answer_v1(request: Request) -> Answer:
        trace = find(request)
        if not trace.complete:
            return Answer(trace.message.encode(), TEXT, UNPROCESSABLE)
        if trace.spans == 0:
            return Answer(b"", status=404)
        if negotiated(request.headers.get("accept", "")) == PROTOBUF:
            return Answer(trace.encoded, PROTOBUF)
        return Answer(encode_trace_v1(trace.encoded), JSON)

    def find_filtered(request: Request, stop: Stop) -> TraceAnswer:
        wanted = parse_trace_filter(request.query_params)
        if wanted is None:
            return find(request)
        trace_id = parse_trace_id(request.path_params["trace_id"])
        time_range = parse_time_range(request.query_params)
        tenant = edge.tenants_of(request)
        try:
            return filterer.find_filtered(tenant, trace_id, time_range, wanted, stop)
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL filter: {error}") from None

    def answer_v2(request: Request, stop: Stop) -> Answer:
        trace = find_filtered(request, stop)
        if negotiated(request.headers.get("accept", "")) == PROTOBUF:
            return Answer(encode_trace_v2_protobuf(trace), PROTOBUF)
        return Answer(encode_trace_v2(trace), JSON)

    return [
        Route("/api/traces/{trace_id}", endpoint(edge, answer_v1)),
        Route("/api/v2/traces/{trace_id}", stoppable_endpoint(edge, answer_v2)),
    ]
