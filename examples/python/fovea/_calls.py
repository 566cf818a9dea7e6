"""attention, backward, weights, logits and statistics."""
from __future__ import annotations

import ctypes
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from . import _library as lib
from . import masks as _masks
from ._arrays import Array, empty_like, given, numbers, pointer_array, sum_type, written
from ._caches import Cache, Threads

Offsets = Optional[Sequence[int]]
Window = Union[None, int, Tuple[int, int]]


def _score(kind: int, **fields) -> lib.Score:
    return lib.sized(lib.Score(kind=kind, **fields))


def _window(window: Window, causal) -> _masks.Mask:
    left, right = window if isinstance(window, (tuple, list)) else (window, -1 if causal else window)
    return _masks.sliding_window(left=left, right=right)


class _Call:
    """A fovea_call and all that it points to."""

    def __init__(self, q, k, v, options: Dict[str, Any]):
        self.c, self.keeps = lib.sized(lib.Call()), []
        self.q = self.view("q", q)
        caches = [k] if isinstance(k, Cache) else k if isinstance(k, (list, tuple)) and k and isinstance(k[0], Cache) else None
        self.k = self.v = None
        if caches is None:
            self.k = self.view("k", k)
            self.v = None if v is None else self.view("v", v)
        else:
            handles = (ctypes.c_void_p * len(caches))(*[cache._handle for cache in caches])
            self.keeps += [caches, handles]
            self.c.caches, self.c.cache_count = ctypes.cast(handles, ctypes.POINTER(ctypes.c_void_p)), len(caches)
            self.caches = caches
        self.set(**options)

    def view(self, field: str, x) -> Array:
        array = given(x, field)
        setattr(self.c, field, array.tensor())
        self.keeps.append(array)
        return array

    def list(self, x, name: str, integers: bool = False) -> lib.List:
        array = numbers(x, name, integers)
        self.keeps.append(array)
        return array.list()

    def set(self, mask=None, causal=False, window=None, softcap=None, sinks=None, alibi=None, bias=None, key_lengths=None,
            scale=None, dropout=0.0, seed=0, off_by_one=False, t5_bias=None, t5_bidirectional=True, t5_max_distance=128,
            swin_bias=None, swin_window=None, alibi_offset=0, query_offsets=None, key_offsets=None, threads=None,
            d_bias=None, d_alibi=None, d_sinks=None):
        shown, scores = [], []
        if mask is not None and not isinstance(mask, _masks.Mask):
            array = Array(mask, "mask")
            if array.element == lib.U8:
                mask = _masks.boolean(mask)
            elif bias is None:
                mask, bias = None, mask
            else:
                raise ValueError("fovea: mask has real numbers, which are added; so is bias: give one of them")
        if mask is not None:
            shown.append(mask)
        if causal:
            shown.append({True: _masks.causal, "top_left": _masks.causal_top_left,
                          "bottom_right": _masks.causal_bottom_right}[causal]())
        if window is not None:
            shown.append(_window(window, causal))
        if key_lengths is not None:
            shown.append(_masks.key_lengths(key_lengths))
        if softcap:
            scores.append(_score(1, value=softcap))
        if alibi is not None:
            scores.append(_score(2, list=self.list(alibi, "alibi"), offset=alibi_offset))
            if d_alibi is not None:
                scores[-1].gradient_list = self.list(d_alibi, "d_alibi")
        if bias is not None:
            scores.append(_score(3, matrix=self._keep(Array(bias, "bias")).tensor()))
            if d_bias is not None:
                scores[-1].gradient = self._keep(written(d_bias, "d_bias")).tensor()
        if t5_bias is not None:
            scores.append(_score(4, matrix=self._keep(given(t5_bias, "t5_bias")).tensor(),
                                 one_direction=int(not t5_bidirectional), max_distance=t5_max_distance))
        if swin_bias is not None:
            scores.append(_score(5, matrix=self._keep(given(swin_bias, "swin_bias")).tensor(), height=swin_window[0],
                                 width=swin_window[1]))
        c = self.c
        c.masks, c.mask_count = pointer_array(lib.Mask, [one._c for one in shown]), len(shown)
        c.scores, c.score_count = pointer_array(lib.Score, scores), len(scores)
        self.keeps += [shown, scores]
        if sinks is not None:
            c.sink = self.list(sinks, "sinks")
        if d_sinks is not None:
            c.sink_gradient = self.list(d_sinks, "d_sinks")
        if query_offsets is not None:
            c.query_offsets = self.list(query_offsets, "query_offsets", True)
        if key_offsets is not None:
            c.key_offsets = self.list(key_offsets, "key_offsets", True)
        c.off_by_one = int(off_by_one)
        if scale is not None:
            c.has_scale, c.scale = 1, scale
        c.dropout_rate, c.dropout_seed = dropout, seed
        if threads is not None:
            self.keeps.append(threads)
            c.threads = threads._handle

    def _keep(self, array: Array) -> Array:
        self.keeps.append(array)
        return array

    def rows(self, x, name: str) -> lib.Tensor:
        """A number a row: the tensor with a last size of 1."""
        array = self._keep(Array(x, name))
        if array.shape != self.q.shape[:-1]:
            raise ValueError(f"fovea: {name} has the shape {array.shape}, not {self.q.shape[:-1]}")
        more = 4 - len(self.q.shape)
        return lib.Tensor(array.pointer, array.element, 0, *((1,) * more + array.shape + (1,)),
                          *((0,) * more + array.strides + (1,)))


