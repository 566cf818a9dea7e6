"""attention, backward, weights, logits and statistics."""
from __future__ import annotations

from typing import Dict

import numpy as np

from . import _native


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
      t5_bias        [buckets, heads], with t5_bidirectional, t5_max_distance; swin_bias [offsets, heads], with swin_window;
                     bias_table [slots, heads], with slots: int32, broadcast as mask, the row that a cell adds (-1: none)
      gate           [batch, heads, Lq, dv], or [batch, heads, Lq]: o is multiplied by its sigmoid
      sinks          [heads]: logits that join the softmax and have no value; off_by_one: 1 joins the denominator
      scale          1 / sqrt(d) without
      dropout, seed  rate of weights left out; the same cells in backward with the same seed
      query_offsets, key_offsets    sequences packed in a batch of one: b is offsets[b] to offsets[b + 1]
      threads        fovea.Threads(n)

    Raises ValueError, naming the argument and both values, before anything is written. Cost: 2 Lq Lk (d + dv) operations a
    head less what masks hide in whole blocks, memory O(Lq + Lk)."""
    return _native.attention(q, k, v, return_lse, out, options)


def backward(q, k, v, out, lse, d_out, *, d_lse=None, **options):
    """The gradients (d_q, d_k, d_v) of a loss whose gradient by `out` is d_out.

    out and lse are what attention(q, k, v, return_lse=True, ...) gave with the same options; d_lse: the gradient by lse.
    d_bias, d_alibi, d_t5_bias, d_swin_bias, d_bias_table (one of them), d_gate and d_sinks, arrays of their parameter's shape in
    float32 (float64 where q is; d_sinks: float32), are written."""
    return _native.backward(q, k, v, out, lse, d_out, d_lse, options)


def weights(q, k, **options):
    """The probabilities, [batch, heads, Lq, Lk], in float32 (float64 where q is); k may be a cache; options as of attention, but
    dropout and gate."""
    return _native.weights(q, k, options)


def logits(q, k, **options):
    """What enters the softmax: score(scale * q k^T), -inf where a cell is hidden."""
    return _native.logits(q, k, options)


def statistics(q, k, **options) -> Dict[str, np.ndarray]:
    """Of each row of the probabilities, in O(Lq) memory: entropy (nats), distance, largest, mass, lse, key and visible, each
    [batch, heads, Lq] (see include/fovea/row_statistics.hpp)."""
    return _native.statistics(q, k, options)


def rotate(x, cos, sin, *, first: int = 0, interleaved: bool = False, out=None):
    """x, [..., tokens, dim], with the first r numbers of each token turned to its position, from `first` on: rotary position
    embedding. cos, sin: [positions, r / 2]. Numbers i and i + r / 2 turn together; interleaved: 2 i and 2 i + 1. out: x itself,
    or an array apart."""
    return _native.rotate(x, cos, sin, first, interleaved, out)
