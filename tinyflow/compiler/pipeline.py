"""build: from a graph to a program, one step after the other, each with a printable result.

nodes -> schedule -> groups -> lower -> kernels -> emit -> texts -> machine -> functions -> program
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from typing import Any

from tinyflow.compiler import (
    attention,
    contraction,
    cumulative,
    finding,
    loops,
    recurrence,
    scatter,
    sorting,
    swapped,
    winograd,
)
from tinyflow.compiler import kernel as frame
from tinyflow.compiler.buffers import Buffers, Memory
from tinyflow.compiler.emit import Code
from tinyflow.compiler.forms import Alike, Forms
from tinyflow.compiler.loops import Kernel, Target
from tinyflow.compiler.lower import lower
from tinyflow.compiler.recurrence import Item, Repeat, Until, kernels_of, repeats_of
from tinyflow.compiler.schedule import Group, Schedule
from tinyflow.compiler.transpose import turned_copy
from tinyflow.compiler.turned import turned_pass
from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.errors import CompileError
from tinyflow.core.expr import Dim, Expr, Index_
from tinyflow.graph.node import Node, rewrite, toposort
from tinyflow.ops.elementwise import stop_gradient
from tinyflow.ops.indexing import ONTO, PUT
from tinyflow.passes.pairs import pairs
from tinyflow.runtime import target as targets
from tinyflow.runtime.functions import Functions
from tinyflow.runtime.items import Call, Leave, Loop, Slot
from tinyflow.runtime.program import Program


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


Begin = Callable[[str, str], None]


def build(outputs: Sequence[Node], writes: Mapping[Node, Node], lasting: Collection[Node] = (), begin: Begin | None = None) -> Build:  # fmt: skip
    """The program that computes the outputs, and the variables' new values, in place where that is safe.

    `begin`, if given, is told each text and its kernel's name as soon as it is there.
    `lasting` leaves stay the same from run to run: what is made of them alone is not fused with the rest.
    """
    target = targets.current()
    outputs = [own(n) for n in outputs]
    alone = written_over(outputs, writes)
    changes = {v: stop_gradient(n) if n.op.whole and v not in alone else own(n) for v, n in writes.items()}
    if target.pairs:
        new = rewrite([*outputs, *changes.values()], pairs)
        outputs, changes = [new[n] for n in outputs], {v: new[n] for v, n in changes.items()}
    roots = [*outputs, *changes.values()]
    schedule = Schedule(roots, contraction.has_recipe, lasting)
    leaves = tuple(n for n in toposort(roots) if n.op.kind == "leaf")
    given = tuple(dict.fromkeys([*leaves, *changes]))
    memory = Memory()
    where = memory.where
    for n in given:
        memory.add(n, "given", n)
    homes = assign_homes(schedule, outputs, changes, memory)
    forms = Forms(schedule.buffered, homes)
    items: list[Item] = []
    codes: dict[Kernel, Code] = {}
    for at, g in enumerate(schedule.groups):
        if g.stores[0] in schedule.joined:
            continue
        made = forms.lower(g, f"k{at}", partial(lower_group, g, schedule, homes, f"k{at}", memory))
        for k in kernels_of(made):
            codes[k] = k.names.code(codes[k.like]) if isinstance(k, Alike) else emitted(k, target)
            if begin is not None and not isinstance(k, Alike):
                begin(codes[k].text, title(k))
        items += made
    inspect(schedule, codes)
    program, checks = assemble(items, codes, memory)
    loops.forget()
    placed = tuple(None if (at := where[Target(v, "write", n.dtype)]) == where[v] else at for v, n in changes.items())
    return Build(
        program,
        given,
        tuple(where[Target(n, "own", n.dtype)] for n in outputs),
        placed,
        checks,
        tuple(codes),
        tuple(codes.values()),
    )


def written_over(outputs: Sequence[Node], writes: Mapping[Node, Node]) -> set[Node]:
    """The variables that only an op reads which replaces entries of theirs: their new values."""
    new, readers = list(writes.values()), dict[Node, int]()
    if not any(n.op in (PUT, ONTO) for n in new):
        return set()
    for n in toposort([*outputs, *new]):
        for x in n.inputs:
            readers[x] = readers.get(x, 0) + 1
    return {
        v
        for v, n in writes.items()
        if n.op in (PUT, ONTO) and n.inputs[0] is v and readers[v] == new.count(n) == 1 and n not in outputs
    }


def emitted(k: Kernel, target: targets.Target) -> Code:
    try:
        return frame.emit(k, target)
    except Exception as error:
        made = ", ".join(f"{n.label} ({n.where})" for n in k.nodes[:3])
        raise CompileError(f"{k.name}, which computes {made}: {type(error).__name__}: {error}") from error


def own(n: Node) -> Node:
    """A node with a buffer of its own: a leaf is copied."""
    return stop_gradient(n) if n.op.kind == "leaf" else n


Lower = Callable[[Group, Buffers, Mapping[Node, Sequence[Target]], str], list[Kernel]]
WHOLE: dict[str, Lower] = {
    "into": scatter.lower,
    "scan": cumulative.lower,
    "sort": sorting.lower,
    "find": finding.lower,
    "block": attention.lower,
}


def lower_group(group: Group, schedule: Schedule, homes: Mapping[Node, Sequence[Target]], name: str, memory: Memory) -> list[Item]:  # fmt: skip
    if group.stores[0].op.kind == "loop":
        return recurrence.lower(group, schedule, homes, name, memory, lower_group)
    if group.core is not None:
        args = group, schedule.buffered, homes, name
        kernels = winograd.lower(*args) or swapped.lower(*args) or contraction.lower(*args)
    elif (recipe := WHOLE.get(group.stores[0].op.kind)) is not None:
        kernels = recipe(group, schedule.buffered, homes, name)
    else:
        width = targets.current().vector_bytes
        kernels = [turned_pass(turned_copy(lower(group, schedule.buffered, homes, name), width), width)]
    lasts = schedule.lasts(group)
    return [priced(replace(k, lasting=lasts or k.lasting)) for k in kernels]


# ------------------------------------------------------------------------------------------ memory


def assign_homes(schedule: Schedule, outputs: Sequence[Node], changes: Mapping[Node, Node], memory: Memory) -> dict[Node, list[Target]]:  # fmt: skip
    """Which slots each buffered node is stored to. The first is the one that others read."""
    homes: dict[Node, list[Target]] = {n: [] for g in schedule.groups for n in g.stores}
    where = memory.where
    written: dict[Node, list[Node]] = {}
    for v, n in changes.items():
        written.setdefault(n, []).append(v)

    def add(n: Node, home: Target, kind: str | int) -> None:
        homes[n].append(home)
        if isinstance(kind, int):
            where[home] = kind
        else:
            memory.add(home, kind, n)

    wanted = set(outputs)
    for n, parts in schedule.joined.items():
        add(n, Target(n, "own", n.dtype), "temp")
        where[n] = where[homes[n][0]]
        for part, target in zip(parts, targets_of_parts(n), strict=True):
            add(part, target, where[n])
            where[part] = where[n]
    for group in schedule.groups:
        for n in group.stores:
            if n in group.local or homes[n]:
                continue
            if n in wanted:
                add(n, Target(n, "own", n.dtype), "result")
            for v in written.get(n, ()):
                safe = in_place(schedule, group, n, v)
                if safe and n.op.whole:
                    schedule.buffered.in_place.add(n)
                add(n, Target(v, "write", n.dtype), where[v] if safe else "result")
            base = None if homes[n] else last_read(schedule, group, n, wanted)
            if base is not None and homes.get(base) == [Target(base, "own", base.dtype)]:
                schedule.buffered.in_place.add(n)
                add(n, Target(n, "own", n.dtype), where[base])
            if not homes[n]:
                add(n, Target(n, "own", n.dtype), "temp")
            where[n] = where[homes[n][0]]
    return homes


def targets_of_parts(n: Node) -> list[Target]:
    """Where the parts of a concatenation are stored in it."""
    axis = n.attrs["axis"]
    lengths = [expr.product(x.shape[axis:]) for x in n.inputs]
    starts, whole = [0, *accumulate(lengths)], expr.product(n.shape[axis:])
    return [Target(n, "own", n.dtype, start, (length, whole)) for start, length in zip(starts, lengths)]


def checked_before(schedule: Schedule, group: Group, n: Node) -> bool:
    """Whether an earlier group checks a node's index in any case: then nothing is written where one is out of range."""
    want, here = indexed(n), schedule.place[group]
    for other in schedule.groups[:here]:
        for s in other.stores if not other.conditions else ():
            checks = (s,) if s.op.kind == "into" else schedule.lowering[s].checks
            if any(indexed(c) == want for c in checks):
                return True
    return False


