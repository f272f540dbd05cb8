"""Limits of tenants: what is over one is refused or cut, counted, and after a crash still what was acknowledged."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from node import Clock, LimitsByTenant, Node, attribute, numbers, request, span
from spanlake.blocks.wal import FileCalls
from spanlake.ingest.limits import trace_spans
from spanlake.ingest.limits.rate import BUCKETS_MAX, IngestRate
from spanlake.ingest.limits.trace_spans import TraceSpans
from spanlake.ingest.limits.truncate import truncate_attributes
from spanlake.ingest.pipeline import OTHER_TENANTS, TENANTS_COUNTED_MAX
from spanlake.model.errors import InvalidInput, Overloaded, TooLarge, Unavailable
from spanlake.model.spans import STRING
from spanlake.model.tenancy.limits import SameLimits, TenantLimits
from spanlake.wire.otlp.decode import decode_otlp

# Rate


def test_bytes_come_in_at_the_rate_and_the_burst_at_once() -> None:
    clock = Clock()
    rate, limits = IngestRate(clock), TenantLimits(ingest_bytes_per_second=1000, ingest_burst_bytes=4000)
    rate.take("a", 3000, limits)
    with pytest.raises(
        Overloaded, match=r"^RATE_LIMITED: ingestion rate limit \(1000 bytes/s, burst: 4000 bytes\) .* 3500 .* 'a'"
    ) as refusal:
        rate.take("a", 3500, limits)
    assert refusal.value.retry_after_seconds == 3  # 1000 are there, 2500 more are needed
    rate.take("b", 4000, limits)  # another tenant has a bucket of its own
    clock.advance(2.5)
    rate.take("a", 3500, limits)
    with pytest.raises(Overloaded):
        rate.take("a", 1, limits)
    clock.advance(1e6)
    rate.take("a", 4000, limits)  # no more than the burst has gathered
    with pytest.raises(Overloaded):
        rate.take("a", 1, limits)


def test_a_push_above_the_burst_is_refused_for_good() -> None:
    with pytest.raises(TooLarge, match=r"^RATE_LIMITED: batch size \(4001 bytes\) exceeds the ingestion limit \(burst: 4000 bytes\)"):
        IngestRate(Clock()).take("a", 4001, TenantLimits(ingest_bytes_per_second=1000, ingest_burst_bytes=4000))


def test_rate_has_no_effect_when_it_is_0() -> None:
    IngestRate(Clock()).take("a", 1 << 40, TenantLimits())


def test_buckets_are_bounded_when_there_are_many_tenants() -> None:
    rate, limits = IngestRate(Clock()), TenantLimits(ingest_bytes_per_second=1, ingest_burst_bytes=10)
    for number in range(BUCKETS_MAX + 5):
        rate.take(f"t{number}", 10, limits)
    assert len(rate._buckets) == BUCKETS_MAX


def test_refused_pushes_leave_nothing_behind_and_are_counted(tmp_path: Path) -> None:
    size = len(request(span(1, 1)))
    limits = LimitsByTenant({"a": TenantLimits(ingest_bytes_per_second=1, ingest_burst_bytes=size)})
    with Node(tmp_path, limits=limits) as node:
        assert node.push(span(1, 1), tenant="a") == 1
        with pytest.raises(Overloaded, match="RATE_LIMITED"):
            node.push(span(1, 2), tenant="a")
        with pytest.raises(TooLarge, match="RATE_LIMITED"):
            node.push(span(1, 2), span(1, 3), tenant="a")
        assert node.push(*(span(1, number) for number in range(1, 50)), tenant="b") == 49
        assert numbers(node.trace(1, tenant="a")) == [1]
        assert node.pipeline.counters.refused == {("a", "ingestion rate"): 1, ("a", "push above the burst"): 2}
        limits.limits["a"] = TenantLimits()  # limits change while the server runs
        assert node.push(span(1, 2), span(1, 3), tenant="a") == 2


def test_malformed_payloads_cost_no_tokens(tmp_path: Path) -> None:
    size = len(request(span(1, 1)))
    with Node(tmp_path, limits=SameLimits(TenantLimits(ingest_bytes_per_second=1, ingest_burst_bytes=max(size, 1024)))) as node:
        with pytest.raises(InvalidInput, match="not an OTLP"):
            node.pipeline.accept("a", b"\xff" * 1024)
        assert node.push(span(1, 1), tenant="a") == 1


def test_refusals_of_many_tenants_are_counted_together(tmp_path: Path) -> None:
    limits = SameLimits(TenantLimits(ingest_bytes_per_second=1, ingest_burst_bytes=1))
    with Node(tmp_path, limits=limits) as node:
        for number in range(TENANTS_COUNTED_MAX + 3):
            with pytest.raises(TooLarge):
                node.push(span(1, 1), tenant=f"t{number}")
        refused = node.pipeline.counters.refused
        assert len(refused) == TENANTS_COUNTED_MAX + 1
        assert refused[OTHER_TENANTS, "push above the burst"] == 3


# Memory of live spans


def test_a_tenant_whose_live_spans_fill_its_memory_waits_for_the_cut_and_others_do_not(tmp_path: Path) -> None:
    with Node(tmp_path, limits=LimitsByTenant({"a": TenantLimits(live_bytes_max=1)})) as node:
        assert node.push(span(1, 1), tenant="a") == 1
        with pytest.raises(Overloaded, match=r"live spans of tenant 'a' take \d+ bytes, more than its live_bytes_max=1"):
            node.push(span(1, 2), tenant="a")
        assert node.push(span(1, 1), tenant="b") == 1
        node.cut()
        assert node.push(span(1, 2), tenant="a") == 1


# Spans per trace


def test_spans_beyond_the_limit_of_their_trace_are_refused_and_the_others_kept(tmp_path: Path) -> None:
    with Node(tmp_path, limits=LimitsByTenant({"a": TenantLimits(trace_spans_max=3)})) as node:
        assert node.push(span(1, 1), span(1, 2), tenant="a") == 2
        accepted = node.pipeline.accept("a", request(span(1, 3), span(2, 1), span(1, 4), span(1, 5), span(2, 2)))
        assert (accepted.spans, accepted.rejected) == (3, 2)
        assert accepted.reason == "2 spans refused: the trace has as many spans as trace_spans_max allows"
        assert node.push(*(span(1, number) for number in range(1, 9)), tenant="b") == 8
        node.cut()
        nothing = node.pipeline.accept("a", request(span(1, 6)))  # also after a cut, and when nothing is left
        assert (nothing.spans, nothing.rejected) == (0, 1)
        assert [sorted(numbers(node.trace(trace, tenant="a"))) for trace in (1, 2)] == [[1, 2, 3], [1, 2]]
        assert sum(node.pipeline.counters.refused.values()) == 3


def test_a_replay_finds_the_spans_that_were_acknowledged_and_not_those_that_were_refused(tmp_path: Path) -> None:
    limits = SameLimits(TenantLimits(trace_spans_max=2, attribute_bytes_max=8))
    with Node(tmp_path, limits=limits) as node:
        node.push(span(1, 1), span(1, 2, attributes={"text": "x" * 20}), span(1, 3), span(2, 7))
        before = {trace: node.trace(trace) for trace in (1, 2)}
    with Node(tmp_path) as node:
        after = {trace: node.trace(trace) for trace in (1, 2)}
    assert before == after
    assert [numbers(spans) for spans in after.values()] == [[1, 2], [7]]
    assert after[1][1].attributes[0].value.string_value == "x" * 8


def test_spans_that_could_not_be_kept_do_not_count(tmp_path: Path) -> None:
    real, full = FileCalls(), False

    def write(descriptor: int, parts: Sequence[bytes | memoryview], offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real.write(descriptor, parts, offset)

    size = len(request(span(1, 1)))
    limits = TenantLimits(trace_spans_max=1, ingest_bytes_per_second=1, ingest_burst_bytes=size)
    with Node(tmp_path, limits=SameLimits(limits), calls=FileCalls(write=write)) as node:
        full = True
        with pytest.raises(Unavailable):
            node.push(span(1, 1))
        full = False
        assert node.push(span(1, 1)) == 1


@settings(max_examples=50, deadline=None)
@given(
    pushes=st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(1, 6), min_size=1, max_size=20)), max_size=12),
    spans_max=st.integers(1, 5),
)
def test_each_trace_of_each_tenant_gets_its_number_of_spans(pushes: list[tuple[str, list[int]]], spans_max: int) -> None:
    counted, expected = TraceSpans(), dict[tuple[str, int], int]()
    for tenant, traces in pushes:
        batch = decode_otlp(request(*(span(trace, 1) for trace in traces))).batch
        kept = counted.count(tenant, batch, spans_max).tolist()
        for trace, is_kept in zip(traces, kept, strict=True):
            before = expected.get((tenant, trace), 0)
            assert is_kept == (before < spans_max)
            expected[tenant, trace] = before + is_kept


def test_counts_survive_growth_and_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_spans, "SLOTS_MAX", 1 << 13)
    counted = TraceSpans()
    mine = decode_otlp(request(span(1, 1))).batch
    assert counted.count("a", mine, 1).tolist() == [True]
    others = decode_otlp(request(*(span(trace, 1) for trace in range(2, 3002)))).batch
    for number in range(12):
        counted.count(f"other {number}", others, 1)
        # Seen once per generation, a trace is remembered for ever.
        assert counted.count("a", mine, 1).tolist() == [False]
        assert counted._current.shape[1] <= 1 << 13
    for number in range(12):
        counted.count(f"another {number}", others, 1)
    assert counted.count("a", mine, 1).tolist() == [True]


# Attributes


def cut(payload: bytes, bytes_max: int) -> tuple[list[tuple[str, object]], int]:
    """The attributes after truncation, texts decoded strictly, and the number of those cut."""
    batch, truncated = truncate_attributes(decode_otlp(payload).batch, bytes_max)
    strings, found = batch.strings, list[tuple[str, object]]()
    for attr in batch.attrs:
        code = int(attr["value"])
        value: object = code
        if attr["type"] == STRING:
            value = strings.bytes_at(code).decode()
        elif attr["type"] == 7:
            value = strings.bytes_at(code)
        found.append((strings.bytes_at(int(attr["key"])).decode(), value))
    return found, truncated


def test_long_keys_and_values_are_cut_at_whole_characters() -> None:
    one = span(1, 1, attributes={"short": "x" * 8, "long": "y" * 9, "euro": "€€€", "key" * 5: 7, "raw": b"\x80" * 20, "both" * 3: "z" * 99})
    found, truncated = cut(request(one, service="a service"), 8)
    assert dict(found) == {
        "service.": "a servic",  # service.name is longer than 8 bytes, too
        "short": "x" * 8,
        "long": "y" * 8,
        "euro": "€€",
        "keykeyke": 7,
        "raw": b"\x80" * 8,
        "bothboth": "z" * 8,
    }
    assert truncated == 6


def test_nothing_is_copied_when_nothing_is_too_long() -> None:
    batch = decode_otlp(request(span(1, 1, name="a very long name of a span"))).batch
    assert truncate_attributes(batch, 100)[0] is batch
    assert truncate_attributes(batch, 12)[0] is batch  # a name is no attribute


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=12), min_size=1, max_size=8), bytes_max=st.integers(0, 12))
def test_every_text_is_its_longest_prefix_of_whole_characters(texts: list[str], bytes_max: int) -> None:
    attributes = [attribute(f"k{number}", text) for number, text in enumerate(texts)]
    one = Span(trace_id=b"\1" * 16, span_id=b"\1" * 8, attributes=attributes)
    found, _ = cut(request(one, service=""), bytes_max)
    expected = [text.encode()[:bytes_max].decode(errors="ignore") for text in texts]
    assert [value for _, value in found][-len(texts) :] == expected


def test_cut_attributes_are_counted_and_arrays_stay_as_they_are(tmp_path: Path) -> None:
    array = KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="v" * 50)])))
    with Node(tmp_path, limits=SameLimits(TenantLimits(attribute_bytes_max=12))) as node:
        one = span(1, 1, attributes={"text": "x" * 50})
        one.attributes.append(array)
        one.events.add(name="e" * 50, attributes=[attribute("event", "y" * 50)])
        assert node.push(one, tenant="a") == 1
        (stored,) = node.trace(1, tenant="a")
        assert stored.attributes[0].value.string_value == "x" * 12
        assert stored.attributes[1] == array
        assert (stored.events[0].name, stored.events[0].attributes[0].value.string_value) == ("e" * 50, "y" * 12)
        assert node.pipeline.counters.truncated == {"a": 2}
        assert node.pipeline.counters.refused == {}


def test_truncation_takes_bytes_of_any_kind() -> None:
    batch = decode_otlp(request(span(1, 1, attributes={"raw": bytes(range(256))}))).batch
    changed, truncated = truncate_attributes(batch, 100)
    assert truncated == 1
    assert np.array_equal(changed.spans, batch.spans)
