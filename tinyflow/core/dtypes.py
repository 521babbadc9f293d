"""The element types: one row each, with their names in numpy and LLVM.

dtype := DType(name, numpy, llvm, size, kind)        kind in "b" bool, "u" unsigned, "i" signed, "f" float
"""

from __future__ import annotations

from typing import Any

import numpy as np


class DType:
    """An element type. There is one object per type, so `is` compares them."""

    __slots__ = ("kind", "llvm", "name", "numpy", "size")

    def __init__(self, name: str, llvm: str, kind: str) -> None:
        self.name, self.llvm, self.kind = name, llvm, kind
        self.numpy = np.dtype(name)
        self.size = self.numpy.itemsize

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return {"bool": "bool_"}.get(self.name, self.name)

    @property
    def is_floating(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def as_numpy_dtype(self) -> type:
        return self.numpy.type


# fmt: off
#                name       llvm      kind
float32 = DType("float32", "float",  "f")
float64 = DType("float64", "double", "f")
int32   = DType("int32",   "i32",    "i")
int64   = DType("int64",   "i64",    "i")
uint8   = DType("uint8",   "i8",     "u")
bool_   = DType("bool",    "i8",     "b")
# fmt: on

DTYPES = (float32, float64, int32, int64, uint8, bool_)
FROM_NUMPY = {d.numpy: d for d in DTYPES}


def as_dtype(given: Any) -> DType:
    """The DType that a DType, a numpy dtype or type, a Python type or a name stands for."""
    if isinstance(given, DType):
        return given
    try:
        return FROM_NUMPY[np.dtype(given)]
    except (KeyError, TypeError):
        known = ", ".join(d.name for d in DTYPES)
        raise TypeError(f"{given!r} is not an element type that tinyflow computes with; use one of {known}") from None


def promote(*dtypes: DType) -> DType:
    """The type that holds the values of all of them, as numpy promotes."""
    return as_dtype(np.result_type(*(d.numpy for d in dtypes)))
