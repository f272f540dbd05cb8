"""A store with something between it and its caller: counting, faults, delays. For tests and benchmarks of the whole project.

    counts = Counts()
    store = InterceptedStore(inner, counts)                      # counts.requests("get"), counts.bytes_read()
    store = InterceptedStore(inner, faulty.scripted(put=[Fault.THROTTLED, None]))
    store = InterceptedStore(inner, Before(lambda call: gate.wait(10)))

A policy sees every request as a `Call` and decides whether and how often it proceeds; policies stack by wrapping stores in stores.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from spanlake.objectstore.store import ObjectInfo, ObjectStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the method's name, its keys (the prefix for `list`) and how many bytes it is about to put."""

    operation: str
    keys: tuple[str, ...]
    bytes_put: int = 0


class Policy(Protocol):
    """What happens around a request. Called from many threads."""

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        """Returns what `proceed` returns, or raises."""
        ...


class InterceptedStore:
    """An ObjectStore whose requests to `inner` go through a policy.

    With `remote=True` it pretends to have no local files, so that readers cannot pass it by with a memory map.
    """

    def __init__(self, inner: ObjectStore, policy: Policy, *, remote: bool = False) -> None:
        self._inner = inner
        self._policy = policy
        self._remote = remote

    @property
    def url(self) -> str:
        return self._inner.url

    @property
    def scratch(self) -> Path:
        return self._inner.scratch

    def get(self, key: str) -> bytes:
        return self._policy.around(Call("get", (key,)), lambda: self._inner.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._policy.around(Call("get_range", (key,)), lambda: self._inner.get_range(key, start, length))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._policy.around(Call("get_ranges", (key,)), lambda: self._inner.get_ranges(key, ranges))

    def head(self, key: str) -> ObjectInfo:
        return self._policy.around(Call("head", (key,)), lambda: self._inner.head(key))

    def put(self, key: str, data: bytes) -> None:
        self._policy.around(Call("put", (key,), len(data)), lambda: self._inner.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> None:
        self._policy.around(Call("put_if_absent", (key,), len(data)), lambda: self._inner.put_if_absent(key, data))

    def put_file(self, key: str, path: Path) -> None:
        size_bytes = path.stat().st_size if path.is_file() else 0
        self._policy.around(Call("put_file", (key,), size_bytes), lambda: self._inner.put_file(key, path))

    def delete(self, keys: Sequence[str]) -> None:
        self._policy.around(Call("delete", tuple(keys)), lambda: self._inner.delete(keys))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(self._policy.around(Call("list", (prefix,)), lambda: list(self._inner.list(prefix))))

    def local_path(self, key: str) -> Path | None:
        path = self._inner.local_path(key)
        return None if self._remote else path


class Counts:
    """A policy that counts requests, also failed ones, and the bytes that went through. `get_ranges` is one request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        with self._lock:
            self._requests[call.operation] += 1
        result = proceed()
        with self._lock:
            self._read[call.operation] += _bytes_in(result)
            self._put[call.operation] += call.bytes_put
        return result

    def reset(self) -> None:
        """Start from zero."""
        with self._lock:
            self._requests: Counter[str] = Counter()
            self._read: Counter[str] = Counter()
            self._put: Counter[str] = Counter()

    def requests(self, *operations: str) -> int:
        """Requests of these operations, or of all."""
        return _total(self._requests, operations)

    def bytes_read(self, *operations: str) -> int:
        """Bytes that these operations, or all, returned."""
        return _total(self._read, operations)

    def bytes_put(self, *operations: str) -> int:
        """Bytes that these operations, or all, stored successfully."""
        return _total(self._put, operations)


class Before:
    """A policy that runs an action before each request: sleep to be slow, wait for an event to be stopped, take notes."""

    def __init__(self, action: Callable[[Call], object]) -> None:
        self._action = action

    def around(self, call: Call, proceed: Callable[[], T]) -> T:
        self._action(call)
        return proceed()


def _bytes_in(result: object) -> int:
    parts = result if isinstance(result, list) else [result]
    return sum(len(part) for part in parts if isinstance(part, bytes))


def _total(counts: Counter[str], operations: tuple[str, ...]) -> int:
    return sum(counts[operation] for operation in operations) if operations else counts.total()
