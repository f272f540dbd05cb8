"""Random traces that are as ill-shaped as real ones can be: orphans, several roots, cycles, duplicates, twins, mixed types per key.

Everything is drawn from a `random.Random`: a seeded one in plain runs (the seed is all that is needed to repeat one), Hypothesis's
`randoms()` where failures should shrink. Keys and values come from small pools, which the queries of `random_queries` draw from too,
so that conditions are often met.
"""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TypeVar

from naive_spans import Event, Link, RawValue, Resource, Scope, Span
from naive_values import INT_MAX, INT_MIN

T = TypeVar("T")

BASE_NS = 1_700_000_000_000_000_000
SPAN_KEYS = ("x", "y", "flag", "big", "list", "a b", "service.name", "name")
RESOURCE_KEYS = ("x", "service.name", "region", "y")
SCOPE_KEYS = ("x", "language")
EVENT_KEYS = ("x", "k", "message")
LINK_KEYS = ("x", "rel")
NAMES = ("a", "b", "c", "GET /", "", "é\n")
TEXTS = ("", "a", "b", "ab", "nil", "200", "é🔥", "a\nb")
SMALL = (-2, -1, 0, 1, 2, 3, 200)
FLOATS = (0.0, 0.5, 1.0, 2.0, 2.5, -1.5, 200.0)
ODD_FLOATS = (math.nan, math.inf, -math.inf, 1e300)
EXTREMES = (INT_MAX, INT_MIN, INT_MAX - 1, 1 << 53, (1 << 53) + 1)
OPAQUE: tuple[RawValue, ...] = (b"\x01", {"k": "v"}, {}, [1, "a"], [], [[1]], [b"x"], [True, 1])
UNUSUAL: tuple[RawValue, ...] = ODD_FLOATS + EXTREMES + OPAQUE
TRACE_IDS = tuple(0xA1000000000000000000000000000000 + number for number in range(6))
SPAN_IDS = (1, 2, 3, 4, 5, 6, 7, 0x00FF00000000000A, 0xFFFFFFFFFFFFFFFB, 0xA00000000000000C)
ABSENT_IDS = (0x99, 0xEE00000000000000)
DURATIONS_NS = (0, 1, 999, 1_000_000, 1_500_000, 2_000_000, 50_000_000, 1_000_000_000, 90_000_000_000)


def often(chance: Random, share: float) -> bool:
    """True with that probability."""
    return chance.random() < share


def random_value(chance: Random) -> RawValue:
    """Mostly what TraceQL can hold, of every type."""
    kind = chance.randrange(20)
    if kind < 6:
        return chance.choice(SMALL)
    if kind < 9:
        return chance.choice(TEXTS)
    if kind < 12:
        return chance.choice(FLOATS)
    if kind < 14:
        return chance.choice((True, False))
    if kind < 17:
        return random_array(chance)
    return chance.choice(UNUSUAL)


def random_array(chance: Random) -> RawValue:
    """One to three elements of one type."""
    pool: tuple[RawValue, ...] = chance.choice((SMALL, TEXTS, FLOATS, (True, False)))
    return [chance.choice(pool) for _ in range(chance.randint(1, 3))]


def random_attributes(chance: Random, keys: tuple[str, ...], share: float = 0.4) -> dict[str, RawValue]:
    """Some of the keys; `service.name` mostly a service, `big` mostly extreme, `flag` mostly a boolean."""
    usual: dict[str, tuple[RawValue, ...]] = {"service.name": ("web", "db", "a"), "big": EXTREMES, "flag": (True, False)}
    return {
        key: chance.choice(usual[key]) if key in usual and often(chance, 0.8) else random_value(chance)
        for key in keys
        if often(chance, share)
    }


