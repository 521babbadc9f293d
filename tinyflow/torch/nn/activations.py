"""Activations, dropout, normalisations and attention, as functions of nodes; functional.py makes tensor functions of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyflow.core.dtypes import bool_, float32, float64
from tinyflow.graph.node import Node
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops import indexing as ix
from tinyflow.ops import movement as m
from tinyflow.ops import random as r
from tinyflow.ops.contraction import matmul
from tinyflow.ops.leaf import constant
from tinyflow.ops.reduction import mean, sum_
from tinyflow.torch.dtypes import finfo
from tinyflow.torch.errors import SizeError
from tinyflow.torch.pointwise import clamp
from tinyflow.torch.reductions import log_softmax, safe_sqrt, softmax

# ------------------------------------------------------------------------------------------ activations


def gelu(input: Node, approximate: str = "none") -> Node:
    """x Phi(x); with approximate="tanh", x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"""
    return f.gelu(input, approximate == "tanh")


def leaky_relu(input: Node, negative_slope: float = 0.01) -> Node:
    """x where x > 0, slope x elsewhere"""
    return f.leaky_relu(input, negative_slope)


def elu(input: Node, alpha: float = 1.0) -> Node:
    """x where x > 0, alpha (exp x - 1) elsewhere"""
    return f.elu(input, alpha)


def selu(input: Node) -> Node:
    """1.0507 elu(x, 1.6733): Klambauer et al., 2017"""
    return f.elu(input, 1.6732632423543772) * 1.0507009873554805


def celu(input: Node, alpha: float = 1.0) -> Node:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))"""
    return e.where(e.less(0.0, input), input, e.expm1(e.minimum(input, 0.0) / alpha) * alpha)


