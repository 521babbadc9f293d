"""`tinyflow demo`: the lecture's program learns digits, with a clock and a picture."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tinyflow.core.config import config
from tinyflow.tools.progress import counted


def demo(steps: int = 1000, out: Path | None = None) -> int:
    """Train softmax regression on the package's digits; print accuracy, steps a second and where the picture is.

    steps  how many batches of 100 to learn from
    out    the HTML page to write; None: demo.html in the cache folder
    """
    import tinyflow as tf
    from tinyflow.datasets import get_mnist
    from tinyflow.tools.page import write_page

    print(f"softmax regression on 10,000 handwritten digits, {steps:,} steps of 100, compiled on this machine")
    mnist = get_mnist(flatten=True, onehot=True)
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 784], name="x")
        W = tf.Variable(tf.zeros([784, 10]), name="W")
        y = tf.nn.softmax(tf.matmul(x, W))
        y_ = tf.placeholder(tf.float32, [None, 10], name="y_")
        cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
        W_grad = tf.gradients(cross_entropy, [W])[0]
        train_step = tf.assign(W, W - 0.5 * W_grad)
        correct = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
        accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

        sess.run(tf.initialize_all_variables())
        start = time.perf_counter()
        first = start
        for i in counted(steps, "training"):
            batch_xs, batch_ys = mnist.train.next_batch(100)
            sess.run(train_step, feed_dict={x: batch_xs, y_: batch_ys})
            if i == 0:
                first = time.perf_counter()
        end = time.perf_counter()
        score = sess.run(accuracy, feed_dict={x: mnist.test.images, y_: mnist.test.labels})

    print(f"accuracy          {score:.4f} on the 10,000 test digits")
    print(f"first step        {first - start:.2f} s, compiling included")
    if steps > 1:
        print(f"steps a second    {(steps - 1) / (end - first):,.0f}, batches included")
    page = out or page_folder() / "demo.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(page, graph, title="softmax regression")
    print(f"the graph         {page} (open it in a browser)")
    return 0


def page_folder() -> Path:
    """Where pages go that nobody asked to have elsewhere."""
    return Path(tempfile.gettempdir()) / "tinyflow" if str(config.CACHE) in ("", "0") else Path(config.CACHE)
