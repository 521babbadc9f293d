"""Movement ops: each output element is one input element (or a fill). At lowering they are index arithmetic, and cost nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, float32, int32
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr, apply, const
from tinyflow.graph.node import Dim, Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops import rules
from tinyflow.ops.rules import TRUE, both, guard, matching, normal_axis, same_dim

# ------------------------------------------------------------------------------------------ expand


def as_value(e: Expr) -> Expr:
    """What a reader gives, by its type."""
    return e


def expand_shape(s: Shape, shape: Shape) -> Shape:
    fits = len(s) <= len(shape) and all(
        a == 1 or same_dim(a, b) for a, b in zip(reversed(s), reversed(shape), strict=False)
    )
    if not fits:
        raise ShapeError(f"{shape_text(s)} does not stretch to {shape_text(shape)}")
    return shape


def expand_at(i: Any, x: Any, shape: Shape) -> Expr:
    lead = len(shape) - len(x.shape)
    return as_value(x(*(0 if n == 1 else a for a, n in zip(i[lead:], x.shape, strict=True))))


def expand_grad(g: Node, y: Node, x: Node, shape: Shape) -> Node:
    """Stretching copies, so its gradient sums the copies."""
    from tinyflow.ops.reduction import sum_

    lead = len(shape) - len(x.shape)
    stretched = [lead + d for d, n in enumerate(x.shape) if n == 1 and shape[lead + d] != 1]
    return reshape(sum_(g, (*range(lead), *stretched)), x.shape)


# ------------------------------------------------------------------------------------------ reshape


def reshape_shape(s: Shape, shape: Shape) -> Shape:
    have, want = expr.product(s), expr.product(shape)
    if isinstance(have, int) and isinstance(want, int) and have != want:
        raise ShapeError(f"{shape_text(s)} has {have} elements, {shape_text(shape)} has {want}")
    return shape


def reshape_at(i: Any, x: Any, shape: Shape) -> Expr:
    return as_value(x(*split(flatten(i, shape), x.shape)))


def flatten(i: Sequence[expr.Index_], shape: Shape) -> expr.Index_:
    """The row-major position of an index."""
    flat: expr.Index_ = 0
    for a, n in zip(i, shape, strict=True):
        flat = flat * n + a
    return flat


def split(flat: expr.Index_, shape: Shape) -> list[expr.Index_]:
    """The index at a row-major position."""
    if 0 in shape:  # nothing lies there
        return [0] * len(shape)
    out: list[expr.Index_] = []
    inner: expr.Index_ = 1
    first = next((d for d, n in enumerate(shape) if n != 1), 0)  # what is left there is below its size
    for d in range(len(shape) - 1, -1, -1):
        whole = flat if inner == 1 else expr.floordiv(flat, inner)
        out.append(0 if shape[d] == 1 else whole if d == first else expr.mod(whole, shape[d]))
        inner = expr.mul(inner, shape[d])
    return out[::-1]


# ------------------------------------------------------------------------------------------ slice and pad


def slice_np(x: Any, begin: Any, size: Any, step: tuple[int, ...]) -> Any:
    picks = [np.arange(b, b + n * s, s)[:n] if n else np.arange(0) for b, n, s in zip(begin, size, step, strict=True)]
    return x[np.ix_(*picks)] if picks else x


def slice_shape(s: Shape, begin: Shape, size: Shape, step: tuple[int, ...]) -> Shape:
    for d, (n, b, m, k) in enumerate(zip(s, begin, size, step, strict=True)):
        ends = (b, b + (m - 1) * k) if isinstance(b, int) and isinstance(m, int) and m else ()
        if isinstance(n, int) and any(not 0 <= e < n for e in ends):
            raise ShapeError(f"a slice from {b} of {m} elements by {k} leaves axis {d} of {shape_text(s)}")
    return size


def pad_np(x: Any, low: Any, high: Any, interior: tuple[int, ...], value: float) -> Any:
    shape: Any = pad_shape(x.shape, low, high, interior, value)
    y = np.full(shape, value, x.dtype)
    y[
        tuple(
            slice(a, a + max((n - 1) * (k + 1) + 1, 0), k + 1) for a, n, k in zip(low, x.shape, interior, strict=True)
        )
    ] = x
    return y


def pad_shape(s: Shape, low: Shape, high: Shape, interior: tuple[int, ...], value: float) -> Shape:
    return tuple(a + n + k * (n - 1 if n != 0 else 0) + b for n, a, b, k in zip(s, low, high, interior, strict=True))


def pad_at(i: Any, x: Any, low: Shape, high: Shape, interior: tuple[int, ...], value: float) -> Expr:
    tests, index = [], []
    for a, n, lo, hi, k in zip(i, x.shape, low, high, interior, strict=True):
        j = expr.add(a, expr.mul(lo, -1))
        if k:
            tests.append(apply("eq", expr.mod(j, k + 1), 0, dtype=bool_))
        if lo != 0:
            tests.append(rules.less_equal(const(0), j))
        if hi != 0 or k:
            tests.append(rules.less(j, expr.mul(n, k + 1)))
        index.append(expr.inside(expr.floordiv(j, k + 1), n))
    return guard(both(*(t for t in tests if t is not TRUE)), x(*index), const(value, x.dtype))


# ------------------------------------------------------------------------------------------ concat


def concat_shape(*shapes: Shape, axis: int) -> Shape:
    first = shapes[0]
    for s in shapes[1:]:
        if len(s) != len(first) or any(
            d != axis and not same_dim(a, b) for d, (a, b) in enumerate(zip(first, s, strict=True))
        ):
            raise ShapeError(
                f"{' and '.join(map(shape_text, shapes))} do not join along axis {axis}: other sizes differ"
            )
    total: Dim = 0
    for s in shapes:
        total = total + s[axis]
    return (*first[:axis], total, *first[axis + 1 :])


def concat_at(i: Any, *xs: Any, axis: int) -> Expr:
    """The part that the index falls into, found by halving; each part's loads stay within it."""
    starts: list[Dim] = [0]
    for x in xs:
        starts.append(starts[-1] + x.shape[axis])

    def among(first: int, last: int) -> Expr:
        if last - first == 1:
            there = 0 if xs[first].shape[axis] == 1 else i[axis] - starts[first]
            return as_value(xs[first](*(there if d == axis else a for d, a in enumerate(i))))
        middle = (first + last) // 2
        after, before = among(middle, last), among(first, middle)
        inside = apply("le", starts[middle], i[axis], dtype=bool_)
        return guard(inside, after, guard(apply("not", inside), before, const(0, after.dtype)))

    return among(0, len(xs))


