"""Networks: losses on logits, images, normalisation, layers and recurrent cells, against numpy written out."""

import itertools
from typing import Any

import numpy as np
import pytest

import tinyflow as tf
from tinyflow.core.config import config

rng = np.random.RandomState(0)


@pytest.fixture
def sess(graph: tf.Graph) -> Any:
    with config(REFERENCE=1), tf.Session() as session:
        yield session


def near(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    assert np.shape(got) == np.shape(wanted)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# ------------------------------------------------------------------------------------------ logits

LOGITS = rng.normal(size=(4, 5)).astype(np.float32)
LABELS = softmax(rng.normal(size=(4, 5))).astype(np.float32)
CLASSES = np.array([0, 4, 2, 2])


def test_softmax(sess: tf.Session) -> None:
    near(sess.run(tf.nn.softmax(LOGITS)), softmax(LOGITS))
    near(sess.run(tf.nn.softmax(LOGITS, 0)), softmax(LOGITS.T).T)
    near(sess.run(tf.nn.softmax(LOGITS, dim=0)), softmax(LOGITS.T).T)
    near(sess.run(tf.nn.log_softmax(logits=LOGITS)), np.log(softmax(LOGITS)))


def test_cross_entropies(sess: tf.Session) -> None:
    z, y = tf.constant(LOGITS), tf.constant(LABELS)
    wanted = -(LABELS * np.log(softmax(LOGITS))).sum(-1)
    first = tf.nn.softmax_cross_entropy_with_logits(labels=y, logits=z)
    second = tf.nn.softmax_cross_entropy_with_logits_v2(labels=y, logits=z)
    near(sess.run(first), wanted)
    near(sess.run(second), wanted)
    assert tf.gradients(first, y) == [None] and tf.gradients(second, y) != [None]
    near(sess.run(tf.gradients(first, z)[0]), softmax(LOGITS) - LABELS)
    for dtype in (tf.int32, tf.int64):
        sparse = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.constant(CLASSES, dtype), logits=z)
        near(sess.run(sparse), -np.log(softmax(LOGITS))[range(4), CLASSES])
    wanted = -LABELS * np.log(sigmoid(LOGITS)) - (1 - LABELS) * np.log(1 - sigmoid(LOGITS))
    near(sess.run(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z)), wanted)
    wanted = -3 * LABELS * np.log(sigmoid(LOGITS)) - (1 - LABELS) * np.log(1 - sigmoid(LOGITS))
    near(sess.run(tf.nn.weighted_cross_entropy_with_logits(y, z, 3.0)), wanted)
    for bad in (
        lambda: tf.nn.softmax_cross_entropy_with_logits(y, z),
        lambda: tf.nn.sigmoid_cross_entropy_with_logits(logits=z),
    ):
        with pytest.raises(ValueError, match="by name"):
            bad()
    with pytest.raises(ValueError, match="one axis less"):
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z)


def test_large_logits_stay_finite(sess: tf.Session) -> None:
    z = tf.constant([[1000.0, -1000.0]])
    near(sess.run(tf.nn.softmax_cross_entropy_with_logits(labels=tf.constant([[0.0, 1.0]]), logits=z)), [2000.0])
    near(sess.run(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.zeros([1, 2]), logits=z)), [[1000.0, 0.0]])


