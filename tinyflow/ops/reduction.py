"""Reductions: some axes are folded away. The rows keep no axis; `keepdims` of the functions is a reshape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, float32, float64, int32
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, Shape, make, shape_text
from tinyflow.graph.op import Op, Sample, define
from tinyflow.ops import elementwise as e
from tinyflow.ops.movement import expand, reshape
from tinyflow.ops.rules import index_type, normal_axis

Axes = tuple[int, ...]


def reduced_shape(s: Shape, axes: Axes) -> Shape:
    return tuple(n for d, n in enumerate(s) if d not in axes)


def kept_shape(s: Shape, axes: Axes) -> Shape:
    return tuple(1 if d in axes else n for d, n in enumerate(s))


def folded_at(fn: str) -> Callable[..., Expr]:
    """fn over new indices on the axes, the output's index on the others."""

    def at(i: Any, x: Any, axes: Axes) -> Expr:
        over = [expr.axis(x.shape[d], f"k{d}" if len(axes) > 1 else "k") for d in axes]
        kept = iter(i)
        inner = iter(over)
        body = x(*(next(inner) if d in axes else next(kept) for d in range(len(x.shape))))
        return expr.fold(fn, [k for k in over if isinstance(k, expr.Index)], body)

    return at


def argument_at(fn: str) -> Callable[..., Expr]:
    def at(i: Any, x: Any, axes: Axes) -> Expr:
        (d,) = axes
        k = expr.index(x.shape[d], "k")
        return expr.fold(fn, (k,), x(*i[:d], k, *i[d:]), int_index)

    return at


int_index = index_type()


def back(g: Node, x: Node, axes: Axes) -> Node:
    """A reduced tensor stretched over the axes it lost."""
    return expand(reshape(g, kept_shape(x.shape, axes)), x.shape)


def sum_np(x: Any, axes: Axes) -> Any:
    return np.sum(x, axis=axes, dtype=x.dtype)


def extremum_np(fold: Any) -> Callable[..., Any]:
    """Of nothing it is the value that changes nothing: sizes may turn out to be 0."""

    def of(x: Any, axes: Axes) -> Any:
        ends = (
            (False, True)
            if x.dtype == bool
            else (-np.inf, np.inf)
            if x.dtype.kind == "f"
            else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        )
        return fold.reduce(x, axis=axes, initial=ends[fold is np.minimum])

    return of


def extremum_grad(g: Node, y: Node, x: Node, axes: Axes) -> Node:
    """Shared equally among all elements that attain it."""
    best = e.cast(e.equal(x, back(y, x, axes)), g.dtype)
    return best * back(g / sum_(best, axes), x, axes)


def prod_grad(g: Node, y: Node, x: Node, axes: Axes) -> Node:
    """g times the product of the others, right also where factors are zero."""
    zero = e.equal(x, 0.0)
    zeros = sum_(e.cast(zero, x.dtype), axes)
    others = prod(e.where(zero, 1.0, x), axes)
    no_zero, one_zero = e.where(e.equal(zeros, 0.0), others, 0.0), e.where(e.equal(zeros, 1.0), others, 0.0)
    return back(g, x, axes) * e.where(zero, back(one_zero, x, axes), back(no_zero, x, axes) / e.where(zero, 1.0, x))


SHAPES = (
    ((3, 5, 17), (2,)),
    ((3, 5, 17), (0, 2)),
    ((40, 33), (0,)),
    ((40, 33), (0, 1)),
    ((0, 3), (1,)),
    ((4, 1), (1,)),
    ((2, 1023), (1,)),
)


def samples(*dtypes: Any, low: float = -2, high: float = 2, empty: bool = True) -> tuple[Sample, ...]:
    return tuple(Sample(((shape, d, low, high),), {"axes": axes}) for d in dtypes for shape, axes in (SHAPES if d is dtypes[0] else SHAPES[:3])) + (
        (Sample((((3, 0), dtypes[0], low, high),), {"axes": (1,)}),) if empty else ()
    )  # fmt: skip


