"""What the tests of block files share: odd OTLP requests, a block made of them, and what must be read from it, trace by trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from spanlake.blocks.file.reader import Footer, find_trace, read_footer, read_row_group
from spanlake.blocks.file.rows import table_to_batch
from spanlake.blocks.file.writer import WrittenBlock, write_block
from spanlake.blocks.memory.append import merge
from spanlake.blocks.memory.arrange import Arrangement, arrange
from spanlake.model.schema import ColumnType
from spanlake.model.settings import BlockSettings
from spanlake.model.spans import SpanBatch
from spanlake.objectstore.opening import open_store
from spanlake.objectstore.store import ObjectStore
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp

KEY = "block.parquet"
Traces = dict[bytes, bytes]
"""Trace id → its TracesData in one canonical form."""

KEYS = (
    *("a", "A", "b", "http.route", "http.Route", "http", "http.status", "app.list.size", ".list.element.x", "start_ns", "service.name"),
    *("", "x y", "a=b", "k{};", "line\nbreak", "é", "k" * 300),
)
TEXTS = ("", "a", "b", "é€😀", "x" * 40, "long " * 300)
INTS = (0, 1, 200, -1, (1 << 63) - 1, -(1 << 63))
DOUBLES = (0.0, -0.0, 1.5, float("inf"), float("-inf"), float("nan"), 5e-324)
TIMES = (0, 1, 1_789_948_800_000_000_000, 1_789_948_800_000_001_000, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def any_value(random: Random, depth: int = 2) -> AnyValue:
    """Any value; of the simple types most of the time."""
    value = AnyValue()
    match random.randrange(12 if depth else 10):
        case 0 | 1 | 2:
            value.string_value = random.choice(TEXTS)
        case 3 | 4 | 5:
            value.int_value = random.choice(INTS)
        case 6:
            value.double_value = random.choice(DOUBLES)
        case 7:
            value.bool_value = random.random() < 0.5
        case 8:
            value.bytes_value = random.randbytes(random.randrange(4))
        case 9:
            pass
        case 10:
            value.array_value.SetInParent()
            value.array_value.values.extend(any_value(random, depth - 1) for _ in range(random.randrange(3)))
        case _:
            value.kvlist_value.SetInParent()
            value.kvlist_value.values.extend(attributes(random, depth - 1))
    return value


def attributes(random: Random, depth: int = 2) -> list[KeyValue]:
    """Some attributes; a key may come twice."""
    return [KeyValue(key=random.choice(KEYS), value=any_value(random, depth)) for _ in range(random.choice((0, 0, 1, 2, 5)))]


def random_span(random: Random, trace_id: bytes, number: int) -> Span:
    """A span with something in most fields, whose parent is a near number, absent, or none."""
    near = (max(1, number - distance).to_bytes(8, "big") for distance in (-1, 0, 1, 2, 3))
    parent = random.choice((b"", bytes(8), b"\xff" * 8, *near))
    span = Span(
        trace_id=trace_id,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent,
        trace_state=random.choice(("", "", "a=b", "ot=th:8;rv:1,x=y")),
        name=random.choice(TEXTS),
        kind=random.choice((0, 1, 2, 3, 4, 5, 9, -1)),  # type: ignore[arg-type]
        start_time_unix_nano=random.choice(TIMES),
        end_time_unix_nano=random.choice(TIMES),
        attributes=attributes(random),
        dropped_attributes_count=random.choice((0, 1, (1 << 32) - 1)),
        dropped_events_count=random.choice((0, 1, (1 << 32) - 1)),
        dropped_links_count=random.choice((0, 1, (1 << 32) - 1)),
        flags=random.choice((0, 257, (1 << 32) - 1)),
    )
    for _ in range(random.choice((0, 0, 1, 3))):
        span.events.add(
            time_unix_nano=random.choice(TIMES),
            name=random.choice(TEXTS),
            attributes=attributes(random),
            dropped_attributes_count=random.choice((0, 7)),
        )
    for _ in range(random.choice((0, 0, 0, 2))):
        span.links.add(
            trace_id=random.randbytes(random.choice((0, 16, 3))),
            span_id=random.randbytes(random.choice((0, 8, 11))),
            trace_state=random.choice(TEXTS[:3]),
            flags=random.choice((0, 5)),
            attributes=attributes(random),
            dropped_attributes_count=random.choice((0, 7)),
        )
    span.status.SetInParent()
    span.status.code, span.status.message = random.choice((0, 1, 2, 7, -5)), random.choice(TEXTS)  # type: ignore[assignment]
    return span


def random_request(random: Random, *, traces: int = 4, spans: int = 12, after: int = 0) -> ExportTraceServiceRequest:
    """About `spans` spans of a few traces over equal and different resources and scopes. Their ids are numbers from `after` + 1 on; some
    are shared by a client and a server span."""
    ids = [random.randbytes(random.choice((1, 8, 15))).rjust(15, b"\0") + b"\1" for _ in range(traces)]
    request = ExportTraceServiceRequest()
    number = after
    while number < after + spans:
        resource_spans = request.resource_spans.add(schema_url=random.choice(("", "https://schema/1")))
        resource_spans.resource.SetInParent()
        resource_spans.resource.dropped_attributes_count = random.choice((0, 0, 3))
        resource_spans.resource.attributes.extend(attributes(random))
        for _ in range(random.choice((0, 0, 2))):
            resource_spans.resource.entity_refs.add(type=random.choice(TEXTS), id_keys=[random.choice(KEYS)], schema_url="e")
        for _ in range(random.randint(1, 2)):
            scope_spans = resource_spans.scope_spans.add(schema_url=random.choice(("", "https://schema/2")))
            scope_spans.scope.SetInParent()
            scope_spans.scope.name, scope_spans.scope.version = random.choice(TEXTS[:3]), random.choice(TEXTS[:3])
            scope_spans.scope.dropped_attributes_count = random.choice((0, 9))
            scope_spans.scope.attributes.extend(attributes(random))
            for _ in range(random.randint(1, 5)):
                number += 1
                scope_spans.spans.append(random_span(random, random.choice(ids), number))
                if random.random() < 0.1:
                    client = scope_spans.spans[-1]
                    client.kind = Span.SPAN_KIND_CLIENT
                    server = random_span(random, client.trace_id, number)
                    server.kind = Span.SPAN_KIND_SERVER
                    scope_spans.spans.append(server)
        if random.random() < 0.3:
            request.resource_spans.append(request.resource_spans[-1])
            for scope_spans in request.resource_spans[-1].scope_spans:
                for span in scope_spans.spans:
                    number += 1
                    span.span_id = number.to_bytes(8, "big")
    return request


def pushed_traces(requests: Sequence[ExportTraceServiceRequest]) -> Traces:
    """What must be read back of each trace: its own part of every ResourceSpans and ScopeSpans that has spans of it, in order."""
    traces: dict[bytes, TracesData] = {}
    for request in requests:
        for resource_spans in request.resource_spans:
            for trace_id, part in _parts_by_trace(resource_spans).items():
                traces.setdefault(trace_id, TracesData()).resource_spans.append(part)
    return {trace_id: canonical(trace) for trace_id, trace in traces.items()}


def _parts_by_trace(resource_spans: ResourceSpans) -> dict[bytes, ResourceSpans]:
    parts: dict[bytes, ResourceSpans] = {}
    for scope_spans in resource_spans.scope_spans:
        for trace_id in dict.fromkeys(span.trace_id for span in scope_spans.spans):
            part = parts.setdefault(trace_id, ResourceSpans(resource=resource_spans.resource, schema_url=resource_spans.schema_url))
            own = [span for span in scope_spans.spans if span.trace_id == trace_id]
            part.scope_spans.append(ScopeSpans(scope=scope_spans.scope, schema_url=scope_spans.schema_url, spans=own))
    return parts


def canonical(trace: TracesData) -> bytes:
    """The trace with spans of a scope in the order of ids and kinds, and attributes in that of keys; those of one key stay in order."""
    made = TracesData.FromString(trace.SerializeToString())
    for resource_spans in made.resource_spans:
        _sort(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            _sort(scope_spans.scope.attributes)
            spans = sorted(scope_spans.spans, key=lambda span: (span.span_id, span.kind))
            del scope_spans.spans[:]
            scope_spans.spans.extend(spans)
            for span in scope_spans.spans:
                _sort(span.attributes)
                if not any(span.parent_span_id):
                    span.parent_span_id = b""
    return made.SerializeToString(deterministic=True)


def _sort(found: object) -> None:
    ordered = sorted(found, key=lambda attribute: attribute.key)  # type: ignore[call-overload]
    del found[:]  # type: ignore[attr-defined]
    found.extend(ordered)  # type: ignore[attr-defined]


def encoded(batch: SpanBatch) -> bytes:
    """The rows as TracesData, grouped by scope."""
    return encode_otlp(batch.take(np.argsort(batch.spans["scope"], kind="stable")))


def traces_of(batch: SpanBatch) -> Traces:
    """The rows of a batch, in the form of `pushed_traces`."""
    ids = np.stack([batch.spans["trace_hi"], batch.spans["trace_lo"]], axis=1)
    traces: Traces = {}
    for high, low in np.unique(ids, axis=0).tolist():
        rows = batch.take(np.flatnonzero((ids[:, 0] == np.uint64(high)) & (ids[:, 1] == np.uint64(low))))
        traces[high.to_bytes(8, "big") + low.to_bytes(8, "big")] = canonical(TracesData.FromString(encoded(rows)))
    return traces


def arranged(requests: Sequence[ExportTraceServiceRequest]) -> tuple[SpanBatch, Arrangement]:
    """Requests as a batch in trace order."""
    batch = merge([decode_otlp(request.SerializeToString()).batch for request in requests])
    arrangement = arrange(batch.spans, batch.scopes)
    return batch.take(arrangement.rows), arrangement


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """A block in a store of its own."""

    store: ObjectStore
    footer: Footer
    written: WrittenBlock

    def batches(self) -> Iterator[SpanBatch]:
        """Its row groups, read through Arrow."""
        for number in range(len(self.footer.info.row_groups)):
            yield table_to_batch(read_row_group(self.store, self.footer, number))

    def trace(self, trace_id: bytes) -> SpanBatch | None:
        return find_trace(self.store, self.footer, *ids_of(trace_id))[0]


def ids_of(trace_id: bytes) -> tuple[int, int]:
    """High and low 64 bits."""
    return int.from_bytes(trace_id[:8], "big"), int.from_bytes(trace_id[8:], "big")


def store_block(
    directory: Path,
    requests: Sequence[ExportTraceServiceRequest],
    *,
    table: Mapping[str, ColumnType] | None = None,
    blocks: BlockSettings | None = None,
    data: str = "",
) -> StoredBlock:
    """A block of these requests, below `directory` or in the store `data`."""
    store = open_store(data or str(directory))
    batch, arrangement = arranged(requests)
    written = write_block(directory / "new", batch, arrangement, table=table or {}, settings=blocks or BlockSettings())
    store.put_file(KEY, written.path)
    return StoredBlock(store, read_footer(store, KEY, written.size_bytes), written)
