"""Lesson 2: a graph changes by rules, each a pattern and a replacement in the user's own notation."""

import numpy as np

from tinyflow.core.dtypes import float32
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.show import show
from tinyflow.ops import elementwise, functions, leaf
from tinyflow.passes import pipeline
from tinyflow.passes.simplify import EXACT, STABLE

for rule in (*EXACT[:3], *STABLE[:2]):
    print(f"{rule.name}:")
    print(show([rule.left]), "  becomes", show([rule.right]), sep="\n")

# log(softmax(z)) is minus infinity where a probability underflows. The rule "log of softmax" turns it into log-softmax.
z = leaf.placeholder(float32, (1, 3), "z")
y = elementwise.log(functions.softmax(z))
feeds = {z: np.array([[0.0, 100.0, 200.0]])}
print("as written:", evaluate([y], feeds)[y])
(stable,) = pipeline.run([y])
print("after the passes:", evaluate([stable], feeds)[stable])
assert np.isneginf(evaluate([y], feeds)[y]).any() and np.isfinite(evaluate([stable], feeds)[stable]).all()
