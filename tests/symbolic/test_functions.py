"""Every function of the tables against numpy, and the functions of shapes against numpy's own."""

import math
from typing import Any

import numpy as np
import pytest

import tinyflow as tf
from tinyflow.core.config import config
from tinyflow.runtime import program
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic import nn as tf_nn

rng = np.random.RandomState(0)
A = rng.uniform(0.3, 2.5, (3, 4)).astype(np.float32)
B = rng.uniform(0.3, 2.5, (3, 4)).astype(np.float32)
SIGNED = rng.uniform(-2.5, 2.5, (3, 4)).astype(np.float32)
P, Q = A > 1.2, B > 1.2
ODD = np.array([[0.0, np.nan, np.inf], [-np.inf, 1.0, -2.0]], np.float32)
erf = np.vectorize(math.erf)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.log1p(np.exp(x))


def elu(x: Any) -> Any:
    return np.where(x > 0, x, np.exp(x) - 1)


# fmt: off
ELEMENTWISE = {  # name -> (what numpy says, operands)
    "add": (np.add, A, B), "subtract": (np.subtract, A, B), "multiply": (np.multiply, A, B),
    "divide": (np.divide, A, B), "truediv": (np.divide, A, B), "realdiv": (np.divide, A, B), "div": (np.divide, A, B),
    "floordiv": (np.floor_divide, SIGNED, B), "floor_div": (np.floor_divide, SIGNED, B), "truncatediv": (np.divide, A, B),
    "mod": (np.mod, SIGNED, B), "floormod": (np.mod, SIGNED, B), "pow": (np.power, A, B),
    "maximum": (np.maximum, A, B), "minimum": (np.minimum, A, B), "squared_difference": (lambda x, y: (x - y) ** 2, A, B),
    "square": (np.square, SIGNED), "sqrt": (np.sqrt, A), "rsqrt": (lambda x: 1 / np.sqrt(x), A), "exp": (np.exp, SIGNED),
    "expm1": (np.expm1, SIGNED), "log": (np.log, A), "log1p": (np.log1p, A), "abs": (np.abs, SIGNED),
    "negative": (np.negative, A), "sign": (np.sign, SIGNED), "reciprocal": (lambda x: 1 / x, A), "round": (np.rint, SIGNED),
    "rint": (np.rint, SIGNED), "floor": (np.floor, SIGNED), "ceil": (np.ceil, SIGNED), "sin": (np.sin, SIGNED),
    "cos": (np.cos, SIGNED), "tan": (np.tan, A / 3), "sinh": (np.sinh, SIGNED), "cosh": (np.cosh, SIGNED),
    "asin": (np.arcsin, A / 3), "acos": (np.arccos, A / 3), "atan": (np.arctan, SIGNED), "atan2": (np.arctan2, SIGNED, B), "asinh": (np.arcsinh, SIGNED),
    "acosh": (np.arccosh, A + 1), "atanh": (np.arctanh, A / 3),
    "tanh": (np.tanh, SIGNED), "sigmoid": (sigmoid, SIGNED), "log_sigmoid": (lambda x: np.log(sigmoid(x)), SIGNED),
    "erf": (erf, SIGNED), "erfc": (lambda x: 1 - erf(x), SIGNED),
    "is_nan": (np.isnan, ODD), "is_inf": (np.isinf, ODD), "is_finite": (np.isfinite, ODD),
    "equal": (np.equal, P, Q), "not_equal": (np.not_equal, A, B), "less": (np.less, A, B), "less_equal": (np.less_equal, A, A),
    "greater": (np.greater, A, B), "greater_equal": (np.greater_equal, A, A), "logical_and": (np.logical_and, P, Q),
    "logical_or": (np.logical_or, P, Q), "logical_xor": (np.logical_xor, P, Q), "logical_not": (np.logical_not, P),
    "stop_gradient": (lambda x: x, A), "identity": (lambda x: x, A), "clip_by_value": (np.clip, SIGNED, np.float32(-1), np.float32(1)),
}
ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), SIGNED), "relu6": (lambda x: np.clip(x, 0, 6), SIGNED * 5), "elu": (elu, SIGNED),
    "selu": (lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)), SIGNED),
    "softplus": (softplus, SIGNED), "softsign": (lambda x: x / (1 + np.abs(x)), SIGNED), "swish": (lambda x: x * sigmoid(x), SIGNED),
    "crelu": (lambda x: np.maximum(np.concatenate([x, -x], -1), 0), SIGNED), "tanh": (np.tanh, SIGNED), "sigmoid": (sigmoid, SIGNED),
    "l2_loss": (lambda x: (x**2).sum() / 2, SIGNED), "zero_fraction": (lambda x: (x == 0).mean(), np.float32([0, 1, 0, 2])),
}
REDUCTIONS = {
    "reduce_sum": (np.sum, SIGNED), "reduce_mean": (np.mean, SIGNED), "reduce_max": (np.max, SIGNED), "reduce_min": (np.min, SIGNED),
    "reduce_prod": (np.prod, A), "reduce_any": (np.any, P), "reduce_all": (np.all, P),
    "reduce_logsumexp": (lambda x, axis=None, keepdims=False: np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims)), SIGNED),
}
# fmt: on


