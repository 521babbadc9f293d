"""The lowering of loops. A body is scheduled and lowered like any graph, on leaves that stand for what lies outside.

    Repeat  := counter, count, item*                    item := Kernel | Repeat | Until
    state   in the buffer of its trace where that is wanted, else in one of two that take turns
    slice   the sequence at the counter: what only views it is index arithmetic, as anywhere
    each    written where it belongs in the result

Kernels of which nothing changes from step to step run once before the loop: so the panels of weights are packed once.
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from tinyflow.compiler.buffers import Buffers, Memory
from tinyflow.compiler.loops import Kernel, Target, loads
from tinyflow.compiler.schedule import Group, Schedule
from tinyflow.compiler.transpose import Turn
from tinyflow.core import expr
from tinyflow.core.errors import GraphError
from tinyflow.core.expr import Counter, Index_
from tinyflow.graph.node import Node, rewrite, toposort
from tinyflow.ops.elementwise import stop_gradient
from tinyflow.ops.leaf import placeholder
from tinyflow.ops.movement import reshape, slice_
from tinyflow.ops.scan import ONE_SIDED, Loop
from tinyflow.passes.state import Conditions, conditions


@dataclass(frozen=True, eq=False)
class Repeat:
    counter: Counter
    count: Index_
    items: tuple[Item, ...]
    conditions: Conditions = ()


@dataclass(frozen=True, eq=False)
class Until:
    """The loop goes on only under these conditions."""

    conditions: Conditions


Item: TypeAlias = "Kernel | Repeat | Until"
Roots: TypeAlias = "Sequence[tuple[Node, Sequence[Target]]]"  # nodes, and where they are to be stored


class State(NamedTuple):
    """Where a state lies: the entries of a buffer that it is in before and after a step, at first and at last."""

    leaf: Node
    targets: tuple[Target, ...]
    before: Index_
    after: Index_
    first: Index_
    last: Index_

    def stores(self, entry: Index_) -> list[Target]:
        return [at_entry(t, entry, self.leaf.shape[1:]) for t in self.targets]


def at_entry(t: Target, entry: Index_, shape: Sequence[Index_]) -> Target:
    return t._replace(at=expr.add(t.at, expr.mul(entry, expr.product(shape))))


def lower(
    group: Group, schedule: Schedule, homes: Mapping[Node, Sequence[Target]], name: str, memory: Memory, lower_group: Callable[..., list[Item]]
) -> list[Item]:  # fmt: skip
    """All results of a loop."""
    return Lowerer(memory, lower_group, schedule.has_recipe, name, {}).lower(group, schedule, homes)


@dataclass
class Lowerer:
    """One loop."""

    memory: Memory
    lower_group: Callable[..., list[Item]]
    has_recipe: Callable[[Node], bool]
    name: str
    starts: dict[Node, Index_]  # of the leaves that stand for parts of buffers

    def lower(self, group: Group, outer: Schedule, homes: Mapping[Node, Sequence[Target]]) -> list[Item]:
        results = {n.attrs["result"]: n for n in group.stores}
        loop: Loop = group.stores[0].attrs["loop"]
        states, sequences, captures = loop.parts(self.from_outside(group.stores[0].inputs, outer.buffered))
        counter = expr.counter(expr.add(loop.length, 0 if loop.going is None else 1))  # its value behind the loop, too
        t = expr.add(loop.length, expr.add(expr.mul(counter, -1), -1)) if loop.reverse else counter
        kept = [self.place(loop, k, results, homes, counter, t) for k in range(len(loop.new))]
        values = [*(entry(s.leaf, s.before) for s in kept), *(entry(x, t) for x in sequences), *captures]
        asked = [(r.root(loop), n) for r, n in results.items() if r.kind == "each"]
        wanted = [*loop.new, *(n for n, _ in asked), *([] if loop.going is None else [loop.going])]
        body = rewrite(wanted, lambda n: n, start=dict(zip(loop.arguments, values, strict=True)))
        self.check_alive([body[n] for n in loop.new], values)
        roots = [(body[n], s.stores(s.after)) for n, s in zip(loop.new, kept, strict=True)]
        roots += [(body[n], [at_entry(h, t, n.shape) for h in homes[whole]]) for n, whole in asked]
        finals = [(r.state, n) for r, n in results.items() if r.kind == "final"]
        before = self.block("a", [(x, s.stores(s.first)) for x, s in zip(states, kept, strict=True)])
        steps = self.block("", roots, repeated=True)
        if loop.going is not None:
            goes = stop_gradient(body[loop.going])
            steps = [*self.block("w", [(goes, [])], repeated=True), Until(((goes, True),)), *steps]
        after = self.block("z", [(entry(kept[k].leaf, kept[k].last), homes[n]) for k, n in finals])
        once, steps = self.parted(steps, kept)
        outside = [under(item, group.conditions) for item in (*before, *once)]
        repeat = Repeat(counter, loop.length, tuple(steps), group.conditions)
        return [*outside, repeat, *(under(item, group.conditions) for item in after)]

    def check_alive(self, new: Sequence[Node], values: Sequence[Node]) -> None:
        """A state has a value after every step in which the arguments have."""
        found = conditions([*new, *values])
        allowed = {c for x in values for c in found[x]}
        if any(c not in allowed for n in new for c in found[n]):
            raise GraphError(ONE_SIDED)

    def from_outside(self, inputs: Sequence[Node], buffered: Buffers) -> list[Node]:
        """The loop's inputs, their views too, on leaves that stand for the buffers outside."""
        start: dict[Node, Node] = {}
        for n in toposort(inputs, stop=buffered.__contains__):
            if n in buffered:
                start[n] = self.stand_in(n.shape, n, self.memory.where[n], buffered.start.get(n, 0))
            elif n in buffered.start:
                self.starts[n] = buffered.start[n]
        new = rewrite(inputs, lambda n: n, start=start)
        return [new[n] for n in inputs]

    def stand_in(self, shape: Sequence[Any], like: Node, slot: int, start: Index_) -> Node:
        leaf = placeholder(like.dtype, tuple(shape), like.label)
        self.memory.where[leaf] = slot
        if start != 0:
            self.starts[leaf] = start
        return leaf

    def place(self, loop: Loop, k: int, results: Mapping[Any, Node], homes: Mapping[Node, Sequence[Target]], counter: Counter, t: Index_) -> State:  # fmt: skip
        """Where state k lies."""
        like = loop.arguments[k]
        done = loop.length if loop.going is None else counter  # steps, once the loop is over
        traced = next((n for r, n in results.items() if r.kind == "trace" and r.state == k), None)
        if traced is not None:
            targets = tuple(homes[traced])
            leaf = self.stand_in(traced.shape, traced, self.memory.where[targets[0]], targets[0].at)
            entries: tuple[Index_, ...] = (t, expr.add(t, 1), 0, done)
            if loop.reverse:
                entries = (expr.add(t, 1), t, loop.length, expr.add(loop.length, expr.mul(done, -1)))
            return State(leaf, targets, *entries)
        own = Target(placeholder(like.dtype, (2, *like.shape), f"state {k} of {self.name}"), "own", like.dtype)
        leaf = self.stand_in(own.node.shape, own.node, self.memory.temp(own, own.node), 0)
        return State(leaf, (own,), expr.mod(counter, 2), expr.mod(expr.add(counter, 1), 2), 0, expr.mod(done, 2))

    # -------------------------------------------------------------------------------------- a graph to kernels

    def block(self, tail: str, roots: Roots, repeated: bool = False) -> list[Item]:
        """The kernels that compute some nodes, and store them where they are to be."""
        wanted: dict[Node, list[Target]] = {}
        for n, targets in roots:
            copied = n.op.kind == "leaf" or (n.op.whole and n.op.kind != "loop")  # the latter write to one place only
            wanted.setdefault(stop_gradient(n) if copied else n, []).extend(targets)
        schedule = Schedule(list(wanted), self.has_recipe, repeated=True)
        schedule.buffered.start.update(self.starts)
        schedule.buffered.repeated = repeated
        predicates = {p for c in schedule.conditions.values() for p, _ in c}
        homes: dict[Node, list[Target]] = {n: [] for g in schedule.groups for n in g.stores}
        where = self.memory.where
        for g in schedule.groups:
            for n in g.stores:
                if n in g.local:
                    continue
                homes[n] = list(wanted.get(n, ()))
                if not homes[n] or n in predicates:  # guards read the first byte of a buffer
                    homes[n].insert(0, Target(n, "own", n.dtype))
                    self.memory.temp(homes[n][0], n)
                for target in homes[n]:
                    where[target] = where[target._replace(at=0)]
                where[n], schedule.buffered.start[n] = where[homes[n][0]], homes[n][0].at
        return [
            item
            for j, g in enumerate(schedule.groups)
            for item in self.lower_group(g, schedule, homes, f"{self.name}{tail}.{j}", self.memory)
        ]

    def parted(self, items: Sequence[Item], states: Sequence[State]) -> tuple[list[Item], list[Item]]:
        """What can run once before the loop, and what is done in every step."""
        where = self.memory.where
        slots = [{where.get(key, key) for k in kernels_of([item]) for key in k.written} for item in items]
        writers = Counted(chain.from_iterable(slots))
        changing: set[Any] = {where[t._replace(at=0)] for s in states for t in s.targets}
        once: list[Item] = []
        steps: list[Item] = []
        for item, own in zip(items, slots, strict=True):
            alone = all(writers[s] == 1 for s in own)  # else another kernel changes what it has stored
            fixed = isinstance(item, Kernel) and alone and is_fixed(item, changing, where)
            (once if fixed else steps).append(item)
            changing |= set() if fixed else own
        return once, steps


