"""The little language that the recipes of vecmath are written in: a `Value` is an SSA name, its operators emit LLVM.

    value   := Value(code, element, name)            element in float double i32 i64 i1; as many lanes as its code has
    operand := value | number                        a number takes the element of the value that it meets
    code    := the lines of one function; a line already there is used again

A recipe is written once: the same lines, in the same order, for a scalar and for every vector width, so all give the
same bits. Nothing here carries fast-math flags: a multiplication and an addition fuse only where `fma` is written.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias


class Format(NamedTuple):
    """An IEEE format: 1 + exponent + digits bits, exponents biased, arguments of exp outside [low, high] saturate."""

    name: str
    element: str
    integer: str
    suffix: str
    digits: int
    bias: int
    exp_low: float
    exp_high: float

    @property
    def magic(self) -> float:
        """1.5 * 2^digits: adding it rounds to an integer, which then stands in the low bits."""
        return 1.5 * 2.0**self.digits

    @property
    def width(self) -> int:
        return int(self.integer[1:])

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    def mangle(self, lanes: int) -> str:
        return self.suffix if lanes == 1 else f"v{lanes}{self.suffix}"

    def round(self, number: float) -> float:
        return float(struct.unpack("f", struct.pack("f", number))[0]) if self.element == "float" else number

    def bits(self, number: float) -> int:
        """The bits of a positive number, as an integer."""
        return int.from_bytes(struct.pack(">f" if self.element == "float" else ">d", number), "big")

    def words(self, number: Fraction, count: int) -> tuple[float, ...]:
        """The number as a sum of `count` floats, each the nearest to what the ones before leave over."""
        found: list[float] = []
        for _ in range(count):
            found.append(self.round(float(number)))
            number -= Fraction(found[-1])
        return tuple(found)


# fmt: off
#                   name       element   integer suffix digits bias  exp_low  exp_high
FLOAT32 = Format("float32", "float",  "i32", "f32", 23,   127,  -104.5, 89.0)
FLOAT64 = Format("float64", "double", "i64", "f64", 52,   1023, -746.0, 710.0)
# fmt: on
FORMATS = {f.name: f for f in (FLOAT32, FLOAT64)}
FLOATS = {f.element: f for f in (FLOAT32, FLOAT64)}
ELEMENTS = FLOATS | {f.integer: f for f in (FLOAT32, FLOAT64)}


class Code:
    """The body of one function while it is written."""

    def __init__(self, format: Format, lanes: int, machine: str = "") -> None:
        self.format, self.lanes, self.machine = format, lanes, machine
        self.names: dict[str, str] = {}
        self.declarations: dict[str, None] = {}

    def type(self, element: str) -> str:
        return element if self.lanes == 1 else f"<{self.lanes} x {element}>"

    def emit(self, text: str) -> str:
        return self.names.setdefault(text, f"%t{len(self.names)}")

    def lines(self) -> list[str]:
        return [f"  {name} = {text}" for text, name in self.names.items()]

    def constant(self, element: str, number: float) -> str:
        text = self.number(element, number)
        return text if self.lanes == 1 else f"splat ({element} {text})"

    @staticmethod
    def number(element: str, number: float) -> str:
        if element in FLOATS:
            return f"0x{struct.pack('>d', FLOATS[element].round(number)).hex().upper()}"
        return str(int(number))


class Value:
    """An SSA value of the function under construction."""

    __slots__ = ("code", "element", "name")

    def __init__(self, code: Code, element: str, name: str) -> None:
        self.code, self.element, self.name = code, element, name

    @property
    def format(self) -> Format:
        """Of its element; for a float32 function this is FLOAT64 where it goes wide."""
        return ELEMENTS[self.element]

    @property
    def typed(self) -> str:
        return f"{self.code.type(self.element)} {self.name}"

    def like(self, operand: Operand) -> Value:
        """The operand as a value of this one's element."""
        if isinstance(operand, Value):
            return operand
        return Value(self.code, self.element, self.code.constant(self.element, operand))

    def binary(self, op: str, other: Operand, element: str = "") -> Value:
        """`fadd` and the like: the letter f is for floats alone."""
        op = op if self.element in FLOATS else op.removeprefix("f")
        text = f"{op} {self.typed}, {self.like(other).name}"
        return Value(self.code, element or self.element, self.code.emit(text))

    def compare(self, on_floats: str, on_integers: str, other: Operand) -> Value:
        op = f"fcmp {on_floats}" if self.element in FLOATS else f"icmp {on_integers}"
        return self.binary(op, other, "i1")

    def cast(self, op: str, element: str) -> Value:
        if element == self.element:
            return self
        return Value(self.code, element, self.code.emit(f"{op} {self.typed} to {self.code.type(element)}"))

    def __add__(self, other: Operand) -> Value:
        return self.binary("fadd", other)

    def __radd__(self, other: float) -> Value:
        return self.like(other) + self

    def __sub__(self, other: Operand) -> Value:
        return self.binary("fsub", other)

    def __rsub__(self, other: float) -> Value:
        return self.like(other) - self

    def __mul__(self, other: Operand) -> Value:
        return self.binary("fmul", other)

    def __rmul__(self, other: float) -> Value:
        return self.like(other) * self

    def __truediv__(self, other: Operand) -> Value:
        return self.binary("fdiv", other)

    def __rtruediv__(self, other: float) -> Value:
        return self.like(other) / self

    def __neg__(self) -> Value:
        return Value(self.code, self.element, self.code.emit(f"fneg {self.typed}"))

    def __and__(self, other: Operand) -> Value:
        return self.binary("and", other)

    def __or__(self, other: Operand) -> Value:
        return self.binary("or", other)

    def __xor__(self, other: Operand) -> Value:
        return self.binary("xor", other)

    def __lshift__(self, places: int) -> Value:
        return self.binary("shl", places)

    def __rshift__(self, places: int) -> Value:
        """The sign moves in from the left."""
        return self.binary("ashr", places)

    def shift_right(self, places: int) -> Value:
        """Zeros move in from the left."""
        return self.binary("lshr", places)

    def __invert__(self) -> Value:
        return self ^ -1

    def __lt__(self, other: Operand) -> Value:
        return self.compare("olt", "slt", other)

    def __le__(self, other: Operand) -> Value:
        return self.compare("ole", "sle", other)

    def __gt__(self, other: Operand) -> Value:
        return self.compare("ogt", "sgt", other)

    def __ge__(self, other: Operand) -> Value:
        return self.compare("oge", "sge", other)

    def equals(self, other: Operand) -> Value:
        return self.compare("oeq", "eq", other)


