"""Neural networks: activations, losses on logits, normalisation, dropout. Images are in image.py, recurrent cells in rnn.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinyflow.core import dtypes
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, shape_text
from tinyflow.ops import contraction, indexing, sorting
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic import random
from tinyflow.symbolic.table import combine, function, integer, integers
from tinyflow.symbolic.tensor import Tensor, convert, operation, scalar, tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# fmt: off
#    name         type          operand     meaning on nodes                                                    in words
ACTIVATIONS: dict[str, tuple[str, str, Callable[..., Node], str]] = {
    "relu":      ("Relu",       "features", e.relu,                                                             "max(x, 0)"),
    "relu6":     ("Relu6",      "features", lambda x: e.minimum(e.relu(x), 6.0),                                "min(max(x, 0), 6)"),
    "elu":       ("Elu",        "features", f.elu,                                                              "x where x > 0, exp(x) - 1 elsewhere"),
    "selu":      ("Selu",       "features", lambda x: f.elu(x, SELU_ALPHA) * SELU_SCALE,                        "A scaled elu."),
    "softplus":  ("Softplus",   "features", f.softplus,                                                         "log(1 + exp x)"),
    "softsign":  ("Softsign",   "features", lambda x: x / (1.0 + e.abs_(x)),                                    "x / (1 + |x|)"),
    "swish":     ("Swish",      "features", f.silu,                                                             "x sigmoid(x)"),
    "crelu":     ("Crelu",      "features", lambda x: e.relu(m.concat([x, -x], -1)),                            "relu of x and of -x, joined along the last axis"),
    "tanh":      ("Tanh",       "x",        e.tanh,                                                             "The hyperbolic tangent."),
    "sigmoid":   ("Sigmoid",    "x",        e.sigmoid,                                                          "1 / (1 + exp(-x))"),
    "l2_loss":   ("L2Loss",     "t",        lambda x: r.sum_(x * x) * 0.5,                                      "sum(t²) / 2"),
    "zero_fraction": ("ZeroFraction", "value", lambda x: r.mean(e.cast(e.equal(x, 0), dtypes.float32)),        "The share of elements that are 0."),
}
# fmt: on
TABLE: dict[str, Callable[..., Tensor]] = {}
for _name, (_kind, _operand, _meaning, _doc) in ACTIVATIONS.items():
    TABLE[_name] = function(_kind, _operand, _meaning, _doc)
    TABLE[_name].__name__ = TABLE[_name].__qualname__ = _name


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Tensor:
    """x where x > 0, alpha x elsewhere."""
    return combine(
        "LeakyRelu", lambda x, a: e.where(e.greater(x, 0), x, x * a), ("features", "alpha"), (features, alpha), name
    )


def along(kind: str, meaning: Callable[[Node, int], Node], doc: str) -> Callable[..., Tensor]:
    def build(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
        axis = dim if axis is None else axis
        d = -1 if axis is None else integer(axis, f"the axis of {kind.lower()}")
        return tensor(kind, lambda x: meaning(x, d), [convert(logits)], name)

    build.__name__, build.__doc__ = kind.lower(), doc
    return build


softmax = along("Softmax", f.softmax, "exp(x) / sum exp(x), along an axis (the last by default).")
log_softmax = along(
    "LogSoftmax", f.log_softmax, "log softmax(x) = x - log sum exp(x), along an axis (the last by default)."
)


# ------------------------------------------------------------------------------------------ losses on logits


def named(what: str, sentinel: Any, labels: Any, logits: Any) -> tuple[Any, Any]:
    if sentinel is not None or labels is None or logits is None:
        raise ValueError(f"{what} takes its arguments by name: {what}(labels=..., logits=...)")
    return labels, logits


def cross_entropy(labels: Any, logits: Any, axis: Any, name: str | None, fixed: bool) -> Tensor:
    d = -1 if axis is None else integer(axis, "the axis of the classes")

    def loss(y: Node, z: Node) -> Node:
        y, z = e.broadcast(y, z)
        return f.cross_entropy(z, e.stop_gradient(y) if fixed else y, d)

    x = convert(logits)
    return operation(
        "SoftmaxCrossEntropyWithLogits",
        loss,
        [convert(labels, x.dtype) if not isinstance(labels, Tensor) else as_type(labels, x), x],
        name,
    ).outputs[0]


def as_type(t: Any, like: Tensor) -> Tensor:
    return tf_math.cast(t, like.dtype)


def softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, dim: Any = -1, name: str | None = None, axis: Any =
    None,
) -> Tensor:  # fmt: skip
    """-sum labels log softmax(logits), along the axis of the classes. No gradient goes to the labels."""
    labels, logits = named("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    return cross_entropy(
        labels, logits, dim if axis is None else axis, name or "softmax_cross_entropy_with_logits", fixed=True
    )


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """-sum labels log softmax(logits), along the axis of the classes."""
    return cross_entropy(
        labels, logits, dim if axis is None else axis, name or "softmax_cross_entropy_with_logits", fixed=False
    )


def sparse_softmax_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """-log softmax(logits)[label], along the last axis: labels (...), logits (..., classes)."""
    labels, logits = named("sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits)

    def loss(y: Node, z: Node) -> Node:
        if y.ndim != z.ndim - 1 or not y.dtype.is_integer:
            raise ShapeError(
                f"labels are ints with one axis less than the logits; labels {y.dtype} {shape_text(y.shape)}, logits {shape_text(z.shape)}"
            )
        return f.sparse_cross_entropy(z, y)

    kind = "SparseSoftmaxCrossEntropyWithLogits"
    x = convert(logits)
    return tensor(kind, loss, [convert(labels), x], name or kind, types=[x.dtype])


def sigmoid_cross_entropy_with_logits(
    _sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:
    """max(x, 0) - x z + log(1 + exp(-|x|)) of logits x and labels z: -z log sigmoid(x) - (1 - z) log(1 - sigmoid(x))."""
    labels, logits = named("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)

    def loss(z: Node, x: Node) -> Node:
        if len(z.shape) != len(x.shape):
            raise ShapeError(f"labels {shape_text(z.shape)} and logits {shape_text(x.shape)} must have one shape")
        return f.sigmoid_cross_entropy(x, z)

    return combine("SigmoidCrossEntropy", loss, ("labels", "logits"), (labels, logits), name or "logistic_loss")


def weighted_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, pos_weight: Any = None, name: str | None = None, targets: Any = None,
) -> Tensor:  # fmt: skip
    """The sigmoid cross-entropy, in which positive labels count pos_weight."""
    labels = targets if labels is None else labels

    def loss(z: Node, x: Node, q: Node) -> Node:
        return (1.0 - z) * x + (1.0 + (q - 1.0) * z) * f.softplus(-x)

    return combine(
        "WeightedCrossEntropy",
        loss,
        ("labels", "logits", "pos_weight"),
        (labels, logits, pos_weight),
        name or "logistic_loss",
    )


# ------------------------------------------------------------------------------------------ affine, dropout


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """A vector added along the last axis (along the second one of channels-first images)."""

    def add(x: Node, b: Node) -> Node:
        if b.ndim != 1:
            raise ShapeError(f"the bias is a vector, not {shape_text(b.shape)}")
        first = data_format is not None and data_format.startswith("NC")
        return e.add(x, m.reshape(b, (*b.shape, *(1,) * (x.ndim - 2))) if first else b)

    return combine("BiasAdd", add, ("value", "bias"), (value, bias), name)


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """x w + b"""
    return combine(
        "XwPlusB",
        lambda a, w, b: e.add(contraction.matmul(a, w), b),
        ("x", "weights", "biases"),
        (x, weights, biases),
        name or "xw_plus_b",
    )


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(x w + b)"""
    return TABLE["relu"](xw_plus_b(x, weights, biases), name=name)


