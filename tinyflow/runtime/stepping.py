"""stepping: the steps of a program as the native side takes them: barriers, loops, and who does what one thread does alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tinyflow.runtime import spmd
from tinyflow.runtime.items import Again, Call, Enter, Exit, is_long, number
from tinyflow.runtime.runner import Step

if TYPE_CHECKING:
    from tinyflow.runtime.program import Binding


class Slots(NamedTuple):
    """Some slots, and where those of them lie that are in the arena."""

    numbers: frozenset[int]
    ranges: list[tuple[int, int]]

    def meet(self, others: Slots) -> bool:
        if not self.numbers.isdisjoint(others.numbers):
            return True
        return any(start < b and a < end for start, end in self.ranges for a, b in others.ranges)


class Used(NamedTuple):
    """The memory of a call."""

    written: Slots
    touched: Slots

    def conflicts(self, other: Used) -> bool:
        """Whether one writes what the other touches."""
        return self.written.meet(other.touched) or other.written.meet(self.touched)


class Stepping:
    """The steps of a binding in native form; a barrier stands where one meets memory that another thread may still use.

    Every round of a loop begins behind a barrier, unless one thread does all of it; so does what comes after an exit.
    Of long serial steps that do not meet, each thread takes some.
    """

    def __init__(self, binding: Binding, width: int) -> None:
        self.binding, self.width = binding, width
        self.since: dict[int, Used] = {}  # the calls since the last barrier, by number
        self.owner: dict[int, int] = {}  # of serial steps: the thread that runs it
        self.busy = [0] * binding.threads  # what each thread has to do alone, since the last barrier
        self.around: list[tuple[bool, dict[int, Used]]] = []  # loops: whether threads share them; `since` if skipped

    def steps(self) -> list[Step]:
        return [self.call(k, s) if isinstance(s, Call) else self.turn(k, s) for k, s in enumerate(self.binding.steps)]

    def call(self, k: int, call: Call) -> Step:
        serial, used = self.binding.serial[k], Used(self.slots(call.writes), self.slots(call.touched))
        met = {self.owner.get(j) for j, other in self.since.items() if used.conflicts(other)}  # None: all threads
        owner = 0 if self.around or len(met) != 1 else next(iter(met))
        barrier = bool(met) and not (serial and owner is not None and met == {owner})
        if barrier:
            self.since, self.busy = {}, [0] * len(self.busy)
        if not met or barrier or owner is None:
            owner = self.choose(call) if serial else 0
        if serial:
            self.owner[k] = owner
            self.busy[owner] += number(call.cost, self.binding.values)
        self.since[k] = used
        return Step(
            call.function(), (*call.buffers, *call.dims, *call.checks), barrier, serial, call.guards, owner=owner or 0
        )

    def slots(self, numbers: frozenset[int]) -> Slots:
        ranges = self.binding.ranges
        return Slots(numbers, [ranges[s] for s in numbers if s in ranges])

    def choose(self, call: Call) -> int:
        """The thread for a serial step that meets nothing. In a loop one thread does them all, so that rounds need not meet."""
        return self.busy.index(min(self.busy)) if is_long(call, self.binding.values) and not self.around else 0

    def turn(self, k: int, step: Enter | Exit | Again) -> Step:
        counter = len(self.binding.program.dims) + step.loop.counter
        count = number(step.loop.rounds, self.binding.values)
        if isinstance(step, Enter):
            touched = self.slots(step.touched)
            barrier = any(used.written.meet(touched) for used in self.since.values())
            self.since = {} if barrier else self.since
            inside = range(k + 1, step.end)
            shared = any(isinstance(self.binding.steps[j], Exit) or not self.binding.serial[j] for j in inside)
            self.around.append((shared, dict(self.since) if step.loop.guards or not count else {}))
            kind, target, guards = spmd.ENTER, step.end, step.loop.guards
        elif isinstance(step, Exit):
            barrier, self.since = True, {}
            kind, target, guards = spmd.LEAVE, step.end, step.leave.guards
        else:
            barrier, skipped = self.around.pop()
            self.since = {**skipped, **({} if barrier else self.since)}
            kind, target, guards = spmd.AGAIN, step.start, ()
        return Step(0, (counter, count, target, self.width), barrier, guards=guards, loop=kind)
