"""Elementwise ops: the value at an index depends on the operands at that index.

To add one, add a row; it then has its method, its gradient, native code and tests in every style.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, bool_, float32, float64, int32, uint8
from tinyflow.core.expr import Expr
from tinyflow.graph.node import Node, make
from tinyflow.graph.op import Op, Sample, define
from tinyflow.ops import leaf, rules
from tinyflow.ops.movement import expand
from tinyflow.ops.rules import attribute, boolean, floating, matching, numeric, same, scalar, truth

# ------------------------------------------------------------------------------------------ numpy meanings

erf_of_each, erfc_of_each = (np.vectorize(f, otypes=[float]) for f in (math.erf, math.erfc))


def np_erf(x: Any) -> Any:
    return erf_of_each(x).astype(x.dtype)


def np_erfc(x: Any) -> Any:
    return erfc_of_each(x).astype(x.dtype)


def np_sigmoid(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def np_erfinv(y: Any) -> Any:
    """Solved by Newton from Winitzki's approximation: erf(x) = y."""
    dtype, y = y.dtype, np.asarray(y, float)
    a, l = 0.147, np.log1p(-y * y)
    b = 2 / (np.pi * a) + l / 2
    x = np.copysign(np.sqrt(np.maximum(np.sqrt(b * b - l / a) - b, 0)), y)
    for _ in range(4):
        step = (erf_of_each(x) - y) * np.sqrt(np.pi) / 2 * np.exp(x * x)
        x = np.where(np.abs(y) < 1, x - step, x)
    return np.where(np.abs(y) == 1, np.copysign(np.inf, y), x).astype(dtype)


def np_floordiv(a: Any, b: Any) -> Any:
    return np.floor_divide(a, b)


# ------------------------------------------------------------------------------------------ the shapes of a row

ANY, POSITIVE, UNIT, SMALL = (-3.0, 3.0), (0.3, 3.0), (-0.9, 0.9), (-20, 20)
SHAPES = ((3, 17), (), (0, 4), (1, 1), (2, 3, 1023))


def _samples(arity: int, dtypes: tuple[DType, ...], low: float, high: float) -> tuple[Sample, ...]:
    shapes = [(shape, d) for d in dtypes for shape in (SHAPES if d is dtypes[0] else SHAPES[:1])]
    return tuple(Sample(((shape, d, low, high),) * arity) for shape, d in shapes)


FLOATS, NUMBERS, ALL = (float32, float64), (float32, float64, int32, uint8), (float32, int32, bool_)


ROWS: dict[str, Callable[..., Node]] = {}  # every row's function, for faces that show it under its own name


def row(name: str, numpy: Callable[..., Any], at: Callable[..., Expr], grad: Any, arity: int, dtype: Any, types: tuple[DType, ...], domain: tuple[float, float]) -> Op:  # fmt: skip
    return define(name, numpy=numpy, shape=same, dtype=dtype, at=lambda i, *xs: at(*(x(*i) for x in xs)), grad=grad, elementwise=True,
                  samples=_samples(arity, types, *domain))  # fmt: skip


def unary(name: str, numpy: Any, at: Any, grad: Any, domain: tuple[float, float] = ANY, dtype: Any = floating, types: Any = FLOATS) -> Callable[..., Node]:  # fmt: skip
    """g: the gradient of the output, y: the output, x: the operand."""
    op = row(name, numpy, at, grad, 1, dtype, types, domain)

    def build(x: Node) -> Node:
        return make(op, x)

    build.__name__, build.__doc__ = name, f"{name}(x), element by element."
    ROWS[name] = build
    return build


def binary(name: str, numpy: Any, at: Any, grad: Any, domain: tuple[float, float] = ANY, dtype: Any = numeric, types: Any = NUMBERS) -> Callable[..., Node]:  # fmt: skip
    op = row(name, numpy, at, grad, 2, dtype, types, domain)

    def build(a: Any, b: Any) -> Node:
        return make(op, *broadcast(a, b))

    build.__name__, build.__doc__ = name, f"{name}(a, b), element by element; shapes broadcast as in numpy."
    ROWS[name] = build
    return build


def broadcast(*given: Any) -> tuple[Node, ...]:
    """Numbers become constants of the others' type; shapes are stretched to a common one."""
    nodes = given
    for x in given:
        if type(x) is not Node:
            model = next((n.dtype for n in given if isinstance(n, Node)), None)
            nodes = tuple([n if isinstance(n, Node) else leaf.number(n, model) for n in given])
            break
    first = nodes[0].shape
    for x in nodes:
        if x.shape != first:
            shape = rules.broadcast_shapes(*[n.shape for n in nodes])
            return tuple([expand(n, shape) for n in nodes])
    return nodes


def abs_grad(g: Node, y: Node, x: Node) -> Node:
    return g * sign(x)


