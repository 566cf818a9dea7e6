from typing import Any, Dict, List, Literal, Optional, Tuple, TypeVar, Union, overload

import numpy as np

from . import masks as masks
from ._caches import Cache as Cache, KVCache as KVCache, PagedCache as PagedCache, PagePool as PagePool
from ._caches import RingCache as RingCache, Threads as Threads

Array = TypeVar("Array")
Causal = Union[bool, Literal["top_left", "bottom_right"]]
Window = Union[None, int, Tuple[int, int]]
Keys = Union[Cache, List[Cache], Any]

__version__: str
isa: str

@overload
def attention(q: Array, k: Keys, v: Any = ..., *, return_lse: Literal[False] = ..., out: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Array: ...
@overload
def attention(q: Array, k: Keys, v: Any = ..., *, return_lse: Literal[True], out: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Tuple[Array, Array]: ...
def backward(q: Array, k: Array, v: Array, out: Array, lse: Array, d_out: Array, *, d_lse: Any = ..., d_bias: Any = ...,
    d_alibi: Any = ..., d_t5_bias: Any = ..., d_swin_bias: Any = ..., d_bias_table: Any = ..., d_gate: Any = ...,
    d_sinks: Any = ..., dropout: float = ..., seed: int = ...,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., gate: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Tuple[Array, Array, Array]: ...
def weights(q: Array, k: Keys, *,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Array: ...
def logits(q: Array, k: Keys, *,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Array: ...
def statistics(q: Any, k: Keys, *,
    mask: Any = ..., causal: Causal = ..., window: Window = ..., softcap: Optional[float] = ..., sinks: Any = ...,
    alibi: Any = ..., alibi_offset: int = ..., bias: Any = ..., key_lengths: Any = ..., t5_bias: Any = ...,
    t5_bidirectional: bool = ..., t5_max_distance: int = ..., swin_bias: Any = ...,
    swin_window: Optional[Tuple[int, int]] = ..., bias_table: Any = ..., slots: Any = ..., off_by_one: bool = ...,
    scale: Optional[float] = ..., query_offsets: Any = ..., key_offsets: Any = ..., threads: Optional[Threads] = ...) -> Dict[str, np.ndarray]: ...
def rotate(x: Array, cos: Any, sin: Any, *, first: int = ..., interleaved: bool = ..., out: Any = ...) -> Array: ...
