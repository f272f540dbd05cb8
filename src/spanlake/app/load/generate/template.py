"""A template: one encoded ExportTraceServiceRequest, and the arrays that say where its ids, times and varying values stand.

Built once per (seed, template number) from simulated traces; `traces` patches copies of it. Spans are grouped as SDKs send them, by pod
(ResourceSpans) and instrumentation library (ScopeSpans), in the order in which they ended. Field numbers: opentelemetry-proto 1.x,
trace/v1/trace.proto.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spanlake.app.load.generate import pieces, shop
from spanlake.app.load.generate.pieces import Mark, Owner, Patch, Piece
from spanlake.app.load.generate.simulate import SpanDraft, SpanRef, TraceDraft, draft_request, draft_sweep
from spanlake.app.load.generate.telling import EventDraft
from spanlake.model.spans import STATUS_ERROR

FLAGS_SAMPLED, FLAGS_PARENT_KNOWN, FLAGS_PARENT_REMOTE = 0x001, 0x100, 0x200
SWEEP_PRODUCERS_MAX = 4
TRACE_STATE = "shop=cohort:canary;region:eu-central-1,edge=pop:fra-3"


class Places(NamedTuple):
    """Marks of one kind: byte offset in the payload, ordinal of the span or trace, and the value of the mark."""

    at: NDArray[np.int64]
    of: NDArray[np.int64]
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Template:
    """Encoded request with zeroed ids and times. `trace_first`: each trace's first span, and the number of spans."""

    data: NDArray[np.uint8]
    trace_first: NDArray[np.int64]
    places: tuple[Places, ...]  # by Patch

    @property
    def spans(self) -> int:
        return int(self.trace_first[-1])

    @property
    def traces(self) -> int:
        return len(self.trace_first) - 1


def build_template(random: Random, spans_least: int) -> Template:
    """Whole traces until there are `spans_least` spans."""
    drafts = draft_traces(random, spans_least)
    trace_first = np.cumsum([0, *(len(draft.spans) for draft in drafts)], dtype=np.int64)
    encoded = pieces.join(_encode_resources(random, drafts, trace_first))
    return Template(np.frombuffer(encoded.data, np.uint8), trace_first, tuple(_places(encoded.marks, patch) for patch in Patch))


def draft_traces(random: Random, spans_least: int) -> list[TraceDraft]:
    """Simulated traces: requests, and after some orders a worker's sweep over them."""
    drafts: list[TraceDraft] = []
    waiting: list[SpanRef] = []
    spans = 0
    while spans < spans_least:
        trace = len(drafts)
        if len(waiting) >= random.randint(2, SWEEP_PRODUCERS_MAX):
            draft = draft_sweep(random, trace, tuple(waiting))
            waiting.clear()
        else:
            draft = draft_request(random, trace)
            waiting.extend(SpanRef(trace, span) for span in draft.producers[:1])
        drafts.append(draft)
        spans += len(draft.spans)
    return drafts


def _places(marks: Iterable[Mark], patch: Patch) -> Places:
    chosen = [mark for mark in marks if mark.patch is patch]
    return Places(
        np.array([mark.offset for mark in chosen], np.int64),
        np.array([mark.of for mark in chosen], np.int64),
        np.array([mark.value for mark in chosen], np.float64),
    )


def _encode_resources(random: Random, drafts: list[TraceDraft], trace_first: NDArray[np.int64]) -> Iterable[Piece]:
    """One ResourceSpans per pod, in random order: so do batches of several services arrive."""
    pods: defaultdict[tuple[str, int], defaultdict[str, list[SpanRef]]] = defaultdict(lambda: defaultdict(list))
    for trace, draft in enumerate(drafts):
        for span in sorted(range(len(draft.spans)), key=lambda ordinal: draft.spans[ordinal].end_ns):
            about = draft.spans[span]
            pods[about.service, about.pod][about.library].append(SpanRef(trace, span))
    encoder = _Encoder(drafts, [int(first) for first in trace_first])
    order = list(pods)
    random.shuffle(order)
    for service, pod in order:
        scopes = [encoder.scope_spans(library, spans) for library, spans in pods[service, pod].items()]
        yield pieces.message(1, (pieces.message(1, resource(service, pod)), *scopes))


