"""Lesson 0: a node is an operator, and stands for its output tensor too.

Run each lesson with `python docs/tour/00_node.py`; it prints what it claims, and fails if the claim is false.
"""

import numpy as np

from tinyflow.core.dtypes import float32
from tinyflow.core.errors import ShapeError
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.show import show
from tinyflow.ops import contraction, leaf

# Leaves are values from outside. Operators are functions of nodes; nothing is computed yet.
a = leaf.placeholder(float32, (2, 3), "a")
b = leaf.placeholder(float32, (2, 3), "b")
y = a * b + 3.0
print(show([y]))

# Equal nodes are one object: making a * b again gives back the node that is there.
assert a * b is a * b

# A node knows its shape and type at once, so what does not fit is an error on the line that asks for it.
try:
    contraction.matmul(a, b)
except ShapeError as error:
    print("error:", error)

# Every op has a meaning in numpy. It is the oracle of all that follows.
feeds = {a: np.arange(6).reshape(2, 3), b: np.full((2, 3), 2.0)}
value = evaluate([y], feeds)[y]
print(value)
assert (value == np.arange(6).reshape(2, 3) * 2 + 3).all()
