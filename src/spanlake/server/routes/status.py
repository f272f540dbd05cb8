"""Endpoints about the server itself. They stay off the query threads, so that they answer while those are busy or stuck."""

from __future__ import annotations

import asyncio
import platform

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

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