def concat_grad(g: Node, y: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    parts, start = [], 0
    for x in xs:
        parts.append(slice_(g, tuple(start if d == axis else 0 for d in range(g.ndim)), x.shape))
        start = start + x.shape[axis]  # type: ignore[assignment]
    return tuple(parts)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(order.index(d) for d in range(len(order)))


# fmt: off
A, B = ((3, 5, 4), float32, -1, 1), ((3, 1, 4), int32, -5, 5)
#                     name         numpy meaning                                   shape rule                                            value at one index                                                      gradient
EXPAND  = define("expand",   numpy=np.broadcast_to,                          shape=expand_shape,                                   at=expand_at,                                                           grad=expand_grad,
                 samples=(Sample((B,), {"shape": (2, 3, 7, 4)}), Sample((((), float32, -1, 1),), {"shape": (2, 19)}), Sample((((5, 1), float32, -1, 1),), {"shape": (5, 33)})))
RESHAPE = define("reshape",  numpy=lambda x, shape: np.reshape(x, shape),  shape=reshape_shape,                                  at=reshape_at,                                                          grad=lambda g, y, x, shape: reshape(g, x.shape),
                 samples=(Sample((A,), {"shape": (15, 4)}), Sample((A,), {"shape": (2, 30)}), Sample((((0, 3), float32, -1, 1),), {"shape": (3, 0)}), Sample((((1, 1), float32, -1, 1),), {"shape": ()})))
PERMUTE = define("permute",  numpy=lambda x, order: np.transpose(x, order),  shape=lambda s, order: tuple(s[d] for d in order),    at=lambda i, x, order: x(*(i[d] for d in inverse(order))),              grad=lambda g, y, x, order: permute(g, inverse(order)),
                 samples=(Sample((A,), {"order": (2, 0, 1)}), Sample((A,), {"order": (1, 0, 2)}), Sample((((33, 47), float32, -1, 1),), {"order": (1, 0)})))
SLICE   = define("slice",    numpy=slice_np,                                 shape=slice_shape,                                    at=lambda i, x, begin, size, step: x(*(b + a * s for a, b, s in zip(i, begin, step, strict=True))),
                 grad=lambda g, y, x, begin, size, step: slice_grad(g, x, begin, size, step),
                 samples=(Sample((A,), {"begin": (1, 0, 1), "size": (2, 3, 3), "step": (1, 2, 1)}), Sample((A,), {"begin": (2, 4, 3), "size": (3, 3, 4), "step": (-1, -2, -1)}), Sample((A,), {"begin": (0, 0, 0), "size": (3, 0, 4), "step": (1, 1, 1)})))
PAD     = define("pad",      numpy=pad_np,                                   shape=pad_shape,                                      at=pad_at,                                                              grad=lambda g, y, x, low, high, interior, value: slice_(g, low, x.shape, tuple(k + 1 for k in interior)),
                 samples=(Sample((A,), {"low": (1, 0, 2), "high": (0, 2, 1), "interior": (0, 0, 0), "value": 0.0}), Sample((A,), {"low": (0, 1, 0), "high": (1, 0, 17), "interior": (1, 0, 2), "value": 0.5})))
CONCAT  = define("concat",   numpy=lambda *xs, axis: np.concatenate(xs, axis), shape=concat_shape,                                 at=concat_at,                                                           grad=concat_grad, dtype=matching,
                 samples=(Sample((A, A), {"axis": 2}), Sample((A, ((3, 2, 4), float32, -1, 1), A), {"axis": 1}), Sample((((17,), float32, -1, 1), ((0,), float32, -1, 1), ((40,), float32, -1, 1)), {"axis": 0})))
# fmt: on


def slice_grad(g: Node, x: Node, begin: Shape, size: Shape, step: tuple[int, ...]) -> Node:
    """The gradient goes back to where the elements came from, zeros elsewhere."""
    turned = [d for d, s in enumerate(step) if s < 0]
    g = flip(g, turned)
    low = tuple(b + (n - 1) * s if s < 0 else b for b, n, s in zip(begin, size, step, strict=True))
    if any(n == 0 for n in size):
        from tinyflow.ops.functions import zeros

        return zeros(x.shape, g.dtype)
    high = tuple(n - (a + (m - 1) * builtin_abs(s) + 1) for n, a, m, s in zip(x.shape, low, size, step, strict=True))
    return pad(g, low, high, tuple(builtin_abs(s) - 1 for s in step))


builtin_abs = abs


def expand(x: Node, shape: Shape) -> Node:
    """x stretched to a shape by repeating axes of size 1 and adding axes in front; nothing is copied."""
    shape = tuple(shape)
    if x.shape == ():
        return make(EXPAND, x, shape=shape) if shape else x
    stretched = len(shape) != x.ndim or any(a == 1 and b != 1 for a, b in zip(x.shape, shape, strict=True))
    if not stretched:
        expand_shape(x.shape, shape)
        return x
    return make(EXPAND, x, shape=shape)


def reshape(x: Node, shape: Shape) -> Node:
    """The same elements in another shape; one size may be -1 and is then computed."""
    shape = tuple(shape)
    if any(isinstance(n, int) and n == -1 for n in shape):
        others = expr.product(n for n in shape if not (isinstance(n, int) and n == -1))
        whole = expr.product(x.shape)
        if isinstance(others, int) and (others == 0 or (isinstance(whole, int) and whole % others)):
            raise ShapeError(
                f"reshape({x.dtype} {shape_text(x.shape)}): {whole} elements do not fill {shape_text(shape)}"
            )
        rest = expr.floordiv(whole, others)
        shape = tuple(rest if isinstance(n, int) and n == -1 else n for n in shape)
    return x if shape == x.shape else make(RESHAPE, x, shape=shape)


def permute(x: Node, order: Sequence[int]) -> Node:
    """The axes in another order: y[i[order[0]], ...] = x[i]."""
    axes = tuple(normal_axis(d, x.ndim) for d in order)
    if sorted(axes) != list(range(x.ndim)):
        raise ShapeError(
            f"permute({x.dtype} {shape_text(x.shape)}): {tuple(order)} is not an order of its {x.ndim} axes"
        )
    return x if axes == tuple(range(x.ndim)) else make(PERMUTE, x, order=axes)


def slice_(x: Node, begin: Shape, size: Shape, step: Sequence[int] | None = None) -> Node:
    """size elements along each axis, from begin, every step-th."""
    steps = tuple(step) if step is not None else (1,) * x.ndim
    whole = all(isinstance(b, int) and b == 0 for b in begin) and tuple(size) == x.shape and all(s == 1 for s in steps)
    return x if whole else make(SLICE, x, begin=tuple(begin), size=tuple(size), step=steps)


def flip(x: Node, axes: Sequence[int]) -> Node:
    """The elements along some axes in reverse order."""
    axes = [normal_axis(a, x.ndim) for a in axes]
    begin = tuple(n - 1 if d in axes else 0 for d, n in enumerate(x.shape))
    return slice_(x, begin, x.shape, tuple(-1 if d in axes else 1 for d in range(x.ndim))) if axes else x


def pad(x: Node, low: Shape, high: Shape, interior: Sequence[int] | None = None, value: float = 0.0) -> Node:
    """x with `low` fills before, `high` after and `interior` between the elements of each axis."""
    inner = tuple(interior) if interior is not None else (0,) * x.ndim
    if all(isinstance(n, int) and n == 0 for n in (*low, *high, *inner)):
        return x
    return make(PAD, x, low=tuple(low), high=tuple(high), interior=inner, value=value)


def concat(xs: Sequence[Node], axis: int = 0) -> Node:
    """The tensors joined along an axis."""
    if not xs:
        raise ShapeError("concat of no tensors; give at least one")
    axis = normal_axis(axis, xs[0].ndim)
    return xs[0] if len(xs) == 1 else make(CONCAT, *xs, axis=axis)


def expand_dims(x: Node, axis: int) -> Node:
    axis = normal_axis(axis, x.ndim + 1)
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


def squeeze(x: Node, axes: Sequence[int] | None = None) -> Node:
    """x without some axes of size 1; without all of them if none is named."""
    gone = [d for d, n in enumerate(x.shape) if n == 1] if not axes else [normal_axis(a, x.ndim) for a in axes]
    if any(isinstance(x.shape[d], int) and x.shape[d] != 1 for d in gone):
        raise ShapeError(f"squeeze({x.dtype} {shape_text(x.shape)}): axes {gone} are not all of size 1")
    return reshape(x, tuple(n for d, n in enumerate(x.shape) if d not in gone))


def stack(xs: Sequence[Node], axis: int = 0) -> Node:
    """The tensors joined along a new axis."""
    return concat([expand_dims(x, axis) for x in xs], axis if axis >= 0 else axis + xs[0].ndim + 1)
