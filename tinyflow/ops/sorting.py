"""Order along the last axis: where the elements of a row belong, first to last. NaN counts as the greatest number.

Equal elements keep their order. The rows give places; the values are gathered at them, and so are gradients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bool_, float32, float64, int32, int64, uint8
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops import elementwise as e
from tinyflow.ops.indexing import take_along
from tinyflow.ops.movement import inverse, permute, slice_
from tinyflow.ops.rules import cast, guard, index_type, less, less_equal, normal_axis, same_dim, select

MOST = 1 << 32  # elements of a row: a place is 32 bits while it is sorted
FEW = 64  # so many of a row are found in one pass over it


def argsort_np(x: Any, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, -1, kind="stable")
    return x.shape[-1] - 1 - np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]


def argsort_shape(s: Shape, descending: bool) -> Shape:
    if not s:
        raise ShapeError("a scalar has no order; give it an axis")
    if isinstance(s[-1], int) and s[-1] >= MOST:
        raise ShapeError(f"{s[-1]} elements in a row are more than the {MOST} that can be sorted; cut the row")
    return s


def top_shape(s: Shape, k: int, largest: bool) -> Shape:
    argsort_shape(s, largest)
    if k < 0 or (isinstance(s[-1], int) and k > s[-1]):
        raise ShapeError(f"the first {k} of rows of {s[-1]} elements; k is 0 to {s[-1]}")
    return (*s[:-1], k)


def search_np(rows: Any, x: Any, right: bool) -> Any:
    side: Any = "right" if right else "left"
    n, m = rows.shape[-1], x.shape[-1]
    count = math.prod(x.shape[:-1])
    pairs = zip(rows.reshape(count, n), x.reshape(count, m), strict=True)
    return np.array([np.searchsorted(row, v, side) for row, v in pairs], np.int64).reshape(x.shape)


def search_shape(s: Shape, x: Shape, right: bool) -> Shape:
    if not s or len(s) != len(x) or not all(map(same_dim, s[:-1], x[:-1])):
        raise ShapeError(f"rows {shape_text(s)} and what is sought in them {shape_text(x)} differ before the last axis")
    return x


def search_at(i: Any, rows: Any, x: Any, right: bool) -> Expr:
    """Steps of halved lengths: the elements before `low` come before x, and `step` more if the last of them does."""
    n, v = rows.shape[-1], x(*i)
    low: Any = 0
    step = 1 << max((n if isinstance(n, int) else MOST).bit_length() - 1, 0)
    while step and n != 0:
        fits = less_equal(expr.as_expr(expr.add(low, step)), expr.as_expr(n))
        y = guard(fits, rows(*i[:-1], expr.inside(expr.add(low, step - 1), n)), v)
        before = less_equal(y, v) if right else less(y, v)
        if v.dtype.is_floating:  # NaN is the greatest
            known, nan = expr.apply("eq", y, y, dtype=bool_), expr.apply("ne", v, v, dtype=bool_)
            before = expr.apply("or", before, expr.apply("and", nan, known if not right else expr.const(True, bool_)))
        low = select(expr.apply("and", fits, before), expr.as_expr(expr.add(low, step)), expr.as_expr(low))
        step //= 2
    return cast(low, int64)


def first_of(n: Any, least: int, most: int) -> tuple[Sample, ...]:
    return tuple(Sample((((3, n), d, -9, 9),), {"k": k, "largest": largest}) for k in (least, most) for largest, d in ((True, float32), (False, int32)))  # fmt: skip


_SORTED = tuple(
    Sample(((shape, d, -9 if d is not uint8 else 0, 9),), {"descending": descending})
    for shape, d, descending in (
        ((3, 5, 17), float32, False), ((3, 5, 17), float32, True), ((2, 300), float32, False), ((2, 300), int32, True), ((2, 70), int64, False), ((2, 70), float64, True),
        ((2, 70), float64, False), ((2, 40), int64, True), ((3, 90), uint8, True), ((3, 9), uint8, False), ((2, 80), bool_, False), ((0, 3), float32, False), ((3, 0), float32, True), ((4, 1), int32, False),
    )
)  # fmt: skip

# fmt: off
#                   name            numpy meaning                                                                  shape rule               at            gradient   samples
ARGSORT = define("argsort",     numpy=argsort_np,                                                              shape=argsort_shape,     at=None,      grad=None, samples=_SORTED, dtype=index_type, kind="sort")
TOP     = define("top_k",       numpy=lambda x, k, largest: argsort_np(x, largest)[..., :k],                   shape=top_shape,         at=None,      grad=None, samples=(*first_of(8, 2, 8), *first_of(100, 1, 5), *first_of(1000, 3, FEW), *first_of(3, 0, 3)), dtype=index_type, kind="sort")
SEARCH  = define("searchsorted", numpy=search_np,                                                              shape=search_shape,      at=search_at, grad=None, dtype=index_type,
                 samples=tuple(Sample((((2, n), d, 3, 4), ((2, 33), d, 2, 5)), {"right": right}) for n, d in ((1, float32), (1, int64), (7, int32), (16, int64)) for right in (False, True)))  # rows of one number are sorted
# fmt: on


def argsort(x: Node, axis: int = -1, descending: bool = False) -> Node:
    """The places of the elements along an axis, least (or greatest) first; of equal ones the earlier comes first."""
    last = turned(x, axis)
    return permute(make(ARGSORT, e.stop_gradient(permute(x, last)), descending=descending), inverse(last))


def sort(x: Node, axis: int = -1, descending: bool = False) -> tuple[Node, Node]:
    """The elements along an axis in order, and their places."""
    places = argsort(x, axis, descending)
    return take_along(x, places, axis), places


def top_k(x: Node, k: int, axis: int = -1, largest: bool = True) -> tuple[Node, Node]:
    """The k greatest (or least) elements along an axis in order, and their places."""
    last = turned(x, axis)
    row = permute(x, last)
    shape = top_shape(row.shape, k, largest)
    n = row.shape[-1]
    if row.dtype.size < 8 and (k <= FEW or (isinstance(n, int) and n <= FEW)):
        places = make(TOP, e.stop_gradient(row), k=k, largest=largest)
    else:
        places = slice_(make(ARGSORT, e.stop_gradient(row), descending=largest), (0,) * row.ndim, shape)
    places = permute(places, inverse(last))
    return take_along(x, places, axis), places


def turned(x: Node, axis: int) -> tuple[int, ...]:
    """The order of the axes with one of them last."""
    axis = normal_axis(axis, x.ndim)
    return (*(d for d in range(x.ndim) if d != axis), axis)


def searchsorted(rows: Node, x: Node, right: bool = False) -> Node:
    """How many elements of a sorted row come before x (with `right`, those equal to x too): rows (..., n), x (..., m)."""
    return make(SEARCH, rows, x, right=right)


__all__ = ["ARGSORT", "SEARCH", "TOP", "DType", "argsort", "searchsorted", "sort", "top_k"]
