"""Losses as functions of nodes. Each gives one number an element (or row), then their mean, their sum, or all of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops.reduction import mean, sum_
from tinyflow.torch.errors import SizeError
from tinyflow.torch.nn.activations import cosine_similarity
from tinyflow.torch.pointwise import broadcast_text


def reduced(x: Node, reduction: str) -> Node:
    """The mean or sum of all, or x itself."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return REDUCTIONS[reduction](x)


REDUCTIONS: dict[str, Callable[[Node], Node]] = {"mean": mean, "sum": sum_, "none": lambda x: x}


def chosen(reduction: str, size_average: Any, reduce: Any) -> str:
    """The reduction that the two older arguments mean where one of them is given: None counts as True there."""
    if size_average is None and reduce is None:
        return reduction
    old = "none" if reduce is not None and not reduce else "mean" if size_average is None or size_average else "sum"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction={old!r} instead.", stacklevel=2
    )
    return old


def elementwise(loss: Callable[..., Node]) -> Callable[..., Node]:
    """A loss of two tensors element by element."""

    def call(
        input: Node,
        target: Node,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
        **settings: Any,
    ) -> Node:
        try:
            x, t = e.broadcast(input, target)
        except ValueError:
            raise SizeError(broadcast_text([input.shape, target.shape])) from None
        y = loss(x, e.cast(t, x.dtype), **settings)
        return reduced(y, chosen(reduction, size_average, reduce))

    call.__doc__ = loss.__doc__
    return call


def squared(x: Node, t: Node) -> Node:
    """(x - t)^2"""
    d = x - t
    return d * d


def absolute(x: Node, t: Node) -> Node:
    """|x - t|"""
    return e.abs_(x - t)


def smooth(x: Node, t: Node, beta: float = 1.0) -> Node:
    """d^2 / (2 beta) where |d| < beta, |d| - beta/2 elsewhere"""
    d = e.abs_(x - t)
    return d if beta == 0 else e.where(e.less(d, beta), d * d * (0.5 / beta), d - 0.5 * beta)


def huber(x: Node, t: Node, delta: float = 1.0) -> Node:
    """d^2 / 2 where |d| < delta, delta (|d| - delta/2) elsewhere"""
    d = e.abs_(x - t)
    return e.where(e.less(d, delta), d * d * 0.5, (d - 0.5 * delta) * delta)


def huber_loss(input: Node, target: Node, reduction: str = "mean", delta: float = 1.0) -> Node:
    return elementwise(huber)(input, target, reduction=reduction, delta=delta)


huber_loss.__doc__ = huber.__doc__


def divergence(x: Node, t: Node, log_target: bool = False) -> Node:
    """t (log t - x), x being logarithms of probabilities"""
    if log_target:
        return e.exp(t) * (t - x)
    return e.where(e.less(0.0, t), t * (e.log(e.where(e.less(0.0, t), t, 1.0)) - x), 0.0)


