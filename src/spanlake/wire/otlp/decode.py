"""OTLP protobuf bytes to a span batch, with the reason for every span that cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.model.errors import InvalidInput
from spanlake.model.spans import ATTR, EVENT, LINK, RESOURCE, SCOPE, SPAN, Records, SpanBatch, Strings
from spanlake.wire.otlp import control
from spanlake.wire.otlp.schema import SCHEMA, scratch_words
from spanlake.wire.otlp.spans import walk_payload

REASON_TEXT = {
    control.MALFORMED: "malformed protobuf",
    control.WRONG_WIRE_TYPE: "a field has the wrong wire type",
    control.INVALID_UTF8: "a string is not valid UTF-8",
    control.BAD_TRACE_ID: "trace_id is not 16 bytes long",
    control.ZERO_TRACE_ID: "trace_id is all zeros",
    control.BAD_SPAN_ID: "span_id is not 8 bytes long",
    control.ZERO_SPAN_ID: "span_id is all zeros",
    control.BAD_PARENT_ID: "parent_span_id is not 8 bytes long",
    control.TOO_DEEP: "an attribute value is nested too deeply",
    control.SCATTERED: "a value that belongs in one place is spread over several",
}
"""What a sender reads; `{reason}: {count}` pairs make up partial_success messages and metric labels."""

_RECORDS = (SPAN, SCOPE, RESOURCE, EVENT, LINK, ATTR)
_ROW_BYTES = (8, *(record.itemsize for record in _RECORDS), 4)
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded payload. `batch.strings.data` is the payload itself; its codes are one per occurrence."""

    batch: SpanBatch
    rejected: tuple[tuple[str, int], ...]  # (reason, spans), most frequent first

    @property
    def rejected_spans(self) -> int:
        return sum(count for _, count in self.rejected)

    @property
    def rejection_message(self) -> str:
        """For partial_success.error_message; empty when every span was kept."""
        return "; ".join(f"{count} spans refused: {reason}" for reason, count in self.rejected)


def decode_otlp(payload: bytes | memoryview, *, depth_max: int = 30) -> Decoded:
    """Decode an ExportTraceServiceRequest (or TracesData, the same bytes).

    Spans that cannot be kept are listed by reason; InvalidInput only when the framing around spans is broken.
    """
    data: NDArray[np.uint8] = np.frombuffer(payload, np.uint8)
    address = data.ctypes.data
    block = np.zeros(control.CONTROL_WORDS + scratch_words(depth_max), np.int64)
    out = block.ctypes.data
    block[control.SCHEMA // 8 : control.NOTES // 8] = _SCHEMA_ADDRESS, out + 8 * control.CONTROL_WORDS, depth_max
    reason = walk_payload(address, out, len(data), 0)
    counted = _rows(block)
    factor = 1
    while reason in (control.OK, control.FULL):
        arena, begins = _make_room(block, counted, len(data), factor)
        reason = walk_payload(address, out, len(data), 1)
        if reason == control.OK:
            strings, tables = _filled(arena, begins, _rows(block))
            rejected = block[control.REJECTED // 8 : control.CONTROL_WORDS].tolist()
            return Decoded(SpanBatch(Strings(data, *strings), *tables), _rejections(rejected) if any(rejected) else ())
        factor *= 4
    raise InvalidInput(f"payload of {len(data)} bytes is not an OTLP ExportTraceServiceRequest: {REASON_TEXT[reason]}")


_SCHEMA_ADDRESS = SCHEMA.ctypes.data


def _rows(block: NDArray[np.int64]) -> list[int]:
    """Rows of each table so far."""
    rows: list[int] = block[control.ROWS // 8 : control.LENGTHS // 8 : 3].tolist()
    return rows


def _make_room(block: NDArray[np.int64], counted: list[int], payload_bytes: int, factor: int) -> tuple[NDArray[np.uint8], list[int]]:
    """Memory for all tables, entered in the control block: exact for what was counted, else for ordinary density times `factor`.

    Returns one array and where in it each table begins, the lengths of the strings last. Pages of it that stay untouched cost no memory,
    and the allocator hands an array of this size out again and again, so that few pages are new.
    """
    _, spans, scopes, resources, *_ = counted
    attrs = (payload_bytes // 24 + 16) * factor
    parts = (payload_bytes // 64 + 16) * factor
    strings = 2 * attrs + 2 * spans + 4 * (scopes + resources)
    capacities = (strings, spans, scopes, resources, parts, parts, attrs, strings)
    begins, size = [], 0
    for capacity, row_bytes in zip(capacities, _ROW_BYTES, strict=True):
        begins.append(size)
        size += capacity * row_bytes + _ALIGNMENT - 1 & -_ALIGNMENT
    arena = np.empty(size, np.uint8)
    base = arena.ctypes.data
    words = [word for begin, capacity in zip(begins, capacities, strict=True) for word in (base + begin, 0, capacity)]
    block[: control.LENGTHS // 8 + 1] = words[: control.LENGTHS // 8 + 1]
    return arena, begins


def _filled(arena: NDArray[np.uint8], begins: list[int], rows: list[int]) -> tuple[tuple[Records, Records], list[Records]]:
    """The filled parts of an arena: the strings' offsets and lengths, and the tables of records."""
    offsets, lengths = np.ndarray(rows[0], np.int64, arena, 0), np.ndarray(rows[0], np.int32, arena, begins[-1])
    tables = [np.ndarray(count, record, arena, begin) for count, record, begin in zip(rows[1:], _RECORDS, begins[1:-1], strict=True)]
    return (offsets, lengths), tables


def _rejections(counts: list[int]) -> tuple[tuple[str, int], ...]:
    found = [(REASON_TEXT[reason], count) for reason, count in enumerate(counts) if count]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0])))
