"""Which attributes become columns of a block, and of which type.

A column pays off by the values it takes out of the overflow list, so the most frequent (scope, key) pairs win. The type is that of the
table's column if the table has one, else the most frequent of string, int, double and bool. Values of another type, arrays, maps and
bytes stay in the overflow list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from spanlake.model.kernel import kernel
from spanlake.model.schema import AttributeScope, ColumnType, column_fold, column_name
from spanlake.model.spans import BOOL, DOUBLE, INT, STRING, SpanBatch

SCOPES: tuple[AttributeScope, ...] = get_args(AttributeScope)
COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
TYPE_NUMBERS: Mapping[ColumnType, int] = {"string": STRING, "int": INT, "double": DOUBLE, "bool": BOOL}
TYPE_NAMES = ("null", "string", "bool", "int", "double", "array", "map", "bytes")
"""By OTLP type number (`model.spans`). Those of column types are the names of `ColumnType`."""
KEYS_MAX = 16_384  # distinct keys that are considered; the values of further keys go to the overflow list
MISSING_SLOT, CROWDED_OUT = -1, -2


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """How often each attribute key occurs. `slot[code]` is a key's place in the other arrays, or negative."""

    slot: NDArray[np.int32]  # per string code of the pool
    codes: NDArray[np.int32]  # per slot
    counts: NDArray[np.int64]  # [slot, scope, type]: spans that have the key with that type


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """How many spans have an attribute key of a scope, per name of the OTLP type (`TYPE_NAMES`)."""

    scope: AttributeScope
    key: str
    spans: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Column:
    """An attribute column of a block."""

    name: str
    scope: AttributeScope
    key: str
    type: ColumnType


@kernel
def count_keys(owners: Any, attrs: Any, scope: int, counted: Any, found: int) -> int:
    """Add the owners' attribute keys to the counts. owners: first and number of the attributes of each, and how often it counts; counted:
    the arrays of KeyCounts, of which `found` slots are in use. Returns how many are then. A key that an owner has twice counts twice."""
    firsts, lengths, weights = owners
    slot, codes, counts = counted
    for i in range(len(firsts)):
        for j in range(firsts[i], firsts[i] + lengths[i]):
            key = attrs[j].key
            at = slot[key]
            if at == MISSING_SLOT:
                at = found if found < len(codes) else CROWDED_OUT
                slot[key] = at
                if at >= 0:
                    codes[at] = key
                    found += 1
            if at >= 0:
                counts[at, scope, attrs[j].type] += weights[i]
    return found


def count_attributes(batch: SpanBatch) -> KeyCounts:
    """Count the attribute keys of all rows, of their resources and of their instrumentation scopes."""
    spans = batch.spans
    slot = np.full(len(batch.strings), MISSING_SLOT, np.int32)
    codes = np.empty(KEYS_MAX, np.int32)
    counts = np.zeros((KEYS_MAX, len(SCOPES), len(TYPE_NAMES)), np.int64)
    per_scope = np.bincount(spans["scope"], minlength=len(batch.scopes))
    per_resource = np.bincount(batch.scopes["resource"], weights=per_scope, minlength=len(batch.resources)).astype(np.int64)
    found = 0
    owners = ((spans, np.ones(len(spans), np.int64)), (batch.resources, per_resource), (batch.scopes, per_scope))
    for scope, (records, weights) in enumerate(owners):
        firsts, lengths = np.ascontiguousarray(records["attr_first"]), np.ascontiguousarray(records["attr_count"])
        found = count_keys((firsts, lengths, weights), batch.attrs, scope, (slot, codes, counts), found)
    return KeyCounts(slot, codes[:found], counts[:found])


def describe_keys(batch: SpanBatch, keys: KeyCounts) -> list[KeyInfo]:
    """The counts by name."""
    found = []
    for slot, code in enumerate(keys.codes.tolist()):  # over keys, not spans
        key = batch.strings.text_at(code)
        for scope in np.flatnonzero(keys.counts[slot].any(axis=1)).tolist():
            counts = keys.counts[slot, scope]
            found.append(KeyInfo(SCOPES[scope], key, {TYPE_NAMES[kind]: int(counts[kind]) for kind in np.flatnonzero(counts)}))
    return found


def add_keys(infos: Iterable[KeyInfo]) -> list[KeyInfo]:
    """One entry per (scope, key), counts added up, sorted."""
    totals: dict[tuple[AttributeScope, str], Counter[str]] = {}
    for info in infos:
        totals.setdefault((info.scope, info.key), Counter()).update(info.spans)
    return [KeyInfo(scope, key, dict(counts)) for (scope, key), counts in sorted(totals.items())]


def choose_columns(
    keys: Sequence[KeyInfo], *, rows: int, table: Mapping[str, ColumnType], columns_max: int, table_columns_max: int
) -> tuple[Column, ...]:
    """The attribute columns of a block of `rows` spans, in the order of their names.

    New columns enter the table only for keys that at least one span in 500 has, so that rare keys do not widen it for ever.
    """
    spellings = {column_fold(name): name for name in table}
    room_in_table = table_columns_max - len(table)
    chosen: list[Column] = []
    for info in sorted(keys, key=lambda info: (-_countable(info), info.scope, info.key)):
        if len(chosen) == columns_max:
            break
        name = column_name(info.scope, info.key)
        if name is None or spellings.get(column_fold(name), name) != name:
            continue
        kind = table.get(name)
        if kind is None:
            if room_in_table <= 0 or _countable(info) * 500 < rows:
                continue
            kind = most_frequent_type(info)
        if not info.spans.get(kind, 0):
            continue
        room_in_table -= name not in table
        spellings[column_fold(name)] = name
        chosen.append(Column(name, info.scope, info.key, kind))
    return tuple(sorted(chosen, key=lambda column: column.name))


def most_frequent_type(info: KeyInfo) -> ColumnType:
    """The column type that most values of the key have; the first of `ColumnType` among equals."""
    return max(COLUMN_TYPES, key=lambda kind: info.spans.get(kind, 0))


def _countable(info: KeyInfo) -> int:
    """Spans whose value a column could hold."""
    return sum(info.spans.get(kind, 0) for kind in COLUMN_TYPES)
