"""Lesson 3: fusion. Few nodes get a buffer; all others are computed where they are read.

An op says what its value at one index is, given its operands at some index. Asking an operand that has no buffer asks
its op in turn: the expressions of many ops become one.
"""

from tinyflow.compiler import loops
from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, functions, leaf, reduction
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

x, t = leaf.placeholder(float32, (128, 1000), "x"), leaf.placeholder(float32, (128, 1000), "t")
loss = reduction.mean(functions.cross_entropy(x, t))
(dx,) = gradients([loss], [x])
nodes = pipeline.run([loss, dx])
made = build(nodes, {})
for kernel in made.kernels:
    print(loops.show(kernel))
print(f"{len(made.kernels)} kernels for the loss and its gradient")
assert len(made.kernels) <= 3

# Rows are kept, not written: the exponentials of a row live in the thread's own memory while the row is computed, and the
# row's maximum and sum are numbers of the pass over it. The only buffers are the results.
stored = {s.target.node for kernel in made.kernels for s in kernel.stores if not hasattr(s.target.node, "slot")}
print("buffers:", ", ".join(f"{n.label} {n.shape}" for n in stored))
assert max(len(n.shape) for n in stored) == 2 and dx.shape in {n.shape for n in stored}

# What two passes need from different rows cannot be one pass: a sum down the columns must be over before it is used.
down = reduction.sum_(x, 0, keepdims=True)
kernels = build(pipeline.run([x / down]), {}).kernels
print(f"x / sum(x, 0) takes {len(kernels)} passes; x / sum(x, 1) takes", end=" ")
along = build(pipeline.run([x / reduction.sum_(x, 1, keepdims=True)]), {}).kernels
print(len(along))
assert (len(kernels), len(along)) == (2, 1)

# An update of a variable is fused like anything else; here with the product that makes its gradient.
a, w = leaf.placeholder(float32, (128, 64), "a"), leaf.variable(float32, (64, 32), "w")
g = leaf.placeholder(float32, (128, 32), "g")
step = w - 0.1 * contraction.matmul(a, g, transpose_a=True)
(*_, last) = build(pipeline.run([]), {w: step}).kernels
print(loops.show(last))
