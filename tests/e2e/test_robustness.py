"""Clients that wait, clients that dawdle, clients that send too much, and many clients at once: nothing dies, nothing is lost, memory
stays bounded. The figures are printed (pytest -s)."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from retrying_client import Report, send_grpc, send_http
from server_process import Server, serving, wait_for

from node import NOW_NS, spans_in
from spanlake.app.load.traces import TraceTemplates

pytestmark = pytest.mark.slow

MIB = 1 << 20
MEMORY_MAX = 1200 * MIB
SPANS_PER_PAYLOAD = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    bounds = {"server.header_seconds": 1, "server.body_seconds": 1, "server.request_bytes_max": 4 * MIB, "ingest.cut_interval_seconds": 5}
    with Server(tmp_path_factory.mktemp("robust"), bounds) as server:
        yield server
        assert server.is_running()
        assert "Traceback" not in server.log()


@contextmanager
def watched(server: Server) -> Iterator[list[int]]:
    """The peak of the server's resident memory; the first value is that before."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    seen = [process.memory_info().rss] * 2
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            seen[1] = max(seen[1], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def show(what: str, memory: list[int], **figures: object) -> None:
    more = "".join(f", {name.replace('_', ' ')} {value}" for name, value in figures.items())
    print(f"\n{what}: memory {memory[0] / 1e6:.0f} MB before, {memory[1] / 1e6:.0f} MB at most{more}")


def payloads_of(client: int, count: int) -> list[bytes]:
    templates = TraceTemplates(client, spans_per_payload=SPANS_PER_PAYLOAD)
    return [templates.payload(number, NOW_NS) for number in range(count)]


def missing(server: Server, payloads: list[bytes]) -> int:
    """Spans of the payloads that trace by id does not find exactly once."""
    sent: Counter[tuple[bytes, bytes]] = Counter()
    for payload in payloads:
        sent.update((one.trace_id, one.span_id) for one in spans_in(TracesData.FromString(payload)))
    found: Counter[tuple[bytes, bytes]] = Counter()
    for trace_id in {trace_id for trace_id, _ in sent}:
        found.update((one.trace_id, one.span_id) for one in spans_in(TracesData.FromString(server.trace(trace_id).body)))
    return ((sent - found) + (found - sent)).total()


def test_retrying_clients_get_everything_through_a_server_that_is_too_small(tmp_path: Path) -> None:
    clients, each = 8, 12
    bounds = {
        "server__receive_threads": 1,
        "server__receive_queue_max": 1,
        "ingest__live_bytes_max": 2 * MIB,
        "ingest__trace_idle_seconds": 0,
    }
    sent = {client: payloads_of(client, each) for client in range(clients)}
    report = Report()
    with serving(tmp_path, **bounds) as small, watched(small) as memory:
        begin = time.monotonic()
        send: list[Callable[[int], None]] = [
            lambda client: send_http(small.ports["otlp_http"], sent[client], report),
            lambda client: send_grpc(small.ports["grpc"], sent[client], report),
        ]
        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(send[client % 2], client) for client in range(clients)]:
                done.result()
        taken = time.monotonic() - begin
        everything = [payload for payloads in sent.values() for payload in payloads]
        assert missing(small, everything[::7]) == 0
        received, spans = small.metric("spanlake_spans_received_total"), len(everything) * SPANS_PER_PAYLOAD
        assert spans <= received <= spans * 1.1  # payloads are filled up to whole traces
    assert set(report.refused) <= {"429", "RESOURCE_EXHAUSTED"}
    assert report.refused.total() > 0
    assert len(report.pauses) == report.refused.total(), "every refusal says for how long"
    show("retrying clients", memory, refused=dict(report.refused), seconds=f"{taken:.1f}")
    assert memory[1] < MEMORY_MAX


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(count)]


