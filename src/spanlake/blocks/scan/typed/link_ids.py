"""Ids of linked spans: bytes as the sender wrote them, as numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from spanlake.blocks.file.rows import binary_parts
from spanlake.model.scan import Ids


def link_ids(array: pa.Array, width: int) -> Ids:
    """Ids of `width` bytes (16 or 8) from a binary array. Shorter ones have zeros in front; empty and longer ones are no values."""
    data, offsets = binary_parts(array)
    lengths = np.diff(offsets)
    padded = np.zeros((len(array), 16), np.uint8)
    for length in np.unique(lengths).tolist():
        if 0 < length <= width:
            rows = np.flatnonzero(lengths == length)
            places = offsets[:-1][rows, None].astype(np.int64) + np.arange(length)
            padded[rows, 16 - length :] = data[places]
    halves = padded.view(">u8").astype(np.uint64)
    return Ids((lengths > 0) & (lengths <= width), halves[:, 0].copy(), halves[:, 1].copy(), width)
