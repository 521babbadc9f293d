"""Gather and its gradient, scatter. Indices are checked when a program runs: no memory outside is touched."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, float32, int32, int64
from tinyflow.core.errors import IndexOutOfRange, ShapeError
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Dim, Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops import elementwise as e
from tinyflow.ops.leaf import constant, iota
from tinyflow.ops.movement import expand, inverse, permute, reshape
from tinyflow.ops.rules import index_type, less_equal, matching, normal_axis, same_dim, select


def check_np(index: Any, size: int) -> None:
    bad = (index < 0) | (index >= size)
    if np.any(bad):
        raise IndexOutOfRange(
            f"index {index[bad].flat[0] if np.ndim(index) else index} is out of range for {size} entries"
        )


def gather_shape(s: Shape, index: Shape, batch: int) -> Shape:
    if len(s) <= batch or len(index) < batch:
        raise ShapeError(
            f"gather of {batch} batch axes wants more than {batch} axes; {shape_text(s)} and {shape_text(index)} have fewer"
        )
    return (*index, *s[batch + 1 :])


def gather_type(x: DType, index: DType, **_: Any) -> DType:
    if not index.is_integer:
        raise ShapeError(f"indices are int32 or int64, not {index}; cast them")
    return x


def gather_np(x: Any, index: Any, batch: int) -> Any:
    check_np(index, x.shape[batch])
    lead = np.ix_(*(np.arange(n) for n in index.shape[:batch])) if batch else ()
    lead = tuple(a.reshape(a.shape + (1,) * (index.ndim - batch)) for a in lead)
    return x[lead + (index,)]


def gather_at(i: Any, x: Any, index: Any, batch: int) -> Expr:
    at, inner = i[: len(index.shape)], i[len(index.shape) :]
    place = index.checked(at, x.shape[batch])
    value: Expr = x(*at[:batch], place, *inner)
    if isinstance(place, Expr) and place not in expr.walk(value):  # equal entries: the index is checked all the same
        return select(less_equal(expr.const(0), place), value, value)
    return value


def scatter_shape(u: Shape, index: Shape, batch: int, size: Dim) -> Shape:
    return (*index[:batch], size, *u[len(index) :])


def scatter_np(u: Any, index: Any, batch: int, size: int) -> Any:
    check_np(index, size)
    shape: Any = scatter_shape(u.shape, index.shape, batch, size)
    y = np.zeros(shape, u.dtype)
    lead = np.ix_(*(np.arange(n) for n in index.shape[:batch])) if batch else ()
    np.add.at(y, (*(a.reshape(a.shape + (1,) * (index.ndim - batch)) for a in lead), index), u)
    return y


def find_shape(s: Shape, size: Dim) -> Shape:
    return (size,)


def put_shape(x: Shape, u: Shape, index: Shape, batch: int) -> Shape:
    want = scatter_shape(u, index, batch, x[batch]) if len(index) >= batch < len(x) else ()
    if len(want) != len(x) or not all(map(same_dim, want, x)):
        raise ShapeError(f"{shape_text(u)} at indices {shape_text(index)} does not fit into {shape_text(x)}")
    return x


def put_type(x: DType, u: DType, index: DType, **_: Any) -> DType:
    return gather_type(matching(x, u), index)


def put_np(x: Any, u: Any, index: Any, batch: int) -> Any:
    """numpy's assignment takes the last of equal indices, but does not promise to."""
    check_np(index, x.shape[batch])
    y, k = x.copy(), index.shape[batch:]
    for b in np.ndindex(*index.shape[:batch]):
        for entry in np.ndindex(*k):
            y[b + (index[b + entry],)] = u[b + entry]
    return y


def onto_np(x: Any, u: Any, index: Any, batch: int) -> Any:
    return x + scatter_np(u, index, batch, x.shape[batch])


def put_grad(g: Node, y: Node, x: Node, u: Node, index: Node, batch: int) -> tuple[Node, Node, None]:
    """What was written over gets nothing: neither the old value, nor all but the last of equal indices."""
    k = index.shape[batch:]
    number = expand(reshape(iota(expr.product(k)), k), index.shape)
    none = expand(constant(-1, int64), x.shape[: batch + 1])
    last = e.equal(gather(scatter_set(none, number, index, batch), index, batch), number)
    stays = expand(reshape(last, (*last.shape, *(1,) * (u.ndim - last.ndim))), u.shape)
    return scatter_set(g, zeros_like(u), index, batch), e.where(stays, gather(g, index, batch), 0.0), None


def zeros_like(u: Node) -> Node:
    return expand(constant(0, u.dtype), u.shape)


_index = (((4, 3), int32, 0, 6), ((2, 9), int64, 0, 5))
# fmt: off
GATHER  = define("gather",      numpy=gather_np,  shape=gather_shape,  dtype=gather_type, at=gather_at,
                 grad=lambda g, y, x, index, batch: (scatter_add(g, index, x.shape[batch], batch), None),
                 samples=(Sample((((6, 17), float32, -1, 1), _index[0]), {"batch": 0}), Sample((((2, 5), float32, -1, 1), _index[1]), {"batch": 1}), Sample((((2, 5, 33), float32, -1, 1), _index[1]), {"batch": 1})))
