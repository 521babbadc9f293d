"""build: from a graph to a program, one step after the other, each with a printable result.

nodes -> schedule -> groups -> lower -> kernels -> emit -> texts -> machine -> functions -> program
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from tinyflow.compiler import attention, contraction, cumulative, loops, scatter, sorting
from tinyflow.compiler import kernel as frame
from tinyflow.compiler.emit import Code
from tinyflow.compiler.loops import Kernel, Target
from tinyflow.compiler.lower import lower
from tinyflow.compiler.schedule import Group, Schedule
from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.expr import Dim, Expr, Index_
from tinyflow.graph.node import Node, make, toposort
from tinyflow.ops.elementwise import stop_gradient
from tinyflow.runtime import machine
from tinyflow.runtime import target as targets
from tinyflow.runtime.program import Call, Program, Slot


@dataclass(frozen=True)
class Build:
    """A program, and how the graph's leaves and results are its slots."""

    program: Program
    leaves: tuple[Node, ...]  # slots 1, 2, ...
    outputs: tuple[int, ...]  # the slot of each output
    writes: tuple[int | None, ...]  # the slot of each write; None where it happens in place
    checks: tuple[Node, ...]  # the nodes whose indices are checked, by number
    kernels: tuple[Kernel, ...]
    codes: tuple[Code, ...] = field(repr=False)


class Functions:
    """The kernels of a program, compiled together when the first address is asked for."""

    def __init__(self, texts: Sequence[str], names: Sequence[str]) -> None:
        self.texts, self.names = texts, names

    @cached_property
    def addresses(self) -> dict[str, int]:
        unique = dict(zip(self.texts, self.names, strict=True))
        libraries = machine.compile_many(list(unique.items()))
        return {text: library.address("kernel") for text, library in zip(unique, libraries, strict=True)}

    def at(self, text: str) -> Callable[[], int]:
        return lambda: self.addresses[text]


def build(outputs: Sequence[Node], writes: Mapping[Node, Node]) -> Build:
    """The program that computes the outputs, and the variables' new values, in place where that is safe."""
    target = targets.current()
    outputs = [own(n) for n in outputs]
    changes = {v: stop_gradient(n) if n.op.whole else own(n) for v, n in writes.items()}
    roots = [*outputs, *changes.values()]
    schedule = Schedule(roots, contraction.has_recipe)
    leaves = tuple(n for n in toposort(roots) if n.op.kind == "leaf")
    given = tuple(dict.fromkeys([*leaves, *changes]))
    slots = [
        Slot("status"),
        *(Slot("given", expr.mul(expr.product(n.shape), n.dtype.size), label=n.label, where=n.where) for n in given),
    ]
    where: dict[Any, int] = {n: k for k, n in enumerate(given, 1)}
    homes = assign_homes(schedule, outputs, changes, slots, where)
    kernels = [priced(k) for n, g in enumerate(schedule.groups) for k in lower_group(g, schedule, homes, f"k{n}")]
    codes = [frame.emit(k, target) for k in kernels]
    inspect(schedule, kernels, codes)
    program, checks = assemble(kernels, codes, slots, where)
    loops.forget()
    placed = tuple(None if (at := where[Target(v, "write", n.dtype)]) == where[v] else at for v, n in changes.items())
    return Build(
        program,
        given,
        tuple(where[Target(n, "own", n.dtype)] for n in outputs),
        placed,
        checks,
        tuple(kernels),
        tuple(codes),
    )


def own(n: Node) -> Node:
    """A node with a buffer of its own: a leaf is copied."""
    return stop_gradient(n) if n.op.kind == "leaf" else n


Lower = Callable[[Group, set[Node], Mapping[Node, Sequence[Target]], str], list[Kernel]]
WHOLE: dict[str, Lower] = {
    "into": scatter.lower,
    "scan": cumulative.lower,
    "sort": sorting.lower,
    "block": attention.lower,
}


def lower_group(group: Group, schedule: Schedule, homes: Mapping[Node, Sequence[Target]], name: str) -> list[Kernel]:
    if group.core is not None:
        return contraction.lower(group, schedule.buffered, homes, name)
    recipe = WHOLE.get(group.stores[0].op.kind)
    if recipe is not None:
        return recipe(group, schedule.buffered, homes, name)
    return [lower(group, schedule.buffered, homes, name)]


# ------------------------------------------------------------------------------------------ memory


def assign_homes(schedule: Schedule, outputs: Sequence[Node], changes: Mapping[Node, Node], slots: list[Slot], where: dict[Any, int]) -> dict[Node, list[Target]]:  # fmt: skip
    """Which slots each buffered node is stored to. The first is the one that others read."""
    homes: dict[Node, list[Target]] = {n: [] for g in schedule.groups for n in g.stores}
    written: dict[Node, list[Node]] = {}
    for v, n in changes.items():
        written.setdefault(n, []).append(v)

    def add(n: Node, home: Target, kind: str | int) -> None:
        homes[n].append(home)
        if isinstance(kind, int):
            where[home] = kind
        else:
            where[home] = len(slots)
            slots.append(Slot(kind, expr.mul(expr.product(n.shape), n.dtype.size), label=n.label, where=n.where))

    for group in schedule.groups:
        for n in group.stores:
            if n in group.local:
                continue
            if n in outputs:
                add(n, Target(n, "own", n.dtype), "given")
            for v in written.get(n, ()):
                safe = in_place(schedule, group, n, v)
                add(n, Target(v, "write", n.dtype), where[v] if safe else "given")
            if not homes[n]:
                add(n, Target(n, "own", n.dtype), "temp")
            where[n] = where[homes[n][0]]
    return homes


