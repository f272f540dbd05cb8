"""The write-ahead log: where an accepted payload is durable before it is acknowledged, until a block in the table replaces it.

The log knows tenants and bytes. It does not know what a payload means, which spans are live or which blocks exist.
`format` owns the bytes (docs/formats/wal.md), `directory` the files around them, `segment` one file being
appended to, `writer` durability and group commit, `replay` reading back whatever a crash or a bad disk left.
"""

from spanlake.blocks.wal.directory import FileCalls
from spanlake.blocks.wal.format import BODY_BYTES_MAX, CARRY, PAYLOAD
from spanlake.blocks.wal.replay import Damage, Record, Replay, ReplayReport, replay
from spanlake.blocks.wal.writer import Wal, WalCounters, open_wal

__all__ = [
    "BODY_BYTES_MAX",
    "CARRY",
    "PAYLOAD",
    "Damage",
    "FileCalls",
    "Record",
    "Replay",
    "ReplayReport",
    "Wal",
    "WalCounters",
    "open_wal",
    "replay",
]
