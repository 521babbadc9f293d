"""Values from outside the graph: constants, placeholders, variables, sizes and counters."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from tinyflow.core.dtypes import DType, as_dtype, bool_, float32, int32, int64
from tinyflow.core.expr import Expr, const
from tinyflow.graph.node import Dim, Node, Shape, make, new_uid
from tinyflow.graph.op import Sample, define
from tinyflow.ops.rules import attribute, cast


def unfed(**attrs: Any) -> Any:
    raise KeyError(f"{attrs['name']} has no value: it must be fed")


# fmt: off
#                          name           numpy meaning                             shape rule                       type       value at one index                                   gradient
CONSTANT    = define("constant",    numpy=lambda value, dtype: value,         shape=lambda **_: (),            dtype=attribute, at=lambda i, value, dtype: const(value, dtype),     grad=None, kind="at", elementwise=True)
PLACEHOLDER = define("placeholder", numpy=unfed,                              shape=lambda shape, **_: shape,  dtype=attribute, at=None,                                            grad=None, kind="leaf")
VARIABLE    = define("variable",    numpy=unfed,                              shape=lambda shape, **_: shape,  dtype=attribute, at=None,                                            grad=None, kind="leaf")
SIZE        = define("size",        numpy=lambda size, dtype: size,           shape=lambda **_: (),            dtype=attribute, at=lambda i, size, dtype: cast(size, dtype),        grad=None, kind="at", elementwise=True)
IOTA        = define("iota",        numpy=lambda size, dtype: np.arange(size, dtype=dtype.numpy), shape=lambda size, dtype: (size,), dtype=attribute, at=lambda i, size, dtype: cast(i[0], dtype),    grad=None, samples=(Sample((), {"size": 17, "dtype": float32}), Sample((), {"size": 5, "dtype": int32})))
# fmt: on


def constant(value: Any, dtype: DType | None = None) -> Node:
    """A scalar known when the graph is made: part of the program."""
    if dtype is None:
        dtype = bool_ if isinstance(value, bool) else int32 if isinstance(value, int) else float32
        dtype = as_dtype(value.dtype) if isinstance(value, np.generic) else dtype
    value = dtype.computed.numpy.type(value).item()
    value = math.nan if value != value else value  # the one NaN that equals itself, so that equal constants are one
    if value == 0 and math.copysign(1.0, value) < 0:  # 0.0 == -0.0 would make them one node
        return -make(CONSTANT, value=0.0, dtype=dtype)
    return make(CONSTANT, value=value, dtype=dtype)


def placeholder(dtype: DType, shape: Shape, name: str = "placeholder") -> Node:
    """A value given at each run."""
    node = make(PLACEHOLDER, name=name, number=new_uid(), shape=tuple(shape), dtype=dtype)
    for d in node.shape:
        if not isinstance(d, int):
            _owners.setdefault(d, node)
    return node


@lru_cache(maxsize=1024)
def _number(value: Any, exact: str, dtype: DType | None) -> Node:
    return constant(value, dtype)


def number(value: Any, dtype: DType | None) -> Node:
    """A constant; the usual ones are found without being made."""
    return _number(value, repr(value), dtype) if type(value) in (int, float) else constant(value, dtype)


_owners: WeakValueDictionary[Expr, Node] = WeakValueDictionary()


def owner(d: Expr) -> Node | None:
    """The placeholder that a symbolic dimension is the size of."""
    return _owners.get(d)


def variable(dtype: DType, shape: Shape, name: str = "variable") -> Node:
    """A value that lives in a store between runs."""
    return make(VARIABLE, name=name, number=new_uid(), shape=tuple(shape), dtype=dtype)


def size(d: Dim, dtype: DType = int64) -> Node:
    """A dimension as a scalar tensor."""
    return constant(d, dtype) if isinstance(d, int) else make(SIZE, size=d, dtype=dtype)


def iota(n: Dim, dtype: DType = int64) -> Node:
    """0, 1, ... n-1."""
    if dtype.is_low:
        from tinyflow.ops.elementwise import cast as cast_to

        return cast_to(iota(n, dtype.computed), dtype)
    return make(IOTA, size=n, dtype=dtype)


def is_constant(node: Node, value: float | None = None) -> bool:
    return node.op is CONSTANT and (value is None or node.attrs["value"] == value)
