"""Lesson 7: threads. Every thread runs the whole program; results do not depend on how many there are."""

import numpy as np

from tinyflow import execute
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, functions, leaf, reduction

x, w = leaf.placeholder(float32, (300, 200), "x"), leaf.placeholder(float32, (200, 500), "w")
y = functions.softmax(contraction.matmul(x, w))
roots = [y, reduction.sum_(y * y)]
rng = np.random.default_rng(0)
feeds = {n: rng.normal(size=n.shape).astype("f") for n in (x, w)}

results = []
for threads in (1, 2, 3, 4):
    with config(THREADS=threads):
        results.append(execute.compile(roots)(feeds, {}))
for other in results[1:]:
    assert all(np.array_equal(a, b) for a, b in zip(results[0], other))
print("1, 2, 3 and 4 threads give the same bits; the sum is", results[0][1])