def resource(service: str, pod: int) -> Iterable[Piece]:
    """The attributes of a pod. The last pod of a service runs the next version."""
    about = shop.SERVICES[service]
    version = about.next_version if pod and pod == about.pods - 1 else about.version
    number = sum(map(ord, service)) * 31 + pod
    for key, value in (
        ("service.name", service),
        ("service.version", version),
        ("deployment.environment.name", "production"),
        ("host.name", f"node-{number % 7}"),
        ("k8s.pod.name", f"{service}-{number * 2654435761 % 0xFFFFF:05x}-{pod}"),
        ("telemetry.sdk.language", about.language),
    ):
        yield pieces.attribute(1, key, value)


class _Encoder(NamedTuple):
    """Encodes drafts; ordinals of spans in the payload are the trace's first plus the ordinal in the trace."""

    drafts: list[TraceDraft]
    first: list[int]

    def scope_spans(self, library: str, spans: list[SpanRef]) -> Piece:
        scope = pieces.message(1, (pieces.text(1, library), pieces.text(2, "1.4.0")))
        return pieces.message(2, (scope, *(self.span(ref) for ref in spans)))

    def span(self, ref: SpanRef) -> Piece:
        """One Span: every field that SDKs set."""
        trace = self.drafts[ref.trace]
        draft = trace.spans[ref.span]
        piece = pieces.message(
            2,
            (
                pieces.trace_id(1),
                pieces.span_id(2),
                pieces.text(3, TRACE_STATE if ref.trace % 4 == 0 else ""),
                pieces.span_id(4, self.first[ref.trace] + draft.parent) if draft.parent >= 0 else pieces.EMPTY,
                pieces.text(5, draft.name),
                pieces.integer(6, draft.kind),
                pieces.time(7, draft.start_ns - trace.end_ns),
                pieces.time(8, draft.end_ns - trace.end_ns),
                *(pieces.attribute(9, key, value) for key, value in draft.attributes),
                *(_event(event, trace.end_ns) for event in draft.events),
                *(self.link(link) for link in draft.links),
                _status(draft),
                pieces.fixed32(16, _flags(draft, trace)),
            ),
        )
        return pieces.owned(piece, Owner(self.first[ref.trace] + ref.span, ref.trace))

    def link(self, link: SpanRef) -> Piece:
        return pieces.message(
            13,
            (
                pieces.trace_id(1, link.trace),
                pieces.span_id(2, self.first[link.trace] + link.span),
                pieces.attribute(4, "messaging.link.kind", "producer"),
                pieces.fixed32(6, FLAGS_SAMPLED | FLAGS_PARENT_KNOWN | FLAGS_PARENT_REMOTE),
            ),
        )


def _event(event: EventDraft, trace_end_ns: int) -> Piece:
    attributes = (pieces.attribute(3, key, value) for key, value in event.attributes)
    return pieces.message(11, (pieces.time(1, event.at_ns - trace_end_ns), pieces.text(2, event.name), *attributes))


def _status(draft: SpanDraft) -> Piece:
    if not draft.failure:
        return pieces.EMPTY
    return pieces.message(15, (pieces.text(2, draft.failure), pieces.integer(3, STATUS_ERROR)))


def _flags(draft: SpanDraft, trace: TraceDraft) -> int:
    """W3C flags and OTLP's two bits: whether the parent's place is known, and whether it is in another process."""
    if draft.parent < 0:
        return FLAGS_SAMPLED | FLAGS_PARENT_KNOWN
    remote = trace.spans[draft.parent].service != draft.service
    return FLAGS_SAMPLED | FLAGS_PARENT_KNOWN | (FLAGS_PARENT_REMOTE if remote else 0)
