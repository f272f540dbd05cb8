"""`/api/overrides`: the limits of one tenant, read and changed. No change is lost to another: each names the version that it follows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from spanlake.model.errors import Forbidden, InvalidInput, NotFound, PreconditionFailed
from spanlake.server.access.credentials import Role
from spanlake.server.access.decide import TENANT_HEADER
from spanlake.server.access.guard import OVERRIDES_PATH, refused
from spanlake.server.answers import JSON, QueryEdge
from spanlake.server.ports import Overrides, TenantOverrides
from spanlake.server.transport.body import receive_body
from spanlake.server.transport.budget import ByteBudget, Reservation

BODY_BYTES_MAX = 64 * 1024
BODY_SECONDS_MAX = 10.0
REQUESTS_MAX = 8
"""Changes and lookups at once; others wait."""

PATCH_TRIES = 5
PRECONDITION_REQUIRED = 428
ABSENT = "0"
"""The ETag of limits that are not there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, received."""

    tenant: str
    merged: bool
    if_match: str | None
    body: bytes


def override_routes(edge: QueryEdge, overrides: TenantOverrides) -> list[Route]:
    """The one path, in all its methods."""
    turn, budget = asyncio.Semaphore(REQUESTS_MAX), ByteBudget(REQUESTS_MAX * 2 * BODY_BYTES_MAX)

    async def respond(request: Request) -> Response:
        try:
            role = Role.READ if request.method in {"GET", "HEAD"} else Role.ADMIN
            tenant = edge.access.identify(request.headers.getlist, role).tenant(request.headers.getlist(TENANT_HEADER))
            async with turn:
                with Reservation(budget) as reservation:
                    body = await receive_body(request, reservation, bytes_max=BODY_BYTES_MAX, seconds_max=BODY_SECONDS_MAX)
                merged = request.query_params.get("scope") == "merged"
                asked = Asked(tenant, merged, request.headers.get("if-match"), body)
                return await asyncio.to_thread(_METHODS.get(request.method, get_overrides), overrides, asked)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 whatever it is, the client gets a status and a text
            return refused(error)

    endpoint: Callable[[Request], Awaitable[Response]] = respond
    return [Route(OVERRIDES_PATH, endpoint, methods=["GET", *_METHODS])]


def get_overrides(overrides: TenantOverrides, asked: Asked) -> Response:
    """The tenant's own limits with their ETag, or, merged, all that are in force for it."""
    if asked.merged:
        return Response(orjson.dumps(dict(overrides.in_force(asked.tenant))), media_type=JSON)
    found = overrides.get(asked.tenant)
    if found.limits is None:
        raise NotFound(f"tenant {asked.tenant!r} has no overrides")
    return _answer(found)


def post_overrides(overrides: TenantOverrides, asked: Asked) -> Response:
    """Replace all of them."""
    _check_changes(overrides)
    if asked.if_match is None:
        return _condition_missing()
    limits = _limits_in(asked.body)
    return _answer(overrides.put(asked.tenant, limits, after=_expected(overrides.get(asked.tenant), asked)))


def patch_overrides(overrides: TenantOverrides, asked: Asked) -> Response:
    """Change those in the body; null takes one away. Without If-Match, whatever the others are."""
    _check_changes(overrides)
    changes = _limits_in(asked.body)
    for last in (False,) * (PATCH_TRIES - 1) + (True,):
        found = overrides.get(asked.tenant)
        merged = {name: value for name, value in {**(found.limits or {}), **changes}.items() if value is not None}
        try:
            return _answer(overrides.put(asked.tenant, merged, after=_expected(found, asked)))
        except PreconditionFailed:
            if last or asked.if_match is not None:
                raise
    raise AssertionError


def delete_overrides(overrides: TenantOverrides, asked: Asked) -> Response:
    """Take all away."""
    _check_changes(overrides)
    if asked.if_match is None:
        return _condition_missing()
    found = overrides.get(asked.tenant)
    if found.limits is None:
        raise NotFound(f"tenant {asked.tenant!r} has no overrides")
    overrides.put(asked.tenant, None, after=_expected(found, asked))
    return Response(status_code=200)


_METHODS: Mapping[str, Callable[[TenantOverrides, Asked], Response]] = {
    "POST": post_overrides,
    "PATCH": patch_overrides,
    "DELETE": delete_overrides,
}


def _check_changes(overrides: TenantOverrides) -> None:
    if not overrides.changeable:
        raise Forbidden("changes of limits are off: the setting overrides.api turns them on")


def _condition_missing() -> Response:
    text = f"the header If-Match is missing: give the ETag of the overrides, or {ABSENT} if there are none"
    return PlainTextResponse(text, PRECONDITION_REQUIRED)


def _expected(found: Overrides, asked: Asked) -> int:
    """The version to follow: the one that is there, if it is the one that the request means."""
    if asked.if_match is None:
        return found.version
    meant = asked.if_match.strip().removeprefix("W/").strip('"')
    if meant != _etag(found) and not (meant == "*" and found.limits is not None):
        text = f"the overrides of tenant {asked.tenant!r} have ETag {_etag(found)}, not {meant[:40]}"
        raise PreconditionFailed(f"{text}: get them and try again")
    return found.version


def _etag(found: Overrides) -> str:
    return ABSENT if found.limits is None else str(found.version)


def _limits_in(body: bytes) -> dict[str, Any]:
    try:
        limits = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    if not isinstance(limits, dict):
        raise InvalidInput("the body must be a JSON object of limits by name")
    return limits


def _answer(found: Overrides) -> Response:
    return Response(orjson.dumps(found.limits), media_type=JSON, headers={"etag": f'"{_etag(found)}"'})
