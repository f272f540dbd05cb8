"""Compiling every kernel, or loading it from the cache, by sending a few spans through the whole of ingest, storage and query."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from spanlake.app.load.traces import TraceTemplates
from spanlake.blocks.compaction import merge_blocks
from spanlake.blocks.file.reader import find_trace, read_footer
from spanlake.blocks.file.writer import write_block
from spanlake.blocks.memory.append import BatchBuffer
from spanlake.blocks.memory.arrange import arrange
from spanlake.blocks.memory.trim import trim
from spanlake.blocks.scan.layout import BlockLayout, read_leaf_values
from spanlake.blocks.scan.memory import MemoryScan, arranged
from spanlake.blocks.scan.pages import GroupColumns
from spanlake.ingest.limits.trace_spans import TraceSpans
from spanlake.model.kernel import cache_directory
from spanlake.model.scan import Field
from spanlake.model.settings import BlockSettings
from spanlake.objectstore.opening import open_store
from spanlake.query.trace import combine
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp


def is_warm() -> bool:
    """Whether every kernel of this version has been compiled into the cache, so that using one takes milliseconds."""
    return _mark().exists()


def warm_kernels() -> None:
    """Run every kernel once and leave a mark in the cache. Takes seconds per kernel on the very first run, milliseconds afterwards."""
    _run_kernels()
    _mark().touch()


def _mark() -> Path:
    """The file that says so. Numba finds kernels by the path of their source, so each installation of a version has its own mark."""
    installation = hashlib.sha256(str(Path(__file__).parent).encode()).hexdigest()[:16]
    return cache_directory() / f"complete-{installation}"


def _run_kernels() -> None:
    buffer = BatchBuffer()
    for number in range(2):
        buffer.append(decode_otlp(TraceTemplates(0, spans_per_payload=40).payload(number, 10**18)).batch)
    batch = buffer.chunks()[0]
    counted = TraceSpans()
    counted.count("t", batch, 1)
    counted.forget("t", batch)
    counted.make_room(1 << 12)
    settings = BlockSettings(row_group_spans=64)
    with tempfile.TemporaryDirectory(prefix="spanlake-warmup-") as directory:
        store = open_store(directory)
        footers = []
        for key in ("a.parquet", "b.parquet"):
            arrangement = arrange(batch.spans, batch.scopes)
            rows = batch.take(arrangement.rows)
            block = write_block(Path(directory) / f"new-{key}", rows, arrangement, table={}, settings=settings)
            store.put_file(key, block.path)
            footers.append(read_footer(store, key, block.size_bytes))
        for _ in merge_blocks(store, footers, table={}, settings=settings):
            pass
        span = batch.spans[0]
        found, _ = find_trace(store, footers[0], int(span["trace_hi"]), int(span["trace_lo"]))
        assert found is not None
        layout = BlockLayout(footers[0])
        read_leaf_values(store, layout, "name")
        columns = GroupColumns(store, layout, [0])
        columns.codes("name", None)
        columns.numbers("start_ns")
        MemoryScan(arranged([batch])).batch([Field("span", "http.route"), Field("event", "exception.type")])
        encode_otlp(combine([found, trim(batch.take(batch.spans["trace_lo"] == span["trace_lo"]))]))
