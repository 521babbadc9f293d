"""program: compiled kernels in order, bound to memory, run in one native call.

    program := Program(item*, slot*, dim*, counters)        of items.py
    binding := the program for one choice of sizes: a plan of the arena, a table of addresses, a table of steps

A binding is used by one run at a time; runs at the same time in several Python threads take a binding each, and an arena:
there are no more arenas than runs at once, whatever the number of programs.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from tinyflow.core.config import config
from tinyflow.core.expr import Expr
from tinyflow.runtime import available
from tinyflow.runtime.available import Buffer
from tinyflow.runtime.items import STATUS, Call, Item, Slot, flat, is_long, is_serial, number
from tinyflow.runtime.layout import arrange, beside, in_order, lifetimes
from tinyflow.runtime.memory import ALIGN, Life, busiest
from tinyflow.runtime.runner import StepTable, pool
from tinyflow.runtime.stepping import Stepping

FREELY = 16 << 20  # bytes that are not asked for
STATUS_WORDS = 8
LINE = 8  # words of a cache line, in which one thread counts
MOST_SIZES = 64  # for which a program keeps its tables


class Arena(NamedTuple):
    """Memory for the temporaries of one run."""

    memory: np.ndarray
    address: int  # of its first whole cache line
    bytes: int  # from there on


SMALL_PAGES = getattr(mmap, "MADV_NOHUGEPAGE", None)
ARENAS: list[Arena] = []  # that no run is using


def take(size: int, sparse: bool = False) -> Arena:
    """An arena of at least so many bytes, to be given back; a smaller one that nobody uses is let go. Of a sparse one
    little is touched: large pages would take up far more of the machine's memory than that."""
    if ARENAS:
        with suppress(IndexError):  # another thread was quicker
            arena = ARENAS.pop()
            if arena.bytes >= size:
                return arena
            del arena
    if sparse and SMALL_PAGES is not None:
        pages = mmap.mmap(-1, size + ALIGN)
        pages.madvise(SMALL_PAGES)
        memory = np.frombuffer(pages, np.uint8)
    else:
        memory = np.empty(size + ALIGN, np.uint8)
    address = -(-memory.ctypes.data // ALIGN) * ALIGN
    return Arena(memory, address, size)


class Binding:
    """One choice of sizes."""

    def __init__(self, program: Program, sizes: Sequence[int]) -> None:
        values: Mapping[Expr, int] = dict(zip(program.dims, sizes, strict=True))
        self.program, self.values = program, values
        self.threads = config.THREADS
        self.steps = tuple(flat(in_order(program, values, self.threads)))
        self.calls = tuple(s for s in self.steps if isinstance(s, Call))
        self.serial = serial = [is_serial(s, values) for s in self.steps]
        moments = beside(self.steps, [s and is_long(c, values) for s, c in zip(serial, self.steps, strict=True)])
        if all(serial) and len(set(moments)) == len(moments):
            self.threads = 1
        self.ranges, total = arrange(program, self.steps, values, self.threads, moments)
        self.bytes, self.base = total, 0
        self.sparse = any(c.waits for c in self.calls)  # memory is laid out for the largest sizes that data may decide
        self.results = sum(number(s.size, values) for s in program.slots if s.kind == "result")
        self.check()
        self.status = array("q", [0] * STATUS_WORDS)
        self.slots = array("Q", [0] * (len(program.slots) + 1))  # the last is for arrays that no kernel reads
        self.slots[STATUS] = self.status.buffer_info()[0]
        width = -(-(len(sizes) + program.counters) // LINE) * LINE  # each thread has its own counters
        self.dims = array("q", [*sizes, *[0] * (width - len(sizes))] * self.threads or [0])
        self.table = StepTable(Stepping(self, width).steps())
        self.count = len(self.steps)
        self.stamped: Any = None  # what a profiled run needs besides, once there was one
        self.slots_at, self.dims_at = self.slots.buffer_info()[0], self.dims.buffer_info()[0]

    def check(self) -> None:
        """An error, with the largest buffers and their lines, if there is not memory enough."""
        needed = self.results + max(0, self.bytes - max((a.bytes for a in ARENAS), default=0))
        if needed >= FREELY:
            available.check(needed, self.bytes, self.results, self.largest)

    def largest(self) -> list[Buffer]:
        """The results, and the temporaries in use where most are."""
        spans = lifetimes(self.steps)
        lives = {k: Life(end - start, *spans[k]) for k, (start, end) in self.ranges.items()}
        sizes = {k: number(s.size, self.values) for k, s in enumerate(self.program.slots) if s.kind == "result"}
        sizes.update((k, lives[k].size) for k in busiest(lives))
        return [Buffer(n, f"{self.program.slots[k].label}, {self.program.slots[k].where}") for k, n in sizes.items()]

    def run(self, table: StepTable | None = None) -> None:
        """The steps, or others in the place of each."""
        if not self.bytes:
            self.go(table or self.table)
            return
        arena = take(self.bytes, self.sparse)
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

    def __init__(self, items: Sequence[Item], slots: Sequence[Slot], dims: Sequence[Expr], counters: int = 0) -> None:
        self.items, self.slots, self.dims, self.counters = tuple(items), tuple(slots), tuple(dims), counters
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


def split(program: Program) -> tuple[Program, Program, tuple[int, ...]]:
    """What lasts, the rest, and the slots that the rest takes from it: they are given to both."""
    slots, made = list(program.slots), set[int]()
    once: list[Item] = []
    for item in program.items:
        if isinstance(item, Call) and item.lasting and not (item.dims or item.checks or item.guards or item.waits):
            inner = item.touched - item.writes
            if all(slots[s].kind == "given" or s in made for s in inner) and all(
                slots[s].kind == "temp" and not slots[s].per_thread for s in item.writes
            ):
                once.append(item)
                made |= item.writes
    chosen = set(map(id, once))
    rest = [item for item in program.items if id(item) not in chosen]
    kept = tuple(sorted(made & frozenset[int]().union(*(item.touched for item in rest))))
    for s in kept:
        slots[s] = slots[s]._replace(kind="given")
    passing = made.difference(kept)
    inside = [slot if s in passing else slot._replace(kind="given", size=0) for s, slot in enumerate(slots)]
    return Program(once, inside, ()), Program(rest, slots, program.dims, program.counters), kept
