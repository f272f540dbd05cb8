"""The string pool against a dict."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanlake.blocks.memory.pool import StringPool
from spanlake.model.spans import Strings


def table_of(texts: list[bytes]) -> Strings:
    """A string table as a decoder makes it: one code per occurrence, in data that has other bytes around and between."""
    data, offsets = bytearray(b"\xff" * 3), []
    for text in texts:
        offsets.append(len(data))
        data += text + b"\x00\xff"
    lengths = np.array([len(text) for text in texts], np.int32)
    return Strings(np.frombuffer(bytes(data), np.uint8), np.array(offsets, np.int64), lengths)


class Oracle:
    """What a pool must be: codes in order of first appearance, the empty string first."""

    def __init__(self) -> None:
        self.codes = {b"": 0}

    def intern(self, texts: list[bytes]) -> list[int]:
        return [self.codes.setdefault(text, len(self.codes)) for text in texts]


def check(pool: StringPool, oracle: Oracle) -> None:
    view = pool.view()
    assert len(pool) == len(view) == len(oracle.codes)
    assert [view.bytes_at(code) for code in range(len(view))] == list(oracle.codes)


texts = st.binary(max_size=40) | st.sampled_from([b"a", b"a\0", b"\0", b"http.route", b"x" * 8, b"x" * 16, b"x" * 17, b"y" * 5000])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(texts, max_size=30), max_size=6), st.integers(0, 1 << 62), st.sampled_from([1, 2, 64]), st.sampled_from([8, 64, 4096])
)
def test_codes_are_those_of_a_dict_when_given_any_texts(batches: list[list[bytes]], seed: int, codes: int, room: int) -> None:
    pool, oracle = StringPool(seed=seed, codes=codes, bytes_=room), Oracle()
    for batch in batches:
        assert pool.intern(table_of(batch)).tolist() == oracle.intern(batch)
    check(pool, oracle)


@pytest.mark.parametrize("length", range(40))
def test_texts_are_told_apart_when_they_differ_in_one_byte(length: int) -> None:
    base = bytes(range(100, 100 + length))
    batch = [base, base + b"\0", *(base[:i] + b"\0" + base[i + 1 :] for i in range(length))]
    first = 1 if length else 0
    assert StringPool().intern(table_of(batch)).tolist() == list(range(first, first + len(batch)))
    assert StringPool().intern(table_of([base] * 3)).tolist() == [1 if length else 0] * 3


def test_pool_grows_when_there_are_many_texts() -> None:
    random, pool, oracle = Random(1), StringPool(), Oracle()
    for _ in range(20):
        batch = [random.randbytes(random.choice([2, 3, 9, 30])) for _ in range(5000)]
        assert pool.intern(table_of(batch)).tolist() == oracle.intern(batch)
    check(pool, oracle)
    assert pool.memory_bytes > sum(map(len, oracle.codes))


@pytest.mark.parametrize("length", [100, 65_535, 65_536, 70_000, 3_000_000])
def test_text_is_kept_when_it_is_longer_than_the_arena(length: int) -> None:
    pool, oracle = StringPool(), Oracle()
    batch = [b"z" * length, b"", b"z" * (length - 1), b"z" * length]
    assert pool.intern(table_of(batch)).tolist() == oracle.intern(batch)
    check(pool, oracle)


def test_view_stays_as_it_was_when_the_pool_grows() -> None:
    pool, oracle = StringPool(codes=2, bytes_=16), Oracle()
    first = [b"one", b"two", b"three"]
    pool.intern(table_of(first))
    view = pool.view()
    pool.intern(table_of([str(number).encode() for number in range(10_000)]))
    assert [view.bytes_at(code) for code in range(len(view))] == [b"", *first]
    assert oracle.codes == {b"": 0}


def test_codes_are_none_when_the_table_is_empty() -> None:
    assert StringPool().intern(table_of([])).tolist() == []


def test_texts_do_not_collide_when_a_sender_aims_at_the_hash() -> None:
    """Pairs of words whose differences cancel in a hash that multiplies by a constant, whatever its seed."""
    words = [(0, 0), (1 << 63, 1 << 63 | 1 << 34)]
    batch = []
    for number in range(1 << 14):
        pairs = [words[number >> bit & 1] for bit in range(14)]
        batch.append(b"".join(word.to_bytes(8, "little") for pair in pairs for word in pair))
    pool = StringPool()
    assert pool.intern(table_of(batch)).tolist() == list(range(1, len(batch) + 1))
    places = pool._slots[pool._slots != 0] >> 32  # the upper half of each hash
    assert len(np.unique(places)) > 0.99 * len(batch)


def test_codes_do_not_depend_on_the_seed() -> None:
    batch = [b"a", b"b", b"a", b"", b"c" * 100]
    assert {tuple(StringPool(seed=seed).intern(table_of(batch)).tolist()) for seed in range(50)} == {(1, 2, 1, 0, 3)}
