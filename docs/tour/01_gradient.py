"""Lesson 1: differentiation extends the graph.

Each op's row says what the gradients of its operands are, as a graph. The pass walks from the loss back, asks each row,
and adds up what the users of a tensor contribute. It knows no op by name.
"""

import numpy as np

from tinyflow.core.dtypes import float32
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import toposort
from tinyflow.graph.show import show
from tinyflow.ops import contraction, elementwise, leaf, reduction
from tinyflow.passes.gradient import gradients

# L = MSE(w2 . ReLU(w1 x), y)
x, y = leaf.placeholder(float32, (4,), "x"), leaf.placeholder(float32, (2,), "y")
w1, w2 = leaf.placeholder(float32, (3, 4), "w1"), leaf.placeholder(float32, (2, 3), "w2")
away = contraction.matmul(w2, elementwise.relu(contraction.matmul(w1, x))) - y
loss = reduction.mean(away * away)
d1, d2 = gradients([loss], [w1, w2])
print(show([d1, d2]))
print(f"the loss has {len(toposort([loss]))} nodes, with its gradients {len(toposort([loss, d1, d2]))}")

# The gradient agrees with a difference of losses.
rng = np.random.default_rng(3)
feeds = {n: rng.normal(size=n.shape) for n in (x, y, w1, w2)}
direction, step = rng.normal(size=w1.shape), 1e-2
value = lambda t: float(evaluate([loss], {**feeds, w1: feeds[w1] + t * direction})[loss])
numeric = (value(step) - value(-step)) / (2 * step)
exact = float((evaluate([d1], feeds)[d1] * direction).sum())
print(f"along one direction: graph {exact:.5f}, difference {numeric:.5f}")
assert abs(numeric - exact) < 1e-2 * max(1, abs(exact))

# A gradient is a graph like any other, so it has a gradient too.
(second,) = gradients([reduction.sum_(d2)], [w2])
assert second is not None and second.shape == w2.shape
