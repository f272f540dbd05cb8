"""Endpoints about the server itself. They stay off the query threads, so that they answer while those are busy or stuck."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from spanlake.server.answers import JSON
from spanlake.server.ports import Health

TEMPO_API_VERSION = "3.1.0"
"""The Tempo whose API this is; older Grafanas read it to know what they may ask for (from 2.7.0 on everything)."""


def status_routes(health: Health, registry: CollectorRegistry) -> list[Route]:
    """`/ready`, `/metrics`, `/api/echo`, `/api/status/buildinfo` and `/status/config`."""

    async def echo(_request: Request) -> Response:
        return PlainTextResponse("echo\n")

    async def ready(_request: Request) -> Response:
        reason = health.readiness()
        return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ready\n")

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        # On a thread, because collectors may ask other parts of the server and wait for their locks.
        return Response(await asyncio.to_thread(encode, registry), media_type=media_type)

    async def build_info(_request: Request) -> Response:
        build = health.build()
        info = {
            "version": TEMPO_API_VERSION,
            "revision": build.revision,
            "branch": build.branch,
            "buildUser": f"spanlake {build.version}",
            "buildDate": build.build_date,
            "goVersion": f"python {platform.python_version()}",
        }
        return Response(orjson.dumps(info), media_type=JSON)

    async def config(_request: Request) -> Response:
        return PlainTextResponse(health.effective_config())

    return [
        Route("/api/echo", echo),
        Route("/ready", ready),
        Route("/metrics", metrics),
        Route("/api/status/buildinfo", build_info),
        Route("/status/config", config),
    ]


def overview_routes(health: Health, routes: Sequence[BaseRoute]) -> list[Route]:
    """`/status` and the pages that it consists of, as text; `routes` are the others that the server has."""

    def version() -> str:
        build = health.build()
        revision = f", revision {build.revision}" if build.revision else ""
        return f"spanlake {build.version}{revision}, with the API of Tempo {TEMPO_API_VERSION}\n"

    def services() -> str:
        reason = health.readiness()
        return f"not ready: {reason}\n" if reason else "ready\n"

    def endpoints() -> str:
        return "".join(sorted(f"{route.path}\n" for route in [*routes, *pages] if isinstance(route, Route)))

    async def status(_request: Request) -> Response:
        parts = {"version": version(), "services": services(), "endpoints": endpoints(), "config": health.effective_config()}
        return PlainTextResponse("\n".join(f"--- {name}\n{text}" for name, text in parts.items()))

    def page(path: str, text: Callable[[], str]) -> Route:
        async def respond(_request: Request) -> Response:
            return PlainTextResponse(text())

        return Route(path, respond)

    pages = [
        Route("/status", status),
        page("/status/version", version),
        page("/status/services", services),
        page("/status/endpoints", endpoints),
        page("/status/usage-stats", lambda: "usage-stats is not enabled: spanlake reports to nobody\n"),
    ]
    return pages
