"""What a simulated span says about itself: names, attributes and events, by the OpenTelemetry semantic conventions.

`simulate` decides what happens, this module words it. Texts may hold the slots of `shop`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from spanlake.app.load.generate import shop
from spanlake.app.load.generate.pieces import Value
from spanlake.app.load.generate.shop import USER, Consumer, Endpoint, Failure, Query, Work

Attributes: TypeAlias = tuple[tuple[str, Value], ...]

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "ShopApp/7.4.1 (Android 16; Pixel 9)",
)
_SQL = ("postgresql", "mysql")
_PORTS = {"gateway": 443, "frontend": 3000}
_FRAMES = (
    "dispatch",
    "invoke",
    "handleRequest",
    "withTransaction",
    "runInterceptors",
    "callHandler",
    "doFilter",
    "await",
    "poll",
    "execute",
    "park",
    "run",
)


@dataclass(frozen=True, slots=True)
class EventDraft:
    """An event; its time is nanoseconds from the begin of the trace."""

    name: str
    at_ns: int
    attributes: Attributes


def endpoint_name(endpoint: Endpoint) -> str:
    """The name of a server's span."""
    return f"{endpoint.method} {endpoint.route}" if endpoint.method else endpoint.route


def client_library(service: str) -> str:
    """The instrumentation library that a service's outgoing calls report."""
    return f"{shop.SERVICES[service].server_library}.client"


def queue_library(service: str) -> str:
    """The instrumentation library that a service's messages report."""
    return f"kafka.{shop.SERVICES[service].language}.messaging"


def failure_of(random: Random, service: str) -> Failure:
    """Something that goes wrong in a service."""
    return random.choice(shop.SERVICE_FAILURES.get(service, shop.OTHER_FAILURES))


def served(random: Random, endpoint: Endpoint, *, failed: bool) -> Attributes:
    """Attributes of a server's span."""
    pod = random.randrange(64)
    peer = f"fd00:10:244:0:8d1f:{pod % 8}:4a0b:{0x2000 + pod:x}"
    if not endpoint.method:
        return (
            *_rpc(endpoint, failed=failed),
            ("user.id", USER),
            ("network.peer.address", peer),
            ("app.queue.wait_ms", 0.8),
            ("app.deadline.propagated", random.random() < 0.9),
        )
    attributes: Attributes = (
        ("http.request.method", endpoint.method),
        ("http.route", endpoint.route),
        ("http.response.status_code", random.choice((500, 502, 503)) if failed else _success(random, endpoint)),
        ("url.path", endpoint.path.partition("?")[0]),
        ("user.id", USER),
        ("network.peer.address", peer),
        ("app.cache.hit", random.random() < 0.4),
        ("http.response.body.size", int(random.lognormvariate(7.5, 1.0))),
    )
    if endpoint.service == "gateway":
        query = endpoint.path.partition("?")[2]
        address = f"198.51.100.{random.randrange(1, 255)}"
        attributes += (
            ("user_agent.original", random.choice(_AGENTS)),
            ("client.address", address),
            *((("url.query", query),) if query else ()),
        )
    return attributes


def _success(random: Random, endpoint: Endpoint) -> int:
    chances = (200, 200, 201, 204) if endpoint.method == "POST" else (200, 200, 200, 304)
    return 404 if random.random() < 0.01 else random.choice(chances)


def called(random: Random, endpoint: Endpoint, *, failed: bool) -> Attributes:
    """Attributes of a client's span."""
    host = f"{endpoint.service}.shop.svc.cluster.local"
    port = _PORTS.get(endpoint.service, 8080)
    resent = (("http.request.resend_count", 1),) if random.random() < 0.01 else ()
    if not endpoint.method:
        return (
            *_rpc(endpoint, failed=failed),
            ("server.address", host),
            ("server.port", port),
            ("app.connection.reused", random.random() < 0.97),
        )
    return (
        ("http.request.method", endpoint.method),
        ("url.full", f"http://{host}:{port}{endpoint.path}{'&' if '?' in endpoint.path else '?'}region=eu-central-1&locale=en-GB"),
        ("server.address", host),
        ("server.port", port),
        ("http.response.status_code", 503 if failed else 200),
        ("app.connection.reused", random.random() < 0.95),
        *resent,
    )


def _rpc(endpoint: Endpoint, *, failed: bool) -> Attributes:
    service, _, method = endpoint.route.partition("/")
    return (("rpc.system", "grpc"), ("rpc.service", service), ("rpc.method", method), ("rpc.grpc.status_code", 13 if failed else 0))


