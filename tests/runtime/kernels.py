"""Small native kernels, and how tests run them: here, or in a Python process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinyflow.runtime import machine
from tinyflow.runtime.runner import Step, StepTable, pool

ROOT = Path(__file__).parent.parent.parent
CELLS = 16

IR = """
; slots[0][tid] += args[0]
define void @add(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %n) {
  %buffer = load ptr, ptr %slots
  %cell = getelementptr i64, ptr %buffer, i64 %tid
  %old = load i64, ptr %cell
  %more = load i64, ptr %args
  %new = add i64 %old, %more
  store i64 %new, ptr %cell
  ret void
}

; slots[1][tid] += slots[0][0] + ... + slots[0][n - 1]
define void @total(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %n) {
entry:
  %from = load ptr, ptr %slots
  %to.at = getelementptr ptr, ptr %slots, i64 1
  %to = load ptr, ptr %to.at
  %cell = getelementptr i64, ptr %to, i64 %tid
  %start = load i64, ptr %cell
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %sum = phi i64 [ %start, %entry ], [ %sum.next, %next ]
  %at = getelementptr i64, ptr %from, i64 %i
  %value = load i64, ptr %at
  %sum.next = add i64 %sum, %value
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %n
  br i1 %more, label %next, label %out
out:
  store i64 %sum.next, ptr %cell
  ret void
}

; slots[2][0] = args[0], a byte
define void @say(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %n) {
  %at = getelementptr ptr, ptr %slots, i64 2
  %buffer = load ptr, ptr %at
  %value = load i64, ptr %args
  %byte = trunc i64 %value to i8
  store i8 %byte, ptr %buffer
  ret void
}

; Count to dims[0].
define void @count(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %n) {
entry:
  %end = load i64, ptr %dims
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i.next, %next ]
  %i.next = add i64 %i, 1
  call void asm sideeffect "", ""()
  %more = icmp ult i64 %i.next, %end
  br i1 %more, label %next, label %out
out:
  ret void
}
"""


class World:
    """Buffers for the kernels: cells, totals, and a byte for guards."""

    def __init__(self) -> None:
        self.library = machine.compile_ir(IR, "kernels")
        self.cells, self.totals = np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64)
        self.byte, self.dims = np.zeros(1, np.uint8), np.zeros(1, np.int64)
        self.slots = np.array([buffer.ctypes.data for buffer in (self.cells, self.totals, self.byte)], np.uint64)

    def step(self, name: str, *args: int, **how: object) -> Step:
        return Step(self.library.address(name), args, **how)  # type: ignore[arg-type]

    def run(self, steps: Sequence[Step], nthreads: int) -> None:
        table = StepTable(steps)
        pool.run(table, self.slots.ctypes.data, self.dims.ctypes.data, 0, len(table), nthreads)


def check(nthreads: int, rounds: int = 20) -> None:
    """Each round, every thread adds one to its cell and then sums all of them: barriers keep the two apart."""
    world = World()
    world.run(
        [world.step("add", 1), world.step("total", barrier=True), world.step("add", 0, barrier=True)] * rounds, nthreads
    )
    assert world.cells.tolist() == [rounds] * nthreads + [0] * (CELLS - nthreads)
    assert world.totals.tolist() == [nthreads * rounds * (rounds + 1) // 2] * nthreads + [0] * (CELLS - nthreads)


def start(program: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    """A Python process that runs the program."""
    return subprocess.Popen(
        [sys.executable, "-c", f"from tests.runtime.kernels import *\n{program}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TINYFLOW_CACHE": str(cache), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """The process's exit status, output and errors; a minute means that it hangs."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err