def in_place(schedule: Schedule, group: Group, n: Node, v: Node) -> bool:
    """Whether the variable's old value is needed nowhere once its new one is stored."""
    if n.op.whole and n.op.kind == "into":
        return checked_before(schedule, group, n)
    if (
        v.shape != n.shape
        or n.op.kind == "loop"
        or any(schedule.lowering[s].checks for s in {*group.stores, *([group.core] if group.core else [])})
    ):
        return False
    whole = group.depth is None or all(s.ndim == group.depth for s in group.stores)
    here = schedule.place[group]
    return all(
        at < here or (at == here and whole and index == indices) for at, index, indices in schedule.readers.get(v, ())
    )


def last_read(schedule: Schedule, group: Group, n: Node, wanted: Collection[Node]) -> Node | None:
    """What n is pushed onto, if that is a temporary which nobody reads after n, and n reads for no more than that."""
    if n.op.kind != "into" or len(n.inputs) < 3:
        return None
    base, here = n.inputs[0], schedule.place[group]
    if base in wanted or base in schedule.buffered.lasting or base.dtype is not n.dtype or base.op.kind == "leaf":
        return None
    at = [at for at, _, _ in schedule.readers.get(base, ())]
    return base if at.count(here) == 1 and max(at) == here else None


# ------------------------------------------------------------------------------------------ assembling