def in_place(schedule: Schedule, group: Group, n: Node, v: Node) -> bool:
    """Whether the variable's old value is needed nowhere once its new one is stored."""
    if v.shape != n.shape or any(
        schedule.lowering.of(s).checked for s in {*group.stores, *([group.core] if group.core else [])}
    ):
        return False
    whole = group.depth is None or all(s.ndim == group.depth for s in group.stores)
    later = False
    for g in schedule.groups:
        for s in {*g.stores, *([g.core] if g.core else [])}:
            lowered = schedule.lowering.of(s)
            for x, index in lowered.reads:
                if x is v and (later or (g is group and not (whole and index == lowered.indices))):
                    return False
        later = later or g is group
    return True


# ------------------------------------------------------------------------------------------ assembling


def assemble(
    kernels: Sequence[Kernel], codes: Sequence[Code], slots: list[Slot], where: dict[Any, int]
) -> tuple[Program, tuple[Node, ...]]:
    functions = Functions([c.text for c in codes], [k.name for k in kernels])
    dims: dict[Expr, int] = {}
    checks: list[Node] = []
    checked: dict[Any, set[Any]] = {}  # what index was checked, under which conditions
    calls = []
    for k, code in zip(kernels, codes, strict=True):
        for b in code.buffers:
            if b not in where:  # scratch memory of this kernel and the next
                where[b] = len(slots)
                slots.append(b.slot()._replace(where=k.nodes[0].where if k.nodes else ""))
        touched = traffic(k, code, slots, where)
        for e in (code.tasks, k.cost, getattr(k.recipe, "flops", 0), *code.dims, *(n for _, n in touched)):
            for atom in expr.walk(e):
                if isinstance(atom, Dim):
                    dims.setdefault(atom, len(dims))
        numbers = tuple(2 * (len(checks) + j) + 1 for j in range(len(code.checks)))  # odd: the low byte is never 0
        guards = [(where[p], int(side)) for p, side in k.conditions]
        if checks and any(s.target.home == "write" for s in k.stores):
            guards.append((0, 0))  # a variable keeps its value when an index was out of range
        checks += code.checks
        before = all(checked.get(indexed(n), {None}) <= set(k.conditions) for n in code.checks)
        checked.update((indexed(n), set(k.conditions)) for n in code.checks if indexed(n) not in checked)
        buffers = tuple(where[b] for b in code.buffers)
        writes = frozenset([*(where[b] for b in code.buffers if b in written_by(k)), *([0] if code.checks else [])])
        calls.append(
            Call(
                name=k.name,
                function=functions.at(code.text),
                buffers=buffers,
                dims=tuple(dims[d] for d in code.dims),
                checks=numbers,
                writes=writes,
                tasks=code.tasks,
                cost=k.cost,
                guards=tuple(guards),
                label=", ".join(n.label for n in k.nodes),
                flops=getattr(k.recipe, "flops", k.cost),
                traffic=touched,
                where=line_of(k),
                checked_before=before and bool(code.checks),
                text=code.text,
                loops=loops.show(k) if config.PROFILE else "",
            )
        )
    for s in slots:
        for atom in expr.walk(s.size):
            if isinstance(atom, Dim):
                dims.setdefault(atom, len(dims))
    return Program(calls, slots, tuple(dims)), tuple(checks)


def indexed(n: Node) -> tuple[Node, Index_]:
    """The index that a node checks, and how many entries there are for it."""
    index = n.inputs[-1] if n.op.kind == "into" else n.inputs[1]
    if "size" in n.attrs:
        return index, n.attrs["size"]
    return index, n.inputs[0].shape[n.attrs["axis"] if "axis" in n.attrs else n.attrs["batch"]]


def line_of(k: Kernel) -> str:
    """The user's line that its first node was made on."""
    where = k.nodes[0].where if k.nodes else None
    return f"{os.path.basename(where.file)}:{where.line}" if where else ""


def traffic(k: Kernel, code: Code, slots: Sequence[Slot], where: Mapping[Any, int]) -> tuple[tuple[int, Index_], ...]:
    """(slot, bytes) of what a kernel reads, then of what it writes. A recipe touches all of its buffers."""
    read, written = loops.traffic(k)
    if k.recipe is not None:
        stored = written_by(k)
        read = {b: slots[where[b]].size for b in code.buffers if b not in stored or b in read}
        written = {b: slots[where[b]].size for b in code.buffers if b in stored}
    touched = [(where[b], n) for each in (read, written) for b, n in each.items()]
    return tuple((s, n) for s, n in touched if not slots[s].per_thread)


def written_by(k: Kernel) -> set[Any]:
    """The keys of the buffers that a kernel stores to."""
    return {s.target.key for s in k.stores} | (set(k.recipe.written) if k.recipe is not None else set())


def priced(k: Kernel) -> Kernel:
    """With its cost: rows times what a row takes."""
    if not isinstance(k.cost, int) or k.cost:
        return k
    rows = expr.product(i.extent for i in k.rows)
    total: Index_ = 0
    for s in k.stores:
        total = total + expr.mul(expr.product(i.extent for i in s.inner), loops.weight(s.value) + 1)
    return replace(k, cost=expr.mul(rows, total))


def inspect(schedule: Schedule, kernels: Sequence[Kernel], codes: Sequence[Code]) -> None:
    """What DEBUG asks to see."""
    if config.DEBUG >= 3:
        for g in schedule.groups:
            print(f"pass over {', '.join(n.label for n in g.stores)}", file=sys.stderr)
    for k, code in zip(kernels, codes, strict=True):
        if config.DEBUG >= 4:
            print(loops.show(k), file=sys.stderr)
        if config.DEBUG >= 5:
            print(code.text, file=sys.stderr)


__all__ = ["Build", "build", "make"]