def queried(random: Random, query: Query) -> Attributes:
    """Attributes of a database client's span. SQL carries the comment that object mappers leave in it."""
    database = shop.DATABASES[query.database]
    place = f"com.shop.{query.target}.repository.{query.target}Repository.{query.operation.lower()}"
    comment = f" /* app:{database.namespace}, from:{place} */" if database.system in _SQL else ""
    return (
        ("db.system.name", database.system),
        ("db.namespace", database.namespace),
        ("db.operation.name", query.operation),
        ("db.query.text", query.text + comment),
        ("server.address", database.address),
        ("server.port", database.port),
        ("db.response.returned_rows", int(random.lognormvariate(1.0, 1.2))),
        ("app.pool.wait_ms", 0.35),
    )


def worked(random: Random, work: Work) -> Attributes:
    """Attributes of an internal span."""
    return (
        ("code.function.name", f"com.shop.runtime.tasks.{work.name.replace(' ', '.')}.TaskWorker.runWithContext"),
        ("thread.id", random.randrange(1, 65)),
        ("app.work.items", random.randrange(1, 400)),
        ("app.work.score", 0.62),
        ("app.work.cpu_ms", 3.2),
        ("feature_flag.variant", random.choice(("control", "treatment-a", "treatment-b"))),
        ("app.experiment", random.random() < 0.3),
    )


def published(random: Random, queue: str) -> Attributes:
    """Attributes of a producer's span."""
    return (
        *_messaging(queue, "send"),
        ("messaging.destination.partition.id", str(random.randrange(12))),
        ("messaging.kafka.offset", random.randrange(10_000_000)),
        ("messaging.message.body.size", random.randrange(300, 4000)),
        ("user.id", USER),
    )


def consumed(random: Random, queue: str, consumer: Consumer, *, messages: int) -> Attributes:
    """Attributes of a consumer's span."""
    return (
        *_messaging(queue, "process"),
        ("messaging.consumer.group.name", f"{consumer.service}-workers"),
        ("messaging.destination.partition.id", str(random.randrange(12))),
        ("messaging.kafka.offset", random.randrange(10_000_000)),
        ("messaging.batch.message_count", messages),
        ("app.lag_ms", 140.0),
        ("app.redelivered", random.random() < 0.02),
    )


def _messaging(queue: str, operation: str) -> Attributes:
    return (("messaging.system", "kafka"), ("messaging.destination.name", queue), ("messaging.operation.type", operation))


def exception_events(service: str, failure: Failure | None, at_ns: int) -> tuple[EventDraft, ...]:
    """The exception that a failed span recorded, with its stack trace; nothing without a failure."""
    if failure is None:
        return ()
    lines = [f"{failure.kind}: {failure.message}", f"    at com.shop.{service}.{failure.function}({service.capitalize()}.java:88)"]
    lines += [
        f"    at com.shop.runtime.pipeline.AsyncStage.{frame}(AsyncStage.java:{40 + 17 * depth})" for depth, frame in enumerate(_FRAMES)
    ]
    attributes: Attributes = (
        ("exception.type", failure.kind),
        ("exception.message", failure.message),
        ("exception.stacktrace", "\n".join(lines)),
        ("exception.escaped", True),
    )
    return (EventDraft("exception", at_ns, attributes),)


def served_events(random: Random, service: str, failure: Failure | None, end_ns: int) -> tuple[EventDraft, ...]:
    """Events of a server's span: an exception, or now and then a log line."""
    if failure is None and random.random() < 0.1:
        return (
            EventDraft(
                "log",
                end_ns,
                (
                    ("log.severity", "WARN"),
                    (
                        "log.message",
                        f"dependency of {service} answered slowly for {USER}, serving the last known value from the local cache",
                    ),
                ),
            ),
        )
    return exception_events(service, failure, end_ns)


def work_events(random: Random, start_ns: int, end_ns: int) -> tuple[EventDraft, ...]:
    """Events of an internal span: some report cache misses and checkpoints on their way."""
    if random.random() >= 0.3:
        return ()
    middle_ns = (start_ns + end_ns) // 2
    return (
        EventDraft("cache.miss", start_ns, (("cache.key", f"score:{USER}"),)),
        EventDraft("checkpoint", middle_ns, (("app.progress", 0.5), ("app.items.done", random.randrange(1, 200)))),
    )
