"""The recipe of ops that push: each result belongs to one thread, which adds what falls on it, in order.

So repeated indices need no atomics, and the sums are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.kernel import share
from tinyflow.compiler.loops import Kernel, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.tiling import when
from tinyflow.compiler.writer import Value
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Expr, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.movement import flatten

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group


@dataclass(frozen=True, eq=False)
class Push:
    """out[batch, place, inner] += value, for all of `batch`, `entries` and `inner`."""

    batch: tuple[Index, ...]
    entries: tuple[Index, ...]
    inner: tuple[Index, ...]
    place: Expr  # the checked index, at batch and entries
    row: Index  # stands for the place once it is known to be this thread's
    size: Index_
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"push to {expr.show(self.place)} < {expr.show(self.size)}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        (store,) = kernel.stores
        n = em.value(self.size)
        bounds: list[Value] = []
        tid, threads = Value("%tid", int64, False), Value("%nthreads", int64, False)
        for t in (tid, em.op("add {t} {0}, {1}", [tid, Value("1", int64, False)])):
            bounds.append(em.op("udiv {t} {0}, {1}", [em.op("mul {t} {0}, {1}", [n, t]), threads]))
        low, high = bounds
        with nest(em, self.batch):
            self.clear(em, store, low, high)
            with nest(em, self.entries):
                at = em.value(self.place)
                above = em.op("icmp sge {t} {0}, {1}", [at, low], bool_)
                below = em.op("icmp slt {t} {0}, {1}", [at, high], bool_)
                with when(em, em.op("and {t} {0}, {1}", [above, below], bool_)):
                    em.env[self.row] = at
                    self.over_inner(em, store, store.value)
                    del em.env[self.row]
        return self.size

    def clear(self, em: Emitter, store: Store, low: Value, high: Value) -> None:
        with em.loop(self.row, low.name, high.name):
            self.over_inner(em, store, expr.const(0, store.target.dtype))

    def over_inner(self, em: Emitter, store: Store, value: Expr) -> None:
        def put() -> None:
            em.store(store.target.key, store.offset, em.value(value), store.target.dtype)

        if not self.inner:
            put()
            return
        with nest(em, self.inner[:-1]):
            i = self.inner[-1]
            em.in_lanes(i, "0", em.value(i.extent).name, put, i.extent if isinstance(i.extent, int) else None)


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


def lower(group: Group, buffered: set[Node], homes: Mapping[Node, Sequence[Target]], name: str) -> Kernel:
    (n,) = group.stores
    updates, index = n.inputs
    lead, size = n.attrs["batch"], n.attrs["size"]
    scope = Scope(buffered, {}, 0)
    batch = tuple(expr.index(m, f"b{d}") for d, m in enumerate(index.shape[:lead]))
    entries = tuple(expr.index(m, f"e{d}") for d, m in enumerate(index.shape[lead:]))
    inner = tuple(expr.index(m, f"i{d}") for d, m in enumerate(updates.shape[index.ndim :]))
    row = expr.index(size, "row")
    place = Reader(index, scope, n).checked((*batch, *entries), size)
    offset = flatten((*batch, row, *inner), n.shape)
    target = homes[n][0]
    value = Reader(updates, scope, n)(*batch, *entries, *inner)
    old = expr.load(target, offset, n.dtype)
    total = expr.apply("add", old, value)
    push = Push(batch, entries, inner, place, row, size)  # type: ignore[arg-type]
    cost = expr.mul(expr.product(i.extent for i in (*batch, *entries, *inner)), 2)
    return Kernel(
        name,
        (),
        (Store(target, inner, offset, total, inner[-1] if inner else None),),
        tuple(scope.checks),
        cost,
        push,
        group.conditions,
        (n,),
    )


__all__ = ["Push", "lower", "share"]
