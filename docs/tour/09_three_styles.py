"""Lesson 9: three styles, one graph. A polynomial's derivative, written down, left behind, and traced."""

import numpy as np

import tinyflow as tf
import tinyflow.torch as torch
from tinyflow.graph.show import show
from tinyflow.graph.signature import signature

values = np.linspace(-1, 1, 5, dtype=np.float32)

# Define, then run
x = tf.placeholder(tf.float32, [5])
y = tf.reduce_sum(x * x * x)
(dx,) = tf.gradients(y, [x])
with tf.Session() as sess:
    written = sess.run(dx, {x: values})

# Define and run: the same nodes, made on the fly; nothing is computed until a value is looked at
t = torch.tensor(values, requires_grad=True)
z = (t * t * t).sum()
z.backward()
print(show([t.grad.node]))
(gradient,) = t.grad.node.inputs  # a gradient is detached from its history
same = signature([gradient]).key == signature([dx.node]).key
left_behind = t.grad.numpy()


# Traced once, run many times
@torch.compile
def slope(t):
    return 3 * t * t


traced = slope(torch.tensor(values)).numpy()
print(slope.explain())
print(written, left_behind, traced, sep="\n")
assert same and np.array_equal(written, left_behind) and np.allclose(traced, written)
