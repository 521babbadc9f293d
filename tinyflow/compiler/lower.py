"""lower: a group of nodes to a kernel, by asking each op for its value at an index.

Reading an inlined operand at an index is asking its op in turn: that is all that fusion is.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyflow.compiler import loops
from tinyflow.compiler.buffers import Buffers
from tinyflow.compiler.loops import Kernel, Store, Target, free, loads, stride
from tinyflow.core import expr
from tinyflow.core.dtypes import int64
from tinyflow.core.expr import Expr, Fold, Index, Index_
from tinyflow.graph.node import Node
from tinyflow.ops.control import AGAIN
from tinyflow.ops.movement import flatten
from tinyflow.runtime.items import Slot

if TYPE_CHECKING:
    from tinyflow.compiler.schedule import Group

LONG_FOLD = 32
FEW = 16  # values to fold: fewer than a vector takes
VIEWS = ("reshape", "permute", "expand", "slice", "switch", "stop_gradient", "again")


def is_view(n: Node) -> bool:
    """Whether a node only shows elements of a leaf or a constant: reading it computes nothing."""
    n = through_views(n)
    return n.op.kind == "leaf" or n.op.name == "constant"


def through_views(n: Node) -> Node:
    while n.op.name in VIEWS:
        n = n.inputs[0]
    return n


class Local(NamedTuple):
    """A buffer that holds one row, in memory of each thread's own."""

    node: Node
    size: int

    @property
    def label(self) -> str:
        return f"row of {self.node.label}"

    def slot(self) -> Slot:
        return Slot("temp", self.size * self.node.dtype.size, True, self.label)


class Reader:
    """What an op sees of an operand: its shape and type, and its value at an index."""

    __slots__ = ("dtype", "node", "scope", "shape", "user")

    def __init__(self, node: Node, scope: Scope, user: Node) -> None:
        self.node, self.scope, self.user, self.shape, self.dtype = node, scope, user, node.shape, node.dtype.computed

    def __call__(self, *index: Index_) -> Expr:
        return self.scope.read(self.node, index)

    def checked(self, index: Sequence[Index_], size: Index_) -> Index_:
        """The operand as an index that must be below size."""
        return self.scope.check(self.user, self(*index), size)


class Scope:
    """Expressions of one kernel: which nodes are buffers, what has been read, which indices are checked."""

    def __init__(self, buffered: Buffers, local: Mapping[Node, int], depth: int | None) -> None:
        self.buffered, self.local, self.depth = buffered, local, depth
        self.memo: dict[tuple[Node, tuple[Index_, ...]], Expr] = {}
        self.reads: dict[tuple[Node, tuple[Index_, ...]], None] = {}
        self.checks: list[Node] = []
        self.waits: dict[Node, None] = {}
        self.replaced: dict[Node, Any] = {}
        self.group: set[Node] = set()

    def read(self, node: Node, index: tuple[Index_, ...]) -> Expr:
        if node in self.replaced:
            return self.replaced[node](index)  # type: ignore[no-any-return]
        if node in self.group and self.depth in (None, len(index)):
            return self.compute(node, index)  # of the place being computed: the value itself, not its buffer
        if node in self.buffered or node.op.kind == "leaf":
            self.reads[(node, index)] = None
            if node in self.local:
                return expr.load(
                    Local(node, self.local[node]), flatten(index[self.depth :], node.shape[self.depth :]), node.dtype
                )
            return expr.load(node, expr.add(flatten(index, node.shape), self.buffered.start.get(node, 0)), node.dtype)
        return self.compute(node, index)

    def compute(self, node: Node, index: tuple[Index_, ...]) -> Expr:
        """The node's value at an index, whether it has a buffer or not. Operands come first: no deep recursion."""
        found = self.memo.get((node, index))
        if found is None:
            if node.op is AGAIN:
                self.waits.update(dict.fromkeys(node.inputs[1:]))
            assert node.op.at is not None, f"{node.op} has no value at an index"
            found = self.memo[(node, index)] = node.op.at(
                index, *(Reader(x, self, node) for x in node.inputs), **node.attrs
            )
        return found

    def check(self, node: Node, value: Expr, size: Index_) -> Index_:
        self.checks.append(node)
        return expr.apply("check", value, size, expr.const(len(self.checks) - 1), dtype=int64)


def axes(shape: Sequence[Index_], hint: str = "i") -> tuple[Index_, ...]:
    return tuple(expr.axis(n, f"{hint}{d}") for d, n in enumerate(shape))


