"""What one instruction does on some machines and several do on others; the bits are the same.

`code.machine` is the name of a row of runtime/target.py. AVX-512 multiplies by 2^n whatever becomes of the exponent, and
looks 16 numbers up in a table that lies in a register; AVX2 looks up 8, so that a table of 16 takes two looks and a
choice. Elsewhere tables are read from memory, lane by lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from tinyflow.compiler.vecmath_values import Code, Value, select, unbits

PERMUTATIONS = {"avx512": (16, "llvm.x86.avx512.permvar.sf.512"), "avx2": (8, "llvm.x86.avx2.permps")}
SCALINGS = {
    ("avx512", "float"): (16, "llvm.x86.avx512.mask.scalef.ps.512"),
    ("avx512", "double"): (8, "llvm.x86.avx512.mask.scalef.pd.512"),
}
ROUND_AS_USUAL = 4


# ---- p 2^n


def power_of_two(i: Value) -> Value:
    """2^(i - bias) from the low bits of i, where it is a normal number."""
    return unbits(i << i.format.digits)


def scaled(p: Value, n: Value, i: Value) -> Value:
    """p 2^n, rounded once, to infinity and through the denormals down to 0; the low bits of i are n + 2 bias."""
    code, element = p.code, p.element
    lanes, name = SCALINGS.get((code.machine, element), (0, ""))
    if not lanes or code.lanes % lanes:
        half = i.shift_right(1)  # two factors of about 2^(n/2), both normal: only the last product rounds
        return p * power_of_two(half) * power_of_two(i - half)
    kind = f"<{lanes} x {element}>"
    code.declarations[f"declare {kind} @{name}({kind}, {kind}, {kind}, i{lanes}, i32)"] = None
    end = f"{kind} zeroinitializer, i{lanes} -1, i32 {ROUND_AS_USUAL}"
    pairs = zip(registers(p, lanes), registers(n, lanes), strict=True)
    parts = [code.emit(f"call {kind} @{name}({kind} {a}, {kind} {b}, {end})") for a, b in pairs]
    return joined(code, element, parts, lanes)


# ---- tables


def look_up(i: Value, table: Sequence[float]) -> Value:
    """table[i modulo its length] of float32, for a length that is a power of two, at least 16."""
    code = i.code
    lanes, name = PERMUTATIONS.get(code.machine, (0, ""))
    if not lanes or code.lanes % lanes:
        return in_memory(i & (len(table) - 1), table)
    if len(table) > lanes:
        half = len(table) // 2
        return select((i & half).equals(0), look_up(i, table[:half]), look_up(i, table[half:]))
    kind, indices = f"<{lanes} x float>", f"<{lanes} x i32>"
    code.declarations[f"declare {kind} @{name}({kind}, {indices})"] = None
    entries = f"{kind} <{listed(table)}>"  # the instruction reads no more of an index than it needs
    parts = [code.emit(f"call {kind} @{name}({entries}, {indices} {part})") for part in registers(i, lanes)]
    return joined(code, "float", parts, lanes)


def in_memory(i: Value, table: Sequence[float]) -> Value:
    code, entries = i.code, listed(table)
    name = f"@tf_table_{crc32(entries.encode()):08x}"
    code.declarations[f"{name} = private unnamed_addr constant [{len(table)} x float] [{entries}]"] = None
    at = code.emit(f"getelementptr float, ptr {name}, {i.typed}")
    if code.lanes == 1:
        return Value(code, "float", code.emit(f"load float, ptr {at}"))
    kind, pointers, mask = code.type("float"), code.type("ptr"), code.type("i1")
    callee = f"{kind} @llvm.masked.gather.v{code.lanes}f32.v{code.lanes}p0"
    code.declarations[f"declare {callee}({pointers}, i32, {mask}, {kind})"] = None
    operands = f"{pointers} {at}, i32 4, {mask} splat (i1 true), {kind} zeroinitializer"
    return Value(code, "float", code.emit(f"call {callee}({operands})"))


def listed(table: Sequence[float]) -> str:
    return ", ".join(f"float {Code.number('float', x)}" for x in table)


# ---- vectors of several registers


def registers(x: Value, lanes: int) -> list[str]:
    """The vector in parts of `lanes`."""
    code = x.code
    if lanes == code.lanes:
        return [x.name]
    kind = code.type(x.element)
    return [shuffled(code, kind, x.name, "poison", range(k, k + lanes)) for k in range(0, code.lanes, lanes)]


def joined(code: Code, element: str, parts: list[str], lanes: int) -> Value:
    """The parts end to end, two by two."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [shuffled(code, f"<{lanes} x {element}>", a, b, range(2 * lanes)) for a, b in pairs]
        lanes *= 2
    return Value(code, element, parts[0])


def shuffled(code: Code, kind: str, a: str, b: str, order: range) -> str:
    lanes = ", ".join(f"i32 {k}" for k in order)
    return code.emit(f"shufflevector {kind} {a}, {kind} {b}, <{len(order)} x i32> <{lanes}>")
