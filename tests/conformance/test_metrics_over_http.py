"""Every range and instant case of the public corpus through the HTTP API of a whole server, as the corpus asks: times in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from live import Live, live_server
from naive_series import Labels
from pushed_corpus import ASKED, CASES, SECOND_NS, expected_series, payloads
from series_answers import EXACT, SKETCHED, series_differences
from tempo_json import read_query_instant, read_query_range

METRICS = [case for case in CASES if case["kind"] in ("range", "instant")]
PATHS = {"range": "/api/metrics/query_range", "instant": "/api/metrics/query"}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live_server(tmp_path_factory.mktemp("corpus")) as live:
        for payload in payloads():
            live.push(payload)
        yield live


@pytest.mark.parametrize("case", METRICS, ids=[f"{case['kind']} {case['q']}" for case in METRICS])
def test_metrics_are_those_of_the_corpus(live: Live, case: dict[str, Any]) -> None:
    parameters = {"q": case["q"], "start": ASKED.start_ns // SECOND_NS, "end": ASKED.end_ns // SECOND_NS}
    reply = live.get(PATHS[case["kind"]], {**parameters, **({"step": "10s"} if case["kind"] == "range" else {})})
    assert reply.status == case["status"], reply.body
    if reply.status == 200:
        tolerance = SKETCHED if "quantile" in case["q"] else EXACT
        assert not series_differences(expected_series(case), answered(case["kind"], reply.body), tolerance=tolerance, in_order=False)


def answered(kind: str, body: bytes) -> dict[Labels, dict[int, float]]:
    if kind == "range":
        return read_query_range(body)[0]
    return {labels: {ASKED.end_ns: number} for labels, number in read_query_instant(body).items()}
