"""emit: kernels to LLVM text.

    void kernel(ptr slots, ptr dims, ptr args, i64 tid, i64 nthreads)

`slots` holds the buffers' addresses and `dims` the sizes known when running; `args` says which of them are meant, so
kernels of one structure are one text, compiled once. Every value is a scalar until an operand depends on the lanes; it
is computed in the outermost loop that it does not depend on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tinyflow.compiler.loops import free, stride
from tinyflow.compiler.scalars import SCALARS, by_inverse, narrow
from tinyflow.compiler.writer import Value, Writer, literal, mangled, short
from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bool_, int64
from tinyflow.core.expr import Apply, Const, Counter, Dim, Expr, Fold, Index, Index_, Load, Poly
from tinyflow.runtime.memory import ALIGN
from tinyflow.runtime.target import Target

BLOCK = 4096  # elements of a flat loop that one thread takes at once
STEPS = range(2, 10)  # of lanes in memory, that are read by whole vectors and not one by one


class Code(NamedTuple):
    """A kernel's text, and what its arguments stand for."""

    text: str
    buffers: tuple[Any, ...]
    dims: tuple[Expr, ...]
    checks: tuple[Any, ...]
    tasks: Index_
    written: frozenset[Any]  # those of the buffers that it stores to
    touched: tuple[tuple[Any, Index_ | None], ...]  # how many bytes of which buffer it reads and writes; None: all
    flops: Index_


