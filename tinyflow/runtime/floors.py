"""floors: what this machine can do at most, measured by loops that do nothing else.

    flops   a second: fused multiply-adds on registers alone, two operations for each lane
    bytes   a second: a large copy past the caches, what is read and what is written

The best of many short tries counts: a floor is what the machine gives when nobody else asks. So the best that `known`
found in any process is kept in the cache folder.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from string import Template
from time import perf_counter
from typing import NamedTuple

import numpy as np

from tinyflow.core.config import config
from tinyflow.runtime import machine, objects, target
from tinyflow.runtime.runner import Step, StepTable, pool

CHAINS = 12  # sums that do not wait for each other: latency times throughput, and they fit 16 registers
ROUNDS = 50_000  # of an FMA try: half a millisecond, short enough to meet a quiet moment
COPIED = 64 << 20  # bytes: twice what a last cache holds
TRIES = 10

HEAD = "define void @kernel(ptr %slots, ptr %dims, ptr %args, i64 %tid, i64 %threads) $attributes {\nentry:"

FMA = """
declare $vector @llvm.fma.v${lanes}f32($vector, $vector, $vector)
$head
  %buffer = load ptr, ptr %slots
  %half = load $vector, ptr %buffer
  %count = load i64, ptr %dims
  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
$before
$products
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, %count
  br i1 %more, label %next, label %out
out:
  %sum0 = fadd $vector %half, %half
$sums
  %place = add i64 %tid, 1
  %result = getelementptr $vector, ptr %buffer, i64 %place
  store $vector %sum$chains, ptr %result
  ret void
}
"""

COPY = """
$head
  %to.at = getelementptr ptr, ptr %slots, i64 1
  %from = load ptr, ptr %slots
  %to = load ptr, ptr %to.at
  %all = load i64, ptr %dims
  %share = udiv i64 %all, %threads
  %first = mul i64 %share, %tid
  %last = add i64 %first, %share
  br label %next
next:
  %k = phi i64 [ %first, %entry ], [ %k.next, %next ]
  %source = getelementptr i8, ptr %from, i64 %k
  %sink = getelementptr i8, ptr %to, i64 %k
  %line = load <64 x i8>, ptr %source, align 64
  store <64 x i8> %line, ptr %sink, align 64, !nontemporal !0
  %k.next = add i64 %k, 64
  %more = icmp ult i64 %k.next, %last
  br i1 %more, label %next, label %out
out:
  ret void
}
!0 = !{i32 1}
"""


class Floor(NamedTuple):
    """What so many threads of this machine can do in a second."""

    flops: float
    bytes: float

    def seconds(self, flops: float, touched: float) -> float:
        """The least time that so much work takes here."""
        return max(flops / self.flops, touched / self.bytes)


@cache
def known(threads: int) -> Floor:
    """The floors of this machine: measured now, or what was kept, whichever is higher."""
    floors = Floors(threads)
    floors.measure()
    folder = str(config.CACHE)
    if folder in ("", "0"):
        return Floor(floors.flops, floors.bytes)
    path = Path(folder) / "floors" / objects.key_of(repr(target.current()), machine.cpu_name(), str(threads))
    kept = read(path)
    best = Floor(max(floors.flops, kept.flops), max(floors.bytes, kept.bytes))
    if best != kept:
        objects.write(path, json.dumps(best._asdict()).encode())
    return best


def read(path: Path) -> Floor:
    """What an earlier process found; nothing if there is no such file, or it is damaged."""
    try:
        flops, touched = map(float, json.loads(path.read_text()).values())
        return Floor(flops, touched)
    except (OSError, ValueError, AttributeError, TypeError):
        return Floor(0.0, 0.0)


class Floors:
    """Both floors for a number of threads; each call of `measure` may raise them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        row = target.current()
        self.lanes = row.vector_bytes // 4
        self.fma = table(fma_text(self.lanes, row.attributes), "fma")
        self.copy = table(Template(COPY).substitute(head=Template(HEAD).substitute(attributes=row.attributes)), "copy")
        self.flops = self.bytes = 0.0
        self.halves = aligned((threads + 1) * self.lanes, 0.5)
        self.memory = [aligned(COPIED // 4, 1.0) for _ in range(2)]

    def measure(self) -> None:
        now = self.now(TRIES)
        self.flops, self.bytes = max(self.flops, now.flops), max(self.bytes, now.bytes)

    def now(self, tries: int) -> Floor:
        """What so many tries find, whatever was found before: a neighbour may slow a machine down for minutes."""
        floats = self.threads * ROUNDS * CHAINS * self.lanes * 2
        copied = COPIED // (64 * self.threads) * 64 * self.threads
        fma = min(self.timed(self.fma, [self.halves], ROUNDS) for _ in range(tries * TRIES))
        copy = min(self.timed(self.copy, self.memory, copied) for _ in range(tries))
        return Floor(floats / fma, 2 * copied / copy)

    def timed(self, steps: StepTable, buffers: list[np.ndarray], size: int) -> float:
        slots = np.array([b.ctypes.data for b in buffers], np.uint64)
        dims = np.array([size], np.int64)
        start = perf_counter()
        pool.run(steps, slots.ctypes.data, dims.ctypes.data, 0, 1, self.threads)
        return perf_counter() - start

    def seconds(self, flops: float, touched: float) -> float:
        return Floor(self.flops, self.bytes).seconds(flops, touched)


def fma_text(lanes: int, attributes: str) -> str:
    vector = f"<{lanes} x float>"
    head = Template(HEAD).substitute(attributes=attributes)
    call = f"call {vector} @llvm.fma.v{lanes}f32({vector} %c$i, {vector} %half, {vector} %half)"
    before = f"  %c$i = phi {vector} [ %half, %entry ], [ %n$i, %next ]"
    sums = f"  %sum$j = fadd {vector} %sum$i, %n$i"

    def chains(line: str) -> str:
        return "\n".join(Template(line).substitute(i=i, j=i + 1) for i in range(CHAINS))

    return Template(FMA).substitute(
        head=head, vector=vector, lanes=lanes, chains=CHAINS,
        before=chains(before), products=chains(f"  %n$i = {call}"), sums=chains(sums),
    )  # fmt: skip


def table(text: str, name: str) -> StepTable:
    return StepTable([Step(machine.compile_ir(text, name).address("kernel"))])


def aligned(count: int, value: float) -> np.ndarray:
    """So many equal numbers, from the first whole cache line of their memory on."""
    a = np.full(count + 16, value, np.float32)
    start = -a.ctypes.data % 64 // a.itemsize
    return a[start : start + count]