def real(indices: Sequence[Index_]) -> tuple[Index, ...]:
    """The loops among the indices of axes."""
    return tuple(i for i in indices if isinstance(i, Index))


@dataclass(frozen=True, eq=False)
class Formula:
    """A node's value at its indices."""

    indices: tuple[Index_, ...]
    value: Expr | None

    @cached_property
    def folds(self) -> list[Fold]:
        return loops.folds(self.value) if self.value is not None else []

    @cached_property
    def runs_down(self) -> bool:
        """Whether a fold adds up columns: its neighbours in memory belong to neighbouring results."""
        last = real(self.indices)[-1:]
        return bool(last) and down_columns(self.value, last[0])


class Lowered(NamedTuple):
    formula: Formula  # of all nodes of one form the same
    reads: tuple[tuple[Node, tuple[Index_, ...]], ...]
    checks: tuple[Node, ...]  # those that take an index from data
    waits: tuple[Node, ...]  # what must have run before, though it is not read


def down_columns(value: Expr | None, last: Index) -> bool:
    """Whether folds that depend on the last index read neighbours along it rather than along what they fold.

    What does not depend on it, the vector of a vector times a matrix, is as good either way. A window's few places do not
    fill a vector.
    """
    along, across = neighbours(value, last)
    return along > across


def neighbours(value: Expr | None, last: Index, least: int = 0) -> tuple[int, int]:
    """How many of the reads in folds of at least some length meet neighbours along the last index, and along what they fold."""
    along = across = 0
    for f in loops.folds(value) if value is not None else ():
        if last in free(f) and not (isinstance(n := expr.product(k.extent for k in f.over), int) and n < least):
            found = [x for x in loads(f.body) if last in free(x) and any(k in free(x) for k in f.over)]
            along += sum(stride(x.offset, last) == 1 for x in found)
            long = [k for k in f.over if not isinstance(k.extent, int) or k.extent >= FEW]
            across += sum(any(stride(x.offset, k) == 1 for k in long) for x in found)
    return along, across


def runs_across(value: Expr, last: Index) -> bool:
    """Whether lanes along the last index would gather what lies side by side along a fold that is long enough for lanes itself."""
    along, across = neighbours(value, last, LONG_FOLD)
    return across > 0 == along


class Lowering(dict[Node, Lowered]):
    """Every buffer by itself, as a function of its own index; what the schedule decides on, and asks for all the time."""

    def __init__(self, buffered: Buffers) -> None:
        super().__init__()
        self.buffered = buffered
        self.forms: dict[Hashable, tuple[list[Node], Lowered]] = {}

    def __missing__(self, node: Node) -> Lowered:
        form, order = self.buffered.form((node,), (node,))
        known = self.forms.get(form)
        if known is not None:
            nodes, like = known
            called = dict(zip(nodes, order, strict=True))
            reads = tuple([(called[x], index) for x, index in like.reads])
            checks, waits = (tuple([called[x] for x in xs]) for xs in (like.checks, like.waits))
            found = Lowered(like.formula, reads, checks, waits)
        else:
            found = self.lowered(node)
            self.forms[form] = order, found
        self[node] = found
        return found

    def forget_readers(self, nodes: Collection[Node]) -> None:
        """These have no buffers any more: what reads them is to be lowered anew."""
        for n in [n for n, made in self.items() if any(x in nodes for x, _ in made.reads)]:
            del self[n]

    def lowered(self, node: Node) -> Lowered:
        scope = Scope(self.buffered, {}, 0)
        indices = axes(node.shape)
        value = value_of(scope, node, indices)
        value = None if value is None else expr.as_expr(expr.opened(value))
        return Lowered(Formula(indices, value), tuple(scope.reads), tuple(scope.checks), tuple(scope.waits))


def value_of(scope: Scope, node: Node, index: tuple[Index_, ...]) -> Expr | None:
    if node.op.kind == "leaf":
        return scope.read(node, index)
    if node.op.at is not None:
        return scope.compute(node, index)
    for x in node.inputs:  # pushed, not pulled: what it reads is all that matters here
        scope.read(x, tuple(expr.index(n, "j") for n in x.shape))
    return None


# ------------------------------------------------------------------------------------------ a group to a kernel