def softplus(input: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """log(1 + exp(beta x)) / beta; x itself where beta x is beyond the threshold"""
    x = input if beta == 1.0 else input * beta
    y = f.softplus(e.minimum(x, threshold))
    return e.where(e.less(threshold, x), input, y if beta == 1.0 else y / beta)


def hardtanh(input: Node, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    return strictly_between(input, min_val, max_val)


def strictly_between(x: Node, low: float, high: float) -> Node:
    """x cut to [low, high]; no gradient where it is cut, nor on the edges."""
    inside = e.logical_and(e.less(low, x), e.less(x, high))
    return e.where(inside, x, e.stop_gradient(clamp(x, low, high)))


def hardsigmoid(input: Node) -> Node:
    return strictly_between(input + 3.0, 0.0, 6.0) / 6.0


def mish(input: Node) -> Node:
    """x tanh(softplus x)"""
    return input * e.tanh(softplus(input))


def glu(input: Node, dim: int = -1) -> Node:
    """a sigmoid(b), a and b being the halves of x along an axis"""
    n: Any = input.shape[dim]
    if n % 2:
        raise SizeError(f"Halving dimension must be even, but dimension {dim} is size {n}")
    a, b = f.split(input, (n // 2, n // 2), dim)
    return a * e.sigmoid(b)


def prelu(input: Node, weight: Node) -> Node:
    """x where x > 0, weight x elsewhere; one weight, or one a channel"""
    w = weight if weight.shape in ((), (1,)) or input.ndim < 2 else m.reshape(weight, (-1, *(1,) * (input.ndim - 2)))
    return e.where(e.less(0.0, input), input, e.mul(*e.broadcast(input, w)))


def gumbel_softmax(logits: Node, key: Node, tau: float, hard: bool, dim: int) -> Node:
    """softmax((x + g) / tau), g being Gumbel noise; with hard, its argmax forward and its gradient backward"""
    from tinyflow.ops.reduction import argmax

    g = -e.log(-e.log(r.uniform(key, logits.shape, logits.dtype) + 1e-20) + 1e-20)
    y = f.softmax((logits + g) / tau, dim)
    if not hard:
        return y
    d = dim % y.ndim
    one = f.one_hot(argmax(y, d), y.shape[d], y.dtype, d)
    return e.stop_gradient(one - y) + y


# ------------------------------------------------------------------------------------------ dropout, embedding


def dropped(input: Node, key: Node, p: float, whole: bool) -> Node:
    """Each element (each channel, if whole) times zero with probability p, the others divided by 1 - p."""
    shape = (*input.shape[:2], *(1,) * (input.ndim - 2)) if whole else input.shape
    keep = e.less_equal(p, r.uniform(key, shape, float32))
    return input * e.where(keep, constant(1.0 / (1.0 - p) if p < 1.0 else 1.0, input.dtype), 0.0)


def embedding(input: Node, weight: Node, padding_idx: int | None = None) -> Node:
    """Rows of the weight by number; the row padding_idx gets no gradient"""
    y = ix.gather(weight, input)
    if padding_idx is None:
        return y
    padding_idx = padding_idx % weight.shape[0]  # type: ignore[operator]
    return e.where(m.expand_dims(e.equal(input, padding_idx), -1), e.stop_gradient(y), y)


# ------------------------------------------------------------------------------------------ normalisation


def layer_norm(
    input: Node,
    normalized_shape: Sequence[int],
    weight: Node | None = None,
    bias: Node | None = None,
    eps: float = 1e-5,
) -> Node:
    """(x - mean) / sqrt(variance + eps) weight + bias, over the last axes"""
    n = len(normalized_shape)
    if tuple(input.shape[input.ndim - n :]) != tuple(normalized_shape):
        raise SizeError(f"Given normalized_shape={list(normalized_shape)}, expected input with shape [*, {', '.join(map(str, normalized_shape))}], but got input of size{list(input.shape)}")  # fmt: skip
    return f.layer_norm(input, weight, bias, tuple(range(input.ndim - n, input.ndim)), eps)


def rms_norm(
    input: Node, normalized_shape: Sequence[int], weight: Node | None = None, eps: float | None = None
) -> Node:
    """x / sqrt(mean x^2 + eps) weight, over the last axes"""
    axes = tuple(range(input.ndim - len(normalized_shape), input.ndim))
    small = finfo(float64 if input.dtype is float64 else float32).eps if eps is None else eps
    y = input / e.sqrt(mean(input * input, axes, keepdims=True) + small)
    return y if weight is None else y * weight


def per_channel(v: Node, ndim: int) -> Node:
    """(c) -> (c, 1, 1...): as it meets a tensor (n, c, ...)"""
    return m.reshape(v, (v.shape[0], *(1,) * (ndim - 2)))


def affine(y: Node, weight: Node | None, bias: Node | None) -> Node:
    y = y if weight is None else y * per_channel(weight, y.ndim)
    return y if bias is None else y + per_channel(bias, y.ndim)


def group_norm(
    input: Node, num_groups: int, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5
) -> Node:
    """Normalised over groups of channels"""
    n, c = input.shape[:2]
    if isinstance(c, int) and c % num_groups:
        raise SizeError(f"Expected number of channels in input to be divisible by num_groups, but got input of shape {list(input.shape)} and num_groups={num_groups}")  # fmt: skip
    y = f.normalise(m.reshape(input, (n, num_groups, -1)), 2, eps)
    return affine(m.reshape(y, input.shape), weight, bias)


def batch_axes(x: Node) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))


def batch_moments(x: Node) -> tuple[Node, Node]:
    """The mean and the unbiased variance of each channel: what the running ones move towards."""
    return mean(x, batch_axes(x)), f.variance(x, batch_axes(x), correction=1)


def batch_norm_training(input: Node, weight: Node | None, bias: Node | None, eps: float) -> Node:
    return affine(f.normalise(input, batch_axes(input), eps), weight, bias)


def batch_norm_known(
    input: Node, running_mean: Node, running_var: Node, weight: Node | None, bias: Node | None, eps: float
) -> Node:
    scale = e.sqrt(running_var + eps)
    y = (input - per_channel(running_mean, input.ndim)) / per_channel(scale, input.ndim)
    return affine(y, weight, bias)


def instance_norm(input: Node, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5) -> Node:
    """Normalised over the places of each channel of each image"""
    return affine(f.normalise(input, tuple(range(2, input.ndim)), eps), weight, bias)


# ------------------------------------------------------------------------------------------ attention, distances


def attention(
    query: Node, key: Node, value: Node, mask: Node | None, causal: bool, scale: float | None, random: Node | None = None, p: float = 0.0
) -> Node:  # fmt: skip
    """softmax(q k^T scale + mask) v: (..., l, d), (..., s, d), (..., s, v) -> (..., l, v); 0 for a query that sees nothing.
    With the key of random numbers, the weights are dropped with probability p."""
    width: Any = query.shape[-1]
    s = matmul(query * (1.0 / math.sqrt(width) if scale is None else scale), key, transpose_b=True)
    if causal:
        mask = f.triangle(s.shape[-2], s.shape[-1])
    if mask is not None:
        s = e.where(mask, s, -math.inf) if mask.dtype is bool_ else s + mask
    weights = f.softmax(s) if mask is None or causal else f.safe_softmax(s)
    return matmul(weights if random is None else dropped(weights, random, p, False), value)


def cosine_similarity(x1: Node, x2: Node, dim: int = 1, eps: float = 1e-8) -> Node:
    """x1 x2 / (max(|x1|, eps) max(|x2|, eps))"""
    a, b = e.broadcast(x1, x2)
    d = dim % a.ndim
    size = [e.maximum(safe_sqrt(sum_(x * x, d)), eps) for x in (a, b)]
    return sum_(a * b, d) / (size[0] * size[1])


def pairwise_distance(x1: Node, x2: Node, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Node:
    """The p-norm of x1 - x2 + eps along the last axis"""
    from tinyflow.torch.reductions import norm

    return norm(x1 - x2 + eps, p, -1, keepdim)


# fmt: off
ROWS: dict[str, Any] = {
    "gelu": gelu, "leaky_relu": leaky_relu, "elu": elu, "selu": selu, "celu": celu, "softplus": softplus, "hardtanh": hardtanh, "hardsigmoid": hardsigmoid,
    "mish": mish, "glu": glu, "prelu": prelu, "relu": e.relu, "silu": f.silu, "relu6": lambda input: strictly_between(input, 0.0, 6.0),
    "hardswish": lambda input: input * hardsigmoid(input), "logsigmoid": lambda input: -f.softplus(-input), "softsign": lambda input: input / (e.abs_(input) + 1.0),
    "tanhshrink": lambda input: input - e.tanh(input), "softmin": lambda input, dim=None: softmax(-input, dim), "tanh": e.tanh, "sigmoid": e.sigmoid,
    "threshold": lambda input, threshold, value: e.where(e.less_equal(input, threshold), value, input),
    "hardshrink": lambda input, lambd=0.5: e.where(e.less_equal(e.abs_(input), lambd), 0.0, input),
    "softshrink": lambda input, lambd=0.5: e.where(e.less(lambd, input), input - lambd, e.where(e.less(input, -lambd), input + lambd, input * 0.0)),
    "softmax": softmax, "log_softmax": log_softmax, "layer_norm": layer_norm, "rms_norm": rms_norm, "group_norm": group_norm,
    "cosine_similarity": cosine_similarity, "pairwise_distance": pairwise_distance,
}
# fmt: on
