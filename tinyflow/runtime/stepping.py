"""stepping: the steps of a program as the native side takes them: barriers, loops, and who does what one thread does alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tinyflow.runtime import spmd
from tinyflow.runtime.items import Again, Call, Enter, Exit, is_long, number
from tinyflow.runtime.runner import Step

if TYPE_CHECKING:
    from tinyflow.runtime.program import Binding


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
        return self.busy.index(min(self.busy)) if is_long(call, self.binding.values) and not self.around else 0

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
