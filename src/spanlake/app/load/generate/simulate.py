"""One trace of the shop, played through: which spans there are, when they begin and end, what they say and what fails.

Pure given the random source. Times are nanoseconds from the begin of the trace; a parent always covers its children, except that the
handling of a queued message happens after the call that published it. Knows nothing of encoding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, assert_never

from spanlake.app.load.generate import shop, telling
from spanlake.app.load.generate.pieces import Value
from spanlake.app.load.generate.shop import Consumer, Endpoint, Publish, Query, Remote, Step, Work
from spanlake.model.spans import KIND_CLIENT, KIND_CONSUMER, KIND_INTERNAL, KIND_PRODUCER, KIND_SERVER

MILLISECOND = 1_000_000
SPANS_MAX = 64
_SPANS_ENOUGH = SPANS_MAX - 8
"""Steps are left out once a trace has this many spans; those under way add a few."""


@dataclass(frozen=True, slots=True)
class SpanDraft:
    """A span before it has an id: `parent` is an ordinal in the trace, -1 for the root; an empty `failure` means no error status."""

    parent: int
    service: str
    pod: int
    library: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: tuple[tuple[str, Value], ...]
    events: tuple[telling.EventDraft, ...] = ()
    links: tuple[SpanRef, ...] = ()
    failure: str = ""


class SpanRef(NamedTuple):
    """A span of the payload: the ordinal of its trace and its ordinal in the trace."""

    trace: int
    span: int


@dataclass(frozen=True, slots=True)
class TraceDraft:
    """A trace: spans by ordinal (the root first), the ordinals of those that published a message, and the end of the last one."""

    spans: tuple[SpanDraft, ...]
    producers: tuple[int, ...]
    end_ns: int


class _End(NamedTuple):
    at_ns: int
    failure: str


class _Site(NamedTuple):
    """Where a step runs: in a pod of a service, below a span."""

    service: str
    pod: int
    parent: int


@dataclass(slots=True)
class _Playing:
    """The trace so far. Ordinals are handed out at a span's begin and filled at its end, when everything about it is known."""

    random: Random
    trace: int
    pods: dict[str, int] = field(default_factory=dict)
    drafts: list[SpanDraft | None] = field(default_factory=list)
    producers: list[int] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.drafts) >= _SPANS_ENOUGH

    def begin(self) -> int:
        self.drafts.append(None)
        return len(self.drafts) - 1

    def site(self, service: str, parent: int) -> _Site:
        """Within a trace, a service always answers from the same pod."""
        return _Site(service, self.pods.setdefault(service, self.random.randrange(shop.SERVICES[service].pods)), parent)

    def finished(self) -> TraceDraft:
        spans = tuple(draft for draft in self.drafts if draft is not None)
        assert len(spans) == len(self.drafts), "a span was begun and not filled"
        return TraceDraft(spans, tuple(self.producers), max(span.end_ns for span in spans))


def draft_request(random: Random, trace: int) -> TraceDraft:
    """A request from outside, through the gateway. `trace` is its ordinal in the payload."""
    playing = _Playing(random, trace)
    weights, names = zip(*shop.ENTRIES, strict=True)
    name = random.choices(names, weights)[0]
    inner = shop.ENDPOINTS[name]
    gateway = Endpoint("gateway", inner.method, inner.route, inner.path, 0.6, (Remote(name),), failure_chance=0.001)
    _serve(playing, gateway, -1, 0)
    return playing.finished()


def draft_sweep(random: Random, trace: int, producers: tuple[SpanRef, ...]) -> TraceDraft:
    """A worker's round over several queued messages: its own trace, linked to the `producers` of other traces."""
    playing = _Playing(random, trace)
    _consume(playing, "orders.placed", shop.SWEEP, (-1, producers), 0)
    return playing.finished()


def _latency_ns(random: Random, median_ms: float) -> int:
    """Log-normal with a long tail: one in a hundred is ten to sixty times slower."""
    tail = random.uniform(10, 60) if random.random() < 0.01 else 1.0
    return int(random.lognormvariate(0, 0.55) * median_ms * tail * MILLISECOND)


def _serve(playing: _Playing, endpoint: Endpoint, parent: int, start_ns: int) -> _End:
    """The server's side of a call."""
    span = playing.begin()
    site = playing.site(endpoint.service, span)
    random = playing.random
    end = _run_steps(playing, endpoint.steps, site, start_ns + _latency_ns(random, endpoint.median_ms * 0.4))
    failed_here = not end.failure and random.random() < endpoint.failure_chance
    # A caller gets over a failed call of its callee one time in four: then the error stays below it.
    failure = telling.failure_of(random, endpoint.service) if failed_here else None
    inherited = "" if random.random() < 0.25 else end.failure
    reason = failure.kind if failure else inherited
    end_ns = end.at_ns + _latency_ns(random, endpoint.median_ms * 0.6)
    playing.drafts[span] = SpanDraft(
        parent,
        endpoint.service,
        site.pod,
        shop.SERVICES[endpoint.service].server_library,
        telling.endpoint_name(endpoint),
        KIND_SERVER,
        start_ns,
        end_ns,
        telling.served(random, endpoint, failed=bool(reason)),
        telling.served_events(random, endpoint.service, failure, end_ns),
        failure=reason,
    )
    return _End(end_ns, reason)