Operand: TypeAlias = Value | float


def intrinsic(name: str, *operands: Value) -> Value:
    """A call of @llvm.name, overloaded on its first operand."""
    code, element = operands[0].code, operands[0].element
    kind = code.type(element)
    callee = f"{kind} @llvm.{name}.{FLOATS[element].mangle(code.lanes)}"
    code.declarations[f"declare {callee}({', '.join([kind] * len(operands))})"] = None
    return Value(code, element, code.emit(f"call {callee}({', '.join(o.typed for o in operands)})"))


def fma(a: Value, b: Operand, c: Operand) -> Value:
    """a b + c, rounded once."""
    return intrinsic("fma", a, a.like(b), a.like(c))


def absolute(x: Value) -> Value:
    return intrinsic("fabs", x)


def copysign(size: Value, sign: Value) -> Value:
    return intrinsic("copysign", size, sign)


def sqrt(x: Value) -> Value:
    return intrinsic("sqrt", x)


def floor(x: Value) -> Value:
    return intrinsic("floor", x)


def ceil(x: Value) -> Value:
    return intrinsic("ceil", x)


def trunc(x: Value) -> Value:
    return intrinsic("trunc", x)


def rint(x: Value) -> Value:
    """Rounded to the nearest integer, halves to the even one."""
    return intrinsic("roundeven", x)


def select(condition: Value, yes: Operand, no: Operand) -> Value:
    """One of yes and no must be a value: it gives the number beside it its element."""
    typed = yes if isinstance(yes, Value) else no
    assert isinstance(typed, Value)
    yes, no = typed.like(yes), typed.like(no)
    return Value(typed.code, typed.element, typed.code.emit(f"select {condition.typed}, {yes.typed}, {no.typed}"))


def at_least(x: Value, bound: float) -> Value:
    """max(x, bound), NaN if x is."""
    return select(x < bound, bound, x)


def at_most(x: Value, bound: float) -> Value:
    """min(x, bound), NaN if x is."""
    return select(x > bound, bound, x)


def bits(x: Value) -> Value:
    """The bits of a float, as an integer."""
    return x.cast("bitcast", x.format.integer)


def unbits(i: Value) -> Value:
    return i.cast("bitcast", i.format.element)


def to_float(i: Value) -> Value:
    """The float of the integer's size with its value."""
    return i.cast("sitofp", i.format.element)


def widen(x: Value) -> Value:
    return x.cast("fpext", "double")


def narrow(x: Value) -> Value:
    """A double in the element of the function."""
    return x.cast("fptrunc", x.code.format.element)


def narrow_integer(i: Value) -> Value:
    return i.cast("trunc", i.code.format.integer)


def poly(x: Value, coefficients: tuple[float, ...]) -> Value:
    """c0 + c1 x + c2 x^2 + ...: Horner's rule, or for a long one even(x^2) + x odd(x^2), whose halves run side by side."""
    if len(coefficients) > 6:
        z = x * x
        return fma(poly(z, coefficients[1::2]), x, poly(z, coefficients[::2]))
    return horner(x, [x.like(c) for c in coefficients])


def horner(x: Value, coefficients: Sequence[Value]) -> Value:
    *rest, y = coefficients
    for c in reversed(rest):
        y = fma(y, x, c)
    return y
