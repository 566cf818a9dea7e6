"""Masks: which keys a query sees. They intersect by &, join by |, and ~ is the complement.

    fovea.attention(q, k, v, mask=masks.causal() & masks.documents(ids))

Meanings and errors are those of the C++ headers, include/fovea/mask.hpp."""
from __future__ import annotations

import ctypes
from typing import Optional, Sequence

import numpy as np

from . import _library as lib
from ._arrays import Array, numbers, pointer_array


class Mask:
    """A mask as data; made by the functions below."""

    def __init__(self, kind: int, **fields):
        self._keeps = []
        self._c = lib.sized(lib.Mask(kind=kind, left=-1, right=-1))
        for name, value in fields.items():
            if isinstance(value, Array):
                self._keeps.append(value)
                value = value.tensor() if name == "matrix" else value.list()
            setattr(self._c, name, value)

    def _of(self, kind: int, *others: "Mask") -> "Mask":
        parts = (self,) + others
        joined = Mask(kind, part_count=len(parts))
        joined._keeps = [*parts, pointer_array(lib.Mask, [part._c for part in parts])]
        joined._c.parts = ctypes.cast(joined._keeps[-1], ctypes.POINTER(lib.Mask))
        return joined

    def __and__(self, other: "Mask") -> "Mask":
        return self._of(32, other)

    def __or__(self, other: "Mask") -> "Mask":
        return self._of(33, other)

    def __invert__(self) -> "Mask":
        return self._of(34)


def _offset(offset: Optional[int]) -> dict:
    return {} if offset is None else {"offset": offset, "has_offset": 1}


def causal() -> Mask:
    """k <= q; needs as many queries as keys, or a cache."""
    return Mask(1)


def causal_top_left() -> Mask:
    """k <= q: the first query stands at the first key."""
    return Mask(2)


def causal_bottom_right() -> Mask:
    """k <= q + Lk - Lq: the last query stands at the last key."""
    return Mask(3)


def causal_offset(n: int) -> Mask:
    """k <= q + n."""
    return Mask(4, offset=n)


def sliding_window(left: int = -1, right: int = -1, offset: Optional[int] = None, corner: Optional[str] = None) -> Mask:
    """`left` and `right` extra keys a side, -1 open; corner: "top_left" or "bottom_right", where no causal mask says it."""
    return Mask(5, left=left, right=right, from_={None: 0, "top_left": 1, "bottom_right": 2}[corner], **_offset(offset))


def key_lengths(lengths: Sequence[int]) -> Mask:
    """Right padding: the keys below a length a sequence."""
    return Mask(6, list=numbers(lengths, "key_lengths", True))


def left_padding(starts: Sequence[int]) -> Mask:
    """Left padding: the keys from a start a sequence on."""
    return Mask(7, list=numbers(starts, "left_padding", True))


def prefix(lengths: Sequence[int]) -> Mask:
    """Causal, with the first keys seen by all: a length a sequence."""
    return Mask(8, list=numbers(lengths, "prefix", True))


def documents(ids: Sequence[int], query_ids: Optional[Sequence[int]] = None) -> Mask:
    """A token sees those of its own document: an id a key, and a query where these differ."""
    more = {} if query_ids is None else {"list2": numbers(query_ids, "documents' query ids", True)}
    return Mask(9, list=numbers(ids, "documents' ids", True), **more)


def block_diffusion(size: int) -> Mask:
    """q // size >= k // size."""
    return Mask(10, size=size)


def chunked(size: int) -> Mask:
    """q // size == k // size."""
    return Mask(11, size=size)


def boolean(matrix) -> Mask:
    """An array of bool or uint8 that broadcasts to batch x heads x queries x keys; True keeps."""
    return Mask(12, matrix=Array(matrix, "mask"))


def block_map(matrix, queries: int = 64, keys: int = 64) -> Mask:
    """The same, an element a block of so many queries and keys."""
    return Mask(13, matrix=Array(matrix, "block_map"), size=queries, size2=keys)


def draft_tree(words: Sequence[int], drafts: int = 0) -> Mask:
    """The last keys are drafts of a tree: bits of each draft's ancestors."""
    return Mask(14, list=Array(np.asarray(words, np.uint64), "draft_tree"), size=drafts)


def dilated(step: int, offset: Optional[int] = None) -> Mask:
    """(k - q) % step == 0."""
    return Mask(15, size=step, **_offset(offset))


def global_tokens(positions: Sequence[int], offset: Optional[int] = None) -> Mask:
    """Tokens that see all and that all see; positions ascend."""
    return Mask(16, list=numbers(positions, "global_tokens", True), **_offset(offset))


def neighbourhood(sizes: Sequence[int], kernel: Sequence[int], dilation: Optional[Sequence[int]] = None,
                  causal: Optional[Sequence[bool]] = None) -> Mask:
    """Neighbourhood attention in one to three dimensions, the last axis running fastest."""
    axes = len(sizes)
    mask = Mask(17, axes=axes)
    for a in range(axes):
        mask._c.sizes[a], mask._c.kernel[a] = sizes[a], kernel[a]
        mask._c.dilation[a] = dilation[a] if dilation else 1
        mask._c.causal_axes[a] = int(causal[a]) if causal else 0
    return mask


def big_bird(side: int = 64, window: int = 3, global_blocks: int = 2, random: int = 3, seed: int = 0) -> Mask:
    """BigBird's blocks: a window, global ones and random ones."""
    return Mask(18, size=side, window=window, global_=global_blocks, random=random, seed=seed)
