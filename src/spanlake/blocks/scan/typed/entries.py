"""Attribute values of mixed types, one per owner, as `Values`: what live spans, overflow lists, events and links have in common.

Rules that every source follows:
- Of a key that an owner has twice (OTLP forbids it) the value of the least type number counts, of those the first: blocks keep the order
  of values within a type only.
- Arrays of one scalar type are lists; an array of one element is that element. Bytes, maps, other arrays and empty values are opaque.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spanlake.blocks.file.rows import integers
from spanlake.blocks.scan.typed.any_value import Elements, read_array
from spanlake.blocks.scan.typed.values import joined_texts, numbers, of_parts, offsets_of, placed_numbers, texts
from spanlake.model.scan import Lists, Numbers, NumberType, Opaque, Part, Texts, Values
from spanlake.model.spans import ARRAY, BOOL, BYTES, DOUBLE, INT, KVLIST, NULL, STRING

NUMBER_TYPES = {INT: NumberType.INT, DOUBLE: NumberType.FLOAT, BOOL: NumberType.BOOL}
RANKS = np.array([9 if kind == NULL else kind for kind in range(8)], np.uint8)
"""Which type of a repeated key counts, per type number: the least."""


class EntryStrings(Protocol):
    """The strings of entries."""

    def texts(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        """Of the chosen entries, all of type STRING; the dictionary is distinct."""
        ...

    def messages(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        """Of the chosen entries, all of type ARRAY: serialized AnyValues."""
        ...


@dataclass(frozen=True, slots=True)
class Entries:
    """Values of one key. `bits`: as in ATTR.value for INT, DOUBLE and BOOL, else undefined."""

    owners: NDArray[np.int64]  # distinct
    types: NDArray[np.uint8]
    bits: NDArray[np.int64]
    strings: EntryStrings

    def only(self, chosen: NDArray[np.bool_]) -> Entries:
        """The chosen ones."""
        return Entries(self.owners[chosen], self.types[chosen], self.bits[chosen], _Chosen(self.strings, np.flatnonzero(chosen)))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Strings of a selection of entries."""

    strings: EntryStrings
    places: NDArray[np.int64]

    def texts(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.strings.texts(self.places[chosen])

    def messages(self, chosen: NDArray[np.int64]) -> pa.DictionaryArray:
        return self.strings.messages(self.places[chosen])


def entry_values(entries: Entries, rows: int) -> Values:
    """The values of `rows` owners."""
    arrays = _Arrays(entries, rows)
    text = np.flatnonzero(entries.types == STRING)
    text_pieces = [(entries.owners[text], entries.strings.texts(text))] if len(text) else []
    parts: list[Part | None] = [joined_texts(rows, [*text_pieces, *arrays.single_texts()])]
    for kind in (INT, DOUBLE, BOOL):
        own = entries.types == kind
        bits = entries.bits[own]
        places, values = arrays.single_numbers(kind)
        own_values = bits.view(np.float64) if kind == DOUBLE else bits
        parts.append(placed_numbers(rows, NUMBER_TYPES[kind], _joined(entries.owners[own], places), _joined(own_values, values)))
    parts.extend(arrays.lists())
    opaque = np.zeros(rows, np.bool_)
    opaque[entries.owners[np.isin(entries.types, (NULL, KVLIST, BYTES))]] = True
    opaque[arrays.opaque_owners()] = True
    return of_parts(rows, *parts, Opaque(opaque))


def _joined(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([first, second]) if len(second) else first


class _Arrays:
    """The entries of type ARRAY, each distinct message read once."""

    def __init__(self, entries: Entries, rows: int) -> None:
        chosen = np.flatnonzero(entries.types == ARRAY)
        self._rows = rows
        self._owners = entries.owners[chosen]
        self._distinct: list[Elements | None] = []
        self._which = np.empty(0, np.int64)
        if len(chosen):
            messages = entries.strings.messages(chosen)
            self._distinct = [read_array(message) for message in messages.dictionary.to_pylist()]
            self._which = integers(messages.indices)

    def opaque_owners(self) -> NDArray[np.int64]:
        return self._owners_of(lambda elements: elements is None)

    def single_texts(self) -> list[tuple[NDArray[np.int64], pa.DictionaryArray]]:
        owners = self._owners_of(lambda elements: _is_single(elements, STRING))
        values = [elements[1][0] for elements in self._elements_of(lambda elements: _is_single(elements, STRING))]
        return [(owners, pa.array(values, pa.string()).dictionary_encode())] if len(owners) else []

    def single_numbers(self, kind: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        owners = self._owners_of(lambda elements: _is_single(elements, kind))
        values = [elements[1][0] for elements in self._elements_of(lambda elements: _is_single(elements, kind))]
        return owners, np.array(values, np.float64 if kind == DOUBLE else np.int64)

    def lists(self) -> list[Part | None]:
        """A part per element type."""
        found: list[Part | None] = []
        for kind in (STRING, INT, DOUBLE, BOOL):
            arrays = [
                (owner, self._distinct[which])
                for owner, which in zip(self._owners.tolist(), self._which.tolist(), strict=True)  # arrays are rare
                if _is_list(self._distinct[which], kind)
            ]
            if arrays:
                found.append(self._list_part(kind, arrays))
        return found

    def _list_part(self, kind: int, arrays: Sequence[tuple[int, Elements | None]]) -> Lists:
        valid, counts = np.zeros(self._rows, np.bool_), np.zeros(self._rows, np.int64)
        elements: list[Any] = []
        for owner, array in sorted(arrays, key=lambda pair: pair[0]):
            assert array is not None
            valid[owner], counts[owner] = True, len(array[1])
            elements.extend(array[1])
        return Lists(valid, offsets_of(counts), _elements(kind, elements))

    def _owners_of(self, wanted: Any) -> NDArray[np.int64]:
        chosen = np.array([wanted(elements) for elements in self._distinct], np.bool_)
        return self._owners[chosen[self._which]] if len(self._which) else self._owners

    def _elements_of(self, wanted: Any) -> list[Elements]:
        found = (self._distinct[which] for which in self._which.tolist())
        return [elements for elements in found if elements is not None and wanted(elements)]


def _is_single(elements: Elements | None, kind: int) -> bool:
    return elements is not None and elements[0] == kind and len(elements[1]) == 1


def _is_list(elements: Elements | None, kind: int) -> bool:
    return elements is not None and elements[0] == kind and len(elements[1]) > 1


def _elements(kind: int, values: list[Any]) -> Texts | Numbers:
    if kind == STRING:
        encoded = texts(pa.array(values, pa.string()))
        assert encoded is not None
        return encoded
    return numbers(NUMBER_TYPES[kind], np.array(values, np.float64 if kind == DOUBLE else np.int64))
