"""Scan batches as plain Python, to compare what different sources give for the same spans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from spanlake.blocks.live import LiveView
from spanlake.blocks.scan.tenant import ScanCaches, units_of
from spanlake.model.scan import Children, Field, Ids, Lists, Numbers, Opaque, Part, ScanBatch, ScanRequest, ScanStatistics, Texts, Values

INTRINSICS = (
    *("trace_id", "span_id", "parent_span_id", "trace_state", "name", "kind", "status_code", "status_message", "start_ns", "duration_ns"),
    *("nested_left", "nested_right", "nested_parent", "child_count", "trace_start_ns", "trace_duration_ns"),
    *("root_name", "root_service", "scope_name", "scope_version"),
)
CHILD_FIELDS = (Field("event", ":name"), Field("event", ":time_ns"), Field("link", ":trace_id"), Field("link", ":span_id"))
Row = dict[Field, Any]
Contents = dict[int, list[Row]]
"""Rows by trace id."""


def read_all(caches: ScanCaches, view: LiveView, request: ScanRequest, statistics: ScanStatistics | None = None) -> Contents:
    """Everything that the units of a view give. No trace comes twice, and none is newer than its unit says."""
    found: Contents = {}
    for unit in units_of(caches, view):
        for batch in unit.scan(request, statistics or ScanStatistics()):
            for trace_id, rows in contents(batch):
                assert trace_id not in found, hex(trace_id)
                found[trace_id] = rows
                starts = [row[Field("intrinsic", "trace_start_ns")] for row in rows if Field("intrinsic", "trace_start_ns") in row]
                assert all(start[1] <= unit.newest_ns for start in starts)
    return found


def contents(batch: ScanBatch) -> Iterator[tuple[int, list[Row]]]:
    """(trace id, rows) of every trace."""
    columns: dict[Field, list[Any]] = {field: list(values_of(values)) for field, values in batch.values.items()}
    for children in (batch.events, batch.links):
        if children is not None:
            columns |= _of_children(children)
    for trace in range(len(batch.trace_high)):
        first, last = int(batch.trace_first[trace]), int(batch.trace_first[trace + 1])
        rows = [{field: column[row] for field, column in columns.items()} for row in range(first, last)]
        yield int(batch.trace_high[trace]) << 64 | int(batch.trace_low[trace]), rows


def _of_children(children: Children) -> dict[Field, list[Any]]:
    offsets = children.offsets.tolist()
    columns = {}
    for field, values in children.values.items():
        plain = list(values_of(values))
        assert len(plain) == offsets[-1]
        columns[field] = [plain[first:last] for first, last in pairwise(offsets)]
    return columns


def values_of(values: Values) -> Iterator[Any]:
    """Per row (kind, value), None without one."""
    plain: list[Any] = [None] * values.rows
    for part in values.parts:
        assert len(part.valid) == values.rows
        for row in part.valid.nonzero()[0].tolist():
            assert plain[row] is None, "two parts have a value"
            plain[row] = _value(part, row)
    return iter(plain)


def _value(part: Part, row: int) -> Any:
    match part:
        case Texts():
            return "text", part.dictionary[int(part.codes[row])].as_py()
        case Numbers():
            return part.type.value, _number(part.values[row].item())
        case Ids():
            return part.width, int(part.high[row]) << 64 | int(part.low[row])
        case Lists():
            first, last = int(part.offsets[row]), int(part.offsets[row + 1])
            return [_value(part.elements, element) for element in range(first, last)]
        case Opaque():
            return "opaque"


def _number(value: float) -> Any:
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def differences(expected: Contents, actual: Contents) -> list[str]:
    """What differs between two contents, readable."""
    found = [f"trace {trace:x} only in one" for trace in expected.keys() ^ actual.keys()]
    for trace in expected.keys() & actual.keys():
        if len(expected[trace]) != len(actual[trace]):
            found.append(f"trace {trace:x}: {len(expected[trace])} and {len(actual[trace])} rows")
        for number, (one, other) in enumerate(zip(expected[trace], actual[trace], strict=False)):
            found += [
                f"trace {trace:x} row {number} {field}: {one[field]} and {other[field]}" for field in one if one[field] != other[field]
            ]
    return found[:5]


def request_of(attributes: Iterable[Field] = ()) -> ScanRequest:
    """All intrinsics, all fields of events and links, and these attributes."""
    return ScanRequest(frozenset([*(Field("intrinsic", name) for name in INTRINSICS), *CHILD_FIELDS, *attributes]))
