"""What queries cost: CPU seconds and bytes read for the queries of the design, on stored blocks of the load generator's spans.

    python bench/bench_query.py [spans] [--keep DIRECTORY]

The blocks cover the same time, so that none can be left out because others have newer traces: every query looks at all spans.
`--keep` makes the blocks once and uses them again. Every query runs in one thread; `first` has nothing in the caches of the process
but footers and trace indexes, `again` is the least of some more runs. Files are in the page cache of the system.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spanlake.app.load.traces import TraceTemplates
from spanlake.app.memory import keep_freed_memory
from spanlake.blocks.catalog import Catalog
from spanlake.blocks.file.writer import write_block
from spanlake.blocks.footers import FooterCache
from spanlake.blocks.live import LiveView
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import arrange
from spanlake.blocks.scan.tenant import ScanCaches
from spanlake.ingest.flush import upload
from spanlake.model.queries import Inspected, SearchQuery
from spanlake.model.settings import BlockSettings, QuerySettings, StoreSettings
from spanlake.model.spans import SpanBatch
from spanlake.model.stop import Stop
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.query.executors.inline import InlineExecutor
from spanlake.query.search import Searcher
from spanlake.query.sources import TenantSources
from spanlake.wire.otlp.decode import decode_otlp

TENANT = "bench"
BLOCK_SPANS = 1_000_000
PAYLOAD_SPANS = 1000
BEGIN_NS = 1_789_948_800_000_000_000
PAYLOAD_NS = 1_800_000_000  # a payload covers this time, so that 2 M spans are an hour
RUNS = 3

SEARCHES = {
    "attribute = value": '{ span.user.id = "user-77" }',
    "regex, count": '{ span.db.query.text =~ ".*users.*" } | count() > 6',
    "structure": '{ resource.service.name = "gateway" } >> { resource.service.name = "payment" && status = error }',
    "newest": "{ }",
    "duration": "{ duration > 2s }",
    "by, avg": "{ kind = server } | by(resource.service.name) | avg(duration) > 500ms",
}
TEMPO_SECONDS = {"attribute = value": 0.82, "regex, count": 3.76, "structure": 1.38}


def write_blocks(store: ObjectStore, *, spans: int, block_spans: int = BLOCK_SPANS, seed: int = 1) -> None:
    """Fill the table of TENANT with blocks that cover the same time."""
    catalog = Catalog(store, StoreSettings())
    templates = TraceTemplates(seed, spans_per_payload=PAYLOAD_SPANS)
    blocks = max(1, spans // block_spans)
    for block in range(blocks):
        numbers = range(block, spans // PAYLOAD_SPANS, blocks)
        payloads = (templates.payload(number, BEGIN_NS + number * PAYLOAD_NS) for number in numbers)
        store_spans(store, catalog, [decode_otlp(payload).batch for payload in payloads])


def store_spans(store: ObjectStore, catalog: Catalog, batches: list[SpanBatch]) -> None:
    """Add a block of these spans to the table of TENANT."""
    batch = merge(batches)
    arrangement = arrange(batch.spans, batch.scopes)
    batch = batch.take(arrangement.rows)
    written = write_block(store.scratch / "block", batch, arrangement, table={}, settings=BlockSettings())
    new = upload(store, TENANT, written, None, created_ms=time.time_ns() // 1_000_000)
    catalog.commit(TENANT, add=[new], remove=[], columns=written.columns, writer=None, reason="flush")


@dataclass(frozen=True, slots=True)
class Bench:
    """A table to query."""

    sources: TenantSources
    caches: ScanCaches

    @property
    def searcher(self) -> Searcher:
        return Searcher(self.sources, QuerySettings())


def open_bench(store: ObjectStore) -> Bench:
    """The table of TENANT with empty caches."""
    table = Catalog(store, StoreSettings()).refresh(TENANT)
    footers = FooterCache(store, bytes_max=1 << 30)
    caches = ScanCaches(store, footers, bytes_max=1 << 30)
    return Bench(TenantSources(caches, lambda _tenant: LiveView(table, ()), lambda _tenant: None, InlineExecutor()), caches)


def measure(ask: Callable[[], Inspected]) -> tuple[float, Inspected]:
    """(CPU seconds, what the query looked at)."""
    begin = time.process_time()
    inspected = ask()
    return time.process_time() - begin, inspected


def report(name: str, ask: Callable[[], tuple[int, Inspected]]) -> None:
    """Print a line about a query, which says how much it found."""
    found = 0

    def run() -> Inspected:
        nonlocal found
        found, inspected = ask()
        return inspected

    first, inspected = measure(run)
    again = min(measure(run)[0] for _ in range(RUNS))
    tempo = TEMPO_SECONDS.get(name)
    compared = f", {tempo / again:5.1f}x less than Tempo" if tempo else ""
    print(
        f"{name:<24} first {first:6.3f} s, again {again:6.3f} s CPU; {inspected.bytes / 1e6:7.1f} of {inspected.block_bytes / 1e6:.0f} MB; "
        f"found {found:,}{compared}"
    )


@contextmanager
def stored_spans(description: str) -> Iterator[tuple[Bench, int]]:
    """The table that the command line asks for, and how many spans it was made of."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("spans", type=int, nargs="?", default=2_000_000)
    parser.add_argument("--keep", metavar="DIRECTORY", help="make the blocks there once, and use them again")
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(options.keep or directory)
        store = open_store(str(root))
        if not (root / "tables").exists():
            write_blocks(store, spans=options.spans)
        yield open_bench(store), options.spans


def main() -> None:
    with stored_spans("CPU seconds and bytes of queries on stored blocks") as (bench, _):
        bench.searcher.search(TENANT, SearchQuery("{ }", limit=1), Stop())
        for name, text in SEARCHES.items():

            def ask(text: str = text) -> tuple[int, Inspected]:
                answer = bench.searcher.search(TENANT, SearchQuery(text, limit=20), Stop())
                return len(answer.traces), answer.inspected

            report(name, ask)


if __name__ == "__main__":
    main()
