"""Lesson 8: control flow. A predicate decides at run time which kernels run; no Python is asked.

switch(x, p, side) is x if p is `side`, else dead; what depends on a dead tensor is not computed. merge(p, f, t) is
whichever is alive. Kernels on one side of a switch carry the condition, and the program skips them.
"""

import numpy as np

from tinyflow import execute
from tinyflow.compiler import loops
from tinyflow.compiler.pipeline import build
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, control, elementwise, leaf
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

x = leaf.placeholder(float32, (64, 64), "x")
limit = leaf.placeholder(float32, (), "limit")
p = elementwise.less(sum_(x), limit)
small = elementwise.tanh(contraction.matmul(control.switch(x, p, True), control.switch(x, p, True)))
large = control.switch(x, p, False) * 0.5
y = control.merge(p, large, small)
for kernel in build(pipeline.run([y]), {}).kernels:
    print(loops.show(kernel).splitlines()[0])

(dx,) = gradients([sum_(y)], [x])
a = np.full((64, 64), 0.01, "f")
for bound in (1e9, -1e9):
    value, slope = execute.compile([y, dx])({x: a, limit: bound}, {})
    print("limit", bound, "value", value[0, 0], "gradient", slope[0, 0])
    assert np.allclose(value, np.tanh(a @ a) if bound > 0 else a * 0.5, atol=1e-6)
