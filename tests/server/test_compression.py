"""Bounded decompression: any body comes back, any damage is named, no bomb takes more than the limit and one step."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.model.errors import InvalidInput, Overloaded, TooLarge, UnsupportedEncoding
from spanlake.server.transport.budget import ByteBudget, Reservation
from spanlake.server.transport.compression import MEMBERS_MAX, SUPPORTED, check_encoding, decompress

MIB = 1 << 20
COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zlib": zlib.compress,
    "zstd": zstandard.compress,
}


def ignore(_size: int) -> None:
    pass


def decompressed(body: bytes, encoding: str, bytes_max: int = 10 * MIB) -> bytes:
    return decompress(body, encoding, bytes_max=bytes_max, grow=ignore)


def test_supported_encodings_are_those_of_the_table() -> None:
    assert set(COMPRESSORS) == set(SUPPORTED)
    for encoding in SUPPORTED:
        check_encoding(encoding)
    with pytest.raises(UnsupportedEncoding, match="unsupported content encoding 'snappy'"):
        check_encoding("snappy")


@settings(deadline=None)
@given(st.sampled_from(sorted(COMPRESSORS)), st.binary(max_size=300), st.integers(1, 40_000))
def test_body_comes_back_when_compressed(encoding: str, seed: bytes, repeats: int) -> None:
    body = (seed * repeats)[: 3 * MIB]
    assert decompressed(COMPRESSORS[encoding](body), encoding) == body


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["gzip", "deflate", "zlib", "zstd"]), st.binary(min_size=1, max_size=200), st.data())
def test_body_is_refused_or_whole_when_its_bytes_were_changed(encoding: str, body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(COMPRESSORS[encoding](body))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        decompressed(bytes(damaged), encoding)
    except (InvalidInput, TooLarge):
        return


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zlib", "zstd"])
def test_body_is_refused_when_it_is_cut_anywhere(encoding: str) -> None:
    whole = COMPRESSORS[encoding](bytes(range(256)) * 20)
    for size in range(len(whole)):
        with pytest.raises(InvalidInput, match=f"^the body is not {encoding}: "):
            decompressed(whole[:size], encoding)


@pytest.mark.parametrize("encoding", ["deflate", "zlib"])
def test_body_is_refused_when_something_follows_it(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="something follows its end"):
        decompressed(zlib.compress(b"x") * 2, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_body_of_many_members_is_one_body_up_to_their_limit(encoding: str) -> None:
    member = COMPRESSORS[encoding](b"x")
    assert decompressed(member * MEMBERS_MAX, encoding) == b"x" * MEMBERS_MAX
    with pytest.raises(InvalidInput, match=str(MEMBERS_MAX)):
        decompressed(member * (MEMBERS_MAX + 1), encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zlib", "zstd"])
def test_limit_is_exact_when_a_body_reaches_it(encoding: str) -> None:
    body = COMPRESSORS[encoding](bytes(5000))
    assert len(decompressed(body, encoding, 5000)) == 5000
    with pytest.raises(TooLarge, match="larger than 4999 bytes after decompression"):
        decompressed(body, encoding, 4999)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bomb_takes_memory_of_the_limit_and_one_step_when_it_goes_off(encoding: str) -> None:
    stream = zlib.compressobj(wbits=31) if encoding == "gzip" else zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(stream.compress(bytes(4 * MIB)) for _ in range(25)) + stream.flush()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompressed(bomb, encoding, 2 * MIB)
        assert tracemalloc.get_traced_memory()[1] < 40 * MIB
    finally:
        tracemalloc.stop()


def test_decompression_stops_when_the_shared_memory_is_spent() -> None:
    budget = ByteBudget(3 * MIB)
    with Reservation(budget) as other, Reservation(budget) as reservation:
        other.grow(MIB)
        with pytest.raises(Overloaded):
            decompress(gzip.compress(bytes(9 * MIB)), "gzip", bytes_max=10 * MIB, grow=reservation.grow)
        assert MIB < budget.reserved_bytes <= 3 * MIB
    assert budget.reserved_bytes == 0
