"""Trace by id over 100 blocks: wall and CPU time per lookup, warm (footers in memory, files in the page cache).

python bench/bench_trace.py [blocks] [spans per block]
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np

from spanlake.app.load.traces import TraceTemplates
from spanlake.app.memory import keep_freed_memory
from spanlake.blocks.catalog import Catalog
from spanlake.blocks.file.writer import write_block
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.live import LiveView
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import arrange
from spanlake.ingest.flush import upload
from spanlake.model.settings import BlockSettings, QuerySettings, StoreSettings
from spanlake.objectstore.opening import open_store
from spanlake.query.trace import TraceFinder
from spanlake.wire.otlp.decode import decode_otlp

TENANT = "bench"
LOOKUPS = 200


def main() -> None:
    keep_freed_memory()
    blocks, spans = (int(text) for text in (*sys.argv[1:], "100", "20000")[:2])
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(directory)
        catalog = Catalog(store, StoreSettings())
        templates = TraceTemplates(1, spans_per_payload=1000)
        ids: list[tuple[int, int]] = []
        for number in range(blocks):
            payloads = range(number * spans // 1000, (number + 1) * spans // 1000)
            batch = merge(
                [decode_otlp(templates.payload(payload, 1_700_000_000_000_000_000 + payload * 10**9)).batch for payload in payloads]
            )
            arrangement = arrange(batch.spans, batch.scopes)
            batch = batch.take(arrangement.rows)
            written = write_block(store.scratch / "block", batch, arrangement, table={}, settings=BlockSettings())
            new = upload(store, TENANT, written, None, created_ms=time.time_ns() // 1_000_000)
            catalog.commit(TENANT, add=[new], remove=[], columns=written.columns, writer=None, reason="flush")
            ids += [(int(span["trace_hi"]), int(span["trace_lo"])) for span in batch.spans[:: max(1, spans // 10)]]
        table = catalog.refresh(TENANT)
        footers = FooterCache(store, bytes_max=1 << 30)
        finder = TraceFinder(store, footers, lambda _tenant: LiveView(table, ()), lambda _tenant: None, QuerySettings())
        chosen = [ids[i] for i in np.random.default_rng(1).permutation(len(ids))[:LOOKUPS]]
        for trace_id in chosen[:20]:
            finder.find(TENANT, trace_id, None)
        wall, cpu = [], time.process_time()
        for trace_id in chosen:
            begin = time.perf_counter()
            assert finder.find(TENANT, trace_id, None).spans > 0
            wall.append((time.perf_counter() - begin) * 1000)
        cpu = time.process_time() - cpu
        begin = time.perf_counter()
        for trace_id in chosen:
            assert finder.find(TENANT, (trace_id[0] ^ 1, trace_id[1]), None).spans == 0
        missing = (time.perf_counter() - begin) * 1000 / len(chosen)
    p50, p90, p99 = np.percentile(wall, [50, 90, 99])
    print(f"{blocks} blocks of {spans:,} spans, {footers.memory_bytes / 1e6:.0f} MB of footers in memory")
    print(f"found: wall p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms; CPU {cpu * 1000 / len(chosen):.1f} ms per lookup")
    print(f"absent: {missing:.2f} ms per lookup")


if __name__ == "__main__":
    main()
