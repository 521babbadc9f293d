"""What Python's operators and brackets do on tensors and variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyflow.core import dtypes, expr
from tinyflow.core.errors import ShapeError
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Dim, Node, shape_text
from tinyflow.ops import elementwise as e
from tinyflow.ops import indexing, leaf
from tinyflow.ops import movement as m
from tinyflow.symbolic import known, products
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic.table import combine, integer, integers
from tinyflow.symbolic.tensor import Tensor, convert, is_symbolic, tensor

# fmt: off
#   method        type        name       meaning on nodes
OPERATORS: dict[str, tuple[str, str, Callable[..., Node]]] = {
    "add":      ("Add",          "add",      e.add),
    "sub":      ("Sub",          "sub",      e.sub),
    "mul":      ("Mul",          "mul",      e.mul),
    "div":      ("Div",          "div",      tf_math.old_divide),
    "truediv":  ("RealDiv",      "truediv",  tf_math.true_divide),
    "floordiv": ("FloorDiv",     "floordiv", e.floordiv),
    "mod":      ("FloorMod",     "mod",      e.mod),
    "pow":      ("Pow",          "pow",      tf_math.power),
    "lt":       ("Less",         "Less",     e.less),
    "le":       ("LessEqual",    "LessEqual", e.less_equal),
    "gt":       ("Greater",      "Greater",  e.greater),
    "ge":       ("GreaterEqual", "GreaterEqual", e.greater_equal),
    "and":      ("LogicalAnd",   "and",      e.logical_and),
    "or":       ("LogicalOr",    "or",       e.logical_or),
    "xor":      ("LogicalXor",   "xor",      e.not_equal),
}
# fmt: on


def binary(kind: str, name: str, meaning: Callable[..., Node]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Any, other: Any) -> Any:
        return combine(kind, meaning, ("x", "y"), (self, other), name) if operand(other) else NotImplemented

    def reflected(self: Any, other: Any) -> Any:
        return combine(kind, meaning, ("x", "y"), (other, self), name) if operand(other) else NotImplemented

    return forward, reflected


def operand(value: Any) -> bool:
    """Whether a value may stand beside a tensor: the other types are asked first what they make of it."""
    return value is not None and not isinstance(value, str | dict)


def install(cls: type) -> None:
    """The operators, as methods of a class whose objects are tensors or become such."""
    for method, row in OPERATORS.items():
        forward, reflected = binary(*row)
        setattr(cls, f"__{method}__", forward)
        if method not in ("lt", "le", "gt", "ge"):
            setattr(cls, f"__r{method}__", reflected)
    cls.__matmul__ = lambda a, b: products.matmul(a, b)
    cls.__rmatmul__ = lambda a, b: products.matmul(b, a)
    cls.__neg__ = lambda a: tf_math.TABLE["negative"](a)
    cls.__abs__ = lambda a: tf_math.TABLE["abs"](a)
    cls.__invert__ = lambda a: tf_math.TABLE["logical_not"](a)
    cls.__getitem__ = pick


# ------------------------------------------------------------------------------------------ brackets


def pick(x: Any, key: Any) -> Tensor:
    """x[key]: ints, slices with steps, None, ..., and int tensors among them, as in numpy."""
    keys = key if isinstance(key, tuple) else (key,)
    inputs: list[Tensor] = [convert(x)]
    plan: list[Any] = []
    for k in keys:
        if isinstance(k, slice):
            plan.append(slice(*(slot(v, inputs) for v in (k.start, k.stop, k.step))))
        elif k is None or k is Ellipsis:
            plan.append(k)
        elif isinstance(k, list | bool) or getattr(k, "dtype", None) is dtypes.bool_:
            raise TypeError(f"a tensor is not indexed by {k!r}; use tf.gather(tensor, indices)")
        else:
            plan.append(slot(k, inputs))
    return tensor("StridedSlice", lambda n, *bounds: sliced(n, plan, bounds), inputs, "strided_slice")


def strided_slice(
    input_: Any, begin: Any, end: Any, strides: Any = None, begin_mask: int = 0, end_mask: int = 0, ellipsis_mask: int
    = 0, new_axis_mask: int = 0, shrink_axis_mask: int = 0, var: Any = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """x[begin:end:strides], axis by axis. Bit k of a mask is for axis k: its bound left out, `...`, None, or begin alone."""
    bounds = [listed(b) for b in (begin, end)]
    steps = [1] * len(bounds[0]) if strides is None else integers(strides, "the strides")
    keys: list[Any] = []
    for k, (low, high, step) in enumerate(zip(*bounds, steps, strict=True)):
        whole = slice(None if begin_mask >> k & 1 else low, None if end_mask >> k & 1 else high, step)
        choices = ((ellipsis_mask, Ellipsis), (new_axis_mask, None), (shrink_axis_mask, low))
        keys.append(next((key for mask, key in choices if mask >> k & 1), whole))
    return pick(input_, tuple(keys))


def listed(given: Any) -> list[Any]:
    """Bounds, one by one; tensors among them stay such."""
    return (
        [v if is_symbolic(v) else integer(v, "a bound") for v in given]
        if isinstance(given, list | tuple)
        else list(integers(given, "the bounds"))
    )


class Slot(int):
    """The number of an input that holds a bound."""


def slot(value: Any, inputs: list[Tensor]) -> Any:
    """A bound: an int or None as it is, a tensor as the number of the input that it becomes."""
    if value is None or not is_symbolic(value):
        return value if value is None else value.__index__()
    inputs.append(convert(value))
    return Slot(len(inputs) - 2)


def sliced(x: Node, plan: list[Any], bounds: tuple[Node, ...]) -> Node:
    """The strided slice. An index that only a run can tell is gathered, and checked in the run."""
    named = sum(k is not None and k is not Ellipsis for k in plan)
    if named > x.ndim:
        raise ShapeError(f"{shape_text(x.shape)} has {x.ndim} axes, and {named} are indexed")
    at = plan.index(Ellipsis) if Ellipsis in plan else len(plan)
    full = [*plan[:at], *[slice(None)] * (x.ndim - named), *plan[at + 1 :]]
    begin, size, step, shape, gathers, d = [], [], [], [], [], 0
    for k in full:
        if k is None:
            shape.append(1)
            continue
        n = x.shape[d]
        if isinstance(k, slice):
            start, count, by = extent(n, *(bound(v, bounds) for v in (k.start, k.stop, k.step)))
            shape.append(count)
        else:
            start, count, by = place(bound(k, bounds), n, d, x), 1, 1
            if isinstance(start, Node):
                gathers.append((d, start))
                start, count = 0, n
        begin.append(start), size.append(count), step.append(by)
        d += 1
    y = m.slice_(x, tuple(begin), tuple(size), tuple(step))
    for axis, index in reversed(gathers):
        y = m.expand_dims(indexing.gather_axis(y, index, axis), axis)
    y = m.reshape(y, tuple(shape))
    return tidy(y) if y.dtype.is_integer and y.ndim == 0 else y


def bound(value: Any, bounds: tuple[Node, ...]) -> Any:
    """A bound: an int or a dimension where it is known, else the node."""
    if not isinstance(value, Slot):
        return value
    node = bounds[value]
    dim = known.scalar(node)
    return node if isinstance(dim, Expr) and known.is_value(dim) else dim


def place(index: Any, n: Dim, axis: int, x: Node) -> Any:
    """Where an index points to, counted from the beginning."""
    if isinstance(index, Node):
        return e.where(e.less(index, 0), index + leaf.size(n, index.dtype), index)
    if isinstance(index, int) and isinstance(n, int) and not -n <= index < n:
        raise ShapeError(f"index {index} is out of range for axis {axis} of {shape_text(x.shape)}")
    return index + n if isinstance(index, int) and index < 0 else index


def extent(n: Dim, start: Any, stop: Any, step: Any) -> tuple[Dim, Dim, int]:
    """(first, how many, step) of a slice of n elements."""
    start, stop, step = (known.scalar(v) if isinstance(v, Node) else v for v in (start, stop, step))
    by = 1 if step is None else step
    if not isinstance(by, int) or by == 0:
        raise ShapeError(f"the step of a slice is an int known when the graph is written, and not 0, not {by}")
    if isinstance(n, int) and all(v is None or isinstance(v, int) for v in (start, stop)):
        taken = range(n)[start:stop:by]
        return taken.start if len(taken) else 0, len(taken), by
    low, high = (clamp(v, n) for v in (start, stop))
    if by > 0:
        low, high = low if low is not None else 0, high if high is not None else n
        return low, expr.floordiv(high - low + by - 1, by), by
    low = n - 1 if start is None else expr.minimum(low, n - 1)
    high = -1 if stop is None else high
    return low, expr.floordiv(low - high - by - 1, -by), by


def clamp(v: Any, n: Dim) -> Any:
    """A bound counted from the beginning, within the axis. x[:-1] is taken to have an element to leave out."""
    if v is None or (isinstance(v, int) and v == 0) or v is n:
        return v
    if isinstance(v, int) and v < 0:
        return n - 1 if v == -1 else expr.maximum(n + v, 0)
    return expr.minimum(v, n)


def tidy(y: Node) -> Node:
    """A size picked out of a shape is that size."""
    found = known.values(y)
    dim = None if found is None else found[()]
    if isinstance(dim, Expr) and not known.is_value(dim):
        return leaf.size(dim, y.dtype)
    return y


install(Tensor)
