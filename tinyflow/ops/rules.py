"""Shape and type rules that many rows share, and scalar functions in which rows write their value at one index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyflow.core.dtypes import DType, bool_, int64
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr, apply, const, is_found
from tinyflow.graph.node import Dim, Shape, shape_text

# ------------------------------------------------------------------------------------------ scalar functions


def scalar(name: str) -> Callable[..., Expr]:
    """A function of values of one type."""
    return lambda *args: apply(name, *args)


def comparison(name: str) -> Callable[..., Expr]:
    return lambda a, b: apply(name, a, b, dtype=bool_)


def select(condition: Expr, a: Expr, b: Expr) -> Expr:
    return apply("select", condition, a, b, dtype=a.dtype)


def guard(condition: Expr, value: Expr, other: Expr) -> Expr:
    """`value` where the condition holds, else `other`; what `value` loads is touched only where it holds."""
    return value if condition is TRUE else apply("guard", condition, value, other, dtype=value.dtype)


def cast(x: Expr | int, dtype: DType) -> Expr:
    x = const(x) if isinstance(x, int) else x
    wide = x if x.dtype is dtype.computed else apply("cast", x, dtype=dtype.computed)
    return apply(f"round to {dtype.name}", wide) if dtype.is_low else wide


less = comparison("lt")
less_equal = comparison("le")
TRUE = const(True, bool_)


def both(*conditions: Expr) -> Expr:
    """All of them: TRUE where there is none."""
    total = TRUE
    for c in conditions:
        total = c if total is TRUE else total if c is TRUE else apply("and", total, c)
    return total


# ------------------------------------------------------------------------------------------ shapes


class Undecided(TypeError):
    """Whether sizes fit depends on data."""


def same_dim(a: Dim, b: Dim) -> bool:
    """Whether two sizes may be the same: a size known only when running may be any, but one that data tells is its own."""
    if a is not b and a != b and (is_found(a) or is_found(b)):
        raise Undecided(f"whether {a} is {b} depends on data")
    return not (isinstance(a, int) and isinstance(b, int)) or a == b


def same(*shapes: Shape, **_: Any) -> Shape:
    """All operands have one shape; a size known to one of them is known."""
    first = shapes[0]
    for other in shapes[1:]:
        if other == first:
            continue
        if len(other) != len(first) or not all(map(same_dim, first, other)):
            raise ShapeError(f"the shapes {' and '.join(map(shape_text, shapes))} differ")
        if other is not first:
            first = tuple(b if isinstance(b, int) else a for a, b in zip(first, other, strict=True))
    return first


def broadcast_shapes(*shapes: Shape) -> Shape:
    """numpy's rule: aligned at the last axis, sizes are equal or one of them is 1."""
    rank = max(map(len, shapes))
    result: list[Dim] = []
    for d in range(-rank, 0):
        sizes = [s[d] for s in shapes if len(s) >= -d and s[d] != 1]
        known = {n for n in sizes if isinstance(n, int)}
        if len({*sizes}) > 1 and any(map(is_found, sizes)):
            raise Undecided(f"whether {' and '.join(map(str, sizes))} are equal depends on data")
        if len(known) > 1:
            raise ShapeError(
                f"the shapes {' and '.join(map(shape_text, shapes))} do not broadcast: sizes "
                f"{' and '.join(map(str, sorted(known)))} meet at axis {d}; make them equal, or one of them 1"
            )
        result.append(known.pop() if known else sizes[0] if sizes else 1)
    return tuple(result)


def normal_axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis {axis} is out of range for a tensor of {ndim} dimensions; use {-ndim} to {ndim - 1}")
    return axis % ndim


# ------------------------------------------------------------------------------------------ types


def floating(*dtypes: DType, **_: Any) -> DType:
    """All operands are of one float type."""
    matching(*dtypes)
    if not dtypes[0].is_floating:
        raise ShapeError(f"takes float32 or float64, not {dtypes[0]}; cast it first")
    return dtypes[0]


def matching(*dtypes: DType, **_: Any) -> DType:
    first = dtypes[0]
    for d in dtypes:
        if d is first:
            continue
        raise ShapeError(f"the types {' and '.join(map(str, dtypes))} differ; cast one of them")
    return dtypes[0]


def numeric(*dtypes: DType, **_: Any) -> DType:
    if matching(*dtypes) is bool_:
        raise ShapeError("takes numbers, not bool; cast it first")
    return dtypes[0]


def truth(*dtypes: DType, **_: Any) -> DType:
    """Operands of one type; the result is bool."""
    matching(*dtypes)
    return bool_


def boolean(*dtypes: DType, **_: Any) -> DType:
    if any(d is not bool_ for d in dtypes):
        raise ShapeError(f"takes bool, not {' and '.join(map(str, dtypes))}; compare it with something first")
    return bool_


def attribute(*_: DType, dtype: DType, **__: Any) -> DType:
    """The type that the attribute `dtype` names."""
    return dtype


def index_type(*dtypes: DType, **_: Any) -> DType:
    return int64