SCATTER = define("scatter_add", numpy=scatter_np, shape=scatter_shape, dtype=gather_type, at=None, kind="into",
                 grad=lambda g, y, u, index, batch, size: (gather(g, index, batch), None),
                 samples=(Sample((((4, 3, 17), float32, -1, 1), _index[0]), {"batch": 0, "size": 6}), Sample((((2, 9), float32, -1, 1), _index[1]), {"batch": 1, "size": 5})))
PUT     = define("scatter_set", numpy=put_np,     shape=put_shape,     dtype=put_type,    at=None, kind="into", grad=put_grad,
                 samples=(Sample((((6, 17), float32, -1, 1), ((4, 3, 17), float32, -1, 1), _index[0]), {"batch": 0}), Sample((((2, 5), float32, -1, 1), ((2, 9), float32, -1, 1), _index[1]), {"batch": 1})))
ONTO    = define("scatter_onto", numpy=onto_np,  shape=put_shape,     dtype=put_type,    at=None, kind="into", grad=lambda g, y, x, u, index, batch: (g, gather(g, index, batch), None),
                 samples=(Sample((((6, 17), float32, -1, 1), ((4, 3, 17), float32, -1, 1), _index[0]), {"batch": 0}), Sample((((2, 5), float32, -1, 1), ((2, 9), float32, -1, 1), _index[1]), {"batch": 1})))
FIND    = define("find",        numpy=lambda x, size: np.flatnonzero(x), shape=find_shape, dtype=index_type, at=None, kind="find", grad=None, samples=())
# fmt: on
_sizes: WeakKeyDictionary[Node, Expr] = WeakKeyDictionary()


def find(x: Node) -> Node:
    """The places of the elements that are not zero, counted row by row. How many there are, the program finds out."""
    if x not in _sizes:
        _sizes[x] = expr.found_dim(f"found{x.uid}")
    return make(FIND, x, size=_sizes[x])


def gather(x: Node, index: Node, batch: int = 0) -> Node:
    """Entries of x by number: x (batch..., size, inner...), index (batch..., k...) -> (batch..., k..., inner...)."""
    return make(GATHER, x, index, batch=batch)


def scatter_add(u: Node, index: Node, size: Dim, batch: int = 0) -> Node:
    """Zeros (batch..., size, inner...) to which u (batch..., k..., inner...) is added at `index`; repeated indices add up."""
    return e.cast(make(SCATTER, e.cast(u, u.dtype.computed), index, batch=batch, size=size), u.dtype)


def scatter_set(x: Node, u: Node, index: Node, batch: int = 0) -> Node:
    """x (batch..., size, inner...) in which u (batch..., k..., inner...) stands at `index`; of equal indices the last one's."""
    return make(PUT, x, u, index, batch=batch)


def scatter_onto(x: Node, u: Node, index: Node, batch: int = 0) -> Node:
    """x (batch..., size, inner...) to which u (batch..., k..., inner...) is added at `index`; repeated indices add up."""
    total = make(ONTO, e.cast(x, x.dtype.computed), e.cast(u, u.dtype.computed), index, batch=batch)
    return e.cast(total, x.dtype)


def gather_axis(x: Node, index: Node, axis: int) -> Node:
    """Entries along any axis: x[..., index, ...]."""
    axis = normal_axis(axis, x.ndim)
    if axis == 0:
        return gather(x, index)
    first = (axis, *(d for d in range(x.ndim) if d != axis))
    y = gather(permute(x, first), index)
    k = index.ndim
    return permute(y, (*range(k, k + axis), *range(k), *range(k + axis, y.ndim)))


def take_along(x: Node, index: Node, axis: int) -> Node:
    """y[i, j] = x[index[i, j], j] along axis 0, and alike along others: one index per element."""
    axis = normal_axis(axis, x.ndim)
    if x.ndim != index.ndim:
        raise ShapeError(
            f"take_along: {shape_text(x.shape)} and {shape_text(index.shape)} have different numbers of axes"
        )
    last = (*(d for d in range(x.ndim) if d != axis), axis)
    y = gather(crop(permute(x, last), index, last), permute(index, last), batch=x.ndim - 1)
    return permute(y, inverse(last))


def crop(x: Node, index: Node, order: tuple[int, ...]) -> Node:
    """x cut to the sizes of the index on all axes but the last."""
    from tinyflow.ops.movement import slice_

    sizes = tuple(index.shape[d] for d in order[:-1])
    return slice_(x, (0,) * x.ndim, (*sizes, x.shape[-1]))


__all__ = [
    "FIND",
    "GATHER",
    "SCATTER",
    "expr",
    "find",
    "gather",
    "gather_axis",
    "scatter_add",
    "scatter_onto",
    "scatter_set",
    "take_along",
]
