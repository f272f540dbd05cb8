"""Seeded OTLP payloads, cheap enough to outrun any receiver: copies of a few templates with fresh ids, times and numbers written over.

`payload(number, now_ns)` is a pure function of the seed, the payload number and the time, so that a run can be repeated, and whoever
remembers the numbers that were acknowledged can say which spans must be there (`expected`). Within a seed, span ids and trace ids never
repeat: they are a bijection of (payload number, ordinal).
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.app.load.generate.pieces import Patch
from spanlake.app.load.generate.template import Template, build_template

SPANS_PER_PAYLOAD = 1000
POOL_SPANS = 32_000  # spans in all templates together, so that building them takes the same few seconds for any size of payload
TEMPLATES_MAX = 1000
SPANS_PER_PAYLOAD_MAX = 200_000
_ORDINAL_BITS = 20  # spans of a payload; leaves 44 bits for the payload number
_SPAN_SALT, _TRACE_SALT = 0x5350414E, 0x5452414345
_GOLDEN = 0x9E3779B97F4A7C15
_SPREAD_NS = 1_000_000_000.0  # the traces of a payload end within this time before `now_ns`


class TraceTemplates:
    """The payloads of a seed. Templates are built on first use (some 0.1 ms per span) and kept; safe to share between threads."""

    def __init__(self, seed: int, spans_per_payload: int = SPANS_PER_PAYLOAD, *, templates: int | None = None) -> None:
        """A payload holds whole traces, so it has `spans_per_payload` spans or up to one trace more. `templates` belong to the seed:
        another number of them makes other payloads; None takes as many as hold POOL_SPANS."""
        assert 1 <= spans_per_payload <= SPANS_PER_PAYLOAD_MAX, spans_per_payload
        self.seed = seed
        self.spans_per_payload = spans_per_payload
        self.distinct = max(1, min(TEMPLATES_MAX, POOL_SPANS // spans_per_payload)) if templates is None else templates
        self._templates: list[Template | None] = [None] * self.distinct
        self._lock = Lock()
        self._digits = _Digits()

    def payload(self, number: int, now_ns: int) -> bytes:
        """The ExportTraceServiceRequest number `number`; every span in it ended within some seconds before `now_ns`."""
        template = self._template(number)
        spans = self._span_ids(number, template)
        traces = self._trace_ids(number, template)
        buffer = template.data.copy()
        words = _unaligned(buffer, "<u8")
        places = template.places
        words[places[Patch.SPAN_ID].at] = spans[places[Patch.SPAN_ID].of]
        ids = places[Patch.TRACE_ID]
        words[ids.at] = traces[ids.of, 0]
        words[ids.at + 8] = traces[ids.of, 1]
        chance = traces[:, 1]  # ids are as good as random, so they choose the varying values too
        times = places[Patch.TIME]
        words[times.at] = _times_ns(chance, times.of, times.value, now_ns)
        doubles = places[Patch.DOUBLE]
        factors = 0.5 + _sixteen_bits(spans, 0)[doubles.of] / 65536
        words[doubles.at] = np.round(doubles.value * factors, 3).view("<u8")
        self._digits.write(buffer, template, spans, chance)
        return buffer.tobytes()

    def spans_in(self, number: int) -> int:
        """How many spans payload `number` holds."""
        return self._template(number).spans

    def traces_in(self, number: int) -> int:
        """How many traces payload `number` holds."""
        return self._template(number).traces

    def trace_ids_in(self, number: int) -> list[bytes]:
        """The trace ids of payload `number`, 16 bytes each; all spans of these traces are in it."""
        data = self._trace_ids(number, self._template(number)).tobytes()
        return [data[at : at + 16] for at in range(0, len(data), 16)]

    def expected(self, number: int) -> Mapping[bytes, tuple[bytes, ...]]:
        """Trace id -> ids of its spans: what must be there once payload `number` is acknowledged."""
        template = self._template(number)
        data = self._span_ids(number, template).tobytes()
        spans = [data[at : at + 8] for at in range(0, len(data), 8)]
        first = template.trace_first.tolist()
        return {
            trace_id: tuple(spans[begin:end]) for trace_id, begin, end in zip(self.trace_ids_in(number), first, first[1:], strict=False)
        }

    def _template(self, number: int) -> Template:
        assert 0 <= number < 1 << (64 - _ORDINAL_BITS), number
        index = number % self.distinct
        with self._lock:
            template = self._templates[index]
            if template is None:
                template = build_template(Random(f"{self.seed} {index}"), self.spans_per_payload)  # noqa: S311 (made-up data)
                assert template.spans < 1 << _ORDINAL_BITS
                self._templates[index] = template
            return template

    def _span_ids(self, number: int, template: Template) -> NDArray[np.uint64]:
        return _unique_words(self.seed ^ _SPAN_SALT, number, template.spans)

    def _trace_ids(self, number: int, template: Template) -> NDArray[np.uint64]:
        """Shape (traces, 2): the first and last 8 bytes of each id as little-endian words. The first are distinct by themselves."""
        first = _unique_words(self.seed ^ _TRACE_SALT, number, template.traces)
        return np.stack([first, _mix(first + np.uint64(_GOLDEN))], axis=1).astype("<u8")


def _unique_words(key: int, number: int, count: int) -> NDArray[np.uint64]:
    """`count` words that no other (number, ordinal) of the same key has: every step is a bijection of 64-bit words.

    The one word in 2^64 that would be zero, which OTLP forbids, becomes 1.
    """
    base = _mix(np.array([key & (1 << 64) - 1], np.uint64))
    ordinals = np.arange(count, dtype=np.uint64) + np.uint64(number << _ORDINAL_BITS)
    words = _mix(base + ordinals * np.uint64(_GOLDEN))
    words[words == 0] = 1
    return words.astype("<u8", copy=False)


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of splitmix64 (https://prng.di.unimi.it/splitmix64.c), element by element."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _times_ns(chance: NDArray[np.uint64], of: NDArray[np.int64], from_end_ns: NDArray[np.float64], now_ns: int) -> NDArray[np.uint64]:
    """Times of a payload: each trace is stretched and moved as a whole, so that order within it stays as it was simulated."""
    stretch = 0.7 + 0.9 * (_sixteen_bits(chance, 0) / 65536)
    ends_ns = now_ns - (_sixteen_bits(chance, 1) * (_SPREAD_NS / 65536)).astype(np.int64)
    # Floats hold these differences (minutes at most) to well under a nanosecond, and truncating keeps their order.
    return (ends_ns[of] + (from_end_ns * stretch[of]).astype(np.int64)).astype(np.uint64)


def _sixteen_bits(words: NDArray[np.uint64], place: int) -> NDArray[np.int64]:
    """Bits 16 * place … 16 * place + 15 of each word."""
    return (words >> np.uint64(16 * place) & np.uint64(0xFFFF)).astype(np.int64)


def _unaligned(buffer: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """A view whose element i is the word that begins at byte i: a scatter into it writes whole words at any offset."""
    width = np.dtype(dtype).itemsize
    return np.ndarray(shape=(len(buffer) - width + 1,), dtype=dtype, buffer=buffer, strides=(1,))


class _Digits:
    """Tables from 16 random bits to the digits that fill a slot. Low numbers come more often, as popular users and items do."""

    def __init__(self) -> None:
        skewed = (np.arange(65536) / 65536) ** 2
        self._users = np.frombuffer(b"".join(b"%02d" % n for n in range(100)), "<u2")[(skewed * 100).astype(np.int64)]
        self._numbers = np.frombuffer(b"".join(b"%04d" % n for n in range(10_000)), "<u4")[(skewed * 10_000).astype(np.int64)]

    def write(self, buffer: NDArray[np.uint8], template: Template, spans: NDArray[np.uint64], traces: NDArray[np.uint64]) -> None:
        """Fills the slots of a payload; `spans` and `traces` are random words of each span and trace."""
        users = template.places[Patch.USER]
        _unaligned(buffer, "<u2")[users.at] = self._users[_sixteen_bits(traces, 2)][users.of]
        fours = _unaligned(buffer, "<u4")
        of_trace = template.places[Patch.TRACE_NUMBER]
        fours[of_trace.at] = self._numbers[_sixteen_bits(traces, 3)][of_trace.of]
        of_span = template.places[Patch.SPAN_NUMBER]
        shift = of_span.value.astype(np.uint64) * np.uint64(16)
        fours[of_span.at] = self._numbers[(spans[of_span.of] >> shift & np.uint64(0xFFFF)).astype(np.int64)]
