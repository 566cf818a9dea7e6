"""Keys and values kept for decoding; threads."""
from __future__ import annotations

import os
from typing import Sequence

from . import _native
from ._native import Threads as Threads


def _file(path) -> bytes:
    """A path as open() takes it; what is none is a TypeError, and no file of that name."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError(f"fovea: path is {path!r}, with a null character")
    return name


class Cache(_native.Cache):
    """What KVCache, RingCache and PagedCache have in common. In a call the queries are the cache's last tokens. len(cache):
    tokens that are kept; position: of the next one in the whole sequence; nbytes: of the memory. While a call reads or
    changes a cache, which it does beside other threads, no other call changes it, or a cache of the same pool."""

    def append(self, k, v, *, cos=None, sin=None, interleaved: bool = False) -> None:
        """k: [kv_heads, tokens, dim], v: [kv_heads, tokens, value_dim], of any real elements (4-D with a batch of 1).

        With cos and sin, [positions, r / 2], keys are turned to the positions that they take, as by fovea.rotate."""
        self._append(k, v, cos, sin, interleaved)

    def truncate(self, tokens: int) -> None:
        """Takes back the newest tokens, so that `tokens` are left."""
        self._truncate(tokens)


class KVCache(Cache):
    """Room for `capacity` tokens. dtype: float32, float64, bfloat16, float16 or int8 (with scales)."""

    def __init__(self, heads: int, dim: int, capacity: int, *, value_dim: int = 0, dtype="float32"):
        super().__init__(1, dtype, heads, dim, value_dim, capacity, 0)

    def keep(self, tokens: Sequence[int]) -> None:
        """Keeps the tokens listed, ascending, and lets go of the others."""
        self._keep(tokens)

    def reserve(self, capacity: int) -> None:
        """Makes room for so many tokens in all."""
        self._reserve(capacity)

    def save(self, path) -> None:
        """Writes the tokens to a file."""
        self._save(_file(path))

    def load(self, path) -> None:
        """Reads what save wrote, in place of all tokens. RuntimeError, and the cache as it was, where the file can not be read,
        is damaged, or has other sizes or more tokens than there is room for."""
        self._load(_file(path))


class RingCache(Cache):
    """The newest `window` tokens and the first `sinks`."""

    def __init__(self, heads: int, dim: int, window: int, *, sinks: int = 0, value_dim: int = 0, dtype="float32"):
        super().__init__(2, dtype, heads, dim, value_dim, window, sinks)


class PagePool(_native.PagePool):
    """Pages that the caches of several sequences share. free_pages: those that none has taken."""

    def __init__(self, heads: int, dim: int, pages: int, page_tokens: int = 16, *, value_dim: int = 0, dtype="float32"):
        super().__init__(heads, dim, pages, page_tokens, value_dim, dtype)


class PagedCache(Cache):
    """One sequence in a pool."""

    def __init__(self, pool: PagePool):
        super().__init__(pool)

    @property
    def pool(self) -> PagePool:
        return self._pool

    def fork(self) -> "PagedCache":
        """The same tokens in the same pages; what either appends then, the other does not see."""
        other = PagedCache(self.pool)
        self._fork_into(other)
        return other
