"""`spanlake serve` as users run it: a process with ports of its own that can be killed, stopped and started again on the same data."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import grpc

WAIT_SECONDS = 120.0
"""Longest wait for anything; a machine that compiles kernels for the first time needs it."""

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_PORTS = {"grpc": r"OTLP/gRPC\s+\S+:(\d+)", "otlp_http": r"OTLP/HTTP\s+\S+:(\d+)/v1/traces", "http": r"curl http://[^:/]+:(\d+)/"}


@dataclass
class Answer:
    """A response: status (of gRPC the code's name), headers in lower case, body."""

    status: int | str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Server:
    """Not started until `start`. Its log goes to `serve.log` in the directory. `prefix` is a command to start it with."""

    directory: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    data: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    prefix: Sequence[str] = ()
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if self.process is not None:
            self.kill()
        if kind is not None:
            print((self.directory / "serve.log").read_text()[-5000:])

    def start(self, *, wait: bool = True) -> Self:
        """Start and read the ports; with `wait`, return when it is ready."""
        options = [option for name, value in self.settings.items() for option in ("--set", f"{name}={value}")]
        ports = ["--http-port", "0", "--grpc-port", "0", "--otlp-grpc-port", "0", "--otlp-http-port", "0"]
        data = ["--data", self.data or str(self.directory / "data")]
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "serve.log").open("a") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "spanlake", "serve", *data, *ports, *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.directory,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **self.environment},
            )
        self._read_ports()
        if wait:
            wait_for(self.is_ready, "the server to be ready")
        return self

    def _read_ports(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        self.ports = {}
        while len(self.ports) < len(_PORTS):
            line = self.process.stdout.readline()
            if not line:
                self.kill()
                raise AssertionError(f"the server ended: {self.log()[-2000:]}")
            self.ports |= {name: int(match[1]) for name, pattern in _PORTS.items() if (match := re.search(pattern, line))}

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(number)
        status = self.process.wait(WAIT_SECONDS)
        self.process.stdout.close()
        self.process = None
        return status

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        assert self.is_running(), self.log()[-2000:]
        return self.get("/ready").status == 200

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A GET of the query API."""
        return request(self.ports["http"], "GET", path, b"", headers or {})

    def push(self, payload: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """POST a protobuf payload over OTLP/HTTP."""
        types = {"Content-Type": "application/x-protobuf"}
        return request(self.ports["otlp_http"], "POST", "/v1/traces", payload, types | dict(headers or {}))

    def push_grpc(self, payload: bytes) -> Answer:
        """Export a payload over gRPC."""
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.ports['grpc']}", options=options) as channel:
            export: Callable[..., bytes] = channel.unary_unary(EXPORT)
            try:
                return Answer("OK", {}, export(payload, timeout=WAIT_SECONDS))
            except grpc.RpcError as error:
                call = cast("grpc.Call", error)
                return Answer(call.code().name, {}, (call.details() or "").encode())

    def trace(self, trace_id: bytes, headers: Mapping[str, str] | None = None) -> Answer:
        """The trace as tempopb.Trace, whose fields are those of TracesData."""
        return self.get(f"/api/traces/{trace_id.hex()}", {"Accept": "application/protobuf", **(headers or {})})

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = self.get("/metrics").body.decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line))

    def log(self) -> str:
        return (self.directory / "serve.log").read_text()


def request(port: int, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    finally:
        connection.close()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; fail when it does not come to."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def serving(directory: Path, **settings: object) -> Iterator[Server]:
    """A ready server; `__` in names stands for the dot of a setting."""
    with Server(directory, {name.replace("__", "."): value for name, value in settings.items()}) as server:
        yield server
