"""The string pool: every distinct byte string once, under a dense code that never changes.

An open-addressing hash table over an append-only arena. Slots hold `hash (32 bits) << 32 | code + 1`; the hash is seeded at random
per pool, so that a sender cannot choose strings that collide. A pool has one writer at a time; `view()` may be used by any thread, because
what it shows never changes afterwards.
"""

from __future__ import annotations

import secrets
from random import Random

import numpy as np
from numpy.typing import NDArray

from spanlake.model.kernel import inlined, kernel, load8, load32, load64, multiply_fold, store32, store64
from spanlake.model.spans import Strings

_ARENA, _ARENA_USED, _ARENA_SIZE, _OFFSETS, _LENGTHS, _USED, _CODES_MAX, _SLOTS, _SLOT_MASK, _SEED, _SECRET = range(11)


@inlined
def hash_bytes(address: int, length: int, seed: int, secret: int) -> int:
    """A 64-bit hash of `length` bytes, 16 at a time (the construction of wyhash).

    With two random numbers that no sender knows there is no difference of texts that collides whatever the numbers are.
    """
    end = address + length
    if length > 8:
        while end - address > 16:
            seed = multiply_fold(load64(address) ^ secret, load64(address + 8) ^ seed)
            address += 16
        first = load64(address if length <= 16 else end - 16)
        last = load64(end - 8)
    elif length >= 4:
        first = load32(address)
        last = load32(end - 4)
    else:
        first = last = 0
        while address < end:
            first = first << 8 | load8(address)
            address += 1
    return multiply_fold(multiply_fold(first ^ secret, last ^ seed) ^ secret, length ^ seed)


@inlined
def same_bytes(left: int, right: int, length: int) -> bool:
    """Whether two runs of `length` bytes are equal."""
    end = left + length
    if length >= 8:
        distance = right - left
        while end - left > 8:
            if load64(left) != load64(left + distance):
                return False
            left += 8
        return load64(end - 8) == load64(end - 8 + distance)
    for i in range(length):  # noqa: SIM110 (Numba has no generators)
        if load8(left + i) != load8(right + i):
            return False
    return True


@inlined
def copy_bytes(source: int, target: int, length: int) -> None:
    """Copy `length` bytes between runs that do not overlap and are followed by at least seven writable bytes at the target."""
    for position in range(0, length - 7, 8):
        store64(target + position, load64(source + position))
    tail = length & 7
    if tail:
        word = 0
        for i in range(tail):
            word |= load8(source + length - tail + i) << (8 * i)
        store64(target + length - tail, word)


@kernel
def intern_strings(data: int, offsets: int, lengths: int, count: int, pool: int, codes: int) -> int:
    """Intern `count` strings of a table; write their pool codes (int32). Returns how many were done before the pool was full."""
    arena, offset_of, length_of = load64(pool + 8 * _ARENA), load64(pool + 8 * _OFFSETS), load64(pool + 8 * _LENGTHS)
    slots, mask = load64(pool + 8 * _SLOTS), load64(pool + 8 * _SLOT_MASK)
    used, arena_used = load64(pool + 8 * _USED), load64(pool + 8 * _ARENA_USED)
    codes_max, arena_size = load64(pool + 8 * _CODES_MAX), load64(pool + 8 * _ARENA_SIZE)
    index = 0
    while index < count:
        length = load32(lengths + 4 * index)
        source = data + load64(offsets + 8 * index)
        hashed = hash_bytes(source, length, load64(pool + 8 * _SEED), load64(pool + 8 * _SECRET))
        mark = (hashed >> 32) & 0xFFFFFFFF
        place = hashed & mask
        code = -1
        while True:
            slot = load64(slots + 8 * place)
            if slot == 0:
                break
            if (slot >> 32) & 0xFFFFFFFF == mark:
                known = (slot & 0xFFFFFFFF) - 1
                if load32(length_of + 4 * known) == length and same_bytes(source, arena + load64(offset_of + 8 * known), length):
                    code = known
                    break
            place = (place + 1) & mask
        if code < 0:
            if used == codes_max or arena_used + length + 8 > arena_size:
                break
            code = used
            used += 1
            copy_bytes(source, arena + arena_used, length)
            store64(offset_of + 8 * code, arena_used)
            store32(length_of + 4 * code, length)
            arena_used += length
            store64(slots + 8 * place, mark << 32 | (code + 1))
        store32(codes + 4 * index, code)
        index += 1
    store64(pool + 8 * _USED, used)
    store64(pool + 8 * _ARENA_USED, arena_used)
    return index


