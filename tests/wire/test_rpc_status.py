"""Answers to a push, read back by the official protobuf classes."""

from __future__ import annotations

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from spanlake.wire.rpc_status import encode_export_response, encode_export_response_json, encode_status, encode_status_json


@pytest.mark.parametrize(("rejected", "reason"), [(0, ""), (3, "resourceSpans[0]: bad ü"), (1 << 40, "x" * 300)])
def test_export_response_reads_back_when_parsed_by_the_official_classes(rejected: int, reason: str) -> None:
    parsed = ExportTraceServiceResponse.FromString(encode_export_response(rejected, reason))
    assert parsed.HasField("partial_success")
    assert (parsed.partial_success.rejected_spans, parsed.partial_success.error_message) == (rejected, reason)
    from_json = json_format.Parse(encode_export_response_json(rejected, reason), ExportTraceServiceResponse())
    assert from_json == parsed


def test_export_response_is_an_empty_partial_success_when_nothing_was_rejected() -> None:
    assert encode_export_response(0, "") == b"\x0a\x00"
    assert encode_export_response_json(0, "") == b'{"partialSuccess":{}}'


STATUS_CASES = [
    # code, message, retry after, JSON, protobuf
    (3, "bad", None, b'{"code":3,"message":"bad"}', b"\x08\x03\x12\x03bad"),
    (
        8,
        "full",
        5,
        b'{"code":8,"message":"full","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"5s"}]}',
        b"\x08\x08\x12\x04full\x1a\x30\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x05",
    ),
    (
        8,
        "",
        0,
        b'{"code":8,"message":"","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"0s"}]}',
        b"\x08\x08\x1a\x2e\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x02\x0a\x00",
    ),
]


@pytest.mark.parametrize(("code", "message", "retry_after_seconds", "in_json", "in_protobuf"), STATUS_CASES)
def test_status_has_its_exact_encoding_when_encoded(
    code: int, message: str, retry_after_seconds: int | None, in_json: bytes, in_protobuf: bytes
) -> None:
    assert encode_status_json(code, message, retry_after_seconds) == in_json
    assert encode_status(code, message, retry_after_seconds) == in_protobuf
