"""The lecture's program, character for character: it learns digits, and compiles nothing new for the test."""

import numpy as np

import tinyflow as tf
from tinyflow.core.config import config

PROGRAM = """
import tinyflow as tf
from tinyflow.datasets import get_mnist
# Create the model
x = tf.placeholder(tf.float32, [None, 784])
W = tf.Variable(tf.zeros([784, 10]))
y = tf.nn.softmax(tf.matmul(x, W))
# Define loss and optimizer
y_ = tf.placeholder(tf.float32, [None, 10])
cross_entropy = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
# Update rule
learning_rate = 0.5
W_grad = tf.gradients(cross_entropy, [W])[0]
train_step = tf.assign(W, W - learning_rate * W_grad)
# Training Loop
sess = tf.Session()
sess.run(tf.initialize_all_variables())
mnist = get_mnist(flatten=True, onehot=True)
for i in range(STEPS):
    batch_xs, batch_ys = mnist.train.next_batch(100)
    sess.run(train_step, feed_dict={x: batch_xs, y_:batch_ys})
"""


def lecture(steps: int) -> dict:
    names: dict = {}
    exec(PROGRAM.replace("STEPS", str(steps)), names)
    return names


def accuracy(names: dict) -> float:
    correct = tf.equal(tf.argmax(names["y"], 1), tf.argmax(names["y_"], 1))
    measure = tf.reduce_mean(tf.cast(correct, tf.float32))
    test = names["mnist"].test
    return names["sess"].run(measure, feed_dict={names["x"]: test.images, names["y_"]: test.labels})


def test_it_learns() -> None:
    assert accuracy(lecture(1000)) >= 0.90


def test_by_numpy_it_learns_the_same() -> None:
    with config(REFERENCE=1):
        by_numpy = lecture(20)
    compiled = lecture(20)
    weights = [names["sess"].run(names["W"]) for names in (by_numpy, compiled)]
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-6)


def test_the_names_of_its_operations() -> None:
    names = lecture(0)
    assert [names[k].name for k in ("x", "W", "y", "y_", "cross_entropy")] == [
        "Placeholder:0",
        "Variable:0",
        "Softmax:0",
        "Placeholder_1:0",
        "Mean:0",
    ]
    types = {op.name: op.type for op in tf.get_default_graph().get_operations()}
    assert (
        types["Variable/Assign"] == "Assign" and types["Variable/read"] == "Identity" and types["Softmax"] == "Softmax"
    )


def test_the_loss_is_finite_where_a_probability_underflows() -> None:
    names = lecture(0)
    sess, x, y_ = names["sess"], names["x"], names["y_"]
    sess.run(names["W"].assign(np.eye(784, 10) * 1e4))
    image, wrong = np.eye(1, 784), np.eye(10)[1:2]
    loss, gradient = sess.run([names["cross_entropy"], names["W_grad"]], {x: image, y_: wrong})
    assert loss == 1e4 and np.isfinite(gradient).all()


def test_the_optimizer_takes_the_same_step() -> None:
    """Gradient descent by hand and by GradientDescentOptimizer: one graph, and so the same bits."""
    names = lecture(0)
    x, y_, W, loss = (names[k] for k in ("x", "y_", "W", "cross_entropy"))
    minimize = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    xs, ys = names["mnist"].train.next_batch(100)
    results = []
    for step in (names["train_step"], minimize):
        with tf.Session() as sess:
            sess.run(W.initializer)
            for _ in range(3):
                sess.run(step, {x: xs, y_: ys})
            results.append(sess.run(W))
    np.testing.assert_array_equal(*results)
