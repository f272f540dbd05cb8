"""`/api/explain`, our own: how a query is answered and what that costs, as text. Parameters as for the query itself."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from spanlake.model.errors import InvalidInput, QueryError
from spanlake.model.stop import Stop
from spanlake.server.answers import TEXT, Answer, QueryEdge, stoppable_endpoint
from spanlake.server.parameters.metrics import bad_range_query, parse_range_query
from spanlake.server.parameters.search import RangeLimitsOf, parse_search
from spanlake.server.ports import Queries
from spanlake.traceql import parse
from spanlake.traceql.ast import Pipeline


def explain_routes(edge: QueryEdge, queries: Queries, limits: RangeLimitsOf) -> list[Route]:
    """The one route. A query that does not parse is explained, or rather refused, as a search."""

    def explain(request: Request, stop: Stop) -> Answer:
        tenant = edge.tenants_of(request)
        text = _metrics(tenant, request, stop) if is_metrics(request.query_params.get("q", "")) else _search(tenant, request, stop)
        return Answer(text.encode(), TEXT)

    def _search(tenant: str, request: Request, stop: Stop) -> str:
        query, _ = parse_search(request.query_params, limits(tenant))
        try:
            return queries.searcher.explain(tenant, query, stop)
        except QueryError as error:
            raise InvalidInput(f"invalid TraceQL query: {error}") from None

    def _metrics(tenant: str, request: Request, stop: Stop) -> str:
        query = parse_range_query(request.query_params)
        try:
            return queries.meter.explain(tenant, query, stop)
        except QueryError as error:
            raise bad_range_query(query.text, error) from None

    return [Route("/api/explain", stoppable_endpoint(edge, explain))]


def is_metrics(text: str) -> bool:
    """Whether the text is a metrics query."""
    try:
        return not isinstance(parse(text).root, Pipeline)
    except QueryError:
        return False
