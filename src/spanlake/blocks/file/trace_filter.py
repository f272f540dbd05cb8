"""The trace-id filter of a block: a split-block Bloom filter that answers "is this trace surely not here?".

The construction is Parquet's (parquet-format, BloomFilter.md): 256-bit buckets of eight 32-bit words, one bit per word; our own hash of the
sixteen bytes takes the place of xxHash, which no reader but ours needs. 16 bits per trace give about one false positive in 800.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.model.kernel import kernel

BITS_PER_TRACE = 16
_SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
_MASK64 = (1 << 64) - 1
_HIGH_FACTOR, _LOW_FACTOR, _FINAL_FACTOR = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9


def hash_trace(high: int, low: int) -> int:
    """64 bits that depend on every bit of a trace id."""
    scattered = low * _LOW_FACTOR & _MASK64
    mixed = (high * _HIGH_FACTOR ^ scattered >> 32 ^ scattered) & _MASK64
    mixed = (mixed ^ mixed >> 29) * _FINAL_FACTOR & _MASK64
    return mixed ^ mixed >> 32


@kernel
def _insert(hashes: Any, salts: Any, words: Any) -> None:
    buckets = np.uint64(len(words) // 8)
    for i in range(len(hashes)):
        bucket = np.int64(((hashes[i] >> np.uint64(32)) * buckets) >> np.uint64(32)) * 8
        key = np.uint32(hashes[i] & np.uint64(0xFFFFFFFF))
        for k in range(8):
            words[bucket + k] |= np.uint32(1) << (np.uint32(key * salts[k]) >> np.uint32(27))


def hash_traces(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`hash_trace` of arrays."""
    scattered = low * np.uint64(_LOW_FACTOR)
    mixed = high * np.uint64(_HIGH_FACTOR) ^ scattered >> np.uint64(32) ^ scattered
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(_FINAL_FACTOR)
    hashes: NDArray[np.uint64] = mixed ^ mixed >> np.uint64(32)
    return hashes


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """The words of a filter: uint32[8 * buckets]. ValueError for another number of words."""

    words: NDArray[np.uint32]

    def __post_init__(self) -> None:
        if not len(self.words) or len(self.words) % 8:
            raise ValueError(f"a trace filter has a multiple of 8 words, not {len(self.words)}")

    def may_have(self, high: int, low: int) -> bool:
        """False if the trace is not in the block; True if it probably is."""
        hashed = hash_trace(high, low)
        bucket = ((hashed >> 32) * (len(self.words) // 8) >> 32) * 8
        key = hashed & 0xFFFFFFFF
        words = self.words[bucket : bucket + 8].tolist()
        return all(word >> ((key * salt & 0xFFFFFFFF) >> 27) & 1 for word, salt in zip(words, _SALTS, strict=True))


def build_filter(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> TraceFilter:
    """The filter of a set of trace ids."""
    words = np.zeros(8 * max(1, -(-len(high) * BITS_PER_TRACE // 256)), np.uint32)
    _insert(hash_traces(np.ascontiguousarray(high), np.ascontiguousarray(low)), np.array(_SALTS, np.uint32), words)
    return TraceFilter(words)
