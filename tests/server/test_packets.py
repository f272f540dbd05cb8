"""Messages cut in packets, and the outbox that they wait in."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tempo_proto import tempo_message

from spanlake.server.streaming.outbox import Outbox
from spanlake.server.streaming.packets import packets

RangeResponse = tempo_message("QueryRangeResponse")
SIZE_MAX = 200


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 1 << 40), st.sampled_from(["", "cut", "x" * 150]))
def test_packets_joined_are_the_message(sizes: list[int], inspected: int, reason: str) -> None:
    message = RangeResponse(message=reason, status=1 if reason else 0, metrics={"inspectedBytes": inspected})
    for number, size in enumerate(sizes):
        message.series.add().labels.add(key=str(number)).value.string_value = "x" * size
    found = [RangeResponse.FromString(packet) for packet in packets(message.SerializeToString(), SIZE_MAX)]
    assert [one for packet in found for one in packet.series] == list(message.series)
    assert all(packet.metrics == message.metrics and packet.HasField("metrics") for packet in found)
    assert [packet.message for packet in found] == [""] * (len(found) - 1) + [reason]
    assert found[-1].status == message.status
    assert all(packet.ByteSize() <= SIZE_MAX or len(packet.series) <= 1 for packet in found)


async def take_all(outbox: Outbox) -> list[bytes]:
    taken = []
    while (message := await outbox.take()) is not None:
        taken.append(message)
    return taken


def test_outbox_gives_messages_in_order_when_a_thread_puts_them_in() -> None:
    async def exchange() -> list[bytes]:
        outbox = Outbox()

        def work() -> None:
            for number in range(1000):
                outbox.put(b"%d" % number)
            outbox.close()

        taken, _ = await asyncio.gather(take_all(outbox), asyncio.to_thread(work))
        return taken

    assert asyncio.run(exchange()) == [b"%d" % number for number in range(1000)]


def test_outbox_drops_a_passing_message_when_a_later_one_is_there() -> None:
    async def exchange() -> list[bytes]:
        outbox = Outbox()
        for message, passing in ((b"1", True), (b"2", True), (b"a", False), (b"b", False), (b"3", True), (b"c", False), (b"4", True)):
            outbox.put(message, passing=passing)
        outbox.close()
        return await take_all(outbox)

    assert asyncio.run(exchange()) == [b"a", b"b", b"c", b"4"]


def test_outbox_takes_what_nobody_waits_for_when_its_loop_is_closed() -> None:
    async def make() -> Outbox:
        return Outbox()

    outbox = asyncio.run(make())
    outbox.put(b"late")
    outbox.close()
