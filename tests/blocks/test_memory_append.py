"""Putting batches together, against lists of spans."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.memory.append import RECORDS, BatchBuffer, compact, concatenate, merge, tables_of
from spanlake.blocks.memory.pool import StringPool
from spanlake.model.spans import ARRAY, BYTES, KVLIST, STRING, Records, SpanBatch, Strings, empty_batch

CODES = {"name", "trace_state", "status_message", "version", "schema_url", "entity_refs", "key"}
"""Fields that hold a string code in every record that has them."""
TEXTS = [b"", b"a", b"http.route", b"x" * 300, b"\0", "é".encode()]
Plain = dict[str, Any]


def random_batch(seed: int, spans: int) -> SpanBatch:
    """A batch with random numbers in every field, valid codes and ranges; strings occur several times, as from a decoder."""
    random = np.random.default_rng(seed)
    texts = [TEXTS[0], *(TEXTS[i] for i in random.integers(0, len(TEXTS), 12))]
    data = b"".join(texts)
    lengths = np.array([len(text) for text in texts], np.int32)
    offsets = (np.cumsum(lengths) - lengths).astype(np.int64)
    rows = [spans, 3, 2, int(random.integers(1, 9)), int(random.integers(1, 9)), int(random.integers(1, 30))]
    tables = [
        random.integers(0, 256, (count, record.itemsize), np.uint8).view(record)[:, 0] for count, record in zip(rows, RECORDS, strict=True)
    ]
    all_spans, scopes, _, events, links, attrs = tables
    all_spans["scope"], scopes["resource"] = random.integers(0, 3, spans), random.integers(0, 2, 3)
    for owners, part, table in (
        *((owners, "attr", attrs) for owners in tables[:5]),
        (all_spans, "event", events),
        (all_spans, "link", links),
    ):
        first, last = np.sort(random.integers(0, len(table) + 1, (2, len(owners))), axis=0)
        owners[f"{part}_first"], owners[f"{part}_count"] = first, last - first
    for table in tables:
        for name in set(table.dtype.names or ()) & CODES:
            table[name] = random.integers(0, len(texts), len(table))
    links["trace_id"], links["span_id"] = random.integers(0, len(texts), (2, len(links)))
    attrs["type"] = random.integers(0, 8, len(attrs))
    coded = np.isin(attrs["type"], [STRING, ARRAY, KVLIST, BYTES])
    attrs["value"][coded] = random.integers(0, len(texts), int(coded.sum()))
    return SpanBatch(Strings(np.frombuffer(data, np.uint8), offsets, lengths), *tables)


def plain_spans(batch: SpanBatch) -> list[Plain]:
    """Every row with all that it refers to, in plain Python."""

    def part(owner: Plain, name: str, table: Records) -> list[Plain]:
        first, count = owner.pop(f"{name}_first"), owner.pop(f"{name}_count")
        return [record(row) for row in table[first : first + count]]

    def record(row: Any) -> Plain:
        made = {name: row[name].item() for name in row.dtype.names}
        for name in made.keys() & CODES:
            made[name] = batch.strings.bytes_at(made[name])
        if isinstance(made.get("trace_id"), int):
            made["trace_id"], made["span_id"] = batch.strings.bytes_at(made["trace_id"]), batch.strings.bytes_at(made["span_id"])
        if "type" in made and made["type"] in {STRING, ARRAY, KVLIST, BYTES}:
            made["value"] = batch.strings.bytes_at(made["value"])
        if "attr_first" in made:
            made["attrs"] = part(made, "attr", batch.attrs)
        return made

    spans = []
    for row in batch.spans:
        span = record(row)
        span["events"], span["links"] = part(span, "event", batch.events), part(span, "link", batch.links)
        scope = record(batch.scopes[span.pop("scope")])
        scope["resource"] = record(batch.resources[scope["resource"]])
        spans.append({**span, "scope": scope})
    return spans


batches = st.builds(random_batch, st.integers(0, 1 << 30), st.integers(0, 8))


def joined(parts: list[SpanBatch]) -> list[Plain]:
    return [span for part in parts for span in plain_spans(part)]


@settings(max_examples=60, deadline=None)
@given(st.lists(batches, min_size=1, max_size=4))
def test_merging_is_joining_lists_when_given_any_batches(parts: list[SpanBatch]) -> None:
    expected = joined(parts)
    merged = merge(parts)
    assert plain_spans(merged) == expected
    texts = [merged.strings.bytes_at(code) for code in range(len(merged.strings))]
    assert len(set(texts)) == len(texts), "one code per text"
    assert joined(parts) == expected, "what was merged stays as it was"


@settings(max_examples=60, deadline=None)
@given(st.lists(batches, min_size=1, max_size=4))
def test_concatenating_is_joining_lists_when_batches_share_their_strings(parts: list[SpanBatch]) -> None:
    pool = StringPool()
    shared = [concatenate([part], pool=pool) for part in parts]
    assert plain_spans(concatenate(shared)) == joined(parts)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(batches, max_size=6), st.integers(1, 20))
def test_buffer_is_a_list_when_batches_are_appended(parts: list[SpanBatch], chunk_spans: int) -> None:
    buffer = BatchBuffer(chunk_spans=chunk_spans)
    early: list[tuple[list[SpanBatch], list[Plain]]] = []
    for i, part in enumerate(parts):
        buffer.append(part)
        early.append((buffer.chunks(), joined(parts[: i + 1])))
    assert buffer.spans == sum(map(len, parts))
    for chunks, expected in early:
        assert joined(chunks) == expected, "a view stays as it was"
    if parts:
        assert plain_spans(concatenate(buffer.chunks())) == joined(parts)


@settings(max_examples=100, deadline=None)
@given(batches, st.randoms(use_true_random=False))
def test_compacting_keeps_the_rows_and_drops_the_rest_when_rows_are_taken(batch: SpanBatch, random: Random) -> None:
    rows = random.choices(range(len(batch)), k=random.randrange(5)) if len(batch) else []
    taken = batch.take(np.array(rows, np.int64))
    small = compact(taken)
    assert plain_spans(small) == plain_spans(taken)
    assert len(small.scopes) == len(set(taken.spans["scope"].tolist()))
    assert len(small.resources) == len(set(small.scopes["resource"].tolist()))
    assert len(small.events) == int(taken.spans["event_count"].sum())
    assert len(small.links) == int(taken.spans["link_count"].sum())
    owners = tables_of(small)[:5]
    assert len(small.attrs) == sum(int(records["attr_count"].sum()) for records in owners)


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_made_of_empty_batches(count: int) -> None:
    for made in (merge([empty_batch()] * count), concatenate([empty_batch()] * count), compact(empty_batch())):
        assert plain_spans(made) == []
        assert [len(table) for table in tables_of(made)] == [0] * 6
        assert made.strings.bytes_at(0) == b""


def test_buffer_takes_a_batch_that_is_larger_than_a_chunk() -> None:
    buffer = BatchBuffer(chunk_spans=4)
    big, small = random_batch(1, 5000), random_batch(2, 3)
    for batch in (small, big, small, small):
        buffer.append(batch)
    assert sum(map(len, buffer.chunks())) == buffer.spans == 5009
    assert joined(buffer.chunks())[-3:] == plain_spans(small)
    assert buffer.memory_bytes > sum(table.nbytes for table in tables_of(big))


def test_permuted_rows_are_merged_in_their_order() -> None:
    batch = random_batch(3, 8)
    order = np.array([7, 0, 3, 3])
    assert plain_spans(merge([batch.take(order), batch])) == [*(plain_spans(batch)[row] for row in order), *plain_spans(batch)]
    assert plain_spans(replace(batch, spans=batch.spans[:2])) == plain_spans(batch)[:2]
