"""The recipe of ops that push: each result belongs to one thread, which adds what falls on it, in order.

So repeated indices need no atomics, and the result is the same for any number of threads. What a thread owns is a run of
the batch; of the columns, where the batch is small; of the rows that indices name, where columns are few too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.loops import Kernel, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.phrases import add, const, div, least, less, mul, when
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.indexing import PUT
from tinyflow.ops.movement import flatten, split

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group


@dataclass(frozen=True, eq=False)
class Push:
    """out[batch, row, inner] = start, unless it is there; then out[batch, place, inner] = value, for all `entries` in order."""

    batch: Index
    entry: Index
    inner: tuple[Index, ...]
    place: Expr  # the checked index, at batch and entry
    row: Index  # stands for the place once it is known to be this thread's
    start: Expr | None
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"push to {expr.show(self.place)} < {expr.show(self.row.extent)}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        (store,) = kernel.stores
        batches, columns, rows = self.bounds(em)
        start = self.start
        with em.loop(self.batch, *names(batches)):
            if start is not None and self.inner:
                with em.loop(self.row, *names(rows)):
                    self.over_inner(em, store, start, columns)
            elif start is not None:
                em.in_lanes(self.row, *names(rows), lambda: put(em, store, start), None)
            with em.loop(self.entry):
                at = em.value(self.place)
                above = em.op("icmp sge {t} {0}, {1}", [at, rows[0]], bool_)
                below = less(em, at, rows[1])
                with when(em, em.op("and {t} {0}, {1}", [above, below], bool_)):
                    em.env[self.row] = at
                    self.over_inner(em, store, store.value, columns)
                    del em.env[self.row]
        return expr.product((self.batch.extent, self.row.extent, *(i.extent for i in self.inner)))

    def bounds(self, em: Emitter) -> tuple[Bounds, Bounds, Bounds]:
        """This thread's part of the batch, of the columns and of the rows: a run of one of them, all of the others."""
        twice = mul(em, Value("%nthreads", int64, False), const(2))
        batch, row = em.value(self.batch.extent), em.value(self.row.extent)
        column = em.value(self.inner[-1].extent) if self.inner else const(1)
        vectors = add(em, column, const(em.lanes - 1))
        vectors = div(em, vectors, const(em.lanes))
        by_batch = em.op("icmp uge {t} {0}, {1}", [batch, twice], bool_)
        wide = em.op("icmp uge {t} {0}, {1}", [vectors, twice], bool_)
        by_column = em.choose(by_batch, Value("false", bool_, False), wide)
        by_row = em.choose(em.op("or {t} {0}, {1}", [by_batch, wide], bool_), Value("false", bool_, False), TRUE)
        low, high = (mul(em, b, const(em.lanes)) for b in part(em, vectors, by_column))
        columns = low, least(em, high, column)
        return part(em, batch, by_batch), columns, part(em, row, by_row)

    def over_inner(self, em: Emitter, store: Store, value: Expr, columns: Bounds) -> None:
        if not self.inner:
            put(em, store, value)
            return
        with nest(em, self.inner[:-1]):
            em.in_lanes(self.inner[-1], *names(columns), lambda: put(em, store, value), None)


def put(em: Emitter, store: Store, value: Expr) -> None:
    em.store(store.target.key, store.offset, em.value(value), store.target.dtype)


Bounds = tuple[Value, Value]
TRUE = Value("true", bool_, False)


def part(em: Emitter, n: Value, shared: Value) -> Bounds:
    """This thread's run of n things if they are shared, else all of them."""
    tid, threads = Value("%tid", int64, False), Value("%nthreads", int64, False)
    after = add(em, tid, const(1))
    low, high = (div(em, mul(em, n, t), threads) for t in (tid, after))
    return em.choose(shared, low, const(0)), em.choose(shared, high, n)


def names(b: Bounds) -> tuple[str, str]:
    return b[0].name, b[1].name


class nest:
    """`with nest(em, indices):` loops over all of them."""

    def __init__(self, em: Emitter, indices: Sequence[Index]) -> None:
        self.em, self.indices = em, indices

    def __enter__(self) -> None:
        self.open = [self.em.loop(i) for i in self.indices]
        for loop in self.open:
            loop.__enter__()

    def __exit__(self, *error: object) -> None:
        for loop in reversed(self.open):
            loop.__exit__(*error)  # type: ignore[arg-type]


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    (n,) = group.stores
    *base, updates, index = n.inputs
    lead, size = n.attrs["batch"], n.shape[n.attrs["batch"]]
    scope = Scope(buffered, {}, 0)
    batch = expr.index(expr.product(index.shape[:lead]), "batch")
    entry = expr.index(expr.product(index.shape[lead:]), "entry")
    batches, entries = split(batch, index.shape[:lead]), split(entry, index.shape[lead:])
    inner = tuple(expr.index(m, f"i{d}") for d, m in enumerate(updates.shape[index.ndim :]))
    row = expr.index(size, "row")
    place = Reader(index, scope, n).checked((*batches, *entries), size)
    at = (*batches, row, *inner)
    offset = flatten(at, n.shape)
    (target,) = homes[n]
    value = Reader(updates, scope, n)(*batches, *entries, *inner)
    start = Reader(base[0], scope, n)(*at) if base else expr.const(0, n.dtype)
    if n.op is not PUT:
        value = expr.apply("add", expr.load(target, offset, n.dtype), value)
    there = n in buffered.in_place
    push = Push(batch, entry, inner, place, row, None if there else expr.as_expr(expr.opened(start)))  # type: ignore[arg-type]
    store = Store(target, inner, offset, expr.as_expr(expr.opened(value)), inner[-1] if inner else None)
    cost = expr.mul(expr.product(updates.shape), 2) + (0 if there else expr.product(n.shape))
    return [Kernel(name, (), (store,), tuple(scope.checks), cost, push, group.conditions, (n,))]