def run(*fetches: Any, **feeds: Any) -> Any:
    with config(REFERENCE=1):
        return tf.Session().run(fetches[0] if len(fetches) == 1 else list(fetches), feeds.get("feed_dict"))


def agrees(tensor: tf.Tensor, wanted: Any, feed_dict: Any = None) -> None:
    got = run(tensor, feed_dict=feed_dict)
    wanted = np.asarray(wanted)
    assert np.shape(got) == wanted.shape
    if tensor.node is not None:
        assert tensor.shape.is_compatible_with(wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-6)


def test_every_row_is_tested() -> None:
    assert set(ELEMENTWISE) == set(tf_math.ELEMENTWISE)
    assert set(ACTIVATIONS) == set(tf_nn.ACTIVATIONS)
    assert set(REDUCTIONS) == set(tf_math.REDUCTIONS)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str) -> None:
    meaning, *operands = ELEMENTWISE[name]
    agrees(getattr(tf, name)(*map(tf.constant, operands)), meaning(*operands))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    meaning, x = ACTIVATIONS[name]
    agrees(getattr(tf.nn, name)(tf.constant(x)), meaning(x))


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axis", [None, 0, -1, [0, 1], (1,)])
@pytest.mark.parametrize("keep", [False, True])
def test_reduction(name: str, axis: Any, keep: bool) -> None:
    meaning, x = REDUCTIONS[name]
    wanted = meaning(x, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keep)
    fn = getattr(tf, name)
    agrees(fn(x, axis, keep), wanted)
    agrees(fn(x, reduction_indices=axis, keep_dims=keep), wanted)
    agrees(fn(x, tf.constant(axis) if axis is not None else None, keepdims=keep), wanted)


def test_arguments_by_name_and_in_order() -> None:
    assert tf.add(1.0, 2.0, "sum").name == "sum:0"
    assert tf.nn.relu(features=[1.0], name="r").name == "r:0"
    with pytest.raises(TypeError, match="x, y, name"):
        tf.add(1.0, 2.0, 3.0, 4.0)
    with pytest.raises(TypeError, match="'y'"):
        tf.add(1.0)
    with pytest.raises(TypeError, match="z"):
        tf.add(1.0, z=2.0)


def test_integers() -> None:
    x, y = tf.constant([7, -7, 8]), tf.constant([2, 2, 3])
    assert run(x // y).tolist() == [3, -4, 2]
    assert run(x % y).tolist() == [1, 1, 2]
    assert run(tf.div(x, y)).tolist() == [3, -4, 2]
    assert run(tf.truncatediv(x, y)).tolist() == [3, -3, 2]
    quotient = run(x / y)
    assert quotient.dtype == np.float64 and quotient.tolist() == [3.5, -3.5, 8 / 3]
    assert run(x**2).tolist() == [49, 49, 64]
    assert run(tf.reduce_mean(tf.constant([1, 2, 6]))) == 3
    assert run(tf.square(x)).dtype == np.int32


OPERATORS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "**": lambda a, b: a**b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}  # fmt: skip


@pytest.mark.parametrize("sign", OPERATORS)
def test_operators(sign: str) -> None:
    fn = OPERATORS[sign]
    agrees(fn(tf.constant(A), tf.constant(B)), fn(A, B))
    agrees(fn(tf.constant(A), 2.0), fn(A, np.float32(2.0)))
    agrees(fn(2.0, tf.constant(A)), fn(np.float32(2.0), A))
    agrees(fn(A, tf.constant(B)), fn(A, B))
    agrees(fn(tf.constant(A), B.astype(np.float64)), fn(A, B))