LOSSES: dict[str, Any] = {
    "mean_squared_error": (lambda w: tf.losses.mean_squared_error(LABELS, LOGITS, w), (LOGITS - LABELS) ** 2),
    "absolute_difference": (lambda w: tf.losses.absolute_difference(LABELS, LOGITS, w), abs(LOGITS - LABELS)),
    "sigmoid_cross_entropy": (lambda w: tf.losses.sigmoid_cross_entropy(LABELS, LOGITS, w), -LABELS * np.log(sigmoid(LOGITS)) - (1 - LABELS) * np.log(1 - sigmoid(LOGITS))),
    "hinge_loss": (lambda w: tf.losses.hinge_loss(LABELS, LOGITS, w), np.maximum(0, 1 - (2 * LABELS - 1) * LOGITS)),
    "huber_loss": (lambda w: tf.losses.huber_loss(LABELS, LOGITS, w), np.where(abs(LOGITS - LABELS) < 1, (LOGITS - LABELS) ** 2 / 2, abs(LOGITS - LABELS) - 0.5)),
    "log_loss": (lambda w: tf.losses.log_loss(LABELS, sigmoid(LOGITS), w), -LABELS * np.log(sigmoid(LOGITS) + 1e-7) - (1 - LABELS) * np.log(1 - sigmoid(LOGITS) + 1e-7)),
    "softmax_cross_entropy": (lambda w: tf.losses.softmax_cross_entropy(LABELS, LOGITS, w), -(LABELS * np.log(softmax(LOGITS))).sum(-1)),
    "sparse_softmax_cross_entropy": (lambda w: tf.losses.sparse_softmax_cross_entropy(CLASSES[:, None], LOGITS, w), -np.log(softmax(LOGITS))[range(4), CLASSES]),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_losses(sess: tf.Session, name: str) -> None:
    make, each = LOSSES[name]
    near(sess.run(make(1.0)), each.mean())
    near(sess.run(make(2.0)), 2 * each.mean())
    weights = np.array([1.0, 0.0, 3.0, 0.0], np.float32)
    wide = weights[:, None] if each.ndim == 2 else weights
    near(sess.run(make(wide)), (each * wide).sum() / (np.broadcast_to(wide, each.shape) != 0).sum())
    near(sess.run(make(0.0)), 0.0)
    assert len(tf.losses.get_losses()) == 4
    near(sess.run(tf.losses.get_total_loss()), sum(sess.run(tf.losses.get_losses())))


def test_label_smoothing(sess: tf.Session) -> None:
    smooth = LABELS * 0.9 + 0.1 / 5
    near(
        sess.run(tf.losses.softmax_cross_entropy(LABELS, LOGITS, label_smoothing=0.1)),
        -(smooth * np.log(softmax(LOGITS))).sum(-1).mean(),
    )


# ------------------------------------------------------------------------------------------ images


def convolved(x: np.ndarray, w: np.ndarray, stride: int, padding: str, dilation: int = 1) -> np.ndarray:
    """Cross-correlation, written out."""
    k = (w.shape[0] - 1) * dilation + 1
    if padding == "SAME":
        total = [max((-(-n // stride) - 1) * stride + k - n, 0) for n in x.shape[1:3]]
        x = np.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
    rows, columns = ((n - k) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, w.shape[3]), x.dtype)
    for i, j in itertools.product(range(rows), range(columns)):
        window = x[:, i * stride : i * stride + k : dilation, j * stride : j * stride + k : dilation]
        y[:, i, j] = np.tensordot(window, w, 3)
    return y


IMAGES = rng.normal(size=(2, 7, 6, 3)).astype(np.float32)
FILTERS = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 1), (1, 2)])
def test_conv2d(sess: tf.Session, padding: str, stride: int, dilation: int) -> None:
    wanted = convolved(IMAGES, FILTERS, stride, padding, dilation)
    for shape in (IMAGES.shape, [None, 7, 6, 3], [None, None, None, 3], None):
        x = tf.placeholder(tf.float32, shape)
        y = tf.nn.conv2d(x, FILTERS, [1, stride, stride, 1], padding, dilations=[1, dilation, dilation, 1])
        near(sess.run(y, {x: IMAGES}), wanted, 1e-4)
    first = tf.nn.conv2d(
        IMAGES.transpose(0, 3, 1, 2),
        FILTERS,
        [1, 1, stride, stride],
        padding,
        data_format="NCHW",
        dilations=[1, 1, dilation, dilation],
    )
    near(sess.run(first), wanted.transpose(0, 3, 1, 2), 1e-4)


def test_conv2d_transpose_is_the_gradient(sess: tf.Session) -> None:
    x = tf.constant(IMAGES)
    for padding, stride in itertools.product(["SAME", "VALID"], [1, 2]):
        y = tf.nn.conv2d(x, FILTERS, [1, stride, stride, 1], padding)
        g = tf.constant(rng.normal(size=y.shape.as_list()).astype(np.float32))
        back = tf.nn.conv2d_transpose(g, FILTERS, [2, 7, 6, 3], [1, stride, stride, 1], padding)
        near(*sess.run([back, tf.gradients(y, x, g)[0]]), tolerance=1e-4)


def test_depthwise(sess: tf.Session) -> None:
    w = rng.normal(size=(3, 3, 3, 2)).astype(np.float32)
    wanted = np.concatenate([convolved(IMAGES[..., c : c + 1], w[:, :, c : c + 1], 1, "SAME") for c in range(3)], -1)
    near(sess.run(tf.nn.depthwise_conv2d(IMAGES, w, [1, 1, 1, 1], "SAME")), wanted, 1e-4)
    point = rng.normal(size=(1, 1, 6, 2)).astype(np.float32)
    near(
        sess.run(tf.nn.separable_conv2d(IMAGES, w, point, [1, 1, 1, 1], "SAME")),
        convolved(wanted, point, 1, "VALID"),
        1e-4,
    )


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pooling(sess: tf.Session, padding: str) -> None:
    grown = (
        np.pad(IMAGES, [(0, 0), (0, 1), (0, 0), (0, 0)], constant_values=np.nan) if padding == "SAME" else IMAGES[:, :6]
    )
    windows = grown.reshape(2, grown.shape[1] // 2, 2, 3, 2, 3)
    for first in (False, True):
        x = IMAGES.transpose(0, 3, 1, 2) if first else IMAGES
        how = dict(
            ksize=[1, 1, 2, 2] if first else [1, 2, 2, 1],
            strides=[1, 1, 2, 2] if first else [1, 2, 2, 1],
            padding=padding,
            data_format="NCHW" if first else "NHWC",
        )
        for fn, wanted in ((tf.nn.max_pool, np.nanmax(windows, (2, 4))), (tf.nn.avg_pool, np.nanmean(windows, (2, 4)))):
            near(sess.run(fn(x, **how)), wanted.transpose(0, 3, 1, 2) if first else wanted)


def test_images_that_do_not_fit() -> None:
    for make, words in (
        (lambda: tf.nn.conv2d(IMAGES, np.ones((3, 3, 4, 2), np.float32), [1, 1, 1, 1], "SAME"), "3 channels"),
        (lambda: tf.nn.conv2d(IMAGES, np.ones((9, 9, 3, 2), np.float32), [1, 1, 1, 1], "VALID"), "does not fit"),
        (lambda: tf.nn.conv2d(IMAGES, FILTERS, [1, 1, 1, 1], "SOME"), "'SAME' or 'VALID'"),
        (lambda: tf.nn.conv2d(IMAGES, FILTERS, [2, 1, 1, 1], "SAME"), "batch"),
        (lambda: tf.nn.max_pool(IMAGES[0], [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), "four axes"),
    ):
        with pytest.raises(ValueError, match=words):
            make()


# ------------------------------------------------------------------------------------------ the rest of tf.nn


def test_affine(sess: tf.Session) -> None:
    w, b = rng.normal(size=(5, 3)).astype(np.float32), np.arange(3, dtype=np.float32)
    near(sess.run(tf.nn.xw_plus_b(LOGITS, w, b)), LOGITS @ w + b)
    near(sess.run(tf.nn.bias_add(IMAGES, b)), IMAGES + b)
    near(sess.run(tf.nn.bias_add(IMAGES.transpose(0, 3, 1, 2), b, "NCHW")), (IMAGES + b).transpose(0, 3, 1, 2))
    with pytest.raises(ValueError, match="vector"):
        tf.nn.bias_add(IMAGES, w)


def test_normalisation(sess: tf.Session) -> None:
    near(sess.run(tf.nn.l2_normalize(LOGITS, 1)), LOGITS / np.linalg.norm(LOGITS, axis=1, keepdims=True))
    mean, variance = tf.nn.moments(tf.constant(IMAGES), [0, 1, 2])
    near(sess.run(mean), IMAGES.mean((0, 1, 2)))
    near(sess.run(variance), IMAGES.var((0, 1, 2)))
    away = (IMAGES - IMAGES.mean((0, 1, 2))) / np.sqrt(IMAGES.var((0, 1, 2)) + 0.01)
    near(sess.run(tf.nn.batch_normalization(IMAGES, mean, variance, None, None, 0.01)), away)
    near(
        sess.run(
            tf.nn.batch_normalization(IMAGES, mean, variance, tf.constant([1.0, 2, 3]), tf.constant([2.0, 2, 2]), 0.01)
        ),
        away * 2 + [1, 2, 3],
        1e-4,
    )
    squares = np.pad(IMAGES**2, [(0, 0)] * 3 + [(1, 1)])
    total = squares[..., :-2] + squares[..., 1:-1] + squares[..., 2:]
    near(sess.run(tf.nn.lrn(IMAGES, 1, 2.0, 0.5, 0.75)), IMAGES / (2 + 0.5 * total) ** 0.75)


def test_lookups(sess: tf.Session) -> None:
    near(sess.run(tf.nn.embedding_lookup(LOGITS, [[1, 3], [0, 0]])), LOGITS[[[1, 3], [0, 0]]])
    values, places = tf.nn.top_k(LOGITS, 3)
    order = np.argsort(-LOGITS, 1)[:, :3]
    near(sess.run(values), np.take_along_axis(LOGITS, order, 1))
    assert (sess.run(places) == order).all() and tf.nn.top_k(LOGITS, 2).indices.dtype is tf.int32
    within = [c in row for c, row in zip(CLASSES, np.argsort(-LOGITS, 1)[:, :2], strict=True)]
    assert sess.run(tf.nn.in_top_k(LOGITS, CLASSES, 2)).tolist() == within
    table = tf.Variable(LOGITS)
    (slope,) = tf.gradients(tf.nn.embedding_lookup(table, [1, 1]), table)
    sess.run(table.initializer)
    near(sess.run(slope), np.eye(4)[1][:, None] * np.full(5, 2.0))
    near(sess.run(tf.nn.leaky_relu(LOGITS)), np.where(LOGITS > 0, LOGITS, 0.2 * LOGITS))


# ------------------------------------------------------------------------------------------ layers


def test_dense(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None, 5])
    y = tf.layers.dense(
        x,
        3,
        tf.nn.relu,
        bias_initializer=tf.ones_initializer(),
        kernel_regularizer=tf.contrib.layers.l2_regularizer(1.0),
    )
    z = tf.layers.dense(y, 2, use_bias=False, name="last")
    again = tf.layers.dense(y, 2, use_bias=False, name="last", reuse=True)
    assert [v.name for v in tf.trainable_variables()] == ["dense/kernel:0", "dense/bias:0", "last/kernel:0"]
    sess.run(tf.global_variables_initializer())
    kernel, bias, last = sess.run(tf.trainable_variables())
    wanted = np.maximum(LOGITS @ kernel + bias, 0)
    near(sess.run(y, {x: LOGITS}), wanted)
    near(sess.run([z, again], {x: LOGITS}), [wanted @ last] * 2)
    near(sess.run(tf.losses.get_regularization_loss()), (kernel**2).sum() / 2)
    deep = tf.layers.dense(tf.ones([2, 3, 5]), 4)
    assert deep.shape.as_list() == [2, 3, 4] and deep.op.name.startswith("dense_1/")
    with pytest.raises(ValueError, match="exists already"):
        tf.layers.dense(x, 2, name="last")


def test_layers_as_objects(sess: tf.Session) -> None:
    layer = tf.layers.Dense(3, name="shared")
    a, b = layer(tf.ones([2, 5])), layer(tf.ones([1, 5]))
    assert (
        [v.name for v in tf.global_variables()]
        == ["shared/kernel:0", "shared/bias:0"]
        == [v.name for v in layer.variables]
    )
    sess.run(tf.global_variables_initializer())
    near(sess.run(a)[:1], sess.run(b))
    assert layer.kernel.shape.as_list() == [5, 3]


def test_layers_of_images(sess: tf.Session) -> None:
    x = tf.placeholder(tf.float32, [None, 7, 6, 3])
    y = tf.layers.conv2d(x, 4, 3, padding="same", activation=tf.nn.relu)
    pooled = tf.layers.max_pooling2d(y, 2, 2)
    mean = tf.layers.average_pooling2d(y, [7, 6], 1)
    flat = tf.layers.flatten(pooled)
    grown = tf.layers.conv2d_transpose(x, 2, 3, 2, "same")
    valid = tf.layers.conv2d_transpose(x, 2, 3, 2)
    assert [t.shape.as_list()[1:] for t in (y, pooled, mean, flat, grown, valid)] == [
        [7, 6, 4],
        [3, 3, 4],
        [1, 1, 4],
        [36],
        [14, 12, 2],
        [15, 13, 2],
    ]
    sess.run(tf.global_variables_initializer())
    kernel, bias = sess.run(tf.global_variables()[:2])
    got = sess.run([y, pooled, mean, flat, grown], {x: IMAGES})
    near(got[0], np.maximum(convolved(IMAGES, kernel, 1, "SAME") + bias, 0), 1e-4)
    assert got[3].shape == (2, 36) and got[4].shape == (2, 14, 12, 2)
    near(got[2][:, 0, 0], got[0].mean((1, 2)))


def test_dropout_layer(sess: tf.Session) -> None:
    x, training = tf.ones([50, 50]), tf.placeholder(tf.bool, [])
    y = tf.layers.dropout(x, 0.4, training=training, seed=1)
    assert (sess.run(y, {training: False}) == 1).all()
    assert set(np.unique(sess.run(y, {training: True}))) == {0, np.float32(1 / 0.6)}
    assert (sess.run(tf.layers.dropout(x, 0.4)) == 1).all()


def test_batch_normalization_layer(sess: tf.Session) -> None:
    x, training = tf.placeholder(tf.float32, [None, 5]), tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, training=training, momentum=0.9)
    assert [v.name.split("/")[1] for v in tf.global_variables()] == [
        "gamma:0",
        "beta:0",
        "moving_mean:0",
        "moving_variance:0",
    ]
    assert len(tf.trainable_variables()) == 2
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    sess.run(tf.global_variables_initializer())
    near(sess.run(y, {x: LOGITS, training: False}), LOGITS / np.sqrt(1.001))
    wanted = (LOGITS - LOGITS.mean(0)) / np.sqrt(LOGITS.var(0) + 0.001)
    near(sess.run([y, *updates], {x: LOGITS, training: True})[0], wanted, 1e-4)
    mean, variance = sess.run(tf.global_variables()[2:])
    near(mean, 0.1 * LOGITS.mean(0))
    near(variance, 0.9 + 0.1 * LOGITS.var(0))


def test_fully_connected(sess: tf.Session) -> None:
    y = tf.contrib.layers.fully_connected(LOGITS, 3, activation_fn=None)
    assert [v.name for v in tf.global_variables()] == ["fully_connected/weights:0", "fully_connected/biases:0"]
    sess.run(tf.global_variables_initializer())
    near(sess.run(y), LOGITS @ sess.run(tf.global_variables()[0]))


# ------------------------------------------------------------------------------------------ recurrent cells

SERIES = rng.normal(size=(3, 4, 5)).astype(np.float32)  # (batch, time, n)


def basic(x: Any, state: Any, v: Any) -> Any:
    h = np.tanh(np.concatenate([x, state], 1) @ v[0] + v[1])
    return h, h


def lstm(x: Any, state: Any, v: Any) -> Any:
    c, h = state
    i, j, f, o = np.split(np.concatenate([x, h], 1) @ v[0] + v[1], 4, 1)
    c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
    h = sigmoid(o) * np.tanh(c)
    return h, (c, h)


def gru(x: Any, state: Any, v: Any) -> Any:
    r, u = np.split(sigmoid(np.concatenate([x, state], 1) @ v[0] + v[1]), 2, 1)
    c = np.tanh(np.concatenate([x, r * state], 1) @ v[2] + v[3])
    h = u * state + (1 - u) * c
    return h, h


CELLS: dict[str, Any] = {
    "BasicRNNCell": (basic, "basic_rnn_cell", ["kernel", "bias"]),
    "BasicLSTMCell": (lstm, "basic_lstm_cell", ["kernel", "bias"]),
    "LSTMCell": (lstm, "lstm_cell", ["kernel", "bias"]),
    "GRUCell": (gru, "gru_cell", ["gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias"]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells(sess: tf.Session, name: str) -> None:
    step, scope, parts = CELLS[name]
    x = tf.placeholder(tf.float32, [None, 4, 5])
    cell = getattr(tf.nn.rnn_cell, name)(6)
    outputs, state = tf.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=tf.float32)
    again, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    lengths = tf.placeholder(tf.int32, [None])
    cut, short = tf.nn.dynamic_rnn(cell, x, lengths, dtype=tf.float32)
    assert [v.name for v in tf.trainable_variables()] == [f"rnn/{scope}/{p}:0" for p in parts]
    sess.run(tf.global_variables_initializer())
    values = sess.run(tf.trainable_variables())
    kept = (np.zeros((3, 6)), np.zeros((3, 6))) if step is lstm else np.zeros((3, 6))
    wanted, states = [], []
    for t in range(4):
        h, kept = step(SERIES[:, t], kept, values)
        wanted.append(h)
        states.append(kept)
    got, last, stacked = sess.run([outputs, state, again], {x: SERIES})
    near(np.stack(got), np.stack(wanted))
    near(last, kept)
    near(stacked, np.stack(wanted, 1))
    count = [4, 2, 1]
    masked, at = sess.run([cut, short], {x: SERIES, lengths: count})
    near(masked, np.stack(wanted, 1) * (np.arange(4) < np.array(count)[:, None])[..., None])
    ends = [np.asarray(states[n - 1])[..., k, :] for k, n in enumerate(count)]
    near(np.asarray(at), np.stack(ends, -2))


def test_stacked_cells(sess: tf.Session) -> None:
    cells = [tf.contrib.rnn.DropoutWrapper(tf.contrib.rnn.BasicLSTMCell(n), output_keep_prob=1.0) for n in (6, 3)]
    stacked = tf.contrib.rnn.MultiRNNCell(cells)
    outputs, state = tf.nn.dynamic_rnn(stacked, tf.constant(SERIES), initial_state=stacked.zero_state(3, tf.float32))
    assert outputs.shape.as_list() == [3, 4, 3] and state[1].h.shape.as_list() == [3, 3]
    assert tf.trainable_variables()[0].name == "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/kernel:0"
    (slope,) = tf.gradients(tf.reduce_sum(outputs), tf.trainable_variables()[0])
    sess.run(tf.global_variables_initializer())
    assert sess.run(slope).shape == (11, 24)


def test_both_directions(sess: tf.Session) -> None:
    forward, backward = tf.nn.rnn_cell.GRUCell(6), tf.nn.rnn_cell.GRUCell(6)
    lengths = [4, 2, 1]
    (a, b), _ = tf.nn.bidirectional_dynamic_rnn(forward, backward, tf.constant(SERIES), lengths, dtype=tf.float32)
    sess.run(tf.global_variables_initializer())
    got = sess.run(b)
    v = sess.run(backward.variables)
    for k, n in enumerate(lengths):
        h = np.zeros((1, 6))
        for t in reversed(range(n)):
            h, _ = gru(SERIES[k : k + 1, t], h, v)
            near(got[k, t], h[0])
    assert a.shape.as_list() == [3, 4, 6]
    outputs, _, _ = tf.nn.static_bidirectional_rnn(
        forward, backward, tf.unstack(tf.constant(SERIES), axis=1), dtype=tf.float32, scope="other"
    )
    assert outputs[0].shape.as_list() == [3, 12]


def test_a_small_network_learns_compiled() -> None:
    """Convolution, pooling, dropout, dense, Adam, all compiled: the loss goes down."""
    from tinyflow.datasets import get_mnist

    tf.set_random_seed(1)
    data = get_mnist(flatten=False, onehot=False).train
    x, y, keep = (
        tf.placeholder(tf.float32, [None, 28, 28, 1]),
        tf.placeholder(tf.int64, [None]),
        tf.placeholder(tf.float32),
    )
    h = tf.layers.max_pooling2d(tf.layers.conv2d(x, 4, 5, 2, activation=tf.nn.relu), 2, 2)
    h = tf.nn.dropout(tf.layers.dense(tf.layers.flatten(h), 16, tf.nn.relu), keep)
    logits = tf.layers.dense(h, 10)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    step = tf.train.AdamOptimizer(0.01).minimize(loss)
    accuracy = tf.reduce_mean(tf.to_float(tf.equal(tf.argmax(logits, 1), y)))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(60):
            images, labels = data.next_batch(50)
            sess.run(step, {x: images, y: labels, keep: 0.9})
        images, labels = data.next_batch(500)
        assert sess.run(accuracy, {x: images, y: labels, keep: 1.0}) > 0.7
