from typing import Any, Dict, List, Literal, Optional, Tuple, TypeVar, Union, overload

import numpy as np

from . import masks as masks
from ._caches import Cache as Cache, KVCache as KVCache, PagedCache as PagedCache, PagePool as PagePool
from ._caches import RingCache as RingCache, Threads as Threads

_Array = TypeVar("_Array")
_Causal = Union[bool, Literal["top_left", "bottom_right"]]
_Window = Union[None, int, Tuple[int, int]]
_Keys = Union[Cache, List[Cache], Any]

__all__ = ["Cache", "KVCache", "PagePool", "PagedCache", "RingCache", "Threads", "attention", "backward", "isa", "logits",
           "masks", "rotate", "statistics", "weights"]
__version__: str
isa: str

@overload
def attention(q: _Array, k: _Keys, v: Any = ..., *, return_lse: Literal[False] = ..., out: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> _Array: ...
@overload
def attention(q: _Array, k: _Keys, v: Any = ..., *, return_lse: Literal[True], out: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Tuple[_Array, _Array]: ...
@overload
def attention(q: _Array, k: _Keys, v: Any = ..., *, return_lse: bool, out: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Union[_Array, Tuple[_Array, _Array]]: ...
def backward(q: _Array, k: _Array, v: _Array, out: _Array, lse: _Array, d_out: _Array, *, d_lse: Any = ..., d_bias: Any = ...,
    d_alibi: Any = ..., d_t5_bias: Any = ..., d_swin_bias: Any = ..., d_bias_table: Any = ..., d_gate: Any = ...,
    d_sinks: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Tuple[_Array, _Array, _Array]: ...
def weights(q: _Array, k: _Keys, *,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> _Array: ...
def logits(q: _Array, k: _Keys, *,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> _Array: ...
def statistics(q: Any, k: _Keys, *,
    mask: Any = ..., causal: _Causal = ..., window: _Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Dict[str, np.ndarray]: ...
def rotate(x: _Array, cos: Any, sin: Any, *, first: int = ..., interleaved: bool = ..., out: Any = ...) -> _Array: ...
