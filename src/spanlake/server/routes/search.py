"""Search: wire-contract section 1.4."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.stop import Stop
from spanlake.server.answers import JSON, Answer, QueryEdge, stoppable_endpoint
from spanlake.server.ports import TraceSearcher
from spanlake.server.search_parameters import RangeLimits, parse_search
from spanlake.server.tenant import TENANT_HEADER, tenant_of
from spanlake.wire.search_json import encode_search


def search_routes(edge: QueryEdge, searcher: TraceSearcher, limits: RangeLimits) -> list[Route]:
    """`/api/search`."""

    def answer(request: Request, stop: Stop) -> Answer:
        query, legacy = parse_search(request.query_params, limits)
        tenant = tenant_of(request.headers.getlist(TENANT_HEADER), multitenancy=edge.multitenancy)
        try:
            found = searcher.search(tenant, query, stop)
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL query: {error}") from None
        return Answer(encode_search(found, spansets=not legacy), JSON)

    return [Route("/api/search", stoppable_endpoint(edge, answer))]
