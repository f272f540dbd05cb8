"""Time series as text: one line per series with its name, a chart of its points and its figures.

Pure: the answer, the width and the time zone come in, styled lines go out. All charts share one scale, from 0 (or the lowest value, if
that is below) to the highest value, so that lines can be compared; colours only tell neighbours apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from spanlake.app.trace_view.read import printable

STYLES = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
BARS = "▁▂▃▄▅▆▇█"
NAME_SHARE = 0.4  # of the width that names take at most
CHART_CELLS_LEAST, CHART_CELLS_MOST = 10, 120
FIGURES = ("min", "mean", "max", "last")
_NAME_CELLS_LEAST = 8
_GAP = "  "

Points = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class MetricsViewOptions:
    """Cells per line, series at most (0: all), and where the reader's clock is."""

    width: int
    limit: int
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class _Scale:
    """What the cells of all charts stand for: `slots` times from `first_ms` by `step_ms` each, and values from `low` to `high`."""

    first_ms: int
    step_ms: int
    slots: int
    cells: int
    low: float
    high: float


def range_lines(body: bytes, options: MetricsViewOptions) -> Iterator[Text]:
    """The lines for the body of a query_range answer: headings, one line per series, the times, then what was looked at."""
    document = json.loads(body)
    series = [(_name(one), _points(one)) for one in document.get("series", [])]
    shown = series[: options.limit or None]
    if shown:
        yield from _chart_lines(shown, options)
    yield from _end_lines(document, len(series), len(shown))


def instant_lines(body: bytes, options: MetricsViewOptions) -> Iterator[Text]:
    """The lines for the body of an instant query's answer: one per series, then what was looked at."""
    document = json.loads(body)
    series = [(_name(one), _figure(float(one.get("value", 0)))) for one in document.get("series", [])]
    shown = series[: options.limit or None]
    if shown:
        figure_cells = max(len(figure) for _, figure in (*shown, ("", "value")))
        name_cells = min(max(cell_len(name) for name, _ in (*shown, ("series", ""))), max(options.width - figure_cells - len(_GAP), 1))
        yield _heading(f"{_cut('series', name_cells)}{_GAP}{'value':>{figure_cells}}")
        for index, (name, figure) in enumerate(shown):
            yield Text.assemble((_cut(name, name_cells), _style(index)), f"{_GAP}{figure:>{figure_cells}}")
    yield from _end_lines(document, len(series), len(shown))


def _chart_lines(series: Sequence[tuple[str, Points]], options: MetricsViewOptions) -> Iterator[Text]:
    figures = [_figures(points) for _, points in series]
    figure_cells = [max(len(row[column]) for row in (FIGURES, *figures)) for column in range(len(FIGURES))]
    rest = options.width - sum(figure_cells) - len(_GAP) * (len(FIGURES) + 1)
    name_cells = max(cell_len(name) for name, _ in (*series, ("series", [])))
    name_cells = max(min(name_cells, int(options.width * NAME_SHARE), rest - CHART_CELLS_LEAST), _NAME_CELLS_LEAST)
    scale = _scale_of(series, min(max(rest - name_cells, CHART_CELLS_LEAST), CHART_CELLS_MOST))
    labels = _GAP.join(label.rjust(cells) for label, cells in zip(FIGURES, figure_cells, strict=True))
    yield _heading(f"{_cut('series', name_cells)}{_GAP}{' ' * scale.cells}{_GAP}{labels}")
    for index, ((name, points), row) in enumerate(zip(series, figures, strict=True)):
        numbers = _GAP.join(figure.rjust(cells) for figure, cells in zip(row, figure_cells, strict=True))
        style = _style(index)
        yield Text.assemble((_cut(name, name_cells), style), _GAP, (_bars(points, scale), style), _GAP, numbers)
    yield _heading(f"{' ' * name_cells}{_GAP}{_times(scale, options.zone)}")


