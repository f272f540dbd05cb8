"""The listeners of a server, started and stopped together: the query API (HTTP and gRPC on one port, and gRPC on one of its own), OTLP
over HTTP and OTLP over gRPC.

All but the last run on one event loop, which belongs to the caller: both HTTP applications in uvicorn, and the gRPC server of queries, to
which `transport/front` pipes connections. What the listeners do not bound: connections of OTLP over gRPC (only streams per connection),
and the memory of messages that gRPC itself receives for the calls that have a thread, which is at most `receive_threads` times
`request_bytes_max`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from spanlake.model.settings import QuerySettings, ServerSettings
from spanlake.model.tenancy.limits import LimitsSource, SameLimits, TenantLimits
from spanlake.server.access.credentials import Credential
from spanlake.server.access.decide import Access
from spanlake.server.answers import QueryEdge
from spanlake.server.edge_metrics import EdgeMetrics, QueueMetrics
from spanlake.server.otlp_grpc import ExportEdge, OtlpGrpcServer
from spanlake.server.otlp_http import PushEdge, otlp_http_app
from spanlake.server.parameters.search import RangeLimits
from spanlake.server.ports import Health, Queries, SpanReceiver, TenantOverrides, TraceReader
from spanlake.server.query_http import query_app
from spanlake.server.queueing.query_queue import QueryQueue
from spanlake.server.queueing.turns import TurnLimits
from spanlake.server.routes.explain import explain_routes
from spanlake.server.routes.metrics import metrics_routes
from spanlake.server.routes.overrides import override_routes
from spanlake.server.routes.search import search_routes
from spanlake.server.routes.status import overview_routes, status_routes
from spanlake.server.routes.tags import tag_routes
from spanlake.server.routes.trace import trace_routes
from spanlake.server.routes.trace_diff import trace_diff_routes
from spanlake.server.streaming.methods import streaming_methods
from spanlake.server.streaming.service import StreamingEdge, StreamingServer
from spanlake.server.transport.budget import ByteBudget
from spanlake.server.transport.connection import ConnectionLimits, bounded_protocol
from spanlake.server.transport.front import PipeListener, shared_protocol
from spanlake.server.transport.sockets import bind
from spanlake.server.transport.tls import Handshakes, Tls, secured
from spanlake.server.work_pool import WorkPool

SWEEP_SECONDS = 1.0
"""How often calls whose message is late are looked for."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports in use."""

    http: int
    otlp_grpc: int
    otlp_http: int
    grpc: int = 0


@dataclass(frozen=True, slots=True)
class Core:
    """What the listeners serve."""

    receiver: SpanReceiver
    reader: TraceReader
    health: Health
    registry: CollectorRegistry
    queries: Queries
    credentials: Sequence[Credential] | None = None  # None: everybody may do everything
    limits: LimitsSource | None = None  # None: those of the settings for every tenant
    tls: Tls | None = None  # None: everything in the clear
    overrides: TenantOverrides | None = None  # None: limits come from settings alone


