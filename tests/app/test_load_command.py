"""`spanlake load` against a small OTLP receiver: what arrives, what is retried, what is reported, and what reading back finds."""

from __future__ import annotations

import argparse
import gzip
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from spanlake.app.cli import load
from spanlake.app.load.run import LoadPlan, run_load
from spanlake.app.load.schedule import SpanGoal
from spanlake.app.load.send.address import parse_address
from spanlake.app.load.tally import Tally
from spanlake.app.load.traces import TraceTemplates
from spanlake.model.errors import InvalidInput, Unavailable

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Fault:
    """An answer other than success."""

    grpc_code: grpc.StatusCode
    http_status: int
    retry_seconds: int | None = None
    message: str = "not now"

    def status(self) -> bytes:
        status = Status(code=self.grpc_code.value[0], message=self.message)
        if self.retry_seconds is not None:
            detail = AnyMessage()
            detail.Pack(RetryInfo(retry_delay=Duration(seconds=self.retry_seconds)))
            status.details.append(detail)
        data: bytes = status.SerializeToString()
        return data


BUSY = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, 0, "RATE_LIMITED: slow down")
TOO_MUCH = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, None, "too much")
DOWN = Fault(grpc.StatusCode.UNAVAILABLE, 503, 0)
BROKEN = Fault(grpc.StatusCode.INVALID_ARGUMENT, 400, None, "malformed [payload]")


@dataclass
class Receiver:
    """What an OTLP receiver holds, and the faults that it will answer first. `rejects` spans of each request are not taken.

    No request is answered while `open` is not set.
    """

    grpc_url: str = ""
    http_url: str = ""
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    rejects: int = 0
    spans: dict[bytes, list[bytes]] = field(default_factory=dict)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    query_faults: list[int] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, request: ExportTraceServiceRequest, headers: dict[str, str]) -> Fault | ExportTraceServiceResponse:
        self.arrived.set()
        assert self.open.wait(60)
        with self.lock:
            self.headers.append(headers)
            if self.faults or self.always:
                return self.always or self.faults.pop(0)
            self.requests.append(request)
            for span in (span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans):
                self.spans.setdefault(span.trace_id, []).append(span.span_id)
            return ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=self.rejects))

    def span_counts(self) -> Counter[bytes]:
        return Counter(span for spans in self.spans.values() for span in spans)


