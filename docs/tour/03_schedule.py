"""Lesson 3: fusion. Few nodes get a buffer; all others are computed where they are read.

An op says what its value at one index is, given its operands at some index. Asking an operand that has no buffer asks
its op in turn: the expressions of many ops become one.
"""

from tinyflow.compiler import loops
from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32
from tinyflow.ops import functions, leaf, reduction
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
