"""program: compiled kernels in order, bound to memory, run in one native call.

    program := Program(step*, slot*, dim*)
    slot    := Slot(kind, size)              kind: status | given (inputs, variables, outputs) | temp (in the arena)
    step    := Call(function, buffers, dims, checks, writes, tasks, cost, guards)
    binding := the program for one choice of sizes: an arena, a table of addresses, a table of steps

A binding is used by one run at a time; runs at the same time in several Python threads take a binding each.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.expr import Expr, Index_
from tinyflow.runtime.memory import Life, aligned, plan
from tinyflow.runtime.runner import Step, StepTable, pool

SMALL = 20_000  # scalar operations that one thread does sooner than two can agree to share them
STATUS_WORDS = 8
MOST_SIZES = 64  # for which a program keeps its temporaries: their memory does not grow with every new size


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
    text: str = ""  # LLVM IR
    loops: str = ""  # for people, where someone looks

    @property
    def touched(self) -> frozenset[int]:
        return frozenset((*self.buffers, *self.writes, *(s for s, _ in self.guards)))


class Binding:
    """One choice of sizes."""

    def __init__(self, program: Program, sizes: Sequence[int]) -> None:
        values: Mapping[Expr, int] = dict(zip(program.dims, sizes, strict=True))
        self.program, self.values = program, values
        self.threads = config.THREADS
        self.serial = serial = [is_serial(c, values) for c in program.calls]
        if all(serial):
            self.threads = 1
        self.ranges, total = ranges, _ = arrange(program, values, self.threads)
        self.arena = np.empty(total + 64, np.uint8)
        base = -(-self.arena.ctypes.data // 64) * 64
        self.bytes = total
        self.status = array("q", [0] * STATUS_WORDS)
        self.slots = array("Q", [0] * (len(program.slots) + 1))  # the last is for arrays that no kernel reads
        for k, at in ranges.items():
            self.slots[k] = base + at[0]
        self.slots[0] = self.status.buffer_info()[0]
        self.dims = array("q", sizes or [0])
        self.table = StepTable(steps(program, ranges, serial))
        self.count = len(program.calls)
        self.stamped: Any = None  # what a profiled run needs besides, once there was one
        self.slots_at, self.dims_at = self.slots.buffer_info()[0], self.dims.buffer_info()[0]
        self.alone = partial(pool.call, 0, self.table.address, self.slots_at, self.dims_at, 0, self.count, 1)

    def run(self) -> None:
        if self.threads == 1:
            self.alone()
            return
        pool.run(self.table, self.slots_at, self.dims_at, 0, self.count, self.threads)


class Program:
    """What a graph became. `given` slots are filled by the caller at each run."""

    def __init__(self, calls: Sequence[Call], slots: Sequence[Slot], dims: Sequence[Expr]) -> None:
        self.calls, self.slots, self.dims = tuple(calls), tuple(slots), tuple(dims)
        self.free: dict[tuple[int, tuple[int, ...]], list[Binding]] = {}

    def take(self, sizes: tuple[int, ...]) -> Binding:
        """A binding nobody uses; give it back when its run is over."""
        try:
            return self.free[config.THREADS, sizes].pop()
        except (KeyError, IndexError):
            return Binding(self, sizes)

    def give(self, sizes: tuple[int, ...], binding: Binding) -> None:
        try:
            self.free[config.THREADS, sizes].append(binding)
        except KeyError:
            if len(self.free) >= MOST_SIZES:
                self.free.pop(next(iter(list(self.free))), None)
            self.free[config.THREADS, sizes] = [binding]


def number(e: Index_, values: Mapping[Expr, int]) -> int:
    return e if isinstance(e, int) else expr.evaluate(e, values)


def is_serial(call: Call, values: Mapping[Expr, int]) -> bool:
    """Whether one thread runs the step: there is but one task, or little to do."""
    return number(call.tasks, values) <= 1 or number(call.cost, values) < SMALL


def lifetimes(program: Program) -> dict[int, tuple[int, int]]:
    """The first and the last step that touch each slot."""
    lives: dict[int, tuple[int, int]] = {}
    for k, call in enumerate(program.calls):
        lives.update({s: (lives.get(s, (k, k))[0], k) for s in call.touched})
    return lives


def arrange(program: Program, values: Mapping[Expr, int], threads: int) -> tuple[dict[int, tuple[int, int]], int]:
    """Where each temporary lies in the arena, (start, end), and how large that is."""
    lives = lifetimes(program)
    temps = [k for k, s in enumerate(program.slots) if s.kind == "temp" and k in lives]
    sizes = [number(program.slots[k].size, values) * 1 for k in temps]
    sizes = [aligned(n) * threads if program.slots[k].per_thread else n for k, n in zip(temps, sizes, strict=True)]
    offsets, total = plan([Life(n, *lives[k]) for k, n in zip(temps, sizes, strict=True)])
    return {k: (at, at + n) for k, at, n in zip(temps, offsets, sizes, strict=True)}, total


def steps(program: Program, ranges: Mapping[int, tuple[int, int]], serial: Sequence[bool]) -> list[Step]:
    """The calls as native steps; a barrier stands where a step meets memory that another thread may still use."""
    out: list[Step] = []
    since: list[int] = []  # the calls since the last barrier
    for k, call in enumerate(program.calls):
        barrier = any(not (serial[k] and serial[j]) and conflict(call, program.calls[j], ranges) for j in since)
        since = [k] if barrier else [*since, k]
        args = (*call.buffers, *call.dims, *call.checks)
        out.append(Step(call.function(), args, barrier, serial[k], call.guards))
    return out


def conflict(a: Call, b: Call, ranges: Mapping[int, tuple[int, int]]) -> bool:
    """Whether one writes what the other touches."""
    return meets(a.writes, b.touched, ranges) or meets(b.writes, a.touched, ranges)


def meets(xs: frozenset[int], ys: frozenset[int], ranges: Mapping[int, tuple[int, int]]) -> bool:
    for x in xs:
        for y in ys:
            if x == y:
                return True
            if x in ranges and y in ranges and ranges[x][0] < ranges[y][1] and ranges[y][0] < ranges[x][1]:
                return True
    return False
