"""Functions made of ops. They have no gradients of their own: differentiating what they are made of is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyflow.core import expr
from tinyflow.core.dtypes import DType, bool_, float32, int64
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Dim, Node, Shape, shape_text
from tinyflow.ops import elementwise as e
from tinyflow.ops import pooling
from tinyflow.ops.indexing import gather
from tinyflow.ops.leaf import constant, iota, size
from tinyflow.ops.movement import expand, expand_dims, reshape, slice_
from tinyflow.ops.reduction import max_, mean, min_, sum_
from tinyflow.ops.rules import normal_axis

# ------------------------------------------------------------------------------------------ filling


def full(shape: Shape, value: Any, dtype: DType | None = None) -> Node:
    return expand(constant(value, dtype), tuple(shape))


def zeros(shape: Shape, dtype: DType = float32) -> Node:
    return full(shape, 0, dtype)


def ones(shape: Shape, dtype: DType = float32) -> Node:
    return full(shape, 1, dtype)


def arange(start: Any, stop: Dim, step: int = 1, dtype: DType = int64) -> Node:
    """start, start + step, ... below stop."""
    count = expr.floordiv(stop - start + step - (1 if step > 0 else -1), step)
    return iota(count, dtype) * constant(step, dtype) + constant(start, dtype)


def position(shape: Shape, axis: int, dtype: DType = int64) -> Node:
    """Each element's place along an axis."""
    axis = normal_axis(axis, len(shape))
    return expand(reshape(iota(shape[axis], dtype), tuple(n if d == axis else 1 for d, n in enumerate(shape))), shape)


def one_hot(labels: Node, depth: Dim, dtype: DType = float32, axis: int = -1, on: Any = 1, off: Any = 0) -> Node:
    """on where the place along the new axis is the label, off elsewhere."""
    axis = normal_axis(axis, labels.ndim + 1)
    wide = expand_dims(labels, axis)
    shape = (*labels.shape[:axis], depth, *labels.shape[axis:])
    hit = e.equal(expand(wide, shape), position(shape, axis, labels.dtype))
    return e.where(hit, constant(on, dtype), constant(off, dtype))


def triangle(rows: Dim, columns: Dim, diagonal: int = 0) -> Node:
    """True on and below a diagonal (rows, columns)."""
    i, j = position((rows, columns), 0), position((rows, columns), 1)
    return e.less_equal(j, i + diagonal)


# ------------------------------------------------------------------------------------------ activations


def softmax(x: Node, axis: int = -1) -> Node:
    """exp(x - max x) / sum exp(x - max x)"""
    t = e.exp(x - e.stop_gradient(max_(x, axis, keepdims=True)))
    return t / sum_(t, axis, keepdims=True)


def safe_softmax(x: Node, axis: int = -1) -> Node:
    """softmax; 0, and not NaN, along a row that is all -infinity"""
    top = e.stop_gradient(max_(x, axis, keepdims=True))
    blind = e.equal(top, -math.inf)
    t = e.exp(x - e.where(blind, 0.0, top))
    return t / (sum_(t, axis, keepdims=True) + e.cast(blind, x.dtype))


def log_softmax(x: Node, axis: int = -1) -> Node:
    """log softmax(x) = x - max x - log sum exp(x - max x)"""
    z = x - e.stop_gradient(max_(x, axis, keepdims=True))
    return z - e.log(sum_(e.exp(z), axis, keepdims=True))


