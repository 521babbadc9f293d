"""writer: LLVM text, one instruction after the other, the same for scalars and for vectors of one width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tinyflow.compiler import vecmath
from tinyflow.core.dtypes import DType, bool_, float32
from tinyflow.runtime.target import Target


class Value(NamedTuple):
    name: str
    dtype: DType
    wide: bool  # one per lane

    def type(self, lanes: int) -> str:
        t = "i1" if self.dtype is bool_ else self.dtype.llvm
        return f"<{lanes} x {t}>" if self.wide else t


class Writer:
    """The lines of a function in the making, and what its module needs besides."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.lanes = target.lanes(float32)
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.count = 0
        self.block = "entry"
        self.functions: dict[tuple[str, str, int], None] = {}  # of vecmath
        self.declared: dict[str, None] = {}
        self.extra: dict[str, None] = {}  # further functions of the module

    def name(self, hint: str = "v") -> str:
        self.count += 1
        return f"%{hint}{self.count}"

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def op(self, template: str, args: Sequence[Value], dtype: DType | None = None) -> Value:
        """One instruction of the table: operands are made alike, scalar or wide."""
        args = self.same(*args)
        out = Value(self.name(), dtype or args[0].dtype, args[0].wide)
        self.line(f"{out.name} = " + template.format(*(a.name for a in args), t=args[0].type(self.lanes)))
        return out

    def same(self, *args: Value) -> list[Value]:
        return [self.widen(a) for a in args] if any(a.wide for a in args) else list(args)

    def widen(self, a: Value) -> Value:
        """A scalar in every lane."""
        if a.wide:
            return a
        if not a.name.startswith("%"):
            return Value(f"splat ({a.type(1)} {a.name})", a.dtype, True)
        return Value(self.widen_raw(a, a.type(1)), a.dtype, True)

    def splat(self, constant: Any, like: Value) -> Value:
        """A constant of the type and width of a value."""
        return (
            self.widen(Value(literal(constant, like.dtype), like.dtype, False))
            if like.wide
            else Value(literal(constant, like.dtype), like.dtype, False)
        )

    def choose(self, condition: Value, a: Value, b: Value) -> Value:
        wide = a.wide or b.wide or condition.wide
        if wide:
            condition, a, b = self.widen(condition), self.widen(a), self.widen(b)
        out = Value(self.name(), a.dtype, wide)
        t = a.type(self.lanes)
        self.line(f"{out.name} = select {condition.type(self.lanes)} {condition.name}, {t} {a.name}, {t} {b.name}")
        return out

    def convert(self, opcode: str, x: Value, dtype: DType) -> Value:
        out = Value(self.name(), dtype, x.wide)
        self.line(f"{out.name} = {opcode} {x.type(self.lanes)} {x.name} to {out.type(self.lanes)}")
        return out

    def relabel(self, x: Value, dtype: DType) -> Value:
        return Value(x.name, dtype, x.wide)

    def saturate(self, x: Value, dtype: DType) -> Value:
        out = Value(self.name(), dtype, x.wide)
        fn = f"llvm.fpto{'u' if dtype.kind == 'u' else 's'}i.sat.{mangled(out, self.lanes)}.{mangled(x, self.lanes)}"
        self.call(out, fn, [x])
        return out

    def call(self, out: Value, fn: str, args: Sequence[Value], flags: str = "") -> None:
        kinds = [a.type(self.lanes) for a in args]
        self.declared[f"declare {out.type(self.lanes)} @{fn}({', '.join(kinds)})"] = None
        self.line(
            f"{out.name} = call {flags}{out.type(self.lanes)} @{fn}({', '.join(f'{k} {a.name}' for k, a in zip(kinds, args, strict=True))})"
        )

    def intrinsic(self, name: str, args: Sequence[Value], dtype: DType, flags: str = "") -> Value:
        args = self.same(*args)
        out = Value(self.name(), dtype, args[0].wide)
        self.call(out, f"llvm.{name}.{mangled(args[0], self.lanes)}", args, flags)
        return out

    def vecmath(self, name: str, args: Sequence[Value]) -> Value:
        args = self.same(*args)
        lanes = self.lanes if args[0].wide else 1
        key = (name, args[0].dtype.name, lanes)
        self.functions[key] = None
        out = Value(self.name(), args[0].dtype, args[0].wide)
        t = out.type(self.lanes)
        self.line(f"{out.name} = call {t} @{vecmath.symbol(*key)}({', '.join(f'{t} {a.name}' for a in args)})")
        return out

    def fresh(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}"

    # -------------------------------------------------------------------------------------- parts of vectors, masks

    def masked_load(self, out: Value, p: str, mask: Value) -> None:
        """Under a mask, a register at a time: given several, LLVM 22 may take a half of the mask for true, and read outside."""
        t, parts, names = out.dtype.llvm, self.registers(out.dtype), []
        n = self.lanes // parts
        fn = f"llvm.masked.load.v{n}{short(out.dtype)}.p0"
        self.declared[f"declare <{n} x {t}> @{fn}(ptr, i32, <{n} x i1>, <{n} x {t}>)"] = None
        for k in range(parts):
            names.append(self.name("v") if parts > 1 else out.name)
            at, m = self.part_pointer(p, t, k * n), self.part(mask.name, "i1", k, parts)
            args = f"ptr {at}, i32 {out.dtype.size}, <{n} x i1> {m}, <{n} x {t}> zeroinitializer"
            self.line(f"{names[-1]} = call <{n} x {t}> @{fn}({args})")
        while len(names) > 1:  # joined two by two, the last time under the name of the result
            n *= 2
            order = ", ".join(f"i32 {i}" for i in range(n))
            pairs, names = list(zip(names[::2], names[1::2], strict=True)), []
            for first, second in pairs:
                names.append(out.name if n == self.lanes else self.name("v"))
                both = f"<{n // 2} x {t}> {first}, <{n // 2} x {t}> {second}"
                self.line(f"{names[-1]} = shufflevector {both}, <{n} x i32> <{order}>")

    def masked_store(self, p: str, v: Value, mask: Value) -> None:
        """Under a mask, a register at a time."""
        t, parts = v.dtype.llvm, self.registers(v.dtype)
        n = self.lanes // parts
        fn = f"llvm.masked.store.v{n}{short(v.dtype)}.p0"
        self.declared[f"declare void @{fn}(<{n} x {t}>, ptr, i32, <{n} x i1>)"] = None
        for k in range(parts):
            at, m, x = (
                self.part_pointer(p, t, k * n),
                self.part(mask.name, "i1", k, parts),
                self.part(v.name, t, k, parts),
            )
            self.line(f"call void @{fn}(<{n} x {t}> {x}, ptr {at}, i32 {v.dtype.size}, <{n} x i1> {m})")

    def registers(self, dtype: DType) -> int:
        """How many registers the lanes of a type take: one, or two for the types twice as wide as float32."""
        return max(self.lanes * dtype.size // self.target.vector_bytes, 1)

    def part(self, name: str, t: str, k: int, parts: int) -> str:
        """The k-th of so many parts of a vector."""
        if parts == 1:
            return name
        n, out = self.lanes // parts, self.name("h")
        order = ", ".join(f"i32 {i}" for i in range(k * n, (k + 1) * n))
        self.line(
            f"{out} = shufflevector <{self.lanes} x {t}> {name}, <{self.lanes} x {t}> poison, <{n} x i32> <{order}>"
        )
        return out

    def part_pointer(self, p: str, t: str, lane: int) -> str:
        if not lane:
            return p
        out = self.name("p")
        self.line(f"{out} = getelementptr {t}, ptr {p}, i64 {lane}")
        return out

    def all_true(self) -> str:
        return "splat (i1 true)"

    def widen_raw(self, v: Value, t: str) -> str:
        first, out = self.name("s"), self.name("w")
        self.line(f"{first} = insertelement <{self.lanes} x {t}> poison, {t} {v.name}, i32 0")
        self.line(
            f"{out} = shufflevector <{self.lanes} x {t}> {first}, <{self.lanes} x {t}> poison, <{self.lanes} x i32> zeroinitializer"
        )
        return out


def literal(value: Any, dtype: DType) -> str:
    """A constant as LLVM writes it; floats bit by bit."""
    if isinstance(value, str):
        return value
    if dtype.kind == "f":
        import struct

        exact = struct.unpack("<d", struct.pack("<d", float(dtype.numpy.type(value))))[0]
        return f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016X}"
    if dtype is bool_:
        return "true" if value else "false"
    return str(int(value))


def short(dtype: DType) -> str:
    return {"float": "f32", "double": "f64", "half": "f16"}.get(dtype.llvm, dtype.llvm)


def mangled(v: Value, lanes: int) -> str:
    t = "i1" if v.dtype is bool_ else short(v.dtype)
    return f"v{lanes}{t}" if v.wide else t