def test_other_operators() -> None:
    agrees(-tf.constant(A), -A)
    agrees(abs(tf.constant(SIGNED)), abs(SIGNED))
    agrees(tf.constant(P) & tf.constant(Q), P & Q)
    agrees(tf.constant(P) | tf.constant(Q), P | Q)
    agrees(tf.constant(P) ^ tf.constant(Q), P ^ Q)
    agrees(~tf.constant(P), ~P)
    agrees(tf.constant(A) @ tf.constant(B.T), A @ B.T)


X = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
KEYS = [
    0, -1, (1, 2), (slice(None), 1), (slice(1, 3), slice(None, None, 2)), (..., 0), (0, ...), (slice(None, None, -1),), (None, 0),
    (slice(None), None, slice(-3, -1)), (..., None), slice(2, 1), (slice(-2, None), slice(3, 0, -2)), (0, 1, 2), slice(10), slice(-10, None),
    (slice(None), slice(None, -1), -1),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_brackets(key: Any) -> None:
    agrees(tf.constant(X)[key], X[key])
    unsized = tf.placeholder(tf.float32, [None, None, 5])
    agrees(unsized[key], X[key], {unsized: X})
    unranked = tf.placeholder(tf.float32)
    agrees(unranked[key], X[key], {unranked: X})


def test_brackets_with_tensors() -> None:
    i, j = tf.placeholder(tf.int32, []), tf.constant(2)
    x = tf.constant(X)
    for k in (0, 1, -1):
        np.testing.assert_array_equal(run(x[i], feed_dict={i: k}), X[k])
        np.testing.assert_array_equal(run(x[:, i, ::2], feed_dict={i: k}), X[:, k, ::2])
    for k in (0, 1, 2):
        np.testing.assert_array_equal(run(x[i:, :i], feed_dict={i: k}), X[k:, :k])
    np.testing.assert_array_equal(run(x[j, j]), X[2, 2])
    np.testing.assert_array_equal(run(x[:j]), X[:2])
    with pytest.raises(ValueError, match="index 3"):
        x[3]
    with pytest.raises(TypeError, match="gather"):
        x[[0, 1]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="7"):
        run(x[i], feed_dict={i: 7})


# fmt: off
SHAPES: dict[str, Any] = {  # name -> (tensor of x, what numpy says)
    "reshape": (lambda x: tf.reshape(x, [-1, 6]), X.reshape(-1, 6)),
    "reshape by tensor": (lambda x: tf.reshape(x, [tf.shape(x)[0], -1]), X.reshape(3, -1)),
    "reshape by constant": (lambda x: tf.reshape(x, tf.constant([5, 12])), X.reshape(5, 12)),
    "reshape by product": (lambda x: tf.reshape(x, [tf.shape(x)[0] * tf.shape(x)[1], 5]), X.reshape(12, 5)),
    "reshape by concat": (lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:1], [20]], 0)), X.reshape(3, 20)),
    "expand_dims": (lambda x: tf.expand_dims(x, 1), X[:, None]),
    "expand_dims last": (lambda x: tf.expand_dims(x, dim=-1), X[..., None]),
    "squeeze": (lambda x: tf.squeeze(tf.expand_dims(x, 0), [0]), X),
    "transpose": (lambda x: tf.transpose(x), X.T),
    "transpose by order": (lambda x: tf.transpose(x, [1, 0, 2]), X.transpose(1, 0, 2)),
    "concat": (lambda x: tf.concat([x, x], 1), np.concatenate([X, X], 1)),
    "concat of old": (lambda x: tf.concat(1, [x, x]), np.concatenate([X, X], 1)),
    "stack": (lambda x: tf.stack([x, x], axis=-1), np.stack([X, X], -1)),
    "unstack": (lambda x: tf.unstack(x, axis=2)[3], X[..., 3]),
    "split": (lambda x: tf.split(x, 2, 1)[1], X[:, 2:]),
    "split by sizes": (lambda x: tf.split(x, [1, -1, 2], axis=2)[1], X[:, :, 1:3]),
    "slice": (lambda x: tf.slice(x, [1, 0, 2], [2, -1, 1]), X[1:3, :, 2:3]),
    "strided_slice": (lambda x: tf.strided_slice(x, [2, 1, 0], [0, 3, 5], [-1, 1, 2], end_mask=1), X[2::-1, 1:3, ::2]),
    "strided_slice by masks": (lambda x: tf.strided_slice(x, [1, 0, -2], [0, 0, 0], shrink_axis_mask=1, ellipsis_mask=2, end_mask=4), X[1, ..., -2:]),
    "reverse": (lambda x: tf.reverse(x, [0, 2]), X[::-1, :, ::-1]),
    "pad": (lambda x: tf.pad(x, [[1, 0], [0, 2], [1, 1]], constant_values=3), np.pad(X, [(1, 0), (0, 2), (1, 1)], constant_values=3)),
    "pad reflected": (lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 0]], "REFLECT"), np.pad(X, [(0, 0), (2, 1), (0, 0)], "reflect")),
    "pad symmetric": (lambda x: tf.pad(x, [[0, 0], [2, 1], [0, 0]], "SYMMETRIC"), np.pad(X, [(0, 0), (2, 1), (0, 0)], "symmetric")),
    "tile": (lambda x: tf.tile(x, [2, 1, 3]), np.tile(X, (2, 1, 3))),
    "tile by tensor": (lambda x: tf.tile(x[:1], [tf.shape(x)[0], 1, 1]), np.tile(X[:1], (3, 1, 1))),
    "gather": (lambda x: tf.gather(x, [2, 0, 2]), X[[2, 0, 2]]),
    "gather along an axis": (lambda x: tf.gather(x, [[0, 3]], axis=1), X[:, [[0, 3]]]),
    "gather_nd": (lambda x: tf.gather_nd(x, [[0, 1], [2, 3]]), X[[0, 2], [1, 3]]),
    "where": (lambda x: tf.where(x > 20, x, -x), np.where(X > 20, X, -X)),
    "where by rows": (lambda x: tf.where(tf.constant([True, False, True]), x, -x), np.where(np.array([True, False, True])[:, None, None], X, -X)),
    "zeros_like": (lambda x: tf.zeros_like(x), np.zeros_like(X)),
    "ones_like": (lambda x: tf.ones_like(x, dtype=tf.int32), np.ones(X.shape, int)),
    "zeros of a shape": (lambda x: tf.zeros([tf.shape(x)[0], 2]), np.zeros((3, 2))),
    "fill": (lambda x: tf.fill(tf.shape(x)[1:], 7.0), np.full((4, 5), 7.0)),
    "shape": (lambda x: tf.shape(x), [3, 4, 5]),
    "size": (lambda x: tf.size(x), 60),
    "rank": (lambda x: tf.rank(x), 3),
    "broadcast_to": (lambda x: tf.broadcast_to(x[0, 0], tf.shape(x)), np.broadcast_to(X[0, 0], X.shape)),
    "argmax": (lambda x: tf.argmax(x, 1), X.argmax(1)),
    "argmin": (lambda x: tf.argmin(x, axis=-1, output_type=tf.int32), X.argmin(-1)),
    "arg_max": (lambda x: tf.arg_max(x, 0), X.argmax(0)),
    "norm": (lambda x: tf.norm(x), np.linalg.norm(X)),
    "cumsum": (lambda x: tf.cumsum(x, 1), X.cumsum(1)),
    "cumprod": (lambda x: tf.cumprod(x, 1, exclusive=True), np.concatenate([np.ones_like(X[:, :1]), X.cumprod(1)[:, :-1]], 1)),
    "sort": (lambda x: tf.sort(x, 1, "DESCENDING"), -np.sort(-X, 1)),
    "argsort": (lambda x: tf.argsort(x), X.argsort(-1)),
    "searchsorted": (lambda x: tf.searchsorted(tf.sort(x), x, "right"), X.argsort(-1).argsort(-1) + 1),
    "cumsum reversed": (lambda x: tf.cumsum(x, 2, exclusive=True, reverse=True), X[..., ::-1].cumsum(2)[..., ::-1] - X),
    "add_n": (lambda x: tf.add_n([x, x, x]), 3 * X),
    "cast": (lambda x: tf.cast(x / 7, tf.int32), (X / 7).astype(int)),
    "to_float": (lambda x: tf.to_float(x > 30), (X > 30).astype(float)),
    "matmul": (lambda x: tf.matmul(x, x, transpose_b=True), X @ X.transpose(0, 2, 1)),
    "tensordot": (lambda x: tf.tensordot(x, x, [[0, 1], [0, 1]]), np.tensordot(X, X, [[0, 1], [0, 1]])),
    "tensordot by one": (lambda x: tf.tensordot(x, tf.ones([5, 2]), 1), X @ np.ones((5, 2))),
    "einsum": (lambda x: tf.einsum("bij,bkj->ik", x, x), np.einsum("bij,bkj->ik", X, X)),
    "einsum of three": (lambda x: tf.einsum("bij,bkj,k->bi", x, x, [1.0, 2, 3, 4]), np.einsum("bij,bkj,k->bi", X, X, np.array([1.0, 2, 3, 4]))),
    "one_hot": (lambda x: tf.one_hot(tf.cast(x[0, 0], tf.int64), 4), np.eye(5)[:, :4]),
    "clip_by_norm": (lambda x: tf.clip_by_norm(x, 3.0), X * 3 / np.linalg.norm(X)),
    "clip_by_norm of short": (lambda x: tf.clip_by_norm(x, 1e6), X),
    "count_nonzero": (lambda x: tf.count_nonzero(x), 59),
    "diagonal": (lambda x: tf.matrix_diag_part(x[:, :3, :3]), np.einsum("bii->bi", X[:, :3, :3])),
    "trace": (lambda x: tf.trace(x[:, :3, :3]), np.einsum("bii->b", X[:, :3, :3])),
    "sequence_mask": (lambda x: tf.sequence_mask(tf.to_int32(x[0, 0]), 3), np.arange(3) < np.arange(5)[:, None]),
}
# fmt: on


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    """On a constant, on a placeholder whose sizes are open, and on one whose rank is."""
    make, wanted = SHAPES[name]
    agrees(make(tf.constant(X)), wanted)
    unsized = tf.placeholder(tf.float32, [None, 4, 5])
    agrees(make(unsized), wanted, {unsized: X})
    if name not in ("unstack",):  # its number of results must be known
        unranked = tf.placeholder(tf.float32)
        agrees(make(unranked), wanted, {unranked: X})


