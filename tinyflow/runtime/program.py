"""program: compiled kernels in order, bound to memory, run in one native call.

    program := Program(step*, slot*, dim*)
    slot    := Slot(kind, size)              kind: status | given (inputs, variables, outputs) | temp (in the arena)
    step    := Call(function, buffers, dims, checks, writes, tasks, cost, guards)
    binding := the program for one choice of sizes: a plan of the arena, a table of addresses, a table of steps

A binding is used by one run at a time; runs at the same time in several Python threads take a binding each, and an arena:
there are no more arenas than runs at once, whatever the number of programs.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.expr import Expr, Index_
from tinyflow.runtime.memory import ALIGN, Life, aligned, plan
from tinyflow.runtime.order import Touch, order
from tinyflow.runtime.runner import Step, StepTable, pool

SMALL = 20_000  # scalar operations that one thread does sooner than two can agree to share them
STATUS = 0  # the slot where a bad index is noted
STATUS_WORDS = 8
MOST_SIZES = 64  # for which a program keeps its tables


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
    text: str = ""  # LLVM IR
    loops: str = ""  # for people, where someone looks

    @property
    def touched(self) -> frozenset[int]:
        return frozenset((*self.buffers, *self.writes, *(s for s, _ in self.guards)))


class Arena(NamedTuple):
    """Memory for the temporaries of one run."""

    memory: np.ndarray
    address: int  # of its first whole cache line
    bytes: int  # from there on


ARENAS: list[Arena] = []  # that no run is using


def take(size: int) -> Arena:
    """An arena of at least so many bytes, to be given back; a smaller one that nobody uses is let go."""
    if ARENAS:
        with suppress(IndexError):  # another thread was quicker
            arena = ARENAS.pop()
            if arena.bytes >= size:
                return arena
            del arena
    memory = np.empty(size + ALIGN, np.uint8)
    address = -(-memory.ctypes.data // ALIGN) * ALIGN
    return Arena(memory, address, size)


class Binding:
    """One choice of sizes."""

    def __init__(self, program: Program, sizes: Sequence[int]) -> None:
        values: Mapping[Expr, int] = dict(zip(program.dims, sizes, strict=True))
        self.program, self.values = program, values
        self.threads = config.THREADS
        self.calls = in_order(program, values, self.threads)
        self.serial = serial = [is_serial(c, values) for c in self.calls]
        if all(serial):
            self.threads = 1
        self.ranges, total = ranges, _ = arrange(program, self.calls, values, self.threads)
        self.bytes, self.base = total, 0
        self.status = array("q", [0] * STATUS_WORDS)
        self.slots = array("Q", [0] * (len(program.slots) + 1))  # the last is for arrays that no kernel reads
        self.slots[STATUS] = self.status.buffer_info()[0]
        self.dims = array("q", sizes or [0])
        self.table = StepTable(steps(self.calls, ranges, serial))
        self.count = len(program.calls)
        self.stamped: Any = None  # what a profiled run needs besides, once there was one
        self.slots_at, self.dims_at = self.slots.buffer_info()[0], self.dims.buffer_info()[0]

    def run(self, table: StepTable | None = None) -> None:
        """The steps, or others in the place of each."""
        if not self.bytes:
            self.go(table or self.table)
            return
        arena = take(self.bytes)
        try:
            self.place(arena)
            self.go(table or self.table)
        finally:
            ARENAS.append(arena)

    def place(self, arena: Arena) -> None:
        """The temporaries are where the arena is."""
        if arena.address != self.base:
            self.base = arena.address
            for k, (start, _) in self.ranges.items():
                self.slots[k] = self.base + start

    def go(self, table: StepTable) -> None:
        if self.threads == 1:
            pool.call(0, table.address, self.slots_at, self.dims_at, 0, self.count, 1)
        else:
            pool.run(table, self.slots_at, self.dims_at, 0, self.count, self.threads)


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


def in_order(program: Program, values: Mapping[Expr, int], threads: int) -> tuple[Call, ...]:
    """The calls, in an order in which temporaries live briefly. What was checked before need not be checked in time."""
    sizes = temporaries(program, values, threads)
    return tuple(program.calls[k] for k in order([touch(c) for c in program.calls], sizes))


def touch(call: Call) -> Touch:
    return Touch(call.touched - call.writes, call.writes - {STATUS} if call.checked_before else call.writes)


def temporaries(program: Program, values: Mapping[Expr, int], threads: int) -> dict[int, int]:
    """The bytes of each."""
    sizes = {k: aligned(number(s.size, values)) for k, s in enumerate(program.slots) if s.kind == "temp"}
    return {k: n * threads if program.slots[k].per_thread else n for k, n in sizes.items()}


def lifetimes(calls: Sequence[Call]) -> dict[int, tuple[int, int]]:
    """The first and the last step that touch each slot."""
    lives: dict[int, tuple[int, int]] = {}
    for k, call in enumerate(calls):
        lives.update({s: (lives.get(s, (k, k))[0], k) for s in call.touched})
    return lives


def arrange(
    program: Program, calls: Sequence[Call], values: Mapping[Expr, int], threads: int
) -> tuple[dict[int, tuple[int, int]], int]:
    """Where each temporary lies in the arena, (start, end), and how large that is."""
    lives = lifetimes(calls)
    sizes = {k: n for k, n in temporaries(program, values, threads).items() if k in lives}
    offsets, total = plan([Life(n, *lives[k]) for k, n in sizes.items()])
    return {k: (at, at + n) for (k, n), at in zip(sizes.items(), offsets, strict=True)}, total


def steps(calls: Sequence[Call], ranges: Mapping[int, tuple[int, int]], serial: Sequence[bool]) -> list[Step]:
    """The calls as native steps; a barrier stands where a step meets memory that another thread may still use."""
    out: list[Step] = []
    since: list[int] = []  # the calls since the last barrier
    for k, call in enumerate(calls):
        barrier = any(not (serial[k] and serial[j]) and conflict(call, calls[j], ranges) for j in since)
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
