"""What happens behind the scenes: six pictures of one graph while the lecture's program is written, line by line.

What tf.gradients adds is drawn with its own nodes (framed in magenta), and what a run does not need fades in the last.
python behind_the_scenes.py [FOLDER]
"""

import sys
from pathlib import Path
import tinyflow as tf
from tinyflow.tools.picture import svg
from tinyflow.tools.view import computed_by

out = Path(sys.argv[1] if len(sys.argv) > 1 else "pictures")
out.mkdir(parents=True, exist_ok=True)
graph = tf.get_default_graph()


def draw(number, name, title, highlight=()):
    gradients = [op for op in graph.get_operations() if op.type == "SymbolicGradient"]
    path = out / f"{number}_{name}.svg"
    path.write_text(svg(graph, highlight, title, unfold=gradients, movement=False), encoding="utf-8")
    print(f"wrote {path}: {len(graph.get_operations())} operations")


x = tf.placeholder(tf.float32, [None, 784])
draw(1, "placeholder", "a placeholder: a value that each run is given")

W = tf.Variable(tf.zeros([784, 10]))
draw(2, "variable", "a Variable: its value, what it begins with, and the assignment of it")

y = tf.nn.softmax(tf.matmul(x, W))
draw(3, "softmax", "a model")

y_ = tf.placeholder(tf.float32, [None, 10])
cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
draw(4, "loss", "a loss")

W_grad = tf.gradients(cross_entropy, [W])[0]
draw(5, "gradients", "tf.gradients extends the graph by the way back")

train_step = tf.assign(W, W - 0.5 * W_grad)
draw(6, "train_step", "what sess.run(train_step) computes", computed_by(graph, train_step))
