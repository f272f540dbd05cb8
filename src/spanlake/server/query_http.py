"""The query API's application: routes by topic (`routes/`), one after the other. Plain-text errors, also for unknown paths.

Every path answers below the prefix that the settings name too, for proxies that pass a path on as they got it. Of a parameter that stands
several times the first counts, as in Tempo.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from spanlake.server.access.decide import Access
from spanlake.server.access.guard import Guard


def query_app(routes: Iterable[BaseRoute], access: Access, prefix: str = "") -> Starlette:
    """The ASGI application of the query port. `prefix`: a path such as `/tempo`; slashes at its ends do not matter."""
    below = prefix.strip("/")
    middleware = [Middleware(_WithoutPrefix, f"/{below}")] if below else []
    middleware.append(Middleware(_FirstOfEachParameter))
    if access.credentials is not None:
        middleware.append(Middleware(Guard, access))
    app = Starlette(routes=list(routes), middleware=middleware, exception_handlers={404: _not_found})
    app.router.redirect_slashes = False
    return app


class _WithoutPrefix:
    """Takes the prefix off the paths that have it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path.startswith(f"{self._prefix}/"):
            scope = {**scope, "path": path[len(self._prefix) :]}
        await self._app(scope, receive, send)


class _FirstOfEachParameter:
    """Takes repeated parameters off the query."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope.get("query_string", b"")
        if b"&" in query:
            first: dict[bytes, bytes] = {}
            for pair in query.split(b"&"):
                first.setdefault(unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" ")), pair)
            scope = {**scope, "query_string": b"&".join(first.values())}
        await self._app(scope, receive, send)


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found", 404)