def entry(x: Node, position: Index_) -> Node:
    """x[position], as a view."""
    rest = x.shape[1:]
    return reshape(slice_(x, (position, *(0 for _ in rest)), (1, *rest)), rest)


def is_fixed(k: Kernel, changing: Set[Any], where: Mapping[Any, int]) -> bool:
    """Whether a kernel does the same at every step."""
    if k.checks or k.conditions or not (k.recipe is None or isinstance(k.recipe, Turn)):
        return False
    parts = [e for s in k.stores for e in (s.value, s.offset)]
    if any(isinstance(x, Counter) for e in parts for x in expr.walk(e)):
        return False
    return not any(where.get(x.buffer, x.buffer) in changing for e in parts for x in loads(e))


def under(item: Item, conditions: Conditions) -> Item:
    return replace(item, conditions=(*conditions, *item.conditions))


def kernels_of(items: Sequence[Item]) -> list[Kernel]:
    found: list[Kernel] = []
    for item in items:
        if not isinstance(item, Until):
            found += kernels_of(item.items) if isinstance(item, Repeat) else [item]
    return found


def repeats_of(items: Sequence[Item]) -> list[Repeat]:
    """All loops, outer ones before those within."""
    return [r for item in items if isinstance(item, Repeat) for r in (item, *repeats_of(item.items))]
