"""One graph, three styles: the same program gives the same graph, and bit for bit the same weights after 100 steps."""
import numpy as np

import tinyflow as tf
import tinyflow.torch as torch
from tinyflow.datasets import get_mnist
from tinyflow.graph.signature import structural_hash

STEPS, RATE = 100, 0.5


def structure(loss, gradient):
    """What the graph of the forward and backward part is, whatever its leaves are called and where they live."""
    while gradient.op.name == "stop_gradient":  # the imperative style detaches a gradient from its history
        (gradient,) = gradient.inputs
    return structural_hash([loss, gradient])


def batches():
    mnist = get_mnist(flatten=True, onehot=True)
    return [mnist.train.next_batch(100) for _ in range(STEPS)]


def symbolic():
    x = tf.placeholder(tf.float32, [100, 784])
    y_ = tf.placeholder(tf.float32, [100, 10])
    W = tf.Variable(tf.zeros([784, 10]))
    y = tf.nn.softmax(tf.matmul(x, W))
    loss = tf.reduce_mean(-tf.reduce_sum(y_ * tf.log(y), reduction_indices=[1]))
    (gradient,) = tf.gradients(loss, [W])
    step = tf.assign(W, W - RATE * gradient)
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    for images, labels in batches():
        sess.run(step, {x: images, y_: labels})
    return sess.run(W), structure(loss.node, gradient.node)


def one_step(W, images, labels):
    y = torch.softmax(images @ W, dim=1)
    loss = -(labels * y.log()).sum(dim=1)
    return loss.mean()


def imperative(step=one_step):
    W = torch.zeros(784, 10, requires_grad=True)
    key = None
    for images, labels in batches():
        loss = step(W, torch.from_numpy(images), torch.from_numpy(labels))
        loss.backward()
        if key is None:
            key = structure(loss.node, W.grad.node)
        with torch.no_grad():
            W -= RATE * W.grad
        W.grad = None
    return W.detach().numpy(), key


results = {"symbolic": symbolic(), "imperative": imperative(), "jit": imperative(torch.compile(one_step))}
first, key = results["symbolic"]
for style, (weights, other) in results.items():
    same_graph, same_bits = other == key, np.array_equal(weights, first)
    print(f"{style:11} graph {other}  same graph: {same_graph}  same weights: {same_bits}")
    assert same_graph and same_bits