def nothing(g: Node, y: Node, x: Node) -> Node:
    return expand(leaf.constant(0, x.dtype), x.shape)


def sin_grad(g: Node, y: Node, x: Node) -> Node:
    return g * cos(x)


def sinh_grad(g: Node, y: Node, x: Node) -> Node:
    return g * cosh(x)


# fmt: off
#                 name             numpy meaning      value at one index         gradient of the operand                     domain
neg      = unary("neg",            np.negative,       scalar("neg"),             lambda g, y, x: -g,                         ANY, numeric, NUMBERS)
abs_     = unary("abs",            np.abs,            scalar("abs"),             abs_grad,                ANY, numeric, NUMBERS)
sign     = unary("sign",           np.sign,           scalar("sign"),            nothing,                                    ANY, numeric, NUMBERS)
exp      = unary("exp",            np.exp,            scalar("exp"),             lambda g, y, x: g * y)
exp2     = unary("exp2",           np.exp2,           scalar("exp2"),            lambda g, y, x: g * y * math.log(2))
log      = unary("log",            np.log,            scalar("log"),             lambda g, y, x: g / x,                      POSITIVE)
log2     = unary("log2",           np.log2,           scalar("log2"),            lambda g, y, x: g / (x * math.log(2)),      POSITIVE)
log10    = unary("log10",          np.log10,          scalar("log10"),           lambda g, y, x: g / (x * math.log(10)),     POSITIVE)
expm1    = unary("expm1",          np.expm1,          scalar("expm1"),           lambda g, y, x: g * (y + 1.0))
log1p    = unary("log1p",          np.log1p,          scalar("log1p"),           lambda g, y, x: g / (x + 1.0),              POSITIVE)
sqrt     = unary("sqrt",           np.sqrt,           scalar("sqrt"),            lambda g, y, x: g / (2.0 * y),              POSITIVE)
sin      = unary("sin",            np.sin,            scalar("sin"),             sin_grad)
cos      = unary("cos",            np.cos,            scalar("cos"),             lambda g, y, x: -g * sin(x))
tan      = unary("tan",            np.tan,            scalar("tan"),             lambda g, y, x: g * (1.0 + y * y),          UNIT)
asin     = unary("asin",           np.arcsin,         scalar("asin"),            lambda g, y, x: g / sqrt((1.0 - x) * (1.0 + x)), UNIT)
acos     = unary("acos",           np.arccos,         scalar("acos"),            lambda g, y, x: -g / sqrt((1.0 - x) * (1.0 + x)), UNIT)
atan     = unary("atan",           np.arctan,         scalar("atan"),            lambda g, y, x: g / (1.0 + x * x))
sinh     = unary("sinh",           np.sinh,           scalar("sinh"),            sinh_grad)
cosh     = unary("cosh",           np.cosh,           scalar("cosh"),            lambda g, y, x: g * sinh(x))
tanh     = unary("tanh",           np.tanh,           scalar("tanh"),            lambda g, y, x: g * (1.0 - y * y))
sigmoid  = unary("sigmoid",        np_sigmoid,        scalar("sigmoid"),         lambda g, y, x: g * y * (1.0 - y))
erf      = unary("erf",            np_erf,            scalar("erf"),             lambda g, y, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)))
erfc     = unary("erfc",           np_erfc,           scalar("erfc"),            lambda g, y, x: g * exp(-x * x) * (-2 / math.sqrt(math.pi)))
erfinv   = unary("erfinv",         np_erfinv,         scalar("erfinv"),          lambda g, y, x: g * exp(y * y) * (math.sqrt(math.pi) / 2), UNIT)
relu     = unary("relu",           lambda x: np.maximum(x, 0), scalar("relu"),   lambda g, y, x: where(y > 0, g, 0),         ANY, numeric, NUMBERS)
floor    = unary("floor",          np.floor,          scalar("floor"),           None)
ceil     = unary("ceil",           np.ceil,           scalar("ceil"),            None)
round_   = unary("round",          np.rint,           scalar("round"),           None)
logical_not = unary("logical_not", np.logical_not,    scalar("not"),             None,                                       ANY, boolean, (bool_,))
stop_gradient = unary("stop_gradient", lambda x: x,   lambda x: x,               None,                                       ANY, matching, ALL)

