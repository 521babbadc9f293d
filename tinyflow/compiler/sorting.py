"""The recipe of order: rows in parallel, each element of a row one 64-bit number of its key and its place.

    element := key (32 bits, of which the order is that of unsigned numbers) | place (32 bits)

No two are equal, and equal keys are in the order of their places. Many short rows are sorted at once, one in each lane. A
few of a long row are kept in order while it is read. Other rows are sorted digit by digit, from the last (radix sort);
keys of 64 bits take two rounds, the low half first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.cumulative import cast
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.folding import get, put, slot
from tinyflow.compiler.kernel import share
from tinyflow.compiler.loops import Kernel, Scratch, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.phrases import add, const, least, less, mul, sub, when
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int32, int64
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.movement import flatten, split
from tinyflow.ops.sorting import FEW

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

FEW_ROWS = 4  # fewer would leave most lanes empty
PLACE = (1 << 32) - 1  # the bits of an element that are its place


@dataclass(frozen=True, eq=False)
class Order:
    """out[row, j] = the place of the j-th element of a row, for j < count."""

    row: Index
    k: Index
    value: Expr  # at row and k
    descending: bool
    count: Index_
    start: Index_  # where the row of results begins
    place: Index  # of a result in its row
    short: bool
    spare: Scratch | None  # a second row of elements
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        first = "" if self.count is self.k.extent else f"the first {expr.show(self.count)} of "
        return f"{'descending' if self.descending else 'ascending'} order: {first}{self.k.name} < {expr.show(self.k.extent)} of {expr.show(self.value)}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        (store,) = kernel.stores
        if self.short:
            return self.by_exchange(em, store)
        with share(em, self.row.extent) as row:
            em.env[self.row] = row
            em.hoist(self.value, self.k)
            out = em.pointer(store.target.key, self.start, int64)
            if self.spare is None:
                self.by_insertion(em, out)
            else:
                self.by_digits(em, out)
        return self.row.extent

    # ------------------------------------------------------------------------------------------ elements

    def key(self, em: Emitter) -> Value:
        """The value as bits that compare as unsigned numbers: of floats -0 is 0, and NaN the greatest."""
        v = em.value(self.value)
        if v.dtype.kind in "ub":
            k = cast(em, v, int32)
            return (
                em.op("xor {t} {0}, {1}", [k, em.splat(255 if v.dtype.kind == "u" else 1, k)]) if self.descending else k
            )
        signed = int32 if v.dtype.size == 4 else int64
        bits = 8 * signed.size
        if v.dtype.is_floating:
            number = em.op("fadd {t} {0}, {1}", [v, em.splat(0.0, v)])
            k = Value(em.name(), signed, v.wide)
            em.line(f"{k.name} = bitcast {number.type(em.lanes)} {number.name} to {k.type(em.lanes)}")
            sign = em.op("ashr {t} {0}, {1}", [k, em.splat(bits - 1, k)])
            k = em.op("xor {t} {0}, {1}", [k, em.op("or {t} {0}, {1}", [sign, em.splat(-(1 << bits - 1), k)])])
            k = em.choose(em.op("fcmp uno {t} {0}, {1}", [v, v], bool_), em.splat(-1, k), k)
        else:
            k = em.op("xor {t} {0}, {1}", [v, em.splat(-(1 << bits - 1), v)])
        return em.op("xor {t} {0}, {1}", [k, em.splat(-1, k)]) if self.descending else k

    def element(self, em: Emitter, place: Value, high: bool = False) -> Value:
        """The key (of a key of 64 bits the high or the low half) and the place."""
        k = self.key(em)
        k = em.widen(k) if place.wide else k
        if k.dtype is int64:
            top = k if high else em.op("shl {t} {0}, {1}", [k, em.splat(32, k)])
            top = em.op("and {t} {0}, {1}", [top, em.splat(-(1 << 32), top)])
        else:
            top = em.convert("zext", k, int64)
            top = em.op("shl {t} {0}, {1}", [top, em.splat(32, top)])
        return em.op("or {t} {0}, {1}", [top, place])

    def elements(self, em: Emitter, out: str) -> None:
        """All elements of the row, in memory."""
        known = self.k.extent if isinstance(self.k.extent, int) else None

        def one() -> None:
            e = self.element(em, lanes_of(em, self.k))
            p = em.name("p")
            em.line(f"{p} = getelementptr i64, ptr {out}, i64 {first(em, self.k).name}")
            if em.mask is None:
                em.line(f"store {e.type(em.lanes)} {e.name}, ptr {p}, align 8")
            else:
                em.masked_store(p, e, em.widen(em.mask))

        em.in_lanes(self.k, "0", em.value(self.k.extent).name, one, known)

    # ------------------------------------------------------------------------------------------ many short rows

    def by_exchange(self, em: Emitter, store: Store) -> Index_:
        """A row in each lane: every element moves down the list of those before it, changing places with the greater."""
        rows = self.row.extent
        blocks = expr.floordiv(expr.add(rows, em.lanes - 1), em.lanes)
        assert isinstance(self.count, int)
        kept = em.name("kept")
        em.allocas.append(f"  {kept} = alloca [{max(self.count, 1)} x <{em.lanes} x i64>], align 64")
        with share(em, blocks) as block:
            low = mul(em, block, const(em.lanes))
            high = add(em, low, const(em.lanes))
            high = least(em, high, em.value(rows))
            em.in_lanes(self.row, low.name, high.name, lambda: self.exchanges(em, store, kept), None)
        return blocks

    def exchanges(self, em: Emitter, store: Store, kept: str) -> None:
        count = const(self.count)  # type: ignore[arg-type]
        moving = slot(em, int64, True)
        with em.loop(self.k):
            k = em.env[self.k]
            put(em, moving, em.widen(self.element(em, k)))
            filled = least(em, k, count)
            with em.counting("0", filled.name) as j:
                old, new = self.kept(em, kept, j), get(em, moving, int64, True)
                before = em.op("icmp ult {t} {0}, {1}", [new, old], bool_)
                self.keep(em, kept, j, em.choose(before, new, old))
                put(em, moving, em.choose(before, old, new))
            with when(em, less(em, k, count)):
                self.keep(em, kept, k, get(em, moving, int64, True))
        with em.counting("0", count.name) as j:
            e = self.kept(em, kept, j)
            em.env[self.place] = j
            em.store(store.target.key, store.offset, em.op("and {t} {0}, {1}", [e, em.splat(PLACE, e)]), int64)
            del em.env[self.place]

    def kept(self, em: Emitter, kept: str, at: Value) -> Value:
        p, v = em.name("p"), Value(em.name("e"), int64, True)
        em.line(f"{p} = getelementptr {v.type(em.lanes)}, ptr {kept}, i64 {at.name}")
        em.line(f"{v.name} = load {v.type(em.lanes)}, ptr {p}, align 64")
        return v

    def keep(self, em: Emitter, kept: str, at: Value, v: Value) -> None:
        p = em.name("p")
        em.line(f"{p} = getelementptr {v.type(em.lanes)}, ptr {kept}, i64 {at.name}")
        em.line(f"store {v.type(em.lanes)} {v.name}, ptr {p}, align 64")

    # ------------------------------------------------------------------------------------------ a few of a long row

    def by_insertion(self, em: Emitter, out: str) -> None:
        """The results themselves hold the least elements so far; a vector none of which is less is passed over."""
        em.extra[INSERT] = None
        count = em.value(self.count)
        with em.counting("0", count.name) as j:
            em.line(f"store i64 -1, ptr {self.entry(em, out, j)}, align 8")
        buffer, t = em.name("new"), f"<{em.lanes} x i64>"
        em.allocas.append(f"  {buffer} = alloca {t}, align 64")
        worst_at = self.entry(em, out, sub(em, count, const(1)))

        def one() -> None:
            e = self.element(em, lanes_of(em, self.k))
            e = em.choose(em.mask, e, em.splat(-1, e)) if em.mask is not None else e
            worst, some = Value(em.name("worst"), int64, False), Value(em.name("some"), bool_, False)
            em.line(f"{worst.name} = load i64, ptr {worst_at}, align 8")
            less = em.op("icmp ult {t} {0}, {1}", [e, worst], bool_)
            em.call(some, f"llvm.vector.reduce.or.v{em.lanes}i1", [less])
            hit, past = em.fresh("hit"), em.fresh("past")
            em.line(f"br i1 {some.name}, label %{hit}, label %{past}")
            em.label(hit)
            em.line(f"store {t} {e.name}, ptr {buffer}, align 64")
            em.line(f"call void @tf_insert(ptr {out}, i64 {count.name}, ptr {buffer}, i64 {em.lanes})")
            em.line(f"br label %{past}")
            em.label(past)

        if self.count != 0:
            em.in_lanes(self.k, "0", em.value(self.k.extent).name, one, None)
        self.places(em, out, out, self.count)

    def entry(self, em: Emitter, row: str, at: Value) -> str:
        p = em.name("p")
        em.line(f"{p} = getelementptr i64, ptr {row}, i64 {at.name}")
        return p

    def places(self, em: Emitter, source: str, out: str, count: Index_) -> None:
        """What elements become once they are in order."""
        with em.counting("0", em.value(count).name) as j:
            e = Value(em.name("e"), int64, False)
            em.line(f"{e.name} = load i64, ptr {self.entry(em, source, j)}, align 8")
            place = em.op("and {t} {0}, {1}", [e, const(PLACE)])
            em.line(f"store i64 {place.name}, ptr {self.entry(em, out, j)}, align 8")

    # ------------------------------------------------------------------------------------------ whole rows

    def by_digits(self, em: Emitter, out: str) -> None:
        em.extra[RADIX] = None
        em.declared["declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"] = None
        n = em.value(self.k.extent)
        spare = em.buffers.setdefault(self.spare, f"%buf{len(em.buffers)}")
        digits = 4 if self.value.dtype.size >= 4 else 1
        self.elements(em, out)
        done = self.sorted(em, out, spare, n, digits)
        if self.value.dtype.size == 8:
            with em.counting("0", n.name) as j:
                e = Value(em.name("e"), int64, False)
                em.line(f"{e.name} = load i64, ptr {self.entry(em, done, j)}, align 8")
                place = em.op("and {t} {0}, {1}", [e, const(PLACE)])
                em.env[self.k] = place
                again = self.element(em, place, high=True)
                del em.env[self.k]
                em.line(f"store i64 {again.name}, ptr {self.entry(em, done, j)}, align 8")
            same = em.name("same")
            em.line(f"{same} = icmp eq ptr {done}, {out}")
            other = em.name("other")
            em.line(f"{other} = select i1 {same}, ptr {spare}, ptr {out}")
            done = self.sorted(em, done, other, n, digits)
        self.places(em, done, out, self.k.extent)

    def sorted(self, em: Emitter, row: str, spare: str, n: Value, digits: int) -> str:
        done = em.name("done")
        em.line(f"{done} = call ptr @tf_sort_digits(ptr {row}, ptr {spare}, i64 {n.name}, i64 {digits})")
        return done


def lanes_of(em: Emitter, k: Index) -> Value:
    return Value(em.env[k].name, int64, True)


def first(em: Emitter, k: Index) -> Value:
    from tinyflow.compiler.emit import first_lane

    return em.env[first_lane(k)]


INSERT = """
define internal void @tf_insert(ptr %row, i64 %count, ptr %new, i64 %lanes) noinline {
entry:
  %last = sub i64 %count, 1
  %worst_at = getelementptr i64, ptr %row, i64 %last
  br label %each
each:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %new_at = getelementptr i64, ptr %new, i64 %i
  %v = load i64, ptr %new_at
  %worst = load i64, ptr %worst_at
  %less = icmp ult i64 %v, %worst
  br i1 %less, label %shift, label %next
shift:
  %j = phi i64 [ %last, %each ], [ %j1, %move ]
  %at = getelementptr i64, ptr %row, i64 %j
  %begin = icmp eq i64 %j, 0
  br i1 %begin, label %put, label %look
look:
  %j1 = sub i64 %j, 1
  %before_at = getelementptr i64, ptr %row, i64 %j1
  %before = load i64, ptr %before_at
  %greater = icmp ugt i64 %before, %v
  br i1 %greater, label %move, label %put
move:
  store i64 %before, ptr %at
  br label %shift
put:
  store i64 %v, ptr %at
  br label %next
next:
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %lanes
  br i1 %more, label %each, label %done
done:
  ret void
}
"""

# From the last digit (bits 32 to 39) to the first: count, add up, move. A digit that is the same in all is passed over.
RADIX = """
define internal ptr @tf_sort_digits(ptr %a, ptr %b, i64 %n, i64 %digits) noinline {
entry:
  %counts = alloca [1024 x i64], align 64
  call void @llvm.memset.p0.i64(ptr align 64 %counts, i8 0, i64 8192, i1 false)
  %some = icmp sgt i64 %n, 1
  br i1 %some, label %count, label %never
never:
  ret ptr %a
count:
  %i = phi i64 [ 0, %entry ], [ %i1, %count ]
  %p = getelementptr i64, ptr %a, i64 %i
  %v = load i64, ptr %p
  %s0 = lshr i64 %v, 32
  %d0 = and i64 %s0, 255
  %s1 = lshr i64 %v, 40
  %m1 = and i64 %s1, 255
  %d1 = or i64 %m1, 256
  %s2 = lshr i64 %v, 48
  %m2 = and i64 %s2, 255
  %d2 = or i64 %m2, 512
  %s3 = lshr i64 %v, 56
  %d3 = or i64 %s3, 768
  %p0 = getelementptr i64, ptr %counts, i64 %d0
  %c0 = load i64, ptr %p0
  %e0 = add i64 %c0, 1
  store i64 %e0, ptr %p0
  %p1 = getelementptr i64, ptr %counts, i64 %d1
  %c1 = load i64, ptr %p1
  %e1 = add i64 %c1, 1
  store i64 %e1, ptr %p1
  %p2 = getelementptr i64, ptr %counts, i64 %d2
  %c2 = load i64, ptr %p2
  %e2 = add i64 %c2, 1
  store i64 %e2, ptr %p2
  %p3 = getelementptr i64, ptr %counts, i64 %d3
  %c3 = load i64, ptr %p3
  %e3 = add i64 %c3, 1
  store i64 %e3, ptr %p3
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %count, label %digit
digit:
  %d = phi i64 [ 0, %count ], [ %next, %same ], [ %next, %move ]
  %from = phi ptr [ %a, %count ], [ %from, %same ], [ %to, %move ]
  %to = phi ptr [ %b, %count ], [ %to, %same ], [ %from, %move ]
  %next = add i64 %d, 1
  %end = icmp eq i64 %d, %digits
  br i1 %end, label %done, label %look
look:
  %shift8 = mul i64 %d, 8
  %shift = add i64 %shift8, 32
  %base = mul i64 %d, 256
  %starts = getelementptr i64, ptr %counts, i64 %base
  %v0 = load i64, ptr %from
  %sv0 = lshr i64 %v0, %shift
  %dv0 = and i64 %sv0, 255
  %pv0 = getelementptr i64, ptr %starts, i64 %dv0
  %nv0 = load i64, ptr %pv0
  %all = icmp eq i64 %nv0, %n
  br i1 %all, label %same, label %add
same:
  br label %digit
add:
  %k = phi i64 [ 0, %look ], [ %k1, %add ]
  %sum = phi i64 [ 0, %look ], [ %sum1, %add ]
  %pk = getelementptr i64, ptr %starts, i64 %k
  %ck = load i64, ptr %pk
  store i64 %sum, ptr %pk
  %sum1 = add i64 %sum, %ck
  %k1 = add i64 %k, 1
  %adding = icmp ult i64 %k1, 256
  br i1 %adding, label %add, label %move
move:
  %j = phi i64 [ 0, %add ], [ %j1, %move ]
  %pj = getelementptr i64, ptr %from, i64 %j
  %vj = load i64, ptr %pj
  %sj = lshr i64 %vj, %shift
  %dj = and i64 %sj, 255
  %ps = getelementptr i64, ptr %starts, i64 %dj
  %at = load i64, ptr %ps
  %at1 = add i64 %at, 1
  store i64 %at1, ptr %ps
  %pt = getelementptr i64, ptr %to, i64 %at
  store i64 %vj, ptr %pt
  %j1 = add i64 %j, 1
  %moving = icmp slt i64 %j1, %n
  br i1 %moving, label %move, label %digit
done:
  ret ptr %from
}
"""


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    (n,) = group.stores
    (x,) = n.inputs
    scope = Scope(buffered, {}, 0)
    before, length = x.shape[:-1], x.shape[-1]
    row, k = expr.index(expr.product(before), "row"), expr.index(length, "k")
    rows = split(row, before)
    value = expr.as_expr(expr.opened(Reader(x, scope, n)(*rows, k)))
    (target,) = homes[n]
    start, place = flatten((*rows, 0), n.shape), expr.index(n.shape[-1], "j")
    count = n.shape[-1]
    many = not (isinstance(row.extent, int) and row.extent < FEW_ROWS)
    short = isinstance(length, int) and length <= FEW and many and x.dtype.size < 8
    spare = Scratch(f"elements of {n.label}", expr.mul(length, 8), per_thread=True) if count is length and not short else None  # fmt: skip
    descending = n.attrs["descending"] if "descending" in n.attrs else n.attrs["largest"]
    order = Order(row, k, value, descending, count, start, place, short, spare, () if spare is None else (spare,))
    cost = expr.mul(expr.product(x.shape), 20)
    return [Kernel(name, (), (Store(target, (), expr.add(start, place), value, k),), tuple(scope.checks), cost, order, group.conditions, (n,))]  # fmt: skip
