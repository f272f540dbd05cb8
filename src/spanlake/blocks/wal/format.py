"""The bytes of a segment: its header, its frames, and the proof that a frame is what the log wrote at that place in its order.

Nothing here does I/O. Every frame header carries a digest keyed with the writer id that covers the segment number and a sequence
number which only grows. So an authentic header can be recognised anywhere in a damaged file, its length can be trusted, and
bytes inside a payload never pass for a frame: whoever sends a payload does not know the key, and a copy of an older frame has
a sequence number that was already read. The layout is documented byte by byte in docs/formats/wal.md.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

PAYLOAD: Final = 1
"""Frame kind: the body is an OTLP ExportTraceServiceRequest as received."""
CARRY: Final = 2
"""Frame kind: the body is what a cut carries into the next generation, in the form that the ingest package chooses."""

VERSION: Final = 1
SEGMENT_MAGIC: Final = b"SPANLWAL"
FRAME_MARKER: Final = b"\xf5\xc0WF"  # 0xf5 and 0xc0 never occur in UTF-8, so text cannot contain it
DIGEST_BYTES: Final = 8
BODY_BYTES_MAX: Final = 1 << 30
TENANT_BYTES_MAX: Final = 0xFFFF

_SEGMENT_FIELDS: Final = struct.Struct("<8sIQ16s")
_FRAME_FIELDS: Final = struct.Struct("<4sIQIBBH")
SEGMENT_HEADER_BYTES: Final = _SEGMENT_FIELDS.size + DIGEST_BYTES
FRAME_HEADER_BYTES: Final = _FRAME_FIELDS.size + DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself; `writer_id` is 32 lower-case hex digits."""

    version: int
    number: int
    writer_id: str


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What precedes tenant and body. `checksum` is the CRC-32 of the tenant's bytes followed by the body."""

    body_bytes: int
    sequence: int
    checksum: int
    kind: int
    tenant_bytes: int

    @property
    def frame_bytes(self) -> int:
        """The size of the whole frame: this header, the tenant, the body."""
        return FRAME_HEADER_BYTES + self.tenant_bytes + self.body_bytes


def checksum(tenant: bytes, body: bytes | memoryview) -> int:
    """CRC-32 over tenant and body; releases the GIL for bodies of more than a few kB."""
    return zlib.crc32(body, zlib.crc32(tenant))


def encode_segment_header(number: int, writer_id: str) -> bytes:
    """The first `SEGMENT_HEADER_BYTES` of a segment."""
    fields = _SEGMENT_FIELDS.pack(SEGMENT_MAGIC, VERSION, number, bytes.fromhex(writer_id))
    return fields + _segment_digest(fields)


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """The header at the start of `data`; None when it is cut short or not what was written."""
    fields, digest = data[: _SEGMENT_FIELDS.size], data[_SEGMENT_FIELDS.size : SEGMENT_HEADER_BYTES]
    if len(data) < SEGMENT_HEADER_BYTES or digest != _segment_digest(fields):
        return None
    magic, version, number, writer = _SEGMENT_FIELDS.unpack(fields)
    return SegmentHeader(version, number, writer.hex()) if magic == SEGMENT_MAGIC else None


class FrameCodec:
    """Frame headers of one segment of one log."""

    def __init__(self, number: int, writer_id: str) -> None:
        # Keying is the dearer half of a short digest: it is done once here and copied for every frame.
        self._keyed = blake2b(struct.pack("<Q", number), digest_size=DIGEST_BYTES, key=bytes.fromhex(writer_id), person=b"spanlake frame")

    def encode(self, header: FrameHeader) -> bytes:
        """The `FRAME_HEADER_BYTES` of a frame."""
        assert 0 <= header.body_bytes <= BODY_BYTES_MAX
        assert 0 <= header.tenant_bytes <= TENANT_BYTES_MAX
        flags = 0
        fields = _FRAME_FIELDS.pack(
            FRAME_MARKER, header.body_bytes, header.sequence, header.checksum, header.kind, flags, header.tenant_bytes
        )
        return fields + self._digest(fields)

    def decode(self, data: bytes) -> FrameHeader | None:
        """The header at the start of `data`; None when it is cut short or this segment never contained it."""
        fields, digest = data[: _FRAME_FIELDS.size], data[_FRAME_FIELDS.size : FRAME_HEADER_BYTES]
        if not data.startswith(FRAME_MARKER) or len(data) < FRAME_HEADER_BYTES or digest != self._digest(fields):
            return None
        _, body_bytes, sequence, crc, kind, _flags, tenant_bytes = _FRAME_FIELDS.unpack(fields)
        return FrameHeader(body_bytes, sequence, crc, kind, tenant_bytes)

    def _digest(self, fields: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(fields)
        return keyed.digest()


def _segment_digest(fields: bytes) -> bytes:
    return blake2b(fields, digest_size=DIGEST_BYTES, person=b"spanlake segment").digest()
