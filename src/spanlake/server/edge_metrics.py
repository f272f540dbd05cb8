"""What the listeners report about themselves to Prometheus: pushes by outcome, bytes, and how full each bound is. Spans are counted by
ingest."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from spanlake.server.queueing.query_queue import QueryQueue
from spanlake.server.queueing.turns import Full
from spanlake.server.transport.budget import ByteBudget
from spanlake.server.work_pool import WorkPool

CODE_NAMES = {
    0: "ok",
    3: "invalid_argument",
    4: "deadline_exceeded",
    5: "not_found",
    7: "permission_denied",
    8: "resource_exhausted",
    13: "internal",
    14: "unavailable",
    16: "unauthenticated",
}


QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.5, 1, 5, 10, 30, 60)


class EdgeMetrics:
    """Owns the listeners' metrics in `registry`; make one per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests = Counter("spanlake_push_requests", "Pushes by outcome (gRPC code)", ("protocol", "code"), registry=registry)
        self._bytes = Counter("spanlake_push_bytes", "Pushed bytes, decompressed", ("protocol",), registry=registry)
        self._denied = Counter("spanlake_access_refusals", "Requests without the credentials for them", ("reason",), registry=registry)
        self._connections = Gauge("spanlake_http_connections", "Open HTTP connections", ("listener",), registry=registry)
        self._tasks = Gauge(
            "spanlake_work_tasks", "Requests that run on a pool's threads or, pushes, wait for one", ("pool",), registry=registry
        )

    def watch_queries(self, queue: QueryQueue) -> None:
        """Show how many queries run and wait."""
        self._tasks.labels("query").set_function(queue.count_running)
        waiting = Gauge("spanlake_query_queue_length", "Queries that wait for a thread", registry=self._registry)
        waiting.set_function(queue.count_waiting)

    def watch(self, *pools: WorkPool) -> None:
        """Show how busy the pools are."""
        for pool in pools:
            self._tasks.labels(pool.name).set_function(pool.count_tasks)

    def watch_budget(self, budget: ByteBudget) -> None:
        """Show the memory that pushed bodies take."""
        gauge = Gauge("spanlake_push_body_bytes", "Memory of pushed HTTP bodies in flight", registry=self._registry)
        gauge.set_function(lambda: budget.reserved_bytes)

    def watch_connections(self, listener: str, count: Callable[[], int]) -> None:
        """Show the open connections of an HTTP listener."""
        self._connections.labels(listener).set_function(count)

    def taken(self, protocol: str, size: int) -> None:
        """A push was accepted."""
        self._requests.labels(protocol, "ok").inc()
        self._bytes.labels(protocol).inc(size)

    def denied(self, reason: str) -> None:
        """A request lacked credentials, or the right ones."""
        self._denied.labels(reason).inc()

    def refused(self, protocol: str, grpc_code: int) -> None:
        """A push was refused."""
        self._requests.labels(protocol, CODE_NAMES[grpc_code]).inc()


class QueueMetrics:
    """`server.queueing.query_queue.QueueReport`: owns its metrics in `registry`; make one per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waited = Histogram(
            "spanlake_query_queue_seconds", "How long queries waited for a thread", registry=registry, buckets=QUEUE_SECONDS
        )
        self._refused = Counter("spanlake_query_refused", "Queries refused because too many wait", ("bound",), registry=registry)

    def started(self, waited_seconds: float) -> None:
        self._waited.observe(waited_seconds)

    def refused(self, full: Full) -> None:
        self._refused.labels(full.value).inc()
