"""program: compiled kernels in order, bound to memory, run in one native call.

    program := Program(item*, slot*, dim*, counters)
    slot    := Slot(kind, size)              kind: status | given (inputs, variables) | result (arrays made for a run) | temp (in the arena)
    item    := Call(function, buffers, dims, checks, writes, tasks, cost, guards) | Loop(counter, rounds, item*, guards)
    step    := Call | Enter | Leave | Again         a loop is Enter, the steps of its items, Again
    binding := the program for one choice of sizes: a plan of the arena, a table of addresses, a table of steps

A loop's items are done `rounds` times. A kernel finds the counter among the sizes, behind the dims.

A binding is used by one run at a time; runs at the same time in several Python threads take a binding each, and an arena:
there are no more arenas than runs at once, whatever the number of programs.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyflow.core import expr
from tinyflow.core.config import config
from tinyflow.core.expr import Expr, Index_
from tinyflow.runtime import available, spmd
from tinyflow.runtime.available import Buffer
from tinyflow.runtime.memory import ALIGN, Life, aligned, busiest, plan
from tinyflow.runtime.order import Touch, order
from tinyflow.runtime.runner import Step, StepTable, pool

SMALL = 20_000  # scalar operations that one thread does sooner than two can agree to share them
FREELY = 16 << 20  # bytes that are not asked for
STATUS = 0  # the slot where a bad index is noted
STATUS_WORDS = 8
LINE = 8  # words of a cache line, in which one thread counts
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
        moments = beside(self.steps, [s and self.is_long(c) for s, c in zip(serial, self.steps, strict=True)])
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

    def is_long(self, step: AnyStep) -> bool:
        """Whether a call is worth another thread, if this one is busy."""
        return isinstance(step, Call) and number(step.cost, self.values) >= SMALL

    def check(self) -> None:
        """An error, with the largest buffers and their lines, if there is not memory enough."""
        needed = self.results + max(0, self.bytes - max((a.bytes for a in ARENAS), default=0))
        if needed < FREELY:
            return
        spans = lifetimes(self.steps)
        lives = {k: Life(end - start, *spans[k]) for k, (start, end) in self.ranges.items()}
        sizes = {k: number(s.size, self.values) for k, s in enumerate(self.program.slots) if s.kind == "result"}
        sizes.update((k, lives[k].size) for k in busiest(lives))
        largest = [Buffer(n, f"{self.program.slots[k].label}, {self.program.slots[k].where}") for k, n in sizes.items()]
        available.check(needed, self.bytes, self.results, largest)

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


def number(e: Index_, values: Mapping[Expr, int]) -> int:
    return e if isinstance(e, int) else expr.evaluate(e, values)


def is_serial(step: AnyStep, values: Mapping[Expr, int]) -> bool:
    """Whether one thread runs the step: there is but one task, or little to do. Loops are kept account of by every thread."""
    if not isinstance(step, Call):
        return True
    return number(step.tasks, values) <= 1 or number(step.cost, values) < SMALL


def in_order(program: Program, values: Mapping[Expr, int], threads: int) -> list[Item]:
    """The items, in an order in which temporaries live briefly. What was checked before need not be checked in time."""
    sizes = temporaries(program, values, threads)
    return [program.items[k] for k in order([touch(i) for i in program.items], sizes)]


def touch(item: Any) -> Touch:
    return Touch(item.touched - item.writes, item.writes - {STATUS} if item.checked_before else item.writes)


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


class Stepping:
    """The steps of a binding in native form; a barrier stands where one meets memory that another thread may still use.

    Every round of a loop begins behind a barrier, unless one thread does all of it; so does what comes after an exit.
    Of long serial steps that do not meet, each thread takes some.
    """

    def __init__(self, binding: Binding, width: int) -> None:
        self.binding, self.width = binding, width
        self.since: dict[int, Call] = {}  # those since the last barrier, by number
        self.owner: dict[int, int] = {}  # of serial steps: the thread that runs it
        self.busy = [0] * binding.threads  # what each thread has to do alone, since the last barrier
        self.around: list[tuple[bool, dict[int, Call]]] = []  # loops: whether threads share them; `since` if skipped

    def steps(self) -> list[Step]:
        return [self.call(k, s) if isinstance(s, Call) else self.turn(k, s) for k, s in enumerate(self.binding.steps)]

    def call(self, k: int, call: Call) -> Step:
        serial, ranges = self.binding.serial[k], self.binding.ranges
        met = {self.owner.get(j) for j, c in self.since.items() if conflict(call, c, ranges)}  # None: all threads
        owner = 0 if self.around or len(met) != 1 else next(iter(met))
        barrier = bool(met) and not (serial and owner is not None and met == {owner})
        if barrier:
            self.since, self.busy = {}, [0] * len(self.busy)
        if not met or barrier or owner is None:
            owner = self.choose(call) if serial else 0
        if serial:
            self.owner[k] = owner
            self.busy[owner] += number(call.cost, self.binding.values)
        self.since = {**self.since, k: call}
        return Step(
            call.function(), (*call.buffers, *call.dims, *call.checks), barrier, serial, call.guards, owner=owner or 0
        )

    def choose(self, call: Call) -> int:
        """The thread for a serial step that meets nothing. In a loop one thread does them all, so that rounds need not meet."""
        return self.busy.index(min(self.busy)) if self.binding.is_long(call) and not self.around else 0

    def turn(self, k: int, step: Enter | Exit | Again) -> Step:
        counter = len(self.binding.program.dims) + step.loop.counter
        count = number(step.loop.rounds, self.binding.values)
        if isinstance(step, Enter):
            barrier = any(meets(c.writes, step.touched, self.binding.ranges) for c in self.since.values())
            self.since = {} if barrier else self.since
            inside = range(k + 1, step.end)
            shared = any(isinstance(self.binding.steps[j], Exit) or not self.binding.serial[j] for j in inside)
            self.around.append((shared, self.since if step.loop.guards or not count else {}))
            kind, target, guards = spmd.ENTER, step.end, step.loop.guards
        elif isinstance(step, Exit):
            barrier, self.since = True, {}
            kind, target, guards = spmd.LEAVE, step.end, step.leave.guards
        else:
            barrier, skipped = self.around.pop()
            self.since = {**skipped, **({} if barrier else self.since)}
            kind, target, guards = spmd.AGAIN, step.start, ()
        return Step(0, (counter, count, target, self.width), barrier, guards=guards, loop=kind)


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