def dropout(
    x: Any, keep_prob: Any = None, noise_shape: Any = None, seed: Any = None, name: str | None = None, rate: Any = None
) -> Tensor:
    """x / keep_prob where a random number is below keep_prob, 0 elsewhere. rate is 1 - keep_prob.

    noise_shape  the shape of the random numbers; where it has 1, an axis is kept or dropped as a whole
    """
    if (keep_prob is None) == (rate is None):
        raise ValueError("dropout wants either keep_prob or rate")
    x = convert(x)
    for number, what in ((keep_prob, "keep_prob"), (rate, "rate")):
        if isinstance(number, int | float) and not 0 <= number <= 1:
            raise ValueError(f"dropout: {what} is a probability, not {number}")
    if rate == 0 or keep_prob == 1:
        return x
    keep = 1.0 - (scalar(rate, x.dtype) if isinstance(rate, Tensor) else rate) if keep_prob is None else keep_prob
    noise = None if noise_shape is None else [-1 if n is None else n for n in sizes_of(noise_shape)]
    key = random.new_key(x.graph, seed, name or "dropout")
    return operation(
        "Dropout", lambda n, k: random.kept(n, key, k, noise), [x, scalar(keep, x.dtype)], name or "dropout"
    ).outputs[0]


def sizes_of(shape: Any) -> list[int | None]:
    return (
        shape.as_list()
        if hasattr(shape, "as_list")
        else [None if n is None else integer(n, "noise_shape") for n in shape]
    )


# ------------------------------------------------------------------------------------------ normalisation


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Tensor:
    """x / sqrt(max(sum x², epsilon)), along some axes."""
    axis = dim if axis is None else axis
    axes = None if axis is None else tuple(integers(axis, "the axes of l2_normalize"))
    return tensor(
        "L2Normalize",
        lambda n: n / e.sqrt(e.maximum(r.sum_(n * n, axes, True), epsilon)),
        [convert(x)],
        name or "l2_normalize",
    )


