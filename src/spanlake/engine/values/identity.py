"""Equality of values for grouping: the same type and the same value.

1, 1.0 and "1" are three values; a missing one is a value of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spanlake.engine.values.ids import id_codes
from spanlake.engine.values.parts import offsets_of, ragged
from spanlake.engine.values.texts import compacted, distinct_codes, ranked
from spanlake.model.scan import Ids, Lists, Numbers, NumberType, Opaque, Part, Texts, Values

Codes = NDArray[np.int64]
_SLOTS_PER_ROW = 4  # a table this large is faster than sorting


def value_codes(values: Values) -> Codes:
    """Per row a number >= 0 that two rows share if and only if their values are the same.

    0 is for rows without a value, and with one that TraceQL cannot hold.
    """
    codes = np.zeros(values.rows, np.int64)
    used = 1
    for parts in _by_type(values.parts):
        rows = [np.flatnonzero(part.valid) for part in parts]
        for place, found in zip(rows, _codes(parts, rows), strict=True):
            codes[place] = found + used
        used = int(codes.max(initial=0)) + 1
    return codes


def _by_type(parts: Iterable[Part]) -> list[list[Any]]:
    """Parts of one type together, with those that hold no value left out."""
    found: dict[object, list[Part]] = {}
    for part in parts:
        if part.valid.any() and not isinstance(part, Opaque):
            found.setdefault(_type_of(part), []).append(part)
    return list(found.values())


def _type_of(part: Part) -> tuple[type, NumberType | int | type | None, NumberType | None]:
    match part:
        case Numbers():
            return Numbers, part.type, None
        case Ids():
            return Ids, part.width, None
        case Lists(elements=Numbers(type=number)):
            return Lists, Numbers, number
        case Lists():
            return Lists, Texts, None
        case Texts() | Opaque():
            return type(part), None, None


def _codes(parts: list[Any], rows: list[NDArray[np.int64]]) -> list[Codes]:
    """Per part the codes of the given rows, from 0; shared among the parts, which are of one type."""
    match parts[0]:
        case Texts():
            if len(parts) == 1:
                return [distinct_codes(parts[0])[rows[0]]]
            parts = [compacted(part) for part in parts]
            ranks = ranked([part.dictionary for part in parts])
            return [rank[part.codes[place]] for part, place, rank in zip(parts, rows, ranks, strict=True)]
        case Numbers():
            return _split(np.unique(_joined(parts, rows, "values"), return_inverse=True)[1], rows)
        case Ids():
            high, low = _joined(parts, rows, "high"), _joined(parts, rows, "low")
            ids = Ids(np.ones(len(high), np.bool_), high, low, parts[0].width)
            return _split(id_codes(ids).astype(np.int64), rows)
        case _:
            return _list_codes(parts, rows)


def _joined(parts: list[Any], rows: list[NDArray[np.int64]], column: str) -> NDArray[Any]:
    return np.concatenate([getattr(part, column)[place] for part, place in zip(parts, rows, strict=True)])


def _split(codes: NDArray[Any], rows: list[NDArray[np.int64]]) -> list[Codes]:
    return np.split(codes.reshape(-1).astype(np.int64), np.cumsum([len(place) for place in rows])[:-1])


def _list_codes(parts: list[Lists], rows: list[NDArray[np.int64]]) -> list[Codes]:
    """Arrays are equal if they are as long and their elements are equal one by one.

    Goes from position to position over the lists that reach it: what is equal up to here and has an equal element stays equal.
    """
    lengths = np.concatenate([np.diff(part.offsets)[place] for part, place in zip(parts, rows, strict=True)])
    places = [
        ragged(part.offsets[place], length, offsets_of(length))
        for part, place in zip(parts, rows, strict=True)
        for length in (np.diff(part.offsets)[place],)
    ]
    elements = np.concatenate(_codes([part.elements for part in parts], places))
    first = offsets_of(lengths)[:-1]
    width = int(elements.max(initial=0)) + 1
    codes = np.zeros(len(lengths), np.int64)
    for position in range(int(lengths.max(initial=0))):
        reached = np.flatnonzero(lengths > position)
        pairs = codes[reached] * width + elements[first[reached] + position]
        codes[reached] = np.unique(pairs, return_inverse=True)[1].reshape(-1)
    return _split(np.unique(codes * (int(lengths.max(initial=0)) + 1) + lengths, return_inverse=True)[1], rows)


def combined_codes(columns: list[Codes]) -> Codes:
    """Per row a number that two rows share if and only if they share it in every column. All numbers are below 2^31."""
    codes = columns[0]
    for column in columns[1:]:
        codes = dense_codes(codes * (int(column.max(initial=0)) + 1) + column)[1]
    return codes


def dense_codes(codes: Codes) -> tuple[Codes, Codes]:
    """The row where each distinct code is first, and per row the index of its code among them, in the order of codes."""
    slots = int(codes.max(initial=-1)) + 1
    if slots > _SLOTS_PER_ROW * len(codes):
        _, first, index = np.unique(codes, return_index=True, return_inverse=True)
        return first, index.reshape(-1)
    first_row = np.full(slots, -1)
    first_row[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of several writes to a slot the last stays
    used = np.flatnonzero(first_row >= 0)
    index_of = np.empty(slots, np.int64)
    index_of[used] = np.arange(len(used))
    return first_row[used], index_of[codes]
