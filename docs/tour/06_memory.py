"""Lesson 6: memory. All temporaries of a run lie in one arena, planned before it; variables are updated in place.

Three things keep the arena small: the order of the steps, offsets from lifetimes, and computing cheap values again.
"""

import numpy as np

from tinyflow import execute, programs
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, elementwise, leaf, reduction
from tinyflow.passes.gradient import gradients
from tinyflow.runtime.memory import Life, plan
from tinyflow.runtime.order import Touch, order, peak

# Offsets: buffers that never live at the same time share their place.
lives = [Life(1024, 0, 1), Life(512, 1, 2), Life(1024, 2, 3)]
offsets, total = plan(lives)
print("lives", lives, "offsets", offsets, "arena", total)
assert total < sum(life.size for life in lives), "the first and the last never live at the same time"

# Order: a step names the slots that it reads and writes. Here slots 1 to 3 are the gradients of three layers; steps 0 to 2
# make each from the one before, steps 3 to 5 use one for an update. An update is best done as soon as it can be.
down = [Touch(frozenset([k]), frozenset([k + 1])) for k in range(3)]
updates = [Touch(frozenset([k + 1]), frozenset([10 + k])) for k in range(3)]
sizes = {1: 100, 2: 100, 3: 100}
found = order([*down, *updates], sizes)
print("as written:", peak([*down, *updates], range(6), sizes), "bytes; in the order", found, end=": ")
print(peak([*down, *updates], found, sizes), "bytes")
assert peak([*down, *updates], found, sizes) == 200

# A deep chain of layers needs memory for a few of them at a time.
x = leaf.placeholder(float32, (256, 256), "x")
h = x
for _ in range(12):
    h = elementwise.tanh(contraction.matmul(h, x))
found = execute.compile([h]).memory({x: np.zeros((256, 256), "f")}, {})
print(f"12 layers of {256 * 256 * 4} bytes each: {found}")
assert found.temporaries < 5 * 256 * 256 * 4

# A gradient needs what lies in every layer. Of gelu, only the product is kept: the rest is computed again from it.
weights = [leaf.variable(float32, (512, 512), f"w{k}") for k in range(10)]
h = leaf.placeholder(float32, (512, 512), "x")
feeds = {h: np.ones((512, 512), "f")}
for w in weights:
    z = contraction.matmul(h, w)
    h = 0.5 * z * (1.0 + elementwise.erf(z * 0.7071))
roots = [reduction.mean(h * h)]
new = {w: w - 0.1 * g for w, g in zip(weights, gradients(roots, weights))}
store = {w: np.eye(512, dtype="f") for w in weights}
unit, needed = 512 * 512 * 4, {}
for flag in (0, 1):
    with config(CHECKPOINT=flag):
        programs._programs.clear()
        needed[flag] = execute.compile(roots, new).memory(feeds, store).temporaries
print(f"10 layers and their gradients: {needed[0] / unit:.0f} layers' values kept, or {needed[1] / unit:.0f}")
assert needed[1] < 0.7 * needed[0]

# What a run writes to a variable goes where the variable lives.
v = leaf.variable(float32, (4,), "v")
store = {v: np.ones(4, "f")}
home = store[v]
execute.compile([], {v: v * 2.0})({}, store)
print("the same array, updated:", home)
assert store[v] is home and (home == 2).all()
