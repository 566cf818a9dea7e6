"""fovea: exact, fused attention kernels for CPUs.

    o = fovea.attention(q, k, v, causal=True)          # [batch, heads, tokens, dim]

Arrays: numpy's, torch's, and what has __dlpack__ or the buffer protocol; float32, float64, float16 and bfloat16."""
from . import masks
from ._caches import Cache, KVCache, PagedCache, PagePool, RingCache, Threads
from ._calls import attention, backward, logits, rotate, statistics, weights
from ._native import isa, version as __version__

__all__ = ["Cache", "KVCache", "PagePool", "PagedCache", "RingCache", "Threads", "attention", "backward", "isa", "logits",
           "masks", "rotate", "statistics", "weights"]
