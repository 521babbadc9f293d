"""worker: one side in a process of its own. It answers requests, a line of JSON each, in the order in which they come.

start   workload, shapes   make the step, run it four times          -> losses, seconds to the end of the first step
block   workload, seconds  run it for so long                        -> median and mean of a step, how many
work    workload           what one step computes and must touch     -> flops, bytes
peak                       the most memory of the process            -> bytes, those of the import, those of steps above it
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.alone import resident
from bench.sides import BY_NAME, Missing, require, step_of
from bench.workloads import TABLE

CHECKED = 4  # the loss of the fourth step is the loss after three
GROUP = 50e-6  # seconds: quicker steps are timed several at once
LEAST = 3  # steps of a block, beside those that warm it up


class Course:
    """A workload's step, and the batches that it is fed with in turn."""

    def __init__(self, side: str, workload: str, shapes: dict[str, list[int]]) -> None:
        row = TABLE[workload]
        start = perf_counter()
        self.step = step_of(BY_NAME[side], row, {name: tuple(shape) for name, shape in shapes.items()})
        batches = row.batches()
        result = self.step(*batches[0])
        self.values = [number(result)]
        self.first = perf_counter() - start
        self.values += [number(self.step(*batches[k])) for k in range(1, CHECKED)]
        self.look: Callable[[Any], Any] = type if isinstance(result, (np.ndarray, tuple)) else float
        self.batches = itertools.cycle(batches)
        self.group = 1

    def block(self, seconds: float) -> dict[str, Any]:
        """Steps for so many seconds; a tenth of the time before them, untimed, wakes threads and fills caches.

        Of steps that take longer than that, one is enough.
        """
        (begun, *_) = self.run(seconds / 10, 1)
        times = self.run(seconds, LEAST) if begun < seconds else [begun]
        self.group = max(1, int(GROUP / statistics.median(times)))
        return {"median": statistics.median(times), "mean": statistics.fmean(times), "steps": len(times) * self.group}

    def run(self, seconds: float, least: int) -> list[float]:
        """Seconds a step, for each group of steps."""
        step, look = self.step, self.look
        times: list[float] = []
        end = perf_counter() + seconds
        now = 0.0
        while now < end or len(times) < least:
            group = list(itertools.islice(self.batches, self.group))
            start = perf_counter()
            for batch in group:
                look(step(*batch))
            now = perf_counter()
            times.append((now - start) / self.group)
        return times


def number(result: Any) -> float:
    """What a step gave, as one number to compare by; of several arrays, each."""
    if isinstance(result, tuple):
        return sum(map(number, result))
    array = np.asarray(result, np.float64)
    return float(array) if array.ndim == 0 else float(np.abs(array).mean() + array.flat[-1])


class Worker:
    def __init__(self, side: str) -> None:
        self.side = side
        self.courses: dict[str, Course] = {}
        require(BY_NAME[side])
        if BY_NAME[side].ours:
            from bench.arithmetic import Meter

            self.meter = Meter()
        self.imported = self.most = resident()

    def start(self, workload: str, shapes: dict[str, list[int]]) -> dict[str, Any]:
        course = self.courses[workload] = Course(self.side, workload, shapes)
        self.most = max(self.most, peak())
        forget_peak()
        return {"losses": course.values, "first": course.first}

    def block(self, workload: str, seconds: float) -> dict[str, Any]:
        return self.courses[workload].block(seconds)

    def work(self, workload: str) -> dict[str, Any]:
        course = self.courses[workload]
        return self.meter.work(lambda: course.look(course.step(*next(course.batches))))._asdict()

    def peak(self) -> dict[str, Any]:
        return {"bytes": max(self.most, peak()), "imported": self.imported, "steps": peak() - self.imported}


def peak() -> int:
    """The most memory that this process has had. The system's call counts what its parent had, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """From now on, the most memory is that since now; where the system lets us."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main(side: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a program prints is no answer
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            worker = worker or Worker(side)
            answer = getattr(worker, request.pop("do"))(**request)
        except Missing as missing:
            answer = {"missing": str(missing)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
        answers.write(json.dumps(answer) + "\n")
    os._exit(0)  # some sides take seconds to take themselves apart


if __name__ == "__main__":
    main(sys.argv[1])
