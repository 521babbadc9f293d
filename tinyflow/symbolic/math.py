"""Arithmetic: elementwise functions, comparisons and reductions, as tables.

A row is the name in TensorFlow 1, its operation's type, its operands, its meaning on nodes, and a line that says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinyflow.core import dtypes
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, shape_text
from tinyflow.ops import cumulative, sorting
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import reduction as r
from tinyflow.symbolic.table import combine, function, integer, integers
from tinyflow.symbolic.tensor import Tensor, as_dtype, convert, tensor

# ------------------------------------------------------------------------------------------ meanings that differ by type


def true_divide(x: Node, y: Node) -> Node:
    """Integers are divided as float64, small ones as float32."""
    if x.dtype.is_floating:
        return e.div(x, y)
    wide = dtypes.float32 if x.dtype is dtypes.uint8 else dtypes.float64
    return e.div(e.cast(x, wide), e.cast(y, wide))


def old_divide(x: Node, y: Node) -> Node:
    """Python 2's division: integers stay integers."""
    return e.div(x, y) if x.dtype.is_floating else e.floordiv(x, y)


def truncated_divide(x: Node, y: Node) -> Node:
    if x.dtype.is_floating:
        return e.div(x, y)
    return e.cast(e.div(e.cast(x, dtypes.float64), e.cast(y, dtypes.float64)), x.dtype)


def power(x: Node, y: Node) -> Node:
    if x.dtype.is_floating:
        return e.pow_(x, y)
    wide = e.pow_(e.cast(x, dtypes.float64), e.cast(y, dtypes.float64))
    return e.cast(e.round_(wide), x.dtype)


def floor_like(fn: Callable[[Node], Node]) -> Callable[[Node], Node]:
    """Integers are their own floor."""
    return lambda x: x if x.dtype.is_integer else fn(x)


def clipped(x: Node, low: Node, high: Node) -> Node:
    return e.minimum(e.maximum(x, low), high)