def assemble(items: Sequence[Item], codes: Mapping[Kernel, Code], memory: Memory) -> tuple[Program, tuple[Node, ...]]:
    """A call for each kernel, and loops of calls."""
    slots, where = memory.slots, memory.where
    for k, code in codes.items():
        for b in code.buffers:
            if b not in where:  # scratch memory of this kernel and the next
                where[b] = len(slots)
                slots.append(b.slot()._replace(where=k.nodes[0].where if k.nodes else ""))
    repeats = repeats_of(items)
    counters = {r.counter: n for n, r in enumerate(repeats)}
    touched = {k: traffic(code, slots, where) for k, code in codes.items()}
    sizes: list[Index_] = [*(s.size for s in slots), *(r.count for r in repeats)]
    for k, code in codes.items():
        sizes += [code.tasks, k.cost, code.flops, *code.dims, *(n for _, n in touched[k])]
    dims = dict.fromkeys(a for e in sizes for a in expr.walk(e) if isinstance(a, Dim) and a not in counters)
    numbers: dict[Expr, int] = {d: n for n, d in enumerate([*dims, *counters])}
    tells = {n.attrs["size"]: where[n] for k in codes for n in k.nodes if n.op.kind == "find"}
    functions = Functions(
        [c.text for c in codes.values()],
        [title(k) for k in codes],
    )
    place = {k: n for n, k in enumerate(codes)}
    checks: list[Node] = []
    checked: dict[Any, set[Any]] = {}  # what index was checked in any case, but for these conditions

    def call(k: Kernel, repeated: bool) -> Call:
        code, guards = codes[k], guards_of(k)
        if checks and any(isinstance(b, Target) and b.home == "write" for b in code.written):
            guards = (*guards, (0, 0))  # a variable keeps its value when an index was out of range
        before = all(checked.get(indexed(n), {None}) <= set(k.conditions) for n in code.checks) and not repeated
        if not repeated:
            checked.update((indexed(n), set(k.conditions)) for n in code.checks if indexed(n) not in checked)
        first = len(checks)
        checks.extend(code.checks)
        return Call(
            name=k.name,
            function=functions.at(place[k]),
            buffers=tuple(where[b] for b in code.buffers),
            dims=tuple(numbers[d] for d in code.dims),
            checks=tuple(2 * (first + j) + 1 for j in range(len(code.checks))),  # odd: the low byte is never 0
            writes=frozenset([*(where[b] for b in code.written), *([0] if code.checks else [])]),
            tasks=code.tasks,
            cost=k.cost,
            guards=guards,
            label=", ".join(n.label for n in k.nodes),
            flops=code.flops,
            traffic=touched[k],
            where=line_of(k),
            checked_before=before and bool(code.checks),
            waits=frozenset(tells[d] for d in code.dims if d in tells),
            text=code.text if config.PROFILE else "",
            loops=loops.show(k) if config.PROFILE else "",
            lasting=k.lasting,
        )

    def guards_of(item: Item) -> tuple[tuple[int, int], ...]:
        return tuple((where[p], int(side)) for p, side in item.conditions)

    def loop(item: Repeat | Until, inner: list[Call | Loop | Leave]) -> Loop | Leave:
        if isinstance(item, Until):
            return Leave(guards_of(item))
        return Loop(counters[item.counter], item.count, tuple(inner), guards_of(item))

    return Program(nested(items, call, loop), slots, tuple(dims), len(counters)), tuple(checks)