def test_retrying_clients_get_everything_through_restarts_and_crashes(tmp_path: Path) -> None:
    clients, each = 4, 40
    sent = {client: payloads_of(400 + client, each) for client in range(clients)}
    grpc_port, http_port = free_ports(2)
    report = Report()
    send: list[Callable[[int], None]] = [
        lambda client: send_http(http_port, paced(sent[client]), report),
        lambda client: send_grpc(grpc_port, paced(sent[client]), report),
    ]
    with serving(tmp_path, server__otlp_grpc_port=grpc_port, server__otlp_http_port=http_port, ingest__cut_interval_seconds=1) as server:
        with ThreadPoolExecutor(clients) as pool:
            done = [pool.submit(send[client % 2], client) for client in range(clients)]
            for end in (server.stop, server.kill):
                time.sleep(1)
                end()
                server.start()
            for one in done:
                one.result()
        everything = [payload for payloads in sent.values() for payload in payloads]
        assert missing(server, everything[::9]) == 0
    assert report.refused.total() > 0
    print(f"\nrestarts: {clients * each} payloads, {dict(report.refused)}")


def paced(payloads: list[bytes]) -> Iterator[bytes]:
    for payload in payloads:
        yield payload
        time.sleep(0.03)


def slow_header(connection: socket.socket) -> None:
    connection.sendall(b"GET /api/search HTTP/1.1\r\nHost: x\r\nX-Slow: ")


def slow_body(connection: socket.socket) -> None:
    connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000\r\n\r\n")


def test_dawdling_clients_are_dropped_and_others_are_served_meanwhile(server: Server) -> None:
    """A byte every 50 ms, never a whole request."""
    with ExitStack() as stack, watched(server) as memory:
        dawdlers = []
        for listener, begin in (("http", slow_header), ("otlp_http", slow_header), ("otlp_http", slow_body)):
            for _ in range(50):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[listener]), 20))
                begin(connection)
                dawdlers.append(connection)
        others = payloads_of(100, 20)
        begin_seconds, answered, left = time.monotonic(), 0, list(dawdlers)
        while left and time.monotonic() - begin_seconds < 15:
            left = [connection for connection in left if not is_over(connection)]
            if answered < len(others):
                assert server.push(others[answered]).status == 200
                answered += 1
            assert server.get("/api/search?q=%7B%7D&limit=1").status == 200
            time.sleep(0.05)
        seconds = time.monotonic() - begin_seconds
        assert left == [], "whoever dawdles is dropped"
    assert missing(server, others[:answered]) == 0
    show("150 dawdlers", memory, dropped_after_seconds=f"{seconds:.1f}")
    assert memory[1] < MEMORY_MAX


def is_over(connection: socket.socket) -> bool:
    """Send one more byte; whether the server has answered or closed. A body that is late is answered, and the connection may stay."""
    try:
        connection.sendall(b"x")
        connection.setblocking(False)  # noqa: FBT003
        connection.recv(1000)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def oversized() -> dict[str, tuple[str, str, bytes, dict[str, str], set[int]]]:
    """Listener, path, body, headers, statuses that are right."""
    import gzip

    protobuf = {"Content-Type": "application/x-protobuf"}
    bomb = gzip.compress(bytes(200 * MIB), 1)
    return {
        "a body": ("otlp_http", "/v1/traces", bytes(5 * MIB), protobuf, {413}),
        "a body that unpacks to more": ("otlp_http", "/v1/traces", bomb, {**protobuf, "Content-Encoding": "gzip"}, {413}),
        "a JSON body": ("otlp_http", "/v1/traces", b'{"x":"' + b"a" * 5 * MIB + b'"}', {"Content-Type": "application/json"}, {413}),
        "headers": ("http", "/api/search", b"", {"X-Large": "a" * 200_000}, {431}),
        "a path": ("http", "/api/search?q=" + "a" * 200_000, b"", {}, {414, 431}),
        "a query": ("http", "/api/search?" + urlencode({"q": "{ " + " || ".join([".a = 1"] * 5000) + " }"}), b"", {}, {400, 414, 431}),
        "a limit": ("http", "/api/search?limit=99999999999999999999", b"", {}, {400}),
        "a body to compare": ("http", "/api/v2/traces/diff", b" " * MIB, {}, {413}),
    }


