"""Placeholders of unknown rank: completed by what is fed, one program a rank."""

import numpy as np
import pytest

import tinyflow as tf


def test_one_program_a_rank() -> None:
    x = tf.placeholder(tf.float32)
    y = tf.reduce_sum(tf.square(x) + 1.0)
    assert x.shape.ndims is None and y.shape.ndims is None and y.node is None and y.dtype is tf.float32
    with tf.Session() as sess:
        for value in (3.0, [1.0, 2.0], [[1.0], [2.0]], np.ones((2, 3, 4)), np.ones((5, 6, 7))):
            assert sess.run(y, {x: value}) == (np.square(value) + 1).sum()
        (plan,) = set(sess._plans.values())
        assert len({p.runner for p in plan.programs.values()}) == 4


def test_scalars_with_known_tensors() -> None:
    """Most programs have a keep_prob, or a learning rate."""
    rate, x = tf.placeholder(tf.float32), tf.placeholder(tf.float32, [None, 4])
    w = tf.Variable(tf.ones([4, 1]))
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w)))
    step = tf.train.GradientDescentOptimizer(rate).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(step, {x: np.eye(4), rate: 0.5})
        np.testing.assert_allclose(sess.run(w), 0.75)
        sess.run(step, {x: np.eye(4), rate: 0.0})
        np.testing.assert_allclose(sess.run(w), 0.75)


def test_types_are_known_though_the_rank_is_not() -> None:
    x, i = tf.placeholder(tf.float32), tf.placeholder(tf.int64)
    assert tf.argmax(x, 1).dtype is tf.int64
    assert (x > 1.0).dtype is tf.bool
    assert tf.cast(i, tf.float32).dtype is tf.float32
    assert tf.shape(x).dtype is tf.int32
    assert tf.one_hot(i, 10).dtype is tf.float32
    assert tf.nn.conv2d(x, tf.ones([3, 3, 1, 2]), [1, 1, 1, 1], "SAME").dtype is tf.float32
    assert [t.dtype for t in tf.split(i, 3)] == [tf.int64] * 3


def test_gradients() -> None:
    x, y = tf.placeholder(tf.float32), tf.placeholder(tf.float32)
    loss = tf.reduce_sum(tf.square(x) * y)
    dx, dy = tf.gradients(loss, [x, y])
    (ddx,) = tf.gradients(dx, [x])
    assert tf.gradients(loss, [tf.placeholder(tf.float32)]) == [None]
    with tf.Session() as sess:
        feeds = {x: [1.0, 2.0], y: [3.0, 4.0]}
        assert [g.tolist() for g in sess.run([dx, dy, ddx], feeds)] == [[6, 16], [1, 4], [6, 8]]
        assert sess.run(dy, {x: [[1.0, 2.0]], y: 3.0}) == 5


def test_errors_are_on_the_line_that_was_written() -> None:
    x = tf.placeholder(tf.float32, name="x")
    y = tf.matmul(x, tf.ones([3, 2]), name="product")
    with tf.Session() as sess:
        assert sess.run(y, {x: np.ones((4, 3))}).shape == (4, 2)
        with pytest.raises(ValueError, match=r"(?s)'product'.*\(3, 2\).*test_unknown_rank.py.*y = tf.matmul"):
            sess.run(y, {x: np.ones((4, 4))})
        with pytest.raises(ValueError, match="two axes"):
            sess.run(y, {x: np.ones(3)})


def test_variables_need_a_shape() -> None:
    x = tf.placeholder(tf.float32)
    with pytest.raises(ValueError, match="give the Variable a shape"):
        tf.Variable(x)
    with pytest.raises(ValueError, match="set_shape"):
        tf.layers.dense(x, 3)
    v = tf.Variable(x, shape=[2])
    with tf.Session() as sess:
        sess.run(v.initializer, {x: [1.0, 2.0]})
        assert sess.run(v).tolist() == [1, 2]


def test_control_dependencies() -> None:
    x, v = tf.placeholder(tf.float32), tf.Variable(0.0)
    with tf.control_dependencies([v.assign_add(tf.reduce_sum(x))]):
        y = v + x
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run(y, {x: [1.0, 2.0]}).tolist() == [4, 5]
        assert sess.run(tf.group(y), {x: 1.0}) is None and sess.run(v) == 4


def test_a_tensor_of_unknown_rank_can_be_fed() -> None:
    x = tf.placeholder(tf.float32)
    h = x * 2.0
    y = h + 1.0
    assert tf.Session().run(y, {h: [3.0]}).tolist() == [4]


def test_convolution() -> None:
    x = tf.placeholder(tf.float32)
    images = tf.reshape(x, [-1, 4, 4, 1])
    assert images.shape.ndims is None
    y = tf.nn.max_pool(
        tf.nn.conv2d(images, tf.ones([3, 3, 1, 2]), [1, 1, 1, 1], "SAME"), [1, 2, 2, 1], [1, 2, 2, 1], "SAME"
    )
    flat = tf.reshape(y, [-1, 8])
    with tf.Session() as sess:
        assert sess.run(flat, {x: np.ones((3, 16))}).shape == (3, 8)
        assert sess.run(flat, {x: np.ones((3, 16))}).max() == 9


def test_gradient_through_what_has_none():
    x = tf.placeholder(tf.float32)
    assert tf.gradients(tf.floor(x), x) == [None]
    y = tf.reduce_logsumexp(tf.floor(x) + tf.zeros_like(x))  # a way that is known to end only when x has a rank
    (g,) = tf.gradients(y + tf.reduce_sum(tf.floor(x) * tf.ones_like(x)), x)
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(g, {x: np.ones((2, 3), np.float32)}), np.zeros((2, 3)))
    for shape in (None, [3]):
        x = tf.placeholder(tf.float32, shape)
        (g,) = tf.gradients(tf.sign(x), x)  # as in TensorFlow: no gradient, yet there is one
        with tf.Session() as sess:
            np.testing.assert_array_equal(sess.run(g, {x: np.ones(3, np.float32)}), np.zeros(3))
