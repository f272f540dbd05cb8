"""OTLP protobuf bytes to a span batch, with the reason for every span that cannot be kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spanlake.model.errors import InvalidInput
from spanlake.model.spans import ATTR, EVENT, LINK, RESOURCE, SCOPE, SPAN, Records, SpanBatch, Strings
from spanlake.wire.otlp import control
from spanlake.wire.otlp.frames import find_frames
from spanlake.wire.otlp.owners import read_owners
from spanlake.wire.otlp.spans import read_spans

REASON_TEXT = {
    control.TRUNCATED: "malformed protobuf",
    control.WRONG_WIRE_TYPE: "a field has the wrong wire type",
    control.INVALID_UTF8: "a string is not valid UTF-8",
    control.BAD_TRACE_ID: "trace_id is not 16 bytes long",
    control.ZERO_TRACE_ID: "trace_id is all zeros",
    control.BAD_SPAN_ID: "span_id is not 8 bytes long",
    control.ZERO_SPAN_ID: "span_id is all zeros",
    control.BAD_PARENT_ID: "parent_span_id is not 8 bytes long",
    control.TOO_DEEP: "an attribute value is nested too deeply",
}
"""What a sender reads; `{reason}: {count}` pairs make up partial_success messages and metric labels."""


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


@dataclass(frozen=True, slots=True)
class _Room:
    """The arrays that the kernel fills, and the block that tells it where they are."""

    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    tables: tuple[Records, ...]  # spans, scopes, resources, events, links, attrs, and the three of frames
    block: NDArray[np.int64]

    def rows(self) -> list[int]:
        """Filled rows of strings and of each table."""
        counts: list[int] = self.block[1 : 3 * control.TABLES : 3].tolist()
        return counts


def _room(payload_bytes: int, factor: int, depth_max: int) -> _Room:
    """Arrays for a payload of ordinary density, times `factor`. Pages of them that stay untouched cost no memory."""
    spans = (payload_bytes // 96 + 16) * factor
    attrs = (payload_bytes // 24 + 64) * factor
    strings = 2 * attrs + 2 * spans
    parts = (payload_bytes // 64 + 16) * factor
    offset, length = np.empty(strings, np.int64), np.empty(strings, np.int32)
    offset[0] = length[0] = 0
    sizes = (spans, parts, parts, parts, parts, attrs, parts, parts, spans)
    records = (SPAN, SCOPE, RESOURCE, EVENT, LINK, ATTR, *(3 * (np.dtype((np.void, control.FRAME_BYTES)),)))
    tables = tuple(np.empty(size, record) for size, record in zip(sizes, records, strict=True))
    block = np.zeros(control.CONTROL_WORDS, np.int64)
    for number, array in enumerate((offset, *tables)):
        block[3 * number : 3 * number + 3] = array.ctypes.data, number == control.STRINGS, len(array)
    block[3 * control.TABLES : 3 * control.TABLES + 2] = length.ctypes.data, depth_max
    return _Room(offset, length, tables, block)


def decode_otlp(payload: bytes | memoryview, *, depth_max: int = 32) -> Decoded:
    """Decode an ExportTraceServiceRequest (or TracesData, the same bytes).

    Spans that cannot be kept are listed by reason; InvalidInput only when the framing around spans is broken.
    """
    data: NDArray[np.uint8] = np.frombuffer(payload, np.uint8)
    factor = 1
    while True:
        room = _room(len(data), factor, depth_max)
        address, block = data.ctypes.data, room.block.ctypes.data
        reason = find_frames(address, len(data), block) or read_owners(address, block) or read_spans(address, block)
        if reason != control.FULL:
            break
        factor *= 4
    if reason != control.OK:
        raise InvalidInput(f"payload of {len(data)} bytes is not an OTLP ExportTraceServiceRequest: {REASON_TEXT[reason]}")
    return Decoded(_filled(data, room), _rejections(room.block[-control.REASONS :]))


def _filled(data: NDArray[np.uint8], room: _Room) -> SpanBatch:
    strings, *rows = room.rows()
    tables = (table[:filled] for table, filled in zip(room.tables[:6], rows, strict=False))
    return SpanBatch(Strings(data, room.offset[:strings], room.length[:strings]), *tables)


def _rejections(counts: NDArray[np.int64]) -> tuple[tuple[str, int], ...]:
    found = [(REASON_TEXT[reason], int(count)) for reason, count in enumerate(counts) if count]
    return tuple(sorted(found, key=lambda pair: (-pair[1], pair[0])))