def nested(
    items: Sequence[Item],
    call: Callable[[Kernel, bool], Call],
    loop: Callable[[Repeat | Until, list[Call | Loop | Leave]], Loop | Leave],
    repeated: bool = False,
) -> list[Call | Loop | Leave]:
    """The items by what is made of each; no function here refers to itself, so that graphs are let go at once."""

    def inner(i: Repeat | Until) -> Sequence[Item]:
        return () if isinstance(i, Until) else i.items

    return [call(i, repeated) if isinstance(i, Kernel) else loop(i, nested(inner(i), call, loop, True)) for i in items]


SAME_NUMBERS = ("reshape", "permute", "expand", "stop_gradient")


def indexed(n: Node) -> tuple[Node, Index_]:
    """The index that a node checks, and how many entries there are for it."""
    index = n.inputs[-1] if n.op.kind == "into" else n.inputs[1]
    while index.op.name in SAME_NUMBERS and expr.product(index.shape) != 0:
        index = index.inputs[0]
    if "size" in n.attrs:
        return index, n.attrs["size"]
    return index, n.inputs[0].shape[n.attrs["axis"] if "axis" in n.attrs else n.attrs["batch"]]


def title(k: Kernel) -> str:
    return f"{k.name} ({', '.join(n.label for n in k.nodes)}, {line_of(k)})"


def line_of(k: Kernel) -> str:
    """The user's line that its first node was made on."""
    where = k.nodes[0].where if k.nodes else None
    return f"{os.path.basename(where.file)}:{where.line}" if where else ""


def traffic(code: Code, slots: Sequence[Slot], where: Mapping[Any, int]) -> tuple[tuple[int, Index_], ...]:
    """(slot, bytes) of what a kernel reads, then of what it writes."""
    touched = [(where[b], slots[where[b]].size if n is None else n) for b, n in code.touched]
    return tuple((s, n) for s, n in touched if not slots[s].per_thread)


def priced(k: Kernel) -> Kernel:
    """With its cost: rows times what a row takes."""
    if not isinstance(k.cost, int) or k.cost:
        return k
    rows = expr.product(i.extent for i in k.rows)
    total: Index_ = 0
    for s in k.stores:
        total = total + expr.mul(expr.product(i.extent for i in s.inner), loops.weight(s.value) + 1)
    return replace(k, cost=expr.mul(rows, total))


def inspect(schedule: Schedule, codes: Mapping[Kernel, Code]) -> None:
    """What DEBUG asks to see."""
    if config.DEBUG >= 3:
        for g in schedule.groups:
            print(f"pass over {', '.join(n.label for n in g.stores)}", file=sys.stderr)
    for k, code in codes.items():
        if config.DEBUG >= 4:
            print(loops.show(k), file=sys.stderr)
        if config.DEBUG >= 5:
            print(code.text, file=sys.stderr)
