"""The compiled library's C functions (include/fovea/compiled/fovea.h), by ctypes, which lets other threads run meanwhile."""
import ctypes
import os
import pathlib
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p

F32, F64, BF16, F16, I8, U8, I32, I64, U64 = range(1, 10)


class Error(Structure):
    _fields_ = [("status", c_int32), ("message", c_char * 508)]


class Tensor(Structure):
    _fields_ = [("data", c_void_p), ("element", c_int32), ("reserved", c_int32)] + [
        (name, c_int64) for name in ("batch", "heads", "tokens", "dim", "batch_stride", "head_stride", "token_stride",
                                     "dim_stride")]


class List(Structure):
    _fields_ = [("data", c_void_p), ("element", c_int32), ("reserved", c_int32), ("count", c_int64), ("stride", c_int64)]


class Mask(Structure):
    pass


Mask._fields_ = [("size_of_this", c_size_t), ("kind", c_int32), ("from_", c_int32), ("left", c_int64), ("right", c_int64),
                 ("offset", c_int64), ("has_offset", c_int32), ("axes", c_int32), ("size", c_int64), ("size2", c_int64),
                 ("list", List), ("list2", List), ("matrix", Tensor), ("sizes", c_int64 * 3), ("kernel", c_int64 * 3),
                 ("dilation", c_int64 * 3), ("causal_axes", c_int32 * 3), ("reserved", c_int32), ("window", c_int64),
                 ("global_", c_int64), ("random", c_int64), ("seed", c_uint64), ("parts", POINTER(Mask)),
                 ("part_count", c_int64)]


class Score(Structure):
    _fields_ = [("size_of_this", c_size_t), ("kind", c_int32), ("one_direction", c_int32), ("value", c_double),
                ("list", List), ("gradient_list", List), ("matrix", Tensor), ("gradient", Tensor), ("offset", c_int64),
                ("max_distance", c_int64), ("height", c_int64), ("width", c_int64)]


class Call(Structure):
    _fields_ = [("size_of_this", c_size_t), ("q", Tensor), ("k", Tensor), ("v", Tensor), ("o", Tensor), ("lse", Tensor),
                ("caches", POINTER(c_void_p)), ("cache_count", c_int64), ("query_offsets", List), ("key_offsets", List),
                ("masks", POINTER(Mask)), ("mask_count", c_int64), ("scores", POINTER(Score)), ("score_count", c_int64),
                ("sink", List), ("sink_gradient", List), ("off_by_one", c_int32), ("has_scale", c_int32),
                ("scale", c_double), ("dropout_rate", c_double), ("dropout_seed", c_uint64), ("threads", c_void_p),
                ("executor", c_void_p), ("workspace", c_void_p), ("workspace_bytes", c_size_t)]


class Gradients(Structure):
    _fields_ = [("size_of_this", c_size_t), ("d_o", Tensor), ("d_lse", Tensor), ("d_q", Tensor), ("d_k", Tensor),
                ("d_v", Tensor)]


class Statistics(Structure):
    _fields_ = [("size_of_this", c_size_t)] + [(name, c_void_p) for name in ("entropy", "distance", "largest", "mass", "lse",
                                                                             "key", "visible")]


class CacheOptions(Structure):
    _fields_ = [("size_of_this", c_size_t), ("kind", c_int32), ("element", c_int32)] + [
        (name, c_int64) for name in ("heads", "dim", "value_dim", "capacity", "sinks")] + [("pool", c_void_p)]


class PoolOptions(Structure):
    _fields_ = [("size_of_this", c_size_t), ("element", c_int32), ("reserved", c_int32)] + [
        (name, c_int64) for name in ("heads", "dim", "value_dim", "pages", "page_tokens")]


def _load():
    """The library beside this file, or the one that FOVEA_LIBRARY names."""
    here = pathlib.Path(__file__).parent
    named = os.environ.get("FOVEA_LIBRARY")
    found = [named] if named else [str(here / name) for name in ("libfovea.so", "libfovea.dylib", "fovea.dll")]
    for path in found:
        if os.path.exists(path):
            return ctypes.CDLL(path)
    raise ImportError(f"fovea: no compiled library at {', '.join(found)}")


library = _load()
library.fovea_version.restype = library.fovea_isa.restype = c_char_p
for _name in ("fovea_pool_free_pages", "fovea_cache_tokens", "fovea_cache_position", "fovea_cache_bytes"):
    getattr(library, _name).restype = c_int64
for _name in ("fovea_pool_free_pages", "fovea_cache_tokens", "fovea_cache_position", "fovea_cache_bytes",
              "fovea_threads_destroy", "fovea_pool_destroy", "fovea_cache_destroy"):
    getattr(library, _name).argtypes = [c_void_p]


def sized(structure):
    """Says its size, as the library asks of a structure."""
    structure.size_of_this = ctypes.sizeof(structure)
    return structure


def run(name, *arguments):
    """Calls a function of the library; what it refuses is a ValueError, MemoryError or RuntimeError with its sentence."""
    error = Error()
    status = getattr(library, name)(*arguments, byref(error))
    if status:
        kind = {1: ValueError, 2: ValueError, 3: MemoryError}.get(status, RuntimeError)
        raise kind(error.message.decode())