INF = math.inf
# fmt: off
#    name                  type                 operands      meaning on nodes                                             in words
ELEMENTWISE: dict[str, tuple[str, str, Callable[..., Any], str]] = {
    "add":                ("Add",               "x y",        e.add,                                                       "x + y, element by element; shapes broadcast."),
    "subtract":           ("Sub",               "x y",        e.sub,                                                       "x - y, element by element; shapes broadcast."),
    "multiply":           ("Mul",               "x y",        e.mul,                                                       "x y, element by element; shapes broadcast."),
    "divide":             ("RealDiv",           "x y",        true_divide,                                                 "x / y; integers are divided as float64."),
    "truediv":            ("RealDiv",           "x y",        true_divide,                                                 "x / y; integers are divided as float64."),
    "realdiv":            ("RealDiv",           "x y",        true_divide,                                                 "x / y; integers are divided as float64."),
    "div":                ("Div",               "x y",        old_divide,                                                  "x / y; of integers its floor."),
    "floordiv":           ("FloorDiv",          "x y",        e.floordiv,                                                  "The floor of x / y."),
    "floor_div":          ("FloorDiv",          "x y",        e.floordiv,                                                  "The floor of x / y."),
    "truncatediv":        ("TruncateDiv",       "x y",        truncated_divide,                                            "x / y, of integers cut towards zero."),
    "mod":                ("FloorMod",          "x y",        e.mod,                                                       "x - y floor(x / y)."),
    "floormod":           ("FloorMod",          "x y",        e.mod,                                                       "x - y floor(x / y)."),
    "pow":                ("Pow",               "x y",        power,                                                       "x to the power y."),
    "maximum":            ("Maximum",           "x y",        e.maximum,                                                   "The greater of x and y."),
    "minimum":            ("Minimum",           "x y",        e.minimum,                                                   "The lesser of x and y."),
    "squared_difference": ("SquaredDifference", "x y",        lambda x, y: (x - y) * (x - y),                              "(x - y)²"),
    "square":             ("Square",            "x",          lambda x: x * x,                                             "x²"),
    "sqrt":               ("Sqrt",              "x",          e.sqrt,                                                      "The root of x."),
    "rsqrt":              ("Rsqrt",             "x",          lambda x: 1.0 / e.sqrt(x),                                   "1 / sqrt(x)"),
    "exp":                ("Exp",               "x",          e.exp,                                                       "e to the power x."),
    "expm1":              ("Expm1",             "x",          e.expm1,                                                     "exp(x) - 1, exact near 0."),
    "log":                ("Log",               "x",          e.log,                                                       "The natural logarithm."),
    "log1p":              ("Log1p",             "x",          e.log1p,                                                     "log(1 + x), exact near 0."),
    "abs":                ("Abs",               "x",          e.abs_,                                                      "|x|"),
    "negative":           ("Neg",               "x",          e.neg,                                                       "-x"),
    "sign":               ("Sign",              "x",          e.sign,                                                      "-1, 0 or 1."),
    "reciprocal":         ("Reciprocal",        "x",          lambda x: 1.0 / x,                                           "1 / x"),
    "round":              ("Round",             "x",          floor_like(e.round_),                                        "The nearest integer; halves go to the even one."),
    "rint":               ("Rint",              "x",          e.round_,                                                    "The nearest integer; halves go to the even one."),
    "floor":              ("Floor",             "x",          floor_like(e.floor),                                         "The greatest integer not above x."),
    "ceil":               ("Ceil",              "x",          floor_like(e.ceil),                                          "The least integer not below x."),
    "sin":                ("Sin",               "x",          e.sin,                                                       "The sine of x, in radians."),
    "cos":                ("Cos",               "x",          e.cos,                                                       "The cosine of x, in radians."),
    "tan":                ("Tan",               "x",          e.tan,                                                       "The tangent of x, in radians."),
    "sinh":               ("Sinh",              "x",          e.sinh,                                                      "(exp x - exp -x) / 2"),
    "cosh":               ("Cosh",              "x",          e.cosh,                                                      "(exp x + exp -x) / 2"),
    "asin":               ("Asin",              "x",          e.asin,                                                      "The angle whose sine is x."),
    "acos":               ("Acos",              "x",          e.acos,                                                      "The angle whose cosine is x."),
    "atan":               ("Atan",              "x",          e.atan,                                                      "The angle whose tangent is x."),
    "atan2":              ("Atan2",             "y x",        e.atan2,                                                     "The angle of the point (x, y), from -pi to pi."),
    "asinh":              ("Asinh",             "x",          f.asinh,                                                     "log(x + sqrt(x^2 + 1))"),
    "acosh":              ("Acosh",             "x",          f.acosh,                                                     "log(x + sqrt(x^2 - 1))"),
    "atanh":              ("Atanh",             "x",          f.atanh,                                                     "log((1 + x) / (1 - x)) / 2"),
    "tanh":               ("Tanh",              "x",          e.tanh,                                                      "The hyperbolic tangent."),
    "sigmoid":            ("Sigmoid",           "x",          e.sigmoid,                                                   "1 / (1 + exp(-x))"),
    "log_sigmoid":        ("LogSigmoid",        "x",          lambda x: -f.softplus(-x),                                   "log(sigmoid(x)) = -softplus(-x)"),
    "erf":                ("Erf",               "x",          e.erf,                                                       "The error function."),
    "erfc":               ("Erfc",              "x",          e.erfc,                                                      "1 - erf(x)"),
    "is_nan":             ("IsNan",             "x",          lambda x: e.not_equal(x, x),                                 "Where x is not a number."),
    "is_inf":             ("IsInf",             "x",          lambda x: e.equal(e.abs_(x), INF),                           "Where x is infinite."),
    "is_finite":          ("IsFinite",          "x",          lambda x: e.less(e.abs_(x), INF),                            "Where x is neither infinite nor NaN."),
    "equal":              ("Equal",             "x y",        e.equal,                                                     "x = y, element by element."),
    "not_equal":          ("NotEqual",          "x y",        e.not_equal,                                                 "x ≠ y, element by element."),
    "less":               ("Less",              "x y",        e.less,                                                      "x < y, element by element."),
    "less_equal":         ("LessEqual",         "x y",        e.less_equal,                                                "x ≤ y, element by element."),
    "greater":            ("Greater",           "x y",        e.greater,                                                   "x > y, element by element."),
    "greater_equal":      ("GreaterEqual",      "x y",        e.greater_equal,                                             "x ≥ y, element by element."),
    "logical_and":        ("LogicalAnd",        "x y",        e.logical_and,                                               "Both."),
    "logical_or":         ("LogicalOr",         "x y",        e.logical_or,                                                "One of them, or both."),
    "logical_xor":        ("LogicalXor",        "x y",        e.not_equal,                                                 "One of them, not both."),
    "logical_not":        ("LogicalNot",        "x",          e.logical_not,                                               "Not x."),
    "stop_gradient":      ("StopGradient",      "input",      e.stop_gradient,                                             "The same value, through which no gradient goes."),
    "identity":           ("Identity",          "input",      lambda x: x,                                                 "The same value, as a tensor of its own."),
    "clip_by_value":      ("ClipByValue",       "t clip_value_min clip_value_max", clipped,                                "min(max(t, clip_value_min), clip_value_max)"),
}
ALIASES = {"mul": "multiply", "sub": "subtract", "neg": "negative", "inv": "reciprocal"}
# fmt: on