def lower(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> Kernel:
    """A pass over rows. The axes after the rows are loops, the last of them in lanes."""
    depth = group.depth if group.depth is not None else rows_of(group.stores[0], buffered)
    kernel = lanes_last(group, buffered, homes, name) if all(s.ndim == depth for s in group.stores) and depth else None
    return kernel or by_rows(group, depth, buffered, homes, name)


def lanes_last(group: Group, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> Kernel | None:
    """All stores at the same index, its last axis in lanes; None where folds run along the rows of memory instead."""
    scope = Scope(buffered, group.local, group.stores[0].ndim)
    scope.group = set(group.stores)
    index = axes(group.stores[0].shape)
    loop = real(index)
    if not loop:
        return None
    stores = [s for n in group.stores for s in stores_of(scope, n, index, loop[-1:], homes)]
    held = [(s, f) for s in stores for f in loops.folds(s.value) if loop[-1] in free(f)]
    if held and not any(down_columns(s.value, loop[-1]) for s, _ in held):
        return None
    loop, stores = collapsed(loop, stores)
    stores = [s._replace(inner=loop[-1:], lanes=loop[-1]) for s in stores]
    return Kernel(
        name, loop[:-1], tuple(stores), tuple(scope.checks), conditions=group.conditions, nodes=tuple(group.stores)
    )


def by_rows(group: Group, depth: int, buffered: Buffers, homes: Mapping[Node, Sequence[Target]], name: str) -> Kernel:
    """The first axes are the rows; each store has loops of its own within them."""
    scope = Scope(buffered, group.local, depth)
    scope.group = set(group.stores)
    row = axes(group.stores[0].shape[:depth], "r")
    stores: list[Store] = []
    for n in group.stores:
        inner = axes(n.shape[depth:])
        for s in stores_of(scope, n, (*row, *inner), real(inner), homes, group.local.get(n)):
            shorter, (s,) = collapsed(real(inner), [s])
            lanes = shorter[-1] if shorter and not runs_across(s.value, shorter[-1]) else None
            stores.append(s._replace(inner=shorter, lanes=lanes))
    rows, stores = collapsed(real(row), stores)
    return Kernel(
        name, rows, tuple(stores), tuple(scope.checks), conditions=group.conditions, nodes=tuple(group.stores)
    )


def stores_of(scope: Scope, n: Node, index: tuple[Index_, ...], inner: tuple[Index, ...], homes: Mapping[Node, Sequence[Target]], local: int | None = None) -> list[Store]:  # fmt: skip
    value = scope.compute(n, index)
    value = expr.as_expr(expr.opened(value))
    lanes = inner[-1] if inner else None
    if local is not None:
        own = Target(Local(n, local), "own", n.dtype)
        return [Store(own, inner, flatten(index[scope.depth :], n.shape[scope.depth :]), value, lanes)]
    return [Store(t, inner, t.place(index, n.shape), value, lanes) for t in homes[n]]


def rows_of(n: Node, buffered: Buffers) -> int:
    """How many leading axes of a single store are rows: those that its folds depend on; all where there is no fold."""
    scope = Scope(buffered, {}, 0)
    indices = axes(n.shape)
    value = value_of(scope, n, indices)
    value = None if value is None else expr.as_expr(expr.opened(value))
    if not real(indices) or value is None:
        return 0
    if any(real(indices)[-1] in free(f) for f in loops.folds(value)):
        return len(indices)
    deepest = max((d for f in loops.folds(value) for d, i in enumerate(indices) if i in free(f)), default=-1)
    return deepest + 1 if deepest >= 0 else len(indices)


# ------------------------------------------------------------------------------------------ fewer, longer loops


def collapsed(indices: Sequence[Index], stores: Sequence[Store]) -> tuple[tuple[Index, ...], list[Store]]:
    """Neighbouring loops joined where all stores use them as one: (i, j) becomes f with i = f // n and j = f % n."""
    left, done = list(indices), list(stores)
    for at in range(len(left) - 2, -1, -1):
        joined = joined_pair(left[at], left[at + 1], done)
        if joined is not None:
            f, done = joined
            left[at : at + 2] = [f]
    return tuple(left), done


def joined_pair(a: Index, b: Index, stores: Sequence[Store]) -> tuple[Index, list[Store]] | None:
    f = expr.index(expr.mul(a.extent, b.extent), "f")
    values = {a: expr.floordiv(f, b.extent), b: expr.mod(f, b.extent)}
    if values[a] == 0 or isinstance(values[a], int):
        values[a] = 0
    new = []
    for s in stores:
        offset, value = expr.substitute(s.offset, values), expr.as_expr(expr.substitute(s.value, values))
        new.append(s._replace(offset=offset, value=value))
        if divides(offset, f) or divides(value, f):
            return None
    return f, new


def divides(e: Index_, f: Index) -> bool:
    """Whether a division of the joined index is left."""
    return any(isinstance(x, expr.Apply) and x.fn in ("idiv", "imod") and f in free(x) for x in expr.walk(e))
