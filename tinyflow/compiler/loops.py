"""Kernels: what one function of a program computes.

    kernel := Kernel(rows: Index*, store*, conditions)          one pass over the rows, shared by the threads
    store  := Store(target, inner: Index*, offset, value)       for all values of `inner`: target[offset] = value

A value may hold folds; one that depends on the rows alone is computed once a row, for all stores of the kernel.
`lanes` of a store is the inner index that becomes the vector lanes; None stores one element at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinyflow.core import expr
from tinyflow.core.dtypes import DType
from tinyflow.core.expr import Apply, Expr, Fold, Index, Index_, Load, Poly
from tinyflow.ops.elementwise import HEAVY
from tinyflow.ops.movement import flatten
from tinyflow.runtime.items import Slot


class Target(NamedTuple):
    """What a store writes to: a buffer, by the node that it holds, and which of its homes."""

    node: Any
    home: str  # "own", or the kind of a further copy
    dtype: DType
    at: Index_ = 0  # where in the buffer it begins
    rows: tuple[Index_, Index_] | None = None  # of so many elements, so far apart: it is a part of what lies there

    def place(self, index: Sequence[Index_], shape: Sequence[Index_]) -> Index_:
        """Where an element of a value of that shape is stored."""
        flat = flatten(index, tuple(shape))
        if self.rows is not None:
            length, apart = self.rows
            flat = expr.add(expr.mul(expr.floordiv(flat, length), apart), expr.mod(flat, length))
        return expr.add(flat, self.at)

    @property
    def key(self) -> Any:
        """What the program knows the buffer by: scratch memory is itself."""
        return self.node if hasattr(self.node, "slot") else self

    @property
    def label(self) -> str:
        return f"{self.node.label}" + ("" if self.home == "own" else f"'{self.home}")


@dataclass(frozen=True, eq=False)
class Scratch:
    """Memory that only the kernels of one recipe use."""

    label: str
    size: Index_  # bytes
    per_thread: bool = False

    def slot(self) -> Slot:
        return Slot("temp", self.size, self.per_thread, self.label)


class Store(NamedTuple):
    target: Target
    inner: tuple[Index, ...]
    offset: Index_
    value: Expr
    lanes: Index | None = None


@dataclass(frozen=True, eq=False)
class Kernel:
    name: str
    rows: tuple[Index, ...]
    stores: tuple[Store, ...]
    checks: tuple[Any, ...] = ()  # the nodes whose indices are checked, by number
    cost: Index_ = 0  # scalar operations, about
    recipe: Any = None  # what a contraction computes besides its stores
    conditions: tuple[Any, ...] = ()  # (predicate node, side): skipped unless all hold
    nodes: tuple[Any, ...] = field(default=())  # what is computed here, for people
    lasting: bool = False  # made of leaves alone that stay the same from run to run

    @property
    def written(self) -> frozenset[Any]:
        """The keys of the buffers that it stores to."""
        return frozenset(s.target.key for s in self.stores).union(
            self.recipe.written if self.recipe is not None else ()
        )


_free: dict[Expr, frozenset[Index]] = {}


def free(e: Index_) -> frozenset[Index]:
    """The loop indices that an expression depends on."""
    if isinstance(e, int):
        return frozenset()
    if e not in _free:
        for x in expr.walk(e):
            if x in _free:
                continue
            if isinstance(x, Index):
                _free[x] = frozenset((x,))
            else:
                below = frozenset().union(*(_free[c] for c in expr.children(x)))
                _free[x] = below - frozenset(x.over) if isinstance(x, Fold) else below
    return _free[e]


def forget() -> None:
    """Lets go of the expressions of finished kernels."""
    _free.clear()


def stride(offset: Index_, index: Index) -> Index_ | None:
    """By how much an offset grows when the index does; None if that is not one number."""
    if index not in free(offset):
        return 0
    total: Index_ = 0
    for monomial, c in expr.terms_of(offset):
        if not any(index in free(a) for a in monomial):
            continue
        left = list(monomial)
        if index not in left:
            return None
        left.remove(index)
        if any(index in free(a) for a in left):
            return None
        total = expr.add(total, expr.mul(c, expr.product(left)))
    return total


def loads(e: Index_) -> list[Load]:
    return [x for x in expr.walk(e) if isinstance(x, Load)]


def folds(e: Index_) -> list[Fold]:
    """The folds in a value, inner ones first."""
    return [x for x in expr.walk(e) if isinstance(x, Fold)]


def weight(e: Index_, sizes: Mapping[Expr, int] | None = None) -> Index_:
    """About how many scalar operations a value takes; a transcendental function counts as ten."""
    seen: dict[Expr, Index_] = {}

    def below(roots: Iterable[Expr]) -> Index_:
        total: Index_ = 0
        stack = list(roots)
        while stack:
            x = stack.pop()
            if x in seen:
                continue
            seen[x] = 1
            if isinstance(x, Fold):
                once = [f for f in folds(x.body) if not free(f) & set(x.over)]  # computed before its loops
                total = total + below(once) if once else total
                total = total + expr.mul(expr.product(k.extent for k in x.over), below([x.body]) + 1)
                continue
            if isinstance(x, Poly):
                continue
            total = total + (HEAVY.get(x.fn, 1) if isinstance(x, Apply) else 1)
            stack.extend(expr.children(x))
        return total

    return below([e]) if isinstance(e, Expr) else 1


def traffic(kernel: Kernel) -> tuple[dict[Any, Index_], dict[Any, Index_]]:
    """(read, written): how many bytes of each buffer a pass over rows touches, by the buffer's key."""
    read: dict[Any, Index_] = {}
    written: dict[Any, Index_] = {}
    for s in kernel.stores:
        count = expr.product(i.extent for i in (*kernel.rows, *s.inner))
        written[s.target.key] = expr.add(written.get(s.target.key, 0), expr.mul(count, s.target.dtype.size))
        for x in loads(s.value):
            count = expr.product(i.extent for i in free(x.offset))
            read[x.buffer] = expr.add(read.get(x.buffer, 0), expr.mul(count, x.dtype.size))
    return read, written


def show(kernel: Kernel) -> str:
    """A kernel as loops that a person can read."""
    lines = [f"{kernel.name}:" + "".join(f"  if {p.label} is {side}" for p, side in kernel.conditions)]
    if kernel.recipe is not None:
        lines += [f"  {line}" for line in str(kernel.recipe).splitlines()]
    if kernel.rows:
        lines.append("  parallel for " + ", ".join(f"{i.name} < {expr.show(i.extent)}" for i in kernel.rows))
    for s in kernel.stores:
        inner = ", ".join(f"{i.name} < {expr.show(i.extent)}{' in lanes' if i is s.lanes else ''}" for i in s.inner)
        lines.append(
            f"    {f'for {inner}: ' if inner else ''}{s.target.label}[{expr.bare(expr.show(s.offset))}] = {expr.bare(expr.show(s.value))}"
        )
    return "\n".join(lines)