@kernel
def _rehash(pool: int, slots: int, mask: int) -> None:
    """Enter every code of the pool into a new, empty slot table."""
    arena, seed, secret = load64(pool + 8 * _ARENA), load64(pool + 8 * _SEED), load64(pool + 8 * _SECRET)
    for code in range(load64(pool + 8 * _USED)):
        address = arena + load64(load64(pool + 8 * _OFFSETS) + 8 * code)
        hashed = hash_bytes(address, load32(load64(pool + 8 * _LENGTHS) + 4 * code), seed, secret)
        place = hashed & mask
        while load64(slots + 8 * place) != 0:
            place = (place + 1) & mask
        store64(slots + 8 * place, ((hashed >> 32) & 0xFFFFFFFF) << 32 | (code + 1))


class StringPool:
    """Owns the arena and the hash table; grows by doubling, so old views stay valid."""

    def __init__(self, *, seed: int | None = None, codes: int = 1024, bytes_: int = 1 << 16) -> None:
        self._arena = np.empty(bytes_, np.uint8)
        self._offset = np.zeros(codes, np.int64)
        self._length = np.zeros(codes, np.int32)
        self._slots = np.zeros(0, np.int64)
        self._control = np.zeros(11, np.int64)
        self._address = self._control.ctypes.data
        draw = secrets.randbits if seed is None else Random(seed).getrandbits  # noqa: S311 (a given seed is a test's)
        self._control[_SEED], self._control[_SECRET] = draw(63), draw(63)
        self._publish()
        self._enter_all(np.zeros(2 * codes, np.int64))
        nothing = Strings(np.empty(0, np.uint8), np.zeros(1, np.int64), np.zeros(1, np.int32))
        assert self.intern(nothing).tolist() == [0]

    def __len__(self) -> int:
        return int(self._control[_USED])

    @property
    def memory_bytes(self) -> int:
        """Resident estimate: what is used of the arena and the tables."""
        return int(self._control[_ARENA_USED]) + len(self) * 12 + self._slots.nbytes

    def view(self) -> Strings:
        """The strings so far."""
        used = len(self)
        return Strings(self._arena[: int(self._control[_ARENA_USED])], self._offset[:used], self._length[:used])

    def intern(self, strings: Strings) -> NDArray[np.int32]:
        """The pool's code of each entry of a string table."""
        count = len(strings)
        codes = np.empty(count, np.int32)
        data, offset, length = strings.data, np.ascontiguousarray(strings.offset), np.ascontiguousarray(strings.length)
        texts, offsets, lengths, out = (array.ctypes.data for array in (data, offset, length, codes))
        done = 0
        while True:
            done += intern_strings(texts, offsets + 8 * done, lengths + 4 * done, count - done, self._address, out + 4 * done)
            if done == count:
                return codes
            self._grow(int(length[done]))

    def _grow(self, next_length: int) -> None:
        """Room for a string of that length and for as many codes again."""
        if int(self._control[_ARENA_USED]) + next_length + 8 > len(self._arena):
            arena = np.empty(2 * len(self._arena) + next_length, np.uint8)
            used = int(self._control[_ARENA_USED])
            arena[:used] = self._arena[:used]
            self._arena = arena
        if len(self) == len(self._offset):
            extra = len(self._offset)
            self._offset = np.concatenate([self._offset, np.zeros(extra, np.int64)])
            self._length = np.concatenate([self._length, np.zeros(extra, np.int32)])
        self._publish()
        if 2 * len(self._offset) > len(self._slots):
            self._enter_all(np.zeros(2 * len(self._slots), np.int64))

    def _enter_all(self, slots: NDArray[np.int64]) -> None:
        """Take an empty table of slots into use."""
        _rehash(self._address, slots.ctypes.data, len(slots) - 1)
        self._slots = slots
        self._publish()

    def _publish(self) -> None:
        control = self._control
        control[_ARENA], control[_ARENA_SIZE] = self._arena.ctypes.data, len(self._arena)
        control[_OFFSETS], control[_LENGTHS] = self._offset.ctypes.data, self._length.ctypes.data
        control[_CODES_MAX] = len(self._offset)
        control[_SLOTS], control[_SLOT_MASK] = self._slots.ctypes.data, len(self._slots) - 1
