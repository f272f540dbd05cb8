"""OTLP over gRPC. What may be sent again follows the OTLP specification, as the collector's exporter does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from spanlake.app.load.send.address import Address
from spanlake.app.load.send.answers import decode_response, decode_retry_seconds
from spanlake.app.load.send.outcome import Outcome, Refused, SendOptions, TryAgain

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RETRYABLE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
_CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # else channels to one address share one connection
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # retries are counted, so they are ours
    # Reconnecting no later than the sender's own retries, so that a restarted server is found at the next one.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class GrpcTransport:
    """A channel with a connection of its own."""

    def __init__(self, address: Address, options: SendOptions) -> None:
        target = f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
        if address.secure:
            self._channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(), options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(target, options=_CHANNEL_OPTIONS)
        # No serializers: bytes in, bytes out.
        self._export: Callable[..., bytes] = self._channel.unary_unary(METHOD)
        self._options = options
        self._aborted = False
        self._metadata = tuple((key.lower(), value) for key, value in options.headers)

    def send(self, payload: bytes) -> Outcome:
        compression = grpc.Compression.Gzip if self._options.gzip else grpc.Compression.NoCompression
        try:
            body = self._export(payload, timeout=self._options.timeout_seconds, metadata=self._metadata, compression=compression)
        except grpc.RpcError as error:
            return _outcome_of_error(error)
        except ValueError:
            # How grpcio answers on a closed channel, which is so only after `abort`.
            if not self._aborted:
                raise
            return TryAgain(grpc.StatusCode.CANCELLED.name, "the run was ended")
        return decode_response(body)

    def abort(self) -> None:
        self._aborted = True
        self._channel.close()

    def close(self) -> None:
        self._channel.close()


def _outcome_of_error(error: Any) -> Outcome:
    code: grpc.StatusCode = error.code()
    message = str(error.details() or "")
    after_seconds = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            after_seconds = decode_retry_seconds(value)
    # RESOURCE_EXHAUSTED without RetryInfo says that the payload itself is too much.
    if code in RETRYABLE or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and after_seconds is not None):
        return TryAgain(code.name, message, after_seconds)
    return Refused(code.name, message)
