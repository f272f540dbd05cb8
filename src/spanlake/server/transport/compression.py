"""Content encodings of request bodies, decompressed a step at a time, so that a bomb costs the limit and not what it claims to be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import zstandard

from spanlake.model.errors import InvalidInput, TooLarge, UnsupportedEncoding

SUPPORTED = ("identity", "gzip", "deflate", "zlib", "zstd")

INPUT_STEP_BYTES = 4096
"""Small, because zlib copies the rest of a step behind each gzip member."""

OUTPUT_STEP_BYTES = 1 << 20
MEMBERS_MAX = 10_000
"""Gzip members or zstd frames of one body; each costs time, however small."""

WINDOW_BYTES_MIN = 8 << 20
"""A zstd window that every decoder has to support (RFC 8878)."""

ZSTD_INPUT_STEP_BYTES = 512
"""zstd has no output limit per call and makes at most 128 KiB of 4 bytes, so this much gives at most 16 MiB."""

_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def check_encoding(encoding: str) -> None:
    """UnsupportedEncoding if `decompress` does not know it."""
    if encoding not in SUPPORTED:
        raise UnsupportedEncoding(f"unsupported content encoding {encoding[:40]!r}, supported: {', '.join(SUPPORTED)}")


def decompress(body: bytes, encoding: str, *, bytes_max: int, grow: Callable[[int], None]) -> bytes:
    """The decompressed body; `grow` hears of each step's bytes before the next step, and may raise.

    Raises TooLarge beyond `bytes_max` and InvalidInput for a body that is damaged, cut or followed by something else. Gzip members and
    zstd frames in a row are one body. `deflate` is zlib, as the standard says, or raw, as some clients understood it.
    """
    match encoding:
        case "identity":
            return body
        case "gzip":
            chunks = _inflated(body, _GZIP_BITS)
        case "zlib":
            chunks = _inflated(body, _ZLIB_BITS)
        case "deflate":
            chunks = _inflated(body, _ZLIB_BITS if _has_zlib_header(body) else _RAW_BITS)
        case "zstd":
            chunks = _unzstd(body, bytes_max)
        case _:
            raise AssertionError(encoding)
    out = bytearray()
    try:
        for chunk in chunks:
            if len(out) + len(chunk) > bytes_max:
                raise TooLarge(f"the body is larger than {bytes_max} bytes after decompression")
            grow(len(chunk))
            out += chunk
    except (zlib.error, zstandard.ZstdError) as error:
        raise InvalidInput(f"the body is not {encoding}: {error}") from None
    return bytes(out)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _inflated(body: bytes, window_bits: int) -> Iterator[bytes]:
    """Steps of the inflated body. Only gzip may have several members."""
    view = memoryview(body)
    members_max = MEMBERS_MAX if window_bits == _GZIP_BITS else 1
    stream, members = zlib.decompressobj(window_bits), 1
    for begin in range(0, len(view), INPUT_STEP_BYTES):
        rest: bytes | memoryview = view[begin : begin + INPUT_STEP_BYTES]
        while rest:
            if stream.eof:
                stream, members = zlib.decompressobj(window_bits), members + 1
            if members > members_max:
                raise zlib.error(f"something follows its end ({members_max} members)")
            yield stream.decompress(rest, OUTPUT_STEP_BYTES)
            rest = stream.unused_data if stream.eof else stream.unconsumed_tail
    # What a step left inside the decompressor, beyond the last input, comes out with more room only.
    while not stream.eof:
        chunk = stream.decompress(b"", OUTPUT_STEP_BYTES)
        if not chunk:
            raise zlib.error("it is cut")
        yield chunk


def _unzstd(body: bytes, bytes_max: int) -> Iterator[bytes]:
    """Steps of the decompressed frames. A window larger than the limit cannot belong to an acceptable body."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=max(bytes_max, WINDOW_BYTES_MIN))
    view = memoryview(body)
    frame, frames = decompressor.decompressobj(), 1
    for begin in range(0, len(view), ZSTD_INPUT_STEP_BYTES):
        rest: bytes | memoryview = view[begin : begin + ZSTD_INPUT_STEP_BYTES]
        while rest:
            if frame.eof:
                frame, frames = decompressor.decompressobj(), frames + 1
            if frames > MEMBERS_MAX:
                raise zstandard.ZstdError(f"it has more than {MEMBERS_MAX} frames")
            yield frame.decompress(rest)
            rest = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise zstandard.ZstdError("it is cut")