TABLE: dict[str, Callable[..., Any]] = {}
for _name, (_kind, _operands, _meaning, _doc) in ELEMENTWISE.items():
    TABLE[_name] = function(_kind, _operands, _meaning, _doc)
    TABLE[_name].__name__ = TABLE[_name].__qualname__ = _name


def of_row(name: str) -> Callable[..., Tensor] | None:
    """The function of a row of ops/elementwise.py that TensorFlow 1 has no name for: a new row is there at once."""
    build = e.ROWS.get(name)
    if build is None:
        return None
    operands = "x" if build.__code__.co_argcount == 1 else "x y"
    return function("".join(map(str.capitalize, name.split("_"))), operands, build, build.__doc__ or name)


# ------------------------------------------------------------------------------------------ types


def cast(x: Any, dtype: Any, name: str | None = None) -> Tensor:
    """x as another element type. Floats are cut towards zero to make integers; every number but 0 is True."""
    x, want = convert(x), as_dtype(dtype)
    return x if x.dtype is want else tensor("Cast", lambda n: e.cast(n, want), [x], name, types=[want])


def casting(name: str, dtype: dtypes.DType) -> Callable[..., Tensor]:
    def build(x: Any, name: str | None = None) -> Tensor:
        return cast(x, dtype, name or kind)

    kind = "".join(map(str.capitalize, name.split("_")))
    build.__name__, build.__doc__ = name, f"x as {dtype}."
    return build


to_float = casting("to_float", dtypes.float32)
to_double = casting("to_double", dtypes.float64)
to_int32 = casting("to_int32", dtypes.int32)
to_int64 = casting("to_int64", dtypes.int64)


# ------------------------------------------------------------------------------------------ reductions


def reduction(name: str, kind: str, meaning: Callable[..., Node], doc: str) -> Callable[..., Tensor]:
    def build(input_tensor: Any, axis: Any = None, keepdims: bool | None = None, name: str | None = None,
              reduction_indices: Any = None, keep_dims: bool | None = None) -> Tensor:  # fmt: skip
        axis = reduction_indices if axis is None else axis
        axes = None if axis is None else tuple(integers(axis, "the axis of a reduction"))
        keep = bool(keep_dims if keepdims is None else keepdims)
        return tensor(kind, lambda x: meaning(x, axes, keep), [convert(input_tensor)], name)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"{doc} over some axes (over all by default); keepdims leaves size 1 there."
    return build


