"""Search: wire-contract section 1.4."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.stop import Stop
from spanlake.server.answers import Answer, QueryEdge, negotiated_answer, stoppable_endpoint
from spanlake.server.parameters.search import RangeLimitsOf, parse_search
from spanlake.server.ports import TraceSearcher
from spanlake.wire.search_json import encode_search
from spanlake.wire.tempo_protobuf import encode_search_response


def search_routes(edge: QueryEdge, searcher: TraceSearcher, limits: RangeLimitsOf) -> list[Route]:
    """`/api/search`."""

    def search(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        query, legacy = parse_search(request.query_params, limits(tenant))
        try:
            found = searcher.search(tenant, query, stop)
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL query: {error}") from None
        as_json, as_protobuf = partial(encode_search, spansets=not legacy), partial(encode_search_response, spansets=not legacy)
        return negotiated_answer(request, found, as_json=as_json, as_protobuf=as_protobuf)

    return [Route("/api/search", stoppable_endpoint(edge, search))]
