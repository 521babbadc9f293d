"""Lesson 6: memory. Temporaries share one arena, laid out from their lifetimes; variables are updated in place."""

import numpy as np

from tinyflow import execute
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, elementwise, leaf
from tinyflow.runtime.memory import Life, plan

lives = [Life(1024, 0, 1), Life(512, 1, 2), Life(1024, 2, 3)]
offsets, total = plan(lives)
print("lives", lives, "offsets", offsets, "arena", total)
assert total < sum(life.size for life in lives), "the first and the last never live at the same time"

# A deep chain of layers needs memory for two of them at a time.
x = leaf.placeholder(float32, (256, 256), "x")
h = x
for _ in range(12):
    h = elementwise.tanh(contraction.matmul(h, x))
runner = execute.compile([h])
runner({x: np.zeros((256, 256), "f")}, {})
binding = runner.native.program.take(())
print(f"12 layers of {256 * 256 * 4} bytes each use an arena of {binding.bytes}")
assert binding.bytes < 5 * 256 * 256 * 4

# What a run writes to a variable goes where the variable lives.
v = leaf.variable(float32, (4,), "v")
store = {v: np.ones(4, "f")}
home = store[v]
execute.compile([], {v: v * 2.0})({}, store)
print("the same array, updated:", home)
assert store[v] is home and (home == 2).all()
