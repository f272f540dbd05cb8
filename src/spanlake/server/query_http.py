"""The query API's application: routes by topic (`routes/`), one after the other. Plain-text errors, also for unknown paths."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute


def query_app(routes: Iterable[BaseRoute]) -> Starlette:
    """The ASGI application of the query port."""
    app = Starlette(routes=list(routes), exception_handlers={404: _not_found})
    app.router.redirect_slashes = False
    return app


async def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found", 404)