# fmt: off
REDUCTIONS = {
    "reduce_sum":       ("Sum",       r.sum_,      "The sum of the elements"),
    "reduce_mean":      ("Mean",      r.mean,      "The mean of the elements"),
    "reduce_max":       ("Max",       r.max_,      "The greatest element"),
    "reduce_min":       ("Min",       r.min_,      "The least element"),
    "reduce_prod":      ("Prod",      r.prod,      "The product of the elements"),
    "reduce_any":       ("Any",       f.any_,      "Whether any element is true"),
    "reduce_all":       ("All",       f.all_,      "Whether all elements are true"),
    "reduce_logsumexp": ("LogSumExp", f.logsumexp, "log sum exp of the elements"),
}
# fmt: on
for _name, (_kind, _meaning, _doc) in REDUCTIONS.items():
    TABLE[_name] = reduction(_name, _kind, _meaning, _doc)


def argument(name: str, kind: str, meaning: Callable[..., Node]) -> Callable[..., Tensor]:
    def build(
        input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = dtypes.int64
    ) -> Tensor:
        axis = dimension if axis is None else axis
        d, want = 0 if axis is None else integer(axis, "the axis"), as_dtype(output_type)
        return tensor(kind, lambda x: e.cast(meaning(x, d), want), [convert(input)], name, types=[want])

    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"The position of the {'greatest' if kind == 'ArgMax' else 'least'} element along an axis (0 by default)."
    )
    return build


argmax = argument("argmax", "ArgMax", r.argmax)
argmin = argument("argmin", "ArgMin", r.argmin)


