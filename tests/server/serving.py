"""A running server with the far side of its ports in memory: what it was pushed is recorded, what it answers is set by the test."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from spanlake.model.errors import ConfigError, QueryCancelled
from spanlake.model.ingest import Accepted
from spanlake.model.metrics import InstantQuery, RangeQuery
from spanlake.model.queries import Progress, SearchAnswer, SearchProgress, SearchQuery, TagNamesQuery, TagValuesQuery
from spanlake.model.settings import QuerySettings, ServerSettings
from spanlake.model.stop import Stop
from spanlake.model.trace import TimeRange, TraceAnswer, TraceFilter
from spanlake.server.listeners import Core, Listeners, Ports
from spanlake.server.ports import BuildInfo, Queries

WAIT_SECONDS = 20
"""Longest wait for something that should happen at once."""

FREE_PORTS = ServerSettings(http_port=0, grpc_port=0, otlp_grpc_port=0, otlp_http_port=0)


@dataclass
class RecordingReceiver:
    """Keeps what it accepts; raises or returns `outcome`. While `gate` is clear, accept waits in it and `entered` counts who does."""

    outcome: Accepted | Exception = field(default_factory=lambda: Accepted(1))
    pushed: list[tuple[str, bytes]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    def accept(self, tenant: str, payload: bytes) -> Accepted:
        self.entered.release()
        assert self.gate.wait(WAIT_SECONDS)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        self.pushed.append((tenant, payload))
        return self.outcome


@dataclass
class RecordingReader:
    """Answers or raises `outcome`; keeps what it was asked."""

    outcome: TraceAnswer | Exception = field(default_factory=lambda: TraceAnswer(b"", 0))
    asked: list[tuple[str, tuple[int, int], TimeRange | None]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    def find(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None) -> TraceAnswer:
        self.entered.release()
        assert self.gate.wait(WAIT_SECONDS)
        self.asked.append((tenant, trace_id, time_range))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class RecordingQueries:
    """Every query of TraceQL: answers or raises `outcome`; keeps what it was asked. With `waits`, answers when it is given up. One
    that is watched tells of `told` before."""

    outcome: Any = None
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    waits: bool = False
    told: tuple[SearchAnswer, ...] = ()
    gave_up: threading.Event = field(default_factory=threading.Event)

    def _answer(self, stop: Stop, *asked: Any) -> Any:
        self.asked.append(asked)
        try:
            while self.waits:
                stop.check()
                time.sleep(0.002)
        except QueryCancelled:
            self.gave_up.set()
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def search(self, tenant: str, query: SearchQuery, stop: Stop, progress: SearchProgress | None = None) -> Any:
        if progress is not None:
            for part in self.told:
                progress.tell(part)
        return self._answer(stop, tenant, query)

    def explain(self, tenant: str, query: SearchQuery | RangeQuery, stop: Stop) -> Any:
        return self._answer(stop, tenant, query, "explain")

    def names(self, tenant: str, query: TagNamesQuery, stop: Stop) -> Any:
        return self._answer(stop, tenant, query)

    def values(self, tenant: str, query: TagValuesQuery, stop: Stop) -> Any:
        return self._answer(stop, tenant, query)

    def values_v1(self, tenant: str, query: TagValuesQuery, stop: Stop) -> Any:
        return self._answer(stop, tenant, query, "v1")

    def query_range(self, tenant: str, query: RangeQuery, stop: Stop, progress: Progress | None = None) -> Any:
        if progress is not None:
            for part in self.told:
                progress.tell(part.inspected)
        return self._answer(stop, tenant, query)

    def query_instant(self, tenant: str, query: InstantQuery, stop: Stop) -> Any:
        return self._answer(stop, tenant, query)

    def find_filtered(self, tenant: str, trace_id: tuple[int, int], time_range: TimeRange | None, wanted: TraceFilter, stop: Stop) -> Any:
        return self._answer(stop, tenant, trace_id, time_range, wanted)


def recording_queries(recording: RecordingQueries | None = None) -> Queries:
    """One recording for all kinds of queries."""
    one = recording or RecordingQueries()
    return Queries(one, one, one, one)


@dataclass
class FixedHealth:
    """Ready unless `reason` is set."""

    reason: str = ""

    def readiness(self) -> str:
        return self.reason

    def effective_config(self) -> str:
        return "data: ./data\n"

    def build(self) -> BuildInfo:
        return BuildInfo(version="0.1.0", revision="abc")


@dataclass(frozen=True)
class Reply:
    """An HTTP response as received; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """A server that runs in a thread of this process."""

    receiver: RecordingReceiver = field(default_factory=RecordingReceiver)
    reader: RecordingReader = field(default_factory=RecordingReader)
    health: FixedHealth = field(default_factory=FixedHealth)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    queries: RecordingQueries = field(default_factory=RecordingQueries)
    ports: Ports = field(default_factory=lambda: Ports(0, 0, 0))

    def push(self, body: Any, method: str = "POST", path: str = "/v1/traces", **headers: str) -> Reply:
        """One request to the OTLP/HTTP port; underscores in header names stand for hyphens."""
        return send(self.ports.otlp_http, method, path, body, headers)

    def get(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """One request to the query port."""
        return send(self.ports.http, method, path, None, headers)

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def send(port: int, method: str, path: str, body: Any, headers: dict[str, str]) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def read_status(encoded: bytes) -> tuple[int, str, int | None]:
    """(code, message, seconds of RetryInfo) of an encoded google.rpc.Status."""
    status = Status.FromString(encoded)
    if not status.details:
        return status.code, status.message, None
    retry_info = RetryInfo()
    assert status.details[0].Unpack(retry_info)
    return status.code, status.message, retry_info.retry_delay.seconds


def read_to_end(connection: socket.socket) -> bytes:
    """What the server sends until it closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, which it should soon."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.002)


@contextmanager
def serving(served: Served | None = None, query: QuerySettings | None = None, **settings: Any) -> Iterator[Served]:
    """Run a server with these settings, on free loopback ports."""
    served = served or Served()
    core = Core(served.receiver, served.reader, served.health, served.registry, recording_queries(served.queries))
    listeners = Listeners(core, replace(FREE_PORTS, **settings), query or QuerySettings())
    with listening(listeners) as served.ports:
        try:
            yield served
        finally:
            served.receiver.gate.set()
            served.reader.gate.set()


@contextmanager
def listening(listeners: Listeners) -> Iterator[Ports]:
    """Run the listeners in a thread of this process."""
    started: Future[Ports] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        try:
            started.set_result(await listeners.start())
        except ConfigError as error:
            started.set_exception(error)
            return
        await stop.wait()
        await listeners.stop()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="serving")
    thread.start()
    ports = started.result(WAIT_SECONDS)
    try:
        yield ports
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
