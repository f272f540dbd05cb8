"""OTLP over HTTP: `POST /v1/traces` in protobuf or JSON. Statuses, headers and bodies: wire-contract section 7.2.

The event loop receives the body; decompression, JSON and the durable write happen on the threads of the receive pool. A refusal is
answered in the request's own encoding, except for 404, 405 and 415, which are text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spanlake.model.errors import TooLarge
from spanlake.model.ingest import Accepted
from spanlake.model.settings import ServerSettings
from spanlake.server.access.credentials import Role
from spanlake.server.access.decide import TENANT_HEADER, Access
from spanlake.server.edge_metrics import EdgeMetrics
from spanlake.server.errors import Refusal, push_refusal_of
from spanlake.server.ports import SpanReceiver
from spanlake.server.transport.body import receive_body
from spanlake.server.transport.budget import ByteBudget, Reservation
from spanlake.server.transport.compression import check_encoding, decompress
from spanlake.server.work_pool import WorkPool
from spanlake.wire.otlp_json import decode_request
from spanlake.wire.rpc_status import encode_export_response, encode_export_response_json, encode_status, encode_status_json

PROTOCOL = "otlp_http"
PROTOBUF: Literal["application/x-protobuf"] = "application/x-protobuf"
JSON: Literal["application/json"] = "application/json"
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True, slots=True)
class PushEdge:
    """What every push needs. `json_turn` lets one JSON body at a time be parsed: it is work under the interpreter lock that takes many
    times the memory of the body, so two at once would gain nothing and cost twice."""

    receiver: SpanReceiver
    pool: WorkPool
    budget: ByteBudget
    settings: ServerSettings
    metrics: EdgeMetrics
    json_turn: threading.Lock
    access: Access


def otlp_http_app(edge: PushEdge) -> Starlette:
    """The ASGI application of the OTLP/HTTP port."""

    async def export(request: Request) -> Response:
        return await _export(edge, request)

    app = Starlette(
        routes=[Route("/v1/traces", export, methods=["POST"])],
        exception_handlers={404: _not_found, 405: _method_not_allowed},
    )
    app.router.redirect_slashes = False
    return app


async def _export(edge: PushEdge, request: Request) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {PROTOBUF, JSON}:
        return PlainTextResponse(f"415 unsupported media type, supported: [{JSON}, {PROTOBUF}]", 415)
    try:
        accepted = await _receive(edge, request, in_json=media_type == JSON)
    except ClientDisconnect:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:  # noqa: BLE001 whatever it is, the client gets a status that it understands
        refusal = push_refusal_of(error)
        edge.metrics.refused(PROTOCOL, refusal.grpc_code)
        return _refused(refusal, media_type)
    encode = encode_export_response_json if media_type == JSON else encode_export_response
    return Response(encode(accepted.rejected, accepted.reason), media_type=media_type)


async def _receive(edge: PushEdge, request: Request, *, in_json: bool) -> Accepted:
    settings = edge.settings
    identity = edge.access.identify(request.headers.getlist, Role.WRITE)  # before anything is taken from a stranger
    encoding = request.headers.get("content-encoding", "").strip().lower() or "identity"
    check_encoding(encoding)
    with Reservation(edge.budget) as reservation:
        body = await receive_body(request, reservation, bytes_max=settings.request_bytes_max, seconds_max=settings.body_seconds)
        payload_bytes_max = min(settings.json_bytes_max, settings.request_bytes_max) if in_json else settings.request_bytes_max
        named = request.headers.getlist(TENANT_HEADER)

        def accept(payload: bytes) -> Accepted:
            """An empty request succeeds before anybody asks for the tenant."""
            accepted = edge.receiver.accept(identity.tenant(named), payload) if payload else Accepted(0)
            edge.metrics.taken(PROTOCOL, len(payload))
            return accepted

        def work() -> Accepted:
            payload = decompress(body, encoding, bytes_max=payload_bytes_max, grow=reservation.grow)
            return _accept_json(edge, payload, payload_bytes_max, accept) if in_json else accept(payload)

        return await edge.pool.run(work)


def _accept_json(edge: PushEdge, body: bytes, bytes_max: int, accept: Callable[[bytes], Accepted]) -> Accepted:
    if len(body) > bytes_max:
        raise TooLarge(f"the JSON body has {len(body)} bytes, at most {bytes_max} are accepted; protobuf may be larger")
    with edge.json_turn:
        decoded = decode_request(body)
    accepted = accept(decoded.protobuf)
    reasons = "; ".join(reason for reason in (decoded.reason, accepted.reason) if reason)
    return Accepted(accepted.spans, accepted.rejected + decoded.rejected, reasons)


def _refused(refusal: Refusal, media_type: str) -> Response:
    encode: Callable[[int, str, int | None], bytes] = encode_status_json if media_type == JSON else encode_status
    body = encode(refusal.grpc_code, refusal.message, refusal.retry_after_seconds)
    headers = {} if refusal.retry_after_seconds is None else {"retry-after": str(refusal.retry_after_seconds)}
    return Response(body, refusal.http_status, headers, media_type)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found, spans go to POST /v1/traces", 404)


async def _method_not_allowed(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("405 method not allowed, supported: [POST]", 405, {"allow": "POST"})
