"""Cumulative ops: each element is made of all the elements up to it along an axis.

    y[i] = x[0] + ... + x[i]           exclusive: up to x[i-1], the first is 0; reverse: from the end of the axis

Sums and products of floats are carried in float64, and rounded once for each element.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, float32, float64, int32
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, Shape, make
from tinyflow.graph.op import Op, Sample, define
from tinyflow.ops import elementwise as e
from tinyflow.ops.functions import position
from tinyflow.ops.indexing import scatter_add
from tinyflow.ops.movement import inverse, permute
from tinyflow.ops.rules import normal_axis, numeric, same

STEPS = {"cumsum": "add", "cumprod": "mul", "cummax": "max", "cummin": "min"}  # the scalar function of each row


def start_of(fn: str, dtype: Any) -> Any:
    """What stands before the first element."""
    if fn in ("add", "mul"):
        return int(fn == "mul")
    if dtype.kind == "f":
        return -np.inf if fn == "max" else np.inf
    return np.iinfo(dtype).min if fn == "max" else np.iinfo(dtype).max


def running(fold: Any, fn: str) -> Callable[..., Any]:
    def of(x: Any, axis: int, exclusive: bool, reverse: bool) -> Any:
        carried = np.float64 if x.dtype.kind == "f" and fn in ("add", "mul") else x.dtype
        x = np.moveaxis(x, axis, -1)
        turned = x[..., ::-1] if reverse else x
        y = fold.accumulate(turned, -1, dtype=carried).astype(x.dtype)
        if exclusive:
            first = np.full((*x.shape[:-1], 1), start_of(fn, x.dtype), x.dtype)
            y = np.concatenate([first, y], -1)[..., :-1]
        return np.moveaxis(y[..., ::-1] if reverse else y, -1, axis)

    return of


def sum_grad(g: Node, y: Node, x: Node, axis: int, exclusive: bool, reverse: bool) -> Node:
    return cumsum(g, axis, exclusive, not reverse)


def product_grad(g: Node, y: Node, x: Node, axis: int, exclusive: bool, reverse: bool) -> Node:
    """The sum of g y over all later elements, divided by x; to the first 0 of an axis goes what others multiply to."""
    zero = e.equal(x, 0.0)
    zeros = cumsum(e.cast(zero, x.dtype), axis, False, reverse)
    first = e.logical_and(zero, e.equal(zeros, 1.0))
    others = cumprod(e.where(first, 1.0, x), axis, exclusive, reverse)
    usual = cumsum(g * y, axis, exclusive, not reverse) / e.where(zero, 1.0, x)
    return e.where(first, cumsum(g * others, axis, exclusive, not reverse), e.where(e.equal(zeros, 0.0), usual, 0.0))


def extremum_grad(g: Node, y: Node, x: Node, axis: int, exclusive: bool, reverse: bool) -> Node:
    """All of it goes to where the extremum was found."""
    if exclusive or reverse:
        raise ShapeError(f"the gradient of an exclusive or reverse {y.op} is not built; flip what it is taken of")
    last = (*(d for d in range(x.ndim) if d != axis), axis)
    place = permute(found_at(x, y, axis), last)
    return permute(scatter_add(permute(g, last), place, x.shape[axis], batch=x.ndim - 1), inverse(last))


def found_at(x: Node, y: Node, axis: int) -> Node:
    """The last place, up to each element, of the running extremum y of x."""
    hit = e.logical_or(e.equal(x, y), e.not_equal(x, x))
    return cummax(e.where(hit, position(x.shape, axis), 0), axis)


S = ((3, 5, 17), float32, -1.5, 1.5)


def samples(*dtypes: DType, turned: bool = True) -> tuple[Sample, ...]:
    cases = [((3, 5, 17), 2, False, False), ((3, 5, 17), 1, False, False), ((40, 33), 0, False, False), ((2, 300), 1, False, False), ((0, 3), 0, False, False), ((3, 0), 1, False, False)]  # fmt: skip
    if turned:
        cases += [((3, 37), 1, True, False), ((3, 37), 1, False, True), ((33, 7), 0, True, True), ((2, 16), 1, True, True)]  # fmt: skip
    return tuple(
        Sample(((shape, d, -1.5, 1.5),), {"axis": axis, "exclusive": exclusive, "reverse": reverse})
        for d in dtypes
        for shape, axis, exclusive, reverse in cases[: None if d is dtypes[0] else 3]
    )


def shape_of(s: Shape, **_: Any) -> Shape:
    return same(s)


# fmt: off
#                    name       numpy meaning                            gradient             samples
CUMSUM  = define("cumsum",  numpy=running(np.add, "add"),         grad=sum_grad,       samples=samples(float32, float64, int32), shape=shape_of, dtype=numeric, at=None, kind="scan")
CUMPROD = define("cumprod", numpy=running(np.multiply, "mul"),    grad=product_grad,   samples=samples(float32, float64, int32), shape=shape_of, dtype=numeric, at=None, kind="scan")
CUMMAX  = define("cummax",  numpy=running(np.maximum, "max"),     grad=extremum_grad,  samples=samples(float32, int32, turned=False), shape=shape_of, dtype=numeric, at=None, kind="scan")
CUMMIN  = define("cummin",  numpy=running(np.minimum, "min"),     grad=extremum_grad,  samples=samples(float32, int32, turned=False), shape=shape_of, dtype=numeric, at=None, kind="scan")
# fmt: on


def cumulative(op: Op) -> Callable[..., Node]:
    def build(x: Node, axis: int, exclusive: bool = False, reverse: bool = False) -> Node:
        return make(op, x, axis=normal_axis(axis, x.ndim), exclusive=exclusive, reverse=reverse)

    build.__name__, build.__doc__ = op.name, f"{op.name} of the elements up to each one along an axis."
    return build


cumsum = cumulative(CUMSUM)
cumprod = cumulative(CUMPROD)
cummax = cumulative(CUMMAX)
cummin = cumulative(CUMMIN)
