"""Random numbers: distributions, and what the seeds make of them."""

from typing import Any

import numpy as np
import pytest

import tinyflow as tf


def numbers(
    graph_seed: int | None = None, op_seed: int | None = None, noise: int = 0, runs: int = 1
) -> list[list[float]]:
    with tf.Graph().as_default():
        if graph_seed is not None:
            tf.set_random_seed(graph_seed)
        for k in range(noise):
            tf.square(float(k))
        x = tf.random_normal([4], seed=op_seed)
        with tf.Session() as sess:
            return [sess.run(x).tolist() for _ in range(runs)]


def test_a_seed_gives_the_same_numbers_in_every_session() -> None:
    for seeds in ((1, None), (None, 1), (1, 2)):
        assert numbers(*seeds, runs=3) == numbers(*seeds, runs=3)
    assert numbers(1) != numbers(2) and numbers(1, 1) != numbers(1, 2) and numbers(None, 1) != numbers(None, 2)


def test_without_a_seed_they_differ() -> None:
    assert numbers() != numbers()
    x = tf.random_uniform([3])
    assert tf.Session().run(x).tolist() != tf.Session().run(x).tolist()


def test_each_run_gives_new_numbers() -> None:
    first, second, third = numbers(1, runs=3)
    assert first != second != third != first


def test_other_operations_change_nothing() -> None:
    assert numbers(5) == numbers(5, noise=10)


def test_other_runs_change_nothing() -> None:
    x, other = tf.random_normal([3], seed=1), tf.random_normal([3], seed=2)
    one, two = tf.Session(), tf.Session()
    two.run(other)
    assert one.run(x).tolist() == two.run(x).tolist()


def test_operations_differ_and_one_operation_is_one() -> None:
    tf.set_random_seed(1)
    a, b = tf.random_uniform([3]), tf.random_uniform([3])
    x, y, again, double = tf.Session().run([a, b, a, a * 2.0])
    assert x.tolist() != y.tolist() and x.tolist() == again.tolist()
    np.testing.assert_array_equal(double, x * 2)


def test_equal_seeds_give_equal_numbers() -> None:
    a, b = tf.random_uniform([3], seed=7), tf.random_uniform([3], seed=7)
    assert tf.Session().run(a).tolist() == tf.Session().run(b).tolist()


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_distributions(dtype: Any) -> None:
    shape, count = [200, 100], 20000
    draws = [
        tf.random_normal(shape, 2.0, 3.0, dtype, seed=1),
        tf.random_uniform(shape, -1.0, 3.0, dtype, seed=1),
        tf.truncated_normal(shape, 1.0, 0.5, dtype, seed=1),
        tf.random_uniform(shape, 3, 8, tf.int32, seed=1),
    ]
    normal, uniform, cut, ints = tf.Session().run(draws)
    assert normal.dtype == dtype.numpy
    tolerance = 5 / np.sqrt(count)
    assert abs(normal.mean() - 2) < 3 * tolerance and abs(normal.std() - 3) < 3 * tolerance
    assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 2 * tolerance
    assert 0 <= cut.min() and cut.max() <= 2 and abs(cut.mean() - 1) < tolerance and abs(cut.std() - 0.44) < tolerance
    assert sorted(set(ints.ravel())) == [3, 4, 5, 6, 7]


def test_shapes_by_tensors() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    noise = tf.random_normal(tf.shape(x), seed=1)
    assert noise.shape.as_list() == [None, 3]
    assert tf.Session().run(noise, {x: np.zeros((5, 3))}).shape == (5, 3)
    with pytest.raises(ValueError, match="maxval"):
        tf.random_uniform([2], dtype=tf.int32)


def test_dropout() -> None:
    x, keep = tf.ones([100, 100]), tf.placeholder(tf.float32)
    y = tf.nn.dropout(x, keep, seed=1)
    (gradient,) = tf.gradients(y, x)
    whole = tf.nn.dropout(x, 0.5, noise_shape=[100, 1], seed=1)
    with tf.Session() as sess:
        got, slope = sess.run([y, gradient], {keep: 0.8})
        assert set(np.unique(got)) == {0, np.float32(1.25)} and abs((got > 0).mean() - 0.8) < 0.02
        np.testing.assert_array_equal(got, slope)
        assert (sess.run(y, {keep: 1.0}) == 1).all()
        rows = sess.run(whole)
        assert (rows == rows[:, :1]).all() and 20 < (rows[:, 0] > 0).sum() < 80
    assert tf.nn.dropout(x, 1.0) is x
    with pytest.raises(ValueError, match="probability"):
        tf.nn.dropout(x, 1.5)
    with pytest.raises(ValueError, match="either"):
        tf.nn.dropout(x)


def test_multinomial() -> None:
    logits = tf.log([[0.2, 0.8], [0.5, 0.5]])
    draws = tf.Session().run(tf.multinomial(logits, 2000, seed=3))
    assert draws.shape == (2, 2000) and draws.dtype == np.int64
    np.testing.assert_allclose(draws.mean(1), [0.8, 0.5], atol=0.05)


def test_variables_start_from_the_seed() -> None:
    def start() -> list[float]:
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(3)
            v = tf.get_variable("v", [4, 5])
            sess.run(tf.global_variables_initializer())
            return sess.run(v).ravel().tolist()

    assert start() == start()


def test_initializers() -> None:
    limits = {
        tf.glorot_uniform_initializer: np.sqrt(6 / 150),
        tf.initializers.he_uniform: np.sqrt(6 / 100),
        tf.contrib.layers.xavier_initializer: np.sqrt(6 / 150),
    }
    deviations = {tf.glorot_normal_initializer: np.sqrt(2 / 150), tf.initializers.he_normal: np.sqrt(2 / 100)}
    with tf.Session() as sess:
        for make, limit in limits.items():
            x = sess.run(make(seed=1)([100, 50]))
            assert limit * 0.98 < abs(x).max() <= limit
        for make, deviation in deviations.items():
            np.testing.assert_allclose(sess.run(make(seed=1)([100, 50])).std(), deviation, rtol=0.05)
        assert sess.run(tf.constant_initializer([1, 2])([3])).tolist() == [1, 2, 2]
        assert sess.run(tf.initializers.identity(2.0)([2, 2])).tolist() == [[2, 0], [0, 2]]
    with pytest.raises(ValueError, match="fan_in"):
        tf.variance_scaling_initializer(mode="fan")
