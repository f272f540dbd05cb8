"""Queries over a table of many blocks that follow each other in time: what is left alone, and what warm caches are worth.

    python bench/bench_many_blocks.py [blocks] [spans per block]

One thread, CPU milliseconds, files in the page cache of the system. `first`: only footers are in memory; `again`: least of some more runs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable

from bench_query import BEGIN_NS, PAYLOAD_NS, PAYLOAD_SPANS, TENANT, measure, open_bench, store_spans
from spanlake.app.load.traces import TraceTemplates
from spanlake.app.memory import keep_freed_memory
from spanlake.blocks.catalog import Catalog
from spanlake.model.queries import Inspected, SearchQuery, TagNamesQuery, TagValuesQuery
from spanlake.model.settings import QuerySettings, StoreSettings
from spanlake.model.stop import Stop
from spanlake.objectstore.opening import open_store
from spanlake.query.tags import TagReader
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp_json import decode_request

RUNS = 5
NEEDLE = "user-needle"


def needle(time_ns: int) -> bytes:
    """A push of one span that has what no other has."""
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "needle",
        "startTimeUnixNano": str(time_ns),
        "endTimeUnixNano": str(time_ns + 1000),
        "attributes": [{"key": "user.id", "value": {"stringValue": NEEDLE}}],
    }
    request = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span]}]}]}
    return decode_request(json.dumps(request).encode()).protobuf


def main() -> None:
    keep_freed_memory()
    blocks, spans = (int(text) for text in (*sys.argv[1:], "100", "20000")[:2])
    with tempfile.TemporaryDirectory() as directory:
        store = open_store(directory)
        catalog = Catalog(store, StoreSettings())
        templates = TraceTemplates(1, spans_per_payload=PAYLOAD_SPANS)
        step = spans // PAYLOAD_SPANS
        for block in range(blocks):
            payloads = [templates.payload(number, BEGIN_NS + number * PAYLOAD_NS) for number in range(block * step, (block + 1) * step)]
            odd = [needle(BEGIN_NS + block * step * PAYLOAD_NS)] if block == blocks // 2 else []
            store_spans(store, catalog, [decode_otlp(payload).batch for payload in payloads + odd])
        bench = open_bench(store)
        tags = TagReader(bench.sources, QuerySettings())

        def search(text: str) -> Callable[[], tuple[int, Inspected]]:
            def ask() -> tuple[int, Inspected]:
                answer = bench.searcher.search(TENANT, SearchQuery(text, limit=20), Stop())
                return len(answer.traces), answer.inspected

            return ask

        def names() -> tuple[int, Inspected]:
            answer = tags.names(TENANT, TagNamesQuery(), Stop())
            return sum(len(found) for _, found in answer.scopes), answer.inspected

        def values(tag: str) -> Callable[[], tuple[int, Inspected]]:
            def ask() -> tuple[int, Inspected]:
                answer = tags.values(TENANT, TagValuesQuery(tag), Stop())
                return len(answer.values), answer.inspected

            return ask

        for name, ask in {
            "{ } limit 20": search("{ }"),
            "needle": search(f'{{ span.user.id = "{NEEDLE}" }}'),
            "tag names": names,
            "values of service.name": values("resource.service.name"),
            "values of http.route": values("span.http.route"),
            "values of user.id": values("span.user.id"),
        }.items():
            report(name, ask)


def report(name: str, ask: Callable[[], tuple[int, Inspected]]) -> None:
    """Print a line about a query."""
    found = 0

    def run() -> Inspected:
        nonlocal found
        found, inspected = ask()
        return inspected

    first, _ = measure(run)
    runs = [measure(run) for _ in range(RUNS)]
    again, inspected = min(seconds for seconds, _ in runs), runs[-1][1]
    share = inspected.bytes / max(1, inspected.block_bytes)
    print(
        f"{name:<24} first {first * 1000:7.1f} ms, again {again * 1000:6.1f} ms CPU; reads {share:7.3%} of "
        f"{inspected.block_bytes / 1e6:.0f} MB, {inspected.blocks - inspected.blocks_skipped} of {inspected.blocks} blocks; found {found:,}"
    )


if __name__ == "__main__":
    main()