def _run_steps(playing: _Playing, steps: tuple[Step, ...], site: _Site, at_ns: int) -> _End:
    """The steps in order, up to the first that fails; calls that go out together end with the slowest."""
    for step in steps:
        for end in _run_step(playing, step, site, at_ns):
            at_ns = end.at_ns
            if end.failure:
                return end
    return _End(at_ns, "")


def _run_step(playing: _Playing, step: Step, site: _Site, at_ns: int) -> Iterator[_End]:
    if playing.random.random() >= step.chance or playing.full:
        return
    match step:
        case Query():
            yield from _in_turn(step.times, playing, at_ns, lambda at: _query(playing, step, site, at))
        case Remote(together=True):
            ends = [_call(playing, step, site, at_ns) for _ in range(playing.random.randint(*step.times)) if not playing.full]
            yield _End(max(end.at_ns for end in ends), next((end.failure for end in ends if end.failure), ""))
        case Remote():
            yield from _in_turn(step.times, playing, at_ns, lambda at: _call(playing, step, site, at))
        case Publish():
            yield _publish(playing, step, site, at_ns)
        case Work():
            yield _work(playing, step, site, at_ns)
        case _:
            assert_never(step)


def _in_turn(times: tuple[int, int], playing: _Playing, at_ns: int, run: Callable[[int], _End]) -> Iterator[_End]:
    for _ in range(playing.random.randint(*times)):
        if playing.full:
            return
        end = run(at_ns)
        yield end
        at_ns = end.at_ns


def _call(playing: _Playing, step: Remote, site: _Site, start_ns: int) -> _End:
    """The client's side of a call, around the server's."""
    endpoint = shop.ENDPOINTS[step.endpoint]
    random = playing.random
    span = playing.begin()
    served = _serve(playing, endpoint, span, start_ns + _latency_ns(random, 0.25))
    end_ns = served.at_ns + _latency_ns(random, 0.25)
    playing.drafts[span] = SpanDraft(
        site.parent,
        site.service,
        site.pod,
        telling.client_library(site.service),
        endpoint.method or endpoint.route,
        KIND_CLIENT,
        start_ns,
        end_ns,
        telling.called(random, endpoint, failed=bool(served.failure)),
        failure=served.failure,
    )
    return _End(end_ns, served.failure)


def _query(playing: _Playing, step: Query, site: _Site, start_ns: int) -> _End:
    random = playing.random
    span = playing.begin()
    failure = random.choice(shop.DATABASE_FAILURES) if random.random() < 0.0015 else None
    end_ns = start_ns + _latency_ns(random, step.median_ms) + (2000 * MILLISECOND if failure else 0)
    database = shop.DATABASES[step.database]
    playing.drafts[span] = SpanDraft(
        site.parent,
        site.service,
        site.pod,
        database.library,
        f"{step.operation} {step.target}",
        KIND_CLIENT,
        start_ns,
        end_ns,
        telling.queried(random, step),
        telling.exception_events(site.service, failure, end_ns),
        failure=failure.kind if failure else "",
    )
    return _End(end_ns, failure.kind if failure else "")


def _work(playing: _Playing, step: Work, site: _Site, start_ns: int) -> _End:
    random = playing.random
    span = playing.begin()
    end_ns = start_ns + _latency_ns(random, step.median_ms)
    playing.drafts[span] = SpanDraft(
        site.parent,
        site.service,
        site.pod,
        f"shop.{site.service}",
        step.name,
        KIND_INTERNAL,
        start_ns,
        end_ns,
        telling.worked(random, step),
        telling.work_events(random, start_ns, end_ns),
    )
    return _End(end_ns, "")


def _publish(playing: _Playing, step: Publish, site: _Site, start_ns: int) -> _End:
    """The producer's span; what the consumers do comes later and holds nobody up."""
    random = playing.random
    span = playing.begin()
    playing.producers.append(span)
    end_ns = start_ns + _latency_ns(random, 1.2)
    playing.drafts[span] = SpanDraft(
        site.parent,
        site.service,
        site.pod,
        telling.queue_library(site.service),
        f"send {step.queue}",
        KIND_PRODUCER,
        start_ns,
        end_ns,
        telling.published(random, step.queue),
    )
    for consumer in shop.QUEUES[step.queue]:
        if not playing.full:
            _consume(playing, step.queue, consumer, (span, (SpanRef(playing.trace, span),)), end_ns)
    return _End(end_ns, "")


def _consume(playing: _Playing, queue: str, consumer: Consumer, origin: tuple[int, tuple[SpanRef, ...]], sent_ns: int) -> None:
    """A consumer's span. `origin`: its parent (-1: none) and the producers that it links to."""
    random = playing.random
    parent, producers = origin
    start_ns = sent_ns + _latency_ns(random, 15) if parent >= 0 else 0
    span = playing.begin()
    site = playing.site(consumer.service, span)
    end = _run_steps(playing, consumer.steps, site, start_ns + _latency_ns(random, consumer.median_ms * 0.5))
    fails = not end.failure and random.random() < consumer.failure_chance
    failure = telling.failure_of(random, consumer.service) if fails else None
    end_ns = end.at_ns + _latency_ns(random, consumer.median_ms * 0.5)
    playing.drafts[span] = SpanDraft(
        parent,
        consumer.service,
        site.pod,
        telling.queue_library(consumer.service),
        f"process {queue}",
        KIND_CONSUMER,
        start_ns,
        end_ns,
        telling.consumed(random, queue, consumer, messages=max(len(producers), 1)),
        telling.exception_events(consumer.service, failure, end_ns),
        producers,
        failure.kind if failure else end.failure,
    )