FILLED: dict[str, Any] = {
    "zeros": (lambda: tf.zeros([2, 3]), np.zeros((2, 3))), "ones": (lambda: tf.ones((2,), tf.int32), np.ones(2)), "scalar": (lambda: tf.zeros([]), 0.0),
    "zeros of one size": (lambda: tf.zeros(4), np.zeros(4)), "range": (lambda: tf.range(5), np.arange(5)), "range from": (lambda: tf.range(2, 10, 3), np.arange(2, 10, 3)),
    "range down": (lambda: tf.range(5, 0, -2), np.arange(5, 0, -2)), "range of floats": (lambda: tf.range(0.0, 1.0, 0.25), np.arange(0, 1, 0.25)),
    "empty range": (lambda: tf.range(3, 1), np.arange(0)), "linspace": (lambda: tf.linspace(-1.0, 1.0, 5), np.linspace(-1, 1, 5)), "eye": (lambda: tf.eye(3, 4), np.eye(3, 4)),
    "eyes": (lambda: tf.eye(2, batch_shape=[3]), np.stack([np.eye(2)] * 3)), "diag": (lambda: tf.diag([1.0, 2.0]), np.diag([1.0, 2.0])),
    "constant in a shape": (lambda: tf.constant(3.0, shape=[2, 2]), np.full((2, 2), 3.0)), "constant filled up": (lambda: tf.constant([1, 2], shape=[4]), [1, 2, 2, 2]),
    "band": (lambda: tf.matrix_band_part(tf.ones([3, 3]), 0, -1), np.triu(np.ones((3, 3)))), "matrix_diag": (lambda: tf.matrix_diag([[1.0, 2], [3, 4]]), [np.diag([1, 2]), np.diag([3, 4])]),
    "packed": (lambda: tf.convert_to_tensor([[tf.constant(1.0), 2.0], [3.0, 4.0]]), [[1, 2], [3, 4]]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILLED)
def test_filled(name: str) -> None:
    make, wanted = FILLED[name]
    agrees(make(), wanted)


def test_sizes_by_value() -> None:
    """An int that is fed can be a size; another value compiles nothing anew."""
    n = tf.placeholder(tf.int32, [])
    x = tf.zeros([n, 3]) + tf.to_float(tf.range(n))[:, None]
    assert x.shape.as_list() == [None, 3]
    with config(REFERENCE=1), tf.Session() as sess:
        for k in (3, 0, 5):
            np.testing.assert_array_equal(sess.run(x, {n: k}), np.zeros((k, 3)) + np.arange(k)[:, None])
        assert sess.run(tf.shape(x), {n: 4}).tolist() == [4, 3]
        with pytest.raises(tf.errors.InvalidArgumentError, match="-2"):
            sess.run(x, {n: -2})
        shape = tf.placeholder(tf.int32, [2])
        np.testing.assert_array_equal(sess.run(tf.ones(shape), {shape: [2, 4]}), np.ones((2, 4)))
        unknown = tf.placeholder(tf.int32)
        np.testing.assert_array_equal(sess.run(tf.ones(unknown), {unknown: [2, 4, 1]}), np.ones((2, 4, 1)))


def test_types_of_constants() -> None:
    types = [
        (1.5, tf.float32),
        (2, tf.int32),
        (2**40, tf.int64),
        (True, tf.bool),
        (np.float64(1), tf.float64),
        (np.int64(3), tf.int64),
    ]
    for value, dtype in types:
        assert tf.constant(value).dtype is dtype
    assert tf.constant([1.0, 2]).dtype is tf.float32
    assert tf.constant(np.zeros(3)).dtype is tf.float64
    assert tf.constant([[1], [2]], tf.float64).dtype is tf.float64
    with pytest.raises(TypeError, match="float"):
        tf.constant(1.5, tf.int32)
    with pytest.raises(TypeError, match="float"):
        tf.constant([1, 2]) + 0.5
    with pytest.raises(ValueError, match="equal length"):
        tf.constant([[1], [2, 3]])
    with pytest.raises(ValueError, match="None"):
        tf.constant(None)
    with pytest.raises(TypeError, match="object"):
        tf.constant(object())


# ------------------------------------------------------------------------------------------ computed again


def deep(again: bool) -> tuple[list[np.ndarray], int]:
    """The gradients of layers one upon the other, and the bytes of the arena."""
    program.ARENAS.clear()
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [512, 512])
        h = x

        def layer(h: Any, scale: float = 1.0) -> Any:
            w = tf.get_variable("w", [512, 512], initializer=tf.random_normal_initializer(stddev=0.04, seed=1))
            return h + tf.cos(tf.matmul(tf.sin(tf.tanh(tf.matmul(h, w))), w)) * scale

        for k in range(6):
            with tf.variable_scope(f"layer{k}"):
                h = (tf.recompute_grad(layer) if again else layer)(h, scale=0.5)
        found = tf.gradients(tf.reduce_mean(h * h), [x, *tf.trainable_variables()])
        sess.run(tf.global_variables_initializer())
        values = sess.run(found, {x: np.random.default_rng(0).standard_normal((512, 512), np.float32)})
        return values, max(a.bytes for a in program.ARENAS)


