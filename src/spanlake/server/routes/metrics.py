"""TraceQL metrics, over time and at an instant: wire-contract section 1.5. Always JSON."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import QueryError
from spanlake.model.stop import Stop
from spanlake.server.answers import JSON, Answer, QueryEdge, stoppable_endpoint
from spanlake.server.parameters.metrics import bad_instant_query, bad_range_query, parse_instant_query, parse_range_query
from spanlake.server.ports import SpanMeter
from spanlake.wire.metrics_json import encode_query_instant, encode_query_range


def metrics_routes(edge: QueryEdge, meter: SpanMeter) -> list[Route]:
    """`/api/metrics/query_range` and `/api/metrics/query`."""

    def tenant(request: Request) -> str:
        return edge.tenants_of(request)

    def query_range(request: Request, stop: Stop) -> Answer:
        query = parse_range_query(request.query_params)
        try:
            found = meter.query_range(tenant(request), query, stop)
        except QueryError as error:
            raise bad_range_query(query.text, error) from None
        return Answer(encode_query_range(found), JSON)

    def query_instant(request: Request, stop: Stop) -> Answer:
        query = parse_instant_query(request.query_params)
        try:
            found = meter.query_instant(tenant(request), query, stop)
        except QueryError as error:
            raise bad_instant_query(error) from None
        return Answer(encode_query_instant(found), JSON)

    return [
        Route("/api/metrics/query_range", stoppable_endpoint(edge, query_range)),
        Route("/api/metrics/query", stoppable_endpoint(edge, query_instant)),
    ]