def _scale_of(series: Sequence[tuple[str, Points]], cells_most: int) -> _Scale:
    """Where points are fewer than cells, each has as many cells as the others."""
    times = sorted({time_ms for _, points in series for time_ms, _ in points})
    values = [value for _, points in series for _, value in points if math.isfinite(value)]
    step_ms = min((later - earlier for earlier, later in pairwise(times)), default=1)
    slots = (times[-1] - times[0]) // step_ms + 1
    cells = cells_most // slots * slots if slots < cells_most else cells_most
    return _Scale(times[0], step_ms, slots, cells, min([0.0, *values]), max([0.0, *values]))


def _bars(points: Points, scale: _Scale) -> str:
    """One character per cell: the highest of its points, or the point that it is a part of; a blank if there is none."""
    highest = [-math.inf] * scale.cells
    seen = [False] * scale.cells
    for time_ms, value in points:
        slot = (time_ms - scale.first_ms) // scale.step_ms
        begin = slot * scale.cells // scale.slots
        for cell in range(begin, max((slot + 1) * scale.cells // scale.slots, begin + 1)):
            highest[cell], seen[cell] = max(highest[cell], value), True
    return "".join(_bar(value, scale) if there else " " for value, there in zip(highest, seen, strict=True))


def _bar(value: float, scale: _Scale) -> str:
    if scale.low == scale.high:
        return BARS[0]
    share = min(max((value - scale.low) / (scale.high - scale.low), 0.0), 1.0)
    return BARS[round(share * (len(BARS) - 1))]


def _times(scale: _Scale, zone: tzinfo) -> str:
    """The first and the last time, below their cells; the first alone where there is no room for both."""
    first, last = (
        datetime.fromtimestamp(time_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")
        for time_ms in (scale.first_ms, scale.first_ms + scale.step_ms * (scale.slots - 1))
    )
    gap = scale.cells - len(first) - len(last)
    return f"{first}{' ' * gap}{last}" if gap > 0 else first


def _end_lines(document: dict[str, Any], series: int, shown: int) -> Iterator[Text]:
    metrics = document.get("metrics", {})
    spans, size = int(metrics.get("inspectedSpans", 0)), int(metrics.get("inspectedBytes", 0))
    left = f", {series - shown} not shown" if series > shown else ""
    looked = f"looked at {spans:,} spans, {size:,} bytes of {metrics.get('totalBlocks', 0)} blocks"
    yield Text(f"{series} series{left}; {looked}")
    if document.get("status"):
        yield Text(f"partial: {printable(document.get('message', ''))}", style="yellow")


def _points(series: dict[str, Any]) -> Points:
    return [(int(one.get("timestampMs", 0)), float(one.get("value", 0))) for one in series.get("samples", [])]


def _figures(points: Points) -> tuple[str, ...]:
    values = [value for _, value in points]
    figures = (min(values), sum(values) / len(values), max(values), values[-1])
    return tuple(map(_figure, figures))


def _figure(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 or not math.isfinite(value) else f"{value:,.0f}"


def _name(series: dict[str, Any]) -> str:
    """The labels as Prometheus writes them, a single label as its bare value."""
    labels = series.get("labels", [])
    if len(labels) == 1:
        return printable(str(_label(labels[0])))
    pairs = (f"{printable(one['key'])}={printable(_quoted(_label(one)))}" for one in labels)
    return f"{{{', '.join(pairs)}}}"


def _label(label: dict[str, Any]) -> str | float | bool:
    """The value of a label, numbers and booleans as such."""
    for kind, value in label.get("value", {}).items():
        if kind == "boolValue":
            return bool(value)
        return float(value) if kind == "doubleValue" else int(value) if kind == "intValue" else str(value)
    return ""


def _quoted(value: str | float | bool) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str, cells: int) -> str:
    """The text in exactly so many cells; of a longer one the beginning and the end, which is where names differ."""
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    head = set_cell_size(text, cells // 3)
    end = next(begin for begin in range(len(text) + 1) if cell_len(text[begin:]) < cells - cell_len(head))
    return set_cell_size(f"{head}…{text[end:]}", cells)


def _heading(text: str) -> Text:
    return Text(text.rstrip(), style="bold")


def _style(index: int) -> str:
    return STYLES[index % len(STYLES)]
