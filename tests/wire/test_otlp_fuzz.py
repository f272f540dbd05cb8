"""Whatever the bytes, the OTLP decoder keeps what the official parser finds in them, or refuses it for a reason it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from otlp_requests import OddWriter, canonical, random_request, spans_in, stored

from spanlake.model.errors import InvalidInput
from spanlake.wire.fields import encode_bytes, encode_varint
from spanlake.wire.otlp import control
from spanlake.wire.otlp.decode import REASON_TEXT, Decoded, decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

OUR_REASONS = {REASON_TEXT[reason] for reason in (control.WRONG_WIRE_TYPE, control.TOO_DEEP, control.SCATTERED)}
"""Why we refuse what the official parser takes."""


def id_reason(span: Span) -> str | None:
    """Why a well-formed span is refused, by the rules of OTLP."""
    if len(span.trace_id) != 16:
        return REASON_TEXT[control.BAD_TRACE_ID]
    if len(span.span_id) != 8:
        return REASON_TEXT[control.BAD_SPAN_ID]
    if not any(span.trace_id):
        return REASON_TEXT[control.ZERO_TRACE_ID]
    if not any(span.span_id):
        return REASON_TEXT[control.ZERO_SPAN_ID]
    return None if len(span.parent_span_id) in {0, 8} else REASON_TEXT[control.BAD_PARENT_ID]


def check(payload: bytes) -> str:
    """Holds the decoder to the official parser; says how it went."""
    try:
        official = ExportTraceServiceRequest.FromString(payload)
    except DecodeError:
        check_refused(payload)
        return "malformed"
    decoded = decode(payload)
    if isinstance(decoded, str):
        assert REASON_TEXT[control.WRONG_WIRE_TYPE] in decoded
        return "framing"
    rejected = dict(decoded.rejected)
    assert len(decoded.batch) + decoded.rejected_spans == len(list(spans_in(official)))
    if rejected.keys() & OUR_REASONS:
        kept = Counter(span.SerializeToString(deterministic=True) for span in spans_in(encoded(decoded)))
        assert kept <= Counter(span.SerializeToString(deterministic=True) for span in spans_in(stored(official)))
        return "ours"
    assert rejected == Counter(filter(None, map(id_reason, spans_in(official))))
    expected = stored(official, keeps=lambda span: id_reason(span) is None)
    assert encoded(decoded).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)
    return "ids" if rejected else "kept"


def decode(payload: bytes) -> Decoded | str:
    """What is decoded, or why nothing is."""
    try:
        return decode_otlp(payload)
    except InvalidInput as error:
        return str(error)


def encoded(decoded: Decoded) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(canonical(encode_otlp(decoded.batch)))


def check_refused(payload: bytes) -> None:
    """A payload that the official parser refuses is refused too, or spans of it are, or what is malformed has no spans to lose."""
    decoded = decode(payload)
    if isinstance(decoded, Decoded) and not decoded.rejected:
        expected = stored(ExportTraceServiceRequest.FromString(with_spans_only(payload)))
        assert encoded(decoded).SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True)


def with_spans_only(payload: bytes) -> bytes:
    """The payload without the messages that hold no span."""

    def pruned(message: bytes, level: int) -> tuple[bytes, bool]:
        parts, has_spans = [], False
        for tag, content, whole in fields(message):
            if tag == (b"\x0a" if level == 0 else b"\x12"):
                if level < 2:
                    content, keeps = pruned(content, level + 1)
                    whole = encode_bytes(tag, content) if keeps else b""
                    has_spans |= keeps
                else:
                    has_spans = True
            parts.append(whole)
        return b"".join(parts), has_spans

    return pruned(payload, 0)[0]


def fields(message: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(canonical tag, content, whole field) of each field of a message whose framing is sound."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        begin, position = _content(message, tag, position)
        yield encode_varint(tag & 0xFFFFFFFF), message[begin:position], message[start:position]


def _content(message: bytes, tag: int, position: int) -> tuple[int, int]:
    """Where a field's content begins and ends."""
    match tag & 7:
        case 0:
            return position, _varint(message, position)[1]
        case 1:
            return position, position + 8
        case 2:
            length, position = _varint(message, position)
            return position, position + length
        case 3:
            begin = position
            while True:
                inner, position = _varint(message, position)
                if inner & 7 == 4:
                    return begin, position
                position = _content(message, inner, position)[1]
        case _:
            return position, position + 4


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, position


Mutation = Callable[[Random, bytearray], None]


def flip(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def overwrite(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] = random.choice([0, 1, 2, 8, 10, 18, 26, 127, 128, 255, random.randrange(256)])


def cut(random: Random, data: bytearray) -> None:
    begin = random.randrange(len(data))
    del data[begin : begin + random.choice([1, 1, 2, 8, 30])]


def repeat(random: Random, data: bytearray) -> None:
    begin = random.randrange(len(data))
    data[begin:begin] = data[begin : begin + random.choice([1, 2, 8, 30])]


def insert(random: Random, data: bytearray) -> None:
    begin = random.randrange(len(data) + 1)
    data[begin:begin] = random.choice(
        [random.randbytes(4), b"\xff" * 10, b"\x80" * 9 + b"\x01", b"\x0b\x0c", b"\xff\xff\xff\xff\x07", b"\xc0"]
    )


MUTATIONS: tuple[Mutation, ...] = (flip, flip, overwrite, cut, repeat, insert)


def mutated(random: Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(random.choice([1, 1, 2, 4])):
        if data:
            random.choice(MUTATIONS)(random, data)
    return bytes(data)


def outcomes(seed: int, count: int) -> Counter[str]:
    """How checks of mutated requests went."""
    random = Random(seed)
    seen: Counter[str] = Counter()
    for _ in range(count):
        request = random_request(random)
        payload = OddWriter(random, random.choice([0.0, 0.0, 0.1, 0.5])).write(request)
        seen[check(payload)] += 1
        for _ in range(20):
            seen[check(mutated(random, payload))] += 1
    return seen


def test_decoder_agrees_with_the_official_parser_when_requests_are_damaged() -> None:
    assert outcomes(1, 80).keys() == {"kept", "ids", "ours", "malformed"}, "the test reaches every kind of outcome"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_decoder_agrees_with_the_official_parser_when_many_requests_are_damaged(seed: int) -> None:
    assert sum(outcomes(seed, 500).values()) == 500 * 21


@pytest.mark.parametrize("odds", [0.0, 0.3])
def test_decoder_agrees_with_the_official_parser_when_a_request_is_cut_at_any_byte(odds: float) -> None:
    random = Random(7)
    payload = OddWriter(random, odds).write(random_request(random))
    assert len(payload) > 500
    for length in range(len(payload)):
        check(payload[:length])


def test_decoder_agrees_with_the_official_parser_when_bytes_are_random() -> None:
    random = Random(3)
    for _ in range(3000):
        check(random.randbytes(random.randrange(40)))


def test_decoder_agrees_with_the_official_parser_when_a_span_is_random() -> None:
    random = Random(4)
    ids = Span(trace_id=random.randbytes(16), span_id=random.randbytes(8)).SerializeToString()
    tags = [bytes((number << 3 | wire_type,)) for number in range(1, 17) for wire_type in range(6)]
    for _ in range(3000):
        junk = b"".join(random.choice(tags) + random.randbytes(random.randrange(6)) for _ in range(random.randrange(5)))
        check(framed(random.choice([ids + junk, junk + ids])))


def framed(span: bytes) -> bytes:
    """A request with one span of these bytes."""
    return encode_bytes(b"\x0a", encode_bytes(b"\x12", encode_bytes(b"\x12", span)))
