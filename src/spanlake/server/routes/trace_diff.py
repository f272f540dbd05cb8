"""Comparing two traces: wire-contract section 1.3. Its path looks like that of a trace, so it must come before those."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spanlake.model.errors import NotFound, SpanlakeError
from spanlake.model.stop import Stop
from spanlake.model.trace import TraceAnswer
from spanlake.query.trace_diff import FORMATS, diff_traces
from spanlake.server.access.guard import refused
from spanlake.server.answers import JSON, TEXT, Answer, QueryEdge, stoppable_endpoint
from spanlake.server.parameters.trace_diff import TraceAsked, parse_diff
from spanlake.server.ports import TraceReader
from spanlake.server.transport.body import receive_body
from spanlake.server.transport.budget import ByteBudget, Reservation

PATH = "/api/v2/traces/diff"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
BODY_BYTES_MAX = 16 * 1024
BODY_SECONDS_MAX = 10.0
BODIES_BYTES_MAX = 4 * 1024 * 1024
UNPROCESSABLE, TOO_MUCH = 422, 429


def trace_diff_routes(edge: QueryEdge, reader: TraceReader, bytes_max: int) -> list[Route]:
    """`POST /api/v2/traces/diff`, for two traces of at most so many bytes together."""
    budget = ByteBudget(BODIES_BYTES_MAX)

    def answer(request: Request, body: bytes, stop: Stop) -> Answer:
        asked, tenant = parse_diff(body, FORMATS), edge.tenants_of(request)
        found = []
        for side, one in (("base", asked.base), ("compare", asked.compare)):
            found.append(reader.find(tenant, one.trace_id, one.time_range))
            if (refusal := _refusal(side, one, found[-1])) is not None:
                return refusal
            stop.check()
        size = sum(len(trace.encoded) for trace in found)
        if size > bytes_max:
            text = f"the two traces have {size} bytes, at most {bytes_max} are compared (query.trace_diff_bytes_max)"
            return Answer(text.encode(), TEXT, TOO_MUCH)
        base, compare = ((one.hex_id, trace.encoded) for one, trace in zip((asked.base, asked.compare), found, strict=True))
        return Answer(diff_traces(base, compare, asked.format), JSON)

    async def respond(request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("405 method not allowed, supported: [POST]", 405, {"allow": "POST"})
        try:
            with Reservation(budget) as reservation:
                body = await receive_body(request, reservation, bytes_max=BODY_BYTES_MAX, seconds_max=BODY_SECONDS_MAX)
        except ClientDisconnect:
            return Response(status_code=499)
        except SpanlakeError as error:
            return refused(error)
        return await stoppable_endpoint(edge, lambda same, stop: answer(same, body, stop))(request)

    return [Route(PATH, respond, methods=METHODS)]


def _refusal(side: str, asked: TraceAsked, found: TraceAnswer) -> Answer | None:
    """Why a trace cannot be compared: it is not there (NotFound), or there is more of it than can be read."""
    if not found.complete:
        return Answer(f"the {side} trace cannot be compared: {found.message}".encode(), TEXT, UNPROCESSABLE)
    if not found.spans:
        raise NotFound(f"the {side} trace {asked.hex_id} was not found")
    return None
