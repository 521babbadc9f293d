"""Attention is found however it was written, and nothing else is taken for it."""

import math

import numpy as np
import pytest

from tinyflow.core.dtypes import bool_, float32, int64
from tinyflow.graph.evaluate import evaluate
from tinyflow.graph.node import toposort
from tinyflow.ops import elementwise as e
from tinyflow.ops import functions as f
from tinyflow.ops.attention import ATTENTION, ATTENTION_GRAD
from tinyflow.ops.contraction import einsum, matmul
from tinyflow.ops.leaf import constant, placeholder
from tinyflow.ops.movement import permute, reshape
from tinyflow.ops.random import uniform
from tinyflow.ops.reduction import sum_
from tinyflow.passes import pipeline
from tinyflow.passes.gradient import gradients

B, H, M, N, D, E = 2, 3, 6, 7, 4, 5
INF = math.inf


def x(name, *shape, dtype=float32):
    return placeholder(dtype, shape, name)


def heads(name, length, width):
    """(b, t, h d) as a projection gives it, to (b, h, t, d)."""
    flat = x(name, B, length, H * width)
    return flat, permute(reshape(flat, (B, length, H, width)), (0, 2, 1, 3))


def scores(q, k):
    return matmul(q, k, transpose_b=True)


def kept(mask, s):
    return e.where(mask, s, -INF)


def dropped(p, rate):
    return e.where(e.less_equal(rate, uniform(KEY, p.shape)), p * (1.0 / (1.0 - rate)) if rate < 1 else p, 0.0)


def dropped_as_fed(p):
    keep = x("keep")
    return e.where(e.less(uniform(KEY, p.shape), keep), p / keep, 0.0)


def coins(chance):
    return e.cast(e.less(uniform(KEY, (B, H, M, N)), chance), float32)


KEY = x("key", dtype=int64)
DRAWN = e.less(uniform(KEY, (B, H, M, N)), 0.25)
BIAS, MASK = x("bias", B, 1, 1, N), x("mask", M, N, dtype=bool_)
HIDDEN = e.logical_not(f.triangle(M, N, 1))
# fmt: off
STYLES = {  # of q, k and v: the result, and the steps that are found
    "plain":             (lambda q, k, v: matmul(f.softmax(scores(q, k)), v), ()),
    "scaled after":      (lambda q, k, v: matmul(f.softmax(scores(q, k) * 0.5), v), (("mul", 0.5),)),
    "divided":           (lambda q, k, v: matmul(f.softmax(scores(q, k) / math.sqrt(D)), v), (("div", 2.0),)),
    "scaled before":     (lambda q, k, v: matmul(f.softmax(scores(q * 0.5, k)), v), ()),
    "keys turned":       (lambda q, k, v: matmul(f.softmax(0.5 * matmul(q, permute(k, (0, 1, 3, 2)))), v), (("mul", 0.5),)),
    "einsum":            (lambda q, k, v: permute(einsum("bhij,bhjd->bihd", f.softmax(einsum("bhid,bhjd->bhij", q, k)), v), (0, 2, 1, 3)), ()),
    "axes elsewhere":    (lambda q, k, v: einsum("jbih,bhje->bhie", f.softmax(einsum("bhid,bhjd->jbih", q, k), 0), v), ()),
    "causal":            (lambda q, k, v: matmul(f.softmax(kept(f.triangle(M, N), scores(q, k))), v), (("causal", 0),)),
    "causal, a cache":   (lambda q, k, v: matmul(f.softmax(kept(f.triangle(M, N, N - M), scores(q, k))), v), (("causal", 1),)),
    "causal, filled":    (lambda q, k, v: matmul(f.softmax(e.where(HIDDEN, -INF, scores(q, k))), v), (("causal", 1),)),
    "causal, added":     (lambda q, k, v: matmul(f.softmax(scores(q, k) + e.where(HIDDEN, constant(-INF), 0.0)), v), (("causal", 1),)),
    "causal, by numbers": (lambda q, k, v: matmul(f.softmax(e.where(e.equal(e.where(f.triangle(M, N), f.ones((M, N)), 0.0), 0.0), -INF, scores(q, k))), v), (("causal", 0),)),
    "padded":            (lambda q, k, v: matmul(f.softmax(scores(q, k) * 0.5 + BIAS), v), (("mul", 0.5), ("add", 0))),
    "padded first":      (lambda q, k, v: matmul(f.softmax(BIAS + scores(q, k)), v), (("add", 0),)),
    "masked":            (lambda q, k, v: matmul(f.softmax(kept(MASK, scores(q, k))), v), (("where", 0, -INF),)),
    "filled":            (lambda q, k, v: matmul(f.softmax(e.where(MASK, -1e9, scores(q, k))), v), (("unless", 0, -1e9),)),
    "all of it":         (lambda q, k, v: matmul(f.softmax(kept(f.triangle(M, N), e.where(MASK, scores(q, k) * 0.5 + BIAS, -5.0))), v),
                          (("mul", 0.5), ("add", 0), ("where", 1, -5.0), ("causal", 0))),
    "dropped":           (lambda q, k, v: matmul(dropped(f.softmax(scores(q, k)), 0.25), v), (("weigh", 0),)),
    "dropped, of those seen": (lambda q, k, v: matmul(dropped(f.safe_softmax(kept(MASK, scores(q, k) * 0.5)), 0.25), v),
                          (("mul", 0.5), ("where", 0, -INF), ("safe",), ("weigh", 1))),
    "dropped, a rate that is fed": (lambda q, k, v: matmul(dropped_as_fed(f.softmax(scores(q, k))), v), (("weigh", 0),)),
    "dropped by hand":   (lambda q, k, v: matmul(f.softmax(scores(q, k)) * coins(0.75) / 0.75, v), (("weigh", 0),)),
    "dropped, axes elsewhere": (lambda q, k, v: einsum("jbih,bhje->bhie", e.where(permute(DRAWN, (3, 0, 2, 1)), 0.0, f.softmax(einsum("bhid,bhjd->jbih", q, k), 0)), v),
                          (("weigh", 0),)),
    "all dropped":       (lambda q, k, v: matmul(dropped(f.softmax(scores(q, k)), 1.0), v), (("weigh", 0),)),
    "weighed":           (lambda q, k, v: matmul(f.softmax(scores(q, k)) * x("some", B, 1, M, N), v), (("weigh", 0),)),
    "safe":              (lambda q, k, v: matmul(f.safe_softmax(kept(MASK, scores(q, k))), v), (("where", 0, -INF), ("safe",))),
}
# fmt: on


