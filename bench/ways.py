"""python -m bench.sweep --ways [--held] [WORD ...]: every way of computing a contraction, measured beside what the model predicts.

For each shape: how well the model orders the ways (rank correlation), the way that it chooses and the one that was
fastest, with measured and predicted microseconds, and what choosing by the model loses. Ways take turns at random, and the best
of some runs counts. A predicted cycle takes as long as the floor of arithmetic says. --held are shapes that the model was not
fitted to. Tables: docs/ways.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinyflow import execute, programs
from tinyflow.compiler import cost, pipeline
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.graph.node import Node
from tinyflow.ops import contraction as ops
from tinyflow.ops.leaf import placeholder
from tinyflow.runtime import profile, target
from tinyflow.runtime.floors import Floors

SECONDS, LEAST, MOST = 1.0, 4, 1000  # of measuring all ways of a shape, and of how many rounds
MEDIAN, WORST = 0.03, 0.25  # of time, that choosing by the model may lose

Made = tuple[Node, tuple[Node, ...]]  # a contraction and its operands


class Shape(NamedTuple):
    name: str
    make: Callable[[], Made]


def leaf(*shape: int) -> Node:
    return placeholder(float32, shape, "x")


def product(m: int, k: int, n: int, turned: str = "", *batch: int) -> Shape:
    """(m, k) times (k, n)."""

    def make() -> Made:
        a = leaf(*batch, k, m) if "a" in turned else leaf(*batch, m, k)
        b = leaf(*batch, n, k) if "b" in turned else leaf(*batch, k, n)
        return ops.matmul(a, b, "a" in turned, "b" in turned), (a, b)

    name = "x".join(map(str, (*batch, m, k, n)))
    return Shape(f"{name}{' ' * bool(turned)}{', '.join(f'{x} turned' for x in turned)}", make)


def conv(count: int, size: int, channels: int, out: int, taps: int, step: int = 1, of: str = "y") -> Shape:
    """Of square images; y, or the gradient of the operand x or w."""

    def make() -> Made:
        pad = taps // 2
        end = (size + 2 * pad - taps) // step + 1
        x, w, dy = leaf(count, size, size, channels), leaf(taps, taps, channels, out), leaf(count, end, end, out)
        y = ops.convolution(x, w, (step, step), (pad, pad), (end, end), (1, 1))
        if of == "y":
            return y, (x, w)
        return ops.operand_grad(dy, (x, w), y.attrs["spec"], "xw".index(of)), (dy, w if of == "x" else x)

    name = f"conv {count}x{size}x{size}, {channels} to {out}, {taps}x{taps}{f', step {step}' * (step > 1)}"
    return Shape(f"{name}{f', gradient of {of}' * (of != 'y')}", make)


# fmt: off
SHAPES = [
    *(product(n, n, n) for n in (64, 96, 128, 192, 256, 384, 512, 768, 1024, 61, 127, 257, 521)),
    *(product(n, n, n, t) for n in (256, 512) for t in ("a", "b")),
    product(16384, 64, 64), product(8192, 512, 64), product(64, 64, 16384), product(64, 512, 8192), product(64, 4000, 64),
    *(product(m, k, k) for k in (512, 2048) for m in (2, 4, 8, 16, 32, 48)),
    *(product(1024, 256, n) for n in (3, 8, 16, 24, 33, 40, 48, 65, 80, 96, 112)), product(64, 64, 40), product(64, 64, 80),
    product(32, 32, 32, "", 256), product(128, 128, 128, "", 48), product(256, 64, 256, "", 24), product(17, 33, 40, "", 96),
    product(2048, 384, 1152), product(2048, 1536, 384), product(768, 128, 512), product(768, 512, 128), product(768, 512, 128, "b"),
    product(384, 2048, 1152, "a"), product(784, 100, 10, "a"), product(100, 784, 10), product(784, 128, 512, "a"), product(128, 784, 512),
    product(32, 256, 1024), product(32, 1024, 256, "b"),
    *(conv(8, 32, 16, 32, 3, of=x) for x in "yxw"), conv(8, 32, 64, 64, 1), conv(8, 16, 48, 48, 3), conv(4, 31, 13, 17, 3), conv(8, 4, 256, 256, 3),
    *(conv(8, 32, 64, 128, 3, 2, of=x) for x in "yw"), *(conv(64, 28, 1, 32, 5, of=x) for x in "yw"), conv(8, 64, 3, 64, 7, 2),
]
HELD = [  # out of the fit of a machine's numbers (docs/ways.md)
    *(product(n, n, n) for n in (80, 160, 320, 448, 640, 896, 93, 211, 389)), *(product(320, 320, 320, t) for t in "ab"), product(640, 640, 640, "a"),
    product(4096, 128, 128), product(96, 384, 3072), product(96, 2000, 96), product(128, 128, 8192), product(1536, 512, 1536), product(1024, 256, 768),
    *(product(m, 768, 768) for m in (3, 6, 12, 24, 40)), product(10, 1536, 3072), product(64, 1536, 1536), product(20, 3072, 768),
    *(product(900, 300, n) for n in (12, 20, 36, 56, 72, 100)), product(64, 64, 64, "", 64), product(96, 64, 96, "", 32), product(24, 40, 56, "", 100),
    product(1024, 768, 256, "b"), product(256, 1024, 768, "a"), product(256, 512, 10), product(10, 512, 256), product(512, 64, 10, "a"),
    *(conv(8, 24, 24, 48, 3, of=x) for x in "yxw"), conv(4, 20, 96, 96, 3), conv(8, 8, 128, 128, 3), *(conv(8, 28, 48, 96, 3, 2, of=x) for x in "yw"),
    conv(8, 28, 96, 48, 1), *(conv(16, 32, 3, 24, 5, of=x) for x in "yw"), conv(4, 14, 80, 80, 5),
]
# fmt: on


@contextmanager
def choosing(choose: Callable[[cost.Job, target.Target], cost.Way]) -> Iterator[None]:
    """The plain recipe, in a way that is chosen like this; programs that are known are compiled again."""
    best, winograd = cost.best, pipeline.winograd.lower
    cost.best, pipeline.winograd.lower = choose, lambda *args: []  # type: ignore[assignment]
    programs._programs.clear()
    try:
        yield
    finally:
        cost.best, pipeline.winograd.lower = best, winograd


class Row(NamedTuple):
    name: str
    ways: Sequence[cost.Way]
    measured: Sequence[float]  # nanoseconds
    predicted: Sequence[float]

    @property
    def chosen(self) -> int:
        return int(np.argmin(self.predicted))

    @property
    def fastest(self) -> int:
        return int(np.argmin(self.measured))

    @property
    def loss(self) -> float:
        return self.measured[self.chosen] / self.measured[self.fastest] - 1

    @property
    def correlation(self) -> float:
        """Of ranks (Spearman): 1 where the model orders the ways as the clock does."""
        ranks = [np.argsort(np.argsort(x)) for x in (self.measured, self.predicted)]
        return float(np.corrcoef(*ranks)[0, 1]) if len(self.ways) > 1 else 1.0

    def __str__(self) -> str:
        def told(k: int) -> str:
            return f"{text(self.ways[k]):24} {self.measured[k] / 1e3:9.1f} us, predicted {self.predicted[k] / 1e3:9.1f}"

        return f"{self.name:48} {len(self.ways):3} ways {self.correlation:6.2f} {self.loss:6.1%}   {told(self.chosen)}   {told(self.fastest)}"


def text(w: cost.Way) -> str:
    order = "tiles" if w.tile_by_tile else "blocks" if w.group > 1 else "panels"
    return f"{w.height}x{w.vectors} {order}, {w.right}"


def measure(shape: Shape, floor: Floors) -> Row:
    """All ways of one shape."""
    floor.measure()
    t = target.current()
    hertz = floor.flops / (floor.threads * 2 * t.lanes(float32) * t.fma)
    node, leaves = shape.make()
    rng = np.random.default_rng(0)
    fed = {x: rng.uniform(-1, 1, x.shape).astype(np.float32) for x in leaves}
    jobs: list[cost.Job] = []

    def noted(job: cost.Job, t: target.Target) -> cost.Way:
        jobs.append(job)
        return best(job, t)

    best = cost.best
    with config(PROFILE=1):
        with choosing(noted):
            want = execute.compile([node])(fed, {})[0]
        (job,) = jobs
        ways = apart(job, t)
        runs: list[Callable[[], int]] = []
        for way in ways:
            with choosing(lambda job, t, way=way: way):
                runner = execute.compile([node])
                assert np.allclose(runner(fed, {})[0], want, atol=1e-3, rtol=1e-3), (shape.name, way)
            runs.append(lambda runner=runner: kernels(runner, fed))
        times: list[list[int]] = [[] for _ in runs]
        end = time.perf_counter() + SECONDS
        while len(times[0]) < LEAST or (len(times[0]) < MOST and time.perf_counter() < end):
            for k in rng.permutation(len(runs)):  # what ran before has left its operands in the caches
                times[k].append(runs[k]())
    predicted = [cost.cycles(way, job, t) / hertz * 1e9 for way in ways]
    return Row(shape.name, ways, [min(t) for t in times], predicted)


def kernels(runner: Any, fed: dict[Node, np.ndarray]) -> int:
    """Nanoseconds of the kernels of a run: of each, its longest thread. How late a thread wakes is not the way's doing."""
    profile.RECORDS.clear()
    runner(fed, {})
    stamps = [run.stamps for r in profile.RECORDS.values() for run in r.last]
    return sum(int((s[..., 1] - s[..., 0]).max(-1).sum()) for s in stamps)


def apart(job: cost.Job, t: target.Target) -> list[cost.Way]:
    """The ways that differ in what kernels do. Whether threads pack alone or share is left as the model has it: what waiting for
    each other costs shows only in whole steps, where nobody has to be woken."""
    found: dict[tuple[Any, ...], cost.Way] = {}
    for way in sorted(cost.ways(job, t), key=lambda w: cost.cycles(w, job, t)):
        found.setdefault((*way[:4], way.right == "in place"), way)
    return list(found.values())


def main(words: Sequence[str], shapes: Sequence[Shape] = SHAPES) -> int:
    floor, rows = Floors(config.THREADS), []
    print(f"{'shape':48}          order   loss   by the model                                                fastest")
    for shape in (s for s in shapes if any(w in s.name for w in words or [""])):
        rows.append(measure(shape, floor))
        print(rows[-1], flush=True)
    losses = [r.loss for r in rows]
    median, worst = statistics.median(losses), max(losses)
    order = statistics.median(r.correlation for r in rows)
    print(
        f"{len(rows)} shapes: by the model {median:.1%} is lost in the median, {worst:.0%} at worst; correlation {order:.2f}"
    )
    return int(median > MEDIAN or worst > WORST)
