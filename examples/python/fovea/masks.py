"""Masks: which keys a query sees. They intersect by &, join by |, and ~ is the complement.

    fovea.attention(q, k, v, mask=masks.causal() & masks.documents(ids))

Meanings and errors are those of the C++ headers, include/fovea/mask.hpp."""
from __future__ import annotations

from typing import Optional, Sequence

import numpy as np

from ._native import Mask as Mask


def _of(kind: int, **fields) -> Mask:
    return Mask(kind, fields)


def _offset(offset: Optional[int]) -> dict:
    return {} if offset is None else {"offset": offset}


def _corner(corner: Optional[str]) -> int:
    corners = [None, "top_left", "bottom_right"]
    if corner not in corners:
        raise ValueError(f"fovea: corner is {corner!r}, not top_left or bottom_right")
    return corners.index(corner)


def causal() -> Mask:
    """k <= q; needs as many queries as keys, or a cache."""
    return _of(1)


def causal_top_left() -> Mask:
    """k <= q: the first query stands at the first key."""
    return _of(2)


def causal_bottom_right() -> Mask:
    """k <= q + Lk - Lq: the last query stands at the last key."""
    return _of(3)


def causal_offset(n: int) -> Mask:
    """k <= q + n."""
    return _of(4, offset=n)


def sliding_window(left: int = -1, right: int = -1, offset: Optional[int] = None, corner: Optional[str] = None) -> Mask:
    """`left` and `right` extra keys a side, -1 open; corner: "top_left" or "bottom_right", where no causal mask says it."""
    return _of(5, left=left, right=right, corner=_corner(corner), **_offset(offset))


def key_lengths(lengths: Sequence[int]) -> Mask:
    """Right padding: the keys below a length a sequence."""
    return _of(6, list=lengths)


def left_padding(starts: Sequence[int]) -> Mask:
    """Left padding: the keys from a start a sequence on."""
    return _of(7, list=starts)


def prefix(lengths: Sequence[int]) -> Mask:
    """Causal, with the first keys seen by all: a length a sequence."""
    return _of(8, list=lengths)


def documents(ids: Sequence[int], query_ids: Optional[Sequence[int]] = None) -> Mask:
    """A token sees those of its own document: an id a key, and a query where these differ."""
    more = {} if query_ids is None else {"query_list": query_ids}
    return _of(9, list=ids, **more)


def block_diffusion(size: int) -> Mask:
    """q // size >= k // size."""
    return _of(10, size=size)


def chunked(size: int) -> Mask:
    """q // size == k // size."""
    return _of(11, size=size)


def boolean(matrix) -> Mask:
    """An array of bool or uint8 that broadcasts to batch x heads x queries x keys; True keeps."""
    return _of(12, matrix=matrix)


def block_map(matrix, queries: int = 64, keys: int = 64) -> Mask:
    """The same, an element a block of so many queries and keys."""
    return _of(13, matrix=matrix, size=queries, size2=keys)


def draft_tree(words: Sequence[int], drafts: int = 0) -> Mask:
    """The last keys are drafts of a tree: bits of each draft's ancestors."""
    listed = [w for w in words if isinstance(w, (int, np.integer)) and 0 <= int(w) < 2**64]  # a float would be cut
    if len(listed) != len(words):
        raise ValueError(f"fovea: draft_tree's words are {words!r}, not integers from 0 to 2**64 - 1")
    return _of(14, words=np.array([int(w) for w in listed], np.uint64), size=drafts)


def dilated(step: int, offset: Optional[int] = None) -> Mask:
    """(k - q) % step == 0."""
    return _of(15, size=step, **_offset(offset))


def global_tokens(positions: Sequence[int], offset: Optional[int] = None) -> Mask:
    """Tokens that see all and that all see; positions ascend."""
    return _of(16, list=positions, **_offset(offset))


def neighbourhood(sizes: Sequence[int], kernel: Sequence[int], dilation: Optional[Sequence[int]] = None,
                  causal: Optional[Sequence[bool]] = None) -> Mask:
    """Neighbourhood attention in one to three dimensions, the last axis running fastest."""
    axes = len(sizes)
    return _of(17, axes=axes, sizes=tuple(sizes), kernel=tuple(kernel),
               dilation=(1,) * axes if dilation is None else tuple(dilation),
               causal_axes=(0,) * axes if causal is None else tuple(int(a) for a in causal))


def big_bird(side: int = 64, window: int = 3, global_blocks: int = 2, random: int = 3, seed: int = 0) -> Mask:
    """BigBird's blocks: a window, global ones and random ones."""
    return _of(18, size=side, window=window, global_blocks=global_blocks, random=random, seed=seed)
