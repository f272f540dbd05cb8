"""What a block says about itself in its Parquet footer, under the keys `spanlake` (JSON) and `spanlake.filter` (base64).

Trace ids of row groups let a lookup go to the one row group that can have a trace; key counts answer tag-name queries without reading a
column. docs/formats/block.md describes every field.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from spanlake.blocks.build.choose import KeyInfo
from spanlake.blocks.file.trace_filter import TraceFilter
from spanlake.model.errors import CorruptData

FORMAT_VERSION = 1
INFO_KEY, FILTER_KEY = b"spanlake", b"spanlake.filter"


@dataclass(frozen=True, slots=True)
class RowGroupInfo:
    """One row group: its rows, and the first and last trace id in it (32 hex digits)."""

    rows: int
    first_trace: str
    last_trace: str


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """The description of a block."""

    rows: int
    traces: int
    start_min_ns: int
    start_max_ns: int
    trace_start_min_ns: int
    trace_start_max_ns: int
    trace_duration_max_ns: int
    trace_end_max_ns: int
    row_groups: tuple[RowGroupInfo, ...]
    keys: tuple[KeyInfo, ...]


def encode_footer(info: BlockInfo, trace_filter: TraceFilter) -> dict[bytes, bytes]:
    """The key-value metadata of a block file. Text only: other Parquet readers insist on UTF-8."""
    document = {"version": FORMAT_VERSION, **asdict(info)}
    return {INFO_KEY: orjson.dumps(document), FILTER_KEY: base64.b64encode(trace_filter.words.astype("<u4").tobytes())}


def decode_footer(metadata: Mapping[bytes, bytes], path: str) -> tuple[BlockInfo, TraceFilter]:
    """The inverse of `encode_footer`. CorruptData names the file if the metadata is not that of a block."""
    try:
        document: dict[str, Any] = orjson.loads(metadata[INFO_KEY])
        version = document.pop("version")
        if version == FORMAT_VERSION:
            words = np.frombuffer(base64.b64decode(metadata[FILTER_KEY], validate=True), "<u4").astype(np.uint32)
            document["row_groups"] = tuple(RowGroupInfo(**group) for group in document["row_groups"])
            document["keys"] = tuple(KeyInfo(**key) for key in document["keys"])
            return BlockInfo(**document), TraceFilter(words)
    except (KeyError, ValueError, TypeError, AttributeError) as failure:
        raise CorruptData(f"block {path} has no readable spanlake footer ({failure!r}): it was not written by spanlake") from failure
    raise CorruptData(f"block {path} has format version {version}; this spanlake reads version {FORMAT_VERSION}")
