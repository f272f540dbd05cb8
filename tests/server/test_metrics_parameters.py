"""Parameters of metrics queries: tempo-traceql sections 7.1 and 3.3, wire contract sections 1.0 and 1.5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanlake.model.errors import InvalidInput
from spanlake.model.metrics import AS_ALLOWED, InstantQuery, RangeQuery
from spanlake.model.trace import TimeRange
from spanlake.server.parameters.metrics import (
    default_step_ns,
    parse_instant_query,
    parse_range_query,
    parse_step_ns,
)

MS, S = 1_000_000, 1_000_000_000
M, H = 60 * S, 3600 * S
NOW = 1_700_000_000 * S
RATE = "{ } | rate()"


T = 1_699_990_000


def clock() -> int:
    return NOW


STEPS = [
    *((5 * M, S), (15 * M, 3 * S), (30 * M, 5 * S), (H, 15 * S), (3 * H, 45 * S), (6 * H, M), (12 * H, 3 * M), (24 * H, 5 * M)),
    *((48 * H, 10 * M), (7 * 24 * H, 40 * M), (14 * 24 * H, H), (30 * 24 * H, 3 * H)),
    *((59 * S, 200 * MS), (12 * S, 50 * MS), (MS, 50 * MS), (M, S), (4 * M, S)),
]


@pytest.mark.parametrize(("range_ns", "step_ns"), STEPS)
def test_default_step_is_that_of_the_table(range_ns: int, step_ns: int) -> None:
    assert default_step_ns(range_ns) == step_ns


@given(st.integers(1, 100 * 365 * 24 * H))
def test_default_step_never_asks_for_too_many_intervals(range_ns: int) -> None:
    step_ns = parse_step_ns({}, TimeRange(0, range_ns))
    assert step_ns >= 50 * MS
    assert range_ns <= step_ns * 1440


WINDOWS = [
    ({"start": f"{T}", "end": f"{T + 60}"}, (T * S, (T + 60) * S)),
    ({"start": f"{T}000000005", "end": f"{T + 60}000000000"}, (T * S + 5, (T + 60) * S)),
    ({"start": f"{T}.25", "end": f"{T + 60}.5"}, (T * S + 250 * MS, (T + 60) * S + 500 * MS)),
    ({"start": "2023-11-14T19:26:40Z", "end": "2023-11-14T20:27:40.5+01:00"}, (T * S, (T + 60) * S + 500 * MS)),
    ({}, (NOW - H, NOW)),
    ({"start": "", "end": "", "since": "", "step": ""}, (NOW - H, NOW)),
    ({"since": "5m"}, (NOW - 5 * M, NOW)),
    ({"since": "5m", "end": f"{T}"}, (T * S - 5 * M, T * S)),
    ({"since": "5m", "end": "1700000060"}, (NOW - 5 * M, NOW + M)),
    ({"start": f"{T}", "since": "nonsense, which is not needed"}, (T * S, NOW)),
    ({"end": "60"}, (0, M)),
]


@pytest.mark.parametrize(("parameters", "window"), WINDOWS)
def test_window_is_what_the_parameters_say(parameters: dict[str, str], window: tuple[int, int]) -> None:
    query = parse_range_query({"q": RATE, **parameters}, clock)
    assert query.window == TimeRange(*window)
    assert parse_instant_query({"q": RATE, **parameters}, clock) == InstantQuery(RATE, TimeRange(*window))


RANGE = {"start": f"{T}", "end": f"{T + 3600}"}
WINDOW = TimeRange(T * S, (T + 3600) * S)
ASKED = [
    ({"q": f" {RATE}\n"}, RangeQuery(RATE, WINDOW, 15 * S)),
    ({"query": RATE}, RangeQuery(RATE, WINDOW, 15 * S)),
    ({"q": RATE, "query": "other"}, RangeQuery(RATE, WINDOW, 15 * S)),
    ({"q": "", "query": RATE}, RangeQuery(RATE, WINDOW, 15 * S)),
    ({}, RangeQuery("", WINDOW, 15 * S)),
    *(({"q": RATE, "step": text}, RangeQuery(RATE, WINDOW, step_ns)) for text, step_ns in (("15", 15 * S), ("0.5", 500 * MS))),
    *(
        ({"q": RATE, "step": text}, RangeQuery(RATE, WINDOW, step_ns))
        for text, step_ns in (("1m30s", 90 * S), ("2h", 2 * H), ("1d", 24 * H))
    ),
    *(
        ({"q": RATE, "exemplars": text}, RangeQuery(RATE, WINDOW, 15 * S, count))
        for text, count in (("0", AS_ALLOWED), ("7", 7), ("999", 999))
    ),
    ({"q": RATE, "maxSeries": "3"}, RangeQuery(RATE, WINDOW, 15 * S, AS_ALLOWED, 3)),
    (
        # tempo-cli
        {
            "mode": "",
            "blockID": "",
            "startPage": "0",
            "pagesToSearch": "0",
            "version": "",
            "encoding": "none",
            "size": "0",
            "footerSize": "0",
            "q": RATE,
            "exemplars": "0",
            "maxSeries": "0",
        },
        RangeQuery(RATE, WINDOW, 15 * S),
    ),
]


@pytest.mark.parametrize(("parameters", "query"), ASKED)
def test_range_query_is_what_the_parameters_say(parameters: dict[str, str], query: RangeQuery) -> None:
    assert parse_range_query({**RANGE, **parameters}, clock) == query


def test_instant_query_ignores_step_and_exemplars() -> None:
    parameters = {**RANGE, "q": RATE, "step": "nonsense", "exemplars": "nonsense", "maxSeries": "4"}
    assert parse_instant_query(parameters, clock) == InstantQuery(RATE, WINDOW, 4)


REFUSED = [
    ({"start": "10", "end": "10"}, "end must be greater than start"),
    ({"start": "1700000001"}, "end must be greater than start"),
    ({"step": "0"}, "step must be greater than 0"),
    ({"step": "0s"}, "step must be greater than 0"),
    ({"step": "-5"}, "invalid step: '-5' is neither a number of seconds nor a duration such as 30s or 1m"),
    ({"step": "soon"}, "invalid step: 'soon' is neither a number of seconds nor a duration such as 30s or 1m"),
    ({"step": "9" * 19}, f"invalid step: '{'9' * 19}' is longer than 315360000 seconds"),
    ({"since": "soon"}, "invalid since: 'soon' is not a duration such as 30m or 1h"),
    ({"since": "0"}, "invalid since: '0' is not a duration such as 30m or 1h"),
    ({"start": "soon"}, "invalid start: 'soon' is neither unix seconds or nanoseconds nor an RFC 3339 time"),
    ({"exemplars": "-1"}, "invalid exemplars: must be between 0 and 4294967295, received -1"),
    ({"exemplars": "many"}, "invalid exemplars: 'many' is not a number"),
    ({"maxSeries": "4294967296"}, "invalid maxSeries: must be between 0 and 4294967295, received 4294967296"),
]


@pytest.mark.parametrize(("parameters", "text"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_range_query_is_refused_with_a_text_when_a_parameter_is_bad(parameters: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_range_query({"q": RATE, **parameters}, clock)
    assert str(refusal.value) == text
