"""The recipe of what data tells the size of: one thread goes through the elements, and says how many it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.emit import Emitter
from tinyflow.compiler.folding import get, put, slot
from tinyflow.compiler.kernel import once
from tinyflow.compiler.loops import Kernel, Store, Target
from tinyflow.compiler.lower import Reader, Scope
from tinyflow.compiler.phrases import add
from tinyflow.core import expr
from tinyflow.core.dtypes import bool_, int64
from tinyflow.core.expr import Dim, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.movement import split

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group


@dataclass(frozen=True, eq=False)
class Find:
    """out[0], out[1], ... = the places k where the value is not zero; size = how many there are."""

    k: Index
    size: Dim
    written: tuple[object, ...] = ()

    def __str__(self) -> str:
        return f"{self.size.name} = places {self.k.name} < {expr.show(self.k.extent)}"

    def emit(self, em: Emitter, kernel: Kernel) -> Index_:
        (store,) = kernel.stores
        size = em.dimension(self.size)
        with once(em):
            out, count = em.pointer(store.target.key, 0, int64), slot(em, int64, False)
            put(em, count, em.splat(0, size))
            em.hoist(store.value, self.k)
            with em.loop(self.k):
                at, value, p = get(em, count, int64, False), em.value(store.value), em.name("p")
                zero = em.splat(0.0 if value.dtype.is_floating else 0, value)
                compare = "fcmp une {t} {0}, {1}" if value.dtype.is_floating else "icmp ne {t} {0}, {1}"
                hit = value if value.dtype is bool_ else em.op(compare, [value, zero], bool_)
                em.line(f"{p} = getelementptr i64, ptr {out}, i64 {at.name}")
                em.line(
                    f"store i64 {em.env[self.k].name}, ptr {p}, align 8"
                )  # if this is none, the next one overwrites it
                put(em, count, add(em, at, em.convert("zext", hit, int64)))
            em.line(f"store i64 {get(em, count, int64, False).name}, ptr {size.name}_p, align 8")
        return 1


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    (n,) = group.stores
    (x,) = n.inputs
    scope = Scope(buffered, {}, 0)
    k = expr.index(expr.product(x.shape), "k")
    value = expr.as_expr(expr.opened(Reader(x, scope, n)(*split(k, x.shape))))
    (target,) = homes[n]
    find = Find(k, n.attrs["size"])
    cost = expr.mul(k.extent, 2)
    return [Kernel(name, (), (Store(target, (), k, value),), tuple(scope.checks), cost, find, group.conditions, (n,))]
