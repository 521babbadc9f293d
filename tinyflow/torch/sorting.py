"""Order and running folds: sort, topk, median, searchsorted, cumsum and the like."""

from __future__ import annotations

from typing import Any

from tinyflow.core.dtypes import bool_, int32, int64
from tinyflow.graph.node import Node
from tinyflow.ops import cumulative as c
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.ops import sorting as s
from tinyflow.ops.leaf import constant
from tinyflow.torch.functions import install
from tinyflow.torch.pointwise import result_type
from tinyflow.torch.reductions import TYPES, summed
from tinyflow.torch.shapes import normal_dim

# ------------------------------------------------------------------------------------------ order


def sort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """(values, indices) in ascending or descending order along an axis; of equal entries the earlier comes first."""
    if input.ndim == 0:
        return TYPES["sort"](input, f.zeros((), int64))
    return TYPES["sort"](*s.sort(input, normal_dim(dim, input.ndim), descending))


def argsort(input: Node, dim: int = -1, descending: bool = False, stable: bool = False) -> Node:
    return sort(input, dim, descending).indices


def topk(input: Node, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k greatest (or least) entries along an axis, and their places."""
    if input.ndim == 0:
        return TYPES["topk"](input, f.zeros((), int64))
    d = normal_dim(dim, input.ndim)
    if k < 0 or (isinstance(input.shape[d], int) and k > input.shape[d]):  # type: ignore[operator]
        raise RuntimeError("selected index k out of range")
    return TYPES["topk"](*s.top_k(input, k, d, largest))


def kthvalue(input: Node, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th least entry along an axis, and its place."""
    d = normal_dim(dim, input.ndim)
    if isinstance(input.shape[d], int) and not 1 <= k <= input.shape[d]:  # type: ignore[operator]
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}")
    return picked("kthvalue", input, kth_place(input, k, d), d, keepdim)


def kth_place(x: Node, k: Any, d: int) -> Node:
    begin = tuple(k - 1 if a == d else 0 for a in range(x.ndim))
    return m.slice_(s.argsort(x, d), begin, tuple(1 if a == d else n for a, n in enumerate(x.shape)))


def picked(kind: str, x: Node, place: Node, d: int, keepdim: bool) -> Any:
    """The entry at one place along an axis, and the place; the axis stays as 1, or goes."""
    values = ix.take_along(x, place, d)
    shape = values.shape if keepdim else tuple(n for a, n in enumerate(values.shape) if a != d)
    return TYPES[kind](m.reshape(values, shape), m.reshape(place, shape))


def median(input: Node, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle entry (the lower of two), and its place; NaN where there is one."""
    if dim is None:
        return median(m.reshape(input, (-1,)), 0).values
    d = normal_dim(dim, input.ndim)
    n: Any = input.shape[d]
    place = kth_place(input, (n + 1) // 2, d)
    if input.dtype.is_floating:
        nan = e.cast(e.not_equal(input, input), int32)
        place = e.where(e.less(0, r.max_(nan, d, keepdims=True)), m.expand_dims(r.argmax(nan, d), d), place)
    return picked("median", input, place, d, keepdim)


def searchsorted(sorted_sequence: Node, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None, sorter: Node | None = None) -> Node:  # fmt: skip
    """How many entries of a sorted row come before each value; with right=True, those equal to it too."""
    if side is not None and side not in ("left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    rows = sorted_sequence if sorter is None else ix.take_along(sorted_sequence, sorter, -1)
    x = input if isinstance(input, Node) else constant(input, result_type(rows, input))
    if rows.ndim > 1 and (rows.ndim != x.ndim or rows.shape[:-1] != x.shape[:-1]):
        raise RuntimeError(f"torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and input value tensor must match, but we got boundaries tensor {list(rows.shape)} and input value tensor {list(x.shape)}")  # fmt: skip
    flat = m.reshape(x, (-1,)) if rows.ndim == 1 else x
    kind = result_type(rows, x)
    found = s.searchsorted(e.cast(rows, kind), e.cast(flat, kind), right or side == "right")
    return e.cast(m.reshape(found, x.shape), int32 if out_int32 else int64)


def bucketize(input: Any, boundaries: Node, *, out_int32: bool = False, right: bool = False) -> Node:
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


# ------------------------------------------------------------------------------------------ running folds


def cumsum(input: Node, dim: int, *, dtype: Any = None) -> Node:
    """The sum of all entries up to each one along an axis."""
    x = summed(input, dtype)
    return c.cumsum(x, normal_dim(dim, x.ndim)) if x.ndim else x


def cumprod(input: Node, dim: int, *, dtype: Any = None) -> Node:
    """The product of all entries up to each one along an axis."""
    x = summed(input, dtype)
    return c.cumprod(x, normal_dim(dim, x.ndim)) if x.ndim else x


def running(name: str, fold: Any) -> Any:
    def call(input: Node, dim: int) -> Any:
        if input.ndim == 0:
            return TYPES[name](input, f.zeros((), int64))
        d = normal_dim(dim, input.ndim)
        x = e.cast(input, int32) if input.dtype is bool_ else input
        places = c.found_at(x, e.stop_gradient(fold(x, d)), d)
        return TYPES[name](ix.take_along(input, places, d), places)

    call.__doc__ = (
        f"The {'greatest' if name == 'cummax' else 'least'} entry up to each one along an axis, and its place."
    )
    return call


install(
    {
        "sort": sort,
        "argsort": argsort,
        "topk": topk,
        "kthvalue": kthvalue,
        "median": median,
        "msort": lambda input: sort(input, 0).values,
        "cumsum": cumsum,
        "cumprod": cumprod,
        "cummax": running("cummax", c.cummax),
        "cummin": running("cummin", c.cummin),
    },
    in_place="cumsum cumprod",
)
install({"searchsorted": searchsorted, "bucketize": bucketize}, methods=False)
