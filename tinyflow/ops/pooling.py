"""Pooling and resampling: each result is made of a few neighbours along some axes, and so is each gradient.

    window o of an axis holds the places     s o + d k - low,   k < window         s the stride, d the dilation

What lies outside counts nothing. `spread` is the way back: each place asks the windows that it is in. Nothing is
scattered, so both directions fuse, run in parallel and give the same sums for any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bool_, float32, int32, int64
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr, Index_, const
from tinyflow.graph.node import Dim, Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops.movement import split
from tinyflow.ops.rules import both, cast, guard, index_type, less, less_equal, matching, numeric, same_dim, select


class Windows(NamedTuple):
    """The windows of an image along some of its axes; one number for each of them."""

    axes: tuple[int, ...]
    sizes: tuple[Dim, ...]  # of the image
    out: tuple[Dim, ...]  # how many windows there are
    window: tuple[int, ...]
    stride: tuple[int, ...]
    low: tuple[Dim, ...]
    dilation: tuple[int, ...]

    @property
    def area(self) -> int:
        return int(np.prod(self.window))

    def shape(self, s: Shape, of: Sequence[Dim]) -> Shape:
        sizes = dict(zip(self.axes, of, strict=True))
        return tuple(sizes.get(d, n) for d, n in enumerate(s))


def rows(w: Windows) -> Iterator[tuple[int, Dim, Dim, int, int, Dim, int]]:
    """(axis, size, out, window, stride, low, dilation) of each axis."""
    return zip(*w, strict=True)


# ------------------------------------------------------------------------------------------ meaning


def parts(w: Windows) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """For each place of a window: which windows have it inside, and where it lies there, as slices."""
    whole = slice(None)
    for k in np.ndindex(*w.window):
        windows, places = [whole] * (max(w.axes) + 1), [whole] * (max(w.axes) + 1)
        for (axis, size, out, _, s, low, d), j in zip(rows(w), k, strict=True):
            away: Any = d * j - low
            first = max(-(away // s), 0)
            stop = max(min((size - 1 - away) // s + 1, out), first)
            windows[axis] = slice(first, stop)
            places[axis] = slice(s * first + away, s * stop + away if stop > first else s * first + away, s)
        yield tuple(windows), tuple(places)


def seen(x: Any, w: Windows, fill: Any) -> Any:
    """(..., out, ..., window): what each window sees; `fill` outside."""
    shape: Any = (*w.shape(x.shape, w.out), w.area)
    y = np.full(shape, fill, x.dtype)
    for number, (windows, places) in enumerate(parts(w)):
        y[..., number][windows] = x[places]
    return y


def lowest(dtype: Any) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def spread_np(g: Any, *a: Any, windows: Windows) -> Any:
    shape: Any = windows.shape(g.shape, windows.sizes)
    x = np.zeros(shape, g.dtype)
    for number, (inside, places) in enumerate(parts(windows)):
        x[places] += g[inside] * (a[0][inside] == number) if a else g[inside]
    return x


# ------------------------------------------------------------------------------------------ shapes and values


def pool_shape(s: Shape, *a: Shape, windows: Windows) -> Shape:
    if not all(same_dim(s[d], n) for d, n in zip(windows.axes, windows.sizes, strict=True)):
        raise ShapeError(f"windows of an image of {shape_text(windows.sizes)} along {windows.axes} of {shape_text(s)}")
    return windows.shape(s, windows.out)


def spread_shape(s: Shape, *a: Shape, windows: Windows) -> Shape:
    return windows.shape(s, windows.sizes)


def place(i: Any, k: Sequence[Index_], w: Windows) -> tuple[list[Index_], list[Expr]]:
    """Where the k-th place of window i lies, and what must hold for it to be inside."""
    index, tests = list(i), []
    for (axis, size, out, window, s, low, d), j in zip(rows(w), k, strict=True):
        p = expr.add(expr.mul(i[axis], s), expr.add(expr.mul(j, d), expr.mul(low, -1)))
        if low != 0:
            tests.append(less_equal(const(0), expr.as_expr(p)))
        end = s * (out - 1) + d * (window - 1) - low
        if not (isinstance(end, int) and isinstance(size, int) and end < size):
            tests.append(less(expr.as_expr(p), expr.as_expr(size)))
        index[axis] = expr.inside(p, size)
    return index, tests


def folded(fn: str) -> Any:
    """fn over the places of a window."""

    def at(i: Any, x: Any, windows: Windows) -> Expr:
        k = [expr.axis(n, f"k{d}") for d, n in enumerate(windows.window)]
        index, tests = place(i, k, windows)
        fill = const(0 if fn == "add" else lowest(x.dtype.numpy), x.dtype)
        return expr.fold(fn, [j for j in k if isinstance(j, expr.Index)], guard(both(*tests), x(*index), fill))

    return at


def argument_at(i: Any, x: Any, windows: Windows) -> Expr:
    """Which place of its window is the greatest: the first of equal ones."""
    k = expr.index(windows.area, "k")
    index, tests = place(i, split(k, windows.window), windows)
    value = guard(both(*tests), x(*index), const(lowest(x.dtype.numpy), x.dtype))
    return cast(expr.fold("argmax", (k,), value, int64), int32)


def pick_at(i: Any, x: Any, a: Any, windows: Windows) -> Expr:
    """The k-th place of its window, for k given to each window."""
    k: Index_ = cast(a(*i), int64)
    index, _ = place(i, split(expr.inside(k, windows.area), windows.window), windows)
    inside = [t for axis, size in zip(windows.axes, windows.sizes, strict=True) for t in (less_equal(const(0), expr.as_expr(index[axis])), less(expr.as_expr(index[axis]), expr.as_expr(size)))]  # fmt: skip
    return guard(both(*inside), x(*index), const(0, x.dtype))


def spread_at(i: Any, g: Any, *a: Any, windows: Windows) -> Expr:
    """The sum over the windows that a place is in: o = (i + low) // s - t, for as many t as can be."""
    index, tests = list(i), []
    over: list[expr.Index] = []
    number: Index_ = 0
    for axis, size, out, window, s, low, d in rows(windows):
        reach = d * (window - 1) + 1
        t = expr.axis(-(-reach // s), f"t{axis}")
        p = expr.add(i[axis], low)
        o = expr.add(expr.floordiv(p, s), expr.mul(t, -1))
        behind = expr.add(expr.mod(p, s), expr.mul(t, s))  # the distance from where the window begins
        if isinstance(t, expr.Index):
            over.append(t)
            tests.append(less_equal(const(0), expr.as_expr(o)))
        last = expr.floordiv(expr.add(size, expr.add(low, -1)), s)
        if not (isinstance(last, int) and isinstance(out, int) and last < out):
            tests.append(less(expr.as_expr(o), expr.as_expr(out)))
        if -(-reach // s) * s != reach:
            tests.append(less(expr.as_expr(behind), const(reach)))
        if d != 1:
            tests.append(expr.apply("eq", expr.mod(behind, d), 0, dtype=bool_))
        index[axis] = expr.inside(o, out)
        number = expr.add(expr.mul(number, window), expr.floordiv(behind, d))
    value = g(*index)
    if a:
        mine = expr.apply("eq", cast(a[0](*index), int64), expr.as_expr(number), dtype=bool_)
        value = select(mine, value, const(0, g.dtype))
    return expr.fold("add", over, guard(both(*tests), value, const(0, g.dtype)))


# ------------------------------------------------------------------------------------------ resampling


def resample_shape(x: Shape, index: Shape, weight: Shape, back: Shape, _: Shape, axis: int) -> Shape:
    if len(index) != 2 or index != weight or back[1:] != x[axis : axis + 1]:
        raise ShapeError(
            f"{shape_text(x)} resampled along {axis} by tables of {shape_text(index)} and {shape_text(back)}"
        )
    return (*x[:axis], index[1], *x[axis + 1 :])


def resample_np(x: Any, index: Any, weight: Any, back: Any, back_weight: Any, axis: int) -> Any:
    from tinyflow.ops.indexing import check_np

    check_np(index, x.shape[axis])
    wide = np.moveaxis(np.take(x, index, axis), (axis, axis + 1), (-2, -1))  # (..., taps, out)
    y = np.where(weight != 0, wide * weight, 0).sum(-2, dtype=x.dtype)
    return np.moveaxis(y, -1, axis)


def resample_at(i: Any, x: Any, index: Any, weight: Any, back: Any, back_weight: Any, axis: int) -> Expr:
    t = expr.axis(index.shape[0], "t")
    w = weight(t, i[axis])
    used = expr.apply("ne", w, const(0, w.dtype), dtype=bool_)
    value = expr.apply("mul", x(*i[:axis], index.checked((t, i[axis]), x.shape[axis]), *i[axis + 1 :]), w)
    return expr.fold("add", [t] if isinstance(t, expr.Index) else [], select(used, value, const(0, w.dtype)))


def resample_type(x: DType, index: DType, weight: DType, back: DType, back_weight: DType, axis: int) -> DType:
    return matching(x, weight, back_weight)


_W = (
    Windows((1, 2), (6, 7), (3, 3), (2, 2), (2, 2), (0, 0), (1, 1)), Windows((1, 2), (6, 7), (3, 4), (3, 3), (2, 2), (1, 1), (1, 1)),
    Windows((2,), (37,), (17,), (3,), (2,), (1,), (2,)), Windows((0, 2), (5, 33), (5, 31), (1, 3), (1, 1), (0, 0), (1, 1)), Windows((1,), (9,), (2,), (2,), (5,), (0,), (3,)),
)  # fmt: skip


def _samples(of: str, *dtypes: DType, picked: bool = False) -> tuple[Sample, ...]:
    found = []
    for w in _W:
        base = [3, 4, 5]
        shape = w.shape(tuple(base), getattr(w, of))
        a = ((w.shape(tuple(base), w.out), int32, 0, w.area),) if picked else ()
        found += [Sample(((shape, d, -1, 1), *a), {"windows": w}) for d in dtypes]
    return tuple(found)


# fmt: off
#                      name            numpy meaning                                                          shape rule             value at one index   gradient                                                                              samples
POOL_MAX = define("pool_max",    numpy=lambda x, windows: seen(x, windows, lowest(x.dtype)).max(-1),          shape=pool_shape, dtype=numeric, at=folded("max"),   grad=lambda g, y, x, windows: spread(g, windows, pool_argmax(x, windows)),             samples=_samples("sizes", float32, int32))
POOL_ARG = define("pool_argmax", numpy=lambda x, windows: seen(x, windows, lowest(x.dtype)).argmax(-1).astype(np.int32), shape=pool_shape, at=argument_at, grad=None, dtype=lambda x, windows: int32,                                           samples=_samples("sizes", float32))
POOL_SUM = define("pool_sum",    numpy=lambda x, windows: seen(x, windows, 0).sum(-1, dtype=x.dtype),         shape=pool_shape, dtype=numeric, at=folded("add"),   grad=lambda g, y, x, windows: spread(g, windows),                                      samples=_samples("sizes", float32, int32))
POOL_PICK = define("pool_pick",  numpy=lambda x, a, windows: np.take_along_axis(seen(x, windows, 0), a[..., None], -1)[..., 0], shape=pool_shape, at=pick_at, grad=lambda g, y, x, a, windows: (spread(g, windows, a), None),                       samples=_samples("sizes", float32, picked=True))
SPREAD   = define("pool_spread", numpy=spread_np,                                                             shape=spread_shape,   at=spread_at,        grad=lambda G, y, g, *a, windows: (pool_pick(G, a[0], windows), None) if a else pool_sum(G, windows), samples=(*_samples("out", float32), *_samples("out", float32, picked=True)))
RESAMPLE = define("resample",    numpy=resample_np,                                                           shape=resample_shape, at=resample_at,      grad=lambda g, y, x, i, w, back, bw, axis: (resample(g, back, bw, i, w, axis), None, None, None, None), dtype=resample_type,
                  samples=())
# fmt: on


def windows_of(x: Node, axes: Sequence[int], window: Sequence[int], stride: Sequence[int], low: Sequence[Dim], out: Sequence[Dim], dilation: Sequence[int]) -> Windows:  # fmt: skip
    sizes = tuple(x.shape[d] for d in axes)
    return Windows(tuple(axes), sizes, tuple(out), tuple(window), tuple(stride), tuple(low), tuple(dilation))


def pool_max(x: Node, windows: Windows) -> Node:
    """The greatest of each window; the gradient goes to the first that attains it."""
    return make(POOL_MAX, x, windows=windows)


def pool_argmax(x: Node, windows: Windows) -> Node:
    """Which place of its window (int32, counted row by row) is the greatest."""
    return make(POOL_ARG, x, windows=windows)


def pool_sum(x: Node, windows: Windows) -> Node:
    """The sum of each window; what lies outside the image counts 0."""
    return make(POOL_SUM, x, windows=windows)


def pool_pick(x: Node, a: Node, windows: Windows) -> Node:
    """The a-th place of each window; 0 outside the image."""
    return make(POOL_PICK, x, a, windows=windows)


def spread(g: Node, windows: Windows, a: Node | None = None) -> Node:
    """For each place of the image, the sum of g over the windows that it is in; with `a`, that it is the a-th place of."""
    return make(SPREAD, g, *(() if a is None else (a,)), windows=windows)


def resample(x: Node, index: Node, weight: Node, back: Node, back_weight: Node, axis: int) -> Node:
    """Weighted means of a few entries along an axis: y[o] = sum over t of weight[t, o] x[index[t, o]].

    `back` and `back_weight` are the same table from the other side: for each entry, the results that it is in.
    """
    return make(RESAMPLE, x, index, weight, back, back_weight, axis=axis)


def taps(index: Sequence[Sequence[int]], weight: Sequence[Sequence[float]], n: int) -> tuple[Any, Any, Any, Any]:
    """The tables of `resample`, of the entries and the weights that each result is made of, and of n entries."""
    asked: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for o, (entries, weights) in enumerate(zip(index, weight, strict=True)):
        for i, w in zip(entries, weights, strict=True):
            asked[i].append((o, w))
    back = ([[o for o, _ in a] for a in asked], [[w for _, w in a] for a in asked])
    return (*table(index, weight), *table(*back))


def table(index: Sequence[Sequence[int]], weight: Sequence[Sequence[float]]) -> tuple[Any, Any]:
    """As arrays (taps, results); where there are fewer taps, the last one again with no weight."""
    count = max(map(len, index), default=0) or 1
    places, weights = np.zeros((count, len(index)), np.int32), np.zeros((count, len(index)))
    for o, (i, w) in enumerate(zip(index, weight, strict=True)):
        places[: len(i), o], weights[: len(w), o] = i, w
        places[len(i) :, o] = i[-1] if len(i) else 0
    return places, weights


__all__ = [
    "Windows",
    "index_type",
    "pool_argmax",
    "pool_max",
    "pool_pick",
    "pool_sum",
    "resample",
    "spread",
    "taps",
    "windows_of",
]
