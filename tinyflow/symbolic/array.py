"""Shapes, pieces and fillings: reshape, concat, gather, zeros and their kin.

A shape argument may hold tensors: tf.reshape(x, [tf.shape(x)[0], -1]) keeps its rank and the sizes that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow.core import dtypes, expr
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Dim, Node, shape_text
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing, leaf
from tinyflow.ops import movement as m
from tinyflow.ops.rules import normal_axis
from tinyflow.symbolic import known
from tinyflow.symbolic.table import combine, integer, integers, shape_argument
from tinyflow.symbolic.tensor import Tensor, as_dtype, constant, convert, operation, tensor

# ------------------------------------------------------------------------------------------ shapes


def shape(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Tensor:
    """The sizes of a tensor, as a vector (rank,)."""
    want = as_dtype(out_type)
    return tensor("Shape", lambda x: known.scalars(x.shape, want), [convert(input)], name, types=[want])


def shape_n(input: Sequence[Any], out_type: Any = dtypes.int32, name: str | None = None) -> list[Tensor]:
    return [shape(x, name, out_type) for x in input]


def size(input: Any, name: str | None = None, out_type: Any = dtypes.int32) -> Tensor:
    """How many elements a tensor has."""
    want = as_dtype(out_type)
    return tensor("Size", lambda x: leaf.size(expr.product(x.shape), want), [convert(input)], name, types=[want])


def rank(input: Any, name: str | None = None) -> Tensor:
    """How many axes a tensor has."""
    return tensor("Rank", lambda x: leaf.constant(x.ndim, dtypes.int32), [convert(input)], name, types=[dtypes.int32])


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The same elements in another shape; one size may be -1 and is then computed."""
    extra, dims = shape_argument(shape)
    return operation("Reshape", lambda x, *s: m.reshape(x, dims(*s)), [convert(tensor), *extra], name).outputs[0]


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """An axis of size 1 put in before `axis` (behind all with -1)."""
    d = integer(dim if axis is None else axis, "the axis of expand_dims")
    return tensor("ExpandDims", lambda x: m.expand_dims(x, d), [convert(input)], name)


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor:
    """The tensor without some axes of size 1; without all of them if none is named."""
    axis = squeeze_dims if axis is None else axis
    axes = None if axis is None else integers(axis, "the axes of squeeze")
    return tensor("Squeeze", lambda x: m.squeeze(x, axes), [convert(input)], name)


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Tensor:
    """The axes in the order perm; reversed by default."""
    order = None if perm is None else integers(perm, "the order of transpose")
    return tensor(
        "Transpose", lambda x: m.permute(x, range(x.ndim)[::-1] if order is None else order), [convert(a)], name
    )


def matrix_transpose(a: Any, name: str = "matrix_transpose", conjugate: bool = False) -> Tensor:
    """The last two axes exchanged."""
    return tensor("Transpose", lambda x: m.permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)), [convert(a)], name)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """The tensor stretched to a shape by repeating axes of size 1."""
    extra, dims = shape_argument(shape)
    return tensor("BroadcastTo", lambda x, *s: m.expand(x, dims(*s)), [convert(input), *extra], name)


