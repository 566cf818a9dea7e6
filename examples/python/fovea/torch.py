"""fovea in PyTorch: an operator with gradients, and scaled_dot_product_attention by it.

    import fovea.torch

    o = fovea.torch.attention(q, k, v, causal=True)        # torch.ops.fovea.attention, for autograd and torch.compile
    with fovea.torch.installed():                          # F.scaled_dot_product_attention on CPU tensors is fovea's
        model(x)
    model = AutoModel.from_pretrained(..., attn_implementation="fovea")      # after fovea.torch.register_transformers()
"""
from __future__ import annotations

import contextlib
import math
from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import _get_current_dispatch_mode

import fovea

_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_threads: Optional[fovea.Threads] = None
_workers = 1


def _pool() -> Optional[fovea.Threads]:
    """As many workers as PyTorch has threads."""
    global _threads, _workers
    if torch.get_num_threads() != _workers:
        _workers = torch.get_num_threads()
        _threads = fovea.Threads(_workers) if _workers > 1 else None
    return _threads


def _options(mask, causal, window, softcap, sinks, alibi, scale, dropout, seed):
    left, right = window
    return dict(mask=mask, causal={0: False, 1: "top_left", 2: "bottom_right"}[causal],
                window=None if left < 0 and right < 0 else (left, right), softcap=softcap or None, sinks=sinks, alibi=alibi,
                scale=None if math.isnan(scale) else scale, dropout=dropout, seed=seed, threads=_pool())


@torch.library.custom_op("fovea::attention", mutates_args=())
def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Optional[torch.Tensor], sinks: Optional[torch.Tensor],
               alibi: Optional[torch.Tensor], causal: int, window: List[int], softcap: float, scale: float, dropout: float,
               seed: int) -> Tuple[torch.Tensor, torch.Tensor]:
    options = _options(mask, causal, window, softcap, sinks, alibi, scale, dropout, seed)
    out, lse = fovea.attention(q, k, v, return_lse=True, **options)
    return out, lse


@_attention.register_fake
def _(q, k, v, mask, sinks, alibi, causal, window, softcap, scale, dropout, seed):
    number = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty((*q.shape[:-1], v.shape[-1])), q.new_empty(q.shape[:-1], dtype=number)


@torch.library.custom_op("fovea::attention_backward", mutates_args=())
def _backward(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, lse: torch.Tensor, d_out: torch.Tensor,
              d_lse: Optional[torch.Tensor], mask: Optional[torch.Tensor], sinks: Optional[torch.Tensor],
              alibi: Optional[torch.Tensor], causal: int, window: List[int], softcap: float, scale: float, dropout: float,
              seed: int, wants_mask: bool, wants_sinks: bool) -> List[torch.Tensor]:
    options = _options(mask, causal, window, softcap, sinks, alibi, scale, dropout, seed)
    if wants_mask:
        options["d_bias"] = torch.empty(mask.shape, dtype=lse.dtype)
    if wants_sinks:
        options["d_sinks"] = torch.empty(sinks.shape, dtype=torch.float32)
    gradients = list(fovea.backward(q, k, v, out, lse, d_out, d_lse=d_lse, **options))
    gradients.append(options["d_bias"].to(mask.dtype) if wants_mask else q.new_empty(0))
    gradients.append(options["d_sinks"].to(sinks.dtype) if wants_sinks else q.new_empty(0))
    return gradients


@_backward.register_fake
def _(q, k, v, out, lse, d_out, d_lse, mask, sinks, alibi, causal, window, softcap, scale, dropout, seed, wants_mask,
      wants_sinks):
    like = [torch.empty_like(x) for x in (q, k, v)]
    like.append(torch.empty_like(mask) if wants_mask else q.new_empty(0))
    return [*like, torch.empty_like(sinks) if wants_sinks else q.new_empty(0)]


def _setup(ctx, inputs, output):
    q, k, v, mask, sinks, alibi, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, mask, sinks, alibi, *output)


def _differentiate(ctx, d_out, d_lse):
    q, k, v, mask, sinks, alibi, out, lse = ctx.saved_tensors
    wants_mask, wants_sinks = ctx.needs_input_grad[3], ctx.needs_input_grad[4]
    d_out = torch.zeros_like(out) if d_out is None else d_out
    d_q, d_k, d_v, d_mask, d_sinks = torch.ops.fovea.attention_backward(
        q, k, v, out, lse, d_out, d_lse, mask, sinks, alibi, *ctx.numbers, wants_mask, wants_sinks)
    return (d_q, d_k, d_v, d_mask if wants_mask else None, d_sinks if wants_sinks else None, None) + (None,) * 6


