"""Answers of metrics queries as Tempo's JSON (wire contract, section 1.5), in the dialect of `search_json`.

A sample of 0 is one without `value`. tempo-cli decodes both answers strictly, Grafana that of instant queries.
"""

from __future__ import annotations

from typing import Any

import orjson

from spanlake.model.metrics import Exemplar, MetricsAnswer, Series
from spanlake.wire.search_json import search_metrics, set_fields, shown_attributes, shown_double


def encode_query_range(answer: MetricsAnswer) -> bytes:
    """The body of `/api/metrics/query_range`."""
    return _body(answer, [_time_series(series) for series in answer.series])


def encode_query_instant(answer: MetricsAnswer) -> bytes:
    """The body of `/api/metrics/query`: the first point of each series."""
    series = [{"labels": shown_attributes(one.labels), "value": shown_double(float(one.values[0]))} for one in answer.series]
    return _body(answer, [set_fields(one) for one in series])


def _body(answer: MetricsAnswer, series: list[dict[str, Any]]) -> bytes:
    partial = {"status": "PARTIAL", "message": answer.partial} if answer.partial else {}
    return orjson.dumps({**({"series": series} if series else {}), "metrics": search_metrics(answer.inspected), **partial})


def _time_series(series: Series) -> dict[str, Any]:
    return set_fields(
        {
            "labels": shown_attributes(series.labels),
            "samples": [_point(time_ms, value) for time_ms, value in series.points()],
            "exemplars": [_exemplar(one) for one in series.exemplars],
        }
    )


def _point(time_ms: int, value: float) -> dict[str, Any]:
    time = {"timestampMs": str(time_ms)} if time_ms else {}
    return {**time, "value": shown_double(value)} if value else time


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    return {**set_fields({"labels": shown_attributes(exemplar.labels)}), **_point(exemplar.time_ms, exemplar.value)}