# ------------------------------------------------------------------------------------------ joining and cutting


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """Tensors joined along an axis."""
    if isinstance(axis, list | tuple | Tensor) and not isinstance(values, list | tuple):
        values, axis = axis, values  # the argument order before 1.0
    values = values if isinstance(values, list | tuple) else [values]
    d = integer(axis, "the axis of concat")
    return combine("ConcatV2", lambda *xs: m.concat(xs, d), [f"values_{k}" for k in range(len(values))], values, name)


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape joined along a new axis."""
    values, d = list(values), integer(axis, "the axis of stack")
    return combine("Pack", lambda *xs: stacked(xs, d), [f"values_{k}" for k in range(len(values))], values, name)


def stacked(xs: Sequence[Node], axis: int) -> Node:
    if any(len(x.shape) != len(xs[0].shape) for x in xs):
        raise ShapeError(f"the shapes {' and '.join(shape_text(x.shape) for x in xs)} differ")
    return m.stack(xs, axis)


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> list[Tensor]:
    """The slices along an axis, without it. `num` says how many where the size is not known."""
    value = convert(value)
    count = num if num is not None else value.shape.with_rank_at_least(1)[axis].value
    if count is None:
        raise ValueError(f"unstack of {value.name!r}: the size of axis {axis} is not known; say num")

    def parts(x: Node) -> list[Node]:
        d = normal_axis(axis, x.ndim)
        return f.unstack(m.reshape(x, (*x.shape[:d], count, *x.shape[d + 1 :])), d)

    return operation("Unpack", parts, [value], name, types=[value.dtype] * count).outputs


def split(
    value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split"
) -> list[Tensor]:
    """A tensor cut along an axis into a number of equal parts, or into parts of given sizes (-1: the rest)."""
    if isinstance(value, int) and isinstance(num_or_size_splits, int):  # split(axis, number, value), as before 1.0
        value, num_or_size_splits, axis = axis, num_or_size_splits, value
    value, d = convert(value), integer(axis, "the axis of split")
    sizes = integers(num_or_size_splits, "the sizes of split")
    equal = isinstance(num_or_size_splits, int | np.integer)

    def parts(x: Node) -> list[Node]:
        n = x.shape[normal_axis(d, x.ndim)]
        if equal and isinstance(n, int) and n % sizes[0]:
            raise ShapeError(
                f"{shape_text(x.shape)}: {n} is not a multiple of {sizes[0]}; give a list of sizes instead"
            )
        rest = n - sum(s for s in sizes if s >= 0)
        lengths = [expr.floordiv(n, sizes[0])] * sizes[0] if equal else [rest if s < 0 else s for s in sizes]
        return f.split(x, lengths, d)

    count = sizes[0] if equal else len(sizes)
    return operation("Split" if equal else "SplitV", parts, [value], name, types=[value.dtype] * count).outputs


def slice_(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
    """`size` elements along each axis, from `begin`; -1 takes all that follow."""

    first, begin_of = shape_argument(begin)
    second, size_of = shape_argument(size)

    def cut(x: Node, *given: Node) -> Node:
        starts, sizes = begin_of(*given[: len(first)]), size_of(*given[len(first) :])
        return m.slice_(
            x,
            starts,
            tuple(
                n - a if isinstance(k, int) and k == -1 else k for n, a, k in zip(x.shape, starts, sizes, strict=True)
            ),
        )

    return tensor("Slice", cut, [convert(input_), *first, *second], name)


def reverse(tensor_: Any, axis: Any, name: str | None = None) -> Tensor:
    """The elements along some axes in reverse order."""
    axes = integers(axis, "the axes of reverse")
    return tensor("ReverseV2", lambda x: m.flip(x, axes), [convert(tensor_)], name or "ReverseV2")


def pad(
    tensor_: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0
) -> Tensor:
    """The tensor with paddings[d] = (before, after) elements added along axis d: a constant, or mirrored (REFLECT, SYMMETRIC)."""

    if mode.upper() not in ("CONSTANT", "REFLECT", "SYMMETRIC"):
        raise ValueError(f"pad(mode={mode!r}): choose CONSTANT, REFLECT or SYMMETRIC")
    extra, amounts_of = shape_argument(paddings)

    def padded(x: Node, *p: Node) -> Node:
        amounts = np.reshape(np.array(amounts_of(*p), dtype=object), (-1, 2))
        if len(amounts) != x.ndim:
            raise ShapeError(f"{shape_text(x.shape)} has {x.ndim} axes, and the paddings are for {len(amounts)}")
        if mode.upper() == "CONSTANT":
            return m.pad(x, tuple(amounts[:, 0]), tuple(amounts[:, 1]), value=float(constant_values))
        return mirrored(x, amounts, 1 if mode.upper() == "REFLECT" else 0)

    return tensor("Pad" if mode.upper() == "CONSTANT" else "MirrorPad", padded, [convert(tensor_), *extra], name)


def mirrored(x: Node, amounts: Any, offset: int) -> Node:
    """x with its own elements, turned round, on both sides of each axis; with offset 1 the border is not repeated."""
    for d, (low, high) in enumerate(amounts):
        n = x.shape[d]

        def piece(start: Dim, count: Dim, d: int = d, x: Node = x) -> Node:
            begin = tuple(start if k == d else 0 for k in range(x.ndim))
            return m.flip(m.slice_(x, begin, tuple(count if k == d else s for k, s in enumerate(x.shape))), (d,))

        x = m.concat([piece(offset, low), x, piece(n - high - offset, high)], d)
    return x


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """The tensor repeated along each axis."""
    extra, dims = shape_argument(multiples)
    return tensor("Tile", lambda x, *k: f.tile(x, dims(*k)), [convert(input), *extra], name)


# ------------------------------------------------------------------------------------------ picking


def gather(
    params: Any,
    indices: Any,
    validate_indices: Any = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Tensor:
    """Entries along an axis, by number: y[..., i, ...] = params[..., indices[i], ...]. An index out of range is an error."""
    d = batch_dims if axis is None else integer(axis, "the axis of gather")

    def pick(x: Node, i: Node) -> Node:
        return indexing.gather(x, i, batch_dims) if batch_dims else indexing.gather_axis(x, i, d)

    return tensor("GatherV2", pick, [convert(params), convert(indices)], name)


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Tensor:
    """Entries by coordinates: y[i] = params[indices[i, 0], indices[i, 1], ...]; the first batch_dims axes go along in both."""

    def pick(x: Node, i: Node) -> Node:
        depth = i.shape[-1]
        b = batch_dims
        if not isinstance(depth, int) or b + depth > x.ndim:
            raise ShapeError(
                f"{shape_text(i.shape)}: the last size says how many axes are indexed, at most {x.ndim - b}"
            )
        if x.shape[:b] != i.shape[:b]:
            raise ShapeError(f"the first {b} sizes of {shape_text(x.shape)} and {shape_text(i.shape)} differ")
        flat = m.reshape(x, (expr.product(x.shape[: b + depth]), *x.shape[b + depth :]))
        place: Node = e.cast(leaf.constant(0, dtypes.int32), i.dtype)
        for k in range(b):
            along = m.reshape(leaf.iota(x.shape[k], i.dtype), (x.shape[k], *(1,) * (i.ndim - 2 - k)))
            place = place * leaf.size(x.shape[k], i.dtype) + along
        for k in range(depth):
            column = m.reshape(m.slice_(i, (*(0,) * (i.ndim - 1), k), (*i.shape[:-1], 1)), i.shape[:-1])
            place = place * leaf.size(x.shape[b + k], i.dtype) + column
        return indexing.gather(flat, place)

    return tensor("GatherNd", pick, [convert(params), convert(indices)], name)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """x where the condition holds, y elsewhere. A condition with fewer axes chooses among the entries of the first."""
    if x is None or y is None:
        raise AttributeError(
            "where(condition) alone, the places that are true, is not built: their number depends on data; give x and y"
        )

    def choose(a: Node, b: Node, c: Node) -> Node:
        if 0 < c.ndim < a.ndim:
            c = m.reshape(c, (*c.shape, *(1,) * (a.ndim - c.ndim)))
        return e.where(c, a, b)

    pair = (convert(x, getattr(y, "dtype", None) if not isinstance(x, Tensor) and isinstance(y, Tensor) else None), y)
    pair = (pair[0], convert(y, pair[0].dtype))
    return tensor("Select", choose, [*pair, convert(condition)], name or "Select")


def one_hot(
    indices: Any, depth: Any, on_value: Any = None, off_value: Any = None, axis: Any = None, dtype: Any = None, name:
    str | None = None,
) -> Tensor:  # fmt: skip
    """on_value (1) where the place along the new axis (the last) is the index, off_value (0) elsewhere."""
    guessed = next((v.dtype for v in (on_value, off_value) if isinstance(v, Tensor)), None)
    given = [v for v in (on_value, off_value) if v is not None and not isinstance(v, Tensor)]
    inferred = constant(given[0]).dtype if given else dtypes.float32
    want = as_dtype(dtype) if dtype is not None else guessed or inferred
    values = [convert(v, want) for v in (1 if on_value is None else on_value, 0 if off_value is None else off_value)]
    d = -1 if axis is None else int(axis)

    def hot(i: Node, n: Node, on: Node, off: Node) -> Node:
        hit = f.one_hot(i, known.scalar(n), dtypes.bool_, d, True, False)
        return e.where(hit, on, off)

    return tensor("OneHot", hot, [convert(indices), convert(depth), *values], name, types=[want])


def sequence_mask(lengths: Any, maxlen: Any, dtype: Any = dtypes.bool_, name: str | None = None) -> Tensor:
    """True at the first `length` places of each row of maxlen."""
    want = as_dtype(dtype)

    def mask(n: Node, longest: Node) -> Node:
        wide = (*n.shape, known.scalar(longest))
        return e.cast(e.less(f.position(wide, -1, n.dtype), m.expand(m.expand_dims(n, -1), wide)), want)

    return tensor("SequenceMask", mask, [convert(lengths), convert(maxlen)], name or "SequenceMask", types=[want])