def random_spans(chance: Random, traces_max: int = 3, spans_max: int = 9) -> list[Span]:
    """Spans of some traces in order of arrival, which mixes the traces."""
    resources = [_resource(chance) for _ in range(chance.randint(1, 3))]
    scopes = [
        Scope(chance.choice(("", "lib", "http")), chance.choice(("", "1.0")), random_attributes(chance, SCOPE_KEYS))
        for _ in range(chance.randint(1, 2))
    ]
    arrived: list[Span] = []
    for trace_id in chance.sample(TRACE_IDS, chance.randint(1, traces_max)):
        count = chance.randint(1, spans_max)
        ids = [chance.choice(SPAN_IDS) for _ in range(count)]
        arrived += [_span(chance, trace_id, ids, place, (chance.choice(resources), chance.choice(scopes))) for place in range(count)]
    if often(chance, 0.5):
        chance.shuffle(arrived)
    return arrived


def _resource(chance: Random) -> Resource:
    """A service's name is no array: whether an array of one name names a service is nowhere said."""
    attributes = random_attributes(chance, RESOURCE_KEYS, 0.6)
    return Resource({key: value for key, value in attributes.items() if key != "service.name" or not isinstance(value, list)})


def _span(chance: Random, trace_id: int, ids: list[int], place: int, origin: tuple[Resource, Scope]) -> Span:
    start_ns = BASE_NS + chance.randint(0, 20) * 1_000_000 + chance.choice((0, 0, 1))
    duration_ns = -5 if often(chance, 0.03) else chance.choice(DURATIONS_NS)
    return Span(
        trace_id=trace_id,
        span_id=ids[place],
        parent_id=_parent_id(chance, ids, place),
        name=chance.choice(NAMES),
        kind=chance.choice((0, 1, 2, 2, 3, 3, 4, 5)),
        status=chance.choice((0, 0, 1, 2)),
        status_message=chance.choice(("", "", "timeout", "a")),
        start_ns=start_ns,
        duration_ns=duration_ns,
        attributes=random_attributes(chance, SPAN_KEYS),
        events=[_event(chance, start_ns) for _ in range(chance.choice((0, 0, 0, 1, 2, 3)))],
        links=[_link(chance) for _ in range(chance.choice((0, 0, 0, 1, 2)))],
        resource=origin[0],
        scope=origin[1],
    )


def _parent_id(chance: Random, ids: list[int], place: int) -> int:
    """Mostly an earlier span, sometimes none, an absent one, or any span of the trace, which makes cycles."""
    kind = chance.randrange(20)
    if kind < 3 or (place == 0 and kind < 14):
        return 0
    if kind < 6:
        return chance.choice(ABSENT_IDS)
    return chance.choice(ids) if kind < 9 or place == 0 else ids[chance.randrange(place)]


def _event(chance: Random, start_ns: int) -> Event:
    return Event(
        start_ns + chance.choice((0, 1, 5_000_000)), chance.choice(("", "exception", "a")), random_attributes(chance, EVENT_KEYS, 0.5)
    )


def _link(chance: Random) -> Link:
    return Link(chance.choice(TRACE_IDS), chance.choice(SPAN_IDS), random_attributes(chance, LINK_KEYS, 0.5))


def orderly(chance: Random, spans: list[Span]) -> list[Span]:
    """The same without shared ids and cycles: their tree depends on an order of arrival that blocks do not keep. Some spans come twice."""
    numbers = iter(range(1, 1 << 20))
    arrived: dict[int, list[Span]] = {}
    result: list[Span] = []
    for span in spans:
        earlier = arrived.setdefault(span.trace_id, [])
        parent_id = chance.choice((0, 0, *ABSENT_IDS, *(one.span_id for one in earlier for _ in range(3))))
        span_id = next(numbers) if often(chance, 0.9) else (0xFF << 56) + next(numbers)
        earlier.append(replace(span, span_id=span_id, parent_id=parent_id))
        result.append(earlier[-1])
        if often(chance, 0.1):
            result.append(chance.choice(earlier))
    return result
