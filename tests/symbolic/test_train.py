"""Optimizers against their formulas in numpy, gradients, and schedules."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinyflow as tf

FIRST = np.array([1.0, -2.0, 3.0], np.float64)
STEPS = 4


def slope(v: np.ndarray, t: int) -> np.ndarray:
    """The gradient of sum(v^2 x_t), with a factor that differs from step to step."""
    return 2 * v * (t + 1)


def descend(v: np.ndarray, update: Callable[..., np.ndarray]) -> np.ndarray:
    state: dict[str, Any] = {}
    for t in range(STEPS):
        v = update(v, slope(v, t), state, t + 1)
    return v


def sgd(v: Any, g: Any, s: Any, t: int) -> Any:
    return v - 0.1 * g


def momentum(v: Any, g: Any, s: Any, t: int) -> Any:
    s["a"] = 0.9 * s.get("a", 0) + g
    return v - 0.01 * s["a"]


def nesterov(v: Any, g: Any, s: Any, t: int) -> Any:
    s["a"] = 0.9 * s.get("a", 0) + g
    return v - 0.01 * (g + 0.9 * s["a"])


def adam(v: Any, g: Any, s: Any, t: int) -> Any:
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    return v - 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * s["m"] / (np.sqrt(s["v"]) + 1e-8)


def adagrad(v: Any, g: Any, s: Any, t: int) -> Any:
    s["a"] = s.get("a", 0.1) + g * g
    return v - 0.1 * g / np.sqrt(s["a"])


def adadelta(v: Any, g: Any, s: Any, t: int) -> Any:
    s["a"] = 0.95 * s.get("a", 0) + 0.05 * g * g
    d = np.sqrt(s.get("u", 0) + 1e-8) / np.sqrt(s["a"] + 1e-8) * g
    s["u"] = 0.95 * s.get("u", 0) + 0.05 * d * d
    return v - d


def rmsprop(v: Any, g: Any, s: Any, t: int) -> Any:
    s["r"] = 0.9 * s.get("r", 1) + 0.1 * g * g
    s["a"] = 0.5 * s.get("a", 0) + 0.1 * g / np.sqrt(s["r"] + 1e-10)
    return v - s["a"]


def centered(v: Any, g: Any, s: Any, t: int) -> Any:
    s["r"] = 0.9 * s.get("r", 1) + 0.1 * g * g
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    return v - 0.1 * g / np.sqrt(s["r"] - s["m"] ** 2 + 1e-10)


# fmt: off
OPTIMIZERS: dict[str, Any] = {
    "GradientDescent": (lambda: tf.train.GradientDescentOptimizer(0.1), sgd),
    "Momentum":        (lambda: tf.train.MomentumOptimizer(0.01, 0.9), momentum),
    "Nesterov":        (lambda: tf.train.MomentumOptimizer(0.01, 0.9, use_nesterov=True), nesterov),
    "Adam":            (lambda: tf.train.AdamOptimizer(0.1), adam),
    "Adagrad":         (lambda: tf.train.AdagradOptimizer(0.1), adagrad),
    "Adadelta":        (lambda: tf.train.AdadeltaOptimizer(1.0), adadelta),
    "RMSProp":         (lambda: tf.train.RMSPropOptimizer(0.1, momentum=0.5), rmsprop),
    "centered":        (lambda: tf.train.RMSPropOptimizer(0.1, centered=True), centered),
    "a rate that is fed": (lambda: tf.train.GradientDescentOptimizer(tf.placeholder_with_default(0.1, [])), sgd),
}
# fmt: on


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_against_the_formula(name: str, dtype: Any) -> None:
    make, update = OPTIMIZERS[name]
    v, t = tf.Variable(FIRST, dtype=dtype), tf.placeholder(dtype, [])
    count = tf.train.get_or_create_global_step()
    step = make().minimize(tf.reduce_sum(v * v) * t, global_step=count)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for k in range(STEPS):
            assert sess.run(step, {t: k + 1}) is None
        np.testing.assert_allclose(sess.run(v), descend(FIRST, update), rtol=1e-4)
        assert sess.run(count) == STEPS == tf.train.global_step(sess, count)


def test_slots_and_their_names() -> None:
    v = tf.Variable(1.0, name="v")
    adam = tf.train.AdamOptimizer()
    step = adam.minimize(v * v)
    assert [x.name for x in tf.global_variables()] == [
        "v:0",
        "beta1_power:0",
        "beta2_power:0",
        "v/Adam:0",
        "v/Adam_1:0",
    ]
    assert tf.trainable_variables() == [v]
    assert adam.get_slot_names() == ["m", "v"] and adam.get_slot(v, "v").name == "v/Adam_1:0"
    assert step.name == "Adam" and step.type == "NoOp"
    assert {x.name for x in adam.variables()} == {"beta1_power:0", "beta2_power:0", "v/Adam:0", "v/Adam_1:0"}


def test_gradients_can_be_changed_between() -> None:
    v, w = tf.Variable([3.0, 4.0]), tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    pairs = optimizer.compute_gradients(tf.reduce_sum(v * v) / 2)
    assert [x for _, x in pairs] == [v, w] and pairs[1][0] is None
    clipped, norm = tf.clip_by_global_norm([g for g, _ in pairs], 1.0)
    assert clipped[1] is None
    step = optimizer.apply_gradients(zip(clipped, [v, w], strict=True))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(norm) == 5
        sess.run(step)
        np.testing.assert_allclose(sess.run(v), [3 - 0.6, 4 - 0.8], rtol=1e-6)


def test_only_some_variables() -> None:
    v, w = tf.Variable(1.0), tf.Variable(1.0)
    step = tf.train.GradientDescentOptimizer(0.5).minimize(v * w, var_list=[w])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(step)
        assert sess.run([v, w]) == [1, 0.5]


def test_steps_of_two_optimizers_both_count() -> None:
    v = tf.Variable(3.0)
    steps = [tf.train.GradientDescentOptimizer(0.1).minimize(loss) for loss in (v * v, 2 * v)]
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(steps)
        np.testing.assert_allclose(sess.run(v), 3 - 0.6 - 0.2, rtol=1e-6)


def test_no_gradient_says_where_the_path_breaks() -> None:
    v, other = tf.Variable([1.0, 2.0], name="v"), tf.Variable(1.0, name="other")
    loss = tf.reduce_mean(tf.cast(tf.argmax(v, 0, name="choice"), tf.float32), name="loss")
    with pytest.raises(ValueError, match=r"(?s)No gradients provided for any variable: 'loss:0'") as error:
        tf.train.AdamOptimizer().minimize(loss)
    text = str(error.value)
    assert "v:0: the path ends at" in text and "test_train.py" in text
    assert "other:0: the loss does not depend on it" in text
    with pytest.raises(ValueError, match="no variables"):
        tf.train.AdamOptimizer().minimize(loss, var_list=[])
    assert other is not None


# ------------------------------------------------------------------------------------------ gradients


def test_gradients() -> None:
    x, y = tf.placeholder(tf.float32, [3]), tf.placeholder(tf.float32, [3])
    z = x * y
    dx, dy = tf.gradients(z, [x, y])
    assert tf.gradients(z, [tf.constant(1.0)]) == [None] and tf.gradients(tf.stop_gradient(z), x) == [None]
    (weighted,) = tf.gradients(z, x, grad_ys=[tf.constant([1.0, 10.0, 100.0])])
    (stopped,) = tf.gradients(z * x, x, stop_gradients=[z])
    (of_two,) = tf.gradients([z, x], x)
    (zero,) = tf.gradients(z, tf.constant(1.0), unconnected_gradients="zero")
    with tf.Session() as sess:
        got = sess.run([dx, dy, weighted, stopped, of_two, zero], {x: [1, 2, 3], y: [4, 5, 6]})
        assert [np.ravel(g).tolist() for g in got] == [[4, 5, 6], [1, 2, 3], [4, 50, 600], [4, 10, 18], [5, 6, 7], [0]]
    with pytest.raises(TypeError, match="int32"):
        tf.gradients(tf.constant(1), x)


def test_a_gradient_is_with_respect_to_one_tensor() -> None:
    """Equal tensors share a node, and yet are different tensors."""
    a, b = tf.constant(3.0), tf.constant(3.0)
    product = a * b
    v = tf.Variable(2.0)
    one, two = tf.identity(v), tf.identity(v)
    squares = tf.square(v), tf.square(v)
    total = one * two * two + squares[0] * squares[1]
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run(tf.gradients(product, [a, b])) == [3, 3]
        assert sess.run(tf.gradients(product * 3.0, a)) == [9]
        assert sess.run(tf.gradients(total, [one, two, v, *squares])) == [4, 8, 12 + 32, 4, 4]


def test_second_order() -> None:
    x = tf.placeholder(tf.float32, [])
    y = x**3.0
    (d,) = tf.gradients(y, x)
    (dd,) = tf.gradients(d, x)
    h = tf.square(x)
    (dh,) = tf.gradients(h * h, h)
    (ddh,) = tf.gradients(dh, x)
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run([d, dd, dh, ddh], {x: 2.0}), [12, 12, 8, 8], rtol=1e-5)


# ------------------------------------------------------------------------------------------ schedules

DECAYS: dict[str, Any] = {
    "exponential": (lambda t: tf.train.exponential_decay(0.1, t, 10, 0.5), lambda t: 0.1 * 0.5 ** (t / 10)),
    "staircase": (
        lambda t: tf.train.exponential_decay(0.1, t, 10, 0.5, staircase=True),
        lambda t: 0.1 * 0.5 ** (t // 10),
    ),
    "natural": (lambda t: tf.train.natural_exp_decay(0.1, t, 10, 0.5), lambda t: 0.1 * np.exp(-0.05 * t)),
    "inverse": (lambda t: tf.train.inverse_time_decay(0.1, t, 10, 0.5), lambda t: 0.1 / (1 + 0.05 * t)),
    "polynomial": (
        lambda t: tf.train.polynomial_decay(0.1, t, 20, 0.01, power=2.0),
        lambda t: 0.09 * (1 - min(t, 20) / 20) ** 2 + 0.01,
    ),
    "cosine": (lambda t: tf.train.cosine_decay(0.1, t, 20), lambda t: 0.05 * (1 + np.cos(np.pi * min(t, 20) / 20))),
    "piecewise": (
        lambda t: tf.train.piecewise_constant(t, [5, 15], [1.0, 0.5, 0.1]),
        lambda t: 1.0 if t <= 5 else 0.5 if t <= 15 else 0.1,
    ),
}


@pytest.mark.parametrize("name", DECAYS)
def test_decays(name: str) -> None:
    make, wanted = DECAYS[name]
    t = tf.placeholder(tf.int32, [])
    rate = make(t)
    with tf.Session() as sess:
        for k in (0, 5, 10, 15, 25):
            np.testing.assert_allclose(sess.run(rate, {t: k}), wanted(k), rtol=1e-5, atol=1e-8)


def test_moving_average() -> None:
    v = tf.Variable(10.0, name="v")
    average = tf.train.ExponentialMovingAverage(0.9)
    with tf.control_dependencies([v.assign_add(10.0)]):
        step = average.apply([v])
    assert average.average(v).name == "v/ExponentialMovingAverage:0" == average.average_name(v) + ":0"
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(step)
        np.testing.assert_allclose(sess.run(average.average(v)), 0.9 * 10 + 0.1 * 20, rtol=1e-6)
