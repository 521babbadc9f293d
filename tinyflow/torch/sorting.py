"""Order: sort, topk, median, by counting how many elements come before each one. n^2 comparisons, in one fused loop."""

from __future__ import annotations

from typing import Any

from tinyflow.core.dtypes import bool_, int64
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.torch.functions import install
from tinyflow.torch.reductions import TYPES
from tinyflow.torch.shapes import normal_dim


def ranks(x: Node, axis: int, descending: bool) -> Node:
    """How many entries along an axis come before each one; of equal ones the earlier does. NaN comes last, or first."""
    x = e.cast(x, int64) if x.dtype is bool_ else x
    n = x.shape[axis]
    shape = (*x.shape[:axis], n, n, *x.shape[axis + 1 :])
    mine, other = m.expand(m.expand_dims(x, axis + 1), shape), m.expand(m.expand_dims(x, axis), shape)
    before = e.less(mine, other) if descending else e.less(other, mine)
    same = e.equal(mine, other)
    if x.dtype.is_floating:
        mine_nan, other_nan = e.not_equal(mine, mine), e.not_equal(other, other)
        first, second = (other_nan, mine_nan) if descending else (mine_nan, other_nan)
        before = e.logical_or(before, e.logical_and(first, e.logical_not(second)))
        same = e.logical_or(same, e.logical_and(mine_nan, other_nan))
    earlier = e.less(f.position(shape, axis + 1), f.position(shape, axis))
    return r.sum_(e.cast(e.logical_or(before, e.logical_and(same, earlier)), int64), axis + 1)


def order(x: Node, axis: int, descending: bool) -> Node:
    """The places of the entries along an axis, in their order: the inverse of the ranks."""
    x = e.stop_gradient(x)
    last = (*(d for d in range(x.ndim) if d != axis), axis)
    rank = m.permute(ranks(x, axis, descending), last)
    places = ix.scatter_add(f.position(rank.shape, -1), rank, rank.shape[-1], batch=x.ndim - 1)
    return m.permute(places, m.inverse(last))


def sort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) in ascending or descending order along an axis."""
    if input.ndim == 0:
        return TYPES["sort"](input, f.zeros((), int64))
    d = normal_dim(dim, input.ndim)
    places = order(input, d, descending)
    return TYPES["sort"](ix.take_along(input, places, d), places)


def argsort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> Node:
    return sort(input, dim, descending).indices


def first(x: Node, k: int, d: int) -> Node:
    return m.slice_(x, (0,) * x.ndim, tuple(k if a == d else n for a, n in enumerate(x.shape)))


def topk(input: Node, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest (or least) entries along an axis, and their places."""
    d = normal_dim(dim, input.ndim)
    if input.ndim and isinstance(input.shape[d], int) and k > input.shape[d]:
        raise RuntimeError("selected index k out of range")
    places = first(order(input, d, largest), k, d)
    return TYPES["topk"](ix.take_along(input, places, d), places)


def kthvalue(input: Node, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th least entry along an axis, and its place."""
    d = normal_dim(dim, input.ndim)
    begin, size = (
        tuple(k - 1 if a == d else 0 for a in range(input.ndim)),
        tuple(1 if a == d else n for a, n in enumerate(input.shape)),
    )
    places = m.slice_(order(input, d, False), begin, size)
    values = ix.take_along(input, places, d)
    return TYPES["kthvalue"](*((values, places) if keepdim else (r.sum_(values, d), r.sum_(places, d))))


def median(input: Node, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle entry (the lower of two), and its place."""
    if dim is None:
        flat = m.reshape(input, (-1,))
        return kthvalue(flat, (flat.shape[0] + 1) // 2, 0).values  # type: ignore[operator]
    n: Any = input.shape[normal_dim(dim, input.ndim)]
    return TYPES["median"](*kthvalue(input, (n + 1) // 2, dim, keepdim))


install(
    {
        "sort": sort,
        "argsort": argsort,
        "topk": topk,
        "kthvalue": kthvalue,
        "median": median,
        "msort": lambda input: sort(input, 0).values,
    }
)
