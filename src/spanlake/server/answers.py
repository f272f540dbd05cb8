"""How query endpoints answer: a plain function from request to `Answer`, run on a query thread, compressed there if that pays.

Errors become their status with the message as plain text, which is what Grafana and tempo-cli show.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from spanlake.model.errors import QueryTimeout
from spanlake.model.stop import Stop
from spanlake.server.access.decide import Access
from spanlake.server.errors import refusal_of
from spanlake.server.queueing.query_queue import QueryQueue

T = TypeVar("T")

PROTOBUF = "application/protobuf"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

COMPRESSED_BYTES_MIN = 1024
"""Smaller bodies are sent as they are."""

GZIP_LEVEL = 1
_GZIP_BITS = 31


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response."""

    body: bytes
    media_type: str | None = None
    status: int = 200
    content_encoding: str | None = None


@dataclass(frozen=True, slots=True)
class QueryEdge:
    """What every query endpoint needs."""

    queue: QueryQueue
    timeout_seconds: float
    access: Access

    def tenants_of(self, request: Request) -> str:
        """The tenants that a request is for: one, or several as `model.tenancy.names.federation` has them."""
        return self.access.tenants_to_read(request.headers.getlist)


def endpoint(edge: QueryEdge, answer_to: Callable[[Request], Answer]) -> Callable[[Request], Awaitable[Response]]:
    """An ASGI endpoint of a blocking function, with the edge's bounds on how many run, how many wait and for how long."""
    return stoppable_endpoint(edge, lambda request, _stop: answer_to(request))


def stoppable_endpoint(edge: QueryEdge, answer_to: Callable[[Request, Stop], Answer]) -> Callable[[Request], Awaitable[Response]]:
    """As `endpoint`, for work that can be given up: when it takes too long, and when the client has gone."""

    async def respond(request: Request) -> Response:
        compress = accepts_gzip(request.headers.get("accept-encoding", ""))
        stop = Stop(edge.timeout_seconds)

        def work() -> Answer:
            stop.check()
            answer = answer_to(request, stop)
            return _compressed(answer) if compress else answer

        gone = asyncio.create_task(_watch(request, stop))
        try:
            tenant = edge.tenants_of(request)
            answer = await asyncio.wait_for(edge.queue.run(tenant, work, stop), edge.timeout_seconds)
        except TimeoutError:
            return _refused(QueryTimeout(f"the query took longer than {edge.timeout_seconds:g} seconds"))
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets a status and a text
            return _refused(error)
        finally:
            stop.cancel()
            gone.cancel()
        return _response(answer)

    return respond


async def _watch(request: Request, stop: Stop) -> None:
    """Stop the work when the client closes the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    stop.cancel()


def negotiated(accept: str) -> str:
    """The media type that an Accept header asks for: protobuf if it is named, else JSON."""
    return PROTOBUF if PROTOBUF in accept else JSON


def negotiated_answer(request: Request, found: T, *, as_json: Callable[[T], bytes], as_protobuf: Callable[[T], bytes]) -> Answer:
    """What was found, in the encoding that the request accepts."""
    media_type = negotiated(request.headers.get("accept", ""))
    return Answer(as_protobuf(found) if media_type == PROTOBUF else as_json(found), media_type)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip with a weight other than zero."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def _compressed(answer: Answer) -> Answer:
    if len(answer.body) < COMPRESSED_BYTES_MIN:
        return answer
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP_BITS)
    return replace(answer, body=stream.compress(answer.body) + stream.flush(), content_encoding="gzip")


def _response(answer: Answer) -> Response:
    headers = {"vary": "accept, accept-encoding"}
    if answer.content_encoding is not None:
        headers["content-encoding"] = answer.content_encoding
    return Response(answer.body, answer.status, headers, answer.media_type)


def _refused(error: Exception) -> Response:
    refusal = refusal_of(error)
    headers = {} if refusal.retry_after_seconds is None else {"retry-after": str(refusal.retry_after_seconds)}
    return PlainTextResponse(refusal.message, refusal.http_status, headers)