def kl_div(
    input: Node,
    target: Node,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Node:
    """The divergence of Kullback and Leibler"""
    reduction = chosen(reduction, size_average, reduce)
    y = divergence(*e.broadcast(input, target), log_target)
    return sum_(y) / float(y.shape[0]) if reduction == "batchmean" else reduced(y, reduction)  # type: ignore[arg-type]


def binary_cross_entropy(input: Node, target: Node, weight: Node | None = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Node:  # fmt: skip
    """-(t log x + (1 - t) log(1 - x)), the logarithms being -100 at least"""
    reduction = chosen(reduction, size_average, reduce)
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(f"Using a target size (torch.Size({list(target.shape)})) that is different to the input size (torch.Size({list(input.shape)})) is deprecated. Please ensure they have the same size.")  # fmt: skip
    y = -(target * bounded_log(input) + (1.0 - target) * bounded_log(1.0 - input))  # type: ignore[operator]
    return reduced(y if weight is None else y * weight, reduction)


def bounded_log(p: Node) -> Node:
    """log p, and -100 (without a gradient) where p is 0"""
    zero = e.equal(p, 0.0)
    return e.where(zero, -100.0, e.maximum(e.log(e.where(zero, 1.0, p)), -100.0))


def binary_cross_entropy_with_logits(
    input: Node, target: Node, weight: Node | None = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean", pos_weight: Node | None = None
) -> Node:  # fmt: skip
    """-(w t log sigmoid(x) + (1 - t) log(1 - sigmoid(x)))"""
    reduction = chosen(reduction, size_average, reduce)
    if tuple(input.shape) != tuple(target.shape):
        raise ValueError(
            f"Target size (torch.Size({list(target.shape)})) must be the same as input size (torch.Size({list(input.shape)}))"
        )
    if pos_weight is None:
        y = f.sigmoid_cross_entropy(input, target)
    else:
        y = (1.0 - target) * input + ((pos_weight - 1.0) * target + 1.0) * f.softplus(-input)
    return reduced(y if weight is None else y * weight, reduction)


# ------------------------------------------------------------------------------------------ classes


def at_class(x: Node, labels: Node, axis: int) -> Node:
    """x at each row's class along an axis; an error when a label is out of range. One pass over the row, forward and backward."""
    n = x.shape[axis]
    known = ix.gather(f.arange(0, n), labels)  # the label itself, checked
    hit = e.equal(m.expand(m.expand_dims(known, axis), x.shape), f.position(x.shape, axis))
    return sum_(e.where(hit, x, 0.0), axis)


def class_axis(input: Node, target: Node) -> int:
    axis = 1 if input.ndim > 1 else 0
    want = tuple(n for d, n in enumerate(input.shape) if d != axis)
    fits = len(want) == target.ndim and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(want, target.shape, strict=True)
    )
    if not fits:
        if input.ndim > 1 and target.ndim and input.shape[0] != target.shape[0]:
            raise ValueError(
                f"Expected input batch_size ({input.shape[0]}) to match target batch_size ({target.shape[0]})."
            )
        raise SizeError(f"Expected target size {list(want)}, got {list(target.shape)}")
    return axis


def nll_loss(input: Node, target: Node, weight: Node | None = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None, reduction: str = "mean") -> Node:  # fmt: skip
    """-w[t] x[t], x being logarithms of probabilities (n, c, ...) and t classes (n, ...); their mean is weighted by w"""
    reduction = chosen(reduction, size_average, reduce)
    axis = class_axis(input, target)
    if not target.dtype.is_integer:
        raise RuntimeError(f"expected scalar type Long but found {target.dtype.name.capitalize()}")
    return weighted_classes(
        -at_class(input, labels := safe(target, ignore_index), axis), target, labels, weight, ignore_index, reduction
    )


def safe(target: Node, ignore_index: int) -> Node:
    """The labels, with 0 for those that do not count."""
    return e.where(e.equal(target, ignore_index), 0, target)


def weighted_classes(
    y: Node, target: Node, labels: Node, weight: Node | None, ignore_index: int, reduction: str
) -> Node:
    counts = e.not_equal(target, ignore_index)
    if weight is not None:
        y = y * ix.gather(weight, labels)
    y = e.where(counts, y, 0.0)
    if reduction != "mean":
        return reduced(y, reduction)
    w = e.cast(counts, y.dtype) if weight is None else e.where(counts, ix.gather(weight, labels), 0.0)
    return sum_(y) / sum_(w)


def cross_entropy(
    input: Node, target: Node, weight: Node | None = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None,
    reduction: str = "mean", label_smoothing: float = 0.0,
) -> Node:  # fmt: skip
    """-log softmax(x)[t], t being classes (n, ...), or -sum t log softmax(x), t being probabilities of x's shape (n, c, ...)"""
    reduction = chosen(reduction, size_average, reduce)
    axis = 1 if input.ndim > 1 else 0
    logs = f.log_softmax(input, axis)
    classes: Any = input.shape[axis]
    if target.dtype.is_floating:
        if tuple(target.shape) != tuple(input.shape):
            raise SizeError(
                f"Expected floating point type for target with class probabilities of shape {list(input.shape)}, got {list(target.shape)}"
            )
        t = target if not label_smoothing else target * (1.0 - label_smoothing) + label_smoothing / classes
        t = t if weight is None else t * m.reshape(weight, (classes, *(1,) * (input.ndim - 1 - axis)))
        y = -sum_(t * logs, axis)
        count = 1
        for n in y.shape:
            count = count * n  # type: ignore[assignment,operator]
        return sum_(y) / float(count) if reduction == "mean" else reduced(y, reduction)
    if not label_smoothing:
        return nll_loss(logs, target, weight, None, ignore_index, None, reduction)
    return smoothed(logs, target, weight, ignore_index, reduction, label_smoothing, axis)


def smoothed(
    logs: Node, target: Node, weight: Node | None, ignore_index: int, reduction: str, amount: float, axis: int
) -> Node:
    """(1 - amount) of the class's loss, and amount of the mean of all classes' losses"""
    hard = nll_loss(logs, target, weight, None, ignore_index, None, reduction)
    classes: Any = logs.shape[axis]
    w = None if weight is None else m.reshape(weight, (classes, *(1,) * (logs.ndim - 1 - axis)))
    each = e.where(e.equal(target, ignore_index), 0.0, -sum_(logs if w is None else logs * w, axis))
    if reduction == "mean":
        labels = safe(target, ignore_index)
        counts = e.not_equal(target, ignore_index)
        total = (
            sum_(e.cast(counts, logs.dtype))
            if weight is None
            else sum_(e.where(counts, ix.gather(weight, labels), 0.0))
        )
        each = sum_(each) / total
    else:
        each = reduced(each, reduction)
    return hard * (1.0 - amount) + each * (amount / classes)


# ------------------------------------------------------------------------------------------ margins and others


def hinge(
    input: Node,
    target: Node,
    margin: float = 1.0,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Node:
    """x where t is 1, max(0, margin - x) where t is -1"""
    reduction = chosen(reduction, size_average, reduce)
    return reduced(e.where(e.equal(target, 1), input, e.relu(margin - input)), reduction)  # type: ignore[operator]


def margin_ranking(input1: Node, input2: Node, target: Node, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Node:  # fmt: skip
    """max(0, -t (x1 - x2) + margin)"""
    reduction = chosen(reduction, size_average, reduce)
    return reduced(e.relu(-target * (input1 - input2) + margin), reduction)


def cosine_embedding(input1: Node, input2: Node, target: Node, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Node:  # fmt: skip
    """1 - cos where t is 1, max(0, cos - margin) where t is -1"""
    reduction = chosen(reduction, size_average, reduce)
    c = cosine_similarity(input1, input2, -1, 1e-8)
    return reduced(e.where(e.equal(target, 1), 1.0 - c, e.relu(c - margin)), reduction)  # type: ignore[operator]


def gaussian_nll(
    input: Node, target: Node, var: Node, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Node:
    """(log var + (x - t)^2 / var) / 2, var being eps at least"""
    v = e.stop_gradient(e.maximum(var, eps) - var) + var
    y = (e.log(v) + squared(*e.broadcast(input, target)) / v) * 0.5
    return reduced(y + 0.5 * math.log(2 * math.pi) if full else y, reduction)


# fmt: off
ROWS: dict[str, Any] = {
    "mse_loss": elementwise(squared), "l1_loss": elementwise(absolute), "smooth_l1_loss": elementwise(smooth), "huber_loss": huber_loss,
    "kl_div": kl_div, "binary_cross_entropy": binary_cross_entropy, "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "nll_loss": nll_loss, "cross_entropy": cross_entropy, "hinge_embedding_loss": hinge, "margin_ranking_loss": margin_ranking,
    "cosine_embedding_loss": cosine_embedding, "gaussian_nll_loss": gaussian_nll,
    "soft_margin_loss": elementwise(lambda x, t: f.softplus(-t * x)),
    "poisson_nll_loss": lambda input, target, log_input=True, reduction="mean", eps=1e-8: reduced(
        e.exp(input) - target * input if log_input else input - target * e.log(input + eps), reduction),
}
# fmt: on