def test_recompute_grad() -> None:
    (plain, kept), (again, fewer) = deep(False), deep(True)
    for a, b in zip(plain, again):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())
    assert fewer < 0.8 * kept


def test_recompute_grad_of_many_results(graph: tf.Graph) -> None:
    x, n = tf.constant([1.0, 2.0, 3.0]), tf.constant([1, 2, 3])

    @tf.contrib.layers.recompute_grad
    def both(x: Any, n: Any) -> Any:
        return tf.exp(x) * tf.cast(n, tf.float32), [x, n * 2]

    y, (same, twice) = both(x, n)
    (g,) = tf.gradients([y, same], [x])
    sess = tf.Session()
    assert sess.run(twice).tolist() == [2, 4, 6]
    np.testing.assert_allclose(sess.run(g), np.exp([1, 2, 3]) * [1, 2, 3] + 1, rtol=1e-6)


def test_gather_nd_along_batches():
    x, i = np.arange(24.0).reshape(2, 3, 4), np.array([[[2, 1], [0, 3]], [[1, 1], [2, 0]]])
    with tf.Graph().as_default(), tf.Session() as sess:
        found = sess.run([tf.gather_nd(x, i, batch_dims=1), tf.gather_nd(x, i[..., :1], batch_dims=1)])
        with pytest.raises(ValueError, match="the first 1 sizes"):
            tf.gather_nd(x, i[:1], batch_dims=1)
    np.testing.assert_array_equal(found[0], [[x[b, a, c] for a, c in i[b]] for b in range(2)])
    np.testing.assert_array_equal(found[1], [[x[b, a] for a in i[b, :, 0]] for b in range(2)])


def test_conv1d_channels_first():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 7, 3)), rng.normal(size=(3, 3, 4))
    with tf.Graph().as_default(), tf.Session() as sess:
        want = tf.nn.conv1d(x, w, stride=2, padding="SAME")
        got = tf.nn.conv1d(
            np.ascontiguousarray(x.transpose(0, 2, 1)), w, stride=[1, 1, 2], padding="SAME", data_format="NCW"
        )
        want, got = sess.run([want, got])
    np.testing.assert_allclose(got.transpose(0, 2, 1), want, rtol=1e-12)
