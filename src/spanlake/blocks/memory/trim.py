"""A selection of rows without the memory of the batch that it came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spanlake.blocks.memory.append import compact, rebase, tables_of
from spanlake.model.spans import ARRAY, BYTES, EMPTY_STRING, KVLIST, STRING, SpanBatch, Strings


def trim(batch: SpanBatch) -> SpanBatch:
    """The same rows with just the strings, scopes, resources, events, links and attributes that they refer to.

    The bytes of the strings are still those of the source; `merge` copies them. Code 0 stays the empty string.
    """
    kept = compact(batch)
    used = np.unique(np.concatenate([np.array([EMPTY_STRING]), *string_codes(kept)]))
    codes = np.empty(len(batch.strings), np.int32)
    codes[used] = np.arange(len(used))
    tables = tables_of(kept)
    addresses = np.array([table.ctypes.data for table in tables], np.int64)
    rows = np.array([len(table) for table in tables], np.int64)
    shifts = np.zeros(len(tables), np.int64)
    rebase(addresses.ctypes.data, rows.ctypes.data, shifts.ctypes.data, codes.ctypes.data)
    source = batch.strings
    return SpanBatch(Strings(source.data, source.offset[used], source.length[used]), *tables)


def string_codes(batch: SpanBatch) -> list[NDArray[np.int64]]:
    """The codes in every field that holds one."""
    attrs = batch.attrs
    texts = np.isin(attrs["type"], (STRING, ARRAY, KVLIST, BYTES))
    fields = [
        *(batch.spans[name] for name in ("name", "trace_state", "status_message")),
        *(batch.scopes[name] for name in ("name", "version", "schema_url")),
        *(batch.resources[name] for name in ("schema_url", "entity_refs")),
        batch.events["name"],
        *(batch.links[name] for name in ("trace_id", "span_id", "trace_state")),
        attrs["key"],
        attrs["value"][texts],
    ]
    return [field.astype(np.int64) for field in fields]
