"""Losses: a mean over the examples, weighted, and listed in the collection LOSSES.

loss = sum(weights losses) / number of losses whose weight is not 0
"""

from __future__ import annotations

from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import leaf
from tinyflow.ops import movement as m
from tinyflow.ops import reduction as r
from tinyflow.ops.functions import ones
from tinyflow.symbolic import math as tf_math
from tinyflow.symbolic import nn
from tinyflow.symbolic.graph import GraphKeys, get_default_graph
from tinyflow.symbolic.math import TABLE
from tinyflow.symbolic.tensor import Tensor, convert, operation


class Reduction:
    """How losses are made one number."""

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"


def share(total: Node, count: Node) -> Node:
    """total / count, 0 where nothing counts."""
    counts = e.greater(count, 0.0)
    return e.where(counts, total / e.where(counts, count, 1.0), 0.0)


REDUCE = {
    Reduction.NONE: lambda x, w: x,
    Reduction.SUM: lambda x, w: r.sum_(x),
    Reduction.MEAN: lambda x, w: share(r.sum_(x), r.sum_(w)),
    Reduction.SUM_OVER_BATCH_SIZE: lambda x, w: r.mean(x),
    Reduction.SUM_BY_NONZERO_WEIGHTS: lambda x, w: share(r.sum_(x), r.sum_(e.cast(e.not_equal(w, 0.0), w.dtype))),
}


def compute_weighted_loss(losses: Any, weights: Any = 1.0, scope: Any = None, loss_collection: Any = GraphKeys.LOSSES,
                          reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:  # fmt: skip
    """Losses times their weights, made one number. Weights are one number, or have the losses' axes (1 where they are equal)."""
    if reduction not in REDUCE:
        raise ValueError(f"reduction={reduction!r}: choose one of {', '.join(REDUCE)}")
    losses = convert(losses)
    weights = tf_math.cast(weights, losses.dtype)

    def total(x: Node, w: Node) -> Node:
        if leaf.is_constant(w, 1.0):
            return REDUCE[reduction](x, ones(x.shape, x.dtype))
        w = m.reshape(w, (*w.shape, *(1,) * (x.ndim - w.ndim))) if w.ndim < x.ndim else w
        x, wide = e.broadcast(x * w, w)
        return REDUCE[reduction](x, wide)

    loss = operation(
        "WeightedLoss", total, [losses, weights], scope if isinstance(scope, str) else "weighted_loss"
    ).outputs[0]
    add_loss(loss, loss_collection)
    return loss


def add_loss(loss: Tensor, loss_collection: Any = GraphKeys.LOSSES) -> None:
    """List a loss."""
    if loss_collection:
        loss.graph.add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES) -> list[Tensor]:
    return get_default_graph().get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Tensor]:
    return get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(scope: str | None = None, name: str = "total_regularization_loss") -> Tensor:
    losses = get_regularization_losses(scope)
    return tf_math.add_n(losses, name) if losses else convert(0.0)


def get_total_loss(
    add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None
) -> Tensor:
    """The sum of all losses that are listed."""
    losses = get_losses(scope) + (get_regularization_losses(scope) if add_regularization_losses else [])
    return tf_math.add_n(losses, name)