class Listeners:
    """Owns sockets and threads from `start` to `stop`; both are called once, on one event loop."""

    def __init__(self, core: Core, server: ServerSettings, query: QuerySettings) -> None:
        self._settings = server
        self._tls = core.tls
        own = core.limits or SameLimits(TenantLimits(query_range_seconds_max=query.range_seconds_max))
        concurrency = turn_limits(server, lambda tenant: own.of(tenant).query_concurrency_max)
        self._queries = QueryQueue(concurrency, QueueMetrics(core.registry))
        self._push_pools = [
            WorkPool(name, threads=server.receive_threads, queue_max=server.receive_queue_max) for name in ("otlp-http", "otlp-grpc")
        ]
        self._metrics = metrics = EdgeMetrics(core.registry)
        access = Access(core.credentials, server.multitenancy, metrics.denied)
        metrics.watch(*self._push_pools)
        metrics.watch_queries(self._queries)
        budget = ByteBudget(server.receive_bytes_max)
        metrics.watch_budget(budget)
        http_pool, grpc_pool = self._push_pools
        self._otlp_http_app = otlp_http_app(PushEdge(core.receiver, http_pool, budget, server, metrics, threading.Lock(), access))
        query_edge = QueryEdge(self._queries, query.timeout_seconds, access)

        def limits(tenant: str) -> RangeLimits:
            return RangeLimits(own.of(tenant).query_range_seconds_max)

        routes = [
            *status_routes(core.health, core.registry),
            *trace_diff_routes(query_edge, core.reader, query.trace_diff_bytes_max),
            *trace_routes(query_edge, core.reader, core.queries.filterer),
            *search_routes(query_edge, core.queries.searcher, limits),
            *tag_routes(query_edge, core.queries.tags, limits),
            *metrics_routes(query_edge, core.queries.meter),
            *explain_routes(query_edge, core.queries, limits),
            *(override_routes(query_edge, core.overrides) if core.overrides else ()),
        ]
        self._query_app = query_app([*routes, *overview_routes(core.health, routes)], access, server.http_api_prefix)
        self._otlp_grpc = OtlpGrpcServer(ExportEdge(core.receiver, grpc_pool, server, metrics, access))
        methods = streaming_methods(core.queries, limits)
        self._streaming = StreamingServer(StreamingEdge(query_edge, methods), server)
        self._listeners: list[HttpListener | PipeListener] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> Ports:
        """Bind everything, then serve. ConfigError if a port cannot be bound, and then nothing is left bound."""
        settings = self._settings
        chosen = {"http": settings.http_port, "otlp_http": settings.otlp_http_port, "grpc": settings.grpc_port}
        async with AsyncExitStack() as undo:
            sockets = {name: undo.enter_context(bind(settings.host, port, f"{name}_port")) for name, port in chosen.items()}
            pipes = await self._streaming.start()
            undo.push_async_callback(self._streaming.stop, 0)
            otlp_grpc_port = self._otlp_grpc.start(self._tls)
            undo.pop_all()
        ports = {name: bound.getsockname()[1] for name, bound in sockets.items()}
        http = bounded_protocol(_connection_limits(settings))
        listeners: dict[str, HttpListener | PipeListener] = {
            "http": HttpListener(
                self._query_app, self._behind_tls(shared_protocol(http, pipes), "http_and_grpc"), sockets["http"], settings
            ),
            "otlp_http": HttpListener(self._otlp_http_app, self._behind_tls(http, "http"), sockets["otlp_http"], settings),
            "grpc": PipeListener(
                sockets["grpc"],
                pipes,
                connections_max=settings.connections_max,
                drain_seconds=settings.drain_seconds,
                wrapped=lambda pipe: self._behind_tls(pipe, "grpc"),
            ),
        }
        for name, listener in listeners.items():
            await listener.start()
            self._listeners.append(listener)
            self._metrics.watch_connections(name, listener.count_connections)
        self._sweeper = asyncio.create_task(self._sweep())
        return Ports(**ports, otlp_grpc=otlp_grpc_port)

    def _behind_tls(self, protocol: Callable[..., Any], offered: Literal["http", "http_and_grpc", "grpc"]) -> Callable[..., Any]:
        """The protocol, encrypted if there is a certificate."""
        if self._tls is None:
            return protocol
        settings = self._settings
        return secured(protocol, Handshakes(getattr(self._tls, offered), settings.header_seconds, settings.connections_max))

    async def stop(self) -> None:
        """Take nothing new, finish what is in flight within `drain_seconds`, drop the rest."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        drain_seconds = self._settings.drain_seconds
        grpc_servers = (self._otlp_grpc.stop(drain_seconds), self._streaming.stop(drain_seconds))
        await asyncio.gather(*grpc_servers, *(listener.stop() for listener in self._listeners))
        self._queries.close()
        for pool in self._push_pools:
            pool.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._otlp_grpc.slow_calls.sweep()


def turn_limits(server: ServerSettings, concurrency_of: Callable[[str], int] = lambda _tenant: 0) -> TurnLimits:
    """The bounds on queries; `concurrency_of` a tenant is its own bound, or 0. Where there are several tenants, none takes every thread."""
    threads = max(server.query_threads - 1, 1) if server.multitenancy else server.query_threads
    return TurnLimits(
        running_max=server.query_threads,
        waiting_max=server.query_queue_max,
        running_max_of=lambda tenant: min(concurrency_of(tenant) or threads, threads),
        waiting_per_tenant_max=min(server.query_queue_per_tenant_max, server.query_queue_max),
    )


def serve_until_signal(listeners: Listeners, on_ready: Callable[[Ports], None]) -> None:
    """Serve from the main thread until SIGTERM or SIGINT, then drain and return.

    From the first signal on, also after the return, both have their default action: a second one ends the process at once.
    """

    async def serve() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        ports = await listeners.start()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stopped.set)
            on_ready(ports)
            await stopped.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)
            await listeners.stop()

    asyncio.run(serve())


def _connection_limits(settings: ServerSettings) -> ConnectionLimits:
    return ConnectionLimits(settings.connections_max, settings.header_bytes_max, settings.header_seconds, settings.stall_seconds)


class HttpListener:
    """One uvicorn server on a bound socket, which it owns."""

    def __init__(self, app: Starlette, protocol: Any, bound: socket.socket, settings: ServerSettings) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        self._server = _Server(config)
        self._socket = bound
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept connections; returns when it does."""
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait((self._serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._serving

    def count_connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._server.server_state.connections)

    async def stop(self) -> None:
        """Close the socket, let requests in flight finish for `drain_seconds`."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (one place decides when to stop, for all listeners), which says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