class Emitter(Writer):
    """The text of one kernel in the making."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.env: dict[Expr, Value] = {}
        self.scopes: list[dict[Expr, Value]] = [{}]
        self.lane: Index | None = None
        self.mask: Value | None = None
        self.buffers: dict[Any, str] = {}
        self.dims: dict[Expr, str] = {}
        self.checks: list[Any] = []
        self.alone = False  # whether each thread does all of what is written now
        self.past: frozenset[Any] = frozenset()  # buffers whose whole vectors are written past the caches
        self.ahead: dict[Load, int] = {}  # loads of what is read again so many bytes on
        self.near_one: frozenset[Expr] = frozenset()  # folds from 1 to the length of a row

    # -------------------------------------------------------------------------------------- values

    def value(self, e: Expr | int) -> Value:
        """The value of an expression, computed here unless an open loop has it already."""
        if isinstance(e, int):
            return Value(str(e), int64, False)
        if isinstance(e, Const):
            return Value(literal(e.value, e.dtype), e.dtype, False)
        if e in self.env:
            return self.env[e]
        for scope in self.scopes:
            if e in scope:
                return scope[e]
        found = VALUES[type(e)](self, e)
        self.scopes[-1][e] = found
        return found

    def index(self, e: Dim) -> Value:
        raise KeyError(f"the index {e} is not bound here")

    def dimension(self, e: Dim) -> Value:
        return Value(self.dims.setdefault(e, f"%dim{len(self.dims)}"), int64, False)

    def poly(self, e: Poly) -> Value:
        total: Value | None = None
        for monomial, c in e.terms:
            term = Value(str(c), int64, False)
            for k, atom in enumerate(monomial):
                v = self.value(atom)
                term = v if k == 0 and c == 1 else self.op("mul {t} {0}, {1}", [term, v])
            total = term if total is None else self.op("add {t} {0}, {1}", [total, term])
        assert total is not None
        return total

    def apply(self, e: Apply) -> Value:
        if e.fn == "guard":
            return self.guard(e)
        if e.fn == "check":
            return self.check(e)
        if e.fn == "inside":
            return self.value(e.args[0])
        args = [self.value(a) for a in e.args]
        if e.fn == "div" and args[0].wide and not args[1].wide and self.has_inverse(e.args[1]):
            return by_inverse(self, args[0], args[1])
        row = SCALARS[e.fn][args[0].dtype.kind]
        return self.op(row, args, e.dtype) if isinstance(row, str) else row(self, args, e.dtype)

    def has_inverse(self, e: Expr) -> bool:
        """Whether the inverse of a number for a whole row is as exact as the number, wherever it lies: no root is near an end of
        the range, and no sum of exponentials of what their maximum leaves."""
        return (isinstance(e, Apply) and e.fn == "sqrt") or e in self.near_one

    def guard(self, e: Apply) -> Value:
        """What is loaded for the value is touched only where the condition holds."""
        condition, inside, other = e.args
        test = self.value(condition)
        saved = self.mask
        self.mask = test if saved is None else self.op("and {t} {0}, {1}", [saved, test], bool_)
        self.scopes.append({})
        v = self.value(inside)
        self.scopes.pop()
        self.mask = saved
        return self.choose(test, v, self.value(other))

    def check(self, e: Apply) -> Value:
        """An index from data: out of range it is noted, and 0 is used."""
        given, size, number = e.args
        index, n = self.value(given), self.value(size)
        index = index if index.dtype is int64 else SCALARS["cast"][index.dtype.kind](self, [index], int64)
        good = self.op("icmp ult {t} {0}, {1}", [index, n], bool_)
        bad = self.op("xor {t} {0}, {1}", [good, self.splat("true", good)], bool_)
        if self.mask is not None:
            bad = self.op("and {t} {0}, {1}", [bad, self.mask], bool_)
        self.note(bad, index, n, int(number.value))  # type: ignore[attr-defined]
        return self.choose(good, index, self.splat(0, index))

    def note(self, bad: Value, index: Value, size: Value, number: int) -> None:
        """The first bad index of a run is kept in slot 0: (which check + 1, index, size)."""
        some = bad
        if bad.wide:
            some = Value(self.name(), bool_, False)
            self.call(some, f"llvm.vector.reduce.or.{mangled(bad, self.lanes)}", [bad])
        fail, good = self.fresh("fail"), self.fresh("good")
        self.line(f"br i1 {some.name}, label %{fail}, label %{good}, !prof !0")
        self.label(fail)
        first = self.worst(bad, index) if bad.wide else index
        self.declared["declare void @tf_note_bad_index(ptr, i64, i64, i64)"] = None
        self.extra[NOTE] = None
        which = self.name()
        self.line(f"{which} = load i64, ptr %check{number}")
        self.line(f"call void @tf_note_bad_index(ptr %status, i64 {which}, i64 {first.name}, i64 {size.name})")
        self.line(f"br label %{good}")
        self.label(good)

    def worst(self, bad: Value, index: Value) -> Value:
        """One of the lanes' bad indices."""
        picked = self.choose(bad, index, self.splat("-9223372036854775808", index))
        out = Value(self.name(), int64, False)
        self.call(out, f"llvm.vector.reduce.smax.{mangled(picked, self.lanes)}", [picked])
        return out

    # -------------------------------------------------------------------------------------- memory

    def pointer(self, buffer: Any, offset: Index_, dtype: DType) -> str:
        base = self.buffers.setdefault(buffer, f"%buf{len(self.buffers)}")
        at = self.value(offset) if not isinstance(offset, int) else Value(str(offset), int64, False)
        if self.mask is not None and not at.wide and not self.mask.wide:
            at = self.choose(
                self.mask, at, Value("0", int64, False)
            )  # a scalar load has no mask: it reads the first element
        p = self.name("p")
        if at.wide:
            self.line(f"{p} = getelementptr {dtype.llvm}, ptr {base}, <{self.lanes} x i64> {at.name}")
        else:
            self.line(f"{p} = getelementptr {dtype.llvm}, ptr {base}, i64 {at.name}")
        return p

    def load(self, e: Load) -> Value:
        raw = self.load_raw(e)
        if e.dtype is not bool_:
            return raw
        out = Value(self.name(), bool_, raw.wide)
        t = f"<{self.lanes} x i8>" if raw.wide else "i8"
        self.line(f"{out.name} = icmp ne {t} {raw.name}, {'zeroinitializer' if raw.wide else 0}")
        return out

    def load_raw(self, e: Load) -> Value:
        """A vector where the lanes lie beside each other, a gather where they do not, else a scalar."""
        t, dtype = e.dtype.llvm, e.dtype
        step = stride(e.offset, self.lane) if self.lane is not None else 0
        wide = self.lane is not None and self.lane in free(e.offset)
        if not wide:
            with self.scalar_mask():
                p = self.pointer(e.buffer, e.offset, dtype)
            out = Value(self.name(), dtype, False)
            self.line(f"{out.name} = load {t}, ptr {p}, align {dtype.size}")
            return out
        out = Value(self.name(), dtype, True)
        vt = f"<{self.lanes} x {t}>"
        if step == 1:
            p = self.lane_pointer(e.buffer, e.offset, dtype)
            if self.mask is None:
                self.line(f"{out.name} = load {vt}, ptr {p}, align {dtype.size}")
            else:
                self.masked_load(out, p, self.widen(self.mask))
            return out
        if step in STEPS and self.mask is None and self.lanes > 2:
            self.every(out, e, 0 if step is None else step)
            return out
        p = self.pointer(e.buffer, e.offset, dtype)
        m = self.widen(self.mask).name if self.mask is not None else self.all_true()
        fn = f"llvm.masked.gather.v{self.lanes}{short(dtype)}.v{self.lanes}p0"
        self.declared[f"declare {vt} @{fn}(<{self.lanes} x ptr>, i32, <{self.lanes} x i1>, {vt})"] = None
        self.line(
            f"{out.name} = call {vt} @{fn}(<{self.lanes} x ptr> {p}, i32 {dtype.size}, <{self.lanes} x i1> {m}, {vt} zeroinitializer)"
        )
        return out

    def every(self, out: Value, e: Load, step: Index_) -> None:
        """Every so many-th element, out of whole vectors, the last of which ends with the last element."""
        assert self.lane is not None and isinstance(step, int)
        n, t = self.lanes, f"<{self.lanes} x {e.dtype.llvm}>"
        rest = self.value(expr.as_expr(expr.add(e.offset, expr.mul(self.lane, -step))))
        first = self.op("mul {t} {0}, {1}", [self.env[first_lane(self.lane)], Value(str(step), int64, False)])
        start = self.op("add {t} {0}, {1}", [rest, first])
        base = self.buffers.setdefault(e.buffer, f"%buf{len(self.buffers)}")
        lane, found, end = self.name("p"), "poison", 0
        self.line(f"{lane} = getelementptr {e.dtype.llvm}, ptr {base}, i64 {start.name}")
        for k in range(step):
            place = min(k * n, (step - 1) * (n - 1))  # of the vector's first element
            p, x = self.part_pointer(lane, e.dtype.llvm, place), self.name("x")
            self.line(f"{x} = load {t}, ptr {p}, align {e.dtype.size}")
            new = [i for i in range(n) if end <= step * i < place + n]  # the lanes that find theirs in it
            order = ", ".join(f"i32 {n + step * i - place if i in new else i}" for i in range(n))
            joined, end = out.name if k + 1 == step else self.name("x"), place + n
            self.line(f"{joined} = shufflevector {t} {found}, {t} {x}, <{n} x i32> <{order}>")
            found = joined

    @contextmanager
    def scalar_mask(self) -> Iterator[None]:
        """A wide mask does not bar a scalar load unless every lane is barred."""
        saved = self.mask
        if saved is not None and saved.wide:
            some = Value(self.name(), bool_, False)
            self.call(some, f"llvm.vector.reduce.or.{mangled(saved, self.lanes)}", [saved])
            self.mask = some
        yield
        self.mask = saved

    def lane_pointer(self, buffer: Any, offset: Index_, dtype: DType) -> str:
        """Where the first lane lies."""
        assert self.lane is not None
        rest = expr.add(offset, expr.mul(self.lane, -1))
        start = self.value(rest) if isinstance(rest, Expr) else Value(str(rest), int64, False)
        at = self.op("add {t} {0}, {1}", [start, self.env[first_lane(self.lane)]])
        base = self.buffers.setdefault(buffer, f"%buf{len(self.buffers)}")
        p = self.name("p")
        self.line(f"{p} = getelementptr {dtype.llvm}, ptr {base}, i64 {at.name}")
        return p

    def fetch(self, e: Load, distance: int | Value) -> None:
        """Into the second cache, what lies so many bytes behind the lanes of a load."""
        p = self.lane_pointer(e.buffer, e.offset, e.dtype)
        if isinstance(distance, Value):
            start, p = p, self.name("p")
            self.line(f"{p} = getelementptr i8, ptr {start}, i64 {distance.name}")
            distance = 0
        self.declared["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None
        for line in range(0, self.lanes * e.dtype.size, ALIGN):
            q = self.part_pointer(p, "i8", distance + line)
            self.line(f"call void @llvm.prefetch.p0(ptr {q}, i32 0, i32 2, i32 1)")

    def store(self, buffer: Any, offset: Index_, v: Value, dtype: DType) -> None:
        """The value at an offset; as a vector where the store's index is the lanes."""
        if dtype.is_low:
            v = narrow(self, v, dtype)
        if dtype is bool_:
            out = self.name()
            self.line(f"{out} = zext {v.type(self.lanes)} {v.name} to {f'<{self.lanes} x i8>' if v.wide else 'i8'}")
            v = Value(out, dtype, v.wide)
        wide = self.lane is not None and self.lane in free(offset)
        if not wide:
            p = self.pointer(buffer, offset, dtype)
            self.line(f"store {dtype.llvm} {v.name}, ptr {p}, align {dtype.size}")
            return
        t = dtype.llvm
        if not v.wide:
            v = (
                self.widen(v)
                if dtype is not bool_
                else Value(f"splat (i8 {v.name})" if not v.name.startswith("%") else self.widen_raw(v, t), dtype, True)
            )
        vt = f"<{self.lanes} x {t}>"
        if stride(offset, self.lane) == 1:  # type: ignore[arg-type]
            p = self.lane_pointer(buffer, offset, dtype)
            if self.mask is None:
                past = f"{min(self.lanes * dtype.size, ALIGN)}, !nontemporal !1"
                self.line(f"store {vt} {v.name}, ptr {p}, align {past if buffer in self.past else dtype.size}")
                return
            self.masked_store(p, v, self.widen(self.mask))
            return
        p = self.pointer(buffer, offset, dtype)
        m, fn = (
            (self.widen(self.mask).name if self.mask else self.all_true()),
            f"llvm.masked.scatter.v{self.lanes}{short(dtype)}.v{self.lanes}p0",
        )
        self.declared[f"declare void @{fn}({vt}, <{self.lanes} x ptr>, i32, <{self.lanes} x i1>)"] = None
        self.line(
            f"call void @{fn}({vt} {v.name}, <{self.lanes} x ptr> {p}, i32 {dtype.size}, <{self.lanes} x i1> {m})"
        )

    # -------------------------------------------------------------------------------------- loops

    @contextmanager
    def scope(self) -> Iterator[None]:
        self.scopes.append({})
        yield
        self.scopes.pop()

    @contextmanager
    def counting(self, low: str, high: str, step: int | str = 1) -> Iterator[Value]:
        """for (i = low; i < high; i += step)"""
        head, body, done = self.fresh("head"), self.fresh("body"), self.fresh("done")
        i, nxt = self.name("i"), self.name("n")
        self.line(f"br label %{head}")
        before = self.block
        self.label(head)
        at = len(self.lines)
        self.lines.append("")  # the phi, once the block of the back edge is known
        go = self.name("c")
        self.line(f"{go} = icmp slt i64 {i}, {high}")
        self.line(f"br i1 {go}, label %{body}, label %{done}")
        self.label(body)
        with self.scope():
            yield Value(i, int64, False)
        self.line(f"{nxt} = add i64 {i}, {step}")
        self.line(f"br label %{head}")
        self.lines[at] = f"  {i} = phi i64 [ {low}, %{before} ], [ {nxt}, %{self.block} ]"
        self.label(done)

    @contextmanager
    def loop(self, index: Index, low: str = "0", high: str | None = None) -> Iterator[None]:
        """The index from low to high, one by one."""
        high = high if high is not None else self.value(index.extent).name
        with self.counting(low, high) as i:
            self.env[index] = i
            yield
            del self.env[index]

    def in_lanes(
        self, index: Index, low: str, high: str, body: Callable[[], None], known: int | None, ways: int = 1
    ) -> None:
        """The index in vectors of lanes: so many at once, single ones, then the rest under a mask. `known` is high - low, if it is."""
        if ways > 1:
            self.lanes *= ways
            low, known = self.whole(index, low, high, body, known)
            self.lanes //= ways
        if known != 0:
            low, known = self.whole(index, low, high, body, known)
        if known != 0:
            with self.counting(low, high, self.lanes) as i, self.lane_bound(index, i), self.tail(i, high):
                body()

    def whole(
        self, index: Index, low: str, high: str, body: Callable[[], None], known: int | None
    ) -> tuple[str, int | None]:
        """As many whole vectors as there are; returns where they end, and what is left, if known."""
        if known is not None and known < self.lanes:
            return low, known
        end = Value(high, int64, False)
        if known is None or known % self.lanes:
            span = self.op("sub {t} {0}, {1}", [end, Value(low, int64, False)])
            span = self.op("and {t} {0}, {1}", [span, Value(str(-self.lanes), int64, False)])
            end = self.op("add {t} {0}, {1}", [span, Value(low, int64, False)])
        with self.counting(low, end.name, self.lanes) as i, self.lane_bound(index, i):
            body()
        return end.name, known if known is None else known % self.lanes

    @contextmanager
    def lane_bound(self, index: Index, start: Value) -> Iterator[None]:
        outer = self.lane
        self.lane = index
        steps = ", ".join(f"i64 {k}" for k in range(self.lanes))
        self.env[first_lane(index)] = start
        self.env[index] = LazyLanes(self, start, f"<{steps}>")  # type: ignore[assignment]
        yield
        del self.env[index], self.env[first_lane(index)]
        self.lane = outer

    @contextmanager
    def tail(self, start: Value, high: str) -> Iterator[None]:
        """A mask of the lanes below high."""
        left = self.op("sub {t} {0}, {1}", [Value(high, int64, False), start])
        count = Value(self.name(), int64, False)
        self.line(f"{count.name} = trunc i64 {left.name} to i32")
        wide = self.name("w")
        self.line(f"{wide}a = insertelement <{self.lanes} x i32> poison, i32 {count.name}, i32 0")
        self.line(
            f"{wide} = shufflevector <{self.lanes} x i32> {wide}a, <{self.lanes} x i32> poison, <{self.lanes} x i32> zeroinitializer"
        )
        mask = self.name("m")
        steps = ", ".join(f"i32 {k}" for k in range(self.lanes))
        self.line(f"{mask} = icmp sgt <{self.lanes} x i32> {wide}, <{steps}>")
        saved = self.mask
        inside = Value(mask, bool_, True)
        self.mask = inside if saved is None else self.op("and {t} {0}, {1}", [inside, saved], bool_)
        yield
        self.mask = saved

    def hoist_all(self, values: Sequence[Expr], *inside: Index) -> None:
        for e in values:
            self.hoist(e, *inside)

    def hoist(self, e: Expr | int, *inside: Index) -> None:
        """Computes here what, in an expression, does not depend on indices of loops about to be opened."""
        if isinstance(e, int):
            return
        barred = set(inside)
        runs = all(isinstance(i.extent, int) and i.extent > 0 for i in inside)  # else nothing may be checked in vain
        stack, seen = [e], set()
        while stack:
            x = stack.pop()
            if x in seen or isinstance(x, Const | Index | Dim):
                continue
            seen.add(x)
            if not (free(x) & barred):
                if not free(x) - set(self.env) and (runs or not holds_check(x)):
                    self.value(x)
                continue
            if isinstance(x, Apply) and x.fn == "guard":
                stack += [x.args[0], x.args[2]]
            elif isinstance(x, Fold):
                self.hoist(x.body, *x.over, *inside)
            elif isinstance(x, Load) and isinstance(x.offset, Poly):
                continue  # its parts are added up where it is used
            else:
                stack.extend(expr.children(x))


class LazyLanes:
    """The lanes' own numbers, made only where a value asks for them."""

    dtype, wide = int64, True

    def __init__(self, em: Emitter, start: Value, steps: str) -> None:
        self.em, self.start, self.steps = em, start, steps

    @property
    def name(self) -> str:
        em = self.em
        base = em.widen(self.start)
        out = em.name("l")
        em.line(f"{out} = add <{em.lanes} x i64> {base.name}, {self.steps}")
        return out

    def type(self, lanes: int) -> str:
        return f"<{lanes} x i64>"


def first_lane(index: Index) -> Expr:
    """Stands for the index of the first lane."""
    return expr.apply("first lane", index)


def holds_check(e: Expr) -> bool:
    return any(isinstance(x, Apply) and x.fn == "check" for x in expr.walk(e))


NOTE = """
define internal void @tf_note_bad_index(ptr %status, i64 %which, i64 %index, i64 %size) noinline cold {
  %old = cmpxchg ptr %status, i64 0, i64 %which seq_cst seq_cst
  %won = extractvalue { i64, i1 } %old, 1
  br i1 %won, label %first, label %later
first:
  %p1 = getelementptr i64, ptr %status, i64 1
  store i64 %index, ptr %p1
  %p2 = getelementptr i64, ptr %status, i64 2
  store i64 %size, ptr %p2
  ret void
later:
  ret void
}
"""


def fold_value(em: Emitter, e: Fold) -> Value:
    from tinyflow.compiler.folding import emit_fold

    return emit_fold(em, e)


VALUES: dict[type, Callable[..., Value]] = {
    Index: Emitter.index, Dim: Emitter.dimension, Counter: Emitter.dimension, Poly: Emitter.poly, Apply: Emitter.apply, Load: Emitter.load, Fold: fold_value,
}  # fmt: skip
