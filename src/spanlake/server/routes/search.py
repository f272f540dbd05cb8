"""Search: wire-contract section 1.4; and our own `/api/explain`, with the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.queries import SearchQuery
from spanlake.model.stop import Stop
from spanlake.server.answers import TEXT, Answer, QueryEdge, negotiated_answer, stoppable_endpoint
from spanlake.server.parameters.search import RangeLimitsOf, parse_search
from spanlake.server.ports import TraceSearcher
from spanlake.wire.search_json import encode_search
from spanlake.wire.tempo_protobuf import encode_search_response

T = TypeVar("T")


def search_routes(edge: QueryEdge, searcher: TraceSearcher, limits: RangeLimitsOf) -> list[Route]:
    """`/api/search` and `/api/explain`."""

    def asked(request: Request, ask: Callable[[str, SearchQuery, Stop], T], stop: Stop) -> tuple[T, bool]:
        """(the answer, whether the search is a legacy one)."""
        tenant = edge.tenants_of(request)
        query, legacy = parse_search(request.query_params, limits(tenant))
        try:
            return ask(tenant, query, stop), legacy
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL query: {error}") from None

    def search(request: Request, stop: Stop) -> Answer:
        found, legacy = asked(request, searcher.search, stop)
        as_json, as_protobuf = partial(encode_search, spansets=not legacy), partial(encode_search_response, spansets=not legacy)
        return negotiated_answer(request, found, as_json=as_json, as_protobuf=as_protobuf)

    def explain(request: Request, stop: Stop) -> Answer:
        return Answer(asked(request, searcher.explain, stop)[0].encode(), TEXT)

    return [Route("/api/search", stoppable_endpoint(edge, search)), Route("/api/explain", stoppable_endpoint(edge, explain))]
