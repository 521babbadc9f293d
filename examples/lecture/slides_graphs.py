"""The graphs of the slides, drawn: a × b + 3, and L = MSE(w2 · ReLU(w1 x), y) with its gradients.

Each becomes an SVG and a page to click through: python slides_graphs.py [FOLDER]
"""

import sys
from pathlib import Path
import tinyflow as tf
from tinyflow.tools.page import write_page
from tinyflow.tools.picture import svg

out = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
out.mkdir(parents=True, exist_ok=True)

# a x b + 3
with tf.Graph().as_default() as product:
    a = tf.placeholder(tf.float32, [], name="a")
    b = tf.placeholder(tf.float32, [], name="b")
    c = tf.add(a * b, 3.0, name="c")

# L = MSE(w2 . ReLU(w1 x), y), and how it changes with w1 and w2
with tf.Graph().as_default() as network:
    x = tf.placeholder(tf.float32, [4, 1], name="x")
    y = tf.placeholder(tf.float32, [2, 1], name="y")
    w1 = tf.Variable(tf.random_normal([3, 4]), name="w1")
    w2 = tf.Variable(tf.random_normal([2, 3]), name="w2")
    h = tf.nn.relu(tf.matmul(w1, x))
    L = tf.reduce_mean(tf.square(tf.matmul(w2, h) - y), name="L")
    w1_grad, w2_grad = tf.gradients(L, [w1, w2])

for name, graph, title in [("product", product, "a × b + 3"), ("network", network, "L = MSE(w2 · ReLU(w1 x), y)")]:
    gradients = [op for op in graph.get_operations() if op.type == "SymbolicGradient"]
    picture = out / f"{name}.svg"
    picture.write_text(svg(graph, title=title, unfold=gradients, movement=False), encoding="utf-8")
    print("wrote", picture)
    print("wrote", write_page(out / f"{name}.html", graph, title=title))
