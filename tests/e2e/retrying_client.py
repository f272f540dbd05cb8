"""A client that sends as the OpenTelemetry Collector's exporters do: it repeats what may succeed later, after the pause that it is asked
for, and gives up on anything else (wire-contract section 7.4)."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import cast

import grpc
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HTTP_RETRYABLE = {429, 502, 503, 504}
GRPC_RETRYABLE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
BACKOFF_FIRST_SECONDS, BACKOFF_MAX_SECONDS = 0.05, 2.0
TRIES_MAX = 200


class Dropped(Exception):
    """The exporter would have thrown this payload away."""


@dataclass
class Report:
    """What happened, for all clients together."""

    refused: Counter[str] = field(default_factory=Counter)
    pauses: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def refuse(self, code: str, pause_seconds: float | None, number: int) -> None:
        """Note it and wait: as long as the server asks for, or ever longer."""
        with self.lock:
            self.refused[code] += 1
            if pause_seconds is not None:
                self.pauses.append(pause_seconds)
        backoff = min(BACKOFF_FIRST_SECONDS * 1.5**number, BACKOFF_MAX_SECONDS) * random.uniform(0.5, 1.5)
        time.sleep(backoff if pause_seconds is None else max(backoff, pause_seconds))


def send_http(port: int, payloads: Iterable[bytes], report: Report) -> None:
    """Over one connection, in order; Dropped if one is lost."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for payload in payloads:
            for number in range(TRIES_MAX):
                try:
                    connection.request("POST", "/v1/traces", payload, {"Content-Type": "application/x-protobuf"})
                    response = connection.getresponse()
                    body = response.read()
                except (OSError, http.client.HTTPException):  # whether it was taken, nobody knows
                    connection.close()
                    report.refuse("no answer", None, number)
                    continue
                if response.status == 200:
                    break
                if response.status not in HTTP_RETRYABLE:
                    raise Dropped(f"{response.status} {body!r}")
                after = response.getheader("Retry-After")
                report.refuse(str(response.status), None if after is None else float(after), number)
            else:
                raise Dropped("too many tries")
    finally:
        connection.close()


def send_grpc(port: int, payloads: Iterable[bytes], report: Report) -> None:
    """The same over gRPC."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export: Callable[..., bytes] = channel.unary_unary(EXPORT)
        for payload in payloads:
            for number in range(TRIES_MAX):
                try:
                    export(payload, timeout=60)
                    break
                except grpc.RpcError as error:
                    call = cast("grpc.Call", error)
                    pause = retry_info(call)
                    exhausted = call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and pause is not None
                    if call.code() not in GRPC_RETRYABLE and not exhausted:
                        raise Dropped(f"{call.code()} {call.details()}") from None
                    report.refuse(call.code().name, pause, number)
            else:
                raise Dropped("too many tries")


def retry_info(call: grpc.Call) -> float | None:
    """The pause that RetryInfo in the trailing metadata asks for."""
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    return None
