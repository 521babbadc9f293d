"""items: what a program is made of, and its steps.

    slot    := Slot(kind, size)              kind: status | given (inputs, variables) | result (arrays made for a run) | temp (in the arena)
    item    := Call(function, buffers, dims, checks, writes, tasks, cost, guards) | Loop(counter, rounds, item*, guards)
    step    := Call | Enter | Leave | Again         a loop is Enter, the steps of its items, Again

A loop's items are done `rounds` times. A kernel finds the counter among the sizes, behind the dims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from tinyflow.core import expr
from tinyflow.core.expr import Expr, Index_

SMALL = 20_000  # scalar operations that one thread does sooner than two can agree to share them
STATUS = 0  # the slot where a bad index is noted


class Slot(NamedTuple):
    kind: str
    size: Index_ = 0  # bytes
    per_thread: bool = False
    label: str = ""  # of what it holds
    where: Any = ""  # the user's line


class Call(NamedTuple):
    name: str
    function: Callable[[], int]  # the kernel's address, once it is compiled
    buffers: tuple[int, ...]
    dims: tuple[int, ...]
    checks: tuple[int, ...]
    writes: frozenset[int]
    tasks: Index_
    cost: Index_
    guards: tuple[tuple[int, int], ...] = ()
    label: str = ""  # what it computes, for people
    flops: Index_ = 0
    traffic: tuple[
        tuple[int, Index_], ...
    ] = ()  # (slot, bytes read or written there); more than the slot has: all of it
    where: str = ""  # the user's file and line
    checked_before: bool = False  # the indices that it checks, by calls before it
    waits: frozenset[int] = frozenset()  # slots whose writers find out sizes that it needs
    text: str = ""  # LLVM IR, and loops as a person reads them: where PROFILE asks for them
    loops: str = ""
    lasting: bool = False  # made of arrays alone that stay the same from run to run

    @property
    def touched(self) -> frozenset[int]:
        return frozenset((*self.buffers, *self.writes, *self.waits, *(s for s, _ in self.guards)))


class Leave(NamedTuple):
    """The loop around is over, unless the guards hold."""

    guards: tuple[tuple[int, int], ...]

    @property
    def touched(self) -> frozenset[int]:
        return frozenset(s for s, _ in self.guards)


class Loop(NamedTuple):
    """Items that are done `rounds` times, or not at all if a guard does not hold."""

    counter: int
    rounds: Index_
    items: tuple[Call | Loop | Leave, ...]
    guards: tuple[tuple[int, int], ...] = ()

    @property
    def touched(self) -> frozenset[int]:
        return frozenset(s for s, _ in self.guards).union(*(i.touched for i in self.items))

    @property
    def writes(self) -> frozenset[int]:
        return frozenset().union(*(i.writes for i in self.items if not isinstance(i, Leave)))

    @property
    def checked_before(self) -> bool:
        return all(c.checked_before for c in self.items if not isinstance(c, Leave))


class Enter(NamedTuple):
    loop: Loop
    end: int  # the step behind the loop

    @property
    def touched(self) -> frozenset[int]:
        return frozenset(s for s, _ in self.loop.guards)


class Exit(NamedTuple):
    """Where a loop may be left."""

    loop: Loop
    leave: Leave
    end: int

    @property
    def touched(self) -> frozenset[int]:
        return self.leave.touched


class Again(NamedTuple):
    loop: Loop
    start: int  # the loop's first step

    @property
    def touched(self) -> frozenset[int]:
        return frozenset()


Item: TypeAlias = "Call | Loop | Leave"
AnyStep: TypeAlias = "Call | Enter | Exit | Again"


def flat(items: Sequence[Item], loop: Loop | None = None, start: int = 0, end: int = 0) -> list[AnyStep]:
    """The steps of some items, the first of which is number `start`; `end` is where those of the loop around end."""
    out: list[AnyStep] = []
    for item in items:
        if isinstance(item, Call):
            out.append(item)
        elif isinstance(item, Leave):
            assert loop is not None, "only a loop is left"
            out.append(Exit(loop, item, end))
        else:
            first = start + len(out) + 1
            behind = first + length(item.items) + 1
            out += [Enter(item, behind), *flat(item.items, item, first, behind), Again(item, first)]
    return out


def length(items: Sequence[Item]) -> int:
    """How many steps there are."""
    return sum(length(i.items) + 2 if isinstance(i, Loop) else 1 for i in items)


def rounds(steps: Sequence[AnyStep], values: Mapping[Expr, int]) -> list[int]:
    """How often each call is done, as far as that is known: a loop that may be left counts as one round."""
    found: list[int] = []
    around = [1]
    for step in steps:
        if isinstance(step, Call):
            found.append(around[-1])
        elif isinstance(step, Enter):
            known = not any(isinstance(i, Leave) for i in step.loop.items)
            around.append(around[-1] * (number(step.loop.rounds, values) if known else 1))
        elif isinstance(step, Again):
            around.pop()
    return found


def number(e: Index_, values: Mapping[Expr, int]) -> int:
    return e if isinstance(e, int) else expr.evaluate(e, values)


def is_long(step: AnyStep, values: Mapping[Expr, int]) -> bool:
    """Whether a call is worth another thread, if this one is busy."""
    return isinstance(step, Call) and number(step.cost, values) >= SMALL


def is_serial(step: AnyStep, values: Mapping[Expr, int]) -> bool:
    """Whether one thread runs the step: there is but one task, or little to do. Loops are kept account of by every thread."""
    if not isinstance(step, Call):
        return True
    return number(step.tasks, values) <= 1 or not is_long(step, values)