_attention.register_autograd(_differentiate, setup_context=_setup)


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: Optional[torch.Tensor] = None, causal=False,
              window=None, softcap: Optional[float] = None, sinks: Optional[torch.Tensor] = None,
              alibi: Optional[torch.Tensor] = None, scale: Optional[float] = None, dropout: float = 0.0, seed: int = 0,
              return_lse: bool = False):
    """fovea.attention as an operator: gradients by q, k, v, a mask of real numbers and sinks, and a fake for torch.compile.

    causal: True or "top_left", or "bottom_right"; window: (left, right) extra keys, or left alone; it starts from the causal
    diagonal. Takes as many threads as torch.get_num_threads()."""
    if isinstance(window, int):
        window = (window, -1 if causal else window)
    numbers = (_CAUSAL[causal], list(window or (-1, -1)), softcap or 0.0, math.nan if scale is None else scale, dropout, seed)
    if _is_plain(q, k, v, mask, sinks):
        return fovea.attention(q, k, v, return_lse=return_lse, **_options(mask, *numbers[:3], sinks, alibi, *numbers[3:]))
    out, lse = torch.ops.fovea.attention(q, k, v, mask, sinks, alibi, *numbers)
    return (out, lse) if return_lse else out


_CAUSAL = {False: 0, True: 1, "top_left": 1, "bottom_right": 2}


def _is_plain(*tensors) -> bool:
    """Whether nobody watches the call: no gradient is wanted, nothing is traced. An operator's way through PyTorch takes half
    as long again as a call for one token."""
    if torch.compiler.is_compiling() or type(tensors[0]) is not torch.Tensor:
        return False
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return False
    return torch._C._functorch.peek_interpreter_stack() is None and _get_current_dispatch_mode() is None


_sdpa = F.scaled_dot_product_attention


def _fits(query, key, value, attn_mask, dropout_p, enable_gqa) -> bool:
    if not 0 <= dropout_p < 1:
        return False
    if query.device.type != "cpu" or query.dtype not in _TYPES or key.dtype != query.dtype or value.dtype != query.dtype:
        return False
    if any(x.ndim not in (3, 4) or x.ndim != query.ndim or x.is_nested for x in (query, key, value)):
        return False
    if query.shape[0] != key.shape[0] or key.shape[0] != value.shape[0]:
        return False
    if query.ndim == 4 and query.shape[1] != key.shape[1] and not enable_gqa:
        return False
    if query.ndim == 4 and key.shape[1] != value.shape[1]:
        return False
    return attn_mask is None or attn_mask.dtype in (torch.bool, *_TYPES)


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None,
                                 enable_gqa=False):
    """torch.nn.functional.scaled_dot_product_attention by fovea, and by PyTorch where the tensors are none of fovea's: not on
    the CPU, of other types, nested, or of batches that broadcast; or where all weights are dropped."""
    if not _fits(query, key, value, attn_mask, dropout_p, enable_gqa):
        return _sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: attn_mask and is_causal are not given together")
    if query.ndim == 3:  # [batch, tokens, dim]: one head each, as a batch
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        mask = attn_mask if attn_mask is None or attn_mask.ndim < 3 else attn_mask.unsqueeze(1)
        return attention(query, key, value, mask=mask, causal=is_causal, dropout=dropout_p, seed=_seed(dropout_p),
                         scale=scale).squeeze(1)
    return attention(query, key, value, mask=attn_mask, causal=is_causal, dropout=dropout_p, seed=_seed(dropout_p), scale=scale)


def _seed(dropout: float) -> int:
    return int(torch.randint(2**62, ()).item()) if dropout else 0


def install() -> None:
    """torch.nn.functional.scaled_dot_product_attention is fovea's from now on (for code that looks it up there)."""
    F.scaled_dot_product_attention = scaled_dot_product_attention


def uninstall() -> None:
    """And PyTorch's own again."""
    F.scaled_dot_product_attention = _sdpa


@contextlib.contextmanager
def installed():
    """install(), and as it was afterwards."""
    before = F.scaled_dot_product_attention
    install()
    try:
        yield
    finally:
        F.scaled_dot_product_attention = before


def transformers_attention(module, query, key, value, attention_mask, scaling: Optional[float] = None, dropout: float = 0.0,
                           is_causal: Optional[bool] = None, sliding_window: Optional[int] = None,
                           softcap: Optional[float] = None, s_aux: Optional[torch.Tensor] = None, **_):
    """What transformers calls: [batch, heads, tokens, dim] in, [batch, tokens, heads, dim] out. The mask that it makes says
    causal, padding and window; without one, queries are the last tokens and these options say them."""
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal, window = False, None
    if attention_mask is None and is_causal and query.shape[2] > 1:
        causal = "bottom_right"
    if attention_mask is None and sliding_window is not None and key.shape[2] > sliding_window:
        causal, window = "bottom_right", (sliding_window - 1, 0)
    if attention_mask is not None and attention_mask.shape[-1] != key.shape[2]:
        attention_mask = attention_mask[..., :key.shape[2]]
    out = attention(query, key, value, mask=attention_mask, causal=causal, window=window, softcap=softcap, sinks=s_aux,
                    scale=scaling, dropout=dropout, seed=_seed(dropout))
    return out.transpose(1, 2).contiguous(), None


def register_transformers(name: str = "fovea") -> None:
    """attn_implementation="fovea" for transformers' models, with the masks of its "sdpa"."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, transformers_attention)
    AttentionMaskInterface.register(name, sdpa_mask)