def arg_max(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Tensor:
    """The position of the greatest element along an axis."""
    return argmax(input, dimension, name, output_type=output_type)


def arg_min(input: Any, dimension: Any, output_type: Any = dtypes.int64, name: str | None = None) -> Tensor:
    """The position of the least element along an axis."""
    return argmin(input, dimension, name, output_type=output_type)


def add_n(inputs: Sequence[Any], name: str | None = None) -> Tensor:
    """The sum of tensors of one shape."""
    if not inputs:
        raise ValueError("add_n of no tensors; give at least one")

    def total(first: Node, *others: Node) -> Node:
        for x in others:
            if len(x.shape) != len(first.shape):
                raise ShapeError(f"the shapes {shape_text(first.shape)} and {shape_text(x.shape)} differ")
            first = e.add(first, x)
        return first

    return combine("AddN", total, [f"inputs_{k}" for k in range(len(inputs))], list(inputs), name)


def norm(
    tensor_: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None, name: str | None = None,
    keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """The length of a tensor taken as one vector, or along axes: sqrt(sum x²); ord 1 is sum |x|, inf is max |x|."""
    measures = {
        "euclidean": lambda x, axes, keep: e.sqrt(r.sum_(x * x, axes, keep)),
        1: lambda x, axes, keep: r.sum_(e.abs_(x), axes, keep),
        INF: lambda x, axes, keep: r.max_(e.abs_(x), axes, keep),
    }
    measures["fro"] = measures[2] = measures["euclidean"]
    if ord not in measures:
        raise ValueError(f"norm(ord={ord!r}): choose one of {', '.join(map(repr, measures))}")
    axes = None if axis is None else tuple(integers(axis, "the axis of a norm"))
    keep = bool(keep_dims if keepdims is None else keepdims)
    return tensor("Norm", lambda x: measures[ord](x, axes, keep), [convert(tensor_)], name or "norm")


def count_nonzero(
    input_tensor: Any, axis: Any = None, keepdims: bool | None = None, dtype: Any = dtypes.int64, name: str | None =
    None, reduction_indices: Any = None, keep_dims: bool | None = None,
) -> Tensor:  # fmt: skip
    """How many elements are not 0."""
    return TABLE["reduce_sum"](
        cast(cast(input_tensor, dtypes.bool_), dtype),
        axis,
        keepdims,
        name or "count_nonzero",
        reduction_indices,
        keep_dims,
    )


def running(name: str, kind: str, meaning: Callable[..., Node], doc: str) -> Callable[..., Tensor]:
    def build(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
        d = integer(axis, f"the axis of {kind.lower()}")
        return tensor(kind, lambda n: meaning(n, d, bool(exclusive), bool(reverse)), [convert(x)], name)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = (
        f"{doc} from the beginning of an axis (or from its end) up to each element, itself included unless exclusive."
    )
    return build


cumsum = running("cumsum", "Cumsum", cumulative.cumsum, "Sums")
cumprod = running("cumprod", "Cumprod", cumulative.cumprod, "Products")


# ------------------------------------------------------------------------------------------ order


def descending(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"direction is 'ASCENDING' or 'DESCENDING', not {direction!r}")
    return direction == "DESCENDING"


def sort(values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """The elements in order along an axis."""
    d, down = integer(axis, "the axis of sort"), descending(direction)
    return tensor("Sort", lambda n: sorting.sort(n, d, down)[0], [convert(values)], name or "sort")


def argsort(
    values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Tensor:
    """The places of the elements in order along an axis; of equal ones the earlier comes first."""
    d, down, x = integer(axis, "the axis of argsort"), descending(direction), convert(values)
    places = lambda n: e.cast(sorting.argsort(n, d, down), dtypes.int32)
    return tensor("Argsort", places, [x], name or "argsort", types=[dtypes.int32])


def searchsorted(
    sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = dtypes.int32, name: str | None = None
) -> Tensor:
    """How many elements of each sorted row come before each value: (..., n), (..., m) -> (..., m)."""
    if side not in ("left", "right"):
        raise ValueError(f"side is 'left' or 'right', not {side!r}")
    want = as_dtype(out_type)
    found = lambda rows, x: e.cast(sorting.searchsorted(rows, x, side == "right"), want)
    rows = convert(sorted_sequence)
    return tensor("SearchSorted", found, [rows, convert(values, rows.dtype)], name or "searchsorted", types=[want])


# ------------------------------------------------------------------------------------------ clipping


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """t, scaled down to the length clip_norm if it is longer: t clip_norm / max(|t|, clip_norm)."""
    chosen = None if axes is None else tuple(integers(axes, "the axes of clip_by_norm"))

    def clip(x: Node, c: Node) -> Node:
        squares = r.sum_(x * x, chosen, keepdims=True)
        positive = e.greater(squares, 0.0)
        length = e.where(positive, e.sqrt(e.where(positive, squares, 1.0)), squares)
        return x * c / e.maximum(length, c)

    return combine("ClipByNorm", clip, ("t", "clip_norm"), (t, clip_norm), name or "clip_by_norm")


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor:
    """The length of all tensors taken as one vector: sqrt(sum of |t|²). None entries count nothing."""
    given = [convert(t) for t in t_list if t is not None]

    def length(*xs: Node) -> Node:
        total = r.sum_(xs[0] * xs[0])
        for x in xs[1:]:
            total = total + r.sum_(x * x)
        return e.sqrt(total)

    return tensor("GlobalNorm", length, given, name or "global_norm")


def clip_by_global_norm(
    t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None, name: str | None = None
) -> tuple[list[Tensor | None], Tensor]:
    """The tensors, all scaled by clip_norm / max(global_norm, clip_norm), and their global norm."""
    length = global_norm(t_list) if use_norm is None else convert(use_norm)
    clip = convert(clip_norm, length.dtype)
    scale = combine(
        "ClipScale",
        lambda c, n: c / e.maximum(n, c),
        ("clip_norm", "norm"),
        (clip, length),
        name or "clip_by_global_norm",
    )
    return [None if t is None else TABLE["multiply"](t, scale) for t in t_list], length
