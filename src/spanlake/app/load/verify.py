"""Reading back what was acknowledged: each span of each trace must be there exactly once.

Only payload numbers are remembered; which traces and spans they hold follows from the seed. Answers are TraceByIDResponse (field 1 trace,
3 status, 4 message; Trace: field 1 ResourceSpans, as in OTLP) from GET {query}/api/v2/traces/{hex}.
"""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from threading import Event, Lock

import numpy as np

from spanlake.app.load.fields import integer_of, messages, text_of
from spanlake.app.load.send.address import Address, abort_http, open_http
from spanlake.app.load.traces import TraceTemplates
from spanlake.app.load.workers import run_workers
from spanlake.model.errors import InvalidInput

FINDINGS_KEPT_MAX = 20
READ_ATTEMPTS_MAX = 5
_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_STATUS_PARTIAL = 1


@dataclass(frozen=True, slots=True)
class VerifyPlan:
    """Where to read, and how many traces: a sample of `sample` chosen by `seed`, or all."""

    address: Address
    headers: tuple[tuple[str, str], ...] = ()
    sample: int | None = None
    seed: int = 0
    connections: int = 4
    timeout_seconds: float = 60.0
    pause_seconds: float = 0.5  # before a failed read is tried again


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a trace; empty lists where nothing is. `unreadable` says why there was no usable answer."""

    trace_id: str
    payload: int
    missing: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    unreadable: str = ""

    def __str__(self) -> str:
        parts = [f"cannot be read: {self.unreadable}"] if self.unreadable else []
        for what, spans in (("missing", self.missing), ("more than once", self.doubled), ("never sent", self.unexpected)):
            if spans:
                more = f" and {len(spans) - 3} more" if len(spans) > 3 else ""
                parts.append(f"{len(spans)} {what}: {', '.join(spans[:3])}{more}")
        return f"trace {self.trace_id} (payload {self.payload}): {'; '.join(parts)}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far reading back is."""

    traces: int
    traces_total: int
    traces_wrong: int


@dataclass(frozen=True, slots=True)
class Verification:
    """The result. `findings` are the first few of `traces_wrong`."""

    traces: int
    traces_wanted: int
    traces_wrong: int
    spans: int
    spans_missing: int
    spans_doubled: int
    spans_unexpected: int
    traces_unreadable: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return not self.traces_wrong and self.traces == self.traces_wanted


def verify_traces(templates: TraceTemplates, numbers: Sequence[int], plan: VerifyPlan, watch: Callable[[Progress], None]) -> Verification:
    """Reads back the traces of the payloads `numbers`. Ctrl-C ends it early: then fewer traces were read than wanted."""
    stop = Event()
    reading = _Reading(templates, numbers, choose_traces(templates, numbers, plan))
    connections = [open_http(plan.address, plan.timeout_seconds) for _ in range(plan.connections)]
    idle = list(connections)

    def work() -> None:
        connection = idle.pop()
        while not stop.is_set() and (wanted := reading.take()) is not None:
            number, trace_id, span_ids = wanted
            found = read_trace(connection, plan, trace_id, stop)
            if not (stop.is_set() and isinstance(found, str)):
                reading.record(compare(trace_id, number, span_ids, found), len(span_ids))

    def abort() -> None:
        for connection in connections:
            abort_http(connection)

    run_workers(work, plan.connections, stop, watch=lambda: watch(reading.progress()), abort=abort)
    for connection in connections:
        connection.close()
    return reading.result()


