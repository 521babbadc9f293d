"""Attention, and its gradient: products around a softmax, as ops of their own so that the scores are never written.

    S = q k^T                     (batch..., i, j)          steps turn S into A
    P = exp(A - max A) / sum      of each row i             where A is -infinity, P is 0
    W = P x                                                 if the last step weighs with x, as dropout does; else W is P
    y = W v                       (batch..., i, e)

    dv = W^T g      dP = g v^T x      dA = P (dP - sum over j of dP P)      dS = dA through the steps      dq = dS k      dk = dS^T q
    of these each one is multiplied by a number, `times`

    step := ("mul" | "div", number)          every score
          | ("add", x)                       operand x of the scores' shape is added
          | ("where" | "unless", x, fill)    where operand x is false (true), the score is `fill`
          | ("causal", c)                    where j > i + c, the score is -infinity
          | ("safe",)                        after those: in a row that is all -infinity, P is 0 and not NaN
          | ("weigh", x)                     at last: P is multiplied by operand x

Of bfloat16 and float16, everything in between is float32, as masks and weights may be: what is rounded is
the result, once.

Programs write matmul, softmax, matmul; passes/attention.py finds them, after differentiation. `order` are the axes of the
result: which axis of (batch..., i, e) each one is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyflow.core.dtypes import DType, bool_, float32, float64
from tinyflow.core.errors import ShapeError
from tinyflow.graph.node import Node, Shape, make, shape_text
from tinyflow.graph.op import Sample, define
from tinyflow.ops import rules
from tinyflow.ops.rules import matching, same_dim

Steps = tuple[tuple[Any, ...], ...]


def turned(x: Any) -> Any:
    return np.swapaxes(x, -1, -2)


def visible(shape: Sequence[int], c: int) -> Any:
    """Where j <= i + c."""
    return np.arange(shape[-1]) <= np.arange(shape[-2])[:, None] + c


def weights(p: Any, more: Sequence[Any], steps: Steps) -> Any:
    """Also of dP, what dW is to P."""
    return p * more[steps[-1][1]] if steps and steps[-1][0] == "weigh" else p


def probabilities(q: Any, k: Any, more: Sequence[Any], steps: Steps) -> Any:
    a = q @ turned(k)
    for kind, *given in steps:
        if kind == "mul":
            a = a * a.dtype.type(given[0])
        elif kind == "div":
            a = a / a.dtype.type(given[0])
        elif kind == "add":
            a = a + more[given[0]]
        elif kind not in ("safe", "weigh"):
            keep = visible(a.shape, given[0]) if kind == "causal" else more[given[0]] ^ (kind == "unless")
            a = np.where(keep, a, a.dtype.type(-np.inf if kind == "causal" else given[1]))
    top = np.max(a, -1, keepdims=True)
    blind = (top == -np.inf) & (("safe",) in steps)
    t = np.exp(a - np.where(blind, 0, top))
    return t / (t.sum(-1, keepdims=True) + blind.astype(a.dtype))


def attention_np(q: Any, k: Any, v: Any, *more: Any, steps: Steps, order: tuple[int, ...]) -> Any:
    return np.transpose(weights(probabilities(q, k, more, steps), more, steps) @ v, order)


def attention_grad_np(q: Any, k: Any, v: Any, g: Any, *more: Any, steps: Steps, order: tuple[int, ...], of: str, times: float) -> Any:  # fmt: skip
    p = probabilities(q, k, more, steps)
    if of == "v":
        return np.transpose(turned(weights(p, more, steps)) @ g, order) * q.dtype.type(times)
    dp = weights(g @ turned(v), more, steps)
    ds = p * (dp - np.sum(dp * p, -1, keepdims=True))
    for kind, *given in reversed(steps):
        if kind == "mul":
            ds = ds * ds.dtype.type(given[0])
        elif kind == "div":
            ds = ds / ds.dtype.type(given[0])
        elif kind not in ("add", "safe", "weigh"):
            keep = visible(ds.shape, given[0]) if kind == "causal" else more[given[0]] ^ (kind == "unless")
            ds = np.where(keep, ds, ds.dtype.type(0))
    return np.transpose(ds @ k if of == "q" else turned(ds) @ q, order) * q.dtype.type(times)


def check(q: Shape, k: Shape, v: Shape, more: Sequence[Shape], steps: Steps) -> None:
    fits = len(q) == len(k) == len(v) >= 2 and all(map(same_dim, (*q[:-2], q[-1]), (*k[:-2], k[-1])))
    if not fits or not all(map(same_dim, k[:-1], v[:-1])):
        raise ShapeError(
            f"queries {shape_text(q)}, keys {shape_text(k)} and values {shape_text(v)} do not fit each other"
        )
    if not all(isinstance(n, int) and n > 0 for n in (*q[-2:], *k[-2:], *v[-2:])):
        raise ShapeError("attention wants sizes that are known and not 0, apart from the heads; write it with matmul")
    for x in more:
        if len(x) != len(q) or not all(map(same_dim, x, (*q[:-1], k[-2]))):
            raise ShapeError(f"{shape_text(x)} is not of the scores' shape {shape_text((*q[:-1], k[-2]))}")


def weight(n: Node) -> Node | None:
    """What an attention, or its gradient, weighs the probabilities with."""
    steps = n.attrs["steps"]
    return n.inputs[(3 if n.op is ATTENTION else 4) + steps[-1][1]] if steps and steps[-1][0] == "weigh" else None


def attention_shape(q: Shape, k: Shape, v: Shape, *more: Shape, steps: Steps, order: tuple[int, ...]) -> Shape:
    check(q, k, v, more, steps)
    y = (*q[:-1], v[-1])
    return tuple(y[d] for d in order)


def attention_grad_shape(
    q: Shape, k: Shape, v: Shape, g: Shape, *more: Shape, steps: Steps, order: tuple[int, ...], of: str, times: float
) -> Shape:
    check(q, k, v, more, steps)
    if len(g) != len(q) or not all(map(same_dim, g, (*q[:-1], v[-1]))):
        raise ShapeError(f"a gradient of shape {shape_text(g)} was given for {shape_text((*q[:-1], v[-1]))}")
    x = {"q": q, "k": k, "v": v}[of]
    return tuple(x[d] for d in order)


def attention_type(q: DType, k: DType, v: DType, *more: DType, steps: Steps, **_: Any) -> DType:
    matching(q, k, v, *(x for x in more if x not in (bool_, q.computed)))
    return rules.floating(q)


def _sample(lead: Shape, m: int, n: int, d: int, e: int, steps: Steps = (), *more: DType, of: str = "", dtype: DType = float32, order: Sequence[int] = ()) -> Sample:  # fmt: skip
    """Of the result; of a gradient if one operand is named."""
    shapes: list[Shape] = [(*lead, m, d), (*lead, n, d), (*lead, n, e)]
    shapes += [(*lead, m, e)] if of else []
    scores = tuple(((*lead, m, n), t, *((0, 2) if t is bool_ else (-1, 1))) for t in more)
    attrs: dict[str, Any] = {"steps": steps, "order": tuple(order or range(len(lead) + 2))}
    attrs |= {"of": of, "times": 0.5 if steps else 1.0} if of else {}
    return Sample((*((s, dtype, -1, 1) for s in shapes), *scores), attrs)


def _samples(*of: str) -> tuple[Sample, ...]:
    """Each one for the result, or for the gradient of one operand after the other."""
    a, b, c, d, e, f = of
    all_kinds = ("mul", 0.3), ("add", 0), ("where", 1, -9.0), ("weigh", 2)
    return (
        _sample((2, 3), 9, 17, 16, 16, (("mul", 0.25), ("causal", 8)), of=a),
        _sample((2,), 33, 40, 5, 7, of=b),
        _sample((), 31, 70, 20, 33, all_kinds, float32, bool_, float32, of=c),
        _sample((2,), 4, 19, 8, 8, (("div", 3.0), ("unless", 0, -5.0)), bool_, of=d, dtype=float64),
        _sample(
            (2, 2), 5, 5, 3, 4, (("causal", 0), ("unless", 0, -np.inf), ("safe",)), bool_, of=e, order=(0, 2, 1, 3)
        ),
        _sample((3,), 7, 1, 4, 4, of=f, order=(1, 0, 2)),
    )


# fmt: off
#                            name               numpy meaning                                shape rule                                                                          value at one index
ATTENTION      = define("attention",      numpy=attention_np,      shape=attention_shape,      dtype=attention_type, kind="block", at=None, grad=None, samples=_samples(*[""] * 6))
ATTENTION_GRAD = define("attention_grad", numpy=attention_grad_np, shape=attention_grad_shape, dtype=attention_type, kind="block", at=None, grad=None, samples=_samples(*"qkvqkv") + _samples(*"kvqkvq"))
# fmt: on


def attention(q: Node, k: Node, v: Node, *more: Node, steps: Steps = (), order: tuple[int, ...] | None = None) -> Node:
    """softmax(q k^T through the steps) v: (..., i, d), (..., j, d), (..., j, e) -> (..., i, e), its axes in an order."""
    return make(ATTENTION, q, k, v, *more, steps=steps, order=tuple(range(q.ndim)) if order is None else order)


def attention_grad(
    of: str, q: Node, k: Node, v: Node, g: Node, *more: Node, steps: Steps = (), order: tuple[int, ...] | None = None, times: float = 1.0
) -> Node:  # fmt: skip
    """The gradient of one operand ("q", "k" or "v"), g being that of the result; its multiple."""
    axes = tuple(range(q.ndim)) if order is None else order
    return make(ATTENTION_GRAD, q, k, v, g, *more, steps=steps, order=axes, of=of, times=times)


__all__ = ["ATTENTION", "ATTENTION_GRAD", "Steps", "attention", "attention_grad", "math", "weight"]
