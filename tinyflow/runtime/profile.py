"""profile: when each thread began and ended each step of a run, and what that says of the kernels.

    Run  := program, steps, sizes, threads, stamps      stamps[call][thread] = (start, end) in nanoseconds; 0: it had no part
    Line := a step of a run, or several of one kernel: its time, arithmetic, bytes, and share of its floor

A profiled run has a table of steps of its own, in which each function stands behind one that looks at the clock. Other
runs cost nothing more.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import count
from string import Template
from typing import NamedTuple

import numpy as np

from tinyflow.core.expr import Expr
from tinyflow.runtime import floors, machine, spmd
from tinyflow.runtime.items import AnyStep, Call, number, rounds
from tinyflow.runtime.program import Binding, Program
from tinyflow.runtime.runner import StepTable

KEPT = 16  # runs of each program whose stamps are kept: the last ones
MOST = 12  # kernels of a summary

# What is done over and over begins when it begins first, and ends as much later as all its rounds took together.
# A step's args are the function, the function's own args, and where the thread's stamps go.
STAMPED = """
define void @stamped(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %n) {
entry:
  %own.at = getelementptr ptr, ptr %args, i64 1
  %stamps.at = getelementptr ptr, ptr %args, i64 2
  %function = load ptr, ptr %args
  %own = load ptr, ptr %own.at
  %stamps = load ptr, ptr %stamps.at
  %start = call i64 @now()
  call void %function(ptr %slots, ptr %dims, ptr %own, i64 %tid, i64 %n)
  %end = call i64 @now()
  %start.at = getelementptr { i64, i64 }, ptr %stamps, i64 %tid
  %end.at = getelementptr { i64, i64 }, ptr %start.at, i64 0, i32 1
  %before = load i64, ptr %end.at
  %again = icmp ne i64 %before, 0
  br i1 %again, label %more, label %first
first:
  store i64 %start, ptr %start.at
  store i64 %end, ptr %end.at
  ret void
more:
  %took = sub i64 %end, %start
  %sum = add i64 %before, %took
  store i64 %sum, ptr %end.at
  ret void
}
"""


class Run(NamedTuple):
    program: Program
    steps: Sequence[AnyStep]  # in the order in which they ran
    values: Mapping[Expr, int]  # of the program's dimensions
    threads: int
    ranges: Mapping[int, tuple[int, int]]  # where temporaries lie in the arena
    bytes: int
    stamps: np.ndarray

    @property
    def calls(self) -> list[Call]:
        return [s for s in self.steps if isinstance(s, Call)]

    @property
    def start(self) -> int:
        began = self.stamps[..., 0]
        return int(began[began > 0].min(initial=np.iinfo(np.int64).max)) if began.any() else 0

    @property
    def ns(self) -> int:
        """From the first kernel's start to the last one's end."""
        return int(self.stamps[..., 1].max(initial=0)) - self.start


class Line(NamedTuple):
    names: tuple[str, ...]
    label: str  # what it computes, and the user's line
    ns: int  # 0 where the step was skipped
    flops: int
    bytes: int
    threads: int
    share: float  # of what this machine could do in that time


class Stamped:
    """A binding's steps, each with room for its stamps."""

    def __init__(self, binding: Binding) -> None:
        self.stamps = np.zeros((len(binding.calls), binding.threads, 2), np.int64)
        plain, row = binding.table, 16 * binding.threads
        places = count(self.stamps.ctypes.data, row)
        self.table = StepTable(
            step if step.loop else step._replace(function=stamped(), args=(step.function, int(args), next(places)))
            for step, args in zip(plain.steps, plain.rows[:, 1], strict=True)
        )


@cache
def stamped() -> int:
    text = Template(spmd.CLOCK + STAMPED).substitute(CLOCK_NUMBER=spmd.clock(sys.platform))
    return machine.compile_ir(text, "stamped").address("stamped")


def run(binding: Binding) -> Run:
    """Run a binding, and say when each thread did what."""
    if binding.stamped is None:
        binding.stamped = Stamped(binding)
    own = binding.stamped
    own.stamps[...] = 0
    binding.run(own.table)
    return Run(
        binding.program,
        binding.steps,
        binding.values,
        binding.threads,
        binding.ranges,
        binding.bytes,
        own.stamps.copy(),
    )


