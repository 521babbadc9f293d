"""while_loop, scan, map_fn, foldl and dynamic_rnn beside loops in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tinyflow as tf
from tinyflow.core.errors import GraphError, ShapeError

X = np.array([1.0, 2.0, 3.0, 4.0], np.float32)


@pytest.fixture
def sess(graph: tf.Graph) -> Iterator[tf.Session]:
    with tf.Session() as session:
        yield session


def near(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_while_loop_asks_before_every_step(sess: tf.Session) -> None:
    x, least = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [])
    count, y = tf.while_loop(lambda i, y: tf.reduce_sum(y) < least, lambda i, y: (i + 1, y * 1.5 + 1.0), (0, x))
    for bound in (5.0, 100.0, 1e6):
        steps, want = 0, X
        while want.sum() < bound:
            steps, want = steps + 1, want * np.float32(1.5) + 1
        got = sess.run((count, y), {x: X, least: bound})
        assert got[0] == steps
        near(got[1], want)


def test_while_loop_of_no_step(sess: tf.Session) -> None:
    assert sess.run(tf.while_loop(lambda i: i < 0, lambda i: i + 1, [3])) == 3
    assert sess.run(tf.while_loop(lambda i: i < 9, lambda i: i + 1, [3], maximum_iterations=0)) == 3
    assert sess.run(tf.while_loop(lambda i: i < 9, lambda i: i + 1, [3], maximum_iterations=2)) == 5
    assert sess.run(tf.while_loop(lambda i: i < 9, lambda i: i + 1, [3], maximum_iterations=20)) == 9


def test_structures_of_loop_variables(sess: tf.Session) -> None:
    pair, n = tf.while_loop(
        lambda p, n: n < 3, lambda p, n: ({"a": p["b"], "b": p["a"] + 1.0}, n + 1), [{"a": tf.constant(1.0), "b": tf.constant(5.0)}, 0]
    )  # fmt: skip
    assert sess.run((pair, n)) == ({"a": 6.0, "b": 3.0}, 3)
    assert list(sess.run(tf.while_loop(lambda a, b: a < 10, lambda a, b: [b, a + b], [0, 1]))) == [13, 21]


@pytest.mark.parametrize("most", [3, 4, 9])
def test_gradient_through_while_loop(sess: tf.Session, most: int) -> None:
    """Of steps that are not taken there is none, whatever a step would make of nothing."""
    x, w = tf.placeholder(tf.float32, [4]), tf.Variable([0.5, 0.4, 0.3, 0.2])
    _, y = tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.log(y * w + x)), (0, x), maximum_iterations=most)
    slopes = tf.gradients(tf.reduce_sum(y * y), [x, w])
    sess.run(tf.global_variables_initializer())
    got = sess.run(slopes, {x: X})
    a, b = X.astype(np.float64), np.array([0.5, 0.4, 0.3, 0.2])

    def value(a: Any, b: Any) -> Any:
        y = a
        for _ in range(3):
            y = np.log(y * b + a)
        return (y * y).sum()

    for k, slope in enumerate(got):
        for i in range(4):
            step = np.zeros((2, 4))
            step[k, i] = 1e-6
            near(slope[i], (value(a + step[0], b + step[1]) - value(a - step[0], b - step[1])) / 2e-6)


def test_gradient_of_a_loop_without_end_is_an_error() -> None:
    x = tf.constant(2.0)
    y = tf.while_loop(lambda y: y < 100.0, lambda y: y * x, [x])
    with pytest.raises(GraphError, match="maximum_iterations"):
        tf.gradients(y, x)


def test_while_loop_in_a_loop_and_under_a_condition(sess: tf.Session) -> None:
    n, p = tf.placeholder(tf.int32, []), tf.placeholder(tf.bool, [])

    def outer(i: Any, total: Any) -> Any:
        _, inner = tf.while_loop(lambda j, s: j < i, lambda j, s: (j + 1, s + j * i), (0, 0))
        return i + 1, total + inner

    total = tf.cond(p, lambda: tf.while_loop(lambda i, t: i < n, outer, (0, 0))[1], lambda: n * 100)
    want = sum(j * i for i in range(6) for j in range(i))
    assert sess.run(total, {n: 6, p: True}) == want
    assert sess.run(total, {n: 6, p: False}) == 600


def test_condition_in_a_body(sess: tf.Session) -> None:
    """Collatz: how many steps to 1."""
    n = tf.placeholder(tf.int32, [])
    steps = tf.while_loop(
        lambda n, k: n > 1, lambda n, k: (tf.cond(tf.equal(n % 2, 0), lambda: n // 2, lambda: 3 * n + 1), k + 1), (n, 0)
    )[1]
    assert [sess.run(steps, {n: k}) for k in (1, 6, 27)] == [0, 8, 111]


def test_scan_map_and_folds(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None])
    results = [
        tf.scan(lambda a, v: a * 0.5 + v, x),
        tf.scan(lambda a, v: a * 0.5 + v, x, tf.constant(8.0)),
        tf.scan(lambda a, v: a * 0.5 + v, x, reverse=True),
        tf.map_fn(lambda v: v * v + 1.0, x),
        tf.foldl(lambda a, v: a * 2.0 - v, x),
        tf.foldr(lambda a, v: a * 2.0 - v, x, tf.constant(1.0)),
    ]
    for values in (X, X[:1]):
        s, t, r = [values[0]], [8 * 0.5 + values[0]], [values[-1]]
        for v in values[1:]:
            s, t = [*s, s[-1] * 0.5 + v], [*t, t[-1] * 0.5 + v]
        for v in values[:-1][::-1]:
            r = [r[0] * 0.5 + v, *r]
        left, right = values[0], 1.0
        for v in values[1:]:
            left = left * 2 - v
        for v in values[::-1]:
            right = right * 2 - v
        for got, want in zip(sess.run(results, {x: values}), [s, t, r, values**2 + 1, left, right], strict=True):
            near(got, want)


def test_map_and_scan_of_structures(sess: tf.Session) -> None:
    a, b = tf.constant(np.arange(12.0, dtype=np.float32).reshape(4, 3)), tf.constant([1, 2, 3, 4])
    total, largest = tf.map_fn(lambda e: (tf.reduce_sum(e[0]) * tf.cast(e[1], tf.float32), tf.reduce_max(e[0])), (a, b), dtype=(tf.float32, tf.float32))  # fmt: skip
    rows = np.arange(12.0).reshape(4, 3)
    got = sess.run((total, largest))
    near(got[0], rows.sum(1) * [1, 2, 3, 4])
    near(got[1], rows.max(1))
    fibonacci = tf.scan(lambda s, _: (s[1], s[0] + s[1]), tf.range(6), initializer=(tf.constant(0), tf.constant(1)))
    assert sess.run(fibonacci[0]).tolist() == [1, 1, 2, 3, 5, 8]


def test_gradient_through_scan(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None])
    ys = tf.scan(lambda a, v: a * v, x)
    near(sess.run(tf.gradients(tf.reduce_sum(ys), x)[0], {x: X}), [1 + 2 + 6 + 24, 1 + 3 + 12, 2 + 8, 6])


def test_random_numbers_of_a_body_differ_from_step_to_step(sess: tf.Session) -> None:
    draws = sess.run(tf.map_fn(lambda v: v * 0.0 + tf.random_uniform([50]), tf.zeros([6]), dtype=tf.float32))
    assert len({d.tobytes() for d in draws}) == 6 and abs(draws.mean() - 0.5) < 0.1
    outside = tf.random_uniform([])
    same = sess.run(tf.map_fn(lambda v: v * 0.0 + outside, tf.zeros([6])))
    assert len(set(same.tolist())) == 1


@pytest.mark.parametrize("time_major", [False, True])
def test_a_sequence_of_any_length(sess: tf.Session, time_major: bool) -> None:
    x = tf.placeholder(tf.float32, [None, None, 5])
    cell = tf.nn.rnn_cell.BasicRNNCell(3)
    outputs, last = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32, time_major=time_major)
    (slope,) = tf.gradients(tf.reduce_sum(outputs * outputs), cell.variables[0])
    sess.run(tf.global_variables_initializer())
    kernel, bias = sess.run(cell.variables)
    for steps, batch in ((1, 2), (6, 3), (50, 1)):
        series = np.random.default_rng(0).normal(size=(steps, batch, 5)).astype(np.float32)
        h, want = np.zeros((batch, 3)), []
        for s in series:
            h = np.tanh(np.concatenate([s, h], 1) @ kernel + bias)
            want.append(h)
        fed = series if time_major else series.transpose(1, 0, 2)
        got, end, _ = sess.run([outputs, last, slope], {x: fed})
        near(got, np.array(want) if time_major else np.array(want).transpose(1, 0, 2))
        near(end, h)


def test_a_loop_is_a_few_operations(sess: tf.Session) -> None:
    counts = []
    for steps in (3, 400):
        with tf.Graph().as_default() as graph:
            tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(4), tf.placeholder(tf.float32, [2, steps, 3]), dtype=tf.float32)
            counts.append(len(graph.get_operations()))
    assert counts[0] == counts[1]


def test_what_is_overridden_outside_is_seen_inside(sess: tf.Session) -> None:
    factor = tf.constant(2.0) * 1.0
    y = tf.scan(lambda a, v: a * factor + v, tf.constant(X))
    near(sess.run(y)[-1], ((1 * 2 + 2) * 2 + 3) * 2 + 4)
    near(sess.run(y, {factor: 0.0})[-1], 4)


def test_variables_are_read_in_a_body_and_not_written(sess: tf.Session) -> None:
    v = tf.Variable(3.0)
    y = tf.map_fn(lambda x: x * v, tf.constant(X))
    sess.run(tf.global_variables_initializer())
    near(sess.run(y), X * 3)
    with pytest.raises(GraphError, match="assigned to in the body of a loop"):
        sess.run(tf.map_fn(lambda x: x * tf.assign(v, x), tf.constant(X)))


def test_wrong_loops_say_what_is_wrong() -> None:
    with pytest.raises(TypeError, match="two functions"):
        tf.while_loop(True, lambda i: i, [0])
    with pytest.raises(ValueError, match="loop variables"):
        tf.while_loop(lambda: True, list, [])
    with pytest.raises(TypeError, match="becomes float32 in the body"):
        tf.while_loop(lambda i: i < 3, lambda i: tf.cast(i, tf.float32), [0])
    with pytest.raises(ShapeError, match=r"of shape \(2,\) becomes \(4,\)"):
        tf.while_loop(lambda i: tf.reduce_sum(i) < 3, lambda i: tf.concat([i, i], 0), [tf.constant([0, 0])])
    with pytest.raises(TypeError, match="a bool scalar"):
        tf.while_loop(lambda i: i, lambda i: i, [0])
    with pytest.raises(ValueError, match="returns 2 values for 1"):
        tf.while_loop(lambda i: i < 3, lambda i: (i, i), [0])
