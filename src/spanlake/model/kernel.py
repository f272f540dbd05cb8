"""How kernels are compiled: machine code for free functions over arrays, cached on disk, running without the GIL.

The only module that names Numba's options. A kernel is an ordinary function that takes and returns arrays and numbers and holds no
state; call it from any thread.

The `load*` and `store*` primitives read and write memory at an integer address. Decoding and encoding kernels use them instead of
arrays because an array argument costs Numba reference counting at every call, 50 times the work proper when a span is 50 small
calls. Their callers own the two duties that arrays would take over: keep the arrays alive, and check every bound.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from spanlake.model.errors import Unavailable

F = TypeVar("F", bound=Callable[..., Any])


def _source_digest() -> str:
    """A fingerprint of every source file that kernels are made of.

    Numba's own cache key is the time stamp of the one file that defines a function; it misses a changed constant or callee in
    another module, and runs machine code of the old layout.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        source = path.read_bytes()
        if b"spanlake.model.kernel import" in source or path.parent.name == "model":
            digest.update(source)
    return digest.hexdigest()[:16]


def cache_directory() -> Path:
    """Where compiled kernels of this version of spanlake are kept: $SPANLAKE_KERNEL_CACHE, else the user's cache directory."""
    base = os.environ.get("SPANLAKE_KERNEL_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for root in (Path(base), Path(tempfile.gettempdir())):
        directory = root / "spanlake" / f"kernels-{_source_digest()}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        return directory
    raise Unavailable(f"neither {base} nor {tempfile.gettempdir()} is writable: set SPANLAKE_KERNEL_CACHE to a directory that is")


_CACHE_DIRECTORY = str(cache_directory())
_njit: Callable[..., Any] = numba.njit  # the stubs do not know every option
_intrinsic: Callable[..., Any] = intrinsic
_config: Any = numba.config


def _compile(function: F, **options: bool) -> F:
    others = _config.CACHE_DIR
    _config.CACHE_DIR = _CACHE_DIRECTORY
    try:
        compiled: F = _njit(nogil=True, error_model="numpy", **options)(function)
    finally:
        _config.CACHE_DIR = others
    _ignore_literals(compiled)
    return compiled


def _ignore_literals(compiled: Any) -> None:
    """Compile once for int64, not once more for each constant integer that a caller passes: LLVM specialises where that is worth it."""
    call_template = compiled.get_call_template
    compiled.get_call_template = lambda args, kws: call_template([types.unliteral(arg) for arg in args], kws)


def kernel(function: F) -> F:
    """Compile at first call (seconds), then load from the on-disk cache (milliseconds)."""
    return _compile(function, cache=True)


def inner(function: F) -> F:
    """A kernel that only kernels call. It compiles faster: it has no entry from Python, and no cache but its callers'."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def inlined(function: F) -> F:
    """An inner kernel that LLVM inlines into every caller: for leaves of a few instructions."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)


def _memory_access(bits: int, *, store: bool) -> Any:
    """An intrinsic that loads from, or stores to, an address as a little-endian integer of `bits` bits."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
        if store:
            value = args[1] if bits == 64 else builder.trunc(args[1], ir.IntType(bits))
            builder.store(value, pointer, align=1)
            return _context.get_dummy_value()
        value = builder.load(pointer, align=1)
        return value if bits == 64 else builder.zext(value, ir.IntType(64))

    def typed_load(_typing: Any, _address: Any) -> Any:
        return types.int64(types.int64), generate

    def typed_store(_typing: Any, _address: Any, _value: Any) -> Any:
        return types.void(types.int64, types.int64), generate

    return _intrinsic(typed_store if store else typed_load)


def _byte_swap(_typing: Any, _value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        swap = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(64), [ir.IntType(64)]), "llvm.bswap.i64")
        return builder.call(swap, [args[0]])

    return types.int64(types.int64), generate


def _multiply_fold(_typing: Any, _left: Any, _right: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        high = builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))
        return builder.xor(high, builder.trunc(product, ir.IntType(64)))

    return types.int64(types.int64, types.int64), generate


load8: Callable[[int], int] = _memory_access(8, store=False)
load32: Callable[[int], int] = _memory_access(32, store=False)
load64: Callable[[int], int] = _memory_access(64, store=False)
store8: Callable[[int, int], None] = _memory_access(8, store=True)
store32: Callable[[int, int], None] = _memory_access(32, store=True)
store64: Callable[[int, int], None] = _memory_access(64, store=True)
"""`loadN(address: int64) -> int64`, zero-extended; `storeN(address: int64, value: int64)`, truncating. Any alignment."""

byte_swap: Callable[[int], int] = _intrinsic(_byte_swap)
"""`byte_swap(value: int64) -> int64`: the eight bytes in reverse order."""

multiply_fold: Callable[[int, int], int] = _intrinsic(_multiply_fold)
"""`multiply_fold(left: int64, right: int64) -> int64`: the halves of the 128-bit product of two unsigned numbers, xored."""