@pytest.mark.parametrize("what", oversized())
def test_too_much_is_refused_by_its_status(server: Server, what: str) -> None:
    listener, path, body, headers, statuses = oversized()[what]
    with watched(server) as memory:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports[listener], timeout=20)
        try:
            connection.request("POST" if body else "GET", path, body or None, headers)
            status = connection.getresponse().status
        except (BrokenPipeError, ConnectionResetError):
            status = min(statuses)  # refused and closed while we were still sending
        finally:
            connection.close()
    assert status in statuses
    assert memory[1] - memory[0] < 100 * MIB
    assert server.push(payloads_of(5, 1)[0]).status == 200


def test_a_thousand_idle_connections_hold_up_nobody(server: Server) -> None:
    with ExitStack() as stack, watched(server) as memory:
        for number in range(1000):
            listener = ("http", "otlp_http")[number % 2]
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.ports[listener]), 20))
            # A request first: a connection that never makes one is closed after header_seconds.
            connection.sendall(b"GET /api/echo HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 ")
        assert server.metric("spanlake_http_connections") >= 1000
        others = payloads_of(200, 10)
        begin = time.monotonic()
        for payload in others:
            assert server.push(payload).status == 200
            assert server.get("/api/search?q=%7B%7D&limit=5").status == 200
        seconds = time.monotonic() - begin
        time.sleep(1.5)  # longer than header_seconds: being idle is no fault
        assert server.metric("spanlake_http_connections") >= 1000
    wait_for(lambda: server.metric("spanlake_http_connections") < 10, "idle connections to go")
    assert missing(server, others) == 0
    per_connection = (memory[1] - memory[0]) / 1000
    show("1000 idle connections", memory, bytes_each=f"{per_connection:.0f}", push_and_query_ms=f"{100 * seconds:.1f}")
    assert per_connection < 100_000


QUERIES = [
    ("/api/search", {"q": "{ }", "limit": "200", "spss": "20"}),
    ("/api/search", {"q": "{ status = error } >> { }", "limit": "50"}),
    ("/api/search", {"q": '{ name =~ ".*a.*" } | by(resource.service.name) | count() > 1'}),
    ("/api/v2/search/tags", {}),
    ("/api/v2/search/tag/resource.service.name/values", {"q": "{ duration > 1ms }"}),
    (
        "/api/metrics/query_range",
        {"q": "{ } | rate() by (resource.service.name)", "start": str(NOW_NS - 10**12), "end": str(NOW_NS + 10**12)},
    ),
    ("/api/traces/1", {}),
]


def test_two_hundred_queries_at_once_while_spans_arrive(server: Server) -> None:
    for payload in payloads_of(300, 50):
        assert server.push(payload).status == 200
    stopped = threading.Event()
    pushed: list[bytes] = []
    late: list[float] = []

    def push() -> None:
        report = Report()
        for payload in payloads_of(301, 2000):
            if stopped.is_set():
                return
            begin = time.monotonic()
            send_http(server.ports["otlp_http"], [payload], report)
            late.append(time.monotonic() - begin)
            pushed.append(payload)
            time.sleep(0.02)

    def ask(number: int) -> tuple[int, float]:
        path, parameters = QUERIES[number % len(QUERIES)]
        begin = time.monotonic()
        answer = server.get(f"{path}?{urlencode(parameters)}")
        return int(answer.status), time.monotonic() - begin

    with watched(server) as memory:
        pusher = threading.Thread(target=push)
        pusher.start()
        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(ask, random.Random(1).sample(range(600), 400)))
        stopped.set()
        pusher.join()
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {200, 404}, statuses  # 404: the trace that is not there
    assert len(pushed) > 3
    assert missing(server, pushed[:: max(len(pushed) // 5, 1)]) == 0
    assert server.metric("spanlake_query_queue_length") == 0
    took = sorted(seconds for _, seconds in answers)
    acknowledged = f"{1000 * sorted(late)[len(late) // 2]:.0f} ms, longest {1000 * max(late):.0f} ms"
    show("400 queries, 200 at once", memory, median=f"{took[len(took) // 2]:.1f} s", longest=f"{took[-1]:.1f} s", acknowledged=acknowledged)
    assert memory[1] < MEMORY_MAX
