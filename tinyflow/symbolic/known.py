"""What is known of a tensor's values before the run: what turns a shape tensor back into dimensions.

    values(node) -> array of int | Expr                        tf.shape(x)[0] * 2 is n * 2

An int that only a run can tell becomes a dimension too, the length of a leaf that the run makes that long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, int32, int64, uint8
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Dim, Node, Shape, is_static, toposort
from tinyflow.ops import leaf
from tinyflow.ops.functions import full
from tinyflow.ops.movement import concat, reshape, slice_
from tinyflow.symbolic.world import NotYet

# ------------------------------------------------------------------------------------------ arrays in a graph

arrays: WeakKeyDictionary[Node, np.ndarray] = WeakKeyDictionary()  # leaves whose value never changes
_equal: WeakValueDictionary[Any, Node] = WeakValueDictionary()
SHARED = 65536  # bytes up to which equal arrays are one node


def array(value: np.ndarray, dtype: DType, name: str = "Const") -> Node:
    """An array as a node: a scalar or one number everywhere is part of the program, others are kept beside it."""
    value = np.array(value, dtype.numpy, order="C")
    if value.ndim == 0:
        return leaf.constant(value[()], dtype)
    if value.size and (value.ravel()[0] == value).all() and not (value == 0).all():
        return full(value.shape, value.ravel()[0], dtype)
    if value.size and not np.any(value) and not np.any(np.signbit(value)):
        return full(value.shape, 0, dtype)
    key = (dtype, value.shape, value.tobytes()) if value.nbytes <= SHARED else None
    node = _equal.get(key) if key else None
    if node is None:
        node = leaf.variable(dtype, value.shape, name)
        value.setflags(write=False)
        arrays[node] = value
        if key:
            _equal[key] = node
    return node


def scalars(dims: Shape, dtype: DType = int32) -> Node:
    """Dimensions as a vector (len(dims),)."""
    if is_static(dims):
        return array(np.array(dims, dtype.numpy), dtype)
    return concat([reshape(leaf.size(d, dtype), (1,)) for d in dims])


# ------------------------------------------------------------------------------------------ values

_carriers: WeakKeyDictionary[Node, Node] = WeakKeyDictionary()
_sources: dict[Node, Node] = {}


def dim_of(node: Node) -> Expr:
    """The dimension whose size is the value of a scalar node: that of a leaf, its carrier, which each run makes so long."""
    if node not in _carriers:
        carrier = _carriers[node] = leaf.placeholder(uint8, (expr.fresh_dim("v"),), f"value of {node.label}")
        _sources[carrier] = node
    return _carriers[node].shape[0]


def source(carrier: Node) -> Node | None:
    """The scalar node whose value is the length of a carrier; None for other leaves."""
    return _sources.get(carrier)


def is_value(dim: Expr) -> bool:
    """Whether a dimension is the value of a scalar, rather than a size of what is fed."""
    return leaf.owner(dim) in _sources


def each(fn: Callable[..., Any]) -> Callable[..., Any]:
    return np.frompyfunc(fn, 2, 1)


# fmt: off
RULES: dict[str, Callable[..., Any]] = {
    "constant": lambda n: n.attrs["value"],
    "size":     lambda n: n.attrs["size"],
    "iota":     lambda n: np.arange(n.attrs["size"]) if isinstance(n.attrs["size"], int) else None,
    "cast":     lambda n, x: x,
    "stop_gradient": lambda n, x: x,
    "after":    lambda n, x, *others: x,
    "add":      lambda n, a, b: a + b,
    "sub":      lambda n, a, b: a - b,
    "mul":      lambda n, a, b: a * b,
    "neg":      lambda n, a: -a,
    "floordiv": lambda n, a, b: each(expr.floordiv)(a, b),
    "mod":      lambda n, a, b: each(expr.mod)(a, b),
    "maximum":  lambda n, a, b: each(expr.maximum)(a, b),
    "minimum":  lambda n, a, b: each(expr.minimum)(a, b),
    "sum":      lambda n, x: np.sum(x, axis=n.attrs["axes"]),
    "prod":     lambda n, x: np.prod(x, axis=n.attrs["axes"]),
    "concat":   lambda n, *xs: np.concatenate(xs, n.attrs["axis"]),
    "expand":   lambda n, x: np.broadcast_to(x, n.shape),
    "reshape":  lambda n, x: np.reshape(x, n.shape),
    "permute":  lambda n, x: np.transpose(x, n.attrs["order"]),
    "slice":    lambda n, x: n.op.numpy(x, **n.attrs),
    "gather":   lambda n, x, i: n.op.numpy(x, i.astype(np.int64), **n.attrs),
}
# fmt: on


def values(node: Node) -> np.ndarray | None:
    """The elements of an integer tensor, each an int or a dimension; None if not even their number is known."""
    found: dict[Node, Any] = {}
    for x in toposort([node], stop=lambda n: not n.dtype.is_integer or n in arrays):
        got = None
        if x in arrays and x.dtype.is_integer:
            got = arrays[x]
        elif (
            x.dtype.is_integer
            and x.op.name in RULES
            and is_static(x.shape)
            and all(found[i] is not None for i in x.inputs)
        ):
            try:
                got = RULES[x.op.name](x, *(found[i] for i in x.inputs))
            except (TypeError, ValueError, IndexError):
                got = None
        if got is None and x.dtype in (int32, int64) and is_static(x.shape):
            got = unknown(x)
        found[x] = None if got is None else np.array(got, dtype=object).reshape(x.shape)
    return found[node]


def unknown(x: Node) -> np.ndarray:
    """A dimension for every element."""
    flat = reshape(x, (int(np.prod(x.shape, dtype=int)),))
    dims = [dim_of(reshape(slice_(flat, (k,), (1,)), ())) for k in range(flat.shape[0])]
    return np.array(dims, dtype=object)


def dims(node: Node) -> tuple[Dim, ...]:
    """The dimensions that a shape tensor stands for: a vector of ints, or one int. NotYet if their number is unknown."""
    found = values(node)
    if found is None:
        raise NotYet(f"the number of axes is the number of elements of {node}, which is not known; give it a shape")
    return tuple(d if isinstance(d, Expr) else int(d) for d in found.reshape(-1))


def scalar(node: Node) -> Dim:
    """The dimension that an int stands for."""
    return dims(node)[0]
