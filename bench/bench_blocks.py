"""What a block costs: CPU per span to write it, bytes per span, CPU to read all of it, and to find one trace in it.

Spans are those of the load generator, arranged beforehand. Every figure is the least of some runs in one thread, in CPU time.

    python bench/bench_blocks.py [spans] [spans per row group]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from spanlake.app.load.traces import TraceTemplates
from spanlake.app.memory import keep_freed_memory
from spanlake.blocks.file.columns import columns_to_batch
from spanlake.blocks.file.reader import Footer, find_trace, find_trace_through_arrow, read_footer, read_row_group
from spanlake.blocks.file.rows import table_to_batch
from spanlake.blocks.file.windows import open_group
from spanlake.blocks.file.writer import write_block
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import arrange
from spanlake.model.settings import BlockSettings
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.wire.otlp.decode import decode_otlp

KEY = "block"
BASE_NS = 1_789_948_800_000_000_000
LOOKUPS = 100


def least_seconds(call: Callable[[], object], runs: int = 5) -> float:
    """CPU seconds of the fastest of some runs."""
    seconds = []
    for _ in range(runs):
        begin = time.process_time()
        call()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def read_from_pages(store: ObjectStore, footer: Footer) -> None:
    for number, group in enumerate(footer.info.row_groups):
        columns_to_batch(open_group(store, footer.key, footer.layout, number).columns((0, group.rows)))


def read_through_arrow(store: ObjectStore, footer: Footer) -> None:
    for number in range(len(footer.info.row_groups)):
        table_to_batch(read_row_group(store, footer, number))


def main() -> None:
    keep_freed_memory()
    pa.set_cpu_count(1)
    spans = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    settings = BlockSettings() if len(sys.argv) < 3 else BlockSettings(row_group_spans=int(sys.argv[2]))
    templates = TraceTemplates(7)
    batch = merge([decode_otlp(templates.payload(number, BASE_NS + number * 20_000_000)).batch for number in range(spans // 1000)])
    arrangement = arrange(batch.spans, batch.scopes)
    batch = batch.take(arrangement.rows)
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(directory)
        path = Path(directory) / "new"
        written = write_block(path, batch, arrangement, table={}, settings=settings)
        seconds = least_seconds(lambda: write_block(path, batch, arrangement, table={}, settings=settings))
        print(f"{len(batch):,} spans, {len(written.info.row_groups)} row groups, {len(written.columns)} attribute columns")
        print(f"write               {seconds / len(batch) * 1e6:8.2f} µs/span")
        store.put_file(KEY, path)
        footer = read_footer(store, KEY, written.size_bytes)
        footer_bytes = footer.metadata.serialized_size / len(batch)
        print(f"size                {written.size_bytes / len(batch):8.2f} B/span, of it footer {footer_bytes:.2f}")
        for name, read in (("from pages", read_from_pages), ("through Arrow", read_through_arrow)):
            seconds = least_seconds(partial(read, store, footer))
            print(f"read {name:<14} {seconds / len(batch) * 1e6:8.2f} µs/span")
        report_lookups(store, footer, batch.spans[arrangement.trace_first[:-1]])


def report_lookups(store: ObjectStore, footer: Footer, firsts: np.ndarray) -> None:
    """Print the CPU and wall time of finding traces, given the first span of each trace."""
    chosen = firsts[np.random.default_rng(1).permutation(len(firsts))[:LOOKUPS]]
    ids = list(zip(chosen["trace_hi"].tolist(), chosen["trace_lo"].tolist(), strict=True))
    groups = [
        next(i for i, group in enumerate(footer.info.row_groups) if f"{high:016x}{low:016x}" <= group.last_trace) for high, low in ids
    ]

    def from_pages(place: int) -> None:
        assert find_trace(store, footer, *ids[place])[0] is not None

    def through_arrow(place: int) -> None:
        assert find_trace_through_arrow(store, footer, groups[place], ids[place]) is not None

    for name, find in (("from pages", from_pages), ("through Arrow", through_arrow)):
        wall, cpu = [], []
        for place in [*range(10), *range(LOOKUPS)]:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            find(place)
            wall.append((time.perf_counter() - begin) * 1000)
            cpu.append((time.process_time() - begin_cpu) * 1000)
        print(f"find {name:<14} {np.median(cpu[10:]):8.2f} ms CPU, {np.median(wall[10:]):.2f} ms wall")


if __name__ == "__main__":
    main()
