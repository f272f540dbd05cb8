"""Answers of metrics queries as Tempo's JSON (wire contract, section 1.5), in the dialect of `search_json`.

A sample of 0 is one without `value`. tempo-cli decodes both answers strictly, Grafana that of instant queries.

An answer may have millions of samples, so these are written as text, one series after the other, and not built as objects first.
"""

from __future__ import annotations

import math
from typing import Any

import orjson

from spanlake.model.metrics import Exemplar, MetricsAnswer, Series
from spanlake.wire.search_json import search_metrics, set_fields, shown_attributes, shown_double


def encode_query_range(answer: MetricsAnswer) -> bytes:
    """The body of `/api/metrics/query_range`."""
    times: dict[int, str] = {}
    return _body(answer, [_time_series(series, times) for series in answer.series])


def encode_query_instant(answer: MetricsAnswer) -> bytes:
    """The body of `/api/metrics/query`: the first point of each series."""
    series = [{"labels": shown_attributes(one.labels), "value": shown_double(float(one.values[0]))} for one in answer.series]
    return _body(answer, [set_fields(one) for one in series])


def _body(answer: MetricsAnswer, series: list[dict[str, Any]]) -> bytes:
    partial = {"status": "PARTIAL", "message": answer.partial} if answer.partial else {}
    return orjson.dumps({**({"series": series} if series else {}), "metrics": search_metrics(answer.inspected), **partial})


def _time_series(series: Series, times: dict[int, str]) -> dict[str, Any]:
    """`times`: the texts of times that other series had, which are mostly the same."""
    labels = {"labels": shown_attributes(series.labels)} if series.labels else {}
    exemplars = {"exemplars": [_exemplar(one) for one in series.exemplars]} if series.exemplars else {}
    return {**labels, "samples": orjson.Fragment(_samples_text(series, times)), **exemplars}


def _samples_text(series: Series, times: dict[int, str]) -> str:
    texts = []
    for time_ms, value in series.points():
        time = times.get(time_ms)
        if time is None:
            time = times[time_ms] = f'"timestampMs":"{time_ms}"' if time_ms else ""
        if value:
            number = repr(value) if math.isfinite(value) else f'"{shown_double(value)}"'
            texts.append(f'{{{time}{"," if time else ""}"value":{number}}}')
        else:
            texts.append(f"{{{time}}}")
    return f"[{','.join(texts)}]"


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    time = str(exemplar.time_ms) if exemplar.time_ms else ""
    value = shown_double(exemplar.value)
    return set_fields({"labels": shown_attributes(exemplar.labels), "timestampMs": time, "value": value})