def logsumexp(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    """log sum exp x, without overflow; the maximum of an infinite row counts as 0."""
    top = e.stop_gradient(max_(x, axes, keepdims=True))
    top = e.where(e.less(e.abs_(top), math.inf), top, 0.0)
    y = e.log(sum_(e.exp(x - top), axes, keepdims=True)) + top
    return y if keepdims else sum_(y, axes)


def softplus(x: Node) -> Node:
    """log(1 + exp x) = max(x, 0) + log(1 + exp(-|x|))"""
    return e.relu(x) + log1p_exp_minus_abs(x)


def log1p_exp_minus_abs(x: Node) -> Node:
    """log(1 + exp(-|x|)); at 0 its gradient is that of x < 0, since relu's is none there: together they are 1/2."""
    return e.log1p(e.exp(e.minimum(x, -x)))


def asinh(x: Node) -> Node:
    """sign(x) log(|x| + sqrt(x^2 + 1)), exact near 0, without overflow"""
    a = e.maximum(x, -x)
    b = e.minimum(a, 1e18)  # beyond, b / (1 + sqrt(1 + b^2)) is 1
    y = e.log1p(a + a * (b / (1.0 + e.sqrt(1.0 + b * b))))
    return e.where(e.less(x, 0), -y, y)


def acosh(x: Node) -> Node:
    """log(x + sqrt(x^2 - 1)), exact near 1, without overflow"""
    t = x - 1.0
    return e.log1p(t + e.sqrt(t) * e.sqrt(t + 2.0))


def atanh(x: Node) -> Node:
    """log((1 + x) / (1 - x)) / 2, exact near 0"""
    return (e.log1p(x) - e.log1p(-x)) * 0.5


def gelu(x: Node, approximate: bool = False) -> Node:
    """x Phi(x); approximately x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"""
    if approximate:
        return x * 0.5 * (e.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1.0)
    return x * 0.5 * (e.erf(x * math.sqrt(0.5)) + 1.0)


def silu(x: Node) -> Node:
    """x sigmoid(x)"""
    return x * e.sigmoid(x)


def elu(x: Node, alpha: float = 1.0) -> Node:
    """x where x > 0, alpha (exp x - 1) elsewhere"""
    return e.where(e.greater(x, 0.0), x, e.expm1(e.minimum(x, 0.0)) * alpha)


def leaky_relu(x: Node, slope: float = 0.01) -> Node:
    """x where x > 0, slope x elsewhere"""
    return e.where(e.greater(x, 0.0), x, x * slope)


def clip(x: Node, low: Any, high: Any) -> Node:
    """min(max(x, low), high)"""
    x = x if low is None else e.maximum(x, low)
    return x if high is None else e.minimum(x, high)


# ------------------------------------------------------------------------------------------ losses and moments


def cross_entropy(logits: Node, targets: Node, axis: int = -1) -> Node:
    """-sum targets log softmax(logits), along an axis; targets are probabilities of the logits' shape."""
    return -sum_(targets * log_softmax(logits, axis), axis)


def sparse_cross_entropy(logits: Node, labels: Node) -> Node:
    """-log softmax(logits)[label], along the last axis; an error when a label is out of range."""
    rows = reshape(log_softmax(logits), (expr.product(logits.shape[:-1]), logits.shape[-1]))
    picked = gather(rows, reshape(labels, (rows.shape[0], 1)), batch=1)
    return -reshape(picked, logits.shape[:-1])


def sigmoid_cross_entropy(logits: Node, targets: Node) -> Node:
    """max(x, 0) - x z + log(1 + exp(-|x|))"""
    return e.relu(logits) - logits * targets + log1p_exp_minus_abs(logits)


def variance(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False, correction: int = 0) -> Node:
    """sum (x - mean x)^2 / (n - correction)"""
    away = x - mean(x, axes, keepdims=True)
    total = sum_(away * away, axes, keepdims)
    chosen = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    count = expr.product(x.shape[normal_axis(a, x.ndim)] for a in set(chosen))
    return total / e.maximum(size(count, x.dtype) - float(correction), 0.0)


def normalise(x: Node, axes: int | Sequence[int], epsilon: float) -> Node:
    """(x - mean x) / sqrt(variance x + epsilon), over some axes"""
    away = x - mean(x, axes, keepdims=True)
    return away / e.sqrt(mean(away * away, axes, keepdims=True) + epsilon)


def layer_norm(x: Node, gain: Node | None, bias: Node | None, axes: Sequence[int], epsilon: float = 1e-5) -> Node:
    y = normalise(x, axes, epsilon)
    y = y if gain is None else y * gain
    return y if bias is None else y + bias


def any_(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    return max_(x, axes, keepdims) if x.dtype is bool_ else max_(e.not_equal(x, 0), axes, keepdims)


def all_(x: Node, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> Node:
    return min_(x, axes, keepdims) if x.dtype is bool_ else min_(e.not_equal(x, 0), axes, keepdims)


# ------------------------------------------------------------------------------------------ pooling


def pooled_sizes(spatial: Sequence[Dim], window: Sequence[int], stride: Sequence[int], low: Sequence[Dim], high: Sequence[Dim], dilation: Sequence[int]) -> tuple[Dim, ...]:  # fmt: skip
    """How many windows fit: (n + low + high - dilation (k - 1) - 1) / stride + 1"""
    out = []
    for n, k, s, a, b, d in zip(spatial, window, stride, low, high, dilation, strict=True):
        room = n + a + b - d * (k - 1) - 1
        if isinstance(room, int) and room < 0:
            raise ShapeError(
                f"a window of {d * (k - 1) + 1} does not fit into {n} with padding {a} and {b}; pad more, or take a smaller window"
            )
        out.append(expr.floordiv(room, s) + 1)
    return tuple(out)


def same_padding(n: Dim, k: int, s: int, d: int = 1) -> tuple[Dim, Dim]:
    """Padding before and after, such that there are ceil(n / s) windows; the odd one comes after."""
    reach = d * (k - 1) + 1
    total = reach - s if n == s or s == 1 else expr.maximum((expr.floordiv(n + s - 1, s) - 1) * s + reach - n, 0)
    total = max(total, 0) if isinstance(total, int) else total
    low = expr.floordiv(total, 2)
    return low, total - low


def max_pool(x: Node, window: Sequence[int], stride: Sequence[int], low: Sequence[Dim], high: Sequence[Dim], dilation: Sequence[int] | None = None, axes: Sequence[int] | None = None) -> Node:  # fmt: skip
    """The greatest of each window, along the axes between the first and the last unless others are named."""
    return pooling.pool_max(x, pools(x, window, stride, low, high, dilation, axes))


def avg_pool(x: Node, window: Sequence[int], stride: Sequence[int], low: Sequence[Dim], high: Sequence[Dim], axes: Sequence[int] | None = None) -> Node:  # fmt: skip
    """The mean of each window, of what lies inside the image."""
    w = pools(x, window, stride, low, high, None, axes)
    total = pooling.pool_sum(x, w)
    whole = all(isinstance(n, int) and n == 0 for n in (*low, *high))
    return total / float(math.prod(window)) if whole else total / inside(w, x.dtype, x.ndim)


def pools(x: Node, window: Sequence[int], stride: Sequence[int], low: Sequence[Dim], high: Sequence[Dim], dilation: Sequence[int] | None, axes: Sequence[int] | None) -> pooling.Windows:  # fmt: skip
    """The windows that fit into an image with so much padding."""
    axes, dilation = axes or range(1, x.ndim - 1), dilation or (1,) * len(window)
    out = pooled_sizes([x.shape[d] for d in axes], window, stride, low, high, dilation)
    return pooling.windows_of(x, axes, window, stride, low, out, dilation)


def inside(w: pooling.Windows, dtype: DType, ndim: int, border: Sequence[int] | None = None) -> Node:
    """How many places of each window lie inside the image, or not further outside than `border`."""
    border = border or (0,) * len(w.axes)
    sizes = tuple(n + 2 * b for n, b in zip(w.sizes, border, strict=True))
    low = tuple(a - b for a, b in zip(w.low, border, strict=True))
    image = ones(w.shape((1,) * ndim, sizes), dtype)
    return pooling.pool_sum(image, w._replace(sizes=sizes, low=low))


# ------------------------------------------------------------------------------------------ cutting


def split(x: Node, sizes: Sequence[Dim], axis: int) -> list[Node]:
    """x cut along an axis into parts of these sizes."""
    axis = normal_axis(axis, x.ndim)
    total = sum(n for n in sizes if isinstance(n, int))
    if isinstance(x.shape[axis], int) and all(isinstance(n, int) for n in sizes) and total != x.shape[axis]:
        raise ShapeError(
            f"split({x.dtype} {shape_text(x.shape)}): parts of {list(sizes)} do not add up to {x.shape[axis]}"
        )
    parts, start = [], 0
    for n in sizes:
        parts.append(slice_(x, tuple(start if d == axis else 0 for d in range(x.ndim)), tuple(n if d == axis else m for d, m in enumerate(x.shape))))  # fmt: skip
        start = start + n  # type: ignore[assignment]
    return parts


def unstack(x: Node, axis: int = 0) -> list[Node]:
    """The slices along an axis, without it."""
    axis = normal_axis(axis, x.ndim)
    count = x.shape[axis]
    if not isinstance(count, int):
        raise ShapeError(f"unstack({x.dtype} {shape_text(x.shape)}): the size of axis {axis} is not known; say num")
    shape = tuple(n for d, n in enumerate(x.shape) if d != axis)
    return [reshape(p, shape) for p in split(x, (1,) * count, axis)]


def tile(x: Node, multiples: Sequence[Dim]) -> Node:
    """x repeated along each axis."""
    wide = tuple(n for m, d in zip(multiples, x.shape, strict=True) for n in (m, d))
    thin = tuple(n for d in x.shape for n in (1, d))
    return reshape(expand(reshape(x, thin), wide), tuple(m * d for m, d in zip(multiples, x.shape, strict=True)))