class GrpcEdge(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802 (generated name)
        answer = self.receiver.take(request, dict(context.invocation_metadata()))
        if isinstance(answer, Fault):
            context.set_trailing_metadata((("grpc-status-details-bin", answer.status()),))
            context.abort(answer.grpc_code, answer.message)
            raise AssertionError("abort raises")
        return answer


def http_handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one packet, else each waits for a delayed acknowledgement

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = receiver.take(ExportTraceServiceRequest.FromString(body), headers)
            if isinstance(answer, Fault):
                self.answer(answer.http_status, answer.status(), answer.retry_seconds)
            else:
                self.answer(200, answer.SerializeToString())

        def do_GET(self) -> None:
            assert self.headers["Accept"] == "application/protobuf"
            trace_id = bytes.fromhex(self.path.removeprefix("/api/v2/traces/"))
            with receiver.lock:
                fault = receiver.query_faults.pop(0) if receiver.query_faults else 200
                spans = [Span(trace_id=trace_id, span_id=span) for span in receiver.spans.get(trace_id, [])]
            trace = TracesData(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
            # TraceByIDResponse has `trace` where ExportTraceServiceRequest has resource_spans[0]: let the official encoder wrap it.
            outer = ExportTraceServiceRequest(resource_spans=[ResourceSpans.FromString(trace.SerializeToString())])
            self.answer(fault, outer.SerializeToString())

        def answer(self, status: int, body: bytes, retry_seconds: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if retry_seconds is not None:
                self.send_header("Retry-After", str(retry_seconds))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (name given by http.server)
            pass

    return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.open.set()
    grpc_server = grpc.server(ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(GrpcEdge(receiver), grpc_server)
    receiver.grpc_url = f"http://127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), http_handler(receiver)) as http_server:
        receiver.http_url = f"http://127.0.0.1:{http_server.server_address[1]}"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield receiver
        http_server.shutdown()
        thread.join()
    grpc_server.stop(None).wait()


def arguments(receiver: Receiver, protocol: str, *options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    load.add_parser(parser.add_subparsers())
    endpoint = receiver.grpc_url if protocol == "grpc" else receiver.http_url
    given = ("load", "--endpoint", endpoint, "--protocol", protocol, "--query-url", receiver.http_url, "--json", *options)
    return parser.parse_args(given)


@dataclass(frozen=True)
class Ran:
    status: int
    report: dict[str, Any]
    errors: str


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run_command(receiver: Receiver, protocol: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def run_command(*options: str) -> Ran:
        args = arguments(receiver, protocol, *options)
        status = args.run(args)
        output = capsys.readouterr()
        return Ran(status, json.loads(output.out), output.err)

    return run_command


def expected_spans(seed: int, batch: int, payloads: int) -> Counter[bytes]:
    templates = TraceTemplates(seed, batch)
    return Counter(span for number in range(payloads) for spans in templates.expected(number).values() for span in spans)


@pytest.mark.parametrize("extra", [(), ("--gzip",), ("--connections", "1"), ("--rate", "20_000")])
def test_everything_sent_arrives_once(receiver: Receiver, run_command: Any, extra: tuple[str, ...]) -> None:
    ran = run_command("--spans", "500", "--batch", "50", "--seed", "3", "--verify", *extra)
    assert ran.status == 0
    # Fewer payloads than ten: each holds up to a trace more than asked for.
    assert receiver.span_counts() == expected_spans(3, 50, len(receiver.requests))
    assert ran.report["spans_acknowledged"] == receiver.span_counts().total() >= 500
    assert ran.report["payloads_acknowledged"] == len(receiver.requests)
    assert ran.report["spans_per_second"] > 0
    assert ran.report["megabytes_per_second"] > 0
    assert 0 < ran.report["latency_ms"]["p50"] <= ran.report["latency_ms"]["p99"] <= ran.report["latency_ms"]["max"]
    assert (ran.report["errors"], ran.report["retries"], ran.report["seed"]) == ({}, {}, 3)
    assert ran.report["verification"]["passed"]
    assert ran.report["verification"]["traces_read"] == len(receiver.spans)
    assert ran.report["verification"]["spans_expected"] == ran.report["spans_acknowledged"]


def test_spans_are_recent_when_they_arrive(receiver: Receiver, run_command: Any) -> None:
    import time

    before_ns = time.time_ns()
    run_command("--spans", "20", "--batch", "20")
    ends_ns = [
        span.end_time_unix_nano for group in receiver.requests[0].resource_spans for scope in group.scope_spans for span in scope.spans
    ]
    assert before_ns - 2_000_000_000 < max(ends_ns) <= time.time_ns()


def test_headers_and_tenant_are_sent(receiver: Receiver, run_command: Any, protocol: str) -> None:
    run_command("--spans", "10", "--batch", "10", "--header", "X-Trial=one=1", "--tenant", "blue")
    assert receiver.headers[0]["x-trial"] == "one=1"
    assert receiver.headers[0]["x-scope-orgid"] == "blue"


@pytest.mark.parametrize("fault", [BUSY, DOWN])
def test_payload_is_sent_again_when_the_receiver_asks_for_it(receiver: Receiver, run_command: Any, protocol: str, fault: Fault) -> None:
    receiver.faults = [fault, fault]
    ran = run_command("--spans", "60", "--batch", "20", "--connections", "1", "--seed", "1", "--verify")
    assert ran.status == 0
    assert receiver.span_counts() == expected_spans(1, 20, len(receiver.requests))
    assert ran.report["retries"] == {fault.grpc_code.name if protocol == "grpc" else f"HTTP {fault.http_status}": 2}


@pytest.mark.parametrize("fault", [BROKEN, TOO_MUCH])
def test_payload_is_not_sent_again_when_it_can_never_be_taken(receiver: Receiver, run_command: Any, protocol: str, fault: Fault) -> None:
    receiver.faults = [fault]
    ran = run_command("--spans", "60", "--batch", "20", "--connections", "1", "--seed", "1")
    assert ran.status == 1
    reason = fault.grpc_code.name if protocol == "grpc" else f"HTTP {fault.http_status}"
    assert ran.report["errors"] == {reason: {"payloads": 1, "example": fault.message}}
    assert ran.report["spans_failed"] >= 20
    assert ran.report["retries"] == {}
    assert not ran.report["gave_up"]


def test_run_gives_up_when_nothing_is_ever_taken(receiver: Receiver, run_command: Any) -> None:
    receiver.always = DOWN
    ran = run_command("--spans", "2000", "--batch", "100", "--retries", "1", "--connections", "2")
    assert ran.status == 1
    assert ran.report["gave_up"]
    assert ran.report["spans_acknowledged"] == 0
    assert "gave up" in ran.errors
    assert "(given up after 1 retries)" in json.dumps(ran.report["errors"])


def test_rejected_spans_are_reported_and_their_payloads_not_verified(receiver: Receiver, run_command: Any) -> None:
    receiver.rejects = 3
    ran = run_command("--spans", "20", "--batch", "20", "--verify")
    assert ran.status == 1
    assert ran.report["spans_rejected"] == 3
    assert ran.report["spans_acknowledged"] == receiver.span_counts().total() - 3
    assert ran.report["verification"]["traces_wanted"] == 0


def test_sample_of_traces_is_read_back(receiver: Receiver, run_command: Any) -> None:
    receiver.query_faults = [503]
    ran = run_command("--spans", "300", "--batch", "100", "--verify-sample", "5")
    assert ran.status == 0
    assert ran.report["verification"]["traces_read"] == 5


def test_missing_and_doubled_spans_are_found(
    receiver: Receiver, protocol: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = TraceTemplates(11, 40)
    gone, hurt, twice = templates.trace_ids_in(0)[:3]
    lost = templates.expected(0)[hurt][1]

    take = receiver.take

    def forgetful_take(request: ExportTraceServiceRequest, headers: dict[str, str]) -> Fault | ExportTraceServiceResponse:
        answer = take(request, headers)
        receiver.spans.pop(gone, None)
        if lost in receiver.spans.get(hurt, ()):
            receiver.spans[hurt].remove(lost)
            receiver.spans[twice] *= 2
        return answer

    monkeypatch.setattr(receiver, "take", forgetful_take)
    args = arguments(receiver, protocol, "--spans", "40", "--batch", "40", "--seed", "11", "--verify")
    args.json = False
    assert args.run(args) == 1
    output = capsys.readouterr().out
    assert "VERIFICATION FAILED: 3 of" in output
    missing, doubled = len(templates.expected(0)[gone]) + 1, len(templates.expected(0)[twice])
    assert f": {missing} spans missing, {doubled} spans more than once" in output
    assert f"trace {gone.hex()} (payload 0): {missing - 1} missing: {templates.expected(0)[gone][0].hex()}" in output
    assert f"trace {hurt.hex()} (payload 0): 1 missing: {lost.hex()}" in output
    assert f"trace {twice.hex()} (payload 0): {doubled} more than once" in output


def test_report_for_people_names_speed_latency_and_errors(receiver: Receiver, protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    receiver.faults = [BUSY, BROKEN]
    args = arguments(receiver, protocol, "--spans", "60", "--batch", "20", "--seed", "1", "--connections", "1", "--verify")
    args.json = False
    assert args.run(args) == 1
    output = capsys.readouterr()
    for text in (
        "spans acknowledged",
        "spans/s",
        "MB/s",
        "latency p99",
        "retried 1 times",
        "malformed [payload]",
        "each span exactly once",
    ):
        assert text in output.out
    assert output.err.splitlines()[0] == "preparing traces"


@pytest.mark.parametrize(("option", "words"), [("--endpoint", "spanlake serve"), ("--query-url", "--query-url URL")])
def test_unreachable_server_is_named_with_what_to_do(receiver: Receiver, protocol: str, option: str, words: str) -> None:
    args = arguments(receiver, protocol, "--verify", option, "http://127.0.0.1:1")
    with pytest.raises(Unavailable, match=rf"cannot reach http://127\.0\.0\.1:1: connection refused; .*{words}"):
        args.run(args)


def test_unusable_url_is_named(receiver: Receiver) -> None:
    args = arguments(receiver, "grpc", "--endpoint", "ftp://somewhere")
    with pytest.raises(InvalidInput, match="'ftp://somewhere'"):
        args.run(args)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--duration", "soon"), "'soon' is not a time such as 500ms, 30s, 5m or 1h"),
        (("--rate", "0"), "0 is not a positive number"),
        (("--batch", "0"), "0 is not between 1 and 200000"),
        (("--connections", "many"), "invalid number value: 'many'"),
        (("--header", "novalue"), "'novalue' is not NAME=VALUE"),
        (("--spans", "5", "--duration", "5s"), "not allowed with argument --spans"),
    ],
)
def test_bad_options_are_explained(
    receiver: Receiver, options: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments(receiver, "grpc", *options)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("batch", "rate", "expected"), [(None, None, 1000), (None, 50, 5), (None, 1, 1), (None, 1e6, 1000), (77, 50, 77), (77, None, 77)]
)
def test_batches_are_small_at_a_low_rate(batch: int | None, rate: float | None, expected: int) -> None:
    assert load.batch_spans(batch, rate) == expected


def test_interrupt_ends_with_the_report(receiver: Receiver, protocol: str) -> None:
    program = (
        "import argparse, sys; from spanlake.app.cli import load; p = argparse.ArgumentParser(); load.add_parser(p.add_subparsers());"
        "a = p.parse_args(); sys.exit(a.run(a))"
    )
    endpoint = receiver.grpc_url if protocol == "grpc" else receiver.http_url
    options = ("load", "--endpoint", endpoint, "--protocol", protocol, "--duration", "0", "--rate", "500", "--batch", "30", "--json")
    command = (sys.executable, "-c", program, *options, "--verify", "--query-url", receiver.http_url)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert receiver.arrived.wait(30)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    report = json.loads(output)
    assert report["interrupted"]
    assert report["spans_acknowledged"] == receiver.span_counts().total() > 0
    assert report["verification"]["passed"]
    assert "Traceback" not in errors


def test_second_interrupt_ends_requests_that_hang(receiver: Receiver, protocol: str) -> None:
    receiver.open.clear()
    endpoint = receiver.grpc_url if protocol == "grpc" else receiver.http_url
    plan = LoadPlan(parse_address(endpoint, 4317), protocol, SpanGoal(10_000))

    def watch(_tally: Tally) -> None:
        if receiver.arrived.is_set():
            signal.raise_signal(signal.SIGINT)

    try:
        sent = run_load(TraceTemplates(1, 20, templates=1), plan, watch)
    finally:
        receiver.open.set()
    assert sent.interrupted
    assert sent.tally.figures().spans_acknowledged == 0
    assert 1 <= sent.tally.figures().failures_total <= plan.connections
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
