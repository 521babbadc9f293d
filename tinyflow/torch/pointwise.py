"""Elementwise functions with PyTorch's promotion: a number, or a tensor without dimensions, does not change the type of a
tensor with dimensions of the same kind (bool < integer < float).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tinyflow.core.dtypes import DType, bool_, float64, int64, promote
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import rules
from tinyflow.ops.leaf import constant
from tinyflow.torch.dtypes import CATEGORY, Defaults, finfo
from tinyflow.torch.errors import SizeError
from tinyflow.torch.functions import install
from tinyflow.torch.tensor import Tensor

# ------------------------------------------------------------------------------------------ types


def number_type(x: Any) -> DType:
    return bool_ if isinstance(x, bool) else int64 if isinstance(x, int) else Defaults.dtype


def result_type(*xs: Any) -> DType:
    """The type of a result: that of the operands with dimensions, unless one of a higher kind stands beside them."""
    found: DType | None = None
    ranks = (
        [x.dtype for x in xs if isinstance(x, Node) and x.shape],
        [x.dtype for x in xs if isinstance(x, Node) and not x.shape],
        [number_type(x) for x in xs if not isinstance(x, Node)],
    )
    for types in ranks:
        if types:
            here = types[0] if all(t is types[0] for t in types) else widest(types)
            if found is None or CATEGORY[here] > CATEGORY[found]:
                found = here
    assert found is not None
    return found


def widest(types: list[DType]) -> DType:
    top = max(CATEGORY[t] for t in types)
    return promote(*(t for t in types if CATEGORY[t] == top))


def unify(*xs: Any, floats: bool = False) -> Sequence[Node]:
    """Operands of one type and shape."""
    first, last = xs[0], xs[-1]
    if len(xs) == 2 and type(first) is type(last) is Node and first.dtype is last.dtype:
        d = first.dtype
        if first.shape == last.shape and (d.is_floating or not floats):
            return xs
    elif type(first) is Node and (
        (type(last) is float and first.dtype.is_floating) or (type(last) is int and first.dtype is not bool_)
    ):
        d = first.dtype if len(xs) == 2 else result_type(*xs)
    else:
        d = result_type(*xs)
    if floats and not d.is_floating:
        d = Defaults.dtype
    nodes = [e.cast(x, d) if isinstance(x, Node) else number(x, d) for x in xs]
    try:
        return e.broadcast(*nodes)
    except rules.ShapeError:
        raise SizeError(broadcast_text([n.shape for n in nodes])) from None


_numbers: dict[Any, Node] = {}


def number(x: Any, d: DType) -> Node:
    """A number as a constant; those that programs use over and over are remembered."""
    if not x or type(x) not in (int, float):  # 0.0 and -0.0 are equal
        return constant(x, d)
    found = _numbers.get((x, d))
    if found is None:
        if len(_numbers) > 4096:
            _numbers.clear()
        found = _numbers[(x, d)] = constant(x, d)
    return found


def broadcast_text(shapes: list[Any]) -> str:
    """Where two shapes do not broadcast."""
    for a, b in pairwise(shapes):
        rank = max(len(a), len(b))
        for d in range(-1, -rank - 1, -1):
            n, m = (s[d] if len(s) >= -d else 1 for s in (a, b))
            if n != m and 1 not in (n, m):
                return f"The size of tensor a ({n}) must match the size of tensor b ({m}) at non-singleton dimension {rank + d}"
    return f"the shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast"


def floats(x: Any) -> Node:
    """x as a float: of its own type if it is one, else of the default."""
    if not isinstance(x, Node):
        return constant(x, Defaults.dtype)
    return x if x.dtype.is_floating else e.cast(x, Defaults.dtype)


def numbers(x: Node) -> Node:
    return e.cast(x, int64) if x.dtype is bool_ else x


# ------------------------------------------------------------------------------------------ arithmetic


def scaled(x: Any, alpha: Any) -> Any:
    """alpha x, x being a tensor or a number."""
    if isinstance(alpha, int | float) and alpha == 1:
        return x
    return mul(x, alpha) if isinstance(x, Node) or isinstance(alpha, Node) else x * alpha


def add(input: Any, other: Any, *, alpha: Any = 1) -> Node:
    """input + alpha other"""
    a, b = unify(input, scaled(other, alpha))
    return e.logical_or(a, b) if a.dtype is bool_ else e.add(a, b)


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Node:
    """input - alpha other"""
    a, b = unify(input, scaled(other, alpha))
    if a.dtype is bool_:
        raise SizeError("Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead.")  # fmt: skip
    return e.sub(a, b)


def mul(input: Any, other: Any) -> Node:
    """input other"""
    a, b = unify(input, other)
    return e.logical_and(a, b) if a.dtype is bool_ else e.mul(a, b)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Node:
    """input / other, always a float unless a rounding mode ("floor" or "trunc") is given"""
    if rounding_mode is None:
        return e.div(*unify(input, other, floats=True))
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    a, b = unify(input, other)
    if a.dtype.is_floating:
        return trunc(e.div(a, b))
    q = e.floordiv(a, b)
    exact = e.logical_or(e.equal(q * b, a), e.greater_equal(q, 0))
    return e.where(exact, q, q + 1)


def floor_divide(input: Any, other: Any) -> Node:
    return e.floordiv(*unify(input, other))


def remainder(input: Any, other: Any) -> Node:
    """input - other floor(input / other): the sign of the divisor"""
    return e.mod(*unify(input, other))


def fmod(input: Any, other: Any) -> Node:
    """input - other trunc(input / other): the sign of the dividend"""
    a, b = unify(input, other)
    b = e.abs_(b)
    return e.where(e.less(a, 0), -e.mod(-a, b), e.mod(a, b))


def pow_(input: Any, exponent: Any) -> Node:
    """input to the power of exponent; integers stay integers"""
    if isinstance(input, Node) and input.dtype.is_floating and isinstance(exponent, int | float):
        return number_power(input, float(exponent))
    a, b = unify(input, exponent)
    if a.dtype.is_floating:
        return e.pow_(a, b)
    if not isinstance(exponent, Node):
        if exponent < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        return whole_power(a, int(exponent))
    return e.cast(e.round_(e.pow_(e.cast(a, float64), e.cast(b, float64))), a.dtype)


def number_power(x: Node, p: float) -> Node:
    """x**p in the form whose gradient is right at zero too."""
    if p == 0.0:
        return f.ones(x.shape, x.dtype)
    if p == 0.5:
        return e.sqrt(x)
    return whole_power(x, int(p)) if p in (1.0, 2.0, 3.0, 4.0) else power_of(x, p)


def power_of(x: Node, p: float) -> Node:
    return e.pow_(*unify(x, p))


def whole_power(x: Node, n: int) -> Node:
    """x multiplied n times, by squaring."""
    y = f.ones(x.shape, x.dtype) if n == 0 else x
    for bit in bin(n)[3:]:
        y = y * y
        y = y * x if bit == "1" else y
    return y


def maximum(input: Any, other: Any) -> Node:
    """The greater; where both are equal, the gradient goes half to each."""
    a, b = unify(input, other)
    return e.maximum(a, b) if not a.dtype.is_floating else halved_at_ties(e.maximum(a, b), a, b)


def minimum(input: Any, other: Any) -> Node:
    """The less; where both are equal, the gradient goes half to each."""
    a, b = unify(input, other)
    return e.minimum(a, b) if not a.dtype.is_floating else halved_at_ties(e.minimum(a, b), a, b)


def halved_at_ties(y: Node, a: Node, b: Node) -> Node:
    return e.where(e.equal(a, b), a * 0.5 + b * 0.5, y)


def fmax(input: Any, other: Any) -> Node:
    """The greater; of a NaN and a number, the number."""
    a, b = unify(input, other)
    return e.where(e.logical_or(e.greater_equal(a, b), isnan(b)), a, b)


def fmin(input: Any, other: Any) -> Node:
    """The less; of a NaN and a number, the number."""
    a, b = unify(input, other)
    return e.where(e.logical_or(e.less_equal(a, b), isnan(b)), a, b)


def atan2(input: Any, other: Any) -> Node:
    """The angle of the point (other, input), from -pi to pi."""
    return e.atan2(*unify(input, other, floats=True))


def lerp(input: Node, end: Node, weight: Any) -> Node:
    """input + weight (end - input)"""
    return add(input, mul(weight, sub(end, input)))


def addcmul(input: Node, tensor1: Node, tensor2: Node, *, value: Any = 1) -> Node:
    """input + value tensor1 tensor2"""
    return add(input, scaled(mul(tensor1, tensor2), value))


def addcdiv(input: Node, tensor1: Node, tensor2: Node, *, value: Any = 1) -> Node:
    """input + value tensor1 / tensor2"""
    return add(input, scaled(div(tensor1, tensor2), value))


# ------------------------------------------------------------------------------------------ comparison and logic


def comparison(op: Callable[..., Node]) -> Callable[..., Node]:
    def compare(input: Any, other: Any) -> Node:
        return op(*unify(input, other))

    compare.__doc__ = op.__doc__
    return compare


def truth(x: Any) -> Node:
    if not isinstance(x, Node):
        return constant(bool(x), bool_)
    return x if x.dtype is bool_ else e.not_equal(x, 0)


def logical(op: Callable[..., Node]) -> Callable[..., Node]:
    def compare(input: Any, other: Any) -> Node:
        return op(*e.broadcast(truth(input), truth(other)))

    return compare


def bitwise(name: str, op: Callable[..., Node]) -> Callable[..., Node]:
    def compute(input: Any, other: Any) -> Node:
        a, b = unify(input, other)
        if a.dtype is not bool_:
            raise NotImplementedError(
                f"{name} of {a.dtype}: tinyflow has no bitwise op on integers; it takes bool tensors"
            )
        return op(a, b)

    return compute


def logical_xor(a: Node, b: Node) -> Node:
    return e.not_equal(a, b)


def bitwise_not(input: Node) -> Node:
    return e.logical_not(input) if input.dtype is bool_ else -input - 1


def where(condition: Node, input: Any = None, other: Any = None) -> Node:
    """input where the condition holds, other elsewhere"""
    c = truth(condition)
    a, b = unify(input, other)
    try:
        return e.where(c, a, b)
    except rules.ShapeError:
        raise SizeError(broadcast_text([c.shape, a.shape])) from None


def masked_fill(input: Node, mask: Node, value: Any) -> Node:
    """value where the mask holds, input elsewhere"""
    if mask.dtype is not bool_:
        raise RuntimeError("masked_fill_ only supports boolean masks, but got mask with dtype " + mask.dtype.name)
    fill = e.cast(value, input.dtype) if isinstance(value, Node) else constant(value, input.dtype)
    return e.where(mask, fill, input)


def isfinite(input: Node) -> Node:
    return e.less(e.abs_(input), math.inf) if input.dtype.is_floating else f.full(input.shape, True, bool_)


def isinf(input: Node) -> Node:
    return e.equal(e.abs_(input), math.inf) if input.dtype.is_floating else f.full(input.shape, False, bool_)


def isnan(input: Node) -> Node:
    return e.not_equal(input, input) if input.dtype.is_floating else f.full(input.shape, False, bool_)


def nan_to_num(input: Node, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Node:
    """input, but with numbers in the place of NaN and of the infinities"""
    if not input.dtype.is_floating:
        return input
    limit = finfo(input.dtype)
    y = e.where(e.equal(input, math.inf), limit.max if posinf is None else posinf, input)
    y = e.where(e.equal(input, -math.inf), limit.min if neginf is None else neginf, y)
    return e.where(isnan(input), nan, y)


def isclose(input: Node, other: Node, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Node:
    """|input - other| <= atol + rtol |other|"""
    a, b = unify(input, other, floats=True)
    close = e.logical_or(
        e.equal(a, b), e.logical_and(isfinite(b), e.less_equal(e.abs_(a - b), e.abs_(b) * rtol + atol))
    )
    return e.logical_or(close, e.logical_and(isnan(a), isnan(b))) if equal_nan else close


# ------------------------------------------------------------------------------------------ functions of one operand


def of_float(op: Callable[[Node], Node]) -> Callable[..., Node]:
    def compute(input: Any) -> Node:
        return op(floats(input))

    compute.__doc__ = op.__doc__
    return compute


def rounded(op: Callable[[Node], Node]) -> Callable[..., Node]:
    def compute(input: Node) -> Node:
        return op(input) if input.dtype.is_floating else input

    return compute


def round_(input: Node, *, decimals: int = 0) -> Node:
    """To the nearest, halves to even."""
    if not input.dtype.is_floating or decimals == 0:
        return rounded(e.round_)(input)
    return e.round_(input * 10.0**decimals) / 10.0**decimals


def trunc(x: Node) -> Node:
    return x if not x.dtype.is_floating else e.where(e.less(x, 0.0), e.ceil(x), e.floor(x))


def clamp(input: Node, min: Any = None, max: Any = None) -> Node:
    """min(max(input, low), high)"""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    y = input
    if min is not None:
        y = e.maximum(*unify(y, min))
    return y if max is None else e.minimum(*unify(y, max))


def relu(input: Node) -> Node:
    return e.relu(input)


# fmt: off
ROWS: dict[str, Any] = {
    "add": add, "sub": sub, "mul": mul, "div": div, "subtract": sub, "multiply": mul, "divide": div, "true_divide": div,
    "floor_divide": floor_divide, "remainder": remainder, "fmod": fmod, "pow": pow_, "float_power": lambda input, exponent: pow_(e.cast(input, float64), exponent),
    "rsub": lambda input, other, alpha=1: sub(other, input, alpha=alpha), "maximum": maximum, "minimum": minimum, "fmax": fmax, "fmin": fmin,
    "atan2": atan2, "arctan2": atan2, "lerp": lerp, "addcmul": addcmul, "addcdiv": addcdiv,
    "eq": comparison(e.equal), "ne": comparison(e.not_equal), "lt": comparison(e.less), "le": comparison(e.less_equal),
    "gt": comparison(e.greater), "ge": comparison(e.greater_equal), "not_equal": comparison(e.not_equal), "less": comparison(e.less),
    "less_equal": comparison(e.less_equal), "greater": comparison(e.greater), "greater_equal": comparison(e.greater_equal),
    "logical_and": logical(e.logical_and), "logical_or": logical(e.logical_or), "logical_xor": logical(logical_xor),
    "logical_not": lambda input: e.logical_not(truth(input)),
    "bitwise_and": bitwise("&", e.logical_and), "bitwise_or": bitwise("|", e.logical_or), "bitwise_xor": bitwise("^", logical_xor), "bitwise_not": bitwise_not,
    "masked_fill": masked_fill, "isfinite": isfinite, "isinf": isinf, "isnan": isnan, "isclose": isclose, "nan_to_num": nan_to_num,
    "neg": lambda input: -input, "negative": lambda input: -input, "abs": e.abs_, "absolute": e.abs_, "sign": e.sign, "sgn": e.sign,
    "exp": of_float(e.exp), "log": of_float(e.log), "expm1": of_float(e.expm1), "log1p": of_float(e.log1p), "sqrt": of_float(e.sqrt),
    "rsqrt": of_float(lambda x: 1.0 / e.sqrt(x)), "sin": of_float(e.sin), "cos": of_float(e.cos), "tan": of_float(e.tan), "asin": of_float(e.asin), "acos": of_float(e.acos), "atan": of_float(e.atan), "arcsin": of_float(e.asin), "arccos": of_float(e.acos), "arctan": of_float(e.atan), "tanh": of_float(e.tanh),
    "sinh": of_float(e.sinh), "cosh": of_float(e.cosh), "asinh": of_float(f.asinh), "atanh": of_float(f.atanh), "acosh": of_float(f.acosh),
    "sigmoid": of_float(e.sigmoid), "erf": of_float(e.erf), "erfinv": of_float(e.erfinv), "erfc": of_float(e.erfc),
    "exp2": of_float(e.exp2), "log2": of_float(e.log2), "log10": of_float(e.log10),
    "logit": of_float(lambda x: e.log(x / (1.0 - x))), "reciprocal": of_float(lambda x: 1.0 / x), "square": lambda input: input * input,
    "floor": rounded(e.floor), "ceil": rounded(e.ceil), "round": round_, "trunc": rounded(trunc), "fix": rounded(trunc), "frac": lambda input: input - e.stop_gradient(trunc(input)),
    "clamp": clamp, "clip": clamp, "clamp_min": lambda input, min: clamp(input, min), "clamp_max": lambda input, max: clamp(input, None, max), "relu": relu,
}
IN_PLACE = ("add sub mul div subtract multiply divide true_divide floor_divide remainder fmod pow lerp addcmul addcdiv eq ne lt le gt ge masked_fill neg abs exp log expm1 "
            "log1p sqrt rsqrt sin cos tan tanh sigmoid erf erfinv reciprocal square floor ceil round trunc frac clamp clip clamp_min clamp_max relu sign "
            "logical_and logical_or logical_not nan_to_num log2 log10 exp2")
OPERATORS = {
    "add": add, "radd": lambda a, b: add(b, a), "sub": sub, "rsub": lambda a, b: sub(b, a), "mul": mul, "rmul": lambda a, b: mul(b, a), "truediv": div, "rtruediv": lambda a, b: div(b, a),
    "floordiv": floor_divide, "rfloordiv": lambda a, b: floor_divide(b, a), "mod": remainder, "rmod": lambda a, b: remainder(b, a), "pow": pow_, "rpow": lambda a, b: pow_(b, a),
    "eq": ROWS["eq"], "ne": ROWS["ne"], "lt": ROWS["lt"], "le": ROWS["le"], "gt": ROWS["gt"], "ge": ROWS["ge"],
    "and": ROWS["bitwise_and"], "or": ROWS["bitwise_or"], "xor": ROWS["bitwise_xor"], "rand": ROWS["bitwise_and"], "ror": ROWS["bitwise_or"],
    "neg": ROWS["neg"], "invert": bitwise_not, "abs": e.abs_, "pos": lambda x: x,
}
# fmt: on
FN = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "radd": "add",
    "rmul": "mul",
    "rtruediv": "div",
    "rsub": "rsub",
}
HIDDEN = {"stop_gradient"}  # x.detach() is its name here
NEW = {  # a new row of ops/elementwise.py is there at once, under its own name
    name: of_float(build) if build.__code__.co_argcount == 1 else (lambda a, b, build=build: build(*unify(a, b)))
    for name, build in e.ROWS.items()
    if name not in ROWS and name not in HIDDEN
}
install(ROWS | NEW, in_place=IN_PLACE)
install({"where": where}, methods=False)


def install_operators() -> None:
    from tinyflow.torch.functions import lift, lift_in_place

    known = (int, float, bool, Tensor)

    def guarded(call: Any) -> Any:
        import numpy as np

        accepted = (*known, np.ndarray, np.generic)

        def operator(self: Tensor, *other: Any) -> Any:
            if other and not isinstance(other[0], accepted):
                return NotImplemented
            return call(self, *other)

        return operator

    for name, function in OPERATORS.items():
        setattr(Tensor, f"__{name}__", guarded(lift(FN.get(name, name), function)))
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"):
        setattr(Tensor, f"__i{name}__", lift_in_place(FN.get(name, name), OPERATORS[name]))


install_operators()
