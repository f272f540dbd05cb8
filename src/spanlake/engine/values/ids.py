"""Trace and span ids: compared as bytes, whatever the case and the leading zeros of a literal; texts where a pattern asks for one.

The text of a span id has 16 digits, that of a trace id no leading zeros, as in Tempo.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spanlake.engine.values.parts import Mask
from spanlake.engine.values.texts import compacted
from spanlake.model.scan import Ids, Texts
from spanlake.traceql.ast import Operator
from spanlake.traceql.plan.prune import parse_id

SPAN_ID_BYTES = 8
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def compare_id(operator: Operator, ids: Ids, text: str) -> Mask:
    """Where the id equals, or differs from, the hexadecimal text; ids have no order. What is no id equals none."""
    if operator not in {Operator.EQUAL, Operator.NOT_EQUAL}:
        return np.zeros(len(ids.valid), np.bool_)
    number = parse_id(text, 2 * ids.width)
    if number is None:
        return ids.valid if operator is Operator.NOT_EQUAL else np.zeros(len(ids.valid), np.bool_)
    high, low = divmod(number, 1 << 64)
    same: Mask = (ids.low == np.uint64(low)) & (ids.high == np.uint64(high))
    return ids.valid & (same if operator is Operator.EQUAL else ~same)


def compare_ids(operator: Operator, left: Ids, right: Ids) -> Mask:
    """Where both have an id and they are equal, or differ."""
    if operator not in {Operator.EQUAL, Operator.NOT_EQUAL}:
        return np.zeros(len(left.valid), np.bool_)
    same: Mask = (left.low == right.low) & (left.high == right.high)
    return left.valid & right.valid & (same if operator is Operator.EQUAL else ~same)


def compare_id_texts(operator: Operator, ids: Ids, texts: Texts) -> Mask:
    """Where an id equals, or differs from, the hexadecimal text beside it."""
    both = ids.valid & texts.valid
    if operator not in {Operator.EQUAL, Operator.NOT_EQUAL} or not both.any():
        return np.zeros(len(both), np.bool_)
    texts, digits = compacted(texts), 2 * ids.width
    is_id = _numpy(pc.match_substring_regex(texts.dictionary, f"^[0-9a-fA-F]{{0,{digits}}}$"))
    padded = pc.if_else(pa.array(is_id), pc.utf8_lpad(pc.ascii_lower(texts.dictionary), digits, "0"), "")
    raw = np.frombuffer(bytes.fromhex("".join(padded.filter(pa.array(is_id)).to_pylist())), ">u8").reshape(-1, ids.width // 8)
    numbers = np.zeros((len(is_id), 2), np.uint64)
    numbers[is_id, 2 - raw.shape[1] :] = raw
    codes = np.clip(texts.codes, 0, len(is_id) - 1)
    same: Mask = is_id[codes] & (ids.high == numbers[codes, 0]) & (ids.low == numbers[codes, 1])
    return both & (same if operator is Operator.EQUAL else ~same)


def _numpy(found: pa.Array) -> Mask:
    result: Mask = found.to_numpy(zero_copy_only=False).astype(np.bool_)
    return result


def id_texts(ids: Ids) -> Texts:
    """The ids as strings."""
    low, codes = _distinct(ids)
    numbers = np.stack([ids.high[low], ids.low[low]], axis=1).astype(">u8")
    dictionary = hexadecimal(numbers, ids.width)
    if ids.width > SPAN_ID_BYTES:
        dictionary = pc.replace_substring_regex(dictionary, "^0+(.)", r"\1")
    return Texts(ids.valid, codes, dictionary)


def _distinct(ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """A row of each distinct id, and per row the index of its id."""
    order = np.lexsort((ids.low, ids.high))
    high, low = ids.high[order], ids.low[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    codes = np.empty(len(order), np.int32)
    codes[order] = np.cumsum(new) - 1
    return order[new], codes


def hexadecimal(numbers: NDArray[np.uint64], width: int) -> pa.Array:
    """Strings of 2 * width lower-case digits; `numbers`: big-endian (ids, 2)."""
    data = np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), 16)[:, 16 - width :]
    digits = np.stack([_DIGITS[data >> 4], _DIGITS[data & 15]], axis=2)
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * (2 * width)
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(digits))])


def id_codes(ids: Ids) -> NDArray[np.int32]:
    """Per row a number that is the same for equal ids."""
    return _distinct(ids)[1]
