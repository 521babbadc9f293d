"""Running a program: one native call, whatever the number of steps and threads.

    Step      := function args barrier serial guards loop
    StepTable := Step*                                  packed as spmd.py lays it out
    Crew      := control block, parked threads          threads 1, 2, ...; thread 0 is whoever calls
    Pool      := Crew?                                  made at the first run that needs it

    pool.run(StepTable(steps), slots, dims, 0, len(steps), nthreads)

`slots` is the address of a table of buffer addresses, `dims` of a table of int64. A step calls
`void kernel(ptr slots, ptr dims, ptr args, i64 tid, i64 nthreads)` in each thread.
"""

from __future__ import annotations

import atexit
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tinyflow.core.config import config
from tinyflow.core.threads import lock_over_fork, park
from tinyflow.runtime import objects, spmd
from tinyflow.runtime.native import native

MAX_THREADS = 1024
PATIENCE = 2.0  # seconds that the end of the interpreter waits for a run in progress


class Step(NamedTuple):
    """One call. `guards` are (slot, value): the step runs if every slots[slot][0], a byte, is its value.

    A barrier stands before the step, and before its guards are read, and is kept when the step is skipped.
    A serial step is run by one thread alone, its owner, which is told that there is one thread.
    `loop` is ENTER, AGAIN or LEAVE of spmd.py, and 0 for a call.
    """

    function: int
    args: Sequence[int] = ()
    barrier: bool = False
    serial: bool = False
    guards: Sequence[tuple[int, int]] = ()
    loop: int = 0
    owner: int = 0


class StepTable:
    """Steps in native form: rows, with the arguments and guards that they point to."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.steps = tuple(steps)
        args = [np.array(step.args, np.int64) for step in self.steps]
        guards = [np.array(step.guards, np.int64).reshape(-1, 2) for step in self.steps]
        rows = [
            (step.function, a.ctypes.data, flags(step), len(g), g.ctypes.data)
            for step, a, g in zip(self.steps, args, guards, strict=True)
        ]
        self.rows = np.array(rows, np.uint64).reshape(-1, 5)
        self.owned = (args, guards)
        self.address: int = self.rows.ctypes.data

    def __len__(self) -> int:
        return len(self.steps)


def flags(step: Step) -> int:
    return step.barrier * spmd.BARRIER | step.serial * spmd.SERIAL | step.loop | step.owner << spmd.OWNER


class Crew:
    """Threads parked inside native code, and the memory through which they are called up."""

    def __init__(self, asked: int, size: int) -> None:
        self.native = native()
        self.asked, self.flag = asked, config.THREADS
        memory = np.zeros((spmd.CONTROL_BYTES + spmd.EVENT) // 8, np.int64)
        start = -memory.ctypes.data % spmd.EVENT // 8
        self.control = memory[start : start + spmd.CONTROL_BYTES // 8]
        self.address: int = self.control.ctypes.data
        self.size = 1
        self.left: list[int] = []
        try:
            for tid in range(1, size):
                park(self.work, tid)
                self.size += 1
        except RuntimeError as error:
            objects.log(f"{self.size} threads instead of {size}: {error}")
        except BaseException:
            self.dismiss(0)
            raise

    def work(self, tid: int) -> None:
        self.native.work(self.address, tid)
        self.left.append(tid)

    def suits(self, nthreads: int) -> bool:
        return nthreads <= self.asked and config.THREADS == self.flag

    def dismiss(self, patience: float) -> None:
        """Let the threads go, when the run in progress is over or so many seconds have passed."""
        deadline = time.monotonic() + patience
        self.native.refuse(self.address)
        wait(lambda: not self.control[spmd.LOCK // 8], deadline)
        self.native.dismiss(self.address)
        wait(lambda: len(self.left) == self.size - 1, min(deadline, time.monotonic() + PATIENCE))


def wait(until: Callable[[], bool], deadline: float) -> None:
    while not until() and time.monotonic() < deadline:
        time.sleep(0.0005)


class Pool:
    """The process's crew. Runs with several threads take turns; Python threads may call at once."""

    def __init__(self) -> None:
        self.crew: Crew | None = None
        self.ended = False
        self.lock = lock_over_fork()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def run(self, table: StepTable, slots: int, dims: int, first: int, last: int, nthreads: int) -> None:
        """Run the steps from `first` up to `last`. Python's other threads run meanwhile."""
        if nthreads <= 1:
            self.call(0, table.address, slots, dims, first, last, 1)
            return
        refused = 1
        while refused:
            crew = self.crew
            if crew is None or not crew.suits(nthreads):
                crew = self.resize(nthreads)
            refused = self.call(crew.address, table.address, slots, dims, first, last, min(nthreads, crew.size))

    @cached_property
    def call(self) -> Callable[[int, int, int, int, int, int, int], int]:
        return native().run

    def resize(self, nthreads: int) -> Crew:
        """A crew of at least so many threads, and as many as the flag THREADS says; the old one is let go."""
        with self.lock:
            crew, self.crew = self.crew, None
            if crew is None or not crew.suits(nthreads):
                if crew is not None:
                    crew.dismiss(math.inf)
                atexit.unregister(self.end)
                atexit.register(self.end)
                asked = max(nthreads, config.THREADS)
                crew = Crew(asked, 1 if self.ended else min(asked, MAX_THREADS))
            self.crew = crew
            return crew

    def end(self) -> None:
        """The interpreter ends: its threads must be out of the native code, or they would run on in freed memory."""
        self.ended = True
        crew, self.crew = self.crew, None
        if crew is not None:
            crew.dismiss(PATIENCE)

    def forget(self) -> None:
        """After a fork the child has no threads but its own."""
        self.crew = None


pool = Pool()
