"""Lesson 4: contraction. Matrix products, batched products and convolutions are one op and one recipe.

A spec names what is multiplied: ij,jk->ik. A convolution's spec has sums of letters: n(h+i-1)(w+j-1)c,ijco->nhwo.
The recipe packs one operand into panels, keeps a tile of results in registers, and computes what is made of the results
(bias, activation, the update of a weight) while they are at hand.
"""

import numpy as np

from tinyflow import execute
from tinyflow.compiler import loops
from tinyflow.compiler.pipeline import build
from tinyflow.core.config import config
from tinyflow.core.dtypes import float32
from tinyflow.ops import contraction, elementwise, leaf
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients
from tinyflow.runtime import profile

x, w = leaf.placeholder(float32, (64, 256), "x"), leaf.placeholder(float32, (256, 128), "w")
b = leaf.placeholder(float32, (128,), "b")
y = elementwise.relu(contraction.matmul(x, w) + b)
for kernel in build(pipeline.run([y]), {}).kernels:
    print(loops.show(kernel))

rng = np.random.default_rng(0)
feeds = {n: rng.normal(size=n.shape).astype("f") for n in (x, w, b)}
(got,) = execute.compile([y])(feeds, {})
want = np.maximum(feeds[x] @ feeds[w] + feeds[b], 0)
print("greatest difference from numpy:", float(np.abs(got - want).max()))
np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)

# The gradients of a convolution are contractions again: the positions are solved for one of their letters.
image, kernel = leaf.placeholder(float32, (2, 8, 8, 3), "image"), leaf.placeholder(float32, (3, 3, 3, 16), "kernel")
out = contraction.convolution(image, kernel, (1, 1), (1, 1), (8, 8), (1, 1))
for name, g in zip(("forward", "to the image", "to the kernel"), (out, *gradients([sum_(out * out)], [image, kernel]))):
    print(f"{name}: {g.attrs['spec']}")

# What is multiplied may be computed on the way: here the panels are packed with w - 1, which has no buffer of its own.
scaled = contraction.matmul(x, w - 1.0)
kernels = build(pipeline.run([scaled]), {}).kernels
text = "\n".join(map(loops.show, kernels))
print(text)
assert "] - 1" in text, "the producer is in the packing"

# The work is cut to fit the caches: tiles of rows by vectors of columns stay in registers, blocks of K in the first cache.
# Results do not depend on how many threads share the tiles: each is added up by one thread, in an order that sizes decide.
side = 512
p, q = leaf.placeholder(float32, (side, side), "p"), leaf.placeholder(float32, (side, side), "q")
runner = execute.compile([contraction.matmul(p, q)])
feeds = {n: rng.normal(size=n.shape).astype("f") for n in (p, q)}
with config(PROFILE=1):
    for _ in range(5):
        runner(feeds, {})
run = min(next(iter(profile.RECORDS.values())).last, key=lambda r: r.ns)
print(f"{side} a side: {2 * side**3 / run.ns:.0f} GFLOP/s on {run.threads} threads")