def moments(
    x: Any, axes: Any, shift: Any = None, name: str | None = None, keep_dims: Any = None, keepdims: Any = None
) -> tuple[Tensor, Tensor]:
    """(mean, variance) over some axes."""
    chosen, keep = tuple(integers(axes, "the axes of moments")), bool(keep_dims if keepdims is None else keepdims)
    x = convert(x)
    op = operation(
        "Moments",
        lambda n: [r.mean(n, chosen, keep), f.variance(n, chosen, keep)],
        [x],
        name or "moments",
        types=[x.dtype] * 2,
    )
    return op.outputs[0], op.outputs[1]


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any, name: str | None = None
) -> Tensor:
    """scale (x - mean) / sqrt(variance + epsilon) + offset; offset and scale may be None."""
    given = [mean, variance, *(() if offset is None else (offset,)), *(() if scale is None else (scale,))]

    def normalised(n: Node, mu: Node, var: Node, *rest: Node) -> Node:
        inverse = 1.0 / e.sqrt(var + float(variance_epsilon))
        if scale is not None:
            inverse = e.mul(inverse, rest[-1])
        away = -e.mul(mu, inverse) if offset is None else e.sub(rest[0], e.mul(mu, inverse))
        return e.add(e.mul(n, inverse), away)

    x = convert(x)
    return operation("BatchNorm", normalised, [x, *(convert(g, x.dtype) for g in given)], name or "batchnorm").outputs[
        0
    ]


def batch_norm_with_global_normalization(
    t: Any = None, m: Any = None, v: Any = None, beta: Any = None, gamma: Any = None, variance_epsilon: Any = None,
    scale_after_normalization: Any = None, name: str | None = None, input: Any = None, mean: Any = None, variance: Any
    = None,
) -> Tensor:  # fmt: skip
    """batch_normalization, under its old name."""
    x, mu, var = (a if a is not None else b for a, b in ((t, input), (m, mean), (v, variance)))
    return batch_normalization(x, mu, var, beta, gamma if scale_after_normalization else None, variance_epsilon, name)


# ------------------------------------------------------------------------------------------ picking


def embedding_lookup(
    params: Any, ids: Any, partition_strategy: str = "mod", name: str | None = None, validate_indices: bool = True,
    max_norm: Any = None,
) -> Tensor:  # fmt: skip
    """Rows of a table, by number: (classes, ...), (k...) -> (k..., ...). An id out of range is an error."""
    table = params[0] if isinstance(params, list | tuple) and len(params) == 1 else params
    if isinstance(table, list | tuple):
        raise AttributeError(
            "embedding_lookup in a table of several parts is not built; tf.concat(parts, 0) makes one of them"
        )
    found = tensor(
        "GatherV2", lambda x, i: indexing.gather(x, i), [convert(table), convert(ids)], name or "embedding_lookup"
    )
    return found if max_norm is None else tf_math.clip_by_norm(found, max_norm, axes=-1)


def top_k(input: Any, k: int = 1, sorted: bool = True, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(values, indices) of the k greatest elements of each row, the greatest first."""
    count, x = integer(k, "k"), convert(input)

    def greatest(n: Node) -> list[Node]:
        values, places = sorting.top_k(n, count)
        return [values, e.cast(places, dtypes.int32)]

    op = operation("TopKV2", greatest, [x], name or "TopKV2", types=[x.dtype, dtypes.int32])
    return TopK(*op.outputs)


class TopK(tuple[Tensor, Tensor]):
    """The values and the indices that top_k found."""

    __slots__ = ()

    def __new__(cls, values: Tensor, indices: Tensor) -> TopK:
        return tuple.__new__(cls, (values, indices))

    values = property(lambda self: self[0])
    indices = property(lambda self: self[1])


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether the target is among the k greatest of its row: predictions (rows, classes), targets (rows,)."""

    def within(p: Node, t: Node, n: Node) -> Node:
        score = indexing.gather(p, m.expand_dims(t, -1), batch=1)
        above = r.sum_(e.cast(e.greater(p, m.expand(score, p.shape)), dtypes.int32), -1)
        return e.less(above, e.cast(n, dtypes.int32))

    return tensor(
        "InTopKV2", within, [convert(predictions), convert(targets), convert(k)], name or "InTopK", types=[dtypes.bool_]
    )


def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: float = 1, alpha: float = 1, beta: float = 0.5, name: str | None = None,
) -> Tensor:  # fmt: skip
    """x / (bias + alpha sum of x² over the channels within depth_radius)^beta"""

    def normalised(x: Node) -> Node:
        lead = (0,) * (x.ndim - 1)
        squares = m.pad(x * x, (*lead, depth_radius), (*lead, depth_radius))
        total = m.slice_(squares, (0,) * x.ndim, x.shape)
        for k in range(1, 2 * depth_radius + 1):
            total = total + m.slice_(squares, (*lead, k), x.shape)
        return x * e.exp(e.log(total * float(alpha) + float(bias)) * -float(beta))

    return tensor("LRN", normalised, [convert(input)], name or "LRN")


lrn = local_response_normalization


def log_poisson_loss(targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None) -> Tensor:
    """exp(c) - z c of targets z and log rates c."""
    if compute_full_loss:
        raise AttributeError("log_poisson_loss(compute_full_loss=True) is not built")
    return combine(
        "LogPoissonLoss",
        lambda z, c: e.exp(c) - z * c,
        ("targets", "log_input"),
        (targets, log_input),
        name or "log_poisson_loss",
    )
