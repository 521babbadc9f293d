"""layout: the order of a program's items, and where its temporaries lie in the arena."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyflow.core.expr import Expr
from tinyflow.runtime.items import STATUS, Again, AnyStep, Call, Enter, Item, number
from tinyflow.runtime.memory import Life, aligned, plan
from tinyflow.runtime.order import Touch, order

if TYPE_CHECKING:
    from tinyflow.runtime.program import Program


def in_order(program: Program, values: Mapping[Expr, int], threads: int) -> list[Item]:
    """The items, in an order in which temporaries live briefly. What was checked before need not be checked in time."""
    sizes = temporaries(program, values, threads)
    return [program.items[k] for k in order([touch(i) for i in program.items], sizes)]


def touch(item: Any) -> Touch:
    return Touch(item.touched - item.writes, item.writes - {STATUS} if item.checked_before else item.writes)


def temporaries(program: Program, values: Mapping[Expr, int], threads: int) -> dict[int, int]:
    """The bytes of each."""
    sizes = {k: aligned(number(s.size, values)) for k, s in enumerate(program.slots) if s.kind == "temp"}
    return {k: n * threads if program.slots[k].per_thread else n for k, n in sizes.items()}


def lifetimes(steps: Sequence[AnyStep]) -> dict[int, tuple[int, int]]:
    """The first and the last step that touch each slot. What a loop takes in, gives out or keeps for its next round lives throughout."""
    lives: dict[int, tuple[int, int]] = {}
    for k, step in enumerate(steps):
        lives.update({s: (lives.get(s, (k, k))[0], k) for s in step.touched})
    for k, step in enumerate(steps):
        if isinstance(step, Enter):
            for s in step.loop.touched:
                first, last = lives[s]
                if first < k or last >= step.end:
                    lives[s] = min(first, k), max(last, step.end - 1)
    return lives


def beside(steps: Sequence[AnyStep], alone: Sequence[bool]) -> list[int]:
    """The moment of each step: the number of the first that it may run beside, each on a thread of its own."""
    found: list[int] = []
    touched: set[int] = set()
    written: set[int] = set()
    depth = 0
    for k, step in enumerate(steps):
        depth += isinstance(step, Enter) - isinstance(step, Again)
        free = alone[k] and not depth and isinstance(step, Call)
        writes = step.writes if isinstance(step, Call) else frozenset[int]()
        if not free or k == 0 or not alone[k - 1] or writes & touched or step.touched & written:
            touched, written = set(), set()
            found.append(k)
        else:
            found.append(found[-1])
        touched |= step.touched
        written |= writes
    return found


def arrange(
    program: Program, steps: Sequence[AnyStep], values: Mapping[Expr, int], threads: int, moments: Sequence[int]
) -> tuple[dict[int, tuple[int, int]], int]:
    """Where each temporary lies in the arena, (start, end), and how large that is."""
    lives = {s: (moments[first], moments[last]) for s, (first, last) in lifetimes(steps).items()}
    sizes = {k: n for k, n in temporaries(program, values, threads).items() if k in lives}
    offsets, total = plan([Life(n, *lives[k]) for k, n in sizes.items()])
    return {k: (at, at + n) for (k, n), at in zip(sizes.items(), offsets, strict=True)}, total
