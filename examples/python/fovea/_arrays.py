"""Arrays of any library as the C library sees them: a pointer, sizes and strides; nothing is copied."""
import ctypes

import numpy as np

from . import _library as lib

_ELEMENTS = {"float32": lib.F32, "float64": lib.F64, "bfloat16": lib.BF16, "float16": lib.F16, "int8": lib.I8,
             "uint8": lib.U8, "bool": lib.U8, "int32": lib.I32, "int64": lib.I64, "uint64": lib.U64}


_codes = {}


def element_code(dtype, name):
    """Of a numpy or torch dtype, or its name."""
    code = _codes.get(dtype)
    if code is None:
        text = str(getattr(dtype, "name", dtype)).replace("torch.", "")
        if text not in _ELEMENTS:
            raise ValueError(f"fovea: {name} has elements {text}, not one of {', '.join(_ELEMENTS)}")
        code = _codes[dtype] = _ELEMENTS[text]
    return code


class Array:
    """A pointer, sizes and strides (in elements) of an array, which `source` keeps alive."""

    def __init__(self, x, name):
        if hasattr(x, "data_ptr") and hasattr(x, "stride"):  # torch: numpy has no bfloat16 to go by
            if x.device.type != "cpu":
                raise ValueError(f"fovea: {name} lies on {x.device}, not on the cpu")
            self.source, self.pointer = x, x.data_ptr()
            self.shape, self.strides, self.dtype = tuple(x.shape), tuple(x.stride()), x.dtype
            self.writable = True
        else:
            if not isinstance(x, np.ndarray):
                x = np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)
            if any(step % x.itemsize for step in x.strides):
                raise ValueError(f"fovea: {name} has strides of {x.strides} bytes, of elements of {x.itemsize}")
            self.source, self.pointer = x, x.ctypes.data
            self.shape, self.dtype = x.shape, x.dtype
            self.strides = tuple(step // x.itemsize for step in x.strides)
            self.writable = x.flags.writeable
        self.name, self.element = name, element_code(self.dtype, name)

    def tensor(self, dims=4):
        """As batch x heads x tokens x dim; sizes in front that it lacks are 1."""
        if not 1 <= len(self.shape) <= 4:
            raise ValueError(f"fovea: {self.name} has {len(self.shape)} dimensions, not 1 to 4")
        more = 4 - len(self.shape)
        return lib.Tensor(self.pointer, self.element, 0, *((1,) * more + self.shape), *((0,) * more + self.strides))

    def list(self):
        """One-dimensional, of numbers."""
        if len(self.shape) != 1:
            raise ValueError(f"fovea: {self.name} has {len(self.shape)} dimensions, not 1")
        return lib.List(self.pointer, self.element, 0, self.shape[0], self.strides[0])


def given(x, name):
    """q, k, v and the like: 4-D, 3-D without a batch or 2-D of one head."""
    array = Array(x, name)
    if not 2 <= len(array.shape) <= 4:
        raise ValueError(f"fovea: {name} has {len(array.shape)} dimensions, not 2, 3 or 4")
    return array


def written(x, name):
    array = given(x, name)
    if not array.writable:
        raise ValueError(f"fovea: {name} can not be written")
    return array


def empty_like(array, shape, dtype=None):
    """An array of the same library; dtype: another name of elements."""
    if hasattr(array.source, "new_empty"):
        kind = getattr(__import__("torch"), dtype) if dtype else array.dtype
        return array.source.new_empty(shape, dtype=kind)
    return np.empty(shape, dtype or array.dtype)


def sum_type(array):
    """What sums are made in, and LSE and weights are given in."""
    return "float64" if array.element == lib.F64 else "float32"


def numbers(x, name, integers=False):
    """A list of numbers: an array, or what numpy makes one of."""
    if not hasattr(x, "data_ptr") and not isinstance(x, np.ndarray):
        x = np.asarray(x, np.int64 if integers else np.float64)
    return Array(x, name)


def pointer_array(kind, items):
    """A C array of structures."""
    return (kind * len(items))(*items) if items else ctypes.POINTER(kind)()