def count(roots, op):
    return sum(n.op is op for n in toposort(roots))


def fed(roots):
    rng = np.random.default_rng(0)
    leaves = [n for n in toposort(roots) if n.op.kind == "leaf"]
    draw = lambda n: rng.integers(0, 2, n.shape) if n.dtype in (bool_, int64) else rng.standard_normal(n.shape)
    return {n: draw(n).astype(n.dtype.numpy) for n in leaves}


def check_meaning(before, after):
    feeds = fed(before)
    feeds = {n: np.abs(a) if n.label == "mask" else a for n, a in feeds.items()}
    old, new = evaluate(before, feeds), evaluate(after, feeds)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(new[b], old[a], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", STYLES)
def test_found(name):
    style, steps = STYLES[name]
    (xq, q), (xk, k), (xv, v) = heads("q", M, D), heads("k", N, D), heads("v", N, E)
    y = reshape(permute(style(q, k, v), (0, 2, 1, 3)), (B, M, H * E))
    grads = gradients([y], [xq, xk, xv], [x("g", *y.shape)])
    for roots, counts in (([y], (1, 0)), ([y, *grads], (1, 3)), (grads[:1], (0, 1)), (grads[1:], (0, 2))):
        after = pipeline.run(roots)
        assert (count(after, ATTENTION), count(after, ATTENTION_GRAD)) == counts
        found = [n for n in toposort(after) if n.op in (ATTENTION, ATTENTION_GRAD)]
        assert all(n.attrs["steps"] == steps for n in found)
        check_meaning(roots, after)


def test_layers_share_a_mask_and_their_gradients_meet():
    flat, h = heads("x", M, D)
    start = h
    for _ in range(3):
        h = h + matmul(f.softmax(kept(f.triangle(M, M), scores(h, h))), h)
    (g,) = gradients([sum_(h * h)], [flat])
    after = pipeline.run([h, g])
    assert start is not h
    assert (count(after, ATTENTION), count(after, ATTENTION_GRAD)) == (3, 9)
    check_meaning([h, g], after)


def not_attention():
    _, q = heads("q", M, D)
    _, k = heads("k", N, D)
    _, v = heads("v", N, E)
    p = f.softmax(scores(q, k))
    y = matmul(p, v)
    learned = x("learned", M, N)
    biased = matmul(f.softmax(scores(q, k) + learned), v)
    gate, half = x("gate", M, N), dropped(p, 0.5)
    gated = matmul(p * gate, v)
    _, few = heads("few", 1, D)
    # fmt: off
    return {
        "the probabilities are wanted": [y, p],
        "and summed":                   [y, sum_(p, 1)],
        "the gradient of a bias":       [biased, *gradients([sum_(biased)], [q, learned])],
        "the gradient of weights":      [gated, *gradients([sum_(gated)], [q, gate])],
        "dropped, and all of it too":   [matmul(dropped(p, 0.25), v), y],
        "a part of it is wanted":       [matmul(half, v), half],
        "the other axis":               [matmul(f.softmax(scores(q, k), -2), v)],
        "two softmaxes":                [matmul(f.softmax(f.softmax(scores(q, k))), v)],
        "a function between":           [matmul(f.softmax(e.tanh(scores(q, k))), v)],
        "one query":                    [matmul(f.softmax(scores(few, k)), v)],
        "no product before":            [matmul(f.softmax(x("s", B, H, M, N)), v)],
        "two results":                  [y, matmul(p, v * v)],
        "scores are wanted":            [y, scores(q, k)],
    }
    # fmt: on


@pytest.mark.parametrize("name", not_attention())
def test_not_found(name):
    roots = not_attention()[name]
    after = pipeline.run(roots)
    assert count(after, ATTENTION) == count(after, ATTENTION_GRAD) == 0
    check_meaning(roots, after)


def test_a_mask_that_is_no_triangle_is_not_taken_for_one():
    _, q = heads("q", M, D)
    odd = e.logical_and(f.triangle(M, N, 2), e.logical_not(e.equal(f.position((M, N), 1), 1)))
    y = matmul(f.softmax(kept(odd, scores(q, heads("k", N, D)[1]))), heads("v", N, E)[1])
    (found,) = [n for n in toposort(pipeline.run([y])) if n.op is ATTENTION]
    assert found.attrs["steps"] == (("where", 0, -INF),)
    check_meaning([y], pipeline.run([y]))
