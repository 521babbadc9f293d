"""Lesson 10: loops. A recurrence is one op with a graph inside: one native loop, whatever the number of steps.

h = tanh(x W + h U) is written down once. x W, which needs no state, becomes one product of all steps before the loop; the
gradient of U becomes one product of all steps after the loop back. What is left in the loop is the product with h, whose
weights are packed before it, and the arithmetic of a step.
"""

import numpy as np

from tinyflow import execute
from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32
from tinyflow.graph.show import show
from tinyflow.ops import elementwise, leaf
from tinyflow.ops.contraction import matmul
from tinyflow.ops.recurrence import Recurrence
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.runtime.items import Loop

xs, start = leaf.placeholder(float32, (50, 16, 32), "xs"), leaf.placeholder(float32, (16, 64), "start")
W, U = leaf.variable(float32, (32, 64), "W"), leaf.variable(float32, (64, 64), "U")

r = Recurrence(50)
h, x = r.state(start), r.slice(xs)
new = elementwise.tanh(matmul(x, W) + matmul(h, U))
r.close([new])
(ys,) = r.results([r.each(new)])
print(show([ys]))

loss = sum_(ys * ys)
dW, dU = gradients([loss], [W, U])
for item in build(pipeline.run([loss, dW, dU]), {}).program.items:
    if isinstance(item, Loop):
        print(f"{item.rounds} times:", "; ".join(call.label for call in item.items))
    else:
        print(item.label)

rng = np.random.default_rng(0)
store = {W: rng.normal(0, 0.1, (32, 64)).astype("f"), U: rng.normal(0, 0.1, (64, 64)).astype("f")}
fed = {xs: rng.normal(size=(50, 16, 32)).astype("f"), start: np.zeros((16, 64), "f")}
got = execute.compile([ys])(fed, store)[0]
state = fed[start]
for t in range(50):
    state = np.tanh(fed[xs][t] @ store[W] + state @ store[U])
    assert np.allclose(got[t], state, atol=1e-4)
print("50 steps agree with numpy's")
