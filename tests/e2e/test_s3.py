"""A server on S3 (moto's): killed, stopped, compacted, and with an object store that fails."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
from server_process import Server, wait_for

from node import TENANT, Node, carrying, numbers, once, request, span, spans_in
from spanlake.model.errors import StoreError
from spanlake.objectstore.faulty import seeded
from spanlake.objectstore.intercepted import InterceptedStore

pytestmark = pytest.mark.slow


def test_spans_survive_a_kill_and_are_compacted_on_s3(tmp_path: Path, s3_url: str) -> None:
    settings = {"wal.directory": tmp_path / "wal", "compaction.interval_seconds": 0.3, "compaction.blocks_min": 2}
    with Server(tmp_path, settings, data=s3_url) as server:
        for number in range(1, 7):
            assert server.push(request(span(7, number))).status == 200
            if number == 3:
                server.kill()
            elif number == 5:
                assert server.stop() == 0
            if number in {3, 5}:
                server.start()
            found = server.trace((7).to_bytes(16))
            assert sorted(numbers(spans_in(TracesData.FromString(found.body)))) == list(range(1, number + 1))
        assert server.stop() == 0
        server.start()
        assert server.push(request(span(8, 1))).status == 200
        wait_for(lambda: server.metric("spanlake_compactions_total") > 0, "a compaction")
        assert numbers(spans_in(TracesData.FromString(server.trace((7).to_bytes(16)).body))) == list(range(1, 7))


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_or_doubled_when_s3_fails_at_random(tmp_path: Path, s3_url: str, seed: int) -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for life in range(3):
        faults = partial(InterceptedStore, policy=seeded(10 * seed + life, rate=0.3))
        with Node(tmp_path, s3_url, ingest=carrying(5), wrap=faults) as node:
            for number in range(1, 5):
                rows = [(100 * life + number, other) for other in range(1, 9)] + [(9, 100 * life + number)]
                node.push(*(span(trace, other) for trace, other in rows[:-1]))
                node.clock.advance(6)
                node.push(span(*rows[-1]))
                expected += once(*rows)
                node.cut(everything=False)
                with suppress(StoreError):
                    node.maintain()
    with Node(tmp_path, s3_url) as node:
        assert node.copies(TENANT) == expected
        assert node.cut()
        node.maintain()
        assert (node.live(), node.stored()) == (once(), expected)