def choose_traces(templates: TraceTemplates, numbers: Sequence[int], plan: VerifyPlan) -> list[tuple[int, int]]:
    """(index into `numbers`, place in that payload) of each trace to read, ascending."""
    ends = np.cumsum([templates.traces_in(number) for number in numbers], dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if plan.sample is None or plan.sample >= total:
        chosen = np.arange(total)
    else:
        chosen = np.array(sorted(Random(plan.seed).sample(range(total), plan.sample)), np.int64)  # noqa: S311 (not a secret)
    payloads = np.searchsorted(ends, chosen, side="right")
    places = chosen - np.concatenate([np.zeros(1, np.int64), ends])[payloads]
    return list(zip(payloads.tolist(), places.tolist(), strict=True))


def read_trace(connection: http.client.HTTPConnection, plan: VerifyPlan, trace_id: bytes, stop: Event) -> list[bytes] | str:
    """The span ids of a trace as the server has them, repeated ones repeated; a text says why they cannot be known."""
    path = f"{plan.address.path}/api/v2/traces/{trace_id.hex()}"
    headers = {"Accept": "application/protobuf", **dict(plan.headers)}
    problem = ""
    for _ in range(READ_ATTEMPTS_MAX):
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            problem = str(error) or type(error).__name__
        else:
            if response.status == 404:
                return []
            if response.status == 200:
                return span_ids_of(body)
            problem = f"HTTP {response.status}: {body[:200].decode('utf-8', 'replace').strip()}"
            if response.status not in _RETRY_STATUSES:
                return problem
        if stop.wait(plan.pause_seconds):
            break
    return problem


def span_ids_of(body: bytes) -> list[bytes] | str:
    """The span ids in a TraceByIDResponse; a text for an answer that is partial or no protobuf."""
    try:
        if integer_of(body, 3) == _STATUS_PARTIAL:
            return f"only a part of it was returned: {text_of(body, 4)}"
        return [
            bytes(span_id)
            for trace in messages(body, 1)
            for resource_spans in messages(trace, 1)
            for scope_spans in messages(resource_spans, 2)
            for span in messages(scope_spans, 2)
            for span_id in messages(span, 2)
        ]
    except InvalidInput as error:
        return f"the answer is not protobuf: {error}"


def compare(trace_id: bytes, payload: int, expected: Sequence[bytes], found: list[bytes] | str) -> Finding | None:
    """What is wrong with a trace of which `expected` was acknowledged and `found` was read; None if nothing is."""
    if isinstance(found, str):
        return Finding(trace_id.hex(), payload, unreadable=found)
    wanted, counts = set(expected), Counter(found)
    missing = tuple(span.hex() for span in expected if span not in counts)
    doubled = tuple(span.hex() for span, count in counts.items() if count > 1)
    unexpected = tuple(span.hex() for span in counts if span not in wanted)
    return Finding(trace_id.hex(), payload, missing, doubled, unexpected) if missing or doubled or unexpected else None


class _Reading:
    """What the reading threads share: the traces still to read, and the counts so far."""

    def __init__(self, templates: TraceTemplates, numbers: Sequence[int], chosen: list[tuple[int, int]]) -> None:
        self.templates = templates
        self.numbers = numbers
        self.chosen = chosen
        self.lock = Lock()
        self.taken = self.traces = self.spans = 0
        self.counts: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.payload = -1  # the one that is being read; `expected` is its answer
        self.expected: list[tuple[bytes, tuple[bytes, ...]]] = []

    def take(self) -> tuple[int, bytes, tuple[bytes, ...]] | None:
        """(payload number, trace id, its span ids) of the next trace; None when all are taken."""
        with self.lock:
            if self.taken == len(self.chosen):
                return None
            index, place = self.chosen[self.taken]
            self.taken += 1
            number = self.numbers[index]
            if self.payload != number:
                self.payload, self.expected = number, list(self.templates.expected(number).items())
            trace_id, span_ids = self.expected[place]
            return number, trace_id, span_ids

    def record(self, finding: Finding | None, spans: int) -> None:
        with self.lock:
            self.traces += 1
            self.spans += spans
            if finding is None:
                return
            self.counts.update(
                wrong=1,
                missing=len(finding.missing),
                doubled=len(finding.doubled),
                unexpected=len(finding.unexpected),
                unreadable=bool(finding.unreadable),
            )
            if len(self.findings) < FINDINGS_KEPT_MAX:
                self.findings.append(finding)

    def progress(self) -> Progress:
        with self.lock:
            return Progress(self.traces, len(self.chosen), self.counts["wrong"])

    def result(self) -> Verification:
        with self.lock:
            counts = self.counts
            return Verification(
                self.traces,
                len(self.chosen),
                counts["wrong"],
                self.spans,
                counts["missing"],
                counts["doubled"],
                counts["unexpected"],
                counts["unreadable"],
                tuple(self.findings),
            )
