"""The door of an HTTP application: every request passes it before any endpoint sees it, so no endpoint can forget to ask.

A request that passes has the tenants that it may read as its one X-Scope-OrgID. Without credentials in the settings there is no door.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from spanlake.model.errors import SpanlakeError
from spanlake.server.access.credentials import Role
from spanlake.server.access.decide import TENANT_HEADER, Access
from spanlake.server.errors import refusal_of

OPEN_PATHS = frozenset({"/ready", "/api/echo", "/api/status/buildinfo"})
"""They tell nothing about anybody's data, and who asks for them is a probe."""

OVERRIDES_PATH = "/api/overrides"
UNAUTHORIZED = 401
CHALLENGE = 'Basic realm="spanlake", charset="UTF-8"'


class Guard:
    """ASGI middleware of the query API."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                scope = self._admitted(scope)
            except SpanlakeError as error:
                await refused(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> Scope:
        """The request as endpoints may see it. Raises Unauthenticated, Forbidden, NoTenant."""
        headers, path = Headers(scope=scope), scope["path"]
        changes = path == OVERRIDES_PATH and scope["method"] not in {"GET", "HEAD"}
        identity = self._access.identify(headers.getlist, Role.ADMIN if changes else Role.READ)
        if path in {"/metrics", "/status"} or path.startswith("/status/"):
            identity.check_whole_server()
            return scope
        tenants = identity.tenants(headers.getlist(TENANT_HEADER))
        name = TENANT_HEADER.encode()
        others = [pair for pair in scope["headers"] if pair[0].lower() != name]
        return {**scope, "headers": [*others, (name, tenants.encode())]}


def refused(error: Exception) -> PlainTextResponse:
    """The answer to a request that may not pass."""
    refusal = refusal_of(error)
    headers = {"www-authenticate": CHALLENGE} if refusal.http_status == UNAUTHORIZED else {}
    return PlainTextResponse(refusal.message, refusal.http_status, headers)
