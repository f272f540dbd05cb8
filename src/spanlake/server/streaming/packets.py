"""Messages cut into packets that every client receives: Grafana takes 4 MiB per message unless it is told otherwise.

All answers of the service are alike: field 1 is what repeats, field 2 the metrics, and what follows says how the answer ended.
"""

from __future__ import annotations

from spanlake.wire.fields import BYTES, VARINT, decode_fields, encode_bytes, encode_tag, encode_varint

PACKET_BYTES_MAX = 1 << 20

_REPEATED, _METRICS = 1, 2


def packets(message: bytes, bytes_max: int = PACKET_BYTES_MAX) -> list[bytes]:
    """The message as one that is no larger than `bytes_max`, or as several: the metrics are in each, the rest in the last.

    Whoever joins the packets has the message. An element that alone is larger has a packet of its own.
    """
    if len(message) <= bytes_max:
        return [message]
    elements: list[bytes] = []
    metrics, rest = b"", b""
    for number, value in decode_fields(message):
        field = _encoded(number, value)
        if number == _REPEATED:
            elements.append(field)
        elif number == _METRICS:
            metrics += field
        else:
            rest += field
    return _joined(elements, metrics, rest, bytes_max)


def _joined(elements: list[bytes], metrics: bytes, rest: bytes, bytes_max: int) -> list[bytes]:
    found: list[bytes] = []
    packet: list[bytes] = []
    size = len(metrics)
    for element in elements:
        if packet and size + len(element) > bytes_max:
            found.append(b"".join((*packet, metrics)))
            packet, size = [], len(metrics)
        packet.append(element)
        size += len(element)
    if packet and rest and size + len(rest) > bytes_max:
        found.append(b"".join((*packet, metrics)))
        packet = []
    return [*found, b"".join((*packet, metrics, rest))]


def _encoded(number: int, value: int | memoryview) -> bytes:
    if isinstance(value, int):
        return encode_tag(number, VARINT) + encode_varint(value)
    return encode_bytes(encode_tag(number, BYTES), bytes(value))