#                  name            numpy meaning      value at one index         gradients of the operands
add      = binary("add",           np.add,            scalar("add"),             lambda g, y, a, b: (g, g))
sub      = binary("sub",           np.subtract,       scalar("sub"),             lambda g, y, a, b: (g, -g))
mul      = binary("mul",           np.multiply,       scalar("mul"),             lambda g, y, a, b: (g * b, g * a))
div      = binary("div",           np.divide,         scalar("div"),             lambda g, y, a, b: (g / b, -g * y / b),     POSITIVE, floating, FLOATS)
floordiv = binary("floordiv",      np_floordiv,       scalar("floordiv"),        None)
mod      = binary("mod",           np.mod,            scalar("mod"),             lambda g, y, a, b: (g, -g * floordiv(a, b)), POSITIVE)
pow_     = binary("pow",           np.power,          scalar("pow"),             lambda g, y, a, b: (g * b * a ** (b - 1.0), g * y * log(where(a > 0, a, 1.0))), POSITIVE, floating, FLOATS)
atan2    = binary("atan2",         np.arctan2,        scalar("atan2"),           lambda g, y, a, b: (g * b / (a * a + b * b), -g * a / (a * a + b * b)), POSITIVE, floating, FLOATS)
maximum  = binary("maximum",       np.maximum,        scalar("max"),             lambda g, y, a, b: (where(a >= b, g, 0.0), where(a >= b, 0.0, g)))
minimum  = binary("minimum",       np.minimum,        scalar("min"),             lambda g, y, a, b: (where(a <= b, g, 0.0), where(a <= b, 0.0, g)))
equal    = binary("equal",         np.equal,          rules.comparison("eq"),    None,                                       SMALL, truth, ALL)
not_equal = binary("not_equal",    np.not_equal,      rules.comparison("ne"),    None,                                       SMALL, truth, ALL)
less     = binary("less",          np.less,           rules.comparison("lt"),    None,                                       SMALL, truth, ALL)
less_equal = binary("less_equal",  np.less_equal,     rules.comparison("le"),    None,                                       SMALL, truth, ALL)
logical_and = binary("logical_and", np.logical_and,   scalar("and"),             None,                                       ANY, boolean, (bool_,))
logical_or = binary("logical_or",  np.logical_or,     scalar("or"),              None,                                       ANY, boolean, (bool_,))

CAST   = define("cast",   numpy=lambda x, dtype: x.astype(dtype.numpy), shape=same, dtype=attribute, at=lambda i, x, dtype: rules.cast(x(*i), dtype),
                grad=lambda g, y, x, dtype: cast(g, x.dtype) if x.dtype.is_floating and dtype.is_floating else None, elementwise=True,
                samples=tuple(Sample((((3, 17), a, -3, 3),), {"dtype": b}) for a in (float32, float64, int32, bool_) for b in (float32, float64, int32, bool_)))
WHERE  = define("where",  numpy=np.where, shape=same, dtype=lambda c, a, b: (boolean(c), matching(a, b))[1], at=lambda i, c, a, b: rules.select(c(*i), a(*i), b(*i)),
                grad=lambda g, y, c, a, b: (None, where(c, g, 0), where(c, 0, g)), elementwise=True,
                samples=(Sample((((3, 17), bool_, 0, 2), ((3, 17), float32, -3, 3), ((3, 17), float32, -3, 3))),))
# fmt: on

TRANSCENDENTAL = (
    "exp", "exp2", "log", "log2", "log10", "expm1", "log1p", "tanh", "sinh", "cosh", "sigmoid", "erf", "erfc", "erfinv", "sin", "cos", "tan",
    "asin", "acos", "atan", "atan2", "pow",
)  # fmt: skip
# about how many scalar operations an op is, where it is not one
HEAVY = dict.fromkeys([*TRANSCENDENTAL, "uniform"], 10) | {"div": 4, "sqrt": 4}


def cast(x: Node, dtype: DType) -> Node:
    """x as another element type; floats are cut towards zero to make integers."""
    return x if x.dtype is dtype else make(CAST, x, dtype=dtype)


def where(condition: Node, a: Any, b: Any) -> Node:
    """a where the condition holds, b elsewhere; shapes broadcast."""
    a, b = (x if isinstance(x, Node) else leaf.constant(x, next((y.dtype for y in (a, b) if isinstance(y, Node)), None)) for x in (a, b))  # fmt: skip
    return make(WHERE, *broadcast(condition, a, b))


def greater(a: Any, b: Any) -> Node:
    """a > b, element by element; shapes broadcast."""
    a, b = broadcast(a, b)
    return less(b, a)


def greater_equal(a: Any, b: Any) -> Node:
    """a >= b, element by element; shapes broadcast."""
    a, b = broadcast(a, b)
    return less_equal(b, a)


def reflected(f: Callable[..., Node]) -> Callable[..., Node]:
    return lambda a, b: f(b, a)


OPERATORS = {
    "neg": neg, "abs": abs_, "add": add, "sub": sub, "mul": mul, "truediv": div, "floordiv": floordiv, "mod": mod, "pow": pow_,
    "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal, "and": logical_and, "or": logical_or, "invert": logical_not,
    "radd": reflected(add), "rsub": reflected(sub), "rmul": reflected(mul), "rtruediv": reflected(div), "rpow": reflected(pow_),
}  # fmt: skip
for _name, _function in OPERATORS.items():
    setattr(Node, f"__{_name}__", _function)