# fmt: off
#                 name       numpy meaning                                                      value at one index         gradient                                                        samples
SUM    = define("sum",    numpy=sum_np,                                                    at=folded_at("add"),       grad=lambda g, y, x, axes: back(g, x, axes),                    samples=samples(float32, float64, int32), shape=reduced_shape)
PROD   = define("prod",   numpy=lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype),      at=folded_at("mul"),       grad=prod_grad,                                                 samples=samples(float32, low=0.5, high=1.5), shape=reduced_shape)
MAX    = define("max",    numpy=extremum_np(np.maximum),                                      at=folded_at("max"),       grad=extremum_grad,                                             samples=samples(float32, float64, int32, bool_, empty=False), shape=reduced_shape)
MIN    = define("min",    numpy=extremum_np(np.minimum),                                      at=folded_at("min"),       grad=extremum_grad,                                             samples=samples(float32, int32, bool_, empty=False), shape=reduced_shape)
ARGMAX = define("argmax", numpy=lambda x, axes: np.argmax(x, axis=axes[0]),                at=argument_at("argmax"),  grad=None, dtype=index_type, samples=tuple(Sample(((s, d, -4, 4),), {"axes": a}) for s, a in ((((3, 5, 17), (2,)), ((9, 33), (0,)), ((5, 10), (1,)))) for d in (float32, int32)), shape=reduced_shape)
ARGMIN = define("argmin", numpy=lambda x, axes: np.argmin(x, axis=axes[0]),                at=argument_at("argmin"),  grad=None, dtype=index_type, samples=(Sample((((9, 33), float32, -4, 4),), {"axes": (1,)}),), shape=reduced_shape)
# fmt: on


def reduction(op: Op, least: int = 0) -> Callable[..., Node]:
    """The function of a row; `least` is the size an axis must have at least."""

    def build(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
        chosen = tuple(range(x.ndim)) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
        chosen = tuple(sorted({normal_axis(a, x.ndim) for a in chosen}))
        if any(isinstance(x.shape[d], int) and x.shape[d] < least for d in chosen):  # type: ignore[operator]
            raise ShapeError(f"{op.name}({x.dtype} {shape_text(x.shape)}): nothing to reduce along an axis of size 0")
        if x.dtype.is_low and op in (SUM, PROD):  # in float32 to the end, also where it is made in parts
            return e.cast(build(e.cast(x, x.dtype.computed), chosen, keepdims), x.dtype)
        y = make(op, x, axes=chosen) if chosen else x
        return reshape(y, kept_shape(x.shape, chosen)) if keepdims else y

    build.__name__, build.__doc__ = op.name, f"{op.name} of x over some axes; over all if none is named."
    return build


sum_ = reduction(SUM)
prod = reduction(PROD)
max_ = reduction(MAX, 1)
min_ = reduction(MIN, 1)


def argmax(x: Node, axis: int) -> Node:
    """The position (int64) of the first greatest element along an axis."""
    return argument(ARGMAX, x, axis)


def argmin(x: Node, axis: int) -> Node:
    """The position (int64) of the first least element along an axis."""
    return argument(ARGMIN, x, axis)


def argument(op: Op, x: Node, axis: int) -> Node:
    d = normal_axis(axis, x.ndim)
    if x.shape[d] == 0:
        raise ShapeError(f"{op.name}({x.dtype} {shape_text(x.shape)}): axis {axis} has no elements")
    return make(op, x, axes=(d,))


def mean(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """The sum over some axes divided by how many elements there were."""
    from tinyflow.ops.leaf import size

    total = sum_(x, axes, keepdims)
    chosen = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    count = expr.product(x.shape[normal_axis(a, x.ndim)] for a in set(chosen))
    if x.dtype.is_integer:
        return e.floordiv(total, e.maximum(e.broadcast(total, size(count, x.dtype))[1], 1))
    return total / size(count, x.dtype)