# ------------------------------------------------------------------------------------------ what is kept of runs


class Record:
    """All runs of one program at one choice of sizes and threads."""

    def __init__(self) -> None:
        self.count = self.ns = 0
        self.last: deque[Run] = deque(maxlen=KEPT)

    def add(self, run: Run) -> None:
        self.count += 1
        self.ns += run.ns
        self.last.append(run)


RECORDS: dict[tuple[Program, tuple[int, ...], int], Record] = {}


def keep(run: Run) -> None:
    key = run.program, tuple(run.values.values()), run.threads
    RECORDS.setdefault(key, Record()).add(run)


# ------------------------------------------------------------------------------------------ what they say


def traffic(call: Call, program: Program, values: Mapping[Expr, int]) -> int:
    """The bytes that a kernel must read and write: of no buffer more than it has."""
    return sum(min(number(n, values), number(program.slots[s].size, values)) for s, n in call.traffic)


def lines(run: Run) -> list[Line]:
    """One for each step."""
    return [line(run, [k]) for k in range(len(run.calls))]


def line(run: Run, steps: Sequence[int]) -> Line:
    """Some steps together."""
    often = rounds(run.steps, run.values)
    calls = [run.calls[k] for k in steps]
    stamps = run.stamps[steps]
    began = np.where(stamps[..., 0] > 0, stamps[..., 0], np.iinfo(np.int64).max).min(axis=1)
    ns = int(np.maximum(stamps[..., 1].max(axis=1) - began, 0).sum())
    took_part = int((stamps[..., 0] > 0).sum(axis=1).max())
    flops = sum(often[k] * number(run.calls[k].flops, run.values) for k in steps)
    touched = sum(often[k] * traffic(run.calls[k], run.program, run.values) for k in steps)
    share = floors.known(run.threads).seconds(flops, touched) * 1e9 / ns if ns else 0.0
    label = f"{calls[0].label}  {calls[0].where}" if calls[0].where else calls[0].label
    return Line(tuple(c.name for c in calls), label, ns, flops, touched, took_part, share)


def alike(run: Run) -> list[Line]:
    """The kernels of a run, those of one function together, the longest first."""
    same: dict[int, list[int]] = {}
    for k, call in enumerate(run.calls):
        same.setdefault(call.function(), []).append(k)
    return sorted((line(run, steps) for steps in same.values()), key=lambda x: -x.ns)


HEAD = f"{'kernel':12} {'us':>10} {'of run':>7} {'GFLOP/s':>8} {'GB/s':>7} {'floor':>6} threads  computes"


def row(name: str, x: Line, total: int) -> str:
    if not x.ns:
        return f"{name:12} {'skipped':>10} {'':39}  {x.label}"
    rates = f"{x.ns / 1e3:10.1f} {x.ns / total:7.1%} {x.flops / x.ns:8.1f} {x.bytes / x.ns:7.1f} {x.share:6.0%}"
    return f"{name:12} {rates} {x.threads:7}  {x.label}"


def report(run: Run) -> str:
    """Each kernel in the order of the run, then the longest, those of one function together, then the run as a whole."""
    floor, each, most = floors.known(run.threads), lines(run), alike(run)[:MOST]
    total, inside = max(run.ns, 1), sum(x.ns for x in each)
    least = sum(x.share * x.ns for x in each)
    return "\n".join(
        [
            HEAD,
            *(row(x.names[0], x, total) for x in each),
            "the longest:",
            *(row(f"{x.names[0]} x{len(x.names)}", x, total) for x in most),
            f"{len(each)} kernels: {total / 1e3:,.1f} us on {run.threads} threads, {max(total - inside, 0) / 1e3:,.1f} us of it "
            f"between kernels; {least / total:.0%} of the floor ({floor.flops / 1e9:.0f} GFLOP/s, {floor.bytes / 1e9:.1f} GB/s; "
            "more than 100 % is memory that was still in a cache)",
        ]
    )
