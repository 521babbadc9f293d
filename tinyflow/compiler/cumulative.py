"""The recipe of cumulative ops: rows in parallel; along a row, what came before is carried from vector to vector.

Along the last axis a vector is folded in itself (by 1, 2, 4... lanes) and joined to the carried value. Along another, each
lane carries a column of its own. Sums and products of floats are carried in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.folding import Slot, combine, get, put, slot
from tinyflow.compiler.kernel import share
from tinyflow.compiler.loops import Kernel, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.phrases import add, const, div, least, mul, sub
from tinyflow.compiler.scalars import SCALARS
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import DType, float64, int64
from tinyflow.core.expr import Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.cumulative import STEPS, start_of
from tinyflow.ops.movement import flatten, split

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

TOGETHER = 4  # vectors of columns that one thread carries at once: whole cache lines of a row are used


@dataclass(frozen=True, eq=False)
class Scan:
    """out[row, k, column] = fn(out[row, k-1, column], value), for k upward, or downward if `reverse`."""

    fn: str
    row: Index  # all axes before
    k: Index
    column: Index | None  # all axes after
    dtype: DType
    exclusive: bool
    reverse: bool
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"running {self.fn} along {self.k.name} < {expr.show(self.k.extent)}" + " from the end" * self.reverse

    @property
    def carried(self) -> DType:
        return float64 if self.dtype.is_floating and self.fn in ("add", "mul") else self.dtype

    @property
    def first(self) -> float | int:
        """What is there before the first element: -0.0 + x is x, also where x is -0.0."""
        return -0.0 if self.fn == "add" and self.dtype.is_floating and not self.exclusive else start_of(self.fn, self.dtype.numpy)  # fmt: skip

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        (store,) = kernel.stores
        if self.column is None:
            with share(em, self.row.extent) as row:
                em.env[self.row] = row
                self.along(em, store)
            return self.row.extent
        width = TOGETHER * em.lanes
        blocks = expr.floordiv(expr.add(self.column.extent, width - 1), width)
        with share(em, expr.mul(self.row.extent, blocks)) as task:
            count = em.value(blocks)
            em.env[self.row] = div(em, task, count)
            low = mul(em, em.op("urem {t} {0}, {1}", [task, count]), const(width))
            high = least(em, add(em, low, const(width)), em.value(self.column.extent))  # fmt: skip
            self.down(em, store, low, high)
        return expr.mul(self.row.extent, blocks)

    # ------------------------------------------------------------------------------------------ columns

    def down(self, em: Emitter, store: Store, low: Value, high: Value) -> None:
        """A vector of carried values for each vector of columns; where there are fewer than TOGETHER, one by one."""
        assert self.column is not None
        column, width = self.column, Value(str(TOGETHER * em.lanes), int64, False)
        carry = [slot(em, self.carried, True) for _ in range(TOGETHER)]
        whole = em.op("icmp eq {t} {0}, {1}", [sub(em, high, low), width])
        many, few, done = em.fresh("many"), em.fresh("few"), em.fresh("done")
        em.line(f"br i1 {whole.name}, label %{many}, label %{few}")
        em.label(many)
        with em.scope():
            for c in carry:
                put(em, c, em.splat(self.first, Value("", self.carried, True)))
            with self.steps(em):
                for n, c in enumerate(carry):
                    at = add(em, low, const(n * em.lanes))
                    with em.scope(), em.lane_bound(column, at):
                        self.step(em, store, c)
        em.line(f"br label %{done}")
        em.label(few)

        def one() -> None:
            put(em, carry[0], em.splat(self.first, Value("", self.carried, True)))
            with self.steps(em):
                self.step(em, store, carry[0])

        with em.scope():
            em.in_lanes(column, low.name, high.name, one, None)
        em.line(f"br label %{done}")
        em.label(done)

    def steps(self, em: Emitter) -> Upward:
        return Upward(em, self)

    def step(self, em: Emitter, store: Store, carry: Slot) -> None:
        old = get(em, carry, self.carried, True)
        new = combine(em, self.fn, old, em.widen(cast(em, em.value(store.value), self.carried)))
        put(em, carry, new)
        em.store(
            store.target.key, store.offset, cast(em, old if self.exclusive else new, self.dtype), store.target.dtype
        )

    # ------------------------------------------------------------------------------------------ rows

    def along(self, em: Emitter, store: Store) -> None:
        """Vectors in order; from the end if reverse, the incomplete one always holding the last elements."""
        carry = slot(em, self.carried, False)
        put(em, carry, em.splat(self.first, Value("", self.carried, False)))
        n, lanes = em.value(self.k.extent), const(em.lanes)
        em.hoist(store.value, self.k)
        full = em.op("and {t} {0}, {1}", [n, const(-em.lanes)])

        def tail() -> None:
            with em.counting(full.name, n.name, em.lanes) as i, em.lane_bound(self.k, i), em.tail(i, n.name):
                self.vector(em, store, carry)

        if self.reverse:
            tail()
        with em.counting("0", full.name, em.lanes) as i:
            back = sub(em, sub(em, full, i), lanes)
            with em.lane_bound(self.k, back if self.reverse else i):
                self.vector(em, store, carry)
        if not self.reverse:
            tail()

    def vector(self, em: Emitter, store: Store, carry: Slot) -> None:
        """One vector: folded in itself, joined to what is carried, stored; its end is carried on."""
        v = em.widen(cast(em, em.value(store.value), self.carried))
        neutral = em.splat(
            -0.0 if self.fn == "add" and self.dtype.is_floating else start_of(self.fn, self.dtype.numpy), v
        )
        v = em.choose(em.mask, v, neutral) if em.mask is not None else v
        step = 1
        while step < em.lanes:
            v = combine(em, self.fn, self.shifted(em, v, neutral, step), v)
            step *= 2
        before = em.widen(get(em, carry, self.carried, False))
        v = combine(em, self.fn, before, v)
        end = Value(em.name("end"), self.carried, False)
        t = v.type(em.lanes)
        em.line(f"{end.name} = extractelement {t} {v.name}, i32 {0 if self.reverse else em.lanes - 1}")
        put(em, carry, end)
        v = self.shifted(em, v, before, 1) if self.exclusive else v
        em.store(store.target.key, store.offset, cast(em, v, self.dtype), store.target.dtype)

    def shifted(self, em: Emitter, v: Value, fill: Value, step: int) -> Value:
        """v moved by some lanes in the direction of the scan; `fill` comes in."""
        lanes, out = em.lanes, Value(em.name("sh"), v.dtype, True)
        moved = [i + step if i + step < lanes else lanes + i for i in range(lanes)] if self.reverse else [i - step if i >= step else lanes + i for i in range(lanes)]  # fmt: skip
        t, order = v.type(lanes), ", ".join(f"i32 {i}" for i in moved)
        em.line(f"{out.name} = shufflevector {t} {v.name}, {t} {fill.name}, <{lanes} x i32> <{order}>")
        return out


class Upward:
    """`with Upward(em, scan):` the body for each k, in the direction of the scan."""

    def __init__(self, em: Emitter, scan: Scan) -> None:
        self.em, self.scan = em, scan

    def __enter__(self) -> None:
        em, n = self.em, self.em.value(self.scan.k.extent)
        self.loop = em.counting("0", n.name)
        k = self.loop.__enter__()
        last = sub(em, n, const(1))
        em.env[self.scan.k] = sub(em, last, k) if self.scan.reverse else k

    def __exit__(self, *error: object) -> None:
        del self.em.env[self.scan.k]
        self.loop.__exit__(*error)  # type: ignore[arg-type]


def cast(em: Emitter, v: Value, dtype: DType) -> Value:
    return v if v.dtype is dtype else SCALARS["cast"][v.dtype.kind](em, [v], dtype)


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    (n,) = group.stores
    axis, (x,) = n.attrs["axis"], n.inputs
    scope = Scope(buffered, {}, 0)
    before, after = n.shape[:axis], n.shape[axis + 1 :]
    row, k = expr.index(expr.product(before), "row"), expr.index(n.shape[axis], "k")
    column = expr.index(expr.product(after), "column") if expr.product(after) != 1 else None
    index = (*split(row, before), k, *(split(column, after) if column is not None else (0,) * len(after)))
    (target,) = homes[n]
    value = expr.as_expr(expr.opened(Reader(x, scope, n)(*index)))
    scan = Scan(STEPS[n.op.name], row, k, column, n.dtype.computed, n.attrs["exclusive"], n.attrs["reverse"])
    store = Store(target, (), flatten(index, n.shape), value, column or k)
    cost = expr.mul(expr.product(n.shape), 4)
    return [Kernel(name, (), (store,), tuple(scope.checks), cost, scan, group.conditions, (n,))]
