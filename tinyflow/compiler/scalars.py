"""How each scalar function is written in LLVM: one table, for scalars and vectors alike.

A row is a template: {t} is the type, {0} {1} the operands; or a function of the emitter for what takes several lines.
Rows are looked up by name and kind of the operands: f float, i signed, u unsigned, b bool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tinyflow.core.dtypes import DType, bfloat16, bool_, float16, float32, float64, int32
from tinyflow.ops.random import GOLDEN

if TYPE_CHECKING:
    from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.writer import Value

Row = "str | Callable[[Emitter, list[Value], DType], Value]"
SIGNED = 1 << 63


def word(n: int) -> str:
    """A 64-bit constant as LLVM writes it."""
    n &= (1 << 64) - 1
    return str(n - (1 << 64) if n >= SIGNED else n)


def intrinsic(name: str, arity: int) -> Callable[..., Value]:
    def emit(em: Emitter, args: list[Value], dtype: DType) -> Value:
        return em.intrinsic(name, args[:arity], args[0].dtype)

    return emit


def vector_function(name: str) -> Callable[..., Value]:
    """A function of vecmath.py, inlined."""
    return lambda em, args, dtype: em.vecmath(name, args)


def by_inverse(em: Emitter, a: Value, b: Value) -> Value:
    """A vector over one number: a product takes a tenth of a quotient's time."""
    return em.op("fmul {t} {0}, {1}", [a, em.op("fdiv {t} {0}, {1}", [em.splat(1.0, b), b])])


def negate_int(em: Emitter, args: list[Value], dtype: DType) -> Value:
    return em.op("sub {t} {0}, {1}", [em.splat(0, args[0]), args[0]])