def pair(labels: Any, predictions: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors of the predictions' type, their shapes fitting."""
    if labels is None or predictions is None:
        raise ValueError("a loss wants labels and predictions")
    predictions = convert(predictions)
    labels = tf_math.cast(labels, predictions.dtype)
    predictions.shape.assert_is_compatible_with(labels.shape)
    return labels, predictions


def mean_squared_error(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: Any = None, loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of (predictions - labels)²."""
    y, x = pair(labels, predictions)
    return compute_weighted_loss(
        TABLE["squared_difference"](x, y), weights, scope or "mean_squared_error", loss_collection, reduction
    )


def absolute_difference(
    labels: Any, predictions: Any, weights: Any = 1.0, scope: Any = None, loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of |predictions - labels|."""
    y, x = pair(labels, predictions)
    return compute_weighted_loss(
        TABLE["abs"](x - y), weights, scope or "absolute_difference", loss_collection, reduction
    )


def log_loss(
    labels: Any, predictions: Any, weights: Any = 1.0, epsilon: float = 1e-7, scope: Any = None, loss_collection: Any
    = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of -y log(x + epsilon) - (1 - y) log(1 - x + epsilon)."""
    y, x = pair(labels, predictions)
    log = TABLE["log"]
    return compute_weighted_loss(
        -y * log(x + epsilon) - (1 - y) * log(1 - x + epsilon), weights, scope or "log_loss", loss_collection, reduction
    )


def hinge_loss(labels: Any, logits: Any, weights: Any = 1.0, scope: Any = None, loss_collection: Any = GraphKeys.LOSSES,
               reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:  # fmt: skip
    """The mean of max(0, 1 - (2 y - 1) x), of labels y in {0, 1}."""
    y, x = pair(labels, logits)
    return compute_weighted_loss(
        nn.TABLE["relu"](1 - (2 * y - 1) * x), weights, scope or "hinge_loss", loss_collection, reduction
    )


def huber_loss(
    labels: Any, predictions: Any, weights: Any = 1.0, delta: float = 1.0, scope: Any = None, loss_collection: Any =
    GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of d²/2 where |d| is at most delta, of delta |d| - delta²/2 beyond."""
    y, x = pair(labels, predictions)
    away = TABLE["abs"](x - y)
    near = TABLE["minimum"](away, delta)
    return compute_weighted_loss(
        0.5 * near * near + delta * (away - near), weights, scope or "huber_loss", loss_collection, reduction
    )


def cosine_distance(
    labels: Any, predictions: Any, axis: Any = None, weights: Any = 1.0, scope: Any = None, loss_collection: Any =
    GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS, dim: Any = None,
) -> Tensor:  # fmt: skip
    """The mean of 1 - the inner product along an axis; both are taken to be of length 1."""
    y, x = pair(labels, predictions)
    losses = 1 - TABLE["reduce_sum"](x * y, dim if axis is None else axis, True)
    return compute_weighted_loss(losses, weights, scope or "cosine_distance", loss_collection, reduction)


def softmax_cross_entropy(
    onehot_labels: Any, logits: Any, weights: Any = 1.0, scope: Any = None, label_smoothing: float = 0,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of -sum labels log softmax(logits); smoothing s makes labels (1 - s) labels + s / classes."""
    y, x = pair(onehot_labels, logits)
    if label_smoothing:
        classes = x.shape[-1].value
        y = y * (1.0 - label_smoothing) + label_smoothing / classes
    losses = nn.softmax_cross_entropy_with_logits_v2(TABLE["stop_gradient"](y), x)
    return compute_weighted_loss(losses, weights, scope or "softmax_cross_entropy_loss", loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any, logits: Any, weights: Any = 1.0, scope: Any = None, loss_collection: Any = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of -log softmax(logits)[label]; labels may have a last axis of size 1."""
    labels, logits = convert(labels), convert(logits)

    def squeezed(y: Node, x: Node) -> Node:
        return m.reshape(y, y.shape[:-1]) if y.ndim == x.ndim and y.ndim and y.shape[-1] == 1 else y

    labels = operation(
        "Squeeze", squeezed, [labels, logits], "remove_squeezable_dimensions", types=[labels.dtype]
    ).outputs[0]
    losses = nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return compute_weighted_loss(
        losses, weights, scope or "sparse_softmax_cross_entropy_loss", loss_collection, reduction
    )


def sigmoid_cross_entropy(
    multi_class_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: Any = None,
    loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Tensor:  # fmt: skip
    """The mean of the sigmoid cross-entropy; smoothing s makes labels (1 - s) labels + s / 2."""
    y, x = pair(multi_class_labels, logits)
    if label_smoothing:
        y = y * (1.0 - label_smoothing) + 0.5 * label_smoothing
    losses = nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x)
    return compute_weighted_loss(losses, weights, scope or "sigmoid_cross_entropy_loss", loss_collection, reduction)
