"""Attributes whose key or value is too long, cut off. Nothing but one comparison happens to a batch without any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spanlake.model.spans import BYTES, STRING, SpanBatch, Strings

_CONTINUES_MASK, _CONTINUES = 0xC0, 0x80  # the bytes of a UTF-8 character after its first
_CONTINUATIONS_MAX = 3


def truncate_attributes(batch: SpanBatch, bytes_max: int) -> tuple[SpanBatch, int]:
    """The batch with no key, text or bytes of an attribute longer than `bytes_max`, and how many attributes were cut.

    Attributes of spans, resources, scopes, events and links alike. Texts end at a whole character. Arrays and maps stay as they are. The
    same batch and 0 if nothing is too long. The new string table has the old one's bytes, the long texts too.
    """
    long = batch.strings.length > bytes_max
    if not long.any():
        return batch, 0
    attrs = batch.attrs
    is_text = attrs["type"] == STRING
    values = np.flatnonzero((is_text | (attrs["type"] == BYTES)) & long[np.where(is_text | (attrs["type"] == BYTES), attrs["value"], 0)])
    keys = np.flatnonzero(long[attrs["key"]])
    if not len(values) and not len(keys):
        return batch, 0
    codes = np.concatenate([attrs["value"][values], attrs["key"][keys].astype(np.int64)])
    text = np.concatenate([is_text[values], np.ones(len(keys), np.bool_)])
    lengths = np.where(text, _whole_characters(batch.strings, codes, bytes_max), bytes_max)
    strings = Strings(
        batch.strings.data,
        np.concatenate([batch.strings.offset, batch.strings.offset[codes]]),
        np.concatenate([batch.strings.length, lengths.astype(np.int32)]),
    )
    changed = attrs.copy()
    added = np.arange(len(batch.strings), len(strings))
    changed["value"][values], changed["key"][keys] = added[: len(values)], added[len(values) :]
    return replace(batch, strings=strings, attrs=changed), len(np.union1d(values, keys))


def _whole_characters(strings: Strings, codes: NDArray[np.int64], bytes_max: int) -> NDArray[np.int64]:
    """Per code of a longer text, the bytes of the whole characters that fit."""
    ends = np.full(len(codes), bytes_max, np.int64)
    begins = strings.offset[codes]
    for _ in range(_CONTINUATIONS_MAX):
        ends -= (strings.data[begins + ends] & _CONTINUES_MASK == _CONTINUES) & (ends > 0)
    return ends
