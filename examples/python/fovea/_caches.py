"""Keys and values kept for decoding; threads."""
from __future__ import annotations

import ctypes
from typing import Optional, Sequence

from . import _library as lib
from ._arrays import element_code, given, numbers


class _Owner:
    _handle: Optional[int] = None
    _destroy = ""

    def _make(self, function: str, argument) -> None:
        handle = ctypes.c_void_p()
        lib.run(function, argument, ctypes.byref(handle))
        self._handle = handle.value

    def __del__(self):
        if self._handle is not None:
            getattr(lib.library, self._destroy)(self._handle)


class Threads(_Owner):
    """`workers` threads that work on a call: the calling one and workers - 1 others. Calls may share them."""
    _destroy = "fovea_threads_destroy"

    def __init__(self, workers: int):
        self._make("fovea_threads_create", ctypes.c_int64(workers))


class Cache(_Owner):
    """What KVCache, RingCache and PagedCache have in common. In a call the queries are the cache's last tokens."""
    _destroy = "fovea_cache_destroy"
    value_dim = 0

    def append(self, k, v) -> None:
        """k: [kv_heads, tokens, dim], v: [kv_heads, tokens, value_dim], of any real elements (4-D with a batch of 1)."""
        keys, values = given(k, "k"), given(v, "v")
        lib.run("fovea_cache_append", ctypes.c_void_p(self._handle), ctypes.byref(keys.tensor()), ctypes.byref(values.tensor()))

    def truncate(self, tokens: int) -> None:
        """Takes back the newest tokens, so that `tokens` are left."""
        lib.run("fovea_cache_truncate", ctypes.c_void_p(self._handle), ctypes.c_int64(tokens))

    def __len__(self) -> int:
        return lib.library.fovea_cache_tokens(self._handle)

    @property
    def position(self) -> int:
        """Of the next token in the whole sequence."""
        return lib.library.fovea_cache_position(self._handle)

    @property
    def nbytes(self) -> int:
        return lib.library.fovea_cache_bytes(self._handle)

    def _create(self, kind: int, dtype, heads: int, dim: int, value_dim: int, **more) -> None:
        options = lib.sized(lib.CacheOptions(kind=kind, element=element_code(dtype, "dtype"), heads=heads, dim=dim,
                                             value_dim=value_dim, **more))
        self.value_dim = value_dim or dim
        self._make("fovea_cache_create", ctypes.byref(options))


class KVCache(Cache):
    """Room for `capacity` tokens. dtype: float32, float64, bfloat16, float16 or int8 (with scales)."""

    def __init__(self, heads: int, dim: int, capacity: int, *, value_dim: int = 0, dtype="float32"):
        self._create(1, dtype, heads, dim, value_dim, capacity=capacity)

    def keep(self, tokens: Sequence[int]) -> None:
        """Keeps the tokens listed, ascending, and lets go of the others."""
        kept = numbers(tokens, "tokens", True)
        lib.run("fovea_cache_keep", ctypes.c_void_p(self._handle), ctypes.byref(kept.list()))

    def reserve(self, capacity: int) -> None:
        """Makes room for so many tokens in all."""
        lib.run("fovea_cache_reserve", ctypes.c_void_p(self._handle), ctypes.c_int64(capacity))


class RingCache(Cache):
    """The newest `window` tokens and the first `sinks`."""

    def __init__(self, heads: int, dim: int, window: int, *, sinks: int = 0, value_dim: int = 0, dtype="float32"):
        self._create(2, dtype, heads, dim, value_dim, capacity=window, sinks=sinks)


class PagePool(_Owner):
    """Pages that the caches of several sequences share."""
    _destroy = "fovea_pool_destroy"

    def __init__(self, heads: int, dim: int, pages: int, page_tokens: int = 16, *, value_dim: int = 0, dtype="float32"):
        self.dtype, self.heads, self.dim, self.value_dim = dtype, heads, dim, value_dim or dim
        options = lib.sized(lib.PoolOptions(element=element_code(dtype, "dtype"), heads=heads, dim=dim, value_dim=value_dim,
                                            pages=pages, page_tokens=page_tokens))
        self._make("fovea_pool_create", ctypes.byref(options))

    @property
    def free_pages(self) -> int:
        return lib.library.fovea_pool_free_pages(self._handle)


class PagedCache(Cache):
    """One sequence in a pool."""

    def __init__(self, pool: PagePool):
        self.pool = pool
        self._create(3, pool.dtype, pool.heads, pool.dim, pool.value_dim, pool=pool._handle)

    def fork(self) -> "PagedCache":
        """The same tokens in the same pages; what either appends then, the other does not see."""
        other = PagedCache.__new__(PagedCache)
        other.pool, other.value_dim = self.pool, self.value_dim
        other._make("fovea_cache_fork", ctypes.c_void_p(self._handle))
        return other
