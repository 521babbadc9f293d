"""Lesson 7: threads. Every thread runs the whole program; results do not depend on how many there are.

A step is shared by the threads, or left to one where it is too small to share. A barrier stands before a step only where
it meets memory that another thread may still use, so steps that have nothing to do with each other run on without one.
"""

import numpy as np

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, functions, leaf, reduction
from tinyflow.runtime import profile

x, w = leaf.placeholder(float32, (300, 200), "x"), leaf.placeholder(float32, (200, 500), "w")
y = functions.softmax(contraction.matmul(x, w))
roots = [y, reduction.sum_(y * y), reduction.sum_(x, 0)]
rng = np.random.default_rng(0)
feeds = {n: rng.normal(size=n.shape).astype("f") for n in (x, w)}

results = []
for threads in (1, 2, 3, 4):
    with config(THREADS=threads):
        results.append(execute.compile(roots)(feeds, {}))
for other in results[1:]:
    assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
print("1, 2, 3 and 4 threads give the same bits; the sum is", results[0][1])

# The steps of the program for two threads: which are shared, and which wait for the others.
with config(THREADS=2):
    runner = execute.compile(roots)
    runner(feeds, {})
    binding = runner.native.program.take(())
for call, step in zip(binding.calls, binding.table.steps, strict=True):
    how = "one thread" if step.serial else "both threads"
    print(f"{call.name:4} by {how:13}{'after a barrier' if step.barrier else '':16} {call.label}")
assert not binding.table.steps[0].barrier, "nothing ran before it"
runner.native.program.give((), binding)

# When each thread did what: the flag PROFILE keeps it, and `tinyflow profile SCRIPT` draws it.
with config(THREADS=2, PROFILE=1):
    runner(feeds, {})
run = next(iter(profile.RECORDS.values())).last[-1]
for call, times in zip(run.calls, run.stamps.tolist(), strict=True):
    spans = [
        f"thread {t}: {start - run.start:7} to {end - run.start:7} ns" for t, (start, end) in enumerate(times) if start
    ]
    print(f"{call.name:4}", "   ".join(spans))