def sign_float(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """copysign(1, x), and x itself where it is zero or NaN."""
    one = em.intrinsic("copysign", [em.splat(1.0, args[0]), args[0]], args[0].dtype)
    ordinary = em.op("fcmp one {t} {0}, {1}", [args[0], em.splat(0.0, args[0])], bool_)
    return em.choose(ordinary, one, args[0])


def sign_int(em: Emitter, args: list[Value], dtype: DType) -> Value:
    zero = em.splat(0, args[0])
    above = em.op(f"icmp {'u' if args[0].dtype.kind == 'u' else 's'}gt {{t}} {{0}}, {{1}}", [args[0], zero], bool_)
    below = em.op(f"icmp {'ult' if args[0].dtype.kind == 'u' else 'slt'} {{t}} {{0}}, {{1}}", [args[0], zero], bool_)
    return em.choose(above, em.splat(1, args[0]), em.choose(below, em.splat(-1, args[0]), zero))


def abs_int(em: Emitter, args: list[Value], dtype: DType) -> Value:
    if args[0].dtype.kind == "u":
        return args[0]
    return em.choose(
        em.op("icmp slt {t} {0}, {1}", [args[0], em.splat(0, args[0])], bool_), negate_int(em, args, dtype), args[0]
    )


def safe_divisor(em: Emitter, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """(divisor, is zero, is minus one): integer division traps on 0, and on the least number over -1."""
    zero = em.op("icmp eq {t} {0}, {1}", [b, em.splat(0, b)], bool_)
    minus = em.op("icmp eq {t} {0}, {1}", [b, em.splat(-1, b)], bool_)
    bad = em.op("or {t} {0}, {1}", [zero, minus], bool_) if b.dtype.kind == "i" else zero
    return em.choose(bad, em.splat(1, b), b), zero, minus


def floordiv_int(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """Rounded down; 0 where the divisor is 0, as numpy."""
    a, b = args
    d, zero, minus = safe_divisor(em, a, b)
    if a.dtype.kind == "u":
        return em.choose(zero, em.splat(0, a), em.op("udiv {t} {0}, {1}", [a, d]))
    q, r = em.op("sdiv {t} {0}, {1}", [a, d]), em.op("srem {t} {0}, {1}", [a, d])
    q = em.choose(rounds(em, r, d), em.op("add {t} {0}, {1}", [q, em.splat(-1, q)]), q)
    q = em.choose(minus, negate_int(em, [a], dtype), q)
    return em.choose(zero, em.splat(0, a), q)


def rounds(em: Emitter, r: Value, d: Value) -> Value:
    """Whether the quotient was rounded up: a remainder of the other sign than the divisor."""
    some = em.op("icmp ne {t} {0}, {1}", [r, em.splat(0, r)], bool_)
    other = em.op("icmp slt {t} {0}, {1}", [em.op("xor {t} {0}, {1}", [r, d]), em.splat(0, r)], bool_)
    return em.op("and {t} {0}, {1}", [some, other], bool_)


def mod_int(em: Emitter, args: list[Value], dtype: DType) -> Value:
    a, b = args
    d, zero, minus = safe_divisor(em, a, b)
    if a.dtype.kind == "u":
        return em.choose(zero, em.splat(0, a), em.op("urem {t} {0}, {1}", [a, d]))
    r = em.op("srem {t} {0}, {1}", [a, d])
    r = em.choose(rounds(em, r, d), em.op("add {t} {0}, {1}", [r, d]), r)
    return em.choose(em.op("or {t} {0}, {1}", [zero, minus], bool_), em.splat(0, a), r)


def remainder(em: Emitter, a: Value, b: Value) -> tuple[Value, Value, Value]:
    """(the remainder of the sign of a, whether it is not zero, whether its sign is not the divisor's)"""
    r, zero = em.op("frem {t} {0}, {1}", [a, b]), em.splat(0.0, a)
    some = em.op("fcmp une {t} {0}, {1}", [r, zero], bool_)
    negative = em.op("fcmp olt {t} {0}, {1}", [r, zero], bool_)
    below = em.op("fcmp olt {t} {0}, {1}", [b, zero], bool_)
    return r, some, em.op("xor {t} {0}, {1}", [negative, below], bool_)


def mod_float(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """The remainder of the sign of the divisor, as Python's; a zero has the divisor's sign."""
    a, b = args
    r, some, other = remainder(em, a, b)
    turned = em.choose(other, em.op("fadd {t} {0}, {1}", [r, b]), r)
    return em.choose(some, turned, em.intrinsic("copysign", [em.splat(0.0, a), b], a.dtype))


def floordiv_float(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """floor(a / b) without the rounding error of a / b: (a - remainder) / b, one less where the signs differ."""
    a, b = args
    r, some, other = remainder(em, a, b)
    whole = em.op("fdiv {t} {0}, {1}", [em.op("fsub {t} {0}, {1}", [a, r]), b])
    less = em.op("fsub {t} {0}, {1}", [whole, em.splat(1.0, a)])
    near = em.intrinsic("rint", [em.choose(em.op("and {t} {0}, {1}", [some, other], bool_), less, whole)], a.dtype)
    ratio = em.op("fdiv {t} {0}, {1}", [a, b])
    signed = em.intrinsic("copysign", [em.intrinsic("fabs", [near], a.dtype), ratio], a.dtype)
    near = em.choose(em.op("fcmp oeq {t} {0}, {1}", [near, em.splat(0.0, a)], bool_), signed, near)
    return em.choose(em.op("fcmp oeq {t} {0}, {1}", [b, em.splat(0.0, b)], bool_), ratio, near)


def relu(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """max(x, 0), NaN kept: the comparison is false only for what stays."""
    zero = em.splat(0.0 if args[0].dtype.kind == "f" else 0, args[0])
    below = {"f": "fcmp olt", "i": "icmp slt", "u": "icmp ult"}[args[0].dtype.kind]
    return em.choose(em.op(f"{below} {{t}} {{0}}, {{1}}", [args[0], zero], bool_), zero, args[0])


def extremum(name: str) -> Callable[..., Value]:
    """The greater (least) of two floats, either of two zeros; NaN if either is. What is new to a fold comes first: only of
    the first do machines without such an instruction ask whether it is NaN, so that the fold's next step need not wait."""

    def emit(em: Emitter, args: list[Value], dtype: DType) -> Value:
        return em.intrinsic(name, args, dtype, "nsz ")

    return emit


def integer_extremum(predicate: str) -> Callable[..., Value]:
    def emit(em: Emitter, args: list[Value], dtype: DType) -> Value:
        return em.choose(em.op(f"icmp {predicate} {{t}} {{0}}, {{1}}", args, bool_), args[0], args[1])

    return emit


def compare(f: str, i: str, u: str) -> dict[str, object]:
    def row(text: str) -> Callable[..., Value]:
        return lambda em, args, dtype: em.op(f"{text} {{t}} {{0}}, {{1}}", args, bool_)

    return {"f": row(f"fcmp {f}"), "i": row(f"icmp {i}"), "u": row(f"icmp {u}"), "b": row(f"icmp {u}")}


def select(em: Emitter, args: list[Value], dtype: DType) -> Value:
    return em.choose(*args)


def cast(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """Between all types; a float out of an integer's range becomes its nearest end, NaN 0."""
    (x,) = args
    if dtype is bool_:
        zero = em.splat(0.0 if x.dtype.kind == "f" else 0, x)
        return em.op("fcmp une {t} {0}, {1}" if x.dtype.kind == "f" else "icmp ne {t} {0}, {1}", [x, zero], bool_)
    source, kind = x.dtype.kind, dtype.kind
    if source == kind == "f":
        return em.convert("fpext" if dtype is float64 else "fptrunc", x, dtype)
    if source == "f":
        return em.saturate(x, dtype)
    if kind == "f":
        return em.convert("sitofp" if source == "i" else "uitofp", x, dtype)
    wide, narrow = dtype.size, 1 if source == "b" else x.dtype.size
    if source != "b" and wide == narrow:
        return em.relabel(x, dtype)
    if wide < narrow:
        return em.convert("trunc", x, dtype)
    return em.convert("sext" if source == "i" else "zext", x, dtype)


def widen(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """A number as it is stored, as float32."""
    (x,) = args
    if x.dtype is float16:
        return as_type(em, "fpext", x, "half", "float", float32)
    bits = as_type(em, "zext", as_type(em, "bitcast", x, "half", "i16", x.dtype), "i16", "i32", int32)
    return as_type(em, "bitcast", em.op("shl {t} {0}, {1}", [bits, em.splat(16, bits)]), "i32", "float", float32)


def narrow(em: Emitter, x: Value, dtype: DType) -> Value:
    """A float32 as it is stored: rounded to the nearest, to the even one of two; NaN stays NaN.

    As halves, not as integers: LLVM 22 stores four bytes where a mask lets one truncated integer of two through.
    """
    if dtype is float16:
        return as_type(em, "fptrunc", x, "float", "half", dtype)
    bits = as_type(em, "bitcast", x, "float", "i32", int32)
    high = em.op("lshr {t} {0}, {1}", [bits, em.splat(16, bits)])
    odd = em.op("and {t} {0}, {1}", [high, em.splat(1, bits)])
    up = em.op("add {t} {0}, {1}", [em.op("add {t} {0}, {1}", [bits, em.splat(0x7FFF, bits)]), odd])
    rounded = em.op("lshr {t} {0}, {1}", [up, em.splat(16, bits)])
    quiet = em.op("or {t} {0}, {1}", [high, em.splat(0x40, bits)])
    chosen = em.choose(em.op("fcmp uno {t} {0}, {1}", [x, x], bool_), quiet, rounded)
    return as_type(em, "bitcast", as_type(em, "trunc", chosen, "i32", "i16", dtype), "i16", "half", dtype)


def as_type(em: Emitter, opcode: str, x: Value, source: str, into: str, dtype: DType) -> Value:
    """One conversion between types in LLVM's names."""
    of = (lambda t: f"<{em.lanes} x {t}>") if x.wide else (lambda t: t)
    out = Value(em.name(), dtype, x.wide)
    em.line(f"{out.name} = {opcode} {of(source)} {x.name} to {of(into)}")
    return out


def pair(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """Two numbers as bfloat16 in the halves of 32 bits."""
    low, high = (as_type(em, "bitcast", widen(em, [narrow(em, x, bfloat16)], float32), "float", "i32", int32) for x in em.same(*args))  # fmt: skip
    both = em.op("or {t} {0}, {1}", [em.op("lshr {t} {0}, {1}", [low, em.splat(16, low)]), high])
    return as_type(em, "bitcast", both, "i32", "float", float32)


def dot_of_pairs(em: Emitter, args: list[Value], dtype: DType) -> Value:
    halves = []
    for x in em.same(*args):
        bits = as_type(em, "bitcast", x, "float", "i32", int32)
        parts = (
            em.op("shl {t} {0}, {1}", [bits, em.splat(16, bits)]),
            em.op("and {t} {0}, {1}", [bits, em.splat(-65536, bits)]),
        )
        halves.append([as_type(em, "bitcast", b, "i32", "float", float32) for b in parts])
    (a, b), (c, d) = halves
    return em.op("fadd {t} {0}, {1}", [em.op("fmul {t} {0}, {1}", [a, c]), em.op("fmul {t} {0}, {1}", [b, d])])


def rounded_to(low: DType) -> Callable[..., Value]:
    return lambda em, args, dtype: widen(em, [narrow(em, args[0], low)], float32)


def uniform(em: Emitter, args: list[Value], dtype: DType) -> Value:
    """24 (53) high bits of SplitMix64 of the key and the position, as a number in [0, 1)."""
    key, salt, position = args
    start = em.op("xor {t} {0}, {1}", [key, salt])
    z = em.op("add {t} {0}, {1}", [position, em.splat(1, position)])
    z = em.op("add {t} {0}, {1}", em.same(em.op("mul {t} {0}, {1}", [z, em.splat(word(GOLDEN), z)]), start))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, None)):
        z = em.op("xor {t} {0}, {1}", [z, em.op("lshr {t} {0}, {1}", [z, em.splat(shift, z)])])
        if factor:
            z = em.op("mul {t} {0}, {1}", [z, em.splat(word(factor), z)])
    bits = 24 if dtype is float32 else 53
    top = em.op("lshr {t} {0}, {1}", [z, em.splat(64 - bits, z)])
    number = em.convert("uitofp", top, dtype)
    return em.op("fmul {t} {0}, {1}", [number, em.splat(2.0**-bits, number)])


def index_division(name: str) -> Callable[..., Value]:
    """Of indices, which are not negative and whose divisors are at least 1; rounded down all the same."""
    return lambda em, args, dtype: (floordiv_int if name == "idiv" else mod_int)(em, args, dtype)


# fmt: off
VECMATH = (
    "exp", "exp2", "log", "log2", "log10", "expm1", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh",
    "sigmoid", "erf", "erfc", "erfinv", "floor", "ceil", "round", "pow",
)
SCALARS: dict[str, dict[str, Any]] = {
    "add": {"f": "fadd {t} {0}, {1}", "i": "add {t} {0}, {1}", "u": "add {t} {0}, {1}", "b": "or {t} {0}, {1}"},
    "sub": {"f": "fsub {t} {0}, {1}", "i": "sub {t} {0}, {1}", "u": "sub {t} {0}, {1}"},
    "mul": {"f": "fmul {t} {0}, {1}", "i": "mul {t} {0}, {1}", "u": "mul {t} {0}, {1}", "b": "and {t} {0}, {1}"},
    "div": {"f": "fdiv {t} {0}, {1}"},
    "neg": {"f": "fneg {t} {0}", "i": negate_int, "u": negate_int},
    "abs": {"f": intrinsic("fabs", 1), "i": abs_int, "u": abs_int},
    "sign": {"f": sign_float, "i": sign_int, "u": sign_int},
    "relu": {"f": relu, "i": relu, "u": relu},
    "max": {"f": extremum("maximum"), "i": integer_extremum("sge"), "u": integer_extremum("uge"), "b": "or {t} {0}, {1}"},
    "min": {"f": extremum("minimum"), "i": integer_extremum("sle"), "u": integer_extremum("ule"), "b": "and {t} {0}, {1}"},
    "floordiv": {"f": floordiv_float, "i": floordiv_int, "u": floordiv_int},
    "mod": {"f": mod_float, "i": mod_int, "u": mod_int},
    "idiv": {"i": index_division("idiv")}, "imod": {"i": index_division("imod")},
    "imax": {"i": integer_extremum("sge")}, "imin": {"i": integer_extremum("sle")},
    "lt": compare("olt", "slt", "ult"), "le": compare("ole", "sle", "ule"),
    "eq": compare("oeq", "eq", "eq"), "ne": compare("une", "ne", "ne"),
    "and": {"b": "and {t} {0}, {1}"}, "or": {"b": "or {t} {0}, {1}"},
    "not": {"b": lambda em, args, dtype: em.op("xor {t} {0}, {1}", [args[0], em.splat("true", args[0])])},
    "select": {"b": select},
    "cast": dict.fromkeys("fiub", cast),
    "uniform": {"i": uniform},
    "pair": {"f": pair}, "dot of pairs": {"f": dot_of_pairs},
    "widen": {"f": widen}, "round to bfloat16": {"f": rounded_to(bfloat16)}, "round to float16": {"f": rounded_to(float16)},
}
# fmt: on
SCALARS.update((name, {"f": vector_function(name)}) for name in VECMATH)
