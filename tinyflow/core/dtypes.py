"""The element types: one row each, with their names in numpy and LLVM.

dtype := DType(name, numpy, llvm, size, kind)        kind in "b" bool, "u" unsigned, "i" signed, "f" float

bfloat16 and float16 are how numbers are stored; what is computed with is float32, their type `computed`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np


class DType:
    """An element type. There is one object per type, so `is` compares them."""

    def __init__(self, name: str, llvm: str, kind: str, size: int, computed: DType | None = None) -> None:
        self.name, self.llvm, self.kind, self.size = name, llvm, kind, size
        self.computed = computed or self

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The type of arrays; numpy has bfloat16 from another package."""
        if self.name != "bfloat16":
            return np.dtype(self.name)
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError("arrays of bfloat16 need the package ml_dtypes: pip install 'tinyflow-dl[low]', or compute in float16 or float32") from None  # fmt: skip
        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return {"bool": "bool_"}.get(self.name, self.name)

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_low(self) -> bool:
        """Whether it is a type to store numbers in, but not to compute with."""
        return self.computed is not self

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def as_numpy_dtype(self) -> type:
        return self.numpy.type


# fmt: off
#                  name        llvm      kind size computed
float32  = DType("float32",  "float",  "f", 4)
float64  = DType("float64",  "double", "f", 8)
int32    = DType("int32",    "i32",    "i", 4)
int64    = DType("int64",    "i64",    "i", 8)
uint8    = DType("uint8",    "i8",     "u", 1)
bool_    = DType("bool",     "i8",     "b", 1)
bfloat16 = DType("bfloat16", "half",   "f", 2, float32)  # the first half of a float32; for LLVM, two bytes
float16  = DType("float16",  "half",   "f", 2, float32)
# fmt: on

DTYPES = (float32, float64, int32, int64, uint8, bool_)
LOW = (bfloat16, float16)
NAMED = {d.name: d for d in (*DTYPES, *LOW)}
FROM_NUMPY = {d.numpy: d for d in (*DTYPES, float16)}


def as_dtype(given: Any) -> DType:
    """The DType that a DType, a numpy dtype or type, a Python type or a name stands for."""
    if isinstance(given, DType):
        return given
    if given == "bfloat16":
        return bfloat16
    try:
        found = np.dtype(given)
        return FROM_NUMPY[found] if found in FROM_NUMPY else NAMED[found.name]
    except (KeyError, TypeError):
        known = ", ".join(NAMED)
        raise TypeError(f"{given!r} is not an element type that tinyflow computes with; use one of {known}") from None


def promote(*dtypes: DType) -> DType:
    """The type that holds the values of all of them, as numpy promotes."""
    low = [d for d in dtypes if d.is_low]
    if low and all(d is low[0] or not d.is_floating for d in dtypes):
        return low[0]
    return as_dtype(np.result_type(*(d.computed.numpy for d in dtypes)))
