"""The OTLP kernels work on addresses: they read nothing outside the payload and write nothing outside their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
from otlp_requests import OddWriter, random_request

from spanlake.model.spans import ATTR, EVENT, LINK, RESOURCE, SCOPE, SPAN
from spanlake.wire.otlp import control
from spanlake.wire.otlp.decode import decode_otlp
from spanlake.wire.otlp.encode import encode_otlp
from spanlake.wire.otlp.schema import SCHEMA, scratch_words
from spanlake.wire.otlp.spans import walk_payload

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "guarded_decoding.py"


@pytest.mark.parametrize(("seed", "count"), [(1, 30), pytest.param(2, 1000, marks=pytest.mark.slow)])
def test_nothing_outside_the_payload_is_read_when_it_is_damaged(seed: int, count: int) -> None:
    run = subprocess.run([sys.executable, str(PROGRAM), str(seed), str(count)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, str(count * 41 * 2)), run.stderr


def test_guard_is_deadly_when_a_byte_behind_the_payload_is_read() -> None:
    """The test above can fail."""
    program = "from guarded_decoding import GuardedMemory; import ctypes; p = GuardedMemory().put(b'x', at_end=True)"
    touch = "ctypes.string_at(ctypes.addressof(ctypes.c_ubyte.from_buffer(p)), 2)"
    run = subprocess.run([sys.executable, "-c", f"{program}; {touch}"], capture_output=True, check=False, cwd=PROGRAM.parent)
    assert run.returncode < 0


SPARE = 64  # canary bytes behind every table


def read_into(payload: bytes, rooms: list[int]) -> tuple[int, list[np.ndarray[tuple[int], np.dtype[np.uint8]]]]:
    """Reads a payload into tables of just these capacities (strings first): the reason, and the canaries behind the tables."""
    data = np.frombuffer(payload, np.uint8)
    block, scratch = np.zeros(control.CONTROL_WORDS, np.int64), np.full(scratch_words(30) + SPARE, -1, np.int64)
    widths = [8, *(record.itemsize for record in (SPAN, SCOPE, RESOURCE, EVENT, LINK, ATTR)), 4]
    tables = [np.full(width * room + SPARE, 0xAA, np.uint8) for width, room in zip(widths, [*rooms, rooms[0]], strict=True)]
    for number, room in enumerate(rooms):
        block[3 * number : 3 * number + 3] = tables[number].ctypes.data, number == control.STRINGS, room
    tables[0][:8] = tables[-1][:4] = 0
    block[control.LENGTHS // 8 : control.NOTES // 8] = tables[-1].ctypes.data, SCHEMA.ctypes.data, scratch.ctypes.data, 30
    reason = walk_payload(data.ctypes.data, block.ctypes.data, len(data), 1)
    counts = block[control.ROWS // 8 : control.LENGTHS // 8 : 3].tolist()
    assert all(count <= room for count, room in zip(counts, rooms, strict=True))
    assert np.all(scratch[-SPARE:] == -1)
    return reason, [table[-SPARE:] for table in tables]


def test_tables_are_never_overrun_when_they_have_any_size() -> None:
    random = Random(5)
    for _ in range(40):
        payload = OddWriter(random, random.choice([0.0, 0.3])).write(random_request(random))
        batch = decode_otlp(payload).batch
        exact = [len(batch.strings), *map(len, (batch.spans, batch.scopes, batch.resources, batch.events, batch.links, batch.attrs))]
        roomy = [2 * exact[0] + 2, *exact[1:]]  # attributes are read only where two strings have room
        assert read_into(payload, roomy)[0] == control.OK
        for table in (control.STRINGS, control.EVENTS, control.LINKS, control.ATTRS):
            for room in range(1 if table == control.STRINGS else 0, exact[table]):
                reason, canaries = read_into(payload, [*exact[:table], room, *exact[table + 1 :]])
                assert reason == control.FULL
                assert all(np.all(canary == 0xAA) for canary in canaries)


@pytest.mark.parametrize("length", [0, 10, 500, 10_000, 1_000_000])
def test_buffer_of_the_encoder_grows_when_strings_do_not_fit(length: int) -> None:
    """Every way in which a string can be too long for what is left."""
    random = Random(length)
    request = random_request(random)
    for resource_spans in request.resource_spans:
        resource_spans.schema_url = "r" * length
        resource_spans.resource.entity_refs.add(type="e" * length)
        for scope_spans in resource_spans.scope_spans:
            scope_spans.schema_url = scope_spans.scope.name = "s" * length
            for span in scope_spans.spans:
                span.name, span.status.message = "n" * length, "m" * length
                span.events.add(name="e" * length)
                span.links.add(trace_state="t" * length)
                span.attributes.add(key="k" * length).value.bytes_value = b"b" * length
    encoded = encode_otlp(decode_otlp(request.SerializeToString()).batch)
    again = encode_otlp(decode_otlp(encoded).batch)
    equal = encoded == again
    assert equal
    assert len(encoded) > 10 * length