def attention(q, k, v=None, *, return_lse: bool = False, out=None, **options):
    """softmax(score(scale * q k^T)) v.

    q: [batch, heads, Lq, d], k: [batch, kv_heads, Lk, d], v: [batch, kv_heads, Lk, dv]; 3-D without the batch, 2-D of one
    head. kv_heads divides heads: query head h reads key/value head h // (heads // kv_heads). In place of k and v a cache, or
    a list of one a batch entry. Returns o, [batch, heads, Lq, dv], of q's kind and elements; with return_lse also the
    log-sum-exp of each row, [batch, heads, Lq], in float32 (float64 where q is).

    Options, of the other functions too:
      mask           a Mask (fovea.masks); an array of bool, True keeps; or of real numbers, which are added. Arrays broadcast
                     to [batch, heads, Lq, Lk].
      causal         True (needs Lq == Lk, or a cache), "top_left" or "bottom_right"
      window         extra keys on the left (and, where it is not causal, on the right); or (left, right), -1 open
      key_lengths    [batch]: of each sequence the first keys are real
      softcap        s -> cap tanh(s / cap)
      alibi          [heads], slopes; alibi_offset places the first query among the keys
      bias           array that is added to logits, broadcast as mask; -inf hides
      t5_bias        [buckets, heads], with t5_bidirectional, t5_max_distance; swin_bias [offsets, heads], with swin_window
      sinks          [heads]: logits that join the softmax and have no value; off_by_one: 1 joins the denominator
      scale          1 / sqrt(d) without
      dropout, seed  rate of weights left out; the same cells in backward with the same seed
      query_offsets, key_offsets    sequences packed in a batch of one: b is offsets[b] to offsets[b + 1]
      threads        fovea.Threads(n)

    Raises ValueError, naming the argument and both values, before anything is written. Cost: 2 Lq Lk (d + dv) operations a
    head less what masks hide in whole blocks, memory O(Lq + Lk)."""
    call = _Call(q, k, v, options)
    if call.k is not None and call.v is None:
        raise ValueError("fovea: attention takes q, k and v, or q and a cache")
    columns = call.v.shape[-1] if call.v else call.caches[0].value_dim
    out = empty_like(call.q, call.q.shape[:-1] + (columns,)) if out is None else out
    call.c.o = call._keep(written(out, "out")).tensor()
    lse = empty_like(call.q, call.q.shape[:-1], sum_type(call.q)) if return_lse else None
    if return_lse:
        call.c.lse = call.rows(lse, "lse")
    lib.run("fovea_attend", ctypes.byref(call.c))
    return (out, lse) if return_lse else out


def backward(q, k, v, out, lse, d_out, *, d_lse=None, **options):
    """The gradients (d_q, d_k, d_v) of a loss whose gradient by `out` is d_out.

    out and lse are what attention(q, k, v, return_lse=True, ...) gave with the same options; d_lse: the gradient by lse.
    d_bias, d_alibi or d_sinks, arrays of their parameter's shape in float32, are written (one of the first two)."""
    call = _Call(q, k, v, options)
    call.c.o, call.c.lse = call._keep(given(out, "out")).tensor(), call.rows(lse, "lse")
    results = [empty_like(x, x.shape) for x in (call.q, call.k, call.v)]
    g = lib.sized(lib.Gradients())
    g.d_o = call._keep(given(d_out, "d_out")).tensor()
    g.d_q, g.d_k, g.d_v = [call._keep(given(x, name)).tensor() for x, name in zip(results, ("d_q", "d_k", "d_v"))]
    if d_lse is not None:
        g.d_lse = call.rows(d_lse, "d_lse")
    lib.run("fovea_backward", ctypes.byref(call.c), ctypes.byref(g))
    return tuple(results)


def _matrix(function: str, q, k, options):
    call = _Call(q, k, None, options)
    result = empty_like(call.q, call.q.shape[:-1] + (call.k.shape[-2],), sum_type(call.q))
    to = given(result, "weights").tensor()
    lib.run(function, ctypes.byref(call.c), ctypes.byref(to))
    return result


def weights(q, k, **options):
    """The probabilities, [batch, heads, Lq, Lk], in float32 (float64 where q is); options as of attention, but dropout."""
    return _matrix("fovea_weights", q, k, options)


def logits(q, k, **options):
    """What enters the softmax: score(scale * q k^T), -inf where a cell is hidden."""
    return _matrix("fovea_logits", q, k, options)


def statistics(q, k, **options) -> Dict[str, np.ndarray]:
    """Of each row of the probabilities, in O(Lq) memory: entropy (nats), distance, largest, mass, lse, key and visible, each
    [batch, heads, Lq] (see include/fovea/row_statistics.hpp)."""
    call = _Call(q, k, None, options)
    to, rows = lib.sized(lib.Statistics()), {}
    for name, _ in lib.Statistics._fields_[1:]:
        rows[name] = np.empty(call.q.shape[:-1], np.int64 if name in ("key", "visible") else np.float64)
        setattr(to, name, rows[name].ctypes.data)
    lib.run("fovea_measure", ctypes.byref(call.c), ctypes.byref(to))
    return rows
