"""Fillings: tensors of one value, ranges, diagonals. Sizes may be tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.core import dtypes, expr
from tinyflow.core.dtypes import DType
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, Shape, shape_text
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import leaf
from tinyflow.ops import movement as m
from tinyflow.ops.reduction import sum_
from tinyflow.symbolic import known
from tinyflow.symbolic.shape import TensorShape, as_dims
from tinyflow.symbolic.table import combine, integer, integers, shape_argument
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert, tensor


def filled(kind: str, value: int) -> Callable[..., Tensor]:
    def build(shape: Any, dtype: Any = dtypes.float32, name: str | None = None) -> Tensor:
        want = as_dtype(dtype)
        extra, dims = shape_argument(shape)
        return tensor(
            "Fill" if extra else "Const", lambda *s: f.full(dims(*s), value, want), extra, name or kind, types=[want]
        )

    build.__name__, build.__doc__ = kind, f"A tensor of {kind}."
    return build


def filled_like(kind: str, value: int) -> Callable[..., Tensor]:
    def build(tensor_: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
        x = convert(tensor_)
        want = x.dtype if dtype is None else as_dtype(dtype)
        return tensor(kind.capitalize(), lambda n: f.full(n.shape, value, want), [x], name or kind, types=[want])

    build.__name__, build.__doc__ = kind, f"A tensor of {kind.split('_')[0]}, of another's shape and type."
    return build


zeros = filled("zeros", 0)
ones = filled("ones", 1)
zeros_like = filled_like("zeros_like", 0)
ones_like = filled_like("ones_like", 1)


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """A tensor with one value everywhere."""
    extra, shape_of = shape_argument(dims)
    return tensor("Fill", lambda v, *s: m.expand(v, shape_of(*s)), [convert(value), *extra], name)


def range_(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:
    """start, start + delta, ... below limit; from 0 if only the limit is given."""
    if limit is None:
        start, limit = 0, start
    given = [convert(v) for v in (start, limit, delta)]
    floats = [t.dtype for t in given if t.dtype.is_floating]
    want = as_dtype(dtype) if dtype is not None else floats[0] if floats else dtypes.promote(*(t.dtype for t in given))

    def ascending(a: Node, b: Node, step: Node) -> Node:
        if floats:
            return float_range(a, b, step, want)
        first, last, by = known.scalar(a), known.scalar(b), known.scalar(step)
        if not isinstance(by, int) or by == 0:
            raise ShapeError(f"range: delta is an int known when the graph is written, and not 0, not {by}")
        count = expr.floordiv(last - first + by - (1 if by > 0 else -1), by)
        count = max(count, 0) if isinstance(count, int) else count
        return leaf.iota(count, want) * leaf.constant(by, want) + leaf.size(first, want)

    return tensor("Range", ascending, given, name, types=[want])


def float_range(a: Node, b: Node, step: Node, want: DType) -> Node:
    numbers = [n.attrs.get("value") if n.op is leaf.CONSTANT else None for n in (a, b, step)]
    if None in numbers:
        raise ShapeError("range of floats wants bounds that are known when the graph is written")
    array = np.arange(*(float(np.float32(x)) for x in numbers))
    return leaf.iota(len(array), want) * leaf.constant(numbers[2], want) + leaf.constant(numbers[0], want)


def linspace(start: Any, stop: Any, num: Any, name: str | None = None) -> Tensor:
    """num numbers from start to stop, both included, evenly spaced."""
    count = integer(num, "the number of linspace")
    if count < 1:
        raise ValueError(f"linspace(num={num}): at least one number")

    def line(a: Node, b: Node) -> Node:
        if count == 1:
            return m.reshape(a, (1,))
        i = leaf.iota(count, a.dtype)
        inside = a + i * ((b - a) / float(count - 1))
        return e.where(e.equal(i, float(count - 1)), b, inside)

    return combine("LinSpace", line, ("start", "stop"), (start, stop), name)


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """The identity matrix (rows, columns), repeated for a batch."""
    want = as_dtype(dtype)
    sizes = [convert(num_rows), convert(num_rows if num_columns is None else num_columns)]
    batch = [] if batch_shape is None else integers(batch_shape, "the batch shape of eye")

    def identity(r: Node, c: Node) -> Node:
        plane = (known.scalar(r), known.scalar(c))
        return m.expand(e.cast(e.equal(f.position(plane, 0), f.position(plane, 1)), want), (*batch, *plane))

    return tensor("Eye", identity, sizes, name or "eye", types=[want])


def diagonal_of(x: Node) -> Node:
    """x (..., n) on the diagonals of (..., n, n)."""
    n = x.shape[-1]
    square = (*x.shape, n)
    on = e.equal(f.position((n, n), 0), f.position((n, n), 1))
    return e.where(m.expand(on, square), m.expand(m.expand_dims(x, -1), square), 0)


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A square matrix with a vector on its diagonal."""

    def spread(x: Node) -> Node:
        if x.ndim != 1:
            raise ShapeError(f"diag takes a vector, not {shape_text(x.shape)}; tf.matrix_diag takes stacks of them")
        return diagonal_of(x)

    return tensor("Diag", spread, [convert(diagonal)], name)


def matrix_diag(diagonal: Any, name: str | None = None) -> Tensor:
    """Square matrices with vectors on their diagonals: (..., n) -> (..., n, n)."""
    return tensor("MatrixDiag", diagonal_of, [convert(diagonal)], name)


def matrix_diag_part(input: Any, name: str | None = None) -> Tensor:
    """The diagonals of square matrices: (..., n, n) -> (..., n)."""

    def part(x: Node) -> Node:
        n, k = x.shape[-2:]
        return sum_(e.where(m.expand(e.equal(f.position((n, k), 0), f.position((n, k), 1)), x.shape), x, 0), -1)

    return tensor("MatrixDiagPart", part, [convert(input)], name)


diag_part = matrix_diag_part


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sum of the diagonal of matrices: (..., n, n) -> (...)."""
    return tensor("Trace", lambda n: sum_(n, -1), [matrix_diag_part(x)], name)


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Tensor:
    """Matrices with zeros outside a band of diagonals; a negative number keeps all on that side."""
    low, high = integer(num_lower, "num_lower"), integer(num_upper, "num_upper")

    def band(x: Node) -> Node:
        plane: Shape = x.shape[-2:]
        below = f.position(plane, 0) - f.position(plane, 1)
        for reach, away in ((low, below), (high, -below)):
            if reach >= 0:
                x = e.where(m.expand(e.less_equal(away, reach), x.shape), x, 0)
        return x

    return tensor("MatrixBandPart", band, [convert(input)], name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor that takes its value from feed_dict, or from `input` where it is not fed."""
    from tinyflow.symbolic.program import Value

    value, wanted = convert(input), TensorShape(shape)
    value.shape.assert_is_compatible_with(wanted)
    if value.node is None or wanted.dims is None or wanted == value.shape:
        return tensor("PlaceholderWithDefault", lambda x: x, [value], name)
    node = leaf.placeholder(
        value.dtype, as_dims(wanted), name or "PlaceholderWithDefault"
    )  # its sizes are not the default's
    value.graph.sources[node] = Value(value.node)
    return tensor("PlaceholderWithDefault", lambda x: node, [value], name)
